"""`kerasdl`: export, verify and inspect from a shell.

Exit codes: 0 done and verified, 2 usage or unreadable input, 3 not convertible, 4 parity failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from kerasdl_cli.quiet import quiet_start

CODES = "Exit codes: 0 verified, 2 usage or unreadable input, 3 not convertible, 4 parity failed."
PARITY_FAILED = 4

app = typer.Typer(
    name="kerasdl",
    help="Export Keras models to ONNX files that are verified before they exist.",
    epilog=CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
errors = Console(stderr=True)

Model = Annotated[
    Path,
    typer.Argument(help="A .keras file, a .h5 file or a SavedModel folder.", metavar="MODEL"),
]
Data = Annotated[
    Path | None,
    typer.Option(help="An .npz file with one array per model input, compared as well."),
]
Rtol = Annotated[
    float | None,
    typer.Option(help="Allowed error relative to the largest output; replaces the derived one."),
]
Atol = Annotated[
    float | None, typer.Option(help="Allowed absolute error; replaces the derived one.")
]
Unsafe = Annotated[
    bool,
    typer.Option("--unsafe", help="Also load a file that carries Python code, and run that code."),
]
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="Import a module with custom objects first."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


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
    epilog=f"Example: [bold]kerasdl export model.keras -o model.onnx[/bold]\n\n{CODES}",
)
def export(
    model: Model,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="The file to write.")
    ],
    opset: Annotated[int, typer.Option(help="ONNX operator set, 13 to 26.")] = 18,
    data: Data = None,
    rtol: Rtol = None,
    atol: Atol = None,
    unsafe: Unsafe = False,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Convert MODEL to ONNX, fold batch normalization, and write the file if it proves right.

    The file is compared with Keras in onnxruntime at batch sizes 1, 3 and 32, with the runtime's
    optimizations off and on. An existing file is replaced only by one that passed.
    """
    with _answering(as_json) as progress:
        from kerasdl import export as library

        report = library.to_onnx(
            model,
            output,
            opset=opset,
            data=data,
            rtol=rtol,
            atol=atol,
            unsafe=unsafe,
            imports=imports or (),
            progress=progress,
        )
    _print(report, as_json)


@app.command(
    epilog=f"Example: [bold]kerasdl verify model.keras model.onnx --data x.npz[/bold]\n\n{CODES}",
)
def verify(
    model: Model,
    file: Annotated[Path, typer.Argument(help="The ONNX file.", metavar="FILE.onnx")],
    data: Data = None,
    rtol: Rtol = None,
    atol: Atol = None,
    unsafe: Unsafe = False,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Compare FILE.onnx, whoever wrote it, with MODEL."""
    with _answering(as_json) as progress:
        from kerasdl import export as library

        report = library.verify(
            model,
            file,
            data=data,
            rtol=rtol,
            atol=atol,
            unsafe=unsafe,
            imports=imports or (),
            progress=progress,
        )
    _print(report, as_json)
    if not report.passed:
        raise typer.Exit(PARITY_FAILED)


@app.command(
    epilog="Example: [bold]kerasdl inspect model.keras[/bold]",
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
    with _answering(as_json):
        from kerasdl import export as library

        found = library.inspect(model, unsafe=unsafe, imports=imports or ())
    _print(found, as_json)


@contextmanager
def _answering(as_json: bool) -> Iterator[Callable[[str], None]]:
    """Show progress on standard error, and turn the library's errors into exit codes."""
    with errors.status("starting TensorFlow") as status:
        with quiet_start():
            from kerasdl.export import ExportError
        try:
            yield status.update
        except ExportError as error:
            status.stop()
            _fail(error, as_json)


def _fail(error: Any, as_json: bool) -> None:
    report = getattr(error, "report", None)
    if as_json:
        answer = {
            "error": type(error).__name__,
            "message": str(error),
            "layer": getattr(error, "layer", None),
            "exit_code": error.exit_code,
            "report": None if report is None else report.to_dict(),
        }
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    elif report is not None:
        typer.echo(report.to_text())
    typer.echo(f"Error: {error}", err=True)
    raise typer.Exit(error.exit_code)


def _print(answer: Any, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(answer.to_text())


def run() -> None:
    """The console script."""
    app()
