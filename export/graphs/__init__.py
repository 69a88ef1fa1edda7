"""Keras models as graphs of layers, and layers as what they are at inference."""
