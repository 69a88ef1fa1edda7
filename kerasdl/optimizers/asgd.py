"""Averaged gradient descent."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from kerasdl._checks import is_integer, require
from kerasdl.optimizers.base import Optimizer
from kerasdl.optimizers.sgd import gradient_descent


def running_mean(θ: Any, average: Any, n: Any) -> Any:
    """ā ← ā + (θ − ā)/n, the mean of n values; θ itself for n ≤ 1."""
    return ops.where(n > 1, average + (θ - average) / ops.where(n > 1, n, 1.0), θ)


class ASGD(Optimizer):
    """Gradient descent that also keeps the mean of the weights it has passed through.

    θ ← θ − ηg; ā ← ā + (θ − ā)/max(1, n), n the number of updates after the first t₀

    θ is trained and ā is shown: `swap_weights` puts ā into the model for evaluation and
    saving, and θ back for further training. Averaging takes out the noise of mini-batches
    that plain descent keeps for as long as η does not fall.

    η can stay large and constant, 1e-3 to 1e-1; it should fall more slowly than 1/t if it
    falls at all. PyTorch's class of this name also has η falling as η/(1 + ληt)^α; in Keras
    a schedule does that: `InverseTimeDecay` for α = 1, and `PolynomialDecay` where the end
    of the training is known. Set t₀ to where the loss stops falling fast, so that the mean
    is not one of the way there. Until then, and for a variable that never had a gradient,
    ā is θ.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        average_from: t₀ ≥ 0, the number of updates that are left out of the mean.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`, except lazy=True: the mean
            needs all rows.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable(0.0)
    >>> asgd = ASGD(learning_rate=1.0)
    >>> for _ in range(3):
    ...     asgd.apply([ops.array(-2.0)], [θ])
    >>> asgd.swap_weights(), float(θ.numpy())
    (True, 4.0)
    >>> asgd.swap_weights(), float(θ.numpy())
    (False, 6.0)

    References:
        N3 (list); Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by
        Averaging"; Ruppert 1988.
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.01,
        average_from: int = 0,
        **kwargs: Any,
    ) -> None:
        require(
            is_integer(average_from) and average_from >= 0,
            "average_from",
            average_from,
            "an integer ≥ 0",
            "Pass the number of updates that come before the mean.",
        )
        require(
            kwargs.get("lazy", False) is False,
            "lazy",
            kwargs.get("lazy"),
            "False in ASGD, whose mean needs all rows",
            "Leave it out.",
        )
        super().__init__(learning_rate, **kwargs)
        self.average_from = int(average_from)

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("average", "n")

    @property
    def scalar_slots(self) -> tuple[str, ...]:
        return ("n",)

    def slot_start(self, name: str) -> float:
        return float("nan") if name == "average" else 0.0

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        average, n = slots
        θ = gradient_descent(g, θ, η)
        n = n + ops.cast(t > self.average_from, n.dtype)
        return θ, (running_mean(θ, average, n), n)

    @property
    def shows_other_weights(self) -> bool:
        return True

    def shown(self, θ: Any, slots: Sequence[Any]) -> Any:
        """ā, or θ where there is none yet."""
        return ops.where(ops.isnan(slots[0]), θ, slots[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "average_from": self.average_from}
