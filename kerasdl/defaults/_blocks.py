"""The hidden layers of the Default Configuration."""

from typing import TYPE_CHECKING, Any

import keras

from kerasdl.defaults import _parts
from kerasdl.layers import BatchNormalization, Dropout

if TYPE_CHECKING:
    from kerasdl.defaults.configuration import DefaultConfiguration

# By the rank of a batch: convolution, pooling, and the mean over all places.
_ALONG = {
    3: (
        keras.layers.Conv1D,
        keras.layers.MaxPooling1D,
        keras.layers.GlobalAveragePooling1D,
    ),
    4: (
        keras.layers.Conv2D,
        keras.layers.MaxPooling2D,
        keras.layers.GlobalAveragePooling2D,
    ),
}


def hidden_layers(configuration: "DefaultConfiguration", x: Any) -> Any:
    """Put the blocks on top of `x`, a batch of vectors, sequences or images.

    Example:

    >>> from kerasdl.defaults.configuration import DefaultConfiguration
    >>> hidden_layers(DefaultConfiguration(), keras.Input((50, 3))).shape
    (None, 64)
    """
    of_vectors = len(x.shape) == 2
    sizes = configuration.units if of_vectors else configuration.filters
    block = _dense_block if of_vectors else _convolution_block
    everywhere = configuration.dropout_placement == "every_block"
    for place, size in enumerate(sizes):
        x = block(configuration, x, size, place)
        if everywhere and place < len(sizes) - 1:
            x = _dropped(configuration, x)
    if not of_vectors:
        x = _ALONG[len(x.shape)][2]()(x)
    return _dropped(configuration, x)


def _dropped(configuration: "DefaultConfiguration", x: Any) -> Any:
    return Dropout(configuration.dropout)(x) if configuration.dropout else x


def _dense_block(configuration: "DefaultConfiguration", x: Any, units: int, place: int) -> Any:
    layer = keras.layers.Dense(units, **_weights(configuration, place))
    return _activated(configuration, layer, x)


def _convolution_block(
    configuration: "DefaultConfiguration", x: Any, filters: int, place: int
) -> Any:
    convolution, pooling, _ = _ALONG[len(x.shape)]
    layer = convolution(filters, 3, padding="same", **_weights(configuration, place))
    x = _activated(configuration, layer, x)
    sizes = x.shape[1:-1]
    if 1 in sizes:
        return x
    # Where a size is open it may be 1, of which a plain pooling would leave nothing.
    return pooling(2, padding="same" if None in sizes else "valid")(x)


def _activated(configuration: "DefaultConfiguration", layer: keras.layers.Layer, x: Any) -> Any:
    steps = [layer, _parts.activation(configuration.activation)]
    if configuration.normalization:
        position = 1 if _normalized_before(configuration) else 2
        steps.insert(position, BatchNormalization(statistics=configuration.statistics))
    for step in steps:
        x = step(x)
    return x


def _normalized_before(configuration: "DefaultConfiguration") -> bool:
    if configuration.normalization_placement == "auto":
        return not _parts.is_s_shaped(configuration.activation)
    return configuration.normalization_placement == "before"


def _weights(configuration: "DefaultConfiguration", place: int) -> dict[str, Any]:
    return {
        "use_bias": not (configuration.normalization and _normalized_before(configuration)),
        "kernel_initializer": _parts.initializer(
            configuration.initialization, configuration.activation, place
        ),
        "kernel_regularizer": _parts.regularizer(configuration.regularizer, configuration.l2),
    }
