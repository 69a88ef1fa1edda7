"""The learning rate, where a callback sets it."""

from typing import Any

import keras
from keras import ops

from kerasdl._checks import is_real, require


def require_number(optimizer: Any, callback: Any) -> None:
    """Raise ValueError if the rate is a schedule or a function, which cannot be set."""
    for each in getattr(optimizer, "optimizers", [optimizer]):
        if not isinstance(each.learning_rate, keras.Variable):
            raise ValueError(
                f"`learning_rate` of the optimizer must be a number when "
                f"{type(callback).__name__} is used. Received: learning_rate=<a schedule or "
                "function>. Pass a float to the optimizer, or leave the callback out."
            )


def rate(optimizer: Any) -> float:
    """The present learning rate, also of a schedule."""
    return float(ops.convert_to_numpy(optimizer.learning_rate))


def require_reduction(factor: Any, min_lr: Any) -> None:
    """Raise ValueError unless η ← max(factor · η, min_lr) reduces."""
    require(
        is_real(factor) and 0 < factor < 1,
        "factor",
        factor,
        "in (0, 1)",
        "Typical values are 0.1 to 0.5.",
    )
    require(
        is_real(min_lr) and min_lr >= 0,
        "min_lr",
        min_lr,
        "non-negative",
        "Pass 0.0 for no floor.",
    )
