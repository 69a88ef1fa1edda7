"""RMSprop, with momentum, Nesterov's momentum and centering as its options.

The rule has two parts that combine freely: the gradient is divided by its root mean square,
or by its standard deviation; the quotient δ then takes the gradient's place in gradient
descent, in momentum, or in Nesterov's momentum, as in `kerasdl.optimizers.sgd`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from keras import ops

from kerasdl._checks import is_real, require, require_decay
from kerasdl.optimizers.base import Optimizer
from kerasdl.optimizers.sgd import gradient_descent, momentum_descent, nesterov_descent


def divided(g: Any, s: Any, ε: float, inside: bool) -> Any:
    """g/√(s + ε), or g/(√s + ε) with ε outside."""
    return g / (ops.sqrt(s + ε) if inside else ops.sqrt(s) + ε)


def rms_normalized(g: Any, s: Any, ρ: float, ε: float, inside: bool = True) -> tuple[Any, Any]:
    """s ← ρs + (1−ρ)g²; δ = g/√(s + ε). Returns δ, s."""
    s = ρ * s + (1 - ρ) * ops.square(g)
    return divided(g, s, ε, inside), s


def std_normalized(
    g: Any, σ2: Any, g_mean: Any, ρ: float, ε: float, inside: bool = True
) -> tuple[Any, Any, Any]:
    """ḡ ← ρḡ + (1−ρ)g; σ² = s − ḡ²; δ = g/√(σ² + ε). Returns δ, σ², ḡ.

    s is not kept, because s − ḡ² loses its digits, even its sign, where the gradient hardly
    varies. With d = g − ḡ_prev, putting both recurrences into s − ḡ² leaves
    σ² ← ρσ² + ρ(1−ρ)d², a sum of what is never negative.
    """
    d = g - g_mean
    σ2 = ρ * (σ2 + (1 - ρ) * ops.square(d))
    return divided(g, σ2, ε, inside), σ2, g_mean + (1 - ρ) * d


class RMSprop(Optimizer):
    """Gradient descent divided by a running root mean square of the gradient.

    s ← ρs + (1−ρ)g²

    1. θ ← θ − ηg/√(s + ε), as N1, N2, N3 and N4 have it.
    2. `epsilon_position="outside"`: θ ← θ − ηg/(√s + ε), as N0 has it.
    3. `momentum=α`: v ← αv − ηg/√(s + ε); θ ← θ + v.
    4. `momentum=α, nesterov=True`: the gradient is taken at the interim point θ̃ = θ + αv,
       then s and v as above; θ ← θ + v. The variables of the model hold θ̃, as they do in
       `SGD`: θ̃ ← θ̃ + αv − ηg/√(s + ε) with the new v. The point that the algorithm has
       reached is θ = θ̃ − αv.
    5. `centered=True`: also ḡ ← ρḡ + (1−ρ)g, and s − ḡ² for s under the root. It is
       computed so that no digits cancel.

    η usually lies between 1e-4 and 1e-2, ρ between 0.9 and 0.99. There is no correction of
    the zero at which s starts: the first step is η/√(1−ρ). With momentum the step grows up
    to 1/(1 − α) times. Centered, raise ε to 1e-4 or so: the denominator vanishes where the
    gradient stays the same.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        rho: ρ in [0, 1), decay of the averages.
        momentum: α in [0, 1), the share of the velocity that survives a step.
        epsilon: ε > 0, in units of the squared gradient inside the root, of the gradient
            outside. N2 has 1e-6.
        centered: Divide by the standard deviation instead of the root mean square.
        nesterov: Take the gradient at the interim point; needs momentum.
        epsilon_position: "inside" or "outside" the square root.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> θ = keras.Variable([1.0, -1.0])
    >>> RMSprop(learning_rate=0.25, rho=0.75).apply([ops.array([8.0, -0.5])], [θ])
    >>> θ.numpy().round(4).tolist()
    [0.5, -0.5]

    References:
        N0, N1, N2, N3, N4; Hinton 2012, "Neural Networks for Machine Learning", lecture 6e;
        N2 (both momenta); Graves 2013, "Generating Sequences With Recurrent Neural
        Networks" (centered).
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        nesterov: bool = False,
        epsilon_position: Literal["inside", "outside"] = "inside",
        **kwargs: Any,
    ) -> None:
        _require_decays(rho, momentum)
        _require_epsilon(epsilon, epsilon_position)
        for argument, flag in (("centered", centered), ("nesterov", nesterov)):
            require(isinstance(flag, bool), argument, flag, "a bool", "Pass True or False.")
        require(
            momentum > 0 or not nesterov,
            "nesterov",
            nesterov,
            "False without momentum",
            "Pass momentum=0.9 with it.",
        )
        super().__init__(learning_rate, **kwargs)
        self.rho, self.momentum = float(rho), float(momentum)
        self.epsilon = float(epsilon)
        self.centered, self.nesterov = centered, nesterov
        self.epsilon_position = epsilon_position

    @property
    def slot_names(self) -> tuple[str, ...]:
        averages = ("variance", "g_mean") if self.centered else ("s",)
        return (*averages, "v") if self.momentum else averages

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        constants = (self.rho, self.epsilon, self.epsilon_position == "inside")
        if self.centered:
            δ, *averages = std_normalized(g, slots[0], slots[1], *constants)
        else:
            δ, *averages = rms_normalized(g, slots[0], *constants)
        if not self.momentum:
            return gradient_descent(δ, θ, η), averages
        step = nesterov_descent if self.nesterov else momentum_descent
        θ, v = step(δ, θ, slots[-1], η, self.momentum)
        return θ, (*averages, v)

    @property
    def shows_other_weights(self) -> bool:
        return self.nesterov

    def shown(self, θ: Any, slots: Sequence[Any]) -> Any:
        """θ = θ̃ − αv."""
        return θ - self.momentum * slots[-1] if self.nesterov else θ

    def get_config(self) -> dict[str, Any]:
        own = {
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
            "nesterov": self.nesterov,
            "epsilon_position": self.epsilon_position,
        }
        return {**super().get_config(), **own}


def _require_decays(rho: Any, momentum: Any) -> None:
    for argument, value, advice in (
        ("rho", rho, "Typical values are 0.9 to 0.99."),
        ("momentum", momentum, "Typical values are 0.5 to 0.99."),
    ):
        require_decay(argument, value, advice)


def _require_epsilon(epsilon: Any, position: Any) -> None:
    require(
        is_real(epsilon) and epsilon > 0,
        "epsilon",
        epsilon,
        "positive",
        "Typical values are 1e-8 to 1e-4.",
    )
    require(
        position in {"inside", "outside"},
        "epsilon_position",
        position,
        '"inside" or "outside"',
        'N0 has "outside", the other notes "inside".',
    )
