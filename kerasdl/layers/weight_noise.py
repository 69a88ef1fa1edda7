"""Gaussian noise on the weights of any layer."""

from typing import Any

import keras

from kerasdl._checks import require
from kerasdl.layers._random_state import SavedRandomState
from kerasdl.layers.gaussian_noise import require_stddev


class WeightNoise(SavedRandomState, keras.layers.Wrapper):
    """Let a layer compute with noisy kernels while training.

        training    y = layer(x; W + N),   Nᵢⱼ ~ N(0, σ²), drawn anew at every call
        inference   y = layer(x; W)

    The gradient is taken at W + N and moves W. Noise falls on every weight whose name ends
    with "kernel" (also the recurrent and depthwise ones, and those of inner layers) or is
    "embeddings"; biases and the like are left alone. Penalties and constraints see W.

    σ is a hyper-parameter (N0), in the unit of the weights: 0.01 to 0.1 as a rule, below the
    spread of the initial kernel. The wrapped layer is the attribute `layer`.

    Args:
        layer: A layer with at least one such weight, or the configuration of one.
        stddev: σ ≥ 0, in the unit of the weights.
        seed: Integer for repeatable draws. Default None.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: `layer` is no layer or (once built) has no kernel; `stddev` is negative or
            not finite.

    Example:

    >>> layer = WeightNoise(keras.layers.Dense(1, use_bias=False), 0.1, seed=1)
    >>> x = keras.ops.ones((1, 3))
    >>> bool(layer(x, training=True) != layer(x, training=True))
    True
    >>> bool(layer(x) == layer.layer(x))
    True

    References:
        N0 (noise in neural networks); Jim, Giles & Horne, "An Analysis of Noise in Recurrent
        Neural Networks", 1996; Graves, "Practical Variational Inference for Neural Networks",
        2011.
    """

    def __init__(
        self,
        layer: Any,
        stddev: float,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(layer, dict):
            layer = keras.layers.deserialize(layer)
        require(
            isinstance(layer, keras.layers.Layer),
            "layer",
            layer,
            "a Keras layer",
            "Pass for example keras.layers.Dense(10).",
        )
        require_stddev(stddev)
        super().__init__(layer, **kwargs)
        self.stddev = stddev
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = layer.supports_masking

    def build(self, input_shape: Any) -> None:
        """Build the layer and find its kernels."""
        super().build(input_shape)
        require(
            bool(self._kernels()),
            "layer",
            self.layer.name,
            "a layer with a weight named '...kernel' or 'embeddings'",
            "Wrap a layer that multiplies by a kernel, such as Dense or Conv2D.",
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Call the layer, in training with noise on its kernels."""
        if not training or self.stddev == 0:
            return self.layer(inputs)
        variables = self.layer.variables
        given = {id(variable): variable.value for variable in variables}
        for kernel in self._kernels():
            given[id(kernel)] = self._noisy(kernel)
        state = [(variable, given[id(variable)]) for variable in variables]
        with keras.StatelessScope(state, collect_losses=True) as scope:
            before = {id(v): scope.get_current_value(v) for v in variables}
            outputs = self.layer(inputs)
        for variable in variables:
            after = scope.get_current_value(variable)
            if after is not before[id(variable)]:
                variable.assign(after)
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs

    def _noisy(self, kernel: Any) -> Any:
        value = keras.ops.cast(kernel.value, kernel.dtype)
        shape, seed = kernel.shape, self.seed_generator
        return value + keras.random.normal(shape, stddev=self.stddev, dtype=kernel.dtype, seed=seed)

    def _kernels(self) -> list[Any]:
        return [
            weight
            for weight in self.layer.weights
            if (weight.name.endswith("kernel") or weight.name == "embeddings")
            and "float" in keras.backend.standardize_dtype(weight.dtype)
        ]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Return the mask of the layer."""
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the output shape of the layer."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "WeightNoise":
        """Return the layer of a configuration, which is left as it is."""
        return super().from_config(dict(config), custom_objects)
