"""Inference form: what only matters in training leaves, batch normalization becomes y = a·x + b.

At inference a batch normalization is a fixed map per channel (N2, algorithm for inference):

    y = γ (x − E) / √(V + ε) + β = a·x + b,    a = γ / √(V + ε),    b = β − a·E

with E and V the layer's `moving_mean` and `moving_variance`. a and b are computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import kerasdl

from .graph import Graph, Node

IDENTITIES_AT_INFERENCE: tuple[type, ...] = (
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    kerasdl.Dropout,
    kerasdl.GaussianNoise,
    kerasdl.SpatialDropout1D,
    kerasdl.SpatialDropout2D,
    kerasdl.SpatialDropout3D,
)

BATCH_NORMALIZATIONS: tuple[type, ...] = (
    keras.layers.BatchNormalization,
    kerasdl.BatchNormalization,
)


@dataclass(frozen=True)
class ChannelMap:
    """y = scale · x + shift along one axis (counted from the front)."""

    scale: np.ndarray
    shift: np.ndarray
    axis: int


def drop_training_only(graph: Graph) -> list[str]:
    """Take out the layers that do nothing at inference; return their names.

    A subclass may do something else in its `call`, so only the classes themselves are dropped.
    """
    doomed = [node for node in graph.nodes if _is_identity(node.operation)]
    for node in doomed:
        graph.bypass(node)
    return [node.name for node in doomed]


def _is_identity(operation: Any) -> bool:
    if type(operation) is kerasdl.Dropout and operation.mode == "classic":
        return False
    return type(operation) in IDENTITIES_AT_INFERENCE


def batch_normalizations(graph: Graph) -> list[Node]:
    """The batch-normalization calls of the graph, in order."""
    return [node for node in graph.nodes if type(node.operation) in BATCH_NORMALIZATIONS]


def channel_map(node: Node) -> ChannelMap:
    """The fixed map that a batch-normalization call is at inference."""
    layer: Any = node.operation
    mean = float64(layer.moving_mean)
    scale = 1.0 / np.sqrt(float64(layer.moving_variance) + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * float64(layer.gamma)
    shift = -scale * mean
    if layer.beta is not None:
        shift = shift + float64(layer.beta)
    return ChannelMap(scale, shift, layer.axis % len(node.inputs[0].shape))


def float64(variable: Any) -> np.ndarray:
    """A variable's value in float64."""
    return np.asarray(keras.ops.convert_to_numpy(variable.value), dtype=np.float64)
