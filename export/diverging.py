"""Where a wrong file begins to differ: the first Keras layer whose output it does not hold.

All inner values of the file are computed once. A layer's output counts as found if some value of
the file has the same numbers in any order, since a converter may transpose tensors and rename
them (sorting moves no number by more than the largest error). The layer where the two part is
the first from which nothing that is found was computed. "The same" is judged as in `parity.py`,
layer by layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .graph import Graph, Node
from .parity import end_names, open_session
from .precision import UNIT_ROUNDOFF, float64_run, widen
from .program import Arrays, KerasProgram
from .truth import SAFETY


def first_diverging_layer(program: KerasProgram, file: Path, arrays: Arrays) -> str | None:
    """Name of the layer where the file parts from the model.

    Args:
        program: The model as it was, nothing folded. A layer that was absorbed by a neighbour
            is not found; it is forgiven if something that was computed from it is.
        file: The ONNX file.
        arrays: One batch.

    Returns:
        The layer's name, or None if every layer's output is found.
    """
    held = _inner_values(file, program, arrays)
    graph = program.graph
    native = _layer_outputs(graph, arrays)
    try:
        with float64_run(graph.layers()):
            exact = _layer_outputs(graph, [widen(array) for array in arrays])
    # A custom layer may refuse float64 in any way it likes.
    except Exception:  # noqa: BLE001
        exact = native
    forgiven: dict[int, bool] = {}
    for node, ours, truth in reversed([*zip(graph.nodes, native, exact, strict=True)]):
        readers = [reader for value in node.outputs for reader in graph.consumers(value)]
        forgiven[id(node)] = any(forgiven[id(reader)] for reader in readers) or all(
            _is_held(*pair, held) for pair in zip(ours, truth, strict=True)
        )
    return next((node.name for node in graph.nodes if not forgiven[id(node)]), None)


def _layer_outputs(graph: Graph, arrays: Arrays) -> list[list[np.ndarray]]:
    outputs: list[list[np.ndarray]] = []

    def collect(node: Node, results: list[Any]) -> list[Any]:
        outputs.append([np.asarray(result) for result in results])
        return results

    graph(*arrays, after=collect)
    return outputs


def _inner_values(file: Path, program: KerasProgram, arrays: Arrays) -> dict[int, list[np.ndarray]]:
    """Every value that the file computes, sorted, by its number of elements."""
    import onnx

    proto = onnx.load(file)
    known = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in known:
                proto.graph.output.append(onnx.ValueInfoProto(name=name))
    session = open_session(proto.SerializeToString(), optimized=False)
    names = end_names(open_session(file, optimized=False), program)[0]
    feeds = dict(zip(names, arrays, strict=True))
    held: dict[int, list[np.ndarray]] = {}
    for value in session.run(None, feeds):
        array = np.asarray(value)
        if array.dtype.kind in "fiub":
            held.setdefault(array.size, []).append(np.sort(array, axis=None).astype(np.float64))
    return held


def _is_held(native: np.ndarray, exact: np.ndarray, held: dict[int, list[np.ndarray]]) -> bool:
    if native.dtype.kind not in "fiub":
        return True
    noise = np.max(np.abs(native.astype(np.float64) - exact), initial=0.0)
    floor = UNIT_ROUNDOFF * np.max(np.abs(exact), initial=0.0)
    numbers = np.sort(exact, axis=None).astype(np.float64)
    return any(
        np.max(np.abs(candidate - numbers), initial=0.0) <= SAFETY * max(noise, floor)
        for candidate in held.get(numbers.size, ())
    )
