"""A TensorFlow SavedModel as a program: its serving signature, and the same in float64.

A SavedModel holds no Keras layers. Its float64 run rewrites the frozen TensorFlow graph: every
shorter float type becomes float64 and every such constant is cast.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from .errors import SourceError
from .formats import FLOAT32, Format
from .ports import Port, is_any_batch
from .program import Arrays
from .ranges import Range
from .rounding import distance, move_input

SIGNATURE = "serving_default"
SHORT = (types_pb2.DT_FLOAT, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16)


class SavedModelProgram:
    """The `serving_default` signature of a SavedModel."""

    def __init__(self, path: Path) -> None:
        self._loaded = tf.saved_model.load(str(path))  # keeps the variables alive
        signatures = self._loaded.signatures
        if SIGNATURE not in signatures:
            raise SourceError(
                f"The SavedModel {path} has no signature `{SIGNATURE}`; it has "
                f"{sorted(signatures) or 'none'}. Save it with `model.export(path)`."
            )
        self._signature = signatures[SIGNATURE]
        self.name = path.name
        specs = self._signature.structured_input_signature[1]
        self.inputs = [_port(name, specs[name]) for name in sorted(specs)]
        if not self.inputs:
            raise SourceError(f"The signature `{SIGNATURE}` of {path} has no inputs.")
        self.any_batch = is_any_batch(self.inputs)
        results = self._signature.structured_outputs
        self.outputs = [_port(name, results[name]) for name in sorted(results)]
        self._frozen = convert_variables_to_constants_v2(self._signature)

    def __call__(self, *tensors: Any) -> list[Any]:
        named = {port.name: tensor for port, tensor in zip(self.inputs, tensors, strict=True)}
        results = self._signature(**named)
        return [results[port.name] for port in self.outputs]

    def run(self, arrays: Arrays) -> Arrays:
        return [y.numpy() for y in self(*map(tf.convert_to_tensor, arrays))]

    def run_float64(self, arrays: Arrays) -> Arrays:
        return self._run_float64(arrays)

    def reaches(
        self, arrays: Arrays, exact: Arrays, rng: np.random.Generator, stored: Format = FLOAT32
    ) -> Iterator[Arrays]:
        while True:
            if stored.results.steps:
                yield [np.abs(y) for y in exact]  # unknown: no results of layers are seen
            else:
                moved = self._run_float64([move_input(x, rng, stored) for x in arrays], rng, stored)
                yield [distance(*pair) for pair in zip(moved, exact, strict=True)]

    def _run_float64(
        self,
        arrays: Arrays,
        perturb: np.random.Generator | None = None,
        stored: Format = FLOAT32,
    ) -> Arrays:
        names = [tensor.name for tensor in self._frozen.inputs]
        # The frozen function keeps TensorFlow's order of keyword inputs: by name.
        feeds = {
            name: array.astype(np.float64) if array.dtype.kind == "f" else array
            for name, array in zip(names, arrays, strict=True)
        }
        by_output = {
            port.name: tensor.name
            for port, tensor in zip(self.outputs, self._frozen.outputs, strict=True)
        }
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(
                to_float64(self._frozen.graph.as_graph_def(), perturb, stored), name=""
            )
            with tf.compat.v1.Session(graph=graph) as session:
                return list(session.run([by_output[p.name] for p in self.outputs], feeds))

    def ranges(self) -> dict[str, Range]:
        return {}

    def parameters(self) -> int:
        return sum(int(np.prod(variable.shape)) for variable in self._signature.variables)

    def layer_names(self) -> list[str]:
        return []  # a SavedModel holds none

    def work(self) -> int:
        return self.parameters()


def to_float64(
    graph_def: Any, perturb: np.random.Generator | None = None, stored: Format = FLOAT32
) -> Any:
    """A copy of a GraphDef that computes in float64 what the original does in float32."""
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    nodes = list(result.node)
    for function in result.library.function:
        nodes.extend(function.node_def)
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            if argument.type in SHORT:
                argument.type = types_pb2.DT_DOUBLE
    for node in nodes:
        node.attr.pop("_output_shapes", None)
        for attribute in node.attr.values():
            _widen(attribute, perturb, stored)
    return result


def _widen(attribute: Any, perturb: np.random.Generator | None, stored: Format) -> None:
    if attribute.type in SHORT:
        attribute.type = types_pb2.DT_DOUBLE
    for index, kind in enumerate(attribute.list.type):
        if kind in SHORT:
            attribute.list.type[index] = types_pb2.DT_DOUBLE
    if attribute.tensor.dtype in SHORT:
        value = tf.make_ndarray(attribute.tensor).astype(np.float64)
        if perturb is not None:
            value = stored.move_weight(value, perturb)
        attribute.tensor.CopyFrom(tf.make_tensor_proto(value))


def _port(name: str, spec: Any) -> Port:
    shape = spec.shape
    if shape.rank is None:
        raise SourceError(f"`{name}` of the SavedModel has no known rank; it cannot be exported.")
    return Port(name, tuple(shape.as_list()), spec.dtype.name)
