"""Gradient descent whose learning rate is controlled by the size of the gradient."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from keras import ops

from kerasdl._checks import is_real, require
from kerasdl.clipping import global_norm
from kerasdl.optimizers.base import Optimizer


def control_factor(size: Any, c: float) -> Any:
    """1/(1 + c√size)."""
    return 1 / (1 + c * ops.sqrt(size))


def controlled_descent(g: Any, θ: Any, η: Any, size: Any, c: float) -> Any:
    """θ ← θ − ηg/(1 + c√size)."""
    return θ - η * control_factor(size, c) * g


def compounding_descent(g: Any, θ: Any, a: Any, η: Any, size: Any, c: float) -> tuple[Any, Any]:
    """a ← a/(1 + c√size); θ ← θ − ηag. Returns θ, a."""
    a = a * control_factor(size, c)
    return θ - η * a * g, a


class GradientControlledSGD(Optimizer):
    """Gradient descent with small steps where the gradient is large.

    1. θ ← θ − ηg/(1 + c√‖g‖), ‖g‖ the norm of the gradient of the variable.
    2. `form="elementwise"`: |g| of each element in place of ‖g‖. For a single number both
       are N3's formula, α = 1/(1 + c√|f'|), which leaves η out (learning_rate=1).
    3. `compounding=True`: a ← a/(1 + c√‖g‖), from a = 1; θ ← θ − ηag. N3's program does
       this: it multiplies α in each step, before the update, and never resets it.

    The rate falls as the gradient grows, so the step grows like √‖g‖ only: a cliff does not
    throw the weights far away, and near a minimum the rate is the full η. N3's text
    describes the opposite of its formula and program; the latter two are implemented. η
    usually lies between 1e-2 and 1. With compounding take c of 0.01 or less: with N3's 0.99 a
    gradient of 1 halves the rate in each step, and training comes to a stand long before
    the minimum.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        c: c ≥ 0, strength of the control, per root of the unit of the gradient.
        form: "norm" or "elementwise".
        compounding: Let the factors multiply up; they are kept in the slot a.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable([1.0, 1.0])
    >>> GradientControlledSGD(0.5, c=1.0).apply([ops.array([0.0, 9.0])], [θ])
    >>> θ.numpy().tolist()
    [1.0, -0.125]

    References:
        N3 (gradient-based learning rate control, notebook 5).
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.01,
        c: float = 0.99,
        form: Literal["norm", "elementwise"] = "norm",
        compounding: bool = False,
        **kwargs: Any,
    ) -> None:
        require(is_real(c) and c >= 0, "c", c, "non-negative", "Typical values are 1e-3 to 1.")
        require(
            form in {"norm", "elementwise"},
            "form",
            form,
            '"norm" or "elementwise"',
            'Pass "norm" for one rate per variable.',
        )
        require(
            isinstance(compounding, bool),
            "compounding",
            compounding,
            "a bool",
            "Pass True or False.",
        )
        super().__init__(learning_rate, **kwargs)
        self.c = float(c)
        self.form = form
        self.compounding = compounding

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("a",) if self.compounding else ()

    def slot_start(self, name: str) -> float:
        return 1.0

    @property
    def elementwise(self) -> bool:
        return self.form == "elementwise"

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        size = global_norm([g]) if self.form == "norm" else ops.abs(g)
        if not self.compounding:
            return controlled_descent(g, θ, η, size, self.c), ()
        θ, a = compounding_descent(g, θ, slots[0], η, size, self.c)
        return θ, (a,)

    def get_config(self) -> dict[str, Any]:
        own = {"c": self.c, "form": self.form, "compounding": self.compounding}
        return {**super().get_config(), **own}
