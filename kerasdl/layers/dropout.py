"""Inverted dropout whose random state is saved with the model."""

from typing import Any

import keras

from kerasdl._checks import is_real, require


class Dropout(keras.layers.Dropout):
    """Drop units at random while training: `keras.layers.Dropout`, resumed exactly.

        training    y = x ⊙ r / (1 − p),   rᵢ = 0 with probability p, else 1
        inference   y = x

    The algorithm is Keras' own. A `.keras` file of Keras' layer forgets how far its random
    generator has come, so that a training that continues from the file draws other units than
    the uninterrupted one; this layer saves it.

    p is 0.2 to 0.5 as a rule, and 0.5 to 0.8 in N0. Let it stand behind the last batch
    normalization: in front of one it shifts the variance (N0).

    Args:
        rate: p in [0, 1), the probability that a unit is dropped.
        noise_shape: Shape of r, with 1 on the axes that share their draws. Default None, the
            shape of x.
        seed: Integer for repeatable draws. Default None.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: `rate` is out of its range.

    Example:

    >>> x = keras.ops.ones((1, 4))
    >>> y = keras.ops.convert_to_numpy(Dropout(0.5, seed=1)(x, training=True))
    >>> bool(((y == 0) | (y == 2)).all())
    True

    References:
        N0, N1, N4; Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks
        from Overfitting".
    """

    def __init__(
        self,
        rate: float,
        noise_shape: tuple[int | None, ...] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        require(
            is_real(rate) and 0 <= rate < 1,
            "rate",
            rate,
            "in [0, 1)",
            "Pass the probability that a unit is dropped, not that it is kept.",
        )
        super().__init__(rate, noise_shape=noise_shape, seed=seed, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        """Save the state of the random generator. Called by Keras."""
        if self.rate > 0:
            store["random_state"] = keras.ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: Any) -> None:
        """Restore it, if the file has it. Called by Keras."""
        if self.rate > 0 and "random_state" in store.keys():  # noqa: SIM118 (no `in` here)
            self.seed_generator.state.assign(store["random_state"])
