"""Side effects: what a SavedModel would do to the machine besides computing.

TensorFlow's operations can write files and call Python, as soon as a SavedModel is loaded. It is
looked through before that. A SavedModel has one function of its own that writes, which saves it
again; that is let through as long as no other function calls it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAVING = {"MergeV2Checkpoints", "Save", "SaveSlices", "SaveV2"}
FORBIDDEN = re.compile(
    r"WriteFile|(Eager)?PyFunc(Stateless)?|Print(V2)?|Debug\w+|\w*Summary\w*|SaveDataset\w*"
    r"|Snapshot\w*Dataset\w*|CacheDataset\w*|DataService\w*|Rpc\w*|RemoteCall|DeleteFile"
)
SAVER = re.compile(r"__inference_+traced_save_\d+")


def side_effects(folder: Path) -> list[str]:
    """Operations of a SavedModel that reach out of it, as TensorFlow calls them."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    found: set[str] = set()
    for part in model.meta_graphs:
        graph = part.graph_def
        found.update(node.op for node in graph.node if FORBIDDEN.fullmatch(node.op))
        for function in graph.library.function:
            saver = SAVER.fullmatch(function.signature.name)
            for node in function.node_def:
                saves = node.op in SAVING and not saver
                calls = any(map(SAVER.fullmatch, _called(node)))
                if FORBIDDEN.fullmatch(node.op) or saves or calls:
                    found.add(node.op)
    return sorted(found)


def _called(node: Any) -> Iterator[str]:
    """Names of the functions that an operation calls."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)
