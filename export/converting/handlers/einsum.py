"""Einsum of two operands as transposes and one product of matrices.

tf2onnx takes an einsum apart in such a way that the file computes the shapes of its operands, and
with six letters or more it tries every order of them, or never ends. The letters alone say what it
is: those of both operands and the result count matrices, those of both operands alone are
multiplied away, the others are rows of one and columns of the other. What repeats a letter stays
an Einsum.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .formula import Formula, converts

NUMBERS = ("float16", "float32", "float64", "int32", "int64")


@dataclass(frozen=True)
class Product:
    """An einsum that is a product of matrices.

    Attributes:
        one, other, result: Letters of the operands and of the result.
        batch, rows, columns: Those of each kind, in the order of the result.
        inner: Those that are multiplied away.
    """

    one: str
    other: str
    result: str
    batch: str
    rows: str
    columns: str
    inner: str

    @property
    def ends(self) -> str:
        """Letters of the product, before its axes are put in the order of the result."""
        return self.batch + self.rows + self.columns


def product_of(one: str, other: str, result: str) -> Product | None:
    """The product with these letters; None if it is none, or one of several axes in a batch."""
    letters = set(one) | set(other)
    repeated = any(len(set(part)) < len(part) for part in (one, other, result))
    inner = "".join(letter for letter in other if letter in one and letter not in result)
    if repeated or not inner or set(result) | set(inner) != letters:
        return None
    batch, rows, columns = (
        "".join(letter for letter in result if (letter in one, letter in other) == where)
        for where in ((True, True), (True, False), (False, True))
    )
    if not (rows and columns) or (batch and len(rows + columns + inner) > 3):
        return None
    return Product(one, other, result, batch, rows, columns, inner)


def spelled(equation: str, ranks: Sequence[int]) -> tuple[str, ...] | None:
    """Letters of the operands and the result, those of an ellipsis spelled out.

    Example:

    >>> from kerasdl.export.converting.handlers.einsum import spelled
    >>> spelled("...x,xy->...y", (3, 2))
    ('YZx', 'xy', 'YZy')
    """
    given, arrow, result = equation.replace(" ", "").partition("->")
    operands = given.split(",")
    if not arrow or len(operands) != len(ranks):
        return None
    hidden = [
        rank - len(part) + 3 if "..." in part else 0
        for part, rank in zip(operands, ranks, strict=True)
    ]
    unused = [letter for letter in string.ascii_letters[::-1] if letter not in equation]
    names = "".join(sorted(unused[: max(hidden)]))
    # Extents of an ellipsis are told from behind.
    parts = zip([*operands, result], [*hidden, max(hidden)], strict=True)
    return tuple(part.replace("...", names[len(names) - count :]) for part, count in parts)


@converts("Einsum")
def _einsum(f: Formula, *operands: str) -> str:
    equation = str(f.attribute("equation"))
    ranks = [f.graph.get_rank(name) for name in operands]
    known = None not in ranks and f.dtype_of(operands[0]).name in NUMBERS
    letters = spelled(equation, ranks) if known else None
    repeated = letters is None or any(len(set(part)) < len(part) for part in letters)
    if letters is None or repeated or len(operands) > 2:
        return str(f.Einsum(*operands, equation=equation))
    if len(operands) == 1:
        return _turned(f, *_summed(f, operands[0], *letters), letters[1])
    plain = sorted(_products(letters, operands), key=lambda found: found[0].ends != found[0].result)
    for product, one, other in plain:
        found = _multiplied(f, product, one, other)
        if found is not None:
            return found
    return _merged(f, letters, operands)


def _products(
    letters: tuple[str, ...], operands: Sequence[str]
) -> Iterator[tuple[Product, str, str]]:
    """The product, and that of the operands in the other order."""
    one, other, result = letters
    for product, names in (
        (product_of(one, other, result), operands),
        (product_of(other, one, result), operands[::-1]),
    ):
        if product is not None:
            yield product, names[0], names[1]


def _multiplied(f: Formula, product: Product, one: str, other: str) -> str | None:
    """The nodes of a product; None if an extent that is needed is free."""
    extents = dict(zip(product.other, f.shape(other), strict=True))
    inner, columns = (
        [extents[letter] for letter in part] for part in (product.inner, product.columns)
    )
    flat = len(inner) > 1 or len(columns) > 1
    if flat and (min(inner) < 0 or sum(extent < 0 for extent in columns) > 1):
        return None
    left = _turned(f, one, product.one, product.batch + product.rows + product.inner)
    right = _turned(f, other, product.other, product.batch + product.inner + product.columns)
    same = [0] * len(product.rows)  # copies an extent
    if len(inner) > 1:
        left = str(f.Reshape(left, [*same, math.prod(inner)]))
    if flat:
        right = str(
            f.Reshape(right, [math.prod(inner), -1 if min(columns) < 0 else math.prod(columns)])
        )
    result = str(f.MatMul(left, right))
    if len(columns) > 1:
        result = str(f.Reshape(result, [*same, *columns]))
    return _turned(f, result, product.ends, product.result)


def _merged(f: Formula, letters: tuple[str, ...], operands: Sequence[str]) -> str:
    """Any einsum of two: one axis of rows, one of columns, one that is multiplied away."""
    result = letters[2]
    (left, one), (right, other) = (
        _summed(f, operands[i], letters[i], result + letters[1 - i]) for i in (0, 1)
    )
    batch, rows, columns = (
        "".join(letter for letter in result if (letter in one, letter in other) == where)
        for where in ((True, True), (True, False), (False, True))
    )
    inner = "".join(letter for letter in one if letter not in result)
    if batch + rows + columns != result and batch + columns + rows == result:
        return _merged(f, (letters[1], letters[0], result), operands[::-1])
    extents = {
        letter: (extent, name, axis)
        for name, part in ((right, other), (left, one))
        for axis, (letter, extent) in enumerate(zip(part, f.shape(name), strict=True))
    }
    left = _turned(f, left, one, batch + rows + inner)
    right = _turned(f, right, other, batch + inner + columns)
    left = _joined(f, left, len(batch), (rows, inner), extents)
    right = _joined(f, right, len(batch), (inner, columns), extents)
    product = str(f.MatMul(left, right) if inner else f.Mul(left, right))
    if len(rows) > 1 or len(columns) > 1:
        product = _reshaped(f, product, len(batch), rows + columns, extents)
    else:
        ends = zip((-2, -1), (rows, columns), strict=True)
        unit = [axis for axis, group in ends if not group]
        product = str(f.Squeeze(product, unit)) if unit else product
    return _turned(f, product, batch + rows + columns, result)


def _summed(f: Formula, x: str, letters: str, wanted: str) -> tuple[str, str]:
    """An operand without the letters that nothing else has, and its letters."""
    alone = [axis for axis, letter in enumerate(letters) if letter not in wanted]
    if alone:
        x = str(f.ReduceSum(x, alone, keepdims=0))
    return x, "".join(letter for letter in letters if letter in wanted)


def _joined(
    f: Formula, x: str, same: int, groups: Sequence[str], extents: dict[str, tuple[int, str, int]]
) -> str:
    """One axis for each group of letters, behind some that stay."""
    if max(map(len, groups)) > 1:
        return _reshaped(f, x, same, groups, extents)
    unit = [same + place for place, group in enumerate(groups) if not group]
    return f.unsqueeze(x, *unit) if unit else x


def _reshaped(
    f: Formula, x: str, same: int, groups: Sequence[str], extents: dict[str, tuple[int, str, int]]
) -> str:
    """Some axes stay; behind them there is one for each group of letters.

    Args:
        f: The formula.
        x: The tensor.
        same: How many axes stay.
        groups: Letters of which the axes are made.
        extents: Of each letter, -1 where it is free, and the tensor and the axis that have it.
    """
    target: list[Any] = [[0]] * same  # copies an extent
    for group in groups:
        known = math.prod(extents[letter][0] for letter in group if extents[letter][0] >= 0)
        found: Any = [known]
        for extent, name, axis in (extents[letter] for letter in group):
            if extent < 0:
                free = f.slice(f.Shape(name), axis, axis + 1, 0)
                found = free if found == [1] else f.Mul(free, found)
        target.append(found)
    if all(isinstance(extent, list) for extent in target):
        return str(f.Reshape(x, [extent for (extent,) in target]))
    return str(f.Reshape(x, f.Concat(*target, axis=0)))


def _turned(f: Formula, x: str, letters: str, wanted: str) -> str:
    perm = [letters.index(letter) for letter in wanted]
    return x if perm == sorted(perm) else str(f.Transpose(x, perm=perm))
