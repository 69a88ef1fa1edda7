"""Keras' rule with any optimizer, and errors where Keras is quiet."""

import keras
import numpy as np
import pytest

import kerasdl

NAN = float("nan")
X = np.zeros((2, 1))


def make_model(optimizer):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer, loss="mse", metrics=["accuracy"])
    return model


def play(values, name="val_loss", optimizer=None, **arguments):
    """Feed one value per epoch; return the rates in the logs and the last one."""
    callback = kerasdl.ReduceLROnPlateau(**{"monitor": name, "factor": 0.5} | arguments)
    model = make_model(optimizer or kerasdl.SGD(1.0))
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(values):
        logs = {"loss": 1.0} | ({} if value is None else {name: value})
        callback.on_epoch_end(epoch, logs)
        rates.append(logs["learning_rate"])
    return [*rates, float(model.optimizer.learning_rate)]


@pytest.mark.parametrize(
    ("arguments", "values", "rates"),
    [
        ({"patience": 1}, [3, 2, 2, 1], [1, 1, 1, 0.5, 0.5]),
        ({"patience": 2}, [3, 3, 3, 3, 3], [1, 1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.4], [1, 1, 0.5, 0.5]),
        ({"patience": 1, "cooldown": 2}, [3] * 6, [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]),
        ({"patience": 1, "min_lr": 0.4}, [3] * 4, [1, 1, 0.5, 0.4, 0.4]),
        ({"patience": 1, "mode": "max"}, [1, 2, 1], [1, 1, 1, 0.5]),
        ({"patience": 2}, [NAN, 3, 2, 1], [1, 1, 1, 1, 1]),
        ({"patience": 2}, [NAN, NAN, 3], [1, 1, 0.5, 0.5]),
        ({"patience": 1}, [3, None, 3, None, 2], [1, 1, 1, 0.5, 0.5, 0.5]),
    ],
)
def test_rates(arguments, values, rates):
    assert play(values, **arguments) == pytest.approx(rates, rel=1e-6)


def test_mode_is_inferred_from_the_metric():
    with pytest.raises(ValueError, match="monitor=val_made_up, but Keras isn't able"):
        play([1.0], name="val_made_up")
    model = make_model("sgd")
    model.fit(X, X, verbose=0)
    reduce = kerasdl.ReduceLROnPlateau("val_accuracy", factor=0.5, patience=1)
    reduce.set_model(model)
    reduce.on_train_begin()
    for epoch, accuracy in enumerate([0.5, 0.6, 0.7]):
        reduce.on_epoch_end(epoch, {"val_accuracy": accuracy})
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    reduce.on_epoch_end(3, {"val_accuracy": 0.6})
    assert float(model.optimizer.learning_rate) == pytest.approx(0.005)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: kerasdl.Adam(0.5),
        lambda: keras.optimizers.RMSprop(0.5),
        lambda: keras.optimizers.LossScaleOptimizer(kerasdl.SGD(0.5)),
        lambda: kerasdl.Lookahead(keras.optimizers.SGD(0.5)),
        lambda: kerasdl.Clipped(kerasdl.SGD(0.5), clipnorm=1.0),
    ],
)
def test_in_fit(optimizer):
    model = make_model(optimizer())
    reduce = kerasdl.ReduceLROnPlateau("loss", factor=0.5, patience=1)
    fit = {"epochs": 4, "verbose": 0, "callbacks": [reduce]}
    history = model.fit(X, np.ones((2, 1)), **fit).history
    assert history["learning_rate"] == [0.5, 0.5, 0.25, 0.125]
    assert float(model.optimizer.learning_rate) == 0.0625
    rates = model.fit(X, np.ones((2, 1)), **fit).history["learning_rate"]
    assert rates == [0.0625, 0.0625, 0.03125, 0.015625]


def test_taken_up_again():
    """Keras turns the sign of `min_delta` when training starts, not again in a copy."""
    first, second = (
        kerasdl.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=0.5) for _ in range(2)
    )
    model = make_model(kerasdl.SGD(1.0))
    for callback in (first, second):
        callback.set_model(model)
        callback.on_train_begin()
    first.on_epoch_end(0, {"loss": 3.0})
    kept = {k: v for k, v in vars(first).items() if isinstance(v, (int, float))}
    vars(second).update(kept)
    second.on_epoch_end(1, {"loss": 2.6})
    assert float(model.optimizer.learning_rate) == 0.5
    second.on_epoch_end(2, {"loss": 2.4})
    assert float(model.optimizer.learning_rate) == 0.5


def test_missing_value_names_what_there_is():
    with pytest.raises(ValueError) as error:  # noqa: PT011
        play([None], name="val_acc", mode="max")
    assert str(error.value) == (
        "`monitor` must be one of the values in the logs (loss). Received: monitor='val_acc'. "
        "Pass validation data or another name."
    )


@pytest.mark.parametrize("scaled", [False, True])
def test_refuses_an_optimizer_with_a_schedule(scaled):
    optimizer = kerasdl.SGD(keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5))
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    text = "`learning_rate` of the optimizer must be a number when ReduceLROnPlateau is used"
    with pytest.raises(ValueError, match=text):
        play([1.0], optimizer=optimizer)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("factor", 1.0, "in (0, 1)"),
        ("factor", -0.5, "in (0, 1)"),
        ("patience", -1, "an integer ≥ 0"),
        ("cooldown", 1.5, "an integer ≥ 0"),
        ("min_lr", -1.0, "non-negative"),
        ("min_delta", -1.0, "non-negative"),
        ("mode", "best", '"auto", "min" or "max"'),
    ],
)
def test_rejected_arguments(argument, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kerasdl.ReduceLROnPlateau(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. "
    assert str(error.value).startswith(text)
