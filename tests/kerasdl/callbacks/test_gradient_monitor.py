"""Norms against NumPy's back-propagation, verdicts on networks that deserve them."""

import warnings

import keras
import numpy as np
import pytest

import kerasdl

rng = np.random.default_rng(1)
X = rng.normal(size=(8, 3))
Y = rng.normal(size=(8, 2))
W = rng.uniform(0.5, 2.0, size=8)
# Outside of TensorFlow Keras computes its losses in float32.
RTOL = 1e-12 if keras.backend.backend() == "tensorflow" else 1e-5
FIT = {"batch_size": 8, "verbose": 0}


def small_model(optimizer, **arguments):
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.Dense(4, "tanh", name="first"),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(2, name="last", kernel_regularizer=keras.regularizers.L2(0.5)),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, loss="mse", **arguments)
    return model


def by_hand(weights, x, y, sample_weight):
    A, a, B, b = weights
    h = np.tanh(x @ A + a)
    δ = (h @ B + b - y) * sample_weight[:, None] / len(x)
    back = (δ @ B.T) * (1 - h**2)
    gradients = (x.T @ back, back.sum(0)), (h.T @ δ + B, δ.sum(0))
    return {
        name: np.sqrt(sum((each**2).sum() for each in own))
        for name, own in zip(("first", "last"), gradients, strict=True)
    }


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("optimizer", [keras.optimizers.Lion, kerasdl.SGD])
@pytest.mark.parametrize("weighted", [False, True])
def test_norms(optimizer, weighted):
    model = small_model(optimizer(0.1))
    data = (X, Y, W) if weighted else (X, Y)
    weights = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.append(model.get_weights())
    )
    callbacks = [kerasdl.GradientMonitor(data), keep]
    history = model.fit(X, Y, epochs=3, callbacks=callbacks, **FIT).history
    for epoch, each in enumerate(weights):
        expected = by_hand(each, X, Y, W if weighted else np.ones(8))
        for name, value in expected.items():
            assert history[f"gradient_norm/{name}"][epoch] == pytest.approx(value, rel=RTOL)


@pytest.mark.usefixtures("float64")
def test_several_outputs_with_weights_of_their_own():
    inputs = keras.Input((3,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")]
    model = keras.Model(inputs, outputs)
    model.compile("adam", loss=["mse", "mae"], loss_weights=[2.0, 0.5])
    y = [Y[:, :1], Y[:, 1:]]
    history = model.fit(X, y, callbacks=[kerasdl.GradientMonitor((X, y))], **FIT).history
    A, a, B, b = model.get_weights()
    δ = 4 * (X @ A + a - y[0]) / 8, 0.5 * np.sign(X @ B + b - y[1]) / 8
    for name, each in zip("ab", δ, strict=True):
        expected = np.hypot(np.linalg.norm(X.T @ each), each.sum())
        assert history[f"gradient_norm/{name}"] == [pytest.approx(expected, rel=RTOL)]


def test_penalties_on_outputs_count():
    """At θ = 1 J is the penalty, which is proportional to θ²."""
    dense = keras.layers.Dense(
        1, use_bias=False, activity_regularizer=keras.regularizers.L2(0.5), name="out"
    )
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    model.set_weights([np.ones((1, 1))])
    x = np.array([[1.0], [2.0]])
    history = model.fit(x, x, verbose=0, callbacks=[kerasdl.GradientMonitor((x, x))]).history
    J = model.evaluate(x, x, verbose=0)
    assert J > 1
    assert history["gradient_norm/out"] == [pytest.approx(2 * J, rel=1e-6)]


def test_each_training_is_judged_by_itself():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    monitor = kerasdl.GradientMonitor((X, Y))
    for scale in (1.0, 100.0):
        model.set_weights([np.full((3, 2), scale), np.zeros(2)])
        history = model.fit(X, Y, epochs=2, callbacks=[monitor], **FIT).history
    assert history["gradient_norm/out"][0] > 100
    assert monitor.verdicts == {}


def test_words_that_come_twice():
    table = keras.layers.Embedding(5, 1, name="table", embeddings_initializer="zeros")
    model = keras.Sequential([keras.Input((2,), dtype="int32"), table])
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    words, y = np.array([[1, 1], [1, 2]]), np.ones((2, 2, 1))
    monitor = kerasdl.GradientMonitor((words, y))
    history = model.fit(words, y, verbose=0, callbacks=[monitor]).history
    assert history["gradient_norm/table"] == [pytest.approx(np.hypot(1.5, 0.5), rel=1e-6)]


@pytest.mark.parametrize("scale", [1e-9, 2000.0])
def test_mixed_precision(scale):
    """Small gradients would vanish in float16 unscaled, and large ones overflow if scaled."""

    def norms(policy):
        keras.config.set_dtype_policy(policy)
        try:
            model = small_model("sgd")
            model.layers[-1].kernel_regularizer = model.layers[-1].kernel.regularizer = None
            model.optimizer.learning_rate = 0.0
            monitor = kerasdl.GradientMonitor((X, Y, np.full(8, scale)))
            history = model.fit(X, Y, callbacks=[monitor], **FIT).history
        finally:
            keras.config.set_dtype_policy("float32")
        return history["gradient_norm/first"][0]

    assert norms("mixed_float16") == pytest.approx(norms("float32"), rel=0.02)


def deep_model(activation, initializer, depth=20):
    layers = [
        keras.layers.Dense(
            16, activation, name=f"layer{i:02}", kernel_initializer=initializer(i), use_bias=False
        )
        for i in range(depth)
    ]
    out = keras.layers.Dense(1, name="out", kernel_initializer=initializer(depth))
    model = keras.Sequential([keras.Input((16,)), *layers, out])
    model.compile(keras.optimizers.SGD(1e-9), loss="mse")
    return model


DEEP = np.random.default_rng(2).normal(size=(32, 16)), np.random.default_rng(3).normal(size=(32, 1))


def judge(model):
    monitor = kerasdl.GradientMonitor(DEEP)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*DEEP, epochs=2, verbose=0, callbacks=[monitor])
    texts = [str(each.message) for each in caught if str(each.message).startswith("Epoch")]
    return monitor.verdicts, texts


def test_sigmoids_vanish_toward_the_input():
    verdicts, texts = judge(deep_model("sigmoid", keras.initializers.GlorotNormal))
    assert set(verdicts.values()) == {"vanishing"}
    assert list(verdicts) == [f"layer{i:02}" for i in range(len(verdicts))]
    assert 5 < len(verdicts) < 20
    (text,) = texts
    assert text.startswith("Epoch 1: vanishing gradients in layer00, layer01, ")
    assert text.endswith("Use non-saturating activations, He or Xavier initialization or batch "
                         "normalization.")  # fmt: skip


def test_large_weights_explode_toward_the_input():
    """Sines do not saturate, so that only the gradients grow from layer to layer."""
    verdicts, texts = judge(
        deep_model(keras.ops.sin, lambda i: keras.initializers.RandomNormal(stddev=1.0, seed=i))
    )
    assert set(verdicts.values()) == {"exploding"}
    assert "layer00" in verdicts
    assert "out" not in verdicts
    assert texts[0].startswith("Epoch 1: exploding gradients in layer00, ")


def test_healthy_networks_get_no_verdict():
    assert judge(deep_model("relu", lambda i: keras.initializers.HeNormal(seed=i))) == ({}, [])


def test_converged_networks_get_no_verdict():
    model = deep_model("relu", lambda i: keras.initializers.HeNormal(seed=i), depth=3)
    x, y = DEEP
    y = model.predict(x, verbose=0) * (1 + 1e-4)
    monitor = kerasdl.GradientMonitor((x, y))
    history = model.fit(x, y, verbose=0, callbacks=[monitor]).history
    assert all(0 < norms[-1] < 1e-2 for key, norms in history.items() if "norm" in key)
    assert monitor.verdicts == {}


def test_a_diverging_training_explodes():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
    model.compile(keras.optimizers.SGD(1e4), loss="mse")
    monitor = kerasdl.GradientMonitor((X, Y))
    with pytest.warns(UserWarning, match="Epoch 2: exploding gradients in out. Use a smaller"):
        history = model.fit(X, Y, epochs=15, callbacks=[monitor], **FIT).history
    assert monitor.verdicts == {"out": "exploding"}
    assert not np.isfinite(history["gradient_norm/out"][-1])
    model.set_weights([np.zeros((3, 2)), np.zeros(2)])
    model.optimizer.learning_rate = 0.0
    model.fit(X, Y, callbacks=[monitor], **FIT)
    assert monitor.verdicts == {}


@pytest.mark.parametrize(
    ("norms", "sizes", "before", "expected"),
    [
        ([0.99e-4, 1.0], [1, 1], [], {"a": "vanishing"}),
        ([1.01e-4, 1.0], [1, 1], [], {}),
        ([1.01e-4, 1.0], [4, 1], [], {"a": "vanishing"}),
        ([1.0, 0.99e-4], [1, 1], [], {"a": "exploding"}),
        ([1.0, 1e-2, 0.99e-4], [1, 1, 1], [], {"a": "exploding"}),
        ([1e-6, 1e-5, 1e-3, 1.0], [1, 1, 1, 1], [], {"a": "vanishing", "b": "vanishing"}),
        ([1.0, 1.01e-4], [1, 1], [], {}),
        ([0.0, 0.0], [1, 1], [], {}),
        ([1.0, 0.0], [1, 1], [], {}),
        ([0.0, 1.0], [1, 1], [], {"a": "vanishing"}),
        ([1.0, np.nan], [1, 1], [], {"b": "exploding"}),
        ([np.inf, 1.0], [1, 1], [], {"a": "exploding"}),
        ([21.0, 1.0], [1, 1], [[1.0, 1.0], [3.0, 1.0]], {"a": "exploding"}),
        ([19.0, 1.0], [1, 1], [[1.0, 1.0], [3.0, 1.0]], {}),
        ([1.0, 1.0], [1, 1], [[0.0, 1.0]], {}),
    ],
)
def test_limits(norms, sizes, before, expected):
    monitor = kerasdl.GradientMonitor((X, Y))
    monitor._before = [dict(zip("ab", each, strict=True)) for each in before]
    names = "abcd"[: len(norms)]
    named = (dict(zip(names, each, strict=True)) for each in (norms, sizes))
    assert monitor._judge(*named) == expected


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("vanishing", 0.0, "in (0, 1)"),
        ("vanishing", 1, "in (0, 1)"),
        ("exploding", 1.0, "above 1"),
        ("growth", float("nan"), "above 1"),
    ],
)
def test_rejected_arguments(argument, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kerasdl.GradientMonitor((X, Y), **{argument: value})
    text = f"`{argument}` must be {allowed}. Received: {argument}={value!r}. "
    assert str(error.value).startswith(text)
