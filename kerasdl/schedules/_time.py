"""The step as a tensor, and t/T without losing steps.

float32 holds every integer only up to 2²⁴ ≈ 1.7e7. Where the backend has float64, all of it
happens there (integers up to 2⁵³). Elsewhere an integer step stays an integer until the
whole multiples of T are taken off, so that stairs, boundaries and ends fall on their steps.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl import _wide


def rate_dtype(step: Any) -> str:
    """Dtype of the rates: float64 wherever the backend has it.

    Args:
        step: Number or tensor.

    Returns:
        "float64", or "float32" for JAX without its x64 mode, PyTorch on `mps` and other
        backends (Keras on NumPy narrows powers to float32).
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return "float64" if jax.config.jax_enable_x64 else "float32"
    if backend == "torch":
        value = getattr(step, "value", step)
        on_mps = getattr(getattr(value, "device", None), "type", "cpu") == "mps"
        return "float32" if on_mps else "float64"
    return "float64" if backend == "tensorflow" else "float32"


def time(step: Any) -> tuple[Any, str]:
    """The step as a tensor to compute with, and the dtype of the rates.

    The tensor is in the dtype of the rates, unless that is float32 and the step an integer.
    """
    dtype = rate_dtype(step)
    if dtype == "float64" and isinstance(step, (int, float)):
        return ops.convert_to_tensor(float(step), dtype), dtype
    t = ops.convert_to_tensor(step)
    return (t if dtype == "float32" and is_integer_tensor(t) else ops.cast(t, dtype)), dtype


def is_integer_tensor(t: Any) -> bool:
    """Whether the tensor holds integers."""
    return bool(np.issubdtype(_numpy_name(t), np.integer))


def as_integer(value: float, t: Any) -> Any:
    """⌊value⌋ as a tensor of the integer dtype of t, no larger than that dtype allows."""
    largest = int(np.iinfo(_numpy_name(t)).max)
    return ops.convert_to_tensor(min(math.floor(value), largest), t.dtype)


def periods(t: Any, length: float, dtype: str) -> tuple[Any, Any]:
    """⌊t/T⌋ and t/T − ⌊t/T⌋.

    Args:
        t: First result of `time`.
        length: T > 0.
        dtype: Of the results.
    """
    if is_integer_tensor(t) and float(length).is_integer():
        T = as_integer(length, t)
        whole = ops.floor_divide(t, T)
        return ops.cast(whole, dtype), ops.cast(t - whole * T, dtype) / length
    p = ops.cast(t, dtype) / length
    whole = _wide.floor(p)
    return whole, p - whole


def progress(t: Any, length: float, dtype: str, staircase: bool = False) -> Any:
    """t/T, or ⌊t/T⌋ with `staircase`."""
    if not staircase and not is_integer_tensor(t):
        return ops.cast(t, dtype) / length
    whole, share = periods(t, length, dtype)
    return whole if staircase else whole + share


def remaining(t: Any, length: float, dtype: str) -> Any:
    """1 − min(t/T, 1), as (T − t)/T: exact near the end, where 1 − t/T cancels."""
    if is_integer_tensor(t) and float(length).is_integer():
        T = as_integer(length, t)
        return ops.cast(T - ops.minimum(t, T), dtype) / length
    return _wide.maximum(length - ops.cast(t, dtype), 0.0) / length


def _numpy_name(t: Any) -> str:
    name: str = keras.backend.standardize_dtype(t.dtype)
    return "float32" if name in {"bfloat16"} else name
