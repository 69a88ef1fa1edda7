"""Linear layers z = W x + c, and how a map next to one enters W and c, in float64.

1. a map behind it,       a ⊙ z + b:         W' = a ⊙ W (over outputs),   c' = a ⊙ c + b
2. a map in front of it,  W (a ⊙ x + b) + c: W' = W ⊙ a (over inputs),    c' = c + W b

In both cases a may change only along axes that W has. W b is the layer's answer to b. The bias
holds it if it changes along the channels only; else (zeros beyond the border of an image know
nothing of a shift) it is owed behind the layer, as a shift that changes from place to place.
"""

from __future__ import annotations

import math
import string
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np

from ..graphs.maps import Map, Shape, align, compact, spread, varies, vector

Weights = dict[str, np.ndarray]
LARGEST = 2**16
"""Numbers up to which a shift that changes from place to place is computed."""


@dataclass(frozen=True)
class Call:
    """A layer with the shapes of what it is given and of what it returns.

    Attributes:
        weights: Returns its weights in float64 by attribute.
    """

    layer: Any
    name: str
    given: Shape
    result: Shape
    weights: Callable[[], Weights]


@dataclass(frozen=True)
class Absorbed:
    """What a layer becomes that has absorbed a map.

    Attributes:
        weights: All its weights; a bias has the rank of the result.
        config: Constructor arguments that change.
        rest: What is still owed behind it.
        nodes: ONNX nodes that it has more than before.
    """

    weights: Weights
    config: dict[str, Any] = field(default_factory=dict)
    rest: Map | None = None
    nodes: int = 0


class Absorber(Protocol):
    """How a class of layers absorbs a map; a string says why it does not."""

    def forward(self, call: Call, given: Map) -> Absorbed | str: ...

    def backward(self, call: Call, wanted: Map) -> Absorbed | str: ...


def is_homogeneous(activation: Any) -> bool:
    """Whether f(a·x) = a·f(x) for every a > 0."""
    if activation in (
        None,
        keras.activations.linear,
        keras.activations.relu,
        keras.activations.leaky_relu,
    ):
        return True
    if type(activation) is keras.layers.ReLU:
        return activation.max_value is None and activation.threshold == 0
    return type(activation) in (keras.layers.LeakyReLU, keras.layers.PReLU)


def is_activated(layer: Any) -> bool:
    """Whether a non-linear function stands behind the layer's linear map."""
    return layer.activation not in (None, keras.activations.linear)


def refused_by_activation(call: Call, wanted: Map) -> str | None:
    """Why a map behind a layer does not reach its linear part."""
    activation = call.layer.activation
    if not is_activated(call.layer):
        return None
    if is_homogeneous(activation) and not wanted.shifts and wanted.is_positive:
        return None
    label = getattr(activation, "__name__", type(activation).__name__)
    return f"`{call.name}` has the activation {label}"


def owed(call: Call, weights: Weights, shift: np.ndarray) -> Absorbed | str:
    """The layer with a shift behind it that its bias cannot hold."""
    if is_activated(call.layer):
        return f"`{call.name}` has an activation, and its bias cannot hold the shift"
    return Absorbed(weights, rest=Map.of(np.ones_like(shift), shift))


class Contraction:
    """Dense and EinsumDense: each axis of input, kernel and output has a letter."""

    def forward(self, call: Call, given: Map) -> Absorbed | str:
        inputs, axes, outputs = _letters(call)
        weights = call.weights()
        kernel = weights["kernel"]
        factor = align(given.scale, inputs, axes)
        if factor is None or inputs[0] in axes:
            return f"the map changes along an axis that `{call.name}` does not contract"
        weights = {**weights, "kernel": kernel * factor}
        if not given.shifts:
            return self._finish(call, weights, outputs, None)
        summed = [i for i, letter in enumerate(inputs) if letter in axes or letter not in outputs]
        shift = spread(given.shift, call.given, summed)
        if shift is None:
            return f"`{call.name}` sums over an axis of unknown size"
        image = compact(np.einsum(f"{inputs},{axes}->{outputs}", shift, kernel))
        return self._finish(call, weights, outputs, image)

    def backward(self, call: Call, wanted: Map) -> Absorbed | str:
        refused = refused_by_activation(call, wanted)
        if refused:
            return refused
        inputs, axes, outputs = _letters(call)
        factor = align(wanted.scale, outputs, axes)
        if factor is None or inputs[0] in axes:
            return f"the map changes along an axis that `{call.name}` does not form"
        weights = call.weights()
        weights = {**weights, "kernel": weights["kernel"] * factor}
        if "bias" in weights:
            bias = _at_rank(weights["bias"], len(call.result))
            weights["bias"] = compact(bias * wanted.scale)
        absorbed = self._finish(call, weights, outputs, wanted.shift if wanted.shifts else None)
        if isinstance(absorbed, Absorbed) and absorbed.rest is not None:
            return f"its shift changes along an axis that the bias of `{call.name}` has not"
        return absorbed

    def _finish(
        self, call: Call, weights: Weights, outputs: str, shift: np.ndarray | None
    ) -> Absorbed | str:
        """Add the shift to the bias, or owe it."""
        if shift is None:
            return Absorbed(weights)
        free = _bias_letters(call, outputs)
        needed = {outputs[axis] for axis in varies(shift)}
        if not needed <= free:
            return owed(call, weights, shift)
        bias = _at_rank(weights.get("bias", np.zeros(1)), len(outputs)) + shift
        added = int("bias" not in weights)
        if type(call.layer) is keras.layers.Dense:
            return Absorbed({**weights, "bias": bias}, {"use_bias": True}, nodes=added)
        letters = needed | set(call.layer.bias_axes or "") or {max(free, key=outputs.index)}
        config = {"bias_axes": "".join(sorted(letters, key=outputs.index))}
        return Absorbed({**weights, "bias": bias}, config, nodes=added)


def _at_rank(bias: np.ndarray, rank: int) -> np.ndarray:
    return bias.reshape((1,) * (rank - bias.ndim) + bias.shape)


def _letters(call: Call) -> tuple[str, str, str]:
    """One letter per axis of the input, of the kernel and of the result."""
    if type(call.layer) is keras.layers.Dense:
        return _letters_of("...a,ab->...b", len(call.given))
    return _letters_of(call.layer.equation, len(call.given))


def _letters_of(equation: str, rank: int) -> tuple[str, str, str]:
    inputs, kernel, outputs = equation.replace(" ", "").replace("->", ",").split(",")
    unused = [letter for letter in string.ascii_letters if letter not in equation]
    elided = "".join(unused[: rank - len(inputs.replace("...", ""))])
    return inputs.replace("...", elided), kernel, outputs.replace("...", elided)


def _bias_letters(call: Call, outputs: str) -> set[str]:
    """Along which axes of the result a bias may change."""
    if type(call.layer) is keras.layers.Dense:
        return {outputs[-1]}
    return set(outputs[1:]) & set(call.layer.equation.partition("->")[2])


Scaling = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


def _last(scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Over the last axis of a kernel."""
    return scale


def _before_last(scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Over the last axis but one."""
    return scale[:, np.newaxis]


def _by_group(scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Kernel (..., in per group, out): the inputs of output o are those of its group."""
    size, outputs = shape[-2:]
    groups = scale.size // size
    return np.repeat(scale.reshape(groups, size).T, outputs // groups, axis=1)


def _by_multiplier(scale: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Depthwise kernel (..., in, multiplier); output channel i·multiplier + j."""
    return scale.reshape(shape[-2:])


@dataclass(frozen=True)
class Convolution:
    """A convolution: which kernel reads the input channels, which forms the output channels.

    Attributes:
        reads, forms: Attribute of that kernel.
        over_inputs, over_outputs: The shape in which a vector over the channels multiplies it.
    """

    reads: str
    over_inputs: Scaling
    forms: str
    over_outputs: Scaling

    def forward(self, call: Call, given: Map) -> Absorbed | str:
        axis = _channels(call.layer, call.given)
        size = call.given[axis]
        scale = None if size is None else vector(given.scale, axis, size)
        if scale is None:
            return f"the map changes along an axis that is not the channels of `{call.name}`"
        image = self._image(call, given.shift) if given.shifts else None
        if isinstance(image, str):
            return image
        weights = call.weights()
        kernel = weights[self.reads]
        weights = {**weights, self.reads: kernel * self.over_inputs(scale, kernel.shape)}
        if image is None:
            return Absorbed(weights)
        if not varies(image) <= {_channels(call.layer, call.result)}:
            return owed(call, weights, image)
        return self._with_bias(call, weights, image)

    def backward(self, call: Call, wanted: Map) -> Absorbed | str:
        refused = refused_by_activation(call, wanted)
        if refused:
            return refused
        axis = _channels(call.layer, call.result)
        size = call.result[axis]
        if size is None or not wanted.axes <= {axis}:
            return f"the map changes along an axis that is not the channels of `{call.name}`"
        scale = vector(wanted.scale, axis, size)
        assert scale is not None
        weights = call.weights()
        kernel = weights[self.forms]
        weights = {**weights, self.forms: kernel * self.over_outputs(scale, kernel.shape)}
        if "bias" in weights:
            weights["bias"] = weights["bias"] * scale
        if not wanted.shifts:
            return Absorbed(weights)
        return self._with_bias(call, weights, wanted.shift)

    def _with_bias(self, call: Call, weights: Weights, shift: np.ndarray) -> Absorbed:
        # All other extents are one.
        bias = weights.get("bias", 0.0) + shift.reshape(-1)
        return Absorbed({**weights, "bias": bias}, {"use_bias": True})

    def _image(self, call: Call, shift: np.ndarray) -> np.ndarray | str:
        """The layer's answer to a shift: a run of its linear part in float64."""
        layer, axis = call.layer, _channels(call.layer, call.given)
        extents = list(call.given)
        extents[0] = len(shift)
        if varies(shift) <= {axis} and _is_borderless(layer):
            spatial = [i for i in range(1, len(extents)) if i != axis]
            for place, reach in zip(spatial, _reach(layer), strict=True):
                extents[place] = reach
        known = [size for size in extents if size is not None]
        if len(known) < len(extents):
            return f"`{call.name}` has zero borders that its shift does not enter"
        if math.prod(known) > LARGEST:
            return f"`{call.name}` has zero borders, and images too large for a shift of their size"
        # Not every device runs convolutions with the channels first; their kernels are the same.
        image = np.moveaxis(np.broadcast_to(shift, known), axis, -1)
        probe = bare(layer)
        probe.build(image.shape)
        for name, value in call.weights().items():
            if name != "bias":
                getattr(probe, name).assign(value)
        answer = probe(keras.ops.convert_to_tensor(image, "float64"))
        return compact(np.moveaxis(keras.ops.convert_to_numpy(answer), -1, axis))


def _channels(layer: Any, shape: Shape) -> int:
    channels_first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if channels_first else len(shape) - 1


def _is_borderless(layer: Any) -> bool:
    """Whether a constant image has a constant image of the size of one kernel."""
    point = all(size == 1 for size in layer.kernel_size)
    if type(layer) in TRANSPOSED:
        return point and all(stride == 1 for stride in layer.strides)
    return point or layer.padding == "valid"


def _reach(layer: Any) -> list[int]:
    """Extents of the part of the input that one output depends on."""
    steps: Sequence[int] = layer.dilation_rate
    return [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, steps, strict=True)]


def bare(layer: Any) -> Any:
    """The linear part of a convolution, unbuilt, in float64 and with the channels last."""
    changes = {"use_bias": False, "data_format": "channels_last", "dtype": "float64"}
    return type(layer).from_config({**config_of(layer), **changes})


def config_of(layer: Any) -> dict[str, Any]:
    """Constructor arguments without what only matters in training."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a lambda cannot be saved: it is not
        return _plain(layer.get_config())


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in config.items():
        if key.endswith("_initializer"):
            plain[key] = "zeros"
        elif key.endswith(("_regularizer", "_constraint", "activation")):
            plain[key] = None
        elif key == "dtype" and keras.dtype_policies.get(value).variable_dtype == "bfloat16":
            plain[key] = "float32"  # what a layer absorbs is stored in float32 at least
        else:
            plain[key] = _plain(value) if isinstance(value, dict) else value
    return plain


_CONVOLUTION = Convolution("kernel", _by_group, "kernel", _last)
_TRANSPOSED = Convolution("kernel", _last, "kernel", _before_last)
_DEPTHWISE = Convolution("kernel", _before_last, "kernel", _by_multiplier)
_SEPARABLE = Convolution("depthwise_kernel", _before_last, "pointwise_kernel", _last)

TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
LINEAR: dict[type, Absorber] = {
    keras.layers.Dense: Contraction(),
    keras.layers.EinsumDense: Contraction(),
    keras.layers.Conv1D: _CONVOLUTION,
    keras.layers.Conv2D: _CONVOLUTION,
    keras.layers.Conv3D: _CONVOLUTION,
    **dict.fromkeys(TRANSPOSED, _TRANSPOSED),
    keras.layers.DepthwiseConv1D: _DEPTHWISE,
    keras.layers.DepthwiseConv2D: _DEPTHWISE,
    keras.layers.SeparableConv1D: _SEPARABLE,
    keras.layers.SeparableConv2D: _SEPARABLE,
}


def is_convolution(operation: Any) -> bool:
    """Whether it is one, or applies one to each time step."""
    layer = getattr(operation, "layer", operation)
    return isinstance(LINEAR.get(type(layer)), Convolution)
