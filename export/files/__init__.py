"""ONNX files: their ends, what they say of themselves, how they are written, read and run."""
