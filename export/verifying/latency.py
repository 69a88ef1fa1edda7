"""Latency: how long the default session of onnxruntime takes for a batch.

The comparison has run the session once per batch anyway. That first run is the figure only where
it is long; otherwise the batch runs again, more often the shorter it takes, and the median counts.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

BUDGET = 0.06
"""Seconds to spend on one batch; the first repetition may take `LONG`."""
LONG = 0.2
"""Seconds from which on nothing is repeated."""
MOST = 20
"""Repetitions."""
WARM_UP = 3
"""Runs that are left out besides the first, as far as they fit into the budget, too."""


@dataclass(frozen=True)
class Latency:
    """How long one batch takes, on the CPU.

    Attributes:
        batch: Number of rows.
        milliseconds: Median over the runs.
        runs: How many were measured; the first ones of all, which are slower, are not among them
            unless the first was the only one.
        cores: Logical cores of the machine; onnxruntime's default session takes as many threads
            as there are physical ones.
    """

    batch: int
    milliseconds: float
    runs: int
    cores: int


def measure(batch: int, first: float, run: Callable[[], object]) -> Latency:
    """The latency of a batch.

    Args:
        batch: Number of rows.
        first: Seconds that the first run took.
        run: Runs the batch once more.

    Returns:
        The median of the repetitions, or the first run if it was long.

    Example:

    >>> from kerasdl.export.verifying.latency import measure
    >>> measure(3, 0.5, print).milliseconds
    500.0

    References: N4 (ONNX conversion).
    """
    seconds: list[float] = []
    for _ in range(min(WARM_UP, int(BUDGET / first) if first else WARM_UP)):
        run()
    while first <= LONG and len(seconds) < MOST and (not seconds or sum(seconds) < BUDGET):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds or [first])
    return Latency(batch, 1000 * median, max(1, len(seconds)), os.cpu_count() or 1)
