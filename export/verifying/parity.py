"""Parity: does the file compute what Keras computes?

The truth is the Keras model run in float64, y. Keras' own float32 run is off it by rounding,
and so may ONNX be, but by nothing else. For every output, channel by channel (the last axis), and
over all rows of the same kind of data

    noise     = max( max|y₃₂ − y|,  reach,  2⁻²⁴ max|y| )
    tolerance = 16 · noise

where reach is how far y goes when weights and results of layers are moved as rounding might move
them (`rounding.py`), which takes another float64 run.

Models of much work are run in float64 only where a file does not pass without it. At first it is
compared with y₃₂ itself, and passes if everywhere

    |y_onnx − y₃₂| ≤ 14 · 2⁻²⁴ max|y₃₂|

for then it is within the tolerance above, whatever y is: with u = 2⁻²⁴ and a = max|y₃₂ − y|,

    |y_onnx − y| ≤ 14 u (max|y| + a) + a < 16 · max( u max|y|, a )

If it is not that near, whether rows depend on each other is looked at (`truth.py`), y is found
out, and if that does not do, reach.

A file passes if e = |y_onnx − y| stays within the tolerance everywhere, for every batch size, with
onnxruntime's optimizations off and on. Integers, booleans and strings must be equal, NaN and
infinities must stand where Keras has them. Only where rounding itself makes a few integers others
(y₃₂ against y, or y moved), 16 times as many may differ, up to 1 of 100.

A mean is surer than a maximum. For models of little work, whose reach is taken from three runs, and
batches of 16 different rows or more, the root mean square of e must not exceed 8 times that of the
noise, or in terms of the largest e,

    tolerance = min( 16 · noise,  8 · rms(noise) · max e / rms(e) )

A comparison that could not have failed is none: where the tolerance exceeds a quarter of the
output, or no number of all batches is finite, the file does not pass unless the user gives a
tolerance.

Edges, i.e. rows that random data leaves out (`ranges.py`), are there for gross errors: what is
wrong at zero, in ties or far from the mean, and branches that are not taken elsewhere. They are
judged row by row, by 64 times the noise of the noisiest channel; a tolerance of the user's allows
more of them where they are larger, and never less than that. Where Keras' float32 run says
something else than float64 (an overflow, another side of a step), no verdict is asked of them.

Where ranges were measured, numbers beyond them are set to their ends. As far as that moves an
output (`clipping.py`), an error is allowed besides, up to the tolerance once more.

Where a model cannot be run in float64 (a custom layer that insists on float32), y is Keras'
float32 run and reach is taken as 2⁻²⁰ max|y|; the report says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..conversion import plan
from ..errors import ConversionError, SourceError, reason
from ..files.runtime import LoadedFile
from ..formats import FLOAT32, SAFETY, Format
from ..ports import Port
from ..programs.program import Arrays, KerasProgram, Program
from .channels import (
    channel_errors,
    channel_maxima,
    channel_means,
    channel_noise,
    channel_spread,
    channel_tops,
    element_errors,
    flips,
    is_float,
    per_row,
)
from .checks import Check, Tolerance
from .clipping import Clipping, ranges_of_layers
from .histogram import histogram
from .latency import Latency, measure
from .samples import EDGES, RANDOM, Rows
from .truth import MANY, Truth, Witness

SAFETY_OF_EDGES = 4 * SAFETY
"""Multiple of the noise on edges: what a recurrent layer rounds inside, of states that are large
there, the noise of its results does not show."""
COARSEST = 0.25
MOST_FLIPS = 0.01
"""Share of integers and booleans that may be others because of rounding."""
MOST_FLIPS_OF_OTHERS = 0.05
"""The same in other formats than float32."""
SAFETY_OF_MEAN = 8.0
"""Root mean square of the errors as a multiple of that of the noise."""


class Judge:
    """Computes the truth of batches once, and compares files with it.

    Args:
        program: The model.
        tolerance: Replaces the derived tolerance.
        stored: The numbers of the file, by whose rounding the tolerance is derived.

    Attributes:
        truths: Of every batch so far.
        edge_failure: Why the model could not be run on edges, or None.
    """

    def __init__(
        self,
        program: Program,
        tolerance: Tolerance | None = None,
        stored: Format = FLOAT32,
    ) -> None:
        self.program = program
        self.tolerance = tolerance
        self.truths: list[Truth] = []
        self.edge_failure: str | None = None
        self.stored = stored
        self._witness = Witness(program, stored)
        self._runs: dict[int, tuple[float, Callable[[], object]]] = {}

    @property
    def float64_failure(self) -> str | None:
        """Why there is no float64 run, or None."""
        return self._witness.float64_failure

    def know(self, file: Path | bytes) -> None:
        """Look up which layers of a file multiply integers, and the ranges that it holds."""
        if not self.stored.results.steps:
            return
        ranges = ranges_of_layers(file, self.program.layer_names())
        self.stored = self._witness.stored = replace(self.stored, ranges=ranges)
        if isinstance(self.program, KerasProgram):
            graph, _, _ = plan(self.program, self.stored)
            self.program.round_in(graph or self.program.graph)

    def add(self, rows: Sequence[Rows]) -> None:
        """Run the model on batches of these rows."""
        for each in rows:
            self.truths += self._witness.of(each)

    def clear(self) -> None:
        """Leave aside all batches so far."""
        self.truths.clear()
        self._witness.forget()

    def compare(self, file: Path | bytes, progress: Callable[[str], None]) -> list[Check]:
        """Run the file on every batch, with onnxruntime's optimizations off and on.

        Raises:
            RefusedError: onnxruntime cannot run the file.
            OptionError: The file has other inputs or outputs than the model.
            SourceError: The model cannot be run on some of the batches.
        """
        return self._by_need(lambda: self._compared(file, progress))

    def _compared(self, file: Path | bytes, progress: Callable[[str], None]) -> Iterator[Check]:
        clipping = Clipping(file, self.program) if self.stored.measured else None
        moved_by_ends = [None if clipping is None else clipping.of(t.inputs) for t in self.truths]
        for optimized in (False, True):
            progress(f"comparing, onnxruntime optimizations {'on' if optimized else 'off'}")
            self._runs.clear()
            loaded = LoadedFile(file, self.program, optimized=optimized)
            for truth, clipped in zip(self.truths, moved_by_ends, strict=True):
                start = time.perf_counter()
                results = loaded.run(truth.inputs)
                seconds = time.perf_counter() - start
                for index, port in enumerate(self.program.outputs):
                    moved = None if clipped is None else clipped[index]
                    check = self._check(truth, index, port, results[index], optimized, moved)
                    yield check.judged(self.tolerance)
                if optimized and truth.data != EDGES:  # of which nobody asks
                    run = partial(loaded.run, truth.inputs)
                    self._runs.setdefault(truth.batch, (seconds, run))
            del loaded, results  # before the next one asks for memory

    def _by_need(self, compare: Callable[[], Iterator[Check]]) -> list[Check]:
        """All comparisons; if one fails before the model's own runs have told whether rows depend
        on each other, all of them once more, with what those tell."""
        checks = []
        for check in compare():
            if not check.passed and self._witness.is_trusting:
                self._look()
                return list(compare())
            checks.append(check)
        return checks

    def _look(self) -> None:
        """Let the model's own runs tell whether rows depend on each other."""
        try:
            self.truths = self._witness.look()
        except ConversionError:  # a layer remembers the batch before
            raise
        # Keras raises whatever the model's own code does on batches it cannot take.
        except Exception as error:
            raise SourceError(
                f"Model `{self.program.name}` cannot be run on batches of every size: "
                f"{reason(error)}. Let it take any number of rows, or fix the batch with "
                "`dimensions`."
            ) from error

    def latency(self) -> list[Latency]:
        """Of the file that was compared last, one per batch size; can be asked for once."""
        found = [measure(batch, *self._runs[batch]) for batch in sorted(self._runs)]
        self._runs.clear()  # and with them the file in onnxruntime
        return found

    def compare_run(self, run: Callable[[Arrays], Arrays]) -> list[Check]:
        """Compare what another program makes of every batch."""
        return self._by_need(
            lambda: (
                self._check(truth, index, port, result, optimized=False).judged(self.tolerance)
                for truth in self.truths
                for index, (port, result) in enumerate(
                    zip(self.program.outputs, run(truth.inputs), strict=True)
                )
            )
        )

    def telling(self, checks: Sequence[Check]) -> Truth:
        """The batch that says most about a wrong file.

        Of those where it failed, the one of most different rows; a larger one repeats them.

        Args:
            checks: What `compare` returned.
        """
        outputs = len(self.program.outputs)
        failed = [
            self.truths[number // outputs % len(self.truths)]
            for number, check in enumerate(checks)
            if not check.passed
        ]
        return max(failed or self.truths, key=lambda truth: (truth.different_rows, -truth.batch))

    def different(self) -> list[Arrays]:
        """The largest batch of each kind of data, in which all its different rows are."""
        kinds = {truth.data for truth in self.truths}
        alike = ([truth for truth in self.truths if truth.data == kind] for kind in sorted(kinds))
        return [max(each, key=lambda truth: truth.different_rows).inputs for each in alike]

    def rows_like(self, truth: Truth) -> Arrays | None:
        """The rows of a batch, and behind them those of others, where the batch is fixed.

        One batch may be too few rows to see the noise. None where there are no others.
        """
        alike = [one for one in self.truths if one.data == truth.data and one is not truth]
        other_sizes = any(one.batch != truth.batch for one in alike)
        whole = not self.program.any_batch or any(array.ndim == 0 for array in truth.inputs)
        if whole or other_sizes or truth.different_rows >= MANY:
            return None
        batches = [truth, *alike[: MANY // truth.batch]]
        return list(map(np.concatenate, zip(*(one.inputs for one in batches), strict=True)))

    @np.errstate(all="ignore")
    def _check(
        self,
        truth: Truth,
        index: int,
        port: Port,
        result: np.ndarray,
        optimized: bool,
        clipped: np.ndarray | None = None,
    ) -> Check:
        """Compare by what is known of rounding, and if it fails, by all that can be known."""
        native, exact = truth.native[index], truth.known_exact[index]
        error = channel_errors(result, native, exact)
        magnitude = channel_maxima(native, exact)
        gaps = element_errors(result, native, exact)
        if truth.data == EDGES:
            gaps, allowed = self._edges(truth, index, gaps)
            error = channel_tops(gaps)
        else:
            safety = SAFETY - truth.kept_back
            allowed = safety * self.noise(truth.data, index) + self.flips(truth, index)
        if truth.means:
            by_mean = allowed_by_mean(native, exact, truth.known_reach[index], gaps)
            allowed = np.minimum(allowed, by_mean)
        tells = _could_fail(native, self.magnitude(truth.data, index), allowed)
        beyond = np.zeros(1)
        if clipped is not None:
            beyond = channel_tops(clipped) if is_float(native) else np.full(1, clipped.sum())
            allowed = allowed + np.minimum(beyond, allowed)
        errors, limits, beyond = np.broadcast_arrays(error, allowed, beyond)
        worst = int(np.argmax(_strain(errors, limits)))
        check = Check(
            output=port.name,
            data=truth.data,
            batch=truth.batch,
            optimized=optimized,
            max_error=float(error.max()),
            error=float(errors[worst]),
            tolerance=float(limits[worst]),
            keras_error=_own_error(truth, index),
            magnitude=float(magnitude.max()),
            conclusive=truth.data == EDGES or tells,
            histogram=histogram(gaps, allowed),
            usual=self.magnitude(RANDOM, index) if truth.data == EDGES else None,
            clipped=float(beyond[worst]),
        )
        if check.judged(self.tolerance).passed or not self._look_further():
            return check
        return self._check(truth, index, port, result, optimized, clipped)

    def _look_further(self) -> bool:
        """Run the model in float64, or if it was, find out how far rounding reaches; whether
        anything of that was not known before."""
        if self._witness.is_trusting:
            return False
        for things in zip(*((t.float64, t.rounding) for t in self.truths), strict=True):
            unknown = [thing for thing in things if not thing.is_known]
            for thing in unknown:
                thing()
            if unknown:
                return True
        return False

    def _edges(self, truth: Truth, index: int, gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Errors with the rows as columns, and what is allowed of each; no errors where a row says
        nothing."""
        native, exact, reach = (
            per_row(each[index]) for each in (truth.native, truth.known_exact, truth.known_reach)
        )
        noise = np.zeros(1)
        if not native.shape == exact.shape == reach.shape:
            unsure = np.ones(native.shape, bool)
        elif is_float(native):
            noise = channel_noise(native, exact, reach)
            unsure = np.isfinite(native) != np.isfinite(exact)
        else:
            unsure = (native != exact) | (reach > 0)
        usual = float(self.noise(RANDOM, index).max())
        errors = np.where(unsure.any(axis=0), 0.0, per_row(gaps))
        return errors, (SAFETY_OF_EDGES - truth.kept_back) * np.maximum(noise, usual)

    def noise(self, data: str, index: int) -> np.ndarray:
        """Noise of an output per channel, over all rows of one kind of data."""
        parts = [
            channel_noise(truth.native[index], truth.known_exact[index], truth.known_reach[index])
            for truth in self.truths
            if truth.data == data
        ]
        same = len({part.shape for part in parts}) == 1
        return np.max(parts if same else [[part.max()] for part in parts], axis=0)

    def flips(self, truth: Truth, index: int) -> float:
        """How many numbers of an output that are no floats may differ, by the share of those that
        rounding makes others; none where these are no few."""
        shares = (
            flips(one.native[index], one.known_exact[index], one.known_reach[index])
            for one in self.truths
            if one.data == truth.data
        )
        share = SAFETY * max(shares)
        if self.stored is not FLOAT32:
            return math.ceil(min(share, MOST_FLIPS_OF_OTHERS) * truth.native[index].size)
        return math.floor(share * truth.native[index].size) if share <= MOST_FLIPS else 0.0

    def magnitude(self, data: str, index: int) -> float:
        """The largest number of an output, over all rows of one kind of data."""
        return max(
            float(channel_maxima(truth.native[index], truth.known_exact[index]).max())
            for truth in self.truths
            if truth.data == data
        )


def allowed_by_mean(
    native: np.ndarray, exact: np.ndarray, reach: np.ndarray, errors: np.ndarray
) -> np.ndarray:
    """How large the largest error of a channel may be, by the mean of the squares of all.

    Infinite where there are too few numbers for a mean to say anything.
    """
    channels = errors.shape[-1] if errors.ndim > 1 else 1
    few = errors.size < MANY * channels
    if few or not is_float(native) or not np.isfinite(errors).all():
        return np.full(1, np.inf)
    means = channel_means(errors)
    peaks = np.divide(channel_tops(errors), means, out=np.ones(means.shape), where=means > 0)
    return SAFETY_OF_MEAN * channel_spread(native, exact, reach) * peaks


def _own_error(truth: Truth, index: int) -> float | None:
    """Keras' own, if it is known."""
    if not truth.float64.is_known:
        return None
    native = truth.native[index]
    return float(channel_errors(native, native, truth.exact[index]).max())


def _could_fail(native: np.ndarray, magnitude: float, limits: np.ndarray) -> bool:
    """Whether a wrong file would have been noticed."""
    if not is_float(native) or native.size == 0:
        return True
    if not np.isfinite(native).any() and magnitude == 0:
        return False
    return bool(limits.max() <= COARSEST * magnitude or magnitude == 0)


def _strain(error: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """How much of what is allowed is used up."""
    exhausted = np.where(error > 0, np.inf, 0.0)
    return np.divide(error, allowed, out=exhausted, where=allowed > 0)
