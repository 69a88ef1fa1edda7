"""Truth: what a model makes of batches, in its own precision and in float64.

Most models treat each row by itself. Then a float64 run of the different rows gives the truth of
every batch that is made of them. Whether a model is like that is seen in its own runs: those of
the first few rows, of the first batch, of the last one and of all edges, where rows differ most,
must agree with the same rows of all.
Where they do not, every batch is run in float64 by itself. Where these batches hold every row
once, and are as near to the float64 run of all as float32 can be, all need not be run in float32.

How far rounding reaches takes one more float64 run. For models of much work that is put off until
somebody asks: a file that is as near to the truth as Keras' own run passes without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np

from ..errors import reason
from ..formats import FLOAT32, SAFETY, Format
from ..programs.program import Arrays, Program
from ..programs.rounding import mean_reach, unknown_reach
from .channels import channel_errors, channel_noise
from .pieces import Pieces
from .samples import EDGES, FEW_ROWS, Batch, Rows

RUNS, LITTLE_WORK = 3, 200_000
"""Runs to find the reach, for models that compute at most so many numbers for one row."""
RUNS_OF_STEPS = 16
"""The same for int8: what rounds a weight there is one draw, for all rows alike."""
MANY = 16
"""Rows from which the mean of the squares of errors is judged."""


class Reach:
    """How far rounding moves each number of the outputs, found out when it is first asked for.

    Args:
        find: Finds it out.
    """

    def __init__(self, find: Callable[[], Arrays]) -> None:
        self._find = find
        self._found: Arrays | None = None

    @property
    def is_known(self) -> bool:
        """Whether it was asked for before."""
        return self._found is not None

    def __call__(self) -> Arrays:
        if self._found is None:
            self._found = self._find()
        return self._found


@dataclass(frozen=True)
class Truth:
    """What a batch should give.

    Attributes:
        inputs: The batch.
        data: What kind of data it is: see `samples.py`.
        native: Keras' own outputs.
        exact: The float64 outputs; the same as `native` where there is no float64 run.
        rounding: How far rounding moves each number of the outputs, or of more rows than these.
        sure: Whether that comes from several runs.
        places: Which of those rows the batch is made of; None if they are its own.
    """

    inputs: Arrays
    data: str
    native: Arrays
    exact: Arrays
    rounding: Reach
    sure: bool = False
    places: np.ndarray | None = None

    @cached_property
    def reach(self) -> Arrays:
        """How far rounding moves each number of the outputs."""
        found = self.rounding()
        return found if self.places is None else [y[self.places] for y in found]

    @property
    def known_reach(self) -> Arrays:
        """The same as far as it is known yet: zero where nobody has asked for it."""
        if self.rounding.is_known:
            return self.reach
        return [np.broadcast_to(0.0, y.shape) for y in self.exact]

    @property
    def batch(self) -> int:
        """Number of rows."""
        return next((len(array) for array in self.inputs if array.ndim), 1)

    @property
    def means(self) -> bool:
        """Whether the noise is known well enough for a mean of its squares to be judged."""
        return self.sure and self.different_rows >= MANY

    @property
    def different_rows(self) -> int:
        """How many rows of the batch are no repetitions."""
        if any(array.ndim == 0 for array in self.inputs):
            return 1
        rows = zip(*self.inputs, strict=False)
        return len({tuple(np.asarray(part).tobytes() for part in row) for row in rows})


class Witness:
    """Runs the model.

    Args:
        program: The model.
        stored: The numbers of the file that is to be judged.

    Attributes:
        float64_failure: Why there is no float64 run, or None.
    """

    def __init__(self, program: Program, stored: Format = FLOAT32) -> None:
        self.program = program
        self.stored = stored
        self.float64_failure: str | None = None
        self._rng = np.random.default_rng(1)

    @np.errstate(all="ignore")  # what overflows is seen in the results
    def of(self, rows: Rows) -> list[Truth]:
        """The truth of every batch of the rows."""
        own = {i: self.program.run(rows.batch(rows.batches[i])) for i in _telling(rows)}
        pieces = Pieces([rows.batches[i].places for i in own], list(own.values()))
        whole = self._run(
            rows.arrays, rows.batches[0].data, pieces if pieces.are_all(rows.count) else None
        )
        parts = [_part(whole, rows, batch, own.get(i)) for i, batch in enumerate(rows.batches)]
        found = [part for part in parts if part is not None]
        if len(found) == len(parts):
            return found
        return [self._run(rows.batch(batch), batch.data) for batch in rows.batches]

    def _run(self, inputs: Arrays, data: str, pieces: Pieces | None = None) -> Truth:
        """The truth of these rows at once; Keras need not run them so where its runs of pieces
        tell as much."""
        native = pieces.joined() if pieces else self.program.run(inputs)
        wide = self._float64(inputs)
        if pieces and not (wide and pieces.are_nearest(wide)):
            native = self.program.run(inputs)
        exact = native
        if wide is not None:
            exact = [_shortened(*pair) for pair in zip(wide, native, strict=True)]
        rounding = Reach(lambda: self._reach(inputs, wide, native))
        if self._is_sure or self.stored is not FLOAT32:
            rounding()
        return Truth(inputs, data, native, exact, rounding, self._is_sure)

    def _float64(self, inputs: Arrays) -> Arrays | None:
        if self.float64_failure is None:
            try:
                return self.program.run_float64(inputs)
            # A custom layer may refuse float64 in any way it likes.
            except Exception as error:  # noqa: BLE001
                self.float64_failure = reason(error)
        return None

    @np.errstate(all="ignore")
    def _reach(self, inputs: Arrays, exact: Arrays | None, native: Arrays) -> Arrays:
        if exact is None:
            return self._unknown(native)
        try:
            reaches = self.program.reaches(inputs, exact, self._rng, self.stored)
            reach = mean_reach(list(islice(reaches, self._runs)))
        # Nor need it take weights that are moved.
        except Exception as error:  # noqa: BLE001
            self.float64_failure = reason(error)
            return self._unknown(native)
        pairs = zip(reach, exact, native, strict=True)
        factor = self.stored.reach_factor
        return [np.where(_lowest(y, own), 0.0, factor * each) for each, y, own in pairs]

    def _unknown(self, native: Arrays) -> Arrays:
        return [unknown_reach(y, self.stored) for y in native]

    @property
    def _is_sure(self) -> bool:
        return self.stored is FLOAT32 and self._runs > 1

    @property
    def _runs(self) -> int:
        little = self.float64_failure is None and self.program.work() <= LITTLE_WORK
        if not little:
            return 1
        return RUNS_OF_STEPS if self.stored.results.steps else RUNS


def _telling(rows: Rows) -> list[int]:
    """Numbers of the batches whose own runs tell whether rows are by themselves."""
    sizes = [len(batch.places) for batch in rows.batches]
    edges = {i for i, batch in enumerate(rows.batches) if batch.data == EDGES}
    few = {
        i for i, batch in enumerate(rows.batches) if batch.places[0] == 0 and sizes[i] <= FEW_ROWS
    }
    several = {i for i in few if sizes[i] > 1}
    if several and any(sizes[i] == 1 for i in edges):
        told = several | edges
    else:
        told = {0, len(sizes) - 1} | few | edges
    return sorted(i for i in told if not rows.is_all(rows.batches[i]))


def _part(whole: Truth, rows: Rows, batch: Batch, own: Arrays | None) -> Truth | None:
    """The truth of one batch, taken from that of all rows; None if its own run says otherwise."""
    if rows.is_all(batch):
        return whole
    outputs = (*whole.native, *whole.exact)
    if any(y.ndim == 0 or len(y) != rows.count for y in outputs):
        return None
    places = batch.places
    native, exact = ([y[places] for y in arrays] for arrays in (whole.native, whole.exact))
    part = Truth(rows.batch(batch), batch.data, native, exact, whole.rounding, whole.sure, places)
    if own is None:
        return part
    return replace(part, native=own) if _agree(own, part) else None


def _shortened(exact: np.ndarray, native: np.ndarray) -> np.ndarray:
    """The lowest number of a type, as the maximum of nothing has it, is another one in float64."""
    lowest = _lowest(exact, native)
    if not lowest.any():
        return exact
    return np.where(lowest, np.copysign(np.finfo(native.dtype).max, exact), exact)


def _lowest(exact: np.ndarray, native: np.ndarray) -> np.ndarray:
    """Where a result is the lowest number of float64, or the largest."""
    if exact.dtype != np.float64 or native.dtype.kind != "f" or native.shape != exact.shape:
        return np.zeros((), bool)
    lowest: np.ndarray = np.abs(exact) >= np.finfo(np.float64).max / 2
    return lowest


def _agree(results: Arrays, truth: Truth) -> bool:
    """Whether these are the truth but for rounding."""
    return _within(results, truth, truth.known_reach) or (
        not truth.rounding.is_known and _within(results, truth, truth.reach)
    )


def _within(results: Arrays, truth: Truth, reaches: Arrays) -> bool:
    return all(
        bool(np.all(channel_errors(y, native, exact) <= SAFETY * channel_noise(native, exact, r)))
        for y, native, exact, r in zip(results, truth.native, truth.exact, reaches, strict=True)
    )
