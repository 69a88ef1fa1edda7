"""Overflow: what float16 does not hold.

onnxruntime has no arithmetic in float16 on a CPU: it computes in float32, and what is beyond 65504
is not infinite there, as it is on other devices. So every float16 number of a file is looked at,
beside the same number of the float32 file that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConversionError
from ..files.runtime import open_session
from ..formats import FORMATS
from ..graphs.graph import layer_of

if TYPE_CHECKING:
    import onnx

    from ..programs.program import Arrays

LARGEST = FORMATS["float16"].largest
SIGNS = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
MOST_BYTES = 2**31 - 2**20
"""Of a file that is handed to onnxruntime as a whole."""


@dataclass(frozen=True)
class Halves:
    """A file in float16, and the float32 one that it was made from; inputs are input_0, ..."""

    narrow: onnx.ModelProto
    wide: onnx.ModelProto

    @property
    def too_large(self) -> bool:
        """Whether they are too large to be looked at."""
        return bool(self.wide.ByteSize() > MOST_BYTES)

    def refuse_overflow(
        self, batches: Sequence[Arrays], inputs: Sequence[str], layers: Sequence[str]
    ) -> None:
        """Raise ConversionError if an input or a result is finite, but not in float16.

        Args:
            batches: What the files are given.
            inputs: Names of the inputs.
            layers: Names of the layers.
        """
        wide = {name for node in self.wide.graph.node for name in node.output if name}
        wide -= self._signs()
        values = [(y, n.name) for n in self.narrow.graph.node for y in n.output if y in wide]
        names = [name for name, _ in values]
        rounded = [i for i in range(len(inputs)) if self._is_rounded(f"input_{i}")]
        sessions = [_showing(proto, names) for proto in (self.wide, self.narrow)]
        for arrays in batches:
            for i in rounded:
                _check(arrays[i], arrays[i], f"Input `{inputs[i]}` holds", None)
            given = {f"input_{i}": array for i, array in enumerate(arrays)}
            results = (session.run(names, given) for session in sessions)
            for (_, node), right, found in zip(values, *results, strict=True):
                if isinstance(found, np.ndarray) and found.dtype == np.float16:
                    layer = layer_of(node, layers)
                    where = f"Layer `{layer}`" if layer else f"Node `{node}`"
                    _check(right, found, f"{where} gives", layer)

    def _signs(self) -> set[str]:
        """What is only compared with zero, and may as well be infinite."""
        graph = self.narrow.graph
        zeros = {tensor.name for tensor in graph.initializer if _is_zero(tensor)}
        compared: set[str] = set()
        others = {end.name for end in graph.output}
        for node in graph.node:
            asks = node.op_type in SIGNS and node.input[1] in zeros
            (compared if asks else others).update(node.input)
        return compared - others

    def _is_rounded(self, name: str) -> bool:
        """Whether an input is read in float16."""
        from onnx import TensorProto

        readers = [node for node in self.narrow.graph.node if name in node.input]
        half = TensorProto.FLOAT16
        return any(node.op_type == "Cast" and node.attribute[0].i == half for node in readers)


def _is_zero(tensor: onnx.TensorProto) -> bool:
    from onnx import numpy_helper

    return not tensor.dims and not numpy_helper.to_array(tensor).any()


def _showing(proto: onnx.ModelProto, names: Sequence[str]) -> Any:
    """A session that gives these values, too."""
    from onnx import ModelProto, helper

    shown = ModelProto()
    shown.CopyFrom(proto)
    ends = {value.name for value in shown.graph.output}
    for name in names:
        if name not in ends:
            shown.graph.output.append(helper.make_empty_tensor_value_info(name))
    return open_session(shown.SerializeToString(), False)


def _check(right: np.ndarray, found: np.ndarray, where: str, layer: str | None) -> None:
    with np.errstate(over="ignore"):
        lost = np.isfinite(right) & ~np.isfinite(found.astype(np.float16))
    if right.dtype.kind == "f" and lost.any():
        largest = float(np.max(np.abs(right), where=lost, initial=0.0))
        raise ConversionError(
            f"{where} numbers up to {largest:.3g}, and float16 holds none beyond {LARGEST:g}: on a "
            "device that computes in it they would be infinite. Scale them, or write the file "
            "with precision='bfloat16' or 'float32'.",
            layer,
        )
