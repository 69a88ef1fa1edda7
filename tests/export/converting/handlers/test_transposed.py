"""Transposed convolutions with a bias that is not zero: beyond the last window, too."""

import keras
import numpy as np
import pytest
from keras import layers
from operations import in_onnx, spread

from kerasdl import export

pytestmark = pytest.mark.tensorflow

LAYERS = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}
EXTENTS = (4, 3, 2)
CASES = [
    {"strides": strides, "kernel_size": size, "padding": padding, "output_padding": more}
    for strides, size in ((1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (3, 2), (3, 4))
    for padding in ("same", "valid")
    for more in (None, 0, 1)
    if more is None or more < strides
    # TensorFlow itself refuses some of these.
    if not (more == 0 and padding == "same" and size % 2 == 0)
]
CASES += [
    {"kernel_size": 3, "dilation_rate": 2, "padding": padding} for padding in ("same", "valid")
]


def convolution(rank, rng, **options):
    layer = LAYERS[rank](3, **options)
    layer.build((None, *[None] * rank, 2))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def plain(layer):
    """The same with zeros between the weights: not everywhere has TensorFlow dilations."""
    if set(layer.dilation_rate) == {1}:
        return layer
    kernel = spread(layer.kernel.numpy(), layer.dilation_rate)
    other = LAYERS[layer.rank](layer.filters, kernel.shape[: layer.rank], padding=layer.padding)
    other.build((None, *[None] * layer.rank, kernel.shape[-1]))
    other.set_weights([kernel, layer.bias.numpy()])
    return other


def first(x):
    return np.moveaxis(x, -1, 1)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("options", CASES, ids=lambda options: "-".join(map(str, options.values())))
def test_channels_first_and_last(options, free, rng):
    x = rng.normal(size=(2, *EXTENTS[:2], 2)).astype("float32")
    layer = convolution(2, rng, **options)
    wanted = plain(layer)(x).numpy()
    turned = LAYERS[2](3, data_format="channels_first", **options)
    turned.build((None, 2, None, None))
    turned.set_weights(layer.get_weights())
    given = np.ascontiguousarray(first(x))
    for found, expected in (
        (in_onnx(layer, x, free=free), wanted),
        (in_onnx(turned, given, free=free), first(wanted)),
    ):
        np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank, layout, rng, tmp_path):
    extents = EXTENTS[:rank]
    for options in (
        {"strides": 2, "kernel_size": 2, "output_padding": 1, "padding": "valid"},
        {"strides": 3, "kernel_size": 2, "padding": "same"},
    ):
        shape = (*extents, 2) if layout == "channels_last" else (2, *extents)
        layer = LAYERS[rank](3, data_format=layout, **options)
        model = keras.Sequential([keras.Input(shape), layer])
        layer.set_weights(convolution(rank, rng, **options).get_weights())
        assert export.to_onnx(model, tmp_path / "model.onnx").passed


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_with_what_is_folded_into_it(layout, precision, rng, tmp_path):
    axis = 1 if layout == "channels_first" else -1
    model = keras.Sequential(
        [
            keras.Input((2, 4, 3) if axis == 1 else (4, 3, 2)),
            LAYERS[2](3, 2, strides=3, data_format=layout),
            layers.BatchNormalization(axis=axis),
            layers.Activation("relu"),
            LAYERS[2](2, 2, 2, output_padding=1, data_format=layout, activation="tanh"),
        ]
    )
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    path = tmp_path / "model.onnx"
    assert export.to_onnx(model, path, precision=precision).passed


def test_without_bias(rng, tmp_path):
    for layout, shape in (("channels_first", (2, 4, 3)), ("channels_last", (4, 3, 2))):
        layer = LAYERS[2](3, 2, strides=3, data_format=layout, use_bias=False)
        model = keras.Sequential([keras.Input(shape), layer])
        assert export.to_onnx(model, tmp_path / "model.onnx").passed
