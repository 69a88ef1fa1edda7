"""Pin shapes: say again what TensorFlow forgets on the way to tf2onnx.

tf2onnx pads a transposed convolution rightly only where it knows the spatial extents of its
input, and TensorFlow forgets those of some layers (a Dense on images) when a graph is frozen.
Where Keras knows them, they are written into the graph in front of the convolution; the
statement leaves no node in the ONNX file.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from ..graphs.graph import Graph, Node, Value

TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


class EnsureShape(keras.Operation):
    """The identity on tensors of one shape."""

    def __init__(self, shape: tuple[int | None, ...]) -> None:
        super().__init__()
        self.shape = shape

    def call(self, x: Any) -> Any:
        return tf.ensure_shape(x, self.shape)

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        return keras.KerasTensor(self.shape, x.dtype)


def pin_shapes(graph: Graph) -> None:
    """Put an `EnsureShape` in front of every transposed convolution."""
    for node in [node for node in graph.nodes if isinstance(node.operation, TRANSPOSED)]:
        given = node.inputs[0]
        pinned = Value(given.shape, given.dtype)
        pin = Node(EnsureShape(given.shape), (given,), {}, (pinned,), f"{node.name}.shape")
        graph.nodes.insert(graph.nodes.index(node), pin)
        node.arguments, node.keywords = node.substitute({id(given): pinned})
