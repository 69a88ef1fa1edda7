"""Histograms of what the layers put out."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl.callbacks._probe import require_inputs, require_samples, tensors
from kerasdl.initializers._kernels import replaced
from kerasdl.plots._histograms import Array, draw_rows, require_rows


def plot_activations(model: Any, x: Any, ax: Any = None) -> Any:
    """Draw a histogram of what every layer puts out for `x`, in the order of the data.

    Rows that become narrow from layer to layer show signals that vanish, rows that become
    wide signals that explode, and rows piled up at their ends saturated units. Every row has
    a height of its own; σ is the standard deviation over samples, positions and units.

    The network runs in inference mode, and nothing in it changes. Models inside the model are
    entered, other layers made of layers are one row.

    Args:
        model: A Keras model. For some of the layers pass a part of it:
            `keras.Model(model.inputs, model.layers[3].output)`.
        x: Inputs of one batch: an array, or a structure of them as in `fit`.
        ax: Axes of matplotlib to draw on. Default None, those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: `x` is empty or does not fit, or no layer puts out floating-point numbers.
        ImportError: matplotlib is not installed.

    Example:

    >>> layers = [keras.layers.Dense(4, name="hidden"), keras.layers.ReLU(name="relu")]
    >>> ax = plot_activations(keras.Sequential([keras.Input((8,)), *layers]), np.ones((2, 8)))
    >>> [label.get_text().splitlines()[0] for label in ax.get_yticklabels()]
    ['hidden', 'relu']

    References:
        N0, N1, N2 (vanishing and exploding signals, saturation); Glorot & Bengio 2010.
    """
    require_samples(x)
    require_inputs(model, x)
    rows = list(_outputs(model, x).items())
    require_rows(rows, model, "layers that put out floating-point numbers")
    return draw_rows(ax, rows, "activation", "Activations")


def _outputs(model: Any, x: Any) -> dict[str, Array]:
    """All outputs of each layer, by the layer's name, in the order of the first calls."""
    inputs = tensors(x)
    if not all(layer.built for layer in model._flatten_layers()):
        model(inputs, training=False)
    found: dict[str, list[Array]] = {}
    with ExitStack() as stack:
        for name, layer in _leaves(model):
            stack.enter_context(replaced(layer, "call", _heard(layer.call, name, found)))
        stack.enter_context(keras.StatelessScope())
        model(inputs, training=False)
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _heard(
    call: Callable[..., Any], name: str, found: dict[str, list[Array]]
) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        for each in keras.tree.flatten(outputs):
            if keras.backend.is_float_dtype(keras.backend.standardize_dtype(each.dtype)):
                array = ops.convert_to_numpy(each).astype("float64").ravel()
                found.setdefault(name, []).append(array)
        return outputs

    return wrapped


def _leaves(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer, f"{prefix}{layer.name}/")
        elif not isinstance(layer, keras.layers.InputLayer):
            yield f"{prefix}{layer.name}", layer
