"""Gradient norms, sizes of the updates and clipping, in the logs."""

from typing import Any

import keras

from kerasdl._checks import is_integer, require
from kerasdl.callbacks._optimizer import innermost_optimizer
from kerasdl.optimizers import Optimizer
from kerasdl.optimizers._monitor import Monitor

ROWS = ("gradient_norm", "update_ratio", "clipped_fraction")


class OptimizerMonitor(keras.callbacks.Callback):
    """Write what the optimizer does to every layer into the logs, at the end of every epoch.

    1. `gradient_norm/LAYER`: ‖g‖ over the variables of the layer, before clipping.
    2. `update_ratio/LAYER`: ‖Δθ‖/‖θ‖. About 1e-3 is healthy; 1e-1 is wild, 1e-6 stands still.
    3. `clipped_fraction/LAYER`: share of the elements that clipping changed; only where the
       optimizer clips.

    So `History`, `CSVLogger` and `TensorBoard` see them; place it before those two. The
    numbers are means over sampled updates: the first of an epoch and every `every`-th after
    it, measured in the step itself.

    Args:
        every: Updates from one sample to the next, ≥ 1. A sample costs about as much as an
            update.

    Raises:
        ValueError: `every` is not an integer ≥ 1; at the start of the training: the model has
            no optimizer of kerasdl.

    Example:

    >>> import numpy as np, kerasdl
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")])
    >>> model.compile(kerasdl.SGD(0.1), loss="mse")
    >>> fit = {"x": np.ones((4, 2)), "y": np.ones((4, 1)), "verbose": 0}
    >>> history = model.fit(**fit, callbacks=[OptimizerMonitor(every=2)]).history
    >>> sorted(history)
    ['gradient_norm/out', 'loss', 'update_ratio/out']

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
        self._monitor: Monitor | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Have the step measure, and traced again; later, if the model is not built yet."""
        self._monitor = None
        optimizer = self._optimizer()
        if not optimizer.built and self.model.built:
            optimizer.build(self.model.trainable_variables)
        self._attach()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Catch up if there was nothing to measure yet."""
        if self._monitor is None:
            self._attach()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start anew."""
        if self._monitor is not None:
            self._monitor.reset()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the means into the logs."""
        means = None if self._monitor is None else self._monitor.means()
        if self._monitor is None or means is None or logs is None:
            return
        rows = ROWS if self._optimizer().clips else ROWS[:2]
        for name, row in zip(rows, means, strict=False):
            for layer, value in zip(self._monitor.layers, row, strict=True):
                logs[f"{name}/{layer}"] = float(value)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Have the step measure no more."""
        if self._monitor is not None:
            self._optimizer().set_monitor(None)
            self.model.make_train_function(force=True)

    def _attach(self) -> None:
        optimizer = self._optimizer()
        if optimizer.built:
            self._monitor = Monitor(optimizer.trained_variables, self.every)
            optimizer.set_monitor(self._monitor)
            self.model.make_train_function(force=True)

    def _optimizer(self) -> Any:
        optimizer = innermost_optimizer(self.model, self)
        if not isinstance(optimizer, Optimizer):
            raise ValueError(
                f"OptimizerMonitor needs an optimizer of kerasdl. Received: "
                f"{type(optimizer).__name__} {optimizer.name!r}. Compile the model with "
                f"`kerasdl.{type(optimizer).__name__}` or another one of kerasdl."
            )
        return optimizer
