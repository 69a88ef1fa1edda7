"""Dropout of whole feature maps, with a random state that is saved with the model."""

from typing import Any

import keras

from kerasdl.layers._random_state import SavedRandomState
from kerasdl.layers.dropout import require_rate


class _SpatialDropout(SavedRandomState):
    """What the three ranks share: the check of `rate`, and a policy that survives saving."""

    def __init__(self, rate: float, *args: Any, **kwargs: Any) -> None:
        require_rate(rate)
        super().__init__(rate, *args, **kwargs)  # type: ignore[call-arg]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments.

        Keras writes the dtype of the variables here, and so loses mixed precision.
        """
        layer: Any = self
        policy = keras.dtype_policies.serialize(layer.dtype_policy)
        return {**super().get_config(), "dtype": policy}  # type: ignore[misc]


class SpatialDropout1D(_SpatialDropout, keras.layers.SpatialDropout1D):
    """Drop whole channels of a sequence: `keras.layers.SpatialDropout1D`, resumed exactly.

        training    y = x ⊙ r / (1 − p),   one r per sample and channel
        inference   y = x

    Neighbouring steps of a sequence are alike: dropping single ones hides nothing. Unlike in
    Keras' layer, the random state and a mixed precision policy are saved with the model.

    Args:
        rate: p in [0, 1), the probability that a channel is dropped.
        seed: Integer for repeatable draws. Default None.
        name: Name of the layer. Default None.
        dtype: Dtype or policy of the layer. Default None, the global policy.

    Input shape:
        (samples, steps, channels). Output: the same.

    Raises:
        ValueError: `rate` is out of its range.

    Example:

    >>> layer = SpatialDropout1D(0.5, seed=1)
    >>> y = keras.ops.convert_to_numpy(layer(keras.ops.ones((2, 5, 3)), training=True))
    >>> bool((y == y[:, :1]).all())
    True

    References:
        N0, N4 (dropout); Tompson et al., "Efficient Object Localization Using Convolutional
        Networks", 2015.
    """

    def __init__(
        self,
        rate: float,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(rate, seed=seed, name=name, dtype=dtype)


class SpatialDropout2D(_SpatialDropout, keras.layers.SpatialDropout2D):
    """Drop whole feature maps of an image: `keras.layers.SpatialDropout2D`, resumed exactly.

        training    y = x ⊙ r / (1 − p),   one r per sample and channel
        inference   y = x

    Neighbouring pixels are alike: dropping single ones hides nothing. Unlike in Keras' layer,
    the random state and a mixed precision policy are saved with the model.

    Args:
        rate: p in [0, 1), the probability that a feature map is dropped.
        data_format: `"channels_last"` or `"channels_first"`. Default None, Keras' setting.
        seed: Integer for repeatable draws. Default None.
        name: Name of the layer. Default None.
        dtype: Dtype or policy of the layer. Default None, the global policy.

    Input shape:
        (samples, rows, columns, channels), or with the channels first. Output: the same.

    Raises:
        ValueError: `rate` is out of its range.

    Example:

    >>> layer = SpatialDropout2D(0.5, seed=1)
    >>> y = keras.ops.convert_to_numpy(layer(keras.ops.ones((2, 4, 4, 3)), training=True))
    >>> bool((y == y[:, :1, :1]).all())
    True

    References:
        N0, N4 (dropout); Tompson et al., "Efficient Object Localization Using Convolutional
        Networks", 2015.
    """

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(rate, data_format=data_format, seed=seed, name=name, dtype=dtype)


class SpatialDropout3D(_SpatialDropout, keras.layers.SpatialDropout3D):
    """Drop whole feature maps of a volume: `keras.layers.SpatialDropout3D`, resumed exactly.

        training    y = x ⊙ r / (1 − p),   one r per sample and channel
        inference   y = x

    Neighbouring voxels are alike: dropping single ones hides nothing. Unlike in Keras' layer,
    the random state and a mixed precision policy are saved with the model.

    Args:
        rate: p in [0, 1), the probability that a feature map is dropped.
        data_format: `"channels_last"` or `"channels_first"`. Default None, Keras' setting.
        seed: Integer for repeatable draws. Default None.
        name: Name of the layer. Default None.
        dtype: Dtype or policy of the layer. Default None, the global policy.

    Input shape:
        (samples, depth, rows, columns, channels), or with the channels first. Output: the same.

    Raises:
        ValueError: `rate` is out of its range.

    Example:

    >>> layer = SpatialDropout3D(0.5, seed=1)
    >>> y = keras.ops.convert_to_numpy(layer(keras.ops.ones((2, 2, 2, 2, 3)), training=True))
    >>> bool((y == y[:, :1, :1, :1]).all())
    True

    References:
        N0, N4 (dropout); Tompson et al., "Efficient Object Localization Using Convolutional
        Networks", 2015.
    """

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(rate, data_format=data_format, seed=seed, name=name, dtype=dtype)
