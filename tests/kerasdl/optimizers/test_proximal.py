"""ProximalSGD and ProximalAdagrad against TensorFlow's kernels."""

import numpy as np
import pytest

from kerasdl.optimizers.proximal_adagrad import ProximalAdagrad, proximal_adagrad
from kerasdl.optimizers.proximal_sgd import ProximalSGD, proximal_step, soft_threshold
from references import tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

CLASSES = [ProximalSGD, ProximalAdagrad]
classes = pytest.mark.parametrize("cls", CLASSES)
PENALTIES = [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.1, 0.4)]
penalties = pytest.mark.parametrize(("λ1", "λ2"), PENALTIES)


def make(cls, η, λ1, λ2, **kwargs):
    return cls(η, l1_regularization_strength=λ1, l2_regularization_strength=λ2, **kwargs)


@classes
@penalties
@pytest.mark.tensorflow
def test_equal_to_the_kernel_of_tensorflow(cls, λ1, λ2):
    """The kernel takes 1/√ in one operation, hence 1e-12."""
    import tensorflow as tf

    rng = np.random.default_rng(5)
    start, gradients = rng.normal(size=8), rng.normal(size=(40, 8))
    variable, accumulator = tf.Variable(start), tf.Variable(np.full(8, 0.1))
    η, l1, l2 = (tf.constant(x, "float64") for x in (0.2, λ1, λ2))
    for g in gradients:
        if cls is ProximalSGD:
            tf.raw_ops.ResourceApplyProximalGradientDescent(
                var=variable.handle, alpha=η, l1=l1, l2=l2, delta=g
            )
        else:
            tf.raw_ops.ResourceApplyProximalAdagrad(
                var=variable.handle, accum=accumulator.handle, lr=η, l1=l1, l2=l2, grad=g
            )
    θ = train(make(cls, 0.2, λ1, λ2), start, gradients)
    np.testing.assert_allclose(θ.numpy(), variable.numpy(), rtol=1e-12, atol=1e-14)


@classes
def test_small_weights_become_exactly_zero(cls):
    """The gradients stay within ±λ₁, so every weight ends at zero, and not around it."""
    gradients = np.random.default_rng(6).uniform(-0.2, 0.2, size=(100, 50))
    θ = train(make(cls, 0.1, 1.0, 0.0), np.linspace(-0.5, 0.5, 50), gradients).numpy()
    assert (θ == 0).all()
    plain = train(make(cls, 0.1, 0.0, 0.0), np.linspace(-0.5, 0.5, 50), gradients).numpy()
    assert (plain != 0).all()


def test_the_step_minimizes_its_objective():
    rng = np.random.default_rng(7)
    g, θ, η, λ1, λ2 = rng.normal(size=9), rng.normal(size=9), 0.5, 0.4, 0.3
    u = θ - η * g

    def objective(x):
        return λ1 * np.abs(x) + λ2 / 2 * x**2 + (x - u) ** 2 / (2 * η)

    best = np.array(proximal_step(*tensors(g, θ), η, λ1, λ2))
    for δ in (-0.1, -1e-3, 1e-3, 0.1):
        assert (objective(best) < objective(best + δ)).all()


def test_rules_are_pure_functions():
    g, θ, zero, x = tensors([2.0, 0.0], [1.0, 0.25], np.zeros(2), [-3.0, 0.5, 2.0])
    assert np.array(soft_threshold(x, 1.0)).tolist() == [-2.0, 0.0, 1.0]
    assert np.array(proximal_step(g, θ, 0.25, 1.0, 4.0)).tolist() == [0.125, 0.0]
    new, r = proximal_adagrad(g, θ, zero, 1.0, 12.0, 0.0, 0.0)
    assert np.array(new).tolist() == [0.5, 0.25]
    assert np.array(r).tolist() == [4.0, 0.0]


STRENGTH = "non-negative", "Typical values are 1e-5 to 1e-2; pass 0.0 for none."
START = "positive", "Typical values are 1e-2 to 1."


@pytest.mark.parametrize(
    ("cls", "argument", "value", "allowed", "advice"),
    [
        (ProximalSGD, "l1_regularization_strength", -0.1, *STRENGTH),
        (ProximalSGD, "l2_regularization_strength", float("inf"), *STRENGTH),
        (ProximalAdagrad, "l1_regularization_strength", None, *STRENGTH),
        (ProximalAdagrad, "l2_regularization_strength", True, *STRENGTH),
        (ProximalAdagrad, "initial_accumulator_value", 0.0, *START),
        (ProximalAdagrad, "initial_accumulator_value", "0.1", *START),
    ],
)
def test_rejected_arguments(cls, argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        cls(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


@pytest.mark.parametrize(
    "optimizer",
    [ProximalSGD(0.1, 0.2, 0.3, name="mine"), ProximalAdagrad(0.1, 0.2, 0.3, 0.4, clipnorm=1.0)],
)
def test_config_round_trip(optimizer):
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    arguments = [v for k, v in again.get_config().items() if k.startswith(("initial_", "l1", "l2"))]
    assert arguments == [0.2, 0.3, 0.4][: len(arguments)]
