"""TensorFlow functions in float64, against NumPy and against Keras' layers in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from keras import layers, ops
from own_layers import Computing

from kerasdl import export
from kerasdl.export.formats import FLOAT32, format_of
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.programs.rounding import noise_of
from kerasdl.export.programs.widened import Widened
from random_networks import build, randomize, recipes


def wide(call, *arrays):
    return Widened(lambda *tensors: tf.nest.flatten(call(*tensors)))(arrays)


def normal(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def test_constants_and_casts_in_float32(rng):
    x = normal(rng, 5, 4)
    matrix = normal(rng, 4, 3)

    def call(x):
        y = tf.matmul(x, tf.constant(matrix)) + tf.constant(0.1, tf.float32)
        return tf.exp(tf.cast(y, tf.float32)) / 3.0, tf.cast(tf.cast(y, tf.float16), tf.float32)

    y = x.astype("float64") @ matrix.astype("float64") + np.float32(0.1)
    found = wide(call, x)
    assert {result.dtype for result in found} == {np.dtype("float64")}
    np.testing.assert_allclose(found[0], np.exp(y) / 3, rtol=1e-14)
    np.testing.assert_allclose(found[1], y, rtol=1e-14)


def test_loops_branches_and_functions(rng):
    x = normal(rng, 6, 3)

    @tf.function
    def inner(y):
        return tf.tanh(y) / 3.0

    def call(x):
        looped = tf.while_loop(lambda i, _: i < 4, lambda i, y: (i + 1, inner(y)), (0, x))[1]
        chosen = tf.cond(tf.reduce_sum(x) > 1e9, lambda: x, lambda: x / 7.0)
        switched = tf.switch_case(tf.constant(5), [lambda: x, lambda: x * 3.0, lambda: x / 9.0])
        scanned = tf.scan(lambda total, row: total / 3.0 + row, x)
        return looped, chosen, switched, scanned, tf.map_fn(lambda row: row / 3.0, x)

    truth = x.astype("float64")
    looped = truth
    for _ in range(4):
        looped = np.tanh(looped) / 3
    scanned = [truth[0]]
    for row in truth[1:]:
        scanned.append(scanned[-1] / 3 + row)
    wanted = looped, truth / 7, truth / 9, np.stack(scanned), truth / 3
    for found, expected in zip(wide(call, x), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_what_has_no_float64_form_runs_in_float32(rng):
    x = rng.uniform(0.1, 1, size=(2, 6, 6, 1)).astype("float32")

    def call(x):
        boxes = tf.constant([[0.1, 0.2, 0.9, 0.8]])
        crops = tf.image.crop_and_resize(x, boxes, [0], [3, 3])
        return tf.image.resize(x, (3, 3)) / 3.0, crops / 3.0, tf.bitcast(x, tf.int32)

    resized, crops, bits = wide(call, x)
    mean = x.astype("float64").reshape(2, 3, 2, 3, 2, 1).mean((2, 4))
    np.testing.assert_allclose(resized, mean / 3, rtol=1e-6)
    np.testing.assert_allclose(crops, call(x)[1], rtol=1e-6)
    assert resized.dtype == crops.dtype == "float64"
    np.testing.assert_array_equal(bits, x.view("int32"))


def test_whole_numbers_texts_and_scalars(rng):
    words = np.array(["a", "b c"], object)
    places = np.array([2, 0], "int64")

    def call(words, places, scale):
        return tf.strings.upper(words), places // 2, tf.gather([1.5, 2.5, 3.5], places) / scale

    texts, halves, gathered = wide(call, words, places, np.float32(3))
    assert [bytes(text) for text in texts] == [b"A", b"B C"]
    np.testing.assert_array_equal(halves, [1, 0])
    np.testing.assert_allclose(gathered, np.array([3.5, 1.5]) / 3, rtol=1e-15)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(recipe=recipes())
def test_random_networks_are_what_layers_in_float64_give(recipe):
    model = build(recipe)
    randomize(model, 0)
    for layer in model._flatten_layers():
        if hasattr(layer, "epsilon"):
            layer.epsilon = 2.0**-10  # a number of float32, as it is in the graph
    program = KerasProgram(model)
    rng = np.random.default_rng(0)
    shapes = [(3, *(4 if n is None else n for n in port.shape[1:])) for port in program.inputs]
    arrays = [normal(rng, *shape) for shape in shapes]
    found = Widened(program._call)(arrays)
    for one, other in zip(found, program.run_float64(arrays), strict=True):
        # Other constants, as slopes of activations, are float32 numbers here.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(other).max())


def test_noise_is_that_of_the_operations(rng):
    x = normal(rng, 2000)
    widened = Widened(lambda x: [x / 3.0, 2.0 * x, tf.round(x)])
    exact = widened([x])
    moved = widened([x], np.random.default_rng(0))
    relative = np.abs(moved[0] - exact[0]) / np.abs(exact[0])
    assert 2**-26 < relative.mean() < relative.max() <= 2**-24
    np.testing.assert_array_equal(moved[1:], exact[1:])


@pytest.mark.parametrize(("name", "least", "most"), [("float16", 1e-4, 2e-3), ("int8", 1e-3, 0.1)])
def test_other_formats_round_more(name, least, most, rng):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, "tanh"), layers.Dense(2)])
    widened = Widened(lambda x: [model(x)])
    x = normal(rng, 50, 8)
    (exact,) = widened([x])
    for stored, low, high in ((FLOAT32, 1e-9, 1e-6), (format_of(name), least, most)):
        reach = next(widened.reaches([x], [exact], np.random.default_rng(0), stored))[0]
        assert low < np.sqrt(np.mean(np.square(reach))) / np.abs(exact).max() < high


def test_variables_are_never_assigned():
    counter = tf.Variable(0.0)
    with pytest.raises(ValueError, match="assigns to a variable"):
        wide(lambda x: x + counter.assign_add(1.0), np.ones(2, "float32"))
    assert counter.numpy() == 0


def mel(x):
    bands = tf.signal.linear_to_mel_weight_matrix(8, 33, 8000, 50, 3900)
    return tf.math.log(tf.tensordot(tf.abs(tf.signal.stft(x, 64, 32, 64)), bands, 1) + 1e-6)


def waves(x):
    return tf.sin(x @ tf.constant(np.linspace(-90, 90, 2 * 32).reshape(2, 32), tf.float32))


def inverse(x):
    return tf.linalg.inv(x[:, :, None] * x[:, None] + tf.eye(6))


def crops(x):
    boxes = tf.constant([[0.0, 0.0, 1.0, 1.0], [0.2, 0.1, 0.7, 0.9]])
    return tf.image.crop_and_resize(x, boxes, tf.zeros([2], tf.int32), [5, 4])


@pytest.mark.parametrize(
    ("function", "shape"), [(mel, (400,)), (waves, (2,)), (inverse, (6,)), (crops, (21, 20, 2))]
)
def test_right_files_of_layers_that_know_float32_alone(function, shape, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    x = Computing(function, name="own")(inputs)
    model = keras.Model(inputs, layers.GRU(4)(x) if function is mel else x)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.passed
    assert report.float64_failure is None


def test_a_wrong_weight_behind_such_a_layer_is_found_and_named(tmp_path, rng):
    inputs = keras.Input((6,))
    x = layers.Dense(6, name="before")(inputs)
    x = Computing(lambda x: ops.tanh(x * tf.constant(2.0, tf.float32)), name="own")(x)
    model = keras.Model(inputs, layers.Dense(3, name="behind")(x))
    export.to_onnx(model, tmp_path / "model.onnx")
    model.get_layer("behind").kernel.assign(model.get_layer("behind").kernel * 1.001)
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert not report.passed
    assert report.layer == "behind"
    assert [check.passed for check in report.layers] == [True, True, False]


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
def test_a_saved_model_is_judged_in_every_format(precision, tmp_path, rng):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(64, "tanh"), layers.Dense(3)])
    model.export(tmp_path / "saved", verbose=False)
    report = export.to_onnx(tmp_path / "saved", tmp_path / "m.onnx", precision=precision)
    assert report.passed
    model.layers[0].kernel.assign(model.layers[0].kernel[::-1])
    model.export(tmp_path / "other", verbose=False)
    assert not export.verify(tmp_path / "other", tmp_path / "m.onnx").passed


def looked_up(variable, places):
    """By place and by places; in another dtype than the variable's, TensorFlow ends the process."""
    one = tf.gather(variable, places)
    return one, tf.gather_nd(variable, places[..., None]), tf.nn.embedding_lookup(variable, places)


def test_rows_of_variables(rng, tmp_path):
    table = normal(rng, 9, 4)
    places = rng.integers(0, 9, (5, 3))
    variable = tf.Variable(table)
    for found in wide(lambda x: looked_up(variable, x), places):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, table[places])
    widened = Widened(lambda x: list(looked_up(variable, x)))
    moved = widened([places], np.random.default_rng(0))
    assert all((one != table[places]).all() for one in moved)
    inputs = keras.Input((3,), dtype="int32")
    layer = Computing(lambda x: tf.concat(looked_up(variable, x), -1))
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    assert export.to_onnx(model, tmp_path / "m.onnx").passed


def test_complex_numbers_in_float64(rng):
    x = normal(rng, 6, 8)
    widened = Widened(lambda x: [tf.abs(tf.signal.fft(tf.complex(x, 2 * x)) * (1 + 2j))])
    (exact,) = widened([x])
    wanted = np.abs(np.fft.fft(x.astype("float64") * (1 + 2j)) * (1 + 2j))
    np.testing.assert_allclose(exact, wanted, rtol=1e-13)
    (moved,) = widened([x], np.random.default_rng(0))
    relative = np.abs(moved - exact) / np.abs(exact)
    assert 2**-27 < relative.mean() < relative.max() < 2**-18


def test_numbers_that_the_format_holds_are_not_rounded(rng):
    values = np.array([0.0, 1.0, -3.0, 0.5, 1 / 3, 2049.0])
    moved = {name: noise_of(values, False, rng, format_of(name)) for name in ("float32", "float16")}
    np.testing.assert_array_equal(moved["float32"] != 0, values == 1 / 3)
    np.testing.assert_array_equal(moved["float16"] != 0, (values == 1 / 3) | (values == 2049))
    assert noise_of(values, True, rng, FLOAT32).all()


def test_whole_numbers_that_are_counted(tmp_path):
    """Ones that are moved before they become integers would be zeros."""
    inputs = keras.Input((6,))
    count = ops.sum(ops.cast(ops.ones_like(inputs), "int32"), 1)
    model = keras.Model(inputs, [count, layers.Dense(2)(inputs)])
    assert export.to_onnx(model, tmp_path / "m.onnx").passed
    assert export.verify(model, tmp_path / "m.onnx").checks[0].tolerance == 0


def moved_by_int8(call, *arrays, layers=()):
    """How far int8 moves the results of a function."""
    widened, rng = Widened(call, layers), np.random.default_rng(0)
    (exact,), (moved,) = widened(arrays), widened(arrays, rng, format_of("int8"))
    return np.max(np.abs(moved - exact)) / np.max(np.abs(exact))


def test_int8_rounds_factors_of_weights_alone(rng):
    """A large number makes the steps coarse for the others, which alone are multiplied."""
    x = np.array([[100.0, 0.01, 0.02]] * 4, np.float32)
    weight = tf.Variable(np.array([[0.0], [1.0], [1.0]], np.float32))
    assert moved_by_int8(lambda x: [tf.matmul(x, weight)], x) > 1
    assert moved_by_int8(lambda x: [tf.matmul(x, weight * weight)], x) > 1  # of what is computed
    other = weight.numpy()
    assert moved_by_int8(lambda x: [tf.matmul(x, other)], x) > 1
    assert moved_by_int8(lambda x, y: [tf.matmul(x, y)], x, other) < 1e-6  # two results


def test_int8_rounds_convolutions_of_any_rank(rng):
    x = rng.normal(size=(2, 5, 5, 5, 3)).astype("float32")
    kernel = tf.Variable(rng.normal(size=(2, 2, 2, 3, 4)).astype("float32"))
    assert moved_by_int8(lambda x: [tf.nn.conv3d(x, kernel, [1] * 5, "VALID")], x) > 1e-4
    # The weights apart, which are moved where they are read:
    whole = tf.constant(np.ones((2, 2, 2, 3, 4), np.float32))
    assert moved_by_int8(lambda x: [tf.nn.conv3d(x, whole, [1] * 5, "VALID")], x) > 1e-4


def test_int8_does_not_go_into_branches(rng):
    x = rng.normal(size=(4, 3)).astype("float32")
    weight = tf.Variable(rng.normal(size=(3, 2)).astype("float32"))

    def call(x):
        small = tf.reduce_sum(x) < 1e9
        return [tf.cond(small, lambda: tf.matmul(x, weight), lambda: tf.zeros((4, 2)))]

    def outside(x):
        return [tf.matmul(x, weight)]

    # Weights are stored once, so that they are rounded there, too; x is not.
    x[:, 0] = 1000.0
    weight.assign(np.array([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]))
    assert moved_by_int8(call, x) < 0.03
    assert moved_by_int8(outside, x) > 0.3
