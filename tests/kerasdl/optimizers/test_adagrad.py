"""What is Adagrad's own, beside its formula."""

import keras
import numpy as np
import pytest

import references
from kerasdl.optimizers.adagrad import Adagrad, adagrad
from references import slots, tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

OPTIONS = references.OPTIONS["Adagrad"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
def test_first_steps_are_exact(options, dtype, rtol):
    """From θ = 0 nothing hides the relative error of a single step."""
    gradients = [np.array([1e-6, 0.3, -40.0]), np.array([2e-6, 0.2, -7.0])]
    for n in (1, 2):
        θ = train(Adagrad(1e-3, **options), np.zeros(3), gradients[:n], dtype)
        expected = references.adagrad(np.zeros(3), gradients[:n], 1e-3, **options)
        np.testing.assert_allclose(θ.numpy(), expected, rtol=rtol)


def test_rule_is_a_pure_function_of_arrays():
    θ, r = adagrad(*tensors([3.0, -8.0], np.ones(2), [16.0, 36.0]), 0.1, 1e-12)
    np.testing.assert_allclose(np.array(θ), [0.94, 1.08], rtol=1e-10)
    assert np.array(r).tolist() == [25.0, 100.0]


def test_hand_computed_steps():
    """N2's algorithm by hand: r = 9, then 25; θ = 1 − 3/3, then − 4/5."""
    θ = train(Adagrad(1.0, epsilon=1e-14), np.ones(1), [[3.0], [4.0]])
    assert float(θ.numpy()[0]) == pytest.approx(-0.8, rel=1e-12)


def test_start_of_the_sum_survives_a_build_inside_fit():
    model = make_model(jit_compile=False)
    model.fit(np.zeros((2, 3)), np.zeros((2, 1)), verbose=0)
    for r in slots(model.optimizer, "r"):
        np.testing.assert_array_equal(r.numpy(), np.full(r.shape, 2.0, "float32"))


def test_zero_gradients_change_nothing():
    θ = train(Adagrad(1.0), np.ones(2), np.zeros((3, 2)))
    assert θ.numpy().tolist() == [1.0, 1.0]


def test_keras_own_takes_the_same_steps():
    """With its start of r and its place of ε; in float64 the two only round differently."""
    rng = np.random.default_rng(4)
    start, gradients = rng.normal(size=5), rng.normal(size=(50, 5))
    ours = train(Adagrad(2.0**-6, 0.125, 1e-2, "inside"), start, gradients)
    keras_own = train(
        keras.optimizers.Adagrad(2.0**-6, initial_accumulator_value=0.125, epsilon=1e-2),
        start,
        gradients,
    )
    np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=1e-14)


X = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")


def make_model(**arguments):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(Adagrad(0.02, **OPTIONS[-1]), loss="mse", **arguments)
    return model


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("initial_accumulator_value", -0.1, "non-negative", "The paper has 0, Keras 0.1."),
        ("initial_accumulator_value", float("nan"), "non-negative", "The paper has 0, Keras 0.1."),
        ("initial_accumulator_value", None, "non-negative", "The paper has 0, Keras 0.1."),
        ("epsilon", 0.0, "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", -1e-8, "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", float("inf"), "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", None, "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon_position", "hat", '"outside" or "inside"', 'N2 has "outside", N3 "inside".'),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Adagrad(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = Adagrad(0.5, 0.25, 1e-3, "inside", name="mine")
    config = optimizer.get_config()
    assert Adagrad.from_config(config).get_config() == config
    assert [
        config[name] for name in ("initial_accumulator_value", "epsilon", "epsilon_position")
    ] == [0.25, 1e-3, "inside"]
