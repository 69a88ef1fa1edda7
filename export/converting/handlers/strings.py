"""Strings: the nodes, branches and loops that texts are taken apart with.

StringSplit, StringConcat and RegexFullMatch are of operator set 20, of which tf2onnx writes no
others. It does not know them, so it is told what types they give. `opset.py` raises the set
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .formula import Formula

BOOL, INT64, STRING = 9, 7, 8
"""ONNX's numbers of the types."""


def text(*strings: str) -> np.ndarray:
    """A constant."""
    return np.array(strings, object)


def decoded(texts: np.ndarray) -> np.ndarray:
    """The texts of a constant, whose bytes TensorFlow keeps."""
    entries = texts.ravel().tolist()
    texts_of = [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries]
    return np.array(texts_of, object).reshape(texts.shape)


def made(
    f: Formula,
    operator: str,
    inputs: Sequence[Any],
    kinds: Sequence[int],
    shapes: Sequence[Sequence[int]],
    branches: dict[str, Any] | None = None,
    **attributes: Any,
) -> Any:
    """The result of an operator, or a list of several, of the types and shapes given."""
    node = f.graph.make_node(
        operator,
        [f.constant(entry) for entry in inputs],
        attr=attributes,
        output_count=len(kinds),
        op_name_scope=f.node.name,
        dtypes=list(kinds),
        shapes=[list(shape) for shape in shapes],
        branches=branches,
    )
    return node.output[0] if len(kinds) == 1 else list(node.output)


def split(f: Formula, x: str, delimiter: str = " ") -> list[str]:
    """The parts of each string in a row of their own, filled up with "", and their number.

    An empty string has no parts. Between blanks there are no empty ones; tabs and line breaks are
    no blanks.
    """
    attributes: dict[str, Any] = {} if delimiter == " " else {"delimiter": delimiter}
    shapes = [[-1, -1], [-1]]
    return list(made(f, "StringSplit", [x], [STRING, INT64], shapes, **attributes))


def concat(f: Formula, x: Any, y: Any, rank: int = 1) -> str:
    """Each string of x with that of y behind it."""
    return str(made(f, "StringConcat", [x, y], [STRING], [[-1] * rank]))


def matches(f: Formula, x: str, pattern: str) -> str:
    """Whether a pattern is the whole of each string."""
    return str(made(f, "RegexFullMatch", [x], [BOOL], [[-1]], pattern=pattern))


def contains(f: Formula, x: str, literals: Sequence[str]) -> Any:
    """Whether strings hold one of the texts given."""
    codes = ["".join(f"\\x{{{ord(character):x}}}" for character in text) for text in literals]
    if all(len(literal) == 1 for literal in literals):
        return f.Not(matches(f, x, f"[^{''.join(codes)}]*"))
    return matches(f, x, f"(?s).*(?:{'|'.join(codes)}).*")


def picked(f: Formula, x: str, condition: str, shape: Sequence[int] = (-1,)) -> str:
    """The strings for which a condition of one axis holds."""
    return str(made(f, "Compress", [x, condition], [STRING], [list(shape)]))


def if_any(
    f: Formula,
    condition: str,
    values: Sequence[str],
    kinds: Sequence[int],
    write: Callable[[Formula], Sequence[str]],
) -> list[str]:
    """What is written, if the condition holds anywhere, else the values as they are.

    Args:
        f: Around the branches.
        condition: Of one axis, which may be empty.
        values: Of one axis each.
        kinds: Their types.
        write: Takes the formula of a branch and returns other values of the same types.
    """
    branches = {}
    for name, form in (("then_branch", write), ("else_branch", lambda inner: values)):
        inner = f.within()
        for value, kind in zip(form(inner), kinds, strict=True):
            result = made(inner, "Identity", [value], [kind], [[-1]])
            inner.graph.add_graph_output(result, kind, [-1])
        branches[name] = inner.graph
    anywhere = f.Greater(f.sum(f.cast(condition, np.int64), 0), np.int64(0))
    shapes = [[-1] for _ in kinds]
    results = made(f, "If", [anywhere], kinds, shapes, branches)
    return [results] if len(kinds) == 1 else list(results)


def joined(f: Formula, parts: str, nothing: str) -> str:
    """The strings of each row, one behind the other, behind an empty one per row."""
    from tf2onnx import utils

    inner = f.within()
    place, going, before = (
        utils.make_name(f"{f.node.name}_{role}") for role in ("place", "going", "before")
    )
    inner.graph.add_graph_input(place, INT64, [])
    inner.graph.add_graph_input(going, BOOL, [])
    inner.graph.add_graph_input(before, STRING, [-1])
    inner.graph.add_graph_output(made(inner, "Identity", [going], [BOOL], [[]]), BOOL, [])
    part = made(inner, "Gather", [parts, place], [STRING], [[-1]], axis=1)
    inner.graph.add_graph_output(concat(inner, before, part), STRING, [-1])
    count = _extent(f, parts)
    return str(made(f, "Loop", [count, "", nothing], [STRING], [[-1]], {"body": inner.graph}))


def replaced(f: Formula, x: str, literals: Sequence[str], by: str) -> str:
    """Strings in which another text takes the place of each occurrence of a literal."""
    nothing = made(f, "Expand", [text(""), f.Shape(x)], [STRING], [[-1]])
    for literal in literals:
        parts, counts = split(f, x, literal)
        if by:
            places = _places(f, parts)
            between = f.And(f.Greater(places, [0]), f.Less(places, f.unsqueeze(counts, 1)))
            longer = concat(f, text(by), parts, rank=2)
            parts = made(f, "Where", [between, longer, parts], [STRING], [[-1, -1]])
        x = joined(f, parts, nothing)
    return x


def pieces(f: Formula, x: str, rows: str, delimiter: str = " ") -> list[str]:
    """All the parts of strings, and for each the row of the string that it comes from."""
    parts, counts = split(f, x, delimiter)
    inside = f.Less(_places(f, parts), f.unsqueeze(counts, 1))
    sources = f.Gather(f.NonZero(inside), np.int64(0), axis=0)
    return [picked(f, parts, f.Reshape(inside, [-1])), str(f.Gather(rows, sources))]


def _places(f: Formula, parts: str) -> Any:
    return f.Range(np.int64(0), _extent(f, parts), np.int64(1))


def _extent(f: Formula, parts: str) -> Any:
    """How many parts a row has room for."""
    return f.Squeeze(f.Shape(parts, start=1, end=2))
