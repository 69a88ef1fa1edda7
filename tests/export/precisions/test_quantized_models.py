"""Models that Keras has quantized: they compute in whole numbers, and so does the proof."""

import warnings

import keras
import numpy as np
import onnxruntime as ort
import pytest
from keras import layers

from kerasdl import export

pytestmark = pytest.mark.tensorflow

TIGHT = 0.01
"""What the tolerance may be at most here, as a share of the output."""


def dense():
    given = keras.Input((32,))
    hidden = layers.Dense(64, activation="gelu")(given)
    return keras.Model(given, layers.Dense(10)(hidden))


def einsum():
    given = keras.Input((7, 16))
    return keras.Model(given, layers.EinsumDense("abc,cde->abde", (None, 4, 5))(given))


def embedding():
    given = keras.Input((7,), dtype="int32")
    return keras.Model(given, layers.Dense(6)(layers.Embedding(50, 16)(given)))


def normalized():
    steps = [layers.BatchNormalization(), layers.Dense(64), layers.BatchNormalization()]
    steps += [layers.ReLU(), layers.Dense(10), layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((32,)), *steps])
    rng = np.random.default_rng(0)
    for layer in steps:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in layer.get_weights()])
    return model


def convolution():
    steps = [layers.Conv2D(8, 3, activation="relu"), layers.BatchNormalization()]
    steps += [layers.GlobalAveragePooling2D(), layers.Dense(5)]
    return keras.Sequential([keras.Input((12, 12, 3)), *steps])


def attention():
    given = keras.Input((7, 16))
    return keras.Model(given, layers.MultiHeadAttention(2, 8)(given, given))


def quantized(build, mode):
    keras.utils.set_random_seed(0)
    model = build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that have nothing to quantize
        model.quantize(mode)
    return model


@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize(
    "build",
    [dense, einsum, embedding, normalized, convolution, attention],
    ids=lambda f: f.__name__,
)
def test_a_quantized_model_is_proved_in_float64(build, mode, tmp_path):
    model = quantized(build, mode)
    report = export.to_onnx(model, tmp_path / "m.onnx")
    assert report.passed
    assert report.float64_failure is None
    assert all(check.tolerance <= TIGHT * check.magnitude for check in report.checks)

    shape = [4, *model.input_shape[1:]]
    rng = np.random.default_rng(1)
    x = rng.integers(0, 50, shape) if build is embedding else rng.normal(size=shape)
    x = x.astype(model.inputs[0].dtype)
    session = ort.InferenceSession(tmp_path / "m.onnx")
    (result,) = session.run(None, {session.get_inputs()[0].name: x})
    expected = np.asarray(model(x))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_model_stays_as_it_is(tmp_path):
    model = quantized(dense, "int8")
    parts = [(x, name) for x in model.layers for name in ("dtype_policy", "inputs_quantizer")]
    before = [getattr(layer, name, None) for layer, name in parts]
    export.to_onnx(model, tmp_path / "m.onnx")
    after = [getattr(layer, name, None) for layer, name in parts]
    assert all(one is other for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("mode", ["int8", "int4"])
@pytest.mark.parametrize("part", ["_kernel", "kernel_scale", "bias"])
def test_a_wrong_weight_is_found(part, mode, tmp_path):
    model = quantized(dense, mode)
    export.to_onnx(model, tmp_path / "m.onnx")
    weight = getattr(model.layers[-1], part)
    value = np.array(weight)
    flat = value.reshape(-1)
    flat[3] = 5 if part == "_kernel" else flat[3] * 1.05 + (0.2 if part == "bias" else 0.0)
    weight.assign(value)
    assert np.any(value != 0)
    report = export.verify(model, tmp_path / "m.onnx")
    assert not report.passed
    assert not all(check.passed for check in report.checks)


def test_whole_numbers_that_lie_between_two_steps(tmp_path):
    """127 x / 254 is half a step off for every odd x: float64 would round the others way."""
    model = quantized(dense, "int8")
    x = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.float32)
    x[:, 0] = 254.0
    report = export.to_onnx(model, tmp_path / "m.onnx", data={model.inputs[0].name: x})
    assert report.passed
