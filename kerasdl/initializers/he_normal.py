"""He initialization, drawn from a normal distribution."""

from collections.abc import Sequence
from typing import Any

from kerasdl.initializers.normal_scaling import NormalScaling


class HeNormal(NormalScaling):
    """Normal weights whose spread keeps the signal alive through ReLU layers.

        W ~ N(0, σ²)    σ = √(2 / fan_in)

    The factor 2 makes up for the half of the signal that a rectifier sets to zero. σ is the
    standard deviation of what is drawn in both forms: with `truncated=True` the normal is
    cut at two of its own standard deviations and widened beforehand, so that σ stays the
    same. Keras' class of this name always truncates; the notes and the paper do not.

    Use it before ReLU, leaky ReLU, ELU and their relatives.

    Args:
        seed: Integer or `keras.random.SeedGenerator`. One object with an integer (or no)
            seed draws the same values at every call, so give each layer an initializer of
            its own. Default None, a seed drawn at random.
        truncated: Whether values beyond two standard deviations are drawn again (on PyTorch
            Keras does so three times at most: 4 in a million stay). Default False.
        input_axes: Axes of the kernel that index inputs, where they are not the usual ones.
            Filled in by `EinsumDense`; `[0, 1]` for the kernel of a `DepthwiseConv2D`, which
            Keras would otherwise take for one with fan-in height × width × channels.
            Default None.
        output_axes: Axes of the kernel that index outputs; `[2, 3]` in the same place. Given
            together with `input_axes`. Default None.

    Raises:
        ValueError: `truncated` is not a boolean.

    Example:

    >>> import keras
    >>> kernel = HeNormal(seed=1)((200, 500))
    >>> round(float(keras.ops.std(kernel)), 2)  # √(2 / 200)
    0.1

    References:
        N0 (weight initialization), N1 (parameter initialization); He, Zhang, Ren & Sun,
        "Delving Deep into Rectifiers", 2015, eq. 10.
    """

    def __init__(
        self,
        seed: Any = None,
        truncated: bool = False,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(2.0, "fan_in", seed, truncated, input_axes, output_axes)
