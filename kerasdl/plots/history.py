"""Loss curves."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from kerasdl._checks import require
from kerasdl.plots._axes import axes
from kerasdl.plots._logs import Logs, marker

RISING = ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "r2", "similarity")


def plot_history(
    history: Any,
    metrics: str | Sequence[str] = "loss",
    mode: Literal["auto", "min", "max"] = "auto",
    ax: Any = None,
) -> Any:
    """Draw values of a training over its epochs, and mark the best epoch.

    Training is drawn with a line, validation dashed in the same colour. The best epoch is
    that of the first metric: of its validation values, or of the training's if there are
    none. NaN leaves a gap, and is never the best.

    Args:
        history: What `fit` returns, or a dict with one list per name. A shorter list counts
            as what `validation_freq=k` leaves: one value in every k-th epoch, if one k fits.
        metrics: Name or names without `val_`. They share an axis, so let them have one unit.
            Default `"loss"`.
        mode: Whether `"min"` or `"max"` is best. Default `"auto"`, which takes the largest
            accuracy, AUC, precision, recall, F-score, IoU, R² and similarity, and the
            smallest of anything else.
        ax: Axes of matplotlib to draw on. Default None, those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: A name is not in the history, or an argument out of its set.
        ImportError: matplotlib is not installed.

    Example:

    >>> ax = plot_history({"loss": [0.9, 0.4, 0.2], "val_loss": [0.8, 0.5, 0.6]})
    >>> [line.get_label() for line in ax.lines]
    ['training', 'validation', 'best epoch 2 (0.5)']

    References:
        N0 (monitor and visualize the loss curve); Prechelt 1998, "Early Stopping - But When?".
    """
    logs = Logs(history)
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    known = [name for name in logs.values if not name.startswith("val_")]
    require(
        bool(names) and set(names) <= set(known),
        "metrics",
        metrics,
        f"among the values of the history ({', '.join(known) or 'none'})",
        "Names of validation values are found by themselves.",
    )
    require(
        mode in {"auto", "min", "max"},
        "mode",
        mode,
        '"auto", "min" or "max"',
        'Pass "max" for accuracies.',
    )
    ax = axes(ax)
    for name in names:
        prefix = "" if len(names) == 1 else f"{name}, "
        colour = None
        for key, label, style in ((name, "training", "-"), (f"val_{name}", "validation", "--")):
            if key in logs.values:
                epochs, values = logs.series(key)
                values = np.where(np.isfinite(values), values, np.nan)
                look = {"color": colour, "marker": marker(values), "markersize": 3}
                (line,) = ax.plot(epochs, values, style, label=prefix + label, **look)
                colour = line.get_color()
    _mark_best(ax, logs, names[0], mode)
    ax.set(xlabel="epoch", ylabel=", ".join(names), title="Training history")
    ax.legend()
    return ax


def _mark_best(ax: Any, logs: Logs, name: str, mode: str) -> None:
    validated = f"val_{name}" in logs.values
    epochs, values = logs.series(f"val_{name}" if validated else name)
    if not np.isfinite(values).any():
        return
    rising = mode == "max" or (mode == "auto" and any(part in name for part in RISING))
    worst = -np.inf if rising else np.inf
    finite = np.where(np.isfinite(values), values, worst)
    best = int(finite.argmax() if rising else finite.argmin())
    label = f"best epoch {epochs[best]} ({values[best]:.4g})"
    ax.axvline(epochs[best], color="grey", linestyle=":", label=label)
