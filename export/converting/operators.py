"""Operators: one operation of TensorFlow's that stands for an operator of ONNX.

It is traced and never run: `handlers/operators.py` writes down what it stands for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

TOKEN = "ONNX "
"""What the token of such an operation begins with."""


def operator(
    name: str,
    inputs: Sequence[Any],
    shapes: Sequence[tuple[int | None, ...]],
    attributes: Mapping[str, Any],
) -> list[Any]:
    """The results of an ONNX operator.

    Args:
        name: The operator.
        inputs: Tensors; None where an input is left out.
        shapes: Of the results, whose dtype is that of the first input.
        attributes: Of the operator; empty lists are left out.
    """
    content = {
        "operator": name,
        "given": [tensor is not None for tensor in inputs],
        "attributes": {key: value for key, value in attributes.items() if value != []},
    }
    given = [tensor for tensor in inputs if tensor is not None]
    with tf.name_scope(name):
        results = tf.raw_ops.PyFuncStateless(
            input=given, token=TOKEN + json.dumps(content), Tout=len(shapes) * [given[0].dtype]
        )
    return [tf.ensure_shape(y, shape) for y, shape in zip(results, shapes, strict=True)]
