"""Fourier transforms: matrices where the extents are known, else ONNX's operator.

All else about complex numbers is done before (`complex_pairs.py`). Between these transforms and the
parts that they are given and give, they are pairs along one more axis at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, Handler, converts

DFT_SINCE = 17
"""The operator set that has it."""


@converts("Complex")
def _complex(f: Formula, real: str, imaginary: str) -> Any:
    return _pair(f, real, imaginary)


@converts("Real")
def _real(f: Formula, x: str) -> Any:
    return _part(f, x, 0)


@converts("Imag")
def _imag(f: Formula, x: str) -> Any:
    return _part(f, x, 1)


@converts("FFT", "FFT2D", "FFT3D", "IFFT", "IFFT2D", "IFFT3D")
def _fft(f: Formula, x: str) -> Any:
    """Along known axes by matrices; along free ones by ONNX's operator."""
    inverse = f.node.type.startswith("I")
    transform = np.fft.ifft if inverse else np.fft.fft
    count = {"2D": 2, "3D": 3}.get(f.node.type[-2:], 1)
    shape = f.shape(x)[:-1]
    axes = range(len(shape) - count, len(shape))
    free = [axis for axis in axes if shape[axis] < 0]
    if len(free) < count:
        parts = _parts(f, x)
        for axis in reversed(axes):
            if axis not in free:
                parts = _along(f, parts, axis, _complex_map(transform, shape[axis]))
        x = _pair(f, *parts)
    return _by_operator(f, x, free, inverse=int(inverse)) if free else x


def _by_operator(f: Formula, x: str, axes: list[int], length: str = "", **attributes: int) -> str:
    """In float64; onnxruntime's float32 has errors of 1e-4 where the extent is no power of 2."""
    if f.graph.opset < DFT_SINCE:
        raise ValueError(
            f"{f.node.type} needs fixed extents before opset {DFT_SINCE}. "
            f"Received: shape {f.shape(x)}"
        )
    dtype = f.dtype_of(x)
    x = f.cast(x, np.float64)
    for axis in axes:
        x = f.DFT(x, *([length] if length else []), axis=axis, **attributes)
    return f.cast(x, dtype)


@converts("RFFT")
def _rfft(f: Formula, x: str, length: str) -> Any:
    shape = f.shape(x)
    size = f.known(length)
    if size is None or shape[-1] < 0:
        scalar = f.Reshape(f.cast(length, np.int64), np.zeros(0, np.int64))
        x = f.unsqueeze(x, -1)
        return _by_operator(f, x, [len(shape) - 1], scalar, onesided=1)
    return _pair(f, *_real_spectrum(f, x, int(size[0])))


def _real_spectrum(f: Formula, x: str, size: int) -> list[str]:
    (given,) = f.extents(x, -1)
    used = min(size, given)
    if used < given:
        x = f.slice(x, 0, used, -1)
    spectrum = np.fft.rfft(np.eye(used), size)
    return _applied(f, [x], np.concatenate([spectrum.real, spectrum.imag], 1))


@converts("RFFT2D")
def _rfft_2d(f: Formula, x: str, lengths: str) -> Any:
    rows, columns = (int(size) for size in f.value(lengths))
    axis = len(f.shape(x)) - 2
    (given,) = f.extents(x, axis)
    if rows < given:
        x = f.slice(x, 0, rows, axis)
    parts = _real_spectrum(f, x, columns)
    return _pair(f, *_along(f, parts, axis, _complex_map(np.fft.fft, min(rows, given), rows)))


@converts("IRFFT")
def _irfft(f: Formula, x: str, length: str) -> Any:
    (given,) = f.extents(x, -2)
    return _from_spectrum(f, _parts(f, x), given, int(f.value(length)[0]))


@converts("IRFFT2D")
def _irfft_2d(f: Formula, x: str, lengths: str) -> Any:
    rows, columns = (int(size) for size in f.value(lengths))
    axis = len(f.shape(x)) - 3
    height, width = f.extents(x, axis, axis + 1)
    parts = _parts(f, x)
    if rows < height:
        parts = [f.slice(part, 0, rows, axis) for part in parts]
    matrix = _complex_map(np.fft.ifft, min(rows, height), rows)
    return _from_spectrum(f, _along(f, parts, axis, matrix), width, columns)


def _from_spectrum(f: Formula, parts: list[str], given: int, size: int) -> str:
    used = min(size // 2 + 1, given)
    if used < given:
        parts = [f.slice(part, 0, used, -1) for part in parts]
    identity = np.eye(used)
    matrix = np.concatenate([np.fft.irfft(unit * identity, size) for unit in (1, 1j)])
    return str(f.MatMul(f.Concat(*parts, axis=-1), matrix.astype(f.dtype)))


def _pair(f: Formula, real: str, imaginary: str) -> str:
    return str(f.Concat(f.unsqueeze(real, -1), f.unsqueeze(imaginary, -1), axis=-1))


def _parts(f: Formula, x: str) -> list[str]:
    f.dtype = f.dtype_of(x)
    return [_part(f, x, index) for index in (0, 1)]


def _part(f: Formula, x: str, index: int) -> str:
    """The real part (0) or the imaginary part (1); what `_pair` was given, where it can be seen."""
    source = f.graph.get_node_by_output(x)
    while source is not None and source.type == "Identity":
        source = source.inputs[0]
    if source is not None and source.type == "Concat" and len(source.input) == 2:
        return str(source.inputs[index].input[0])
    return str(f.Gather(x, np.int64(index), axis=-1))


def _complex_map(transform: Handler, length: int, size: int | None = None) -> np.ndarray:
    """What a linear map of complex numbers does to real parts followed by imaginary parts."""
    image = transform(np.eye(length), size)
    return np.block([[image.real, image.imag], [-image.imag, image.real]])


def _along(f: Formula, parts: list[str], axis: int, matrix: np.ndarray) -> list[str]:
    """Real and imaginary parts of a map of an axis."""
    last = len(f.shape(parts[0])) - 1
    if axis == last:
        return _applied(f, parts, matrix)
    swapped = [*range(axis), last, *range(axis + 1, last), axis]
    parts = _applied(f, [f.Transpose(part, perm=swapped) for part in parts], matrix)
    return [f.Transpose(part, perm=swapped) for part in parts]


def _applied(f: Formula, parts: list[str], matrix: np.ndarray) -> list[str]:
    """Real and imaginary parts of a map of the last axis."""
    joined = f.Concat(*parts, axis=-1) if len(parts) > 1 else parts[0]
    image = f.MatMul(joined, matrix.astype(f.dtype))
    half = matrix.shape[1] // 2
    return [f.slice(image, 0, half, -1), f.slice(image, half, 2 * half, -1)]
