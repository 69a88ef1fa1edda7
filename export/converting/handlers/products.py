"""Products of all numbers up to each place of an axis, one step after the other.

In another order they would overflow elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .choice import WIDER
from .formula import Formula, converts

Join = Callable[[Formula, str, str], str]


@converts("Cumprod")
def _products(f: Formula, x: str, axis: str) -> Any:
    """A Scan along the first axis; on others, onnxruntime dies of an empty batch."""
    dtype = f.dtype_of(x)
    wider = WIDER.get(dtype.name)
    if wider is not None:
        x = f.cast(x, wider)
    rank = len(f.shape(x))
    place = int(f.value(axis)) % rank
    first = [place, *(axis for axis in range(rank) if axis != place)]
    if place:
        x = f.Transpose(x, perm=first)
    x = along_the_first(f, x)
    if place:
        x = f.Transpose(x, perm=np.argsort(first).tolist())
    return f.Identity(x) if wider is None else f.cast(x, dtype)


def along_the_first(f: Formula, x: str) -> str:
    """With one step more where there may be none, which onnxruntime refuses."""
    backwards = bool(f.attribute("reverse"))
    rank, known = len(f.shape(x)), f.shape(x)[0] > 0
    shape = f.slice(f.Shape(x), 1, rank, 0)
    one = np.ones((), f.dtype_of(x))
    if not known:
        more = f.Expand(one, f.Concat([1], shape, axis=0))
        x = f.Concat(*((more, x) if backwards else (x, more)), axis=0)
    y = scan(f, f.Expand(one, shape), x, backwards, lambda step, *pair: step.Mul(*pair))
    if known:
        return y
    return f.slice(y, 1, np.iinfo(np.int64).max, 0) if backwards else f.slice(y, 0, -1, 0)


def scan(f: Formula, start: str, x: str, backwards: bool, join: Join) -> str:
    """Along the first axis, step by step, what joins the number before and the next one."""
    from tf2onnx import utils

    kind, shape = f.graph.get_dtype(x), f.shape(x)
    step = f.within()
    step.dtype = f.dtype
    before, number = (utils.make_name(name) for name in ("before", "number"))
    for name in (before, number):
        step.graph.add_graph_input(name, kind, shape[1:])
    after = join(step, before, number)
    result = step.Identity(before if f.attribute("exclusive") else after)
    for name in (after, result):
        step.graph.add_graph_output(name, kind, shape[1:])
    made = f.graph.make_node(
        "Scan",
        [start, x],
        attr={
            "num_scan_inputs": 1,
            "scan_input_directions": [int(backwards)],
            "scan_output_directions": [int(backwards)],
        },
        output_count=2,
        shapes=[shape[1:], shape],
        dtypes=[kind, kind],
        op_name_scope=f.node.name,
        branches={"body": step.graph},
    )
    return str(made.output[1])
