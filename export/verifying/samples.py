"""Data for the comparison: random batches that suit the model, and the user's own arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..errors import OptionError, reason
from ..graphs.graph import flatten_layers
from ..ports import Port
from ..programs.program import Arrays, KerasProgram, Program
from ..programs.ranges import EDGE_ROWS, SIZES, Range, draw, edges, zeros

Extents = tuple[int, int]

BATCH_SIZES = (1, 3, 32)
RANDOM, EDGES, DATA = "random", "edges", "data"
"""Kinds of data: drawn at random, what that leaves out, and the user's own."""
FEW_ROWS = 3
"""Different rows for a model of much work; larger batches repeat them."""
SOME_ROWS = 16
"""Different rows for a model whose batch is fixed, so that they are run one batch at a time."""
MUCH_WORK = 2_000_000
EXTENTS = ((32, 7), (7, 7), (32, 16), (64, 48), (144, 144), (128, 256), (128, 2048))
"""What free axes of images and of others are given, one after the other until a model takes them:
some concatenate what only even numbers make alike, or have windows that are longer."""
STEPWISE = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.Bidirectional)
ROWS_PER_RUN = 32


@dataclass(frozen=True)
class Batch:
    """What stands in each place of a batch.

    Attributes:
        data: The kind of data.
        places: Numbers of rows.
    """

    data: str
    places: np.ndarray


@dataclass(frozen=True)
class Rows:
    """Different rows, and the batches to be made of them.

    Attributes:
        arrays: One per input.
        batches: Of these rows.
        free: Per input, whether its first axis is the batch's.
    """

    arrays: Arrays
    batches: tuple[Batch, ...]
    free: tuple[bool, ...]

    @property
    def count(self) -> int:
        return next((len(x) for x, free in zip(self.arrays, self.free, strict=True) if free), 1)

    def batch(self, batch: Batch) -> Arrays:
        pairs = zip(self.arrays, self.free, strict=True)
        return [array[batch.places] if free else array for array, free in pairs]

    def is_all(self, batch: Batch) -> bool:
        """Whether a batch is made of all rows, each in its place."""
        return np.array_equal(batch.places, np.arange(self.count))


def zero_rows(program: Program) -> list[Rows]:
    """Rows of zeros (empty strings), for a model that random data is no input of."""
    return [
        replace(rows, arrays=[zeros(p, x.shape) for p, x in pairs])
        for rows in random_rows(program)
        for pairs in [zip(program.inputs, rows.arrays, strict=True)]
    ]


def random_rows(
    program: Program, seed: int = 0, extents: Extents = EXTENTS[0], scaled: bool = False
) -> list[Rows]:
    """Rows for batches of BATCH_SIZES, or of the size that is fixed.

    Args:
        program: The model.
        seed: Of the draws.
        extents: Of free axes: of images, and of others.
        scaled: Whether data are drawn as a Rescaling expects them.
    """
    rng, known = np.random.default_rng(seed), _known(program, scaled)
    different = FEW_ROWS if program.work() > MUCH_WORK else max(BATCH_SIZES)
    size = _fixed_size(program.inputs)
    if size is None:
        batches = [Batch(RANDOM, _places(size, different)) for size in BATCH_SIZES]
        return [_rows(program, different, batches, known, rng, extents)]
    if program.any_batch:
        batches = _cut(RANDOM, different, size)
        return [_rows(program, len(batches) * size, batches, known, rng, extents)]
    # One batch at a time, as often as it takes to see some rows.
    times = math.ceil(min(different, SOME_ROWS) / size)
    cut = _cut(RANDOM, size, size)
    return [_rows(program, size, cut, known, rng, extents) for _ in range(times)]


def edge_rows(program: Program, seed: int = 0, extents: Extents = EXTENTS[0]) -> list[Rows]:
    """Rows that random data leaves out (`ranges.edges`), in batches of their own.

    The arguments are those of `random_rows`. None where the model fixes the batch; of a model of
    much work whose inputs are all floats the last one alone, which is full of ties.
    """
    if not program.any_batch:
        return []
    floats = all("float" in port.dtype for port in program.inputs)
    count = 1 if floats and program.work() > MUCH_WORK else EDGE_ROWS
    rng, known = np.random.default_rng(seed), _known(program)
    most = _largest_integer(program, known, extents)
    arrays = []
    for port in program.inputs:
        own = replace(known.get(port.name, Range()), most=most)
        rows = edges(port, _concrete(port, count, True, extents)[1:], own, rng)[-count:]
        arrays.append(rows if port.shape else np.asarray(rows[-1]))
    batches = _cut(EDGES, count, _fixed_size(program.inputs) or count)
    return [Rows(arrays, tuple(batches), tuple(bool(port.shape) for port in program.inputs))]


def _largest_integer(program: Program, known: Mapping[str, Range], extents: Extents) -> int:
    """The largest integer that edges hold.

    Where a model makes larger tensors of larger integers, or takes more steps (the length of a
    mask, what is counted), huge ones would take all memory.
    """
    free = [p for p in program.inputs if known.get(p.name, Range()).indices is None]
    if not any("int" in port.dtype for port in free):
        return Range.most
    work = []
    for size in SIZES:
        arrays = [
            np.full(_concrete(port, 1, True, extents), size, port.dtype)
            if "int" in port.dtype and port in free
            else zeros(port, _concrete(port, 1, True, extents))
            for port in program.inputs
        ]
        try:
            work.append(program.work_on(arrays))
        # What such integers are to the model, only the model can tell.
        except Exception:  # noqa: BLE001
            return max(SIZES)
    return Range.most if len(set(work)) == 1 else max(SIZES)


def joined(rows: Sequence[Rows], behind: Sequence[Rows]) -> list[Rows]:
    """Rows and others behind them, to be run at once where that can be done."""
    if len(rows) != 1 or len(behind) != 1 or not all(rows[0].free):
        return [*rows, *behind]
    (first,), (last,) = rows, behind
    pairs = zip(first.arrays, last.arrays, strict=True)
    moved = (replace(batch, places=first.count + batch.places) for batch in last.batches)
    return [Rows([np.concatenate(pair) for pair in pairs], (*first.batches, *moved), first.free)]


def extents_of(program: Program) -> tuple[Extents, ...]:
    """What free axes are given, in turn: small extents first where layers go along them step by
    step."""
    if not has_free_axes(program):
        return EXTENTS[:1]
    layers = flatten_layers(program.model) if isinstance(program, KerasProgram) else []
    steps = any(isinstance(layer, STEPWISE) for layer in layers)
    return tuple(sorted(EXTENTS, key=max)) if steps else EXTENTS


def has_free_axes(program: Program) -> bool:
    """Whether inputs have free axes beside that of the batch."""
    return any(None in port.shape[1:] for port in program.inputs)


def _fixed_size(inputs: Sequence[Port]) -> int | None:
    return next((port.shape[0] for port in inputs if port.shape and port.shape[0]), None)


def _places(size: int, different: int) -> np.ndarray:
    """A batch of so many rows: the different ones, and behind them some of them again, in an order
    that no shift leaves as it is."""
    first = np.arange(min(size, different))
    again = np.random.default_rng(size).integers(different, size=size - len(first))
    return np.concatenate([first, again])


def _cut(data: str, count: int, size: int) -> list[Batch]:
    """Batches of one size of so many rows; edges are repeated to fill the last one."""
    places = np.arange(math.ceil(count / size) * size).reshape(-1, size)
    return [Batch(data, each % count if data == EDGES else each) for each in places]


def _known(program: Program, scaled: bool = False) -> dict[str, Range]:
    ranges = program.ranges().items()
    return {name: one for name, one in ranges if scaled or not one.scaled}


def _rows(
    program: Program,
    count: int,
    batches: Sequence[Batch],
    known: Mapping[str, Range],
    rng: np.random.Generator,
    extents: Extents,
) -> Rows:
    any_batch = program.any_batch
    arrays = [
        draw(port, _concrete(port, count, any_batch, extents), known.get(port.name, Range()), rng)
        for port in program.inputs
    ]
    free = tuple(_is_free(port, any_batch) for port in program.inputs)
    return Rows(arrays, tuple(batches), free)


def _is_free(port: Port, any_batch: bool) -> bool:
    return bool(port.shape) and (any_batch or port.shape[0] is None)


def _concrete(port: Port, count: int, any_batch: bool, extents: Extents) -> tuple[int, ...]:
    free = extents[len(port.shape) < 4]
    return tuple(
        count if axis == 0 and (any_batch or size is None) else free if size is None else size
        for axis, size in enumerate(port.shape)
    )


def load_data(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file; pickled objects are refused.

    Raises:
        OptionError: The file is missing or is no `.npz` file.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise OptionError(f"{path} is no ordinary file. Give an `.npz` file.")
        with Path(path).open("rb") as file:
            start = file.read(6)
        if start == b"\x93NUMPY":
            raise OptionError(f"{path} holds one array without a name. Use `numpy.savez`.")
        if not start.startswith(b"PK"):  # NumPy would take it for a pickled object
            raise OptionError(
                f"{path} is no readable .npz file: it is no archive of arrays. Write one with "
                "`numpy.savez(path, name=array, ...)`."
            )
        with np.load(Path(path), allow_pickle=False) as archive:
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
        arrays = [_array(data[port.name], port) for port in matched]
    except ValueError as error:
        raise OptionError(f"The data must be arrays: {reason(error)}") from error
    for port, array in zip(inputs, arrays, strict=True):
        _check(port, array)
    pairs = list(zip(inputs, arrays, strict=True))
    rows = {port.name: len(array) for port, array in pairs if port.shape}
    if len(set(rows.values())) > 1:
        raise OptionError(f"The data arrays must have equally many rows. Received: {rows}.")
    count = next(iter(rows.values()), 1)
    if count == 0:
        raise OptionError("The data arrays must have at least one row. Received: 0 rows.")
    fixed = _fixed_size(inputs)
    step = fixed or ROWS_PER_RUN
    if fixed and count % fixed:
        raise OptionError(f"The model takes batches of {fixed} rows. Received: {count} rows.")
    free = tuple(bool(port.shape) for port in inputs)
    chunks = [
        [array[start : start + step] if port.shape else array for port, array in pairs]
        for start in range(0, count, step)
    ]
    places = [np.arange(min(step, count - start)) for start in range(0, count, step)]
    return [
        Rows(chunk, (Batch(DATA, each),), free) for chunk, each in zip(chunks, places, strict=True)
    ]


def _array(data: Any, port: Port) -> np.ndarray:
    """Numbers in the byte order of the machine; strings come as str, and bytes are UTF-8."""
    array = np.asarray(data)
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    if port.dtype != "string" or array.dtype.kind not in "OUS":
        return array
    texts = [text.decode() if isinstance(text, bytes) else text for text in array.ravel().tolist()]
    if not all(isinstance(text, str) for text in texts):
        raise OptionError(f"The data of input `{port.name}` must be strings.")
    return np.array(texts, object).reshape(array.shape)


def _matched(data: Mapping[str, Any], inputs: Sequence[Port]) -> Sequence[Port]:
    if not isinstance(data, Mapping):
        raise OptionError(f"The data must map input names to arrays. Received: {type(data)}.")
    wanted, given = {port.name for port in inputs}, set(data)
    if wanted != given:
        raise OptionError(
            f"The data must hold exactly the model's inputs {sorted(wanted)}. "
            f"Received: {sorted(map(str, given))}. Save it with "
            "`numpy.savez(path, name=array, ...)`."
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
