"""Nadam: Adam with Nesterov's momentum on a schedule."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from keras import ops

from kerasdl._checks import is_real, require, require_decay
from kerasdl.optimizers.adam import adam_step, one_minus_power
from kerasdl.optimizers.base import Optimizer


def scheduled_momentum(t: Any, β1: float, ψ: float) -> Any:
    """μₜ = β₁(1 − ½·0.96^(ψt)), which rises from about β₁/2 to β₁."""
    return β1 * (1 - 0.5 * 0.96 ** (ψ * t))


def nadam(
    g: Any,
    θ: Any,
    m: Any,
    v: Any,
    Πμ: Any,
    η: Any,
    t: Any,
    β1: float,
    β2: float,
    ε: float,
    ψ: float = 0.004,
    scheduled: bool = True,
) -> tuple[Any, Any, Any, Any]:
    """m̂ = μₜ₊₁m/(1−Πμₜ₊₁) + (1−μₜ)g/(1−Πμₜ); θ ← θ − η m̂/(√v̂ + ε).

    Before it m ← μₜm + (1−μₜ)g, or with β₁ for μₜ unless `scheduled`; v and v̂ are Adam's.
    Returns θ, m, v, Πμₜ.
    """
    μ, μ_next = scheduled_momentum(t, β1, ψ), scheduled_momentum(t + 1, β1, ψ)
    decay = μ if scheduled else β1
    m = decay * m + (1 - decay) * g
    v = β2 * v + (1 - β2) * ops.square(g)
    Πμ = Πμ * μ
    m_hat = μ_next * m / (1 - Πμ * μ_next) + (1 - μ) * g / (1 - Πμ)
    v_hat = v / one_minus_power(β2, t)
    return adam_step(θ, m_hat, v_hat, η, ε, inside=False), m, v, Πμ


class Nadam(Optimizer):
    """Adam that looks one momentum step ahead, with a momentum that warms up.

    μₜ = β₁(1 − ½·0.96^(ψt)); Πμₜ = μ₁μ₂···μₜ; v ← β₂v + (1−β₂)g²; v̂ = v/(1−β₂ᵗ);
    m̂ = μₜ₊₁m/(1−Πμₜ₊₁) + (1−μₜ)g/(1−Πμₜ); θ ← θ − η m̂/(√v̂ + ε)

    1. `averaging="scheduled"`: m ← μₜm + (1−μₜ)g, the paper's, to which the correction by
       1 − Πμ belongs.
    2. `averaging="constant"`: m ← β₁m + (1−β₁)g, as in PyTorch and Keras. Keras' own also
       has ψ = 1, which raises μ to within a percent of β₁ in about a hundred updates;
       with ψ = 0.004 that takes 25 thousand.

    The paper prints β₂v/(1−β₂ᵗ) for v̂; the factor is Adam's, that is 1, as in the author's
    report and in all implementations. η usually lies between 1e-4 and 1e-2. Every variable
    has its own Πμ, a scalar in its maths dtype, so that the product advances exactly when
    its m does, and is saved with it.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        beta_1: β₁ in [0, 1), the momentum that the schedule approaches.
        beta_2: β₂ in [0, 1), decay of the average of squared gradients.
        epsilon: ε > 0, in units of the gradient.
        schedule_decay: ψ ≥ 0, pace of the schedule, per update; 0 keeps μ = β₁/2.
        averaging: "scheduled" or "constant" decay of m.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable([1.0, -1.0])
    >>> Nadam(0.25, beta_1=0.0).apply([ops.array([10.0, -0.5])], [θ])
    >>> θ.numpy().tolist()
    [0.75, -0.75]

    References:
        N3 and N4 (lists); Dozat 2016, "Incorporating Nesterov Momentum into Adam",
        algorithm 2; the schedule is from Sutskever et al. 2013 by way of Dozat's report.
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        schedule_decay: float = 0.004,
        averaging: Literal["scheduled", "constant"] = "scheduled",
        **kwargs: Any,
    ) -> None:
        _require_decays(beta_1, beta_2, schedule_decay)
        require(
            is_real(epsilon) and epsilon > 0,
            "epsilon",
            epsilon,
            "positive",
            "Typical values are 1e-8 to 1e-4.",
        )
        require(
            averaging in {"scheduled", "constant"},
            "averaging",
            averaging,
            '"scheduled" or "constant"',
            'The paper has "scheduled", Keras and PyTorch "constant".',
        )
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2 = float(beta_1), float(beta_2)
        self.epsilon = float(epsilon)
        self.schedule_decay = float(schedule_decay)
        self.averaging = averaging

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v", "mu_product")

    @property
    def scalar_slots(self) -> tuple[str, ...]:
        return ("mu_product",)

    def slot_start(self, name: str) -> float:
        return 1.0 if name == "mu_product" else 0.0

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        constants = (self.beta_1, self.beta_2, self.epsilon, self.schedule_decay)
        m, v, Πμ = slots
        scheduled = self.averaging == "scheduled"
        θ, *new_slots = nadam(g, θ, m, v, Πμ, η, t, *constants, scheduled)
        return θ, new_slots

    def get_config(self) -> dict[str, Any]:
        own = {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "schedule_decay": self.schedule_decay,
            "averaging": self.averaging,
        }
        return {**super().get_config(), **own}


def _require_decays(beta_1: Any, beta_2: Any, schedule_decay: Any) -> None:
    for argument, value, advice in (
        ("beta_1", beta_1, "Typical values are 0.8 to 0.99."),
        ("beta_2", beta_2, "Typical values are 0.99 to 0.9999."),
    ):
        require_decay(argument, value, advice)
    require(
        is_real(schedule_decay) and schedule_decay >= 0,
        "schedule_decay",
        schedule_decay,
        "non-negative",
        "The paper has 0.004, Keras 1.",
    )
