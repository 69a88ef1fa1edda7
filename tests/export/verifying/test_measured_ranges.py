"""Static int8: data beyond the ranges that were measured, and what is made of that."""

from dataclasses import replace

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from keras.initializers import Constant, HeNormal
from onnx import numpy_helper

from kerasdl import export
from kerasdl.export.formats import STATIC_INT8, Rounding
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.verifying.clipping import Clipping, measured_ranges, ranges_of_layers
from kerasdl.export.verifying.parity import Judge
from random_networks import randomize


@pytest.fixture
def model():
    model = keras.Sequential(
        [
            keras.Input((12,), name="x"),
            layers.Dense(24, "relu", name="first"),
            layers.Dense(16, "elu", name="second"),
            layers.Dense(5, name="y"),
        ]
    )
    randomize(model, 3)
    return model


@pytest.fixture
def rows(rng):
    return rng.uniform(-1, 1, (64, 12)).astype("float32")


@pytest.fixture
def path(model, rows, tmp_path):
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path, precision="int8", calibration={"x": rows})
    return path


def test_ranges_are_those_of_the_layers(model, path, rows):
    ranges = ranges_of_layers(path, ["first", "second", "y"])
    assert sorted(ranges) == ["first", "second", "y"]
    given = rows.astype(np.float64)
    for layer in model.layers:
        ((bottom, top),) = ranges[layer.name]
        step = (top - bottom) / 255
        assert bottom == pytest.approx(min(0.0, given.min()), abs=step)
        assert top == pytest.approx(given.max(), abs=step)
        given = np.asarray(layer(given))


def test_products_of_nobody_leave_it_open_who_multiplies_integers(path):
    proto = onnx.load(path)
    next(node for node in proto.graph.node if node.op_type == "MatMul").name = ""
    onnx.save(proto, path)
    assert ranges_of_layers(path, ["first", "second", "y"]) is None


def test_distance_is_that_of_numbers_set_to_the_ends(model, path, rows):
    """Against NumPy, with the weights of the file."""
    proto = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    constants = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    weights = {}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            steps, scale, zero = (constants[name].astype(np.float64) for name in node.input)
            weights[node.output[0]] = (steps - zero) * scale
    kernels = [weights[node.input[1]] for node in proto.graph.node if node.op_type == "MatMul"]
    biases = [np.asarray(layer.bias, np.float64) for layer in model.layers]
    ranges = [(one.bottom, one.top) for one in measured_ranges(proto)]

    def run(clips):
        y = 1.5 * rows.astype(np.float64)
        activations = [lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, x, np.expm1(x)), None]
        for kernel, bias, ends, activation in zip(
            kernels, biases, ranges, activations, strict=True
        ):
            y = (np.clip(y, *ends) if clips else y) @ kernel + bias
            y = y if activation is None else activation(y)
        return y

    (moved,) = Clipping(path, KerasProgram(model)).of([1.5 * rows])
    assert moved == pytest.approx(np.abs(run(True) - run(False)), abs=1e-4)
    assert moved.max() > 0.1
    (still,) = Clipping(path, KerasProgram(model)).of([0.5 * rows])
    assert not still.any()


def test_data_a_little_beyond_pass(model, path, rows):
    report = export.verify(model, path, data={"x": 1.04 * rows})
    assert report.passed
    assert not report.beyond_ranges
    assert all(check.clipped > 0 for check in report.checks)
    within = export.verify(model, path, data={"x": 0.9 * rows})
    assert all(check.clipped == 0 for check in within.checks)


def test_data_far_beyond_are_named_as_the_cause(model, path, rows):
    report = export.verify(model, path, data={"x": 3 * rows})
    assert not report.passed
    assert report.conclusive
    assert report.beyond_ranges
    assert report.layer is None
    assert report.beyond.startswith("layer `first` is given -3 to 2.98, measured were -1 to 0.99")
    assert "calibrate it on more rows" in report.failure
    assert report.beyond in report.to_text()
    assert report.beyond in export.Report.from_json(report.to_json()).failure
    assert report.judged(rtol=1.0).passed
    assert report.judged(rtol=1e-9).beyond_ranges


def test_an_export_says_so_too(model, rows, tmp_path):
    path = tmp_path / "other.onnx"
    with pytest.raises(export.ParityError, match="measured were -1 to 0.99") as failure:
        export.to_onnx(model, path, precision="int8", calibration={"x": rows}, data={"x": 3 * rows})
    assert failure.value.layer is None
    assert not path.exists()


@pytest.mark.parametrize("factor", [0.9, 1.04, 3.0])
def test_a_wrong_weight_is_not_taken_for_clipping(factor, model, path, rows):
    kernel = np.array(model.get_layer("second").kernel)
    kernel[:, 3] *= -1
    model.get_layer("second").kernel.assign(kernel)
    report = export.verify(model, path, data={"x": factor * rows})
    assert not report.passed
    assert report.layer == "second"
    assert [wrong.layer for wrong in report.constants.wrong] == ["second"]
    told = "1 of 15 constants are not the model's, first in layer `second`" in report.failure
    assert told == (factor > 1)  # else the outputs tell
    assert ("lie beyond" in report.failure) == (factor == 3.0)


def test_ends_that_differ_in_both_directions_are_a_fault(model, path, rows):
    """Numbers that are read back by another scale than they were written with."""
    proto = onnx.load(path)
    steps = list(measured_ranges(proto))[1].steps
    back = next(node for node in proto.graph.node if node.input[:1] == [steps])
    scale = next(t for t in proto.graph.initializer if t.name == back.input[1])
    other = numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), "other_scale")
    proto.graph.initializer.append(other)
    back.input[1] = "other_scale"
    onnx.save(proto, path)
    report = export.verify(model, path, data={"x": rows})
    assert not report.passed
    assert not report.beyond_ranges


def test_noise_is_that_of_the_ranges_that_were_measured(rng):
    """A batch of small numbers is rounded as coarsely as the large ones that were measured."""
    x = rng.uniform(0, 1, (500, 4))
    rounding = STATIC_INT8.results
    alone = np.abs(rounding.noise(x, rng)).max()
    wide = np.abs(rounding.noise(x, rng, ends=(-2.0, 49.0))).max()
    assert alone == pytest.approx(1 / 510, rel=0.05)
    assert wide == pytest.approx(51 / 510, rel=0.05)


def test_range_of_a_layer_is_the_smallest_that_holds_the_numbers():
    stored = replace(STATIC_INT8, ranges={"a": ((0.0, 1.0), (-1.0, 9.0), (-1.0, 4.0))})
    assert stored.ends_of("a", np.array([0.5])) == (0.0, 1.0)
    assert stored.ends_of("a", np.array([-0.5, 3.0])) == (-1.0, 4.0)
    assert stored.ends_of("a", np.array([20.0])) == (-1.0, 9.0)
    assert stored.ends_of("a", np.array([-1.004, 4.01])) == (-1.0, 4.0)  # nearly
    assert stored.ends_of("b", np.array([20.0])) is None
    assert stored.ends_of(None, np.array([20.0])) is None
    assert stored.ends_of("a", np.zeros(0)) is None


def test_weights_are_rounded_alike_on_both_sides_of_zero(rng, tmp_path):
    """Of weights that are all positive half of the steps are of no use."""
    model = keras.Sequential([keras.Input((40,), name="x"), layers.Dense(30, name="y")])
    kernel = rng.uniform(0.1, 1, (40, 30)).astype("float32")
    model.get_layer("y").kernel.assign(kernel)
    data = {"x": rng.normal(size=(32, 40)).astype("float32")}
    path = tmp_path / "model.onnx"
    for options in ({}, {"calibration": data}):
        export.to_onnx(model, path, precision="int8", **options)
        proto = onnx.load(path)
        error = np.abs(_stored_matrix(proto) - kernel)
        bound = kernel.max(axis=0) / 126
        assert np.all(error <= bound * 1.001)
        assert np.max(error / bound) > 0.9
        noise = np.abs(STATIC_INT8.weights.noise(kernel, rng, channels=True))
        assert np.all(noise <= bound)
        assert np.max(noise / bound) > 0.9
    assert Rounding(0.0, steps=126).noise(kernel, rng).max() < kernel.max() / 250


def _stored_matrix(proto):
    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    steps = next(array for array in constants.values() if array.shape == (40, 30))
    ours = (array for array in constants.values() if array.shape == (30,))
    scale = next(array for array in ours if array.dtype == np.float32 and array.min() > 0)
    return steps.astype(np.float64) * scale


def test_outliers_in_the_calibration_are_no_fault(tmp_path, rng):
    """One row makes the steps of all others ten times as coarse, in batches without it, too."""
    model = keras.Sequential(
        [
            keras.Input((10,), name="x"),
            layers.Dense(20, "relu"),
            layers.Dense(6, "softmax", name="y"),
        ]
    )
    randomize(model, 5)
    x = rng.normal(size=(128, 10)).astype("float32")
    x[5] *= 10
    path = tmp_path / "model.onnx"
    assert export.to_onnx(model, path, precision="int8", calibration={"x": x}).passed
    assert export.verify(model, path, data={"x": x[40:]}).passed


def test_layers_of_int8_behind_a_normalization(tmp_path, rng):
    """What int8 rounds are factors of products, and not the inputs of a Normalization."""
    columns = (10.0 ** np.arange(-3, 3) * (5 + rng.normal(size=(64, 6)))).astype("float32")
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(columns)
    model = keras.Sequential([keras.Input((6,), name="x"), normalization, layers.Dense(4)])
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path, precision="int8", calibration={"x": columns})
    report = export.verify(model, path, data={"x": columns}, layers=True)
    check = next(check for check in report.layers if check.layer == "normalization")
    assert check.passed
    assert check.allowed < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_a_convolution_that_has_taken_up_a_batch_normalization(seed, tmp_path):
    """What it gives is rounded behind the normalization, in one range for all channels."""
    rng = np.random.default_rng(seed)
    inputs = keras.Input((8, 7, 4), name="x")
    normalization = layers.BatchNormalization()
    model = keras.Model(inputs, normalization(layers.Conv2D(5, 3)(inputs)))
    randomize(model, seed)
    normalization.gamma.assign(rng.choice([-1, 1], 5) * np.geomspace(0.02, 2.0, 5))
    rows = {"x": rng.normal(size=(64, 8, 7, 4)).astype("float32")}
    path = tmp_path / "model.onnx"
    report = export.to_onnx(model, path, precision="int8", calibration=rows)
    assert {fold.into for fold in report.folds} == {(model.layers[1].name,)}
    assert export.verify(model, path, data=rows, layers=True).passed
    normalization.beta.assign_add([0.0, 0.0, 0.1 * report.worst.magnitude, 0.0, 0.0])
    assert not export.verify(model, path, data=rows).outputs_agree


def test_attention_beside_what_has_taken_up_a_batch_normalization(tmp_path):
    """Whose layers are those of the model, each once, whatever form of it rounds."""
    inputs = keras.Input((6, 8), name="x")
    convolution = layers.Conv1D(8, 3, padding="same", kernel_initializer=HeNormal(seed=0))
    x = layers.BatchNormalization(gamma_initializer=Constant(0.3))(convolution(inputs))
    model = keras.Model(inputs, layers.Attention()([x, x]))
    rows = {"x": np.random.default_rng(0).normal(size=(64, 6, 8)).astype("float32")}
    path = tmp_path / "model.onnx"
    report = export.to_onnx(model, path, precision="int8", calibration=rows)
    assert report.float64_failure is None
    assert export.verify(model, path, data=rows).passed


def test_judge_knows_no_ranges_of_other_formats(model, path):
    judge = Judge(KerasProgram(model))
    judge.know(path)
    assert not judge.stored.ranges
