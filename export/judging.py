"""Judging: the truth on random batches and on the user's data, and a file compared with it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .clock import Clock
from .errors import ConversionError, OptionError, SourceError, reason
from .files.ends import Ends
from .files.metadata import versions
from .files.runtime import RefusedError
from .formats import FLOAT32, Format
from .graphs.graph import layer_of
from .ports import Port, seen
from .programs import layouts
from .programs.confusions import biases_along_last
from .programs.program import KerasProgram, Program
from .reporting.report import Report, strain_of
from .verifying.checks import Check
from .verifying.clipping import furthest
from .verifying.diverging import check_layers, first_wrong
from .verifying.layers import LayerCheck
from .verifying.parity import Judge
from .verifying.samples import (
    EDGES,
    EXTENTS,
    Rows,
    data_rows,
    edge_rows,
    extents_of,
    has_free_axes,
    joined,
    load_data,
    random_rows,
    zero_rows,
)

Data = Mapping[str, Any] | str | os.PathLike[str]
OWN_PATH = re.compile(r"Load model from /proc/self/fd/\d+ failed:")
"""What onnxruntime says of a file without a name."""
LACKING = (
    ". It has not every operator for every type of numbers: compute in float32, or with whole "
    "numbers in int32 or int64."
)


def own_rows(program: Program, data: Data | None) -> list[Rows]:
    """The user's data, checked before the work begins."""
    if data is None:
        return []
    arrays = load_data(data) if isinstance(data, str | os.PathLike) else data
    return data_rows(arrays, program.inputs)


def add_truth(judge: Judge, own: Sequence[Rows], clock: Clock, *, random: bool = True) -> None:
    """The truth on random batches and on the user's data."""
    with clock.stage("reference", "running the model"):
        if random:
            _add_random(judge, optional=bool(own))
        try:
            judge.add(own)
        except Exception as error:
            raise OptionError(f"The model cannot be run on the data: {reason(error)}") from error


def _add_random(judge: Judge, optional: bool) -> None:
    """The first rows that the model can take, e.g. as indices."""
    program = judge.program
    for with_edges, last, rows in _choices(judge):
        try:
            judge.add(rows)
            if not last and any(y.size == 0 for truth in judge.truths for y in truth.native):
                raise ValueError("it gives nothing for so small extents")
            if with_edges:
                judge.edge_failure = None
            return
        except ConversionError:  # a layer remembers the batch before
            raise
        # Keras raises whatever the model's own code does on data it cannot take.
        except Exception as error:  # noqa: BLE001
            judge.clear()
            failure = error
            if with_edges:
                judge.edge_failure = reason(error)
    if not optional:
        advice = "Give it arrays that it can take with `data`"
        if has_free_axes(program):
            largest = max(map(max, EXTENTS))
            advice += f", or fix its free axes, which were tried up to {largest}, with `dimensions`"
        if layouts.is_lacking(failure):
            advice = layouts.ADVICE
        raise SourceError(
            f"Model `{program.name}` cannot be run on random data, nor on zeros: "
            f"{reason(failure)}. {advice}."
        ) from failure


def _choices(judge: Judge) -> Iterator[tuple[bool, bool, list[Rows]]]:
    """Random rows with edges or without them, for all extents of free axes; and zeros.

    Edges are for float32 alone, since shorter numbers are coarse where they are large.
    """
    program = judge.program
    tried = extents_of(program)
    for extents in tried:
        last = extents is tried[-1]
        random = random_rows(program, extents=extents, scaled=judge.stored is not FLOAT32)
        edges = edge_rows(program, extents=extents) if judge.stored is FLOAT32 else []
        if edges:
            yield True, last, joined(random, edges)
        yield False, last, random
    yield False, True, zero_rows(program)


def compare(report: Report, judge: Judge, file: Path, clock: Clock) -> None:
    """Fill in the comparisons.

    Raises:
        ConversionError: onnxruntime cannot run the file.
        OptionError: It has other inputs or outputs than the model.
    """
    with clock.stage("verify", "comparing"):
        try:
            report.checks = judge.compare(file, clock.progress)
        except RefusedError as error:
            raise _not_runnable(error, judge.program) from error
    with clock.stage("latency", "measuring the latency"):
        report.latency = judge.latency()
    report.tolerance = judge.tolerance
    report.float64_failure = judge.float64_failure
    if report.beyond_ranges:
        with clock.stage("layers", "looking for the range that is too small"):
            inputs = judge.telling(report.checks).inputs
            report.beyond = furthest(file, judge.program, inputs)
    note_confusions(report, judge.program)
    if judge.edge_failure is not None:
        report.notes.append(
            "random data was not joined by zeros, large numbers and ties, on which Keras stops: "
            + judge.edge_failure
        )


def note_confusions(report: Report, program: Program) -> None:
    """Say where Keras takes one axis for another, so that its own runs contradict each other."""
    if not isinstance(program, KerasProgram):
        return
    if program.confusions.turned and not program.confusions.weights:
        report.notes.append(
            "Keras takes the only row of a batch for a bias, and adds it along another axis than "
            "its own, which gives it other outputs than the same row in another batch; the file "
            "gives the same ones"
        )
    for rows in sorted(program.confusions.rows):
        report.notes.append(
            f"Keras takes a batch of {rows} rows for {rows} channels where this model adds one "
            "number per row, and gives it other outputs than the same rows in another batch; the "
            "file gives the same ones"
        )
    for layer in biases_along_last(program.graph):
        report.notes.append(
            f"Keras adds the bias of `{layer}` (channels_first) along the last axis, which has as "
            "many elements as there are channels, and in `predict` along the channels wherever "
            "TensorFlow fuses the two; take channels_last, or no bias"
        )


def is_confusion(note: str, layer: str | None) -> bool:
    """Whether a note says that Keras contradicts itself in a layer."""
    return note.startswith(f"Keras adds the bias of `{layer}`")


def as_seen(report: Report, judge: Judge) -> list[Port]:
    """The outputs with the shapes that the model's results have, where Keras says others.

    A free first axis need not be the batch's: a Reshape may have made more rows of it.
    """
    symbol = next((port.axes()[0][1] for port in report.inputs if port.shape), "")
    batches = [truth.batch for truth in judge.truths]
    return [
        seen(port, [truth.native[i].shape for truth in judge.truths], batches, symbol)
        for i, port in enumerate(report.outputs)
    ]


def shapes_are_seen(report: Report, judge: Judge) -> bool:
    """Whether the outputs have the shapes that the model's results have."""
    return [*map(str, as_seen(report, judge))] == [*map(str, report.outputs)]


def note_names(report: Report, names: Sequence[str]) -> None:
    """Say how the file calls the outputs, where it has other names than the model."""
    for port, name in zip(report.outputs, names, strict=True):
        if port.name != name:
            report.notes.append(f"output `{port.name}` of the model is `{name}` in the file")


def figures(report: Report) -> dict[str, Any]:
    """What a file says of its own parity: the largest error, and the one nearest to its bound."""
    worst = report.worst
    nearest = None
    if worst is not None:
        numbers = {"error": f"{worst.error:.1e}", "tolerance": f"{worst.tolerance:.1e}"}
        nearest = {"output": worst.output, **numbers}
    return {
        "max_error": f"{report.max_error:.1e}",
        "nearest_to_tolerance": nearest,
        "comparisons": len(report.checks),
    }


def look_at_layers(
    report: Report, judge: Judge, file: Path, clock: Clock, *, complete: bool = False
) -> Sequence[str]:
    """Where a wrong file begins to differ; and if asked to, every layer.

    Returns:
        The layers that are one piece in the file, and the first that is wrong; none if no piece is.
    """
    wrong = not report.passed and report.conclusive and not report.beyond_ranges
    if not (wrong or complete) or not isinstance(judge.program, KerasProgram):
        return ()
    with clock.stage("layers", "comparing layer by layer"):
        truth = judge.telling(report.checks)
        rows = judge.rows_like(truth)
        found = check_layers(
            judge.program,
            file,
            truth.inputs,
            judge.stored,
            rows=rows,
            complete=complete,
            right=_right_outputs(report, judge.program),
        )
    report.layers = found if complete else []
    return first_wrong(found) if wrong else ()


def _right_outputs(report: Report, program: Program) -> list[Check]:
    """Per output, the comparison nearest to its tolerance; none if any output is wrong."""
    derived = report.judged()
    if not derived.outputs_agree:
        return []
    usual = [check for check in derived.counting if check.data != EDGES]
    return [
        max((check for check in usual if check.output == port.name), key=strain_of)
        for port in program.outputs
    ]


def judge_by_constants(report: Report, program: Program, piece: Sequence[str]) -> Sequence[str]:
    """Take what the constants say into the table of layers and the piece that is wrong.

    Constants are compared where the graphs are the same, so nothing else is wrong than the layer of
    the first that is, at any of its calls, or one that is folded into it. A layer without weights
    has constants of its own, which may have taken up those of its neighbours.

    Args:
        report: The report.
        program: The model.
        piece: The layers that the search has found.

    Returns:
        Those of them that may be wrong, or the layer that is.
    """
    report.layers = _with_constants(report)
    wrong = () if report.constants is None else report.constants.wrong
    known = [constant for constant in wrong if constant.layer]
    learnt = [constant for constant in known if program.has_weights(str(constant.layer))]
    if report.passed or not known:
        return piece
    first = (learnt or known)[0]
    possible = {*program.calls_of(str(first.layer)), *first.folded, *(() if learnt else piece)}
    return [name for name in piece if name in possible] or [str(first.layer)]


def name_layer(report: Report, program: Program, piece: Sequence[str]) -> None:
    """Name the first layer of a piece that is wrong, and the others that may be it.

    Args:
        report: The report.
        program: The model.
        piece: Names of layers in the order in which they compute; none names nothing.
    """
    report.layer = next(iter(piece), None)
    calls = [] if report.layer is None else program.calls_of(report.layer)
    if len(calls) > 1 and calls[0] != report.layer:
        number = calls.index(str(report.layer)) + 1
        report.notes.append(f"`{report.layer}` is call {number} of layer `{calls[0]}`")
    if len(piece) > 1:
        names = ", ".join(f"`{name}`" for name in piece)
        report.notes.append(f"in the file {names} are one piece, and any of them may be wrong")


def _with_constants(report: Report) -> list[LayerCheck]:
    """The table of layers; where outputs tell nothing, those with wrong constants are wrong."""
    wrong = {constant.layer for constant in report.wrong_constants if report.outputs_agree}
    return [
        replace(check, passed=False) if check.layer in wrong else check for check in report.layers
    ]


def _not_runnable(error: RefusedError, program: Program) -> ConversionError:
    """onnxruntime names the node that it cannot run, and that lies in the scope of its layer."""
    text = OWN_PATH.sub("", str(error))
    names = program.layer_names()
    found = (layer_of(word, names) for word in re.split(r"[\s()']+", text))
    layer = next(filter(None, found), None) or _only_one(text, program)
    where = f"Layer `{layer}` cannot be converted: " if layer else ""
    advice = LACKING if "NOT_IMPLEMENTED" in text else ""
    return ConversionError(f"{where}onnxruntime cannot run the file: {text}{advice}", layer)


def _only_one(text: str, program: Program) -> str | None:
    """The layer called as the operator that cannot be run, if there is one: tf2onnx names what it
    makes of a loop, such as LSTM, after nothing."""
    kind = re.search(r"running (\w+) node", text)
    nodes = program.graph.nodes if isinstance(program, KerasProgram) and kind else []
    names = [node.name for node in nodes if kind and node.kind == kind[1]]
    return names[0] if len(names) == 1 else None


def report_on(
    model: Any, path: Any, program: Program, ends: Ends | None = None, stored: Format = FLOAT32
) -> Report:
    """What is known before anything has been done."""
    ends = ends or Ends()
    named = isinstance(model, str | os.PathLike)
    report = Report(
        source=os.fspath(model) if named else program.name,
        target=os.fspath(path),
        model=program.name,
        inputs=list(map(ends.in_file, program.inputs)),
        outputs=list(map(ends.in_file, program.outputs)),
        precision=stored.name,
        versions=versions(),
    )
    if isinstance(program, KerasProgram):
        report.operations_by_kind = Counter(node.kind for node in program.graph.nodes)
        if program.narrow:
            report.notes.append("bfloat16 layers compute in float32, on a CPU all that there is")
    else:
        report.notes.append("a SavedModel holds no Keras layers, so nothing was folded")
    return report
