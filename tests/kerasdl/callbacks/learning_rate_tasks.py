"""Twelve small tasks to find a learning rate for, and the best rate of a grid."""

import keras
import numpy as np
import sklearn.datasets
from keras import layers

import kerasdl

BUDGET = 100
GRID = 10.0 ** np.arange(-4.0, 1.01, 0.125)
SEEDS = (11, 12, 13)


def scaled(x):
    return ((x - x.mean(0)) / (x.std(0) + 1e-8)).astype("float32")


def bundled(name, **arguments):
    data = getattr(sklearn.datasets, name)(**arguments)
    return (data.data, data.target) if hasattr(data, "data") else data


def classes(name, noise=0.0, **arguments):
    x, y = bundled(name, **arguments)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < noise
    y = np.where(wrong, rng.integers(0, y.max() + 1, len(y)), y)
    return scaled(x), y.astype("int32")


def numbers(name, noise=0.0, **arguments):
    x, y = bundled(name, **arguments)
    y = scaled(y.reshape(-1, 1))
    return scaled(x), y + noise * np.random.default_rng(1).normal(size=y.shape).astype("float32")


def digits():
    x, y = classes("load_digits")
    return (x.reshape(-1, 8, 8, 1), y)


def waves():
    x = np.random.default_rng(2).uniform(-1.7, 1.7, (1024, 2)).astype("float32")
    noise = np.random.default_rng(3).standard_t(2, (1024, 1)).astype("float32")
    return x, np.sin(x[:, :1]) + x[:, 1:] + 0.5 * noise


def mlp(inputs, outputs, *hidden, between=()):
    stack = [keras.Input((inputs,))]
    for units in hidden:
        stack += [layers.Dense(units), *(make() for make in between), layers.Activation("elu")]
    return keras.Sequential([*stack, layers.Dense(outputs)])


def conv():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )


CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
K = keras.optimizers
# name: data, model, optimizer, loss, batch size
TASKS = {
    "iris_softmax_sgd": (
        lambda: classes("load_iris", noise=0.2),
        lambda: mlp(4, 3),
        lambda: kerasdl.SGD(0.01),
        CROSS_ENTROPY,
        32,
    ),
    "wine_mlp_momentum": (
        lambda: classes("load_wine", noise=0.2),
        lambda: mlp(13, 3, 16),
        lambda: kerasdl.SGD(0.01, momentum=0.9, nesterov=True),
        CROSS_ENTROPY,
        32,
    ),
    "cancer_mlp_adam": (
        lambda: classes("load_breast_cancer"),
        lambda: mlp(30, 2, 32, 16),
        lambda: kerasdl.Adam(0.001),
        CROSS_ENTROPY,
        32,
    ),
    "cancer_wrong_labels_keras_rmsprop": (
        lambda: classes("load_breast_cancer", noise=0.4),
        lambda: mlp(30, 2, 16),
        lambda: K.RMSprop(0.001),
        CROSS_ENTROPY,
        16,
    ),
    "digits_batch_norm_sgd": (
        lambda: classes("load_digits"),
        lambda: mlp(64, 10, 64, 32, between=[kerasdl.BatchNormalization]),
        lambda: K.SGD(0.01),
        CROSS_ENTROPY,
        50,
    ),
    "digits_dropout_adamw": (
        lambda: classes("load_digits"),
        lambda: mlp(64, 10, 64, between=[lambda: layers.Dropout(0.5)]),
        lambda: kerasdl.AdamW(0.001),
        CROSS_ENTROPY,
        32,
    ),
    "digits_conv_nadam": (
        digits,
        conv,
        lambda: kerasdl.Nadam(0.001),
        CROSS_ENTROPY,
        64,
    ),
    "diabetes_linear_sgd": (
        lambda: numbers("load_diabetes"),
        lambda: mlp(10, 1),
        lambda: K.SGD(0.01),
        "mse",
        32,
    ),
    "diabetes_noisy_mlp_adagrad": (
        lambda: numbers("load_diabetes", noise=1.0),
        lambda: mlp(10, 1, 16),
        lambda: kerasdl.Adagrad(0.01),
        "mse",
        8,
    ),
    "friedman_mlp_keras_adam": (
        lambda: numbers("make_friedman1", n_samples=1000, noise=1.0, random_state=0),
        lambda: mlp(10, 1, 32, 32),
        lambda: K.Adam(0.001),
        "mse",
        32,
    ),
    "moons_mlp_rmsprop": (
        lambda: classes("make_moons", n_samples=1000, noise=0.3, random_state=0),
        lambda: mlp(2, 2, 16, 16),
        lambda: kerasdl.RMSprop(0.001),
        CROSS_ENTROPY,
        4,
    ),
    "waves_heavy_tails_huber_momentum": (
        waves,
        lambda: mlp(2, 1, 32, 32),
        lambda: K.SGD(0.01, momentum=0.9),
        "huber",
        16,
    ),
}


def make(name, seed):
    """Model, x, y and batch size of a task; the weights depend on the seed."""
    data, build, optimizer, loss, batch_size = TASKS[name]
    keras.utils.set_random_seed(seed)
    model = build()
    model.compile(optimizer(), loss=loss, jit_compile=False)
    return model, *data(), batch_size


def loss_after_budget(model, x, y, batch_size, rate, seed):
    """Loss over all data after BUDGET steps with one rate, evaluated as a user would."""
    rng = np.random.default_rng(seed)
    passes = BUDGET * batch_size // len(x) + 1
    order = np.concatenate([rng.permutation(len(x)) for _ in range(passes)])
    order = order[: BUDGET * batch_size]
    model.optimizer.learning_rate = rate
    model.fit(x[order], y[order], batch_size=batch_size, shuffle=False, verbose=0)
    loss = model.evaluate(x, y, batch_size=1024, verbose=0)
    return loss if np.isfinite(loss) else np.inf


def grid_losses(name, grid=GRID, seeds=SEEDS):
    """For every rate of the grid the mean over seeds: of weights and of orders of the data."""
    total = np.zeros(len(grid))
    for seed in seeds:
        model, x, y, batch_size = make(name, seed)
        model.optimizer.nonfinite = "allow"
        model.optimizer.build(model.trainable_variables)
        variables = [*model.variables, *model.optimizer.variables]
        start = [variable.numpy() for variable in variables]
        for place, rate in enumerate(grid):
            for variable, value in zip(variables, start, strict=True):
                variable.assign(value)
            total[place] += loss_after_budget(model, x, y, batch_size, float(rate), seed)
    return total / len(seeds)
