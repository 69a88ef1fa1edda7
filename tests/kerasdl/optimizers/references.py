"""The formula of every optimizer, written once more in NumPy float64, and the check against it.

A reference takes the start, the gradients, the learning rate (one, or one per step) and the
options of the optimizer by their names, and returns θ after the last gradient.
"""

from functools import cache
from itertools import count

import keras
import numpy as np
from keras import ops

import kerasdl.optimizers

TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


def numbered(gradients, η):
    """t, g, η of every step."""
    return zip(count(1), gradients, np.broadcast_to(η, len(gradients)), strict=False)


def sgd(θ, gradients, η, momentum=0.0, nesterov=False, weight_decay=0.0):
    v = np.zeros_like(θ)
    for _, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        v = momentum * v - rate * g
        θ = θ + momentum * v - rate * g if nesterov else θ + v
    return θ


def adagrad(
    θ,
    gradients,
    η,
    initial_accumulator_value=0.0,
    epsilon=1e-7,
    epsilon_position="outside",
    weight_decay=0.0,
):
    r = np.full_like(θ, initial_accumulator_value)
    for _, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        r = r + g**2
        root = np.sqrt(r + epsilon) if epsilon_position == "inside" else epsilon + np.sqrt(r)
        θ = θ - rate / root * g
    return θ


def adadelta(θ, gradients, η, rho=0.95, epsilon=1e-6, weight_decay=0.0):
    squares, steps = np.zeros_like(θ), np.zeros_like(θ)
    for _, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        squares = rho * squares + (1 - rho) * g**2
        step = -np.sqrt((steps + epsilon) / (squares + epsilon)) * g
        steps = rho * steps + (1 - rho) * step**2
        θ = θ + rate * step
    return θ


def rmsprop(
    θ,
    gradients,
    η,
    rho=0.9,
    momentum=0.0,
    epsilon=1e-7,
    centered=False,
    nesterov=False,
    epsilon_position="inside",
    weight_decay=0.0,
):
    s, mean, v = np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ)
    for _, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        s = rho * s + (1 - rho) * g**2
        mean = rho * mean + (1 - rho) * g
        square = s - mean**2 if centered else s
        outside = epsilon_position == "outside"
        root = np.sqrt(square) + epsilon if outside else np.sqrt(square + epsilon)
        step = rate * g / root
        v = momentum * v - step
        θ = θ + momentum * v - step if nesterov else θ + v
    return θ


def adam(
    θ,
    gradients,
    η,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    amsgrad=False,
    epsilon_position="outside",
    weight_decay=0.0,
):
    m, v, largest = np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ)
    for t, g, rate in numbered(gradients, η):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        corrected = v / (1 - beta_2**t)
        if amsgrad:
            largest = corrected = np.maximum(largest, corrected)
        inside = epsilon_position == "inside"
        root = np.sqrt(corrected + epsilon) if inside else np.sqrt(corrected) + epsilon
        θ = θ - rate * (m / (1 - beta_1**t) / root + weight_decay * θ)
    return θ


def adamw(θ, gradients, η, weight_decay=0.004, **options):
    return adam(θ, gradients, η, weight_decay=weight_decay, **options)


def adamax(θ, gradients, η, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0):
    m, u = np.zeros_like(θ), np.zeros_like(θ)
    for t, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        m = beta_1 * m + (1 - beta_1) * g
        u = np.where(beta_2 * u > abs(g), beta_2 * u, abs(g))
        θ = θ - rate / (1 - beta_1**t) * m / (u + epsilon)
    return θ


def nadam(
    θ,
    gradients,
    η,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    schedule_decay=0.004,
    averaging="scheduled",
    weight_decay=0.0,
):
    μ = beta_1 * (1 - 0.96 ** (schedule_decay * np.arange(len(gradients) + 2)) / 2)
    products = np.cumprod([1.0, *μ[1:]])
    m, v = np.zeros_like(θ), np.zeros_like(θ)
    for t, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        kept = beta_1 if averaging == "constant" else μ[t]
        m = kept * m + (1 - kept) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        ahead = μ[t + 1] * m / (1 - products[t + 1]) + (1 - μ[t]) * g / (1 - products[t])
        θ = θ - rate * ahead / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
    return θ


def adabound(
    θ,
    gradients,
    η,
    beta_1=0.9,
    beta_2=0.999,
    final_lr=0.1,
    gamma=1e-3,
    epsilon=1e-8,
    amsbound=False,
    base_learning_rate=None,
    weight_decay=0.0,
):
    first = np.ravel(η)[0] if base_learning_rate is None else base_learning_rate
    m, v, largest = np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ)
    for t, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        largest = np.maximum(largest, v)
        root = np.sqrt(largest if amsbound else v) + epsilon
        step = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) / root
        final = final_lr * rate / first
        low, high = final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))
        θ = θ - np.clip(step, low, high) * m
    return θ


def ftrl(
    θ,
    gradients,
    η,
    learning_rate_power=-0.5,
    initial_accumulator_value=0.1,
    l1_regularization_strength=0.0,
    l2_regularization_strength=0.0,
    l2_shrinkage_regularization_strength=0.0,
    beta=0.0,
    weight_decay=0.0,
):
    p, λ1 = learning_rate_power, l1_regularization_strength
    n, z = np.full_like(θ, initial_accumulator_value), np.zeros_like(θ)
    for _, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        σ = ((n + g * g) ** -p - n**-p) / rate
        n = n + g * g
        z = z + (g + 2 * l2_shrinkage_regularization_strength * θ) - σ * θ
        quadratic = (beta + n**-p) / rate + 2 * l2_regularization_strength
        θ = np.where(np.abs(z) <= λ1, 0.0, (np.sign(z) * λ1 - z) / quadratic)
    return θ


def adagrad_da(
    θ,
    gradients,
    η,
    initial_gradient_squared_accumulator_value=0.1,
    l1_regularization_strength=0.0,
    l2_regularization_strength=0.0,
):
    """From the whole history at once, the start and all rates but the last forgotten."""
    z, t = np.sum(gradients, axis=0), len(gradients)
    shrunk = np.abs(z) - t * l1_regularization_strength
    root = np.sqrt(initial_gradient_squared_accumulator_value + np.sum(np.square(gradients), 0))
    denominator = root / np.ravel(η)[-1] + t * l2_regularization_strength
    return np.where(shrunk > 0, -np.sign(z) * shrunk, 0.0 * θ) / denominator


def proximal(θ, g, rate, λ1, λ2):
    """The minimizer of λ₁|θ| + ½λ₂θ² + (θ − u)²/(2·rate), case by case."""
    u = θ - rate * g
    above, below = (u - rate * λ1) / (1 + rate * λ2), (u + rate * λ1) / (1 + rate * λ2)
    return np.where(above > 0, above, np.where(below < 0, below, 0.0))


def proximal_sgd(
    θ,
    gradients,
    η,
    l1_regularization_strength=0.0,
    l2_regularization_strength=0.0,
    weight_decay=0.0,
):
    for _, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        θ = proximal(θ, g, rate, l1_regularization_strength, l2_regularization_strength)
    return θ


def proximal_adagrad(
    θ,
    gradients,
    η,
    initial_accumulator_value=0.1,
    l1_regularization_strength=0.0,
    l2_regularization_strength=0.0,
    weight_decay=0.0,
):
    r = np.full_like(θ, initial_accumulator_value)
    for _, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        r = r + g**2
        own = rate / np.sqrt(r)
        θ = proximal(θ, g, own, l1_regularization_strength, l2_regularization_strength)
    return θ


def gradient_controlled_sgd(
    θ, gradients, η, c=0.99, form="norm", compounding=False, weight_decay=0.0
):
    factor = 1.0
    for _, g, rate in numbered(gradients, η):
        θ = θ - rate * weight_decay * θ
        size = np.abs(g) if form == "elementwise" else np.sqrt(np.sum(g * g))
        factor = (factor if compounding else 1.0) / (1 + c * np.sqrt(size))
        θ = θ - rate * factor * g
    return θ


PENALTIES = [
    {"l1_regularization_strength": λ1, "l2_regularization_strength": λ2}
    for λ1, λ2 in ((0.05, 0.0), (0.0, 0.2), (5.5, 0.4))
]

CASES = [
    (
        "SGD",
        sgd,
        [
            {},
            {"weight_decay": 0.02},
            {"momentum": 0.9},
            {"momentum": 0.8, "nesterov": True, "weight_decay": 0.02},
        ],
    ),
    (
        "Adagrad",
        adagrad,
        [
            {},
            {"epsilon": 0.5},
            {"epsilon_position": "inside", "epsilon": 0.5},
            {"initial_accumulator_value": 0.1, "weight_decay": 0.02},
            {"initial_accumulator_value": 2.0, "epsilon_position": "inside", "epsilon": 1e-6},
        ],
    ),
    (
        "Adadelta",
        adadelta,
        [
            {},
            {"rho": 0.0},
            {"rho": 0.5, "epsilon": 0.1},
            {"rho": 0.9, "epsilon": 1e-3, "weight_decay": 0.02},
        ],
    ),
    (
        "RMSprop",
        rmsprop,
        [
            {},
            {"rho": 0.0},
            {"rho": 0.5, "epsilon": 0.1},
            {"epsilon_position": "outside", "epsilon": 0.1},
            {"momentum": 0.8, "weight_decay": 0.02},
            {"momentum": 0.8, "nesterov": True, "rho": 0.95},
            {"centered": True, "epsilon": 1e-3},
            {"centered": True, "epsilon": 0.1, "epsilon_position": "outside", "rho": 0.7},
            {"centered": True, "momentum": 0.7, "epsilon": 1e-3},
            {"centered": True, "momentum": 0.7, "nesterov": True, "epsilon": 0.01},
        ],
    ),
    (
        "Adam",
        adam,
        [
            {},
            {"beta_1": 0.0},
            {"beta_2": 0.0},
            {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1},
            {"epsilon_position": "inside", "epsilon": 0.01},
            {"amsgrad": True, "beta_2": 0.8},
            {"amsgrad": True, "epsilon_position": "inside", "weight_decay": 0.02},
        ],
    ),
    (
        "AdamW",
        adamw,
        [
            {},
            {"weight_decay": 0.0},
            {"weight_decay": 0.5, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1},
            {"amsgrad": True, "epsilon_position": "inside", "epsilon": 0.01},
        ],
    ),
    (
        "Adamax",
        adamax,
        [
            {},
            {"beta_1": 0.0},
            {"beta_2": 0.0, "epsilon": 0.01},
            {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1, "weight_decay": 0.02},
        ],
    ),
    (
        "Nadam",
        nadam,
        [
            {},
            {"beta_1": 0.0},
            {"beta_2": 0.0, "epsilon": 0.01},
            {"averaging": "constant"},
            {"averaging": "constant", "schedule_decay": 1.0, "weight_decay": 0.02},
            {"beta_1": 0.99, "schedule_decay": 0.0},
            {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 0.1, "schedule_decay": 0.5},
        ],
    ),
    (
        "AdaBound",
        adabound,
        [
            {},
            {"beta_1": 0.0, "gamma": 0.1},
            {"beta_2": 0.0, "final_lr": 0.01, "gamma": 1e-5},
            {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1, "gamma": 0.01},
            {"amsbound": True, "beta_2": 0.8, "gamma": 1e-4},
            {"amsbound": True, "base_learning_rate": 0.02, "weight_decay": 0.02},
        ],
    ),
    (
        "Ftrl",
        ftrl,
        [
            {},
            {"l1_regularization_strength": 0.5, "initial_accumulator_value": 1.0},
            {"l2_regularization_strength": 0.3, "l2_shrinkage_regularization_strength": 0.2},
            {"learning_rate_power": 0.0, "l1_regularization_strength": 0.1},
            {"learning_rate_power": -0.8, "beta": 1.0, "initial_accumulator_value": 0.0},
            {
                "learning_rate_power": -0.3,
                "l1_regularization_strength": 0.2,
                "l2_regularization_strength": 0.1,
                "l2_shrinkage_regularization_strength": 0.05,
                "beta": 0.5,
                "weight_decay": 0.02,
            },
        ],
    ),
    (
        "AdagradDA",
        adagrad_da,
        [{}, {"initial_gradient_squared_accumulator_value": 2.0}, *PENALTIES],
    ),
    ("ProximalSGD", proximal_sgd, [{}, {"weight_decay": 0.02}, *PENALTIES]),
    (
        "ProximalAdagrad",
        proximal_adagrad,
        [{}, {"initial_accumulator_value": 2.0, "weight_decay": 0.02}, *PENALTIES],
    ),
    (
        "GradientControlledSGD",
        gradient_controlled_sgd,
        [
            {},
            {"c": 0.002, "compounding": True, "weight_decay": 0.02},
            {"form": "elementwise", "c": 0.0},
            {"form": "elementwise", "c": 0.3, "weight_decay": 0.02},
            {"form": "elementwise", "c": 0.01, "compounding": True},
        ],
    ),
]

OPTIONS = {name: table for name, _, table in CASES}


@cache
def problem(steps, seeds=20, size=6):
    """Starts (seeds, size), gradients (steps, seeds, size) and rates, each row of its own seed.

    Gradients differ by five powers of ten between elements and by two between steps. Most
    lead away from zero, so that θ ends without cancellation. The rates are exact in float32.
    """
    starts, gradients = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        side = rng.choice([-1.0, 1.0], size=size)
        signs = -side * rng.choice([-1.0, 1.0], p=[0.2, 0.8], size=(steps, size))
        powers = rng.uniform(-3, 1, size=size) + rng.uniform(-1, 1, size=(steps, size))
        starts.append(side * rng.uniform(0.5, 1.5, size=size))
        gradients.append(signs * 10**powers)
    rates = np.where(np.arange(steps) < steps / 2, 2.0**-6, 2.0**-7)
    return np.array(starts), np.stack(gradients, axis=1), rates


def tensors(*values):
    """The arrays as tensors of the backend, in float64."""
    return [ops.convert_to_tensor(value, "float64") for value in values]


def stepper(optimizer, variables):
    """What applies one list of gradients to the variables: compiled, as `fit` does it.

    Outside of TensorFlow `apply` itself, since JAX compiles no step that writes variables.
    """
    if keras.backend.backend() != "tensorflow":
        return lambda gradients: optimizer.apply(gradients, variables)
    import tensorflow as tf

    optimizer.build(variables)
    return tf.function(lambda gradients: optimizer.apply(gradients, variables))


def descend(optimizer, variables, gradients, rates=None):
    """Apply to all variables, step by step, what `gradients` holds for each of them."""
    apply = stepper(optimizer, variables)
    for step, parts in enumerate(gradients):
        if rates is not None:
            optimizer.learning_rate = rates[step]
        apply([ops.convert_to_tensor(g, v.dtype) for g, v in zip(parts, variables, strict=True)])


def train(optimizer, start, gradients, dtype="float64", rates=None):
    """The variable that begins as `start`, after all gradients."""
    θ = keras.Variable(start, dtype=dtype)
    descend(optimizer, [θ], [[g] for g in gradients], rates)
    return θ


def slots(optimizer, name):
    """The optimizer's variables with this name, whether or not they are kept in one piece."""
    return [v for v in optimizer.variables if v.path.endswith((f"_{name}", f"/{name}"))]


def check(name, reference, options, dtype="float64", steps=100):
    """Raise AssertionError unless the optimizer `name` ends where `reference` does.

    The seeds share one variable, except where the rule takes the norm of a whole gradient.
    """
    norm = name == "GradientControlledSGD" and options.get("form") != "elementwise"
    start, gradients, rates = problem(steps)
    starts = np.split(start.astype(dtype).astype("float64"), 20 if norm else 1)
    gradients = np.split(gradients.astype(dtype).astype("float64"), len(starts), axis=1)
    variables = [keras.Variable(start, dtype=dtype) for start in starts]
    optimizer = getattr(kerasdl.optimizers, name)(rates[0], **options)
    descend(optimizer, variables, zip(*gradients, strict=True), rates)
    for θ, start, g in zip(variables, starts, gradients, strict=True):
        result, expected = ops.convert_to_numpy(θ), reference(start, g, rates, **options)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, rtol=TOLERANCES[dtype])
