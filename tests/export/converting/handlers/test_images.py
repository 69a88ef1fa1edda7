"""Resized images: of free extents, behind a dynamic border, of whole numbers and in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from operations import in_onnx

from kerasdl import export

pytestmark = pytest.mark.tensorflow

METHODS = ["bilinear", "bicubic", "area", "lanczos3", "lanczos5"]
SIZES = [(5, 12), (16, 3), (8, 6), (1, 1), (24, 18)]


def exported(path, shape, layer, dtype="float32", **options):
    model = keras.Sequential([keras.Input(shape, dtype=dtype, name="image"), layer])
    return export.to_onnx(model, path / "model.onnx", **options).passed


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_any_extents(method, antialias, rng):
    x = rng.normal(size=(2, 8, 6, 3)).astype("float32")
    for size in SIZES:
        call = lambda x, s=size: tf.image.resize(x, s, method, antialias=antialias)  # noqa: E731
        (found,) = in_onnx(call, x)
        np.testing.assert_allclose(found, call(x), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_no_images(method):
    x = np.zeros((0, 8, 6, 3), "float32")
    (found,) = in_onnx(lambda x: tf.image.resize(x, (5, 12), method), x)
    assert found.shape == (0, 5, 12, 3)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64"])
def test_bilinear_to_the_last_digit(dtype, rng):
    x = rng.integers(0, 256, (3, 8, 6, 3)).astype(dtype)
    for size in SIZES:
        call = lambda x, s=size: tf.cast(tf.image.resize(x, s), dtype)  # noqa: E731
        for free in (False, True):
            np.testing.assert_array_equal(in_onnx(call, x, free=free)[0], call(x))


def test_of_whole_numbers(tmp_path):
    assert exported(tmp_path, (8, 6, 3), layers.Resizing(5, 12, dtype="uint8"), "uint8")
    x = keras.Input((8, 6, 3), dtype="int32")
    model = keras.Model(x, ops.image.resize(x, (5, 10)))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


def test_in_float64(tmp_path):
    for layer in (
        layers.Resizing(5, 12, dtype="float64"),
        layers.UpSampling2D(2, interpolation="bilinear", dtype="float64"),
        layers.UpSampling2D((2, 3), interpolation="bilinear", dtype="float64"),
    ):
        assert exported(tmp_path, (8, 6, 3), layer, "float64")


@pytest.mark.parametrize("side", ["pad_to_aspect_ratio", "crop_to_aspect_ratio"])
@pytest.mark.parametrize("method", ["bicubic", "area", "lanczos5"])
def test_other_aspect_ratios(method, side, tmp_path):
    layer = layers.Resizing(5, 12, method, **{side: True}, antialias=method == "bicubic")
    assert exported(tmp_path, (8, 6, 3), layer)


@pytest.mark.parametrize("method", ["bicubic", "area", "lanczos3"])
def test_images_of_any_size(method, tmp_path):
    assert exported(tmp_path, (None, None, 3), layers.Resizing(5, 12, method))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("method", ["bilinear", "bicubic", "lanczos5"])
def test_up_sampling_of_any_size(method, layout, tmp_path):
    shape = (None, None, 3) if layout == "channels_last" else (3, None, None)
    for size in (2, (2, 3)):
        layer = layers.UpSampling2D(size, layout, method)
        assert exported(tmp_path, shape, layer)


def test_random_crop_says_what_helps(tmp_path):
    with pytest.raises(export.ConversionError, match="--dim"):
        exported(tmp_path, (None, None, 3), layers.RandomCrop(4, 3))
    fixed = {"image_1": 8, "image_2": 6}
    assert exported(tmp_path, (None, None, 3), layers.RandomCrop(4, 3), dimensions=fixed)
