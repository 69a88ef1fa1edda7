"""What is SGD's own, beside its formula."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdl.optimizers import SGD
from kerasdl.optimizers.sgd import gradient_descent, momentum_descent, nesterov_descent

pytestmark = pytest.mark.usefixtures("has_float64")

SHAPES = [(), (2, 3, 1, 2)]


def test_rules_are_pure_functions():
    g, θ, v = np.array([2.0]), np.array([1.0]), np.array([0.5])
    assert gradient_descent(g, θ, 0.25) == 0.5
    assert momentum_descent(g, θ, v, 0.25, 0.5) == (0.75, -0.25)
    assert nesterov_descent(g, θ, v, 0.25, 0.5) == (0.375, -0.25)


def test_the_interim_point_is_a_momentum_step_ahead():
    """θ = θ̃ − βv follows the form with the gradient at the interim point (N2)."""
    rng = np.random.default_rng(0)
    H, θ, v = np.diag([1.0, 4.0]), rng.normal(size=2), np.zeros(2)
    interim = keras.Variable(θ, dtype="float64")
    optimizer = SGD(0.1, momentum=0.9, nesterov=True)
    for _ in range(20):
        v = 0.9 * v - 0.1 * H @ (θ + 0.9 * v)
        θ = θ + v
        optimizer.apply([ops.convert_to_tensor(H @ interim.numpy())], [interim])
    np.testing.assert_allclose(interim.numpy(), θ + 0.9 * v, rtol=1e-12)


RANGE = "in [0, 1)", "Typical values are 0.5 to 0.99."


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("momentum", 1.0, *RANGE),
        ("momentum", -0.1, *RANGE),
        ("momentum", float("nan"), *RANGE),
        ("nesterov", True, "False without momentum", "Pass momentum=0.9 with it."),
        ("nesterov", 1, "a bool", "Pass True or False."),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        SGD(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = SGD(0.1, momentum=0.9, nesterov=True, clipnorm=1.0, name="mine")
    again = SGD.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
