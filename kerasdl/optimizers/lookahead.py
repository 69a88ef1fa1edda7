"""Lookahead: slow weights that follow the fast ones of any optimizer."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from kerasdl._checks import is_integer, is_real, require
from kerasdl.optimizers._backend import choose, on_every_device, read
from kerasdl.optimizers._wrapper import Wrapper


def follow(slow: Any, fast: Any, α: float) -> Any:
    """slow + α(fast − slow), from the other end: exact for α = 1."""
    return fast + (1 - α) * (slow - fast)


class Lookahead(Wrapper):
    """k updates of another optimizer, then one step back to where they started.

    After every k updates: φ ← φ + α(θ − φ); θ ← φ

    θ are the fast weights, those of the model, which the inner optimizer updates. φ are the
    slow ones; they start as the weights before the first update. The mean over k updates
    takes out oscillation, so the inner rate can be larger, and the choice of it matters less.

    k usually lies between 5 and 10, α between 0.5 and 0.8. What counts are updates: steps
    that only accumulate gradients, or that are skipped because of a NaN, do not. The inner
    optimizer keeps its moments when the weights go back, the simplest of the paper's three
    ways. Right after k updates the weights are the slow ones: evaluate there.

    Args:
        inner_optimizer: A Keras optimizer, the name of one of Keras', or a config.
        k: Number ≥ 1 of updates from one step of the slow weights to the next.
        alpha: α in (0, 1], the share of the way that the slow weights go.
        name: Name of the optimizer and prefix of its variables.
        **kwargs: None: arguments as `clipnorm` belong to the inner optimizer.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable(0.0)
    >>> optimizer = Lookahead(keras.optimizers.SGD(1.0), k=2, alpha=0.5)
    >>> for _ in range(3):
    ...     optimizer.apply([ops.array(-1.0)], [θ])
    ...     print(float(θ.numpy()))
    1.0
    1.0
    2.0

    References:
        N3 (list); Zhang et al. 2019, "Lookahead Optimizer: k steps forward, 1 step back",
        algorithm 1.
    """

    def __init__(
        self,
        inner_optimizer: Any,
        k: int = 5,
        alpha: float = 0.5,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        require(is_integer(k) and k >= 1, "k", k, "an integer ≥ 1", "Typical values are 5 to 10.")
        require(
            is_real(alpha) and 0 < alpha <= 1,
            "alpha",
            alpha,
            "in (0, 1]",
            "Typical values are 0.5 to 0.8.",
        )
        super().__init__(inner_optimizer, name, **kwargs)
        self.k = int(k)
        self.alpha = float(alpha)

    def build(self, variables: Any) -> None:
        """Make the slow weights and the variables of the inner optimizer."""
        if self.built:
            return
        variables = list(variables)
        self._slow = self.add_optimizer_variables(variables, "slow")
        super().build(variables)

    def around(self, update: Callable[[], None]) -> None:
        """Start the slow weights, update, and follow. `_iterations` counts the updates."""
        anchor = self._trainable_variables[0]
        before = self.iterations + 0
        on_every_device(self._start, [], anchor)
        update()
        on_every_device(self._count_and_follow, [before, read(self.iterations)], anchor)

    def _start(self, _: Sequence[Any]) -> None:
        def start() -> None:
            for slow, variable in self._pairs():
                self.assign(slow, ops.cast(read(variable), slow.dtype))

        self._where(read(self._iterations) == 0, start)

    def _count_and_follow(self, counts: Sequence[Any]) -> None:
        before, after = counts
        number = read(self._iterations) + ops.cast(after > before, self._iterations.dtype)
        self.assign(self._iterations, number)
        self._where(ops.logical_and(after > before, number % self.k == 0), self._follow)

    def _follow(self) -> None:
        for slow, variable in self._pairs():
            value = follow(read(slow), ops.cast(read(variable), slow.dtype), self.alpha)
            if getattr(variable, "constraint", None) is not None:
                value = variable.constraint(value)
            self.assign(slow, value)
            self.assign(variable, ops.cast(value, variable.dtype))

    def _where(self, condition: Any, action: Callable[[], None]) -> None:
        choose(condition, action, lambda: None, [*self._trainable_variables, *self._variables])

    def _pairs(self) -> list[tuple[Any, Any]]:
        """Slow and fast; none for a variable that Keras overwrites with its gradient."""
        pairs = zip(self._slow, self._trainable_variables, strict=True)
        return [(slow, variable) for slow, variable in pairs if slow is not None]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k, "alpha": self.alpha}
