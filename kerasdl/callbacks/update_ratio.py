"""Sizes of the updates against those of the weights, for any optimizer."""

from typing import Any

import keras
import numpy as np

from kerasdl._checks import is_integer, require
from kerasdl.callbacks._by_layer import Array, by_layer, norm, weights_of


class UpdateRatio(keras.callbacks.Callback):
    """Write ‖Δθ‖/‖θ‖ of every layer into the logs, at the end of every epoch.

    `update_ratio/LAYER` is the mean over sampled updates: the first of an epoch and every
    `every`-th after it, from the weights before and after. About 1e-3 is healthy; 1e-1 is
    wild, 1e-6 stands still. With `steps_per_execution=k` the k updates of one execution count
    as one, and with gradient accumulation steps without an update count, as zero.

    It works with any optimizer. Those of kerasdl have `OptimizerMonitor`, which measures in
    the step itself and more than this, under the same name. Place the callback before
    `CSVLogger` and `TensorBoard`.

    Args:
        every: Updates from one sample to the next, ≥ 1. A sample copies the weights twice.

    Raises:
        ValueError: `every` is not an integer ≥ 1.

    Example:

    >>> dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="out")
    >>> model = keras.Sequential([keras.Input((1,)), dense])
    >>> model.compile(keras.optimizers.SGD(0.25), loss="mse")
    >>> x, y = np.array([[1.0]]), np.array([[0.0]])
    >>> model.fit(x, y, verbose=0, callbacks=[UpdateRatio()]).history["update_ratio/out"]
    [0.5]

    References:
        N0 (recipe: look at what happens), N2 (vanishing and exploding gradients).
    """

    def __init__(self, every: int = 32) -> None:
        super().__init__()
        require(
            is_integer(every) and every >= 1,
            "every",
            every,
            "an integer ≥ 1",
            "Pass the number of updates from one sample to the next.",
        )
        self.every = every
        self._before: list[Array] = []
        self._clock = 0
        self._samples: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start anew."""
        self._clock, self._samples = 0, []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the weights before a sampled update; there are none before the first build."""
        due = self._clock % self.every == 0
        self._before = weights_of(self.model) if due else []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare with those after it."""
        self._clock += 1
        if self._before:
            model = self.model
            layers = by_layer(model.trainable_variables)
            self._samples.append(_ratios(layers, self._before, weights_of(model)))
            self._before = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the means into the logs."""
        if logs is None or not self._samples:
            return
        for name in self._samples[0]:
            logs[f"update_ratio/{name}"] = float(np.mean([each[name] for each in self._samples]))


def _ratios(
    layers: dict[str, list[int]], before: list[Array], after: list[Array]
) -> dict[str, float]:
    tiny = np.sqrt(np.finfo("float32").tiny)
    return {
        name: norm([after[i] - before[i] for i in own])
        / max(norm([before[i] for i in own]), float(tiny))
        for name, own in layers.items()
    }
