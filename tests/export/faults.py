"""Faults: one thing that makes a file and a model disagree, and the layer whose fault it is.

A fault is made in the model behind the export, in the model before the export and taken back (then
the file lacks a layer), or in the file. In a file, the layer is known by the name of the node,
which begins with the TensorFlow scope of its layer.
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
import onnx
from keras import layers
from onnx import numpy_helper

from kerasdl import export
from kerasdl.export.graphs.graph import flatten_layers
from kerasdl.export.graphs.trace import trace

NORMALIZATIONS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.RMSNormalization,
)
BENDS = {"Relu", "Elu", "LeakyRelu", "Tanh", "Sigmoid", "PRelu", "Softmax", "Add", "Mul"}


@dataclass(frozen=True)
class Fault:
    """What was done, and the names under which the layer may be called: one per call."""

    kind: str
    names: tuple


def ours(model, path):
    """A folded file."""
    export.to_onnx(model, path)


def plain(model, path):
    """The file that tf2onnx writes by itself."""
    import tf2onnx

    twin = keras.Model(model.inputs, model.outputs)
    twin.output_names = [f"y{i}" for i in range(len(model.outputs))]
    proto, _ = tf2onnx.convert.from_keras(twin, opset=18)
    _rename_outputs(proto, [port.name for port in trace(model).output_ports])
    onnx.save(proto, path)


EXPORTERS = {"ours": ours, "plain": plain}


def _rename_outputs(proto, names):
    for end, name in zip(proto.graph.output, names, strict=True):
        if name != end.name:
            node = onnx.helper.make_node("Identity", [end.name], [name])
            proto.graph.node.append(node)
            end.name = name


def names_of(model, layer):
    return tuple(
        node.name
        for node in trace(model).nodes
        if isinstance(node.operation, keras.Layer) and layer in flatten_layers(node.operation)
    )


# In the model, behind the export


def _variables(model):
    return [
        (layer, variable)
        for layer in model._flatten_layers(include_self=False)
        for variable in [*layer._trainable_variables, *layer._non_trainable_variables]
        if "float" in variable.dtype and np.any(value_of(variable))
    ]


def value_of(variable):
    return np.array(keras.ops.convert_to_numpy(variable.value))


def changed_entry(model, rng):
    return _changed(model, rng, "a changed entry", lambda w: _one_entry(w, rng))


def changed_weight(model, rng):
    return _changed(model, rng, "a changed weight", lambda w: w * (1 + rng.choice([-0.01, 0.03])))


def transposed_kernel(model, rng):
    return _changed(model, rng, "a swapped axis", _swapped)


def _changed(model, rng, kind, change):
    pairs = [
        (layer, variable)
        for layer, variable in _variables(model)
        if not np.array_equal(change(value_of(variable)), value_of(variable))
    ]
    if not pairs:
        return None
    layer, variable = pairs[rng.integers(len(pairs))]
    variable.assign(change(value_of(variable)))
    return Fault(kind, names_of(model, layer))


def _one_entry(w, rng):
    w = w.copy()
    places = np.argwhere(w != 0)
    w[tuple(places[rng.integers(len(places))])] *= 1 + rng.choice([-0.5, 0.01, 0.1])
    return w


def _swapped(w):
    """The first two neighbouring axes of equal extent changed places."""
    for axis in range(w.ndim - 1):
        if w.shape[axis] == w.shape[axis + 1] > 1:
            return np.swapaxes(w, axis, axis + 1)
    return w


def wrong_epsilon(model, rng):
    found = [layer for layer in model._flatten_layers() if isinstance(layer, NORMALIZATIONS)]
    if not found:
        return None
    layer = found[rng.integers(len(found))]
    layer.epsilon *= rng.choice([0.01, 10.0, 100.0])
    return Fault("a wrong epsilon", names_of(model, layer))


# In the model, before the export


@contextmanager
def without_a_layer(model, rng):
    """The model as if it had one activation or batch normalization fewer, for a while."""
    found = [
        layer
        for layer in model.layers
        if type(layer) in (layers.Activation, layers.BatchNormalization)
        and getattr(layer, "activation", None) is not keras.activations.linear
    ]
    if not found:
        yield None
        return
    layer = found[rng.integers(len(found))]
    fault = Fault("a dropped layer", names_of(model, layer))
    if isinstance(layer, layers.Activation):
        before, layer.activation = layer.activation, keras.activations.linear
        try:
            yield fault
        finally:
            layer.activation = before
        return
    weights = layer.get_weights()
    neutral = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1 - layer.epsilon}
    layer.set_weights([np.full(w.shape, neutral[w.name], "float32") for w in layer.weights])
    try:
        yield fault
    finally:
        layer.set_weights(weights)


# In the file


def _owner(model, node, exporter):
    """The layer of a node; tf2onnx by itself has the scopes `model_1/layer_1/`."""
    nodes = trace(model).nodes
    for call in sorted(nodes, key=lambda call: -len(call.name)):
        once = sum(other.operation is call.operation for other in nodes) == 1
        name = call.name if exporter == "ours" else rf"[^/]+/{call.operation.name}_1"
        if once and re.match(f"{name}/", node.name):
            return call.operation
    return None


def _owned(model, proto, exporter):
    pairs = [(node, _owner(model, node, exporter)) for node in proto.graph.node]
    return [(node, layer) for node, layer in pairs if layer is not None]


def changed_constant(model, proto, rng, exporter):
    """A constant of one node, changed for that node alone."""
    return _constant(
        model, proto, rng, exporter, "a changed constant", lambda w: _one_entry(w, rng)
    )


def swapped_constant(model, proto, rng, exporter):
    return _constant(model, proto, rng, exporter, "a swapped axis in the file", _swapped)


def _constant(model, proto, rng, exporter, kind, change):
    constants = {t.name: t for t in proto.graph.initializer if t.data_type == t.FLOAT}
    found = []
    for node, layer in _owned(model, proto, exporter):
        for place, name in enumerate(node.input):
            if name in constants:
                w = numpy_helper.to_array(constants[name])
                if np.any(w) and not np.array_equal(change(w), w):
                    found.append((node, layer, place, w))
    if not found:
        return None
    node, layer, place, w = found[rng.integers(len(found))]
    proto.graph.initializer.append(numpy_helper.from_array(change(w), "wrong"))
    node.input[place] = "wrong"
    return Fault(kind, names_of(model, layer))


def permuted(model, proto, rng, exporter):
    """The axes of a Permute in another order."""
    found = [
        (node, layer)
        for node, layer in _owned(model, proto, exporter)
        if isinstance(layer, layers.Permute) and node.op_type == "Transpose"
    ]
    if not found:
        return None
    node, layer = found[rng.integers(len(found))]
    perm = node.attribute[0].ints
    first = 1 + int(rng.integers(len(perm) - 2))
    perm[first], perm[first + 1] = perm[first + 1], perm[first]
    return Fault("a permuted axis", names_of(model, layer))


def bypassed(model, proto, rng, exporter):
    """A node left out."""
    constants = {t.name for t in proto.graph.initializer}
    found = []
    for node, layer in _owned(model, proto, exporter):
        data = [name for name in node.input if name not in constants]
        if node.op_type in BENDS and len(data) == 1:
            found.append((node, layer, data[0]))
    if not found:
        return None
    node, layer, data = found[rng.integers(len(found))]
    kept = onnx.helper.make_node("Identity", [data], list(node.output), name=node.name)
    node.CopyFrom(kept)
    return Fault("a dropped node", names_of(model, layer))


IN_THE_MODEL = (changed_entry, changed_weight, transposed_kernel, wrong_epsilon)
IN_THE_FILE = (changed_constant, swapped_constant, permuted, bypassed)
KINDS = (*IN_THE_MODEL, without_a_layer, *IN_THE_FILE)


def inject(how, model, path, rng, exporter, look):
    """Write a file with a fault.

    Args:
        look: Called with the model and its file while both are right.

    Returns:
        The fault, or None if there is nothing that could be broken so; and what `look` returned.
    """
    if how is without_a_layer:
        with without_a_layer(model, rng) as fault:
            EXPORTERS[exporter](model, path)
            return fault, look(model, path)
    EXPORTERS[exporter](model, path)
    seen = look(model, path)
    if how in IN_THE_MODEL:
        return how(model, rng), seen
    proto = onnx.load(path)
    fault = how(model, proto, rng, exporter)
    onnx.save(proto, path)
    return fault, seen
