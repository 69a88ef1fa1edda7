"""The straight line from a model to a verified file.

source → convert (`conversion.py`) → tidy → serialize → verify → keep → report
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .alone import alone
from .clock import Clock
from .conversion import convert_program
from .converting.opset import check_opset
from .errors import ConversionError, OptionError, SourceError, TargetError
from .files.ends import Ends
from .files.metadata import is_careful, metadata, parity_entry
from .files.onnx_file import has_foreign_name
from .files.serialize import external_data as data_of
from .files.serialize import needs_external_data, serialize
from .files.write import PendingPair, check_target, pending
from .formats import FLOAT32, FORMATS, STATIC_INT8, Format, format_of
from .graphs.graph import layer_of
from .judging import (
    Data,
    add_truth,
    as_seen,
    compare,
    figures,
    is_confusion,
    judge_by_constants,
    look_at_layers,
    name_layer,
    note_names,
    own_rows,
    report_on,
    shapes_are_seen,
)
from .onnx_graphs.tidy import tidy
from .ports import Port, agreed
from .precisions.quantize import format_in, holds
from .programs.program import KerasProgram, Program
from .programs.source import open_source
from .reporting.parity_error import ParityError
from .reporting.report import NOT_WRITTEN, Report
from .verifying.checks import Tolerance
from .verifying.constants import check_constants, is_ours, other_version
from .verifying.parity import Judge

if TYPE_CHECKING:
    import keras
    import onnx_ir as ir

MOST_CALIBRATING = 4
"""Batches of the calibration on which the file is compared."""
NOTHING_STORED = {
    "bfloat16": "no matrix is large enough to be stored in bfloat16",
    "int8": "nothing is stored in int8, which is for products of weights in float32",
}
ADVICE = (
    "If the float32 file passes, {} is too coarse for the model on these data: try data like those "
    "that it is used on (`data`), more rows of `calibration`, or another precision."
)


@alone
def to_onnx(
    model: keras.Model | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    opset: int | None = None,
    precision: str = "float32",
    calibration: Data | None = None,
    channels_first: Sequence[str] = (),
    dimensions: Mapping[str, int | str] | None = None,
    rename: Mapping[str, str] | None = None,
    external_data: bool = False,
    data: Data | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    unsafe: bool = False,
    imports: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Export a model to ONNX, with batch normalization folded, and prove the file right.

    The file is written only after it agreed with Keras in onnxruntime: at batch sizes 1, 3 and
    32, with the runtime's optimizations off and on, within a tolerance derived from a float64
    run of the same model (`kerasdl.export.verifying.parity`). A file that stood at `path` stays
    untouched otherwise. The model itself is not changed, but do not call it from another thread
    meanwhile: its layers compute in float64 for a part of that time.

    Args:
        model: A built Keras model (Sequential, Functional or subclassed), or the path of a
            `.keras` file, a `.h5` file or a SavedModel folder.
        path: The ONNX file to write.
        opset: ONNX operator set, 13 to 26; without it 18, or the first later one that has all
            operators of the model (those of texts came with 20).
        precision: The numbers of the file (`kerasdl.export.formats`): `"float32"`; `"float16"`,
            of which only inputs and outputs are float32; `"bfloat16"`, in which matrices are
            stored, to be widened on loading; `"int8"` for the products of Dense, Conv and
            their like. The tolerance is derived from what that rounding does to the model.
        calibration: For int8: data like those to come, as in `data`. The ranges of what is
            multiplied are measured on them (static); otherwise in each batch (dynamic). The
            file is then compared on these data, not on random ones.
        channels_first: Inputs that the file is to take as (batch, channels, ...), where the
            model has the channels last.
        dimensions: Extents, or names, of free axes, by the name they have otherwise: `batch`,
            or `<input>_<axis>`.
        rename: New names of inputs and outputs, by their old ones.
        external_data: Whether the weights go to another file beside the target,
            `<target>.<hash>.data`; above 2 GB they always do.
        data: Arrays to compare on besides random ones: a mapping from input names, or the path
            of an `.npz` file.
        rtol: Allowed error, relative to the largest output; replaces the derived tolerance.
        atol: Allowed absolute error; replaces the derived tolerance.
        unsafe: Load a file even if it carries Python code, and run that code.
        imports: Modules to import first; they register custom objects.
        progress: Called with a line at each stage.

    Returns:
        The report: folds, comparisons, sizes.

    Raises:
        SourceError: The model cannot be read, was never built or has NaN weights.
        OptionError: An option or the data cannot be used.
        TargetError: The file cannot be written.
        ConversionError: A layer has no ONNX form.
        ParityError: ONNX and Keras disagree; nothing was written.

    Example:

    >>> import keras, tempfile, os
    >>> from kerasdl import export
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2),
    ...                           keras.layers.BatchNormalization(name="bn")], name="tiny")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export.to_onnx(model, os.path.join(folder, "model.onnx"))
    >>> report.passed, dict(report.nodes)
    (True, {'MatMul': 1, 'Add': 1})

    References: N4 (ONNX conversion), N2 (inference form of batch normalization).
    """
    clock = Clock(progress) if progress else Clock()
    tolerance = Tolerance.given(rtol, atol)
    stored = _format(precision, calibration)
    ends = Ends(
        {} if rename is None else rename, channels_first, {} if dimensions is None else dimensions
    )
    opset = check_opset(opset)
    target = check_target(path, model, data, calibration)
    if has_foreign_name(target):
        raise TargetError(f"{path} has the name of another format. Let it end in .onnx.")
    with clock.stage("source", "reading the model"):
        program = open_source(model, unsafe=unsafe, imports=imports)
    ends.check(program.inputs, program.outputs)
    _fix_extents(program, ends)
    own, calibrating = own_rows(program, data), own_rows(program, calibration)
    judge = Judge(program, tolerance, stored)

    def attempt(careful: bool) -> Report:
        report = once(careful)
        return report if shapes_are_seen(report, judge) else once(careful)

    def once(careful: bool) -> Report:
        """An attempt, which ends before the comparison if the outputs have other shapes."""
        calibration = [rows.arrays for rows in calibrating]
        made = convert_program(program, ends, stored, opset, calibration, clock, careful)
        report = report_on(model, path, program, ends, stored)
        report.folds, report.dropped = made.folds, made.dropped
        report.notes += [_lost(program, *each) for each in made.lost.items()]
        report.outputs = _agreed(report.outputs, made.model)
        report.outputs = as_seen(report, judge)
        noted = metadata(model, report.versions, made.folds, stored, ends, careful)
        tidy(made.model, program.name, report.inputs, report.outputs, noted)
        report.opset = made.model.opset_imports[""]
        report.nodes = Counter(node.op_type for node in made.model.graph)
        if not holds(made.model, stored):
            report.notes.append(NOTHING_STORED[stored.name])
        external = external_data or needs_external_data(made.model)
        with pending(target, external=external) as file:
            with clock.stage("write", "writing"):
                data = data_of(made.model)
                location = file.fill_data(data) if isinstance(file, PendingPair) else ""
                file.fill(serialize(made.model, location))
            report.size = file.size
            halves = made.halves
            del made, data  # and with them the folded weights
            if not judge.truths:
                judge.know(file.path)
                shown = own + calibrating[:MOST_CALIBRATING]
                add_truth(judge, shown, clock, random=not calibrating)
                if not shapes_are_seen(report, judge):
                    return report
            try:
                compare(report, judge, file.path, clock)
            except ConversionError:
                if careful:
                    raise
                return report
            if halves is not None and halves.too_large:
                report.notes.append("too large to be looked through for overflows of float16")
            elif report.passed and halves is not None:
                with clock.stage("verify", "looking for overflows"):
                    batches = [ends.arrays(program.inputs, x) for x in judge.different()]
                    names = [port.name for port in program.inputs]
                    halves.refuse_overflow(batches, names, program.layer_names())
            if report.passed:
                file.fill([parity_entry(figures(report))])
                report.size = file.size
                file.keep()
            elif careful or not _is_wrong(report):
                name_layer(report, program, look_at_layers(report, judge, file.path, clock))
        report.seconds = clock.seconds
        return report

    return _proved(attempt, path)


def _proved(attempt: Callable[[bool], Report], path: Any) -> Report:
    """The report of the first attempt that passes; the second is the careful one."""
    report = attempt(False)
    if not report.passed and _is_wrong(report):
        report = attempt(True)
    if not report.passed:
        report.notes.append(NOT_WRITTEN)
        raise ParityError(f"{_verdict(report)} {path} was not written.", report, report.layer)
    return report


def _is_wrong(report: Report) -> bool:
    """Whether the file is, and not only the bounds that were given too tight."""
    derived = report.judged()
    return not derived.passed and derived.conclusive and not derived.beyond_ranges


@alone
def verify(
    model: keras.Model | str | os.PathLike[str],
    onnx_path: str | os.PathLike[str],
    *,
    data: Data | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    layers: bool = False,
    unsafe: bool = False,
    imports: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare an ONNX file, whoever wrote it, with a model.

    Outputs are compared as in `to_onnx`. In a file that the same versions of kerasdl and of what
    it builds on have written, every constant is compared, too, with the one that the model gives
    (`kerasdl.export.verifying.constants`): a wrong weight is found even where it moves the outputs
    by less than rounding does. A tolerance of your own is about the outputs alone.

    Args:
        model: As in `to_onnx`.
        onnx_path: The ONNX file.
        data: As in `to_onnx`.
        rtol: As in `to_onnx`.
        atol: As in `to_onnx`.
        layers: Compare every Keras layer as well, for `report.layers`; of a SavedModel there are
            none.
        unsafe: As in `to_onnx`.
        imports: As in `to_onnx`.
        progress: As in `to_onnx`.

    Returns:
        The report; `report.passed` is the verdict, `report.layer` where a wrong file begins to
        differ.

    Raises:
        SourceError: The model or the ONNX file cannot be read.
        OptionError: An option or the data cannot be used, or the file has other inputs.

    Example:

    >>> import keras, tempfile, os
    >>> from kerasdl import export
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.onnx")
    ...     _ = export.to_onnx(model, path)
    ...     model.layers[0].bias.assign_add([0.0, 1.0])
    ...     export.verify(model, path).passed
    False

    References: N4 (ONNX conversion).
    """
    from .files.onnx_file import names_of_ends, read, size_of

    clock = Clock(progress) if progress else Clock()
    tolerance = Tolerance.given(rtol, atol)
    with clock.stage("source", "reading the model"):
        proto = read(onnx_path)
        program = open_source(model, unsafe=unsafe, imports=imports)
    noted = {entry.key: entry.value for entry in proto.metadata_props}
    inputs, outputs = names_of_ends(proto.graph)
    ends = Ends.of(noted, program.inputs, inputs).with_extents(program.inputs, proto.graph.input)
    _fix_extents(program, ends)
    own = own_rows(program, data)
    stored = format_in(proto)
    random = not stored.measured
    if not random and not own:
        raise OptionError(
            f"{onnx_path} has int8 numbers of ranges that were measured on data, and can be "
            "compared only on data like that. Give it with `data`."
        )
    report = report_on(model, onnx_path, program, ends, stored)
    report.opset = next((e.version for e in proto.opset_import if e.domain in {"", "ai.onnx"}), 0)
    report.nodes = Counter(node.op_type for node in proto.graph.node)
    report.size = size_of(Path(onnx_path), proto)
    del proto
    judge = Judge(program, tolerance, stored)
    judge.know(Path(onnx_path))
    add_truth(judge, own, clock, random=random)
    try:
        compare(report, judge, Path(onnx_path), clock)
    except ConversionError as error:
        cause = error.__cause__ or error
        raise SourceError(f"{onnx_path} does not run on the model's inputs: {cause}") from error
    note_names(report, ends.names(program.inputs, program.outputs, inputs, outputs)[1])
    piece = look_at_layers(report, judge, Path(onnx_path), clock, complete=layers)
    why = other_version(noted)
    if is_ours(noted) and why is not None:
        report.notes.append(f"constants were not compared one by one: {why}")
    elif is_ours(noted):
        # What it says of itself, since small matrices of a bfloat16 file are none.
        named = FORMATS.get(noted.get("precision", ""), stored)
        written = stored if stored.measured else named
        rows = [] if random else [each.arrays for each in own[:MOST_CALIBRATING]]
        report.constants = check_constants(
            program, Path(onnx_path), report.opset, ends, written, clock, is_careful(noted), rows
        )
        if report.constants is None:
            report.notes.append(
                "constants were not compared one by one: the model gives another graph than that "
                "of the file"
            )
        else:
            piece = judge_by_constants(report, program, piece)
    name_layer(report, program, piece)
    if layers and not isinstance(program, KerasProgram):
        report.notes.append("a SavedModel holds no Keras layers that could be compared one by one")
    report.seconds = clock.seconds
    return report


def _lost(program: Program, node: str, channels: int) -> str:
    layer = layer_of(node, program.layer_names())
    where = f"layer `{layer}`" if layer else f"the convolution `{node}`"
    return (
        f"int8 has one range for all channels of {where}, in which {channels} of them are zero; "
        "each has its own if ranges are measured (`calibration`)"
    )


def _agreed(outputs: Sequence[Port], model: ir.Model) -> list[Port]:
    """The outputs of a file, with the extents that the conversion has found."""
    found = []
    shapes = {value.name: value.shape for value in model.graph.outputs}
    for i, port in enumerate(outputs):
        shape = shapes[f"output_{i}"]
        sizes = None if shape is None else [s if isinstance(s, int) else None for s in shape]
        found.append(port if sizes is None else agreed(port, tuple(sizes)))
    return found


def _format(precision: str, calibration: Data | None) -> Format:
    stored = format_of(precision)
    if calibration is not None and stored.name != "int8":
        raise OptionError(
            f"`calibration` is for precision='int8'. Received: precision={precision!r}."
        )
    return stored if calibration is None else STATIC_INT8


def _fix_extents(program: Program, ends: Ends) -> None:
    program.inputs = list(map(ends.fixed, program.inputs))
    program.outputs = list(map(ends.fixed, program.outputs))


def _verdict(report: Report) -> str:
    if not report.conclusive:
        return f"Nothing can be told: {report.untold}."
    if report.beyond_ranges:
        return f"ONNX and Keras disagree: largest error {report.max_error:.3g}; {report.failure}."
    where = f" They begin to differ at layer `{report.layer}`." if report.layer else ""
    where += "".join(f" {note}." for note in report.notes if is_confusion(note, report.layer))
    advice = "" if report.precision == FLOAT32.name else f" {ADVICE.format(report.precision)}"
    error = f"largest error {report.max_error:.3g}"
    if math.isinf(report.max_error):
        error = "a shape, a type, or where numbers are infinite or NaN differs"
    return f"ONNX and Keras disagree: {error}.{where}{advice}"
