"""One multiplication and one addition per channel: batch normalization at test time."""

from typing import Any

import keras

from kerasdl._checks import is_integer, require


class Affine(keras.layers.Layer):
    """Scale and shift every channel.

        y = a ⊙ x + b    one a and one b per index of `axis`

    After training, batch normalization is such a map, with a = γ/√(V+ε) and b = β − aE
    (N2). The arithmetic is done in the layer's compute dtype.

    Use it to write down a frozen batch normalization, or as a learned scale on its own.

    Args:
        axis: The channel axis, counted from the batch axis (0) or from the end (−1).
            It must not be the batch axis. Default −1.
        scale_initializer: Initial a. Default `"ones"`.
        offset_initializer: Initial b. Default `"zeros"`.
        scale_regularizer: Penalty on a. Default None.
        offset_regularizer: Penalty on b. Default None.
        scale_constraint: Constraint on a. Default None.
        offset_constraint: Constraint on b. Default None.
        **kwargs: `name`, `dtype`, `trainable` of any Keras layer.

    Input shape:
        Any, of rank 2 or more, with a known size on `axis`. Output: the same.

    Raises:
        ValueError: `axis` is no integer, is the batch axis, lies outside the input, or has
            an unknown size.

    Example:

    >>> layer = Affine(scale_initializer=keras.initializers.Constant(2.0))
    >>> keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 3)))).tolist()
    [[2.0, 2.0, 2.0]]

    References:
        N2 (inference using batch norm); Ioffe & Szegedy, "Batch Normalization", 2015,
        algorithm 2, step 11.
    """

    def __init__(
        self,
        axis: int = -1,
        scale_initializer: Any = "ones",
        offset_initializer: Any = "zeros",
        scale_regularizer: Any = None,
        offset_regularizer: Any = None,
        scale_constraint: Any = None,
        offset_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require(
            is_integer(axis) and axis != 0,
            "axis",
            axis,
            "a non-zero integer",
            "Pass -1 for channels last or 1 for channels first; axis 0 is the batch.",
        )
        self.axis = int(axis)
        self.scale_initializer = keras.initializers.get(scale_initializer)
        self.offset_initializer = keras.initializers.get(offset_initializer)
        self.scale_regularizer = keras.regularizers.get(scale_regularizer)
        self.offset_regularizer = keras.regularizers.get(offset_regularizer)
        self.scale_constraint = keras.constraints.get(scale_constraint)
        self.offset_constraint = keras.constraints.get(offset_constraint)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create `scale` and `offset`, one value per channel."""
        rank = len(input_shape)
        require(
            -rank < self.axis < rank,
            "axis",
            self.axis,
            f"a channel axis of the input of shape {tuple(input_shape)}",
            "Choose an axis inside the input, other than the batch axis.",
        )
        channels = input_shape[self.axis]
        require(
            channels is not None,
            "axis",
            self.axis,
            f"an axis of known size in the input of shape {tuple(input_shape)}",
            "Give that axis a size in `keras.Input`.",
        )
        self.scale = self.add_weight(
            name="scale",
            shape=(channels,),
            initializer=self.scale_initializer,
            regularizer=self.scale_regularizer,
            constraint=self.scale_constraint,
        )
        self.offset = self.add_weight(
            name="offset",
            shape=(channels,),
            initializer=self.offset_initializer,
            regularizer=self.offset_regularizer,
            constraint=self.offset_constraint,
        )
        self.input_spec = keras.layers.InputSpec(ndim=rank, axes={self.axis: channels})

    def call(self, inputs: Any) -> Any:
        """Return a ⊙ x + b."""
        shape = [1] * len(inputs.shape)
        shape[self.axis] = -1
        return inputs * keras.ops.reshape(self.scale, shape) + keras.ops.reshape(self.offset, shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Return the input shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "scale_initializer": keras.initializers.serialize(self.scale_initializer),
            "offset_initializer": keras.initializers.serialize(self.offset_initializer),
            "scale_regularizer": keras.regularizers.serialize(self.scale_regularizer),
            "offset_regularizer": keras.regularizers.serialize(self.offset_regularizer),
            "scale_constraint": keras.constraints.serialize(self.scale_constraint),
            "offset_constraint": keras.constraints.serialize(self.offset_constraint),
        }
