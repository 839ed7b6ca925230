"""Sentences to features: a pretrained transformer, its top layers tuned to the task without a link."""
