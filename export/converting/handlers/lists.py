"""TensorArrays that are written and read outside of loops; those of loops are tf2onnx's.

Writing leaves no node: what is read is found from the reader on, back to where the array begins.
"""

from __future__ import annotations

from typing import Any

from .formula import Formula
from .left import converts_some

KNOWN = "a TensorArray outside of a loop has a form only if its size and its places are constants"


@converts_some("TensorListStack")
def _stacked(f: Formula, array: str, *rest: str) -> Any:
    items = _written(f, array)
    if items is None:
        return None
    if not items or None in items:
        place = items.index(None) if items else 0
        raise _refusal(f, f"every place of a TensorArray must be written: {place} is not")
    return f.Concat(*(f.unsqueeze(item, 0) for item in items if item is not None), axis=0)


@converts_some("TensorListGetItem")
def _read(f: Formula, array: str, place: str, *rest: str) -> Any:
    items = _written(f, array)
    if items is None:
        return None
    index = _constant(f, place)
    if not 0 <= index < len(items) or items[index] is None:
        raise _refusal(f, f"place {index} of a TensorArray is read and not written")
    return f.Identity(items[index])


def _written(f: Formula, array: str) -> list[str | None] | None:
    """What was written last, by place; None of an array that begins elsewhere."""
    source, writes = f.graph.get_node_by_output(array), []
    while source is not None and source.type in {"Identity", "TensorListSetItem"}:
        if source.type == "TensorListSetItem":
            writes.append(source.input[1:3])
        source = source.inputs[0]
    if source is None or source.type != "TensorListReserve":
        return None
    items: list[str | None] = [None] * _constant(f, source.input[1])
    for place, item in reversed(writes):
        index = _constant(f, place)
        items.extend([None] * (index + 1 - len(items)))
        items[index] = item
    return items


def _constant(f: Formula, name: str) -> int:
    known = f.known(name)
    if known is None:
        raise _refusal(f, KNOWN)
    return int(known)


def _refusal(f: Formula, why: str) -> ValueError:
    """Of the reader, which is cut off from the array, or else its beginning would be named."""
    f.graph.replace_input(f.node, f.node.input[0], f.constant(0), 0)
    return ValueError(why)
