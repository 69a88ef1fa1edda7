"""Canonical: what tf2onnx and TensorFlow leave to chance is settled: equal models, equal bytes.

1. Nodes stand in any order that can be run. They are put in the one in which the outputs ask for
   them.
2. The inputs of And and Or are turned round, now and then. They are sorted by name.
3. The entries of a lookup table come in any order. They are sorted by key.
4. Names have running numbers (`Add__17`) or addresses in memory. They are numbered anew, and a
   constant is named after the first node that reads it: `conv/Conv.W` is the W of `conv/Conv`. So
   is a node that reads constants alone: `conv/Conv.W` widens the constant `conv/Conv.W.input`.
5. What comes from the branch of a condition or from a loop bears the name of a TensorFlow function,
   which has a number of its own in each process: `x_cond_true_25_x/cond/mul`. It is taken off. A
   graph inside a node is named after that node: `x/cond.then_branch`.
6. tf2onnx calls extents that it does not know `unk__17`, and onnxscript notes of what it has folded
   a constant. Neither is said.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..ports import unique

if TYPE_CHECKING:
    import onnx_ir as ir

RUNNING_NUMBER = re.compile(r"__\d+(?=(:\d+)?$|(_|:\d+)[A-Za-z_]+(:\d+)?$)")
"""At the end of a name, or before what the tools for other formats append to it."""
UNKNOWN = re.compile(r"unk__\d+$")
"""The name of an extent that tf2onnx knows nothing of."""
ENTRIES = ("int64s", "strings", "floats")
ROLE = r"(?:true|false|body|cond|branch\d+)(?:_\d+|_frozen)+"
"""What a function is in its condition or loop, and its number."""
FUNCTION = re.compile(f"(.*){ROLE}")
LOOP_CONDITION = "cond___"
"""What tf2onnx writes before the nodes that say inside a loop whether it goes on."""

Base = Callable[["str | None"], str]
"""Takes off a name what is left to chance."""


def settle(model: ir.Model) -> None:
    """Settle names and orders, in place."""
    base = _base(_graphs(model))
    for node in model.graph.all_nodes():
        if node.op_type in ("And", "Or"):
            _sort_inputs(node, base)
        if node.op_type == "LabelEncoder":
            _sort_table(node)
    for graph in _graphs(model):
        _order_nodes(graph)
    graphs = _graphs(model)
    _name(model, graphs, base)
    for graph in graphs:
        for value in _values(graph):
            value.metadata_props.clear()
            _forget_unknown(value)
        constants = sorted(graph.initializers.items())
        graph.initializers.clear()
        graph.initializers.update(constants)


def _graphs(model: ir.Model) -> list[ir.Graph]:
    """The graph, and those inside its nodes."""
    return [model.graph, *model.graph.subgraphs()]


def _values(graph: ir.Graph) -> list[ir.Value]:
    """Those that belong to a graph, but not to one inside it."""
    made = [value for node in graph for value in node.outputs]
    return [*graph.inputs, *graph.outputs, *graph.initializers.values(), *made]


def _forget_unknown(value: ir.Value) -> None:
    import onnx_ir as ir

    shape = value.shape
    unknown = [isinstance(n, ir.SymbolicDim) and UNKNOWN.match(str(n)) for n in shape or ()]
    if shape is not None and any(unknown):
        value.shape = ir.Shape(None if un else n for n, un in zip(shape, unknown, strict=True))


def _sort_inputs(node: ir.Node, base: Base) -> None:
    def name(value: ir.Value | None) -> str:
        return "" if value is None or value.is_initializer() else base(value.name)

    inputs = sorted(node.inputs, key=name)
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)


def _sort_table(node: ir.Node) -> None:
    import onnx_ir as ir

    lists = {
        name: node.attributes[name]
        for side in ("keys", "values")
        for name in (f"{side}_{kind}" for kind in ENTRIES)
        if name in node.attributes
    }
    if [name.partition("_")[0] for name in lists] != ["keys", "values"]:
        return  # written in another way
    pairs = sorted(zip(*(attribute.value for attribute in lists.values()), strict=True))
    for (name, attribute), column in zip(lists.items(), zip(*pairs, strict=True), strict=True):
        node.attributes[name] = ir.Attr(name, attribute.type, list(column))


def _order_nodes(graph: ir.Graph) -> None:
    """Each node behind those it reads, in the order of its inputs."""
    ordered: dict[ir.Node, None] = {}
    todo = [*reversed(list(graph)), *(value.producer() for value in reversed(graph.outputs))]
    entered: set[ir.Node] = set()
    while todo:
        node = todo[-1]
        if node is None or node.graph is not graph or node in entered:
            todo.pop()
            if node in entered and node is not None:
                ordered.setdefault(node)
            continue
        entered.add(node)
        todo += [value.producer() for value in reversed(_read_by(node)) if value is not None]
    graph.remove(list(ordered))
    graph.extend(ordered)


def _read_by(node: ir.Node) -> list[ir.Value | None]:
    """The inputs of a node, and what the graphs inside it read from outside."""
    read = list(node.inputs)
    for _, graph in _inside(node):
        read += [value for inner in graph.all_nodes() for value in inner.inputs]
        read += list(graph.outputs)
    return read


def _inside(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    """The graphs inside a node, and names for them."""
    for name, attribute in node.attributes.items():
        if attribute.type.name == "GRAPH":
            yield f"{node.name}.{name}", attribute.as_graph()
        elif attribute.type.name == "GRAPHS":
            for index, graph in enumerate(attribute.as_graphs()):
                yield f"{node.name}.{name}.{index}", graph


def _name(model: ir.Model, graphs: Sequence[ir.Graph], base: Base) -> None:
    nodes = [node for graph in graphs for node in graph]
    version = model.opset_imports.get("", 0)
    prepared = _preparing(nodes)
    others = [node for node in nodes if node not in prepared]
    for node, name in zip(others, unique(base(node.name) for node in others), strict=True):
        node.name = name
        for place, graph in _inside(node):
            graph.name, graph.doc_string = place, None
    _name_preparing(prepared, nodes, version, base)
    ends = {*model.graph.inputs, *model.graph.outputs}
    inner = [value for graph in graphs[1:] for value in graph.inputs]
    inner += [value for node in nodes for value in node.outputs if value.name]
    inner += [value for graph in graphs[1:] for value in graph.outputs if value.is_initializer()]
    wanted = {value: base(value.name) for value in inner}
    made = ((node, n, y) for node in prepared for n, y in enumerate(node.outputs) if y.name)
    wanted |= {value: f"{node.name}:{n}" for node, n, value in made}
    read = _readers(nodes).items()
    wanted |= {x: _place(*reader, version) for x, reader in read if x.is_initializer()}
    wanted = {value: name for value, name in wanted.items() if value not in ends}
    taken = [str(end.name) for end in ends]
    names = unique([*taken, *wanted.values()])[len(taken) :]
    # In two steps, since one value may have the name that another is to get.
    for step in ([f"\0{name}" for name in names], names):
        for value, name in zip(wanted, step, strict=True):
            value.name = name


def _preparing(nodes: Sequence[ir.Node]) -> dict[ir.Node, None]:
    """The nodes that read constants alone, such as Casts that widen them."""
    found: dict[ir.Node, None] = {}
    for node in nodes:
        read = [value for value in node.inputs if value is not None]
        constant = all(value.is_initializer() or value.producer() in found for value in read)
        if read and constant and not any(_inside(node)):
            found[node] = None
    return found


def _name_preparing(
    prepared: dict[ir.Node, None], nodes: Sequence[ir.Node], version: int, base: Base
) -> None:
    """Name these nodes after the first that reads them, the last ones first."""
    readers = _readers(nodes)
    taken = {node.name for node in nodes if node not in prepared}
    for node in reversed(prepared):
        reader = next((readers[value] for value in node.outputs if value in readers), None)
        wanted = base(node.name) if reader is None else _place(*reader, version)
        numbered = (f"{wanted}_{count}" for count in itertools.count(1))
        node.name = next(name for name in itertools.chain([wanted], numbered) if name not in taken)
        taken.add(node.name)


def _readers(nodes: Sequence[ir.Node]) -> dict[ir.Value, tuple[ir.Node, int]]:
    """The first node that reads each value, and at which place."""
    found: dict[ir.Value, tuple[ir.Node, int]] = {}
    for node in nodes:
        for index, value in enumerate(node.inputs):
            if value is not None:
                found.setdefault(value, (node, index))
    return found


def _place(node: ir.Node, index: int, version: int) -> str:
    """The name of what a node reads there, such as `conv/Conv.W`."""
    import onnx.defs

    known = not node.domain and onnx.defs.has(node.op_type, version)
    formal = onnx.defs.get_schema(node.op_type, version).inputs if known else ()
    return f"{node.name}.{formal[min(index, len(formal) - 1)].name if formal else index}"


def _base(graphs: Sequence[ir.Graph]) -> Base:
    """What takes running numbers and the functions of these graphs off a name."""
    functions = (FUNCTION.fullmatch(graph.name or "") for graph in graphs[1:])
    scopes = sorted({function[1] for function in functions if function})
    # The condition of a loop is a function of the same scope, but no graph: it is written out.
    begins = [f"{re.escape(scope)}{ROLE}_" for scope in scopes]
    begin = re.compile(f"^(?:{'|'.join([*begins, LOOP_CONDITION])})+")
    return lambda name: RUNNING_NUMBER.sub("", begin.sub("", name or ""))
