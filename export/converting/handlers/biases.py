"""Biases along the second axis that are no constants, which tf2onnx adds along the last one.

Keras adds a vector so that is as long as there are channels, the only row of a batch among them.
"""

from __future__ import annotations

from typing import Any

from .formula import HANDLERS, Formula


def _biased(graph: Any, node: Any, name: str, args: Any) -> None:
    from tf2onnx.onnx_opset.nn import BiasAdd

    formula, (x, bias) = Formula(graph, node), node.input
    if formula.attribute("data_format") == "NCHW" and not node.inputs[1].is_const():
        behind = range(1, len(formula.shape(x)) - 1)
        graph.replace_input(node, bias, formula.unsqueeze(bias, *behind), 1)
    BiasAdd.version_7(graph, node)


HANDLERS["BiasAdd"] = (_biased, [])
