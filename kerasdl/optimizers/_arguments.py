"""What the arguments that all optimizers share may be."""

from collections.abc import Callable, Mapping
from typing import Any

from kerasdl._checks import is_integer, is_real, require

NONFINITE = ("raise", "skip", "allow")


def require_rate(learning_rate: Any, weight_decay: Any) -> None:
    """A rate that Keras can use, and a decay that is one."""
    require(
        callable(learning_rate) or (is_real(learning_rate) and learning_rate >= 0),
        "learning_rate",
        learning_rate,
        "a non-negative number, a LearningRateSchedule or a function without arguments",
        "Typical values are 1e-4 to 1e-1.",
    )
    require(
        weight_decay is None or (is_real(weight_decay) and weight_decay >= 0),
        "weight_decay",
        weight_decay,
        "non-negative or None",
        "Typical values are 1e-5 to 1e-1.",
    )


def plain_rate(learning_rate: Any) -> float | Callable[..., Any]:
    """The rate as Keras takes it: numbers of any kind as floats."""
    return learning_rate if callable(learning_rate) else float(learning_rate)


def require_positive_or_none(**arguments: Any) -> None:
    for argument, value in arguments.items():
        valid = value is None or (is_real(value) and value > 0)
        require(valid, argument, value, "positive or None", "Pass None to switch it off.")


def require_one_limit(**limits: Any) -> None:
    """At most one of the limits of the gradient."""
    require(
        sum(limit is not None for limit in limits.values()) <= 1,
        ", ".join(limits),
        tuple(limits.values()),
        "set one at a time",
        "Keep one of them.",
    )


def require_counts(steps: Any, frequency: Any, momentum: Any) -> None:
    """Numbers of steps, and the share of the old average."""
    require(
        steps is None or (is_integer(steps) and steps >= 2),
        "gradient_accumulation_steps",
        steps,
        "an integer ≥ 2 or None",
        "Pass None for an update in every step.",
    )
    require(
        frequency is None or (is_integer(frequency) and frequency >= 1),
        "ema_overwrite_frequency",
        frequency,
        "an integer ≥ 1 or None",
        "Pass None to leave the averages out of the training.",
    )
    require(
        is_real(momentum) and 0 <= momentum <= 1,
        "ema_momentum",
        momentum,
        "in [0, 1]",
        "Typical values are 0.9 to 0.9999.",
    )


def require_policy(nonfinite: Any) -> None:
    require(
        nonfinite in NONFINITE,
        "nonfinite",
        nonfinite,
        '"raise", "skip" or "allow"',
        'Pass "raise" to hear of a NaN or an infinity in a gradient.',
    )


def require_lazy(lazy: Any, steps: Any) -> None:
    require(isinstance(lazy, bool), "lazy", lazy, "a bool", "Pass True or False.")
    require(
        not lazy or steps is None,
        "lazy",
        lazy,
        "False with gradient_accumulation_steps, which fill all rows",
        "Drop one of the two.",
    )


def require_multipliers(**arguments: Any) -> None:
    """Mappings from patterns to factors that are no less than zero."""
    for argument, factors in arguments.items():
        valid = factors is None or (
            isinstance(factors, Mapping)
            and all(isinstance(key, str) and key.strip("/") for key in factors)
            and all(is_real(factor) and factor >= 0 for factor in factors.values())
        )
        require(
            valid,
            argument,
            factors,
            "None or a dict from patterns of variable paths to non-negative factors",
            'Pass for instance {"embedding": 0.1, "*/bias": 2.0}.',
        )


def require_noise(gradient_noise: Any, decay: Any, seed: Any) -> None:
    require_positive_or_none(gradient_noise=gradient_noise)
    require(
        is_real(decay) and decay >= 0,
        "gradient_noise_decay",
        decay,
        "non-negative",
        "The paper has 0.55; 0 keeps the noise constant.",
    )
    require(
        seed is None or (is_integer(seed) and 0 <= seed < 2**31),
        "seed",
        seed,
        "an integer in [0, 2³¹) or None",
        "Pass None to have one drawn.",
    )
