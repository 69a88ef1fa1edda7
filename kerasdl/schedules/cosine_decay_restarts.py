"""The cosine again and again, each time longer."""

import math
from typing import Any

from keras import ops

from kerasdl import _wide
from kerasdl._checks import is_real, require
from kerasdl.schedules._time import periods
from kerasdl.schedules.base import Schedule, require_rate, require_share, require_steps
from kerasdl.schedules.cosine_decay import half_wave


class CosineDecayRestarts(Schedule):
    """Let the rate fall along the cosine, and start again with a longer and lower one.

    η = η₀((1 − α)·mⁱ·½(1 + cos πp) + α), p in [0, 1) the share of period i that is over;
    period i = 0, 1, 2, ... lasts T·nⁱ steps

    A restart falls on its step exactly; Keras' own class, in float32, misses some (the rate
    stays at its lowest at steps such as 7T with n = 2). Usual are T of one to ten epochs,
    n = 1 or 2 and m = 1. Robbins–Monro conditions: with α = 0 both hold where nm ≥ 1 and
    nm² < 1, for instance n = 2 and m = 0.6; with the defaults, or with α > 0, Ση = ∞ but
    Ση² = ∞ too.

    Args:
        initial_learning_rate: η₀ ≥ 0.
        first_decay_steps: T > 0, in steps.
        t_mul: n ≥ 1, ratio of the length of a period to that before. Default 2.0.
        m_mul: m > 0, likewise of the height. Default 1.0.
        alpha: α in [0, 1], share of η₀ that is always there. Default 0.0.
        name: Of the operation.

    Returns:
        A function from the step t to the rate η, a scalar tensor.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> schedule = CosineDecayRestarts(1.0, first_decay_steps=2, m_mul=0.5)
    >>> [round(float(schedule(t)), 6) for t in (0, 1, 2, 4, 6)]
    [1.0, 0.5, 0.5, 0.25, 0.25]

    References:
        N2 (decay and its conditions); Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient
        Descent with Warm Restarts".
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        super().__init__(name)
        self.initial_learning_rate = require_rate("initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = require_steps("first_decay_steps", first_decay_steps)
        require(
            is_real(t_mul) and t_mul >= 1,
            "t_mul",
            t_mul,
            "a number ≥ 1",
            "Pass 1.0 for periods of equal length.",
        )
        require(
            is_real(m_mul) and m_mul > 0,
            "m_mul",
            m_mul,
            "a positive number",
            "Typical values are 0.5 to 1.",
        )
        self.t_mul, self.m_mul = float(t_mul), float(m_mul)
        self.alpha = require_share("alpha", alpha)

    def rate(self, t: Any, dtype: str) -> Any:
        if self.t_mul == 1:
            i, share = periods(t, self.first_decay_steps, dtype)
        else:
            i, share = self._growing_period(ops.cast(t, dtype))
        height = ops.power(ops.convert_to_tensor(self.m_mul, dtype), i)
        wave = height * half_wave(1 - share, 0.0)
        return self.initial_learning_rate * ((1 - self.alpha) * wave + self.alpha)

    def _growing_period(self, t: Any) -> tuple[Any, Any]:
        """i and p. The logarithm may be off by one next to a restart; the steps decide."""
        n, T = self.t_mul, self.first_decay_steps
        i = _wide.floor(ops.log1p(t / T * (n - 1)) / math.log(n))
        i = _wide.maximum(ops.where(t < self._start(i), i - 1, i), 0.0)
        i = ops.where(t >= self._start(i + 1), i + 1, i)
        length = T * ops.power(ops.convert_to_tensor(n, t.dtype), i)
        return i, (t - self._start(i)) / length

    def _start(self, i: Any) -> Any:
        """First step T(nⁱ − 1)/(n − 1) of period i."""
        n = self.t_mul
        return (
            self.first_decay_steps * (ops.power(ops.convert_to_tensor(n, i.dtype), i) - 1) / (n - 1)
        )
