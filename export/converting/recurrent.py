"""Recurrent layers as one ONNX operator each: GRU, LSTM and RNN.

TensorFlow runs a recurrent layer as a loop, which tf2onnx knows again in few cases. While a graph
is traced, the `call` of these layers is another one: it states the operator as one operation,
whose inputs are laid out as ONNX wants them (`operators.py`).

Keras and ONNX differ in the order of gates and axes:

    Keras  x (batch, time, features),  W (features, gates · units),  GRU z r h,  LSTM i f c o
    ONNX   x (time, batch, features),  W (directions, gates · units, features),  z r h,  i o f c

`steps.py` puts steps beside or in place of these operators where onnxruntime is faster so. What its
operators do not compute stays with TensorFlow's loop: masks, dropout in training, other
activations, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import activations, tree

from .operators import operator

FLOATS = ("float32", "float16", "bfloat16")
"""Numbers for which there is an operator; bfloat16 ones are float32 by then (`precision.py`)."""
LAYERS = (keras.layers.GRU, keras.layers.LSTM, keras.layers.SimpleRNN, keras.layers.RNN)


@dataclass(frozen=True)
class Kind:
    """How a cell is written in ONNX.

    Attributes:
        operator: The operator.
        gates: Where each of the operator's gates stands in Keras' matrices.
        functions: The cell's attributes that hold the operator's activations.
        states: How many states it has.
    """

    operator: str
    gates: tuple[int, ...]
    functions: tuple[str, ...]
    states: int = 1


KINDS = {
    keras.layers.GRUCell: Kind("GRU", (0, 1, 2), ("recurrent_activation", "activation")),
    keras.layers.LSTMCell: Kind(
        "LSTM", (0, 3, 1, 2), ("recurrent_activation", "activation", "activation"), states=2
    ),
    keras.layers.SimpleRNNCell: Kind("RNN", (0,), ("activation",)),
}


@dataclass(frozen=True)
class Activation:
    """An activation as the operators know it, with the numbers that it takes."""

    name: str
    alpha: tuple[float, ...] = ()
    beta: tuple[float, ...] = ()


# Softplus is no part of it: onnxruntime's is infinite from 89 on. Nor is LeakyRelu: for inputs far
# from zero a GRU disagreed with Keras' by more than rounding in some runs.
ACTIVATIONS = (
    (activations.elu, Activation("Elu", (1.0,))),
    (activations.hard_sigmoid, Activation("HardSigmoid", (1 / 6,), (0.5,))),
    (activations.linear, Activation("Affine", (1.0,), (0.0,))),
    (activations.relu, Activation("Relu")),
    (activations.sigmoid, Activation("Sigmoid")),
    (activations.softsign, Activation("Softsign")),
    (activations.tanh, Activation("Tanh")),
)
MERGES: dict[str | None, Callable[[Any, Any], Any]] = {
    "concat": lambda x, y: tf.concat([x, y], axis=-1),
    "sum": lambda x, y: x + y,
    "ave": lambda x, y: (x + y) / 2,
    "mul": lambda x, y: x * y,
    None: lambda x, y: (x, y),
}


def has_operator(layer: Any) -> bool:
    """Whether a layer, or a Bidirectional as a whole, is one operator unless a call forbids it."""
    if type(layer) is keras.layers.Bidirectional:
        return _is_pair(layer.forward_layer, layer.backward_layer)
    if type(layer) not in LAYERS or type(layer.cell) not in KINDS:
        return False
    dtypes = {layer.compute_dtype, layer.cell.compute_dtype}
    return len(dtypes) == 1 and dtypes <= {*FLOATS} and None not in _activations(layer.cell)


def call_of(layer: Any) -> Callable[..., Any]:
    """The `call` of a layer that has an operator."""
    both = type(layer) is keras.layers.Bidirectional
    parts = [layer.forward_layer, layer.backward_layer] if both else [layer]
    cells = [part.cell for part in parts]
    finish = _both_ways if both else _one_way

    def call(
        sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False
    ) -> Any:
        states = [] if initial_state is None else tree.flatten(initial_state)
        if mask is not None or training or not _fits(cells, sequences, states):
            return type(layer).call(
                layer, sequences, initial_state=initial_state, mask=mask, training=training
            )
        backwards = not both and layer.go_backwards
        direction = "bidirectional" if both else "reverse" if backwards else "forward"
        return finish(layer, *_run(cells, sequences, states, direction))

    return call


def _one_way(layer: Any, steps: Any, states: list[Any]) -> Any:
    """What the layer returns, of (time, 1, batch, units) and states of (1, batch, units)."""
    states = [tf.squeeze(state, 0) for state in states]
    output = states[0]
    if layer.return_sequences:
        steps = tf.squeeze(steps, 1)
        # Keras has them in the order in which they were computed.
        output = tf.transpose(steps[::-1] if layer.go_backwards else steps, [1, 0, 2])
    return (output, *states) if layer.return_state else output


def _both_ways(layer: Any, steps: Any, states: list[Any]) -> Any:
    """What a Bidirectional returns, of (time, 2, batch, units) and states of (2, batch, units)."""
    pairs = [tf.unstack(state) for state in states]
    parts = tf.unstack(steps, axis=1) if layer.return_sequences else pairs[0]
    output = MERGES[layer.merge_mode](*parts)
    if layer.return_sequences:
        output = tree.map_structure(lambda y: tf.transpose(y, [1, 0, 2]), output)
    if not layer.return_state:
        return output
    outputs = output if isinstance(output, tuple) else (output,)
    return (*outputs, *(pair[0] for pair in pairs), *(pair[1] for pair in pairs))


def _is_pair(forward: Any, backward: Any) -> bool:
    if not (has_operator(forward) and has_operator(backward)) or forward.go_backwards:
        return False
    one, other = (
        (type(part.cell), part.cell.units, part.compute_dtype, _resets_after(part.cell))
        for part in (forward, backward)
    )
    return one == other


def _fits(cells: Sequence[Any], sequences: Any, states: Sequence[Any]) -> bool:
    """Whether the operator takes these tensors; Keras would broadcast smaller states."""
    wanted = len(cells) * KINDS[type(cells[0])].states * [(sequences.shape[0], cells[0].units)]
    shapes = [tuple(state.shape) for state in states]
    return len(sequences.shape) == 3 and shapes in ([], wanted)


def _activations(cell: Any) -> list[Activation | None]:
    wanted = [getattr(cell, name) for name in KINDS[type(cell)].functions]
    return [
        next((form for function, form in ACTIVATIONS if function is given), None)
        for given in wanted
    ]


def _resets_after(cell: Any) -> bool:
    return bool(getattr(cell, "reset_after", False))


def _run(
    cells: Sequence[Any], sequences: Any, states: Sequence[Any], direction: str
) -> tuple[Any, list[Any]]:
    """The outputs of all steps and the last states, as ONNX has them."""
    cell, kind = cells[0], KINDS[type(cells[0])]
    forms = [form for one in cells for form in _activations(one) if form is not None]
    attributes: dict[str, Any] = {
        "activations": [form.name for form in forms],
        "activation_alpha": [number for form in forms for number in form.alpha],
        "activation_beta": [number for form in forms for number in form.beta],
        "direction": direction,
        "hidden_size": cell.units,
    }
    if kind.operator == "GRU":
        attributes["linear_before_reset"] = int(_resets_after(cell))
    weights = [tf.stack(part) for part in zip(*map(_weights, cells), strict=True)]
    given = [tf.cast(state, cell.compute_dtype) for state in states]
    first = [tf.stack(given[place :: kind.states]) for place in range(kind.states) if given]
    batch, time, _ = sequences.shape
    state = (len(cells), batch, cell.units)
    steps, *last = operator(
        kind.operator,
        [tf.transpose(tf.cast(sequences, cell.compute_dtype), [1, 0, 2]), *weights, None, *first],
        [(time, *state), *kind.states * [state]],
        attributes,
    )
    return steps, last


def _weights(cell: Any) -> list[Any]:
    """Kernel, recurrent kernel and bias of one direction, as ONNX has them."""
    kernel, recurrent = (
        tf.transpose(_gates(cell, weight)) for weight in (cell.kernel, cell.recurrent_kernel)
    )
    if cell.bias is None:
        return [kernel, recurrent, tf.zeros([2 * kernel.shape[0]], kernel.dtype)]
    bias = _gates(cell, cell.bias)
    if len(bias.shape) == 1:
        bias = tf.stack([bias, tf.zeros_like(bias)])
    return [kernel, recurrent, tf.reshape(bias, [-1])]


def _gates(cell: Any, weight: Any) -> Any:
    """A weight with its last axis in ONNX's order of gates."""
    columns = np.arange(len(KINDS[type(cell)].gates) * cell.units).reshape(-1, cell.units)
    order = columns[list(KINDS[type(cell)].gates)].ravel()
    return tf.gather(tf.cast(weight, cell.compute_dtype), order, axis=-1)
