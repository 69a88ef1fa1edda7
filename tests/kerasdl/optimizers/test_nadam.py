"""What is Nadam's own, beside its formula."""

import keras
import numpy as np
import pytest
from keras import ops

import references
from kerasdl.optimizers.nadam import Nadam, nadam, scheduled_momentum
from references import slots, tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

OPTIONS = references.OPTIONS["Nadam"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
def test_first_steps_are_exact(options, dtype, rtol):
    """From θ = 0 nothing hides the relative error of a single step."""
    gradients = [np.array([1e-6, 0.3, -40.0]), np.array([2e-6, 0.2, -7.0])]
    for n in (1, 2):
        θ = train(Nadam(1e-3, **options), np.zeros(3), gradients[:n], dtype)
        expected = references.nadam(np.zeros(3), gradients[:n], 1e-3, **options)
        np.testing.assert_allclose(θ.numpy(), expected, rtol=rtol)


def test_rule_is_a_pure_function_of_arrays():
    """ψ = 0 and β₁ = 0.5 make every μ a quarter: m̂ = m/4/(15/16) + 3g/4/(3/4)."""
    g = np.array([4.0, -8.0])
    grad, zero, one = tensors(g, np.zeros(2), 1.0)
    θ, m, v, product = nadam(grad, zero, zero, zero, one, 0.5, one, 0.5, 0.5, 1e-14, ψ=0.0)
    np.testing.assert_allclose(np.array(θ), [-0.6, 0.6], rtol=1e-12)
    np.testing.assert_allclose(np.array(m), 0.75 * g, rtol=1e-15)
    np.testing.assert_allclose(np.array(v), g**2 / 2, rtol=1e-15)
    assert float(product) == 0.25


def test_momentum_rises_from_about_half_to_all():
    t = ops.convert_to_tensor([1.0, 1e6], "float64")
    μ = ops.convert_to_numpy(scheduled_momentum(t, 0.9, 0.004))
    np.testing.assert_allclose(μ, [0.9 * (1 - 0.5 * 0.96**0.004), 0.9], rtol=1e-14)


@pytest.mark.parametrize("k", [None, 3])
def test_product_advances_once_per_update(k):
    optimizer = Nadam(0.1, gradient_accumulation_steps=k)
    variables = [keras.Variable(np.ones(shape), dtype="float64") for shape in (2, (2, 2))]
    optimizer.build(variables)

    def products():
        return np.concatenate([np.ravel(v.numpy()) for v in slots(optimizer, "mu_product")])

    np.testing.assert_array_equal(products(), [1.0, 1.0])
    for _ in range(2 * (k or 1)):
        optimizer.apply([ops.ones(v.shape, "float64") for v in variables], variables)
    μ = 0.9 * (1 - 0.5 * 0.96 ** (0.004 * np.arange(1, 3)))
    np.testing.assert_allclose(products(), [μ.prod()] * 2, rtol=1e-14)


def test_accumulated_gradients_are_averaged():
    gradients = np.random.default_rng(0).normal(size=(9, 4))
    accumulated = train(Nadam(0.1, gradient_accumulation_steps=3), np.zeros(4), gradients)
    plain = train(Nadam(0.1), np.zeros(4), gradients.reshape(3, 3, 4).mean(axis=1))
    np.testing.assert_allclose(accumulated.numpy(), plain.numpy(), rtol=1e-12)


def test_start_of_the_product_survives_a_build_inside_fit():
    fitted, eager = make_model(jit_compile=False), make_model(run_eagerly=True)
    fitted.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    steps(eager, 0, 8)
    for a, b in zip(fitted.optimizer.variables, eager.optimizer.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)


def test_each_variable_is_listed_once():
    optimizer = Nadam()
    optimizer.build([keras.Variable([1.0]), keras.Variable([[2.0]])])
    optimizer.build([])
    assert len({id(v) for v in optimizer.variables}) == len(optimizer.variables)


def test_keras_own_takes_the_same_steps():
    """With its ψ and its average; Keras rounds 0.96 and β to float32, hence the tolerance."""
    rng = np.random.default_rng(4)
    start, gradients = rng.normal(size=5), rng.normal(size=(50, 5))
    ours = train(
        Nadam(2.0**-6, averaging="constant", schedule_decay=1.0, epsilon=1e-4), start, gradients
    )
    keras_own = train(keras.optimizers.Nadam(2.0**-6, epsilon=1e-4), start, gradients)
    np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=1e-7)


X = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")


def make_model(**arguments):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(
        Nadam(0.02, gradient_accumulation_steps=2, **OPTIONS[-1]), loss="mse", **arguments
    )
    return model


def steps(model, first, last):
    for row in range(4 * first, 4 * last, 4):
        model.train_on_batch(X[row : row + 4], Y[row : row + 4])


AVERAGES = '"scheduled" or "constant"', 'The paper has "scheduled", Keras and PyTorch "constant".'


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("beta_1", 1.0, "in [0, 1)", "Typical values are 0.8 to 0.99."),
        ("beta_1", -0.1, "in [0, 1)", "Typical values are 0.8 to 0.99."),
        ("beta_1", float("nan"), "in [0, 1)", "Typical values are 0.8 to 0.99."),
        ("beta_1", "0.9", "in [0, 1)", "Typical values are 0.8 to 0.99."),
        ("beta_1", True, "in [0, 1)", "Typical values are 0.8 to 0.99."),
        ("beta_1", None, "in [0, 1)", "Typical values are 0.8 to 0.99."),
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
        ("schedule_decay", -0.1, "non-negative", "The paper has 0.004, Keras 1."),
        ("schedule_decay", float("inf"), "non-negative", "The paper has 0.004, Keras 1."),
        ("schedule_decay", None, "non-negative", "The paper has 0.004, Keras 1."),
        ("averaging", "ema", *AVERAGES),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Nadam(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = Nadam(0.5, 0.8, 0.9, 1e-3, 0.01, "constant", name="mine")
    config = optimizer.get_config()
    assert Nadam.from_config(config).get_config() == config
    assert [
        config[name] for name in ("beta_1", "beta_2", "epsilon", "schedule_decay", "averaging")
    ] == [0.8, 0.9, 1e-3, 0.01, "constant"]
