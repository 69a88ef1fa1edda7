"""The truth of a batch, taken from that of its rows only where the rows are by themselves."""

import keras
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from keras import layers, ops

from kerasdl import export
from kerasdl.export.errors import SourceError
from kerasdl.export.formats import FORMATS
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.verifying import samples
from kerasdl.export.verifying import truth as truth_module
from kerasdl.export.verifying.checks import Tolerance
from kerasdl.export.verifying.parity import Judge
from kerasdl.export.verifying.samples import Batch, Rows, edge_rows, joined, random_rows
from kerasdl.export.verifying.truth import LITTLE_WORK, Later, Truth, Witness
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
    """Knows the numbers of rows of its runs in Keras and in float64."""

    def __init__(self, model):
        super().__init__(model)
        self.runs, self.wide_runs = [], []

    def run(self, arrays):
        self.runs.append(len(arrays[0]))
        return super().run(arrays)

    def run_float64(self, arrays):
        self.wide_runs.append(len(arrays[0]))
        return super().run_float64(arrays)


def truths_and_own(model):
    program = Counted(model)
    (rows,) = random_rows(program)
    return program, Witness(program).of(rows)


def test_rows_by_themselves_are_run_in_float64_once():
    program, truths = truths_and_own(rowwise())
    assert program.wide_runs == [32]
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
    assert program.wide_runs == [3]
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
        (batches_of(1, 3, 32), [3, 1, 32]),  # the three are all rows
        (batches_of(1, 3, 32, edges=[1]), [4, 3, 1]),
        (batches_of(1, 3, 32, edges=[4]), [7, 1, 3, 4]),
        (batches_of(1, 1, edges=[1, 1], different=1), [3, 1, 1, 1, 1]),
        (batches_of(5, 5, edges=[5], different=5), [10, 5, 5]),
        (batches_of(32, edges=[4], different=32), [36, 32, 4]),
    ],
    ids=["random", "one edge", "edges", "single rows", "fixed", "data"],
)
def test_the_runs_that_tell_whether_rows_are_by_themselves(batches, runs):
    """That of all rows, and those of some batches in Keras."""
    program = Counted(rowwise())
    count, found = batches
    arrays = [np.random.default_rng(0).normal(size=(count, 6)).astype("float32")]
    Witness(program).of(Rows(arrays, found, (True,)))
    assert program.runs == runs
    assert program.wide_runs == [count]


def test_models_of_much_work_are_trusted_until_somebody_looks(monkeypatch):
    monkeypatch.setattr(truth_module, "LITTLE_WORK", 0)
    program = Counted(rowwise())
    count, batches = batches_of(1, 3, 32, edges=[1])
    arrays = [np.random.default_rng(0).normal(size=(count, 6)).astype("float32")]
    witness = Witness(program)
    trusted = witness.of(Rows(arrays, batches, (True,)))
    assert witness.is_trusting
    assert program.runs == [4]
    looked = witness.look()
    assert not witness.is_trusting
    assert program.runs == [4, 3, 1]
    assert program.wide_runs == []
    for one, other in zip(trusted, looked, strict=True):
        np.testing.assert_array_equal(one.inputs[0], other.inputs[0])
        np.testing.assert_allclose(one.native[0], other.native[0], rtol=1e-6)
    witness.forget()
    assert witness.look() == []


def beside_one_edge(program, width, edge=64.0):
    count, batches = batches_of(1, 3, 32, edges=[1])
    arrays = [np.random.default_rng(0).normal(size=(count, width)).astype("float32")]
    arrays[0][-1] = edge
    witness = Witness(program)
    truths = witness.of(Rows(arrays, batches, (True,)))
    return witness.look() if witness.is_trusting else truths


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("edge", [64.0, 1e9])
@pytest.mark.parametrize("faint", [0, 1e-9, 1e-5, 1e-3, 1.0])
def test_rows_that_depend_on_each_other_a_little(faint, edge, waits, monkeypatch):
    """Every batch is run by itself, unless its rows in another one are as near as rounding is."""
    monkeypatch.setattr(truth_module, "LITTLE_WORK", 0 if waits else 10**9)
    program = Counted(model_of(lambda x: x + faint * ops.max(ops.sin(x), 0, keepdims=True)))
    truths = beside_one_edge(program, 4, edge)
    assert program.runs[:3] == [4, 3, 1]
    assert (32 in program.runs) == (faint >= 1e-5)
    assert bool(program.wide_runs) == (faint >= 1e-5 or not waits)
    for truth in truths:
        own = KerasProgram.run_float64(program, truth.inputs)[0]
        unit = np.abs(own).max() * 2.0**-24
        np.testing.assert_allclose(truth.exact[0], own, rtol=0, atol=16 * unit)


@pytest.mark.parametrize(("rows", "halves", "wide"), [(1, 5, []), (1, 15, [4]), (3, 5, [4])])
def test_edges_are_alike_by_the_largest_number_of_their_row(rows, halves, wide, monkeypatch):
    """One of its numbers may be as small as its rounding; Keras has other kernels for one row."""
    monkeypatch.setattr(truth_module, "LITTLE_WORK", 0)
    program = Counted(model_of(lambda x: x * np.float32([1, 1, 1, 1e-9])))
    run = program.run

    def rounds(arrays):
        (y,) = map(np.array, run(arrays))
        y[:, 3] += halves * 2.0**-24 * np.abs(y).max() * (len(y) == rows)
        return [y]

    program.run = rounds
    beside_one_edge(program, 4)
    assert program.wide_runs[:1] == wide


@pytest.mark.parametrize("name", TANGLED)
def test_rows_that_depend_on_each_other_beside_one_row_of_edges(name):
    program = Counted(model_of(TANGLED[name]))
    for truth in beside_one_edge(program, 4):
        own = KerasProgram.run_float64(program, truth.inputs)[0]
        np.testing.assert_allclose(truth.exact[0], own, rtol=1e-13)


def distrusted(name, monkeypatch, rows):
    """Of a model of much work whose rows depend on each other: itself, and its judge."""
    monkeypatch.setattr(truth_module, "LITTLE_WORK", 0)
    monkeypatch.setattr(samples, "MUCH_WORK", 0 if rows == "few" else 10**9)
    model = model_of(TANGLED[name])
    return model, judge_of(model)


@pytest.mark.parametrize("rows", ["few", "many"])
@pytest.mark.parametrize("name", TANGLED)
def test_a_file_whose_rows_depend_on_each_other_as_they_should(name, rows, monkeypatch):
    model, judge = distrusted(name, monkeypatch, rows)
    assert all(check.passed for check in judge.compare_run(lambda x: [np.asarray(model(x[0]))]))


@pytest.mark.parametrize("rows", ["few", "many"])
@pytest.mark.parametrize("name", sorted(TANGLED.keys() - {"flat"}))
def test_a_file_that_takes_row_by_row_what_depends_on_each_other(name, rows, monkeypatch):
    """`flat` does not, but for the shape."""
    model, judge = distrusted(name, monkeypatch, rows)

    def by_row(arrays):
        results = [np.asarray(model(arrays[0][i : i + 1])) for i in range(len(arrays[0]))]
        return [np.concatenate([np.atleast_1d(y) for y in results])]

    assert not all(check.passed for check in judge.compare_run(by_row))


@pytest.mark.parametrize("rows", ["few", "many"])
@pytest.mark.parametrize("name", ["largest", "turned", "rolled", "summed up", "centered"])
def test_a_file_whose_rows_depend_on_each_other_where_they_should_not(name, rows, monkeypatch):
    _, judge = distrusted(name, monkeypatch, rows)
    tangled, judge = model_of(TANGLED[name]), judge_of(model_of(lambda x: x * 1.0))
    checks = judge.compare_run(lambda arrays: [np.asarray(tangled(arrays[0]))])
    assert not all(check.passed for check in checks if check.batch == 3)


def canceling(offset=1e6, units=512):
    """Whole numbers, so that Keras' own run is exact, which rounding might move by 2⁻²⁴ offset."""
    inputs = keras.Input((units,))
    x = ops.round(4 * inputs)
    dense = layers.Dense(units)
    model = keras.Model(inputs, dense(x) + offset - offset)
    dense.kernel.assign(np.random.default_rng(0).integers(-2, 3, (units, units)))
    return model


class Looked(Counted):
    """Counts how often somebody asks for float64 outputs, and how far rounding reaches."""

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


@pytest.mark.parametrize(
    ("halves", "wide", "looks", "known"),
    [(0, 0, 0, False), (13.5, 0, 0, False), (15, 1, 0, True), (17, 1, 1, True)],
)
def test_a_float64_run_waits_for_a_file_that_is_not_as_near_as_that(halves, wide, looks, known):
    """In half ulps of the largest number of the channel on random data; Keras' run is exact."""
    model = canceling()
    judge = judge_of(model)
    largest = max(np.abs(t.native[0][:, 0]).max() for t in judge.truths if t.data == "random")
    checks = judge.compare_run(moved_by(model, halves * 2.0**-24 * largest))
    assert all(check.passed for check in checks)
    assert (len(judge.program.wide_runs), judge.program.looks) == (wide, looks)
    assert [check.keras_error is not None for check in checks] == [known] * len(checks)
    assert (len(judge.program.runs) > 1) == known


def test_what_was_left_aside_is_not_looked_at():
    model = canceling()
    judge = Judge(Looked(model))
    rows = random_rows(judge.program)
    judge.add(rows)
    judge.clear()
    assert judge.truths == []
    judge.add(rows)
    checks = judge.compare_run(moved_by(model, 1.0))
    assert len(checks) == len(judge.truths) == 3


@pytest.mark.parametrize(("bound", "wide"), [(1e-4, 0), (1e-9, 1)])
def test_a_bound_of_the_users_is_about_the_float64_run_where_it_is_tight(bound, wide):
    model = canceling()
    judge = Judge(Looked(model), Tolerance(rtol=bound))
    judge.add(random_rows(judge.program))
    assert all(check.passed for check in judge.compare_run(moved_by(model, 0)))
    assert judge.program.wide_runs == []
    checks = judge.compare_run(moved_by(model, 1e-8 * np.abs(judge.truths[-1].native[0]).max()))
    assert all(check.passed for check in checks) == (wide == 0)
    assert len(judge.program.wide_runs) == wide


class Drawn:
    """Stands for a program of one output, whose truth is drawn."""

    def __init__(self, model):
        self.outputs = KerasProgram(model).outputs

    def work(self):
        return 0


@given(
    seed=st.integers(0, 2**32 - 1),
    own=st.floats(-3, 3),
    near=st.floats(0, 1.3),
    data=st.sampled_from(["random", "edges"]),
)
@example(seed=0, own=0.0, near=1.0, data="random")
@example(seed=0, own=0.0, near=1.0, data="edges")
def test_what_passes_without_a_float64_run_passes_with_it(seed, own, near, data):
    """Whatever the float64 run says: Keras' own error may be any number of half ulps, and lie in
    the same direction as the file's."""
    rng = np.random.default_rng(seed)
    native = (rng.normal(size=(6, 3)) * 10.0 ** rng.integers(-4, 5, 3)).astype("float32")
    errors = 10.0**own * 2.0**-24 * np.abs(native).max(axis=0) * rng.choice([-1, 1], (6, 3))
    exact = native + errors
    # Of edges the noisiest channel of random data counts.
    usual = {"random": 16 * np.abs(native).max(axis=0), "edges": 64 * np.abs(native).max()}
    limit = near * 2.0**-24 * usual[data]
    result = (native - limit * np.sign(errors)).astype("float32")

    def passes(known):
        judge = Judge(Drawn(rowwise()))
        zero = [np.zeros(exact.shape)]
        for kind in {"random", data}:
            wide, reach = Later(lambda: [exact]), Later(lambda: zero)
            if known:
                wide(), reach()
            judge.truths.append(Truth([native], kind, [native], wide, reach))
        judge._look_further = lambda: False
        checks = judge.compare_run(lambda inputs: [result])
        return all(check.passed for check in checks if check.data == data)

    assert passes(True) or not passes(False)
    if near < 0.8:
        assert passes(False)


def test_a_float64_run_of_other_shapes_is_none():
    """What a model chooses by its numbers, it may choose otherwise there."""

    class Other(Looked):
        def run_float64(self, arrays):
            return [y[:-1] for y in super().run_float64(arrays)]

    model = canceling()
    judge = Judge(Other(model))
    judge.add(random_rows(judge.program))
    far = moved_by(model, 4 * 2.0**-20 * np.abs(judge.truths[-1].native[0][:, 0]).max())
    assert all(check.passed for check in judge.compare_run(far))
    assert judge.float64_failure == "its outputs have other shapes there"


def test_rounding_of_little_work_is_looked_at_beforehand():
    judge = judge_of(canceling(units=16))
    assert judge.program.looks == 1
    assert all(truth.rounding.is_known for truth in judge.truths)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "int8"])
def test_in_other_formats_nothing_is_put_off(name):
    """Keras' float32 run says nothing of how they round."""
    judge = Judge(Looked(canceling(offset=1.0)), stored=FORMATS[name])
    judge.add(random_rows(judge.program))
    assert all(truth.float64.is_known and truth.rounding.is_known for truth in judge.truths)


def test_what_is_known_is_that_of_keras_until_somebody_asks():
    truths = judge_of(canceling()).truths
    for truth in truths:
        assert truth.known_exact is truth.native
        assert [y.shape for y in truth.known_reach] == [y.shape for y in truth.native]
        assert not np.any(truth.known_reach)
    assert truths[0].exact[0].dtype == np.float64
    for truth in truths:
        assert truth.known_exact is truth.exact
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
    witness = Witness(program)
    witness.of(rows)
    truths = witness.look()
    assert own == [32, 1, 3]
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


def test_a_model_of_much_work_that_does_not_take_three_rows(tmp_path):
    class ThreeAreTooMany(layers.Layer):
        def call(self, x):
            if x.shape[0] == 3:
                raise ValueError("three are too many")
            return x - 1000.0 + 1000.0  # so that the file is no nearer than float64 can tell

    model = keras.Sequential([keras.Input((9,)), layers.Dense(30_000), ThreeAreTooMany()])
    randomize(model, 0)
    with pytest.raises(SourceError, match="every size: .*three are too many"):
        export.to_onnx(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
