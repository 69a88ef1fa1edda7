"""Krähenbühl's data-dependent initialization: unit channels, then one learning speed.

Within a layer, each channel is shifted and scaled to mean 0 and variance 1. Between layers,
with C_k² = E‖∂ℓ/∂W_k‖² / ‖W_k‖² for the random loss ℓ = ηᵀz of the last layer's output z, layer
k is multiplied by s_k = √(C_k / C̄), C̄ the geometric mean, and its bias by s_1⋯s_k. Scaling W_k
by s_k divides its own C_k by s_k², so all C_k become C̄; and since ∏s_k = 1, a network of
piecewise linear activations computes what it did. This is the fixed point of the paper's
iteration.

No gradient is needed: for a random direction V of unit entries, E‖∂ℓ/∂W‖² = E‖dz[V]‖², and
dz[V] is a difference of two forward passes.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl.initializers._kernels import channels, per_kernel
from kerasdl.initializers._passes import Output, Passes, moments

_STEP = 1e-2
_DIRECTIONS = 4


def krahenbuhl(passes: Passes, generator: keras.random.SeedGenerator) -> tuple[dict[int, str], str]:
    """Propose Krähenbühl's weights; return notes by the layer's id, and one on all."""
    notes: dict[int, str] = {}
    changed: list[keras.layers.Layer] = []
    last: list[keras.layers.Layer] = []

    def visit(layer: keras.layers.Layer, output: Output) -> None:
        last[:] = [layer]
        if reason := passes.untouchable(layer):
            notes[id(layer)] = reason
            return
        changed.append(layer)
        notes[id(layer)] = _normalize(passes, layer, output)

    passes.run(visit)
    if len(changed) < 2:
        return notes, ""
    return notes, _equalize(passes, changed, last[0], generator)


def _normalize(passes: Passes, layer: keras.layers.Layer, output: Output) -> str:
    """Give each channel mean 0 and variance 1, as far as the layer can."""
    mean, variance = moments(layer, output())
    # Rounding alone gives a constant channel a variance of about (mean · 1e-7)².
    alive = variance > 1e-10 * ops.square(mean)
    scale = ops.where(alive, 1 / ops.sqrt(ops.where(alive, variance, 1)), 1)
    kernel, bias = passes.kernel(layer), getattr(layer, "bias", None)
    kernel.assign(passes.value(kernel) * per_kernel(layer, scale))
    centred = bias is not None and math.prod(bias.shape) == channels(layer)
    if bias is not None and centred:
        shifted = ops.reshape(passes.value(bias), mean.shape) - ops.where(alive, mean, 0)
        bias.assign(ops.reshape(shifted * scale, bias.shape))
    dead = int(ops.sum(ops.cast(ops.logical_not(alive), "int32")))
    notes = [f"{dead} of {channels(layer)} channels have no variance"] if dead else []
    notes += [] if centred else ["no bias per channel: scaled, not centred"]
    return "; ".join(notes)


def _equalize(
    passes: Passes,
    layers: list[keras.layers.Layer],
    last: keras.layers.Layer,
    generator: keras.random.SeedGenerator,
) -> str:
    """Scale the layers against each other, unless that changes what the network computes."""
    before = dict(passes.proposed)
    ends = _ends(passes, last)
    speeds = np.array([_speed(passes, layer, last, ends[0], generator) for layer in layers])
    if not (np.isfinite(speeds).all() and (speeds > 0).all()):
        return "not rescaled between layers: some have no effect on the last one's output"
    factors = np.sqrt(speeds / np.exp(np.mean(np.log(speeds))))
    for layer, factor, product in zip(layers, factors, np.cumprod(factors), strict=True):
        _scale(passes, passes.kernel(layer), factor)
        if getattr(layer, "bias", None) is not None:
            _scale(passes, layer.bias, product)
    for old, new in zip(ends, _ends(passes, last), strict=True):
        if np.abs(new - old).max() > 1e-3 * np.abs(old).max():
            passes.proposed = before
            return "not rescaled between layers: it would change what the network computes"
    return ""


def _speed(
    passes: Passes,
    layer: keras.layers.Layer,
    last: keras.layers.Layer,
    end: Any,
    generator: keras.random.SeedGenerator,
) -> float:
    """C_k: how much the last output moves with the layer's weights, relative to their size."""
    variable, value = passes.proposed[id(passes.kernel(layer))]
    size = float(np.linalg.norm(ops.convert_to_numpy(value).astype("float64")))
    step = _STEP * size / math.sqrt(math.prod(variable.shape))
    moved = []
    for _ in range(_DIRECTIONS):
        direction = keras.random.normal(variable.shape, dtype=value.dtype, seed=generator)
        passes.proposed[id(variable)] = (variable, value + step * direction)
        moved.append(np.sum((_ends(passes, last)[0] - end) ** 2))
    passes.proposed[id(variable)] = (variable, value)
    return math.sqrt(float(np.mean(moved))) / step / size if size else 0.0


def _scale(passes: Passes, variable: keras.Variable, factor: float) -> None:
    _, value = passes.proposed[id(variable)]
    passes.proposed[id(variable)] = (variable, value * float(factor))


def _ends(passes: Passes, last: keras.layers.Layer) -> list[Any]:
    """The linear output of the last layer, and the model's outputs, in float64."""
    found: list[Any] = []

    def visit(layer: keras.layers.Layer, output: Output) -> None:
        if layer is last:
            found.append(output())

    outputs = passes.run(visit)
    tensors = [*found, *keras.tree.flatten(outputs)]
    return [ops.convert_to_numpy(tensor).astype("float64") for tensor in tensors]
