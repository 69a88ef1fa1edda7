"""The truth of a batch, taken from that of its rows only where the rows are by themselves."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasdl import export
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.verifying.parity import Judge
from kerasdl.export.verifying.samples import Batch, Rows, edge_rows, joined, random_rows
from kerasdl.export.verifying.truth import LITTLE_WORK, Witness
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
    "three rows": lambda x: x[:3, :],
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


def batches_of(*sizes, edges=(), different=3):
    """Batches of random rows, and of edges behind them."""
    start, found = different, [Batch("random", np.arange(size) % different) for size in sizes]
    for size in edges:
        found.append(Batch("edges", start + np.arange(size)))
        start += size
    return start, tuple(found)


@pytest.mark.parametrize(
    ("batches", "runs"),
    [
        (batches_of(1, 3, 32), [1, 32, 3]),  # the three are all rows
        (batches_of(1, 3, 32, edges=[1]), [3, 1]),
        (batches_of(1, 3, 32, edges=[4]), [1, 3, 4, 7]),
        (batches_of(1, 1, edges=[1, 1], different=1), [1, 1, 1, 1, 3]),
        (batches_of(5, 5, edges=[5], different=5), [5, 5]),
        (batches_of(32, edges=[4], different=32), [32, 4]),
    ],
    ids=["random", "one edge", "edges", "single rows", "fixed", "data"],
)
def test_the_runs_that_tell_whether_rows_are_by_themselves(batches, runs):
    """Those of some batches in Keras, and of all rows where these do not hold each of them once."""
    program, sizes = sized(rowwise())
    count, found = batches
    arrays = [np.random.default_rng(0).normal(size=(count, 6)).astype("float32")]
    Witness(program).of(Rows(arrays, found, (True,)))
    assert sizes == runs
    assert program.sizes == [count]


def sized(model):
    """A program, and the sizes of the batches that Keras has run."""
    program, sizes = Counted(model), []
    run = program.run
    program.run = lambda arrays: sizes.append(len(arrays[0])) or run(arrays)
    return program, sizes


def beside_one_edge(program, width, edge=64.0):
    count, batches = batches_of(1, 3, 32, edges=[1])
    arrays = [np.random.default_rng(0).normal(size=(count, width)).astype("float32")]
    arrays[0][-1] = edge
    return Witness(program).of(Rows(arrays, batches, (True,)))


@pytest.mark.parametrize("edge", [64.0, 1e9])
@pytest.mark.parametrize("faint", [0, 1e-9, 1e-5, 1e-3, 1.0])
def test_rows_that_depend_on_each_other_a_little(faint, edge):
    """All rows are run at once in Keras, too, unless float32 cannot tell its runs from those."""
    program, sizes = sized(model_of(lambda x: x + faint * ops.max(ops.sin(x), 0, keepdims=True)))
    truths = beside_one_edge(program, 4, edge)
    assert sizes[:2] == [3, 1]
    assert (4 in sizes) == (faint >= 1e-5)
    for truth in truths:
        own = KerasProgram.run_float64(program, truth.inputs)[0]
        unit = np.abs(own).max() * 2.0**-24
        np.testing.assert_allclose(truth.exact[0], own, rtol=0, atol=16 * unit)


UNCOMPARED = {
    "infinite": lambda x: x / 0.0,
    "no number": lambda x: x * np.nan,
    "whole": lambda x: ops.argmax(x, axis=1),
}


@pytest.mark.parametrize("name", UNCOMPARED)
def test_runs_of_some_rows_say_nothing_that_is_no_finite_float(name):
    program, sizes = sized(model_of(UNCOMPARED[name]))
    beside_one_edge(program, 4)
    assert sizes == [3, 1, 4]


def test_without_float64_all_rows_are_run():
    program, sizes = sized(rowwise())
    program.run_float64 = None
    truths = beside_one_edge(program, 6)
    assert sizes == [3, 1, 4]
    for truth in truths:
        np.testing.assert_allclose(truth.native[0], truth.exact[0], rtol=1e-5)


@pytest.mark.parametrize(("first", "runs"), [([3, 0, 4], [3, 2]), ([3, 0, 3], [3, 2, 5])])
def test_pieces_are_joined_in_the_order_of_the_rows(first, runs):
    """And not where one row is missing, since another is there twice."""
    program, sizes = sized(rowwise())
    arrays = [np.random.default_rng(0).normal(size=(5, 6)).astype("float32")]
    batches = (Batch("random", np.array(first)), Batch("edges", np.array([2, 1])))
    truths = Witness(program).of(Rows(arrays, batches, (True,)))
    assert sizes == runs
    for truth in truths:
        np.testing.assert_allclose(truth.native[0], truth.exact[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TANGLED)
def test_rows_that_depend_on_each_other_beside_one_row_of_edges(name):
    program = Counted(model_of(TANGLED[name]))
    for truth in beside_one_edge(program, 4):
        own = KerasProgram.run_float64(program, truth.inputs)[0]
        np.testing.assert_allclose(truth.exact[0], own, rtol=1e-13)


def canceling(offset=1e6, units=512):
    """Whole numbers, so that Keras' own run is exact, which rounding might move by 2⁻²⁴ offset."""
    inputs = keras.Input((units,))
    x = ops.round(4 * inputs)
    dense = layers.Dense(units)
    model = keras.Model(inputs, dense(x) + offset - offset)
    dense.kernel.assign(np.random.default_rng(0).integers(-2, 3, (units, units)))
    return model


class Looked(KerasProgram):
    """Counts how often somebody asks how far rounding reaches."""

    looks = 0

    def reaches(self, *arguments):
        self.looks += 1
        return super().reaches(*arguments)


def judge_of(model):
    judge = Judge(Looked(model))
    judge.add(joined(random_rows(judge.program), edge_rows(judge.program)))
    return judge


def moved_by(model, amount):
    """One number of each batch, in the first channel."""

    def run(arrays):
        result = np.array(model(arrays[0]))
        result[0, 0] += amount
        return [result]

    return run


@pytest.mark.parametrize(
    ("ulps", "looks", "passes"), [(0, 0, True), (0.001, 0, True), (4, 1, True), (40, 1, False)]
)
def test_rounding_is_looked_at_where_a_file_does_not_pass_without_it(ulps, looks, passes):
    """In half ulps of the numbers that cancel out; the outputs are a thousand times smaller."""
    model = canceling()
    judge = judge_of(model)
    assert judge.program.work() > LITTLE_WORK
    checks = judge.compare_run(moved_by(model, ulps * 2.0**-24 * 1e6))
    assert judge.program.looks == looks
    assert all(check.passed for check in checks if check.data == "random") == passes


def test_rounding_of_little_work_is_looked_at_beforehand():
    judge = judge_of(canceling(units=16))
    assert judge.program.looks == 1
    assert all(truth.rounding.is_known for truth in judge.truths)


def test_the_known_reach_is_zero_until_somebody_asks():
    truths = judge_of(canceling()).truths
    for truth in truths:
        assert [y.shape for y in truth.known_reach] == [y.shape for y in truth.exact]
        assert not np.any(truth.known_reach)
    assert np.max(truths[0].reach) > 2e-3
    for truth in truths:
        np.testing.assert_array_equal(truth.known_reach, truth.reach)
    # The second row of the batch of three is that of the batch of 32, and so on.
    np.testing.assert_array_equal(truths[1].reach[0], truths[2].reach[0][:3])


def test_rows_whose_rounding_differs_need_not_depend_on_each_other(monkeypatch):
    """The same rows in another batch: another sum, which only rounding can tell."""
    program = Looked(canceling())
    (rows,) = random_rows(program)
    own, run = [], program.run

    def rounds(arrays):
        own.append(len(arrays[0]))
        (result,) = run(arrays)
        result = np.array(result)
        result[:, 0] += 4 * 2.0**-24 * 1e6 if len(result) == 1 else 0.0
        return [result]

    monkeypatch.setattr(program, "run", rounds)
    truths = Witness(program).of(rows)
    assert own == [1, 3, 32]
    assert program.looks == 1
    assert len({id(truth.rounding) for truth in truths}) == 1


def test_a_model_that_takes_no_moved_weights():
    """Its float64 run stays the truth, and rounding is taken to reach as far as is usual."""

    class Fragile(Looked):
        def reaches(self, *arguments):
            super().reaches(*arguments)
            raise ValueError("weights of my own")

    model = canceling()
    judge = Judge(Fragile(model))
    judge.add(random_rows(judge.program))
    assert judge.float64_failure is None
    assert all(check.passed for check in judge.compare_run(moved_by(model, 0)))
    assert judge.float64_failure is None
    far = moved_by(model, 8 * 2.0**-20 * np.abs(judge.truths[-1].exact[0][:, 0]).max())
    assert all(check.passed for check in judge.compare_run(far))
    assert judge.float64_failure == "weights of my own"
    assert not all(check.passed for check in judge.compare_run(moved_by(model, 0.1)))


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
