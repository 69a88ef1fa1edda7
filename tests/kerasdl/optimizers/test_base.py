"""What the base class promises for every optimizer, with Adam and SGD as examples."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl
from kerasdl.optimizers import SGD, Adam, Optimizer

# Keras 3.15 saves with `np.array(variable)`, which NumPy 2.4 warns about.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.usefixtures("has_float64"),
]

OPTIMIZERS = {
    "adam": functools.partial(Adam, 0.02),
    "amsgrad": functools.partial(Adam, 0.02, amsgrad=True, epsilon_position="inside"),
    "sgd": functools.partial(SGD, 0.02),
    "nesterov": functools.partial(SGD, 0.02, momentum=0.9, nesterov=True),
}
OPTIONS = {
    "weight_decay": {"weight_decay": 0.05},
    "clipnorm": {"clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "average_clipnorm": {"average_clipnorm": 0.005},
    "accumulation": {"gradient_accumulation_steps": 3},
    "ema": {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 3},
    "loss_scale": {"loss_scale_factor": 64.0},
}
X = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")


def make_model(optimizer, **compile_arguments):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, loss="mse", **compile_arguments)
    return model


def steps(model, first, last):
    for step in range(first, last):
        rows = slice(4 * (step % 8), 4 * (step % 8) + 4)
        model.train_on_batch(X[rows], Y[rows])


def assert_same_state(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    for x, y in zip(a.optimizer.variables, b.optimizer.variables, strict=True):
        np.testing.assert_array_equal(x.numpy(), y.numpy())


def restart(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", ["adam", "nesterov"])
def test_saved_and_resumed_exactly(name, option, tmp_path):
    whole, halves = (
        make_model(OPTIMIZERS[name](**OPTIONS[option]), run_eagerly=True) for _ in range(2)
    )
    steps(whole, 0, 8)
    steps(halves, 0, 4)
    halves = restart(halves, tmp_path)
    halves.run_eagerly = True
    assert type(halves.optimizer) is type(whole.optimizer)
    steps(halves, 4, 8)
    assert_same_state(whole, halves)


@pytest.mark.parametrize("name", ["amsgrad", "nesterov"])
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.compiled)])
def test_fit_saved_and_resumed_exactly(name, jit_compile, tmp_path):
    whole, halves = (make_model(OPTIMIZERS[name](), jit_compile=jit_compile) for _ in range(2))
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    whole.fit(X, Y, epochs=4, **fit)
    halves.fit(X, Y, epochs=2, **fit)
    halves = restart(halves, tmp_path)
    halves.fit(X, Y, initial_epoch=2, epochs=4, **fit)
    assert_same_state(whole, halves)


@pytest.mark.parametrize("name", ["adam", "nesterov"])
@pytest.mark.tensorflow
def test_every_way_to_train_takes_the_same_steps(name):
    import tensorflow as tf

    fitted, batched, custom = (make_model(OPTIMIZERS[name]()) for _ in range(3))
    fitted.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    steps(batched, 0, 8)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(custom(x, training=True) - y))
        gradients = tape.gradient(loss, custom.trainable_variables)
        custom.optimizer.apply(gradients, custom.trainable_variables)

    custom.optimizer.build(custom.trainable_variables)
    for i in range(0, 32, 4):
        step(X[i : i + 4], Y[i : i + 4])
    for a, b, c in zip(*(m.get_weights() for m in (fitted, batched, custom)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "nesterov"])
def test_mixed_precision(name):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model(OPTIMIZERS[name]())
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        first = model.evaluate(X, Y, verbose=0)
        model.fit(X, Y, epochs=3, verbose=0)
        assert model.evaluate(X, Y, verbose=0) < first
    finally:
        keras.config.set_dtype_policy("float32")


def test_callable_and_scheduled_rates():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [1.0, 0.5, 0.25])
    for rate, end in ((lambda: 0.1, 0.7), (schedule, -0.75)):
        θ = keras.Variable(1.0, dtype="float64")
        optimizer = SGD(rate)
        for _ in range(3):
            optimizer.apply([ops.convert_to_tensor(1.0, "float64")], [θ])
        assert float(θ.numpy()) == pytest.approx(end, rel=1e-15)


def train_variable(optimizer, start, gradients, dtype="float64"):
    θ = keras.Variable(start, dtype=dtype)
    for g in gradients:
        optimizer.apply([g if hasattr(g, "indices") else ops.convert_to_tensor(g, dtype)], [θ])
    return θ


def test_accumulated_gradients_are_averaged_and_t_counts_updates():
    gradients = np.random.default_rng(0).normal(size=(9, 4))
    accumulated = train_variable(Adam(0.1, gradient_accumulation_steps=3), np.zeros(4), gradients)
    plain = train_variable(Adam(0.1), np.zeros(4), gradients.reshape(3, 3, 4).mean(axis=1))
    np.testing.assert_allclose(accumulated.numpy(), plain.numpy(), rtol=1e-12)


def test_short_gradients_are_accumulated_without_loss():
    optimizer = SGD(1.0, gradient_accumulation_steps=300)
    θ = train_variable(optimizer, np.zeros(1), [np.ones(1)] * 300, "bfloat16")
    assert float(θ.numpy()[0]) == -1.0


@pytest.mark.parametrize("k", [None, 2])
def test_moving_average_counts_updates(k):
    gradients = np.random.default_rng(0).normal(size=(8, 2))
    optimizer = SGD(0.5, use_ema=True, ema_momentum=0.75, gradient_accumulation_steps=k)
    θ = train_variable(optimizer, np.zeros(2), gradients)
    value, average = np.zeros(2), None
    for g in gradients.reshape(-1, k or 1, 2).mean(axis=1):
        value = value - 0.5 * g
        average = value if average is None else 0.75 * average + 0.25 * value
    assert optimizer.swap_weights()
    np.testing.assert_allclose(θ.numpy(), average, rtol=1e-12)
    assert not optimizer.swap_weights()
    np.testing.assert_allclose(θ.numpy(), value, rtol=1e-12)


def test_moving_average_of_short_floats():
    optimizer = SGD(0.25, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    θ = train_variable(optimizer, np.ones(2), np.ones((2, 2)), "bfloat16")
    assert θ.numpy().astype("float32").tolist() == [0.625, 0.625]


def sparse(values, rows, shape):
    import tensorflow as tf

    values = tf.constant(values, "float64")
    return tf.IndexedSlices(values, tf.constant(rows), tf.constant(shape))


@pytest.mark.parametrize("option", [*OPTIONS, "none"])
@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.tensorflow
def test_repeated_rows_are_summed_before_anything_else(name, option):
    rng = np.random.default_rng(2)
    values, rows = rng.normal(size=(6, 4, 2)), rng.integers(0, 3, size=(6, 4))
    dense = np.zeros((6, 5, 2))
    for step in range(6):
        np.add.at(dense[step], rows[step], values[step])
    slices = [sparse(v, r, (5, 2)) for v, r in zip(values, rows, strict=True)]
    arguments = OPTIONS.get(option, {})
    got = train_variable(OPTIMIZERS[name](**arguments), np.ones((5, 2)), slices)
    expected = train_variable(OPTIMIZERS[name](**arguments), np.ones((5, 2)), dense)
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-13)


def test_embedding_trains_in_fit():
    model = keras.Sequential([keras.layers.Embedding(6, 2), keras.layers.Dense(1)])
    model.compile(Adam(0.1, global_clipnorm=1.0), loss="mse")
    x = np.array([[1, 1, 2], [3, 3, 3]])
    history = model.fit(x, np.ones((2, 3, 1)), epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_is_kept(dtype):
    optimizer = Adam(0.01, weight_decay=0.1, clipnorm=1.0)
    θ = train_variable(optimizer, np.ones(3), np.ones((3, 3)), dtype)
    assert keras.backend.standardize_dtype(θ.dtype) == dtype
    np.testing.assert_allclose(θ.numpy().astype("float64"), 0.967, rtol=1e-2)


def test_weight_decay_can_spare_variables():
    kept, decayed = (keras.Variable([1.0], name=name) for name in ("bias", "kernel"))
    optimizer = SGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([ops.zeros(1), ops.zeros(1)], [kept, decayed])
    assert (float(kept.numpy()[0]), float(decayed.numpy()[0])) == (1.0, 0.75)


def test_each_variable_is_listed_once():
    optimizer = Adam(amsgrad=True)
    big = keras.Variable(np.zeros((200, 200)))
    optimizer.build([keras.Variable([1.0]), keras.Variable([[2.0]]), big])
    optimizer.build([])
    assert len({id(v) for v in optimizer.variables}) == len(optimizer.variables)
    shapes = [tuple(v.shape) for v in optimizer.variables]
    assert sorted(shapes) == sorted([(), (), (2,), *[(2,), (200, 200)] * 3])


def test_whole_numbers_are_rates_too():
    assert SGD(1).get_config()["learning_rate"] == 1.0


def test_rule_has_to_be_defined():
    with pytest.raises(NotImplementedError, match="Optimizer has to define `rule`"):
        train_variable(Optimizer(), [1.0], [[1.0]])


RATE = "a non-negative number, a LearningRateSchedule or a function without arguments"
OFF = "positive or None"


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("learning_rate", -0.1, RATE),
        ("learning_rate", float("nan"), RATE),
        ("learning_rate", "fast", RATE),
        ("learning_rate", True, RATE),
        ("weight_decay", -0.1, "non-negative or None"),
        ("weight_decay", float("inf"), "non-negative or None"),
        ("clipnorm", 0.0, OFF),
        ("clipvalue", -1, OFF),
        ("global_clipnorm", float("nan"), OFF),
        ("average_clipnorm", 0.0, OFF),
        ("loss_scale_factor", 0, OFF),
        ("gradient_accumulation_steps", 1, "an integer ≥ 2 or None"),
        ("gradient_accumulation_steps", 2.5, "an integer ≥ 2 or None"),
        ("ema_overwrite_frequency", 0, "an integer ≥ 1 or None"),
        ("ema_momentum", 1.5, "in [0, 1]"),
    ],
)
def test_rejected_arguments(argument, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        SGD(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. "
    assert str(error.value).startswith(text)


def test_average_norm_is_the_norm_per_element():
    θ = keras.Variable(np.zeros(4), dtype="float64")
    g = np.array([3.0, 0.0, 4.0, 0.0])
    SGD(1.0, average_clipnorm=0.5).apply([ops.convert_to_tensor(g, "float64")], [θ])
    np.testing.assert_allclose(θ.numpy(), -g * 0.5 / (np.linalg.norm(g) / g.size), rtol=1e-15)
    assert SGD.from_config(SGD(average_clipnorm=0.5).get_config()).average_clipnorm == 0.5


def test_one_limit_at_a_time():
    with pytest.raises(ValueError, match="must be set one at a time"):
        Adam(clipnorm=1.0, clipvalue=1.0)


def test_classes_are_registered():
    assert kerasdl.optimizers.Adam is Adam
    assert keras.saving.get_registered_name(Adam) == "kerasdl>Adam"
    assert keras.saving.get_registered_name(SGD) == "kerasdl>SGD"
