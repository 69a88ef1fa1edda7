"""Guards: what onnxruntime's optimizer gets wrong, written so that it leaves it alone.

1. Padding with zeros in front of a MaxPool is taken into the MaxPool, whose own padding is −∞:
   wrong wherever a whole window is negative but for the zeros. It is not taken if the padding is
   not zero. So it is the number next to zero, 1.4e-45 in float32. Behind a ReLU and its like, where
   every window has a number that is at least zero, it is no mistake, and is done here: a node less
   for every runtime.
2. A Transpose that takes the first axis to one of the last two places, read through a Cast by a
   MatMul whose other operand is not read through one, ends the process as the file is loaded. In
   float16 onnxruntime casts operands itself, but for constants and what it has computed in float32.
   So a Cast comes in front of the Transpose; in float16 the first axis stays where it is, and is
   exchanged behind the MatMul, where the other operand is a constant, and else there is one more
   axis in front.
3. A sum, mean or maximum over axes that are counted from the end has a wrong shape on an empty
   batch. Over axes that are counted from the front it has the right one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .onnx_values import constant, shapes_read

if TYPE_CHECKING:
    import onnx_ir as ir

AT_LEAST_ZERO = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Abs", "Exp", "Sqrt"}


def guard(model: ir.Model, half: bool = False) -> None:
    """Change what onnxruntime would change wrongly, in place.

    Args:
        model: The model.
        half: Whether it is to be written in float16.
    """
    for node, shape in shapes_read(model, _pads_maxima_with_zeros):
        if not _is_at_least_zero(node.inputs[0]) or not _is_in_every_window(node, shape):
            _pad_with_next_to_zero(node)
        elif all(map(_is_maximum, node.outputs[0].consumers())):
            _take_into_maxima(node)
    for node in list(model.graph.all_nodes()):
        if node.op_type == "MatMul":
            for side in (0, 1):
                _keep_from_turning(node, side, half)
    _count_from_the_front(model)


def _pads_maxima_with_zeros(node: ir.Node) -> bool:
    if node.op_type != "Pad":
        return False
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return False
    given = node.inputs[2] if len(node.inputs) > 2 else None
    constant = None if given is None else given.const_value
    zero = given is None or (constant is not None and not constant.numpy().any())
    return zero and any(reader.op_type == "MaxPool" for reader in _readers(node))


def _readers(node: ir.Node) -> Iterator[ir.Node]:
    """What reads a result, or what onnxruntime lets read it by moving Transposes out of the way."""
    for reader in node.outputs[0].consumers():
        yield reader
        if reader.op_type == "Transpose":
            yield from _readers(reader)


def _is_at_least_zero(value: ir.Value | None) -> bool:
    """Whether the numbers are so by what computes them."""
    node = None if value is None else value.producer()
    if node is None:
        return False
    if node.op_type == "Clip":
        least = node.inputs[1] if len(node.inputs) > 1 else None
        known = None if least is None else least.const_value
        return known is not None and bool(known.numpy() >= 0)
    passes = node.op_type == "Transpose" and _is_at_least_zero(node.inputs[0])
    return node.op_type in AT_LEAST_ZERO or passes


def _is_in_every_window(node: ir.Node, shape: ir.Shape | None) -> bool:
    """Whether every window that reads a padded array has a number of the array itself."""
    pads = _pads(node)
    if shape is None or pads is None or len(node.inputs) > 3:
        return False
    before, after = pads
    for use in node.outputs[0].uses():
        pool = use.node.attributes
        extents = (1, 1, *pool.get_ints("kernel_shape", ()))
        own = any(pool.get_ints("pads", ())) or pool.get_string("auto_pad", "NOTSET") != "NOTSET"
        stretched = any(step > 1 for step in pool.get_ints("dilations", ()))
        if len(extents) != len(shape) or own or stretched or pool.get_int("ceil_mode", 0) == 1:
            return False
        for extent, size, first, last in zip(extents, shape, before, after, strict=True):
            # A window that is longer than both borders has an image in it, however small that is.
            known = (isinstance(size, int) and size > 0) or first + last < extent
            if (first or last) and not (known and 0 <= first < extent and 0 <= last < extent):
                return False
    return True


def _pads(node: ir.Node) -> np.ndarray | None:
    """Zeros in front of each axis, and behind it; None if how many is computed."""
    given = None if node.inputs[1] is None else node.inputs[1].const_value
    return None if given is None else given.numpy().reshape(2, -1)


def _is_maximum(node: ir.Node) -> bool:
    """Whether this is a MaxPool of which nobody asks where its numbers stood."""
    places = node.outputs[1:]
    unread = not any(place.uses() or place.is_graph_output() for place in places)
    return node.op_type == "MaxPool" and unread


def _take_into_maxima(node: ir.Node) -> None:
    """Let every MaxPool that reads what is padded pad it itself."""
    import onnx_ir as ir

    pads = _pads(node)
    assert pads is not None  # `_is_in_every_window` has seen them
    assert node.graph is not None  # `model.graph` gave it
    for pool in list(node.outputs[0].consumers()):
        pool.attributes["pads"] = ir.AttrInt64s("pads", pads[:, 2:].ravel().tolist())
        pool.replace_input_with(0, node.inputs[0])
    if not node.outputs[0].is_graph_output():
        node.graph.remove(node, safe=True)


def _pad_with_next_to_zero(node: ir.Node) -> None:
    dtype = _dtype_of(node.inputs[0])
    if dtype is None or not dtype.is_floating_point() or node.graph is None:
        return
    number = np.nextafter(np.zeros((), dtype.numpy()), np.ones((), dtype.numpy()))
    node.resize_inputs(max(3, len(node.inputs)))
    padding = constant(node.graph, f"{node.outputs[0].name}__padding", number)
    node.replace_input_with(2, padding)


@dataclass(frozen=True)
class _Turned:
    """What reaches a product through Transpose and Cast nodes.

    Attributes:
        source: What goes in.
        perm: All Transposes as one.
        dtypes: What it is cast to, one after the other.
    """

    source: ir.Value
    perm: list[int]
    dtypes: list[int]

    @classmethod
    def at(cls, node: ir.Node, side: int) -> _Turned | None:
        """None if there is no Transpose."""
        value, perm, dtypes = node.inputs[side], list[int](), list[int]()
        while value is not None:
            before = value.producer()
            if before is None or before.graph is not node.graph:
                break
            if before.op_type == "Cast":
                dtypes.insert(0, before.attributes["to"].as_int())
            elif before.op_type == "Transpose" and "perm" in before.attributes:
                inner = list(before.attributes["perm"].as_ints())
                perm = [inner[axis] for axis in perm or range(len(inner))]
            else:
                break
            value = before.inputs[0]
        return cls(value, perm, dtypes) if value is not None and perm else None

    @property
    def starts_late(self) -> bool:
        """Whether the first axis comes to one of the last two places, and the others keep order."""
        others = [axis for axis in self.perm if axis]
        return (
            len(self.perm) > 2
            and others == sorted(others)
            and self.perm.index(0) >= len(others) - 1
        )


def _keep_from_turning(node: ir.Node, side: int, half: bool) -> None:
    import onnx_ir as ir

    turned, other = _Turned.at(node, side), node.inputs[1 - side]
    if turned is None or not turned.starts_late or other is None:
        return
    rank = None if other.const_value is None else len(other.const_value.shape)
    short = half or _dtype_of(other) == ir.DataType.FLOAT16
    # TensorFlow multiplies no vectors.
    if short and rank is not None and 1 < rank < len(turned.perm):
        _exchange_behind(node, side, turned)
    elif short and rank is None:
        _multiply_below(node, side)
    elif turned.dtypes:
        _read(node, side, turned, turned.perm)


def _multiply_below(node: ir.Node, side: int) -> None:
    """Let a product read an operand with one more axis in front, which goes behind it."""
    import onnx_ir as ir

    assert node.graph is not None  # `model.graph` gave it
    y, other = node.outputs[0], node.inputs[1 - side]
    source = None if other is None else other.producer()
    is_below = source is not None and source.name == f"{node.name}/Unsqueeze__{1 - side}"
    front = constant(node.graph, f"{y.name}__front", np.array([0]))
    wider = ir.node("Unsqueeze", [node.inputs[side], front], name=f"{node.name}/Unsqueeze__{side}")
    wider.outputs[0].name = f"{wider.name}:0"
    node.graph.insert_before(node, wider)
    node.replace_input_with(side, wider.outputs[0])
    if is_below:  # the other operand has that axis already
        return
    later = ir.node("Squeeze", [y, front], name=f"{node.name}/Squeeze__{side}")
    _take_place(later, y, f"{y.name}__before_{side}")
    node.graph.insert_after(node, later)


def _take_place(later: ir.Node, y: ir.Value, name: str) -> None:
    """Let everything read what is computed from a value, whose name it gets."""
    result = later.outputs[0]
    result.name, result.type, result.shape = y.name, y.type, y.shape
    y.replace_all_uses_with(result, replace_graph_outputs=True)
    later.replace_input_with(0, y)
    y.name, y.shape = name, None


def _exchange_behind(node: ir.Node, side: int, turned: _Turned) -> None:
    """Let the first axis and the operand's own of the last two change places behind the product."""
    import onnx_ir as ir

    own = len(turned.perm) - 2 + side
    _read(node, side, turned, _exchanged(turned.perm, own))
    perm = _exchanged(range(len(turned.perm)), own)
    y = node.outputs[0]
    later = ir.node("Transpose", [y], {"perm": perm}, name=f"{node.name}/Transpose")
    _take_place(later, y, f"{y.name}__before")
    assert node.graph is not None  # `model.graph` gave it
    node.graph.insert_after(node, later)


def _exchanged(axes: Iterable[int], own: int) -> list[int]:
    found = list(axes)
    found[0], found[own] = found[own], found[0]
    return found


def _read(node: ir.Node, side: int, turned: _Turned, perm: list[int]) -> None:
    """Let a product read what is turned so, with the Casts in front."""
    import onnx_ir as ir

    assert node.graph is not None  # `model.graph` gave it
    before, value = node.inputs[side], turned.source
    steps: list[tuple[str, dict[str, Any]]] = [("Cast", {"to": dtype}) for dtype in turned.dtypes]
    steps += [("Transpose", {"perm": perm})] * (perm != sorted(perm))
    for number, (kind, attributes) in enumerate(steps):
        name = f"{node.name}/{kind}__{side}_{number}"
        step = ir.node(kind, [value], attributes, name=name)
        value = step.outputs[0]
        value.name = f"{name}:0"
        node.graph.insert_before(node, step)
    node.replace_input_with(side, value)
    while before is not None and not before.uses() and not before.is_graph_output():
        unread = before.producer()
        if unread is None or before is turned.source:
            break
        before = unread.inputs[0]
        node.graph.remove(unread, safe=True)


def _count_from_the_front(model: ir.Model) -> None:
    """Write the axes of reductions as numbers that are not negative."""
    for node, shape in shapes_read(model, lambda node: _last_axes(node) is not None):
        if shape is not None:
            _set_axes(node, len(shape))


def _last_axes(node: ir.Node) -> np.ndarray | None:
    """The axes of a reduction, if some of them are counted from the end."""
    if not node.op_type.startswith("Reduce"):
        return None
    given = node.inputs[1] if len(node.inputs) > 1 else None
    constant = None if given is None else given.const_value
    axes = node.attributes.get_ints("axes", ()) if constant is None else constant.numpy()
    return np.array(axes) if np.any(np.array(axes) < 0) else None


def _set_axes(node: ir.Node, rank: int) -> None:
    import onnx_ir as ir

    axes = _last_axes(node)
    if axes is None or node.graph is None:
        return
    counted = np.where(axes < 0, axes + rank, axes).astype(np.int64)
    if "axes" in node.attributes:
        node.attributes["axes"] = ir.AttrInt64s("axes", counted.tolist())
        return
    node.replace_input_with(1, constant(node.graph, f"{node.outputs[0].name}__axes", counted))


def _dtype_of(value: ir.Value | None) -> ir.DataType | None:
    """The dtype of a value: its own, or that of the data it was computed from."""
    import onnx_ir as ir

    while value is not None and value.dtype is None:
        node = value.producer()
        if node is None:
            return None
        if node.op_type == "Cast":
            return ir.DataType(node.attributes["to"].as_int())
        value = node.inputs[1 if node.op_type == "Where" else 0]
    return None if value is None else value.dtype
