"""Xavier (Glorot) initialization, drawn from a normal distribution."""

from collections.abc import Sequence
from typing import Any

from kerasdl._checks import is_real, require
from kerasdl.initializers.normal_scaling import NormalScaling


class XavierNormal(NormalScaling):
    """Normal weights that balance the forward signal against the backward gradient.

        W ~ N(0, σ²)    σ = gain · √(2 / (fan_in + fan_out))

    σ is the standard deviation of what is drawn in both forms: with `truncated=True` the
    normal is cut at two of its own standard deviations and widened beforehand. Keras'
    `GlorotNormal` always truncates; the notes and the paper do not.

    Use it before sigmoid, tanh, softmax and linear units. `initializer_for` knows the gains
    that N1 and Glorot & Bengio give to some activations.

    Args:
        seed: Integer or `keras.random.SeedGenerator`. One object with an integer (or no)
            seed draws the same values at every call, so give each layer an initializer of
            its own. Default None, a seed drawn at random.
        truncated: Whether values beyond two standard deviations are drawn again (on PyTorch
            Keras does so three times at most: 4 in a million stay). Default False.
        gain: Factor on σ, positive. Default 1.0.
        input_axes: Axes of the kernel that index inputs, where they are not the usual ones.
            Filled in by `EinsumDense`. Default None.
        output_axes: Axes of the kernel that index outputs, together with `input_axes`.
            Default None.

    Raises:
        ValueError: `truncated` is not a boolean, or `gain` not a positive number.

    Example:

    >>> import keras
    >>> kernel = XavierNormal(seed=1)((100, 100))
    >>> round(float(keras.ops.std(kernel)), 2)  # √(2 / 200)
    0.1

    References:
        N0 (weight initialization), N1 (parameter initialization); Glorot & Bengio,
        "Understanding the Difficulty of Training Deep Feedforward Neural Networks", 2010,
        eq. 12.
    """

    def __init__(
        self,
        seed: Any = None,
        truncated: bool = False,
        gain: float = 1.0,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        require_gain(gain)
        self.gain = gain
        super().__init__(gain**2, "fan_avg", seed, truncated, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "gain": self.gain}


def require_gain(gain: object) -> None:
    """Raise ValueError unless `gain` is a positive number.

    Example:

    >>> require_gain(4)
    """
    require(
        is_real(gain) and gain > 0,  # type: ignore[operator]
        "gain",
        gain,
        "a positive number",
        "Pass 1.0 for the paper's spread.",
    )
