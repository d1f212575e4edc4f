"""The networks' definitions, checkpoints and export to ONNX."""
