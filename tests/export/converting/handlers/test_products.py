"""Products along an axis are TensorFlow's, where they overflow too."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from operations import in_onnx

from kerasdl import export

pytestmark = pytest.mark.tensorflow


def check(call, x, rtol=1e-6, **options):
    (found,) = in_onnx(call, x, **options)
    wanted = call(tf.constant(x)).numpy()
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=rtol)


@pytest.mark.parametrize("axis", [-3, -1, 0, 1, 2])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("opset", [pytest.param(13, marks=pytest.mark.slow), 18])
def test_axes_and_directions(axis, exclusive, reverse, opset, rng):
    for shape in ((3, 5, 2), (1, 1, 7), (2, 1, 1)):
        x = rng.normal(size=shape).astype("float32")
        call = lambda x: tf.math.cumprod(x, axis, exclusive, reverse)  # noqa: E731
        for free in (False, True):
            check(call, x, free=free, opset=opset)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_nothing(exclusive, reverse, shape):
    call = lambda x: tf.math.cumprod(x, -1, exclusive, reverse)  # noqa: E731
    for free in (False, True):
        check(call, np.zeros(shape, "float32"), free=free)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_overflows_and_is_not_finite(reverse):
    rows = [
        [1e30, 1e30, 1e-30, 1e-30],
        [1e-30, 1e-30, 1e30, 1e30],
        [0.0, np.inf, 1.0, 2.0],
        [np.nan, 1.0, -0.0, 3.0],
        [-1.0, -np.inf, -2.0, 1e-30],
    ]
    check(lambda x: tf.math.cumprod(x, 1, reverse=reverse), np.array(rows, "float32"))


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "float16", "float64"]
)
def test_types(dtype):
    x = np.array([[3, 7, 11, 5, 2], [0, 1, 2, 3, 4]], dtype)
    check(lambda x: tf.math.cumprod(x, -1), x, rtol=2e-3 if dtype == "float16" else 1e-12)


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("shape", [(6,), (None, 3)])
def test_through_keras(shape, opset, tmp_path):
    inputs = keras.Input(shape)
    y = layers.Dense(4)(ops.cumprod(inputs, axis=-1))
    model = keras.Model(inputs, [y, ops.cumprod(inputs, axis=1)])
    assert export.to_onnx(model, tmp_path / "model.onnx", opset=opset).passed


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_in_other_formats(precision, tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(4)(ops.cumprod(inputs, axis=-1)))
    assert export.to_onnx(model, tmp_path / "model.onnx", precision=precision).passed
