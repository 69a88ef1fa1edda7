"""What every optimizer takes beside its own arguments: NaN, noise, multipliers, lazy rows."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdl.optimizers import SGD, Adam, GradientControlledSGD, Nadam, _groups, _update
from kerasdl.optimizers._multipliers import factors_of, matches, without_prefix

pytestmark = pytest.mark.usefixtures("has_float64")

X = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")


def make_model(optimizer, **arguments):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(4, "tanh", name="first"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, loss="mse", **arguments)
    return model


def variable(value, dtype="float32", name="θ"):
    return keras.Variable(np.array(value), dtype=dtype, name=name)


def numpy(tensor):
    return ops.convert_to_numpy(tensor).astype("float64")


def everything(model):
    return [numpy(v).copy() for v in [*model.trainable_variables, *model.optimizer.variables]]


# NaN and infinities

MODES = [
    {"run_eagerly": True},
    pytest.param({"jit_compile": False}, marks=pytest.mark.compiled),
    pytest.param({"jit_compile": True}, marks=pytest.mark.compiled),
]
POLICY_FIT = {"batch_size": 8, "verbose": 0, "shuffle": False}


def broken_targets(bad):
    y = Y.copy()
    y[20] = bad
    return y


@pytest.fixture
def all_large(monkeypatch):
    """Treat every variable as if it were large."""
    monkeypatch.setattr(_groups, "SMALL", 0)
    monkeypatch.setattr(_update, "COMPILED", 1)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(("bad", "steps"), [(np.nan, None), (np.inf, 2)])
def test_nonfinite_gradients_raise_and_nothing_changes(mode, bad, steps):
    check_nothing_changes(mode, bad, steps)


@pytest.mark.slow
@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("mode", MODES[1:], ids=str)
def test_nonfinite_gradients_of_large_variables(mode):
    check_nothing_changes(mode, np.nan, None)


def check_nothing_changes(mode, bad, steps):
    model = make_model(Adam(0.1, gradient_accumulation_steps=steps), **mode)
    reference = make_model(Adam(0.1, gradient_accumulation_steps=steps), **mode)
    model.fit(X, Y, **POLICY_FIT)
    reference.fit(X, Y, **POLICY_FIT)
    reference.fit(X[:16], Y[:16], **POLICY_FIT)
    match = r"(?s)finite\. Received: NaN or infinity for.*first/kernel.*in step.*7.*Nothing was"
    with pytest.raises(Exception, match=match) as error:
        model.fit(X, broken_targets(bad), **POLICY_FIT)
    assert type(error.value).__name__ in {"FloatingPointError", "InvalidArgumentError"}
    for got, expected in zip(everything(model), everything(reference), strict=True):
        np.testing.assert_array_equal(got, expected)
    model.fit(X, Y, **POLICY_FIT)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_skipped_steps_change_nothing(mode):
    check_skipped(mode)


@pytest.mark.slow
@pytest.mark.usefixtures("all_large")
@pytest.mark.parametrize("mode", MODES[1:], ids=str)
def test_skipped_steps_of_large_variables(mode):
    check_skipped(mode)


def check_skipped(mode):
    arguments = {"nonfinite": "skip", "use_ema": True, "gradient_noise": 0.1, "seed": 1}
    model, reference = (make_model(Adam(0.1, **arguments), **mode) for _ in range(2))
    kept = np.r_[0:16, 24:32]
    for each, x, y in ((model, X, broken_targets(np.nan)), (reference, X[kept], Y[kept])):
        each.fit(x, y, callbacks=[Swapped()], **POLICY_FIT)
    assert int(model.optimizer.iterations) == 3
    for got, expected in zip(everything(model), everything(reference), strict=True):
        np.testing.assert_array_equal(got, expected)


class Swapped(keras.callbacks.Callback):
    """Says that the averages were thought of."""

    def on_train_end(self, logs=None):
        self.model.optimizer.swap_weights()
        self.model.optimizer.swap_weights()

    def on_epoch_end(self, epoch, logs=None):
        self.on_train_end()


def test_nonfinite_gradients_may_be_allowed():
    θ = variable([1.0, 2.0])
    SGD(0.5, nonfinite="allow").apply([ops.array([np.nan, 2.0])], [θ])
    np.testing.assert_array_equal(numpy(θ), [np.nan, 1.0])


def test_the_variable_that_is_broken_is_named_among_small_and_large_ones():
    sizes = [(3,), (200, 200), (2, 2), (1,)]
    for broken in range(4):
        variables = [variable(np.ones(s), name=f"v{i}") for i, s in enumerate(sizes)]
        gradients = [np.ones(s, "float32") for s in sizes]
        gradients[broken][(-1,) * len(sizes[broken])] = np.inf
        with pytest.raises(FloatingPointError, match=f"for `v{broken}` in step 1"):
            SGD().apply([ops.array(g) for g in gradients], variables)


def test_a_huge_gradient_is_not_an_infinite_one():
    θ = variable([0.0])
    SGD(1e-30).apply([ops.array([1e30], "float32")], [θ])
    np.testing.assert_allclose(numpy(θ), [-1.0], rtol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_large_gradients_whose_sum_overflows_are_finite(nonfinite, jit_compile):
    import tensorflow as tf

    θ = variable(np.zeros((2, 3)))
    sgd = SGD(1e-37, nonfinite=nonfinite)
    sgd.build([θ])
    gradient = np.full((2, 3), 3e38, "float32")
    tf.function(lambda: sgd.apply([tf.constant(gradient)]), jit_compile=jit_compile)()
    sgd.finalize_variable_values([θ])
    np.testing.assert_allclose(numpy(θ), -30.0, rtol=1e-6)


# Gradient noise


def test_noise_has_the_variance_of_the_paper():
    θ = variable(np.zeros(200_000))
    optimizer = SGD(1.0, gradient_noise=0.3, gradient_noise_decay=0.5, seed=7)
    before = np.zeros(200_000)
    draws = []
    for t in range(3):
        optimizer.apply([ops.zeros(200_000)], [θ])
        draws.append(before - numpy(θ))
        before = numpy(θ)
        variance = 0.3 / (1 + t) ** 0.5
        error = 5 * np.sqrt(2 / 200_000)
        assert np.var(draws[-1]) == pytest.approx(variance, rel=error)
        assert abs(draws[-1].mean()) < 5 * np.sqrt(variance / 200_000)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert abs(np.corrcoef(draws[a], draws[b])[0, 1]) < 5 / np.sqrt(200_000)


def test_noise_depends_on_seed_update_and_variable_alone():
    def train(seed, number=2):
        variables = [variable(np.zeros(4), name=f"v{i}") for i in range(number)]
        optimizer = SGD(1.0, gradient_noise=1.0, seed=seed)
        for _ in range(2):
            optimizer.apply([ops.zeros(4)] * number, variables)
        return [numpy(v) for v in variables]

    one, again, other, more = train(1), train(1), train(2), train(1, 3)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, more[:2])
    assert not np.isclose(one[0], one[1]).any()
    assert not np.isclose(one, other).any()


def test_noise_comes_after_clipping():
    θ = variable(np.zeros(1000))
    SGD(1.0, gradient_noise=1.0, seed=1, clipvalue=1e-6).apply([ops.ones(1000)], [θ])
    assert 0.8 < np.std(numpy(θ)) < 1.2


# Multipliers


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("dense", "dense/kernel", True),
        ("dense", "dense_1/kernel", False),
        ("dense*", "model/dense_1/kernel", True),
        ("bias", "a/b/bias", True),
        ("a/b", "x/a/b/bias", True),
        ("a/bias", "a/b/bias", False),
        ("*/bias", "bias", False),
        ("/dense/", "dense/kernel", True),
        ("dense_[12]", "dense_2/kernel", True),
    ],
)
def test_patterns(pattern, path, expected):
    assert matches(pattern, path) is expected


def test_prefixes_are_dropped_only_where_they_are_needed():
    paths = ["net/a/kernel", "net/b/net/kernel"]
    assert without_prefix({"net/a": 2.0}, paths) == {"a": 2.0}
    assert without_prefix({"net": 2.0}, paths) == {"net": 2.0}
    assert without_prefix({"n*t/*/kernel": 2.0}, paths) == {"*/kernel": 2.0}
    assert without_prefix({"a": 2.0, "typo": 1.0}, paths) == {"a": 2.0, "typo": 1.0}
    assert without_prefix({"net/a": 2.0}, ["net/a/kernel", "b/kernel"]) == {"net/a": 2.0}
    assert factors_of("m", {"net": 2.0, "a": 3.0}, paths) == [6.0, 2.0]


def test_multipliers_scale_rate_and_decay():
    kernel, bias = variable(np.ones(2), name="kernel"), variable(np.ones(2), name="bias")
    optimizer = SGD(
        0.5,
        weight_decay=0.1,
        learning_rate_multipliers={"bias": 0.5},
        weight_decay_multipliers={"bias": 3.0, "kernel": 0.0},
    )
    optimizer.apply([ops.ones(2), ops.ones(2)], [kernel, bias])
    np.testing.assert_allclose(numpy(kernel), 0.5, rtol=1e-6)
    np.testing.assert_allclose(numpy(bias), 1 - 0.25 * 0.1 * 3 - 0.25, rtol=1e-6)


@pytest.mark.parametrize("cls", [Adam, Nadam, GradientControlledSGD])
@pytest.mark.parametrize("size", [3, 150])
def test_a_multiplier_is_another_rate(cls, size):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 2, size, size))
    start = rng.normal(size=(2, size, size))
    pair = [variable(start[i], name=f"v{i}") for i in range(2)]
    optimizer = cls(0.1, learning_rate_multipliers={"v1": 0.25})
    for g in gradients:
        optimizer.apply([ops.array(g[0], "float32"), ops.array(g[1], "float32")], pair)
    for i, rate in enumerate((0.1, 0.025)):
        θ, alone = variable(start[i]), cls(rate)
        for g in gradients:
            alone.apply([ops.array(g[i], "float32")], [θ])
        np.testing.assert_allclose(numpy(pair[i]), numpy(θ), rtol=1e-5, atol=1e-6)


def test_unknown_patterns_name_the_paths():
    model = make_model(SGD(learning_rate_multipliers={"frist": 0.5}))
    with pytest.raises(ValueError, match=r'there are .*first/kernel", .*"frist"'):
        model.fit(X, Y, verbose=0)


def test_multipliers_survive_saving_under_another_path(tmp_path):
    model = make_model(SGD(0.1, learning_rate_multipliers={"sequential*/first": 0.0}))
    model.fit(X, Y, **POLICY_FIT)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.trainable_variables[0].path == "first/kernel"
    again.fit(X, Y, **POLICY_FIT)
    start = make_model(SGD()).get_weights()
    for number, (old, new) in enumerate(zip(start, again.get_weights(), strict=True)):
        assert np.array_equal(old, new) == (number < 2)


# Short floats


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_steps_too_small_for_the_dtype_add_up(dtype):
    θ = variable([1.0, 100.0], dtype)
    optimizer = SGD(1e-5)
    for _ in range(2000):
        optimizer.apply([ops.ones(2, dtype)], [θ])
    np.testing.assert_allclose(numpy(θ), [0.98, 99.98], rtol=4e-3)
    assert numpy(θ)[0] < 0.985


def test_weights_set_from_outside_are_not_overruled():
    θ = variable([1.0], "bfloat16")
    optimizer = SGD(1e-3)
    for _ in range(100):
        optimizer.apply([ops.ones(1, "bfloat16")], [θ])
    θ.assign([5.0])
    optimizer.apply([ops.zeros(1, "bfloat16")], [θ])
    assert float(numpy(θ)[0]) == pytest.approx(5.0, rel=1e-3)


def test_float16_stays_at_its_largest_number():
    θ = variable([65000.0, -65000.0], "float16")
    SGD(1.0).apply([ops.array([-60000.0, 60000.0], "float16")], [θ])
    assert numpy(θ).tolist() == [65504.0, -65504.0]


# Bad input


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("nonfinite", "ignore", '"raise", "skip" or "allow"'),
        ("gradient_noise", 0.0, "positive or None"),
        ("gradient_noise_decay", -1.0, "non-negative"),
        ("seed", -1, "an integer in [0, 2³¹) or None"),
        ("learning_rate_multipliers", {"a": -1.0}, "None or a dict from patterns"),
        ("learning_rate_multipliers", ["a"], "None or a dict from patterns"),
        ("weight_decay_multipliers", {"": 1.0}, "None or a dict from patterns"),
        ("lazy", 1, "a bool"),
    ],
)
def test_rejected_arguments(argument, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        SGD(**{argument: value})
    assert str(error.value).startswith(f"`{argument}` must be {allowed}")


def test_lazy_and_accumulation_exclude_each_other():
    with pytest.raises(ValueError, match="`lazy` must be False with gradient_accumulation_steps"):
        SGD(lazy=True, gradient_accumulation_steps=2)


@pytest.mark.parametrize("rate", [1, np.float32(1.0), np.int64(1), np.array(1.0)[()]])
def test_numbers_of_any_kind_are_rates(rate):
    θ = variable([2.0])
    SGD(rate).apply([ops.ones(1)], [θ])
    assert float(numpy(θ)[0]) == 1.0


def test_gradients_and_variables_must_pair_up():
    θ = variable([2.0])
    with pytest.raises(ValueError, match="needs the variables"):
        SGD().apply([ops.ones(1)])
    with pytest.raises(ValueError, match="2 gradients for 1 variables"):
        SGD().apply([ops.ones(1), ops.ones(1)], [θ])
    optimizer = SGD()
    optimizer.build([θ])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([ops.ones(1)], [variable([1.0])])
    with pytest.raises(ValueError, match="`name` must be one of none"):
        optimizer.slot("m", θ)


def test_variables_without_a_gradient_keep_their_slots():
    """Two small ones share a vector: the one without a gradient must not move."""
    for cls in (Adam, Nadam):
        one, two, alone = (variable(np.ones(3), name=n) for n in ("one", "two", "alone"))
        both, single = cls(0.1, weight_decay=0.1), cls(0.1, weight_decay=0.1)
        both.apply([ops.ones(3), ops.ones(3)], [one, two])
        single.apply([ops.ones(3)], [alone])
        two_before = numpy(two), both.slot("m", two)
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            both.apply([ops.ones(3) * 2, None], [one, two])
        single.apply([ops.ones(3) * 2], [alone])
        np.testing.assert_array_equal(numpy(one), numpy(alone))
        np.testing.assert_array_equal(numpy(two), two_before[0])
        np.testing.assert_array_equal(both.slot("m", two), two_before[1])
