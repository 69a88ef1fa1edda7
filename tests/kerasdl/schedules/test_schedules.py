"""Every schedule against its formula in long double, and against Keras' class of that name."""

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl
from kerasdl import schedules
from kerasdl.schedules import _time
from kerasdl.schedules.base import Schedule

pytestmark = pytest.mark.usefixtures("has_float64")

T = 7
L = np.longdouble
π = L("3.14159265358979323846264338327950288")


def exact(*numbers):
    return tuple(L(number) for number in numbers)


def exponential(t, η, k, p):
    return η * k**p


def inverse_time(t, η, k, p):
    return η / (1 + k * p)


def natural_exponential(t, η, k, p):
    return η * np.exp(-k * p)


def decaying(formula, η, k, stairs):
    η, k = exact(η, k)
    return lambda t: formula(t, η, k, L(int(t) // T) if stairs else L(int(t)) / T)


def piecewise(t):
    return L(0.3) if t <= 3 else L(0.1) if t <= 9.5 else L(0.01)


def polynomial(η, end, power, cycle):
    η, end = exact(η, end)

    def rate(t):
        length = T * max(-(-int(t) // T), 1) if cycle else T
        return (η - end) * (L(length - min(int(t), length)) / length) ** L(power) + end

    return rate


def linear(η, end):
    η, end = exact(η, end)

    def rate(t):
        a = L(min(int(t), T)) / T
        return (1 - a) * η + a * end

    return rate


def half_wave(p):
    return (1 + np.cos(π * p)) / 2


def cosine(η, α, target=None, w=0):
    η, α = exact(η, α)
    peak = η if target is None else L(target)

    def rate(t):
        if t < w:
            return η + (peak - η) * int(t) / w
        return peak * ((1 - α) * half_wave(L(min(int(t) - w, T)) / T) + α)

    return rate


def restarts(η, n, m, α):
    η, m, α = exact(η, m, α)

    def rate(t):
        i, start, length = 0, L(0), L(T)
        while start + length <= t:
            i, start, length = i + 1, start + length, length * n
        p = (int(t) - start) / length
        return η * ((1 - α) * m**i * half_wave(p) + α)

    return rate


def warmup(rate, w, first):
    def warmed(t):
        return L(first) + (rate(0) - L(first)) * int(t) / w if t < w else rate(int(t) - w)

    return warmed


CASES = {
    "exponential": (
        schedules.ExponentialDecay(0.3, T, 0.8),
        decaying(exponential, 0.3, 0.8, False),
    ),
    "exponential stairs": (
        schedules.ExponentialDecay(0.3, T, 0.8, staircase=True),
        decaying(exponential, 0.3, 0.8, True),
    ),
    "inverse time": (
        schedules.InverseTimeDecay(0.3, T, 0.7),
        decaying(inverse_time, 0.3, 0.7, False),
    ),
    "inverse time stairs": (
        schedules.InverseTimeDecay(0.3, T, 0.7, staircase=True),
        decaying(inverse_time, 0.3, 0.7, True),
    ),
    "natural exponential": (
        schedules.NaturalExponentialDecay(0.3, T, 0.7),
        decaying(natural_exponential, 0.3, 0.7, False),
    ),
    "natural exponential stairs": (
        schedules.NaturalExponentialDecay(0.3, T, 0.7, staircase=True),
        decaying(natural_exponential, 0.3, 0.7, True),
    ),
    "piecewise": (schedules.PiecewiseConstantDecay([3, 9.5], [0.3, 0.1, 0.01]), piecewise),
    "polynomial": (
        schedules.PolynomialDecay(0.3, T, 0.02, power=1.7),
        polynomial(0.3, 0.02, 1.7, False),
    ),
    "polynomial cycle": (
        schedules.PolynomialDecay(0.3, T, 0.02, power=0.6, cycle=True),
        polynomial(0.3, 0.02, 0.6, True),
    ),
    "linear": (schedules.LinearDecay(0.3, T), linear(0.3, L(0.01) * L(0.3))),
    "linear end": (schedules.LinearDecay(0.3, T, 0.1), linear(0.3, 0.1)),
    "cosine": (schedules.CosineDecay(0.3, T), cosine(0.3, 0)),
    "cosine warm": (
        schedules.CosineDecay(0.02, T, 0.1, warmup_target=0.3, warmup_steps=4),
        cosine(0.02, 0.1, 0.3, 4),
    ),
    "cosine target only": (
        schedules.CosineDecay(0.02, T, 0.1, warmup_target=0.3),
        cosine(0.02, 0.1, 0.3, 0),
    ),
    "restarts": (
        schedules.CosineDecayRestarts(0.3, T, m_mul=0.6, alpha=0.1),
        restarts(0.3, 2, 0.6, 0.1),
    ),
    "restarts equal": (
        schedules.CosineDecayRestarts(0.3, T, t_mul=1.0, m_mul=0.9),
        restarts(0.3, 1, 0.9, 0),
    ),
    "warm-up": (
        schedules.Warmup(schedules.CosineDecay(0.3, T), 5, 0.1),
        warmup(cosine(0.3, 0), 5, 0.1),
    ),
    "warm-up of a number": (schedules.Warmup(0.3, 5), warmup(lambda t: L(0.3), 5, 0)),
}
cases = pytest.mark.parametrize(("schedule", "formula"), CASES.values(), ids=CASES)
each_schedule = pytest.mark.parametrize(
    "schedule", [schedule for schedule, _ in CASES.values()], ids=CASES
)


def check(schedule, formula, steps, rtol, atol=0.0):
    values = [float(schedule(t)) for t in steps]
    expected = [float(formula(int(t))) for t in steps]
    np.testing.assert_allclose(values, expected, rtol=rtol, atol=atol)


def test_every_schedule_has_a_case():
    assert {type(schedule).__name__ for schedule, _ in CASES.values()} == set(schedules.__all__)
    assert schedules.__all__ == sorted(schedules.__all__)


@cases
@pytest.mark.parametrize("kind", ["int", "float", "int64", "float64", "variable"])
def test_formula_in_float64(schedule, formula, kind):
    make = {
        "int": int,
        "float": float,
        "int64": np.int64,
        "float64": lambda t: ops.convert_to_tensor(t, "float64"),
        "variable": lambda t: keras.Variable(t, dtype="int64", trainable=False),
    }[kind]
    assert keras.backend.standardize_dtype(schedule(make(2)).dtype) == "float64"
    # 1e-17 is for the reference: its cosine next to π leaves about that much.
    check(schedule, formula, [make(t) for t in range(3 * T + 8)], 1e-12, 1e-17)


@cases
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_formula_in_float32(schedule, formula, dtype, monkeypatch):
    monkeypatch.setattr(_time, "rate_dtype", lambda step: "float32")
    rate = schedule(ops.convert_to_tensor(2, dtype))
    assert keras.backend.standardize_dtype(rate.dtype) == "float32"
    # At a root of the cosine float32's π leaves an absolute error.
    atol = 1e-9 if "restarts" in str(type(schedule)).lower() else 1e-12
    steps = [ops.convert_to_tensor(t, dtype) for t in range(3 * T + 8)]
    check(schedule, formula, steps, 1e-6, atol)


LARGE = {
    "exponential": (
        lambda T: schedules.ExponentialDecay(0.3, T, 0.8),
        lambda T, t: L(0.3) * L(0.8) ** (L(t) / T),
    ),
    "stairs": (
        lambda T: schedules.ExponentialDecay(0.3, T, 0.8, staircase=True),
        lambda T, t: L(0.3) * L(0.8) ** L(t // T),
    ),
    "inverse": (
        lambda T: schedules.InverseTimeDecay(0.3, T, 0.7),
        lambda T, t: L(0.3) / (1 + L(0.7) * L(t) / T),
    ),
    "linear": (
        lambda T: schedules.LinearDecay(0.3, T, 0.0),
        lambda T, t: L(0.3) * L(max(T - t, 0)) / T,
    ),
    "polynomial": (
        lambda T: schedules.PolynomialDecay(0.3, T, 0.0, power=2.0),
        lambda T, t: L(0.3) * (L(max(T - t, 0)) / T) ** 2,
    ),
    "cosine": (
        lambda T: schedules.CosineDecay(0.3, T),
        lambda T, t: L(0.3) * np.sin(π / 2 * max(T - t, 0) / T) ** 2,
    ),
    "piecewise": (
        lambda T: schedules.PiecewiseConstantDecay([T], [0.3, 0.1]),
        lambda T, t: L(0.3) if t <= T else L(0.1),
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("make", "formula"), LARGE.values(), ids=LARGE)
def test_large_steps(make, formula, dtype, monkeypatch):
    """Beyond 2²⁴ float32 has no odd integers: t − 1, t and t + 1 are told apart all the same."""
    monkeypatch.setattr(_time, "rate_dtype", lambda step: dtype)
    rtol = 1e-12 if dtype == "float64" else 1e-6
    for period in (10**7, 2**24 + 1, 30_000_001):
        schedule = make(period)
        for t in (10**7 - 1, 10**7, period - 3, period - 1, period, period + 1):
            value = float(schedule(ops.convert_to_tensor(t, "int64")))
            assert value == pytest.approx(float(formula(period, t)), rel=rtol, abs=1e-30), t


def test_more_steps_than_32_bits_can_count():
    schedule = schedules.LinearDecay(1.0, 10**10, 0.0)
    assert float(schedule(10**10 - 1)) == pytest.approx(1e-10, rel=1e-12)
    assert float(schedule(np.int64(10**10 - 1))) == pytest.approx(1e-10, rel=1e-12)


def test_boundaries_too_large_for_the_integers_of_the_step(monkeypatch):
    monkeypatch.setattr(_time, "rate_dtype", lambda step: "float32")
    schedule = schedules.PiecewiseConstantDecay([3, 10**12], [1.0, 0.5, 0.25])
    steps = [ops.convert_to_tensor(t, "int32") for t in (3, 4, 2**31 - 1)]
    assert [float(schedule(t)) for t in steps] == [1.0, 0.5, 0.5]


def test_periods_that_are_not_whole_steps():
    schedule = schedules.ExponentialDecay(1.0, 2.5, 0.5, staircase=True)
    assert [float(schedule(t)) for t in range(6)] == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ExponentialDecay", (0.3, T, 0.8)),
        ("ExponentialDecay", (0.3, T, 0.8, True)),
        ("InverseTimeDecay", (0.3, T, 0.7)),
        ("InverseTimeDecay", (0.3, T, 0.7, True)),
        ("PolynomialDecay", (0.3, T, 0.02, 1.7)),
        ("PolynomialDecay", (0.3, T, 0.02, 0.6, True)),
        ("PiecewiseConstantDecay", ([3, 9], [0.3, 0.1, 0.01])),
        ("CosineDecay", (0.3, T, 0.1)),
        ("CosineDecay", (0.02, T, 0.1, "warm", 0.3, 4)),
        ("CosineDecayRestarts", (0.3, T, 1.0, 0.9, 0.1)),
    ],
)
def test_the_class_of_that_name_in_keras(name, arguments):
    ours = getattr(schedules, name)(*arguments)
    theirs = getattr(keras.optimizers.schedules, name)(*arguments)
    assert set(ours.get_config()) == set(theirs.get_config())
    for t in range(3 * T):
        assert float(ours(t)) == pytest.approx(float(theirs(t)), rel=2e-6, abs=1e-7)


@pytest.mark.tensorflow
def test_restarts_that_keras_misses():
    ours = schedules.CosineDecayRestarts(1.0, 10)
    theirs = keras.optimizers.schedules.CosineDecayRestarts(1.0, 10)
    starts = [10 * (2**i - 1) for i in range(1, 14)]
    assert [float(ours(t)) for t in starts] == [1.0] * 13
    assert any(float(theirs(t)) < 0.5 for t in starts)
    assert float(ours(20)) == pytest.approx(float(theirs(20)), abs=1e-6)


@pytest.mark.parametrize("t_mul", [2, 3, 5, 10])
def test_restarts_fall_on_their_steps(t_mul):
    """log(243)/log(3) is a little less than 5."""
    schedule = schedules.CosineDecayRestarts(1.0, t_mul - 1, t_mul)
    starts = [t_mul**i - 1 for i in range(1, 9)]
    assert [float(schedule(t)) for t in starts] == [1.0] * 8
    assert all(float(schedule(t - 1)) < 0.6 for t in starts[1:])


def test_warmup_is_that_of_the_cosine():
    apart = schedules.Warmup(schedules.CosineDecay(0.3, T, 0.1), 4, 0.02)
    within = schedules.CosineDecay(0.02, T, 0.1, warmup_target=0.3, warmup_steps=4)
    assert [float(apart(t)) for t in range(15)] == [float(within(t)) for t in range(15)]


def test_warmup_takes_a_schedule_of_keras():
    schedule = schedules.Warmup(keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5), 2)
    assert [float(schedule(t)) for t in range(4)] == [0.0, 0.25, 0.5, 0.25]


def compilers():
    if keras.backend.backend() == "jax":
        import jax

        return [jax.jit]
    import tensorflow as tf

    return [tf.function(jit_compile=jit_compile) for jit_compile in (False, True)]


@pytest.mark.compiled
@each_schedule
def test_in_a_compiled_function(schedule):
    for compiled in [compiler(schedule) for compiler in compilers()]:
        for t in (0, 3, 4, T, 2 * T + 1):
            rate = float(compiled(ops.convert_to_tensor(t, "int64")))
            assert rate == pytest.approx(float(schedule(t)), rel=1e-12, abs=1e-16)


@each_schedule
def test_config_round_trip(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(schedule)
    assert keras.saving.serialize_keras_object(again) == config
    assert [float(again(t)) for t in range(9)] == [float(schedule(t)) for t in range(9)]


@each_schedule
def test_in_fit(schedule):
    """The updates are those of plain gradient descent with the rates of the schedule."""
    x = np.array([[1.0, 2.0]], "float64")
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, use_bias=False, dtype="float64")]
    )
    model.compile(kerasdl.SGD(schedule), loss=lambda y, p: keras.ops.sum(p), jit_compile=False)
    before = model.get_weights()[0].ravel()
    model.fit(x, np.zeros((1, 1)), epochs=9, verbose=0)
    moved = before - model.get_weights()[0].ravel()
    np.testing.assert_allclose(moved, x[0] * sum(float(schedule(t)) for t in range(9)), rtol=1e-6)


def adam_model(learning_rate):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(kerasdl.Adam(learning_rate), loss="mse", jit_compile=False)
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", ["exponential", "piecewise", "warm-up"])
def test_saved_training_goes_on(name, rng, tmp_path):
    x = rng.normal(size=(32, 2)).astype("float32")
    model = adam_model(CASES[name][0])
    model.fit(x, x[:, :1], batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(x, x[:, :1], batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], loaded.get_weights()[0])
    assert float(loaded.optimizer.learning_rate) == float(CASES[name][0](8))


@pytest.mark.parametrize("name", ["linear", "piecewise", "restarts", "warm-up"])
def test_per_epoch(name, rng):
    schedule = CASES[name][0]
    x = rng.normal(size=(8, 2)).astype("float32")
    callback = kerasdl.LearningRateDecay(schedule)
    history = adam_model(0.1).fit(x, x[:, :1], epochs=6, verbose=0, callbacks=[callback])
    rates = history.history["learning_rate"]
    assert rates == pytest.approx([float(schedule(epoch)) for epoch in range(6)], rel=1e-6)


NOT_RATE = "must be a non-negative number. Received: {}. Typical values are 1e-4 to 1e-1."
NOT_STEPS = (
    "must be a positive number. Received: {}. "
    "Pass a number of steps, or of epochs under LearningRateDecay."
)
NOT_FLAG = "must be a bool. Received: {}. Pass True or False."
NOT_SHARE = "must be in [0, 1]. Received: {}. It is the share of the rate that is left at the end."
ONE_SCALE = {"initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.5}
TWO = {"initial_learning_rate": 0.1, "decay_steps": 5}
FIRST = {"initial_learning_rate": 0.1, "first_decay_steps": 5}
NOT_SCHEDULE = (
    "must be a non-negative number or a LearningRateSchedule. Received: {}. "
    "Typical values are 1e-4 to 1e-1."
)
INCREASING = (
    "must be a list of one or more increasing numbers. Received: {}. "
    "Pass the last step of every rate but the last."
)
VALUES = (
    "must be a list of 3 non-negative numbers, one more than boundaries. Received: {}. "
    "Pass the rate before each boundary and the rate after the last."
)


@pytest.mark.parametrize(
    ("name", "good", "argument", "value", "text"),
    [
        ("ExponentialDecay", ONE_SCALE, "initial_learning_rate", -0.1, NOT_RATE),
        ("ExponentialDecay", ONE_SCALE, "decay_steps", 0, NOT_STEPS),
        (
            "ExponentialDecay",
            ONE_SCALE,
            "decay_rate",
            0.0,
            "must be a positive number. Received: {}. Typical values are 0.9 to 0.99.",
        ),
        ("ExponentialDecay", ONE_SCALE, "staircase", 1, NOT_FLAG),
        ("InverseTimeDecay", ONE_SCALE, "initial_learning_rate", math.nan, NOT_RATE),
        ("InverseTimeDecay", ONE_SCALE, "decay_steps", "5", NOT_STEPS),
        (
            "InverseTimeDecay",
            ONE_SCALE,
            "decay_rate",
            -1,
            "must be a non-negative number. Received: {}. Typical values are 0.1 to 1.",
        ),
        ("InverseTimeDecay", ONE_SCALE, "staircase", None, NOT_FLAG),
        ("NaturalExponentialDecay", ONE_SCALE, "initial_learning_rate", True, NOT_RATE),
        ("NaturalExponentialDecay", ONE_SCALE, "decay_steps", math.inf, NOT_STEPS),
        (
            "NaturalExponentialDecay",
            ONE_SCALE,
            "decay_rate",
            None,
            "must be a non-negative number. Received: {}. Typical values are 0.01 to 0.5.",
        ),
        ("NaturalExponentialDecay", ONE_SCALE, "staircase", "yes", NOT_FLAG),
        ("PolynomialDecay", TWO, "initial_learning_rate", -1, NOT_RATE),
        ("PolynomialDecay", TWO, "decay_steps", -1, NOT_STEPS),
        ("PolynomialDecay", TWO, "end_learning_rate", -1e-3, NOT_RATE),
        (
            "PolynomialDecay",
            TWO,
            "power",
            0,
            "must be a positive number. Received: {}. Typical values are 0.5 to 2.",
        ),
        ("PolynomialDecay", TWO, "cycle", 0, NOT_FLAG),
        ("LinearDecay", TWO, "initial_learning_rate", "0.1", NOT_RATE),
        ("LinearDecay", TWO, "decay_steps", 0.0, NOT_STEPS),
        ("LinearDecay", TWO, "end_learning_rate", -1.0, NOT_RATE),
        ("CosineDecay", TWO, "initial_learning_rate", -1, NOT_RATE),
        ("CosineDecay", TWO, "decay_steps", 0, NOT_STEPS),
        ("CosineDecay", TWO, "alpha", 1.5, NOT_SHARE),
        ("CosineDecay", TWO, "warmup_target", -0.1, NOT_RATE),
        (
            "CosineDecay",
            TWO,
            "warmup_steps",
            2.5,
            "must be a non-negative integer. Received: {}. Pass 0 for no warm-up.",
        ),
        ("CosineDecayRestarts", FIRST, "initial_learning_rate", -1, NOT_RATE),
        ("CosineDecayRestarts", FIRST, "first_decay_steps", 0, NOT_STEPS),
        (
            "CosineDecayRestarts",
            FIRST,
            "t_mul",
            0.5,
            "must be a number ≥ 1. Received: {}. Pass 1.0 for periods of equal length.",
        ),
        (
            "CosineDecayRestarts",
            FIRST,
            "m_mul",
            0,
            "must be a positive number. Received: {}. Typical values are 0.5 to 1.",
        ),
        ("CosineDecayRestarts", FIRST, "alpha", -0.1, NOT_SHARE),
        ("PiecewiseConstantDecay", {"values": [1, 2, 3]}, "boundaries", [2, 2], INCREASING),
        ("PiecewiseConstantDecay", {"values": [1]}, "boundaries", [], INCREASING),
        ("PiecewiseConstantDecay", {"values": [1, 2]}, "boundaries", 3, INCREASING),
        ("PiecewiseConstantDecay", {"boundaries": [1, 2]}, "values", [1, 2], VALUES),
        ("PiecewiseConstantDecay", {"boundaries": [1, 2]}, "values", [1, 2, -1], VALUES),
        (
            "Warmup",
            {"warmup_steps": 3},
            "learning_rate",
            -0.1,
            NOT_SCHEDULE,
        ),
        (
            "Warmup",
            {"learning_rate": 0.1},
            "warmup_steps",
            0,
            "must be an integer ≥ 1. Received: {}. Leave Warmup out for no warm-up.",
        ),
        (
            "Warmup",
            {"learning_rate": 0.1, "warmup_steps": 1},
            "initial_learning_rate",
            -1,
            NOT_RATE,
        ),
    ],
)
def test_bad_arguments(name, good, argument, value, text):
    expected = f"`{argument}` {text.format(f'{argument}={value!r}')}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        getattr(schedules, name)(**{**good, argument: value})


def test_a_subclass_has_to_give_its_rate():
    with pytest.raises(NotImplementedError, match=r"^Schedule has to define `rate`\.$"):
        Schedule()(0)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_other_backends(backend):
    """The same numbers without TensorFlow under Keras (its NumPy backend needs JAX too)."""
    code = """
from kerasdl.schedules import *
made = [ExponentialDecay(0.3, 7, 0.8, True), InverseTimeDecay(0.3, 7, 0.7),
        NaturalExponentialDecay(0.3, 7, 0.7), PiecewiseConstantDecay([3, 9], [0.3, 0.1, 0.01]),
        PolynomialDecay(0.3, 7, cycle=True), LinearDecay(0.3, 7), CosineDecay(0.3, 7),
        CosineDecayRestarts(0.3, 7), Warmup(CosineDecay(0.3, 7), 4)]
print([[float(schedule(t)) for t in range(25)] for schedule in made])
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=Path(kerasdl.__file__).parent.parent,
    )
    scope = {}
    exec(code.replace("print(", "values = ("), scope)
    np.testing.assert_allclose(eval(result.stdout), scope["values"], rtol=1e-6, atol=1e-9)
