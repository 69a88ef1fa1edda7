"""Truth: what a model makes of batches, in its own precision and in float64.

Most models treat each row by itself. Then a run of all different rows gives the truth of every
batch that is made of them. Whether a model is like that is seen in its own runs: those of the first
few rows, of the first batch, of the last one and of all edges, where rows differ most, must agree
with the same rows of all. Where they do not, every batch is run by itself.

Models of much work are trusted to be like that as long as a file says the same: in batches of one,
three and 32 rows and on edges it has each row beside others than Keras had, and could not give what
Keras gives if that depended on those. Where the file gives anything else, the model's own runs
tell.

A float64 run takes several times as long as Keras' own, and how far rounding reaches takes another
one. For models of much work both are put off until somebody asks: see `parity.py` for what passes
without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from ..errors import reason
from ..formats import FLOAT32, SAFETY, Format
from ..programs.program import Arrays, Program
from ..programs.rounding import mean_reach, unknown_reach
from .channels import channel_errors, channel_noise, per_row
from .samples import EDGES, FEW_ROWS, Batch, Rows

RUNS, LITTLE_WORK = 3, 200_000
"""Runs to find the reach, for models that compute at most so many numbers for one row."""
RUNS_OF_STEPS = 16
"""The same for int8: what rounds a weight there is one draw, for all rows alike."""
KEPT_BACK = 2.0
"""Multiple of the noise that Keras' own error may take, and what it takes from the largest number:
see `parity.py`."""
MANY = 16
"""Rows from which the mean of the squares of errors is judged."""


T = TypeVar("T")


class Later(Generic[T]):
    """What is found out when it is first asked for.

    Args:
        find: Finds it out.
    """

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._found: list[T] = []

    @property
    def is_known(self) -> bool:
        """Whether it was asked for before."""
        return bool(self._found)

    def __call__(self) -> T:
        if not self._found:
            self._found.append(self._find())
        return self._found[0]


@dataclass(frozen=True)
class Truth:
    """What a batch should give.

    Attributes:
        inputs: The batch.
        data: What kind of data it is: see `samples.py`.
        native: Keras' own outputs.
        float64: The float64 outputs of these rows, or of more; Keras' own where there is no
            float64 run.
        rounding: How far rounding moves each number of the same.
        sure: Whether that comes from several runs.
        places: Which of those rows the batch is made of; None if they are its own.
    """

    inputs: Arrays
    data: str
    native: Arrays
    float64: Later[Arrays]
    rounding: Later[Arrays]
    sure: bool = False
    places: np.ndarray | None = None

    @cached_property
    def exact(self) -> Arrays:
        """The float64 outputs."""
        return self._of_these(self.float64())

    @cached_property
    def reach(self) -> Arrays:
        """How far rounding moves each number of the outputs."""
        return self._of_these(self.rounding())

    @property
    def known_exact(self) -> Arrays:
        """The float64 outputs, or Keras' own as long as nobody has asked for them."""
        return self.exact if self.float64.is_known else self.native

    @property
    def known_reach(self) -> Arrays:
        """How far rounding is known to reach: zero as long as nobody has asked for it."""
        if self.rounding.is_known:
            return self.reach
        return [np.broadcast_to(0.0, y.shape) for y in self.known_exact]

    @property
    def kept_back(self) -> float:
        """What of a tolerance, as a multiple of the noise, is left for errors of Keras' own that
        are not known."""
        return 0.0 if self.float64.is_known else KEPT_BACK

    def _of_these(self, arrays: Arrays) -> Arrays:
        return arrays if self.places is None else [y[self.places] for y in arrays]

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
        self._seen: list[tuple[Rows, Truth]] = []
        self._trusts = True

    @property
    def is_trusting(self) -> bool:
        """Whether rows are taken to be by themselves without a look."""
        return self._trusts and self._waits

    def of(self, rows: Rows) -> list[Truth]:
        """The truth of every batch of the rows."""
        whole = self._run(rows.arrays, rows.batches[0].data)
        self._seen.append((rows, whole))
        return self._parts(rows, whole)

    def look(self) -> list[Truth]:
        """The truth of every batch so far, whether or not rows are by themselves."""
        self._trusts = False
        return [part for rows, whole in self._seen for part in self._parts(rows, whole)]

    def forget(self) -> None:
        """Leave aside what was run so far."""
        self._seen.clear()

    @np.errstate(all="ignore")
    def _parts(self, rows: Rows, whole: Truth) -> list[Truth]:
        told = () if self.is_trusting else _telling(rows)
        own = {i: self.program.run(rows.batch(rows.batches[i])) for i in told}
        parts = [_part(whole, rows, batch, own.get(i)) for i, batch in enumerate(rows.batches)]
        found = [part for part in parts if part is not None]
        if len(found) == len(parts):
            return found
        return [self._run(rows.batch(batch), batch.data) for batch in rows.batches]

    @np.errstate(all="ignore")  # what overflows is seen in the results
    def _run(self, inputs: Arrays, data: str) -> Truth:
        """The truth of these rows at once."""
        native = self.program.run(inputs)
        wide = Later(lambda: self._float64(inputs, native))
        exact = Later(lambda: _exact(wide(), native))
        rounding = Later(lambda: self._reach(inputs, wide(), native))
        if not self._waits:
            exact()
        if self._is_sure or self.stored is not FLOAT32:
            rounding()
        return Truth(inputs, data, native, exact, rounding, self._is_sure)

    @np.errstate(all="ignore")
    def _float64(self, inputs: Arrays, native: Arrays) -> Arrays | None:
        if self.float64_failure is None:
            try:
                wide = self.program.run_float64(inputs)
            # A custom layer may refuse float64 in any way it likes.
            except Exception as error:  # noqa: BLE001
                self.float64_failure = reason(error)
                return None
            if not self._waits or [y.shape for y in wide] == [y.shape for y in native]:
                return wide
            self.float64_failure = "its outputs have other shapes there"
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
    def _waits(self) -> bool:
        """Whether a float64 run waits until somebody asks for it."""
        return self.stored is FLOAT32 and self.program.work() > LITTLE_WORK

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
    outputs = (*whole.native, *whole.known_exact)
    if any(y.ndim == 0 or len(y) != rows.count for y in outputs):
        return None
    places = batch.places
    part = replace(
        whole,
        inputs=rows.batch(batch),
        data=batch.data,
        native=[y[places] for y in whole.native],
        places=places,
    )
    if own is None:
        return part
    return replace(part, native=own) if _agree(own, part) else None


def _exact(wide: Arrays | None, native: Arrays) -> Arrays:
    """The truth of a float64 run, or without one what Keras says."""
    if wide is None:
        return native
    return [_shortened(*pair) for pair in zip(wide, native, strict=True)]


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
    """Whether these are the truth but for rounding, by no more than it takes to know that."""
    if _within(results, truth):
        return True
    for unknown in (truth.float64, truth.rounding):
        if not unknown.is_known:
            unknown()
            if _within(results, truth):
                return True
    return False


def _within(results: Arrays, truth: Truth) -> bool:
    safety = SAFETY - truth.kept_back
    for arrays in zip(results, truth.native, truth.known_exact, truth.known_reach, strict=True):
        # As they are judged: edges row by row.
        y, native, exact, reach = map(per_row, arrays) if truth.data == EDGES else arrays
        errors = channel_errors(y, native, exact)
        if not np.all(errors <= safety * channel_noise(native, exact, reach)):
            return False
    return True
