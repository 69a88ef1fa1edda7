"""Dropout in both of its forms, with a random state that is saved with the model."""

import random
from typing import Any

import keras

from kerasdl._checks import is_real, require
from kerasdl.layers._random_state import SavedRandomState


class Dropout(SavedRandomState, keras.layers.Dropout):
    """Drop units at random while training: `keras.layers.Dropout`, resumed exactly.

                                  training             inference
        1. mode="inverted"        y = x ⊙ r / (1 − p)   y = x
        2. mode="classic" (N0)    y = x ⊙ r             y = (1 − p) x

    with rᵢ = 0 with probability p, else 1. In both, y has the same mean in training as at
    inference. Case 1 is Keras' own algorithm. Case 2 lets the next layer see larger values the
    smaller p is; its inference is N0's "multiplied with the weights in every layer".

    A `.keras` file of Keras' layer forgets how far its random generator has come, so that a
    training that continues from the file draws other units than the uninterrupted one; this
    layer saves it.

    p is 0.2 to 0.5 as a rule, and 0.5 to 0.8 in N0. Let it stand behind the last batch
    normalization: in front of one it shifts the variance (N0). `predict_mc` averages over the
    draws at inference.

    Args:
        rate: p in [0, 1), the probability that a unit is dropped.
        noise_shape: Shape of r, with 1 on the axes that share their draws. Default None, the
            shape of x.
        seed: Integer for repeatable draws. Default None.
        mode: `"inverted"` or `"classic"`. Default `"inverted"`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: `rate` is out of its range, or `mode` is none of the two.

    Example:

    >>> x = keras.ops.ones((1, 4))
    >>> y = keras.ops.convert_to_numpy(Dropout(0.5, seed=1)(x, training=True))
    >>> bool(((y == 0) | (y == 2)).all())
    True
    >>> keras.ops.convert_to_numpy(Dropout(0.25, mode="classic")(x)).tolist()
    [[0.75, 0.75, 0.75, 0.75]]

    References:
        N0 (guidelines for dropout), N1, N4; Srivastava et al. 2014, "Dropout: A Simple Way to
        Prevent Neural Networks from Overfitting".
    """

    def __init__(
        self,
        rate: float,
        noise_shape: tuple[int | None, ...] | None = None,
        seed: int | None = None,
        mode: str = "inverted",
        **kwargs: Any,
    ) -> None:
        require_rate(rate)
        require(
            mode in ("inverted", "classic"),
            "mode",
            mode,
            "'inverted' or 'classic'",
            "Pass 'classic' to scale by the keep probability at inference.",
        )
        # Without a seed Keras leaves the draws on PyTorch to a state that no file keeps.
        drawn = random.randint(1, 10**9) if seed is None else seed
        super().__init__(rate, noise_shape=noise_shape, seed=drawn, **kwargs)
        self.seed = seed
        self.mode = mode

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop in training; at inference scale if the mode is "classic"."""
        if self.mode == "inverted":
            return super().call(inputs, training=training)
        if not training:
            return inputs * (1 - self.rate)
        kept = super().call(keras.ops.ones_like(inputs), training=True) > 0
        return keras.ops.where(kept, inputs, keras.ops.zeros_like(inputs))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "mode": self.mode}


def require_rate(rate: object) -> None:
    """Raise ValueError unless `rate` is a probability of dropping, below 1."""
    require(
        is_real(rate) and 0 <= rate < 1,  # type: ignore[operator]
        "rate",
        rate,
        "in [0, 1)",
        "Pass the probability that a unit is dropped, not that it is kept.",
    )
