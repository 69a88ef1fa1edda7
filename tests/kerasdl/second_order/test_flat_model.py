"""Value, gradient, Hv and H of a model against closed forms and finite differences."""

import re

import keras
import numpy as np
import pytest

from kerasdl.second_order import FlatModel
from kerasdl.second_order import flat_model as module

pytestmark = pytest.mark.tensorflow


def logistic(rng, l2=0.0, dtype="float64"):
    """Return a logistic regression, its data and its (J, g, H) in NumPy."""
    x = rng.normal(size=(30, 3))
    y = (rng.random((30, 1)) < 0.5).astype("float64")
    regularizer = keras.regularizers.L2(l2) if l2 else None
    dense = keras.layers.Dense(
        1, "sigmoid", kernel_regularizer=regularizer, bias_initializer="ones", dtype=dtype
    )
    model = keras.Sequential([keras.Input((3,), dtype=dtype), dense])

    def reference(θ):
        a = np.hstack([x, np.ones((30, 1))])
        z = a @ θ
        p = 1 / (1 + np.exp(-z))
        decayed = np.array([1.0, 1.0, 1.0, 0.0])
        J = np.mean(np.logaddexp(0, z) - y[:, 0] * z) + l2 * np.sum(decayed * θ**2)
        g = a.T @ (p - y[:, 0]) / 30 + 2 * l2 * decayed * θ
        H = (a.T * (p * (1 - p))) @ a / 30 + 2 * l2 * np.diag(decayed)
        return J, g, H

    return model, x, y, reference


def smooth_network(dtype="float64"):
    """Two layers, a frozen one, batch normalization and dropout."""
    frozen = keras.layers.Dense(3, "tanh", dtype=dtype)
    frozen.trainable = False
    return keras.Sequential(
        [
            keras.Input((2,), dtype=dtype),
            frozen,
            keras.layers.Dense(3, "tanh", kernel_regularizer="l2", dtype=dtype),
            keras.layers.BatchNormalization(dtype=dtype),
            keras.layers.Dropout(0.5, dtype=dtype),
            keras.layers.Dense(2, activity_regularizer=keras.regularizers.L2(0.1), dtype=dtype),
        ]
    )


@pytest.mark.parametrize("l2", [0.0, 0.25])
def test_logistic_regression_in_closed_form(rng, l2):
    model, x, y, reference = logistic(rng, l2)
    flat = FlatModel(model, x, y, keras.losses.BinaryCrossentropy())
    θ = rng.normal(size=4)
    J, g, H = reference(θ)
    value, gradient = flat.value_and_gradient(θ)
    assert flat.dtype == "float64"
    assert value == pytest.approx(J, rel=1e-6)
    np.testing.assert_allclose(gradient, g, rtol=1e-5)
    np.testing.assert_allclose(flat.hessian(θ), H, rtol=1e-5)


@pytest.mark.parametrize("l2", [0.0, 0.25])
def test_logits_in_closed_form_to_the_last_digits(rng, l2):
    """Without Keras' clipping of probabilities at 1e-7."""
    model, x, y, reference = logistic(rng, l2)
    model.layers[-1].activation = keras.activations.linear
    flat = FlatModel(model, x, y, keras.losses.BinaryCrossentropy(from_logits=True))
    θ = rng.normal(size=4)
    J, g, H = reference(θ)
    value, gradient = flat.value_and_gradient(θ)
    assert value == pytest.approx(J, rel=1e-14)
    np.testing.assert_allclose(gradient, g, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(flat.hessian(θ), H, rtol=1e-12, atol=1e-16)
    v = rng.normal(size=4)
    np.testing.assert_allclose(flat.hessian_vector_product(θ, v), H @ v, rtol=1e-12)


def test_finite_differences(rng):
    model = smooth_network()
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    flat = FlatModel(model, x, y, "mse")
    θ = flat.θ + 0.1 * rng.normal(size=flat.size)
    h = 1e-5
    units = np.eye(flat.size)
    value, gradient = flat.value_and_gradient(θ)

    def value_at(at):
        return flat.value_and_gradient(at)[0]

    def gradient_at(at):
        return flat.value_and_gradient(at)[1]

    slopes = [(value_at(θ + h * u) - value_at(θ - h * u)) / (2 * h) for u in units]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-9)
    columns = np.stack([(gradient_at(θ + h * u) - gradient_at(θ - h * u)) / (2 * h) for u in units])
    H = flat.hessian(θ)
    np.testing.assert_allclose(H, columns, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(H, H.T)
    v = rng.normal(size=flat.size)
    np.testing.assert_allclose(flat.hessian_vector_product(θ, v), H @ v, rtol=1e-10, atol=1e-12)
    assert value_at(θ) == value


def test_value_is_that_of_evaluate(rng, float64):
    model = smooth_network()
    x, y, weight = rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), rng.random(20)
    model.compile(loss="mse", jit_compile=False)
    expected = model.evaluate(x, y, sample_weight=weight, batch_size=20, verbose=0)
    flat = FlatModel(model, x, y, sample_weight=weight)
    assert flat.value_and_gradient(flat.θ)[0] == pytest.approx(expected, rel=1e-14)


def test_targets_without_an_axis_are_not_spread(rng):
    model, x, y, _ = logistic(rng)
    values = [
        FlatModel(model, x, target, loss).value_and_gradient(np.ones(4))[0]
        for target in (y, y[:, 0])
        for loss in ("mse", lambda t, p: keras.ops.square(t - p), keras.losses.MeanSquaredError())
    ]
    np.testing.assert_allclose(values, values[0], rtol=1e-14)


def test_only_assign_changes_the_model(rng):
    model = smooth_network("float32")
    x, y = rng.normal(size=(8, 2)), rng.normal(size=(8, 2))
    before = model.get_weights()
    flat = FlatModel(model, x, y, "mse")
    assert flat.dtype == "float32"
    flat.value_and_gradient(np.ones(flat.size))
    flat.hessian(np.zeros(flat.size))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    θ = rng.normal(size=flat.size)
    flat.assign(θ)
    np.testing.assert_array_equal(flat.θ, θ.astype("float32").astype("float64"))
    assert [weight.dtype for weight in model.get_weights()] == [weight.dtype for weight in before]
    frozen = model.layers[0].get_weights()
    np.testing.assert_array_equal(frozen[0], before[0])


def test_several_inputs(rng):
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    out = keras.layers.Dense(1)(keras.layers.Concatenate()([a, b]))
    model = keras.Model({"a": a, "b": b}, out)
    x = {"a": rng.normal(size=(5, 2)), "b": rng.normal(size=(5, 1))}
    flat = FlatModel(model, x, np.zeros((5, 1)), "mse")
    both = np.hstack([x["a"], x["b"]])
    value, _ = flat.value_and_gradient(np.array([1.0, 2.0, 3.0, 4.0]))
    assert value == pytest.approx(np.mean((both @ [1, 2, 3] + 4) ** 2), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"model": keras.Sequential([keras.layers.Dense(1)], name="raw")},
            (
                "`model` must be a built Keras model. Received: model='raw'. "
                "Give it an Input, or call it once."
            ),
        ),
        (
            {"model": "net"},
            (
                "`model` must be a built Keras model. Received: model='net'. "
                "Give it an Input, or call it once."
            ),
        ),
        (
            {"x": np.zeros((3, 3))},
            (
                "`x, y` must be arrays with the same number of samples, one or more. "
                "Received: x, y=[(3, 3), (30, 1)]. Pass NumPy arrays of the whole data set."
            ),
        ),
        (
            {"sample_weight": np.zeros(2)},
            (
                "`x, y, sample_weight` must be arrays with the same number of samples, one or "
                "more. Received: x, y, sample_weight=[(30, 3), (30, 1), (2,)]. "
                "Pass NumPy arrays of the whole data set."
            ),
        ),
        (
            {"loss": None},
            (
                "`loss` must be given for a model that is not compiled with one. "
                "Received: loss=None. Pass loss='mse', for instance, or compile the model."
            ),
        ),
        (
            {"loss": ["mse", "mae"]},
            (
                "`loss` must be one loss, for a model with one output. "
                "Received: loss=['mse', 'mae']. "
                "Wrap the outputs of interest in a model of their own."
            ),
        ),
    ],
)
def test_bad_arguments(rng, change, text):
    model, x, y, _ = logistic(rng)
    arguments = {"model": model, "x": x, "y": y, "loss": "mse", **change}
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        FlatModel(**arguments)


def test_frozen_and_weighted_models(rng):
    model, x, y, _ = logistic(rng)
    model.compile(loss="mse", loss_weights=[2.0], jit_compile=False)
    name = model.name
    text = (
        f"`model` must be compiled without loss_weights. Received: model='{name}'. "
        "Pass the weighted loss as `loss`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        FlatModel(model, x, y)
    model.trainable = False
    text = (
        f"`model` must be a model with trainable weights. Received: model='{name}'. "
        "Unfreeze some of its layers."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        FlatModel(model, x, y, "mse")


def test_other_backends(monkeypatch):
    monkeypatch.setattr(module.keras.backend, "backend", lambda: "jax")
    text = (
        "kerasdl.second_order needs Keras on TensorFlow. Received: backend='jax'. "
        "Set KERAS_BACKEND=tensorflow before Keras is imported."
    )
    with pytest.raises(NotImplementedError, match=f"^{re.escape(text)}$"):
        module.require_tensorflow()
