"""Early stopping that keeps the best weights, and stops when the model is good enough."""

import math
from typing import Any, Literal

import keras

from kerasdl._checks import is_real, require
from kerasdl.callbacks._monitored import (
    require_delta,
    require_epochs,
    require_mode,
    require_monitored,
)

MISSING = "Pass validation data or another name; with validation_freq=n pass start_from_epoch=n-1."


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Stop when the monitored value stops improving, or is good enough.

    1. No improvement by more than `min_delta` for `patience` epochs: stop.
    2. The value reaches `target`, from whichever side is better: stop, the present weights
       are the best ones. This works from the first epoch on.

    The best weights are put back at the end of every training, also one that runs through
    all its epochs. NaN counts as the worst value there is. `patience` is usually 5 to 20
    epochs; give noisy validation losses more.

    Args:
        monitor: Name in the logs of `fit`.
        min_delta: Smallest change ≥ 0 that is an improvement, in units of `monitor`.
        patience: Number of epochs ≥ 0 without improvement that are tolerated.
        verbose: 1 prints why the training stopped, 0 is quiet.
        mode: "min", "max", or "auto" to infer it from the metric.
        baseline: Value to beat before patience is renewed: until then the first epoch without
            improvement after `patience` epochs stops the training. None for none.
        restore_best_weights: Put the weights of the best epoch back.
        start_from_epoch: Number of first epochs that are not looked at.
        target: Value that is good enough; None for none.

    Raises:
        ValueError: An argument is out of its range; during the training: `monitor` is not
            in the logs.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", loss="mse")
    >>> good_enough = EarlyStopping("loss", target=1e6)
    >>> data = np.ones((4, 1)), np.ones((4, 1))
    >>> history = model.fit(*data, epochs=9, verbose=0, callbacks=[good_enough])
    >>> history.epoch, good_enough.reached_target
    ([0], True)

    References:
        N0 (early stopping), N3 ("stop if the network has already achieved a good
        performance"); Prechelt 1998, "Early Stopping - But When?".
    """

    min_delta: float

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: Literal["auto", "min", "max"] = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        start_from_epoch: int = 0,
        target: float | None = None,
    ) -> None:
        require_delta(min_delta)
        require_epochs(patience=patience, start_from_epoch=start_from_epoch)
        require_mode(mode)
        _require_number("baseline", baseline, "Pass the value to beat.")
        _require_number("target", target, "Pass the value that is good enough.")
        super().__init__(
            monitor=monitor,
            min_delta=min_delta,
            patience=patience,
            verbose=verbose,
            mode=mode,
            baseline=baseline,
            restore_best_weights=restore_best_weights,
            start_from_epoch=start_from_epoch,
        )
        self.target = target
        self.reached_target = False
        self._seen = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget the training before."""
        super().on_train_begin(logs)
        self.reached_target = False
        self._seen = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras' rule, then the target."""
        logs = logs or {}
        if epoch < self.start_from_epoch:
            return
        if self.monitor not in logs:
            require_monitored(self.monitor, logs, self._seen, MISSING)
            return
        self._seen = True
        super().on_epoch_end(epoch, logs)
        value = float(logs[self.monitor])
        if self._reaches_target(value):
            self._stop_at_target(epoch, value)

    def get_monitor_value(self, logs: dict[str, Any] | None) -> float:
        """The monitored value, or the worst possible one for NaN."""
        value = float((logs or {})[self.monitor])
        return self._worst() if math.isnan(value) else value

    def _set_monitor_op(self) -> None:
        # Keras turns the sign of `min_delta`, also of one that came turned from a checkpoint.
        self.min_delta = abs(self.min_delta)
        super()._set_monitor_op()

    def _worst(self) -> float:
        return math.inf if bool(self.monitor_op(0.0, 1.0)) else -math.inf

    def _reaches_target(self, value: float) -> bool:
        if self.target is None or math.isnan(value):
            return False
        return value <= self.target if self._worst() > 0 else value >= self.target

    def _stop_at_target(self, epoch: int, value: float) -> None:
        self.reached_target = True
        self.best, self.best_epoch = value, epoch
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()
        self.stopped_epoch = epoch
        self.model.stop_training = True
        if self.verbose:
            print(f"Epoch {epoch + 1}: {self.monitor} {value:g} reached the target")


def _require_number(argument: str, value: Any, advice: str) -> None:
    require(value is None or is_real(value), argument, value, "a finite number or None", advice)
