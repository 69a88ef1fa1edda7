"""Gradient descent, plain, with momentum, and with Nesterov's momentum."""

from collections.abc import Callable, Sequence
from typing import Any

from kerasdl._checks import is_real, require
from kerasdl.optimizers.base import Optimizer


def gradient_descent(g: Any, θ: Any, η: Any) -> Any:
    """θ ← θ − ηg."""
    return θ - η * g


def momentum_descent(g: Any, θ: Any, v: Any, η: Any, β: float) -> tuple[Any, Any]:
    """v ← βv − ηg; θ ← θ + v. Returns θ, v."""
    v = β * v - η * g
    return θ + v, v


def nesterov_descent(g: Any, θ: Any, v: Any, η: Any, β: float) -> tuple[Any, Any]:
    """v ← βv − ηg; θ̃ ← θ̃ + βv − ηg, g and θ̃ at the interim point. Returns θ̃, v."""
    v = β * v - η * g
    return θ + (β * v - η * g), v


class SGD(Optimizer):
    """Gradient descent; stochastic when the gradient comes from a mini-batch.

    1. `momentum=0`: θ ← θ − ηg
    2. `momentum=β`: v ← βv − ηg; θ ← θ + v
    3. `momentum=β, nesterov=True`: the gradient is taken at the interim point θ̃ = θ + βv,
       then v ← βv − ηg(θ̃); θ ← θ + v. The variables of the model hold θ̃, so the step
       reads θ̃ ← θ̃ + βv − ηg with the new v, which is N3's `val += mu*mom + grad`. The
       point that the algorithm has reached is θ = θ̃ − βv; the two meet where training
       converges.

    η usually lies between 1e-3 and 1e-1, β between 0.5 and 0.99; 0.9 is a good first try.
    With momentum the step grows up to 1/(1 − β) times, so lower η when raising β.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        momentum: β in [0, 1), the share of the velocity that survives a step.
        nesterov: Take the gradient at the interim point; needs momentum.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable(5.0)
    >>> SGD(learning_rate=0.1).apply([2.0 * θ], [θ])
    >>> float(θ.numpy())
    4.0

    References:
        N0, N2, N3, N4; Robbins & Monro 1951; N1, N2, N3 and Polyak 1964 (momentum); N1, N2,
        N3, Nesterov 1983 and Sutskever et al. 2013 (interim point).
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **kwargs: Any,
    ) -> None:
        require(
            is_real(momentum) and 0 <= momentum < 1,
            "momentum",
            momentum,
            "in [0, 1)",
            "Typical values are 0.5 to 0.99.",
        )
        require(
            isinstance(nesterov, bool),
            "nesterov",
            nesterov,
            "a bool",
            "Pass True or False.",
        )
        require(
            momentum > 0 or not nesterov,
            "nesterov",
            nesterov,
            "False without momentum",
            "Pass momentum=0.9 with it.",
        )
        super().__init__(learning_rate, **kwargs)
        self.momentum = float(momentum)
        self.nesterov = nesterov

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("v",) if self.momentum else ()

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        if not self.momentum:
            return gradient_descent(g, θ, η), ()
        step = nesterov_descent if self.nesterov else momentum_descent
        θ, v = step(g, θ, slots[0], η, self.momentum)
        return θ, (v,)

    @property
    def shows_other_weights(self) -> bool:
        return self.nesterov

    def shown(self, θ: Any, slots: Sequence[Any]) -> Any:
        """θ = θ̃ − βv."""
        return θ - self.momentum * slots[0] if self.nesterov else θ

    def get_config(self) -> dict[str, Any]:
        own = {"momentum": self.momentum, "nesterov": self.nesterov}
        return {**super().get_config(), **own}
