"""Adagrad: every parameter divides its step by what its gradients have added up to."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from keras import ops

from kerasdl._checks import is_real, require
from kerasdl.optimizers.base import Optimizer


def adagrad(g: Any, θ: Any, r: Any, η: Any, ε: float, inside: bool = False) -> tuple[Any, Any]:
    """r ← r + g²; θ ← θ − ηg/(ε + √r), or θ − ηg/√(r + ε) with ε inside. Returns θ, r."""
    r = r + ops.square(g)
    return θ - η * g / (ops.sqrt(r + ε) if inside else ε + ops.sqrt(r)), r


class Adagrad(Optimizer):
    """Gradient descent whose step shrinks with the sum of all squared gradients so far.

    r ← r + g², from r = `initial_accumulator_value`

    1. `epsilon_position="outside"`: θ ← θ − ηg/(ε + √r), as N2 has it (its δ is ε here).
    2. `epsilon_position="inside"`: θ ← θ − ηg/√(r + ε), as N3 has it, with ε = 1e-6.

    The first step is η in every coordinate and later ones fall like η/√t, so η is larger
    than for gradient descent: 0.01 to 1. r never forgets; where training stops too early,
    take RMSprop. The paper and the notes start from r = 0; Keras' own is
    `initial_accumulator_value=0.1, epsilon_position="inside"`.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        initial_accumulator_value: r ≥ 0 before the first update, in units of the squared
            gradient.
        epsilon: ε > 0, in units of the gradient outside the root, of its square inside.
        epsilon_position: "outside" or "inside" the square root.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable([1.0, -1.0])
    >>> Adagrad(learning_rate=0.25).apply([ops.array([10.0, -0.5])], [θ])
    >>> θ.numpy().round(4).tolist()
    [0.75, -0.75]

    References:
        N2, N3, N4; Duchi, Hazan & Singer 2011, "Adaptive Subgradient Methods for Online
        Learning and Stochastic Optimization" (diagonal form).
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.01,
        initial_accumulator_value: float = 0.0,
        epsilon: float = 1e-7,
        epsilon_position: Literal["outside", "inside"] = "outside",
        **kwargs: Any,
    ) -> None:
        require(
            is_real(initial_accumulator_value) and initial_accumulator_value >= 0,
            "initial_accumulator_value",
            initial_accumulator_value,
            "non-negative",
            "The paper has 0, Keras 0.1.",
        )
        require(
            is_real(epsilon) and epsilon > 0,
            "epsilon",
            epsilon,
            "positive",
            "Typical values are 1e-8 to 1e-4.",
        )
        require(
            epsilon_position in {"outside", "inside"},
            "epsilon_position",
            epsilon_position,
            '"outside" or "inside"',
            'N2 has "outside", N3 "inside".',
        )
        super().__init__(learning_rate, **kwargs)
        self.initial_accumulator_value = float(initial_accumulator_value)
        self.epsilon = float(epsilon)
        self.epsilon_position = epsilon_position

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("r",)

    def slot_start(self, name: str) -> float:
        return self.initial_accumulator_value

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        θ, r = adagrad(g, θ, slots[0], η, self.epsilon, self.epsilon_position == "inside")
        return θ, (r,)

    def get_config(self) -> dict[str, Any]:
        own = {
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
            "epsilon_position": self.epsilon_position,
        }
        return {**super().get_config(), **own}
