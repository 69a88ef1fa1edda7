"""Hashes of whole numbers, as TensorFlow computes them of their decimal digits.

ONNX cannot take a string apart, but the digits of a number can be computed, and a hash is sums,
products and shifts of 64 bits without a sign. FarmHash has a form of its own for each range of
lengths (G. Pike, `farmhashna::Hash64`); SipHash-2-4 takes eight characters at a time (J.-P.
Aumasson and D. J. Bernstein, 2012). Numbers have 1 to 20 characters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .formula import Formula, converts

MOST = 24
"""Characters: 20 are the most that a number has, in blocks of eight."""
FARM = (0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F)
SIP = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
CAT = 0xC6A4A7935BD1E995
"""Constants of the hashes: of FarmHash, SipHash and of the one that joins two fingerprints."""


@converts("AsString")
def _as_string(f: Formula, x: str) -> Any:
    if f.dtype_of(x).kind not in "iu" or f.attribute("width") > 0 or f.attribute("fill"):
        raise ValueError("AsString is only converted for whole numbers")
    return f.Cast(x, to=8)


@converts("StringToHashBucketFast")
def _fast(f: Formula, x: str) -> Any:
    return _buckets(f, x, _farm)


@converts("StringToHashBucketStrong")
def _strong(f: Formula, x: str) -> Any:
    key = [int(part) % 2**64 for part in f.attribute("key")]
    return _buckets(f, x, partial(_sip, key=key))


def _buckets(f: Formula, x: str, hash_of: Callable[[_Bits, _Digits], str]) -> Any:
    source = f.graph.get_node_by_output(x)
    while source is not None and source.type == "Identity":
        source = source.inputs[0]
    if source is None or source.type != "Cast" or f.dtype_of(source.input[0]).kind not in "iu":
        raise ValueError(f"no form of {f.node.type} for strings")
    number = source.input[0]
    bits = _Bits(f)
    digits = _Digits(bits, f.Reshape(number, [-1]), f.dtype_of(number).kind == "i")
    hashed = bits.remainder(hash_of(bits, digits), f.attribute("num_buckets"))
    return f.Reshape(hashed, f.Shape(number))


@converts("SparseCross")
def _cross(f: Formula, *columns: str) -> Any:
    """Of dense columns of one number each; the numbers themselves are their fingerprints."""
    if f.attribute("N") or not f.attribute("hashed_output"):
        raise ValueError("a SparseCross is only converted for dense columns and hashes")
    if any(f.dtype_of(x).kind not in "iu" or f.shape(x)[1:] != [1] for x in columns):
        raise ValueError("a SparseCross is only converted for columns of one whole number")
    bits = _Bits(f)
    hashed: Any = bits.constant(f.attribute("hash_key"))
    for column in columns:
        number = f.cast(f.cast(f.Reshape(column, [-1]), np.int64), np.uint64)
        hashed = _joined(bits, hashed, number)
    rows = f.slice(f.Shape(columns[0]), 0, 1, 0)
    owners = f.Range(np.int64(0), f.Squeeze(rows), np.int64(1))
    places = f.Concat(f.unsqueeze(owners, 1), f.unsqueeze(f.Mul(owners, [0]), 1), axis=1)
    buckets = bits.remainder(hashed, f.attribute("num_buckets"))
    return [places, buckets, f.Concat(rows, [1], axis=0)]


class _Bits:
    """Numbers of 64 bits without a sign."""

    def __init__(self, f: Formula) -> None:
        self.f = f

    def constant(self, value: int) -> np.ndarray:
        return np.array([value % 2**64], np.uint64)

    def add(self, *terms: Any) -> Any:
        return self._each(self.f.Add, terms)

    def times(self, *factors: Any) -> Any:
        return self._each(self.f.Mul, factors)

    def xor(self, *values: Any) -> Any:
        return self._each(self.f.BitwiseXor, values)

    def _each(self, operator: Callable[..., Any], values: tuple[Any, ...]) -> Any:
        total, *others = (self.constant(v) if isinstance(v, int) else v for v in values)
        for other in others:
            total = operator(total, other)
        return total

    def shift(self, x: Any, by: int, direction: str) -> Any:
        return self.f.BitShift(x, self.constant(by), direction=direction)

    def right(self, x: Any, by: int) -> Any:
        """Turned, so that what falls off at one end comes in at the other."""
        return self.f.BitwiseOr(self.shift(x, by, "RIGHT"), self.shift(x, 64 - by, "LEFT"))

    def mixed(self, x: Any, by: int = 47) -> Any:
        return self.xor(x, self.shift(x, by, "RIGHT"))

    def chosen(self, condition: Any, x: Any, y: Any) -> Any:
        """onnxruntime chooses among numbers with a sign."""
        x, y = (self.f.cast(side, np.int64) for side in (x, y))
        return self.f.cast(self.f.Where(condition, x, y), np.uint64)

    def remainder(self, x: Any, count: int) -> str:
        return str(self.f.cast(self.f.Mod(x, self.constant(count)), np.int64))


class _Digits:
    """The characters of whole numbers.

    Attributes:
        length: How many there are, one number each.
        codes: They in ASCII, in MOST columns, with zeros behind.
    """

    def __init__(self, bits: _Bits, x: Any, signed: bool) -> None:
        f = bits.f
        self.bits = bits
        powers = np.array([10**k for k in range(20)], np.uint64)
        size = f.cast(x, np.uint64)
        negative: Any = f.constant(np.zeros(1, np.int64))
        if signed:
            wide = f.cast(x, np.int64)
            below = f.Less(wide, np.zeros(1, np.int64))
            negative = f.cast(below, np.int64)
            size = f.cast(wide, np.uint64)
            size = bits.chosen(below, f.Sub(bits.constant(0), size), size)
        size = f.unsqueeze(size, 1)
        # Any number has one digit at least.
        reached = f.cast(f.GreaterOrEqual(size, powers[1:]), np.int64)
        self.length = f.Add(f.Add(f.sum(reached, 1), [1]), negative)
        places = np.arange(MOST)
        behind = f.Sub(f.unsqueeze(self.length, 1), places + 1)
        inside = f.cast(f.GreaterOrEqual(behind, [0]), np.int64)
        power = f.Gather(powers, f.Max(f.Min(behind, [19]), [0]))
        digit = f.cast(f.Mod(f.Div(size, power), bits.constant(10)), np.int64)
        # In front of a number's digits comes a zero; a minus lies three before it.
        minus = f.Mul(f.unsqueeze(negative, 1), 3 * (places == 0).astype(np.int64))
        self.codes = f.Mul(inside, f.Sub(f.Add(digit, [ord("0")]), minus))

    def fetch(self, start: Any, width: int = 8) -> Any:
        """So many characters from a place on, the first the lowest byte.

        No more than four at once: onnxruntime's sums of int64 are not exact beyond 2⁵³.
        """
        if width > 4:
            low, high = self.fetch(start, 4), self.fetch(self._after(start), 4)
            return self.bits.add(low, self.bits.shift(high, 32, "LEFT"))
        f = self.bits.f
        if isinstance(start, int):
            part = f.slice(self.codes, start, start + width, 1)
        else:
            places = f.Add(f.unsqueeze(start, 1), np.arange(width))
            part = f.GatherElements(self.codes, f.Max(f.Min(places, [MOST - 1]), [0]), axis=1)
        return f.cast(f.sum(f.Mul(part, 256 ** np.arange(width)), 1), np.uint64)

    def _after(self, start: Any) -> Any:
        return start + 4 if isinstance(start, int) else self.bits.f.Add(start, [4])

    def before_end(self, count: int) -> Any:
        return self.bits.f.Sub(self.length, [count])

    def longer_than(self, count: int) -> Any:
        return self.bits.f.Greater(self.length, [count])


def _farm(bits: _Bits, digits: _Digits) -> str:
    f = bits.f
    length = f.cast(digits.length, np.uint64)
    double = bits.add(length, length)
    factor = bits.add(double, FARM[2])
    return str(
        bits.chosen(
            digits.longer_than(16),
            _farm_32(bits, digits, factor),
            bits.chosen(
                digits.longer_than(7),
                _farm_16(bits, digits, factor),
                bits.chosen(
                    digits.longer_than(3),
                    _farm_7(bits, digits, length, factor),
                    _farm_3(bits, digits, length),
                ),
            ),
        )
    )


def _farm_3(bits: _Bits, digits: _Digits, length: Any) -> Any:
    """Of one to three characters."""
    half = bits.f.Div(digits.length, [2])
    low = bits.add(digits.fetch(0, 1), bits.shift(digits.fetch(half, 1), 8, "LEFT"))
    last = digits.fetch(digits.before_end(1), 1)
    high = bits.add(length, bits.shift(last, 2, "LEFT"))
    return bits.times(
        bits.mixed(bits.xor(bits.times(low, FARM[2]), bits.times(high, FARM[0]))), FARM[2]
    )


def _farm_7(bits: _Bits, digits: _Digits, length: Any, factor: Any) -> Any:
    """Of four to seven characters."""
    first = bits.add(length, bits.shift(digits.fetch(0, 4), 3, "LEFT"))
    return _farm_pair(bits, first, digits.fetch(digits.before_end(4), 4), factor)


def _farm_16(bits: _Bits, digits: _Digits, factor: Any) -> Any:
    """Of eight to sixteen characters."""
    a, b = bits.add(digits.fetch(0), FARM[2]), digits.fetch(digits.before_end(8))
    c = bits.add(bits.times(bits.right(b, 37), factor), a)
    d = bits.times(bits.add(bits.right(a, 25), b), factor)
    return _farm_pair(bits, c, d, factor)


def _farm_32(bits: _Bits, digits: _Digits, factor: Any) -> Any:
    """Of seventeen characters and more."""
    a, b = bits.times(digits.fetch(0), FARM[1]), digits.fetch(8)
    c = bits.times(digits.fetch(digits.before_end(8)), factor)
    d = bits.times(digits.fetch(digits.before_end(16)), FARM[2])
    first = bits.add(bits.right(bits.add(a, b), 43), bits.right(c, 30), d)
    second = bits.add(a, bits.right(bits.add(b, FARM[2]), 18), c)
    return _farm_pair(bits, first, second, factor)


def _farm_pair(bits: _Bits, u: Any, v: Any, factor: Any) -> Any:
    a = bits.mixed(bits.times(bits.xor(u, v), factor))
    return bits.times(bits.mixed(bits.times(bits.xor(v, a), factor)), factor)


def _sip(bits: _Bits, digits: _Digits, key: list[int]) -> str:
    f = bits.f
    state: list[Any] = [bits.constant(part ^ key[place % 2]) for place, part in enumerate(SIP)]
    end = f.Div(digits.length, [8])
    for block in range(MOST // 8):
        # The last block holds the length, too.
        count = f.Mul(f.cast(f.Equal(end, [block]), np.int64), digits.length)
        text = bits.add(digits.fetch(8 * block), bits.shift(f.cast(count, np.uint64), 56, "LEFT"))
        after = [*state[:3], bits.xor(state[3], text)]
        after = _sip_rounds(bits, after, 2)
        after[0] = bits.xor(after[0], text)
        if block:
            taken = digits.longer_than(8 * block - 1)
            after = [bits.chosen(taken, *pair) for pair in zip(after, state, strict=True)]
        state = after
    state = _sip_rounds(bits, [*state[:2], bits.xor(state[2], 0xFF), state[3]], 4)
    return str(bits.xor(*state))


def _sip_rounds(bits: _Bits, state: list[Any], count: int) -> list[Any]:
    def mix(x: Any, y: Any, by: int) -> tuple[Any, Any]:
        x = bits.add(x, y)
        return x, bits.xor(bits.right(y, 64 - by), x)

    a, b, c, d = state
    for _ in range(count):
        a, b = mix(a, b, 13)
        c, d = mix(c, d, 16)
        a, d = mix(bits.right(a, 32), d, 21)
        c, b = mix(c, b, 17)
        c = bits.right(c, 32)
    return [a, b, c, d]


def _joined(bits: _Bits, one: Any, other: Any) -> Any:
    """The fingerprint of two."""
    result = bits.xor(one, CAT)
    result = bits.xor(result, bits.times(bits.mixed(bits.times(other, CAT)), CAT))
    result = bits.times(bits.mixed(bits.times(result, CAT)), CAT)
    return bits.mixed(result)
