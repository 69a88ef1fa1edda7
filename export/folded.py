"""Folded: a Keras model with its batch normalization folded, as another Keras model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

import kerasdl

from .alone import alone
from .clock import Clock
from .errors import SourceError, reason
from .folding.copied import copied
from .folding.folding import fold as fold_graph
from .folding.remainder import Remainder
from .graphs.exact import float64
from .graphs.graph import Graph, Node, naming
from .graphs.inference import drop_training_only
from .graphs.trace import open_function, trace
from .judging import Data, add_truth, own_rows, report_on
from .ports import unique
from .programs.program import Arrays, KerasProgram
from .programs.source import open_source
from .reporting.parity_error import ParityError
from .verifying.parity import Judge


@alone
def fold(
    model: keras.Model | str | os.PathLike[str],
    *,
    data: Data | None = None,
    unsafe: bool = False,
    imports: Sequence[str] = (),
) -> keras.Model:
    """Fold batch normalization into its neighbours, and leave out what only training needs.

    What `to_onnx` does before it converts, for those who stay with Keras: the same folds, in
    float64, rounded once. Nested models are laid open, so the result is one flat Functional model
    with inputs and outputs in the same structure; a Sequential with masks stays one. Before it is
    returned it is compared with the model, as an ONNX file would be. The model itself is not
    changed, and shares with the result only the functions that its layers were given, as those of
    a Lambda.

    Args:
        model: A built Sequential or Functional model, or the path of a `.keras` or `.h5` file.
        data: As in `to_onnx`.
        unsafe: As in `to_onnx`.
        imports: As in `to_onnx`.

    Returns:
        The folded model, not compiled. What stays of a normalization is a `kerasdl.Affine`, a
        Rescaling, or, if it changes over space, a layer that loads where `kerasdl.export` has
        been imported.

    Raises:
        SourceError: The model cannot be read or copied, or is subclassed: its layers are not
            seen then, and only `to_onnx` can fold them.
        ConversionError: A layer of the copy raises what that of the model does not.
        OptionError: The data cannot be used.
        ParityError: The folded model computes something else.

    Example:

    >>> import keras
    >>> from kerasdl import export
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"),
    ...     keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.ReLU()])
    >>> [layer.name for layer in export.fold(model).layers[1:]]
    ['hidden', 're_lu']

    References: N2 (inference form of batch normalization).
    """
    program = open_source(model, unsafe=unsafe, imports=imports)
    if not isinstance(program, KerasProgram) or open_function(program.model) is None:
        raise SourceError(
            f"`{program.name}` shows no Keras layers: it is subclassed, or a SavedModel. "
            "`to_onnx` folds such models in the ONNX file."
        )
    own = own_rows(program, data)
    graph = trace(copied(program.model))
    # A Sequential takes any batch, and its copy is a functional model.
    for value, known in zip(graph.inputs, program.graph.inputs, strict=True):
        value.shape = known.shape
    drop_training_only(graph)
    folds = fold_graph(graph)
    folded = _model_of(graph, program.model)
    judge = Judge(program)
    add_truth(judge, own, Clock())
    report = report_on(model, "the folded model", program)
    report.folds, report.checks = folds, judge.compare_run(_run_of(folded))
    if not report.passed:
        raise ParityError("The folded model disagrees with the model.", report)
    return folded


def _model_of(graph: Graph, original: keras.Model) -> keras.Model:
    """The graph as a model with the inputs and outputs of the original."""
    function: Any = open_function(original)
    names = unique(node.name.replace("/", "_") for node in graph.nodes)
    operations: dict[int, Any] = {}
    for node, name in zip(graph.nodes, names, strict=True):
        if id(node.operation) not in operations:
            operation = _plain(node.operation)
            operation.name = name
            operations[id(node.operation)] = operation
    inputs = [
        keras.Input(
            batch_shape=value.shape,
            dtype=value.dtype,
            name=tensor.name,
            optional=tensor._keras_history.operation.optional,
        )
        for value, tensor in zip(graph.inputs, function.inputs, strict=True)
    ]
    chain = _masked_chain(graph) if isinstance(original, keras.Sequential) else None
    if chain is not None:
        steps = [operations[id(node.operation)] for node in chain]
        model = keras.Sequential([*inputs, *steps], name=original.name)
        again = _masked_chain(trace(model)) or []
        if [_takes_mask(node) for node in again] == [_takes_mask(node) for node in chain]:
            return model
    table: dict[int, Any] = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for node in graph.nodes:
        arguments, keywords = node.substitute(table)
        with naming(node.name):
            results = tree.flatten(operations[id(node.operation)](*arguments, **keywords))
        table.update(zip(map(id, node.outputs), results, strict=True))
    outputs = [table[id(value)] for value in graph.outputs]
    return keras.Model(
        tree.pack_sequence_as(function._inputs_struct, inputs),
        tree.pack_sequence_as(function._outputs_struct, outputs),
        name=original.name,
    )


def _masked_chain(graph: Graph) -> list[Node] | None:
    """The layers of a graph in which each reads the one before, and masks that Keras computes.

    Such a Sequential stays one: in a `.h5` file, Keras cannot read a Functional model with masks.
    """
    chain = [node for node in graph.nodes if isinstance(node.operation, keras.Layer)]
    ends = [*graph.inputs, *(node.outputs[0] for node in chain)]
    follows = all(
        len(node.arguments) == 1
        and node.arguments[0] is value
        and not any(node.keywords[key] for key in node.keywords if key != "mask")
        for node, value in zip(chain, ends, strict=False)
    )
    different = {id(node.operation) for node in chain}
    if not follows or len(different) < len(chain) or len(chain) == len(graph.nodes):
        return None
    return chain if ends[-1] is graph.outputs[0] else None


def _takes_mask(node: Node) -> bool:
    return node.keywords.get("mask") is not None


def _run_of(folded: keras.Model) -> Callable[[Arrays], Arrays]:
    """How the folded model runs; an error names the layer."""
    program = KerasProgram(folded)

    def run(arrays: Arrays) -> Arrays:
        try:
            return program.run(arrays)
        # A layer's own code may raise anything.
        except Exception as error:
            program.graph(*arrays)
            raise SourceError(f"The folded model does not run: {reason(error)}") from error

    return run


def _plain(operation: Any) -> Any:
    """What stays of a map as a layer that everybody can load, where there is one."""
    if not isinstance(operation, Remainder):
        return operation
    ones = (1,) * max(len(v.shape) for v in operation.weights)
    scale = np.ones(ones) if operation.scale is None else float64(operation.scale)
    shift = np.zeros(ones) if operation.shift is None else float64(operation.shift)
    axes = {axis for a in (scale, shift) for axis, extent in enumerate(a.shape) if extent > 1}
    options = {"name": operation.name, "dtype": operation.dtype_policy}
    if not axes:
        return keras.layers.Rescaling(scale.item(), shift.item(), **options)
    if len(axes) > 1 or axes == {0}:
        return operation
    extent = max(scale.size, shift.size)
    arrays = [np.broadcast_to(array.reshape(-1), (extent,)) for array in (scale, shift)]
    layer = kerasdl.Affine(axis=axes.pop(), trainable=False, **options)
    shape: list[int | None] = [None] * scale.ndim
    shape[layer.axis] = extent
    layer.build(tuple(shape))
    layer.set_weights(arrays)
    return layer
