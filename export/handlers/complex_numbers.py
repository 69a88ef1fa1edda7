"""Complex numbers, which ONNX lacks: a pair (real, imaginary) along one more axis at the end.

Fourier transforms are matrices here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .formula import Formula, Handler, converts


@converts("Complex")
def _complex(f: Formula, real: str, imaginary: str) -> Any:
    return _pair(f, real, imaginary)


@converts("Real")
def _real(f: Formula, x: str) -> Any:
    return _part(f, x, 0)


@converts("Imag")
def _imag(f: Formula, x: str) -> Any:
    return _part(f, x, 1)


@converts("FFT", "IFFT")
def _fft(f: Formula, x: str) -> Any:
    transform = np.fft.fft if f.node.type == "FFT" else np.fft.ifft
    (length,) = f.extents(x, -2)
    return _pair(f, *_applied(f, _parts(f, x), _complex_map(transform, length)))


@converts("FFT2D", "IFFT2D")
def _fft_2d(f: Formula, x: str) -> Any:
    transform = np.fft.fft if f.node.type == "FFT2D" else np.fft.ifft
    rows, columns = f.extents(x, -3, -2)
    rank = len(f.shape(x)) - 1
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    parts = _applied(f, _parts(f, x), _complex_map(transform, columns))
    parts = [f.Transpose(part, perm=swapped) for part in parts]
    parts = _applied(f, parts, _complex_map(transform, rows))
    return _pair(f, *(f.Transpose(part, perm=swapped) for part in parts))


@converts("RFFT")
def _rfft(f: Formula, x: str, length: str) -> Any:
    size = int(f.value(length)[0])
    (given,) = f.extents(x, -1)
    used = min(size, given)
    if used < given:
        x = f.slice(x, 0, used, -1)
    spectrum = np.fft.rfft(np.eye(used), size)
    return _pair(f, *_applied(f, [x], np.concatenate([spectrum.real, spectrum.imag], 1)))


@converts("IRFFT")
def _irfft(f: Formula, x: str, length: str) -> Any:
    size = int(f.value(length)[0])
    (given,) = f.extents(x, -2)
    used = min(size // 2 + 1, given)
    parts = _parts(f, x)
    if used < given:
        parts = [f.slice(part, 0, used, -1) for part in parts]
    identity = np.eye(used)
    matrix = np.concatenate([np.fft.irfft(unit * identity, size) for unit in (1, 1j)])
    return f.MatMul(f.Concat(*parts, axis=-1), matrix.astype(f.dtype))


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


def _complex_map(transform: Handler, length: int) -> np.ndarray:
    """What a linear map of complex numbers does to real parts followed by imaginary parts."""
    image = transform(np.eye(length))
    return np.block([[image.real, image.imag], [-image.imag, image.real]])


def _applied(f: Formula, parts: list[str], matrix: np.ndarray) -> list[str]:
    """Real and imaginary parts of a map of the last axis."""
    joined = f.Concat(*parts, axis=-1) if len(parts) > 1 else parts[0]
    image = f.MatMul(joined, matrix.astype(f.dtype))
    half = matrix.shape[1] // 2
    return [f.slice(image, 0, half, -1), f.slice(image, half, 2 * half, -1)]
