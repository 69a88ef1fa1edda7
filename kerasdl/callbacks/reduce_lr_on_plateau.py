"""Keras' reduction of the learning rate on a plateau, with errors where it is quiet."""

import math
from typing import Any, Literal

import keras

from kerasdl.callbacks._monitored import (
    require_delta,
    require_epochs,
    require_mode,
    require_monitored,
)
from kerasdl.callbacks._optimizer import innermost_optimizer
from kerasdl.callbacks._rate import require_number, require_reduction


class ReduceLROnPlateau(keras.callbacks.ReduceLROnPlateau):
    """Reduce the learning rate when the monitored value stops improving.

    No improvement by more than `min_delta` for `patience` epochs: η ← max(factor · η, min_lr),
    and the next `cooldown` epochs are not counted.

    This is Keras' callback. In addition, a name that is not in the logs, an optimizer whose
    rate is a schedule and arguments out of their ranges are errors, and NaN is never the best
    value. The rate of each epoch is in the logs as `learning_rate`.

    Args:
        monitor: Name in the logs of `fit`.
        factor: In (0, 1). Typical values are 0.1 to 0.5.
        patience: Number of epochs ≥ 0 without improvement that are tolerated.
        verbose: 1 prints each change, 0 is quiet.
        mode: "min", "max", or "auto" to infer it from the metric.
        min_delta: Smallest change ≥ 0 that is an improvement, in units of `monitor`.
        cooldown: Number of epochs ≥ 0.
        min_lr: Lowest learning rate, ≥ 0.

    Raises:
        ValueError: An argument is out of its range; at the start of the training: the model
            has no optimizer, or one whose learning rate is itself a schedule or function;
            during the training: `monitor` is not in the logs.

    Example:

    >>> import numpy as np
    >>> dense = keras.layers.Dense(1, use_bias=False)
    >>> model = keras.Sequential([keras.Input((1,)), dense])
    >>> model.compile(keras.optimizers.SGD(0.5), loss="mse")
    >>> reduce = ReduceLROnPlateau("loss", factor=0.5, patience=1)
    >>> data = np.zeros((1, 1)), np.full((1, 1), 7.0)
    >>> model.fit(*data, epochs=4, verbose=0, callbacks=[reduce]).history["learning_rate"]
    [0.5, 0.5, 0.25, 0.125]

    References:
        N2 and N4 (decay of the learning rate).
    """

    min_delta: float

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: Literal["auto", "min", "max"] = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        require_reduction(factor, min_lr)
        require_epochs(patience=patience, cooldown=cooldown)
        require_mode(mode)
        require_delta(min_delta)
        super().__init__(
            monitor=monitor,
            factor=factor,
            patience=patience,
            verbose=verbose,
            mode=mode,
            min_delta=min_delta,
            cooldown=cooldown,
            min_lr=min_lr,
        )
        self._seen = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse an optimizer whose rate cannot be set, and forget the training before."""
        require_number(innermost_optimizer(self.model, self), self)
        super().on_train_begin(logs)
        self._seen = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras' rule, for a value that there is."""
        logs = {} if logs is None else logs
        require_monitored(self.monitor, logs, self._seen, "Pass validation data or another name.")
        if self.monitor in logs:
            self._seen = True
            super().on_epoch_end(epoch, logs)
        else:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)

    def _set_monitor_op(self) -> None:
        # Keras turns the sign of `min_delta`, also of one that came turned from a checkpoint.
        self.min_delta = abs(self.min_delta)
        super()._set_monitor_op()

    def _is_improvement(self, monitor_value: Any, reference_value: Any) -> bool:
        if math.isnan(float(monitor_value)):
            return False
        return bool(super()._is_improvement(monitor_value, reference_value))
