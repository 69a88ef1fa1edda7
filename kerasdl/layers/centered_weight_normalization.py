"""Kernels whose units have mean 0 and a length of their own."""

import math
from typing import Any

import keras
from keras import ops

from kerasdl._checks import require
from kerasdl.clipping._tensors import maths_dtype
from kerasdl.initializers._kernels import AFFINE, SEPARABLE, kernel_axes, kernel_of, replaced

# In the square of a length: far below any kernel's, and enough to keep 0/0 away.
_EPSILON = 1e-12


class CenteredWeightNormalization(keras.layers.Wrapper):
    """Let a layer compute with centred weights of a learned length.

        w = g · (v − v̄) / ‖v − v̄‖    for each unit

    v are the weights of one unit, the layer's own kernel, and v̄ is their mean; g is a learned
    number per unit. A constant added to all inputs of a unit, such as the mean of ReLU
    outputs, cancels, and the length of w no longer depends on v: gradients reach v only along
    directions that turn w. A unit is an output of Dense, a feature map of a convolution, one
    map per input channel of a depthwise one.

    Use it in place of batch normalization where batches are small, around layers that come
    before ReLU, with `scale_initializer=keras.initializers.Constant(2**0.5)` there: a length
    of √2 is He's spread. Weight decay on v changes nothing but the step size, so put it
    on nothing. A weight vector of equal entries, such as all zeros, has no direction; w is 0
    then.

    Args:
        layer: Dense, EinsumDense, or a convolution of any kind but the separable ones; or
            its config.
        scale_initializer: Initial g. Default `"ones"`.
        **kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Raises:
        ValueError: `layer` is of another kind, or a unit has fewer than two weights.

    Example:

    >>> layer = CenteredWeightNormalization(keras.layers.Dense(3))
    >>> layer.build((None, 8))
    >>> w = ops.convert_to_numpy(layer.normalized_kernel())
    >>> bool(abs(w.sum(axis=0)).max() < 1e-6), (w**2).sum(axis=0).round(5).tolist()
    (True, [1.0, 1.0, 1.0])

    References:
        N0 (weight initialization); Huang, Liu, Liu, Lang & Tao, "Centered Weight
        Normalization in Accelerating Training of Deep Neural Networks", 2017.
    """

    def __init__(self, layer: Any, scale_initializer: Any = "ones", **kwargs: Any) -> None:
        layer = keras.layers.deserialize(layer) if isinstance(layer, dict) else layer
        require(
            isinstance(layer, AFFINE) and not isinstance(layer, SEPARABLE),
            "layer",
            layer,
            "a Dense, EinsumDense, Conv, ConvTranspose or DepthwiseConv layer",
            "Write a separable convolution as a depthwise one and one with kernel size 1.",
        )
        super().__init__(layer, **kwargs)
        self.scale_initializer = keras.initializers.get(scale_initializer)
        self.supports_masking = layer.supports_masking

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the layer's own weights and g."""
        super().build(input_shape)
        kernel, axes = kernel_of(self.layer), kernel_axes(self.layer)
        require(
            math.prod(kernel.shape[axis] for axis in axes.inputs) >= 2,
            "layer",
            self.layer.name,
            "a layer with two or more weights per unit",
            "One weight alone is its own mean.",
        )
        inputs = set(axes.inputs)
        self.scale = self.add_weight(
            name="scale",
            shape=tuple(1 if i in inputs else size for i, size in enumerate(kernel.shape)),
            initializer=self.scale_initializer,
        )

    def normalized_kernel(self) -> Any:
        """Return w, in float32 or wider."""
        kernel = ops.convert_to_tensor(kernel_of(self.layer))
        dtype = maths_dtype(kernel.dtype)
        v, g = ops.cast(kernel, dtype), ops.cast(self.scale, dtype)
        inputs = kernel_axes(self.layer).inputs
        centred = v - ops.mean(v, axis=inputs, keepdims=True)
        square = ops.sum(ops.square(centred), axis=inputs, keepdims=True)
        return g * centred * ops.rsqrt(square + _EPSILON)

    def call(self, inputs: Any) -> Any:
        """Apply the layer with w for its kernel."""
        attribute = "_kernel" if "_kernel" in vars(self.layer) else "kernel"
        kernel = ops.cast(self.normalized_kernel(), self.layer.compute_dtype)
        with replaced(self.layer, attribute, kernel):
            return self.layer(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Return the shape that the layer itself gives."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        initializer = keras.initializers.serialize(self.scale_initializer)
        return {**super().get_config(), "scale_initializer": initializer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CenteredWeightNormalization":
        """Make a layer from its constructor arguments."""
        return cls(**config)
