"""Run Keras layers in float64 without touching their weights, and bfloat16 ones in float32.

A layer computes in the dtype of its policy with the values of its variables. For the length of
`float64_run` every policy says float64, a Functional model takes its inputs in float64, where it
would cast them to the dtype of its Input, and a stateless scope answers for every float variable
with its value in float64: the exact one where folding has computed it, else the float32 one.

A quantized layer keeps its integers: weights are variables that are no floats, and activations are
rounded to whole numbers in the dtype of the model itself, as the file rounds them.

onnxruntime has no bfloat16 arithmetic on a CPU. Layers that compute in it do so in float32 wherever
the export looks at them (`in_float32`): the numbers that bfloat16 rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.layers.preprocessing.data_layer import DataLayer
from keras.src.models.functional import Functional  # Keras exports `Model`, not this class

from ..formats import FLOAT32, Format
from ..graphs.exact import float64
from .grouped import uncompiled
from .layouts import any_layout

NEARLY_TIED = 2.0**-13
"""How near to the middle of two steps an activation may be rounded to either: 16 half ulps of the
largest one, which makes 127 steps. A quantized layer leaves no larger errors to the next."""
SHARE_OF_STEP = 0.25
"""How much of a step such an activation is moved. The tolerance is 16 times what comes of it."""


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
            do. The statistics of a Normalization layer reach the file as they are, and stay; as
            do Fourier transforms where only learnt matrices are rounded.
        stored: How weights are stored.
    """
    layers = list(layers)
    nearly = 0.0 if perturb is None else NEARLY_TIED if stored is FLOAT32 else 0.5
    with (
        uncompiled(layers),
        any_layout(),
        _quantizing(layers, nearly),
        _computing(layers, "float64"),
        _taking_float64(layers),
        absorbing(layers),
        _as_in_graphs(layers),
        keras.StatelessScope() as scope,
    ):
        fixed = _groups(layers) | _variables_of(layers, keras.layers.Normalization)
        if stored.matrices_only:
            fixed |= _variables_of(layers, keras.layers.STFTSpectrogram)
        for variable in _float_variables(layers):
            known = (exact or {}).get(id(variable))
            value = float64(variable) if known is None else known[1]
            if perturb is not None and id(variable) not in fixed:
                value = stored.move_weight(value, perturb)
            # `add_update` keeps the dtype; the scope's constructor would cast to float32.
            scope.add_update((variable, keras.ops.convert_to_tensor(value, "float64")))
        yield


@contextmanager
def in_float32(layers: Iterable[keras.Layer]) -> Iterator[keras.StatelessScope]:
    """Let those of the layers that compute in bfloat16 do so in float32.

    It is a stateless scope: what a layer assigns to its variables is kept in it, and lost with it.
    """
    layers = list(layers)
    narrow = [layer for layer in layers if is_narrow(layer)]
    with (
        any_layout(),
        _computing(narrow, "float32"),
        _as_in_graphs(layers),
        keras.StatelessScope() as scope,
    ):
        for variable in _float_variables(narrow):
            if keras.backend.standardize_dtype(variable.dtype) == "bfloat16":
                value = keras.ops.convert_to_tensor(float64(variable), "float32")
                scope.add_update((variable, value))
        yield scope


@contextmanager
def _as_in_graphs(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Let preprocessing layers read their inputs in their own dtype, as they do in `predict` and in
    any TensorFlow graph: called alone, Keras leaves images of bytes and whole numbers what they
    are."""
    found = {id(layer): layer for layer in layers if isinstance(layer, DataLayer)}.values()
    try:
        for layer in found:
            # Past Keras' own setter, as in `calls.py`, which may have taken it away again.
            vars(layer)["call"] = partial(_cast_and_call, layer, layer.call)
        yield
    finally:
        for layer in found:
            vars(layer).pop("call", None)


def _cast_and_call(
    layer: keras.Layer, call: Any, inputs: Any, *others: Any, **keywords: Any
) -> Any:
    def cast(x: Any) -> Any:
        numbers = tf.is_tensor(x) and x.dtype != tf.string and layer.compute_dtype != "string"
        return tf.cast(x, layer.compute_dtype) if numbers else x

    return call(keras.tree.map_structure(cast, inputs), *others, **keywords)


def is_narrow(layer: keras.Layer) -> bool:
    """Whether a layer computes in bfloat16."""
    return bool(layer.compute_dtype == "bfloat16")


@contextmanager
def _computing(layers: Sequence[keras.Layer], dtype: str) -> Iterator[None]:
    # Those of indices and strings stay what they are.
    layers = [layer for layer in layers if "float" in layer.compute_dtype]
    # Not the public property: its setter writes into a policy map, and may quantize the layer.
    before = [(layer._dtype_policy, layer.autocast) for layer in layers]
    plain = keras.DTypePolicy(dtype)
    statistics = _statistics(layers)
    try:
        for layer, *tensors in statistics:
            _set_statistics(layer, [keras.ops.cast(tensor, dtype) for tensor in tensors])
        for layer in layers:
            layer._dtype_policy = _quantized_policy(layer, dtype) or plain
            # Normalizations leave it to their `call` what becomes of a float32 input.
            layer.autocast = True
        yield
    finally:
        for layer, (own, autocast) in zip(layers, before, strict=True):
            layer._dtype_policy, layer.autocast = own, autocast
        for layer, *tensors in statistics:
            _set_statistics(layer, tensors)


def _statistics(layers: Iterable[keras.Layer]) -> list[tuple[keras.Layer, Any, Any]]:
    """Mean and variance of each Normalization: no variables, but tensors in the dtype that the
    layer computes in, of which it takes the root."""
    found = (layer for layer in layers if isinstance(layer, keras.layers.Normalization))
    return [(layer, layer.mean, layer.variance) for layer in found if layer.mean is not None]


def _set_statistics(layer: keras.Layer, tensors: Sequence[Any]) -> None:
    for name, tensor in zip(("mean", "variance"), tensors, strict=True):
        object.__setattr__(layer, name, tensor)  # past Keras' own setter, as in `grouped.py`


@contextmanager
def _taking_float64(layers: Iterable[keras.Layer]) -> Iterator[None]:
    # Sequential keeps its graph under this name.
    graphs = (getattr(layer, "_functional", layer) for layer in layers)
    functions = {id(graph): graph for graph in graphs if isinstance(graph, Functional)}
    try:
        for function in functions.values():
            # Past Keras' own setter, as in `grouped.py`.
            convert = partial(_float64_inputs, function)
            object.__setattr__(function, "_convert_inputs_to_tensors", convert)
        yield
    finally:
        for function in functions.values():
            object.__delattr__(function, "_convert_inputs_to_tensors")


def _float64_inputs(function: Any, inputs: Sequence[Any]) -> list[Any]:
    """What Keras makes of the inputs of a Functional model, but floats in float64."""
    converted = type(function)._convert_inputs_to_tensors(function, inputs)
    return [
        y if x is None or "float" not in y.dtype.name else keras.ops.cast(x, "float64")
        for x, y in zip(inputs, converted, strict=True)
    ]


@contextmanager
def absorbing(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Attention takes 10⁹ off the scores that a mask hides, of which nothing is left in float32.
    Where a whole row is hidden, that decides what it gives: so nothing is left here."""
    found = [layer for layer in layers if isinstance(layer, keras.layers.Attention)]
    try:
        for layer in found:
            # Past Keras' own setter, as in `grouped.py`.
            object.__setattr__(layer, "_apply_scores", partial(_hide, layer._apply_scores))
        yield
    finally:
        for layer in found:
            object.__delattr__(layer, "_apply_scores")


def _hide(
    apply: Any, scores: Any, value: Any, scores_mask: Any = None, training: bool = False
) -> Any:
    if scores_mask is not None:
        seen = scores_mask if len(scores_mask.shape) > 2 else scores_mask[:, None]
        scores = keras.ops.where(seen, scores, 0.0)
    return apply(scores=scores, value=value, scores_mask=scores_mask, training=training)


@contextmanager
def refusing_float32(operations: Sequence[Any]) -> Iterator[set[int]]:
    """Raise TypeError where one of them gives float32, as a custom layer may.

    Yields:
        The ids of those that were not called; Keras has other ways to call quantized layers.
    """
    found = {id(each): each for each in operations if isinstance(each, keras.Operation)}
    before = {key: vars(each).get("call") for key, each in found.items()}
    unseen = {id(each) for each in operations}

    def watched(operation: Any, call: Any, *arguments: Any, **keywords: Any) -> Any:
        results = call(*arguments, **keywords)
        unseen.discard(id(operation))
        refuse_float32(operation, keras.tree.flatten(results))
        return results

    try:
        for each in found.values():
            # Past Keras' own setter, as in `calls.py`.
            vars(each)["call"] = partial(watched, each, each.call)
        yield unseen
    finally:
        for key, each in found.items():
            vars(each).pop("call")
            if before[key] is not None:
                vars(each)["call"] = before[key]


def refuse_float32(operation: Any, results: Iterable[Any]) -> None:
    """Raise TypeError if a result is float32."""
    if any(keras.backend.standardize_dtype(y.dtype) == "float32" for y in results):
        raise TypeError(f"{operation.name} gives float32")


def _quantized_policy(layer: keras.Layer, dtype: str) -> keras.DTypePolicy | None:
    """The policy of a quantized layer, with this dtype for what is no integer."""
    own = layer._dtype_policy
    if isinstance(own, keras.dtype_policies.DTypePolicyMap):
        own = own[layer.path]
    if own.quantization_mode is None:
        return None
    return type(own).from_config({**own.get_config(), "source_name": dtype})


@contextmanager
def _quantizing(layers: Iterable[keras.Layer], nearly: float) -> Iterator[None]:
    """Let quantized layers round their inputs to the integers that the model itself computes."""
    before = [
        (layer, layer.inputs_quantizer)
        for layer in layers
        if getattr(layer, "inputs_quantizer", None) is not None
    ]
    try:
        for layer, quantizer in before:
            dtype = "float32" if is_narrow(layer) else layer.compute_dtype
            # Past Keras' own setter, as in `grouped.py`.
            object.__setattr__(layer, "inputs_quantizer", _Quantizer(quantizer, dtype, nearly))
        yield
    finally:
        for layer, quantizer in before:
            object.__setattr__(layer, "inputs_quantizer", quantizer)


class _Quantizer:
    """A quantizer that computes in the dtype of the model.

    Args:
        quantizer: Keras' own.
        dtype: Of the model.
        nearly: Inputs that lie so near to the middle of two steps are moved towards the other one,
            where rounding in front of the layer may have put them.
    """

    def __init__(self, quantizer: Any, dtype: str, nearly: float) -> None:
        self.quantizer, self.dtype, self.nearly = quantizer, dtype, nearly

    def __call__(self, inputs: Any, *arguments: Any, **keywords: Any) -> tuple[Any, Any]:
        given = keras.ops.cast(inputs, self.dtype)
        steps, scale = self.quantizer(given, *arguments, **keywords)
        if self.nearly:
            whole = keras.ops.cast(steps, self.dtype)
            gaps = given * scale - whole
            tied = keras.ops.cast(keras.ops.abs(gaps) > 0.5 - self.nearly, self.dtype)
            moved = whole + SHARE_OF_STEP * tied * keras.ops.sign(gaps)
            steps = keras.ops.cast(moved, inputs.dtype)
        return steps, keras.ops.cast(scale, inputs.dtype)


def widen(array: np.ndarray) -> np.ndarray:
    """A float32 array in float64; others as they are."""
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _variables_of(layers: Iterable[keras.Layer], kind: type[Any]) -> set[int]:
    alike = [layer for layer in layers if isinstance(layer, kind)]
    return {id(variable) for layer in alike for variable in layer.variables}


def _groups(layers: Iterable[keras.Layer]) -> set[int]:
    """The groups that 4-bit weights are in: whole numbers, which Keras keeps as floats."""
    found = (getattr(layer, "g_idx", None) for layer in layers)
    return {id(variable) for variable in found if variable is not None}


def _float_variables(layers: Iterable[keras.Layer]) -> list[Any]:
    found = {id(variable): variable for layer in layers for variable in layer.variables}
    return [v for v in found.values() if "float" in keras.backend.standardize_dtype(v.dtype)]
