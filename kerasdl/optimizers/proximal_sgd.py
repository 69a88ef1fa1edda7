"""Proximal gradient descent: the L1 and L2 penalties are solved, not differentiated."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from kerasdl._checks import is_real, require
from kerasdl.optimizers.base import Optimizer


def soft_threshold(x: Any, λ: Any) -> Any:
    """sign(x)·max(|x| − λ, 0), the proximal operator of λ‖x‖₁."""
    return ops.sign(x) * ops.relu(ops.abs(x) - λ)


def proximal_step(g: Any, θ: Any, η: Any, λ1: float, λ2: float) -> Any:
    """u = θ − ηg; θ ← sign(u)·max(|u| − ηλ₁, 0)/(1 + ηλ₂)."""
    return soft_threshold(θ - η * g, η * λ1) / (1 + η * λ2)


def require_strength(argument: str, value: Any) -> None:
    """Raise ValueError unless `value` is the strength of a penalty."""
    require(
        is_real(value) and value >= 0,
        argument,
        value,
        "non-negative",
        "Typical values are 1e-5 to 1e-2; pass 0.0 for none.",
    )


class ProximalSGD(Optimizer):
    """Gradient descent that brings weights to exactly zero.

    u = θ − ηg; θ ← sign(u)·max(|u| − ηλ₁, 0)/(1 + ηλ₂)

    1. This is the minimizer over θ of λ₁‖θ‖₁ + ½λ₂‖θ‖² + ‖θ − u‖²/(2η): the descent u is
       for the loss alone, the penalties are then dealt with exactly.
    2. λ₁ = λ₂ = 0: θ ← θ − ηg.

    Use it in place of an L1 regularizer where the zeros matter: a gradient step on λ₁|θ|
    jumps across zero, this one stops there. Do not give the same penalty to the layer as
    well. Each step takes ηλ₁ off every weight, so choose λ₁ from the gradients that an
    unimportant weight still gets.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        l1_regularization_strength: λ₁ ≥ 0, in units of the gradient.
        l2_regularization_strength: λ₂ ≥ 0, in units of the gradient per unit of weight.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable([1.0, 0.2])
    >>> optimizer = ProximalSGD(learning_rate=0.5, l1_regularization_strength=0.5)
    >>> optimizer.apply([ops.array([1.0, 0.0])], [θ])
    >>> θ.numpy().tolist()
    [0.25, 0.0]

    References:
        N4 (list of TensorFlow's optimizers); Duchi & Singer 2009, "Efficient Online and
        Batch Learning Using Forward Backward Splitting".
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.01,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        **kwargs: Any,
    ) -> None:
        require_strength("l1_regularization_strength", l1_regularization_strength)
        require_strength("l2_regularization_strength", l2_regularization_strength)
        super().__init__(learning_rate, **kwargs)
        self.l1_regularization_strength = float(l1_regularization_strength)
        self.l2_regularization_strength = float(l2_regularization_strength)

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        λ1, λ2 = self.l1_regularization_strength, self.l2_regularization_strength
        return proximal_step(g, θ, η, λ1, λ2), ()

    def get_config(self) -> dict[str, Any]:
        own = {
            "l1_regularization_strength": self.l1_regularization_strength,
            "l2_regularization_strength": self.l2_regularization_strength,
        }
        return {**super().get_config(), **own}
