"""All that a training has in memory: variables, random states, callbacks."""

import copy
import inspect
import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# Keras exports no way to the generator that all of it shares.
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR, global_seed_generator

from kerasdl.callbacks._checkpoint_file import NotPlainError, encode, same
from kerasdl.optimizers._wrapper import chain

WITHOUT_STATE = (keras.callbacks.ProgbarLogger, keras.callbacks.CSVLogger)
"""Callbacks that only write; what they remember is about their output."""


def build(model: Any, batch: Any) -> None:
    """Make all variables that training would make, metrics and optimizer included.

    Those that are there already keep their values.

    Args:
        model: A compiled model.
        batch: (x, y, sample_weight) of one batch, the last two or the last one optional.
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    there = variables_of(model)
    values = values_of(there)
    try:
        model.test_on_batch(x, y, weight)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        model.reset_metrics()
    finally:
        assign(there, values, "The model")


def variables_of(model: Any) -> list[Any]:
    """Weights, seed generators, metrics and the optimizer's variables, each once."""
    found = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in found}.values())


def values_of(variables: Sequence[Any]) -> list[np.ndarray]:
    """Copies of the variables' values."""
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: Sequence[Any], values: Sequence[np.ndarray], whose: str) -> None:
    """Set the variables.

    Raises:
        ValueError: They are others than those whose values these are; nothing is changed.
    """
    has = [(tuple(v.shape), keras.backend.standardize_dtype(v.dtype)) for v in variables]
    saved = [(value.shape, value.dtype.name) for value in values]
    if has != saved:
        differing = [(a, b) for a, b in zip(has, saved, strict=False) if a != b][:1]
        raise ValueError(
            f"{whose} must have the variables of the checkpoint. Received: {len(has)} variables "
            f"for {len(saved)} saved; first (shape, dtype) that differs, now and saved: "
            f"{differing}. Build and compile the model as it was, or use another directory."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def random_state() -> dict[str, Any]:
    """State of the generators of Keras (None if it has none yet), PyTorch, Python and NumPy."""
    shared = get_global_attribute(GLOBAL_SEED_GENERATOR)
    return {
        "keras": None if shared is None else values_of([shared.state])[0],
        "torch": _torch_states(),
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set what `random_state` returned."""
    if state["keras"] is None:
        set_global_attribute(GLOBAL_SEED_GENERATOR, None)
    else:
        global_seed_generator().state.assign(state["keras"])
    _set_torch_states(state["torch"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])


def _torch_states() -> list[np.ndarray]:
    """From PyTorch's own generators Keras draws the dropout of layers without a seed."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    return [state.numpy().copy() for state in states]


def _set_torch_states(states: Sequence[np.ndarray]) -> None:
    if not states:
        return
    import torch

    first, *others = map(torch.from_numpy, states)
    torch.set_rng_state(first)
    torch.cuda.set_rng_state_all(others)


def seeds_of(optimizer: Any) -> list[int | None]:
    """Seeds of the noise of an optimizer and of those inside it."""
    return [getattr(each, "seed", None) for each in chain(optimizer)]


def set_seeds(optimizer: Any, seeds: Sequence[int | None]) -> None:
    """Set what `seeds_of` returned, for the steps that are traced from now on."""
    for each, seed in zip(chain(optimizer), seeds, strict=True):
        if seed is not None:
            each.seed = seed


class CallbackStates:
    """The states of the callbacks of one training.

    The state of a callback is its attributes that are plain data, and the variables of those
    that have some, as metrics do. An argument of its constructor counts once it has changed,
    but never one of Keras' own: `min_delta` changes its sign once, in every process.

    Args:
        callbacks: The callbacks before the training.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self.callbacks = [each for each in callbacks if not isinstance(each, WITHOUT_STATE)]
        self.arguments = [
            {name: _plain(vars(each)[name]) for name in _arguments(each) & vars(each).keys()}
            for each in self.callbacks
        ]
        self.never = [{"params", *_arguments(each, of="keras.")} for each in self.callbacks]

    @property
    def names(self) -> list[str]:
        return [type(each).__name__ for each in self.callbacks]

    def get(self) -> list[dict[str, Any]]:
        """The states, as plain data."""
        return [
            {
                name: state
                for name, value in vars(callback).items()
                if name not in never
                and value is not vars(callback).get("_model")
                and (state := _state(value)) is not None
                and not (name in before and same(state, before[name]))
            }
            for callback, before, never in zip(
                self.callbacks, self.arguments, self.never, strict=True
            )
        ]

    def set(self, states: Sequence[dict[str, Any]]) -> None:
        """Set what `get` returned for the same callbacks in another process."""
        for callback, attributes in zip(self.callbacks, states, strict=True):
            for name, state in attributes.items():
                if "variables" in state:
                    owner = getattr(callback, name, None)
                    assign(getattr(owner, "variables", []), state["variables"], f"`{name}`")
                else:
                    setattr(callback, name, state["plain"])


def _state(value: Any) -> dict[str, Any] | None:
    """Plain data under "plain", variables under "variables"; None for anything else."""
    variables = getattr(value, "variables", None)
    if isinstance(variables, list) and all(isinstance(v, keras.Variable) for v in variables):
        return {"variables": values_of(variables)}
    return _plain(value)


def _plain(value: Any) -> dict[str, Any] | None:
    try:
        encode(value, [])
    except NotPlainError:
        return None
    return {"plain": copy.deepcopy(value)}


def _arguments(callback: Any, of: str = "") -> set[str]:
    """Names of the constructors' arguments, of classes in modules that begin like this."""
    return {
        name
        for cls in type(callback).__mro__
        if "__init__" in vars(cls) and cls is not object and cls.__module__.startswith(of)
        for name in inspect.signature(cls).parameters
    }
