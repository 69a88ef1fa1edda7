"""Shares of flips of paths that the test writes, and of trainings that oscillate."""

import keras
import numpy as np
import pytest

import kerasdl

ONE = {"x": np.array([[1.0]]), "y": np.array([[0.0]]), "verbose": 0}


def valley(optimizer):
    """J = θ²: with a rate η the weight is multiplied by 1 − 2η."""
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(optimizer, loss="mse")
    return model


def walk(path, **arguments):
    """Shares and rates along a path of vectors, (epochs, n), that stands for a training."""
    path = np.asarray(path, "float32")
    layer = keras.layers.Dense(path.shape[1], use_bias=False)
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(1.0), loss="mse")
    model.set_weights([path[:1]])
    callback = kerasdl.ReduceLROnOscillation(**arguments)
    callback.set_model(model)
    callback.on_train_begin()
    history = []
    for epoch, weights in enumerate(path[1:]):
        model.set_weights([weights[None]])
        history.append({})
        callback.on_epoch_end(epoch, history[-1])
    return [[logs[key] for logs in history] for key in ("oscillation", "learning_rate")]


def test_share_of_elements():
    path = [[0, 0, 0, 0], [1, 1, 1, 0], [0, 2, 0, 0], [1, 3, 0, 5], [2, 4, 1, 0]]
    shares, _ = walk(path)
    assert np.isnan(shares[0])
    np.testing.assert_allclose(shares[1:], [2 / 3, 1 / 2, 1 / 3])


def test_tiny_updates_count():
    shares, _ = walk(np.array([[0.0], [1.0], [0.0], [1.0]]) * 1e-30)
    assert shares[1:] == [1.0, 1.0]


def test_weights_that_stand_still_have_no_share():
    shares, rates = walk(np.ones((5, 3)), patience=1)
    assert np.isnan(shares).all()
    assert rates == [1.0] * 4


@pytest.mark.parametrize(("cumulative", "share"), [(True, 1 / 2), (False, 2 / 3)])
def test_random_walk_and_random_hovering(cumulative, share):
    """The numbers of the docstring."""
    steps = np.random.default_rng(0).normal(size=(6, 20000))
    shares, _ = walk(np.cumsum(steps, axis=0) if cumulative else steps)
    np.testing.assert_allclose(shares[1:], share, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "rates"),
    [
        ({"patience": 1}, [1.0, 1.0, 0.5, 0.25, 0.125, 0.0625]),
        ({"patience": 2}, [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]),
        ({"patience": 1, "cooldown": 2}, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 1, "factor": 0.1, "min_lr": 0.05}, [1.0, 1.0, 0.1, 0.05, 0.05, 0.05]),
        ({"patience": 1, "min_lr": 2.0}, [1.0] * 6),
        ({"patience": 99}, [1.0] * 6),
    ],
)
def test_rates(arguments, rates):
    path = np.array([[0.0], [1.0]] * 4)[:7]
    shares, found = walk(path, **arguments)
    assert shares[1:] == [1.0] * 5
    np.testing.assert_allclose(found, rates, rtol=1e-6)


def test_patience_is_for_epochs_on_end():
    path = np.cumsum([0, 1, -1, 1, 1, -1, 1, -1])[:, None]
    _, rates = walk(path, patience=3)
    assert rates == [1.0] * 7
    _, rates = walk(path, patience=2)
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]


def test_threshold_is_to_be_passed():
    path = [[0, 0], [1, 1], [0, 2], [1, 3]]
    assert walk(path, patience=1, threshold=0.5)[1] == [1.0, 1.0, 1.0]
    assert walk(path, patience=1, threshold=0.49)[1] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, kerasdl.SGD])
@pytest.mark.parametrize(("rate", "share"), [(0.75, 1.0), (0.25, 0.0)])
def test_a_valley(optimizer, rate, share):
    callback = kerasdl.ReduceLROnOscillation(patience=9)
    history = valley(optimizer(rate)).fit(**ONE, epochs=4, callbacks=[callback]).history
    assert history["oscillation"][1:] == [share] * 3


def test_it_ends_the_oscillation():
    """With η = 1 the weight jumps between 1 and −1 for ever."""
    free, reduced = valley(kerasdl.SGD(1.0)), valley(kerasdl.SGD(1.0))
    free.fit(**ONE, epochs=10)
    reduced.fit(**ONE, epochs=10, callbacks=[kerasdl.ReduceLROnOscillation()])
    assert abs(free.get_weights()[0][0, 0]) == 1.0
    assert abs(reduced.get_weights()[0][0, 0]) < 1e-2


def test_every_so_many_batches():
    x, y = np.ones((6, 1)), np.zeros((6, 1))
    model = valley(keras.optimizers.SGD(0.75))
    callback = kerasdl.ReduceLROnOscillation(patience=9, every=1)
    fit = {"x": x, "y": y, "batch_size": 1, "epochs": 2, "verbose": 0}
    assert model.fit(**fit, callbacks=[callback]).history["oscillation"] == [1.0, 1.0]
    callback = kerasdl.ReduceLROnOscillation(patience=9, every=2)
    model.set_weights([np.ones((1, 1))])
    assert model.fit(**fit, callbacks=[callback]).history["oscillation"] == [0.0, 0.0]


@pytest.mark.parametrize("wrap", [keras.optimizers.LossScaleOptimizer, kerasdl.Lookahead])
def test_wrapped_optimizers(wrap):
    model = valley(wrap(kerasdl.SGD(0.75)))
    callback = kerasdl.ReduceLROnOscillation(patience=1, every=1, threshold=0.1)
    x, y = np.ones((6, 1)), np.zeros((6, 1))
    model.fit(x, y, batch_size=1, epochs=1, verbose=0, callbacks=[callback])
    assert float(model.optimizer.learning_rate) == 0.375


def test_state_can_be_carried_over():
    """All that it remembers is plain data, so that a training can be taken up again."""
    path = np.array([[0.0], [1.0]] * 4)[:7]
    whole = walk(path, patience=2)
    first, second = (kerasdl.ReduceLROnOscillation(patience=2) for _ in range(2))
    model = valley(keras.optimizers.SGD(1.0))
    found = []
    for epoch, callback in enumerate([first] * 3 + [second] * 3):
        if epoch in (0, 3):
            model.set_weights([path[epoch][None]])
            callback.set_model(model)
            callback.on_train_begin()
        if epoch == 3:
            vars(second).update({k: v for k, v in vars(first).items() if k.startswith("_")})
        model.set_weights([path[epoch + 1][None]])
        logs = {}
        callback.on_epoch_end(epoch, logs)
        found.append(logs)
    np.testing.assert_array_equal([each["oscillation"] for each in found], whole[0])
    assert [each["learning_rate"] for each in found] == whole[1]


def test_verbose(capsys):
    walk([[0.0], [1.0], [0.0]], patience=1, verbose=1)
    assert capsys.readouterr().out == "Epoch 2: learning rate 1 -> 0.5\n"


def test_refuses_an_optimizer_with_a_schedule():
    model = valley(kerasdl.SGD(kerasdl.ExponentialDecay(1.0, 1, 0.5)))
    text = "`learning_rate` of the optimizer must be a number when ReduceLROnOscillation is used"
    with pytest.raises(ValueError, match=text):
        model.fit(**ONE, callbacks=[kerasdl.ReduceLROnOscillation()])


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("threshold", 1.0, "in [0, 1)"),
        ("threshold", -0.1, "in [0, 1)"),
        ("factor", 1.0, "in (0, 1)"),
        ("factor", 0.0, "in (0, 1)"),
        ("patience", 0, "an integer ≥ 1"),
        ("cooldown", -1, "an integer ≥ 0"),
        ("min_lr", -1.0, "non-negative"),
        ("every", 0, "an integer ≥ 1 or None"),
        ("every", "epoch", "an integer ≥ 1 or None"),
    ],
)
def test_rejected_arguments(argument, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kerasdl.ReduceLROnOscillation(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. "
    assert str(error.value).startswith(text)
