"""Clipping by the callback equals clipping by the optimizer, and leaves nothing behind."""

import keras
import numpy as np
import pytest

from kerasdl.callbacks import GradientClipping
from kerasdl.optimizers import SGD, Adam

X = np.random.default_rng(0).normal(size=(16, 3)).astype("float32") * 5
Y = X.sum(axis=1, keepdims=True)
ARGUMENTS = {"value": "clipvalue", "norm": "clipnorm", "global_norm": "global_clipnorm"}
MODES = [{"jit_compile": False}, {"jit_compile": True}, {"run_eagerly": True}]
each_mode = pytest.mark.parametrize(
    "mode", [MODES[0], pytest.param(MODES[1], marks=pytest.mark.compiled), MODES[2]], ids=str
)


def make_model(optimizer, **compile_arguments):
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse", **compile_arguments)
    return model


def fit(model, callbacks=(), epochs=2):
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0}
    model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **arguments)
    return model.get_weights()


def assert_close(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "optimizer", "mode"),
    [
        ("value", SGD, MODES[0]),
        pytest.param("norm", SGD, MODES[1], marks=pytest.mark.compiled),
        ("global_norm", SGD, MODES[2]),
        pytest.param("value", keras.optimizers.SGD, MODES[1], marks=pytest.mark.compiled),
        ("norm", keras.optimizers.SGD, MODES[2]),
        ("global_norm", keras.optimizers.SGD, MODES[0]),
    ],
)
def test_equals_the_argument_of_the_optimizer(method, optimizer, mode):
    own = make_model(optimizer(0.05, **{ARGUMENTS[method]: 0.5}), **mode)
    other = make_model(optimizer(0.05), **mode)
    assert_close(fit(own), fit(other, [GradientClipping(**{method: 0.5})]))


@each_mode
def test_average_norm(mode):
    plain, clipped = (make_model(keras.optimizers.SGD(1.0), **mode) for _ in range(2))
    before = plain.get_weights()
    plain.train_on_batch(X, Y)
    gradients = [b - a for b, a in zip(before, plain.get_weights(), strict=True)]
    arguments = {"batch_size": 16, "verbose": 0}
    clipped.fit(X, Y, callbacks=[GradientClipping(average_norm=0.1)], **arguments)
    expected = [
        b - g * min(1, 0.1 * g.size / np.linalg.norm(g))
        for b, g in zip(before, gradients, strict=True)
    ]
    assert_close(clipped.get_weights(), expected)


def test_acts_on_the_accumulated_gradient():
    accumulate = {"gradient_accumulation_steps": 2}
    own = make_model(SGD(0.05, clipnorm=0.5, **accumulate))
    other = make_model(SGD(0.05, **accumulate))
    assert_close(fit(own), fit(other, [GradientClipping(norm=0.5)]))


def test_reaches_the_optimizer_inside_loss_scaling():
    def scaled(**arguments):
        return keras.optimizers.LossScaleOptimizer(Adam(0.05, **arguments))

    own, other = make_model(scaled(global_clipnorm=0.1)), make_model(scaled())
    assert_close(fit(own), fit(other, [GradientClipping(global_norm=0.1)]))


@each_mode
def test_is_gone_after_the_training(mode):
    model, plain = (make_model(keras.optimizers.SGD(1e-4), **mode) for _ in range(2))
    fit(model, epochs=1)
    fit(model, [GradientClipping(norm=1e-3)])
    assert "_clip_gradients" not in vars(model.optimizer)
    plain.set_weights(model.get_weights())
    assert_close(fit(model), fit(plain))


def test_takes_effect_in_a_model_that_was_traced_before():
    model = make_model(keras.optimizers.SGD(0.01))
    before = fit(model)
    after = fit(model, [GradientClipping(value=1e-9)])
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def test_an_interrupted_training_is_not_clipped_twice():
    model = make_model(keras.optimizers.SGD(0.05))
    with pytest.raises(KeyboardInterrupt):
        fit(model, [GradientClipping(value=1e-9), Interrupt()])
    again = make_model(keras.optimizers.SGD(0.05, clipnorm=0.5))
    again.set_weights(model.get_weights())
    assert_close(fit(model, [GradientClipping(norm=0.5)]), fit(again))
    assert "_clip_gradients" not in vars(model.optimizer)


def test_an_interrupted_training_can_be_cleaned_up():
    model = make_model(keras.optimizers.SGD(0.05))
    clipping = GradientClipping(value=1e-9)
    with pytest.raises(KeyboardInterrupt):
        fit(model, [clipping, Interrupt()])
    clipping.on_train_end()
    assert "_clip_gradients" not in vars(model.optimizer)
    clipping.on_train_end()


def test_refuses_an_optimizer_that_clips():
    model = make_model(keras.optimizers.LossScaleOptimizer(SGD(0.1, clipnorm=1.0)))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fit(model, [GradientClipping(norm=1.0)])
    assert str(error.value) == (
        "`clipnorm` must be None in the optimizer when GradientClipping is used. "
        "Received: clipnorm=1.0. Remove one of the two."
    )


def test_refuses_a_model_without_optimizer():
    callback = GradientClipping(norm=1.0)
    callback.set_model(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        callback.on_train_begin()
    assert str(error.value) == (
        "GradientClipping needs a model with an optimizer. Received: optimizer=None. "
        "Call `model.compile(optimizer=...)` first."
    )


@pytest.mark.parametrize("arguments", [{}, {"norm": 1.0, "value": 1.0}])
def test_exactly_one_limit(arguments):
    with pytest.raises(ValueError, match="must be exactly one"):
        GradientClipping(**arguments)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), "1"])
def test_rejected_limits(limit):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        GradientClipping(global_norm=limit)
    text = f"`global_norm` must be positive. Received: global_norm={limit!r}. Leave the"
    assert str(error.value).startswith(text)
