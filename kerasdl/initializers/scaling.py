"""What the initializers with a spread of their own share: the axes of the fans, and a config."""

from collections.abc import Sequence
from typing import Any

import keras


class Scaling(keras.initializers.VarianceScaling):
    """Weights of mean 0 and variance scale / n, n the fan-in or the mean of both fans.

    Layers whose kernel is not laid out as inputs × outputs tell which axes are which
    (`EinsumDense`, and so `MultiHeadAttention`, does it by itself). Older versions of Keras
    have no such arguments, and get none unless they are used.
    """

    def __init__(
        self,
        scale: float,
        mode: str,
        distribution: str,
        seed: Any,
        input_axes: Sequence[int] | None,
        output_axes: Sequence[int] | None,
    ) -> None:
        axes = {"input_axes": input_axes, "output_axes": output_axes}
        given = {name: value for name, value in axes.items() if value is not None}
        super().__init__(scale=scale, mode=mode, distribution=distribution, seed=seed, **given)
        self.input_axes = input_axes
        self.output_axes = output_axes

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments that the subclasses have in common."""
        seed = super().get_config()["seed"]
        return {"seed": seed, "input_axes": self.input_axes, "output_axes": self.output_axes}
