"""Convolutions in groups without a compilation: the same numbers, and Keras is as it was."""

import keras
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from keras import layers
from keras.src.backend import nn

from kerasdl.export.converting.convert import convert_graph
from kerasdl.export.graphs.trace import trace
from kerasdl.export.programs.grouped import uncompiled, uncompiled_traces
from kerasdl.export.programs.precision import float64_run

CASES = {
    "plain": (layers.Conv2D(4, 3, groups=4), (7, 6, 4)),
    "multiplied": (layers.Conv2D(12, (3, 2), groups=4, padding="same"), (7, 6, 4)),
    "strides": (layers.Conv2D(8, 3, groups=4, strides=2, padding="same"), (7, 7, 4)),
    "dilated": (layers.Conv2D(4, 3, groups=4, dilation_rate=2, activation="tanh"), (9, 9, 4)),
    "sequence": (layers.Conv1D(6, 3, groups=3, padding="same"), (8, 3)),
    "no bias": (layers.Conv2D(4, 3, groups=4, use_bias=False), (7, 6, 4)),
    "two groups": (layers.Conv2D(6, 3, groups=2, strides=2, padding="same"), (7, 6, 4)),
    "volumes": (layers.Conv3D(4, 2, groups=2), (4, 3, 3, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers(name, rng):
    layer, shape = CASES[name]
    x = rng.normal(size=(2, *shape))
    layer.build((None, *shape))
    layer.kernel.assign(rng.normal(size=layer.kernel.shape))
    own = np.asarray(layer(x.astype("float32")))
    with float64_run([layer]):
        wide = np.asarray(layer(x))
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, own, rtol=1e-5, atol=1e-5)
    assert "convolution_op" not in vars(layer)
    np.testing.assert_array_equal(np.asarray(layer(x.astype("float32"))), own)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(4, 3),
        layers.Conv1D(4, 3, groups=4, padding="causal"),
        layers.DepthwiseConv2D(3),
    ],
)
def test_others_are_left_alone(layer):
    layer.build((None, 7, 4) if isinstance(layer, layers.Conv1D) else (None, 7, 7, 4))
    with uncompiled([layer, layers.Conv2D(4, 3, groups=4)]):
        assert "convolution_op" not in vars(layer)


def test_an_error_inside_leaves_nothing_behind():
    layer = layers.Conv2D(4, 3, groups=4)
    layer.build((None, 7, 7, 4))

    def stop():
        with uncompiled([layer]):
            assert "convolution_op" in vars(layer)
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert "convolution_op" not in vars(layer)


class Inside(keras.layers.Layer):
    """A convolution inside a layer of the user's."""

    def __init__(self, layer):
        super().__init__()
        self.inner = layer

    def call(self, x):
        return self.inner(x)


class Called(keras.layers.Layer):
    """A convolution in groups of no layer."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(3, 3, 2, 4))

    def call(self, x):
        return keras.ops.conv(x, self.kernel, 2, "same")


CLOSED = {
    "own layer": (Inside(layers.Conv2D(4, 3, groups=2)), (6, 6, 4)),
    "depthwise": (Inside(layers.Conv2D(4, 3, groups=4)), (6, 6, 4)),
    "no groups": (Inside(layers.Conv2D(4, 3)), (6, 6, 4)),
    "two deep": (Inside(Inside(layers.Conv1D(4, 3, groups=2, padding="causal"))), (6, 4)),
    "volumes": (Inside(layers.Conv3D(4, 2, groups=2)), (4, 3, 3, 4)),
    "channels first": (
        Inside(layers.Conv3D(3, 2, data_format="channels_first", strides=2)),
        (2, 4, 3, 3),
    ),
    "distributed": (layers.TimeDistributed(layers.Conv2D(4, 3, groups=2)), (2, 6, 6, 4)),
    "function": (Called(), (7, 6, 4)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_layers_are_converted(name, rng):
    layer, shape = CLOSED[name]
    model = keras.Sequential([keras.Input(shape), layer])
    own = nn.conv
    with uncompiled_traces():
        assert nn.conv is not own
        file = ir.to_proto(convert_graph(trace(model), 18)).SerializeToString()
    assert nn.conv is own
    x = rng.normal(size=(3, *shape)).astype("float32")
    (found,) = onnxruntime.InferenceSession(file).run(None, {"input_0": x})
    np.testing.assert_allclose(found, model(x), rtol=1e-5, atol=1e-5)
