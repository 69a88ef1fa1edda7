"""What is Adadelta's own, beside its formula."""

import keras
import numpy as np
import pytest

import references
from kerasdl.optimizers.adadelta import Adadelta, adadelta
from references import tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

OPTIONS = references.OPTIONS["Adadelta"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
def test_first_steps_are_exact(options, dtype, rtol):
    """From θ = 0 nothing hides the relative error of a single step."""
    gradients = [np.array([1e-6, 0.3, -40.0]), np.array([2e-6, 0.2, -7.0])]
    for n in (1, 2):
        θ = train(Adadelta(1e-3, **options), np.zeros(3), gradients[:n], dtype)
        expected = references.adadelta(np.zeros(3), gradients[:n], 1e-3, **options)
        np.testing.assert_allclose(θ.numpy(), expected, rtol=rtol)


def test_rule_is_a_pure_function_of_arrays():
    θ, g2, Δ2 = adadelta(*tensors([3.0], [1.0], [9.0], [35.0]), 0.5, 0.5, 1.0)
    step = -6 * 3 / np.sqrt(10)
    np.testing.assert_allclose(np.array(θ), 1 + step / 2, rtol=1e-14)
    np.testing.assert_allclose(np.array(g2), 9.0, rtol=1e-14)
    np.testing.assert_allclose(np.array(Δ2), 17.5 + step**2 / 2, rtol=1e-14)


def test_defaults_are_the_papers():
    config = Adadelta().get_config()
    assert [config[name] for name in ("learning_rate", "rho", "epsilon")] == [1.0, 0.95, 1e-6]


def test_average_of_steps_is_without_the_rate():
    """So a rate only scales the path, as long as the gradients do not depend on it."""
    gradients = np.random.default_rng(0).normal(size=(20, 3))
    full, half = (train(Adadelta(η), np.zeros(3), gradients).numpy() for η in (1.0, 0.5))
    np.testing.assert_allclose(half, full / 2, rtol=1e-13)


def test_keras_own_takes_the_same_steps():
    """In float64 the two only round differently."""
    rng = np.random.default_rng(4)
    start, gradients = rng.normal(size=5), rng.normal(size=(50, 5))
    ours = train(Adadelta(2.0**-6, rho=0.9, epsilon=1e-4), start, gradients)
    keras_own = train(keras.optimizers.Adadelta(2.0**-6, rho=0.9, epsilon=1e-4), start, gradients)
    np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=1e-14)


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("rho", 1.0, "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", -0.1, "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", float("nan"), "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", "0.9", "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", True, "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", None, "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("epsilon", 0.0, "positive", "Typical values are 1e-8 to 1e-2."),
        ("epsilon", -1e-8, "positive", "Typical values are 1e-8 to 1e-2."),
        ("epsilon", float("inf"), "positive", "Typical values are 1e-8 to 1e-2."),
        ("epsilon", None, "positive", "Typical values are 1e-8 to 1e-2."),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Adadelta(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = Adadelta(0.5, 0.9, 1e-3, name="mine")
    config = optimizer.get_config()
    assert Adadelta.from_config(config).get_config() == config
    assert [config[name] for name in ("rho", "epsilon")] == [0.9, 1e-3]
