"""Control flow: the plain forms give Keras' numbers, and have ONNX forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from operations import in_onnx
from own_layers import Computing

from kerasdl import export
from kerasdl.export.converting.control_flow import plain_control_flow


def traced(function, *arrays):
    """By the plain forms, as while a graph is traced."""
    with plain_control_flow():
        concrete = tf.function(function).get_concrete_function(*map(tf.convert_to_tensor, arrays))
    return concrete(*map(tf.convert_to_tensor, arrays))


def assert_same(function, *arrays):
    expected = keras.tree.flatten(function(*map(tf.convert_to_tensor, arrays)))
    found = keras.tree.flatten(traced(function, *arrays))
    for wanted, got in zip(expected, found, strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype


def decaying(carry, x):
    carry = 0.9 * carry + x
    return carry, 2 * carry


def counting(carry, x):
    total, steps = carry
    total = total * x["gate"] + x["value"]
    return (total, steps + 1), (ops.tanh(total), steps)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_a_scan_gives_the_numbers_of_keras(length, reverse, rng):
    x = rng.normal(size=(length, 4, 3))
    assert_same(lambda x: ops.scan(decaying, ops.ones_like(x[0]), x, reverse=reverse), x)
    gate = rng.uniform(size=(length, 4, 3)).astype("float32")

    def nested(x, gate):
        start = (ops.zeros((4, 3)), ops.zeros((), "int32"))
        return ops.scan(counting, start, {"value": x, "gate": gate}, reverse=reverse)

    assert_same(nested, x.astype("float32"), gate)


@pytest.mark.parametrize("reverse", [False, True])
def test_scans_over_nothing_and_without_results(reverse, rng):
    x = rng.normal(size=(4, 3))
    assert_same(
        lambda x: ops.scan(lambda c, _: (ops.sin(c), c), x, length=5, reverse=reverse, unroll=True),
        x,
    )
    assert_same(lambda x: ops.scan(lambda c, v: (c + v, None), x[0], x, reverse=reverse)[0], x)
    assert_same(lambda x: ops.scan(lambda c, v: (None, c * v), x[0], x, reverse=reverse), x)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 13])
def test_an_associative_scan_gives_the_numbers_of_keras(length, reverse, rng):
    x = rng.normal(size=(2, length, 3, 3))
    assert_same(lambda x: ops.associative_scan(ops.matmul, x, reverse, 1), x)
    assert_same(lambda x: ops.associative_scan(ops.add, x, reverse, -3), x)
    gate = rng.uniform(size=(2, length, 3, 3))

    def state_space(x, gate):
        def join(before, after):
            return before[0] * after[0], after[0] * before[1] + after[1]

        return ops.associative_scan(join, (gate, x), reverse, 1)

    assert_same(state_space, x, gate)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_switch_gives_the_numbers_of_keras(count, rng):
    x = rng.normal(size=(2, 3))
    functions = [ops.sin, ops.cos, ops.exp, ops.tanh, ops.abs][:count]
    for index in range(-2, count + 2):
        assert_same(lambda i, x: ops.switch(i, functions, x), np.int64(index), x)


def test_keras_has_its_own_functions_back():
    core = keras.src.backend.core
    before = core.scan, core.associative_scan, core.switch
    with plain_control_flow():
        assert not {core.scan, core.associative_scan, core.switch} & set(before)
    assert (core.scan, core.associative_scan, core.switch) == before


def over_time(reverse):
    def call(x):
        steps = ops.swapaxes(x, 0, 1)
        last, states = ops.scan(decaying, ops.zeros_like(steps[0]), steps, reverse=reverse)
        return ops.concatenate([ops.swapaxes(states, 0, 1), last[:, None]], 1)

    return call


class Joined(layers.Layer):
    """Keras cannot infer the shape that its own scan has."""

    def __init__(self, reverse):
        super().__init__(name="joined")
        self.reverse = reverse

    def call(self, inputs):
        return ops.associative_scan(ops.add, inputs, self.reverse, 1)

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("opset", [13, 18, 23])
@pytest.mark.parametrize("reverse", [False, True])
def test_exports(reverse, opset, tmp_path):
    inputs = keras.Input((6, 3))
    free = keras.Input((None, 3))
    for x, layer in (
        (inputs, Computing(over_time(reverse))),
        (free, Computing(over_time(reverse))),
        (inputs, Joined(reverse)),
    ):
        model = keras.Model(x, layers.Dense(2)(layer(x)))
        report = export.to_onnx(model, tmp_path / "model.onnx", opset=opset)
        assert report.passed
        assert "Loop" in report.nodes or isinstance(layer, Joined)


@pytest.mark.parametrize("opset", [13, 18, 23])
def test_a_switch_exports(opset, tmp_path):
    def call(x):
        largest = ops.cast(ops.max(x, axis=-1) * 2, "int32")
        return ops.vectorized_map(
            lambda row: ops.switch(row[1], [ops.sin, ops.cos, ops.tanh], row[0]), (x, largest)
        )

    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(Computing(call)(inputs)))
    report = export.to_onnx(model, tmp_path / "model.onnx", opset=opset)
    assert report.passed


def chosen_by_tensorflow(x):
    branches = [lambda: tf.sin(x), lambda: 3 * x, lambda: tf.tanh(x)]
    first = tf.switch_case(tf.cast(4 * x[0, 0], tf.int32), branches)
    return first + tf.switch_case(tf.shape(x)[0] - 2, branches[:2])


@pytest.mark.parametrize("opset", [13, 18, 23])
def test_a_choice_of_tensorflow_exports(opset, tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(Computing(chosen_by_tensorflow)(inputs)))
    assert export.to_onnx(model, tmp_path / "model.onnx", opset=opset).passed


def test_a_choice_of_tensorflow_gives_its_numbers(rng):
    for first in (-3.0, -1.0, 0.0, 0.3, 0.6, 2.0):
        for rows in (1, 2, 3, 9):
            x = rng.normal(size=(rows, 3)).astype("float32")
            x[0, 0] = first
            (found,) = in_onnx(chosen_by_tensorflow, x)
            wanted = chosen_by_tensorflow(tf.constant(x)).numpy()
            np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_an_associative_scan_over_free_time_names_the_layer(tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, Joined(False)(inputs))
    with pytest.raises(export.ConversionError, match="`joined`.* known length .*None"):
        export.to_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
