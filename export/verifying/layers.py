"""Layers: what each should compute, how far rounding may move it, and what a file made of it.

The Keras graph runs three times, layer by layer: in its own precision, in float64, and in float64
with every stored number moved a little (`rounding.py`). What is allowed follows as in `parity.py`,
for every value and per channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..formats import FLOAT32, SAFETY, Format
from ..graphs.graph import After, Node
from ..programs.precision import absorbing, float64_run, in_float32, widen
from ..programs.program import Arrays, KerasProgram, plain
from ..programs.rounding import distance, move_input, move_results, unknown_reach
from ..programs.widened import Widened
from .channels import channel_errors, channel_noise, element_errors, is_float
from .parity import allowed_by_mean
from .truth import LITTLE_WORK, MANY

LONGEST = 3
"""How many layers of one piece the table names."""
Shape = tuple[int | None, ...]
Values = dict[int, np.ndarray]


@dataclass(frozen=True)
class LayerCheck:
    """One Keras layer or operation, and what an ONNX file made of it.

    Attributes:
        layer: Its name.
        kind: Its class.
        shape: Shape of its first output.
        held: Name of the ONNX value that is its output, or should be; None where the file has no
            such value.
        group: The layers that are one piece in the file, up to the one that has a value, in
            the order of the graph; itself alone, if it is no part of such a piece.
        error: Largest difference between the ONNX value and the layer's output in float64, in the
            channel that is nearest to what is allowed or furthest beyond it. All layers in front
            are right, or were put right. None if there is nothing to compare.
        allowed: What was allowed in that channel.
        passed: Whether the piece that it belongs to is right; None where that could not be told,
            behind a layer that is wrong.
    """

    layer: str
    kind: str
    shape: Shape
    held: str | None
    group: tuple[str, ...]
    error: float | None
    allowed: float | None
    passed: bool | None

    @property
    def place(self) -> str:
        """Where the file has it: the name of a value, or the piece that it lies in."""
        parts = self.group
        if len(parts) > LONGEST:
            parts = (parts[0], f"{len(parts) - 2} more", parts[-1])
        piece = " + ".join(parts)
        if self.held is None:
            return f"inside {piece}" if len(self.group) > 1 else "nowhere"
        return self.held if len(self.group) < 2 else f"{self.held} ({piece})"


def table(checks: Sequence[LayerCheck]) -> list[str]:
    """The checks as aligned lines, with a head."""
    if not checks:
        return []
    head = ("", "layer", "kind", "shape", "error", "allowed", "in the file as")
    rows = [head, *map(_row, checks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return ["Layer by layer", *(f"  {line}" for line in lines)]


def _row(check: LayerCheck) -> tuple[str, ...]:
    verdict = {True: "ok", False: "FAIL", None: "?"}[check.passed]
    shape = ", ".join("?" if extent is None else str(extent) for extent in check.shape)
    numbers = ("" if x is None else f"{x:.2e}" for x in (check.error, check.allowed))
    return (verdict, check.layer, check.kind, f"({shape})", *numbers, check.place)


@dataclass(frozen=True)
class Expected:
    """What one value should be.

    Attributes:
        native, exact, reach: As in `truth.py`.
        output: Whether it is an output of the model.
        means: Whether means are judged, too.
        known: What is allowed, where that is known from more rows than these.
    """

    native: np.ndarray
    exact: np.ndarray
    reach: np.ndarray
    output: bool
    means: bool
    known: np.ndarray | None = None

    @cached_property
    def allowed(self) -> np.ndarray:
        """Per channel, as in `parity.py`.

        A channel of few numbers may look free of noise by chance. An output has several batches
        against that; the others are granted the noise of the noisiest channel.
        """
        if self.known is not None:
            return self.known
        allowed = SAFETY * channel_noise(self.native, self.exact, self.reach)
        return allowed if self.output else np.maximum(allowed, allowed.max() / SAFETY)

    @np.errstate(all="ignore")
    def compare(self, array: np.ndarray) -> tuple[float, float]:
        """Error and what is allowed, in the channel where their ratio is largest."""
        kinds = {self.native.dtype.kind, array.dtype.kind}
        if len(kinds) == 1 and array.dtype != self.native.dtype:
            array = array.astype(self.native.dtype)
        allowed = self.allowed
        if self.means and self.output:
            gaps = element_errors(array, self.native, self.exact)
            by_mean = allowed_by_mean(self.native, self.exact, self.reach, gaps)
            allowed = np.minimum(allowed, by_mean)
        errors, allowed = np.broadcast_arrays(
            channel_errors(array, self.native, self.exact), allowed
        )
        worst = int(np.argmax(errors - allowed if not is_float(self.native) else errors / allowed))
        return float(errors[worst]), float(allowed[worst])

    def agrees(self, array: np.ndarray) -> bool:
        error, allowed = self.compare(array)
        return error <= allowed

    def rows(self, count: int) -> Expected:
        """The first rows, with what is allowed for all."""
        arrays = self.native[:count], self.exact[:count], self.reach[:count]
        return Expected(*arrays, output=self.output, means=False, known=self.allowed)


def expected_values(
    program: KerasProgram, arrays: Arrays, stored: Format = FLOAT32, rows: Arrays | None = None
) -> dict[int, Expected]:
    """What every value of the program's graph should be, by the id of the value.

    Args:
        program: The model as it was, nothing folded.
        arrays: One batch.
        stored: The numbers of the file.
        rows: The batch, and more rows behind it, from which the noise is better known.
    """
    if rows is not None:
        count = len(rows[0])
        found = _expected_values(program, rows, stored)
        if all(one.native.shape[:1] == (count,) for one in found.values()):
            return {key: one.rows(len(arrays[0])) for key, one in found.items()}
    return _expected_values(program, arrays, stored)


@np.errstate(all="ignore")
def _expected_values(program: KerasProgram, arrays: Arrays, stored: Format) -> dict[int, Expected]:
    graph = program.graph
    rng = np.random.default_rng(2)
    with program.apart(), in_float32(graph.layers()):
        native = _values(program, arrays)
    exact, reach = native, {key: unknown_reach(y, stored) for key, y in native.items()}
    # What int8 rounds, the factors of products, only operations show.
    only = program.by_operations or stored.results.steps
    for run in (_by_operations,) if only else (_by_layers, _by_operations):
        try:
            exact, moved = run(program, arrays, rng, stored)
        # A custom layer may refuse float64 in any way it likes.
        except Exception:  # noqa: BLE001
            continue
        reach = {key: stored.reach_factor * distance(moved[key], y) for key, y in exact.items()}
        break
    outputs = {id(value) for value in graph.outputs}
    means = (
        stored is FLOAT32 and program.work() <= LITTLE_WORK and np.shape(arrays[0])[:1] >= (MANY,)
    )
    return {
        key: Expected(
            native=y,
            exact=exact[key],
            reach=reach[key],
            output=key in outputs,
            means=means,
        )
        for key, y in native.items()
        if y.shape == exact[key].shape
    }


def _by_layers(
    program: KerasProgram, arrays: Arrays, rng: np.random.Generator, stored: Format
) -> tuple[Values, Values]:
    """Every value in float64, and moved as rounding might."""
    wide = [widen(array) for array in arrays]
    layers = program.graph.layers()
    with program.apart(), float64_run(layers):
        exact = _values(program, wide)
    with program.apart(), float64_run(layers, perturb=rng, stored=stored):
        near = [move_input(array, rng, stored) for array in wide]
        moved = _values(program, near, lambda node, x, y: move_results(node, x, y, rng, stored))
    return exact, moved


def _by_operations(
    program: KerasProgram, arrays: Arrays, rng: np.random.Generator, stored: Format
) -> tuple[Values, Values]:
    """The same where a layer knows float32 alone."""
    keys: list[int] = []

    def call(*tensors: Any) -> list[Any]:
        layers = program.graph.layers()
        with program.apart(), in_float32(layers), absorbing(layers):
            found = _collected(program, tensors)
        keys[:] = found
        return list(found.values())

    widened = Widened(call, program.layer_names())
    exact, moved = widened(arrays), widened(arrays, rng, stored)
    return dict(zip(keys, exact, strict=True)), dict(zip(keys, moved, strict=True))


def _values(program: KerasProgram, arrays: Arrays, after: After | None = None) -> Values:
    return {key: plain(y) for key, y in _collected(program, arrays, after).items()}


def _collected(
    program: KerasProgram, tensors: Sequence[Any], after: After | None = None
) -> dict[int, Any]:
    graph = program.graph
    found = {id(value): tensor for value, tensor in zip(graph.inputs, tensors, strict=True)}

    def collect(node: Node, given: list[Any], results: list[Any]) -> list[Any]:
        results = results if after is None else after(node, given, results)
        found.update(zip(map(id, node.outputs), results, strict=True))
        return results

    graph(*tensors, after=collect)
    return found
