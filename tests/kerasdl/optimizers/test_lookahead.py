"""Lookahead, and what every wrapper of an optimizer keeps."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl
from kerasdl.optimizers.lookahead import follow

INNER = {
    "keras SGD": lambda **more: keras.optimizers.SGD(0.125, momentum=0.5, **more),
    "keras Adam": lambda **more: keras.optimizers.Adam(0.125, **more),
    "kerasdl SGD": lambda **more: kerasdl.SGD(0.125, momentum=0.5, nesterov=True, **more),
    "kerasdl Adam": lambda **more: kerasdl.Adam(0.125, **more),
}
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}
every_inner = pytest.mark.parametrize("make", INNER.values(), ids=INNER)


def by_hand(inner, start, gradients, k, α, dtype):
    """The inner optimizer by itself, and the slow weights in NumPy."""
    θ, slow = keras.Variable(start, dtype=dtype), start
    for t, g in enumerate(gradients, start=1):
        inner.apply([ops.convert_to_tensor(g, dtype)], [θ])
        if t % k == 0:
            slow = slow + α * (θ.numpy() - slow)
            θ.assign(slow)
    return θ.numpy()


def trained(optimizer, start, gradients, dtype):
    θ = keras.Variable(start, dtype=dtype)
    for g in gradients:
        optimizer.apply([ops.convert_to_tensor(g, dtype)], [θ])
    return θ.numpy()


def make_model(optimizer, **arguments):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse", **arguments)
    return model


def data(rng, size=64):
    x = rng.normal(size=(size, 3)).astype("float32")
    return x, x @ np.array([[1.0], [-2.0], [0.5]], "float32")


def vector(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def state(model):
    variables = model.trainable_variables + model.optimizer.variables
    return [ops.convert_to_numpy(variable) for variable in variables]


@pytest.mark.usefixtures("has_float64")
@every_inner
@pytest.mark.parametrize(("k", "α"), [(1, 0.5), (5, 0.5), (4, 0.8), (3, 1.0)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_follows_every_k_updates(rng, make, k, α, dtype):
    start, gradients = rng.normal(size=(3, 2)), rng.normal(size=(41, 3, 2))
    expected = by_hand(make(), start, gradients, k, α, dtype)
    got = trained(kerasdl.Lookahead(make(), k, α), start, gradients, dtype)
    check = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype]}
    np.testing.assert_allclose(got, expected, **check)


@pytest.mark.usefixtures("has_float64")
def test_with_descent_it_is_the_formula(rng):
    start, gradients = rng.normal(size=4), rng.normal(size=(41, 4))
    fast = slow = start
    for t, g in enumerate(gradients, start=1):
        fast = fast - 0.125 * g
        if t % 5 == 0:
            fast = slow = slow + 0.5 * (fast - slow)
    got = trained(kerasdl.Lookahead(kerasdl.SGD(0.125)), start, gradients, "float64")
    np.testing.assert_allclose(got, fast, rtol=1e-12)


@every_inner
def test_of_one_update_and_the_whole_way_it_is_the_inner_optimizer(rng, make):
    start, gradients = rng.normal(size=4), rng.normal(size=(20, 4))
    alone = trained(make(), start, gradients, "float32")
    inside = trained(kerasdl.Lookahead(make(), k=1, alpha=1.0), start, gradients, "float32")
    np.testing.assert_array_equal(alone, inside)


def test_rule_is_exact_at_its_ends():
    slow, fast = np.array([0.1, 3e7]), np.array([0.3, 3e-7])
    np.testing.assert_array_equal(follow(slow, fast, 1.0), fast)
    np.testing.assert_array_equal(follow(slow, slow, 0.3), slow)


def test_slow_weights_start_before_the_first_update_and_not_at_build():
    θ = keras.Variable(100.0)
    optimizer = kerasdl.Lookahead(keras.optimizers.SGD(1.0), k=2)
    optimizer.build([θ])
    θ.assign(0.0)
    for _ in range(2):
        optimizer.apply([ops.array(-2.0)], [θ])
    assert float(θ.numpy()) == 2.0


def test_starts_anew_around_an_optimizer_that_has_trained():
    inner, θ = keras.optimizers.SGD(1.0), keras.Variable(0.0)
    for _ in range(3):
        inner.apply([ops.array(-2.0)], [θ])
    optimizer = kerasdl.Lookahead(inner, k=2)
    for _ in range(2):
        optimizer.apply([ops.array(-2.0)], [θ])
    assert float(θ.numpy()) == 6.0 + 2.0


@every_inner
def test_accumulated_gradients_are_one_update(rng, make):
    start, gradients = rng.normal(size=4), rng.normal(size=(12, 4))
    optimizer = kerasdl.Lookahead(make(gradient_accumulation_steps=2), k=3)
    got = trained(optimizer, start, gradients, "float32")
    pairs = (gradients[::2] + gradients[1::2]) / 2
    expected = by_hand(make(), start, pairs, 3, 0.5, "float32")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_skipped_steps_do_not_count():
    θ = keras.Variable(0.0)
    optimizer = kerasdl.Lookahead(kerasdl.SGD(1.0, nonfinite="skip"), k=2)
    seen = []
    for g in (float("nan"), -2.0, float("nan"), float("nan"), -2.0, float("nan"), -2.0):
        optimizer.apply([ops.array(g)], [θ])
        seen.append(float(θ.numpy()))
    assert seen == [0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0]


@pytest.mark.tensorflow
def test_sparse_gradients_reach_the_inner_optimizer_as_they_are():
    import tensorflow as tf

    θ = keras.Variable(np.ones((3, 1)))
    optimizer = kerasdl.Lookahead(kerasdl.SparseAdam(0.5), k=2)
    for row in (0, 1):
        sparse = tf.IndexedSlices(tf.constant([[1.0]]), tf.constant([row]), tf.constant([3, 1]))
        optimizer.apply([sparse], [θ])
    np.testing.assert_allclose(θ.numpy()[0], 0.75)
    assert θ.numpy()[2] == 1.0


def test_constraints_hold_after_the_step_back():
    constraint = keras.constraints.UnitNorm(axis=0)
    dense = keras.layers.Dense(1, use_bias=False, kernel_constraint=constraint)
    dense.build((None, 2))
    optimizer = kerasdl.Lookahead(keras.optimizers.SGD(1.0), k=1)
    optimizer.apply([ops.array([[-3.0], [4.0]])], dense.trainable_variables)
    assert np.linalg.norm(dense.kernel.numpy()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.compiled
@every_inner
@pytest.mark.parametrize(
    "arguments",
    [{"jit_compile": True}, pytest.param({"run_eagerly": True}, marks=pytest.mark.slow)],
)
def test_compiled_or_not_is_the_same(rng, make, arguments):
    x, y = data(rng)
    weights = []
    for kind in (arguments, {"jit_compile": False}):
        model = make_model(kerasdl.Lookahead(make(), k=3), **kind)
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        weights.append(vector(model))
    np.testing.assert_allclose(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@every_inner
def test_resumes_bitwise_at_any_step(rng, make, tmp_path):
    x, y = data(rng, 28)

    def steps(model, first, last):
        for i in range(4 * first, 4 * last, 4):
            model.train_on_batch(x[i : i + 4], y[i : i + 4])

    whole = make_model(kerasdl.Lookahead(make(), k=3), jit_compile=False)
    steps(whole, 0, 7)
    for saved_after in (1, 2, 3, 4):
        model = make_model(kerasdl.Lookahead(make(), k=3), jit_compile=False)
        steps(model, 0, saved_after)
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
        steps(model, saved_after, 7)
        for a, b in zip(state(whole), state(model), strict=True):
            np.testing.assert_array_equal(a, b)


WRAPPERS = {
    "Lookahead": lambda inner: kerasdl.Lookahead(inner, k=2),
    "Clipped": lambda inner: kerasdl.Clipped(inner, global_clipnorm=0.5),
}
every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


@every_wrapper
@pytest.mark.parametrize("outside", [False, True])
def test_loss_scaling_inside_and_outside_changes_nothing(rng, wrap, outside):
    """The scale is a power of two; the first steps overflow nothing."""
    x, y = data(rng)
    if outside:
        scaled = keras.optimizers.LossScaleOptimizer(wrap(keras.optimizers.SGD(0.0625)), 2.0**10)
    else:
        scaled = wrap(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0625), 2.0**10))
    models = [make_model(each) for each in (scaled, wrap(keras.optimizers.SGD(0.0625)))]
    for model in models:
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(*map(vector, models), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("outside", [False, True])
def test_steps_that_loss_scaling_skips_do_not_count(outside):
    θ = keras.Variable(0.0)
    scale = keras.optimizers.LossScaleOptimizer
    if outside:
        optimizer = scale(kerasdl.Lookahead(keras.optimizers.SGD(1.0), k=2), initial_scale=1.0)
    else:
        optimizer = kerasdl.Lookahead(scale(keras.optimizers.SGD(1.0), initial_scale=1.0), k=2)
    if keras.backend.backend() == "jax":
        pytest.skip("LossScaleOptimizer cannot be applied outside of a compiled step there")
    optimizer.build([θ])
    seen = []
    for g, scaling in ((-2.0, 1.0), (float("inf"), 1.0), (-2.0, 0.5), (-2.0, 0.5)):
        optimizer.apply([ops.array(g * scaling)], [θ])
        seen.append(float(θ.numpy()))
    assert seen == [2.0, 2.0, 2.0, 4.0]


@every_wrapper
def test_the_loss_is_scaled_once(wrap):
    inside = wrap(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    with pytest.raises(ValueError, match="scaled once.*auto_scale_loss=False"):
        keras.optimizers.LossScaleOptimizer(inside)


@every_wrapper
def test_mixed_precision_scales_the_loss(rng, wrap):
    x, y = data(rng)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model(wrap(keras.optimizers.SGD(0.05)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    history = model.fit(x, y, batch_size=8, epochs=15, verbose=0).history["loss"]
    assert history[-1] < history[0] / 2


@every_wrapper
def test_rate_counts_and_scale_are_those_of_the_inner_optimizer(wrap):
    inner = keras.optimizers.SGD(0.25, loss_scale_factor=4.0)
    optimizer, θ = wrap(inner), keras.Variable(1.0)
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = 0.5
    assert float(inner.learning_rate) == 0.5
    assert float(optimizer.scale_loss(ops.array(3.0))) == 12.0
    optimizer.loss_scale_factor = 2.0
    assert inner.loss_scale_factor == optimizer.loss_scale_factor == 2.0
    optimizer.apply([ops.array(0.5)], [θ])
    assert int(optimizer.iterations) == int(inner.iterations) == 1
    assert float(θ.numpy()) == 1.0 - 0.5 * 0.25
    own = len(optimizer.variables) - len(inner.variables)
    assert all(a is b for a, b in zip(optimizer.variables[own:], inner.variables, strict=True))


@every_wrapper
def test_weight_decay_is_left_out_of_the_inner_optimizer(wrap):
    variables = [keras.Variable(1.0, name=name) for name in ("kernel", "bias")]
    optimizer = wrap(keras.optimizers.SGD(0.5, weight_decay=0.5))
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([ops.array(0.0), ops.array(0.0)], variables)
    optimizer.apply([ops.array(0.0), ops.array(0.0)], variables)
    assert variables[0].numpy() < 1.0
    assert variables[1].numpy() == 1.0


@every_wrapper
def test_swaps_the_weights_that_the_inner_optimizer_shows(wrap):
    θ = keras.Variable(0.0)
    optimizer = wrap(kerasdl.ASGD(1.0))
    for _ in range(3):
        optimizer.apply([ops.array(-0.25)], [θ])
    last = float(θ.numpy())
    assert optimizer.swap_weights() is True
    assert float(θ.numpy()) != last
    assert optimizer.swap_weights() is False
    assert float(θ.numpy()) == last
    with pytest.raises(ValueError, match="to swap weights. Received"):
        wrap(keras.optimizers.SGD()).swap_weights()


@every_wrapper
def test_the_inner_optimizer_may_be_a_name_or_a_config(wrap):
    assert isinstance(wrap("adam").inner_optimizer, keras.optimizers.Adam)
    for inner in (kerasdl.Adam(0.5), keras.optimizers.Adam(0.5)):
        optimizer = wrap(keras.saving.serialize_keras_object(inner))
        assert isinstance(optimizer.inner_optimizer, type(inner))
        assert optimizer.inner_optimizer.get_config() == inner.get_config()
    with pytest.raises(ValueError, match="must be a Keras optimizer, the name of one, or a conf"):
        wrap(None)


@every_wrapper
def test_weights_in_a_list_are_all_weights(rng, wrap):
    models = [make_model(wrap(kerasdl.Adam(0.1))) for _ in range(2)]
    x, y = data(rng)
    models[0].fit(x, y, batch_size=8, verbose=0)
    models[1].optimizer.build(models[1].trainable_variables)
    models[1].optimizer.set_weights([v.numpy() for v in models[0].optimizer.variables])
    for a, b in zip(*(model.optimizer.variables for model in models), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@every_wrapper
def test_needs_variables_to_begin_with(wrap):
    with pytest.raises(ValueError, match="The first `apply` of an optimizer needs the variables"):
        wrap("sgd").apply([ops.array(1.0)])


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ({"k": 0}, "`k` must be an integer ≥ 1. Received: k=0. "),
        ({"k": 2.0}, "`k` must be an integer ≥ 1. Received: k=2.0. "),
        ({"k": True}, "`k` must be an integer ≥ 1. Received: k=True. "),
        ({"alpha": 0.0}, "`alpha` must be in (0, 1]. Received: alpha=0.0. "),
        ({"alpha": 1.5}, "`alpha` must be in (0, 1]. Received: alpha=1.5. "),
        ({"alpha": float("nan")}, "`alpha` must be in (0, 1]. Received: alpha=nan. "),
    ],
)
def test_rejected_arguments(arguments, start):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kerasdl.Lookahead("sgd", **arguments)
    assert str(error.value).startswith(start)


@pytest.mark.parametrize(
    ("argument", "value", "advice"),
    [
        ("clipnorm", 1.0, "Pass it to the inner optimizer."),
        ("use_ema", True, "Pass it to the inner optimizer."),
        ("nonfinite", "skip", "Pass it to the inner optimizer."),
        ("sync_period", 6, "There is no such argument."),
    ],
)
def test_further_arguments_belong_to_the_inner_optimizer(argument, value, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kerasdl.Lookahead("sgd", **{argument: value})
    text = f"`{argument}` must be left out of Lookahead. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text
