"""Clipping of all gradients together by their common norm."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kerasdl._checks import is_real, require
from kerasdl.clipping._rows import mapped, values_of
from kerasdl.clipping._tensors import narrow, shrink, widen


def global_norm(gradients: Sequence[Any]) -> Any:
    """Euclidean norm of all gradients taken as one long vector.

    ‖g‖ = √(Σᵢ Σⱼ gᵢⱼ²), computed as a·√(Σᵢ Σⱼ (gᵢⱼ/a)²) with a = max |gᵢⱼ|, so that no
    square overflows.

    Use it as a metric too: a norm that jumps by orders of magnitude is a cliff of the loss.

    Args:
        gradients: Tensors, arrays or `tf.IndexedSlices`; None entries are skipped.

    Returns:
        Scalar tensor in the widest maths dtype of the gradients; 0 if there are none. NaN
        as soon as one element is NaN or infinite.

    Example:

    >>> import numpy as np
    >>> float(global_norm([np.array([3.0]), None, np.array([4.0])]))
    5.0

    References:
        N4 (list of clipping methods); Pascanu et al. 2013, "On the difficulty of training
        recurrent neural networks".
    """
    wide = [values_of(widen(g)) for g in gradients if g is not None]
    if not wide:
        return ops.zeros(())
    a = _largest(wide)
    # A quarter of a large a: XLA multiplies by 1/a, which must not underflow.
    a = ops.where(a > 1, a / 4, ops.where(a == 0, ops.ones_like(a), a))
    squares = [ops.sum(ops.square(g / ops.cast(a, g.dtype))) for g in wide]
    return a * ops.sqrt(sum(ops.cast(s, a.dtype) for s in squares))


def _largest(tensors: Sequence[Any]) -> Any:
    """Largest absolute value over all tensors, in their widest dtype."""
    largest = [ops.max(ops.abs(t), initial=0) for t in tensors]
    dtypes = {keras.backend.standardize_dtype(x.dtype) for x in largest}
    dtype = "float64" if "float64" in dtypes else "float32"
    return ops.max(ops.stack([ops.cast(x, dtype) for x in largest]))


def clip_by_global_norm(gradients: Sequence[Any], norm: float) -> list[Any]:
    """Shrink all gradients by one factor until their common norm is at most `norm`.

    gᵢ ← gᵢ · min(1, c/‖g‖), ‖g‖ the global norm

    The direction of the step is kept, which makes it the safest of the four. Typical values
    are 0.5 to 10; look at `global_norm` over a few hundred ordinary steps and take a little
    more.

    Args:
        gradients: Tensors, arrays or `tf.IndexedSlices`; None entries are passed through.
        norm: Largest global norm c, in units of the gradient; positive.

    Returns:
        Dense gradients in the dtypes that came. All NaN if one element is NaN or infinite.

    Raises:
        ValueError: `norm` is not positive.

    Example:

    >>> import numpy as np
    >>> clipped = clip_by_global_norm([np.array([3.0]), np.array([4.0])], 2.5)
    >>> [np.asarray(g).tolist() for g in clipped]
    [[1.5], [2.0]]

    References:
        N2 (cliffs), N4 (list); Pascanu et al. 2013.
    """
    require(is_real(norm) and norm > 0, "norm", norm, "positive", "Pass None to not clip.")
    wide = [None if g is None else widen(g) for g in gradients]
    total = global_norm(wide)
    return [
        None if w is None else narrow(mapped(w, lambda x: shrink(x, total, norm)), g)
        for w, g in zip(wide, gradients, strict=True)
    ]
