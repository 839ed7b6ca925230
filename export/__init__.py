"""Freeze a trained run to ONNX, prove that it is hard, write the bundle."""
