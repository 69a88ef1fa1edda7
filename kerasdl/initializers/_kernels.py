"""Which axes of a kernel and of an output are what, for Keras' affine layers.

An affine layer computes a linear map of its input, plus a bias, and then an activation. Its
*kernel* is the variable whose scale is the scale of the map. A *channel* is an output unit
that has weights of its own: a unit of Dense, a feature map of a convolution.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
AFFINE: tuple[type[keras.layers.Layer], ...] = (
    layers.Dense, layers.EinsumDense, *_CONVOLUTIONS, *_TRANSPOSED, *_DEPTHWISE, *SEPARABLE,
)  # fmt: skip


@dataclass(frozen=True)
class KernelAxes:
    """Roles of a kernel's axes; each axis has one.

    Attributes:
        groups: Axes of maps that run side by side, one input each (the channels of a
            depthwise convolution).
        inputs: Axes that are summed over.
        outputs: Axes that index what comes out.
    """

    groups: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def kernel_of(layer: keras.layers.Layer) -> keras.Variable:
    """The kernel of a built affine layer; of a separable convolution the pointwise one."""
    if isinstance(layer, SEPARABLE):
        return layer.pointwise_kernel
    return layer._kernel if hasattr(layer, "_kernel") else layer.kernel


def kernel_axes(layer: keras.layers.Layer) -> KernelAxes:
    """Roles of the axes of `kernel_of(layer)`.

    Example:

    >>> layer = keras.layers.DepthwiseConv2D(3)
    >>> layer.build((None, 8, 8, 4))
    >>> kernel_axes(layer)
    KernelAxes(groups=(2,), inputs=(0, 1), outputs=(3,))
    """
    rank = len(kernel_of(layer).shape)
    if isinstance(layer, layers.EinsumDense):
        inputs, kernel, outputs = _labels(layer)
        where = {label: (label in inputs, label in outputs) for label in kernel}
        axes = [
            tuple(axis for axis, label in enumerate(kernel) if where[label] == role)
            for role in ((True, True), (True, False), (False, True))
        ]
        return KernelAxes(*axes)
    if isinstance(layer, _DEPTHWISE):
        return KernelAxes((rank - 2,), tuple(range(rank - 2)), (rank - 1,))
    output = rank - 2 if isinstance(layer, _TRANSPOSED) else rank - 1
    return KernelAxes((), tuple(axis for axis in range(rank) if axis != output), (output,))


def channel_axes(layer: keras.layers.Layer, rank: int) -> tuple[int, ...]:
    """Axes of the layer's output, of the given rank, that index its channels."""
    if isinstance(layer, layers.EinsumDense):
        _, kernel, _ = _labels(layer)
        outputs = layer.equation.replace(" ", "").partition("->")[2]
        left, _, right = outputs.partition("...")
        places = {label: axis for axis, label in enumerate(left)}
        places |= {label: rank - len(right) + axis for axis, label in enumerate(right)}
        return tuple(axis for label, axis in places.items() if label in kernel)
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return (1,)
    return (rank - 1,)


def per_kernel(layer: keras.layers.Layer, values: Any) -> Any:
    """`values`, one per channel as in the output, in a shape that multiplies the kernel."""
    axes, shape = kernel_axes(layer), kernel_of(layer).shape
    kept = sorted(axes.groups + axes.outputs)
    if isinstance(layer, layers.EinsumDense):
        _, kernel, outputs = _labels(layer)
        order = [label for label in outputs if label in kernel]
        values = keras.ops.transpose(values, [order.index(kernel[axis]) for axis in kept])
    sizes = [size if axis in kept else 1 for axis, size in enumerate(shape)]
    return keras.ops.reshape(values, sizes)


def channels(layer: keras.layers.Layer) -> int:
    """The number of channels of a built affine layer."""
    axes, shape = kernel_axes(layer), kernel_of(layer).shape
    return math.prod(shape[axis] for axis in axes.groups + axes.outputs)


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Let `owner.name` be `value` for a while, without Keras tracking either of the two."""
    attributes = vars(owner)
    missing = object()
    before = attributes.get(name, missing)
    attributes[name] = value
    try:
        yield
    finally:
        if before is missing:
            del attributes[name]
        else:
            attributes[name] = before


def _labels(layer: keras.layers.EinsumDense) -> tuple[str, str, str]:
    """The labels of the input, the kernel and the output, without the ellipsis."""
    equation = layer.equation.replace(" ", "").replace("...", "")
    operands, _, outputs = equation.partition("->")
    inputs, _, kernel = operands.partition(",")
    return inputs, kernel, outputs
