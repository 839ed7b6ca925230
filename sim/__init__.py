"""Measure a bundle over a simulated radio channel."""

import twophase.link  # noqa: F401 - before ONNX Runtime, which must not report on its use
