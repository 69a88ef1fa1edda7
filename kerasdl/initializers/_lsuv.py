"""Layer-sequential unit variance: orthonormal weights, then one scale per layer."""

from typing import Any

import keras
import numpy as np

from kerasdl.initializers._kernels import SEPARABLE, kernel_axes
from kerasdl.initializers._passes import Output, Passes


def lsuv(
    passes: Passes, tolerance: float, max_iterations: int, generator: keras.random.SeedGenerator
) -> dict[int, str]:
    """Propose LSUV weights; return notes by the layer's id."""
    notes: dict[int, str] = {}

    def visit(layer: keras.layers.Layer, output: Output) -> None:
        kernel = passes.kernel(layer)
        if reason := passes.untouchable(layer):
            notes[id(layer)] = reason
            return
        before = [(weight, passes.value(weight)) for weight in layer.weights]
        _orthonormalize(passes, layer, generator)
        start = spread = passes.variance(layer, output())
        for _ in range(max_iterations):
            if spread == 0 or abs(spread - 1) < tolerance:
                break
            kernel.assign(passes.value(kernel) / spread**0.5)
            spread = passes.variance(layer, output())
        if abs(spread - 1) < tolerance:
            return
        for weight, value in before:
            weight.assign(value)
        notes[id(layer)] = _reason(start, spread)

    passes.run(visit)
    return notes


def _reason(start: float, spread: float) -> str:
    if start == 0:
        return "no variance on this batch: left as it was"
    return f"variance {spread:.3g} after the last iteration: left as it was"


def _orthonormalize(passes: Passes, layer: keras.layers.Layer, generator: Any) -> None:
    kernel, axes = passes.kernel(layer), kernel_axes(layer)
    kernel.assign(_orthonormal(kernel.shape, axes.groups, axes.inputs, axes.outputs, generator))
    if isinstance(layer, SEPARABLE):
        first = layer.depthwise_kernel
        rank = len(first.shape)
        spatial = tuple(range(rank - 2))
        first.assign(_orthonormal(first.shape, (rank - 2,), spatial, (rank - 1,), generator))


def _orthonormal(
    shape: tuple[int, ...],
    groups: tuple[int, ...],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    generator: Any,
) -> Any:
    """Random weights that are, in each group, an orthonormal matrix of inputs × outputs."""
    order = groups + inputs + outputs
    drawn = keras.ops.convert_to_numpy(keras.random.normal(shape, seed=generator))
    turned = drawn.astype("float64").transpose(order)
    rows = int(np.prod([shape[axis] for axis in inputs]))
    columns = int(np.prod([shape[axis] for axis in outputs]))
    matrices = turned.reshape(-1, rows, columns)
    wide = rows < columns
    q, r = np.linalg.qr(matrices.swapaxes(1, 2) if wide else matrices)
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    q = q.swapaxes(1, 2) if wide else q
    return q.reshape(turned.shape).transpose(np.argsort(order))
