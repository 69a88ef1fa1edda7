"""What draws random numbers is refused for that reason, not because ONNX draws others."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kerasdl import export

pytestmark = pytest.mark.tensorflow

REASON = "Layer `drawing` cannot be converted.*it draws random numbers"
DRAWING = {
    "normal": lambda x: x + tf.random.normal(tf.shape(x)),
    "normal of a fixed shape": lambda x: x + tf.random.normal((6,), 1.0, 3.0),
    "uniform": lambda x: x + tf.random.uniform(tf.shape(x)),
    "uniform from a to b": lambda x: x + tf.random.uniform((6,), -2.0, 3.0),
    "whole": lambda x: x + tf.cast(tf.random.uniform((6,), 0, 9, tf.int32), x.dtype),
    "truncated": lambda x: x + tf.random.truncated_normal(tf.shape(x)),
    "gamma": lambda x: x + tf.random.gamma((6,), 2.0),
    "poisson": lambda x: x + tf.random.poisson((6,), 2.0),
    "parameters": lambda x: tf.raw_ops.ParameterizedTruncatedNormal(
        shape=tf.shape(x), means=[0.0], stdevs=[1.0], minvals=[-1.0], maxvals=[1.0]
    ),
    "classes": lambda x: tf.cast(tf.random.categorical(x, 3), x.dtype),
    "order": tf.random.shuffle,
    "dropout": lambda x: tf.nn.dropout(x, 0.5),
    "stateless": lambda x: x + tf.random.stateless_normal(tf.shape(x), seed=(1, 2)),
    "keras": lambda x: x + keras.random.normal(keras.ops.shape(x), seed=3),
    "keras' dropout": lambda x: keras.random.dropout(x, 0.5, seed=3),
}


class Drawing(layers.Layer):
    def __init__(self, draw):
        super().__init__(name="drawing")
        self.draw = draw

    def call(self, x):
        return self.draw(x)


def model_of(draw):
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(3)(Drawing(draw)(layers.Dense(6)(inputs))))


@pytest.mark.parametrize("opset", [pytest.param(13, marks=pytest.mark.slow), 18])
@pytest.mark.parametrize("kind", DRAWING)
def test_drawing(kind, opset, tmp_path):
    with pytest.raises(export.ConversionError, match=REASON) as raised:
        export.to_onnx(model_of(DRAWING[kind]), tmp_path / "model.onnx", opset=opset)
    assert raised.value.layer == "drawing"


@pytest.mark.parametrize("draw", [tf.random.normal, tf.random.uniform])
def test_what_is_drawn_and_not_used(draw, tmp_path):
    def call(x):
        draw(tf.shape(x))
        return 2 * x

    assert export.to_onnx(model_of(call), tmp_path / "model.onnx").passed


def test_what_is_drawn_once(tmp_path):
    """From fixed seeds, and of a fixed shape: a constant."""
    call = lambda x: x + tf.random.stateless_normal((6,), seed=(1, 2))  # noqa: E731
    assert export.to_onnx(model_of(call), tmp_path / "model.onnx").passed


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dropout(0.5),
        layers.GaussianNoise(0.5),
        layers.RandomFlip(),
        layers.RandomRotation(0.2),
        layers.RandomContrast(0.2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_draw_in_training_only(layer, tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layer(inputs))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
    x = np.zeros((1, 8, 8, 3), "float32")
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)


class Sampling(layers.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=3)


class Inside(keras.Model):
    def __init__(self):
        super().__init__(name="whole")
        self.steps = keras.Sequential([layers.Dense(2), Sampling(name="draws")], name="steps")

    def call(self, x):
        return self.steps(x)


def test_the_layer_inside_is_told(tmp_path):
    model = Inside()
    model(np.zeros((2, 3), "float32"))
    with pytest.raises(export.ConversionError, match="Layer `whole` .in `steps/draws`. cannot be"):
        export.to_onnx(model, tmp_path / "model.onnx")
