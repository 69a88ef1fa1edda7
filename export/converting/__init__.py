"""From a Keras graph to ONNX: tf2onnx, what it needs made plain, and forms of what it lacks."""
