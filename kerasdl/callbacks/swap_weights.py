"""Evaluate, save and end with the weights to show; train the others."""

from typing import Any

import keras

from kerasdl.callbacks._optimizer import innermost_optimizer


class SwapWeights(keras.callbacks.Callback):
    """Put the weights to show into the model whenever it is not training.

    Moving averages (`use_ema=True`), the average of `ASGD` and, with Nesterov's momentum, θ
    itself are not what is trained. With this callback the model has them during validation,
    for the callbacks that come after it at the end of an epoch (`ModelCheckpoint`,
    `EarlyStopping`), and when `fit` returns; the trained weights come back, bit by bit, when
    training goes on, in the same `fit`, in the next one, or after the model was saved and
    loaded. `evaluate` and `predict` take it too.

    Place it before the callbacks that save.

    Raises:
        ValueError: At the start: the model has no optimizer of kerasdl that shows other
            weights than it trains.

    Example:

    >>> import numpy as np, kerasdl
    >>> dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    >>> model = keras.Sequential([keras.Input((1,)), dense])
    >>> model.compile(kerasdl.SGD(0.25, use_ema=True, ema_momentum=0.5), loss="mse")
    >>> data = {"x": np.ones((2, 1)), "y": np.ones((2, 1)), "batch_size": 1, "verbose": 0}
    >>> _ = model.fit(**data, callbacks=[SwapWeights()])
    >>> float(model.get_weights()[0][0, 0])
    0.625
    >>> model.optimizer.swap_weights(), float(model.get_weights()[0][0, 0])
    (False, 0.75)

    References:
        N2 (interim point), N3 (list: ASGD); Polyak & Juditsky 1992 (averaging).
    """

    def __init__(self) -> None:
        super().__init__()
        self._before = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._require_other_weights()
        self._show(False)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._show(False)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._show(True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._show(True)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._require_other_weights()
        self._before = self._show(True)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._show(self._before)

    def on_predict_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.on_test_begin()

    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None:
        self.on_test_end()

    def _show(self, shown: bool) -> bool:
        """Bring it about, and return how it was before."""
        optimizer = innermost_optimizer(self.model, self)
        if not optimizer.built:
            return False
        before = bool(optimizer.is_swapped)
        if before != shown:
            optimizer.swap_weights()
        return before

    def _require_other_weights(self) -> None:
        optimizer = innermost_optimizer(self.model, self)
        if not getattr(optimizer, "has_other_weights", False):
            raise ValueError(
                f"SwapWeights needs an optimizer of kerasdl that shows other weights than it "
                f"trains: use_ema=True, nesterov=True or ASGD. Received: "
                f"{type(optimizer).__name__} {optimizer.name!r}. Leave the callback out."
            )
