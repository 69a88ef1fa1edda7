"""Convolutions that TensorFlow lacks on some machines, against sums written from the formula."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.backend import nn

from kerasdl import export
from kerasdl.export.programs.layouts import any_layout

pytestmark = pytest.mark.tensorflow

WINDOW, FILTERS, CHANNELS = (2, 3), 4, 3
OPTIONS = [
    {"strides": step, "dilation_rate": apart, "padding": padding}
    for step, apart in ((1, 1), (1, 2), (1, (3, 1)), (2, 1), ((3, 2), 1))
    for padding in ("valid", "same")
]


def pair(number):
    return (number, number) if isinstance(number, int) else number


def reach(dilation):
    """Extents of a window whose weights are so far apart."""
    return [(k - 1) * d + 1 for k, d in zip(WINDOW, dilation, strict=True)]


def convolved(x, kernel, strides, dilation_rate, padding):
    """Every result is the sum of what lies under the window."""
    steps, apart = pair(strides), pair(dilation_rate)
    if padding == "same":
        wanted = [-(-n // s) for n, s in zip(x.shape[2:], steps, strict=True)]
        sizes = zip(wanted, steps, reach(apart), x.shape[2:], strict=True)
        missing = [max((m - 1) * s + k - n, 0) for m, s, k, n in sizes]
        x = np.pad(x, [(0, 0), (0, 0), *((more // 2, more - more // 2) for more in missing)])
    counts = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], reach(apart), steps, strict=True)]
    y = np.zeros((len(x), FILTERS, *counts))
    for place in itertools.product(*map(range, counts)):
        for tap in itertools.product(*map(range, WINDOW)):
            i, j = (p * s + t * d for p, s, t, d in zip(place, steps, tap, apart, strict=True))
            y[:, :, place[0], place[1]] += x[:, :, i, j] @ kernel[tap]
    return y


def transposed(x, kernel, strides, dilation_rate, padding):
    """Every number is given to all results under the window."""
    steps, apart = pair(strides), pair(dilation_rate)
    full = [
        (n - 1) * s + max(k, s) for n, s, k in zip(x.shape[2:], steps, reach(apart), strict=True)
    ]
    y = np.zeros((len(x), FILTERS, *full))
    for place in itertools.product(*map(range, x.shape[2:])):
        for tap in itertools.product(*map(range, WINDOW)):
            i, j = (p * s + t * d for p, s, t, d in zip(place, steps, tap, apart, strict=True))
            y[:, :, i, j] += x[:, :, place[0], place[1]] @ kernel[tap].T
    if padding == "valid":
        return y
    before = [max(k - s, 0) // 2 for k, s in zip(reach(apart), steps, strict=True)]
    ends = [b + n * s for b, n, s in zip(before, x.shape[2:], steps, strict=True)]
    return y[:, :, before[0] : ends[0], before[1] : ends[1]]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda each: "-".join(map(str, each.values())))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    ("kind", "reference"), [(layers.Conv2D, convolved), (layers.Conv2DTranspose, transposed)]
)
def test_as_the_formula(kind, reference, layout, dtype, options, rng):
    layer = kind(FILTERS, WINDOW, use_bias=False, data_format=layout, dtype=dtype, **options)
    x = rng.normal(size=(2, CHANNELS, 7, 8)).astype(dtype)
    given = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
    layer.build(given.shape)
    wanted = reference(x.astype("float64"), np.float64(layer.kernel), **options)
    for traced in (False, True):
        with any_layout(traced):
            y = layer(given).numpy()
        found = y if layout == "channels_first" else np.moveaxis(y, -1, 1)
        rtol = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol)


def lacking(own):
    """What TensorFlow says where it is without oneDNN."""

    def call(*arguments, **named):
        formats = [x for x in (*arguments, *named.values()) if isinstance(x, str)]
        if tf.executing_eagerly() and "channels_first" in formats:
            raise tf.errors.UnimplementedError(None, None, "only supports the NHWC tensor format")
        return own(*arguments, **named)

    return call


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_a_machine_that_has_none(precision, monkeypatch, tmp_path):
    keras.utils.set_random_seed(0)
    first = {"data_format": "channels_first", "padding": "same"}
    model = keras.Sequential(
        [
            keras.Input((3, 6, 5)),
            layers.Conv2D(8, 3, **first),
            layers.BatchNormalization(axis=1),
            layers.ReLU(),
            layers.Conv2DTranspose(2, 3, strides=2, **first),
        ],
    )
    for name in ("conv", "conv_transpose"):
        monkeypatch.setattr(nn, name, lacking(getattr(nn, name)))
    with pytest.raises(tf.errors.UnimplementedError):
        model(np.zeros((1, 3, 6, 5), "float32"))
    report = export.to_onnx(model, tmp_path / "model.onnx", precision=precision)
    assert report.passed
    assert report.float64_failure is None


class Past(layers.Layer):
    """Asks TensorFlow itself, in float64, of which it has no such convolution on any processor."""

    def call(self, x):
        kernel = tf.ones((1, 1, 3, 2), tf.float64)
        y = tf.nn.conv2d(tf.cast(x, tf.float64), kernel, 1, "SAME", data_format="NCHW")
        return tf.cast(y, "float32")

    def compute_output_shape(self, shape):
        return (shape[0], 2, *shape[2:])


def test_what_keras_is_not_asked_for(tmp_path):
    model = keras.Sequential([keras.Input((3, 4, 4)), Past()])
    with pytest.raises(export.SourceError, match="TF_ENABLE_ONEDNN_OPTS=1") as failure:
        export.to_onnx(model, tmp_path / "model.onnx")
    assert "`data`" not in str(failure.value)


def test_what_was_there_is_back():
    before = nn.conv, nn.conv_transpose
    with any_layout():
        assert nn.conv is not before[0]
        assert nn.conv_transpose is not before[1]
    assert (nn.conv, nn.conv_transpose) == before
