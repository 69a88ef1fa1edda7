"""Adam, and AMSGrad as its option."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from keras import ops

from kerasdl import _wide
from kerasdl._checks import is_real, require, require_decay
from kerasdl.optimizers.base import Optimizer


def one_minus_power(β: float, t: Any) -> Any:
    """1 − βᵗ without cancellation: −expm1(t·log β), log β in double precision.

    In float32 the direct form is wrong by 5e-5 at β = 0.999 and t = 1, because β itself is
    rounded; this one is right to the last digits.
    """
    return -ops.expm1(t * math.log(β)) if β else 1.0


def moments(g: Any, m: Any, v: Any, β1: float, β2: float) -> tuple[Any, Any]:
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g². Returns m, v."""
    return β1 * m + (1 - β1) * g, β2 * v + (1 - β2) * ops.square(g)


def adam_step(θ: Any, m_hat: Any, v_hat: Any, η: Any, ε: float, inside: bool) -> Any:
    """θ − η m̂/(√v̂ + ε), or θ − η m̂/√(v̂ + ε) with ε inside."""
    return θ - η * m_hat / (ops.sqrt(v_hat + ε) if inside else ops.sqrt(v_hat) + ε)


def adam(
    g: Any,
    θ: Any,
    m: Any,
    v: Any,
    η: Any,
    t: Any,
    β1: float,
    β2: float,
    ε: float,
    inside: bool = False,
) -> tuple[Any, Any, Any]:
    """m̂ = m/(1−β₁ᵗ); v̂ = v/(1−β₂ᵗ); θ ← θ − η m̂/(√v̂ + ε). Returns θ, m, v."""
    m, v = moments(g, m, v, β1, β2)
    m_hat = m / one_minus_power(β1, t)
    v_hat = v / one_minus_power(β2, t)
    return adam_step(θ, m_hat, v_hat, η, ε, inside), m, v


def amsgrad(
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
    inside: bool = False,
) -> tuple[Any, Any, Any, Any]:
    """As `adam`, with v̂ ← max(v̂_prev, v̂). Returns θ, m, v, v̂."""
    m, v = moments(g, m, v, β1, β2)
    m_hat = m / one_minus_power(β1, t)
    v_max = _wide.maximum(v_max, v / one_minus_power(β2, t))
    return adam_step(θ, m_hat, v_max, η, ε, inside), m, v, v_max


class Adam(Optimizer):
    """Gradient descent with running averages of the gradient and of its square.

    m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; m̂ = m/(1−β₁ᵗ); v̂ = v/(1−β₂ᵗ)

    1. `epsilon_position="outside"`: θ ← θ − η m̂/(√v̂ + ε), the paper's algorithm, ε added
       after the bias correction (not the paper's "ε hat" variant, which Keras' own Adam
       has).
    2. `epsilon_position="inside"`: θ ← θ − η m̂/√(v̂ + ε), as N0 prints it too.
    3. `amsgrad=True`: v̂ ← max(v̂_prev, v̂) first. The maximum is over the corrected v̂.

    η usually lies between 1e-4 and 1e-2; β₁ and β₂ are seldom changed. Raise ε to 1e-4 or
    more when steps get wild at places where gradients almost vanish.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        beta_1: β₁ in [0, 1), decay of the average of the gradients.
        beta_2: β₂ in [0, 1), decay of the average of their squares.
        epsilon: ε > 0, in units of the gradient outside the root, of its square inside.
        amsgrad: Never let the denominator shrink.
        epsilon_position: "outside" or "inside" the square root.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable([1.0, -1.0])
    >>> Adam(learning_rate=0.25).apply([ops.array([10.0, -0.1])], [θ])
    >>> θ.numpy().tolist()
    [0.75, -0.75]

    References:
        N0, N1, N3, N4; Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization",
        algorithm 1; Reddi et al. 2018, "On the Convergence of Adam and Beyond" (AMSGrad).
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        amsgrad: bool = False,
        epsilon_position: Literal["outside", "inside"] = "outside",
        **kwargs: Any,
    ) -> None:
        require_decay("beta_1", beta_1, "Typical values are 0.8 to 0.95.")
        require_decay("beta_2", beta_2, "Typical values are 0.99 to 0.9999.")
        require(
            is_real(epsilon) and epsilon > 0,
            "epsilon",
            epsilon,
            "positive",
            "Typical values are 1e-8 to 1e-4.",
        )
        require(isinstance(amsgrad, bool), "amsgrad", amsgrad, "a bool", "Pass True or False.")
        require(
            epsilon_position in {"outside", "inside"},
            "epsilon_position",
            epsilon_position,
            '"outside" or "inside"',
            'The paper has "outside".',
        )
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2 = float(beta_1), float(beta_2)
        self.epsilon = float(epsilon)
        self.amsgrad = amsgrad
        self.epsilon_position = epsilon_position

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v", "v_max") if self.amsgrad else ("m", "v")

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        inside = self.epsilon_position == "inside"
        constants = (self.beta_1, self.beta_2, self.epsilon, inside)
        if self.amsgrad:
            m, v, v_max = slots
            θ, *new_slots = amsgrad(g, θ, m, v, v_max, η, t, *constants)
        else:
            m, v = slots
            θ, *new_slots = adam(g, θ, m, v, η, t, *constants)
        return θ, new_slots

    def get_config(self) -> dict[str, Any]:
        own = {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
            "epsilon_position": self.epsilon_position,
        }
        return {**super().get_config(), **own}
