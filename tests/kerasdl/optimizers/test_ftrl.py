"""Ftrl against Keras' and TensorFlow's."""

import keras
import numpy as np
import pytest

from kerasdl.optimizers.ftrl import Ftrl, ftrl
from references import tensors, train

pytestmark = pytest.mark.usefixtures("has_float64")

NAMES = {
    "p": "learning_rate_power",
    "n0": "initial_accumulator_value",
    "λ1": "l1_regularization_strength",
    "λ2": "l2_regularization_strength",
    "λs": "l2_shrinkage_regularization_strength",
    "β": "beta",
}
OPTIONS = [
    {},
    {"λ1": 0.5, "n0": 1.0},
    {"λ2": 0.3, "λs": 0.1},
    {"p": 0.0, "λ1": 0.1},
    {"p": -0.8, "β": 1.0, "n0": 0.0},
    {"p": -0.3, "λ1": 0.2, "λ2": 0.1, "λs": 0.05, "β": 0.5},
]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def make(η, options, cls=Ftrl, **kwargs):
    return cls(η, **{NAMES[name]: value for name, value in options.items()}, **kwargs)


@options
@pytest.mark.tensorflow
def test_equal_to_keras(options):
    """Keras rounds the start of the accumulator to float32, hence 1/8; elsewhere the roots too."""
    options = {"n0": 0.125, **options}
    rng = np.random.default_rng(4)
    start, gradients = rng.normal(size=8), rng.normal(size=(40, 8))
    ours = train(make(0.25, options), start, gradients)
    theirs = train(make(0.25, options, keras.optimizers.Ftrl), start, gradients)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12, atol=1e-13)


@options
@pytest.mark.tensorflow
def test_equal_to_the_kernel_of_tensorflow(options):
    """The kernel adds β to the root only where the caller does it: λ₂ + β/(2η)."""
    import tensorflow as tf

    rng = np.random.default_rng(5)
    start, gradients = rng.normal(size=8), rng.normal(size=(40, 8))
    values = {"p": -0.5, "n0": 0.1, "λ1": 0.0, "λ2": 0.0, "λs": 0.0, "β": 0.0, **options}
    l2 = values["λ2"] + values["β"] / (2 * 0.2)
    constants = {"lr": 0.2, "l1": values["λ1"], "l2": l2}
    constants |= {"l2_shrinkage": values["λs"], "lr_power": values["p"]}
    variable, n, z = (tf.Variable(x) for x in (start, np.full(8, values["n0"]), np.zeros(8)))
    for g in gradients:
        tf.raw_ops.ResourceApplyFtrlV2(
            var=variable.handle,
            accum=n.handle,
            linear=z.handle,
            grad=g,
            **{name: tf.constant(value, "float64") for name, value in constants.items()},
        )
    θ = train(make(0.2, options), start, gradients)
    np.testing.assert_allclose(θ.numpy(), variable.numpy(), rtol=1e-12, atol=1e-13)


def test_weights_with_a_small_z_are_exactly_zero():
    gradients = np.random.default_rng(6).uniform(-0.02, 0.02, size=(20, 50))
    gradients[:, :10] = 1.0
    θ = train(make(0.1, {"λ1": 0.5}), np.zeros(50), gradients).numpy()
    assert (θ[10:] == 0).all()
    assert (θ[:10] < 0).all()


def test_rule_is_a_pure_function_of_arrays():
    g, zero = tensors([2.0, 0.5], np.zeros(2))
    θ, n, z = ftrl(g, zero, zero, zero, 0.5, 12.0, -0.5, 0.0, 1.0, 0.0, 0.0)
    assert (np.array(θ) + 0.0).tolist() == [-0.125, 0.0]
    assert (np.array(n).tolist(), np.array(z).tolist()) == ([4.0, 0.25], [2.0, 0.5])


def test_the_start_of_the_accumulator_survives_a_first_fit():
    """`fit` makes the slots while it traces, where an assigned start would be lost."""
    options = {"n0": 4.0, "λ1": 0.01}
    fitted = model_with(make(0.5, options), jit_compile=False)
    built = model_with(make(0.5, options), jit_compile=False)
    built.optimizer.build(built.trainable_variables)
    for model in (fitted, built):
        model.fit(epochs=1, **FIT)
    for a, b in zip(fitted.get_weights(), built.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def model_with(optimizer, **compile_arguments):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse", **compile_arguments)
    return model


X = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")
FIT = {"x": X, "y": X[:, :1] - X[:, 1:2], "batch_size": 8, "shuffle": False, "verbose": 0}


STRENGTH = "non-negative", "Typical values are 1e-5 to 1e-2; pass 0.0 for none."


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("l1_regularization_strength", -0.1, *STRENGTH),
        ("l2_regularization_strength", float("nan"), *STRENGTH),
        ("l2_shrinkage_regularization_strength", None, *STRENGTH),
        ("beta", -1.0, "non-negative", "The paper has 1.0, Keras 0.0."),
        (
            "learning_rate_power",
            0.5,
            "zero or negative",
            "The paper has -0.5; pass 0.0 for constant rates.",
        ),
        ("initial_accumulator_value", -0.1, "non-negative", "Typical values are 1e-2 to 1."),
        (
            "initial_accumulator_value",
            0.0,
            "positive without `beta` and `l2_regularization_strength`",
            "Weights without a gradient would be 0/0; pass beta=1.0 with it.",
        ),
        ("learning_rate", 0.0, "positive", "The rule divides by it."),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Ftrl(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


@pytest.mark.parametrize("option", ["beta", "l2_regularization_strength"])
def test_a_start_at_zero_needs_another_bound(option):
    θ = train(Ftrl(0.5, initial_accumulator_value=0.0, **{option: 1.0}), [1.0], [[0.0]])
    assert θ.numpy().tolist() == [0.0]


def test_config_round_trip():
    optimizer = Ftrl(0.1, -0.4, 0.2, 0.3, 0.4, 0.5, 0.6, clipnorm=1.0, name="mine")
    again = Ftrl.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert [again.get_config()[name] for name in NAMES.values()] == [-0.4, 0.2, 0.3, 0.4, 0.5, 0.6]
