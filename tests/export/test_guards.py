"""What onnxruntime's optimizer gets wrong comes out right."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers
from keras.initializers import Constant

from kerasdl import export
from kerasdl.export import conversion

POOLS = {
    "1D": ((9, 3), layers.Conv1D, layers.ZeroPadding1D, layers.MaxPooling1D),
    "2D": ((9, 8, 3), layers.Conv2D, layers.ZeroPadding2D, layers.MaxPooling2D),
    "3D": ((5, 6, 7, 2), layers.Conv3D, layers.ZeroPadding3D, layers.MaxPooling3D),
}


def padded(rank, free=False):
    shape, convolution, padding, pooling = POOLS[rank]
    if free:
        shape = (*[None] * (len(shape) - 1), shape[-1])
    x = inputs = keras.Input(shape)
    x = convolution(3, 1, kernel_initializer="zeros", bias_initializer=Constant(-5.0))(x)
    return keras.Model(inputs, pooling(3, strides=2)(padding(1)(x)))


@pytest.mark.parametrize("rank", POOLS)
@pytest.mark.parametrize("opset", [13, 18, 23])
@pytest.mark.parametrize("free", [False, True])
def test_maxima_over_zeros_at_the_border(rank, opset, free, tmp_path):
    model = padded(rank, free=free)
    report = export.to_onnx(model, tmp_path / "model.onnx", opset=opset)
    assert report.passed
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.ones((2, *(size or 8 for size in model.input_shape[1:])), "float32")
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    # Where a border of zeros is in the window, it is the largest.
    assert set(np.unique(np.where(np.abs(y) < 1e-44, 0, y))) <= {-5.0, 0.0}
    assert y[0].max() < 1e-44
    np.testing.assert_array_equal(np.round(y), np.round(model.predict(x, verbose=0)))


@pytest.mark.parametrize("rank", ["2D"])
def test_without_the_guard_the_runtime_is_wrong(rank, tmp_path, monkeypatch):
    """If this fails, onnxruntime has been mended, and the guard can go."""
    monkeypatch.setattr(conversion, "guard", lambda model, half: None)
    with pytest.raises(export.ParityError, match="disagree"):
        export.to_onnx(padded(rank), tmp_path / "model.onnx")


def test_other_paddings_stay(tmp_path):
    inputs = keras.Input((6, 6, 2))
    edge = keras.ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    own = keras.ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1.0)
    pool = layers.MaxPooling2D(2)
    mean = layers.AveragePooling2D(2)(layers.ZeroPadding2D(1)(inputs))
    model = keras.Model(inputs, [pool(edge), pool(own), mean])
    export.to_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    assert not [each.name for each in proto.graph.initializer if each.name.endswith("__padding")]


RECURRENT = [layers.SimpleRNN, layers.GRU, layers.LSTM]


@pytest.mark.parametrize("layer", RECURRENT)
def test_products_of_turned_axes_in_float16(layer, tmp_path):
    """Otherwise onnxruntime ends the process."""
    x = keras.Input((6, 5))
    y = layer(4, return_sequences=True)(x)
    model = keras.Model(x, [layers.Dense(3)(y), layers.Dense(2, activation="tanh")(y), y])
    report = export.to_onnx(model, tmp_path / "model.onnx", precision="float16")
    assert report.nodes["MatMul"] == 2
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


def test_products_of_turned_axes_of_a_float16_layer(tmp_path):
    model = keras.Sequential([keras.Input((6, 5)), layers.Permute((1, 2))])
    model.add(layers.GRU(4, return_sequences=True, dtype="mixed_float16"))
    model.add(layers.Dense(3, dtype="mixed_float16"))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
