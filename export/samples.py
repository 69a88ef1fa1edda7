"""Data for the comparison: random batches that suit the model, and the user's own arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .errors import OptionError, reason
from .ports import Port
from .program import Arrays, Program, Range

BATCH_SIZES = (1, 3, 32)
FEW_ROWS = 3
"""Different rows for a model of much work; larger batches repeat them."""
MUCH_WORK = 2_000_000
FREE_AXIS, FREE_SPATIAL_AXIS = 7, 32
ROWS_PER_RUN = 32


@dataclass(frozen=True)
class Rows:
    """Different rows, and the sizes of the batches to be made of them.

    Attributes:
        arrays: One per input.
        sizes: A batch larger than the rows repeats them in turn.
        free: Per input, whether its first axis is the batch's.
    """

    arrays: Arrays
    sizes: tuple[int, ...]
    free: tuple[bool, ...]

    @property
    def count(self) -> int:
        return next((len(x) for x, free in zip(self.arrays, self.free, strict=True) if free), 1)

    def batch(self, size: int) -> Arrays:
        pairs = zip(self.arrays, self.free, strict=True)
        return [array[self.places(size)] if free else array for array, free in pairs]

    def places(self, size: int) -> np.ndarray:
        """Which row stands in each place of a batch."""
        return np.arange(size) % self.count


def zero_rows(program: Program) -> list[Rows]:
    """Rows of zeros (empty strings), for a model that random data is no input of."""
    return [
        replace(rows, arrays=[_zeros(array) for array in rows.arrays])
        for rows in random_rows(program)
    ]


def random_rows(program: Program, seed: int = 0) -> list[Rows]:
    """Rows for batches of BATCH_SIZES, or of the size that the model fixes.

    Floats are normal, around the statistics of a Normalization layer where there is one;
    integers lie within the vocabulary of the Embedding that reads them, else in 0..9.
    """
    rng = np.random.default_rng(seed)
    ranges = program.ranges()
    fixed = sorted({port.shape[0] for port in program.inputs if port.shape and port.shape[0]})
    most = FEW_ROWS if program.work() > MUCH_WORK else max(BATCH_SIZES)
    free = tuple(_is_free(port) for port in program.inputs)
    return [
        Rows(
            [_random(port, count, ranges.get(port.name, Range()), rng) for port in program.inputs],
            sizes,
            free,
        )
        for count, sizes in ([(n, (n,)) for n in fixed] if fixed else [(most, BATCH_SIZES)])
    ]


def _zeros(array: np.ndarray) -> np.ndarray:
    return np.full(array.shape, "" if array.dtype == object else 0, array.dtype)


def _is_free(port: Port) -> bool:
    return bool(port.shape) and port.shape[0] is None


def _random(port: Port, batch: int, known: Range, rng: np.random.Generator) -> np.ndarray:
    shape = _concrete(port, batch)
    if port.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if port.dtype == "string":
        return rng.choice(np.array(["a", "b", "c"], object), shape)
    if "int" in port.dtype or known.indices is not None:
        return rng.integers(0, known.indices or 10, shape).astype(port.dtype)
    return (known.mean + known.std * rng.standard_normal(shape)).astype(port.dtype)


def _concrete(port: Port, batch: int) -> tuple[int, ...]:
    free = FREE_SPATIAL_AXIS if len(port.shape) >= 4 else FREE_AXIS
    return tuple(
        size if size is not None else batch if axis == 0 else free
        for axis, size in enumerate(port.shape)
    )


def load_data(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file; pickled objects are refused.

    Raises:
        OptionError: The file is missing or is no `.npz` file.
    """
    try:
        archive = np.load(Path(path), allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise OptionError(f"{path} holds one array without a name. Use `numpy.savez`.")
        with archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise OptionError(f"The data file {path} does not exist.") from error
    except OptionError:
        raise
    # Every part of an archive, and of NumPy's header in it, raises errors of its own.
    except Exception as error:
        raise OptionError(f"{path} is no readable .npz file: {reason(error)}") from error


def data_rows(data: Mapping[str, Any], inputs: Sequence[Port]) -> list[Rows]:
    """The user's arrays in batches of at most 32 rows, checked against the inputs.

    Raises:
        OptionError: Names, shapes or dtypes do not fit.
    """
    matched = _matched(data, inputs)
    try:
        arrays = [np.asarray(data[port.name]) for port in matched]
    except ValueError as error:
        raise OptionError(f"The data must be arrays: {reason(error)}") from error
    for port, array in zip(inputs, arrays, strict=True):
        _check(port, array)
    rows = {port.name: len(array) for port, array in zip(inputs, arrays, strict=True)}
    if len(set(rows.values())) > 1:
        raise OptionError(f"The data arrays must have equally many rows. Received: {rows}.")
    count = next(iter(rows.values()))
    if count == 0:
        raise OptionError("The data arrays must have at least one row. Received: 0 rows.")
    fixed = next((port.shape[0] for port in inputs if port.shape[0] is not None), None)
    step = fixed or ROWS_PER_RUN
    if fixed and count % fixed:
        raise OptionError(f"The model takes batches of {fixed} rows. Received: {count} rows.")
    chunks = [[array[start : start + step] for array in arrays] for start in range(0, count, step)]
    free = (True,) * len(arrays)
    return [Rows(chunk, (len(chunk[0]),), free) for chunk in chunks]


def _matched(data: Mapping[str, Any], inputs: Sequence[Port]) -> Sequence[Port]:
    if not isinstance(data, Mapping):
        raise OptionError(f"The data must map input names to arrays. Received: {type(data)}.")
    wanted, given = {port.name for port in inputs}, set(data)
    if wanted != given:
        raise OptionError(
            f"The data must hold exactly the model's inputs {sorted(wanted)}. "
            f"Received: {sorted(given)}. Save it with `numpy.savez(path, name=array, ...)`."
        )
    return inputs


def _check(port: Port, array: np.ndarray) -> None:
    # Rows are cut into batches, so their number need not be the batch's.
    fits = array.ndim == len(port.shape) and all(
        want in (None, have) for want, have in zip(port.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise OptionError(f"The data must fit the input {port}. Received: shape {array.shape}.")
    strings = port.dtype == "string" and array.dtype.kind in "OUS"
    if not strings and array.dtype.name != port.dtype:
        raise OptionError(
            f"The data must fit the input {port}. Received: dtype {array.dtype.name}. "
            f"Convert it with `array.astype('{port.dtype}')`."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise OptionError(f"The data of input `{port.name}` holds NaN or infinite values.")
