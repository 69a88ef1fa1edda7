"""AdaBound, and AMSBound as its option."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from kerasdl import _wide
from kerasdl._checks import is_real, require, require_decay
from kerasdl.optimizers.adam import moments, one_minus_power
from kerasdl.optimizers.base import Optimizer


def bounds(t: Any, η_final: Any, γ: float) -> tuple[Any, Any]:
    """η_l = η_final(1 − 1/(γt + 1)); η_u = η_final(1 + 1/(γt)); without cancellation."""
    ratio = γ * t / (γ * t + 1)
    return η_final * ratio, η_final / ratio


def bounded_rate(
    v: Any, η: Any, t: Any, β1: float, β2: float, ε: float, η_final: Any, γ: float
) -> Any:
    """η̂ = clip(η√(1−β₂ᵗ)/(1−β₁ᵗ)/(√v + ε), η_l(t), η_u(t))."""
    η_l, η_u = bounds(t, η_final, γ)
    corrected = η * one_minus_power(β2, t) ** 0.5 / one_minus_power(β1, t)
    return ops.clip(corrected / (ops.sqrt(v) + ε), η_l, η_u)


def adabound(
    g: Any,
    θ: Any,
    m: Any,
    v: Any,
    η: Any,
    t: Any,
    β1: float,
    β2: float,
    ε: float,
    η_final: Any,
    γ: float,
) -> tuple[Any, Any, Any]:
    """m, v as Adam's; η̂ by `bounded_rate`; θ ← θ − η̂m. Returns θ, m, v."""
    m, v = moments(g, m, v, β1, β2)
    return θ - bounded_rate(v, η, t, β1, β2, ε, η_final, γ) * m, m, v


def amsbound(
    g: Any,
    θ: Any,
    m: Any,
    v: Any,
    v_max: Any,
    η: Any,
    t: Any,
    β1: float,
    β2: float,
    ε: float,
    η_final: Any,
    γ: float,
) -> tuple[Any, Any, Any, Any]:
    """As `adabound`, with v_max ← max(v_max, v) in place of v. Returns θ, m, v, v_max."""
    m, v = moments(g, m, v, β1, β2)
    v_max = _wide.maximum(v_max, v)
    return θ - bounded_rate(v_max, η, t, β1, β2, ε, η_final, γ) * m, m, v, v_max


class AdaBound(Optimizer):
    """Adam whose rates are squeezed until it is gradient descent with momentum.

    m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − η̂m, where
    η̂ = clip(η√(1−β₂ᵗ)/(1−β₁ᵗ)/(√v + ε), η_l, η_u),
    η_l = η_final(1 − 1/(γt + 1)), η_u = η_final(1 + 1/(γt)), η_final = final_lr·η/η₀

    1. The variant is that of the authors' program, which their results come from. Both
       bias corrections belong to the rate that is clipped, so that the bounds hold for what
       multiplies m; ε is added to √v before the correction of v. The printed algorithm has
       neither bias corrections nor ε, and divides the clipped rate by √t, as its proof
       needs.
    2. η₀ is the learning rate at the start: a decay of η then also lowers the bounds, which
       alone decide late in training. It is kept in the configuration.
    3. `amsbound=True`: v_max ← max(v_max, v) in place of v. The maximum is over the v
       without correction, as in the authors' program (our AMSGrad: the corrected one).

    η as for Adam, final_lr as for gradient descent with momentum, 1e-2 to 1. About 1/γ
    updates bring the bounds to within a factor 2 of final_lr: let that be a good part of
    the training.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        beta_1: β₁ in [0, 1), decay of the average of the gradients.
        beta_2: β₂ in [0, 1), decay of the average of their squares.
        final_lr: Positive rate that both bounds approach while η = η₀.
        gamma: γ > 0, how fast they do, per update.
        epsilon: ε > 0, in units of the gradient.
        amsbound: Never let the denominator shrink.
        base_learning_rate: η₀ > 0; None for `learning_rate`, or what a schedule says for
            step 0 or the function says now. Pass it with schedules that start at zero.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> θ = keras.Variable([1.0, -1.0])
    >>> optimizer = AdaBound(0.001, beta_1=0.5, final_lr=0.5, gamma=1.0)
    >>> optimizer.apply([ops.array([1.0, -2.0])], [θ])
    >>> θ.numpy().tolist()
    [0.875, -0.75]

    References:
        N3 (recommended beyond Adam); Luo et al. 2019, "Adaptive Gradient Methods with
        Dynamic Bound of Learning Rate".
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        epsilon: float = 1e-8,
        amsbound: bool = False,
        base_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        require_decay("beta_1", beta_1, "Typical values are 0.8 to 0.95.")
        require_decay("beta_2", beta_2, "Typical values are 0.99 to 0.9999.")
        _require_positive("final_lr", final_lr, "Typical values are 1e-2 to 1.")
        _require_positive("gamma", gamma, "Typical values are 1e-4 to 1e-2.")
        _require_positive("epsilon", epsilon, "Typical values are 1e-8 to 1e-4.")
        require(isinstance(amsbound, bool), "amsbound", amsbound, "a bool", "Pass True or False.")
        super().__init__(learning_rate, **kwargs)
        base = _first_rate(learning_rate) if base_learning_rate is None else base_learning_rate
        _require_positive(
            "base_learning_rate", base, "Pass the learning rate that `final_lr` belongs to."
        )
        self.beta_1, self.beta_2 = float(beta_1), float(beta_2)
        self.final_lr, self.gamma = float(final_lr), float(gamma)
        self.epsilon = float(epsilon)
        self.amsbound = amsbound
        self.base_learning_rate = float(base)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v", "v_max") if self.amsbound else ("m", "v")

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        η_final = self.final_lr / self.base_learning_rate * η
        constants = (self.beta_1, self.beta_2, self.epsilon, η_final, self.gamma)
        if self.amsbound:
            m, v, v_max = slots
            θ, *new_slots = amsbound(g, θ, m, v, v_max, η, t, *constants)
        else:
            m, v = slots
            θ, *new_slots = adabound(g, θ, m, v, η, t, *constants)
        return θ, new_slots

    def get_config(self) -> dict[str, Any]:
        own = {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "final_lr": self.final_lr,
            "gamma": self.gamma,
            "epsilon": self.epsilon,
            "amsbound": self.amsbound,
            "base_learning_rate": self.base_learning_rate,
        }
        return {**super().get_config(), **own}


def _first_rate(learning_rate: Any) -> float:
    if isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        learning_rate = learning_rate(0)
    elif callable(learning_rate):
        learning_rate = learning_rate()
    return float(learning_rate)


def _require_positive(argument: str, value: Any, advice: str) -> None:
    require(is_real(value) and value > 0, argument, value, "positive", advice)
