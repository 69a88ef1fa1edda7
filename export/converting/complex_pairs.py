"""Complex numbers as pairs of real ones, since ONNX has none.

What is linear is done to both parts, and products follow from (a + bi)(c + di) = (ac − bd) + (ad +
bc)i. Between `Complex` and `Real` only Fourier transforms are left, which `handlers/fourier.py`
writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.attr_value_pb2 import AttrValue

from ..errors import ConversionError

PARTS = {tf.complex64: tf.float32, tf.complex128: tf.float64}
NUMBERS = {kind.as_datatype_enum: part.as_datatype_enum for kind, part in PARTS.items()}
"""The same by TensorFlow's numbers of the types."""
TRANSFORMS = {
    *("FFT", "FFT2D", "FFT3D", "IFFT", "IFFT2D", "IFFT3D"),
    *("RFFT", "RFFT2D", "RFFT3D", "IRFFT", "IRFFT2D", "IRFFT3D"),
}
OF_BOTH_PARTS = {
    *("Add", "AddN", "AddV2", "BroadcastTo", "ConcatV2", "Cumsum", "EnsureShape", "ExpandDims"),
    *("Fill", "GatherNd", "GatherV2", "Identity", "IdentityN", "MatrixBandPart", "MatrixDiagV3"),
    *("MatrixDiagPartV3", "MatrixSetDiagV3", "Mean", "MirrorPad", "Neg", "Pack", "Pad", "PadV2"),
    *("Reshape", "ReverseV2", "Roll", "ScatterNd", "SelectV2", "Slice", "Split", "SplitV"),
    *("Squeeze", "StopGradient", "StridedSlice", "Sub", "Sum", "TensorScatterAdd"),
    *("TensorScatterUpdate", "Tile", "Transpose", "Unpack", "UnsortedSegmentSum", "ZerosLike"),
}
"""Operations whose results have as parts what they make of the parts."""
PRODUCTS = {"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul"}
"""Operations that multiply and add."""
OF_SHAPES = {"Rank", "Shape", "ShapeN", "Size"}
MOST_FACTORS = 8
"""Up to which whole number a power is a product."""


@dataclass(frozen=True)
class Pair:
    """A complex tensor.

    Attributes:
        real: Its real part.
        imaginary: Its imaginary part; None where it was made of a real tensor.
    """

    real: Any
    imaginary: Any = None

    @property
    def parts(self) -> tuple[Any, Any]:
        """Both parts as tensors."""
        return self.real, tf.zeros_like(self.real) if self.imaginary is None else self.imaginary


def is_complex(operation: Any) -> bool:
    """Whether an operation computes with complex numbers."""
    tensors = (*operation.inputs, *operation.outputs)
    return any(tensor.dtype in PARTS for tensor in tensors)


def of_pairs(operation: Any, inputs: Sequence[Any]) -> list[Any]:
    """What an operation on complex numbers gives, in the graph that is traced now.

    Args:
        operation: Of another graph.
        inputs: What it is given here, complex tensors as pairs.

    Raises:
        ConversionError: It has no such form.
    """
    kind = operation.type
    if kind in RULES:
        return [RULES[kind](*inputs)]
    if kind in OF_BOTH_PARTS:
        return _of_both(operation, inputs)
    if kind in OF_SHAPES:
        return _of_parts(operation, list(map(_real, inputs)))
    if kind in PRODUCTS:
        return [_product(operation, inputs)]
    if kind in TRANSFORMS:
        given = [tf.complex(*x.parts) if isinstance(x, Pair) else x for x in inputs]
        return list(map(_pair, copied(operation, given)))
    if kind == "Const":
        return [_pair_of(tf.make_ndarray(operation.get_attr("value")))]
    if kind == "ReadVariableOp":
        return [_pair_of(_value(operation, inputs[0]))]
    if kind == "Cast":
        return [_cast(inputs[0], operation.outputs[0].dtype)]
    raise ConversionError(
        f"ONNX has no form of the TensorFlow operation {kind} of complex numbers "
        f"({operation.name}). Compute with real and imaginary parts instead."
    )


def copied(operation: Any, inputs: Sequence[Any]) -> list[Any]:
    """The results of the same operation in the graph that is traced now."""
    attributes, dtypes = operation.node_def.attr, [y.dtype for y in operation.outputs]
    return _made(operation, inputs, dtypes, dict(attributes), operation.name)


def _of_parts(operation: Any, parts: Sequence[Any]) -> list[Any]:
    """The results of the same operation on real tensors."""
    attributes = {name: _of_part(value) for name, value in operation.node_def.attr.items()}
    dtypes = [PARTS.get(y.dtype, y.dtype) for y in operation.outputs]
    return _made(operation, parts, dtypes, attributes)


def _made(
    operation: Any,
    inputs: Sequence[Any],
    dtypes: Sequence[Any],
    attributes: dict[str, Any],
    name: str | None = None,
) -> list[Any]:
    graph = tf.compat.v1.get_default_graph()
    kind, form = operation.type, operation.op_def
    made = graph._create_op_internal(
        kind, list(inputs), dtypes, name=name, attrs=attributes, op_def=form
    )
    return list(made.outputs)


def _of_both(operation: Any, inputs: Sequence[Any]) -> list[Any]:
    real = _of_parts(operation, list(map(_real, inputs)))
    given = [x.imaginary for x in inputs if isinstance(x, Pair)]
    if operation.type != "Neg" and all(part is None for part in given):
        return list(map(Pair, real))
    parts = [x.parts[1] if isinstance(x, Pair) else x for x in inputs]
    return list(map(Pair, real, _of_parts(operation, parts)))


def _product(operation: Any, inputs: Sequence[Any]) -> Pair:
    def multiply(*parts: Any) -> Any:
        return _of_parts(operation, parts)[0]

    first, *others = (
        _conjugate(x) if operation.node_def.attr[f"adj_{letter}"].b else x
        for x, letter in zip(inputs, "xy", strict=False)
    )
    if others:
        return _multiplied(first, others[0], multiply)
    return Pair(*map(multiply, first.parts))  # an Einsum of one tensor


def _of_part(value: AttrValue) -> AttrValue:
    """An attribute of an operation, of one on the parts."""
    made = AttrValue()
    made.CopyFrom(value)
    if value.type in NUMBERS:
        made.type = NUMBERS[value.type]
    for i, number in enumerate(value.list.type):
        made.list.type[i] = NUMBERS.get(number, number)
    return made


def _real(x: Any) -> Any:
    return x.real if isinstance(x, Pair) else x


def _pair(z: Any) -> Any:
    return Pair(tf.math.real(z), tf.math.imag(z)) if z.dtype in PARTS else z


def _pair_of(array: np.ndarray) -> Pair:
    real, imaginary = np.real(array), np.imag(array)
    if np.any(imaginary) or np.any(np.signbit(imaginary)):
        return Pair(tf.constant(real), tf.constant(imaginary))
    return Pair(tf.constant(real))


def _value(operation: Any, resource: Any) -> np.ndarray:
    """The value of a variable; it is a constant of the file."""
    with tf.init_scope():
        value = tf.raw_ops.ReadVariableOp(resource=resource, dtype=operation.outputs[0].dtype)
        array: np.ndarray = value.numpy()
    return array


def _cast(x: Any, dtype: Any) -> Any:
    if dtype not in PARTS:
        return tf.cast(x.real, dtype)
    if not isinstance(x, Pair):
        return Pair(tf.cast(x, PARTS[dtype]))
    return Pair(
        *(None if part is None else tf.cast(part, PARTS[dtype]) for part in (x.real, x.imaginary))
    )


def _multiplied(a: Pair, b: Pair, multiply: Callable[[Any, Any], Any] = tf.multiply) -> Pair:
    real = multiply(a.real, b.real)
    if a.imaginary is None and b.imaginary is None:
        return Pair(real)
    if b.imaginary is None:
        return Pair(real, multiply(a.imaginary, b.real))
    if a.imaginary is None:
        return Pair(real, multiply(a.real, b.imaginary))
    return Pair(
        real - multiply(a.imaginary, b.imaginary),
        multiply(a.real, b.imaginary) + multiply(a.imaginary, b.real),
    )


def _conjugate(z: Pair) -> Pair:
    return Pair(z.real, -z.parts[1])


def _turned(z: Pair, order: Any) -> Pair:
    return Pair(*(tf.transpose(part, order) for part in z.parts))


def _divided(a: Pair, b: Pair) -> Pair:
    """By the larger part of b first, so that only the result overflows; NaN where b is zero."""
    size = tf.maximum(*map(tf.abs, b.parts))
    unit = Pair(*(None if part is None else part / size for part in (b.real, b.imaginary)))
    square = tf.add_n([tf.square(part) for part in unit.parts])
    product = _multiplied(a, _conjugate(unit))
    return Pair(*(part / square / size for part in product.parts))


def _inverse(z: Pair) -> Pair:
    return _divided(Pair(tf.ones_like(z.real)), z)


def _size(z: Pair) -> Any:
    """√(a² + b²) = a √(1 + (b / a)²), of which only the result overflows; of NaN and ∞, NaN."""
    if z.imaginary is None:
        return tf.abs(z.real)
    parts = [tf.abs(part) for part in z.parts]
    large, small = tf.maximum(*parts), tf.minimum(*parts)
    ratio = tf.where(large == small, tf.ones_like(large), small / large)
    return large * tf.sqrt(1 + ratio * ratio)


def _angle(z: Pair) -> Any:
    real, imaginary = z.parts
    return tf.atan2(imaginary, real)


def _exponential(z: Pair) -> Pair:
    size = tf.exp(z.real)
    if z.imaginary is None:
        return Pair(size)
    return Pair(size * tf.cos(z.imaginary), size * tf.sin(z.imaginary))


def _logarithm(z: Pair) -> Pair:
    return Pair(tf.math.log(_size(z)), _angle(z))


def _root(z: Pair) -> Pair:
    """The larger part first, then the other one from it, which loses no digits."""
    real, imaginary = z.parts
    large = tf.sqrt((tf.abs(real) + _size(z)) / 2)
    small = tf.math.divide_no_nan(tf.abs(imaginary), 2 * large)
    ahead = real >= 0
    sign = tf.where(imaginary < 0, -tf.ones_like(real), tf.ones_like(real))
    return Pair(tf.where(ahead, large, small), sign * tf.where(ahead, small, large))


def _power(z: Pair, exponent: Pair) -> Pair:
    known: Any = tf.get_static_value(exponent.real) if exponent.imaginary is None else None
    if np.ndim(known) == 0 and known in range(1, MOST_FACTORS + 1):
        return reduce(_multiplied, [z] * int(known))
    size, found = _size(z), _exponential(_multiplied(exponent, _logarithm(z)))
    # Zero has no logarithm, and its powers no angle, unless they are zero.
    at_zero = tf.pow(size, exponent.real)
    of_zero = at_zero, tf.where(at_zero == 0, at_zero, np.nan)
    parts = zip(of_zero, found.parts, strict=True)
    return Pair(*(tf.where(size == 0, other, part) for other, part in parts))


def _equal(a: Pair, b: Pair) -> Any:
    pairs = zip(a.parts, b.parts, strict=True)
    return tf.logical_and(*(tf.equal(one, other) for one, other in pairs))


RULES: dict[str, Callable[..., Any]] = {
    "Angle": _angle,
    "Complex": Pair,
    "ComplexAbs": _size,
    "Conj": _conjugate,
    "ConjugateTranspose": lambda z, order: _turned(_conjugate(z), order),
    "Div": _divided,
    "Equal": _equal,
    "Exp": _exponential,
    "Imag": lambda z: z.parts[1],
    "Inv": _inverse,
    "Log": _logarithm,
    "Mul": _multiplied,
    "NotEqual": lambda a, b: tf.logical_not(_equal(a, b)),
    "OnesLike": lambda z: Pair(tf.ones_like(z.real)),
    "Pow": _power,
    "Real": lambda z: z.real,
    "RealDiv": _divided,
    "Reciprocal": _inverse,
    "Sqrt": _root,
    "Square": lambda z: _multiplied(z, z),
}
"""By operation, from the pairs that it is given."""
