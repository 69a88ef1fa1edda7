"""Forward passes that look at, and change, one affine layer after the other.

A pass runs in a stateless scope: what is assigned to a variable is a proposal that the rest of
the pass goes by, and that nobody sees outside. `Passes.commit` makes the proposals true.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import keras
from keras import ops

from kerasdl._checks import require
from kerasdl.clipping._tensors import maths_dtype
from kerasdl.initializers._kernels import AFFINE, channel_axes, kernel_of, replaced

# Linear output of a layer at its present weights, computed anew at each call.
Output = Callable[[], Any]
Visit = Callable[[keras.layers.Layer, Output], None]


class Passes:
    """A model, a batch, and proposed weights.

    Args:
        model: A Keras model; built here if it is not.
        inputs: One batch.
    """

    def __init__(self, model: keras.layers.Layer, inputs: Any) -> None:
        self.model = model
        self.inputs = inputs
        if not all(layer.built for layer in model._flatten_layers()):
            model(inputs, training=False)
        self.layers = [
            layer
            for layer in {id(layer): layer for layer in model._flatten_layers()}.values()
            if isinstance(layer, AFFINE) and layer.built and _is_plain(layer)
        ]
        # Of the layer itself; a wrapper may put another one in its place while it runs.
        self._kernels = {id(layer): kernel_of(layer) for layer in self.layers}
        self.proposed = {
            id(weight): (weight, weight.value) for layer in self.layers for weight in layer.weights
        }
        self._scope = keras.StatelessScope()

    def run(self, visit: Visit) -> Any:
        """Pass the batch through the model; return the model's outputs.

        Each affine layer is shown to `visit` once, when the data first reach it.
        """
        seen: set[int] = set()
        self._scope = keras.StatelessScope(list(self.proposed.values()))
        with ExitStack() as stack:
            for layer in self.layers:
                call = partial(_shown, layer, layer.call, visit, seen)
                stack.enter_context(replaced(layer, "call", call))
            stack.enter_context(self._scope)
            outputs = self.model(self.inputs, training=False)
        for variable, _ in list(self.proposed.values()):
            self.proposed[id(variable)] = (variable, self.value(variable))
        return outputs

    def value(self, variable: keras.Variable) -> Any:
        """The value that the present pass goes by, in the variable's own dtype."""
        return self._scope.get_current_value(variable)

    def kernel(self, layer: keras.layers.Layer) -> keras.Variable:
        """The layer's kernel."""
        return self._kernels[id(layer)]

    def untouchable(self, layer: keras.layers.Layer) -> str:
        """Why the weights of a layer that is being run must stay, or an empty string."""
        if not self.kernel(layer).trainable:
            return "frozen: left as it was"
        if kernel_of(layer) is not self.kernel(layer):
            return "its kernel is computed by a wrapper: left as it was"
        return ""

    def name(self, layer: keras.layers.Layer) -> str:
        """Path of the layer, as in the names of its weights."""
        return str(self.kernel(layer).path.rpartition("/")[0])

    def variance(self, layer: keras.layers.Layer, z: Any) -> float:
        """Variance over all of z.

        Raises:
            ValueError: It is not finite.
        """
        result = float(ops.convert_to_numpy(ops.var(z)))
        require(
            math.isfinite(result),
            "data",
            result,
            f"inputs that give finite values at layer '{self.name(layer)}'",
            "Look for NaN, infinity or overflow in the data or the weights.",
        )
        return result

    def variances(self) -> dict[int, float]:
        """Variance of each reached layer's linear output, by the layer's id, in order."""
        found: dict[int, float] = {}

        def visit(layer: keras.layers.Layer, output: Output) -> None:
            found[id(layer)] = self.variance(layer, output())

        self.run(visit)
        return found

    def commit(self) -> None:
        """Give the model the proposed weights."""
        for variable, value in self.proposed.values():
            variable.assign(value)


def moments(layer: keras.layers.Layer, z: Any) -> tuple[Any, Any]:
    """Mean and variance of each channel of z."""
    kept = channel_axes(layer, len(z.shape))
    others = [axis for axis in range(len(z.shape)) if axis not in kept]
    return ops.mean(z, axis=others), ops.var(z, axis=others)


def _shown(
    layer: keras.layers.Layer,
    call: Callable[..., Any],
    visit: Visit,
    seen: set[int],
    *args: Any,
    **kwargs: Any,
) -> Any:
    if id(layer) not in seen:
        seen.add(id(layer))
        visit(layer, partial(_linear, layer, call, *args, **kwargs))
    return call(*args, **kwargs)


def _linear(layer: keras.layers.Layer, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with replaced(layer, "activation", keras.activations.linear):
        z = call(*args, **kwargs)
    return ops.cast(z, maths_dtype(z.dtype))


def _is_plain(layer: keras.layers.Layer) -> bool:
    """Whether the layer's weights are floats and its own: not quantized, no LoRA beside them."""
    return layer.quantization_mode is None and not getattr(layer, "lora_enabled", False)
