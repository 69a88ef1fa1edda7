"""TensorFlow operations that tf2onnx lacks or gets wrong, as ONNX formulas.

A handler takes a `Formula` and the inputs of a TensorFlow node, by name, and returns the names of
its results. `formula.Add(x, y)` writes an ONNX node; numbers and arrays become constants. All
work for batches of any size.

| file | operations |
|---|---|
| `elementary.py` | erfc, expm1, log1p, x log y, x y, the inverse of erf, Bessel functions |
| `biases.py` | biases along the second axis |
| `bits.py` | bit casts between float32 and int32, shifts, the next number |
| `bitwise.py` | and, or, not, bit by bit |
| `chance.py` | random numbers, which are refused |
| `choice.py` | select, one hot, top k |
| `counting.py` | counts of whole numbers |
| `decoding.py` | labels read off step by step |
| `diagonals.py` | diagonals of matrices, shapes |
| `division.py` | division towards zero |
| `fake_quant.py` | rounding to the steps of a quantized type |
| `hashing.py` | hashes of whole numbers |
| `text.py` | texts: equal, joined, case, patterns, words, groups of words |
| `products.py` | products along an axis |
| `reductions.py` | reductions of small types, of segments, log Σ exp along an axis |
| `special.py` | log Γ and its derivative, quantiles of the normal distribution |
| `sparse.py` | sparse matrices times dense ones |
| `order.py` | search, bins, segments, division of whole numbers, shapes |
| `fourier.py` | Fourier transforms |
| `einsum.py` | products of matrices, by their letters |
| `images.py` | crops, projective maps, HSV, saturation |
| `resizing.py` | resizing, by matrices of rows and of columns |
| `patches.py` | patches of images |
| `losses.py` | cross entropies |
| `whole.py` | whole numbers: comparisons, powers, types that onnxruntime lacks |
| `linear_algebra.py` | solve, invert, determinant, Cholesky, LU, QR |
| `lists.py` | TensorArrays outside of loops |
| `pooling.py` | pooling with steps longer than its windows, dilation |
| `tables.py` | lookup tables |
| `transposed.py` | transposed convolutions with zeros behind, and what is added to them |
| `operators.py` | what stands for an operator already |
"""

from . import (
    biases,
    bits,
    bitwise,
    chance,
    choice,
    counting,
    decoding,
    diagonals,
    division,
    einsum,
    elementary,
    fake_quant,
    fourier,
    hashing,
    images,
    linear_algebra,
    lists,
    losses,
    operators,
    order,
    patches,
    pooling,
    products,
    reductions,
    resizing,
    sparse,
    special,
    tables,
    text,
    transposed,
    whole,
)
from .formula import HANDLERS, Formula

__all__ = [
    "HANDLERS",
    "Formula",
    "biases",
    "bits",
    "bitwise",
    "chance",
    "choice",
    "counting",
    "decoding",
    "diagonals",
    "division",
    "einsum",
    "elementary",
    "fake_quant",
    "fourier",
    "hashing",
    "images",
    "linear_algebra",
    "lists",
    "losses",
    "operators",
    "order",
    "patches",
    "pooling",
    "products",
    "reductions",
    "resizing",
    "sparse",
    "special",
    "tables",
    "text",
    "transposed",
    "whole",
]
