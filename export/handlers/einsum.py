"""Einsum of two operands as transposes and one product of matrices.

tf2onnx takes an einsum apart in such a way that the file computes the shapes of its operands.
The letters alone say what it is: those of both operands and the result count matrices, those of
both operands alone are multiplied away, the others are rows of one and columns of the other.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def spelled(equation: str, ranks: Sequence[int]) -> tuple[str, str, str] | None:
    """Letters of two operands and the result, those of an ellipsis spelled out.

    Example:

    >>> from kerasdl.export.handlers.einsum import spelled
    >>> spelled("...x,xy->...y", (3, 2))
    ('YZx', 'xy', 'YZy')
    """
    given, arrow, result = equation.replace(" ", "").partition("->")
    operands = given.split(",")
    dotted = [part for part in operands if "..." in part]
    if not arrow or len(operands) != 2 or len(dotted) > 1:
        return None
    for part, rank in zip(operands, ranks, strict=True):
        if "..." in part:
            unused = [letter for letter in string.ascii_letters[::-1] if letter not in equation]
            hidden = "".join(sorted(unused[: rank - len(part) + 3]))
            operands = [each.replace("...", hidden) for each in operands]
            result = result.replace("...", hidden)
    return operands[0], operands[1], result


@converts("Einsum")
def _einsum(f: Formula, *operands: str) -> str:
    equation = str(f.attribute("equation"))
    plain = sorted(
        _products(f, equation, operands), key=lambda found: found[0].ends != found[0].result
    )
    for product, one, other in plain:
        found = _multiplied(f, product, one, other)
        if found is not None:
            return found
    return str(f.Einsum(*operands, equation=equation))


def _products(
    f: Formula, equation: str, operands: Sequence[str]
) -> Iterator[tuple[Product, str, str]]:
    """The product, and that of the operands in the other order."""
    ranks = [f.graph.get_rank(name) for name in operands]
    if len(operands) != 2 or None in ranks or f.dtype_of(operands[0]).name not in NUMBERS:
        return
    letters = spelled(equation, ranks)
    if letters is None:
        return
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


def _turned(f: Formula, x: str, letters: str, wanted: str) -> str:
    perm = [letters.index(letter) for letter in wanted]
    return x if perm == sorted(perm) else str(f.Transpose(x, perm=perm))
