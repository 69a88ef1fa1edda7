"""Folded: a Keras model with its batch normalization folded, as another Keras model."""

from __future__ import annotations

import inspect
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

import kerasdl

from .alone import alone
from .clock import Clock
from .errors import ParityError, SourceError, reason
from .folding import fold as fold_graph
from .graph import Graph, flatten_layers
from .inference import drop_training_only, float64
from .judging import Data, add_truth, own_rows, report_on
from .parity import Judge
from .ports import unique
from .program import KerasProgram
from .remainder import Remainder
from .source import open_source
from .trace import open_function, trace


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
    with inputs and outputs in the same structure. Before it is returned it is compared with the
    model, as an ONNX file would be. The model itself is not changed, nor shares anything with it.

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
    graph = trace(_copied(program.model))
    drop_training_only(graph)
    folds = fold_graph(graph)
    folded = _model_of(graph, program.model)
    judge = Judge(program)
    add_truth(judge, own, Clock())
    report = report_on(model, "the folded model", program)
    report.folds, report.checks = folds, judge.compare_run(KerasProgram(folded).run)
    if not report.passed:
        raise ParityError("The folded model disagrees with the model.", report)
    return folded


def _copied(model: keras.Model) -> keras.Model:
    """A copy that shares nothing; whatever Keras can save, it can copy so."""
    own: dict[str, Any] = {}
    for layer in flatten_layers(model):
        own[type(layer).__name__] = type(layer)
        own |= {f.__name__: f for f in vars(layer).values() if inspect.isfunction(f)}
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file that stays here
            path = Path(folder) / "model.keras"
            model.save(path)
            # It was in memory a moment ago, so its code is the user's own.
            return keras.saving.load_model(path, custom_objects=own, compile=False, safe_mode=False)
    # A layer's own configuration may raise anything.
    except Exception as error:
        raise SourceError(f"Model `{model.name}` cannot be copied: {reason(error)}") from error


def _model_of(graph: Graph, original: keras.Model) -> keras.Model:
    """The graph as a Functional model with the inputs and outputs of the original."""
    function: Any = open_function(original)
    names = unique(node.name.replace("/", "_") for node in graph.nodes)
    operations: dict[int, Any] = {}
    for node, name in zip(graph.nodes, names, strict=True):
        if id(node.operation) not in operations:
            operation = _plain(node.operation)
            operation.name = name
            operations[id(node.operation)] = operation
    inputs = [
        keras.Input(batch_shape=value.shape, dtype=value.dtype, name=tensor.name)
        for value, tensor in zip(graph.inputs, function.inputs, strict=True)
    ]
    table: dict[int, Any] = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for node in graph.nodes:
        arguments, keywords = node.substitute(table)
        results = tree.flatten(operations[id(node.operation)](*arguments, **keywords))
        table.update(zip(map(id, node.outputs), results, strict=True))
    outputs = [table[id(value)] for value in graph.outputs]
    return keras.Model(
        tree.pack_sequence_as(function._inputs_struct, inputs),
        tree.pack_sequence_as(function._outputs_struct, outputs),
        name=original.name,
    )


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
