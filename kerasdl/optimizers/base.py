"""What every optimizer of kerasdl shares.

An algorithm is one pure function, its *rule*: from the gradient g, the variable θ, the
*slots* (the algorithm's own memory, one tensor per variable and name), the learning rate η
and the number t of the update, to the new θ and the new slots. The class here does
everything else: it makes the slots, chooses the dtype, reads, calls the rule, writes, and
keeps the promises of Keras' base class.
"""

import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import keras
from keras import ops

from kerasdl._checks import require
from kerasdl.clipping._by_argument import CLIPS
from kerasdl.clipping._rows import distinct_rows, is_sparse, mapped
from kerasdl.clipping._tensors import maths_dtype, widen
from kerasdl.optimizers import _arguments as arguments
from kerasdl.optimizers._backend import (
    choose,
    no_gradient,
    not_converted,
    on_every_device,
    sum_over_replicas,
)
from kerasdl.optimizers._groups import path_of
from kerasdl.optimizers._monitor import Monitor
from kerasdl.optimizers._multipliers import without_prefix
from kerasdl.optimizers._nonfinite import Screen
from kerasdl.optimizers._state import State
from kerasdl.optimizers._update import Update
from kerasdl.optimizers._wide_slots import WideSlots
from kerasdl.schedules._time import rate_dtype


class Optimizer(WideSlots):
    """Base of the optimizers: a subclass names its slots and gives its rule.

    θ, slots ← rule(g, (1 − ηλ)θ, slots, η, t), λ the weight decay, t = 1, 2, 3, ...

    1. Mathematics and slots are in float32 or wider, whatever the variable's dtype. What a
       bfloat16 or float16 variable cannot hold of an update is kept in a slot and added to
       the next one, so small updates are not lost.
    2. Repeated indices of sparse gradients (`tf.IndexedSlices`) are summed before anything
       else.
    3. Order of one update: sum over replicas, look for NaN and infinities, accumulate, clip,
       noise, decay, rule, constraint, moving average.
    4. t counts updates: with gradient accumulation, one per `gradient_accumulation_steps`.
    5. A run that is stopped and continued from its file ends with the same bits.

    Where the backend has float64 (JAX in its x64 mode only) the learning rate is kept in it,
    so that 0.1 is 0.1 for float64 variables.

    Args:
        learning_rate: η ≥ 0, or a `LearningRateSchedule` (it sees Keras' count of steps,
            which is larger than t with gradient accumulation), or a function without
            arguments.
        weight_decay: λ ≥ 0 of the decoupled decay θ ← θ − ηλθ; None for none.
        clipnorm: Largest norm of the gradient of one variable; positive, None for no limit.
        clipvalue: Largest absolute value of one element of a gradient; likewise.
        global_clipnorm: Largest norm of all gradients together; likewise.
        average_clipnorm: Largest norm per element, ‖g‖/n, of the gradient of one variable of n
            elements; likewise. One limit at most.
        use_ema: Keep an exponential moving average of the variables. The model keeps the
            trained weights, also when `fit` ends, so that a further `fit` goes on exactly;
            `swap_weights` or the callback `SwapWeights` puts the averages in.
        ema_momentum: Share in [0, 1] of the old average.
        ema_overwrite_frequency: Write the averages into the model every so many updates and
            train on from them; None for never.
        loss_scale_factor: Positive factor of the loss, divided out of the gradients.
        gradient_accumulation_steps: Average the gradients of so many steps (≥ 2) into one
            update; None for an update in every step.
        name: Name of the optimizer and prefix of its variables.
        nonfinite: What to do about a gradient with NaN or infinity. "raise": an error that
            names the variable (where XLA or JAX has compiled the step, it changes nothing
            from then on and the error comes at the end of `fit`). "skip": leave the step out;
            nothing changes, the count of steps included. "allow": go on.
        gradient_noise: Variance η_N > 0 at the start of Gaussian noise that is added to the
            gradients: g ← g + N(0, η_N/(1+t)^γ), t = 0, 1, ...; None for none. The paper has
            0.01, 0.3 or 1.
        gradient_noise_decay: γ ≥ 0.
        seed: Of the noise: it depends on nothing but the seed, t and the variable. None to
            have one drawn; it is saved.
        learning_rate_multipliers: Factors ≥ 0 of η by pattern: a layer's name, or parts of a
            variable's path with wildcards, as {"encoder": 0.1, "*/bias": 2.0}. Where several
            match, their product.
        weight_decay_multipliers: Factors ≥ 0 of λ, likewise; {"bias": 0.0} leaves biases out.
        lazy: Update only those rows of a variable that a sparse gradient has: the others,
            their slots included, stay as they are until they are used. Much faster for large
            embeddings, and another algorithm where the rule has a memory.

    Raises:
        ValueError: An argument is out of its range.
        FloatingPointError: A gradient is not finite (from a graph of TensorFlow:
            `tf.errors.InvalidArgumentError`).

    Example:

    >>> class SignDescent(Optimizer):
    ...     def rule(self, g, θ, slots, η, t):
    ...         return θ - η * ops.sign(g), slots
    >>> θ = keras.Variable([1.0, 2.0])
    >>> SignDescent(learning_rate=0.5).apply([ops.array([3.0, -3.0])], [θ])
    >>> θ.numpy().tolist()
    [0.5, 2.5]

    References:
        N0 and Loshchilov & Hutter 2019 (weight decay), Polyak & Juditsky 1992 (averaging),
        N0 and Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep
        Networks" (noise).
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        average_clipnorm: float | None = None,
        nonfinite: Literal["raise", "skip", "allow"] = "raise",
        gradient_noise: float | None = None,
        gradient_noise_decay: float = 0.55,
        seed: int | None = None,
        learning_rate_multipliers: Mapping[str, float] | None = None,
        weight_decay_multipliers: Mapping[str, float] | None = None,
        lazy: bool = False,
    ) -> None:
        limits = {
            "clipnorm": clipnorm,
            "clipvalue": clipvalue,
            "global_clipnorm": global_clipnorm,
            "average_clipnorm": average_clipnorm,
        }
        arguments.require_positive_or_none(**limits, loss_scale_factor=loss_scale_factor)
        arguments.require_rate(learning_rate, weight_decay)
        arguments.require_one_limit(**limits)
        arguments.require_counts(gradient_accumulation_steps, ema_overwrite_frequency, ema_momentum)
        arguments.require_policy(nonfinite)
        arguments.require_noise(gradient_noise, gradient_noise_decay, seed)
        arguments.require_multipliers(
            learning_rate_multipliers=learning_rate_multipliers,
            weight_decay_multipliers=weight_decay_multipliers,
        )
        arguments.require_lazy(lazy, gradient_accumulation_steps)
        rate = arguments.plain_rate(learning_rate)
        super().__init__(
            # Of a number Keras makes a variable in floatx, which rounds it. A variable that has
            # been there cannot be taken out: TensorFlow would refuse to save the optimizer.
            learning_rate=rate if callable(rate) else lambda: rate,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self.average_clipnorm = average_clipnorm
        self.nonfinite = nonfinite
        self.gradient_noise = gradient_noise
        self.gradient_noise_decay = gradient_noise_decay
        self.seed = random.randrange(2**31) if gradient_noise and seed is None else seed
        self.learning_rate_multipliers = _copy(learning_rate_multipliers)
        self.weight_decay_multipliers = _copy(weight_decay_multipliers)
        self.lazy = lazy
        if not callable(rate):
            self._hold(rate)

    def _hold(self, learning_rate: float) -> None:
        with keras.name_scope(self.name):
            self._learning_rate = keras.Variable(
                learning_rate,
                dtype=rate_dtype(self.iterations),
                trainable=False,
                aggregation="only_first_replica",
                name="learning_rate",
            )

    # What a subclass says of its algorithm

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Names of the slots, in the order in which `rule` takes and returns them."""
        return ()

    @property
    def scalar_slots(self) -> tuple[str, ...]:
        """Names of those slots that hold one number per variable."""
        return ()

    def slot_start(self, name: str) -> float:
        """What the elements of a slot are before the first update."""
        return 0.0

    @property
    def elementwise(self) -> bool:
        """Whether `rule` treats every element by itself, knowing nothing of the others."""
        return True

    @property
    def shows_other_weights(self) -> bool:
        """Whether `shown` is not just θ."""
        return False

    def rule(
        self, g: Any, θ: Any, slots: Sequence[Any], η: Any, t: Any
    ) -> tuple[Any, Sequence[Any]]:
        """One update of one variable, or of some side by side; all in the maths dtype.

        Args:
            g: Gradient, of the variable's shape.
            θ: Value of the variable.
            slots: One tensor per name in `slot_names`, of the variable's shape or, for
                `scalar_slots`, of one that broadcasts with it.
            η: Learning rate, which broadcasts likewise.
            t: Number of the update, a scalar, from 1.

        Returns:
            The new θ and the new slots.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define `rule`.")

    def shown(self, θ: Any, slots: Sequence[Any]) -> Any:
        """The weights to evaluate and save where they are not the trained θ."""
        return θ

    # State

    def build(self, variables: Iterable[Any]) -> None:
        """Make the slots for `variables`. Called once, by Keras or by `apply`."""
        if self.built:  # type: ignore[has-type]
            return
        variables = list(variables)
        for i, variable in enumerate(variables):
            self._trainable_variables_indices[self._var_key(variable)] = i
        self._shorten_patterns([path_of(variable) for variable in variables])
        self._state = State(self, variables)
        self._update = Update(self, self._state)
        self._screen = Screen(self.nonfinite, self._state.groups, self._state.failed)
        # Where Keras' base class and callbacks look for them; set so as not to be tracked.
        for name, value in {
            "_trainable_variables": variables,
            "_model_variables_moving_average": self._state.averages,
            "_accumulated_gradients": self._state.maxima,
        }.items():
            object.__setattr__(self, name, value)
        self.built = True

    def _shorten_patterns(self, paths: Sequence[str]) -> None:
        for name in ("learning_rate_multipliers", "weight_decay_multipliers"):
            factors = getattr(self, name)
            if factors:
                setattr(self, name, without_prefix(factors, paths))

    def save_own_variables(self, store: Any) -> None:
        """Save the state, each slot by the variable that it belongs to."""
        for key, value in self._saved_scalars().items():
            store[key] = value.numpy()
        if self.built:
            self._state.save(store)

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` saved.

        Raises:
            ValueError: A part has another shape than the variable that it belongs to.
        """
        scalars = self._saved_scalars()
        known = {*scalars, *(self._state.keys() if self.built else ())}
        saved = set(store.keys())
        if saved != known:
            _warn_of_other_state(self.name, sorted(saved - known), sorted(known - saved))
            return
        for key, variable in scalars.items():
            variable.assign(store[key])
        if self.built:
            self._state.load(store)

    def _saved_scalars(self) -> dict[str, Any]:
        scalars = {"iterations": self._iterations}
        if isinstance(self._learning_rate, keras.Variable):
            scalars["learning_rate"] = self._learning_rate
        return scalars

    def slot(self, name: str, variable: Any) -> Any:
        """A copy of one slot of one variable, as an array.

        Args:
            name: One of `slot_names`.
            variable: One of the variables that the optimizer was built on.

        Returns:
            NumPy array of the variable's shape; of shape () for `scalar_slots`.

        Raises:
            ValueError: There is no such slot, or the variable is not known.

        Example:

        >>> from kerasdl.optimizers import SGD
        >>> θ = keras.Variable([0.0, 0.0])
        >>> sgd = SGD(0.5, momentum=0.5)
        >>> sgd.apply([ops.array([2.0, -4.0])], [θ])
        >>> sgd.slot("v", θ).tolist()
        [-1.0, 2.0]
        """
        require(
            name in self.slot_names,
            "name",
            name,
            f"one of {', '.join(self.slot_names) or 'none: this optimizer has no slots'}",
            "Pass one of them.",
        )
        self._check_variables_are_known([variable])
        return self._state.slot(name, self._get_variable_index(variable))

    # One step

    @not_converted
    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update the variables by their gradients.

        Args:
            grads: One gradient per variable: tensors, arrays, `tf.IndexedSlices` or None.
            trainable_variables: The variables; the optimizer is built on those of the first
                call. None for those that it was built on.

        Raises:
            ValueError: The optimizer is not built and there are no variables, or it was built
                on others, or no gradient exists.
            FloatingPointError: See `nonfinite`.
        """
        grads = list(grads)
        if not grads:
            return
        variables = self._variables_for(grads, trainable_variables)
        with no_gradient(), keras.name_scope(self.name):
            grads, variables = self._filter_empty_gradients(grads, variables)
            grads, variables = self._overwrite_variables_directly_with_gradients(grads, variables)
            if not grads:
                self._iterations.assign_add(1)
                return
            indices = [self._get_variable_index(variable) for variable in variables]
            on_every_device(
                lambda grads: self._step(indices, grads),
                sum_over_replicas([_wide(grad) for grad in grads]),
                variables[0],
            )

    def _variables_for(self, grads: Sequence[Any], variables: Any) -> list[Any]:
        if variables is None and not self.built:
            raise ValueError(
                f"The first `apply` of an optimizer needs the variables. Received: "
                f"trainable_variables=None for the unbuilt {self.name!r}. Pass them, or call "
                f"`optimizer.build(variables)` first."
            )
        variables = list(self._trainable_variables if variables is None else variables)
        if len(grads) != len(variables):
            raise ValueError(
                f"There must be one gradient per variable. Received: {len(grads)} gradients "
                f"for {len(variables)} variables. Pass None for a variable without one."
            )
        if not self.built:
            with keras.name_scope(self.name):
                self.build(variables)
        self._check_variables_are_known(variables)
        return variables

    def _step(self, indices: Sequence[int], grads: Sequence[Any]) -> None:
        """One step on one device, from gradients that are the same on all of them."""
        by_index = {
            index: self._gradient(index, grad) for index, grad in zip(indices, grads, strict=True)
        }
        gradients = [group.gather(by_index) for group in self._state.groups]
        gradients, allowed = self._screen(gradients, self._iterations)
        if allowed is False:
            return
        if self.gradient_accumulation_steps is None:
            self._update(gradients, set(by_index), allowed)
        else:
            self._accumulate(gradients, set(by_index), allowed)
        one = 1 if allowed is True else ops.cast(allowed, self._iterations.dtype)
        self._iterations.assign_add(one)
        if self._state.is_shown is not None:
            self._state.is_shown.assign(0)

    def _gradient(self, index: int, grad: Any) -> Any:
        """The gradient in the maths dtype, unscaled: a tensor, or `Rows` in lazy mode."""
        variable = self._trainable_variables[index]
        if not is_sparse(grad):
            wide = widen(grad)
        elif self.lazy:
            wide = distinct_rows(grad, self._state.size_of(index))
        else:
            wide = ops.reshape(widen(grad), variable.shape)
        dtype, scale = maths_dtype(variable.dtype), self.loss_scale_factor
        wide = mapped(wide, lambda x: ops.cast(x, dtype))
        return wide if scale is None else mapped(wide, lambda x: x / scale)

    def _accumulate(self, gradients: Sequence[Any], present: set[int], allowed: Any) -> None:
        k = self.gradient_accumulation_steps
        sums = [
            None if gradient is None else ops.add(accumulator, gradient)
            for accumulator, gradient in zip(self._state.accumulators, gradients, strict=True)
        ]

        def update() -> None:
            self._update([None if s is None else s / k for s in sums], present, allowed)
            zeros = [None if s is None else ops.zeros_like(s) for s in sums]
            self._set_accumulators(zeros, allowed)

        choose(
            (self._iterations + 1) % k == 0,
            update,
            lambda: self._set_accumulators(sums, allowed),
            [*self._trainable_variables, *self.variables],
        )

    def _set_accumulators(self, values: Sequence[Any], allowed: Any) -> None:
        for accumulator, value in zip(self._state.accumulators, values, strict=True):
            if value is not None:
                self._update.write(accumulator, value, allowed)

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        # Keras' own squares in the gradient's dtype and turns some NaN into numbers.
        for argument, clip in CLIPS.items():
            limit = getattr(self, argument)
            if limit is not None:
                return clip(grads, limit)
        return grads

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped, by an argument or by a callback."""
        limits = [getattr(self, argument) for argument in CLIPS]
        return any(limit is not None for limit in limits) or "_clip_gradients" in vars(self)

    # Around the training

    @property
    def trained_variables(self) -> list[Any]:
        """The variables that the optimizer was built on."""
        return list(self._trainable_variables)

    def set_monitor(self, monitor: Monitor | None) -> None:
        """Have every update measured; None for no more. What was traced stays as it is."""
        # JAX hands a step only the variables that the optimizer lists.
        for variable in getattr(self._update.monitor, "variables", []):
            self._untrack_variable(variable)
        self._update.monitor = monitor
        for variable in getattr(monitor, "variables", []):
            self._track_variable(variable)

    @property
    def has_other_weights(self) -> bool:
        """Whether there are weights to show that are not the trained ones."""
        return bool(self.use_ema or self.shows_other_weights)

    @property
    def is_swapped(self) -> bool:
        """Whether the model has the weights to show now."""
        flag = self._state.is_shown if self.built else None
        return flag is not None and bool(flag.numpy())

    def swap_weights(self) -> bool:
        """Put the weights to show into the model, or the trained ones back.

        What is shown: with `use_ema` the moving averages, with Nesterov's momentum θ itself
        (training keeps the interim point), for `ASGD` the average. The trained weights are
        kept with the optimizer and come back bit by bit; a model that is saved in between
        can be swapped back after loading. Training on without swapping back makes what is
        shown the trained weights.

        Returns:
            Whether the model now has the weights to show.

        Raises:
            ValueError: The optimizer trains the weights that it shows, or is not built yet.

        Example:

        >>> from kerasdl.optimizers import SGD
        >>> θ = keras.Variable(0.0)
        >>> sgd = SGD(0.5, use_ema=True, ema_momentum=0.5)
        >>> for _ in range(2):
        ...     sgd.apply([ops.array(-2.0)], [θ])
        >>> sgd.swap_weights(), float(θ.numpy())
        (True, 1.5)
        >>> sgd.swap_weights(), float(θ.numpy())
        (False, 2.0)

        References:
            N2 (interim point), Polyak & Juditsky 1992 (averaging).
        """
        if not (self.built and self.has_other_weights):
            raise ValueError(
                f"Only an optimizer that shows other weights than it trains can swap them: "
                f"use_ema=True, nesterov=True or ASGD, once it is built. Received: "
                f"{type(self).__name__} {self.name!r}. Drop the call, or train first."
            )
        with no_gradient():
            return self._state.swap()

    def finalize_variable_values(self, var_list: Any) -> None:
        """Called by `fit` when it ends: raise what a compiled step could not raise.

        Unlike Keras' own this does not overwrite the trained weights with their averages,
        which would lose them: see `swap_weights`.
        """
        # Where a step of JAX fails it takes all values with it; the error is about that.
        if not self.built or self._iterations._value is None:
            return
        if self.nonfinite == "raise":
            self._screen.raise_noted(int(self._iterations.numpy()))
        if self.use_ema and not self._state.was_swapped:
            warnings.warn(
                "The model has the trained weights, not their moving averages. Call "
                "`optimizer.swap_weights()` to evaluate and save the averages, or pass the "
                "callback `kerasdl.SwapWeights()` to `fit`.",
                stacklevel=2,
            )

    def get_config(self) -> dict[str, Any]:
        own = {
            "average_clipnorm": self.average_clipnorm,
            "nonfinite": self.nonfinite,
            "gradient_noise": self.gradient_noise,
            "gradient_noise_decay": self.gradient_noise_decay,
            "seed": self.seed,
            "learning_rate_multipliers": _copy(self.learning_rate_multipliers),
            "weight_decay_multipliers": _copy(self.weight_decay_multipliers),
            "lazy": self.lazy,
        }
        return {**super().get_config(), **own}


def _copy(factors: Mapping[str, float] | None) -> dict[str, float] | None:
    return None if factors is None else {key: float(value) for key, value in factors.items()}


def _wide(gradient: Any) -> Any:
    """In float32 at least, so that a sum over replicas loses nothing; sparse stays sparse."""
    if not is_sparse(gradient):
        return widen(gradient)
    import tensorflow as tf

    return tf.cast(gradient, maths_dtype(gradient.dtype))


def _warn_of_other_state(name: str, unknown: Sequence[str], missing: Sequence[str]) -> None:
    warnings.warn(
        f"The saved state is not one of the optimizer {name!r}, which therefore starts anew. "
        f"Not expected: {', '.join(unknown) or 'nothing'}. Missing: "
        f"{', '.join(missing) or 'nothing'}. Compile the model with the optimizer that it was "
        f"saved with to go on where it stopped.",
        stacklevel=4,
    )
