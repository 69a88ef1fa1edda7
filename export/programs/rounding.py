"""How far rounding reaches: a model in float64 whose every stored number is moved a little.

Weights and the results of layers are moved at random as the file's format rounds (`formats.py`),
in float32 by half an ulp, x (1 + δ), |δ| ≤ 2⁻²⁴; inputs are not, since Keras and ONNX are given
the same. The smooth activations are computed by approximations that are exact in relation to their
range and not to each value: a sigmoid of 1e-6 may be off by 2⁻²⁴. Their results are moved by a
share of 2⁻²⁴ max(1, max|y|) besides, the maximum over one row; where they are x times a gate, as
silu(x) = x sigmoid(x), by no more than one of 2⁻²⁴ max|x|.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..formats import FLOAT32, Format
from ..graphs.graph import Node

# Lower-case names of Keras' activations, of the layers that are one, and of `keras.ops`.
SMOOTH = {
    *("celu", "elu", "erf", "exp", "expm1", "exponential", "gelu", "glu", "log_sigmoid"),
    *("log_softmax", "logsigmoid", "logsoftmax", "mish", "selu", "sigmoid", "silu", "softmax"),
    *("softplus", "softsign", "squareplus", "swish", "tanh", "tanh_shrink", "tanhshrink"),
}
GATED = {"gelu", "mish", "silu", "swish"}
"""Those that multiply what they are given with what lies between 0 and 1."""
UNKNOWN_REACH = 2.0**-20
"""Reach, as a share of the output, where there is no float64 run; of other formats than float32
nothing is known then."""


def move_results(
    node: Node,
    given: list[Any],
    results: list[Any],
    rng: np.random.Generator,
    stored: Format = FLOAT32,
) -> list[Any]:
    """The results of one layer as another rounding might have left them."""
    smooth = _is_smooth(node.operation)
    gated = np.asarray(given[0]) if _is_gated(node.operation) else None
    return [_moved(result, smooth, rng, stored, gated) for result in results]


def move_input(array: np.ndarray, rng: np.random.Generator, stored: Format) -> np.ndarray:
    """An input as the file rounds it; what the format holds stays, such as what a mask hides."""
    if not stored.inputs or array.dtype.kind != "f":
        return array
    moved: np.ndarray = array + noise_of(array, False, rng, stored)
    return moved


def distance(moved: Any, still: Any) -> np.ndarray:
    """|moved − still|; zero where one is not finite, and one where what is no float differs."""
    one, other = np.asarray(moved), np.asarray(still)
    if one.shape != other.shape:
        return np.zeros(other.shape)
    if one.dtype.kind != "f":
        return np.asarray(one != other, np.float64)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(one - other), nan=0.0, posinf=0.0)


def mean_reach(runs: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The root mean square of the outputs' distances in several runs."""
    if len(runs) == 1:
        return list(runs[0])
    with np.errstate(over="ignore"):
        return [np.sqrt(np.mean(np.square(each), axis=0)) for each in zip(*runs, strict=True)]


def unknown_reach(native: np.ndarray, stored: Format = FLOAT32) -> np.ndarray:
    """What is taken for the distance where there is no float64 run."""
    if native.dtype.kind != "f":
        return np.zeros(native.shape)
    share = UNKNOWN_REACH if stored is FLOAT32 else 1.0
    reach: np.ndarray = share * np.abs(np.where(np.isfinite(native), native, 0.0))
    return reach


def _is_smooth(operation: Any) -> bool:
    names = {type(operation).__name__.lower()}
    for attribute in ("activation", "recurrent_activation"):
        names.add(getattr(getattr(operation, attribute, None), "__name__", ""))
    return bool(names & SMOOTH)


def _is_gated(operation: Any) -> bool:
    """Whether an operation is nothing but such an activation."""
    is_activation = isinstance(operation, keras.layers.Activation)
    function = operation.activation if is_activation else type(operation)
    return getattr(function, "__name__", "").lower() in GATED


def _moved(
    tensor: Any,
    smooth: bool,
    rng: np.random.Generator,
    stored: Format,
    gated: np.ndarray | None = None,
) -> Any:
    if "float" not in keras.backend.standardize_dtype(tensor.dtype):
        return tensor
    moved = tensor + noise_of(np.asarray(tensor), smooth, rng, stored, gated)
    mask = getattr(tensor, "_keras_mask", None)
    if mask is not None:
        moved._keras_mask = mask  # where Keras' layers look for it
    return moved


def noise_of(
    values: np.ndarray,
    smooth: bool,
    rng: np.random.Generator,
    stored: Format,
    gated: np.ndarray | None = None,
) -> np.ndarray:
    """What rounding may do to results: nothing to those that the format holds, such as whole
    numbers; `smooth` where they are an approximation's, of a gate of these numbers perhaps."""
    with np.errstate(over="ignore"):
        held = values.astype(stored.results.dtype) == values
    noise = stored.results.noise(values, rng)
    noise[held] = 0.0
    if smooth:
        tops = _tops(values, 1.0)
        if gated is not None:
            tops = np.minimum(tops, _tops(gated, 0.0))
        noise += stored.results.unit * tops * rng.uniform(-1, 1, values.shape)
    return noise


def _tops(values: np.ndarray, least: float) -> np.ndarray:
    """The largest number of each row, or this if that is larger."""
    axes = tuple(range(1, values.ndim))
    tops: np.ndarray = np.max(
        np.abs(values), axis=axes, initial=least, where=np.isfinite(values), keepdims=True
    )
    return tops
