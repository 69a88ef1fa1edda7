"""Layouts: convolutions that TensorFlow lacks on a CPU, by others that give the same.

Convolutions of channels-first data, and transposed ones with a dilation, are there in float32
alone, and only where TensorFlow uses oneDNN, as it does on some processors. Such models may come
from other machines. Here the channels are moved behind the other axes, and zeros put between the
weights of a kernel that is dilated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import nn  # `keras.ops` looks its functions up here

LACKING = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)
"""What TensorFlow says of an operation that it has not on this machine, or not in this dtype."""


SAYING_SO = ("NHWC", "NDHWC", "dilation rates")
"""Words of those errors."""
ADVICE = (
    "TensorFlow has no such convolution on this processor; with the environment variable "
    "TF_ENABLE_ONEDNN_OPTS=1, set before it is imported, it may have"
)


def is_lacking(error: BaseException) -> bool:
    """Whether TensorFlow lacks a convolution, which the model asks for past `keras.ops`."""
    return isinstance(error, LACKING) and any(word in str(error) for word in SAYING_SO)


@contextmanager
def any_layout(traced: bool = False) -> Iterator[None]:
    """Let convolutions that TensorFlow lacks be computed by others.

    Args:
        traced: Take others for all that it might lack, since a trace does not tell.
    """
    conv, conv_transpose = nn.conv, nn.conv_transpose
    nn.conv = partial(_conv, conv, traced)
    nn.conv_transpose = partial(_conv_transpose, conv_transpose, traced)
    try:
        yield
    finally:
        nn.conv, nn.conv_transpose = conv, conv_transpose


def _conv(
    own: Callable[..., Any],
    traced: bool,
    inputs: Any,
    kernel: Any,
    strides: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Any:
    def on(x: Any, data_format: str | None) -> Any:
        return own(x, kernel, strides, padding, data_format, dilation_rate)

    if not is_channels_first(data_format):
        return on(inputs, data_format)
    return _either(traced, partial(on, inputs, data_format), partial(_last, on, inputs))


def _conv_transpose(
    own: Callable[..., Any],
    traced: bool,
    inputs: Any,
    kernel: Any,
    strides: int | Sequence[int] = 1,
    padding: str = "valid",
    output_padding: int | Sequence[int] | None = None,
    data_format: str | None = None,
    dilation_rate: int | Sequence[int] = 1,
) -> Any:
    def on(kernel: Any, dilation: int | Sequence[int], x: Any, data_format: str | None) -> Any:
        return own(x, kernel, strides, padding, output_padding, data_format, dilation)

    rank = len(inputs.shape) - 2
    steps = (dilation_rate,) * rank if isinstance(dilation_rate, int) else tuple(dilation_rate)
    plain = partial(on, kernel, dilation_rate, inputs, data_format)
    spread = partial(on, _spread(kernel, steps), 1)
    if is_channels_first(data_format):
        return _either(traced, plain, partial(_last, spread, inputs))
    if any(step > 1 for step in steps):
        return _either(traced, plain, partial(spread, inputs, data_format))
    return plain()


def _either(traced: bool, own: Callable[[], Any], other: Callable[[], Any]) -> Any:
    if not traced:
        try:
            return own()
        except LACKING:
            pass
    return other()


def _last(on: Callable[..., Any], inputs: Any) -> Any:
    """What comes of the same data with the channels last."""
    return keras.ops.moveaxis(on(keras.ops.moveaxis(inputs, 1, -1), "channels_last"), -1, 1)


def _spread(kernel: Any, steps: Sequence[int]) -> Any:
    """A kernel with zeros between its weights, so that they are these steps apart."""
    if all(step == 1 for step in steps):
        return kernel
    for axis, step in enumerate(steps):
        shape = list(kernel.shape)
        extent = (shape[axis] - 1) * step + 1
        apart = keras.ops.expand_dims(kernel, axis + 1)
        zeros = [[0, 0]] * len(apart.shape)
        zeros[axis + 1] = [0, step - 1]
        shape[axis] *= step
        kernel = keras.ops.reshape(keras.ops.pad(apart, zeros), shape)
        kernel = kernel[(slice(None),) * axis + (slice(extent),)]
    return kernel


def is_channels_first(data_format: str | None) -> bool:
    """Whether an operation that is given this takes the channels behind the batch."""
    return (data_format or keras.config.image_data_format()) == "channels_first"
