"""Commands whose help flows, names no value for flags, and is cut off nowhere."""

from __future__ import annotations

import inspect
import shutil
from typing import Any

from typer.core import TyperCommand, TyperGroup

NARROW = 60
"""Columns below which tables would cut words off."""
LEAST = 38
"""Columns that the plain lines take."""


class Command(TyperCommand):
    """A command such as `export`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = _flowing(self.help)

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_values(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        columns = shutil.get_terminal_size().columns
        if columns < NARROW:
            self.rich_markup_mode = None  # plain lines instead of tables
            formatter.width = max(columns - 2, LEAST)
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """The command `kerasdl` itself."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_values(super().get_params(ctx))


def _flowing(text: str | None) -> str:
    """Paragraphs of one line each: where a line ends in the source means nothing."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _without_values(options: list[Any]) -> list[Any]:
    """A flag takes no value, so none is named."""
    for option in options:
        if getattr(option, "is_flag", False):
            option.metavar = ""
    return options
