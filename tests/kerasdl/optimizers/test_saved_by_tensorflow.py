"""TensorFlow's own ways to save: what it tracks must only ever have been appended to."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerasdl
from kerasdl.catalog import CATALOG

pytestmark = pytest.mark.tensorflow
X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
ENTRIES = [entry for entry in CATALOG if entry.kind == "optimizer"]


def trained(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    model.fit(X, Y, verbose=0)
    return model


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_checkpoint(entry, tmp_path):
    model = trained(entry.object(**entry.arguments))
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in model.optimizer.variables]
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = checkpoint.save(tmp_path / "checkpoint")
    model.fit(X, Y, verbose=0)
    checkpoint.restore(path).assert_consumed()
    for variable, value in zip(model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.mark.parametrize("rate", [0.01, keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)])
def test_saved_model(rate, tmp_path):
    model = trained(kerasdl.Adam(rate))
    kerasdl.find_learning_rate(model, X, Y, steps=10)
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.serve(X), model.predict(X, verbose=0), rtol=1e-6)
