"""The truth of a batch, taken from that of its rows only where the rows are by themselves."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasdl import export
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.verifying.samples import Batch, Rows, random_rows
from kerasdl.export.verifying.truth import Witness
from random_networks import randomize


def rowwise():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(3)])
    randomize(model, 0)
    return model


def model_of(function):
    inputs = keras.Input((4,))
    return keras.Model(inputs, function(inputs))


TANGLED = {
    "largest": lambda x: x - ops.max(x, axis=0, keepdims=True),
    "turned": lambda x: ops.flip(x, axis=0),
    "rolled": lambda x: ops.roll(x, 1, axis=0),
    "summed up": lambda x: ops.cumsum(x, axis=0),
    "centered": lambda x: x - ops.mean(x, axis=0, keepdims=True),
    "one number": lambda x: ops.mean(x),
    "one row": lambda x: x[:1, :],
    "flat": lambda x: ops.reshape(x, (-1,)),
}


class Counted(KerasProgram):
    def __init__(self, model):
        super().__init__(model)
        self.sizes = []

    def run_float64(self, arrays):
        self.sizes.append(len(arrays[0]))
        return super().run_float64(arrays)


def truths_and_own(model):
    program = Counted(model)
    (rows,) = random_rows(program)
    return program, Witness(program).of(rows)


def test_rows_by_themselves_are_run_in_float64_once():
    program, truths = truths_and_own(rowwise())
    assert program.sizes == [32]
    for truth, size in zip(truths, (1, 3, 32), strict=True):
        assert len(truth.inputs[0]) == size
        np.testing.assert_array_equal(truth.native[0], program.run(truth.inputs)[0])
        own = KerasProgram.run_float64(program, truth.inputs)[0]
        np.testing.assert_allclose(truth.exact[0], own, rtol=1e-13)
        assert truth.reach[0].shape == own.shape
        assert truth.reach[0].max() > 0


@pytest.mark.parametrize("name", TANGLED)
def test_rows_that_depend_on_each_other(name):
    program, truths = truths_and_own(model_of(TANGLED[name]))
    assert [len(truth.inputs[0]) for truth in truths] == [1, 3, 32]
    for truth in truths:
        own = KerasProgram.run_float64(program, truth.inputs)[0]
        np.testing.assert_allclose(truth.exact[0], own, rtol=1e-13)


def test_few_rows_make_a_large_batch():
    model = rowwise()
    arrays = [np.random.default_rng(0).normal(size=(3, 6)).astype("float32")]
    program = Counted(model)
    batches = tuple(Batch("random", np.arange(size) % 3) for size in (1, 3, 32))
    truths = Witness(program).of(Rows(arrays, batches, (True,)))
    assert program.sizes == [3]
    own = KerasProgram.run_float64(program, truths[-1].inputs)[0]
    np.testing.assert_allclose(truths[-1].exact[0], own, rtol=1e-13)


def test_a_graph_that_is_not_the_model_does_not_widen_the_tolerance():
    """The reach is that of the graph, whatever it computes; an error in it is no rounding."""
    model = rowwise()
    program = KerasProgram(model)
    (rows,) = random_rows(program)
    fair = Witness(program).of(rows)[-1].reach[0]
    wrong = layers.Dense(3)
    wrong.build((None, 8))
    program.graph.nodes[-1].operation = wrong
    unfair = Witness(program).of(rows)[-1].reach[0]
    assert unfair.max() < 10 * fair.max()


def test_an_export_where_rows_depend_on_each_other(tmp_path):
    model = model_of(TANGLED["largest"])
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert sorted({check.batch for check in report.checks}) == [1, 3, 4, 32]


@pytest.mark.parametrize("batch", [None, 1, 5])
@pytest.mark.parametrize("name", [*TANGLED, "running"])
def test_exports_where_rows_depend_on_each_other(name, batch, tmp_path):
    """On edges, too, which stand behind the random rows, and in each of the batches of one size."""
    formulas = TANGLED | {"running": lambda x: ops.cumsum(ops.exp(-ops.square(x)), axis=0)}
    options = {} if batch is None else {"dimensions": {"batch": batch}}
    report = export.to_onnx(model_of(formulas[name]), tmp_path / "model.onnx", **options)
    assert {check.data for check in report.checks} == {"random", "edges"}
    assert report.conclusive


def test_rows_that_depend_on_each_other_on_edges_alone(tmp_path):
    """Of large numbers, which only some of the edges hold."""

    def below_the_largest(x):
        return ops.where(ops.abs(x) > 5, x - ops.max(x), x)

    for batch in (1, 2):
        options = {"dimensions": {"batch": batch}}
        assert export.to_onnx(
            model_of(below_the_largest), tmp_path / "model.onnx", **options
        ).passed


def test_the_lowest_number_is_that_of_the_model(tmp_path):
    values, places = keras.Input((4, 3)), keras.Input((4,), dtype="int32")
    flat = ops.reshape(values, (-1, 3)), ops.reshape(places, (-1,))
    model = keras.Model([values, places], ops.segment_max(*flat, 11))
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.passed
    assert max(check.magnitude for check in report.checks) == np.finfo("float32").max
