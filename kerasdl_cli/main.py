"""`kerasdl`: export, verify, judge and inspect from a shell.

Exit codes: 0 done and verified, 2 usage or unreadable input, 3 not convertible, 4 parity failed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from kerasdl_cli.answering import UNUSABLE, answering, check_report_target, complain, conclude, show
from kerasdl_cli.helping import Command, Group
from kerasdl_cli.options import (
    PANEL,
    Atol,
    Calibrate,
    ChannelsFirst,
    Data,
    Dimensions,
    ExternalData,
    Imports,
    Json,
    Layers,
    Model,
    Precision,
    Rename,
    ReportFile,
    Rtol,
    Unsafe,
    extent,
    split,
)
from kerasdl_cli.streams import give_up, ready_streams

CODES = "Exit codes: 0 verified, 2 usage or unreadable input, 3 not convertible, 4 parity failed."
CODES_OF_JUDGE = "Exit codes: 0 verified, 2 usage or unreadable input, 4 parity failed."
CODES_OF_INSPECT = "Exit codes: 0 done, 2 usage or unreadable input, 3 not convertible."
WANTED = "Give a .json file that `--report` or `--json` wrote."

app = typer.Typer(
    name="kerasdl",
    cls=Group,
    help="Export Keras models to ONNX files that are verified before they exist.",
    epilog=CODES,
    context_settings={"help_option_names": ["--help", "-h"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        # Read from the file: importing the package would import TensorFlow.
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(version("kerasdl"))
        except PackageNotFoundError:
            typer.echo("not installed")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command(
    cls=Command,
    epilog=f"Example: kerasdl export model.keras -o model.onnx\n\n{CODES}",
)
def export(
    model: Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="The file to write.")
    ],
    opset: Annotated[
        int | None,
        typer.Option(
            help="ONNX operator set, 13 to 26. Without it: 18, or later where the model needs it.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    precision: Precision = "float32",
    calibrate: Calibrate = None,
    channels_first: ChannelsFirst = None,
    dimensions: Dimensions = None,
    rename: Rename = None,
    external_data: ExternalData = False,
    data: Data = None,
    rtol: Rtol = None,
    atol: Atol = None,
    unsafe: Unsafe = False,
    imports: Imports = None,
    report_file: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Convert MODEL to ONNX, fold batch normalization, and write the file if it proves right.

    The file is compared with Keras in onnxruntime at batch sizes 1, 3 and 32, with the runtime's
    optimizations off and on. An existing file is replaced only by one that passed.
    """
    with answering(as_json, report_file) as progress:
        from kerasdl import export as library

        check_report_target(report_file, model, output, data, calibrate)
        report = library.to_onnx(
            model,
            output,
            opset=opset,
            precision=precision,
            calibration=calibrate,
            channels_first=channels_first or (),
            dimensions={axis: extent(value) for axis, value in split(dimensions)},
            rename=dict(split(rename)),
            external_data=external_data,
            data=data,
            rtol=rtol,
            atol=atol,
            unsafe=unsafe,
            imports=imports or (),
            progress=progress,
        )
    conclude(report, as_json, report_file)


@app.command(
    cls=Command,
    epilog=f"Example: kerasdl verify model.keras model.onnx --data x.npz\n\n{CODES}",
)
def verify(
    model: Model,
    file: Annotated[Path, typer.Argument(help="The ONNX file.", metavar="FILE.onnx")],
    data: Data = None,
    rtol: Rtol = None,
    atol: Atol = None,
    layers: Layers = False,
    unsafe: Unsafe = False,
    imports: Imports = None,
    report_file: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Compare FILE.onnx, whoever wrote it, with MODEL.

    The outputs are compared, and in a file that this version of kerasdl wrote, the constants.

    --rtol and --atol are about the outputs: with them, wrong constants are shown, but do not count.
    On edges, which random data leaves out (zeros, empty and odd strings, large numbers, ties), what
    is given or what is derived is allowed, whichever is larger.
    """
    with answering(as_json) as progress:
        from kerasdl import export as library

        check_report_target(report_file, model, file, data)
        report = library.verify(
            model,
            file,
            data=data,
            rtol=rtol,
            atol=atol,
            layers=layers,
            unsafe=unsafe,
            imports=imports or (),
            progress=progress,
        )
    conclude(report, as_json, report_file)


@app.command(
    cls=Command,
    epilog=f"Example: kerasdl judge report.json --rtol 1e-3\n\n{CODES_OF_JUDGE}",
)
def judge(
    file: Annotated[Path, typer.Argument(help="A report, written as JSON.", metavar="REPORT.json")],
    rtol: Rtol = None,
    atol: Atol = None,
    report_file: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Judge the comparisons of a report under other bounds, without model or ONNX file.

    Without --rtol and --atol the tolerance that was derived from the model is back.
    """
    with answering(as_json):
        check_report_target(report_file)
        report = _loaded(file).judged(rtol, atol)
        _tell_what_was_written(report)
    conclude(report, as_json, report_file)


@app.command(
    cls=Command,
    epilog=f"Example: kerasdl inspect model.keras\n\n{CODES_OF_INSPECT}",
)
def inspect(
    model: Annotated[
        Path,
        typer.Argument(
            help="A .keras, .h5 or .onnx file or a SavedModel folder.",
            metavar="MODEL_OR_ONNX",
        ),
    ],
    unsafe: Unsafe = False,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Describe a model or an ONNX file, and where each batch normalization would go."""
    with answering(as_json):
        from kerasdl import export as library

        found = library.inspect(model, unsafe=unsafe, imports=imports or ())
    show(found, as_json)


def _loaded(file: Path) -> Any:
    """The report in a file, which must be one that can be judged."""
    from kerasdl.export import Report, SourceError

    if not os.path.exists(file):
        raise SourceError(f"{file} does not exist. {WANTED}")
    if file.is_dir():
        raise SourceError(f"{file} is a folder. {WANTED}")
    try:
        report = Report.load(file)
    except SourceError as error:
        if _is_no_json(error):
            raise SourceError(f"{file} is no report of kerasdl. {WANTED}") from error
        raise
    if not report.checks:
        raise SourceError(f"{file} holds no comparisons that could be judged. {WANTED}")
    return report


def _is_no_json(error: BaseException | None) -> bool:
    """Whether a report cannot be read from its first character on."""
    while error is not None:
        if isinstance(error, json.JSONDecodeError):
            return error.pos == 0
        if isinstance(error, UnicodeDecodeError):
            return True
        error = error.__cause__
    return False


def _tell_what_was_written(report: Any) -> None:
    """What a failed export did not write is not there, whatever the numbers say now."""
    from kerasdl.export.reporting.report import NOT_WRITTEN

    told = f"{NOT_WRITTEN} by that export"
    if report.passed:
        told += f"; to have it, export it again {_bounds(report.tolerance)}"
    report.notes = [told if note.startswith(NOT_WRITTEN) else note for note in report.notes]


def _bounds(given: Any) -> str:
    if given is None:
        return "without --rtol and --atol"
    relative = f"--rtol {given.rtol!r}" if given.rtol else ""
    absolute = f"--atol {given.atol!r}" if given.atol or not given.rtol else ""
    return f"with {' '.join(filter(None, (relative, absolute)))}"


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def run() -> None:
    """The console script."""
    ready_streams()
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)  # so that what was begun is cleared away
    # TensorFlow's variables do not know NumPy 2's `copy` yet; `python -W error` must not stop us.
    warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword")
    try:
        app()
    except OSError as error:  # the help or the version, on a full disk
        give_up(sys.stdout)
        complain(f"{error.strerror or error}.")
        sys.exit(UNUSABLE)
