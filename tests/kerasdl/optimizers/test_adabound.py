"""What is AdaBound's own, beside its formula."""

import keras
import numpy as np
import pytest
from keras import ops

import references
from kerasdl.optimizers.adabound import AdaBound, adabound, bounds
from references import tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")


@pytest.mark.parametrize("γ", [1e-6, 1.0])
def test_both_bounds_and_the_middle_are_met(γ):
    """At γ = 1e-6 nothing is clipped, which is Adam; at γ = 1 both bounds clip."""
    gradients = np.array([[1e-4, 1.0, 30.0], [2e-4, 1.0, -20.0]])
    θ = train(AdaBound(0.01, gamma=γ, final_lr=0.02), np.zeros(3), gradients)
    expected = references.adabound(np.zeros(3), gradients, 0.01, gamma=γ, final_lr=0.02)
    np.testing.assert_allclose(θ.numpy(), expected, rtol=1e-12)
    adam = train(keras.optimizers.Adam(0.01, epsilon=1e-8), np.zeros(3), gradients)
    # Keras takes its constants in float32.
    assert np.allclose(θ.numpy(), adam.numpy(), rtol=1e-3) == (γ < 1)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 1e-6)])
def test_bounds_keep_their_digits(dtype, rtol):
    for t in (1, 3, 1000, 10**7):
        low, high = bounds(ops.convert_to_tensor(t, dtype), 0.1, 1e-6)
        assert float(low) == pytest.approx(0.1 * 1e-6 * t / (1e-6 * t + 1), rel=rtol)
        assert float(high) == pytest.approx(0.1 * (1e-6 * t + 1) / (1e-6 * t), rel=rtol)


def test_bounds_follow_the_learning_rate():
    rng = np.random.default_rng(4)
    gradients, rates = rng.normal(size=(30, 3)), 0.01 * 0.9 ** np.arange(30)
    θ = train(AdaBound(0.01, gamma=1.0), np.ones(3), gradients, rates=rates)
    expected = references.adabound(np.ones(3), gradients, rates, gamma=1.0)
    np.testing.assert_allclose(θ.numpy(), expected, rtol=1e-12)


def test_base_learning_rate_is_remembered():
    optimizer = AdaBound(0.5)
    optimizer.learning_rate = 0.25
    again = AdaBound.from_config(optimizer.get_config())
    assert (again.base_learning_rate, float(again.learning_rate)) == (0.5, 0.25)


def test_base_learning_rate_of_schedules_and_functions():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.5, 0.25])
    assert AdaBound(schedule).base_learning_rate == 0.5
    assert AdaBound(lambda: 0.125).base_learning_rate == 0.125
    assert AdaBound(schedule, base_learning_rate=2).base_learning_rate == 2.0
    assert AdaBound().base_learning_rate == 0.001


def test_rule_is_a_pure_function_of_arrays():
    g = np.array([3.0, -4.0])
    grad, zero, one = tensors(g, np.zeros(2), 1.0)
    θ, m, v = adabound(grad, zero, zero, zero, 0.5, one, 0.5, 0.5, 1e-12, 2.0, 1.0)
    # η̂ = 0.5/(0.5·|g|) lies below η_l = 1.
    np.testing.assert_allclose(np.array(θ), -g / 2)
    np.testing.assert_allclose(np.array(m), g / 2)
    np.testing.assert_allclose(np.array(v), g**2 / 2)


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("beta_1", 1.0, "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_1", True, "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_2", -0.1, "in [0, 1)", "Typical values are 0.99 to 0.9999."),
        ("final_lr", 0.0, "positive", "Typical values are 1e-2 to 1."),
        ("final_lr", "0.1", "positive", "Typical values are 1e-2 to 1."),
        ("gamma", float("nan"), "positive", "Typical values are 1e-4 to 1e-2."),
        ("epsilon", 0, "positive", "Typical values are 1e-8 to 1e-4."),
        ("amsbound", 1, "a bool", "Pass True or False."),
        (
            "base_learning_rate",
            0.0,
            "positive",
            "Pass the learning rate that `final_lr` belongs to.",
        ),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        AdaBound(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


@pytest.mark.parametrize(
    "rate", [0.0, keras.optimizers.schedules.PolynomialDecay(0.0, 10, 0.1)], ids=["0", "warm-up"]
)
def test_rates_that_start_at_zero_need_a_base(rate):
    with pytest.raises(ValueError, match="`base_learning_rate` must be positive. Received: b"):
        AdaBound(rate)
    assert AdaBound(rate, base_learning_rate=0.1).base_learning_rate == 0.1


def test_config_round_trip():
    optimizer = AdaBound(0.1, 0.8, 0.9, 0.2, 0.01, 1e-3, True, 0.3, clipnorm=1.0, name="mine")
    again = AdaBound.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    expected = {"final_lr": 0.2, "gamma": 0.01, "amsbound": True, "base_learning_rate": 0.3}
    assert expected.items() <= again.get_config().items()
