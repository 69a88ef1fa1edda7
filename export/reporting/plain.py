"""Plain data: dataclasses as what JSON holds, and back, by their annotations.

A number that JSON lacks, infinity or NaN, becomes null, and null for a number is infinity; where
null means that there is none, it becomes `"Infinity"`.
"""

from __future__ import annotations

import math
import types
import typing
from collections import Counter
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from ..errors import SourceError

INFINITY = "Infinity"


def to_plain(value: Any) -> Any:
    """Dictionaries, lists, strings and finite numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        return {name: _member(getattr(value, name), hint) for name, hint in hints.items()}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _member(value: Any, hint: Any) -> Any:
    plain = to_plain(value)
    return INFINITY if plain is None and value is not None and _optional(hint) else plain


def _optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


def from_plain(kind: Any, data: Any, where: str) -> Any:
    """The object that `to_plain` was given.

    Args:
        kind: Its type: a dataclass, list, tuple, dict or Counter of types, a plain type, or one
            of them or None.
        data: What `to_plain` returned.
        where: How to call the place in errors.

    Returns:
        An object of that type. Keys that it does not know are left aside, and what is missing
        takes its default.

    Raises:
        SourceError: Something is of another type, or is missing and has no default.

    Example:

    >>> from kerasdl.export.verifying.latency import Latency
    >>> from kerasdl.export.reporting.plain import from_plain, to_plain
    >>> from_plain(Latency, to_plain(Latency(3, 0.25, 20, 2)), "latency")
    Latency(batch=3, milliseconds=0.25, runs=20, cores=2)

    References: N4 (ONNX conversion).
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if _optional(kind):
        if data is None:
            return None
        (kind,) = (part for part in parts if part is not types.NoneType)
        return from_plain(kind, None if (kind, data) == (float, INFINITY) else data, where)
    if is_dataclass(kind):
        return _object(kind, data, where)
    if origin in {list, tuple}:
        items = _expect(data, list, "a list", where)
        return origin(_each(parts[0], enumerate(items), where).values())
    if origin in {dict, Counter}:
        items = _expect(data, dict, "an object", where)
        return origin(_each(int if origin is Counter else parts[1], items.items(), where))
    return _leaf(kind, data, where)


def _object(kind: Any, data: Any, where: str) -> Any:
    data = _expect(data, dict, "an object", where)
    hints = typing.get_type_hints(kind)
    filled = {}
    for entry in fields(kind):
        if entry.name in data:
            filled[entry.name] = from_plain(
                hints[entry.name], data[entry.name], f"{where}.{entry.name}"
            )
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise SourceError(f"`{where}.{entry.name}` is missing.")
    return kind(**filled)


def _each(kind: Any, items: Iterable[tuple[Any, Any]], where: str) -> dict[Any, Any]:
    return {key: from_plain(kind, item, f"{where}[{key!r}]") for key, item in items}


def _leaf(kind: Any, data: Any, where: str) -> Any:
    if kind is float and data is None:
        return math.inf
    if kind is float and isinstance(data, int):
        data = _expect(data, int, "a number", where)
        return float(data) if abs(data) < 2**1023 else math.inf
    names = {float: "a number", int: "an integer", str: "a string", bool: "true or false"}
    return _expect(data, kind, names[kind], where)


def _expect(data: Any, kind: type, name: str, where: str) -> Any:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        shown = repr(data)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        raise SourceError(f"`{where}` must be {name}. Received: {shown}.")
    return data
