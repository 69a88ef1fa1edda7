"""Known minima, reached; and what the model holds when something goes wrong."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize
from sklearn.datasets import load_breast_cancer

import kerasdl
from kerasdl.second_order import FlatModel, minimize

pytestmark = pytest.mark.tensorflow

MINIMA = (3.2727653395584, -3.254993730859)
L2 = 2.0**-7
METHODS = ("newton", "newton-cg", "l-bfgs")


def f(θ):
    return 319 / 8400 * θ**4 + 43 / 4200 * θ**3 - 6799 / 8400 * θ**2 - 299 / 840 * θ + 6


def weight_model(*start, dtype="float64"):
    """Return a model whose prediction is its weight."""
    dense = keras.layers.Dense(len(start), use_bias=False, dtype=dtype)
    model = keras.Sequential([keras.Input((1,), dtype=dtype), dense])
    model.set_weights([np.array([start])])
    return model, np.ones((1, 1)), np.zeros((1, len(start)))


def polynomial(start):
    model, x, y = weight_model(start)
    return model, x, y, lambda t, θ: f(θ)


def weights(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def test_newton_takes_one_step_on_a_quadratic(rng):
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 1))
    model = keras.Sequential(
        [keras.Input((4,), dtype="float64"), keras.layers.Dense(1, dtype="float64")]
    )
    result = minimize(model, x, y, "newton", loss="mse")
    a = np.hstack([x, np.ones((50, 1))])
    expected, residual, *_ = np.linalg.lstsq(a, y)
    np.testing.assert_allclose(weights(model), expected[:, 0], rtol=0, atol=1e-10)
    assert result.converged
    assert result.iterations == 1
    assert result.gradient_evaluations == 2
    assert result.loss == pytest.approx(residual[0] / 50, rel=1e-12)
    assert result.message == "max|g| is within the tolerance and H has no direction of descent."


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("start", [5.0, -5.0, 2.0, -2.0, 0.5, -0.9])
def test_worked_polynomial(start, method):
    """N3's function; between the minima its second derivative is negative."""
    model, x, y, loss = polynomial(start)
    result = minimize(model, x, y, method, loss=loss, tolerance=1e-11)
    assert result.converged
    assert min(abs(weights(model)[0] - minimum) for minimum in MINIMA) < 1e-9
    assert np.all(np.diff(result.history) <= 1e-14)
    assert result.history[0] == pytest.approx(f(start), rel=1e-14)


def test_newton_leaves_a_maximum():
    top = np.real(np.roots([1276 / 8400, 129 / 4200, -13598 / 8400, -299 / 840])[-1])
    model, x, y, loss = polynomial(top)
    result = minimize(model, x, y, "newton", loss=loss, tolerance=1e-11)
    assert result.converged
    assert min(abs(weights(model)[0] - minimum) for minimum in MINIMA) < 1e-9


def test_newton_leaves_a_saddle():
    """J = (a² − 1)² + b² has a saddle at 0 and its minima at (±1, 0)."""
    model, x, y = weight_model(0.0, 0.0)

    def loss(t, θ):
        return (θ[:, 0] ** 2 - 1) ** 2 + θ[:, 1] ** 2

    result = minimize(model, x, y, "newton", loss=loss)
    assert result.converged
    assert result.loss < 1e-15
    np.testing.assert_allclose(np.abs(weights(model)), [1, 0], atol=1e-8)


def test_singular_hessian(rng):
    """Two equal columns: H is singular and the minimum a line."""
    x = np.repeat(rng.normal(size=(20, 1)), 2, axis=1)
    y = x[:, :1] * 3
    model = keras.Sequential(
        [keras.Input((2,), dtype="float64"), keras.layers.Dense(1, dtype="float64")]
    )
    result = minimize(model, x, y, "newton", loss="mse")
    assert result.converged
    assert weights(model)[:2].sum() == pytest.approx(3, abs=1e-7)


def test_minimum_damping_slows_newton():
    steps = []
    for damping in ("auto", 0.0, 5.0):
        model, x, y, loss = polynomial(5.0)
        result = minimize(model, x, y, "newton", loss=loss, damping=damping)
        assert result.converged
        steps.append(result.iterations)
    assert steps[0] == steps[1] < steps[2]


@pytest.fixture(scope="module")
def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return (x - x.mean(0)) / x.std(0), y[:, None].astype("float64")


def cancer_model():
    dense = keras.layers.Dense(
        1, kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(L2),
        dtype="float64",
    )  # fmt: skip
    return keras.Sequential([keras.Input((30,), dtype="float64"), dense])


def cancer_reference(x, y):
    a = np.hstack([x, np.ones((len(x), 1))])
    decayed = np.append(np.full(30, L2), 0.0)

    def value_and_gradient(θ):
        z = a @ θ
        p = 1 / (1 + np.exp(-z))
        J = np.mean(np.logaddexp(0, z) - y[:, 0] * z) + decayed @ θ**2
        return J, a.T @ (p - y[:, 0]) / len(x) + 2 * decayed * θ

    return scipy_minimize(
        value_and_gradient, np.zeros(31), jac=True, method="BFGS", options={"gtol": 1e-10}
    )


LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)


@pytest.mark.parametrize("method", METHODS)
def test_breast_cancer(cancer, method):
    expected = cancer_reference(*cancer)
    model = cancer_model()
    result = minimize(model, *cancer, method, loss=LOGITS, max_iterations=500)
    assert result.converged
    np.testing.assert_allclose(weights(model), expected.x, rtol=0, atol=1e-6)
    assert result.loss == pytest.approx(expected.fun, rel=1e-12)


@pytest.mark.slow
def test_lbfgs_beats_adam_after_as_many_gradients(cancer, float64):
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model = cancer_model()
    result = minimize(model, *cancer, "l-bfgs", loss=loss, max_iterations=30)
    for rate in (0.01, 0.1, 0.5):
        rival = cancer_model()
        rival.compile(kerasdl.Adam(rate), loss=loss, jit_compile=False)
        rival.fit(*cancer, batch_size=569, epochs=result.gradient_evaluations, verbose=0)
        flat = FlatModel(rival, *cancer, loss)
        assert result.loss < flat.value_and_gradient(flat.θ)[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_those_of_the_result(cancer, method, dtype):
    x, y = cancer
    model = keras.Sequential(
        [
            keras.Input((30,), dtype=dtype),
            keras.layers.Dense(2, "tanh", dtype=dtype),
            keras.layers.Dense(1, kernel_regularizer="l2", dtype=dtype),
        ]
    )
    model.compile(loss=LOGITS, jit_compile=False)
    result = minimize(model, x, y, method, max_iterations=3, tolerance=0.0)
    flat = FlatModel(model, x, y)
    assert flat.value_and_gradient(flat.θ)[0] == result.loss == result.history[-1]
    assert result.iterations == 3
    assert len(result.history) == 4
    assert not result.converged
    assert result.loss < result.history[0]


def test_float32_reaches_its_precision(cancer):
    x, y = cancer
    model = keras.Sequential(
        [keras.Input((30,)), keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(L2))]
    )
    result = minimize(model, x, y, "newton", loss=LOGITS, tolerance=1e-5)
    assert result.converged
    np.testing.assert_allclose(weights(model), cancer_reference(x, y).x, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_an_impossible_tolerance_ends_all_the_same(method):
    model, x, y, loss = polynomial(5.0)
    result = minimize(model, x, y, method, loss=loss, tolerance=0.0)
    assert abs(weights(model)[0] - MINIMA[0]) < 1e-7
    assert result.message


def test_sample_weight_and_compiled_loss(rng):
    x, y, weight = rng.normal(size=(20, 2)), rng.normal(size=(20, 1)), rng.random(20)
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="float64"),
            keras.layers.Dense(1, use_bias=False, dtype="float64"),
        ]
    )
    model.compile(loss="mse", jit_compile=False)
    assert minimize(model, x, y, "newton", sample_weight=weight).converged
    root = np.sqrt(weight)[:, None]
    expected = np.linalg.lstsq(root * x, root * y)[0]
    np.testing.assert_allclose(weights(model), expected[:, 0], atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_loss_that_is_not_finite_at_the_start(method):
    model, x, y = weight_model(2.0)
    text = (
        "The loss and its gradient must be finite. Received: a value that is not, at the "
        "start. Look for NaN or infinity in the data and the weights, scale the inputs, or "
        "use method='newton', which takes shorter steps then."
    )
    with pytest.raises(FloatingPointError, match=f"^{re.escape(text)}$"):
        minimize(model, x * np.nan, y, method, loss="mse")
    assert weights(model).tolist() == [2.0]


@pytest.mark.parametrize("method", ["newton-cg", "l-bfgs"])
def test_loss_that_becomes_infinite(method):
    """A loss without a value below 1, whose first steps lead there."""
    model, x, y = weight_model(3.0)

    def loss(t, θ):
        return 30 * keras.ops.log(θ - 1.0)

    with pytest.raises(FloatingPointError, match=r"finite\. Received: .* in iteration \d+\."):
        minimize(model, x, y, method, loss=loss)
    assert 1.0 < weights(model)[0] <= 3.0


def test_newton_steps_back_from_values_that_are_not_finite():
    """J = θ − log(θ − 1) from θ = 6: the full step leads far below 1."""
    model, x, y = weight_model(6.0)
    result = minimize(model, x, y, "newton", loss=lambda t, θ: θ - keras.ops.log(θ - 1.0))
    assert result.converged
    assert weights(model)[0] == pytest.approx(2.0, abs=1e-8)
    assert result.gradient_evaluations > result.iterations + 1


def test_hessian_that_is_not_finite():
    """The second derivative of θ^1.5 is infinite at 0."""
    model, x, y = weight_model(0.0, 1.0)
    text = (
        "The Hessian must be finite. Received: a Hessian with NaN or infinity. "
        "Use method='l-bfgs', which needs no second derivatives."
    )
    with pytest.raises(FloatingPointError, match=f"^{re.escape(text)}$"):
        minimize(model, x, y, "newton", loss=lambda t, θ: θ**1.5)
    assert weights(model).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("method", METHODS)
def test_interrupt_keeps_the_best(cancer, method, error, monkeypatch):
    evaluate, calls, losses = FlatModel.value_and_gradient, [], []

    def interrupted(self, θ):
        value, gradient = evaluate(self, θ)
        calls.append((value, θ.copy()))
        if len(calls) == 4:
            raise error
        losses.append(value)
        return value, gradient

    monkeypatch.setattr(FlatModel, "value_and_gradient", interrupted)
    model = cancer_model()
    with pytest.raises(error):
        minimize(model, *cancer, method, loss=LOGITS)
    _, best = min(calls[:3], key=lambda call: call[0])
    np.testing.assert_array_equal(weights(model), best)
    assert min(losses) < losses[0]


def test_at_the_minimum_already():
    for method in METHODS:
        model, x, y = weight_model(0.0)
        result = minimize(model, x, y, method, loss="mse")
        assert result.converged
        assert result.iterations == 0
        assert result.history == (0.0,)


@pytest.mark.parametrize("method", METHODS)
def test_progress(method, capsys):
    model, x, y, loss = polynomial(5.0)
    minimize(model, x, y, method, loss=loss)
    assert capsys.readouterr().out == ""
    minimize(polynomial(5.0)[0], x, y, method, loss=loss, verbose=1)
    assert f"{method}: iteration" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "value", "text"),
    [
        (
            "method",
            "bfgs",
            (
                "must be one of 'newton', 'newton-cg', 'l-bfgs'. Received: method='bfgs'. "
                "Start with 'l-bfgs'."
            ),
        ),
        (
            "max_iterations",
            0,
            (
                "must be an integer ≥ 1. Received: max_iterations=0. "
                "Typical values are 20 for 'newton' and 100 to 1000 for the others."
            ),
        ),
        (
            "tolerance",
            -1e-3,
            (
                "must be a non-negative number. Received: tolerance=-0.001. "
                "Typical values are 1e-8 for float64 models and 1e-5 for float32 ones."
            ),
        ),
        (
            "damping",
            1.0,
            (
                "must be 'auto', or for method='newton' a non-negative number. "
                "Received: damping=1.0. Pass 'auto' for as little as is needed."
            ),
        ),
        ("verbose", 2, "must be 0 or 1. Received: verbose=2. Pass 1 for a line of progress."),
    ],
)
def test_bad_arguments(argument, value, text):
    model, x, y = weight_model(1.0)
    with pytest.raises(ValueError, match=f"^{re.escape(f'`{argument}` {text}')}$"):
        minimize(model, x, y, **{"loss": "mse", argument: value})


def test_too_many_weights_for_newton():
    model = keras.Sequential([keras.Input((5001,)), keras.layers.Dense(1, use_bias=False)])
    text = (
        f"`model` must be a model with at most 5000 trainable weights for method='newton'. "
        f"Received: model='{model.name} with 5001 weights'. "
        "Use method='newton-cg' or 'l-bfgs'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        minimize(model, np.zeros((2, 5001)), np.zeros((2, 1)), "newton", loss="mse")


def test_import_does_not_load_scipy_or_rich():
    code = """
import keras, sys
before = set(sys.modules)
import kerasdl.second_order
new = {name.partition(".")[0] for name in set(sys.modules) - before}
sys.exit(bool(new & {"scipy", "rich"}))
"""
    root = Path(kerasdl.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
