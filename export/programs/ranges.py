"""Ranges: what is known of an input's data, and numbers, words and indices drawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from ..ports import Port

LETTERS = ("a", "b", "c")
ODD_WORDS = (
    "",
    " ",
    "A",
    "a b",
    "b,\ta!",
    "[UNK]",
    "-1",
    "é",
    "日本",
    "x" * 100,
)
"""Strings as a table of words may not expect them."""
MOST_WORDS = 6
"""Of a text that is drawn."""
TIES = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
"""Numbers that many elements share, where rounding and comparing change over."""
SIZES = 3, 100
"""A small and a large integer that may be the size of something."""
FAR, LESS_FAR = 100.0, 25.0
"""How many deviations from the mean the large numbers lie; and those to which float32's exponential
is neither zero nor infinite, but a sigmoid nearly 0 or 1."""
BEYOND_FLOAT32 = 2**24
"""From here on float32 does not hold every integer."""
EDGE_ROWS = 4


@dataclass(frozen=True)
class Range:
    """What is known of an input's data.

    Attributes:
        mean, std: Of numbers.
        indices: How many there are, where the data are indices.
        values: Words, numbers or bounds that a layer looks up.
        text: Whether words are to be joined.
        closed: Whether there are no other words or numbers than `values`.
        most: The largest integer, where larger ones are too much work.
        scaled: Whether a Rescaling tells mean and deviation: untrained networks often turn such
            data into noise, so that only formats whose steps depend on it are tried on them.
    """

    mean: np.ndarray | float = 0.0
    std: np.ndarray | float = 1.0
    indices: int | None = None
    values: tuple[Any, ...] = ()
    text: bool = False
    closed: bool = False
    most: int = BEYOND_FLOAT32 + 9
    scaled: bool = False


def range_of(port: Port, readers: Sequence[Any], layers: Sequence[Any]) -> Range:
    """What the layers that read an input say of it, or else for integers the smallest vocabulary.

    Args:
        port: The input.
        readers: The layers and operations that read it.
        layers: All layers of the model.
    """
    known = [one for one in map(_known_by, readers) if one is not None]
    known = [one for one in known if np.ndim(one.mean) < max(1, len(port.shape))]
    if known:
        return _united(known)
    sizes = [each.input_dim for each in layers if isinstance(each, keras.layers.Embedding)]
    return Range(indices=min(sizes)) if "int" in port.dtype and sizes else Range()


def _united(known: Sequence[Range]) -> Range:
    """What several layers say of the same data: where all can take it, and what any looks up."""
    closed = [one for one in known if one.closed and one.values]
    if closed:
        return min(closed, key=lambda one: len(one.values))
    first = next((one for one in known if one.mean is not Range.mean), known[0])
    counts = [one.indices for one in known if one.indices is not None]
    values = dict.fromkeys(value for one in known for value in one.values)
    return replace(
        first,
        indices=min(counts, default=None),
        values=tuple(values),
        text=any(one.text for one in known),
    )


def _known_by(layer: Any) -> Range | None:
    if isinstance(layer, keras.layers.Embedding):
        return Range(indices=layer.input_dim)
    if isinstance(layer, keras.layers.Normalization) and not layer.invert:
        mean = np.asarray(keras.ops.convert_to_numpy(layer.mean), np.float64)
        variance = np.asarray(keras.ops.convert_to_numpy(layer.variance), np.float64)
        # The leading axis is the batch's.
        return Range(mean[0], np.sqrt(variance[0]))
    if isinstance(layer, keras.layers.Rescaling) and np.ndim(layer.scale) == np.ndim(layer.offset):
        scale, offset = np.abs(layer.scale), np.asarray(layer.offset)
        if np.ndim(scale) == 0 and scale > 0:  # to numbers about 1
            return Range(float(-offset / layer.scale), float(1 / scale), scaled=True)
    if isinstance(layer, keras.layers.TextVectorization):
        words = layer.get_vocabulary(include_special_tokens=False)
        return Range(values=tuple(words), text=True)
    if isinstance(layer, keras.layers.StringLookup | keras.layers.IntegerLookup):
        if layer.invert:
            return None
        return Range(values=tuple(layer.get_vocabulary()), closed=layer.num_oov_indices == 0)
    if isinstance(layer, keras.layers.Discretization):
        return Range(values=tuple(layer.bin_boundaries or ()))
    return None


def draw(port: Port, shape: tuple[int, ...], known: Range, rng: np.random.Generator) -> np.ndarray:
    """Random data of an input.

    Floats are normal; integers lie within the vocabulary of who reads them, up to two deviations
    or else in 0..9; strings are letters, and words that are looked up.
    """
    if known.closed and known.values:
        return _among(port, shape, known, rng)
    if port.dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape), bool)
    if port.dtype == "string":
        words = np.array([*LETTERS, *_half(known.values, rng)], object)
        texts = _texts(words, shape, rng) if known.text else rng.choice(words, shape)
        return np.asarray(texts, object)
    if "int" in port.dtype or known.indices is not None:
        most = round(2 * float(np.max(known.std)))
        drawn = rng.integers(0, known.indices or np.clip(most, 10, known.most), shape)
        if known.values:
            looked_up = rng.choice(np.array(known.values), shape)
            drawn = np.where(rng.integers(0, 2, shape), drawn, looked_up)
        return np.asarray(drawn, port.dtype)
    return np.asarray(known.mean + known.std * rng.standard_normal(shape), port.dtype)


def edges(port: Port, shape: tuple[int, ...], known: Range, rng: np.random.Generator) -> np.ndarray:
    """Four rows that random data leaves out.

    Zeros and empty strings; large numbers, last indices and odd strings; numbers that are less
    large; few different numbers, so that many are equal.

    Args:
        port: The input.
        shape: Of one row.
        known: What is known of it.
        rng: Draws.
    """
    if known.closed and known.values:
        return np.stack([_among(port, shape, known, rng) for _ in range(EDGE_ROWS)])
    dtype = object if port.dtype == "string" else port.dtype
    others = [np.asarray(kind(port, shape, known, rng)).astype(dtype) for kind in KINDS]
    return np.stack([zeros(port, shape), *others])


def _among(
    port: Port, shape: tuple[int, ...], known: Range, rng: np.random.Generator
) -> np.ndarray:
    dtype = object if port.dtype == "string" else port.dtype
    return np.asarray(rng.choice(np.array(known.values, dtype), shape), dtype)


def zeros(port: Port, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, or empty strings."""
    if port.dtype == "string":
        return np.full(shape, "", object)
    return np.zeros(shape, port.dtype)


def _large(port: Port, shape: tuple[int, ...], known: Range, rng: np.random.Generator) -> Any:
    if port.dtype == "bool":
        return np.ones(shape)
    if port.dtype == "string":
        return rng.choice(np.array(ODD_WORDS, object), shape)
    if known.indices is not None:
        return np.full(shape, known.indices - 1)
    if "int" not in port.dtype:
        return known.mean + FAR * known.std * rng.standard_normal(shape)
    bounds = np.iinfo(port.dtype)
    low, high = max(bounds.min, -known.most), min(bounds.max, known.most)
    sign = rng.integers(0, 2, shape)
    return np.where(sign, low, high) + np.where(sign, 1, -1) * rng.integers(0, 5, shape)


def _less_large(port: Port, shape: tuple[int, ...], known: Range, rng: np.random.Generator) -> Any:
    if "int" in port.dtype or port.dtype in {"bool", "string"} or known.indices is not None:
        return draw(port, shape, known, rng)
    return known.mean + LESS_FAR * known.std * rng.standard_normal(shape)


def _ties(port: Port, shape: tuple[int, ...], known: Range, rng: np.random.Generator) -> Any:
    if port.dtype == "bool":
        return rng.integers(0, 2, shape)
    if port.dtype == "string":
        words = np.array([*ODD_WORDS, *LETTERS, *_half(known.values, rng)], object)
        return _texts(words, shape, rng) if known.text else rng.choice(words, shape)
    if known.indices is not None:
        return rng.choice([0, known.indices - 1], shape)
    numbers = [*known.values] or [*TIES]
    if "int" in port.dtype:
        least = np.iinfo(port.dtype).min
        numbers = [number for number in {*map(int, numbers), 0, 1, -1} if number >= least]
    return rng.choice(np.array(sorted(numbers)), shape)


KINDS = (_large, _less_large, _ties)


def _half(values: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    """Some of the words, as many as there are letters and more."""
    if not values:
        return []
    count = min(len(values), 2 * len(LETTERS))
    return [values[place] for place in rng.choice(len(values), count, replace=False)]


def _texts(words: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    texts = np.empty(shape, object)
    for place in np.ndindex(shape):
        texts[place] = " ".join(rng.choice(words, rng.integers(1, MOST_WORDS + 1)))
    return texts
