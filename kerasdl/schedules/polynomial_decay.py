"""A power of the time that remains."""

from typing import Any

from keras import ops

from kerasdl._checks import is_real, require
from kerasdl.schedules._time import periods, remaining
from kerasdl.schedules.base import Schedule, require_flag, require_rate, require_steps


class PolynomialDecay(Schedule):
    """Let the rate fall to an end value in T steps, like a power of the time that remains.

    1. η = (η₀ − η_end)(1 − t/T)ᵖ + η_end for t ≤ T, then η_end
    2. `cycle=True`: T grows to the next multiple ⌈t/T⌉T whenever t passes it

    p is usually 0.5 to 2; 1 is a straight line. Robbins–Monro conditions: with η_end > 0
    Ση = ∞ but Ση² = ∞ too, with η_end = 0 and no cycle both sums are finite. With cycles and
    η_end = 0 the m-th of them lies below η₀/mᵖ: both conditions hold for ½ < p ≤ 1.

    Args:
        initial_learning_rate: η₀ ≥ 0.
        decay_steps: T > 0, in steps.
        end_learning_rate: η_end ≥ 0. Default 1e-4.
        power: p > 0. Default 1.0.
        cycle: Whether the rate jumps up again after each multiple of T. Default False.
        name: Of the operation.

    Returns:
        A function from the step t to the rate η, a scalar tensor.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> schedule = PolynomialDecay(1.0, decay_steps=4, end_learning_rate=0.0, power=2.0)
    >>> [float(schedule(t)) for t in (0, 2, 3, 4, 5)]
    [1.0, 0.25, 0.0625, 0.0, 0.0]

    References:
        N4 (`polynomial_decay`); Robbins & Monro 1951 (conditions).
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = require_rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = require_steps("decay_steps", decay_steps)
        self.end_learning_rate = require_rate("end_learning_rate", end_learning_rate)
        require(
            is_real(power) and power > 0,
            "power",
            power,
            "a positive number",
            "Typical values are 0.5 to 2.",
        )
        self.power = float(power)
        self.cycle = require_flag("cycle", cycle)

    def rate(self, t: Any, dtype: str) -> Any:
        left = self._cycle(t, dtype) if self.cycle else remaining(t, self.decay_steps, dtype)
        span = self.initial_learning_rate - self.end_learning_rate
        power = ops.convert_to_tensor(self.power, dtype)
        return span * ops.power(left, power) + self.end_learning_rate

    def _cycle(self, t: Any, dtype: str) -> Any:
        """(mT − t)/(mT), m = max(⌈t/T⌉, 1)."""
        whole, share = periods(t, self.decay_steps, dtype)
        at_end = (share == 0) & (whole > 0)
        m = ops.where(at_end, whole, whole + 1)
        return ops.where(at_end, ops.zeros_like(share), (1 - share) / m)
