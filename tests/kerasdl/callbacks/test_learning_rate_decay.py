"""The rate of every epoch, the same whether a training is interrupted or not."""

import keras
import numpy as np
import pytest

from kerasdl.callbacks import LearningRateDecay
from kerasdl.catalog import CATALOG
from kerasdl.optimizers import SGD, Adam

# JAX has a rate in float32.
RTOL = 1e-6 if keras.backend.backend() == "jax" else 0.0
X = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
Y = X[:, :1]


def make_model(optimizer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse")
    return model


def rates(callback, epochs, optimizer=None):
    model = make_model(SGD(0.5) if optimizer is None else optimizer)
    history = model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[callback])
    return history.history["learning_rate"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"decay": 0.5}, [0.5, 0.25, 0.125, 0.0625]),
        ({"decay": 0.5, "every": 2}, [0.5, 0.5, 0.25, 0.25]),
        ({"decay": 1.0}, [0.5] * 4),
        ({"decay": 0.5, "min_learning_rate": 0.2}, [0.5, 0.25, 0.2, 0.2]),
        ({"decay": 0.5, "min_learning_rate": 0.7}, [0.5] * 4),
        ({"decay": lambda epoch: 1 / (1 + epoch)}, [1.0, 1 / 2, 1 / 3, 1 / 4]),
        ({"decay": lambda epoch: 1 / (1 + epoch), "min_learning_rate": 0.5}, [1, 0.5, 0.5, 0.5]),
        ({"decay": lambda epoch: 0.1 * epoch, "every": 3}, [0.0, 0.0, 0.0, 0.1 * 3]),
    ],
)
def test_rates(arguments, expected):
    assert rates(LearningRateDecay(**arguments), 4) == pytest.approx(expected, RTOL, abs=0.0)


def test_schedule():
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    assert rates(LearningRateDecay(schedule), 3) == [1.0, 0.5, 0.25]


SCHEDULES = [entry for entry in CATALOG if entry.kind == "schedule"]


@pytest.mark.parametrize("entry", SCHEDULES, ids=lambda entry: entry.name)
def test_every_schedule(entry):
    schedule = entry.object(**entry.arguments)
    expected = [float(keras.ops.convert_to_numpy(schedule(epoch))) for epoch in range(6)]
    assert len(set(expected)) > 1
    callback, model, found = LearningRateDecay(schedule), make_model(SGD(0.5)), []
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(6):
        callback.on_epoch_begin(epoch)
        found.append(float(model.optimizer.learning_rate))
    assert found == pytest.approx(expected, RTOL or 1e-15, abs=0.0)


def test_default_is_the_notes():
    expected = [0.5, 0.99 * 0.5, 0.99 * (0.99 * 0.5)]
    assert rates(LearningRateDecay(), 3) == pytest.approx(expected, RTOL, abs=0.0)


@pytest.mark.parametrize("optimizer", [Adam, keras.optimizers.SGD])
def test_loss_scaling(optimizer):
    scaled = keras.optimizers.LossScaleOptimizer(optimizer(0.5))
    assert rates(LearningRateDecay(0.5), 3, scaled) == [0.5, 0.25, 0.125]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("decay", [0.7, lambda epoch: 0.3 / (1 + epoch)])
def test_resumed_exactly(decay, tmp_path):
    whole, halves = make_model(Adam(0.1)), make_model(Adam(0.1))
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    whole.fit(X, Y, epochs=4, callbacks=[LearningRateDecay(decay)], **fit)
    halves.fit(X, Y, epochs=2, callbacks=[LearningRateDecay(decay)], **fit)
    halves.save(tmp_path / "half.keras")
    halves = keras.models.load_model(tmp_path / "half.keras")
    halves.fit(X, Y, initial_epoch=2, epochs=4, callbacks=[LearningRateDecay(decay)], **fit)
    for a, b in zip(whole.get_weights(), halves.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(whole.optimizer.learning_rate) == float(halves.optimizer.learning_rate)


def test_verbose(capsys):
    rates(LearningRateDecay(0.5, verbose=1), 2)
    assert capsys.readouterr().out == "Epoch 2: learning rate 0.5 -> 0.25\n"


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    "rate", [keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5), lambda: 0.5]
)
def test_refuses_an_optimizer_with_a_schedule(rate, scaled):
    optimizer = SGD(rate)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    text = "`learning_rate` of the optimizer must be a number when LearningRateDecay is used"
    with pytest.raises(ValueError, match=text):
        rates(LearningRateDecay(), 1, optimizer)


def test_refuses_a_broken_schedule():
    with pytest.raises(ValueError) as error:  # noqa: PT011
        rates(LearningRateDecay(lambda epoch: float("nan")), 1)
    assert str(error.value) == (
        "`decay(0)` must be a non-negative number. Received: decay(0)=nan. Correct the schedule."
    )


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("decay", 0.0, "in (0, 1], a LearningRateSchedule or a function of the epoch"),
        ("decay", 1.1, "in (0, 1], a LearningRateSchedule or a function of the epoch"),
        (
            "decay",
            float("nan"),
            "in (0, 1], a LearningRateSchedule or a function of the epoch",
        ),
        ("every", 0, "an integer ≥ 1"),
        ("every", 1.5, "an integer ≥ 1"),
        ("min_learning_rate", -1.0, "non-negative"),
    ],
)
def test_rejected_arguments(argument, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        LearningRateDecay(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. "
    assert str(error.value).startswith(text)
