"""Sums in which Keras takes one axis for another: rows stay rows, whatever their number."""

import threading

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers, ops
from keras.src.backend.tensorflow import numpy as backend

from kerasdl import export
from random_networks import randomize

pytestmark = pytest.mark.tensorflow


def duel(channels):
    x = keras.Input((8,), name="x")
    advantage = layers.Dense(channels)(x)
    return keras.Model(x, advantage + layers.Dense(1)(advantage))


def added_layer():
    x = keras.Input((1,), name="x")
    return keras.Model(x, layers.Add()([layers.Dense(3)(x), x]))


def global_context():
    x = keras.Input((8, 4), name="x")
    return keras.Model(x, x + ops.mean(x, axis=(1, 2), keepdims=True))


class Duel(keras.Model):
    def __init__(self):
        super().__init__()
        self.advantage, self.value = layers.Dense(3), layers.Dense(1)

    def call(self, x):
        return ops.add(self.advantage(x), self.value(x))


def subclassed():
    model = Duel()
    model(np.zeros((2, 5), "float32"))
    return model


MODELS = {
    "of 3 channels": lambda: duel(3),
    "of 4 channels": lambda: duel(4),
    "of 32 channels": lambda: duel(32),
    "a layer": added_layer,
    "a global context": global_context,
    "subclassed": subclassed,
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_number_per_row(kind, tmp_path, rng):
    model, path = MODELS[kind](), tmp_path / "model.onnx"
    randomize(model, 1)
    report = export.to_onnx(model, path)
    assert report.passed
    (port,) = report.inputs
    rows = [rng.normal(size=(1, *port.shape[1:])).astype("float32") for _ in range(33)]
    session = onnxruntime.InferenceSession(path)
    each = np.concatenate([model(row, training=False) for row in rows])
    for count in (3, 4, 5, 32, 33):
        (y,) = session.run(None, {port.name: np.concatenate(rows[:count])})
        np.testing.assert_allclose(y, each[:count], rtol=1e-4, atol=1e-4)
    assert export.verify(model, path, layers=True).passed


def test_it_is_told(tmp_path):
    report = export.to_onnx(duel(3), tmp_path / "model.onnx")
    (note,) = report.notes
    assert note.startswith("Keras takes a batch of 3 rows for 3 channels")
    assert export.to_onnx(duel(5), tmp_path / "model.onnx").notes == []


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"dimensions": {"batch": 3}}])
def test_with_options(options, tmp_path):
    model = duel(3)
    randomize(model, 1)
    assert export.to_onnx(model, tmp_path / "model.onnx", **options).passed


def test_a_batch_that_the_model_fixes_is_as_keras_has_it(tmp_path, rng):
    x = keras.Input((8,), batch_size=3, name="x")
    y = layers.Dense(3)(x)
    model = keras.Model(x, y + layers.Dense(1)(y))
    randomize(model, 1)
    data = rng.normal(size=(3, 8)).astype("float32")
    report = export.to_onnx(model, tmp_path / "model.onnx", data={"x": data})
    assert report.notes == []
    (found,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"x": data})
    np.testing.assert_allclose(found, model(data), rtol=1e-5, atol=1e-5)


class Mixing(layers.Layer):
    """A column per row of weights, not of the batch."""

    def build(self, shape):
        self.matrix = self.add_weight(shape=(3, 7), initializer="random_normal")
        self.column = self.add_weight(shape=(3, 1), initializer="random_normal")

    def call(self, x):
        return x @ ops.add(self.matrix, self.column)


def test_sums_of_weights(tmp_path):
    model = keras.Sequential([keras.Input((5, 3)), layers.Dense(3), layers.ReLU(), Mixing()])
    assert export.to_onnx(model, tmp_path / "model.onnx").notes == []


def test_keras_is_as_it_was(tmp_path):
    """Behind the export, and meanwhile in other threads."""
    before, seen = backend.add, []
    x1, x2 = tf.ones((3, 3)), tf.constant([[1.0], [2.0], [3.0]])
    wanted = np.asarray(ops.add(x1, x2))

    class Elsewhere(layers.Layer):
        def call(self, x):
            if tf.executing_eagerly() and backend.add is not before:
                thread = threading.Thread(target=lambda: seen.append(np.asarray(ops.add(x1, x2))))
                thread.start()
                thread.join()
            return x

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), Elsewhere(), layers.Dense(2)])
    export.to_onnx(model, tmp_path / "model.onnx")
    assert backend.add is before
    assert seen
    for found in seen:
        np.testing.assert_array_equal(found, wanted)


def first(layer, shape):
    x = keras.Input(shape, name="x")
    model = keras.Model(x, layer(x))
    layer.bias.assign(np.arange(layer.bias.shape[0]) / 5)
    return model


def test_a_bias_that_keras_adds_along_the_last_axis(tmp_path):
    layer = layers.Conv1D(5, 3, data_format="channels_first", name="conv")
    report = export.to_onnx(first(layer, (3, 7)), tmp_path / "model.onnx")
    assert [note for note in report.notes if note.startswith("Keras adds the bias of `conv`")]
    layer = layers.Conv1D(4, 3, data_format="channels_first", name="conv")
    assert export.to_onnx(first(layer, (3, 7)), tmp_path / "model.onnx").notes == []
    layer = layers.Conv2D(5, 3, data_format="channels_first", name="conv")
    with pytest.raises(export.ParityError, match="Keras adds the bias of `conv`.*channels_last"):
        export.to_onnx(first(layer, (3, 7, 7)), tmp_path / "other.onnx")
