"""Confusions: sums in which Keras takes one axis for another.

Keras takes x₂ in x₁ + x₂ for a bias, to be added along the last axis or else along the second one,
if x₂ is one vector, extents of 1 aside, and as long as that axis. A column of one number per row,
of shape (batch, 1), is such a vector as soon as there are as many rows as channels: three rows of
three channels then have other sums than two or four of the same rows. No file can be like that, and
nobody means it; so a column is added to the rows here, whatever their number.

The only row of a batch is such a vector, too, if it has one axis. In |x|² + |y|², of the shapes
(1, n, 1) and (1, 1, n), Keras adds both along the second axis. It is added along its own here,
unless it looks so beside another row, too: then it is a weight, which Keras adds so in every batch.

The bias of a convolution with channels first is added along the last axis where that has as many
elements as there are filters, and in `predict` along the channels where TensorFlow fuses the two.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass
class Confusions:
    """What Keras would have confused in the sums of a model.

    Attributes:
        rows: Numbers of rows that it would have taken for channels.
        turned: Whether it would have added what looks like the only row along another axis than
            its own.
        weights: Whether that is a weight; None as long as it is not known.
    """

    rows: set[int] = field(default_factory=set)
    turned: bool = False
    weights: bool | None = None


@contextmanager
def rows_apart(confusions: Confusions) -> Iterator[None]:
    """Let rows be added to the rows that they belong to, in this thread.

    Args:
        confusions: Takes what Keras would have confused.
    """
    own, add = threading.get_ident(), backend.add

    def added(x1: Any, x2: Any) -> Any:
        if threading.get_ident() != own or not _of_one_rank(x1, x2):
            return add(x1, x2)
        if _is_confused(x1, x2):
            confusions.rows.add(int(x2.shape[0]))
            x2 = tf.broadcast_to(x2, tf.shape(x1))
        elif not confusions.weights and _is_turned(x1, x2):
            confusions.turned = True
            x2 = tf.broadcast_to(x2, tf.broadcast_static_shape(x1.shape, x2.shape))
        return add(x1, x2)

    backend.add = added
    try:
        yield
    finally:
        backend.add = add


def _of_one_rank(x1: Any, x2: Any) -> bool:
    return tf.is_tensor(x1) and tf.is_tensor(x2) and x1.shape.rank == x2.shape.rank


def _is_confused(x1: Any, x2: Any) -> bool:
    """Whether Keras would take a column of one number per row for a bias."""
    rows, *rest = [1] if not x1.shape.rank else x2.shape.as_list()
    return (
        len(rest) > 0
        and rows not in {None, 1}
        and rows == x1.shape[0]
        and set(rest) == {1}
        and rows in {x1.shape[1], x1.shape[-1]}
    )


def _is_turned(x1: Any, x2: Any) -> bool:
    """Whether Keras would add the only row along another axis than its own."""
    if not (x1.shape.is_fully_defined() and x2.shape.is_fully_defined()):
        return False
    long = [axis for axis, extent in enumerate(x2.shape) if extent > 1]
    if len(long) != 1 or long == [0]:
        return False
    extent = x2.shape[long[0]]
    if x1.shape[-1] == extent:
        return long[0] != len(x1.shape) - 1
    return x1.shape[1] == extent and long[0] != 1


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
