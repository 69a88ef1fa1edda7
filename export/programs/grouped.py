"""Grouped: convolutions in groups, without a compilation at every call.

Keras compiles a convolution in groups with XLA anew at every call outside a function: a tenth of a
second at least, a minute for some of a ConvNeXt. The float64 runs take another form in its place:
where each channel is a group a depthwise convolution, else TensorFlow's own operation.

Inside a function, what is compiled is closed to tf2onnx. While a graph is traced for it, they are
TensorFlow's own operation at any depth: inside subclassed models, inside layers of the user's that
call `keras.ops.conv`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import nn  # `keras.ops` looks its functions up here

from .layouts import CONV, by_name, is_channels_first

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@contextmanager
def uncompiled(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Let those of the layers that are convolutions in groups compute without a compilation."""
    changed = [layer for layer in layers if _is_grouped(layer)]
    try:
        for layer in changed:
            # Past Keras' own setter, which keeps a list of what a layer has.
            object.__setattr__(layer, "convolution_op", partial(_convolve, layer))
        yield
    finally:
        for layer in changed:
            object.__delattr__(layer, "convolution_op")


@contextmanager
def uncompiled_traces() -> Iterator[None]:
    """Let the convolutions that Keras compiles be traced as TensorFlow's own operation."""
    own = nn.conv
    nn.conv = partial(_traced, own)
    try:
        yield
    finally:
        nn.conv = own


def _is_grouped(layer: Any) -> bool:
    if type(layer) not in CONVOLUTIONS or layer.groups == 1 or not layer.built:
        return False
    return bool(layer.padding != "causal")


def _convolve(layer: Any, inputs: Any, kernel: Any) -> Any:
    *window, size, filters = kernel.shape
    given = {
        "strides": layer.strides,
        "padding": layer.padding,
        "data_format": layer.data_format,
        "dilation_rate": layer.dilation_rate,
    }
    if size > 1 or layer.rank == 3:
        return _direct(inputs, kernel, **given)
    shape = (*window, layer.groups, filters // layer.groups)
    return keras.ops.depthwise_conv(inputs, keras.ops.reshape(kernel, shape), **given)


def _traced(own: Callable[..., Any], inputs: Any, kernel: Any, *window: Any, **named: Any) -> Any:
    """As `keras.ops.conv`; channels-first Conv3D are compiled, too."""
    given = by_name(CONV, window, named)
    first = is_channels_first(given.get("data_format"))
    channels = inputs.shape[1 if first else -1]
    if channels == kernel.shape[-2] and not (first and len(inputs.shape) == 5):
        return own(inputs, kernel, **given)
    return _direct(inputs, kernel, **given)


def _direct(
    inputs: Any,
    kernel: Any,
    strides: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Any:
    """TensorFlow's own operation, on channels-last data; where it knows no groups, one for each."""
    first = is_channels_first(data_format)
    x = keras.ops.moveaxis(inputs, 1, -1) if first else inputs
    count = x.shape[-1] // kernel.shape[-2] if len(x.shape) == 5 else 1
    parts = zip(tf.split(x, count, -1), tf.split(kernel, count, -1), strict=True)
    results = [
        tf.nn.convolution(part, own, strides, padding.upper(), dilations=dilation_rate)
        for part, own in parts
    ]
    y = results[0] if count == 1 else tf.concat(results, -1)
    return keras.ops.moveaxis(y, -1, 1) if first else y
