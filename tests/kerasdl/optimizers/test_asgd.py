"""ASGD: the mean of the weights, and when it is shown."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdl.optimizers import ASGD
from kerasdl.schedules import InverseTimeDecay

TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


def averaged(θ, gradients, rates, average_from=0, weight_decay=0.0):
    """Every θ, and the mean of those after the first `average_from`."""
    passed = []
    for g, η in zip(gradients, rates, strict=True):
        θ = θ - η * weight_decay * θ - η * g
        passed.append(θ)
    return θ, np.mean(passed[average_from:] or passed[-1:], axis=0)


def random_run(rng, steps=24, shapes=((20, 3), (), (20,))):
    starts = [np.asarray(rng.normal(size=shape)) for shape in shapes]
    gradients = [[np.asarray(rng.normal(size=shape)) for shape in shapes] for _ in range(steps)]
    return starts, gradients


def apply_all(optimizer, variables, gradients):
    for each in gradients:
        tensors = zip(each, variables, strict=True)
        optimizer.apply([ops.convert_to_tensor(g, v.dtype) for g, v in tensors], variables)


@pytest.mark.usefixtures("has_float64")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("average_from", [0, 1, 17, 24, 30])
@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_trains_by_gradients_and_shows_the_mean(rng, dtype, average_from, weight_decay):
    starts, gradients = random_run(rng)
    variables = [keras.Variable(start, dtype=dtype) for start in starts]
    optimizer = ASGD(0.125, average_from, weight_decay=weight_decay)
    apply_all(optimizer, variables, gradients)
    for i, start in enumerate(starts):
        own, rates = [each[i] for each in gradients], [0.125] * len(gradients)
        trained, mean = averaged(start, own, rates, average_from, weight_decay or 0.0)
        check = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype]}
        np.testing.assert_allclose(variables[i].numpy(), trained, **check)
        np.testing.assert_allclose(optimizer.slot("average", variables[i]), mean, **check)
    before = [variable.numpy().copy() for variable in variables]
    means = [optimizer.slot("average", variable) for variable in variables]
    assert optimizer.swap_weights() is True
    for variable, mean in zip(variables, means, strict=True):
        np.testing.assert_array_equal(variable.numpy(), mean)
    assert optimizer.swap_weights() is False
    for variable, old in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


@pytest.mark.usefixtures("has_float64")
def test_pytorchs_falling_rate_is_a_schedule(rng):
    """η/(1 + ληt) with t from 0, its α = 1."""
    (start,), gradients = random_run(rng, 100, shapes=((3,),))
    θ = keras.Variable(start, dtype="float64")
    optimizer = ASGD(InverseTimeDecay(0.5, decay_steps=1, decay_rate=0.25 * 0.5))
    apply_all(optimizer, [θ], gradients)
    rates = [0.5 / (1 + 0.25 * 0.5 * t) for t in range(100)]
    trained, mean = averaged(start, [g for (g,) in gradients], rates)
    rtol = 1e-6 if keras.backend.backend() == "jax" else 1e-12
    np.testing.assert_allclose(θ.numpy(), trained, rtol=rtol)
    np.testing.assert_allclose(optimizer.slot("average", θ), mean, rtol=rtol)


def test_variables_without_a_gradient_keep_what_they_have():
    """The mean is over the updates of the variable; without any the variable is shown."""
    variables = [keras.Variable(value) for value in (1.0, 2.0, 3.0)]
    optimizer = ASGD(1.0)
    optimizer.build(variables)
    one = ops.array(-1.0)
    for gradients in ([one, None, None], [one, one, None], [one, 2 * one, None]):
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            optimizer.apply(gradients, variables)
    optimizer.swap_weights()
    assert [float(v.numpy()) for v in variables] == [3.0, (3.0 + 5.0) / 2, 3.0]


def test_nothing_is_swapped_in_before_the_first_update():
    θ = keras.Variable([1.0, 2.0])
    optimizer = ASGD(1.0)
    optimizer.build([θ])
    optimizer.swap_weights()
    assert θ.numpy().tolist() == [1.0, 2.0]


def test_counts_updates_and_not_steps():
    θ = keras.Variable(0.0)
    optimizer = ASGD(1.0, average_from=1, gradient_accumulation_steps=2)
    for _ in range(6):
        optimizer.apply([ops.array(-2.0)], [θ])
    assert float(θ.numpy()) == 6.0
    assert optimizer.slot("average", θ) == 5.0


def test_is_better_than_the_last_weights_under_noise(rng):
    """What it is for: at a constant rate the noise of θ stays, that of the mean falls."""
    θ = keras.Variable(np.zeros(100), dtype="float32")
    optimizer = ASGD(0.25, average_from=20)
    for noise in rng.normal(size=(500, 100)):
        optimizer.apply([ops.convert_to_tensor(θ.numpy() + noise, "float32")], [θ])
    last = np.abs(θ.numpy()).mean()
    optimizer.swap_weights()
    assert np.abs(θ.numpy()).mean() < last / 4


@pytest.mark.compiled
@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_fit_the_mean_travels_with_the_file(rng, tmp_path, jit_compile):
    x = rng.normal(size=(64, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(ASGD(0.05, 3), loss="mse", jit_compile=jit_compile)
    model.fit(x, x[:, :1], batch_size=8, epochs=2, verbose=0)
    model.optimizer.swap_weights()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        assert each.optimizer.swap_weights() is False
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"average_from": -1}, "an integer ≥ 0"),
        ({"average_from": 1.0}, "an integer ≥ 0"),
        ({"average_from": True}, "an integer ≥ 0"),
        ({"lazy": True}, "False in ASGD, whose mean needs all rows"),
    ],
)
def test_rejected_arguments(arguments, allowed):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ASGD(**arguments)
    assert str(error.value).startswith(f"`{name}` must be {allowed}. Received: {name}={value!r}. ")
