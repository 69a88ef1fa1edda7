"""Base of the optimizers around another optimizer."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kerasdl._checks import require
from kerasdl.optimizers._backend import no_gradient, not_converted, read
from kerasdl.optimizers._wide_slots import WideSlots
from kerasdl.optimizers.base import Optimizer, _warn_of_other_state

BASE_ARGUMENTS = frozenset(inspect.signature(Optimizer).parameters)


class Wrapper(WideSlots):
    """An optimizer that lets another one update the variables, and does something around it.

    Rate, counts, loss scaling and weights to show are those of the inner optimizer. A
    subclass defines `around`. It can stand inside Keras' `LossScaleOptimizer`, or around it.

    Args:
        inner_optimizer: A Keras optimizer, or what `keras.optimizers.get` makes one of: the
            name of one of Keras', or a config.
        name: Name of the optimizer and prefix of its variables.
        **kwargs: None: all further arguments belong to the inner optimizer.

    Raises:
        ValueError: The inner optimizer is none, or there are further arguments.
    """

    def __init__(self, inner_optimizer: Any, name: str | None = None, **kwargs: Any) -> None:
        self._require_no_more(kwargs)
        inner = optimizer_from(inner_optimizer)
        super().__init__(learning_rate=self._inner_rate, name=name)
        self.inner_optimizer = inner

    def _require_no_more(self, kwargs: Mapping[str, Any]) -> None:
        for argument, value in kwargs.items():
            of_inner = argument in BASE_ARGUMENTS
            require(
                False,
                argument,
                value,
                f"left out of {type(self).__name__}",
                "Pass it to the inner optimizer." if of_inner else "There is no such argument.",
            )

    def around(self, update: Callable[[], None]) -> None:
        """Call `update`, which has the inner optimizer update the variables."""
        update()

    # One step

    def build(self, variables: Any) -> None:
        """Make the own variables and those of the inner optimizer."""
        if self.built:
            return
        variables = list(variables)
        super().build(variables)
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)

    @not_converted
    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update the variables by their gradients.

        Args:
            grads: One gradient per variable.
            trainable_variables: The variables; the optimizer is built on those of the first
                call. None for those that it was built on.

        Raises:
            ValueError: The optimizer is not built and there are no variables.
        """
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            with keras.name_scope(self.name):
                self.build(trainable_variables)
        self._require_built()
        inner = self.inner_optimizer
        with no_gradient():
            self.around(lambda: inner.apply(grads, trainable_variables))

    def stateless_apply(
        self,
        optimizer_variables: Sequence[Any],
        grads: Sequence[Any],
        trainable_variables: Sequence[Any],
    ) -> tuple[list[Any], list[Any]]:
        """As `apply`, on values: returns the new ones. The own variables come first."""
        self._require_built()
        inner, trained = self.inner_optimizer, list(self._trainable_variables)

        def update() -> None:
            new_trained, new_state = inner.stateless_apply(
                [read(variable) for variable in inner.variables],
                grads,
                [read(variable) for variable in trained],
            )
            for variable, value in zip(trained, new_trained, strict=True):
                variable.assign(value)
            for variable, value in zip(inner.variables, new_state, strict=True):
                variable.assign(value)

        state = self.variables
        pairs = [
            *zip(trained, trainable_variables, strict=True),
            *zip(state, optimizer_variables, strict=True),
        ]
        with keras.StatelessScope(state_mapping=pairs) as scope:
            self.around(update)
        return (
            [scope.get_current_value(variable) for variable in trained],
            [scope.get_current_value(variable) for variable in state],
        )

    def _require_built(self) -> None:
        if not self.built:
            raise ValueError(
                f"The first `apply` of an optimizer needs the variables. Received: none for the "
                f"unbuilt {self.name!r}. Pass them, or call `optimizer.build(variables)` first."
            )

    # What is the inner optimizer's

    def _inner_rate(self) -> Any:
        return self.inner_optimizer.learning_rate

    @property
    def learning_rate(self) -> Any:
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        return self.inner_optimizer.iterations

    @property
    def loss_scale_factor(self) -> Any:
        """The inner optimizer's, or the present scale of a `LossScaleOptimizer` inside."""
        scaler = self._scaler()
        if scaler is None:
            return self.inner_optimizer.loss_scale_factor
        return scaler.dynamic_scale if scaler.built else scaler.initial_scale

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: float | None) -> None:
        # Keras' base class sets it before there is an inner optimizer.
        if "inner_optimizer" not in vars(self):
            return
        if self._scaler() is not None:
            raise ValueError(
                f"The loss must be scaled once. Received: a further scale for {self.name!r}, "
                f"which has a LossScaleOptimizer inside. Leave that one out, or pass "
                f"auto_scale_loss=False to `compile`."
            )
        self.inner_optimizer.loss_scale_factor = factor

    def _scaler(self) -> Any:
        for optimizer in chain(self.inner_optimizer):
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                return optimizer
        return None

    def scale_loss(self, loss: Any) -> Any:
        """The loss as the inner optimizer wants it."""
        return self.inner_optimizer.scale_loss(loss)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Have the inner optimizer leave variables out of its weight decay."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Called by `fit` when it ends."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def swap_weights(self) -> bool:
        """`swap_weights` of the inner optimizer.

        Raises:
            ValueError: It has none, or cannot swap.
        """
        inner = self.inner_optimizer
        require(
            hasattr(inner, "swap_weights"),
            "inner_optimizer",
            inner.name,
            "one of kerasdl's to swap weights",
            "Keras' own need the callback SwapEMAWeights.",
        )
        return bool(inner.swap_weights())

    # State

    @property
    def variables(self) -> list[Any]:
        return [*self._variables, *self.inner_optimizer.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all `variables`."""
        own = len(self._variables)
        super().set_weights(weights[:own])
        self.inner_optimizer.set_weights(weights[own:])

    def save_own_variables(self, store: Any) -> None:
        """Save what is not the inner optimizer's, which Keras saves beside it."""
        for number, variable in enumerate(self._variables):
            store[str(number)] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` saved."""
        known = {str(number) for number in range(len(self._variables))}
        saved = set(store.keys())
        if saved != known:
            _warn_of_other_state(self.name, sorted(saved - known), sorted(known - saved))
            return
        for number, variable in enumerate(self._variables):
            variable.assign(store[str(number)])

    def get_config(self) -> dict[str, Any]:
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "inner_optimizer": inner}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Wrapper":
        """The optimizer of a config that `get_config` gave."""
        inner = keras.saving.deserialize_keras_object(config["inner_optimizer"], custom_objects)
        return cls(**{**config, "inner_optimizer": inner})


def optimizer_from(identifier: Any) -> Any:
    """The optimizer that an object, a name or a config stands for.

    Raises:
        ValueError: There is none.
    """
    if isinstance(identifier, Mapping):
        identifier = dict(identifier)
    elif not isinstance(identifier, str):
        require(
            isinstance(identifier, keras.optimizers.Optimizer),
            "inner_optimizer",
            identifier,
            "a Keras optimizer, the name of one, or a config",
            'Pass for instance "adam" or kerasdl.Adam(1e-3).',
        )
    return keras.optimizers.get(identifier)


def chain(optimizer: Any) -> list[Any]:
    """An optimizer, the one inside it, the one inside that, and so on."""
    optimizers = [optimizer]
    while hasattr(optimizers[-1], "inner_optimizer"):
        optimizers.append(optimizers[-1].inner_optimizer)
    return optimizers
