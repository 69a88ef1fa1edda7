"""Reduction of the learning rate while the weights go back and forth."""

import math
from typing import Any

import keras
import numpy as np

from kerasdl._checks import is_integer, is_real, require
from kerasdl.callbacks._by_layer import Array, weights_of
from kerasdl.callbacks._monitored import require_epochs
from kerasdl.callbacks._optimizer import innermost_optimizer
from kerasdl.callbacks._rate import rate, require_number, require_reduction


class ReduceLROnOscillation(keras.callbacks.Callback):
    """Reduce the learning rate when the weights oscillate.

    The weights θ_k are looked at after every epoch, or after every `every` batches. With
    Δ_k = θ_k − θ_{k−1}, the share of the elements that turn round is

        o_k = #{i : Δ_k,i · Δ_{k−1},i < 0} / #{i : Δ_k,i · Δ_{k−1},i ≠ 0}

    Where its mean over an epoch is above `threshold` in `patience` epochs on end:
    η ← max(factor · η, min_lr), and the next `cooldown` epochs are not counted.

    Weights on their way somewhere have o near 0, a random walk has ½, weights that hover
    about a point at random ⅔, and weights that are thrown from one side of a valley to the
    other 1. So 0.6 means that the rate keeps them from coming any nearer.

    `oscillation` and `learning_rate` go into the logs of every epoch, so place the callback
    before `CSVLogger` and `TensorBoard`; `oscillation` is NaN as long as there are no three
    looks to compare. It keeps a copy of the weights in float64
    and the signs of the last update.

    Args:
        threshold: In [0, 1).
        factor: In (0, 1). Typical values are 0.1 to 0.5.
        patience: Number of epochs ≥ 1 on end with oscillation.
        cooldown: Number of epochs ≥ 0 after a reduction that are not counted.
        min_lr: Lowest learning rate, ≥ 0. A rate that starts below it stays.
        every: Batches from one look to the next, ≥ 1. None for one look per epoch.
        verbose: 1 prints each change, 0 is quiet.

    Raises:
        ValueError: An argument is out of its range; at the start of the training: the model
            has no optimizer, or one whose learning rate is itself a schedule or function.

    Example:

    >>> dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> model = keras.Sequential([keras.Input((1,)), dense])
    >>> model.compile(keras.optimizers.SGD(0.75), loss="mse")
    >>> fit = {"x": np.array([[1.0]]), "y": np.array([[0.0]]), "epochs": 4, "verbose": 0}
    >>> history = model.fit(**fit, callbacks=[ReduceLROnOscillation(patience=1)]).history
    >>> history["oscillation"]
    [nan, 1.0, 1.0, 0.0]
    >>> history["learning_rate"]
    [0.75, 0.75, 0.375, 0.1875]

    References:
        N4 ("reduce learning rate when weights oscillate").
    """

    def __init__(
        self,
        threshold: float = 0.6,
        factor: float = 0.5,
        patience: int = 2,
        cooldown: int = 0,
        min_lr: float = 0.0,
        every: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        require(
            is_real(threshold) and 0 <= threshold < 1,
            "threshold",
            threshold,
            "in [0, 1)",
            "A random walk has 0.5, and weights that hover about a point two thirds.",
        )
        require_reduction(factor, min_lr)
        require_epochs(cooldown=cooldown)
        for argument, value in (("patience", patience), ("every", 1 if every is None else every)):
            require(
                is_integer(value) and value >= 1,
                argument,
                value,
                "an integer ≥ 1" + " or None" * (argument == "every"),
                "Pass a number of epochs."
                if argument == "patience"
                else "Pass a number of batches, or None for one look per epoch.",
            )
        self.threshold = threshold
        self.factor = factor
        self.patience = patience
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.every = every
        self.verbose = verbose
        self._forget()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse an optimizer whose rate cannot be set, and forget the training before."""
        require_number(innermost_optimizer(self.model, self), self)
        self._forget()
        self._look()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the weights every so many batches."""
        self._batches += 1
        if self.every is not None and self._batches % self.every == 0:
            self._look()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the share, and decide."""
        if self.every is None:
            self._look()
        share = float(np.mean(self._shares)) if self._shares else math.nan
        self._shares.clear()
        if logs is not None:
            logs["oscillation"] = share
            logs["learning_rate"] = rate(innermost_optimizer(self.model, self))
        if self._cooling > 0:
            self._cooling -= 1
            self._wait = 0
        if not share > self.threshold:
            self._wait = 0
        elif self._cooling == 0:
            self._wait += 1
        if self._wait >= self.patience:
            self._reduce(epoch)

    def _forget(self) -> None:
        self._weights: list[Array] = []
        self._signs: list[np.ndarray[Any, np.dtype[np.int8]]] = []
        self._shares: list[float] = []
        self._batches = self._wait = self._cooling = 0

    def _look(self) -> None:
        weights = weights_of(self.model)
        signs = [
            np.sign(new - old).astype("int8")
            for new, old in zip(weights, self._weights, strict=False)
        ]
        products = [new * old for new, old in zip(signs, self._signs, strict=False)]
        moved = sum(np.count_nonzero(each) for each in products)
        if moved:
            self._shares.append(float(sum((each < 0).sum() for each in products) / moved))
        self._weights, self._signs = weights, signs

    def _reduce(self, epoch: int) -> None:
        optimizer = innermost_optimizer(self.model, self)
        before = rate(optimizer)
        optimizer.learning_rate = max(self.factor * before, min(before, self.min_lr))
        self._wait, self._cooling = 0, self.cooldown
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {before:g} -> {rate(optimizer):g}")
