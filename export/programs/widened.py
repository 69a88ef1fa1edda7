"""Widened: a TensorFlow function in float64, whatever it was written for.

Keras' layers compute in float64 when they are told to (`precision.py`), but a user's layer may
hold constants in float32, cast, or call what knows float32 alone. Here the operations of the
traced function are run one by one, on float64 where it was a shorter float. An operation that has
no float64 form, or looks at bits, is given the dtypes it was traced with.

Rounding is seen operation by operation: variables are moved as the file's format rounds weights,
and every new number that float32 cannot hold by what storing it might do. What int8 rounds are the
factors of products, and where ranges were measured beforehand, what convolutions give.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..formats import FLOAT32, Format
from ..graphs.graph import layer_of
from .grouped import uncompiled_traces
from .layouts import any_layout
from .operation import LONG, UNFIT, Operation, widened
from .rounding import SMOOTH, distance, move_input, noise_of
from .walk import BRANCHES, CALLS, CASES, CONTROL, Walk

OPAQUE = (tf.resource, tf.variant)
READING = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd"}
"""Operations on variables, which have the dtype that they have: in another, TensorFlow ends the
process."""
EXACT = {
    *("Abs", "BroadcastTo", "Complex", "ConcatV2", "Conj", "ExpandDims", "GatherNd", "GatherV2"),
    *(
        "Identity",
        "IdentityN",
        "Imag",
        "Max",
        "MaxPool",
        "Maximum",
        "Min",
        "Minimum",
        "Neg",
        "Pack",
        "Pad",
        "PadV2",
    ),
    *("Real", "Relu", "Reshape", "ReverseV2", "SelectV2", "Slice", "Split", "SplitV", "Squeeze"),
    *("StridedSlice", "TensorListFromTensor", "TensorListGetItem", "TensorListStack", "Tile"),
    *("Transpose", "Unpack"),
}
"""Operations that give numbers that they are given."""
CONVOLUTIONS = {"Conv2D", "Conv3D", "DepthwiseConv2dNative"}
PRODUCTS = {"BatchMatMulV2", "Einsum", "MatMul", *CONVOLUTIONS}
ASSIGNING = ("Assign", "ResourceApply", "ResourceScatter")


class Widened:
    """A function of tensors, in float64.

    Args:
        call: The function; it is traced for the shapes that it is given.
        layers: In whose scopes its operations are, if in any.
    """

    def __init__(self, call: Callable[..., Sequence[Any]], layers: Sequence[str] = ()) -> None:
        self._call, self._layers = call, layers
        self._traced: dict[tuple[Any, ...], Any] = {}
        self._known: dict[Any, Operation] = {}

    def __call__(
        self,
        arrays: Sequence[np.ndarray],
        perturb: np.random.Generator | None = None,
        stored: Format = FLOAT32,
    ) -> list[np.ndarray]:
        """What the function gives.

        Args:
            arrays: One per argument.
            perturb: If given, every result is moved at random by what rounding it would do.
            stored: How results are rounded.
        """
        function = self._function(arrays)
        run = _Run(function.graph, self._known, perturb, stored, self._layers)
        given = [widened(tf.convert_to_tensor(array)) for array in arrays]
        if perturb is not None and not stored.results.steps:
            given = [tf.convert_to_tensor(move_input(x.numpy(), perturb, stored)) for x in given]
        return [np.asarray(result) for result in run(given)]

    def reaches(
        self,
        arrays: Sequence[np.ndarray],
        exact: Sequence[np.ndarray],
        rng: np.random.Generator,
        stored: Format,
    ) -> Iterator[list[np.ndarray]]:
        """How far each number of the results is moved by rounding, again and again."""
        while True:
            moved = self(arrays, rng, stored)
            yield [distance(*pair) for pair in zip(moved, exact, strict=True)]

    def work(self, arrays: Sequence[np.ndarray]) -> int:
        """How many numbers are computed on the way."""
        run = _Counting(self._function(arrays).graph, self._known)
        run([widened(tf.convert_to_tensor(array)) for array in arrays])
        return run.work

    def _function(self, arrays: Sequence[np.ndarray]) -> Any:
        key = tuple((array.shape, array.dtype) for array in arrays)
        if key not in self._traced:
            signature = [tf.TensorSpec(x.shape, tf.convert_to_tensor(x).dtype) for x in arrays]
            function = tf.function(self._call, autograph=False)
            with any_layout(traced=True), uncompiled_traces():
                self._traced[key] = function.get_concrete_function(*signature)
        return self._traced[key]


class _Run(Walk):
    """One run of a graph and of the functions that it calls."""

    def __init__(
        self,
        graph: Any,
        known: dict[Any, Operation],
        perturb: np.random.Generator | None = None,
        stored: Format = FLOAT32,
        layers: Sequence[str] = (),
    ) -> None:
        super().__init__(graph)
        self.known, self.perturb, self.stored, self.layers = known, perturb, stored, layers
        # By identity, and kept, so that no other tensor can have it.
        self.weights: dict[int, Any] = {}
        self.fixed: dict[int, Any] = {}  # what no input has a part in
        self.depth = 0  # of branches and loops, whose products int8 leaves alone

    def __call__(self, given: Sequence[Any]) -> list[Any]:
        captured = [outside for outside, _ in self.graph.captures]
        return self.run(self.graph, [*given, *map(widened, captured)])

    def results(self, traced: Any, inputs: list[Any]) -> list[Any]:
        operation = self.known.get(traced)
        if operation is None:
            operation = self.known[traced] = Operation(traced)
        kind = operation.kind
        if kind.startswith(ASSIGNING):
            raise ValueError(f"{operation.name} ({kind}) assigns to a variable")
        if kind in CALLS:
            return self.run(self.inner(traced, "f"), inputs)
        if kind in CONTROL:
            self.depth += 1
            results = self._controlled(traced, inputs)
            self.depth -= 1
            return results
        if kind == "Const":
            constant = self._moved(operation.constant, partial(self._rounded, False))
            self.fixed[id(constant)] = constant
            return [constant]
        layer = self._layer(operation)
        rounds = self.stored.rounds(layer)
        fixed = [id(x) in self.fixed for x in inputs]
        quantized = kind in PRODUCTS and rounds and any(fixed) and not self.depth
        move = partial(self._as_stored, layer)
        if quantized:
            pairs = zip(inputs, fixed, strict=True)
            inputs = [self._factor(x, self.stored.move_weight if f else move) for x, f in pairs]
        results = [widened(y) for y in self._computed(operation, inputs)]
        if kind in READING:
            stored = FLOAT32 if self.stored.results.steps and not rounds else self.stored
            results = [self._moved(y, stored.move_weight) for y in results]
        elif quantized and self.stored.measured and kind in CONVOLUTIONS:
            results = [self._moved(y, move) for y in results]
        elif kind not in EXACT:
            smooth = kind.lower() in SMOOTH
            results = [self._moved(y, partial(self._rounded, smooth)) for y in results]
        if kind in READING or (kind in EXACT and any(map(self._is_weight, inputs))):
            self.weights |= {id(y): y for y in results}
        if kind in READING or all(fixed):
            self.fixed |= {id(y): y for y in results}
        return results

    def _controlled(self, operation: Any, inputs: list[Any]) -> list[Any]:
        """The results of a branch or a loop."""
        if operation.type in BRANCHES:
            branch = "then_branch" if _holds(inputs[0]) else "else_branch"
            return self.run(self.inner(operation, branch), inputs[1:])
        if operation.type in CASES:
            branches, place = self.branches(operation), int(inputs[0])
            return self.run(branches[place if 0 <= place < len(branches) else -1], inputs[1:])
        condition, body = (self.inner(operation, name) for name in ("cond", "body"))
        while _holds(self.run(condition, inputs)[0]):
            inputs = self.run(body, inputs)
        return inputs

    def _layer(self, operation: Operation) -> str | None:
        """The layer of a product or a weight, where it matters."""
        if self.stored.ranges is None or operation.kind not in {*PRODUCTS, *READING}:
            return None
        return layer_of(operation.name, self.layers)

    def _is_weight(self, value: Any) -> bool:
        return id(value) in self.weights

    def _factor(self, value: Any, move: Callable[..., np.ndarray]) -> Any:
        """A factor of a product as it is stored; a weight has been moved where it was read."""
        return value if self._is_weight(value) else self._moved(value, move)

    def _computed(self, operation: Operation, inputs: Sequence[Any]) -> list[Any]:
        if operation.has_float64 and operation.kind not in READING:
            try:
                return operation(self._fitting(operation, inputs, wide=True), wide=True)
            except UNFIT:
                operation.has_float64 = False
        return operation(self._fitting(operation, inputs, wide=False), wide=False)

    def _fitting(self, operation: Operation, inputs: Sequence[Any], wide: bool) -> list[Any]:
        """The inputs, in their own dtypes where an operation knows no other.

        What it rounds inside is seen by moving these to the next number.
        """
        if wide and not any(operation.kept):
            return list(inputs)
        kept = operation.kept if wide else [True] * len(inputs)
        return [
            tf.cast(self._moved(value, _to_next), dtype) if keep and dtype in LONG else value
            for value, dtype, keep in zip(inputs, operation.dtypes, kept, strict=True)
        ]

    def _moved(self, result: Any, move: Callable[..., np.ndarray]) -> Any:
        if self.perturb is None or result.dtype not in LONG.values():
            return result
        values, rng = result.numpy(), self.perturb
        if result.dtype.is_complex:
            return tf.complex(move(values.real, rng), move(values.imag, rng))
        return tf.convert_to_tensor(move(values, rng))

    def _rounded(self, smooth: bool, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        stored = FLOAT32 if self.stored.results.steps else self.stored
        return values + noise_of(values, smooth, rng, stored)

    def _as_stored(
        self, layer: str | None, values: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        ends = self.stored.ends_of(layer, values)
        return values + self.stored.results.noise(values, rng, ends=ends)


class _Counting(_Run):
    """A run that counts the numbers that it computes."""

    work = 0

    def results(self, traced: Any, inputs: list[Any]) -> list[Any]:
        results = super().results(traced, inputs)
        if traced.type not in {*CONTROL, "Const"}:
            self.work += sum(1 + math.prod(y.shape) for y in results if y.dtype not in OPAQUE)
        return results


def _to_next(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Towards zero, so that what lies within bounds stays there."""
    return values - 2 * np.copysign(FLOAT32.results.noise(values, rng), values)


def _holds(condition: Any) -> bool:
    value = condition.numpy()
    return bool(value != b"") if isinstance(value, bytes) else bool(value)
