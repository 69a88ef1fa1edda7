"""Clipping of each gradient by its own norm."""

from collections.abc import Sequence
from typing import Any

from kerasdl._checks import is_real, require
from kerasdl.clipping._rows import mapped
from kerasdl.clipping._tensors import narrow, shrink, widen
from kerasdl.clipping.by_global_norm import global_norm


def clip_by_norm(gradients: Sequence[Any], norm: float) -> list[Any]:
    """Shrink each gradient until its own Euclidean norm is at most `norm`.

    gᵢ ← gᵢ · min(1, c/‖gᵢ‖)

    Each variable keeps its direction, but the step as a whole can turn. Typical values are
    0.1 to 5.

    Args:
        gradients: Tensors, arrays or `tf.IndexedSlices`; None entries are passed through.
        norm: Largest norm c of one gradient, in units of the gradient; positive.

    Returns:
        Dense gradients in the dtypes that came. A gradient with a NaN or infinite element
        becomes all NaN; the others are not touched by it.

    Raises:
        ValueError: `norm` is not positive.

    Example:

    >>> import numpy as np
    >>> clipped = clip_by_norm([np.array([0.0, 4.0]), np.array([0.5])], 2.0)
    >>> [np.asarray(g).tolist() for g in clipped]
    [[0.0, 2.0], [0.5]]

    References:
        N2 (cliffs), N4 (list); Pascanu et al. 2013.
    """
    require(is_real(norm) and norm > 0, "norm", norm, "positive", "Pass None to not clip.")
    return [None if g is None else _clip(g, norm) for g in gradients]


def _clip(gradient: Any, norm: float) -> Any:
    wide = widen(gradient)
    total = global_norm([wide])
    return narrow(mapped(wide, lambda x: shrink(x, total, norm)), gradient)
