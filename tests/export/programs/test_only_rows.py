"""The only row of a batch, which Keras adds along another axis than its own."""

import keras
import numpy as np
import onnxruntime
import pytest
from keras import layers, ops

from kerasdl import export

pytestmark = pytest.mark.tensorflow


def distances(x):
    """|x|² + |y|² − 2 x·y of all pairs."""
    size = ops.sum(x * x, -1)
    return size[:, :, None] + size[:, None, :] - 2 * ops.matmul(x, ops.swapaxes(x, 1, 2))


def scores(x):
    return ops.matmul(x, ops.swapaxes(x, 1, 2)) + ops.sum(x, -1)[:, :, None]


class Distances(layers.Layer):
    def call(self, x):
        return ops.add(distances(x), ops.max(x, -1)[:, :, None])


class Weights(layers.Layer):
    """What Keras adds so in every batch, it adds so in the file."""

    def build(self, shape):
        self.column = self.add_weight(shape=(shape[1],), initializer="random_normal")
        self.square = self.add_weight(shape=shape[1:2] * 2, initializer="random_normal")

    def call(self, x):
        column = ops.reshape(self.column, (1, -1, 1))
        return ops.add(ops.matmul(x, ops.swapaxes(x, 1, 2)), column), ops.add(
            self.square[None], column
        )


ROWS = {"distances": distances, "scores": scores, "layer": Distances()}
OPTIONS = [{}, {"dimensions": {"batch": 1}}, {"dimensions": {"batch": 5}}]


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("options", OPTIONS, ids=["free", "one", "five"])
def test_a_row_has_the_same_sums_in_every_batch(make, options, tmp_path, rng):
    x = keras.Input((5, 3), name="x")
    model = keras.Model(x, make(x))
    path = tmp_path / "model.onnx"
    report = export.to_onnx(model, path, **options)
    assert any("the only row of a batch" in note for note in report.notes)
    checked = export.verify(model, path, layers=True)
    assert checked.passed
    assert all(check.passed for check in checked.layers)
    rows = rng.normal(size=(5, 5, 3)).astype("float32")
    session = onnxruntime.InferenceSession(path)
    size = session.get_inputs()[0].shape[0]
    batches = [rows[:1], rows[1:]] if size == "batch" else np.split(rows, 5 // size)
    found = np.concatenate([session.run(None, {"x": batch})[0] for batch in batches])
    np.testing.assert_allclose(found, model(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=["free", "one", "five"])
def test_weights_are_no_rows(options, tmp_path):
    x = keras.Input((5, 3), name="x")
    model = keras.Model(x, Weights()(x))
    path = tmp_path / "model.onnx"
    report = export.to_onnx(model, path, **options)
    assert report.notes == []
    assert export.verify(model, path).passed


@pytest.mark.parametrize("end", [lambda y: 1e-4 * y, lambda y: ops.argmax(y, -1)])
@pytest.mark.parametrize("options", OPTIONS, ids=["free", "one", "five"])
def test_weights_behind_which_little_is_seen(end, options, tmp_path, rng):
    x = keras.Input((5, 3), name="x")
    sums, _ = Weights()(x)
    model = keras.Model(x, end(sums))
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path, **options)
    rows = rng.normal(size=(5, 5, 3)).astype("float32")
    session = onnxruntime.InferenceSession(path)
    size = session.get_inputs()[0].shape[0]
    batches = [rows] if size == "batch" else np.split(rows, 5 // size)
    found = np.concatenate([session.run(None, {"x": batch})[0] for batch in batches])
    np.testing.assert_allclose(found, model(rows), rtol=1e-5, atol=1e-9)


def test_data_of_one_row(tmp_path, rng):
    x = keras.Input((5, 3), name="x")
    model = keras.Model(x, distances(x))
    data = {"x": rng.normal(size=(1, 5, 3)).astype("float32")}
    assert export.to_onnx(model, tmp_path / "model.onnx", data=data).passed
    assert export.verify(model, tmp_path / "model.onnx", data=data).passed
