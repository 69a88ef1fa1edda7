"""Clipping of each gradient by its norm per element."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from kerasdl._checks import is_real, require
from kerasdl.clipping._rows import Rows, mapped
from kerasdl.clipping._tensors import narrow, shrink, widen
from kerasdl.clipping.by_global_norm import global_norm


def clip_by_average_norm(gradients: Sequence[Any], norm: float) -> list[Any]:
    """Shrink each gradient until its norm per element is at most `norm`.

    gᵢ ← gᵢ · min(1, c/(‖gᵢ‖/nᵢ)), nᵢ the number of elements of gᵢ

    The divisor is nᵢ and not √nᵢ, as in TensorFlow's function of this name: the limit on
    the norm grows with the size of the variable. Typical values are 1e-4 to 1e-2.

    Args:
        gradients: Tensors, arrays or `tf.IndexedSlices`; None entries are passed through.
            For `tf.IndexedSlices` n counts all rows of the variable.
        norm: Largest average norm c, in units of the gradient; positive.

    Returns:
        Dense gradients in the dtypes that came. A gradient with a NaN or infinite element
        becomes all NaN.

    Raises:
        ValueError: `norm` is not positive.

    Example:

    >>> import numpy as np
    >>> np.asarray(clip_by_average_norm([np.array([0.0, 4.0])], 0.5)[0]).tolist()
    [0.0, 1.0]

    References:
        N4 (list of TensorFlow's clipping functions).
    """
    require(is_real(norm) and norm > 0, "norm", norm, "positive", "Pass None to not clip.")
    return [None if g is None else _clip(g, norm) for g in gradients]


def _clip(gradient: Any, norm: float) -> Any:
    wide = widen(gradient)
    size = wide.size if isinstance(wide, Rows) else ops.size(wide)
    average = global_norm([wide]) / ops.cast(ops.maximum(size, 1), wide.dtype)
    return narrow(mapped(wide, lambda x: shrink(x, average, norm)), gradient)
