"""N3's worked examples, to the last printed digit, in either floatx."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdl.callbacks import LearningRateDecay
from kerasdl.optimizers import SGD

pytestmark = pytest.mark.usefixtures("has_float64")

A4, A3, A2, A1 = 319 / 8400, 43 / 4200, -6799 / 8400, -299 / 840


def slope(x):
    return 4 * A4 * x**3 + 3 * A3 * x**2 + 2 * A2 * x + A1


@pytest.fixture(params=["float32", "float64"])
def floatx(request):
    before = keras.config.floatx()
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx(before)


def descend(optimizer, start, before_step=lambda epoch: None):
    x = keras.Variable(start, dtype="float64")
    for epoch in range(100):
        before_step(epoch)
        gradient = slope(float(x.numpy()))
        optimizer.apply([ops.convert_to_tensor(gradient, "float64")], [x])
    return float(x.numpy())


@pytest.mark.parametrize(
    ("arguments", "start", "end"),
    [
        ({}, 5.0, 3.2727653395584366),
        ({}, -5.0, -3.254993730859254),
        ({"momentum": 0.1}, 5.0, 3.272765339558436),
        ({"momentum": 0.1}, -5.0, -3.254993730859254),
        ({"momentum": 0.9}, -5.0, 3.267681061691328),
        ({"momentum": 0.9, "nesterov": True}, -5.0, -3.2549937310899244),
    ],
)
def test_gradient_descent(floatx, arguments, start, end):
    assert descend(SGD(learning_rate=0.1, **arguments), start) == end


@pytest.mark.parametrize(("start", "end"), [(5.0, 3.272765339568853), (-5.0, -3.254993731279408)])
def test_decay_in_each_step(floatx, start, end):
    # N3 decays before every update, the first one too; the callback leaves epoch 0 alone.
    optimizer = SGD(learning_rate=0.1 * 0.99)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer)
    callback = LearningRateDecay(0.99)
    callback.set_model(model)
    assert descend(optimizer, start, callback.on_epoch_begin) == end


def test_learning_rate_keeps_all_its_digits(floatx):
    optimizer = SGD(learning_rate=0.1)
    assert float(optimizer.learning_rate) == 0.1
    assert optimizer.get_config()["learning_rate"] == 0.1
    optimizer.learning_rate = 0.3
    assert np.float64(optimizer.learning_rate.numpy()) == 0.3
