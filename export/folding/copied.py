"""Copies: a model once more, sharing nothing with it but functions.

Whatever Keras can save, it can copy so. What it might not find again, users' classes, lambdas,
methods, is handed over under names of its own.
"""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

# Keras exports neither the names of what it exports, nor the table of registered ones.
from keras.src.api_export import get_name_from_symbol
from keras.src.saving import object_registration

from ..errors import SourceError, reason
from ..graphs.graph import flatten_layers
from ..graphs.trace import open_function, trace


def copied(model: keras.Model) -> keras.Model:
    """A copy of a model whose graph can be read.

    Raises:
        SourceError: A layer cannot be copied.
    """
    function: Any = open_function(model)
    parts = _own_parts(model)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file that stays here
            path = Path(folder) / "model.keras"
            # The same layers, without what only training needs.
            plain = keras.Model(function._inputs_struct, function._outputs_struct, name=model.name)
            with _named(parts):
                plain.save(path)
            # It was in memory a moment ago, so its code is the user's own.
            return keras.saving.load_model(
                path, custom_objects=_originals(parts), compile=False, safe_mode=False
            )
    # A layer's own configuration may raise anything.
    except Exception as error:
        _name_culprit(model, parts)
        raise SourceError(f"Model `{model.name}` cannot be copied: {reason(error)}") from error


@dataclass(eq=False)
class _Part:
    """A class or a function of a model that Keras might not find.

    Attributes:
        original: What it is.
        saved: What is saved: itself, or a function instead of something that is only called.
        places: Attributes that hold it, by object, if it is not saved itself.
    """

    original: Any
    saved: Any
    places: list[tuple[dict[str, Any], str]] = field(default_factory=list)


def _own_parts(model: keras.Model) -> list[_Part]:
    """Keras goes by the last part of a name, which a user's `Multiply` shares with its own.

    Of a lambda it keeps the code, without what that refers to; of a method or a partial, nothing.
    """
    parts: dict[int, _Part] = {}
    waiting: list[Any] = [model]
    seen = {}
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing  # as long as it is there, its id is its own
        if isinstance(thing, dict):
            waiting += thing.values()
        elif isinstance(thing, list | tuple | set):
            waiting += thing
        elif inspect.isfunction(thing):
            parts[id(thing)] = _Part(thing, thing)
        elif hasattr(type(thing), "get_config"):
            kind, attributes = type(thing), getattr(thing, "__dict__", {})
            parts[id(kind)] = _Part(kind, kind)
            for name, value in attributes.items():
                if callable(getattr(kind, name, None)):
                    continue  # a method that Keras has wrapped
                waiting.append(value)
                if _is_only_called(value) and not isinstance(thing, keras.Model):
                    part = parts.setdefault(id(value), _Part(value, _calling(value)))
                    part.places.append((attributes, name))
    return [part for part in parts.values() if part.places or not _is_found(part.original)]


def _is_only_called(value: Any) -> bool:
    no_function = not inspect.isfunction(value) and not inspect.isclass(value)
    return callable(value) and no_function and not hasattr(value, "get_config")


def _calling(value: Any) -> Any:
    return lambda *arguments, **keywords: value(*arguments, **keywords)


def _is_found(part: Any) -> bool:
    """Whether Keras finds a class or a function by itself."""
    if keras.saving.get_registered_object(keras.saving.get_registered_name(part)) is part:
        return True
    if inspect.isclass(part):
        return get_name_from_symbol(part) is not None
    return getattr(keras.activations, part.__name__, None) is part


def _originals(parts: Sequence[_Part]) -> dict[str, Any]:
    return {f"{__name__}>{number}": part.original for number, part in enumerate(parts)}


@contextmanager
def _named(parts: Sequence[_Part]) -> Iterator[None]:
    """Let Keras save these parts under the names in `_originals`, and lambdas by name at all."""
    saved = dict(zip((part.saved for part in parts), _originals(parts), strict=True))
    # Public functions register, but none takes back.
    names = object_registration.GLOBAL_CUSTOM_NAMES
    before = {part: names[part] for part in saved if part in names}
    lambdas = [part for part in saved if part.__name__ == "<lambda>"]
    try:
        names.update(saved)
        for function in lambdas:
            function.__name__ = "named"
        for part in parts:
            for attributes, name in part.places:
                attributes[name] = part.saved
        yield
    finally:
        for part in parts:
            for attributes, name in part.places:
                attributes[name] = part.original
        for function in lambdas:
            function.__name__ = "<lambda>"
        for function in saved:
            names.pop(function, None)
        names.update(before)


def _name_culprit(model: keras.Model, parts: Sequence[_Part]) -> None:
    """Raise SourceError for the first layer that cannot be copied, or called then."""
    nested = [layer for layer in flatten_layers(model)[1:] if isinstance(layer, keras.Model)]
    for node in trace(model).nodes:
        specs = {id(v): keras.KerasTensor(v.shape, v.dtype) for v in node.inputs}
        arguments, keywords = node.substitute(specs)
        with _blaming(node.name, node.operation):
            _copied_alone(node.operation, parts)(*arguments, **keywords)
    for layer in nested:
        with _blaming(layer.name, layer):
            _copied_alone(layer, parts)


def _copied_alone(operation: Any, parts: Sequence[_Part]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _named(parts):
            config = keras.saving.serialize_keras_object(operation)
        return keras.saving.deserialize_keras_object(config, _originals(parts), safe_mode=False)


@contextmanager
def _blaming(name: str, operation: Any) -> Iterator[None]:
    """Say which layer cannot be copied."""
    try:
        yield
    # A layer's own configuration may raise anything.
    except Exception as error:
        why = reason(error)
        if isinstance(error, NotImplementedError) and "`get_config()`" in str(error):
            why = "Keras cannot save the arguments it was made with. Give it a `get_config`."
        raise SourceError(
            f"Layer `{name}` ({type(operation).__name__}) cannot be copied: {why}"
        ) from error
