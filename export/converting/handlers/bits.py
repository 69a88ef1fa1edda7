"""Bits: what a number is made of, computed with numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, converts

SIGN = np.iinfo(np.int32).min
"""The bit of the sign."""


@converts("Bitcast")
def _bitcast(f: Formula, x: str) -> Any:
    """float32 and int32 with the same bits; a NaN loses its sign and payload."""
    source, target = f.dtype_of(x), f.dtype_of(f.node.output[0])
    if source == target:
        return f.Identity(x)
    if source == np.float32 and target == np.int32:
        signs = _tests_of_the_sign(f)
        if signs:
            negative = _is_negative(f, x)
            for sign in signs:
                f.graph.replace_all_inputs(sign, negative)
            return f.Neg(f.cast(negative, np.int32))
        return f.cast(_bits(f, x), np.int32)
    if source == np.int32 and target == np.float32:
        return _from_bits(f, f.cast(x, np.int64))
    raise ValueError(f"no form of a bit cast from {source} to {target}")


@converts("LeftShift", "RightShift")
def _shift(f: Formula, x: str, by: str) -> Any:
    """Whole numbers in two's complement, by at most the width of the type less one.

    A negative number is shifted to the right as -1 - x, which is not: that keeps its sign.
    """
    dtype = f.dtype_of(x)
    last = np.int64(8 * dtype.itemsize - 1)
    by = f.cast(f.Max(f.Min(f.cast(by, np.int64), last), np.int64(0)), np.uint64)
    if f.node.type == "LeftShift":
        return f.cast(f.BitShift(f.cast(x, np.uint64), by, direction="LEFT"), dtype)
    if dtype.kind == "u":
        return f.cast(f.BitShift(f.cast(x, np.uint64), by, direction="RIGHT"), dtype)
    wide = f.cast(x, np.int64)
    negative, minus_one = f.Less(wide, np.int64(0)), np.int64(-1)
    size = f.cast(f.Where(negative, f.Sub(minus_one, wide), wide), np.uint64)
    shifted = f.cast(f.BitShift(size, by, direction="RIGHT"), np.int64)
    return f.cast(f.Where(negative, f.Sub(minus_one, shifted), shifted), dtype)


@converts("NextAfter")
def _next_after(f: Formula, x: str, y: str) -> Any:
    """x ± u(1 + 2u)|x| with u half an ulp of 1, in three ranges of |x| (Rump et al., 2009)."""
    limits = np.finfo(f.dtype)
    unit, least = float(limits.eps) / 2, float(limits.smallest_subnormal)
    up = f.Sub(f.cast(f.Greater(y, x), f.dtype), f.cast(f.Less(y, x), f.dtype))
    size = f.Abs(x)
    scaled = f.Div(x, unit)
    φ = unit * (1 + 2 * unit)
    normal = f.Add(x, f.Mul(up, f.Mul(size, φ)))
    small = f.Mul(f.Add(scaled, f.Mul(up, f.Mul(f.Abs(scaled), φ))), unit)
    tiny = f.Add(x, f.Mul(up, least))
    result = f.Where(f.Less(size, least / unit), tiny, small)
    result = f.Where(f.Less(size, least / unit**2), result, normal)
    largest = f.Mul(f.Sign(x), float(limits.max))
    result = f.Where(f.IsInf(x), largest, result)
    return f.Where(f.Equal(x, y), y, f.Where(f.IsNaN(y), y, result))


def _tests_of_the_sign(f: Formula) -> list[str]:
    """The comparisons that ask for the bit of the sign, behind a mask; none if anything else reads
    the result."""
    bits, found = f.node.output[0], []
    if bits in f.graph.outputs:
        return []
    for masked in f.graph.find_output_consumers(bits):
        sign = masked.output[0]
        tests = f.graph.find_output_consumers(sign)
        if not _is(f, masked, "BitwiseAnd", bits, SIGN) or sign in f.graph.outputs:
            return []
        if not all(_is(f, test, "Less", sign, 0) for test in tests):
            return []
        found += [test.output[0] for test in tests]
    return found


def _is(f: Formula, node: Any, kind: str, name: str, number: int) -> bool:
    """Whether a node is an operation of a value and a number."""
    known = f.known(node.input[1]) if node.type == kind and node.input[0] == name else None
    return known is not None and bool(np.all(known == number))


def _is_negative(f: Formula, x: str) -> Any:
    """Whether the sign bit is set, that of −0 too."""
    return f.Or(f.Less(x, 0.0), f.Less(f.Div(1.0, x), 0.0))


def _bits(f: Formula, x: str) -> Any:
    """The bits of float32 numbers in int64, negative if the sign bit is set."""
    size = f.cast(f.Abs(x), np.float64)
    two, one = np.float64(2), np.float64(1)
    normal = f.Min(f.Max(size, np.float64(2.0**-126)), np.float64(2.0**127))
    exponent = f.Floor(f.Div(f.Log(normal), np.log(two)))
    # The logarithm may be off by one next to a power of two.
    ratio = f.Div(normal, f.Pow(two, exponent))
    exponent = f.Where(f.GreaterOrEqual(ratio, two), f.Add(exponent, one), exponent)
    exponent = f.Where(f.Less(ratio, one), f.Sub(exponent, one), exponent)
    mantissa = f.Mul(f.Min(size, np.float64(np.finfo(np.float32).max)), _power(f, exponent, 23))
    bits = f.Add(f.Mul(f.Add(exponent, np.float64(126)), np.float64(2.0**23)), mantissa)
    bits = f.Where(f.IsInf(size), np.float64(0x7F800000), bits)
    bits = f.cast(f.Where(f.IsNaN(size), np.float64(0x7FC00000), bits), np.int64)
    return f.Where(_is_negative(f, x), f.Sub(bits, [2**31]), bits)


def _power(f: Formula, exponent: str, offset: int) -> Any:
    return f.Pow(np.float64(2), f.Sub(np.float64(offset), exponent))


def _from_bits(f: Formula, bits: str) -> Any:
    """The float32 numbers with these bits, given in int64."""
    negative = f.Less(bits, [0])
    size = f.Where(negative, f.Add(bits, [2**31]), bits)
    exponent = f.Div(size, [2**23])
    mantissa = f.Sub(size, f.Mul(exponent, [2**23]))
    hidden = f.Where(f.Greater(exponent, [0]), [2**23], [0])
    power = f.Sub(f.Max(exponent, [1]), [150])
    value = f.Mul(
        f.cast(f.Add(mantissa, hidden), np.float64),
        f.Pow(np.float64(2), f.cast(power, np.float64)),
    )
    value = f.cast(value, np.float32)
    special = f.Where(f.Equal(mantissa, [0]), np.float32(np.inf), np.float32(np.nan))
    value = f.Where(f.Equal(exponent, [255]), special, value)
    # onnxruntime's Where has no negative zero.
    return f.Mul(value, f.Where(negative, np.float32(-1), np.float32(1)))
