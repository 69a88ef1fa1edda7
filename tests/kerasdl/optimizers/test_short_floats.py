"""Training in short floats: weights and computation in bfloat16 or float16.

The loss is measured with the final weights in a float32 copy of the model, so that it is the
weights that are compared and not the rounding of one more evaluation. Trainings end while the
loss is still well above zero, where two per cent of it are more than the noise of gradients
that have eight bits.
"""

from functools import cache

import keras
import numpy as np
import pytest
from keras import ops
from sklearn import datasets

import kerasdl

CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Loader, outputs, loss, epochs.
TASKS = {
    "digits": (datasets.load_digits, 10, CLASSES, 3),
    "breast cancer": (datasets.load_breast_cancer, 2, CLASSES, 8),
    "diabetes": (datasets.load_diabetes, 1, keras.losses.MeanSquaredError(), 8),
}
OPTIMIZERS = {
    "Adam": lambda: kerasdl.Adam(1e-3),
    "SGD with momentum": lambda: kerasdl.SGD(0.01, momentum=0.9),
    "RMSprop": lambda: kerasdl.RMSprop(1e-3),
}

tasks = pytest.mark.parametrize("task", TASKS)


def standardized(x):
    return ((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-3)).astype("float32")


@cache
def data(task):
    load, outputs, _, _ = TASKS[task]
    x, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    y = standardized(y[:, None]) if outputs == 1 else y.astype("int32")
    return standardized(x)[order], y[order]


def make_model(task, dtype):
    """With the same weights for every dtype, all of which bfloat16 and float16 can hold."""
    rng = np.random.default_rng(0)
    layers = [
        keras.layers.Dense(16, "tanh", dtype=dtype),
        keras.layers.Dense(TASKS[task][1], dtype=dtype),
    ]
    model = keras.Sequential([keras.Input(data(task)[0].shape[1:]), *layers])
    for layer in layers:
        limit = np.sqrt(6 / sum(layer.kernel.shape))
        start = np.round(128 * rng.uniform(-limit, limit, layer.kernel.shape)) / 128
        layer.kernel.assign(ops.cast(start, layer.kernel.dtype))
    return model


def wide(weights):
    return [ops.convert_to_numpy(ops.cast(weight, "float32")) for weight in weights]


def trained(task, optimizer, dtype, epochs=None):
    """Weights after training, as float32 arrays."""
    x, y = data(task)
    model = make_model(task, dtype)
    model.compile(optimizer, loss=TASKS[task][2], jit_compile=False)
    model.fit(x, y, epochs=epochs or TASKS[task][3], batch_size=32, shuffle=False, verbose=0)
    return wide(model.weights)


def loss(task, weights):
    """Of all training data, in float32."""
    x, y = data(task)
    model = make_model(task, "float32")
    model.set_weights(weights)
    return float(ops.convert_to_numpy(TASKS[task][2](y, model(x))))


def share_moved(task, weights):
    start = wide(make_model(task, "float32").weights)
    pairs = zip(start, weights, strict=True)
    return np.mean(np.concatenate([np.ravel(a != b) for a, b in pairs]))


@pytest.mark.parametrize(
    ("task", "name"),
    [
        pytest.param(task, name, marks=() if (i + k) % 3 == 0 else pytest.mark.slow)
        for i, task in enumerate(TASKS)
        for k, name in enumerate(OPTIMIZERS)
    ],
)
def test_bfloat16_ends_within_two_per_cent_of_float32(task, name):
    full = loss(task, trained(task, OPTIMIZERS[name](), "float32"))
    weights = trained(task, OPTIMIZERS[name](), "bfloat16")
    assert 0.05 < full < 0.9 * loss(task, wide(make_model(task, "float32").weights))
    assert loss(task, weights) == pytest.approx(full, rel=0.02)
    assert share_moved(task, weights) > 0.9


@tasks
def test_small_updates_of_bfloat16_weights_are_lost_in_keras(task):
    """With β₂ = 0.99: 0.999 is 1 in bfloat16, and Keras' Adam stands still at any rate."""
    ours = trained(task, kerasdl.Adam(1e-4, beta_2=0.99), "bfloat16", epochs=2)
    theirs = trained(task, keras.optimizers.Adam(1e-4, beta_2=0.99), "bfloat16", epochs=2)
    assert share_moved(task, theirs) < 0.25
    assert share_moved(task, ours) > 0.9
    assert loss(task, ours) < loss(task, theirs)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_updates_below_the_resolution_add_up(dtype):
    """Near 1 the neighbours are 2⁻¹⁰ or 2⁻⁷ apart; each step is 2⁻¹³."""
    variables = [keras.Variable(np.ones(3), dtype=dtype) for _ in range(2)]
    optimizers = [cls.SGD(2.0**-13) for cls in (kerasdl, keras.optimizers)]
    for _ in range(512):
        for optimizer, θ in zip(optimizers, variables, strict=True):
            optimizer.apply([ops.ones(3, dtype)], [θ])
    ours, theirs = wide(variables)
    np.testing.assert_array_equal(ours, 1 - 512 * 2.0**-13)
    np.testing.assert_array_equal(theirs, 1.0)


LARGE_RATES = {
    "SGD": {"learning_rate": 1.0, "momentum": 0.9},
    "Adam": {"learning_rate": 0.1},
    "RMSprop": {"learning_rate": 0.1, "momentum": 0.9, "centered": True},
    "Adagrad": {"learning_rate": 1.0},
    "Ftrl": {"learning_rate": 1.0},
}


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16"])
@pytest.mark.parametrize("name", LARGE_RATES)
def test_float16_stays_finite(dtype, name):
    x, y = data("digits")
    model = make_model("digits", dtype)
    before = wide(model.weights)
    model.compile(getattr(kerasdl, name)(**LARGE_RATES[name]), loss=CLASSES, jit_compile=False)
    model.fit(x, y, epochs=1, batch_size=32, shuffle=False, verbose=0)
    state = wide([*model.weights, *model.optimizer.variables])
    assert all(np.isfinite(values).all() for values in state)
    assert all((a != b).any() for a, b in zip(before, wide(model.weights), strict=True))


def test_float16_stops_at_its_largest_number_and_comes_back():
    θ = keras.Variable(np.ones(2), dtype="float16")
    optimizer = kerasdl.SGD(8.0)
    large = np.array([32768.0, -32768.0])
    for sign, expected in ((1, -65504.0), (-1, 1.0)):
        optimizer.apply([ops.convert_to_tensor(sign * large, "float16")], [θ])
        np.testing.assert_array_equal(wide([θ])[0], [expected, abs(expected)])
