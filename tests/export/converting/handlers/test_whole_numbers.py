"""Whole numbers are TensorFlow's, where float32 and float64 round and where they wrap."""

import keras
import numpy as np
import onnxruntime as ort
import pytest
import tensorflow as tf
from keras import ops
from operations import in_onnx
from test_choice import WHOLE

from kerasdl import export

pytestmark = pytest.mark.tensorflow

EDGES = [0, 1, -1, 2, 127, 255, 2**24 - 1, 2**24, 2**24 + 1, 2**31 - 1, 2**31, -(2**31)]
EDGES += [2**32, 2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**63]


def edges(dtype):
    limits = np.iinfo(dtype)
    inside = {*EDGES, limits.min, limits.min + 1, limits.max - 1, limits.max}
    return np.array(sorted(x for x in inside if limits.min <= x <= limits.max), dtype)


def same(call, *arrays, wanted=None, opset=None):
    """With onnxruntime's optimizer and without it; of known extents in opset 18, of free ones in
    opset 13, of both if none is given."""
    wanted = tf.nest.flatten(call(*map(tf.constant, arrays)) if wanted is None else wanted)
    for known in (13, 18) if opset is None else (opset,):
        found = in_onnx(call, *arrays, free=known == 13, opset=opset or 18)
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == np.asarray(other).dtype
            np.testing.assert_array_equal(one, np.asarray(other))


# Comparisons


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", WHOLE)
def test_comparisons(dtype, opset):
    x, y = (grid.ravel() for grid in np.meshgrid(edges(dtype), edges(dtype)))
    calls = (tf.less, tf.greater, tf.less_equal, tf.greater_equal)
    same(lambda x, y: [call(x, y) for call in calls], x, y, opset=opset)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
def test_comparisons_with_constants(dtype):
    x = edges(dtype)
    limit = tf.constant(2**24 + 1, dtype)
    same(lambda x: [x < limit, x > limit, limit > x], x)
    same(lambda x: tf.where(x < limit, 1.0, 2.0), x.reshape(-1, 1))
    same(lambda x: tf.where(x >= limit, x, limit), x[:0])


def test_comparisons_that_end_a_loop(tmp_path):
    x = keras.Input((4, 3))
    y = keras.layers.GRU(2)(keras.layers.Masking()(ops.relu(x)))
    assert export.to_onnx(keras.Model(x, y), tmp_path / "m.onnx").passed


# Sums


AXES = [[0], [1], -1, [0, 2], [-1, 1], [0, 1, 2, 3], None]


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_sums(dtype, opset, rng):
    limits = np.iinfo(dtype)
    for shape in ((3, 4, 2, 5), (2, 1, 1, 70)):
        x = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        cases = [(axes, keep) for axes in AXES for keep in (False, True)]
        wanted = [
            np.sum(x, tuple(axes) if isinstance(axes, list) else axes, dtype, keepdims=keep)
            for axes, keep in cases
        ]
        call = lambda x, c=cases: [tf.reduce_sum(x, *case) for case in c]  # noqa: E731
        same(call, x, wanted=wanted, opset=opset)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 0, 2)])
def test_sums_of_nothing(shape):
    cases = [(axes, keep) for axes in ([], 0, -1, None) for keep in (False, True)]
    for dtype in ("int32", "int64", "uint32"):
        same(lambda x: [tf.reduce_sum(x, *case) for case in cases], np.ones(shape, dtype))


def test_sums_of_one_number_and_of_axes_that_are_not_known():
    same(lambda x: tf.reduce_sum(x[0, 0]), np.full((2, 3), 2**62))
    same(tf.reduce_sum, np.arange(6).reshape(2, 3), np.array([1], "int32"))


def test_sums_of_small_types():
    for dtype in ("int8", "int16", "uint8", "uint16"):
        x = np.full((2, 300), np.iinfo(dtype).max, dtype)
        same(lambda x: tf.reduce_sum(x, 1), x, wanted=x.sum(1, dtype))
    x = np.ones((3, 5), bool)
    same(lambda x: tf.reduce_sum(tf.cast(x, tf.int32), 1), x)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_sums_and_traces_in_a_file(precision, tmp_path):
    x = keras.Input((3, 3), dtype="int64", name="x")
    y = keras.Input((4,), name="y")
    sums = [ops.sum(x, axis=1) + 1, ops.trace(x, axis1=1, axis2=2), ops.sum(x, axis=(1, 2))]
    model = keras.Model([x, y], [*sums, keras.layers.Dense(3)(y)])
    export.to_onnx(model, tmp_path / "m.onnx", precision=precision)
    given = 1_700_000_000_000_000_001 + np.arange(18).reshape(2, 3, 3)
    session = ort.InferenceSession(tmp_path / "m.onnx")
    found = session.run(None, {"x": given, "y": np.ones((2, 4), "float32")})
    with np.errstate(over="ignore"):
        wanted = [given.sum(1) + 1, given.trace(axis1=1, axis2=2), given.sum((1, 2))]
    for one, other in zip(found[:3], wanted, strict=True):
        np.testing.assert_array_equal(one, other)


# Powers


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_powers(dtype, opset):
    x = np.array([*edges(dtype), 3, -3, 7, 10, 99], dtype)
    exponents = (0, 1, 2, 3, 5, 16, 63, 64, 100)
    wanted = [x ** np.array(k, dtype) for k in exponents]
    same(lambda x: [tf.pow(x, k) for k in exponents], x, wanted=wanted, opset=opset)
    same(lambda x: [ops.power(x, k) for k in exponents], x, wanted=wanted, opset=opset)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_powers_of_several_exponents(dtype):
    x = np.array([[0, 1, 2, -2, 3, 7, -127, 113]], dtype).T
    y = np.array([0, 1, 2, 3, 10, 31, 62, 63, 64, 99], dtype)
    wanted = x**y
    same(lambda x: tf.pow(x, y), x, wanted=wanted)
    same(lambda x: tf.pow(x, [[3]]), x[0], wanted=x[:1] ** np.array(3, dtype))
    same(tf.pow, x, y, wanted=wanted)
    same(lambda y: tf.pow(tf.constant(3, dtype), y), y, wanted=np.array(3, dtype) ** y)
    same(tf.pow, x[:0], y, wanted=wanted[:0])
    same(lambda x: tf.pow(x, y[:0]), x, wanted=wanted[:, :0])


def test_powers_in_a_file(tmp_path):
    for dtype, value in (("int64", 3_000_000_019), ("int32", 70001), ("int8", 99), ("uint8", 99)):
        x = keras.Input((3,), dtype=dtype, name="x")
        model = keras.Model(x, [x**2, ops.power(x, 3), ops.square(x)])
        export.to_onnx(model, tmp_path / "m.onnx")
        given = np.array([[value, 3, 0]], dtype)
        found = ort.InferenceSession(tmp_path / "m.onnx").run(None, {"x": given})
        for one, other in zip(found, model(given), strict=True):
            np.testing.assert_array_equal(one, other)


# Types that onnxruntime lacks


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", [*WHOLE, "bool"])
def test_padding(dtype, opset):
    x = edges(dtype) if dtype != "bool" else np.array([False, True, False, False])
    x = np.stack([x, x[::-1]])
    for pads in ([[0, 0], [1, 2]], [[1, 0], [0, 3]]):
        calls = [lambda x, p=pads, m=mode: tf.pad(x, p, m) for mode in ("CONSTANT", "REFLECT")]
        calls += [lambda x, p=pads: tf.pad(x, p, constant_values=x[0, 1])]
        one = tf.constant(dtype == "bool" or 1, dtype)
        calls += [lambda x, p=pads, o=one: tf.pad(x, p, constant_values=o)]
        same(lambda x, c=calls: [call(x) for call in c], x, opset=opset)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", WHOLE)
def test_sums_up_to_a_place(dtype, opset):
    x = np.stack([edges(dtype), edges(dtype)[::-1]])
    wanted = [x.cumsum(axis, dtype) for axis in (0, 1)]
    same(lambda x: [tf.cumsum(x, 0), tf.cumsum(x, 1)], x, wanted=wanted, opset=opset)
    same(lambda x: tf.cumsum(x, 1, True, True), x[:, :0], opset=opset)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", WHOLE)
def test_limits_and_clipping(dtype, opset):
    x, y = (grid.ravel() for grid in np.meshgrid(edges(dtype), edges(dtype)))
    low, high = (tf.constant(k, dtype) for k in (1, 100))
    calls = [lambda x, y: tf.clip_by_value(x, low, high), tf.maximum, tf.minimum]
    if dtype != "uint64":
        calls += [lambda x, y: tf.nn.relu(x)]
    same(lambda x, y: [call(x, y) for call in calls], x, y, opset=opset)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint16", "int32", "int64"])
def test_products_of_matrices(dtype, rng):
    limits = np.iinfo(dtype)
    x, y = rng.integers(limits.min, limits.max, (2, 3, 4, 4), dtype, endpoint=True)
    same(lambda x, y: tf.raw_ops.BatchMatMulV2(x=x, y=y), x, y, wanted=x @ y)


# Pooling


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "int16"])
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_max_pools(dtype, padding, rng):
    x = rng.choice(edges(dtype), (2, 9, 7, 3))
    for window, step in (((2, 2), (2, 2)), ((3, 5), (1, 1)), ((1, 4), (3, 2)), ((7, 6), (2, 3))):
        call = lambda x, w=window, s=step: tf.nn.max_pool2d(x, w, s, padding)  # noqa: E731
        same(call, x, wanted=call(tf.cast(x, "int64")).numpy().astype(dtype))


def test_max_pools_in_a_file(tmp_path):
    for dtype in ("int32", "int64"):
        x = keras.Input((8, 6, 3), dtype=dtype, name="x")
        model = keras.Model(x, ops.max_pool(x, 2))
        export.to_onnx(model, tmp_path / "m.onnx")
        given = np.random.default_rng(0).choice(edges(dtype), (2, 8, 6, 3))
        (found,) = ort.InferenceSession(tmp_path / "m.onnx").run(None, {"x": given})
        np.testing.assert_array_equal(found, model(given))
