"""Axes to draw on, and the colours of layers."""

from typing import Any

import numpy as np

from kerasdl._checks import require


def axes(ax: Any, width: float = 6.4, height: float = 4.0) -> Any:
    """`ax`, or the axes of a new figure of this size in inches.

    Raises:
        ValueError: `ax` is neither None nor axes.
        ImportError: matplotlib is not installed.
    """
    require(
        ax is None or hasattr(ax, "add_line"),
        "ax",
        type(ax).__name__,
        "None or one Axes object of matplotlib",
        "Pass `axes[0]` of `figure, axes = plt.subplots(1, 2)` for instance.",
    )
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ImportError(
            "kerasdl.plots needs matplotlib. Run: pip install 'kerasdl[plots]'"
        ) from error
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def colours(count: int) -> list[Any]:
    """One colour per layer, from dark to light as the data go through them."""
    import matplotlib as mpl

    return list(mpl.colormaps["viridis"](np.linspace(0.0, 0.9, count)))
