"""Fourier transforms of real and complex numbers, of known and of free extents."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from operations import in_onnx, scale

from kerasdl import export

pytestmark = pytest.mark.tensorflow

PARTS = (tf.math.real, tf.math.imag)


def check(call, *arrays, atol=1e-6, **options):
    """To a few times the rounding of the largest number."""
    found = in_onnx(call, *arrays, **options)
    wanted = [y.numpy() for y in tf.nest.flatten(call(*map(tf.constant, arrays)))]
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=atol * (1 + scale(other)))


def of_real(transform, *more):
    """Both parts of a transform of real numbers, and their size."""

    def call(x):
        z = transform(tf.cast(x, tf.complex64), *more)
        return [part(z) for part in PARTS] + [tf.abs(z)]

    return call


COMPLEX = ["fft", "ifft", "fft2d", "ifft2d", "fft3d", "ifft3d"]


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", COMPLEX)
def test_known_extents(name, opset, rng):
    # What onnxruntime makes of several axes takes no empty batch.
    for shape in ((3, 4, 5, 6), (0, 2, 3, 4), (1, 1, 1, 1)):
        if shape[0] or name in {"fft", "ifft"}:
            x = rng.normal(size=shape).astype("float32")
            check(of_real(getattr(tf.signal, name)), x, free=False, opset=opset)


@pytest.mark.parametrize("name", COMPLEX)
def test_free_extents(name, rng):
    for shape in ((3, 4, 5, 6), (0, 2, 3, 4), (1, 1, 1, 1), (2, 3, 8, 30)):
        x = rng.normal(size=shape).astype("float32")
        check(of_real(getattr(tf.signal, name)), x)


@pytest.mark.parametrize("extents", [(None, None, 7), (None, 5, None)])
@pytest.mark.parametrize("inverse", [False, True])
def test_one_of_two_extents_is_free(extents, inverse, rng):
    x, y = rng.normal(size=(2, 3, 5, 7)).astype("float32")

    def call(x, y):
        known = [tf.ensure_shape(part, extents) for part in (x, y)]
        return (ops.ifft2 if inverse else ops.fft2)(known)

    check(call, x, y)


@pytest.mark.parametrize("length", [1, 2, 97, 1000, 1024])
def test_long_and_free(length, rng):
    check(of_real(tf.signal.fft), rng.normal(size=(2, length)).astype("float32"))
    check(lambda x: tf.abs(tf.signal.rfft(x)), rng.normal(size=(2, length)).astype("float32"))


@pytest.mark.parametrize("length", [1, 6, 12, 13])
@pytest.mark.parametrize("given", [5, 12, 20])
def test_free_extents_are_cropped_and_padded(given, length, rng):
    x = rng.normal(size=(3, given)).astype("float32")
    check(lambda x: [part(tf.signal.rfft(x, [length])) for part in PARTS], x)


def test_float64(rng):
    x, y = rng.normal(size=(2, 3, 6))

    def call(x, y):
        z = tf.signal.fft(tf.complex(x, y))
        wide = tf.signal.ifft(tf.cast(tf.cast(x, tf.complex64), tf.complex128))
        return [part(z) for part in PARTS] + [tf.abs(z), tf.math.real(wide)]

    for free in (False, True):
        check(call, x, y, free=free, atol=1e-7)


def test_before_opset_17(rng):
    with pytest.raises(export.ConversionError, match="needs fixed extents before opset 17"):
        in_onnx(of_real(tf.signal.fft), rng.normal(size=(3, 4)).astype("float32"), opset=16)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("lengths", [None, (4, 6), (8, 5), (3, 12)])
def test_two_dimensions_of_real_numbers(lengths, opset, rng):
    x = rng.normal(size=(2, 5, 7)).astype("float32")

    def call(x):
        z = tf.signal.rfft2d(x, lengths)
        return [*(part(z) for part in PARTS), tf.abs(z), tf.signal.irfft2d(z)]

    check(call, x, free=False, opset=opset)


@pytest.mark.parametrize("lengths", [(3, 6), (5, 4), (3, 5), (1, 1)])
def test_rows_and_columns_that_the_inverse_leaves_out(lengths, rng):
    x, y = rng.normal(size=(2, 2, 5, 4)).astype("float32")
    check(lambda x, y: tf.signal.irfft2d(tf.complex(x, y), lengths), x, y, free=False)


def test_sizes():
    large = 3e38
    a = np.array([0, -0.0, 3, -3, large, 1e-30, np.inf, -np.inf, 1, 5, 0], "float32")
    b = np.array([0, 0.0, 4, 4, large / 4, 1e-30, 1, np.inf, -np.inf, 0, 2e30], "float32")
    call = lambda a, b: tf.abs(tf.complex(a, b))  # noqa: E731
    (found,) = in_onnx(call, a, b)
    np.testing.assert_allclose(found, np.hypot(a, b), rtol=1e-6)


def test_casts(rng):
    x, y = rng.normal(size=(2, 3, 4)).astype("float32")

    def call(x, y):
        z = tf.math.conj(tf.complex(x, y))
        whole = tf.cast(tf.cast(10 * x, tf.int32), tf.complex64)
        return [part(z) for part in PARTS] + [tf.cast(z, tf.float32), tf.math.real(whole)]

    check(call, x, y, atol=0)


class Mixing(layers.Layer):
    """As in FNet."""

    def call(self, x):
        return tf.math.real(tf.signal.fft2d(tf.cast(x, tf.complex64)))


class Spectrogram(layers.Layer):
    def call(self, x):
        return tf.abs(tf.signal.stft(x, 16, 8))


@pytest.mark.parametrize(
    ("layer", "shape", "opset"),
    [
        *((Mixing, (16, 8), opset) for opset in (13, 18, 21)),
        *((Mixing, (None, 8), opset) for opset in (18, 21)),
        *((Spectrogram, (64,), opset) for opset in (13, 18, 21)),
    ],
)
def test_exports(layer, shape, opset, tmp_path):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layers.Dense(4)(layer()(inputs)))
    assert export.to_onnx(model, tmp_path / "model.onnx", opset=opset).passed


@pytest.mark.parametrize("shape", [(None,), (40,)])
def test_spectra_of_sounds_of_any_length(shape, tmp_path):
    inputs = keras.Input(shape)
    found = layers.Lambda(lambda x: tf.abs(tf.signal.rfft(x)), output_shape=(None,))(inputs)
    frames = Spectrogram()(inputs)
    model = keras.Model(inputs, [found, frames])
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
