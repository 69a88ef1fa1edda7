"""What a command says: its answer, progress, errors and exit code.

The answer goes to standard output, as text or as one JSON document; all else to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from kerasdl_cli.quiet import quiet_start
from kerasdl_cli.streams import can_write, give_up

UNUSABLE, PARITY_FAILED = 2, 4

errors = Console(stderr=True)


@contextmanager
def answering(as_json: bool, report_file: Path | None = None) -> Iterator[Callable[[str], None]]:
    """Show progress on standard error, and turn the library's errors into exit codes."""
    # To anything but a terminal, rich would write and might fail where there is nothing to show.
    console = errors if errors.is_terminal else Console(quiet=True)
    with console.status("starting TensorFlow") as status:
        with quiet_start():
            from kerasdl.export import ExportError
        try:
            # What a module of `--import` prints is no part of the answer.
            with redirect_stdout(sys.stderr) if as_json else nullcontext():
                yield status.update
        except ExportError as error:
            status.stop()
            _fail(error, as_json, report_file)


def check_report_target(report_file: Path | None, *others: Path | None) -> None:
    """Find out before the work begins whether the report can be written."""
    from kerasdl.export.files.write import check_target

    if report_file is not None:
        check_target(report_file, *others)


def conclude(report: Any, as_json: bool, report_file: Path | None) -> None:
    """Print and write a report, and let the exit code be its verdict."""
    try:
        show(report, as_json, UNUSABLE if report.passed else PARITY_FAILED)
    finally:  # a pipe may be closed
        _save(report, report_file)
    if not report.passed:
        raise typer.Exit(PARITY_FAILED)


def show(answer: Any, as_json: bool, code: int = UNUSABLE) -> None:
    """Print a report or a description; if that cannot be, exit with this code."""
    _answer(_json(answer.to_dict()) if as_json else answer.to_text(), code)


def complain(message: object) -> None:
    """Say what went wrong on standard error."""
    try:
        typer.echo(f"Error: {message}", err=True)
    except OSError:
        give_up(sys.stderr)  # there is nobody left to tell; the exit code says it


def _fail(error: Any, as_json: bool, report_file: Path | None) -> None:
    report = getattr(error, "report", None)
    try:
        _tell(error, report, as_json)
    finally:
        if report is not None:
            _save(report, report_file)
    raise typer.Exit(error.exit_code)


def _tell(error: Any, report: Any, as_json: bool) -> None:
    code = error.exit_code
    if as_json:
        answer = {
            "error": type(error).__name__,
            "message": str(error),
            "layer": getattr(error, "layer", None),
            "exit_code": code,
        }
        _answer(_json(answer if report is None else report.to_dict() | answer), code)
    elif report is not None:
        _answer(report.to_text(), code)
    complain(error)


def _save(report: Any, report_file: Path | None) -> None:
    """Write the report; that it cannot be written is no reason to hide a failed parity."""
    from kerasdl.export import TargetError

    try:
        if report_file is not None:
            report.save(report_file)
    except TargetError as error:
        complain(error)
        raise typer.Exit(error.exit_code if report.passed else PARITY_FAILED) from error


def _json(data: Any) -> str:
    """In ASCII where the standard output has not all of the characters: JSON can escape them."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    if can_write(text, sys.stdout):
        return text
    return json.dumps(data, indent=2, allow_nan=False)


def _answer(text: str, code: int) -> None:
    """Print to standard output; if that cannot be, exit with this code."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise  # whoever reads has enough, and typer knows what to do
    except OSError as error:
        give_up(sys.stdout)
        complain(f"the standard output cannot be written: {error.strerror or error}.")
        raise typer.Exit(code) from error
