"""Lookup tables."""

from __future__ import annotations

import json
from typing import Any

from .formula import HANDLERS, Formula, converts


@converts("LookupTableFindV2")
def _lookup(f: Formula, table: str, keys: str, default: str) -> Any:
    """The table travels in the `shared_name` that `rewrites.Lookup` gives it."""
    source = f.graph.get_node_by_output(table)
    content = source.get_attr_value("shared_name") if source is not None else None
    if not content:
        raise ValueError("a lookup table whose content is not known")
    entries = json.loads(content.decode() if isinstance(content, bytes) else content)
    kinds = [{"i": "int64s", "u": "int64s", "O": "strings"}[k] for k in entries["kinds"]]
    default_value = f.value(default).item()
    attributes = {
        f"keys_{kinds[0]}": entries["keys"],
        f"values_{kinds[1]}": entries["values"],
        f"default_{kinds[1].removesuffix('s')}": default_value,
    }
    return f.LabelEncoder(keys, domain="ai.onnx.ml", **attributes)


def _leave(graph: Any, node: Any, name: str, args: Any) -> None:
    """A table is read by its lookups, and leaves with them."""


HANDLERS["HashTableV2"] = (_leave, [])
