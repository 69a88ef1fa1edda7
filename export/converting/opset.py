"""ONNX operator sets: tf2onnx writes up to 18, later ones are converted from that.

Where none is asked for, it is 18, or the first later one that has all operators of the model: those
of texts came with 20. The numbers go as far as onnxruntime runs files. Beyond the last set that
onnxscript converts to, a file is relabelled if none of its operators has changed.
"""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING

from ..errors import ConversionError, OptionError, reason, shown

if TYPE_CHECKING:
    import onnx_ir as ir

MINIMUM_OPSET, MAXIMUM_OPSET, DEFAULT_OPSET = 13, 26, 18
LAST_OF_TF2ONNX, LAST_OF_ONNXSCRIPT = 18, 25


def check_opset(opset: int | None) -> int | None:
    """The opset as Python's integer, or None if it is left to the model.

    Raises:
        OptionError: It cannot be written.
    """
    if opset is None:
        return None
    if isinstance(opset, bool) or not isinstance(opset, Integral):
        raise OptionError(
            f"`opset` must be an integer. Received: opset={shown(opset)}. It can be in "
            f"{MINIMUM_OPSET}..{MAXIMUM_OPSET}; without it, it is {DEFAULT_OPSET}, or later where "
            "the model needs that."
        )
    if not MINIMUM_OPSET <= opset <= MAXIMUM_OPSET:
        raise OptionError(
            f"`opset` must be in {MINIMUM_OPSET}..{MAXIMUM_OPSET}. Received: opset={shown(opset)}. "
            f"Without it, it is {DEFAULT_OPSET}, or later where the model needs that."
        )
    return int(opset)


def raise_opset(model: ir.Model, opset: int) -> None:
    """Bring a model that tf2onnx wrote to a later operator set, in place.

    Raises:
        ConversionError: An operator has no form there.
    """
    import onnx.helper

    if opset <= max(LAST_OF_TF2ONNX, model.opset_imports[""]):
        return
    _convert(model, min(opset, LAST_OF_ONNXSCRIPT))
    if opset > LAST_OF_ONNXSCRIPT:
        _relabel(model, opset)
    imports = [onnx.helper.make_opsetid(*pair) for pair in model.opset_imports.items()]
    model.ir_version = onnx.helper.find_min_ir_version_for(imports)


def raise_to_operators(model: ir.Model) -> None:
    """Bring a model to the first operator set that has all its operators, in place.

    Those of texts are newer than what tf2onnx writes, and tools that load the file refuse them.
    """
    import onnx.defs

    kinds = {node.op_type for node in model.graph.all_nodes() if not node.domain}
    now = model.opset_imports[""]
    first = min(
        opset
        for opset in range(now, MAXIMUM_OPSET + 1)
        if all(onnx.defs.has(kind, opset) for kind in kinds)
    )
    raise_opset(model, first)


def _convert(model: ir.Model, opset: int) -> None:
    from onnxscript import version_converter

    try:
        version_converter.convert_version(model, opset, fallback=False)
    # onnxscript's adapters raise whatever they run into.
    except Exception as error:
        raise ConversionError(f"opset {opset} cannot be written: {reason(error)}") from error
    if model.opset_imports[""] != opset:
        raise ConversionError(
            f"opset {opset} cannot be written: an operator of this model cannot be brought there. "
            f"Pass opset={LAST_OF_TF2ONNX}."
        )


def _relabel(model: ir.Model, opset: int) -> None:
    import onnx.defs

    for kind in sorted({node.op_type for node in model.graph.all_nodes() if not node.domain}):
        now, then = (
            onnx.defs.get_schema(kind, version).since_version
            for version in (LAST_OF_ONNXSCRIPT, opset)
        )
        if now != then:
            raise ConversionError(
                f"opset {opset} cannot be written: {kind} changed in opset {then}. "
                f"Pass opset={LAST_OF_ONNXSCRIPT}."
            )
    model.opset_imports[""] = opset
