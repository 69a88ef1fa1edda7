"""Whole numbers: compared as they are, of types that onnxruntime lacks, raised to powers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .choice import WIDER, larger, where
from .formula import HANDLERS, Formula
from .left import converts_some, leave, leave_widened
from .products import scan

SMALL = {"int8", "int16", "uint8", "uint16"}
NARROW = SMALL | {"uint32", "uint64", "float16"}
LACKING = {
    "MatMul": SMALL,
    "BatchMatMul": SMALL,
    "BatchMatMulV2": SMALL,
    "BatchMatMulV3": SMALL,
    "Cumsum": NARROW,
    "Pad": NARROW | {"bool"},
    "PadV2": NARROW | {"bool"},
    "MirrorPad": NARROW | {"bool"},
}
"""What onnxruntime does not compute, or tf2onnx in float32 alone."""
COMPARISONS = {
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
}


@converts_some(*COMPARISONS)
def _compare(f: Formula, x: str, y: str) -> Any:
    """tf2onnx compares float32, to which 2²⁴ and 2²⁴ + 1 are one number."""
    dtype = f.dtype_of(x)
    if dtype.kind not in "iu":
        return None
    if dtype == np.int32:  # Or int64: tf2onnx calls int32 what a loop counts in int64.
        x, y = (f.cast(number, np.int64) for number in (x, y))
    return getattr(f, COMPARISONS[f.node.type])(x, y)


def _widened(graph: Any, node: Any, name: str, args: Any) -> None:
    """In a wider type and back, where what is too large wraps as in TensorFlow."""
    kinds = {Formula(graph, node).dtype_of(end).name for end in (node.input[0], node.output[0])}
    kind = kinds.pop()
    if kinds or kind not in LACKING[node.type]:
        leave(graph, node)
    else:
        leave_widened(graph, node, WIDER[kind])


HANDLERS.update({kind: (_widened, []) for kind in LACKING})


@converts_some("Maximum", "Minimum")
def _limit(f: Formula, x: str, y: str) -> Any:
    """The smaller is chosen as `larger` does, for the same reasons."""
    dtype = f.dtype_of(x)
    if dtype.name not in {"int16", "uint16", "int64"}:
        return None
    return where(f, f.Less(x, y), x, y) if f.node.type == "Minimum" else larger(f, x, y)


@converts_some("Relu")
def _relu(f: Formula, x: str) -> Any:
    dtype = f.dtype_of(x)
    if dtype.kind not in "iu":
        return None
    return larger(f, x, f.constant(np.zeros((), dtype)))


@converts_some("Pow")
def _power(f: Formula, x: str, y: str) -> Any:
    """Squares of squares, which wrap: onnxruntime goes by way of float64."""
    dtype, known = f.dtype_of(x), f.known(y)
    if dtype.kind not in "iu" or (known is not None and known.min(initial=0) < 0):
        return None
    wide = WIDER.get(dtype.name, dtype.name)
    x = f.cast(x, wide)
    power = _by_bits(f, x, f.cast(y, wide)) if known is None else _known_power(f, x, known)
    return f.cast(power, dtype)


def _known_power(f: Formula, x: str, exponents: np.ndarray) -> str:
    one = np.ones((), f.dtype_of(x))
    last = int(exponents.max(initial=0)).bit_length() - 1
    # As many ones as there will be results.
    spread = exponents.ndim > 0 or last < 0
    power = f.Where(np.zeros_like(exponents, bool), x, one) if spread else None
    for place in range(last + 1):
        bits = (exponents >> place & 1).astype(bool)
        if bits.any():
            factor = x if bits.all() else f.Where(bits, x, one)
            power = factor if power is None else f.Mul(power, factor)
        if place < last:
            x = f.Mul(x, x)
    return str(power)


def _by_bits(f: Formula, x: str, y: str) -> str:
    """From the highest bit of the exponents on: squared, times x where the bit is 1."""
    dtype, rank = f.dtype_of(x), len(f.shape(f.node.output[0]))
    one, count = np.ones((), dtype), 8 * dtype.itemsize - 1
    powers = np.left_shift(np.int64(1), np.arange(count)[::-1]).astype(dtype)
    bits = f.Mod(f.Div(y, powers.reshape(-1, *rank * [1])), np.full((), 2, dtype))
    factors = f.Where(f.Equal(bits, one), x, one)
    f.graph.set_shape(factors, [count, *rank * [-1]])
    start = f.Expand(one, f.slice(f.Shape(factors), 1, rank + 1, 0))
    steps = scan(f, start, factors, False, _squared)
    return str(f.Gather(steps, np.int64(-1), axis=0))


def _squared(step: Formula, power: str, factor: str) -> str:
    return str(step.Mul(step.Mul(power, power), factor))
