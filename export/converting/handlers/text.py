"""Texts: equal ones, joined ones, lower case, patterns replaced, words, groups of words.

ONNX cannot replace a pattern. A character leaves a text that is split where it stands and joined
again. Only texts that hold one of the characters are touched, and rare characters are looked for
only where a text holds one of them.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from .counting import columns_of, range_of, rows_of
from .formula import Formula, converts
from .left import converts_some
from .patterns import literals
from .strings import (
    INT64,
    STRING,
    concat,
    contains,
    decoded,
    if_any,
    made,
    matches,
    picked,
    pieces,
    replaced,
    text,
)

COMMON = ".,!?'\"-:;()"
"""Punctuation that most texts hold some of."""
BLANKS = "\t\n\v\f\r"
"""What words end at besides spaces."""


@converts_some("Equal", "NotEqual")
def _equal(f: Formula, x: str, y: str) -> Any:
    """The numbers of texts are compared, as ONNX's Equal takes no texts before set 19."""
    if f.graph.get_dtype(x) != STRING:
        return None
    known = [f.known(side) for side in (x, y)]
    if known[0] is not None or known[1] is not None:
        texts, other = (known[1], x) if known[0] is None else (known[0], y)
        found = _equal_to_known(f, other, texts)
    else:
        found = f.Equal(*_numbered(f, x, y))
    return found if f.node.type == "Equal" else f.Not(found)


def _equal_to_known(f: Formula, x: str, texts: Any) -> Any:
    """By a table of the texts; what is none of them has the number −1."""
    entries, numbers = np.unique(decoded(texts), return_inverse=True)
    keys = entries.tolist() or [""]
    number = f.LabelEncoder(
        x,
        domain="ai.onnx.ml",
        keys_strings=keys,
        values_int64s=list(range(len(keys))),
        default_int64=-1,
    )
    f.graph.set_dtype(number, INT64)
    f.graph.copy_shape(x, number)
    return f.Equal(number, numbers.reshape(texts.shape).astype(np.int64))


def _numbered(f: Formula, x: str, y: str) -> list[str]:
    """Numbers of texts, the same for the same text; with one text more, as Unique needs some."""
    every = made(f, "Concat", [_flat(f, x), _flat(f, y), text("")], [STRING], [[-1]], axis=0)
    kinds, shapes = [STRING, INT64, INT64, INT64], [[-1]] * 4
    numbers = made(f, "Unique", [every], kinds, shapes)[2]
    counts = [f.Reshape(f.Size(side), [1]) for side in (x, y)]
    parts = [
        f.Slice(numbers, [0], counts[0], [0]),
        f.Slice(numbers, counts[0], f.Add(*counts), [0]),
    ]
    return [f.Reshape(part, f.Shape(side)) for part, side in zip(parts, (x, y), strict=True)]


@converts("StringJoin")
def _join(f: Formula, *parts: str) -> Any:
    """One behind the other, with the separator in between."""
    separator = np.array(f.attribute("separator"), object)
    rank = max(len(f.shape(part)) for part in parts)
    result = parts[0]
    for part in parts[1:]:
        if separator.item():
            result = concat(f, result, separator, rank)
        result = concat(f, result, part, rank)
    return result if len(parts) > 1 else made(f, "Identity", [result], [STRING], [[-1] * rank])


@converts("StringLower", "StringUpper")
def _change_case(f: Formula, x: str) -> Any:
    """Of ASCII letters. The operator takes no empty tensor, so that it gets one string more."""
    if f.attribute("encoding"):
        raise ValueError(f"{f.node.type} is only converted with encoding=''")
    action = f.node.type.removeprefix("String").upper()
    flat = _flat(f, x)
    more = made(f, "Concat", [text(""), flat], [STRING], [[-1]], axis=0)
    changed = made(
        f, "StringNormalizer", [more], [STRING], [[-1]], case_change_action=action, locale="C"
    )
    own = made(f, "Slice", [changed, [1], [np.iinfo(np.int64).max], [0]], [STRING], [[-1]])
    return _like(f, own, x)


@converts("StaticRegexReplace")
def _replace(f: Formula, x: str) -> Any:
    pattern, by = f.attribute("pattern"), f.attribute("rewrite")
    known = literals(pattern)
    if known is None or "\\" in by or not f.attribute("replace_global"):
        raise ValueError(f"no form of the pattern {pattern!r} replaced by {by!r}")
    if len(known) > 1 and any(literal in by for literal in known):
        raise ValueError(f"no form of the pattern {pattern!r} replaced by {by!r}, a part of it")
    result = _flat(f, x)
    for common in (True, False):
        group = [literal for literal in known if (literal in COMMON) == common]
        if group:
            result = _replace_where_found(f, result, group, by)
    return _like(f, result, x)


def _replace_where_found(f: Formula, x: str, group: list[str], by: str) -> str:
    found = contains(f, x, group)

    def write(inner: Formula) -> list[str]:
        some = replaced(inner, picked(inner, x, found), group, by)
        places = inner.Transpose(made(inner, "NonZero", [found], [INT64], [[1, -1]]), perm=[1, 0])
        return [made(inner, "ScatterND", [x, places, some], [STRING], [[-1]])]

    return if_any(f, found, [x], [STRING], write)[0]


@converts("StaticRegexFullMatch")
def _match(f: Formula, x: str) -> Any:
    """Both sides have the same engine."""
    found = matches(f, _flat(f, x), f.attribute("pattern"))
    return f.Reshape(found, f.Shape(x))


@converts("StringSplitV2")
def _split(f: Formula, x: str, separator: str) -> Any:
    """Words, their places, and the smallest shape that has all these places."""
    delimiter = str(decoded(f.value(separator)).item())
    if f.attribute("maxsplit") >= 0:
        raise ValueError("no form of a StringSplitV2 with a largest number of parts")
    count = f.Shape(x)
    rows = range_of(f, x)
    if delimiter:
        words, owners = _parts(f, x, rows, delimiter)
    else:
        lines, sources = _without_blanks(f, x, rows)
        words, owners = pieces(f, lines, sources)
    lengths, columns = columns_of(f, owners, count)
    width = f.ReduceMax(f.Concat(lengths, [0], axis=0), [0], keepdims=1)
    places = f.Concat(f.unsqueeze(owners, 1), f.unsqueeze(columns, 1), axis=1)
    return [places, words, f.Concat(count, width, axis=0)]


def _parts(f: Formula, x: str, rows: str, delimiter: str) -> list[str]:
    """For TensorFlow an empty string is one part, for ONNX none.

    So every string gets a delimiter more, and loses the part in front of it.
    """
    words, owners = pieces(f, concat(f, text(delimiter), x), rows, delimiter)
    _, columns = columns_of(f, owners, f.Shape(x))
    behind = f.Greater(columns, [0])
    return [picked(f, words, behind), f.Compress(owners, behind)]


def _without_blanks(f: Formula, x: str, rows: str) -> list[str]:
    """Texts split where there is white space other than spaces."""

    def write(inner: Formula) -> list[str]:
        lines, sources = x, rows
        for blank in BLANKS:
            lines, sources = pieces(inner, lines, sources, blank)
        return [lines, sources]

    return if_any(f, contains(f, x, BLANKS), [x, rows], [STRING, INT64], write)


@converts("StringNGrams")
def _n_grams(f: Formula, words: str, splits: str) -> Any:
    """Groups of words that follow each other: by row, then by width, then by place."""
    widths = [int(width) for width in f.attribute("ngram_widths")]
    short = f.attribute("preserve_short_sequences")
    if short or f.attribute("pad_width") or f.attribute("left_pad") or f.attribute("right_pad"):
        raise ValueError("no form of a StringNGrams that pads")
    dtype = f.dtype_of(splits)
    splits = f.cast(splits, np.int64)
    every = [np.iinfo(np.int64).max]
    begins, ends = f.Slice(splits, [0], [-1], [0]), f.Slice(splits, [1], every, [0])
    lengths = f.Sub(ends, begins)
    owners = rows_of(f, splits, words)
    place = f.Sub(range_of(f, words), f.Gather(begins, owners))
    own = [f.Max(f.Sub(lengths, [width - 1]), [0]) for width in widths]
    total = reduce(f.Add, own)
    starts = f.CumSum(total, np.int64(0), exclusive=1)
    grams, targets = [], []
    for width, count in zip(widths, own, strict=True):
        there = f.Less(place, f.Gather(count, owners))
        first = f.Compress(range_of(f, words), there)
        gram = made(f, "Gather", [words, first], [STRING], [[-1]])
        for step in range(1, width):
            other = made(f, "Gather", [words, f.Add(first, [step])], [STRING], [[-1]])
            gram = concat(f, concat(f, gram, text(f.attribute("separator"))), other)
        grams.append(gram)
        row = f.Compress(owners, there)
        targets.append(f.Add(f.Gather(starts, row), f.Compress(place, there)))
        starts = f.Add(starts, count)
    target = f.Concat(*targets, axis=0)
    inverse = f.ScatterElements(target, target, range_of(f, target), axis=0)
    found = made(f, "Concat", grams, [STRING], [[-1]], axis=0)
    ordered = made(f, "Gather", [found, inverse], [STRING], [[-1]])
    return [ordered, f.cast(f.Concat([0], f.CumSum(total, np.int64(0)), axis=0), dtype)]


def _flat(f: Formula, x: str) -> str:
    return str(made(f, "Reshape", [x, [-1]], [STRING], [[-1]]))


def _like(f: Formula, flat: str, x: str) -> str:
    return str(made(f, "Reshape", [flat, f.Shape(x)], [STRING], [f.graph.get_shape(x)]))
