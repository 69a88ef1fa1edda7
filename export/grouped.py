"""Grouped: convolutions of one channel each, without a compilation at every call.

Keras compiles a grouped convolution with XLA anew at every call outside a function: half a second,
a hundred times for a ConvNeXt. Where each channel is a group it is a depthwise convolution, which
needs no compilation. The float64 runs take it in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D)


@contextmanager
def uncompiled(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Let those of the layers that are depthwise convolutions compute as such."""
    changed = [layer for layer in layers if _is_depthwise(layer)]
    try:
        for layer in changed:
            # Past Keras' own setter, which keeps a list of what a layer has.
            object.__setattr__(layer, "convolution_op", partial(_convolve, layer))
        yield
    finally:
        for layer in changed:
            object.__delattr__(layer, "convolution_op")


def _is_depthwise(layer: Any) -> bool:
    if type(layer) not in CONVOLUTIONS or layer.groups == 1 or not layer.built:
        return False
    return layer.padding != "causal" and layer.kernel.shape[-2] == 1


def _convolve(layer: Any, inputs: Any, kernel: Any) -> Any:
    *window, _, filters = kernel.shape
    shape = (*window, layer.groups, filters // layer.groups)
    return keras.ops.depthwise_conv(
        inputs,
        keras.ops.reshape(kernel, shape),
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )
