"""Freeze a trained run to ONNX, prove that it is hard, write the bundle."""

import twophase.link  # noqa: F401 - before ONNX Runtime, which must not report on its use
