"""Options: what the commands take, checked before anything slow is imported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

SUFFIXES = (".html", ".json", ".txt")
PANEL = "The file"

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
    typer.Option(
        help="Allowed error of the outputs, relative to the largest; replaces the derived one."
    ),
]
Atol = Annotated[
    float | None,
    typer.Option(help="Allowed absolute error of the outputs; replaces the derived one."),
]
Layers = Annotated[
    bool, typer.Option("--layers", help="Also compare every Keras layer, and print the table.")
]
Unsafe = Annotated[
    bool,
    typer.Option("--unsafe", help="Also load a file that carries Python code, and run that code."),
]
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", metavar="MODULE", help="Import a module with custom objects first."),
]


def _check_suffix(file: Path | None) -> Path | None:
    """A usage error before anything is imported."""
    if file is not None and file.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"the file must end in one of {', '.join(SUFFIXES)}.")
    return file


ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        callback=_check_suffix,
        help="Also write the report, as its suffix says: .html, .json or .txt.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _pairs(given: list[str] | None) -> list[str] | None:
    """A usage error before anything is imported."""
    for pair in given or ():
        if "=" not in pair:
            raise typer.BadParameter(f"write NAME=VALUE. Received: {pair!r}.")
    names = [name for name, _ in split(given)]
    for name in names:
        if names.count(name) > 1:
            raise typer.BadParameter(f"give each name once. Received: {name!r} again.")
    return given


Precision = Annotated[
    str,
    typer.Option(help="float32, float16, bfloat16 or int8.", rich_help_panel=PANEL),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        help="For int8: an .npz file with data like those to come; fixes the ranges.",
        rich_help_panel=PANEL,
    ),
]
ChannelsFirst = Annotated[
    list[str] | None,
    typer.Option(metavar="INPUT", help="Take this input as NCHW.", rich_help_panel=PANEL),
]
Dimensions = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="AXIS=VALUE",
        callback=_pairs,
        help="Fix or name a free axis: batch=1, batch=N.",
        rich_help_panel=PANEL,
    ),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OLD=NEW",
        callback=_pairs,
        help="Name an input or output anew.",
        rich_help_panel=PANEL,
    ),
]
ExternalData = Annotated[
    bool,
    typer.Option(
        "--external-data",
        help="Put the weights into another file beside it; always done above 2 GB.",
        rich_help_panel=PANEL,
    ),
]


def split(pairs: list[str] | None) -> list[tuple[str, str]]:
    """NAME=VALUE; a name may hold the sign, a value may not."""
    return [(name, value) for name, _, value in (pair.rpartition("=") for pair in pairs or ())]


def extent(value: str) -> int | str:
    return int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else value
