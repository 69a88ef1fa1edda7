"""Gaussian noise on inputs or activations, with a random state that is saved."""

from typing import Any

import keras

from kerasdl._checks import is_real, require
from kerasdl.layers._random_state import SavedRandomState


class GaussianNoise(SavedRandomState, keras.layers.GaussianNoise):
    """Add noise while training: `keras.layers.GaussianNoise`, resumed exactly.

        training    y = x + n,   nᵢ ~ N(0, σ²)
        inference   y = x

    On the inputs it is N0's jitter, behind a layer it is noise on the activations. Unlike
    Keras' layer it saves its random state with the model, and allows σ above 1, for inputs
    that are not standardized.

    σ is a hyper-parameter (N0), in the unit of x: 0.01 to 0.3 of the standard deviation of x
    as a rule. For noise on weights see `WeightNoise`, for noise on gradients the argument
    `gradient_noise` of the optimizers.

    Args:
        stddev: σ ≥ 0, in the unit of x.
        seed: Integer for repeatable draws. Default None.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: `stddev` is negative or not finite.

    Example:

    >>> x = keras.ops.zeros((100, 100))
    >>> y = keras.ops.convert_to_numpy(GaussianNoise(2.0, seed=1)(x, training=True))
    >>> bool(1.9 < y.std() < 2.1)
    True

    References:
        N0 (noise in neural networks); Bishop, "Training with Noise is Equivalent to Tikhonov
        Regularization", 1995.
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        require_stddev(stddev)
        # Keras allows no more than 1.
        super().__init__(min(stddev, 1.0), seed=seed, **kwargs)
        self.stddev = stddev


def require_stddev(stddev: object) -> None:
    """Raise ValueError unless `stddev` is a standard deviation."""
    require(
        is_real(stddev) and stddev >= 0,  # type: ignore[operator]
        "stddev",
        stddev,
        "0 or a positive number",
        "Pass the standard deviation of the noise.",
    )
