"""GradientControlledSGD against N3's numbers."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdl.optimizers.gradient_controlled_sgd import (
    GradientControlledSGD,
    compounding_descent,
    control_factor,
    controlled_descent,
)
from references import slots, tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

FORMS = [("norm", False), ("norm", True), ("elementwise", False), ("elementwise", True)]
forms = pytest.mark.parametrize(("form", "compounding"), FORMS)


def make(form, compounding, **kwargs):
    return GradientControlledSGD(0.1, c=0.02, form=form, compounding=compounding, **kwargs)


A4, A3, A2, A1 = 319 / 8400, 43 / 4200, -6799 / 8400, -299 / 840


def slope(x):
    return 4 * A4 * x**3 + 3 * A3 * x**2 + 2 * A2 * x + A1


@pytest.mark.parametrize("form", ["norm", "elementwise"])
@pytest.mark.parametrize(("start", "end"), [(5.0, 4.669981058141692), (-5.0, -4.682201319000516)])
def test_numbers_of_the_notes(form, start, end):
    x = keras.Variable(start, dtype="float64")
    optimizer = GradientControlledSGD(0.1, c=0.99, form=form, compounding=True)
    for _ in range(100):
        optimizer.apply([ops.convert_to_tensor(slope(float(x.numpy())), "float64")], [x])
    assert float(x.numpy()) == end


def test_without_compounding_the_minimum_is_reached():
    x = keras.Variable(5.0, dtype="float64")
    optimizer = GradientControlledSGD(0.1, c=0.99)
    for _ in range(200):
        optimizer.apply([ops.convert_to_tensor(slope(float(x.numpy())), "float64")], [x])
    assert float(x.numpy()) == pytest.approx(3.2727653395, rel=1e-9)


def test_the_learning_rate_may_change_while_factors_compound():
    optimizer = GradientControlledSGD(0.5, c=1.0, compounding=True)
    θ = train(optimizer, [0.0], [[1.0]])
    optimizer.learning_rate = 4.0
    optimizer.apply([ops.array([1.0], "float64")], [θ])
    assert θ.numpy().tolist() == [-0.5 / 2 - 4.0 / 4]


@pytest.mark.parametrize("compounding", [False, True])
def test_extreme_gradients(compounding):
    """No square overflows, and no factor that has vanished turns into NaN or returns."""
    gradients = [[1e30, -1e30]] * 3 + [[0.0, 0.0]] + [[1e-30, 0.0]]
    optimizer = GradientControlledSGD(1e-20, c=1e10, compounding=compounding)
    θ = train(optimizer, [1.0, 1.0], gradients, "float32").numpy()
    assert np.isfinite(θ).all()
    np.testing.assert_allclose(θ, 1.0, rtol=1e-6)


def test_rules_are_pure_functions():
    g, θ, a = tensors([4.0], [1.0], [0.5])
    assert np.array(control_factor(g, 0.5)).tolist() == [0.5]
    assert np.array(controlled_descent(g, θ, 0.25, g, 0.5)).tolist() == [0.5]
    new, a = compounding_descent(g, θ, a, 0.25, g, 0.5)
    assert (np.array(new).tolist(), np.array(a).tolist()) == ([0.75], [0.25])


def test_only_the_slot_of_the_factor_starts_at_one():
    optimizer = make("norm", True, use_ema=True, gradient_accumulation_steps=2)
    optimizer.build([keras.Variable([3.0, 4.0])])
    for name, start in (("a", 1.0), ("average", 0.0), ("accumulator", 0.0)):
        (slot,) = slots(optimizer, name)
        assert slot.numpy().tolist() == [start, start]


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("c", -0.1, "non-negative", "Typical values are 1e-3 to 1."),
        ("c", float("inf"), "non-negative", "Typical values are 1e-3 to 1."),
        ("c", True, "non-negative", "Typical values are 1e-3 to 1."),
        ("form", "l2", '"norm" or "elementwise"', 'Pass "norm" for one rate per variable.'),
        ("compounding", 1, "a bool", "Pass True or False."),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        GradientControlledSGD(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = GradientControlledSGD(0.1, 0.2, "elementwise", True, clipnorm=1.0, name="mine")
    again = GradientControlledSGD.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    expected = {"c": 0.2, "form": "elementwise", "compounding": True}
    assert expected.items() <= again.get_config().items()
