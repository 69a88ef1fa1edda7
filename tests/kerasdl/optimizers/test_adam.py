"""What is Adam's own, beside its formula."""

import numpy as np
import pytest
from keras import ops

import references
from kerasdl.optimizers import Adam
from kerasdl.optimizers.adam import adam, one_minus_power
from references import slots, tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-14), ("float32", 1e-6)])
def test_first_steps_are_exact(dtype, rtol):
    """From θ = 0 nothing hides the relative error of a single step."""
    gradients = [np.array([1e-6, 0.3, -40.0]), np.array([2e-6, -0.1, 7.0])]
    for n in (1, 2):
        θ = train(Adam(1e-3), np.zeros(3), gradients[:n], dtype)
        expected = references.adam(np.zeros(3), gradients[:n], 1e-3)
        np.testing.assert_allclose(θ.numpy(), expected, rtol=rtol * 10)


@pytest.mark.parametrize("β", [0.0, 0.5, 0.9, 0.999, 0.999999])
def test_bias_correction_keeps_its_digits_in_float32(β):
    for t in (1, 2, 10, 1000):
        exact = float(1 - np.longdouble(β) ** t)
        got = float(one_minus_power(β, ops.convert_to_tensor(t, "float32")))
        assert got == pytest.approx(exact, rel=3e-7)


def test_rule_is_a_pure_function_of_arrays():
    g = np.array([3.0, -4.0])
    grad, zero, one = tensors(g, np.zeros(2), 1.0)
    θ, m, v = adam(grad, zero, zero, zero, 0.1, one, 0.5, 0.5, 1e-12)
    np.testing.assert_allclose(np.array(θ), [-0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(np.array(m), g / 2)
    np.testing.assert_allclose(np.array(v), g**2 / 2)


def test_amsgrad_never_shrinks_the_denominator():
    optimizer = Adam(0.1, amsgrad=True, beta_2=0.5)
    train(optimizer, np.zeros(1), [[10.0], [0.0], [0.0]], "float64")
    (v_max,) = slots(optimizer, "v_max")
    assert float(v_max.numpy()[0]) == pytest.approx(100.0, rel=1e-15)


@pytest.mark.parametrize("argument", ["beta_1", "beta_2"])
def test_rejected_betas(argument):
    for value in (1.0, -0.1, float("nan"), "0.9", None, True):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            Adam(**{argument: value})
        text = f"`{argument}` must be in [0, 1). Received: {argument}={value!r}. Typical"
        assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("epsilon", 0.0, "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", float("inf"), "positive", "Typical values are 1e-8 to 1e-4."),
        ("amsgrad", 1, "a bool", "Pass True or False."),
        ("epsilon_position", "hat", '"outside" or "inside"', 'The paper has "outside".'),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Adam(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = Adam(0.1, 0.8, 0.9, 1e-3, amsgrad=True, epsilon_position="inside", name="mine")
    again = Adam.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
