"""The verdict: rounding passes, errors do not."""

from dataclasses import replace
from fractions import Fraction

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export import OptionError
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.programs.rounding import unknown_reach
from kerasdl.export.verifying.channels import channel_errors, channel_noise, flips
from kerasdl.export.verifying.checks import Check, Tolerance
from kerasdl.export.verifying.parity import Judge, allowed_by_mean
from kerasdl.export.verifying.samples import random_rows
from kerasdl.export.verifying.truth import Later
from random_networks import randomize


def exact_file(model, tmp_path):
    export.to_onnx(model, tmp_path / "model.onnx")
    return (tmp_path / "model.onnx").read_bytes()


def judged(model, file, tolerance=None):
    program = KerasProgram(model)
    judge = Judge(program, tolerance)
    judge.add(random_rows(program))
    return judge.compare(file, lambda message: None)


def stack(*hidden, shape=(6,)):
    model = keras.Sequential([keras.Input(shape), *hidden, layers.Dense(3, name="head")])
    randomize(model, 0)
    return model


MODELS = {
    "dense": lambda: stack(layers.Dense(8, activation="tanh"), layers.BatchNormalization()),
    "deep": lambda: stack(*(layers.Dense(12, activation="elu") for _ in range(15))),
    "convolution": lambda: stack(layers.Conv2D(4, 3), layers.Flatten(), shape=(6, 6, 2)),
    "lstm": lambda: stack(layers.LSTM(5), shape=(7, 4)),
    "softmax": lambda: stack(layers.Dense(8), layers.Softmax(), layers.LayerNormalization()),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_small_weight_error_is_found_and_rounding_is_not(name, tmp_path):
    model = MODELS[name]()
    file = exact_file(model, tmp_path)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        before = np.array(keras.ops.convert_to_numpy(variable.value))
        if np.max(np.abs(before)) == 0:
            continue
        variable.assign(before * (1 + 1e-3 * rng.choice([-1, 1], before.shape)))
        assert not all(check.passed for check in judged(model, file)), variable.path
        variable.assign(before)
    assert all(check.passed for check in judged(model, file))


@pytest.mark.parametrize(
    "first",
    [
        layers.LayerNormalization(),
        layers.RMSNormalization(),
        layers.GroupNormalization(2),
        layers.BatchNormalization(),
        layers.UnitNormalization(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_normalization_that_comes_first_runs_in_float64(first):
    program = KerasProgram(stack(first))
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    (exact,) = program.run_float64([x])
    assert exact.dtype == np.float64
    (native,) = program.run([x])
    assert 0 < np.abs(native - exact).max() < 1e-5


@pytest.mark.parametrize("value", [-1, -0.1, 10**400, float("nan"), float("inf"), "1", True, [1]])
def test_tolerances_that_are_none(value):
    with pytest.raises(OptionError, match="`rtol` must be a"):
        Tolerance.given(value, None)


@pytest.mark.parametrize("value", [0, 1, 1e-3, np.float32(0.5), np.int64(2), Fraction(1, 4)])
def test_numbers_of_any_kind_are_tolerances(value):
    assert Tolerance.given(None, value).atol == float(value)
    assert Tolerance.given(None, None) is None


def test_noise_is_the_largest_of_three():
    exact = np.array([[1.0, 2.0], [0.5, -2.0]])
    native = exact.astype("float32")
    native[0, 1] += 2**-20
    floor = 2**-24 * np.array([1.0, 2.0])
    noise = channel_noise(native, exact, np.zeros((2, 2)))
    np.testing.assert_array_equal(noise, [floor[0], 2**-20])
    noise = channel_noise(native, exact, np.array([[0, 0], [1e-3, 0]]))
    np.testing.assert_array_equal(noise, [1e-3, 2**-20])


def by_mean(errors, reach, exact=1.0):
    exact = np.broadcast_to(exact, errors.shape).astype("float64")
    return allowed_by_mean(exact.astype("float32"), exact, reach, errors)


def test_means_are_judged_per_channel(rng):
    errors, reach = np.abs(rng.normal(size=(2, 20, 3))) * [1.0, 1e-2, 1e-4]
    rms = np.sqrt(np.mean(errors**2, axis=0)), np.sqrt(np.mean(reach**2, axis=0))
    expected = 8 * rms[1] * errors.max(axis=0) / rms[0]
    np.testing.assert_allclose(by_mean(errors, reach), expected)
    images = errors.reshape(4, 5, 1, 3)
    np.testing.assert_allclose(by_mean(images, reach.reshape(4, 5, 1, 3)), expected)
    # As large as the noise, in another order.
    turned = errors[::-1]
    for times, passed in ((7.9, True), (8.1, False)):
        fits = times * turned.max(axis=0) <= by_mean(times * turned, errors)
        assert fits.tolist() == [passed] * 3


def test_an_outlier_is_judged_by_its_size(rng):
    reach = np.full((100, 1), 1e-3)
    errors = np.zeros((100, 1))
    errors[3] = 15e-3
    assert by_mean(errors, reach) > 16e-3
    assert by_mean(np.full((100, 1), 9e-3), reach) < 9e-3
    assert by_mean(np.full((100, 1), 7e-3), reach) > 7e-3


def test_where_a_mean_says_nothing():
    assert by_mean(np.full((16, 2), np.inf), np.ones((16, 2))) == np.inf
    whole = np.ones((20, 2), "int32")
    assert allowed_by_mean(whole, whole, np.zeros((20, 2)), np.zeros((20, 2))) == np.inf
    assert (by_mean(np.zeros((20, 2)), np.ones((20, 2))) == 8).all()


def test_an_error_in_all_numbers_of_a_channel_is_found_below_sixteen_times_the_noise(tmp_path):
    model = stack(shape=(40,))
    file = exact_file(model, tmp_path)
    judge = Judge(KerasProgram(model))
    judge.add(random_rows(judge.program))
    assert all(check.passed for check in judge.compare(file, lambda message: None))
    noise = judge.noise("random", 0)
    bias = np.array(model.get_layer("head").bias.value)
    proto = onnx.load_from_string(file)
    constant = next(t for t in proto.graph.initializer if list(t.dims) == [3])
    for times, passed in ((1.5, True), (12, False)):
        moved = (bias + times * noise * [1, 0, 0]).astype("float32")
        constant.CopyFrom(onnx.numpy_helper.from_array(moved, constant.name))
        checks = judge.compare(proto.SerializeToString(), lambda message: None)
        assert {check.passed for check in checks if check.batch == 32} == {passed}
        assert all(check.passed for check in checks if check.batch < 16)


def test_the_batch_that_tells_most(tmp_path):
    model = MODELS["dense"]()
    file = exact_file(model, tmp_path)
    model.get_layer("head").bias.assign([0.0, 1.0, 0.0])
    judge = Judge(KerasProgram(model))
    judge.add(random_rows(judge.program))
    checks = judge.compare(file, lambda message: None)
    assert judge.telling(checks).batch == 32
    rows = random_rows(judge.program)[0]
    few = Judge(judge.program)
    batches = tuple(replace(batch, places=batch.places % 3) for batch in rows.batches)
    few.add([replace(rows, arrays=[array[:3] for array in rows.arrays], batches=batches)])
    assert [truth.different_rows for truth in few.truths] == [1, 3, 3]
    assert few.telling(few.compare(file, lambda message: None)).batch == 3


def test_a_small_channel_beside_a_large_one(tmp_path):
    """A tolerance for the whole tensor would be blind to an error in the small one."""
    model = keras.Sequential([keras.Input((5,)), layers.Dense(2, name="d")])
    kernel = np.random.default_rng(0).normal(size=(5, 2)) * [1e6, 1e-3]
    model.get_layer("d").kernel.assign(kernel)
    file = exact_file(model, tmp_path)
    model.get_layer("d").kernel.assign(kernel * [1, 1 + 1e-4])
    assert not all(check.passed for check in judged(model, file))


def errors(result, native):
    native = np.asarray(native, "float32")
    return channel_errors(np.asarray(result, "float32"), native, native.astype("float64")).max()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_must_stand_where_keras_has_it(odd):
    assert errors([odd, 1.0], [odd, 1.0]) == 0
    assert errors([odd, 1.0], [0.0, 1.0]) == np.inf
    assert errors([0.0, 1.0], [odd, 1.0]) == np.inf
    assert errors([1.0, odd], [odd, 1.0]) == np.inf
    assert errors([-odd, 1.0], [odd, 1.0]) == (0 if np.isnan(odd) else np.inf)


def test_shapes_and_kinds_must_agree():
    one = np.array([1.0])
    assert errors([[1.0]], [1.0]) == np.inf
    for dtype in ("int32", "float32", "float16"):
        assert channel_errors(one.astype(dtype), one, one).max() == np.inf
    assert channel_errors(np.array([1, 2, 4]), *[np.array([1, 3, 4])] * 2).max() == 1


def test_a_check_passes_up_to_its_tolerance():
    assert Check("y", "random", 1, True, 1.0, 1.0, 1.0, 0.0, 1.0).passed
    assert not Check("y", "random", 1, True, 1.0, 1.0 + 1e-12, 1.0, 0.0, 1.0).passed


def test_a_given_tolerance_replaces_the_derived_one(tmp_path):
    model = MODELS["dense"]()
    file = exact_file(model, tmp_path)
    for check in judged(model, file, Tolerance(rtol=1e-3, atol=1e-2)):
        assert check.tolerance == pytest.approx(1e-2 + 1e-3 * check.magnitude)


def test_the_file_of_another_model_is_told(tmp_path):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    two = keras.Model([a, b], layers.Add()([a, b]))
    export.to_onnx(two, tmp_path / "two.onnx")
    with pytest.raises(export.OptionError, match=r"has the inputs \['a', 'b'\], the model has"):
        export.verify(MODELS["dense"](), tmp_path / "two.onnx")


def test_a_single_input_needs_no_name(tmp_path):
    model = MODELS["dense"]()
    export.to_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    old = proto.graph.input[0].name
    proto.graph.input[0].name = "other"
    for node in proto.graph.node:
        node.input[:] = ["other" if name == old else name for name in node.input]
    onnx.save(proto, tmp_path / "model.onnx")
    assert export.verify(model, tmp_path / "model.onnx").passed


def test_runtime_optimizations_are_off_and_on(tmp_path, monkeypatch):
    seen = []
    import onnxruntime

    original = onnxruntime.InferenceSession

    def recording(file, options, **rest):
        seen.append(options.graph_optimization_level)
        return original(file, options, **rest)

    model = MODELS["dense"]()
    file = exact_file(model, tmp_path)
    monkeypatch.setattr(onnxruntime, "InferenceSession", recording)
    judged(model, file)
    levels = onnxruntime.GraphOptimizationLevel
    assert seen == [levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL]


def behind_a_model(function):
    """A formula inside a model inside a model."""
    inputs = keras.Input((6,), name="inner")
    inner = keras.Model(inputs, function(inputs))
    x = keras.Input((6,), name="outer")
    return keras.Model(x, inner(x * 1.0))


def in_a_dictionary(function):
    x, n = keras.Input((6,), name="x"), keras.Input((6,), name="n", dtype="int32")
    return keras.Model({"x": x, "n": n}, {"y": function(x), "n": n})


class Tripled(keras.Model):
    """A subclass of Functional models with a `call` of its own."""

    def call(self, inputs, training=None):
        return super().call(inputs * 3.0, training=training)


def with_a_call(function):
    x = keras.Input((6,))
    return Tripled(x, function(x / 3.0))


@pytest.mark.parametrize(
    "build",
    [
        lambda f: keras.Model(*(lambda x: (x, f(x)))(keras.Input((6,)))),
        lambda f: keras.Sequential([keras.Input((6,)), layers.Lambda(f)]),
        behind_a_model,
        in_a_dictionary,
        with_a_call,
    ],
    ids=["formula", "Sequential", "nested", "dictionary", "subclass"],
)
def test_formulas_in_front_of_layers_run_in_float64(build):
    program = KerasProgram(build(lambda x: keras.ops.sin(x * 1.1)))
    rng = np.random.default_rng(0)
    arrays = [
        rng.normal(size=(4, 6)).astype("float32")
        if port.dtype == "float32"
        else rng.integers(0, 9, (4, 6), dtype="int32")
        for port in program.inputs
    ]
    (x,) = (array for array in arrays if array.dtype == np.float32)
    results = [y for y in program.run_float64(arrays) if y.dtype.kind == "f"]
    assert [y.dtype for y in results] == [np.float64]
    np.testing.assert_allclose(results[0], np.sin(x.astype("float64") * 1.1), rtol=1e-14)
    assert program.run(arrays)[-1].dtype == np.float32  # as before


def test_the_share_of_integers_that_rounding_changes():
    native = np.arange(200, dtype="int32")
    exact, reach = native.copy(), np.zeros(200)
    assert flips(native, exact, reach) == 0.0
    exact[:2] += 1
    assert flips(native, exact, reach) == 0.01
    reach[:3] = 1.0
    assert flips(native, exact, reach) == 0.015
    assert flips(native.astype("float32"), exact, reach) == 0.0


@pytest.mark.parametrize(("wrong", "passes"), [(0, True), (1, True), (10, True), (1000, False)])
def test_a_few_integers_may_be_rounded_the_other_way(wrong, passes):
    """About 3 of the 100,000 numbers of a row lie within rounding of a half."""
    x = keras.Input((1,))
    step = layers.Lambda(lambda x: keras.ops.cast(keras.ops.round(x), "int32"))
    normal = keras.initializers.RandomNormal(0.0, 1.0, seed=0)
    model = keras.Model(x, step(layers.Dense(100_000, kernel_initializer=normal)(1000 * x)))
    judge = Judge(KerasProgram(model))
    judge.add(random_rows(judge.program))

    def run(arrays):
        result = np.array(model(arrays[0]))
        result[0, :wrong] += 1
        return [result]

    assert all(check.passed for check in judge.compare_run(run)) == passes


def test_few_integers_must_all_be_right():
    """Where rounding changes one of some, nothing more may be wrong than that one."""
    x = keras.Input((1,))
    model = keras.Model(x, layers.Lambda(lambda x: keras.ops.cast(x, "int32"))(x))
    judge = Judge(KerasProgram(model))
    judge.add(random_rows(judge.program))
    one_other = Later(lambda: [np.eye(32, 1)])
    judge.truths = [replace(truth, rounding=one_other) for truth in judge.truths]
    assert all(check.passed for check in judge.compare_run(lambda a: [np.array(model(a[0]))]))
    assert not any(
        check.passed for check in judge.compare_run(lambda a: [np.array(model(a[0])) + 1])
    )


def test_a_batch_without_numbers_beside_others(tmp_path):
    """The arcsine of normal data is NaN more often than not, of a row now and then all of it."""
    x = keras.Input((3,), name="x")
    model = keras.Model(x, keras.ops.arcsin(x))
    report = export.to_onnx(model, tmp_path / "model.onnx", dimensions={"batch": 1})
    numbers = {sum(check.histogram) > 0 and check.magnitude > 0 for check in report.checks}
    assert report.passed
    assert numbers == {True, False}
    x = keras.Input((3,), name="x")
    nothing = keras.Model(x, keras.ops.log(-keras.ops.exp(x)))
    with pytest.raises(export.ParityError, match="no number of it is finite"):
        export.to_onnx(nothing, tmp_path / "nothing.onnx", dimensions={"batch": 1})


def test_own_data_tell_where_random_data_do_not(tmp_path, rng):
    """x ← x + r (x² − x), which is for numbers in 0..1."""
    x = inputs = keras.Input((6,), name="x")
    for _ in range(8):
        x = x + layers.Dense(6, "tanh")(inputs) * (x * x - x)
    model = keras.Model(inputs, x)
    path = tmp_path / "model.onnx"
    with pytest.raises(export.ParityError, match="Nothing can be told: .* `--data`"):
        export.to_onnx(model, path)
    data = {"x": rng.uniform(size=(40, 6)).astype("float32")}
    report = export.to_onnx(model, path, data=data)
    assert report.passed
    assert {check.data for check in report.checks if not check.conclusive} == {"random"}
    assert export.Report.from_json(report.to_json()).passed
    model.layers[1].kernel.assign(1.01 * model.layers[1].kernel)
    assert not export.verify(model, path, data=data).outputs_agree


def test_numbers_that_overflow_are_no_warnings(tmp_path):
    """Warnings are errors here, and there would be no float64 run."""
    x = inputs = keras.Input((6,), name="x")
    for _ in range(9):
        x = x + layers.Dense(6, "tanh")(inputs) * (x * x - x)
    report = export.to_onnx(keras.Model(inputs, x), tmp_path / "model.onnx", rtol=1.0)
    assert report.float64_failure is None


def test_the_reach_is_known_nowhere_as_nan():
    reach = unknown_reach(np.array([1.0, np.inf, -np.inf, np.nan], "float32"))
    np.testing.assert_array_equal(reach, [2.0**-20, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("kind", [layers.Attention, layers.AdditiveAttention])
def test_rows_of_attention_that_are_hidden_as_a_whole(kind, tmp_path):
    """In float32 nothing is left of scores beside 10⁹, in float64 they would be."""
    query, value = keras.Input((5, 4)), keras.Input((5, 4))
    mask = keras.Input((5,), dtype="bool")
    result = kind()([query, value], mask=[None, mask], use_causal_mask=True)
    model = keras.Model([query, value, mask], layers.Dense(3)(result))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
