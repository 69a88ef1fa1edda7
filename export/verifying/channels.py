"""Channels: errors and rounding of a result, the largest per channel of its last axis."""

from __future__ import annotations

import math

import numpy as np


def channel_noise(native: np.ndarray, exact: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """The largest rounding per channel; zero for what is not a float."""
    if not is_float(native):
        return np.zeros(1)
    own = channel_errors(native, native, exact)
    return np.maximum.reduce([_unit(native, exact), own, channel_tops(reach)])


def channel_spread(native: np.ndarray, exact: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """The root mean square of the rounding of floats, per channel."""
    own = channel_means(element_errors(native, native, exact))
    return np.maximum.reduce([_unit(native, exact), own, channel_means(reach)])


def _unit(native: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Half an ulp of the largest number of each channel."""
    share = float(np.finfo(native.dtype).eps) / 2
    return np.maximum(share * channel_maxima(native, exact), np.finfo(np.float32).tiny)


def flips(native: np.ndarray, exact: np.ndarray, reach: np.ndarray) -> float:
    """The share of numbers that are no floats which rounding has made others: an argmax between
    two that are nearly equal, a number that is rounded at a half."""
    if is_float(native) or not native.shape == exact.shape == reach.shape or not native.size:
        return 0.0
    return float(max(np.mean(_plain(native) != _plain(exact)), np.mean(reach > 0)))


def channel_means(values: np.ndarray) -> np.ndarray:
    """The root mean square per channel."""
    if values.size == 0:
        return np.zeros(1)
    rows = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
    means: np.ndarray = np.sqrt(np.mean(np.square(rows), axis=0))
    return means


def channel_errors(result: np.ndarray, native: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Largest |result − exact| per channel; infinite where no difference can be taken."""
    if not _comparable(result, native):
        return np.full(1, np.inf)
    errors = element_errors(result, native, exact)
    return channel_tops(errors) if is_float(native) else np.full(1, errors.sum())


def element_errors(result: np.ndarray, native: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|result − exact| of each number; 0 or 1 for what is no float, but equal or not."""
    if not _comparable(result, native):
        return np.full(native.shape, np.inf)
    if not is_float(native):
        return (_plain(result) != _plain(native)).astype(np.float64)
    odd = ~np.isfinite(native)
    same = (result == native) | (np.isnan(result) & np.isnan(native))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(result.astype(np.float64) - exact)
    # A NaN in the result must not pass as "not larger".
    gaps = np.where(np.isnan(gaps), np.inf, gaps)
    return np.where(odd, np.where(same, 0.0, np.inf), gaps)


def _plain(array: np.ndarray) -> np.ndarray:
    """Strings as str: TensorFlow gives bytes, onnxruntime not."""
    if array.dtype.kind != "O":
        return array
    texts = [
        text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        for text in array.flat
    ]
    return np.array(texts, object).reshape(array.shape)


def _comparable(result: np.ndarray, native: np.ndarray) -> bool:
    numeric = native.dtype.kind in "fiub"
    return result.shape == native.shape and not (numeric and result.dtype != native.dtype)


def channel_maxima(native: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Largest |exact| per channel, where Keras' result is finite."""
    if not is_float(native):
        return np.zeros(1)
    return channel_tops(np.where(np.isfinite(native), np.abs(exact), 0.0))


def channel_tops(values: np.ndarray) -> np.ndarray:
    """The largest per channel."""
    if values.ndim < 2 or values.shape[-1] == 0:
        return np.full(1, np.max(values, initial=0.0))
    return np.max(values.reshape(-1, values.shape[-1]), axis=0, initial=0.0)


def per_row(array: np.ndarray) -> np.ndarray:
    """The rows of a batch as columns, so that each is a channel."""
    if array.ndim == 0:
        return array.reshape(1, 1)
    return array.reshape(len(array), math.prod(array.shape[1:])).T


def is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"
