"""Channels: errors and rounding of a result, the largest per channel of its last axis."""

from __future__ import annotations

import numpy as np


def channel_noise(native: np.ndarray, exact: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """The largest rounding per channel; zero for what is not a float."""
    if not is_float(native):
        return np.zeros(1)
    unit = float(np.finfo(native.dtype).eps) / 2
    floor = np.maximum(unit * channel_maxima(native, exact), np.finfo(np.float32).tiny)
    own = channel_errors(native, native, exact)
    return np.maximum.reduce([floor, own, _per_channel(reach)])


def channel_errors(result: np.ndarray, native: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Largest |result − exact| per channel; infinite where no difference can be taken."""
    numeric = native.dtype.kind in "fiub"
    if result.shape != native.shape or (numeric and result.dtype != native.dtype):
        return np.full(1, np.inf)
    if not is_float(native):
        return np.full(1, np.count_nonzero(result.astype(str) != native.astype(str)), np.float64)
    odd = ~np.isfinite(native)
    if not np.array_equal(result[odd], native[odd], equal_nan=True):
        return np.full(1, np.inf)
    with np.errstate(invalid="ignore"):
        gaps = np.abs(result.astype(np.float64) - exact)
    # A NaN in the result must not pass as "not larger".
    gaps = np.where(odd, 0.0, np.where(np.isnan(gaps), np.inf, gaps))
    return _per_channel(gaps)


def channel_maxima(native: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Largest |exact| per channel, where Keras' result is finite."""
    if not is_float(native):
        return np.zeros(1)
    return _per_channel(np.where(np.isfinite(native), np.abs(exact), 0.0))


def _per_channel(values: np.ndarray) -> np.ndarray:
    if values.ndim < 2 or values.shape[-1] == 0:
        return np.full(1, np.max(values, initial=0.0))
    return np.max(values.reshape(-1, values.shape[-1]), axis=0, initial=0.0)


def is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"
