"""One update of all variables, from gradients that are ready."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl.clipping._rows import Rows, mapped, values_of
from kerasdl.optimizers._backend import in_xla, is_tensorflow, read, read_rows
from kerasdl.optimizers._groups import Group, path_of
from kerasdl.optimizers._monitor import Monitor
from kerasdl.optimizers._multipliers import factors_of
from kerasdl.optimizers._noise import standard_normal
from kerasdl.optimizers._state import State

COMPILED = 2**16
"""Elements from which on the update of one variable is compiled; measured on two cores.

Small ones side by side are not: XLA takes longer over many buffers, and longer to compile them.
"""


class Update:
    """Clips, adds noise, decays, applies the rule, averages, and writes.

    Args:
        optimizer: Whose rule and arguments these are.
        state: Its state.

    Raises:
        ValueError: A pattern of the multipliers matches no variable.
    """

    def __init__(self, optimizer: Any, state: State) -> None:
        self.optimizer = optimizer
        self.state = state
        paths = [path_of(variable) for variable in state.variables]
        names = ("learning_rate_multipliers", "weight_decay_multipliers")
        rates, decays = (factors_of(name, getattr(optimizer, name), paths) for name in names)
        self.rates = [[rates[i] for i in group.indices] for group in state.groups]
        self.decays = [[decays[i] * self._decay(i) for i in g.indices] for g in state.groups]
        self.monitor: Monitor | None = None
        self._compiled: dict[int, Callable[..., None]] = {}

    def _decay(self, index: int) -> float:
        used = self.optimizer._use_weight_decay(self.state.variables[index])
        return (self.optimizer.weight_decay or 0.0) if used else 0.0

    def __call__(self, gradients: Sequence[Any], present: set[int], allowed: Any) -> None:
        """Update.

        Args:
            gradients: One per group; None for a group without.
            present: Indices of the variables that have a gradient.
            allowed: Whether anything may change: True or a boolean tensor.
        """
        optimizer = self.optimizer
        η, t = optimizer.learning_rate, optimizer.iterations + 1
        η = read(η) if isinstance(η, keras.Variable) else η
        raw, gradients = gradients, self._clipped_and_noisy(gradients, present, t)
        if self.monitor is not None:
            self.monitor.record(self, raw, gradients, η, t)
        for place, gradient in enumerate(gradients):
            if gradient is None:
                continue
            if isinstance(gradient, Rows):
                self._update_rows(place, gradient, η, t, allowed)
            else:
                self._update_group(place, gradient, present, η, t, allowed)
        if optimizer.use_ema:
            self._average(t, allowed)

    def _clipped_and_noisy(
        self, gradients: Sequence[Any], present: set[int], t: Any
    ) -> Sequence[Any]:
        optimizer, groups = self.optimizer, self.state.groups
        if not (optimizer.gradient_noise or optimizer.clips):
            return gradients
        parts: dict[int, Any] = {}
        for group, gradient in zip(groups, gradients, strict=True):
            if gradient is not None:
                parts |= zip(group.indices, group.split(gradient), strict=True)
        order = sorted(present)
        clipped = optimizer._clip_gradients([parts[index] for index in order])
        parts |= zip(order, clipped, strict=True)
        if optimizer.gradient_noise:
            for index in order:
                parts[index] = self._noisy(parts[index], t, index)
        return [
            None if gradient is None else group.join([parts[i] for i in group.indices])
            for group, gradient in zip(groups, gradients, strict=True)
        ]

    def _noisy(self, gradient: Any, t: Any, index: int) -> Any:
        """g + N(0, η_N/(1+t)^γ), there t from 0, here from 1."""
        optimizer = self.optimizer
        dtype = keras.backend.standardize_dtype(gradient.dtype)
        power = ops.cast(t, dtype) ** -optimizer.gradient_noise_decay
        σ = ops.sqrt(optimizer.gradient_noise * power)

        def noisy(g: Any) -> Any:
            new = g + σ * standard_normal(ops.shape(g), dtype, optimizer.seed, t, index)
            return gradient.where_used(new, g) if isinstance(gradient, Rows) else new

        return mapped(gradient, noisy)

    def _update_group(
        self, place: int, gradient: Any, present: set[int], η: Any, t: Any, allowed: Any
    ) -> None:
        group = self.state.groups[place]
        self._writer(place)(
            gradient,
            ops.convert_to_tensor(η, group.maths),
            ops.cast(t, group.maths),
            self._only(group, present, allowed),
        )

    def _writer(self, place: int) -> Callable[..., None]:
        """What updates one group in place, compiled where that pays."""
        group = self.state.groups[place]
        if not is_tensorflow() or group.together or group.size < COMPILED:
            return functools.partial(self._write_group, place)
        import tensorflow as tf

        # A compiled function keeps the variables that it was traced with: under a strategy
        # those would be one device's.
        if in_xla() or tf.distribute.has_strategy():
            return functools.partial(self._write_group, place)
        if place not in self._compiled:
            # The parameters name the inputs of TensorFlow's graph, which has to be ASCII.
            def write(g: Any, rate: Any, t: Any, allowed: Any) -> None:
                self._write_group(place, g, rate, t, allowed)

            self._compiled[place] = tf.function(write, jit_compile=True, autograph=False)
        return self._compiled[place]

    def _write_group(self, place: int, g: Any, η: Any, t: Any, allowed: Any) -> None:
        group = self.state.groups[place]
        new_θ, new_memory = self._new(place, g, *self._read(place, g), η, t, allowed)
        for variable, value in zip(group.variables, group.split(new_θ), strict=True):
            self.optimizer.assign(variable, value)
        for slot, value in zip(self._memory(place), new_memory, strict=True):
            self.optimizer.assign(slot, value)

    def preview(self, place: int, gradient: Any, η: Any, t: Any) -> tuple[Any, Any]:
        """θ and the θ that an update would give, of a group or of the gradient's rows."""
        group = self.state.groups[place]
        θ, memory = self._read(place, gradient)
        η, t = ops.convert_to_tensor(η, group.maths), ops.cast(t, group.maths)
        whole = not isinstance(gradient, Rows)
        new_θ, _ = self._new(place, values_of(gradient), θ, memory, η, t, True, whole)
        values = [ops.cast(value, group.maths) for value in (θ, new_θ)]
        if isinstance(gradient, Rows):
            values = [gradient.where_used(value, ops.zeros_like(value)) for value in values]
        return values[0], values[1]

    def _read(self, place: int, gradient: Any) -> tuple[Any, list[Any]]:
        """θ and the memory of a group, or of the rows that the gradient has."""
        group, memory = self.state.groups[place], self._memory(place)
        if not isinstance(gradient, Rows):
            θ = group.join([read(variable) for variable in group.variables])
            return θ, [read(slot) for slot in memory]
        return read_rows(group.variables[0], gradient.indices), [
            read_rows(slot, gradient.indices) if by_row else read(slot)
            for slot, by_row in zip(memory, self._by_row(place), strict=True)
        ]

    def _by_row(self, place: int) -> list[bool]:
        """Of each part of the memory, whether it has a row for each row of the variable."""
        of_slots = [not scalar for scalar in self.state.is_scalar]
        return of_slots + [True] * (self.state.residuals[place] is not None)

    def _memory(self, place: int) -> list[Any]:
        """The slots of a group, and its residual if it has one."""
        residual = self.state.residuals[place]
        return self.state.slots[place] + ([] if residual is None else [residual])

    def _only(self, group: Group, present: set[int], allowed: Any) -> Any:
        """`allowed`, and only where a gradient exists."""
        exists = [index in present for index in group.indices]
        if all(exists):
            return allowed
        mask = np.repeat(exists, group.sizes)
        return mask if allowed is True else ops.logical_and(mask, allowed)

    def _update_rows(self, place: int, rows: Rows, η: Any, t: Any, allowed: Any) -> None:
        """Update the rows that the gradient has, and write only those."""
        import tensorflow as tf

        group = self.state.groups[place]
        (variable,) = group.variables
        θ, memory = self._new(
            place,
            rows.values,
            *self._read(place, rows),
            ops.convert_to_tensor(η, group.maths),
            ops.cast(t, group.maths),
            allowed,
            whole=False,
        )

        def write(target: Any, value: Any) -> None:
            value = rows.where_used(value, value[:1])
            self.optimizer.assign(target, tf.IndexedSlices(value, rows.indices))

        write(variable, θ)
        slots = zip(self._memory(place), memory, self._by_row(place), strict=True)
        for slot, value, by_row in slots:
            if by_row:
                write(slot, value)
            else:
                self.optimizer.assign(slot, value)
        if group.constraint is not None:
            self.write(variable, group.constraint(read(variable)), allowed)

    def _new(
        self,
        place: int,
        g: Any,
        θ: Any,
        memory: Sequence[Any],
        η: Any,
        t: Any,
        allowed: Any,
        whole: bool = True,
    ) -> tuple[Any, list[Any]]:
        """The new θ and memory of a whole group, or of some rows: a pure function.

        θ, slots ← rule(g, (1 − ηλ)(θ + r), slots, η, t); r ← θ − round(θ)

        r, the residual, is what a short float cannot hold.
        """
        old = [θ, *memory]

        def updated() -> list[Any]:
            return self._moved(place, g, θ, memory, η, t, whole)

        if allowed is True:
            new = updated()
        elif self._branches(place, allowed):
            new = ops.cond(allowed, updated, lambda: old)
        else:
            group = self.state.groups[place]
            pairs = zip(updated(), old, strict=True)
            new = [self._kept(group, allowed, a, b) for a, b in pairs]
        return new[0], new[1:]

    def _branches(self, place: int, allowed: Any) -> bool:
        """Whether to compute nothing where nothing is allowed, rather than to select.

        XLA copies every tensor that a selection may leave as it was; a branch it does not.
        """
        if len(ops.shape(allowed)) or self.state.groups[place].size < COMPILED:
            return False
        return in_xla() or keras.backend.backend() == "jax"

    def _moved(
        self,
        place: int,
        g: Any,
        θ: Any,
        memory: Sequence[Any],
        η: Any,
        t: Any,
        whole: bool,
    ) -> list[Any]:
        """`_new` where it is allowed: θ, then the memory."""
        group = self.state.groups[place]
        slots = list(memory)
        residual = slots.pop() if self.state.residuals[place] is not None else None
        wide = ops.cast(θ, group.maths)
        wide = wide if residual is None else wide + residual
        rates, decays = self.rates[place], self.decays[place]
        η = η * group.spread(rates) if set(rates) != {1.0} else η
        if any(decays):
            wide = wide - η * group.spread(decays) * wide
        wide, new_slots = self._ruled(group, g, wide, slots, η, t)
        if group.constraint is not None and whole:
            wide = group.constraint(wide)
        new = [_rounded(wide, group.dtype), *new_slots]
        if residual is not None:
            new.append(wide - ops.cast(new[0], group.maths))
        return new

    def _ruled(
        self, group: Group, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, list[Any]]:
        """The rule, with the slots of one number per variable spread and gathered again."""
        scalar = self.state.is_scalar
        spread = [
            group.spread_slot(slot) if single else slot
            for slot, single in zip(slots, scalar, strict=True)
        ]
        θ, new_slots = self.optimizer.rule(g, θ, spread, η, t)
        return θ, [
            group.gather_slot(slot) if single else slot
            for slot, single in zip(new_slots, scalar, strict=True)
        ]

    def _kept(self, group: Group, allowed: Any, new: Any, old: Any) -> Any:
        """The new value where allowed; `allowed` is a scalar or has one value per element."""
        if len(ops.shape(allowed)) and tuple(new.shape) != group.shape:
            allowed = group.gather_slot(allowed)
        return ops.where(allowed, new, old)

    def write(self, variable: Any, value: Any, allowed: Any) -> None:
        """Assign where allowed."""
        if allowed is not True:
            value = ops.where(allowed, value, read(variable))
        self.optimizer.assign(variable, value)

    def _average(self, t: Any, allowed: Any) -> None:
        """ā ← θ at first, then βā + (1−β)θ; every so many updates θ ← ā."""
        optimizer = self.optimizer
        frequency = optimizer.ema_overwrite_frequency
        for variable, average in zip(self.state.variables, self.state.averages, strict=True):
            if average is None:
                continue
            old, θ = read(average), read(variable)
            β = ops.cast(ops.where(t == 1, 0.0, optimizer.ema_momentum), old.dtype)
            new = β * old + (1 - β) * ops.cast(θ, old.dtype)
            self.write(average, new, allowed)
            if frequency is not None:
                value = ops.where(t % frequency == 0, ops.cast(new, θ.dtype), θ)
                self.write(variable, value, allowed)


def _rounded(wide: Any, dtype: str) -> Any:
    """Cast to the variable's dtype; a float16 that would overflow stays at the largest."""
    if dtype == "float16":
        wide = ops.clip(wide, -65504.0, 65504.0)
    return ops.cast(wide, dtype)
