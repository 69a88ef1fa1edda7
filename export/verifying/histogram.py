"""Histogram: how the errors of an output spread, in units of what is allowed.

Errors span many decades, so the bins are half decades of r = |y_onnx − y| / tolerance, each channel
by the tolerance derived for it: r ≤ 10⁻⁶, which holds the exact ones, then (10⁻⁶, 10⁻⁵·⁵] and so on
to (10¹·⁵, 10²], and last all above. 1 is an edge, so what is beyond the tolerance stands in bins
of its own. A tolerance that a user gives does not change a histogram.
"""

from __future__ import annotations

import numpy as np

EDGES = tuple(float(10.0 ** (half / 2)) for half in range(-12, 5))
"""Between the bins, of which there is one more than edges."""
WITHIN = EDGES.index(1.0) + 1
"""Number of bins within the tolerance."""


def histogram(errors: np.ndarray, allowed: np.ndarray) -> tuple[int, ...]:
    """Count errors per bin.

    Args:
        errors: One per number of an output; channels on the last axis.
        allowed: The tolerance, one per channel, or one for all.

    Returns:
        One count per bin.

    Example:

    >>> import numpy as np
    >>> from kerasdl.export.verifying.histogram import WITHIN, histogram
    >>> counts = histogram(np.array([0.0, 0.5, 1.0, 2.0]), np.ones(1))
    >>> sum(counts[:WITHIN]), sum(counts[WITHIN:])
    (3, 1)

    References: N4 (ONNX conversion).
    """
    errors = np.atleast_1d(errors)
    with np.errstate(all="ignore"):
        ratios = np.divide(errors, allowed, out=np.zeros(errors.shape), where=errors > 0)
    bins = np.searchsorted(EDGES, ratios.ravel())
    return tuple(np.bincount(bins, minlength=len(EDGES) + 1).tolist())
