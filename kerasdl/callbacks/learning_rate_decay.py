"""Decay of the learning rate from epoch to epoch."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kerasdl._checks import is_integer, is_real, require
from kerasdl.callbacks._optimizer import innermost_optimizer
from kerasdl.callbacks._rate import rate, require_number


class LearningRateDecay(keras.callbacks.Callback):
    """Change the learning rate at the start of every epoch e that is a multiple of `every`.

    1. `decay` is a number k: η ← max(kη, η_min) for e > 0
    2. `decay` is a `LearningRateSchedule` or a function: η ← max(decay(e), η_min) for e ≥ 0

    k is usually 0.9 to 0.99 with `every=1`, or 0.1 to 0.5 with `every` of tens of epochs.
    With a constant k the sum of all η is finite (η₀/(1 − k)): training slows to a halt, and
    Robbins–Monro's condition Ση = ∞ does not hold; set `min_learning_rate` for long
    trainings. The rate of epoch e is set when e starts, so a model saved at the end of an
    epoch and continued with `fit(initial_epoch=...)` takes exactly the path it would have
    taken. Without `initial_epoch` a second `fit` goes on from the rate that the first one
    left.

    Any schedule will do, Keras' or ours, with the epoch as its step. For a change per update
    pass the schedule to the optimizer itself.

    Args:
        decay: k in (0, 1], or a schedule or function from the epoch (0, 1, ...) to η.
        every: Number of epochs ≥ 1 between two changes.
        min_learning_rate: η_min ≥ 0. A rate that starts below it stays.
        verbose: 1 prints each change, 0 is quiet.

    Raises:
        ValueError: An argument is out of its range; at the start of the training: the model
            has no optimizer, or one whose learning rate is itself a schedule or function.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.5), loss="mse")
    >>> data = np.zeros((1, 1)), np.zeros((1, 1))
    >>> history = model.fit(*data, epochs=3, verbose=0, callbacks=[LearningRateDecay(0.5)])
    >>> history.history["learning_rate"]
    [0.5, 0.25, 0.125]

    References:
        N3 (α ← 0.99α), N2 and N4 (list of schedules); Robbins & Monro 1951.
    """

    def __init__(
        self,
        decay: float | Callable[[int], Any] = 0.99,
        every: int = 1,
        min_learning_rate: float = 0.0,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        require(
            callable(decay) or (is_real(decay) and 0 < decay <= 1),
            "decay",
            decay,
            "in (0, 1], a LearningRateSchedule or a function of the epoch",
            "Typical values are 0.9 to 0.99.",
        )
        require(
            is_integer(every) and every >= 1,
            "every",
            every,
            "an integer ≥ 1",
            "Pass the number of epochs between two changes.",
        )
        require(
            is_real(min_learning_rate) and min_learning_rate >= 0,
            "min_learning_rate",
            min_learning_rate,
            "non-negative",
            "Pass 0.0 for no floor.",
        )
        self.decay = decay
        self.every = every
        self.min_learning_rate = min_learning_rate
        self.verbose = verbose

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse an optimizer whose rate cannot be set."""
        require_number(innermost_optimizer(self.model, self), self)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the rate of this epoch."""
        if epoch % self.every or (epoch == 0 and not callable(self.decay)):
            return
        optimizer = innermost_optimizer(self.model, self)
        before = self._rate()
        optimizer.learning_rate = self._next_rate(epoch, before)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {before:g} -> {self._rate():g}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the rate of this epoch into the logs."""
        if logs is not None:
            logs["learning_rate"] = self._rate()

    def _next_rate(self, epoch: int, η: float) -> float:
        if not callable(self.decay):
            return max(self.decay * η, min(η, self.min_learning_rate))
        value = float(ops.convert_to_numpy(self.decay(epoch)))
        require(
            is_real(value) and value >= 0,
            f"decay({epoch})",
            value,
            "a non-negative number",
            "Correct the schedule.",
        )
        return max(value, self.min_learning_rate)

    def _rate(self) -> float:
        return rate(innermost_optimizer(self.model, self))
