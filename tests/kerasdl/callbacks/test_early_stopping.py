"""When it stops and which weights it keeps, for losses that the test writes."""

import keras
import numpy as np
import pytest

from kerasdl.callbacks import EarlyStopping

NAN = float("nan")


class Recorder:
    """Stands for a model: its one weight is the number of the epoch."""

    def __init__(self):
        self.stop_training = False
        self.epoch = None
        self.metrics = ()

    def get_weights(self):
        return [np.array(self.epoch)]

    def set_weights(self, weights):
        self.epoch = int(weights[0])


def play(callback, values, name="val_loss"):
    """Feed one value per epoch, as `fit` does; return the epochs run and the weights."""
    model = Recorder()
    callback.set_model(model)
    callback.on_train_begin()
    epoch = -1
    for epoch, value in enumerate(values):
        model.epoch = epoch
        callback.on_epoch_end(epoch, {"loss": 1.0} | ({} if value is None else {name: value}))
        if model.stop_training:
            break
    callback.on_train_end()
    return epoch + 1, model.epoch


@pytest.mark.parametrize(
    ("arguments", "values", "ran", "kept"),
    [
        ({"patience": 2}, [3, 2, 2.5, 2.6, 1], 4, 1),
        ({"patience": 2}, [3, 2, 1, 1.5], 4, 2),
        ({"patience": 5}, [1, 2, 3], 3, 0),
        ({"patience": 2, "restore_best_weights": False}, [3, 2, 2.5, 2.6, 1], 4, 3),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.8, 2], 2, 0),
        ({"patience": 1, "start_from_epoch": 2}, [0, 9, 5, 6, 4], 4, 2),
        ({"patience": 2}, [NAN, 5, 4, 6, 7], 5, 2),
        ({"patience": 2}, [NAN, NAN, NAN, 1], 3, 0),
        ({"patience": 3}, [5, NAN, 4, NAN, NAN, NAN, 1], 6, 2),
        ({"mode": "max", "patience": 2}, [NAN, 1, 3, 2, 2], 5, 2),
        ({"patience": 2, "baseline": 1.5}, [3, 2, 1.8, 1.9, 1.7], 4, 2),
        ({"patience": 2, "baseline": 1.5}, [3, 1, 1, 1, 0.5], 4, 1),
        ({"patience": 2, "baseline": 1.5, "min_delta": 0.2}, [3, 1.4, 1.25, 1.0], 3, 1),
        ({"patience": 1, "mode": "max", "min_delta": 0.5}, [1, 1.4, 9], 2, 0),
        ({"patience": 0}, [3, 2, 2, 1], 3, 1),
        ({"patience": 9, "target": 2.5}, [3, 2.5, 1], 2, 1),
        ({"patience": 9, "target": 5}, [3, 2], 1, 0),
        ({"patience": 9, "target": 0.9, "mode": "max"}, [0.5, 0.95, 1], 2, 1),
        ({"patience": 9, "target": 2.5, "min_delta": 1.0}, [3, 2.4, 1], 2, 1),
        ({"patience": 9, "target": 1.0}, [3, NAN, 2], 3, 2),
        ({"patience": 9, "target": 5, "start_from_epoch": 1}, [1, 4, 3], 2, 1),
    ],
)
def test_when_and_which(arguments, values, ran, kept):
    assert play(EarlyStopping(**arguments), values) == (ran, kept)


def test_stopped_epoch_and_target():
    callback = EarlyStopping(patience=2, target=0.5)
    play(callback, [3, 4, 5, 6])
    assert (callback.stopped_epoch, callback.best_epoch, callback.reached_target) == (
        2,
        0,
        False,
    )
    play(callback, [3, 2, 0.4])
    assert (callback.stopped_epoch, callback.best_epoch, callback.reached_target) == (
        2,
        2,
        True,
    )
    play(callback, [3, 2])
    assert (callback.stopped_epoch, callback.best_epoch, callback.reached_target) == (
        0,
        1,
        False,
    )


def test_each_training_starts_anew():
    callback = EarlyStopping(patience=2, min_delta=0.5)
    first = play(callback, [3, 2, 2, 2])
    assert play(callback, [3, 2, 2, 2]) == first == (4, 1)


def test_missing_value_names_what_there_is():
    with pytest.raises(ValueError) as error:  # noqa: PT011
        play(EarlyStopping("val_accuracy"), [1.0])
    assert str(error.value) == (
        "`monitor` must be one of the values in the logs (loss, val_loss). Received: "
        "monitor='val_accuracy'. Pass validation data or another name; with "
        "validation_freq=n pass start_from_epoch=n-1."
    )


def test_epochs_without_validation_are_skipped():
    callback = EarlyStopping(patience=1, start_from_epoch=1)
    assert play(callback, [None, 3, None, 2, None, 4, None]) == (6, 3)


def test_unknown_metrics_need_a_mode():
    with pytest.raises(ValueError, match="monitor=val_made_up, but Keras isn't able"):
        play(EarlyStopping("val_made_up"), [1.0], "val_made_up")
    assert play(EarlyStopping("val_made_up", mode="max"), [1.0, 2.0, 1.0], "val_made_up") == (3, 1)


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_taken_up_again(cut, mode):
    """A new one with the plain data of the old one goes on as the old one would have."""
    arguments = {"patience": 3, "min_delta": 0.5, "mode": mode, "baseline": 9.0}
    values = [3, 2, 1.6, 1.8, 1.7, 1.0]
    values = values if mode == "min" else [12 - value for value in values]
    whole, first, second = (EarlyStopping(**arguments) for _ in range(3))
    expected = play(whole, values)
    model = Recorder()
    for callback, epochs in ((first, range(cut)), (second, range(cut, expected[0]))):
        callback.set_model(model)
        callback.on_train_begin()
        if callback is second:
            plain = (bool, int, float, str, list, type(None))
            vars(second).update({k: v for k, v in vars(first).items() if isinstance(v, plain)})
        for epoch in epochs:
            assert not model.stop_training
            model.epoch = epoch
            callback.on_epoch_end(epoch, {"val_loss": values[epoch]})
    assert model.stop_training
    second.on_train_end()
    assert model.epoch == expected[1]


def test_in_fit():
    x = np.random.default_rng(0).normal(size=(16, 2))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(10.0), loss="mse")
    callback = EarlyStopping("loss", patience=9)
    before = model.get_weights()
    history = model.fit(x, x[:, :1], batch_size=16, epochs=3, verbose=0, callbacks=[callback])
    assert history.history["loss"][0] < history.history["loss"][-1]
    assert callback.best_epoch == 0
    reference = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    reference.set_weights(before)
    reference.compile(keras.optimizers.SGD(10.0), loss="mse")
    reference.fit(x, x[:, :1], batch_size=16, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_mode_is_inferred_from_the_metric():
    x = np.random.default_rng(0).normal(size=(16, 2))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", loss="binary_crossentropy", metrics=["accuracy"])
    callback = EarlyStopping("val_accuracy", target=0.0)
    data = x, (x[:, :1] > 0).astype("float32")
    history = model.fit(*data, validation_data=data, epochs=3, verbose=0, callbacks=[callback])
    assert history.epoch == [0]
    assert callback.reached_target


def test_verbose(capsys):
    play(EarlyStopping(target=2.0, verbose=1, restore_best_weights=False), [3, 2])
    assert "Epoch 2: val_loss 2 reached the target" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("min_delta", -1.0, "non-negative"),
        ("patience", -1, "an integer ≥ 0"),
        ("patience", 1.5, "an integer ≥ 0"),
        ("start_from_epoch", -1, "an integer ≥ 0"),
        ("mode", "best", '"auto", "min" or "max"'),
        ("target", NAN, "a finite number or None"),
        ("baseline", NAN, "a finite number or None"),
    ],
)
def test_rejected_arguments(argument, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        EarlyStopping(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. "
    assert str(error.value).startswith(text)
