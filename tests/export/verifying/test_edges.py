"""Edges: what random data does not show is found, and nothing is said where nothing is sure."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from own_layers import Computing

from kerasdl import export
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.programs.ranges import ODD_WORDS, TIES, Range, draw, edges
from kerasdl.export.verifying.parity import Judge, per_row
from kerasdl.export.verifying.samples import Batch, Rows, edge_rows, random_rows


def model_of(function, dtype="float32"):
    inputs = keras.Input((4,), dtype=dtype, name="x")
    return keras.Model(inputs, function(inputs))


PAIRS = {
    "zero": ("float32", lambda x: ops.where(ops.equal(x, 0.0), 1.0, x), lambda x: x),
    "far": ("float32", lambda x: x + 9 * ops.relu(x - 20.0), lambda x: x),
    "first of equals": (
        "float32",
        lambda x: ops.argmax(x),
        lambda x: 3 - ops.argmax(ops.flip(x, -1)),
    ),
    "on a bound": (
        "float32",
        layers.Discretization([-0.25, 0.75]),
        lambda x: ops.cast(x > -0.25, "int32") + ops.cast(x > 0.75, "int32"),
    ),
    "not in float32": (
        "int32",
        lambda x: x + 1,
        lambda x: ops.cast(ops.cast(x, "float32") + 1.0, "int32"),
    ),
    "negative": ("int32", lambda x: x + 0, lambda x: ops.abs(x)),
    "number looked up": (
        "int64",
        layers.IntegerLookup(vocabulary=[30, 40]),
        layers.IntegerLookup(vocabulary=[40, 30]),
    ),
    "word looked up": (
        "string",
        layers.StringLookup(vocabulary=["cat", "dog"]),
        layers.StringLookup(vocabulary=["dog", "cat"]),
    ),
    "no word": (
        "string",
        layers.StringLookup(vocabulary=["cat", ""]),
        layers.StringLookup(vocabulary=["cat", "eel"]),
    ),
    "last index": (
        "int32",
        layers.Embedding(3000, 2, weights=[np.arange(6000).reshape(3000, 2)]),
        layers.Embedding(3000, 2, weights=[np.r_[np.arange(5998), 0, 0].reshape(3000, 2)]),
    ),
    "true": ("bool", lambda x: ops.all(x, -1), lambda x: ops.all(x, -1) & False),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_random_data_does_not_show(name, tmp_path):
    dtype, function, other = PAIRS[name]
    model, path = model_of(function, dtype), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    assert export.verify(model, path).passed
    export.to_onnx(model_of(other, dtype), path)
    assert not export.verify(model, path).passed


@pytest.mark.parametrize("name", ["zero", "far", "on a bound", "not in float32", "negative"])
def test_random_data_alone_is_blind(name, tmp_path):
    dtype, function, other = PAIRS[name]
    path = tmp_path / "model.onnx"
    export.to_onnx(model_of(other, dtype), path)
    report = export.verify(model_of(function, dtype), path)
    assert all(check.passed for check in report.checks if check.data == "random")


@pytest.mark.parametrize(
    "function",
    [
        ops.exp,
        lambda x: ops.exp(x) / ops.exp(x),
        lambda x: ops.sqrt(x * x * 1e36),
        lambda x: ops.floor(x * (1 / 3.0)),
        lambda x: ops.argsort(ops.matmul(x, ops.ones((4, 3)))),
        lambda x: ops.log(x),
        lambda x: 1.0 / x,
        layers.UnitNormalization(),
        layers.LayerNormalization(),
    ],
)
def test_overflow_and_steps_are_no_false_alarms(function, tmp_path):
    assert export.to_onnx(model_of(function), tmp_path / "model.onnx").passed


def test_an_overflow_of_keras_alone_says_nothing_and_one_of_the_file_alone_does():
    inputs = keras.Input((4,))
    x = layers.Identity()(inputs)  # from which on the float64 run is in float64
    program = KerasProgram(keras.Model(inputs, ops.exp(x) / ops.exp(x)))
    x = np.array([[1, 2, 3, 4], [100, 100, 100, 100], [0, 0, 0, 0]], "float32")
    judge = Judge(program)
    judge.add(random_rows(program))
    judge.add([Rows([x], (Batch("edges", np.arange(3)),), (True,))])
    (native,) = program.run([x])
    assert np.isnan(native[1]).all()
    without = np.ones((3, 4), "float32")

    def passed(result):
        checks = judge.compare_run(lambda inputs: [result if len(inputs[0]) == 3 else inputs[0]])
        return checks[-1].passed

    assert passed(without)
    assert passed(native)
    without[2, 1] = np.nan
    assert not passed(without)
    assert not passed(native[:, :3])


def test_rows_are_judged_by_their_own_size(tmp_path):
    """An error in the row of zeros is not hidden by the rounding of large numbers."""
    program = KerasProgram(model_of(layers.Dense(3)))
    judge = Judge(program)
    judge.add(random_rows(program))
    x = np.stack([np.zeros(4), np.full(4, 1e6)]).astype("float32")
    judge.add([Rows([x], (Batch("edges", np.arange(2)),), (True,))])

    def verdict(error):
        def run(inputs):
            (y,) = program.run(inputs)
            return [y + np.array([[error], [0]], "float32") if len(y) == 2 else y]

        return judge.compare_run(run)[-1].passed

    assert verdict(0.0)
    assert not verdict(1e-3)


def test_a_model_that_takes_no_edges(tmp_path):
    table = np.arange(20, dtype="float32").reshape(10, 2)
    report = export.to_onnx(
        model_of(lambda x: ops.take(table, x, axis=0), "int32"), tmp_path / "model.onnx"
    )
    assert report.passed
    assert not any(check.data == "edges" for check in report.checks)
    assert "zeros, large numbers and ties, on which Keras stops: " in "".join(report.notes)


def test_a_tolerance_of_the_users_grows_with_the_edges(tmp_path):
    model, path = model_of(layers.Dense(3, name="d")), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    model.get_layer("d").kernel.assign(model.get_layer("d").kernel * 1.01)
    assert not export.verify(model, path).passed
    report = export.verify(model, path, atol=0.5)
    assert report.passed
    assert not report.judged().passed
    assert not export.verify(model, path, atol=1e-6).passed
    model.get_layer("d").kernel.assign(model.get_layer("d").kernel * -1)
    assert not export.verify(model, path, atol=0.5).passed


def test_a_tolerance_allows_no_more_of_zeros(tmp_path):
    """An error that only zeros meet is not allowed by a bound relative to large numbers."""
    x = keras.Input((4,), name="x")
    right = keras.Model(x, ops.where(ops.equal(x, 0.0), 1.0, x))
    wrong = keras.Model(x, ops.where(ops.equal(x, 0.0), 1.2, x))
    export.to_onnx(wrong, tmp_path / "model.onnx")
    for bound in (1e-12, 1e-6):
        assert not export.verify(right, tmp_path / "model.onnx", atol=bound).passed
        assert not export.verify(right, tmp_path / "model.onnx", rtol=bound).passed
    assert export.verify(right, tmp_path / "model.onnx", rtol=0.1).passed


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_edges_are_not_for_coarse_numbers(precision, tmp_path):
    model = model_of(layers.Dense(3))
    report = export.to_onnx(model, tmp_path / "model.onnx", precision=precision)
    assert {check.data for check in report.checks} == {"random"}


class Shape:
    def __init__(self, dtype):
        self.name, self.dtype, self.shape = "x", dtype, (None, 50)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int32", "int64", "bool", "string"])
def test_edges_of_every_type(dtype, rng):
    rows = edges(Shape(dtype), (50,), Range(), rng)
    assert rows.shape == (4, 50)
    assert rows.dtype == (object if dtype == "string" else dtype)
    assert set(rows[0]) == {"" if dtype == "string" else 0}
    if dtype == "string":
        assert set(rows[1]) <= set(ODD_WORDS)
    elif dtype != "bool":
        assert np.abs(rows[1].astype("float64")).max() > 100
        assert len(set(rows[3])) <= 7
        assert (rows.min() < 0) == (dtype != "uint8")
    if dtype in {"int32", "int64"}:
        assert (rows[1].astype("float32") != rows[1]).any()


def test_words_that_are_looked_up_are_drawn(rng):
    known = Range(values=("cat", "dog"))
    assert set(draw(Shape("string"), (200,), known, rng)) == {"a", "b", "c", "cat", "dog"}
    texts = draw(Shape("string"), (200,), Range(values=("cat", "dog"), text=True), rng)
    assert any("cat dog" in text for text in texts)
    assert {*draw(Shape("int32"), (200,), Range(values=(70, 80)), rng)} == {*range(10), 70, 80}


def test_rows_as_columns():
    np.testing.assert_array_equal(
        per_row(np.arange(12).reshape(3, 2, 2)), np.arange(12).reshape(3, 4).T
    )
    assert per_row(np.array(3.0)).shape == (1, 1)


def counted(x):
    return ops.bincount(ops.abs(x), minlength=5)


def counted_down(x):
    steps = tf.reduce_max(x)
    return tf.while_loop(lambda i, _: i < steps, lambda i, y: (i + 1, y // 2), (0, x + 0))[1]


@pytest.mark.parametrize(
    ("function", "most"),
    [
        (counted, 100),
        (counted_down, 100),
        (lambda x: tf.cast(tf.sequence_mask(x[:, 0]), tf.float32), 100),
        (lambda x: ops.one_hot(x, 10), 2**24 + 9),
        (lambda x: ops.cast(x, "float32") / 3, 2**24 + 9),
    ],
)
def test_integers_that_are_sizes_are_not_huge(function, most):
    inputs = keras.Input((4,), dtype="int32")
    program = KerasProgram(keras.Model(inputs, Computing(function)(inputs)))
    (rows,) = edge_rows(program)
    assert most - 9 <= np.abs(rows.arrays[0]).max() <= most
    indices = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(50, 2)])
    (rows,) = edge_rows(KerasProgram(indices))
    assert rows.arrays[0].max() == 49


@pytest.mark.parametrize(
    ("lookup", "dtype"),
    [
        (layers.StringLookup(vocabulary=["x", "y", "zz"], num_oov_indices=0), "string"),
        (layers.IntegerLookup(vocabulary=[7, 11, 130], num_oov_indices=0), "int64"),
    ],
)
def test_words_that_are_all_there_are(lookup, dtype, tmp_path):
    """Of others Keras raises an error, so that none is drawn."""
    inputs = keras.Input((3,), dtype=dtype)
    report = export.to_onnx(keras.Model(inputs, lookup(inputs)), tmp_path / "model.onnx")
    assert report.passed
    assert {check.data for check in report.checks} == {"random", "edges"}


def test_a_model_of_much_work_is_tried_on_ties(monkeypatch):
    program = KerasProgram(model_of(layers.Dense(3)))
    assert len(edge_rows(program)[0].arrays[0]) == 4
    monkeypatch.setattr(program, "work", lambda: 10**9)
    (rows,) = edge_rows(program)
    assert rows.arrays[0].shape == (1, 4)
    assert set(rows.arrays[0].ravel()) <= set(TIES)
