"""Weights beside the graph: what tf2onnx sees, and what the file holds."""

from collections import Counter

import keras
import numpy as np
import onnx
import pytest
import tf2onnx.optimizer
from keras import layers

from kerasdl import export
from kerasdl.export.converting import convert as convert_module
from random_networks import randomize


def network():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, use_bias=False, name="wide"),
            layers.BatchNormalization(),
            layers.SeparableConv2D(20, 3, activation="relu"),
            layers.Conv2DTranspose(5, 3, strides=2),
            layers.Reshape((9 * 9, 5)),
            layers.LSTM(12),
            layers.Dense(40),
            layers.Dense(10, "softmax"),
        ]
    )
    randomize(model, 0)
    return model


@pytest.fixture
def seen(monkeypatch):
    """Sizes of the graphs that go to tf2onnx."""
    sizes = []
    original = convert_module._tf2onnx

    def recording(function, *args):
        sizes.append(len(function.graph.as_graph_def().SerializeToString()))
        return original(function, *args)

    monkeypatch.setattr(convert_module, "_tf2onnx", recording)
    return sizes


def test_the_file_is_the_same_as_with_the_weights_inside(tmp_path, monkeypatch):
    model = network()
    export.to_onnx(model, tmp_path / "beside.onnx")
    original = convert_module.convert
    monkeypatch.setattr(convert_module, "convert", lambda *args: original(*args[:4]))
    export.to_onnx(model, tmp_path / "inside.onnx")
    beside, inside = (onnx.load(tmp_path / f"{name}.onnx") for name in ("beside", "inside"))
    kinds = [Counter(node.op_type for node in proto.graph.node) for proto in (beside, inside)]
    assert kinds[0] <= kinds[1]
    shapes = [
        Counter(tuple(t.dims) for t in proto.graph.initializer if np.prod(t.dims) >= 256)
        for proto in (beside, inside)
    ]
    assert shapes[0] == shapes[1]


def test_tf2onnx_never_sees_a_large_weight(seen, tmp_path):
    model = keras.Sequential([keras.Input((2000,)), layers.Dense(500)])
    export.to_onnx(model, tmp_path / "model.onnx")
    assert len(seen) == 1
    assert seen[0] < 50_000 < (tmp_path / "model.onnx").stat().st_size
    names = [value.name for value in onnx.load(tmp_path / "model.onnx").graph.input]
    assert names == [model.inputs[0].name]


@pytest.mark.parametrize("place", ["bind", "optimize_graph", "_frozen"])
def test_what_fails_in_a_hurry_is_tried_with_care(place, seen, tmp_path, monkeypatch):
    module = tf2onnx.optimizer if place == "optimize_graph" else convert_module
    original = getattr(module, place)
    calls = []

    def refusing(*args, **keywords):
        calls.append(args)
        if len(calls) == 1:
            raise KeyError("no constant")
        return original(*args, **keywords)

    monkeypatch.setattr(module, place, refusing)
    assert export.to_onnx(network(), tmp_path / "model.onnx").passed
    assert len(seen) == 2


def test_a_weight_that_two_layers_share(tmp_path, rng):
    shared = layers.Dense(40, name="shared")
    inputs = keras.Input((40,))
    model = keras.Model(inputs, shared(layers.ReLU()(shared(inputs))))
    export.to_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    kernels = [tensor for tensor in proto.graph.initializer if list(tensor.dims) == [40, 40]]
    assert len(kernels) == 1


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "float64"])
def test_weights_of_other_dtypes(dtype, tmp_path):
    model = keras.Sequential(
        [keras.Input((30,), dtype="float32"), layers.Dense(40, dtype=dtype, activation="tanh")]
    )
    randomize(model, 0)
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
    proto = onnx.load(tmp_path / "model.onnx")
    (kernel,) = (t for t in proto.graph.initializer if list(t.dims) == [30, 40])
    computed = {"mixed_float16": "float16"}.get(dtype, dtype)
    assert onnx.numpy_helper.to_array(kernel).dtype == computed


def test_the_model_keeps_its_weights(tmp_path):
    model = network()
    before = [np.array(weight) for weight in model.get_weights()]
    export.to_onnx(model, tmp_path / "model.onnx")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
