"""Confusions: sums in which Keras takes one axis for another.

Keras takes x₂ in x₁ + x₂ for a bias, to be added along the last axis or else along the second one,
if x₂ is one vector, extents of 1 aside, and as long as that axis. A column of one number per row,
of shape (batch, 1), is such a vector as soon as there are as many rows as channels: three rows of
three channels then have other sums than two or four of the same rows. No file can be like that, and
nobody means it; so a column is added to the rows here, whatever their number.

The bias of a convolution with channels first is added along the last axis where that has as many
elements as there are filters, and in `predict` along the channels where TensorFlow fuses the two.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import numpy as backend

from ..graphs.graph import Graph

CONVOLUTIONS: tuple[type, ...] = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
    *(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D),
)


@contextmanager
def rows_apart(confused: set[int]) -> Iterator[None]:
    """Let columns be added to the rows that they belong to, in this thread.

    Args:
        confused: Takes the numbers of rows that Keras would have confused with channels.
    """
    own, add = threading.get_ident(), backend.add

    def added(x1: Any, x2: Any) -> Any:
        if threading.get_ident() == own and _is_confused(x1, x2):
            confused.add(int(x2.shape[0]))
            x2 = tf.broadcast_to(x2, tf.shape(x1))
        return add(x1, x2)

    backend.add = added
    try:
        yield
    finally:
        backend.add = add


def _is_confused(x1: Any, x2: Any) -> bool:
    """Whether Keras would take a column of one number per row for a bias."""
    if not (tf.is_tensor(x1) and tf.is_tensor(x2)) or x1.shape.rank != x2.shape.rank:
        return False
    rows, *rest = [1] if not x1.shape.rank else x2.shape.as_list()
    return (
        len(rest) > 0
        and rows not in {None, 1}
        and rows == x1.shape[0]
        and set(rest) == {1}
        and rows in {x1.shape[1], x1.shape[-1]}
    )


def biases_along_last(graph: Graph) -> list[str]:
    """Names of the convolutions whose bias Keras adds along an axis that is not the channels'."""
    found = []
    for node in graph.nodes:
        layer: Any = node.operation
        if type(layer) in CONVOLUTIONS and layer.use_bias and layer.data_format == "channels_first":
            shape = node.outputs[0].shape
            if shape[1] == shape[-1]:
                found.append(node.name)
    return found
