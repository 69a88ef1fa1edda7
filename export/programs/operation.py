"""An operation of a traced function, run by itself.

TensorFlow copies what it knows of an operation out of C++ at every look. Here it is looked up once,
for an operation may run a thousand times: in loops, and once more for each draw of rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context, execute

LONG = {
    tf.float32: tf.float64,
    tf.float16: tf.float64,
    tf.bfloat16: tf.float64,
    tf.complex64: tf.complex128,
}
OF_BITS = {
    *("AsString", "Bitcast", "NextAfter", "StatelessRandomNormal", "StatelessRandomNormalV2"),
    *("StatelessRandomUniform", "StatelessRandomUniformV2", "StatelessTruncatedNormal"),
    "StatelessTruncatedNormalV2",
}
"""Operations to which a number in float64 is another one, or which draw others."""
UNFIT = (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnimplementedError)
"""What TensorFlow says of an operation that has no float64 form."""


class Operation:
    """What is known of an operation, whatever it is given.

    Attributes:
        kind: What TensorFlow calls it.
        name: Its name, in the scope of its layer.
        dtypes: Those of its inputs as it was traced.
        kept: Per input, whether the operation knows one dtype only.
        has_float64: Whether it may have a form in float64, as far as is known.
    """

    def __init__(self, traced: Any) -> None:
        self.kind: str = traced.type
        self.name: str = traced.name
        self.dtypes = [tensor.dtype for tensor in traced.inputs]
        self._definition, self._node = traced.op_def, traced.node_def
        self._count = len(traced.outputs)
        self.kept = _kept(self._definition, self._node)
        self.has_float64 = self.kind not in OF_BITS

    @cached_property
    def constant(self) -> Any:
        """What it is if it is a constant, widened."""
        return widened(tf.constant(tf.make_ndarray(self._node.attr["value"].tensor)))

    def __call__(self, inputs: Sequence[Any], wide: bool) -> list[Any]:
        """The results of the operation.

        Args:
            inputs: Tensors.
            wide: Whether it computes in float64.
        """
        attributes = self._wide if wide else self._narrow
        run = execute.execute(self.kind, self._count, list(inputs), attributes, context.context())
        return list(run)

    @cached_property
    def _wide(self) -> tuple[Any, ...]:
        return self._attributes(wide=True)

    @cached_property
    def _narrow(self) -> tuple[Any, ...]:
        return self._attributes(wide=False)

    def _attributes(self, wide: bool) -> tuple[Any, ...]:
        attributes: list[Any] = []
        for attribute in self._definition.attr:
            attributes += attribute.name, _plain(self._node.attr[attribute.name], wide)
        return tuple(attributes)


def widened(tensor: Any) -> Any:
    """The same numbers, in float64 if they are shorter floats."""
    return tf.cast(tensor, LONG[tensor.dtype]) if tensor.dtype in LONG else tensor


def _kept(definition: Any, node: Any) -> list[bool]:
    kept: list[bool] = []
    for argument in definition.input_arg:
        count = 1
        if argument.number_attr:
            count = node.attr[argument.number_attr].i
        elif argument.type_list_attr:
            count = len(node.attr[argument.type_list_attr].list.type)
        kept += [bool(argument.type)] * count
    return kept


def _plain(value: Any, wide: bool) -> Any:
    """An attribute as TensorFlow takes it outside of graphs."""
    kind = value.WhichOneof("value")
    if kind == "list":
        parts = next((part for _, part in value.list.ListFields()), ())
        if value.list.type:
            return [_dtype(part, wide) for part in parts]
        if value.list.shape:
            return [execute.make_shape(part, "shape") for part in parts]
        return list(parts)
    if kind == "type":
        return _dtype(value.type, wide)
    if kind == "shape":
        return execute.make_shape(value.shape, "shape")
    if kind == "func":
        raise ValueError("an operation that calls a function by a way of its own")
    return getattr(value, kind)


def _dtype(number: int, wide: bool) -> int:
    dtype = tf.as_dtype(number)
    return LONG.get(dtype, dtype).as_datatype_enum if wide else number
