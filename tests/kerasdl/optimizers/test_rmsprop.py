"""What is RMSprop's own, beside its formula."""

import keras
import numpy as np
import pytest
from keras import ops

import references
from kerasdl.optimizers.rmsprop import RMSprop, rms_normalized, std_normalized
from references import tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

OPTIONS = references.OPTIONS["RMSprop"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
def test_first_steps_are_exact(options, dtype, rtol):
    """From θ = 0 nothing hides the relative error of a single step."""
    gradients = [np.array([1e-6, 0.3, -40.0]), np.array([2e-6, 0.2, -7.0])]
    for n in (1, 2):
        θ = train(RMSprop(1e-3, **options), np.zeros(3), gradients[:n], dtype)
        expected = references.rmsprop(np.zeros(3), gradients[:n], 1e-3, **options)
        np.testing.assert_allclose(θ.numpy(), expected, rtol=rtol)


def test_rules_are_pure_functions_of_arrays():
    g, one, old, variance = tensors([3.0], [1.0], [23.0], [17.0])
    δ, s = rms_normalized(g, old, 0.5, 9.0)
    assert (float(δ[0]), float(s[0])) == (0.6, 16.0)
    δ, s = rms_normalized(g, old, 0.5, 1.0, inside=False)
    assert (float(δ[0]), float(s[0])) == (0.6, 16.0)
    δ, variance, mean = std_normalized(g, variance, one, 0.5, 0.75)
    assert (float(variance[0]), float(mean[0])) == (9.5, 2.0)
    assert float(δ[0]) == pytest.approx(3 / np.sqrt(10.25), rel=1e-15)


@pytest.mark.parametrize(("place", "first"), [("inside", 0.6), ("outside", 0.375)])
def test_hand_computed_steps(place, first):
    """s = 9, ε = 16: 3/√(9 + 16) inside the root, 3/(3 + 5) outside with ε = 5."""
    ε = 16.0 if place == "inside" else 5.0
    θ = train(RMSprop(1.0, 0.0, epsilon=ε, epsilon_position=place), np.ones(1), [[3.0]])
    assert float(θ.numpy()[0]) == pytest.approx(1 - first, rel=1e-15)


def test_the_interim_point_is_a_momentum_step_ahead():
    """θ = θ̃ − αv follows N2's form, which takes the gradient at θ + αv."""
    rng = np.random.default_rng(0)
    H, θ, v, s = np.diag([1.0, 4.0]), rng.normal(size=2), np.zeros(2), np.zeros(2)
    interim = keras.Variable(θ, dtype="float64")
    optimizer = RMSprop(0.1, 0.8, momentum=0.9, nesterov=True)
    for _ in range(20):
        g = H @ (θ + 0.9 * v)
        s = 0.8 * s + 0.2 * g**2
        v = 0.9 * v - 0.1 / np.sqrt(s + 1e-7) * g
        θ = θ + v
        optimizer.apply([ops.convert_to_tensor(H @ interim.numpy())], [interim])
    np.testing.assert_allclose(interim.numpy(), θ + 0.9 * v, rtol=1e-11)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_centering_keeps_its_digits_where_gradients_hardly_vary(dtype, rtol):
    """g = 1000 for ever: s − ḡ² = ρᵗ(1 − ρᵗ)g², although s and ḡ² agree in all digits."""
    optimizer = RMSprop(1e-3, 0.5, centered=True, epsilon=1e-4)
    θ = train(optimizer, np.zeros(1), np.full((40, 1), 1000.0), dtype)
    powers = 0.5 ** np.arange(1, 41)
    expected = -np.sum(1e-3 * 1000 / np.sqrt(powers * (1 - powers) * 1e6 + 1e-4))
    np.testing.assert_allclose(θ.numpy(), expected, rtol=rtol)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.75}, {"centered": True}], ids=str)
def test_keras_own_takes_the_same_steps(options):
    """In float64 the two only round differently; Keras has no nesterov."""
    rng = np.random.default_rng(4)
    start, gradients = rng.normal(size=5), rng.normal(size=(50, 5))
    ours = train(RMSprop(2.0**-6, epsilon=1e-3, **options), start, gradients)
    keras_own = train(keras.optimizers.RMSprop(2.0**-6, epsilon=1e-3, **options), start, gradients)
    np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=1e-14)


PLACES = '"inside" or "outside"', 'N0 has "outside", the other notes "inside".'


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("rho", 1.0, "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", -0.1, "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", float("nan"), "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", "0.9", "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", True, "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("rho", None, "in [0, 1)", "Typical values are 0.9 to 0.99."),
        ("momentum", 1.0, "in [0, 1)", "Typical values are 0.5 to 0.99."),
        ("momentum", -0.1, "in [0, 1)", "Typical values are 0.5 to 0.99."),
        ("momentum", float("nan"), "in [0, 1)", "Typical values are 0.5 to 0.99."),
        ("momentum", "0.9", "in [0, 1)", "Typical values are 0.5 to 0.99."),
        ("momentum", True, "in [0, 1)", "Typical values are 0.5 to 0.99."),
        ("momentum", None, "in [0, 1)", "Typical values are 0.5 to 0.99."),
        ("epsilon", 0.0, "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", -1e-8, "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", float("inf"), "positive", "Typical values are 1e-8 to 1e-4."),
        ("epsilon", None, "positive", "Typical values are 1e-8 to 1e-4."),
        ("centered", 1, "a bool", "Pass True or False."),
        ("nesterov", None, "a bool", "Pass True or False."),
        ("nesterov", True, "False without momentum", "Pass momentum=0.9 with it."),
        ("epsilon_position", "hat", *PLACES),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        RMSprop(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = RMSprop(
        0.5, 0.8, 0.7, 1e-3, centered=True, nesterov=True, epsilon_position="outside", name="mine"
    )
    config = optimizer.get_config()
    assert RMSprop.from_config(config).get_config() == config
    assert [config[name] for name in ("rho", "momentum", "epsilon", "centered", "nesterov")] == [
        0.8,
        0.7,
        1e-3,
        True,
        True,
    ]
