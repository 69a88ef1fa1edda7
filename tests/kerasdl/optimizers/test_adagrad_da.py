"""AdagradDA against TensorFlow's optimizer and kernel."""

import numpy as np
import pytest

from kerasdl.optimizers.adagrad_da import AdagradDA, dual_averaging
from references import tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

PENALTIES = [(0.0, 0.0), (0.05, 0.0), (0.0, 0.2), (0.02, 0.4)]
penalties = pytest.mark.parametrize(("λ1", "λ2"), PENALTIES)


def make(η, λ1, λ2, start=0.1, **kwargs):
    return AdagradDA(
        η, start, l1_regularization_strength=λ1, l2_regularization_strength=λ2, **kwargs
    )


@penalties
@pytest.mark.tensorflow
def test_equal_to_the_kernel_of_tensorflow(λ1, λ2):
    import tensorflow as tf

    rng = np.random.default_rng(5)
    start, gradients = rng.normal(size=8), rng.normal(size=(40, 8))
    variable, total, squares = (tf.Variable(x) for x in (start, np.zeros(8), np.full(8, 0.1)))
    η, l1, l2 = (tf.constant(x, "float64") for x in (0.2, λ1, λ2))
    for t, g in enumerate(gradients, start=1):
        tf.raw_ops.ResourceApplyAdagradDA(
            var=variable.handle,
            gradient_accumulator=total.handle,
            gradient_squared_accumulator=squares.handle,
            grad=g,
            lr=η,
            l1=l1,
            l2=l2,
            global_step=tf.constant(t, "int64"),
        )
    θ = train(make(0.2, λ1, λ2), start, gradients)
    np.testing.assert_allclose(θ.numpy(), variable.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.tensorflow
def test_counts_steps_as_the_optimizer_of_tensorflow_does():
    """Its `global_step` is 0 before the first update, which is number 1."""
    import tensorflow as tf

    gradients = np.random.default_rng(6).normal(size=(5, 8))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.compat.v1.get_variable("weights", initializer=np.ones(8))
        g = tf.compat.v1.placeholder("float64", 8)
        step = tf.compat.v1.train.create_global_step()
        theirs = tf.compat.v1.train.AdagradDAOptimizer(
            0.2, step, l1_regularization_strength=0.1, l2_regularization_strength=0.3
        )
        update = theirs.apply_gradients([(g, variable)], global_step=step)
        session.run(tf.compat.v1.global_variables_initializer())
        for value in gradients:
            session.run(update, {g: value})
        expected = session.run(variable)
    θ = train(make(0.2, 0.1, 0.3), np.ones(8), gradients)
    # They hold the rate and the strengths in float32.
    np.testing.assert_allclose(θ.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_weights_with_a_small_average_gradient_are_exactly_zero():
    gradients = np.tile(np.linspace(-1, 1, 21), (20, 1))
    θ = train(make(0.1, 0.45, 0.0), np.ones(21), gradients).numpy()
    assert ((θ == 0) == (np.abs(gradients[0]) < 0.45)).all()
    assert (np.sign(θ) == -np.sign(gradients[0]) * (θ != 0)).all()


def test_the_update_minimizes_its_objective():
    rng = np.random.default_rng(7)
    g, z, r, η, t, λ1, λ2 = *rng.normal(size=(2, 9)), rng.uniform(size=9), 0.5, 7.0, 0.1, 0.3
    best, z, r = map(np.array, dual_averaging(*tensors(g, z, r), η, t, 0.2, λ1, λ2))

    def objective(x):
        return z * x + t * (λ1 * np.abs(x) + λ2 / 2 * x**2) + np.sqrt(0.2 + r) * x**2 / (2 * η)

    for δ in (-0.1, -1e-3, 1e-3, 0.1):
        assert (objective(best) < objective(best + δ)).all()


def test_rule_is_a_pure_function_of_arrays():
    g, zero = tensors([2.0, 0.0], np.zeros(2))
    θ, z, r = dual_averaging(g, zero, zero, 0.5, 1.0, 12.0, 0.0, 8.0)
    assert (np.array(θ) + 0.0).tolist() == [-0.125, 0.0]
    assert (np.array(z).tolist(), np.array(r).tolist()) == ([2.0, 0.0], [4.0, 0.0])


STRENGTH = "non-negative", "Typical values are 1e-5 to 1e-2; pass 0.0 for none."
START = "positive", "Typical values are 1e-2 to 1."


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("initial_gradient_squared_accumulator_value", 0.0, *START),
        ("initial_gradient_squared_accumulator_value", True, *START),
        ("l1_regularization_strength", -0.1, *STRENGTH),
        ("l2_regularization_strength", float("nan"), *STRENGTH),
        (
            "weight_decay",
            0.1,
            "None",
            "Pass l2_regularization_strength: the rule does not read the old weights.",
        ),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        AdagradDA(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = AdagradDA(0.1, 0.2, 0.3, 0.4, clipnorm=1.0, name="mine")
    again = AdagradDA.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert again.initial_gradient_squared_accumulator_value == 0.2
    assert (again.l1_regularization_strength, again.l2_regularization_strength) == (0.3, 0.4)
