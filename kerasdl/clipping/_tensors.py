"""Gradients made dense, and wide enough to compute with."""

from typing import Any

import keras
from keras import ops

from kerasdl.clipping._rows import Rows, is_sparse


def maths_dtype(dtype: Any) -> str:
    """Dtype to compute in: float32 for the short floats, else `dtype` itself.

    Args:
        dtype: Dtype of a variable or gradient, as a name or a backend's object.

    Returns:
        Name of the dtype.

    Example:

    >>> maths_dtype("bfloat16"), maths_dtype("float64")
    ('float32', 'float64')
    """
    name: str = keras.backend.standardize_dtype(dtype)
    short = name in {"float16", "bfloat16"} or name.startswith("float8")
    return "float32" if short else name


def widen(gradient: Any) -> Any:
    """The gradient as a dense tensor in its maths dtype.

    1. `tf.IndexedSlices`: rows with the same index are summed, in the maths dtype.
    2. `Rows`: as they are.
    3. Anything else that Keras can read as a tensor: cast.

    Args:
        gradient: Tensor, array, `tf.IndexedSlices` or `Rows`.

    Returns:
        Tensor of the variable's shape, or `Rows`.
    """
    if isinstance(gradient, Rows):
        return gradient
    if is_sparse(gradient):
        import tensorflow as tf

        return tf.convert_to_tensor(tf.cast(gradient, maths_dtype(gradient.dtype)))
    tensor = ops.convert_to_tensor(gradient)
    return ops.cast(tensor, maths_dtype(tensor.dtype))


def narrow(tensor: Any, gradient: Any) -> Any:
    """`tensor` cast back to the dtype of `gradient`, or to what the backend has for it."""
    if isinstance(tensor, Rows):
        return tensor
    given = gradient if is_sparse(gradient) else ops.convert_to_tensor(gradient)
    return ops.cast(tensor, given.dtype)


def shrink(tensor: Any, norm: Any, limit: float) -> Any:
    """`tensor`, scaled by limit/norm where norm > limit.

    An infinite or NaN norm gives NaN, so that a broken gradient is seen and not turned into
    zeros: `norm - norm` is 0 for every finite norm. Dividing first keeps the factor from
    underflowing when the norm is huge, and so do the quarters where XLA multiplies by 1/norm.
    """
    norm = ops.cast(norm, tensor.dtype)
    return ops.where(norm <= limit, tensor, tensor / (norm / 4) * (limit / 4) + (norm - norm))
