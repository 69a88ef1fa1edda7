"""Gradient clipping for any optimizer."""

from collections.abc import Callable, Sequence
from typing import Any

from kerasdl._checks import is_real, require
from kerasdl.clipping._by_argument import CLIPS
from kerasdl.optimizers._backend import is_tensorflow, sum_over_replicas
from kerasdl.optimizers._wrapper import Wrapper, chain


class _Clipping:
    """What stands in for the clipping of the innermost optimizer.

    Keras' own optimizers clip on every replica and sum afterwards. There the gradients are
    summed here, and each replica hands on its share of what is left.
    """

    def __init__(self, argument: str, limit: float) -> None:
        self.clip = CLIPS[argument]
        self.limit = limit

    def __call__(self, grads: Sequence[Any]) -> list[Any]:
        summed, replicas = sum_over_replicas(grads), _replicas_to_sum()
        clipped = self.clip(summed, self.limit)
        return clipped if replicas == 1 else [g / replicas for g in clipped]


class Clipped(Wrapper):
    """Any optimizer, with its gradients clipped.

    1. `clipnorm=c`: gᵢ ← gᵢ · min(1, c/‖gᵢ‖), per variable
    2. `clipvalue=c`: every element to [−c, c]
    3. `global_clipnorm=c`: gᵢ ← gᵢ · min(1, c/‖g‖), ‖g‖ over all variables
    4. `average_clipnorm=c`: gᵢ ← gᵢ · min(1, c/(‖gᵢ‖/nᵢ)), nᵢ elements

    Start with `global_clipnorm=1.0`; it keeps the direction of the step. Clipped is what is
    applied: after loss scaling is undone, after gradients were accumulated, after they were
    summed over the replicas of a strategy, and with equal rows of sparse gradients summed.
    For kerasdl's optimizers the arguments of these names do the same; this class is for
    Keras' own, which clip before the sum over replicas, and for any other.

    Args:
        inner_optimizer: A Keras optimizer, the name of one of Keras', or a config.
        clipnorm: Largest norm of the gradient of one variable; positive.
        clipvalue: Largest absolute value of one element of a gradient; positive.
        global_clipnorm: Largest norm of all gradients together; positive.
        average_clipnorm: Largest norm per element of the gradient of one variable; positive.
        name: Name of the optimizer and prefix of its variables.
        **kwargs: None: arguments as `use_ema` belong to the inner optimizer.

    Raises:
        ValueError: Not exactly one limit, one that is not positive, or an inner optimizer
            that has a limit of its own.

    Example:

    >>> import keras
    >>> from keras import ops
    >>> θ = keras.Variable([0.0, 0.0])
    >>> optimizer = Clipped(keras.optimizers.SGD(1.0), clipnorm=5.0)
    >>> optimizer.apply([ops.array([-6.0, -8.0])], [θ])
    >>> θ.numpy().tolist()
    [3.0, 4.0]

    References:
        N2 (cliffs), N4 (list); Pascanu et al. 2013, "On the difficulty of training
        recurrent neural networks".
    """

    def __init__(
        self,
        inner_optimizer: Any,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        average_clipnorm: float | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        limits = (clipnorm, clipvalue, global_clipnorm, average_clipnorm)
        given = {a: limit for a, limit in zip(CLIPS, limits, strict=True) if limit is not None}
        require(
            len(given) == 1,
            ", ".join(CLIPS),
            limits,
            "exactly one limit",
            "Start with global_clipnorm=1.0.",
        )
        ((argument, limit),) = given.items()
        require(
            is_real(limit) and limit > 0,
            argument,
            limit,
            "positive",
            "Use the inner optimizer alone to not clip.",
        )
        super().__init__(inner_optimizer, name, **kwargs)
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.average_clipnorm = average_clipnorm
        for optimizer in chain(self.inner_optimizer):
            _require_unclipped(optimizer)
        self._clipping = _Clipping(argument, float(limit))
        self._take_over()

    def _take_over(self) -> None:
        # Keras offers no public place between accumulating gradients and applying them.
        chain(self)[-1]._clip_gradients = self._clipping

    def around(self, update: Callable[[], None]) -> None:
        """Update, once it is certain that this clips and nothing else does."""
        present = vars(chain(self)[-1]).get("_clip_gradients")
        self._take_over()
        require(
            present is None or present is self._clipping,
            "callbacks",
            "GradientClipping",
            "without GradientClipping when the optimizer is Clipped",
            "Remove one of the two.",
        )
        update()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **{argument: getattr(self, argument) for argument in CLIPS}}


def _require_unclipped(optimizer: Any) -> None:
    require(
        not hasattr(optimizer, "optimizers"),
        "inner_optimizer",
        optimizer.name,
        "a single optimizer",
        "Clip those inside of it, each by itself.",
    )
    for argument in CLIPS:
        limit = getattr(optimizer, argument, None)
        require(
            limit is None,
            argument,
            limit,
            "None in the inner optimizer of Clipped",
            "Remove one of the two.",
        )


def _replicas_to_sum() -> int:
    """Over how many replicas `sum_over_replicas` sums here."""
    if not is_tensorflow():
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)
