"""The ONNX graph: what is folded there, forms that onnxruntime computes well, names and order."""
