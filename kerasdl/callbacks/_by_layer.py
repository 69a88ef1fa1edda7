"""The variables of a model, by the layer that owns them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kerasdl.optimizers._groups import path_of
from kerasdl.optimizers._monitor import layer_names

Array = np.ndarray[Any, np.dtype[np.float64]]


def by_layer(variables: Sequence[Any]) -> dict[str, list[int]]:
    """Indices of the variables of each layer, under the names that `OptimizerMonitor` uses."""
    layers: dict[str, list[int]] = {}
    for index, name in enumerate(layer_names([path_of(variable) for variable in variables])):
        layers.setdefault(name, []).append(index)
    return layers


def weights_of(model: Any) -> list[Array]:
    """Copies of the trainable variables in float64; none of a model that is not built."""
    if not model.built:
        return []
    return [
        np.array(ops.convert_to_numpy(variable), dtype="float64")
        for variable in model.trainable_variables
    ]


def norm(arrays: Sequence[Array]) -> float:
    """‖·‖ over all of them."""
    return float(np.sqrt(sum(np.square(each).sum() for each in arrays)))
