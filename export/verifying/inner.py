"""Inner values: all that an ONNX file computes, and what it would if one of them were another.

The second question is answered by the part of the file behind that value alone, as a model of its
own whose inputs are the values that the rest computed before.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files.ends import Ends
from ..files.onnx_file import names_of_ends
from ..files.runtime import open_session
from ..programs.program import Arrays, Program

if TYPE_CHECKING:
    import onnx

Reader = tuple[int, int]
"""A place where a value is read: the number of the node, and of its input."""

LARGE = 2**20
"""Bytes of a constant from which on a part of the file gets it as an input: it need not be
written down for every part, and protobuf writes no more than 2 GB."""


@dataclass(frozen=True)
class Forcing:
    """A value that is to be replaced, for all who read it or for one reader."""

    name: str
    array: np.ndarray
    reader: Reader | None = None


class InnerValues:
    """What a file computes on one batch, with onnxruntime's optimizations off.

    Attributes:
        values: By name, constants left out; the inputs first, in the program's order.
        outputs: Names of the outputs, in the program's order.
    """

    def __init__(self, file: Path, program: Program, arrays: Arrays) -> None:
        import onnx

        self._proto = onnx.load(file)
        self._nodes = list(self._proto.graph.node)
        self._constants = {tensor.name: tensor for tensor in self._proto.graph.initializer}
        self._large = {
            name: onnx.numpy_helper.to_array(tensor)
            for name, tensor in self._constants.items()
            if len(tensor.raw_data) >= LARGE and tensor.data_type != onnx.TensorProto.BFLOAT16
        }
        graph, noted = self._proto.graph, self._proto.metadata_props
        inputs, outputs = names_of_ends(graph)
        ends = Ends.of({entry.key: entry.value for entry in noted}, program.inputs, inputs)
        names, self.outputs = ends.names(program.inputs, program.outputs, inputs, outputs)
        given = ends.arrays(program.inputs, arrays)
        self.values: dict[str, np.ndarray] = dict(zip(names, given, strict=True))
        self.values.update(self._run(self._nodes, self.values))

    def readers(self, name: str) -> list[Reader]:
        """Where a value is read, the insides of loops and branches left out."""
        return [
            (number, place)
            for number, node in enumerate(self._nodes)
            for place, given in enumerate(node.input)
            if given == name
        ]

    def leading_to(self, names: Iterable[str], without: Container[str]) -> set[str]:
        """The values from which these can be reached, past no value of `without`."""
        found = set(names)
        for node in reversed(self._nodes):
            if any(name in found and name not in without for name in node.output):
                found.update(_inputs(node))
        return found

    def operator(self, name: str) -> str:
        """The operator that computes a value; empty for an input."""
        return next((node.op_type for node in self._nodes if name in node.output), "")

    def with_forced(self, forcings: Sequence[Forcing]) -> dict[str, np.ndarray] | None:
        """The values that change if some are replaced; None if the file cannot be run so."""
        given = {forcing.name: forcing.array for forcing in forcings if forcing.reader is None}
        changed, known, part = set(given), {**self.values, **given}, []
        for number, node in enumerate(self._nodes):
            own = [one for one in forcings if one.reader and one.reader[0] == number]
            if not own and not changed.intersection(_inputs(node)):
                continue
            for forcing in own:
                name = f"{forcing.name}__forced_{number}"
                node = _reading(node, forcing, name)
                known[name] = forcing.array
            changed.update(node.output)
            part.append(_without_outputs(node, given))
        try:
            return {**self._run(part, known), **given}
        # onnxruntime has no exception class of its own; a shape may not fit.
        except Exception:  # noqa: BLE001
            return None

    def force(self, forcings: Sequence[Forcing]) -> None:
        """Replace values for good."""
        self.values.update(self.with_forced(forcings) or {})
        for forcing in forcings:
            if forcing.reader is not None:
                number, name = forcing.reader[0], f"{forcing.name}__forced_{len(self.values)}"
                self._nodes[number] = _reading(self._nodes[number], forcing, name)
                self.values[name] = forcing.array
        given = {forcing.name for forcing in forcings if forcing.reader is None}
        self._nodes = [_without_outputs(node, given) for node in self._nodes]

    def _run(
        self, nodes: list[onnx.NodeProto], known: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """All values that these nodes compute, given what the others computed."""
        import onnx

        made = [name for node in nodes for name in node.output if name]
        if not made:
            return {}
        read = dict.fromkeys(name for node in nodes for name in _inputs(node))
        known = {**self._large, **known}
        given = [name for name in read if name in known and name not in set(made)]
        graph = onnx.helper.make_graph(
            nodes,
            "part",
            [
                onnx.helper.make_tensor_value_info(name, _element(known[name]), None)
                for name in given
            ],
            [onnx.ValueInfoProto(name=name) for name in made],
            [self._constants[name] for name in read if name in self._constants.keys() - known],
            sparse_initializer=self._proto.graph.sparse_initializer,
        )
        model = onnx.helper.make_model(graph, functions=self._proto.functions)
        model.ir_version = self._proto.ir_version
        del model.opset_import[:]
        model.opset_import.extend(self._proto.opset_import)
        session = open_session(model.SerializeToString(), optimized=False)
        results = session.run(made, {name: known[name] for name in given})
        return {
            name: value
            for name, value in zip(made, results, strict=True)
            if isinstance(value, np.ndarray)
        }


def _element(array: np.ndarray) -> int:
    import onnx

    if array.dtype.kind in "OUS":
        return onnx.TensorProto.STRING
    return onnx.helper.np_dtype_to_tensor_dtype(array.dtype)


def _inputs(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, and what loops and branches read from outside."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            for inner in graph.node:
                yield from (name for name in _inputs(inner) if name not in own)
                own.update(inner.output)


def _reading(node: onnx.NodeProto, forcing: Forcing, name: str) -> onnx.NodeProto:
    changed = type(node)()
    changed.CopyFrom(node)
    if forcing.reader is not None:
        changed.input[forcing.reader[1]] = name
    return changed


def _without_outputs(node: onnx.NodeProto, names: Container[str]) -> onnx.NodeProto:
    """The node with other names for these outputs, so that another value can have them."""
    if not any(name in names for name in node.output):
        return node
    changed = type(node)()
    changed.CopyFrom(node)
    changed.output[:] = [f"{name}__before" if name in names else name for name in node.output]
    return changed
