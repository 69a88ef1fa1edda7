"""Elementary functions, with the digits that float32 has."""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, Handler, converts
from .left import converts_some


@converts("Erfc")
def _erfc(f: Formula, x: str) -> Any:
    return f.Sub(1.0, f.Erf(x))


@converts("Expm1")
def _expm1(f: Formula, x: str) -> Any:
    """(u − 1) x / log u with u = exp x: the errors of exp and log cancel (Kahan)."""
    u = f.Exp(x)
    less = f.Sub(u, 1.0)
    exact = f.Mul(less, f.Div(x, f.Log(u)))
    rest = f.Or(f.Equal(less, -1.0), f.Equal(u, float("inf")))
    return f.Where(f.Equal(u, 1.0), x, f.Where(rest, less, exact))


@converts("Log1p")
def log1p(f: Formula, x: str) -> Any:
    """log u · x / (u − 1) with u = 1 + x (Kahan)."""
    u = f.Add(x, 1.0)
    exact = f.Mul(f.Log(u), f.Div(x, f.Sub(u, 1.0)))
    exact = f.Where(f.Equal(u, float("inf")), u, exact)
    return f.Where(f.Equal(u, 1.0), x, exact)


@converts_some("Log")
def _log(f: Formula, x: str) -> Any:
    """tf2onnx computes that of float64 in float32, and refuses float16."""
    return None if f.dtype_of(x) == np.float32 else f.Log(x)


@converts_some("Softplus")
def _softplus(f: Formula, x: str) -> Any:
    """max(x, 0) + log(1 + e^−|x|); where onnxruntime has float32 alone, it spells out
    log(1 + e^x), which overflows."""
    dtype = f.dtype_of(x)
    if dtype == np.float32:
        return None
    if dtype == np.float16:
        f.dtype = np.dtype(np.float32)
        x = f.cast(x, f.dtype)
    y = f.Add(f.Max(x, 0.0), log1p(f, f.Exp(f.Neg(f.Abs(x)))))
    return f.cast(y, dtype)


@converts_some("IsInf", "IsNan", "IsFinite")
def _kinds(f: Formula, x: str) -> Any:
    if f.dtype_of(x) != np.float16:
        return None
    x = f.cast(x, np.float32)
    if f.node.type == "IsFinite":
        return f.Not(f.Or(f.IsInf(x), f.IsNaN(x)))
    return f.IsInf(x) if f.node.type == "IsInf" else f.IsNaN(x)


@converts("Xlogy", "Xlog1py", "Xdivy")
def _unless_zero(f: Formula, x: str, y: str) -> Any:
    """x log y, x log(1 + y) and x / y; 0 where x is 0, whatever y is."""
    if f.node.type == "Xdivy":
        result = f.Div(x, y)
    else:
        result = f.Mul(x, f.Log(y) if f.node.type == "Xlogy" else log1p(f, y))
    return f.Where(f.Equal(x, 0.0), 0.0, result)


@converts("MulNoNan")
def _product_unless_zero(f: Formula, x: str, y: str) -> Any:
    """x y; 0 where y is 0, whatever x is."""
    return f.Where(f.Equal(y, 0.0), 0.0, f.Mul(x, y))


@converts("Atan2")
def _atan2(f: Formula, y: str, x: str) -> Any:
    """atan(y / x), and π more or less left of zero; what is left of it, 1 / −0 shows, too."""
    alike = f.Equal(f.Abs(x), f.Abs(y))
    ratio = f.Where(alike, f.Mul(f.Sign(y), f.Sign(x)), f.Div(y, x))
    below, left = (f.Or(f.Less(v, 0.0), f.Less(f.Div(1.0, v), 0.0)) for v in (y, x))
    turn = f.Where(below, -np.pi, np.pi)
    return f.Where(left, f.Add(f.Atan(ratio), turn), f.Atan(ratio))


@converts("Erfinv")
def _erfinv(f: Formula, x: str) -> Any:
    """x · p(w) with w = −log(1 − x²), p in √w where w is large; fitted in float64."""
    from scipy.special import erfinv

    def middle(w: np.ndarray) -> np.ndarray:
        y = np.sqrt(-np.expm1(-np.maximum(w, 1e-30)))
        return erfinv(y) / y

    w = f.Neg(f.Log(f.Mul(f.Sub(1.0, x), f.Add(x, 1.0))))
    near = fitted(f, f.Min(w, 5.0), middle, 0.0, 5.0, 12)
    root = f.Sqrt(f.Min(f.Max(w, 5.0), 17.5))
    far = fitted(f, root, lambda s: middle(s * s), np.sqrt(5.0), np.sqrt(17.5), 12)
    inside = f.Mul(x, f.Where(f.Less(w, 5.0), near, far))
    infinite = f.Mul(x, float("inf"))
    return f.Where(f.Equal(f.Abs(x), 1.0), infinite, inside)


@converts("BesselI0", "BesselI0e", "BesselI1", "BesselI1e")
def _bessel(f: Formula, x: str) -> Any:
    """e^|x| p(|x|) up to 8, e^|x| q(8/|x|) / √|x| beyond; fitted in float64. I₁ is odd."""
    from scipy.special import i0e, i1e

    odd = "I1" in f.node.type
    scaled_function = i1e if odd else i0e

    def inner(t: np.ndarray) -> np.ndarray:
        return i1e(np.maximum(t, 1e-30)) / np.maximum(t, 1e-30) if odd else i0e(t)

    size = f.Abs(x)
    small, large = f.Min(size, 8.0), f.Max(size, 8.0)
    near = fitted(f, small, inner, 0.0, 8.0, 18)
    near = f.Mul(near, small) if odd else near
    far = fitted(
        f, f.Div(8.0, large), lambda t: scaled_function(8 / t) * np.sqrt(8 / t), 1e-9, 1.0, 8
    )
    y = f.Where(f.Less(size, 8.0), near, f.Div(far, f.Sqrt(large)))
    if not f.node.type.endswith("e"):
        y = f.Mul(y, f.Exp(size))
    return f.Mul(y, f.Sign(x)) if odd else y


def fitted(f: Formula, x: str, function: Handler, low: float, high: float, degree: int) -> str:
    """A function on [low, high] by its Chebyshev series, summed by Clenshaw's rule."""
    chebyshev = np.polynomial.chebyshev.Chebyshev.interpolate(function, degree, [low, high])
    offset, scale = chebyshev.mapparms()
    t = f.Add(f.Mul(x, float(scale)), float(offset))
    doubled = f.Mul(t, 2.0)
    after: str = f.Mul(t, 0.0)
    value = f.Add(after, float(chebyshev.coef[-1]))
    for coefficient in chebyshev.coef[-2:0:-1]:
        value, after = (
            f.Add(f.Sub(f.Mul(doubled, value), after), float(coefficient)),
            value,
        )
    return str(f.Add(f.Sub(f.Mul(t, value), after), float(chebyshev.coef[0])))
