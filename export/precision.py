"""Run Keras layers in float64 without touching their weights, and bfloat16 ones in float32.

A layer computes in the dtype of its policy with the values of its variables. For the length of
`float64_run` every policy says float64, and a stateless scope answers for every float variable
with its value in float64: the exact one where folding has computed it, else the float32 one.

onnxruntime has no bfloat16 arithmetic on a CPU. Layers that compute in it do so in float32 wherever
the export looks at them (`in_float32`): the numbers that bfloat16 rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from .formats import FLOAT32, Format
from .grouped import uncompiled
from .inference import float64


@contextmanager
def float64_run(
    layers: Iterable[keras.Layer],
    exact: Mapping[int, tuple[Any, np.ndarray]] | None = None,
    perturb: np.random.Generator | None = None,
    stored: Format = FLOAT32,
) -> Iterator[None]:
    """Let `layers` compute in float64.

    Args:
        layers: Every layer that takes part, inner ones included.
        exact: Values that replace a variable's own, by id of the variable.
        perturb: If given, every weight is moved at random by what rounding it once more would
            do. The statistics of a Normalization layer reach the file as they are, and stay,
            unless the inputs are rounded, too.
        stored: How weights are stored.
    """
    layers = list(layers)
    with uncompiled(layers), _computing(layers, "float64"), keras.StatelessScope() as scope:
        fixed = set() if stored.inputs else _statistics_of_inputs(layers)
        for variable in _float_variables(layers):
            known = (exact or {}).get(id(variable))
            value = float64(variable) if known is None else known[1]
            if perturb is not None and id(variable) not in fixed:
                value = stored.move_weight(value, perturb)
            # `add_update` keeps the dtype; the scope's constructor would cast to float32.
            scope.add_update((variable, keras.ops.convert_to_tensor(value, "float64")))
        yield


@contextmanager
def in_float32(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Let those of the layers that compute in bfloat16 do so in float32.

    It is a stateless scope: what a layer assigns to its variables is lost with it.
    """
    narrow = [layer for layer in layers if is_narrow(layer)]
    with _computing(narrow, "float32"), keras.StatelessScope() as scope:
        for variable in _float_variables(narrow):
            if keras.backend.standardize_dtype(variable.dtype) == "bfloat16":
                value = keras.ops.convert_to_tensor(float64(variable), "float32")
                scope.add_update((variable, value))
        yield


def is_narrow(layer: keras.Layer) -> bool:
    """Whether a layer computes in bfloat16."""
    return bool(layer.compute_dtype == "bfloat16")


@contextmanager
def _computing(layers: Sequence[keras.Layer], dtype: str) -> Iterator[None]:
    # Not the public property: its setter writes into a policy map, and may quantize the layer.
    before = [(layer._dtype_policy, layer.autocast) for layer in layers]
    policy = keras.DTypePolicy(dtype)
    try:
        for layer in layers:
            layer._dtype_policy = policy
            # Normalizations leave it to their `call` what becomes of a float32 input.
            layer.autocast = True
        yield
    finally:
        for layer, (own, autocast) in zip(layers, before, strict=True):
            layer._dtype_policy, layer.autocast = own, autocast


def widen(array: np.ndarray) -> np.ndarray:
    """A float32 array in float64; others as they are."""
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _statistics_of_inputs(layers: Iterable[keras.Layer]) -> set[int]:
    normalizations = [x for x in layers if isinstance(x, keras.layers.Normalization)]
    return {id(variable) for layer in normalizations for variable in layer.variables}


def _float_variables(layers: Iterable[keras.Layer]) -> list[Any]:
    found = {id(variable): variable for layer in layers for variable in layer.variables}
    return [v for v in found.values() if "float" in keras.backend.standardize_dtype(v.dtype)]
