"""The logarithm of the gamma function, its derivative, quantiles of the normal distribution.

All are computed in float64: near a zero, what is left of large terms has the digits of float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .elementary import fitted
from .formula import Formula, converts

STEPS = 8
"""Steps to the right, to where Stirling's series holds."""
TERMS = 7


@converts("Lgamma", "Digamma")
def _of_gamma(f: Formula, x: str) -> Any:
    """From 1 + |x|: Γ(x) = Γ(1 + x) / x, and Γ(x) Γ(1 − x) = π / sin πx left of zero."""
    dtype, f.dtype = f.dtype_of(x), np.dtype(np.float64)
    x = f.cast(x, f.dtype)
    size = f.Abs(x)
    angle = f.Mul(f.Sub(size, f.Floor(f.Add(size, 0.5))), np.pi)
    sine = f.Sin(angle)
    if f.node.type == "Lgamma":
        beyond = _log_gamma(f, f.Add(size, 1.0))
        right = f.Sub(beyond, f.Log(size))
        left = f.Sub(float(np.log(np.pi)), f.Add(f.Log(f.Abs(sine)), beyond))
        zero = f.Or(f.Equal(x, 1.0), f.Equal(x, 2.0))
        y = f.Where(f.Greater(x, 0.0), f.Where(zero, 0.0, right), left)
        y = f.Where(f.Equal(size, float("inf")), size, y)
    else:
        beyond = _digamma(f, f.Add(size, 1.0))
        right = f.Sub(beyond, f.Div(1.0, size))
        left = f.Add(beyond, f.Div(f.Mul(f.Cos(angle), np.pi), sine))
        left = f.Where(f.Equal(sine, 0.0), float("nan"), left)
        y = f.Where(f.Greater(x, 0.0), right, left)
    return f.cast(y, dtype)


def _log_gamma(f: Formula, x: str) -> str:
    """log Γ(x + 8) − log x (x + 1) ... (x + 7), from 1 on."""
    from scipy.special import bernoulli

    steps, far = f.Min(x, float(STEPS)), f.Greater(x, float(STEPS))
    product = steps
    for step in range(1, STEPS):
        product = f.Mul(product, f.Add(steps, float(step)))
    large = f.Where(far, x, f.Add(x, float(STEPS)))
    numbers = bernoulli(2 * TERMS)[2::2]
    series = [number / (2 * k * (2 * k - 1)) for k, number in enumerate(numbers, 1)]
    rest = f.Div(_polynomial(f, f.Div(1.0, f.Mul(large, large)), series), large)
    main = f.Sub(f.Mul(f.Sub(large, 0.5), f.Log(large)), large)
    whole = f.Add(f.Add(main, float(np.log(2 * np.pi) / 2)), rest)
    return str(f.Sub(whole, f.Where(far, 0.0, f.Log(product))))


def _digamma(f: Formula, x: str) -> str:
    """ψ(x + 8) − 1 / x − 1 / (x + 1) ... − 1 / (x + 7), from 1 on."""
    from scipy.special import bernoulli

    far = f.Greater(x, float(STEPS))
    gone = f.Div(1.0, x)
    for step in range(1, STEPS):
        gone = f.Add(gone, f.Div(1.0, f.Add(x, float(step))))
    large = f.Where(far, x, f.Add(x, float(STEPS)))
    inverse = f.Div(1.0, large)
    numbers = bernoulli(2 * TERMS)[2::2]
    series = [number / (2 * k) for k, number in enumerate(numbers, 1)]
    square = f.Mul(inverse, inverse)
    rest = f.Add(f.Mul(inverse, 0.5), f.Mul(_polynomial(f, square, series), square))
    return str(f.Sub(f.Sub(f.Log(large), rest), f.Where(far, 0.0, gone)))


def _polynomial(f: Formula, x: str, coefficients: list[float]) -> str:
    """By Horner's rule, the constant first."""
    value: str = f.Add(f.Mul(x, float(coefficients[-1])), float(coefficients[-2]))
    for coefficient in coefficients[-3::-1]:
        value = f.Add(f.Mul(x, value), float(coefficient))
    return value


@converts("Ndtri")
def _quantile(f: Formula, p: str) -> Any:
    """(p − ½) g((p − ½)²) in the middle, r h(log r) with r = √(−2 log p) in the tails."""
    from scipy.special import erfinv, ndtri_exp

    dtype, f.dtype = f.dtype_of(p), np.dtype(np.float64)
    p = f.cast(p, f.dtype)
    inner, outer, end = 0.375, 2.03, 39.0

    def middle(square: np.ndarray) -> np.ndarray:
        size = np.sqrt(np.maximum(square, 1e-30))
        return np.sqrt(2) * erfinv(2 * size) / size

    def tail(log: np.ndarray) -> np.ndarray:
        r = np.exp(log)
        return ndtri_exp(-r * r / 2) / r

    offset = f.Sub(p, 0.5)
    square = f.Min(f.Mul(offset, offset), inner**2)
    near = f.Mul(offset, fitted(f, square, middle, 0.0, inner**2, 20))
    share = f.Min(p, f.Sub(1.0, p))
    r = f.Max(f.Sqrt(f.Mul(f.Log(share), -2.0)), outer)
    logs = f.Min(f.Log(r), float(np.log(end)))
    far = f.Mul(r, fitted(f, logs, tail, float(np.log(outer)), float(np.log(end)), 20))
    far = f.Where(f.Greater(offset, 0.0), f.Neg(far), far)
    y = f.Where(f.Less(f.Abs(offset), inner), near, far)
    return f.cast(y, dtype)
