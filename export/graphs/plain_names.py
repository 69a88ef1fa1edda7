"""Plain names: what nobody has named is numbered from its own model on.

Keras numbers such layers and operations as the process has made them: the same file, loaded twice,
holds `dense_4` where it held `dense`. Names that a Keras file keeps are not touched.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.utils.naming import to_snake_case  # Keras' own names are made by it

from .graph import Node, flatten_layers


@contextmanager
def plain_names(nodes: Iterable[Node]) -> Iterator[None]:
    """Let layers inside others, which name what they compute, have such names."""
    before: list[tuple[Any, str]] = []
    try:
        for node in nodes:
            seen: Counter[str] = Counter()
            for layer in _unsaved(node):
                stem = unnumbered(layer)
                if stem is not None and all(layer is not other for other, _ in before):
                    before.append((layer, layer.name))
                    vars(layer)["name"] = f"{stem}_{seen[stem]}" if seen[stem] else stem
                    seen[stem] += 1
        yield
    finally:
        for layer, name in before:
            vars(layer)["name"] = name


def _unsaved(node: Node) -> list[keras.Layer]:
    """The layers whose names no file keeps: inner ones, and a subclassed model as a whole."""
    if not isinstance(node.operation, keras.Layer):
        return []
    whole, *inner = flatten_layers(node.operation)
    # Later calls are numbered behind the name of the layer.
    own = node.name.rpartition("/")[2]
    return inner if own.startswith(whole.name) else [whole, *inner]


def unnumbered(operation: Any) -> str | None:
    """The name that Keras has given to a layer or operation, without its number; None of others."""
    stem: str = to_snake_case(type(operation).__name__)
    return stem if re.fullmatch(rf"{re.escape(stem)}(?:_\d+)?", operation.name) else None
