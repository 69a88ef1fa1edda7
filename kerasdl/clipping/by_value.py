"""Clipping of each element of the gradients."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from kerasdl._checks import is_real, require
from kerasdl.clipping._rows import mapped
from kerasdl.clipping._tensors import narrow, widen


def clip_by_value(gradients: Sequence[Any], value: float) -> list[Any]:
    """Limit every element of every gradient to [−value, value].

    g ← min(max(g, −c), c), element by element

    It turns the step towards the diagonal; prefer a norm unless single elements explode.
    Typical values are 0.1 to 5.

    Args:
        gradients: Tensors, arrays or `tf.IndexedSlices`; None entries are passed through.
        value: Largest absolute value c, in units of the gradient; positive.

    Returns:
        Dense gradients in the dtypes that came. A NaN stays NaN; ±∞ becomes ±c.

    Raises:
        ValueError: `value` is not positive.

    Example:

    >>> import numpy as np
    >>> np.asarray(clip_by_value([np.array([-3.0, 0.5, 4.0])], 1.0)[0]).tolist()
    [-1.0, 0.5, 1.0]

    References:
        N2 (cliffs), N4 (list); Mikolov 2012.
    """
    require(is_real(value) and value > 0, "value", value, "positive", "Pass None to not clip.")
    return [None if g is None else _clip(g, value) for g in gradients]


def _clip(gradient: Any, value: float) -> Any:
    return narrow(mapped(widen(gradient), lambda x: _limit(x, value)), gradient)


def _limit(g: Any, c: float) -> Any:
    # Comparisons with NaN are false, so NaN passes; `ops.clip` leaves that to the backend.
    low, high = -c * ops.ones_like(g), c * ops.ones_like(g)
    return ops.where(g > c, high, ops.where(g < -c, low, g))
