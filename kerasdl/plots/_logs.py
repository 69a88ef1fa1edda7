"""What `fit` has written down, as arrays over the epochs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasdl._checks import require

Array = np.ndarray[Any, np.dtype[np.float64]]


class Logs:
    """The values of a training, by name, and the epochs they belong to.

    Attributes:
        values: One array per name.
        epochs: Of a whole series, counted from 1.

    Args:
        history: What `fit` returns, or its `history`: a dict of lists, one value per epoch.

    Raises:
        ValueError: It is something else.
    """

    def __init__(self, history: Any) -> None:
        logs = getattr(history, "history", history)
        require(
            isinstance(logs, Mapping),
            "history",
            type(history).__name__,
            "a History object or a dict of lists",
            "Pass what `model.fit` returns.",
        )
        self.values = {name: _series(name, values) for name, values in logs.items()}
        longest = max(map(len, self.values.values()), default=0)
        counted = getattr(history, "epoch", [])
        first = counted[0] + 1 if len(counted) == longest > 0 else 1
        self.epochs = np.arange(first, first + longest)

    def series(self, name: str) -> tuple[Array, Array]:
        """The epochs of one of the values, and the values.

        Raises:
            ValueError: It is shorter than the others, and not what `validation_freq=k` leaves.
        """
        values = self.values[name]
        if len(values) == len(self.epochs):
            return self.epochs, values
        candidates = [self.epochs[self.epochs % k == 0] for k in range(2, self.epochs[-1] + 1)]
        fitting = [epochs for epochs in candidates if len(epochs) == len(values)]
        require(
            len(values) > 0 and len(fitting) == 1,
            "history",
            f"{len(values)} values of {name!r} in {len(self.epochs)} epochs",
            "a history with one value per epoch, or one in every k-th",
            "Fill it up with NaN where there was no validation.",
        )
        return fitting[0], values

    def names(self) -> str:
        """All names, for a message."""
        return ", ".join(self.values) or "nothing"


def marker(values: Array) -> str | None:
    """Markers for a line with a point that stands alone, which would not be seen."""
    shown = np.pad(np.isfinite(values), 1)
    alone = shown[1:-1] & ~shown[:-2] & ~shown[2:]
    return "o" if alone.any() else None


def _series(name: str, values: Any) -> Array:
    series = np.asarray(values, dtype="float64")
    require(
        series.ndim == 1,
        "history",
        f"{name!r} with the shape {series.shape}",
        "lists with one number per epoch",
        "Average metrics that have one value per class.",
    )
    return series
