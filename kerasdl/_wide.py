"""Functions that leave float64 as it is; Keras' own make it float32 outside of TensorFlow."""

from typing import Any

import keras
from keras import ops


def maximum(x: Any, y: Any) -> Any:
    """The larger of two tensors, element by element; NaN where one of them is, unless in XLA."""
    if keras.backend.backend() == "tensorflow":
        return ops.maximum(x, y)
    return ops.where((x > y) | (x != x), x, y)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of two tensors, element by element; NaN where one of them is, unless in XLA."""
    if keras.backend.backend() == "tensorflow":
        return ops.minimum(x, y)
    return ops.where((x < y) | (x != x), x, y)


def floor(x: Any) -> Any:
    """⌊x⌋ of a tensor of floats."""
    near = ops.round(x)
    return ops.where(near > x, near - 1, near)


def sin(x: Any) -> Any:
    """sin x of a tensor of floats."""
    if keras.backend.backend() != "jax":
        return ops.sin(x)
    import jax.numpy as jnp

    return jnp.sin(x)
