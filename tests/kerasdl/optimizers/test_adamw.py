"""What is AdamW's own, beside its formula."""

import keras
import numpy as np
import pytest
from keras import ops

import references
from kerasdl.optimizers import Adam
from kerasdl.optimizers.adamw import AdamW
from references import train

pytestmark = pytest.mark.usefixtures("has_float64")

OPTIONS = references.OPTIONS["AdamW"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
def test_first_steps_are_exact(options, dtype, rtol):
    """From θ = 0 nothing hides the relative error of a single step."""
    gradients = [np.array([1e-6, 0.3, -40.0]), np.array([2e-6, 0.2, -7.0])]
    for n in (1, 2):
        θ = train(AdamW(1e-3, **options), np.zeros(3), gradients[:n], dtype)
        expected = references.adamw(np.zeros(3), gradients[:n], 1e-3, **options)
        np.testing.assert_allclose(θ.numpy(), expected, rtol=rtol)


def test_decay_is_the_rate_times_weight_decay():
    """Without a gradient only (1 − ηλ)ᵗ is left."""
    θ = train(AdamW(0.5, weight_decay=0.5), np.ones(2), np.zeros((3, 2)))
    np.testing.assert_array_equal(θ.numpy(), [0.75**3] * 2)


def test_decay_can_spare_variables():
    kept, decayed = (keras.Variable([1.0], name=name) for name in ("bias", "kernel"))
    optimizer = AdamW(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([ops.zeros(1), ops.zeros(1)], [kept, decayed])
    assert (float(kept.numpy()[0]), float(decayed.numpy()[0])) == (1.0, 0.75)


def test_it_is_adam_with_the_decay_of_the_base_class():
    gradients = np.random.default_rng(0).normal(size=(20, 3))
    ours = train(AdamW(0.1), np.ones(3), gradients)
    adam = train(Adam(0.1, weight_decay=0.004), np.ones(3), gradients)
    np.testing.assert_array_equal(ours.numpy(), adam.numpy())


def test_arguments_have_the_order_of_keras():
    assert AdamW(0.1, 0.2, 0.3, 0.4, 0.5).weight_decay == 0.2
    assert AdamW(0.1, 0.2, 0.3, 0.4, 0.5).epsilon == 0.5


def test_keras_own_takes_the_same_steps():
    """With ε negligible, which Keras adds elsewhere; it also rounds the βs to float32."""
    rng = np.random.default_rng(4)
    start, gradients = rng.normal(size=5), rng.normal(size=(50, 5))
    ours = train(AdamW(2.0**-6, weight_decay=0.125), start, gradients)
    keras_own = train(
        keras.optimizers.AdamW(2.0**-6, weight_decay=0.125, epsilon=1e-14), start, gradients
    )
    np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=1e-5)


DECAY = "Typical values are 1e-3 to 1e-1; use Adam for none."


@pytest.mark.parametrize(
    ("argument", "value", "allowed", "advice"),
    [
        ("weight_decay", -0.1, "non-negative", DECAY),
        ("weight_decay", float("inf"), "non-negative", DECAY),
        ("weight_decay", None, "non-negative", DECAY),
        ("weight_decay", True, "non-negative", DECAY),
        ("beta_1", 1.0, "in [0, 1)", "Typical values are 0.8 to 0.95."),
        ("beta_2", -0.1, "in [0, 1)", "Typical values are 0.99 to 0.9999."),
        ("epsilon", 0.0, "positive", "Typical values are 1e-8 to 1e-4."),
    ],
)
def test_rejected_arguments(argument, value, allowed, advice):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        AdamW(**{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. {advice}"
    assert str(error.value) == text


def test_config_round_trip():
    optimizer = AdamW(0.5, 0.25, 0.8, 0.9, 1e-3, amsgrad=True, name="mine")
    config = optimizer.get_config()
    assert AdamW.from_config(config).get_config() == config
    assert [
        config[name] for name in ("weight_decay", "beta_1", "beta_2", "epsilon", "amsgrad")
    ] == [0.25, 0.8, 0.9, 1e-3, True]
