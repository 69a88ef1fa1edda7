"""The weights to show are there to evaluate and save, the trained ones to train on."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl

X = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")
FIT = {"x": X, "y": Y, "batch_size": 8, "shuffle": False, "verbose": 0}
OPTIMIZERS = {
    "ema": lambda: kerasdl.Adam(0.05, use_ema=True, ema_momentum=0.8),
    "nesterov": lambda: kerasdl.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: kerasdl.RMSprop(0.01, momentum=0.9, nesterov=True, centered=True),
    "asgd": lambda: kerasdl.ASGD(0.05),
    "ema_of_large_variables": lambda: kerasdl.Adam(0.05, use_ema=True, ema_momentum=0.8),
}
LONG = {"nesterov", "rmsprop"}
every_optimizer = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in OPTIMIZERS]
)


def make_model(name, dtype=None):
    keras.utils.set_random_seed(3)
    width = 6000 if name == "ema_of_large_variables" else 4
    layers = [keras.layers.Dense(width, "tanh", dtype=dtype), keras.layers.Dense(1, dtype=dtype)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(OPTIMIZERS[name](), loss="mse")
    return model


def weights(model):
    return [ops.convert_to_numpy(w).astype("float64") for w in model.trainable_variables]


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def differ(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@every_optimizer
@pytest.mark.filterwarnings("ignore:The model has the trained weights")
def test_training_is_the_same_with_it(name):
    plain, swapped = make_model(name), make_model(name)
    plain.fit(epochs=4, **FIT)
    callback = kerasdl.SwapWeights()
    swapped.fit(epochs=2, validation_data=(X, Y), callbacks=[callback], **FIT)
    swapped.fit(epochs=4, initial_epoch=2, validation_data=(X, Y), callbacks=[callback], **FIT)
    assert swapped.optimizer.is_swapped
    assert differ(weights(plain), weights(swapped))
    assert not swapped.optimizer.swap_weights()
    assert_equal(weights(plain), weights(swapped))


@every_optimizer
@pytest.mark.parametrize("dtype", [None, pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_saved_with_the_weights_to_show_and_trained_on(name, dtype, tmp_path):
    callback = kerasdl.SwapWeights()
    whole, halves = make_model(name, dtype), make_model(name, dtype)
    whole.fit(epochs=4, callbacks=[callback], **FIT)
    halves.fit(epochs=2, callbacks=[callback], **FIT)
    halves.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.optimizer.is_swapped
    assert_equal(weights(halves), weights(again))
    again.fit(epochs=4, initial_epoch=2, callbacks=[callback], **FIT)
    for model in (whole, again):
        model.optimizer.swap_weights()
    assert_equal(weights(whole), weights(again))


def test_shown_weights_are_validated_and_saved(tmp_path):
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen["trained"] = weights(self.model)

        def on_test_batch_end(self, batch, logs=None):
            seen["tested"] = weights(self.model)

    model = make_model("nesterov")
    save = keras.callbacks.ModelCheckpoint(tmp_path / "epoch.keras")
    callbacks = [kerasdl.SwapWeights(), save, Look()]
    model.fit(epochs=1, validation_data=(X, Y), callbacks=callbacks, **FIT)
    optimizer, shown = model.optimizer, weights(model)
    assert_equal(seen["tested"], shown)
    assert_equal(weights(keras.models.load_model(tmp_path / "epoch.keras")), shown)
    for variable, θ, interim in zip(model.trainable_variables, shown, seen["trained"], strict=True):
        v = np.float32(0.9) * optimizer.slot("v", variable)
        np.testing.assert_array_equal(θ, interim.astype("float32") - v)


def test_evaluate_and_predict_take_it():
    model = make_model("ema")
    model.fit(epochs=1, callbacks=[kerasdl.SwapWeights()], **FIT)
    shown = model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0)
    model.optimizer.swap_weights()
    trained = weights(model)
    callbacks = [kerasdl.SwapWeights()]
    assert model.evaluate(X, Y, verbose=0, callbacks=callbacks) == shown[0]
    np.testing.assert_array_equal(model.predict(X, verbose=0, callbacks=callbacks), shown[1])
    assert_equal(weights(model), trained)


def test_training_on_from_what_is_shown_makes_it_the_trained():
    θ = keras.Variable([0.0])
    sgd = kerasdl.SGD(1.0, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        sgd.apply([ops.ones(1)], [θ])
    sgd.swap_weights()
    sgd.apply([ops.ones(1)], [θ])
    assert not sgd.is_swapped
    assert ops.convert_to_numpy(θ).tolist() == [-2.5]


def test_before_the_first_update_there_is_nothing_else_to_show():
    θ = keras.Variable([3.0])
    sgd = kerasdl.SGD(1.0, use_ema=True)
    sgd.build([θ])
    assert sgd.swap_weights()
    assert ops.convert_to_numpy(θ).tolist() == [3.0]
    assert not sgd.swap_weights()


def test_fit_says_that_the_averages_are_not_in_the_model():
    with pytest.warns(UserWarning, match=r"optimizer\.swap_weights\(\)"):
        make_model("ema").fit(**FIT)


@pytest.mark.parametrize("optimizer", [kerasdl.SGD(0.1), keras.optimizers.SGD(0.1)])
def test_optimizers_with_nothing_to_swap(optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse")
    with pytest.raises(ValueError, match="SwapWeights needs an optimizer of kerasdl that shows"):
        model.fit(callbacks=[kerasdl.SwapWeights()], **FIT)
    if isinstance(optimizer, kerasdl.SGD):
        with pytest.raises(ValueError, match="Only an optimizer that shows other weights"):
            optimizer.swap_weights()
