"""A climb in front of any schedule."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasdl import _wide
from kerasdl._checks import is_integer, is_real, require
from kerasdl.schedules._time import remaining
from kerasdl.schedules.base import Schedule, require_rate


class Warmup(Schedule):
    """Let the rate climb in a straight line for w steps, then start a schedule.

    1. t < w: η = η_i + (s(0) − η_i)t/w
    2. t ≥ w: η = s(t − w)

    s is the schedule, or the constant rate. With η_i = 0 the very first step changes
    nothing. w is usually one to five percent of the training; large batches, Adam's young
    averages and batch normalization need it most. The Robbins–Monro conditions hold
    exactly where they hold for s: finitely many steps change no limit.

    Args:
        learning_rate: s, a number ≥ 0 or a `LearningRateSchedule` of kerasdl or Keras.
        warmup_steps: w ≥ 1, in steps.
        initial_learning_rate: η_i ≥ 0. Default 0.0.
        name: Of the operation.

    Returns:
        A function from the step t to the rate η, a scalar tensor.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> schedule = Warmup(0.5, warmup_steps=2)
    >>> [float(schedule(t)) for t in (0, 1, 2, 3)]
    [0.0, 0.25, 0.5, 0.5]

    References:
        N2 (schedules and their conditions); Goyal et al. 2017, "Accurate, Large Minibatch
        SGD", §2.2.
    """

    def __init__(
        self,
        learning_rate: float | Callable[[Any], Any],
        warmup_steps: int,
        initial_learning_rate: float = 0.0,
        name: str = "Warmup",
    ) -> None:
        super().__init__(name)
        rate: Any = learning_rate
        is_schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        require(
            is_schedule or (is_real(rate) and rate >= 0),
            "learning_rate",
            rate,
            "a non-negative number or a LearningRateSchedule",
            "Typical values are 1e-4 to 1e-1.",
        )
        require(
            is_integer(warmup_steps) and warmup_steps >= 1,
            "warmup_steps",
            warmup_steps,
            "an integer ≥ 1",
            "Leave Warmup out for no warm-up.",
        )
        self.learning_rate = rate if is_schedule else float(rate)
        self.warmup_steps = int(warmup_steps)
        self.initial_learning_rate = require_rate("initial_learning_rate", initial_learning_rate)

    def rate(self, t: Any, dtype: str) -> Any:
        w = self.warmup_steps
        target = self._target(_wide.maximum(t - w, ops.zeros_like(t)), dtype)
        left = remaining(t, w, dtype)
        climb = left * self.initial_learning_rate + (1 - left) * target
        return ops.where(t < w, climb, target)

    def _target(self, t: Any, dtype: str) -> Any:
        if callable(self.learning_rate):
            return ops.cast(self.learning_rate(t), dtype)
        return ops.convert_to_tensor(self.learning_rate, dtype)

    def get_config(self) -> dict[str, Any]:
        rate = self.learning_rate
        if callable(rate):
            rate = keras.saving.serialize_keras_object(rate)
        return {**super().get_config(), "learning_rate": rate}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Warmup":
        """The schedule that `get_config` describes."""
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        return cls(**{**config, "learning_rate": rate})
