"""Files whose images may have any size, at every size: the proof sees only a few of them."""

import keras
import numpy as np
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export.files.runtime import open_session

pytestmark = pytest.mark.tensorflow


def agrees(model, path, shapes):
    export.to_onnx(model, path)
    session = open_session(path.read_bytes(), True)
    (name,) = (entry.name for entry in session.get_inputs())
    rng = np.random.default_rng(0)
    for shape in shapes:
        x = rng.normal(-3.0, 1.0, (2, *shape)).astype(np.float32)
        (result,) = session.run(None, {name: x})
        expected = np.asarray(model(x))
        np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6, err_msg=str(shape))


def model_of(shape, layer):
    given = keras.Input(shape)
    return keras.Model(given, layer(given))


LINE = [(n, 2) for n in range(1, 21)]
IMAGES = [(n, 21 - n, 2) for n in range(1, 21)]
FREE = (None, None, 2)


@pytest.mark.parametrize(("window", "step"), [(2, 3), (1, 2), (3, 7), (4, 5)])
@pytest.mark.parametrize("pooling", [layers.MaxPooling1D, layers.AveragePooling1D])
def test_steps_longer_than_windows_of_series(pooling, window, step, tmp_path):
    layer = pooling(window, step, padding="same")
    agrees(model_of((None, 2), layer), tmp_path / "m.onnx", LINE)


@pytest.mark.parametrize(("window", "step"), [(2, 3), (1, 2), ((3, 2), (2, 3)), (2, 2), (3, 2)])
@pytest.mark.parametrize("pooling", [layers.MaxPooling2D, layers.AveragePooling2D])
def test_steps_longer_than_windows_of_images(pooling, window, step, tmp_path):
    layer = pooling(window, step, padding="same")
    agrees(model_of(FREE, layer), tmp_path / "m.onnx", IMAGES)


@pytest.mark.parametrize("pooling", [layers.MaxPooling2D, layers.AveragePooling2D])
def test_one_extent_is_free(pooling, tmp_path):
    layer = pooling((3, 2), (2, 3), padding="same")
    agrees(model_of((None, 6, 2), layer), tmp_path / "m.onnx", [(n, 6, 2) for n in range(1, 21)])


@pytest.mark.parametrize("pooling", [layers.MaxPooling2D, layers.AveragePooling2D])
def test_channels_first(pooling, tmp_path):
    layer = pooling(2, 3, padding="same", data_format="channels_first")
    shapes = [(2, n, 21 - n) for n in range(1, 21)]
    agrees(model_of((2, None, None), layer), tmp_path / "m.onnx", shapes)


@pytest.mark.parametrize(("window", "step"), [(2, 3), (1, 2)])
@pytest.mark.parametrize("pooling", [layers.MaxPooling3D, layers.AveragePooling3D])
def test_steps_longer_than_windows_of_volumes(pooling, window, step, tmp_path):
    layer = pooling(window, step, padding="same")
    shapes = [(n, 21 - n, n % 5 + 1, 2) for n in range(1, 21)]
    agrees(model_of((None, None, None, 2), layer), tmp_path / "m.onnx", shapes)


@pytest.mark.parametrize("target", [1, 5, 6, 7, 9, 13, 64])
def test_nearest_pixels(target, tmp_path):
    layer = layers.Resizing(target, target, interpolation="nearest")
    agrees(model_of(FREE, layer), tmp_path / "m.onnx", [(n, 65 - n, 2) for n in range(1, 65)])


@pytest.mark.parametrize("option", ["crop_to_aspect_ratio", "pad_to_aspect_ratio"])
def test_nearest_pixels_at_the_same_aspect(option, tmp_path):
    layer = layers.Resizing(6, 9, interpolation="nearest", **{option: True})
    shapes = [(33, 31, 2), (20, 47, 2), *((n, 65 - n, 2) for n in range(8, 57, 3))]
    agrees(model_of(FREE, layer), tmp_path / "m.onnx", shapes)


@pytest.mark.parametrize("shape", [(20, 20, 2), (20, None, 2), (None, 20, 2)])
def test_nearest_pixels_of_known_extents(shape, tmp_path):
    """onnxruntime's own Resize reads other rows here, too."""
    layer = layers.Resizing(6, 7, interpolation="nearest")
    shapes = [tuple(extent or n for extent in shape) for n in (1, 20, 33, 47)]
    agrees(model_of(shape, layer), tmp_path / "m.onnx", shapes)


def test_whole_factors(tmp_path):
    layer = layers.UpSampling2D((3, 2))
    agrees(model_of(FREE, layer), tmp_path / "m.onnx", IMAGES)


@pytest.mark.parametrize("shape", [(5, 6, 2), FREE])
@pytest.mark.parametrize(
    ("window", "step", "padding", "extra"),
    [
        (2, 2, "valid", 1),
        (3, 2, "valid", 1),
        (4, 3, "valid", 1),
        (2, 3, "valid", None),
        (2, 3, "same", None),
        ((2, 4), (3, 2), "same", None),
    ],
)
def test_results_larger_than_their_windows(window, step, padding, extra, shape, tmp_path):
    layer = layers.Conv2DTranspose(3, window, step, padding=padding, output_padding=extra)
    shapes = [(5, 6, 2)] if shape != FREE else [(n, 12 - n, 2) for n in range(1, 12)]
    agrees(model_of(shape, layer), tmp_path / "m.onnx", shapes)


def test_volumes_larger_than_their_windows(tmp_path):
    layer = layers.Conv3DTranspose(3, 2, 3, padding="same")
    agrees(model_of((3, 4, 2, 2), layer), tmp_path / "m.onnx", [(3, 4, 2, 2)])


def test_series_larger_than_their_windows(tmp_path):
    layer = layers.Conv1DTranspose(3, 2, 3, padding="same")
    agrees(model_of((5, 2), layer), tmp_path / "m.onnx", [(5, 2)])


def divided(x, depth, window):
    if depth == 0:
        return layers.Conv2D(3, 3, padding="same")(x)
    smaller = divided(layers.MaxPooling2D(window)(x), depth - 1, window)
    return layers.Concatenate()([layers.UpSampling2D(window)(smaller), x])


def halved(x):
    return layers.Concatenate()([layers.UpSampling1D(2)(layers.MaxPooling1D(2)(x)), x])


@pytest.mark.parametrize(
    ("shape", "build"),
    [
        ((None, 2), lambda x: layers.Conv1D(3, 9)(x)),
        ((None, 2), lambda x: layers.Conv1D(3, 80, strides=4)(x)),
        ((None, 2), lambda x: layers.Conv1D(3, 5)(layers.MaxPooling1D(5)(x))),
        ((None, 2), halved),
        ((None, None, 2), lambda x: layers.Conv2D(2, 40)(x)),
        ((None, None, 1), lambda x: divided(x, 6, 2)),
        ((None, None, 1), lambda x: divided(x, 2, 3)),
        ((None,), lambda x: layers.MelSpectrogram()(x)),
    ],
)
def test_models_that_ask_for_large_or_even_extents(shape, build, tmp_path):
    x = keras.Input(shape)
    model = keras.Model(x, build(x))
    assert export.to_onnx(model, tmp_path / "m.onnx").passed
    assert export.verify(model, tmp_path / "m.onnx").passed


def test_a_model_that_no_extent_suits(tmp_path):
    x = keras.Input((None, 2))
    model = keras.Model(x, layers.Conv1D(2, 5000)(x))
    with pytest.raises(export.SourceError, match=r"tried up to 2048, with `dimensions`"):
        export.to_onnx(model, tmp_path / "m.onnx")
