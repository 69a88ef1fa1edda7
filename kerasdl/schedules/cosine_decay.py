"""Half a wave of the cosine, with a warm-up in front."""

import math
from typing import Any

from keras import ops

from kerasdl import _wide
from kerasdl._checks import is_real, require
from kerasdl.schedules._time import remaining
from kerasdl.schedules.base import Schedule, require_rate, require_share, require_steps


def half_wave(left: Any, α: float) -> Any:
    """(1 − α)·½(1 + cos π(1 − r)) + α for the share r that is left.

    ½(1 + cos π(1 − r)) = sin²(πr/2), which does not cancel where r is small.
    """
    return (1 - α) * ops.square(_wide.sin(left * (math.pi / 2))) + α


class CosineDecay(Schedule):
    """Let the rate fall along half a wave of the cosine, flat at both ends.

    1. η = η₀((1 − α)·½(1 + cos(πt/T)) + α) for t ≤ T, then αη₀
    2. With `warmup_target=η_w`: η = η₀ + (η_w − η₀)t/w for t < w, then case 1 from η_w with
       t − w for t

    T is usually the whole training and w one to five percent of it. The Robbins–Monro
    conditions do not hold: with α > 0 Ση = ∞ but Ση² = ∞ too, with α = 0 both sums are
    finite.

    Args:
        initial_learning_rate: η₀ ≥ 0.
        decay_steps: T > 0, in steps, the warm-up not counted.
        alpha: α in [0, 1], share of the rate that is left at the end. Default 0.0.
        name: Of the operation.
        warmup_target: η_w ≥ 0. Default None, no warm-up.
        warmup_steps: w ≥ 0, in steps. Default 0.

    Returns:
        A function from the step t to the rate η, a scalar tensor.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> schedule = CosineDecay(0.0, 4, warmup_target=1.0, warmup_steps=2)
    >>> [round(float(schedule(t)), 6) for t in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    References:
        N2 (decay and its conditions); Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient
        Descent with Warm Restarts"; Goyal et al. 2017, "Accurate, Large Minibatch SGD"
        (warm-up).
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = require_rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = require_steps("decay_steps", decay_steps)
        self.alpha = require_share("alpha", alpha)
        require(
            isinstance(warmup_steps, int) and is_real(warmup_steps) and warmup_steps >= 0,
            "warmup_steps",
            warmup_steps,
            "a non-negative integer",
            "Pass 0 for no warm-up.",
        )
        self.warmup_target = (
            None if warmup_target is None else require_rate("warmup_target", warmup_target)
        )
        self.warmup_steps = warmup_steps

    def rate(self, t: Any, dtype: str) -> Any:
        if self.warmup_target is None:
            return self.initial_learning_rate * self._decay(t, dtype)
        w = self.warmup_steps
        peak = self.warmup_target * self._decay(t - w, dtype)
        if not w:
            return peak
        left = remaining(t, w, dtype)
        climb = left * self.initial_learning_rate + (1 - left) * self.warmup_target
        return ops.where(t < w, climb, peak)

    def _decay(self, t: Any, dtype: str) -> Any:
        return half_wave(remaining(t, self.decay_steps, dtype), self.alpha)
