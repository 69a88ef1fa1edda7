"""Patches of images are TensorFlow's, to the last bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from operations import in_onnx

from kerasdl import export

pytestmark = pytest.mark.tensorflow

WINDOWS = {
    "side by side": ((4, 4), (4, 4), (1, 1)),
    "unequal": ((2, 5), (2, 5), (1, 1)),
    "overlapping": ((3, 3), (1, 1), (1, 1)),
    "apart": ((1, 2), (4, 3), (1, 1)),
    "spread": ((2, 3), (2, 1), (3, 2)),
    "all": ((1, 1), (1, 1), (1, 1)),
}


def patches(windows, padding):
    sizes, steps, rates = ([1, *extents, 1] for extents in WINDOWS[windows])
    return lambda x: tf.image.extract_patches(x, sizes, steps, rates, padding)


def check(call, x, **options):
    wanted = call(tf.constant(x)).numpy()
    (found,) = in_onnx(call, x, **options)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def numbered(*shape, dtype="float32"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("opset", [pytest.param(13, marks=pytest.mark.slow), 18])
def test_windows(windows, padding, opset):
    for shape in ((2, 8, 10, 3), (1, 9, 11, 1), (0, 9, 7, 2)):
        for free in (False, True):
            check(patches(windows, padding), numbered(*shape), free=free, opset=opset)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_images_as_small_as_a_window_or_smaller(padding):
    for windows, shape in (
        ("overlapping", (2, 3, 3, 2)),
        ("overlapping", (2, 2, 3, 2)),
        ("side by side", (2, 2, 3, 2)),
        ("side by side", (2, 4, 1, 3)),
    ):
        for free in (False, True):
            check(patches(windows, padding), numbered(*shape), free=free)


@pytest.mark.parametrize(
    "dtype", ["float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64"]
)
def test_types(dtype):
    x = numbered(2, 5, 6, 2, dtype=dtype)
    for windows in ("side by side", "overlapping"):
        check(patches(windows, "SAME"), x, free=False)


def test_numbers_that_are_not_finite_stay_where_they_are():
    x = numbered(1, 6, 6, 1)
    x[0, 2, 3], x[0, 4, 0], x[0, 0, 5] = np.nan, np.inf, -0.0
    check(patches("overlapping", "SAME"), x)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(("size", "step"), [(2, 2), (3, 1), (2, 3)])
def test_volumes(size, step, padding):
    def call(x):
        sizes, steps = [1, size, size, size, 1], [1, step, step, step, 1]
        return tf.raw_ops.ExtractVolumePatches(
            input=x, ksizes=sizes, strides=steps, padding=padding
        )

    for free in (False, True):
        check(call, numbered(2, 5, 4, 7, 2), free=free)


class Patches(layers.Layer):
    """As in the Keras example of a vision transformer."""

    def call(self, images):
        batch = tf.shape(images)[0]
        sizes = [1, 4, 4, 1]
        found = tf.image.extract_patches(images, sizes, sizes, [1, 1, 1, 1], "VALID")
        return tf.reshape(found, [batch, -1, found.shape[-1]])


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_a_vision_transformer(opset, tmp_path):
    inputs = keras.Input((18, 16, 3))
    x = layers.Dense(8)(Patches()(inputs))
    x = layers.MultiHeadAttention(2, 4)(x, x)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    assert export.to_onnx(model, tmp_path / "model.onnx", opset=opset).passed
