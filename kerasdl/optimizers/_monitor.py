"""Numbers about the steps of an optimizer, measured while it takes them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl.clipping._rows import Rows, values_of
from kerasdl.optimizers._backend import choose, read
from kerasdl.optimizers._groups import path_of


def layer_names(paths: Sequence[str]) -> list[str]:
    """The layer of each variable: its path without the last part and the model's name.

    Example:

    >>> layer_names(["model/a/kernel", "model/a/bias", "model/b/c/kernel"])
    ['a', 'a', 'b/c']
    """
    owners = [path.rpartition("/")[0] or path for path in paths]
    first = {owner.partition("/")[0] for owner in owners}
    if len(first) == 1 and all("/" in owner for owner in owners):
        return [owner.partition("/")[2] for owner in owners]
    return owners


class Monitor:
    """Sums over the sampled updates of an epoch, one column per layer.

    Rows of `sums`: ‖g‖ before clipping; ‖Δθ‖/‖θ‖; share of the elements that clipping
    changed. See `layer_names`.

    Args:
        variables: The variables of the optimizer.
        every: Sample the first update of an epoch and every so many after it.
    """

    def __init__(self, variables: Sequence[Any], every: int) -> None:
        self.every = every
        owners = layer_names([path_of(variable) for variable in variables])
        self.layers = list(dict.fromkeys(owners))
        self.layer_of = [self.layers.index(owner) for owner in owners]
        shape = (3, len(self.layers))
        self.sums = keras.Variable(np.zeros(shape), dtype="float32", trainable=False, name="sums")
        self.clock = keras.Variable(0, dtype="int32", trainable=False, name="clock")
        self.count = keras.Variable(0, dtype="int32", trainable=False, name="count")

    @property
    def variables(self) -> list[Any]:
        return [self.sums, self.clock, self.count]

    def reset(self) -> None:
        """Start an epoch."""
        self.sums.assign(np.zeros(self.sums.shape))
        self.clock.assign(0)
        self.count.assign(0)

    def means(self) -> np.ndarray | None:
        """Means over the samples, (3, layers); None before the first sample."""
        count = int(ops.convert_to_numpy(self.count))
        return ops.convert_to_numpy(self.sums) / count if count else None

    def record(self, update: Any, raw: Any, gradients: Any, η: Any, t: Any) -> None:
        """Sample the update that is about to be made.

        Args:
            update: The `Update`, for its pure function.
            raw: Gradients of the groups before clipping.
            gradients: Those after it, and after the noise if there is some.
            η: Learning rate.
            t: Number of the update.
        """

        def sample() -> None:
            self.sums.assign(read(self.sums) + self._numbers(update, raw, gradients, η, t))
            self.count.assign(read(self.count) + 1)

        clock = read(self.clock)
        state = [*update.state.variables, *update.optimizer.variables]
        choose(clock % self.every == 0, sample, lambda: None, self.variables, state)
        self.clock.assign(clock + 1)

    def _numbers(self, update: Any, raw: Any, gradients: Any, η: Any, t: Any) -> Any:
        squares: list[list[list[Any]]] = [[[] for _ in self.layers] for _ in range(5)]
        for place, group in enumerate(update.state.groups):
            if gradients[place] is None:
                continue
            θ, new_θ = update.preview(place, gradients[place], η, t)
            before, after = values_of(raw[place]), values_of(gradients[place])
            changed = ops.cast(before != after, group.maths)
            counted = ops.ones_like(changed)
            if isinstance(gradients[place], Rows):
                counted = gradients[place].where_used(counted, ops.zeros_like(counted))
            tensors = (before, new_θ - θ, θ, changed, counted)
            for row, tensor in zip(squares, tensors, strict=True):
                parts = [tensor] if tensor.shape != group.shape else group.split(tensor)
                for index, part in zip(group.indices, parts, strict=True):
                    row[self.layer_of[index]].append(ops.sum(ops.square(part)))
        g2, Δ2, θ2, changed, n = [
            ops.stack([ops.cast(sum(each), "float32") if each else ops.zeros(()) for each in row])
            for row in squares
        ]
        tiny = np.finfo("float32").tiny
        ratio = ops.sqrt(Δ2 / ops.maximum(θ2, tiny))
        return ops.stack([ops.sqrt(g2), ratio, changed / ops.maximum(n, 1.0)])
