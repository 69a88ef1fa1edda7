"""Inference form: what only matters in training leaves, batch normalization becomes y = a·x + b.

At inference a batch normalization is a fixed map per channel (N2, algorithm for inference):

    y = γ (x − E) / √(V + ε) + β = a·x + b,    a = γ / √(V + ε),    b = β − a·E

with E and V the layer's `moving_mean` and `moving_variance`. a and b are computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import kerasdl

from .exact import float64
from .graph import Graph, Node
from .maps import Map, Shape

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


def drop_training_only(graph: Graph) -> list[str]:
    """Take out the layers that do nothing at inference; return their names.

    A subclass may do something else in its `call`, so only the classes themselves are dropped; and
    not where one computes in another dtype, and rounds.
    """
    doomed = [
        node
        for node in graph.nodes
        if _is_identity(node.operation) and node.inputs[0].dtype == node.outputs[0].dtype
    ]
    for node in doomed:
        graph.bypass(node)
    return [node.name for node in doomed]


def _is_identity(operation: Any) -> bool:
    if type(operation) is kerasdl.Dropout and operation.mode == "classic":
        return False
    return type(operation) in IDENTITIES_AT_INFERENCE


def is_batch_normalization(node: Node) -> bool:
    """Whether a node is a batch normalization that computes what its class says."""
    return type(node.operation) in BATCH_NORMALIZATIONS


def map_of(node: Node) -> Map | None:
    """The fixed map that a layer is at inference, if it is one."""
    read = MAPS.get(type(node.operation))
    if read is None or "float" not in node.inputs[0].dtype:
        return None
    return read(node.operation, node.inputs[0].shape)


def _batch_normalization(layer: Any, shape: Shape) -> Map:
    scale = 1.0 / np.sqrt(float64(layer.moving_variance) + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * float64(layer.gamma)
    shift = -scale * float64(layer.moving_mean)
    if layer.beta is not None:
        shift = shift + float64(layer.beta)
    return Map.along(layer.axis % len(shape), len(shape), scale, shift)


def _affine(layer: Any, shape: Shape) -> Map:
    scale, shift = float64(layer.scale), float64(layer.offset)
    return Map.along(layer.axis % len(shape), len(shape), scale, shift)


def _normalization(layer: Any, shape: Shape) -> Map | None:
    mean, deviation = _statistics(layer)
    if mean.ndim > len(shape):
        return None  # adapted on data of more axes than it is given
    # Of data without channels it knows fewer axes than it may be given.
    lead = (1,) * (len(shape) - mean.ndim)
    mean, deviation = (value.reshape(lead + value.shape) for value in (mean, deviation))
    if layer.invert:
        return Map.of(deviation, mean)
    return Map.of(1.0 / deviation, -mean / deviation)


def _statistics(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation, at the rank of the data."""
    values = (keras.ops.convert_to_numpy(value) for value in (layer.mean, layer.variance))
    mean, variance = (np.asarray(value, np.float64) for value in values)
    return mean, np.maximum(np.sqrt(variance), keras.backend.epsilon())


def _rescaling(layer: Any, shape: Shape) -> Map | None:
    scale, shift = np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    if max(scale.ndim, shift.ndim) >= len(shape):
        return None
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        return None
    arrays = (
        value.reshape((1,) * (len(shape) - value.ndim) + value.shape) for value in (scale, shift)
    )
    return Map.of(*arrays)


MAPS: dict[type, Callable[[Any, Shape], Map | None]] = {
    **dict.fromkeys(BATCH_NORMALIZATIONS, _batch_normalization),
    kerasdl.Affine: _affine,
    keras.layers.Normalization: _normalization,
    keras.layers.Rescaling: _rescaling,
}


def distance_from_zero(node: Node) -> float:
    """How many deviations off zero the data lie that a Normalization subtracts the mean from."""
    layer: Any = node.operation
    if type(layer) is not keras.layers.Normalization or layer.invert:
        return 0.0
    mean, deviation = _statistics(layer)
    return float(np.max(np.abs(mean) / deviation, initial=0.0))
