"""The straight line from a model to a verified file.

source → inference form → fold → convert → tidy → serialize → verify → keep → report
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .convert import convert, convert_graph
from .diverging import first_diverging_layer
from .errors import ConversionError, OptionError, ParityError, SourceError, reason
from .fold import Fold, fold
from .fold_onnx import fold_onnx
from .graph import Graph, layer_of
from .guards import guard
from .inference import drop_training_only
from .opset import DEFAULT_OPSET, LAST_OF_TF2ONNX, check_opset, raise_opset
from .parity import Judge, Tolerance
from .pin_shapes import pin_shapes
from .program import KerasProgram, Program
from .report import INCONCLUSIVE, Report
from .rewrites import rewrite
from .samples import Rows, data_rows, load_data, random_rows, zero_rows
from .serialize import serialize
from .source import open_source
from .tidy import tidy
from .trace import trace
from .write import check_target, pending

if TYPE_CHECKING:
    import keras
    import onnx_ir as ir

Data = Mapping[str, Any] | str | os.PathLike[str]
PACKAGES = ("kerasdl", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime")


@dataclass
class _Clock:
    """Names the stage that runs, and keeps its time."""

    progress: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, message: str) -> Iterator[None]:
        self.progress(message)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start


def to_onnx(
    model: keras.Model | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    opset: int = DEFAULT_OPSET,
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
    run of the same model (`kerasdl.export.parity`). A file that stood at `path` stays untouched
    otherwise. The model itself is not changed.

    Args:
        model: A built Keras model (Sequential, Functional or subclassed), or the path of a
            `.keras` file, a `.h5` file or a SavedModel folder.
        path: The ONNX file to write.
        opset: ONNX operator set, 13 to 26.
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
    clock = _Clock(progress or _silent)
    tolerance = _tolerance(rtol, atol)
    check_opset(opset)
    target = check_target(path, model)
    with clock.stage("source", "reading the model"):
        program = open_source(model, unsafe=unsafe, imports=imports)
    own = _own_rows(program, data)
    with clock.stage("fold", "folding"):
        graph, folds, dropped = _inference_graph(program)
    with clock.stage("convert", "converting"):
        converted = _convert(program, graph, min(opset, LAST_OF_TF2ONNX))
        if graph is not None:
            folds = fold_onnx(converted, graph, folds)
        guard(converted)
        raise_opset(converted, opset)
        tidy(converted, program.name, program.inputs, program.outputs, _metadata(folds))
    report = _report(model, path, program)
    report.folds, report.dropped = folds, dropped
    report.opset = converted.opset_imports[""]
    report.nodes = Counter(node.op_type for node in converted.graph)
    with pending(target) as file:
        with clock.stage("write", "writing"):
            file.fill(serialize(converted))
        report.size = file.size
        del graph, converted  # and with them the folded weights
        judge = _judge(program, own, tolerance, clock)
        _compare(report, judge, file.path, clock)
        if not report.passed:
            raise ParityError(f"{_verdict(report)} {path} was not written.", report, report.layer)
        file.keep()
    report.seconds = clock.seconds
    return report


def verify(
    model: keras.Model | str | os.PathLike[str],
    onnx_path: str | os.PathLike[str],
    *,
    data: Data | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    unsafe: bool = False,
    imports: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare an ONNX file, whoever wrote it, with a model.

    Args:
        model: As in `to_onnx`.
        onnx_path: The ONNX file.
        data: As in `to_onnx`.
        rtol: As in `to_onnx`.
        atol: As in `to_onnx`.
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
    from .onnx_file import read

    clock = _Clock(progress or _silent)
    tolerance = _tolerance(rtol, atol)
    with clock.stage("source", "reading the model"):
        proto = read(onnx_path)
        program = open_source(model, unsafe=unsafe, imports=imports)
    report = _report(model, onnx_path, program)
    report.opset = next((e.version for e in proto.opset_import if e.domain in {"", "ai.onnx"}), 0)
    report.nodes = Counter(node.op_type for node in proto.graph.node)
    report.size = Path(onnx_path).stat().st_size
    del proto
    judge = _judge(program, _own_rows(program, data), tolerance, clock)
    try:
        _compare(report, judge, Path(onnx_path), clock)
    except ConversionError as error:
        raise SourceError(f"{onnx_path} does not run on the model's inputs: {error}") from error
    report.seconds = clock.seconds
    return report


def plan(program: Program) -> tuple[list[Fold], list[str]]:
    """What `to_onnx` would do with each batch normalization, and which layers would leave."""
    _, folds, dropped = _inference_graph(program)
    return folds, dropped


def _silent(message: str) -> None:
    """No progress is shown."""


def _tolerance(rtol: float | None, atol: float | None) -> Tolerance | None:
    if rtol is None and atol is None:
        return None
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None and not isinstance(value, int | float):
            raise OptionError(f"`{name}` must be a number. Received: {name}={value!r}.")
    return Tolerance(rtol or 0.0, atol or 0.0)


def _own_rows(program: Program, data: Data | None) -> list[Rows]:
    """The user's data, checked before the work begins."""
    if data is None:
        return []
    arrays = load_data(data) if isinstance(data, str | os.PathLike) else data
    return data_rows(arrays, program.inputs)


def _judge(
    program: Program, own: Sequence[Rows], tolerance: Tolerance | None, clock: _Clock
) -> Judge:
    """The truth on random batches and on the user's data."""
    judge = Judge(program, tolerance)
    with clock.stage("reference", "running the model in float32 and float64"):
        _add_random(judge, optional=bool(own))
        try:
            judge.add(own, "data")
        except Exception as error:
            raise OptionError(f"The model cannot be run on the data: {reason(error)}") from error
    return judge


def _add_random(judge: Judge, optional: bool) -> None:
    """Random rows; zeros where the model cannot take those, e.g. as indices."""
    program = judge.program
    for rows in (random_rows, zero_rows):
        try:
            judge.add(rows(program), "random")
            return
        # Keras raises whatever the model's own code does on data it cannot take.
        except Exception as error:  # noqa: BLE001
            judge.truths.clear()
            failure = error
    if not optional:
        raise SourceError(
            f"Model `{program.name}` cannot be run on random data, nor on zeros: "
            f"{reason(failure)}. Give it arrays that it can take with `data`."
        ) from failure


def _inference_graph(program: Program) -> tuple[Graph | None, list[Fold], list[str]]:
    if not isinstance(program, KerasProgram):
        return None, [], []
    graph = trace(program.model)
    dropped = drop_training_only(graph)
    folds = fold(graph)
    graph.exact.clear()  # only folding needs them, and they are twice the weights
    rewrite(graph)
    pin_shapes(graph)
    return graph, folds, dropped


def _convert(program: Program, graph: Graph | None, opset: int) -> ir.Model:
    if graph is not None:
        return convert_graph(graph, opset)
    return convert(program, program.inputs, opset)


def _compare(report: Report, judge: Judge, file: Path, clock: _Clock) -> None:
    """Fill in the comparisons; on a mismatch, look for the layer."""
    program = judge.program
    with clock.stage("verify", "comparing"):
        try:
            report.checks = judge.compare(file, clock.progress)
        except OptionError:
            raise
        # onnxruntime has no exception class of its own.
        except Exception as error:
            raise _not_runnable(error, program) from error
    report.float64_failure = judge.float64_failure
    if not report.passed and report.conclusive and isinstance(program, KerasProgram):
        clock.progress("looking for the layer where it begins to differ")
        report.layer = first_diverging_layer(program, file, judge.truths[-1].inputs)


def _not_runnable(error: Exception, program: Program) -> ConversionError:
    """onnxruntime names the node that it cannot run, and that lies in the scope of its layer."""
    text = " ".join(str(error).split())
    nodes = program.graph.nodes if isinstance(program, KerasProgram) else []
    names = [node.name for node in nodes]
    found = (layer_of(word, names) for word in re.split(r"[\s()']+", text))
    layer = next(filter(None, found), None)
    where = f"Layer `{layer}` cannot be converted: " if layer else ""
    return ConversionError(f"{where}onnxruntime cannot run the file: {text}", layer)


def _verdict(report: Report) -> str:
    if not report.conclusive:
        return f"Nothing can be told: {INCONCLUSIVE}."
    where = f" They begin to differ at layer `{report.layer}`." if report.layer else ""
    return f"ONNX and Keras disagree: largest error {report.max_error:.3g}.{where}"


def _metadata(folds: Sequence[Fold]) -> dict[str, str]:
    return {
        "keras_version": _version("keras"),
        "tf2onnx_version": _version("tf2onnx"),
        "batch_normalization": json.dumps([str(entry) for entry in folds]),
    }


def _report(model: Any, path: Any, program: Program) -> Report:
    named = isinstance(model, str | os.PathLike)
    report = Report(
        source=os.fspath(model) if named else program.name,
        target=os.fspath(path),
        model=program.name,
        inputs=list(program.inputs),
        outputs=list(program.outputs),
        versions={name: _version(name) for name in PACKAGES},
    )
    if isinstance(program, KerasProgram):
        report.operations = len(program.graph.nodes)
    else:
        report.notes.append("a SavedModel holds no Keras layers, so nothing was folded")
    return report


def _version(package: str) -> str:
    # Not the metadata of the distribution: TensorFlow comes under several names.
    return str(import_module(package).__version__)
