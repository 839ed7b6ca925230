"""Measure a bundle over a simulated radio channel."""
