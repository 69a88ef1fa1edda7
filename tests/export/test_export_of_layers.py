"""The layers of kerasdl in ONNX files."""

import keras
import numpy as np
import pytest
from keras import layers

import kerasdl
from kerasdl import export

pytestmark = pytest.mark.tensorflow


def stack(*parts, shape=(4,)):
    return keras.Sequential([keras.Input(shape), *parts, layers.Dense(2, name="head")])


def run(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: kerasdl.Standardization(),
        lambda: kerasdl.PCA(2),
        lambda: kerasdl.Whitening("pca"),
        lambda: kerasdl.Whitening("zca"),
    ],
    ids=["standardization", "pca", "pca whitening", "zca whitening"],
)
def test_adapted_layers_travel_into_the_file(make, rng, tmp_path):
    layer = make()
    x = (rng.normal(size=(64, 4)) @ rng.normal(size=(4, 4)) + 3).astype("float32")
    layer.adapt(x)
    model = stack(layer)
    path = tmp_path / "model.onnx"
    assert export.to_onnx(model, path, data={model.inputs[0].name: x}).passed
    np.testing.assert_allclose(run(path, x), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (lambda: kerasdl.Dropout(0.4), (4,)),
        (lambda: kerasdl.GaussianNoise(2.0), (4,)),
        (lambda: kerasdl.WeightNoise(layers.Dense(3), 0.5), (4,)),
        (lambda: kerasdl.SpatialDropout1D(0.4), (5, 4)),
        (lambda: kerasdl.SpatialDropout2D(0.4), (3, 3, 4)),
        (lambda: kerasdl.SpatialDropout3D(0.4), (2, 2, 2, 4)),
    ],
    ids=["dropout", "noise", "weight noise", "1D", "2D", "3D"],
)
def test_the_file_is_the_mean_network(part, shape, rng, tmp_path):
    model = stack(part(), shape=shape)
    x = rng.normal(size=(3, *shape)).astype("float32")
    path = tmp_path / "model.onnx"
    assert export.to_onnx(model, path).passed
    np.testing.assert_allclose(run(path, x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_classic_dropout_is_scaled_in_the_file(rng, tmp_path):
    """The file holds N0's weights times the keep probability."""
    p = 0.4
    model = stack(kerasdl.Dropout(p, mode="classic"))
    kernel, bias = model.get_layer("head").get_weights()
    x = rng.normal(size=(3, 4)).astype("float32")
    path = tmp_path / "model.onnx"
    assert export.to_onnx(model, path).passed
    np.testing.assert_allclose(run(path, x), (1 - p) * x @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_a_model_without_batch_normalization(rng, tmp_path):
    bn = kerasdl.BatchNormalization()
    model = stack(layers.Dense(3), bn, layers.ELU())
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    new = kerasdl.replace_batch_normalization(model)
    x = rng.normal(size=(5, 4)).astype("float32")
    path = tmp_path / "model.onnx"
    assert export.to_onnx(new, path).passed
    np.testing.assert_allclose(run(path, x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
