"""Xavier (Glorot) initialization, drawn from a uniform distribution."""

from collections.abc import Sequence
from typing import Any

from kerasdl.initializers.scaling import Scaling
from kerasdl.initializers.xavier_normal import require_gain


class XavierUniform(Scaling):
    """Uniform weights that balance the forward signal against the backward gradient.

        W ~ U[−r, r]    r = gain · √(6 / (fan_in + fan_out))

    A uniform variable on [−r, r] has the variance r²/3, so the standard deviation is that
    of `XavierNormal`, without its tails. With a gain of 1 this is Keras' `GlorotUniform`.

    Use it before sigmoid, tanh, softmax and linear units. `initializer_for` knows the gains
    that N1 and Glorot & Bengio give to some activations.

    Args:
        seed: Integer or `keras.random.SeedGenerator`. One object with an integer (or no)
            seed draws the same values at every call, so give each layer an initializer of
            its own. Default None, a seed drawn at random.
        gain: Factor on r, positive. Default 1.0.
        input_axes: Axes of the kernel that index inputs, where they are not the usual ones.
            Filled in by `EinsumDense`. Default None.
        output_axes: Axes of the kernel that index outputs, together with `input_axes`.
            Default None.

    Raises:
        ValueError: `gain` is not a positive number.

    Example:

    >>> import keras
    >>> kernel = XavierUniform(seed=1)((300, 300))
    >>> round(float(keras.ops.max(kernel)), 3)  # √(6 / 600)
    0.1

    References:
        N0 (weight initialization), N1 (parameter initialization); Glorot & Bengio,
        "Understanding the Difficulty of Training Deep Feedforward Neural Networks", 2010,
        eq. 16.
    """

    def __init__(
        self,
        seed: Any = None,
        gain: float = 1.0,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        require_gain(gain)
        self.gain = gain
        super().__init__(gain**2, "fan_avg", "uniform", seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "gain": self.gain}
