"""Batch normalization into the layers beside it, in the Keras graph, wherever that is exact."""
