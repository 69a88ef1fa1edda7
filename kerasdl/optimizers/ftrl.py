"""FTRL-Proximal: follow the regularized leader."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from kerasdl._checks import is_real, require
from kerasdl.optimizers.base import Optimizer
from kerasdl.optimizers.proximal_sgd import require_strength, soft_threshold


def growth(x: Any, d: Any, q: float) -> Any:
    """(x + d)^q − x^q for x, d, q ≥ 0, as x^q·((1 + d/x)^q − 1) where d is small."""
    small = x**q * ops.expm1(q * ops.log1p(d / x))
    return ops.where(d < x, small, (x + d) ** q - x**q)


def ftrl(
    g: Any,
    θ: Any,
    n: Any,
    z: Any,
    η: Any,
    n0: float,
    p: float,
    β: float,
    λ1: float,
    λ2: float,
    λs: float,
) -> tuple[Any, Any, Any]:
    """n ← n + g²; z ← z + g + 2λₛθ − σθ, σ = the growth of (n₀ + n)⁻ᵖ/η.

    θ ← −sign(z)·max(|z| − λ₁, 0)/((β + (n₀ + n)⁻ᵖ)/η + 2λ₂). Returns θ, n, z.
    """
    square = ops.square(g)
    σ = growth(n0 + n, square, -p) / η
    n = n + square
    z = z + g + 2 * λs * θ - σ * θ
    return -soft_threshold(z, λ1) / ((β + (n0 + n) ** -p) / η + 2 * λ2), n, z


class Ftrl(Optimizer):
    """Follow the regularized leader, for linear models with many rare features.

    σ = ((n₀ + n + g²)⁻ᵖ − (n₀ + n)⁻ᵖ)/η; n ← n + g²; z ← z + g + 2λₛθ − σθ;
    θ ← −sign(z)·max(|z| − λ₁, 0)/((β + (n₀ + n)⁻ᵖ)/η + 2λ₂)

    1. p = −1/2: the rates fall with the root of the sum of squares, as in the paper, where
       n₀ = λₛ = 0 and L2 is written λ₂ (here 2λ₂, for the penalty λ₂‖θ‖², as in Keras).
    2. p = 0: constant rates.
    3. λₛ > 0 adds the gradient of λₛ‖θ‖² to z, but not to n. Unlike in Keras and
       TensorFlow rows without a gradient shrink too: sparse gradients are made dense.

    A weight is zero while |z| ≤ λ₁; the zeros are exact. The variables should start at
    zero: z does, so the first update multiplies any other initial value by 1 − (n₀/(n₀ +
    g²))⁻ᵖ, which is zero for a weight without a gradient. η usually lies between 1e-2 and
    1. Keep it above 0 and constant: one that decays shrinks the weights in proportion.

    Args:
        learning_rate: η > 0, a `LearningRateSchedule`, or a function without arguments.
        learning_rate_power: p ≤ 0.
        initial_accumulator_value: n₀ ≥ 0, in units of the squared gradient; 0 only
            together with β > 0 or λ₂ > 0.
        l1_regularization_strength: λ₁ ≥ 0, in units of the gradient.
        l2_regularization_strength: λ₂ ≥ 0, in units of the gradient per unit of weight.
        l2_shrinkage_regularization_strength: λₛ ≥ 0, likewise.
        beta: β ≥ 0, in units of (n₀ + n)⁻ᵖ; lowers the first rates.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable([0.0, 0.0])
    >>> optimizer = Ftrl(0.5, initial_accumulator_value=12.0, l1_regularization_strength=1.0)
    >>> optimizer.apply([ops.array([2.0, 0.5])], [θ])
    >>> (θ.numpy() + 0.0).tolist()
    [-0.125, 0.0]

    References:
        N4 (list of TensorFlow's optimizers); McMahan et al. 2013, "Ad Click Prediction: a
        View from the Trenches", algorithm 1.
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **kwargs: Any,
    ) -> None:
        require_strength("l1_regularization_strength", l1_regularization_strength)
        require_strength("l2_regularization_strength", l2_regularization_strength)
        require_strength(
            "l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength
        )
        _require_beta(beta)
        _require_power(learning_rate_power)
        _require_start(initial_accumulator_value, beta + l2_regularization_strength > 0)
        require(
            not is_real(learning_rate) or learning_rate != 0,
            "learning_rate",
            learning_rate,
            "positive",
            "The rule divides by it.",
        )
        super().__init__(learning_rate, **kwargs)
        self.learning_rate_power = float(learning_rate_power)
        self.initial_accumulator_value = float(initial_accumulator_value)
        self.l1_regularization_strength = float(l1_regularization_strength)
        self.l2_regularization_strength = float(l2_regularization_strength)
        self.l2_shrinkage_regularization_strength = float(l2_shrinkage_regularization_strength)
        self.beta = float(beta)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("n", "z")

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        n, z = slots
        θ, *new_slots = ftrl(
            g,
            θ,
            n,
            z,
            η,
            self.initial_accumulator_value,
            self.learning_rate_power,
            self.beta,
            self.l1_regularization_strength,
            self.l2_regularization_strength,
            self.l2_shrinkage_regularization_strength,
        )
        return θ, new_slots

    def get_config(self) -> dict[str, Any]:
        own = {
            "learning_rate_power": self.learning_rate_power,
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1_regularization_strength": self.l1_regularization_strength,
            "l2_regularization_strength": self.l2_regularization_strength,
            "l2_shrinkage_regularization_strength": self.l2_shrinkage_regularization_strength,
            "beta": self.beta,
        }
        return {**super().get_config(), **own}


def _require_power(p: Any) -> None:
    require(
        is_real(p) and p <= 0,
        "learning_rate_power",
        p,
        "zero or negative",
        "The paper has -0.5; pass 0.0 for constant rates.",
    )


def _require_beta(β: Any) -> None:
    require(is_real(β) and β >= 0, "beta", β, "non-negative", "The paper has 1.0, Keras 0.0.")


def _require_start(n0: Any, bounded: bool) -> None:
    require(
        is_real(n0) and n0 >= 0,
        "initial_accumulator_value",
        n0,
        "non-negative",
        "Typical values are 1e-2 to 1.",
    )
    require(
        n0 > 0 or bounded,
        "initial_accumulator_value",
        n0,
        "positive without `beta` and `l2_regularization_strength`",
        "Weights without a gradient would be 0/0; pass beta=1.0 with it.",
    )
