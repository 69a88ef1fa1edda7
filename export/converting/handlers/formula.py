"""A formula: ONNX nodes that take the place of one TensorFlow node."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Number = float | int | np.ndarray | list[int]
Handler = Callable[..., Any]

HANDLERS: dict[str, tuple[Handler, list[str]]] = {}
"""By TensorFlow operation; what `tf2onnx.tfonnx.process_tf_graph` takes."""

FLOATS = {1: "float32", 10: "float16", 11: "float64"}
COMPLEX = (14, 15)
"""By ONNX's numbers of the types."""
ADDS_SINCE, COMPARES_SINCE = 16, 18
"""The operator sets whose ScatterND adds and multiplies, and takes the larger or smaller one."""
COMPUTED: dict[str, Callable[..., Any]] = {
    "Cast": np.asarray,
    "Identity": np.asarray,
    "Div": np.divide,
    "Mul": np.multiply,
}
"""Operations that may stand between a constant and the node that reads it."""


OWN = re.compile(r"_constant__\d+$")
"""Of the names of constants."""


def is_of_formula(name: str) -> bool:
    """Whether a constant of this name is a formula's own, no weight of the model."""
    return OWN.search(name) is not None


class Formula:
    """ONNX nodes that take the place of one TensorFlow node.

    Attributes:
        node: The TensorFlow node.
        dtype: What Python floats become, the dtype of the node's first float input.
    """

    def __init__(self, graph: Any, node: Any) -> None:
        self.graph, self.node = graph, node
        known = (FLOATS.get(graph.get_dtype(name)) for name in node.input)
        self.dtype = np.dtype(next(filter(None, known), "float32"))

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        return partial(self._write, operator)

    def _write(
        self,
        operator: str,
        *inputs: str | Number,
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> Any:
        names = [self.constant(entry) for entry in inputs]
        made = self.graph.make_node(
            operator,
            names,
            attr=attributes,
            output_count=outputs,
            op_name_scope=self.node.name,
            domain=domain,
        )
        return made.output[0] if outputs == 1 else list(made.output)

    def constant(self, value: str | Number) -> str:
        """The name of a constant; of a name, itself."""
        from tf2onnx import utils

        if isinstance(value, str):
            return value
        array = np.asarray(value)
        if not isinstance(value, np.ndarray | np.generic):
            array = array.astype(self.dtype if array.dtype.kind == "f" else np.int64)
        name = utils.make_name(f"{self.node.name}_constant")
        return str(self.graph.make_const(name, np.array(array, order="C")).output[0])

    def dtype_of(self, name: str) -> np.dtype[Any]:
        from tf2onnx import utils

        return np.dtype(utils.map_onnx_to_numpy_type(self.graph.get_dtype(name)))

    def cast(self, x: str, dtype: Any) -> str:
        from tf2onnx import utils

        return str(self.Cast(x, to=utils.map_numpy_to_onnx_dtype(np.dtype(dtype))))

    def attribute(self, name: str) -> Any:
        value = self.node.get_attr_value(name)
        return value.decode() if isinstance(value, bytes) else value

    def spatial_axes(self) -> list[int]:
        """The axes of height and width, or of depth, height and width."""
        layout = self.attribute("data_format")
        return [axis for axis, letter in enumerate(layout) if letter in "DHW"]

    def value(self, name: str) -> np.ndarray:
        """The value of an input that must be a constant, or computed from constants."""
        source = self.graph.get_node_by_output(name)
        if source is not None and source.is_const():
            return np.asarray(source.get_tensor_value(as_list=False))
        if source is not None and source.type == "Slice":
            return self._known_extents(source)
        if source is None or source.type not in COMPUTED:
            raise ValueError(f"{self.node.type} needs constants, `{name}` is none")
        result = COMPUTED[source.type](*(self.value(entry) for entry in source.input))
        return np.asarray(result, self.dtype_of(name))

    def known(self, name: str) -> np.ndarray | None:
        """The same, or None of another input."""
        try:
            return self.value(name)
        except ValueError:
            return None

    def within(self) -> Formula:
        """A graph inside a node."""
        inner = Formula(self.graph.create_new_graph_with_same_config(), self.node)
        inner.graph.parent_graph = self.graph
        return inner

    def _known_extents(self, source: Any) -> np.ndarray:
        """A part of the shape of a tensor."""
        shape = source.inputs[0]
        while shape.type in {"Cast", "Identity"}:
            shape = shape.inputs[0]
        if shape.type != "Shape":
            raise ValueError(f"{self.node.type} needs constants, `{shape.name}` is none")
        starts, ends = (self.value(name) for name in source.input[1:3])
        axes = range(len(self.shape(shape.input[0])))[int(starts[0]) : int(ends[0])]
        return np.asarray(self.extents(shape.input[0], *axes))

    def shape(self, name: str) -> list[int]:
        """The shape of a tensor of known rank; -1 where an extent is free."""
        shape = self.graph.get_shape(name)
        if shape is None:
            raise ValueError(f"{self.node.type} needs to know the rank of `{name}`")
        return list(shape)

    def extents(self, name: str, *axes: int) -> list[int]:
        """Extents that must be known."""
        shape = self.shape(name)
        found = [shape[axis] for axis in axes]
        if min(found) < 0:
            raise ValueError(f"{self.node.type} needs fixed extents. Received: shape {shape}")
        return found

    def unsqueeze(self, x: str, *axes: int) -> str:
        return str(self.Unsqueeze(x, list(axes)))

    def sum(self, x: str, axis: int, keepdims: int = 0) -> str:
        return str(self.ReduceSum(x, [axis], keepdims=keepdims))

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        return str(self.Slice(x, [start], [stop], [axis]))

    def finish(self, results: list[str]) -> None:
        """Give the results the names that the TensorFlow node's had."""
        from tf2onnx import utils

        outputs = list(self.node.output)
        shapes = [self.graph.get_shape(name) for name in results]
        kept = [self._shape_to_keep(name) for name in outputs]
        dtypes = [self.graph.get_dtype(name) for name in results]
        self.graph.remove_node(self.node.name)
        for index, (result, output) in enumerate(zip(results, outputs, strict=False)):
            known = kept[index] if kept[index] is not None else shapes[index]
            self.graph.make_node(
                "Identity",
                [result],
                name=self.node.name if index == 0 else utils.make_name(self.node.name),
                outputs=[output],
                shapes=[known],
                dtypes=[dtypes[index]],
            )

    def _shape_to_keep(self, output: str) -> Any:
        """What TensorFlow knew of a result; complex numbers have one axis more here."""
        complex_numbers = self.graph.get_dtype(output) in COMPLEX
        return None if complex_numbers else self.graph.get_shape(output)


def converts(*operations: str) -> Callable[[Handler], Handler]:
    """Make a function of a Formula and input names the handler of TensorFlow operations."""

    def register(handler: Handler) -> Handler:
        def run(graph: Any, node: Any, name: str, args: Any) -> None:
            formula = Formula(graph, node)
            results = handler(formula, *node.input)
            formula.finish(results if isinstance(results, list) else [results])

        for operation in operations:
            HANDLERS[operation] = (run, [])
        return handler

    return register
