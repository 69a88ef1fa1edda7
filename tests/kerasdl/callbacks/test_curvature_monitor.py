"""A quadratic model against its closed form, others against the whole Hessian."""

import keras
import numpy as np
import pytest

import kerasdl
from kerasdl.second_order.flat_model import FlatModel

rng = np.random.default_rng(4)
X = rng.normal(size=(9, 3))
Y = rng.normal(size=(9, 1))
W = rng.uniform(0.5, 2.0, size=9)
# Outside of TensorFlow Keras computes its losses in float32.
RTOL = 1e-12 if keras.backend.backend() == "tensorflow" else 1e-5
KEYS = "curvature/gradient_squared", "curvature/half_eta_gHg"
λ = 0.25


class Step(keras.callbacks.Callback):
    """The weights after every epoch."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(np.concatenate([w.ravel() for w in self.model.get_weights()]))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, kerasdl.Adam])
def test_quadratic_model(optimizer):
    """J = Σ w (a·θ − y)²/n + λ|θ|², over the kernel and the bias."""
    penalty = {
        name: keras.regularizers.L2(λ) for name in ("kernel_regularizer", "bias_regularizer")
    }
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, **penalty)])
    rate = keras.optimizers.schedules.InverseTimeDecay(0.2, 1, 0.5)
    model.compile(optimizer(rate), loss="mse")
    callbacks = [kerasdl.CurvatureMonitor((X, Y, W)), Step()]
    fit = {"batch_size": 9, "epochs": 3, "verbose": 0}
    history = model.fit(X, Y, sample_weight=W, callbacks=callbacks, **fit).history
    A = np.hstack([X, np.ones((9, 1))])

    def loss(θ):
        return (W * (A @ θ - Y[:, 0]) ** 2).sum() / 9 + λ * θ @ θ

    H = 2 * A.T @ (W[:, None] * A) / 9 + 2 * λ * np.eye(4)
    for epoch, θ in enumerate(callbacks[1].weights):
        g = 2 * A.T @ (W * (A @ θ - Y[:, 0])) / 9 + 2 * λ * θ
        η = 0.2 / (1 + 0.5 * (epoch + 1))
        squared, half = (history[key][epoch] for key in KEYS)
        assert squared == pytest.approx(g @ g, rel=RTOL)
        # The rate itself may be in float32.
        assert half == pytest.approx(η * g @ H @ g / 2, rel=max(RTOL, 1e-7))
        assert η * (half - squared) == pytest.approx(loss(θ - η * g) - loss(θ), rel=max(RTOL, 1e-6))


@pytest.mark.usefixtures("float64")
def test_exact_rate():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(kerasdl.SGD(0.5), loss="mse")
    callbacks = [kerasdl.CurvatureMonitor((X, Y)), Step()]
    history = model.fit(X, Y, batch_size=9, verbose=0, callbacks=callbacks).history
    g = 2 * X.T @ (X @ callbacks[1].weights[0] - Y[:, 0]) / 9
    assert history[KEYS[1]] == [pytest.approx(0.5 * g @ X.T @ X @ g / 9, rel=RTOL)]


@pytest.mark.tensorflow
@pytest.mark.usefixtures("float64")
def test_curved_model():
    layers = [
        keras.layers.Conv1D(3, 2, activation="elu"),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(2, "softmax"),
    ]
    model = keras.Sequential([keras.Input((3, 1)), *layers])
    model.compile(keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy")
    y = (Y[:, 0] > 0).astype("int32")
    monitor = kerasdl.CurvatureMonitor((X[:, :, None], y))
    history = model.fit(X[:, :, None], y, verbose=0, callbacks=[monitor]).history
    flat = FlatModel(model, X[:, :, None], y)
    _, g = flat.value_and_gradient(flat.θ)
    assert history[KEYS[0]] == [pytest.approx(g @ g, rel=1e-10)]
    assert history[KEYS[1]] == [pytest.approx(0.25 * g @ flat.hessian(flat.θ) @ g, rel=1e-10)]


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        model.compile(keras.optimizers.SGD(0.5), loss="mse")
        callbacks = [kerasdl.CurvatureMonitor((X, Y)), Step()]
        history = model.fit(X, Y, batch_size=9, verbose=0, callbacks=callbacks).history
    finally:
        keras.config.set_dtype_policy("float32")
    g = 2 * X.T @ (X @ callbacks[1].weights[0] - Y[:, 0]) / 9
    assert history[KEYS[0]] == [pytest.approx(g @ g, rel=0.02)]
    assert history[KEYS[1]] == [pytest.approx(0.5 * g @ X.T @ X @ g / 9, rel=0.02)]
