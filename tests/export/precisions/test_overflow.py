"""float16: data and results that it does not hold, and maps that make data fit."""

import keras
import numpy as np
import pytest
from keras import layers
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from kerasdl import export
from kerasdl.export.precisions.overflow import Halves

pytestmark = pytest.mark.tensorflow


class Constant(layers.Layer):
    def call(self, x):
        return keras.ops.eye(3)


def columns(rng, mean, deviation):
    return (mean + deviation * rng.normal(size=(200, 4))).astype("float32")


def in_float16(model, x, path):
    """What a device computes that has float16."""
    report = export.to_onnx(model, path, precision="float16", data={"x": x})
    assert report.passed
    assert export.verify(model, path, data={"x": x}).passed
    return ReferenceEvaluator(path).run(None, {"x": x})[0], report


@pytest.mark.parametrize(
    ("mean", "deviation"), [(5e4, 2e4), (2010, 8), (0, 1e-6), (3e5, 1e5), (0, 1), (-3, 2)]
)
def test_a_normalization_makes_data_fit(mean, deviation, rng, tmp_path):
    x = columns(rng, mean, deviation)
    normalization = layers.Normalization()
    normalization.adapt(x)
    parts = [normalization, layers.Dense(8, activation="relu"), layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,), name="x"), *parts])
    found, report = in_float16(model, x, str(tmp_path / "m.onnx"))
    wanted = np.asarray(model(x))
    np.testing.assert_allclose(found, wanted, atol=5e-3 * np.abs(wanted).max())
    assert ("Sub" in report.nodes) == (abs(mean) > 8 * deviation or mean > 1e4 or deviation < 1e-3)


@pytest.mark.parametrize(("scale", "folded"), [(1e-5, False), (1 / 255, True)])
def test_a_rescaling_makes_data_fit(scale, folded, rng, tmp_path):
    x = (rng.random((200, 4)) / scale).astype("float32")
    parts = [layers.Rescaling(scale), layers.Dense(8, activation="relu"), layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,), name="x"), *parts])
    found, report = in_float16(model, x, str(tmp_path / "m.onnx"))
    wanted = np.asarray(model(x))
    np.testing.assert_allclose(found, wanted, atol=5e-3 * np.abs(wanted).max())
    assert ("Mul" in report.nodes) != folded


def test_a_layer_that_overflows_is_named(rng, tmp_path):
    parts = [layers.Dense(8, activation="relu", name="large"), layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,), name="x"), *parts])
    for layer, factor in zip(parts, (1e5, 1e-5), strict=True):
        layer.kernel.assign(factor * layer.kernel)
    path = tmp_path / "m.onnx"
    with pytest.raises(export.ConversionError, match="float16 holds none beyond 65504") as caught:
        export.to_onnx(model, path, precision="float16", data={"x": columns(rng, 0, 1)})
    assert caught.value.layer == "large"
    assert not path.exists()
    assert export.to_onnx(model, path, precision="bfloat16").passed


def test_data_that_overflow_are_named(rng, tmp_path):
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2)])
    with pytest.raises(export.ConversionError, match="Input `x` holds numbers up to"):
        export.to_onnx(
            model,
            tmp_path / "m.onnx",
            precision="float16",
            data={"x": columns(rng, 1e5, 1)},
            rtol=0.1,
        )


def test_infinities_of_the_model_itself_are_none_of_float16(rng, tmp_path):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, keras.ops.softmax(keras.ops.log(keras.ops.relu(x))))
    assert export.to_onnx(
        model, tmp_path / "m.onnx", precision="float16", data={"x": columns(rng, 0.5, 1)}
    ).passed


def test_what_is_only_compared_with_zero_may_be_infinite(tmp_path):
    """Keras asks whether a score is −0 before it takes the largest; 1 / x tells."""
    scores = layers.Conv2D(4, 3, padding="same")
    model = keras.Sequential([keras.Input((64, 64, 3)), scores])
    model = keras.Model(model.inputs, keras.ops.argmax(model.outputs[0], -1))
    scores.kernel.assign(1e-4 * scores.kernel)
    report = export.to_onnx(model, tmp_path / "m.onnx", precision="float16")
    assert report.passed
    assert sum(report.nodes.values()) < 15
    inverse = keras.Model(model.inputs, keras.ops.tanh(1 / scores.output))
    with pytest.raises(export.ConversionError, match="float16 holds none beyond"):
        export.to_onnx(inverse, tmp_path / "m.onnx", precision="float16", atol=10.0)


@pytest.mark.parametrize(("bound", "exempt"), [(0.0, {"y"}), (3.0, set())])
def test_what_is_compared_with_another_number_too(bound, exempt):
    nodes = [
        helper.make_node("Reciprocal", ["x"], ["y"]),
        helper.make_node("Less", ["y", "zero"], ["a"]),
        helper.make_node("Greater", ["y", "bound"], ["b"]),
    ]
    numbers = {"zero": 0.0, "bound": bound}
    constants = [numpy_helper.from_array(np.float16(n), name) for name, n in numbers.items()]
    ends = [helper.make_tensor_value_info(name, 9, [2]) for name in "ab"]
    given = [helper.make_tensor_value_info("x", 10, [2])]
    proto = helper.make_model(helper.make_graph(nodes, "g", given, ends, constants))
    assert Halves(proto, proto)._signs() - {"zero", "bound"} == exempt


def test_constant_outputs(tmp_path):
    x = keras.Input((3,))
    same = Constant()(x)
    model = keras.Model(x, [same, layers.Dense(2)(x), Constant()(x)])
    assert export.to_onnx(model, tmp_path / "m.onnx", precision="float16").passed
    assert export.verify(model, tmp_path / "m.onnx").passed
