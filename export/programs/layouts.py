"""Layouts: convolutions that TensorFlow lacks on a CPU, by others that give the same.

Convolutions of channels-first data, and transposed ones with a dilation, are there in float32
alone, and only where TensorFlow uses oneDNN, as it does on some processors. Such models may come
from other machines. Here the channels are moved behind the other axes, and zeros put between the
weights of a kernel that is dilated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import keras
import numpy as np
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
CONV = ("strides", "padding", "data_format", "dilation_rate")
"""What a convolution is given behind its inputs and its kernel, in this order."""
CONV_TRANSPOSE = ("strides", "padding", "output_padding", "data_format", "dilation_rate")


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
    nn.conv = partial(_computed, conv, CONV, traced)
    nn.conv_transpose = partial(_computed, conv_transpose, CONV_TRANSPOSE, traced)
    try:
        yield
    finally:
        nn.conv, nn.conv_transpose = conv, conv_transpose


def _computed(
    own: Callable[..., Any],
    names: Sequence[str],
    traced: bool,
    inputs: Any,
    kernel: Any,
    *window: Any,
    **named: Any,
) -> Any:
    """What `own` gives; by channels-last data and a kernel with zeros where it lacks the rest."""
    given = by_name(names, window, named)
    first = is_channels_first(given.get("data_format"))
    steps = given.get("dilation_rate", 1)
    spreads = names is CONV_TRANSPOSE and np.any(np.greater(steps, 1))
    if not (first or spreads):
        return own(inputs, kernel, **given)
    if not traced:
        with suppress(*LACKING):
            return own(inputs, kernel, **given)
    if spreads:
        steps = np.broadcast_to(steps, len(kernel.shape) - 2).tolist()
        kernel, given["dilation_rate"] = _spread(kernel, steps), 1
    if not first:
        return own(inputs, kernel, **given)
    given["data_format"] = "channels_last"
    y = own(keras.ops.moveaxis(inputs, 1, -1), kernel, **given)
    return keras.ops.moveaxis(y, -1, 1)


def _spread(kernel: Any, steps: Sequence[int]) -> Any:
    """A kernel with zeros between its weights, so that they are these steps apart."""
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


def by_name(names: Sequence[str], window: Sequence[Any], named: dict[str, Any]) -> dict[str, Any]:
    """What a convolution is given, whether by place or by name."""
    return {**dict(zip(names, window, strict=False)), **named}
