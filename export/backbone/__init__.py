"""What stands ahead of a link that takes text: the backbone as ONNX, merged with the head, and verified."""
