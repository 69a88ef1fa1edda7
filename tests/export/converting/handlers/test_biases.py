"""Vectors that are added to channels: constants or not, along the last axis or the second one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from operations import in_onnx

from kerasdl import export
from random_networks import randomize

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 3, 4, 5), (2, 3, 2, 4, 3)])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_biases_that_are_computed(shape, layout, rng):
    channels = shape[1 if layout == "NCHW" else -1]
    x, bias = rng.normal(size=shape), rng.normal(size=channels)
    axes = (1,) * (len(shape) - 2) if layout == "NCHW" else ()
    (y,) = in_onnx(
        lambda a, b: tf.nn.bias_add(a, tf.abs(b), data_format=layout),
        x.astype("float32"),
        bias.astype("float32"),
    )
    np.testing.assert_allclose(y, x + np.abs(bias).reshape(channels, *axes), rtol=1e-6, atol=1e-6)


CONDITIONED = {
    "convolution": lambda x, t: layers.Conv2D(4, 3)(x) + layers.Dense(4)(t)[:, None, None],
    "transposed": lambda x, t: layers.Conv2DTranspose(4, 3)(x) + layers.Dense(4)(t)[:, None, None],
    "separable": lambda x, t: layers.SeparableConv2D(4, 3)(x) + layers.Dense(4)(t)[:, None, None],
    "grouped": lambda x, t: layers.Conv2D(6, 3, groups=3)(x) + layers.Dense(6)(t)[:, None, None],
    "twice": lambda x, t: (
        layers.Conv2D(4, 3)(x)
        + layers.Dense(4)(t)[:, None, None]
        + layers.Dense(4)(t)[:, None, None]
    ),
    "normalized": lambda x, t: layers.BatchNormalization()(
        layers.Conv2D(4, 3)(x) + layers.Dense(4)(t)[:, None, None]
    ),
    "first": lambda x, t: (
        layers.Conv2D(5, 3, data_format="channels_first")(x) + layers.Dense(5)(t)[:, :, None, None]
    ),
    "one feature": lambda x, t: layers.Conv2D(1, 3)(x) + layers.Dense(1)(t)[:, None, None],
}


@pytest.mark.parametrize("make", CONDITIONED.values(), ids=CONDITIONED)
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("float16", marks=pytest.mark.slow), "int8"]
)
def test_one_more_vector_on_a_convolution(make, precision, tmp_path):
    """Keras takes that of the only row for a bias, and tf2onnx for the fourth input of a Conv."""
    x, t = keras.Input((6, 6, 3), name="x"), keras.Input((5,), name="t")
    model = keras.Model([x, t], make(x, t))
    randomize(model, 0)
    path = tmp_path / "model.onnx"
    assert export.to_onnx(model, path, precision=precision, dimensions={"batch": 1}).passed
    assert export.verify(model, path).passed


def test_a_residual_of_one_feature(tmp_path):
    x, y = keras.Input((20, 1)), keras.Input((20, 1))
    model = keras.Model([x, y], layers.Conv1D(3, 2)(x + y))
    assert export.to_onnx(model, tmp_path / "model.onnx", dimensions={"batch": 1}).passed
