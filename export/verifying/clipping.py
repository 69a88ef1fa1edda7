"""Clipping: what lies beyond the ranges that were measured for a static int8 file.

Numbers beyond a range are set to its end, which is no rounding, and no fault of the file either:
the data are unlike those that it was calibrated on. Two copies of the file tell how far that moves
the outputs. Both have its weights and round nothing else; one of them clips, the other does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files.runtime import LoadedFile, RefusedError
from ..formats import Ends
from ..graphs.graph import layer_of
from ..precisions.int8 import PRODUCTS
from ..programs.program import Arrays, Program
from ..programs.rounding import distance
from .inner import InnerValues

if TYPE_CHECKING:
    import onnx

INTEGER = {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm"}
NUMBERS = "QuantizeLinear"
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class MeasuredRange:
    """What a file holds of the numbers that it rounds in one place.

    Attributes:
        name: Of the value that is rounded.
        steps: Of the value that it becomes.
        bottom, top: The ends.
        readers: Names of the nodes that read it.
    """

    name: str
    steps: str
    bottom: np.ndarray
    top: np.ndarray
    readers: tuple[str, ...]


class Clipping:
    """How far the ends of the ranges of a file move what it gives.

    Args:
        file: A file whose ranges were measured.
        program: What it was made from.
    """

    def __init__(self, file: Path | bytes, program: Program) -> None:
        proto = _loaded(file)
        self._pair: tuple[LoadedFile, LoadedFile] | None = None
        found = list(measured_ranges(proto))
        if not found or any(node.op_type.startswith("QLinear") for node in proto.graph.node):
            return  # products that take nothing but integers
        copies = (_without_steps(proto, found, clips) for clips in (True, False))
        try:
            first, second = (LoadedFile(copy, program, optimized=False) for copy in copies)
        # protobuf writes no more than 2 GB, and other exporters' files may be of any kind
        except (RefusedError, ValueError):
            return
        self._pair = first, second

    def of(self, arrays: Arrays) -> Arrays | None:
        """By how much each number of the outputs is moved; None where that cannot be told."""
        if self._pair is None:
            return None
        try:
            clipped, whole = (copy.run(arrays) for copy in self._pair)
        except RefusedError:
            return None
        return [distance(*each) for each in zip(clipped, whole, strict=True)]


def furthest(file: Path, program: Program, arrays: Arrays) -> str:
    """Where these data go furthest beyond a range of the file, in proportion to it."""
    inner = InnerValues(file, program, arrays)
    excess, text = 0.0, ""
    for one in measured_ranges(_loaded(file)):
        values = inner.values.get(one.name)
        if values is None or not values.size:
            continue
        least, most = float(np.min(values)), float(np.max(values))
        bottom, top = float(np.min(one.bottom)), float(np.max(one.top))
        own = max(bottom - least, most - top) / max(top - bottom, SMALLEST)
        if own > excess:
            layers = (layer_of(reader, program.layer_names()) for reader in one.readers)
            layer = next(filter(None, layers), None)
            where = f"layer `{layer}`" if layer else f"`{one.name}`"
            excess = own
            text = f"{where} is given {least:.3g} to {most:.3g}, measured were "
            text += f"{bottom:.3g} to {top:.3g}"
    return text


def ranges_of_layers(
    file: Path | bytes, names: Sequence[str]
) -> dict[str, tuple[Ends, ...]] | None:
    """The layers that multiply integers, with the ranges of their numbers that were measured.

    None where a product cannot be told to be a layer's.
    """
    proto = _loaded(file)
    found: dict[str, tuple[Ends, ...]] = {}
    for one in measured_ranges(proto):
        for layer in filter(None, {layer_of(reader, names) for reader in one.readers}):
            found[layer] = (*found.get(layer, ()), (float(one.bottom), float(one.top)))
    stored = {node.output[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    for node in proto.graph.node:
        if node.op_type in INTEGER or (node.op_type in PRODUCTS and stored & set(node.input)):
            owner = layer_of(node.name, names)
            if owner is None:
                return None
            found.setdefault(owner, ())
    return found


def measured_ranges(proto: onnx.ModelProto) -> Iterator[MeasuredRange]:
    """The ranges of what a file computes, and rounds to 8 bits."""
    import onnx

    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in proto.graph.node:
        known = all(name in constants for name in node.input[1:])
        if node.op_type != NUMBERS or not known or node.input[0] in constants:
            continue
        scale, *zero = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[1:])
        start = zero[0] if zero else np.zeros(scale.shape, np.uint8)
        back = readers.get(node.output[0], [])
        if start.dtype.kind not in "iu" or scale.size != 1:
            continue
        limits = np.iinfo(start.dtype)
        bottom, top = (
            np.asarray((limit - start.astype(np.int64)) * scale, scale.dtype).reshape(())
            for limit in (limits.min, limits.max)
        )
        names = tuple(n.name for one in back for n in readers.get(one.output[0], []))
        yield MeasuredRange(node.input[0], node.output[0], bottom, top, names)


def _without_steps(proto: onnx.ModelProto, ranges: list[MeasuredRange], clips: bool) -> bytes:
    """The file without the rounding of what it computes, clipped to its ranges or not."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    by_steps = {one.steps: one for one in ranges}
    for node in copy.graph.node:
        own = by_steps.get(node.output[0]) if node.op_type == NUMBERS else None
        if own is None and not (node.op_type == "DequantizeLinear" and node.input[0] in by_steps):
            continue
        given = [node.input[0]]
        if own is not None and clips:
            ends = (f"{own.steps}__bottom", own.bottom), (f"{own.steps}__top", own.top)
            copy.graph.initializer.extend(
                onnx.numpy_helper.from_array(end, name) for name, end in ends
            )
            given += [name for name, _ in ends]
        node.op_type = "Clip" if len(given) > 1 else "Identity"
        del node.input[:], node.attribute[:]
        node.input.extend(given)
    kept = [info for info in copy.graph.value_info if info.name not in by_steps]
    del copy.graph.value_info[:]
    copy.graph.value_info.extend(kept)
    return copy.SerializeToString()


def _loaded(file: Path | bytes) -> onnx.ModelProto:
    import onnx

    return onnx.load_from_string(file) if isinstance(file, bytes) else onnx.load(file)
