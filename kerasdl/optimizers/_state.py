"""What an optimizer remembers: slots, sums of gradients, averages, weights put aside."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl.optimizers._backend import read
from kerasdl.optimizers._groups import Group, is_small, make_groups, path_of


class State:
    """The variables of an optimizer, and how they are saved.

    A file holds every slot by variable, as "m.3", whether or not the slot lies in a vector
    with others; so it can be read with another grouping and on another backend.

    Attributes:
        groups: The variables, small ones put together.
        slots: For each group, what the rule remembers.
        is_scalar: For each slot, whether it holds one number per variable.
        residuals: For each group of short floats, what the variables cannot hold; or None.
        accumulators: For each group the sum of gradients; or None.
        averages: For each variable its moving average; empty without.
        is_shown: 1 while the model has the weights to show; None where they are the trained.
        failed: See `Screen`.
        maxima: For each variable that Keras overwrites with its gradient, the largest so far.
        was_swapped: Whether `swap` has been called.
    """

    def __init__(self, optimizer: Any, variables: Sequence[Any]) -> None:
        self.optimizer = optimizer
        self.variables = list(variables)
        overwritten = optimizer._overwrite_variable_with_gradient
        self.groups = make_groups(variables, _alone(optimizer), overwritten)
        self.is_scalar = [name in optimizer.scalar_slots for name in optimizer.slot_names]
        self.slots = [
            [self._slot(group, name) for name in optimizer.slot_names] for group in self.groups
        ]
        self.residuals = [
            self._vector(group, "residual", 0.0) if group.maths != group.dtype else None
            for group in self.groups
        ]
        steps = optimizer.gradient_accumulation_steps
        self.accumulators = [
            self._vector(group, "accumulator", 0.0) if steps else None for group in self.groups
        ]
        self.maxima = [
            self._copy_of(v, "maximum") if steps and overwritten(v) else None for v in variables
        ]
        self.averages = (
            optimizer.add_optimizer_variables(variables, "average") if optimizer.use_ema else []
        )
        other = optimizer.has_other_weights
        self.trained = [self._copy_of(v, "trained") for v in variables] if other else []
        self.is_shown = self._integers((), "is_shown") if other else None
        self.failed = self._integers((2,), "failed")
        self.was_swapped = False

    def _slot(self, group: Group, name: str) -> Any:
        start = self.optimizer.slot_start(name)
        if name not in self.optimizer.scalar_slots:
            return self._vector(group, name, start)
        return self.optimizer.add_variable(
            (len(group.variables),), _filled(start), dtype=group.maths, name=name
        )

    def _vector(self, group: Group, name: str, start: float) -> Any:
        if not group.together:
            return self.optimizer.add_variable_from_reference(
                group.variables[0], name, _filled(start)
            )
        return self.optimizer.add_variable(
            group.shape, _filled(start), dtype=group.maths, name=f"{group.dtype}_{name}"
        )

    def _copy_of(self, variable: Any, name: str) -> Any:
        return self.optimizer.add_variable_from_reference(variable, name)

    def _integers(self, shape: tuple[int, ...], name: str) -> Any:
        return self.optimizer.add_variable(shape, "zeros", dtype="int32", name=name)

    def slot(self, name: str, index: int) -> np.ndarray:
        """A slot of one variable."""
        which = self.optimizer.slot_names.index(name)
        for group, slots in zip(self.groups, self.slots, strict=True):
            if index in group.indices:
                return self._parts(name, group, slots[which])[group.indices.index(index)]
        raise ValueError(
            f"Keras overwrites this variable with its gradient, so it has no slots. Received: "
            f"{self.variables[index]}. Ask for another one."
        )

    def size_of(self, index: int) -> int:
        """Number of elements of a variable."""
        return int(np.prod(tuple(self.variables[index].shape)))

    # Saving and loading

    def _grouped(self) -> Iterator[tuple[str, Group, Any]]:
        for place, group in enumerate(self.groups):
            yield from (
                (name, group, slot)
                for name, slot in (
                    *zip(self.optimizer.slot_names, self.slots[place], strict=True),
                    ("residual", self.residuals[place]),
                    ("accumulator", self.accumulators[place]),
                )
                if slot is not None
            )

    def _single(self) -> Iterator[tuple[str, Any]]:
        for name in ("averages", "trained", "maxima"):
            for index, variable in enumerate(getattr(self, name)):
                if variable is not None:
                    yield f"{name}.{index}", variable
        if self.is_shown is not None:
            yield "is_shown", self.is_shown

    def keys(self) -> list[str]:
        """Names of all parts of a saved state."""
        keys = [key for key, _ in self._single()]
        return keys + [f"{n}.{i}" for n, group, _ in self._grouped() for i in group.indices]

    def save(self, store: Any) -> None:
        """Write every part into `store`, a mapping from names to arrays."""
        for key, variable in self._single():
            store[key] = variable.numpy()
        for name, group, slot in self._grouped():
            for index, part in zip(group.indices, self._parts(name, group, slot), strict=True):
                store[f"{name}.{index}"] = part

    def load(self, store: Any) -> None:
        """Read every part from `store`.

        Raises:
            ValueError: A part has a wrong shape; nothing has been changed then.
        """
        new: list[tuple[Any, Any]] = []
        for key, variable in self._single():
            new.append((variable, _fitting(store, key, tuple(variable.shape), key)))
        for name, group, slot in self._grouped():
            parts = []
            old = self._parts(name, group, slot)
            for index, variable, part in zip(group.indices, group.variables, old, strict=True):
                key = f"{name}.{index}"
                parts.append(_fitting(store, key, part.shape, path_of(variable)))
            joined = np.concatenate([np.ravel(part) for part in parts])
            new.append((slot, np.reshape(joined, tuple(slot.shape))))
        for variable, value in new:
            variable.assign(value)

    def _parts(self, name: str, group: Group, slot: Any) -> list[np.ndarray]:
        array = ops.convert_to_numpy(slot)
        if name in self.optimizer.scalar_slots:
            return list(array)
        if not group.together:
            return [array]
        pieces = np.split(array, group.ends[:-1])
        return [p.reshape(shape) for p, shape in zip(pieces, group.shapes, strict=True)]

    # Weights to show

    def swap(self) -> bool:
        """See `Optimizer.swap_weights`."""
        assert self.is_shown is not None
        self.was_swapped = True
        shown = bool(self.is_shown.numpy())
        if shown:
            for variable, aside in zip(self.variables, self.trained, strict=True):
                # JAX would let them share the array, and refuse to have both overwritten.
                variable.assign(ops.copy(read(aside)))
        else:
            values = self._to_show()
            for variable, aside in zip(self.variables, self.trained, strict=True):
                aside.assign(variable)
            for variable, value in zip(self.variables, values, strict=True):
                variable.assign(value)
        self.is_shown.assign(int(not shown))
        return not shown

    def _to_show(self) -> list[Any]:
        if int(ops.convert_to_numpy(self.optimizer.iterations)) == 0:
            return [ops.copy(read(variable)) for variable in self.variables]
        if self.averages:
            return [
                ops.copy(read(variable if average is None else average))
                for variable, average in zip(self.variables, self.averages, strict=True)
            ]
        values = [ops.copy(read(variable)) for variable in self.variables]
        for group, slots in zip(self.groups, self.slots, strict=True):
            θ = ops.cast(group.join([values[i] for i in group.indices]), group.maths)
            memory = [
                group.spread_slot(read(slot)) if single else ops.copy(read(slot))
                for slot, single in zip(slots, self.is_scalar, strict=True)
            ]
            shown = self.optimizer.shown(θ, memory)
            shown = shown if group.constraint is None else group.constraint(shown)
            for index, value in zip(group.indices, group.split(shown), strict=True):
                values[index] = value
        return values


def _alone(optimizer: Any) -> Callable[[Any], bool]:
    """Which variables the optimizer updates by themselves."""
    sharded = keras.distribution.distribution() is not None

    def alone(variable: Any) -> bool:
        return (
            sharded
            or optimizer.lazy
            or not optimizer.elementwise
            or not is_small(variable)
            or getattr(variable, "constraint", None) is not None
        )

    return alone


def _filled(value: float) -> Callable[..., Any]:
    def initializer(shape: Sequence[int], dtype: Any = None) -> Any:
        # Keras' Constant rounds the value to floatx first.
        return ops.full(shape, value, dtype)

    return initializer


def _fitting(store: Any, key: str, shape: tuple[int, ...], path: str) -> Any:
    value = np.asarray(store[key])
    if tuple(value.shape) != tuple(shape):
        raise ValueError(
            f"The saved state of an optimizer must have the shapes of the model's variables. "
            f"Received: `{key}` of shape {tuple(value.shape)} for `{path}`, which needs "
            f"{tuple(shape)}. Load the state into the model that it was saved with."
        )
    return value
