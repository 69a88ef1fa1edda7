"""Adamax: Adam with the largest recent gradient in place of the root mean square."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from kerasdl import _wide
from kerasdl._checks import is_real, require, require_decay
from kerasdl.optimizers.adam import one_minus_power
from kerasdl.optimizers.base import Optimizer


def adamax(
    g: Any, θ: Any, m: Any, u: Any, η: Any, t: Any, β1: float, β2: float, ε: float
) -> tuple[Any, Any, Any]:
    """m ← β₁m + (1−β₁)g; u ← max(β₂u, |g|); θ ← θ − η/(1−β₁ᵗ) m/(u + ε). Returns θ, m, u."""
    m = β1 * m + (1 - β1) * g
    u = _wide.maximum(β2 * u, ops.abs(g))
    return θ - η / one_minus_power(β1, t) * m / (u + ε), m, u


class Adamax(Optimizer):
    """Adam in the infinity norm: steps are scaled by a decaying maximum of |g|.

    m ← β₁m + (1−β₁)g; u ← max(β₂u, |g|); θ ← θ − η/(1−β₁ᵗ) · m/(u + ε)

    The maximum needs no correction of its start. The paper has no ε; it is here for
    parameters whose gradients have all been zero, and changes other steps by the share
    ε/u. The steps are bounded by about η, a little more strictly than Adam's; η usually
    lies between 1e-4 and 1e-2, and the paper suggests 0.002.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        beta_1: β₁ in [0, 1), decay of the average of the gradients.
        beta_2: β₂ in [0, 1), decay of the maximum.
        epsilon: ε > 0, in units of the gradient.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable([1.0, -1.0])
    >>> Adamax(learning_rate=0.25).apply([ops.array([10.0, -0.5])], [θ])
    >>> θ.numpy().tolist()
    [0.75, -0.75]

    References:
        N3 and N4 (lists); Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization",
        section 7.1, algorithm 2.
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        **kwargs: Any,
    ) -> None:
        for argument, value, advice in (
            ("beta_1", beta_1, "Typical values are 0.8 to 0.95."),
            ("beta_2", beta_2, "Typical values are 0.99 to 0.9999."),
        ):
            require_decay(argument, value, advice)
        require(
            is_real(epsilon) and epsilon > 0,
            "epsilon",
            epsilon,
            "positive",
            "Typical values are 1e-8 to 1e-4.",
        )
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2 = float(beta_1), float(beta_2)
        self.epsilon = float(epsilon)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("m", "u")

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        m, u = slots
        θ, *new_slots = adamax(g, θ, m, u, η, t, self.beta_1, self.beta_2, self.epsilon)
        return θ, new_slots

    def get_config(self) -> dict[str, Any]:
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
