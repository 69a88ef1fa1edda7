"""The models that the benchmarks of the exporter compare, and how tf2onnx alone converts them."""

import keras
import numpy as np
import tf2onnx
from keras import layers

import kerasdl


def mlp():
    return kerasdl.default_model((64,), 10, units=(256, 128, 64))


def small():
    return kerasdl.default_model((30,), 2, units=(32, 16))


def late_normalization():
    """Normalization behind s-shaped activations: only the next Dense can absorb it."""
    return kerasdl.default_model((64,), 10, units=(256, 128, 64), activation="tanh")


def images():
    return kerasdl.default_model((32, 32, 3), 10)


def separable():
    x = inputs = keras.Input((32, 32, 3))
    for filters in (16, 32, 64):
        x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def gated():
    x = inputs = keras.Input((20, 16))
    return keras.Model(inputs, layers.Dense(4)(layers.GRU(32)(x)))


def simple():
    x = inputs = keras.Input((20, 16))
    return keras.Model(inputs, layers.Dense(4)(layers.SimpleRNN(128)(x)))


def transformer():
    """Two blocks of attention over 16 steps of 32 numbers."""
    x = inputs = keras.Input((16, 32))
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
        inner = layers.Dense(64, activation="relu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(32)(inner))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def recurrent():
    x = inputs = keras.Input((20, 16))
    x = layers.LSTM(32)(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


def resnet():
    return keras.applications.ResNet50(weights=None)


def mobilenet():
    return keras.applications.MobileNetV2(weights=None)


BUILDERS = {
    "default MLP": mlp,
    "small MLP": small,
    "MLP, tanh": late_normalization,
    "default CNN": images,
    "separable CNN": separable,
    "LSTM": recurrent,
    "GRU": gated,
    "SimpleRNN": simple,
    "transformer": transformer,
    "MobileNetV2": mobilenet,
    "ResNet50": resnet,
}


def build(name):
    """The model, its vectors no longer 0 and 1: a normalization at its start is no operation."""
    keras.utils.set_random_seed(0)
    model = BUILDERS[name]()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            value = np.asarray(weight.numpy())
            weight.assign(
                value * rng.uniform(0.8, 1.2, value.shape) + 0.01 * rng.random(value.shape)
            )
    return model


def by_tf2onnx(model, path):
    """tf2onnx as its users call it; it takes no Sequential."""
    tf2onnx.convert.from_keras(keras.Model(model.inputs, model.outputs), output_path=path)
