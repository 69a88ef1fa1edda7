"""Exact: variables of float32 whose values are known in float64.

Beside the variable, which has v rounded to float32, the rest v − round(v) is kept, in float32 too:
half of what v takes, and to 2⁻⁴⁸ of v the same. Where v is too large or too small for that, it is
kept itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

LEAST = 2.0**-100
"""Of smaller numbers float32 does not hold the rest."""


class Exact(Mapping[int, tuple[Any, np.ndarray]]):
    """Variables and their values in float64, by the id of the variable."""

    def __init__(self) -> None:
        self._rests: dict[int, tuple[Any, np.ndarray]] = {}

    def assign(self, variable: Any, value: np.ndarray) -> None:
        """Give a variable its value, rounded once."""
        rest = value
        if variable.dtype == "float32":
            with np.errstate(over="ignore"):  # the rounded value may be infinite, and says so
                rounded = value.astype(np.float32)
            if _has_rest(value, rounded):
                rest = (value - rounded).astype(np.float32)
            value = rounded
        variable.assign(value)
        self._rests[id(variable)] = (variable, rest)

    def __getitem__(self, key: int) -> tuple[Any, np.ndarray]:
        variable, rest = self._rests[key]
        return variable, rest if rest.dtype == np.float64 else float64(variable) + rest

    def __iter__(self) -> Iterator[int]:
        return iter(self._rests)

    def __len__(self) -> int:
        return len(self._rests)

    def forget(self, variables: Iterable[Any]) -> None:
        for variable in variables:
            self._rests.pop(id(variable), None)

    def clear(self) -> None:
        self._rests.clear()


def float64(variable: Any) -> np.ndarray:
    """A variable's value in float64."""
    # TensorFlow's variables do not know NumPy 2's `copy` yet, its tensors do.
    tensor = tf.convert_to_tensor(variable.value)
    return np.asarray(keras.ops.convert_to_numpy(tensor), dtype=np.float64)


def _has_rest(value: np.ndarray, rounded: np.ndarray) -> bool:
    """Whether a rounded value and a rest in float32 make up the value."""
    sizes = np.abs(rounded)
    all_but_zeros = np.count_nonzero(sizes >= LEAST) == np.count_nonzero(value)
    return bool(all_but_zeros and np.isfinite(np.max(sizes, initial=0.0)))
