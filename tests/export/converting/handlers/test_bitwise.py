"""Bit by bit, in operator sets that have no such operators too."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from operations import EDGES, in_onnx
from test_choice import WHOLE, limits

from kerasdl import export

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("dtype", WHOLE)
def test_all_pairs(dtype, opset, rng):
    drawn = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, 20, dtype, endpoint=True)
    x, y = (grid.ravel() for grid in np.meshgrid(*2 * [np.concatenate([limits(dtype), drawn])]))
    both = [tf.bitwise.bitwise_and, tf.bitwise.bitwise_or, tf.bitwise.bitwise_xor]
    call = lambda x, y: [f(x, y) for f in both] + [tf.bitwise.invert(x)]  # noqa: E731
    for one, other in zip(in_onnx(call, x, y, opset=opset), call(x, y), strict=True):
        assert one.dtype == dtype
        np.testing.assert_array_equal(one, other.numpy())


@pytest.mark.parametrize("opset", [13, 18])
def test_shapes_that_spread(opset, rng):
    for shapes in (((3, 4), (4,)), ((3, 1), (1, 4)), ((0, 4), (1,)), ((2, 0), (1, 1))):
        x, y = (rng.integers(-99, 99, shape).astype("int32") for shape in shapes)
        (found,) = in_onnx(tf.bitwise.bitwise_xor, x, y, opset=opset)
        np.testing.assert_array_equal(found, np.bitwise_xor(x, y))


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_sign_bits(dtype, opset):
    x, lowest = limits(dtype), np.iinfo(dtype).min
    for call in (
        lambda x: tf.bitwise.bitwise_and(x, tf.constant(lowest, dtype)),
        lambda x: tf.bitwise.bitwise_and(tf.constant(lowest, dtype), x),
    ):
        (found,) = in_onnx(call, x, opset=opset)
        np.testing.assert_array_equal(found, np.bitwise_and(x, np.array(lowest, dtype)))


@pytest.mark.parametrize("opset", [13, 18])
def test_one_number(opset):
    (found,) = in_onnx(lambda x: tf.bitwise.bitwise_or(x, x[0])[0], limits("int16"), opset=opset)
    assert found == -(2**15)


@pytest.mark.parametrize("opset", [13, 15, 17, 18])
@pytest.mark.parametrize("function", [ops.argmax, ops.argmin])
def test_the_place_of_the_largest(function, opset, rng):
    edges = np.array(EDGES[:-1], "float32")
    x = np.concatenate(
        [
            rng.choice(np.array([0.0, -0.0, 1.0, -1.0], "float32"), (40, len(edges))),
            [edges, edges[::-1]],
        ]
    )
    for axis in (-1, 0, None):
        (found,) = in_onnx(lambda x, a=axis: function(x, a), x, opset=opset)
        np.testing.assert_array_equal(found, function(x, axis))


@pytest.mark.parametrize("opset", [13, 17])
def test_exports(opset, tmp_path):
    x = keras.Input((6,))
    y = keras.Input((6,), dtype="int32")
    results = [ops.argmax(x, -1), ops.argmin(x, -1), ops.signbit(x), ops.bitwise_or(y, y)]
    assert export.to_onnx(keras.Model([x, y], results), tmp_path / "m.onnx", opset=opset).passed
