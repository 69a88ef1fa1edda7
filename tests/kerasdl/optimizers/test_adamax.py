"""What is Adamax's own, beside its formula."""

import keras
import numpy as np
import pytest

import references
from kerasdl.optimizers.adamax import Adamax, adamax
from references import slots, tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

OPTIONS = references.OPTIONS["Adamax"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
def test_first_steps_are_exact(options, dtype, rtol):
    """From θ = 0 nothing hides the relative error of a single step."""
    gradients = [np.array([1e-6, 0.3, -40.0]), np.array([2e-6, 0.2, -7.0])]
    for n in (1, 2):
        θ = train(Adamax(1e-3, **options), np.zeros(3), gradients[:n], dtype)
        expected = references.adamax(np.zeros(3), gradients[:n], 1e-3, **options)
        np.testing.assert_allclose(θ.numpy(), expected, rtol=rtol)


def test_rule_is_a_pure_function_of_arrays():
    g, zero, u, one = tensors([3.0, -4.0], np.zeros(2), [8.0, 0.0], 1.0)
    θ, m, u = adamax(g, zero, zero, u, 0.5, one, 0.5, 0.5, 1.0)
    np.testing.assert_allclose(np.array(θ), [-0.3, 0.4], rtol=1e-15)
    assert np.array(m).tolist() == [1.5, -2.0]
    assert np.array(u).tolist() == [4.0, 4.0]


def test_zero_gradients_change_nothing():
    θ = train(Adamax(1.0), np.ones(2), np.zeros((3, 2)))
    assert θ.numpy().tolist() == [1.0, 1.0]


def test_a_burst_is_remembered_for_as_long_as_beta_2_says():
    for gradients, largest in (([16, 1, 0, 3], 3.0), ([16, 1, 0], 4.0)):
        optimizer = Adamax(0.1, beta_2=0.5)
        train(optimizer, 0.0, gradients)
        (u,) = slots(optimizer, "u")
        assert float(np.squeeze(u.numpy())) == largest


def test_keras_own_takes_the_same_steps():
    """Keras rounds β₁ to float32 before it takes powers, hence the tolerance."""
    rng = np.random.default_rng(4)
    start, gradients = rng.normal(size=5), rng.normal(size=(50, 5))
    ours = train(Adamax(2.0**-6, epsilon=1e-4), start, gradients)
    keras_own = train(keras.optimizers.Adamax(2.0**-6, epsilon=1e-4), start, gradients)
    np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=2e-7)


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("beta_1", 1.0, "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_1", -0.1, "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_1", float("nan"), "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_1", "0.9", "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_1", True, "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_1", None, "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_2", 1.0, "in [0, 1)", "Typical values are 0.99 to 0.9999."),
        ("beta_2", -0.1, "in [0, 1)", "Typical values are 0.99 to 0.9999."),
        ("beta_2", float("nan"), "in [0, 1)", "Typical values are 0.99 to 0.9999."),
        ("beta_2", "0.9", "in [0, 1)", "Typical values are 0.99 to 0.9999."),
        ("beta_2", True, "in [0, 1)", "Typical values are 0.99 to 0.9999."),
        ("beta_2", None, "in [0, 1)", "Typical values are 0.99 to 0.9999."),
        ("epsilon", 0.0, "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", -1e-8, "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", float("inf"), "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", None, "positive", "Typical values are 1e-8 to 1e-4."),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Adamax(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = Adamax(0.5, 0.8, 0.9, 1e-3, name="mine")
    config = optimizer.get_config()
    assert Adamax.from_config(config).get_config() == config
    assert [config[name] for name in ("beta_1", "beta_2", "epsilon")] == [0.8, 0.9, 1e-3]
