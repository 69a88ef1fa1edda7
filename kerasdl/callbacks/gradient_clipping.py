"""Gradient clipping for any Keras optimizer, for the length of one training."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kerasdl._checks import is_real, require
from kerasdl.callbacks._optimizer import innermost_optimizer
from kerasdl.clipping import (
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
)
from kerasdl.clipping._by_argument import CLIPS as BY_ARGUMENT

Clip = Callable[[Sequence[Any], float], list[Any]]
CLIPS: dict[str, Clip] = {
    "value": clip_by_value,
    "norm": clip_by_norm,
    "average_norm": clip_by_average_norm,
    "global_norm": clip_by_global_norm,
}


class _Hook:
    """What stands in for the optimizer's own clipping while a model trains."""

    def __init__(self, clip: Clip, limit: float) -> None:
        self.clip = clip
        self.limit = limit

    def __call__(self, grads: Sequence[Any]) -> list[Any]:
        return self.clip(grads, self.limit)


class GradientClipping(keras.callbacks.Callback):
    """Clip the gradients that are applied, whichever optimizer applies them.

    1. `value=c`: every element to [−c, c]
    2. `norm=c`: gᵢ ← gᵢ · min(1, c/‖gᵢ‖), per variable
    3. `average_norm=c`: gᵢ ← gᵢ · min(1, c/(‖gᵢ‖/nᵢ)), nᵢ elements
    4. `global_norm=c`: gᵢ ← gᵢ · min(1, c/‖g‖), ‖g‖ over all variables

    Start with `global_norm=1.0`; it keeps the direction of the step. Clipping acts on what
    is applied: after loss scaling is undone and after gradients were accumulated. The
    optimizer is as before once `fit` returns. When `fit` ends in an exception, call
    `on_train_end()`; the next training with a `GradientClipping` replaces what was left
    behind either way.

    Args:
        value: Largest absolute value of an element; positive.
        norm: Largest norm of one gradient; positive.
        average_norm: Largest norm per element of one gradient; positive.
        global_norm: Largest norm of all gradients together; positive.

    Raises:
        ValueError: Not exactly one limit, or one that is not positive; at the start of the
            training: the model has no optimizer, or one that clips by its own arguments.

    Example:

    >>> import numpy as np
    >>> dense = keras.layers.Dense(1, use_bias=False)
    >>> model = keras.Sequential([keras.Input((1,)), dense])
    >>> model.compile(keras.optimizers.SGD(1.0), loss="mse")
    >>> model.set_weights([np.array([[3.0]])])
    >>> clipping = GradientClipping(norm=0.5)
    >>> _ = model.fit(np.ones((1, 1)), np.zeros((1, 1)), verbose=0, callbacks=[clipping])
    >>> float(model.get_weights()[0][0, 0])
    2.5

    References:
        N2 (cliffs), N4 (list); Pascanu et al. 2013, "On the difficulty of training
        recurrent neural networks".
    """

    def __init__(
        self,
        value: float | None = None,
        norm: float | None = None,
        average_norm: float | None = None,
        global_norm: float | None = None,
    ) -> None:
        super().__init__()
        limits = {
            "value": value,
            "norm": norm,
            "average_norm": average_norm,
            "global_norm": global_norm,
        }
        given = {name: limit for name, limit in limits.items() if limit is not None}
        require(
            len(given) == 1,
            "value, norm, average_norm, global_norm",
            tuple(given),
            "exactly one",
            "Start with global_norm=1.0.",
        )
        ((self.method, self.limit),) = given.items()
        require(
            is_real(self.limit) and self.limit > 0,
            self.method,
            self.limit,
            "positive",
            "Leave the callback out to not clip.",
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Take the optimizer's clipping over, and have the training step traced again."""
        optimizer = innermost_optimizer(self.model, self)
        self._require_free(optimizer)
        # Keras offers no public place between accumulating gradients and applying them.
        optimizer._clip_gradients = _Hook(CLIPS[self.method], self.limit)
        self.model.make_train_function(force=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Give the optimizer's own clipping back."""
        optimizer = innermost_optimizer(self.model, self)
        if isinstance(vars(optimizer).get("_clip_gradients"), _Hook):
            del optimizer._clip_gradients
            self.model.make_train_function(force=True)

    def _require_free(self, optimizer: Any) -> None:
        for argument in BY_ARGUMENT:
            limit = getattr(optimizer, argument, None)
            require(
                limit is None,
                argument,
                limit,
                "None in the optimizer when GradientClipping is used",
                "Remove one of the two.",
            )
