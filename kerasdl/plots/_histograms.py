"""Histograms of many arrays above each other, one row for each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasdl._checks import require
from kerasdl.plots._axes import axes, colours

Array = np.ndarray[Any, np.dtype[np.float64]]

MOST_BINS = 60
ROW = 0.8
SAME = 1e-9
"""Values that differ by less than so much of their size are one value."""


def draw_rows(ax: Any, rows: Sequence[tuple[str, Array]], unit: str, title: str) -> Any:
    """Draw the rows, the first at the top, with the spread of each beside its name."""
    ax = axes(ax, height=1.2 + 0.5 * len(rows))
    for index, ((_, values), colour) in enumerate(zip(rows, colours(len(rows)), strict=True)):
        _draw(ax, values[np.isfinite(values)], len(rows) - 1 - index, colour)
    labels = [_label(name, values) for name, values in rows]
    ax.set_yticks(np.arange(len(rows))[::-1], labels)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set(xlabel=unit, ylabel="layer", title=title)
    return ax


def _draw(ax: Any, values: Array, position: int, colour: Any) -> None:
    if not values.size:
        return
    base = position - ROW / 2
    low, high = values.min(), values.max()
    if high - low <= SAME * max(abs(low), abs(high)):
        ax.plot([low, low], [base, base + ROW], color=colour, linewidth=2)
        return
    counts, edges = np.histogram(values, bins=min(MOST_BINS, math.isqrt(values.size) + 1))
    heights = base + ROW * counts / counts.max()
    ax.stairs(heights, edges, baseline=base, fill=True, color=colour)


def _label(name: str, values: Array) -> str:
    finite = values[np.isfinite(values)]
    missing = len(values) - len(finite)
    spread = f"σ = {_spread(finite):.2g}" if finite.size else "no value"
    return f"{name}\n{spread}" + (f", {missing} not finite" if missing else "")


def _spread(values: Array) -> float:
    size = float(np.abs(values).max())
    return size * float(np.std(values / size)) if size > 0 else 0.0


def require_rows(rows: Sequence[Any], model: Any, what: str) -> None:
    """Raise ValueError if there is nothing to draw."""
    require(
        bool(rows),
        "model",
        getattr(model, "name", type(model).__name__),
        f"a Keras model with {what}",
        "Build it first, or pass another one.",
    )
