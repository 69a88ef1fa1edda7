"""The rate that is found is a good one, and finding it leaves no trace."""

import random

import keras
import learning_rate_tasks as tasks
import numpy as np
import pytest
from keras import layers

import kerasdl
from kerasdl import find_learning_rate

RNG = np.random.default_rng(4)
X = RNG.normal(size=(64, 5)).astype("float32")
Y = (X[:, :1] - 2 * X[:, 1:2] + 0.3 * RNG.normal(size=(64, 1))).astype("float32")
QUICK = {"steps": 24, "start": 1e-4, "end": 1.0, "batch_size": 16}


def make_model(optimizer, steps_per_execution=1, jit_compile=False):
    if steps_per_execution > 1 and keras.backend.backend() == "torch":
        pytest.skip("Keras makes one step per execution on PyTorch")
    stack = [layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(1)]
    model = keras.Sequential([keras.Input((5,)), *stack])
    model.compile(
        optimizer,
        loss="mse",
        metrics=["mae"],
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    return model


def values(model):
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def random_states():
    return repr((random.getstate(), np.random.get_state(), np.random.get_state()[1].tolist()))


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


# A good rate


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["iris_softmax_sgd", pytest.param("digits_dropout_adamw", marks=pytest.mark.slow)]
)
def test_within_a_factor_of_three_of_a_coarse_grid(name):
    grid = tasks.GRID[::3]
    best = grid[np.argmin(tasks.grid_losses(name, grid, seeds=(11,)))]
    model, x, y, batch_size = tasks.make(name, seed=0)
    found = find_learning_rate(model, x, y, batch_size=batch_size)
    assert best / 3 <= found.suggestion <= best * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", tasks.TASKS)
def test_within_a_factor_of_three_of_the_grid(name):
    best = tasks.GRID[np.argmin(tasks.grid_losses(name))]
    assert tasks.GRID[0] < best < tasks.GRID[-1]
    model, x, y, batch_size = tasks.make(name, seed=0)
    found = find_learning_rate(model, x, y, batch_size=batch_size)
    print(f"{name}: grid {best:.4g}, found {found.suggestion / best:.2f} times that")
    assert best / 3 <= found.suggestion <= best * 3


# The numbers, against the formulas


def reference(x, y, w, rates):
    """Losses of y ≈ xw under plain gradient descent, with one rate per step."""
    losses = []
    for rate in rates:
        error = x * w - y
        losses.append(np.mean(error**2))
        w = w - rate * np.mean(2 * error * x)
    return np.array(losses)


def smoothed_reference(losses, first):
    average, smoothed = 0.0, []
    for i, loss in enumerate(losses):
        average = 0.8 * average + 0.2 * (loss - first)
        smoothed.append(first + average / (1 - 0.8 ** (i + 1)))
    return np.array(smoothed)


@pytest.mark.usefixtures("float64")
def test_against_gradient_descent_by_hand():
    x, y, w = RNG.normal(size=(32, 1)), RNG.normal(size=(32, 1)), 3.0
    dense = layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(kerasdl.SGD(0.5), loss="mse", jit_compile=False)
    model.set_weights([np.array([[w]])])
    found = find_learning_rate(model, x, y, start=1e-3, end=100.0, steps=40, batch_size=32)

    rates = np.geomspace(1e-3, 100.0, 40)
    expected = reference(x, y, w, rates)
    smoothed = smoothed_reference(expected, expected[0])
    stop = np.argmax(smoothed - np.minimum.accumulate(smoothed) > 3 * expected[0])
    assert 0 < stop < 40
    assert found.diverged
    np.testing.assert_allclose(found.learning_rates, rates[:stop], rtol=1e-12)
    np.testing.assert_allclose(found.losses, expected[:stop], rtol=1e-9)
    np.testing.assert_allclose(found.smoothed, smoothed[:stop], rtol=1e-9)

    lowest = rates[np.argmin(smoothed[:stop])]
    assert {lowest / 4**place for place in range(5)} <= {rate for rate, _ in found.trials}
    for rate, loss in found.trials:
        losses = reference(x, y, w, [rate] * 40)
        diverged = (smoothed_reference(losses, losses[0]) > 4 * losses[0]).any()
        if diverged:
            assert loss == np.inf
        else:
            assert loss == pytest.approx(losses[-13:].mean(), rel=1e-9)
    assert found.suggestion == min(found.trials, key=lambda trial: trial[1])[0]
    assert list(found.trials) == sorted(found.trials)


def test_hard_batches_do_not_count():
    """With a rate that does nothing the smoothed loss stays, however the batches differ."""
    x = np.concatenate([X, 100 * X])
    y = np.concatenate([Y, 100 * Y])
    model = make_model(keras.optimizers.SGD(0.1))
    found = find_learning_rate(model, x, y, steps=60, batch_size=8)
    assert found.losses[:10].std() > 0.1 * found.losses[:10].mean()
    assert np.ptp(found.smoothed[:10]) < 1e-3 * found.losses[:10].mean()


def test_no_divergence_within_the_rates():
    model = make_model(keras.optimizers.SGD(0.1))
    found = find_learning_rate(model, X, Y, start=1e-6, end=1e-3, steps=20)
    assert not found.diverged
    assert len(found.losses) == 20
    assert found.suggestion == pytest.approx(1e-3)


def test_gradients_that_overflow_at_once_end_a_run():
    """From a small loss to infinity in one step; the optimizer is one that raises."""
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1, "exponential")])
    model.compile(kerasdl.SGD(0.01), loss="mse", jit_compile=False)
    found = find_learning_rate(model, X, np.exp(Y), steps=20, end=1e3)
    assert found.diverged
    assert any(loss == np.inf for _, loss in found.trials)
    assert found.suggestion < 1


# No trace


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: kerasdl.Adam(0.01, gradient_noise=0.1),
    "schedule": lambda: kerasdl.Adam(kerasdl.CosineDecay(0.01, 50)),
    "keras_schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
    ),
    "function": lambda: kerasdl.SGD(lambda: 0.01),
    "wrapped": lambda: kerasdl.Lookahead(kerasdl.RMSprop(kerasdl.CosineDecay(0.01, 50))),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(kerasdl.Nadam(0.01)),
}
QUICKLY = [("wrapped", 16, False)]
SLOWLY = [(name, steps, jit) for name in OPTIMIZERS for steps, jit in ((1, False), (16, True))]


@pytest.mark.parametrize(
    ("name", "steps", "jit"),
    [*QUICKLY, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOWLY)],
)
def test_training_goes_on_as_if_nothing_had_been(name, steps, jit):
    weights = []
    for find in (False, True):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        model = make_model(OPTIMIZERS[name](), steps, jit)
        model.fit(X, Y, verbose=0, shuffle=False)
        if find:
            before, states = values(model), random_states()
            identities = [id(v) for v in (*model.variables, *model.optimizer.variables)]
            rate, function = model.optimizer._learning_rate, model.train_function
            find_learning_rate(model, X, Y, **QUICK)
            assert_equal(before, values(model))
            assert random_states() == states
            assert model.optimizer._learning_rate is rate
            assert model.train_function is function
            after = [id(v) for v in (*model.variables, *model.optimizer.variables)]
            assert after == identities
        model.fit(X, Y, epochs=2, verbose=0, shuffle=False)
        weights.append(values(model))
    assert_equal(*weights)


class Interrupted(keras.utils.PyDataset):
    def __init__(self, error, reads):
        super().__init__()
        self.error, self.left = error, reads

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.left -= 1
        np.random.random(3)
        if self.left < 0:
            raise self.error
        return X[16 * index : 16 * index + 16], Y[16 * index : 16 * index + 16]


@pytest.mark.parametrize(
    ("error", "reads"), [(RuntimeError, 0), (RuntimeError, 5), (KeyboardInterrupt, 40)]
)
def test_restored_after_an_error(error, reads):
    model = make_model(kerasdl.Adam(kerasdl.CosineDecay(0.01, 50)))
    model.fit(X, Y, verbose=0)
    before, states, rate = values(model), random_states(), model.optimizer._learning_rate
    with pytest.raises(error):
        find_learning_rate(model, Interrupted(error, reads), steps=12)
    assert_equal(before, values(model))
    assert random_states() == states
    assert model.optimizer._learning_rate is rate
    assert model.optimizer._screen.policy == "raise"


def test_same_again():
    model = make_model(keras.optimizers.SGD(0.1))
    first, second = (find_learning_rate(model, X, Y, **QUICK) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    assert first.trials == second.trials


# Data and models of all kinds


class Own(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return X[16 * index : 16 * index + 16], Y[16 * index : 16 * index + 16]


@pytest.mark.parametrize("kind", ["PyDataset", "tf.data", "endless", "sample_weight"])
def test_data(kind):
    data = (X, Y)
    weight = {}
    if kind == "PyDataset":
        data = (Own(),)
    elif kind in {"tf.data", "endless"}:
        tf = pytest.importorskip("tensorflow")
        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(64).batch(16)
        data = (dataset.repeat() if kind == "endless" else dataset,)
    else:
        weight = {"sample_weight": np.linspace(0, 1, 64)}
    model = make_model(keras.optimizers.SGD(0.1))
    found = find_learning_rate(model, *data, **weight, steps=60)
    assert 0.005 < found.suggestion < 1


def test_sample_weights_count():
    model = make_model(keras.optimizers.SGD(0.1))
    plain = find_learning_rate(model, X, Y, **QUICK)
    double = find_learning_rate(model, X, Y, **QUICK, sample_weight=np.full(64, 2.0))
    assert double.losses[0] == pytest.approx(2 * plain.losses[0], rel=1e-5)


def test_a_model_that_is_not_built():
    model = keras.Sequential([layers.Dense(3), layers.Dense(1)])
    model.compile("adam", loss="mse", jit_compile=False)
    assert find_learning_rate(model, X, Y, steps=30).suggestion > 1e-4
    assert model.built
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 0


def test_the_default_model():
    model = kerasdl.default_model((5,), task="regression", units=(8,))
    found = find_learning_rate(model, X, Y, steps=30)  # in batches of 32
    assert 1e-5 < found.suggestion < 10


def test_plot_draws_on_the_axes_that_it_is_given():
    plt = pytest.importorskip("matplotlib.pyplot")
    found = find_learning_rate(make_model(keras.optimizers.SGD(0.1)), X, Y, **QUICK)
    _, given = plt.subplots()
    assert found.plot(given) is given
    own = found.plot()
    for ax in (given, own):
        assert ax.get_xscale() == "log"
        assert all([ax.get_title(), ax.get_xlabel(), ax.get_ylabel()])
        loss, smoothed, trials, suggestion = ax.get_lines()
        np.testing.assert_array_equal(loss.get_ydata(), found.losses)
        np.testing.assert_array_equal(smoothed.get_ydata(), found.smoothed)
        assert len(trials.get_xdata()) == sum(np.isfinite(y) for _, y in found.trials)
        assert suggestion.get_xdata()[0] == found.suggestion
    plt.close("all")


# Refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 1.0, "end": 1.0}, r"`start` must be smaller than end=1.0. Received: start=1.0"),
        ({"start": 0.0}, "`start` must be positive"),
        ({"end": float("inf")}, "`end` must be positive"),
        ({"steps": 9}, "`steps` must be an integer ≥ 10"),
        ({"steps": 20.0}, "`steps` must be an integer ≥ 10"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"x": X[:0], "y": Y[:0]}, "at least one"),
        ({"y": Y[:3]}, "the same number of samples"),
        ({"y": np.full_like(Y, np.nan)}, "`loss` must be finite before anything has been learned"),
        ({"x": iter([(X, Y)]), "y": None}, "A generator cannot be wound back"),
        ({"start": 1e-30, "end": 1e-25}, "one whose loss falls at some rate"),
    ],
)
def test_bad_arguments(arguments, message):
    model = make_model(keras.optimizers.SGD(0.1))
    data = {"x": X, "y": Y, "batch_size": 16, **arguments}
    with pytest.raises(ValueError, match=message):
        find_learning_rate(model, **data)


def test_a_model_that_is_not_compiled():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="`model` must be compiled with an optimizer"):
        find_learning_rate(model, X, Y)


@pytest.mark.tensorflow
def test_a_dataset_without_batches():
    import tensorflow as tf

    model = make_model(keras.optimizers.SGD(0.1))
    empty = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16).take(0)
    with pytest.raises(ValueError, match="`x` must be a dataset with batches"):
        find_learning_rate(model, empty)
