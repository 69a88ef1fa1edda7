"""Choices and shifts are TensorFlow's for every number, not only for those of a random batch."""

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers, ops
from operations import in_onnx

from kerasdl import export

BROKEN = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0, 1.0, -2.5], "float32")
WHOLE = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def limits(dtype):
    """The ends of a type and the numbers next to them."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.array([least, least + 1, 0, 1, 2, 5, most - 1, most], dtype)


def same(call, *arrays, free=True):
    found = in_onnx(call, *arrays, free=free)
    wanted = [np.asarray(y) for y in tf.nest.flatten(call(*map(tf.constant, arrays)))]
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


# Where


def test_the_other_side_does_not_matter():
    x, y = (grid.ravel() for grid in np.meshgrid(BROKEN, BROKEN))
    for chosen in (np.arange(64) % 2 == 0, np.arange(64) % 3 == 0):
        same(tf.where, chosen, x, y)
        same(tf.where, chosen, x.astype("float64"), y.astype("float64"))


@pytest.mark.parametrize("dtype", [*WHOLE, "bool", "float16"])
def test_every_type_is_chosen_from(dtype, rng):
    x, y = rng.integers(0, 100, (2, 5, 3)).astype(dtype)
    if dtype in WHOLE:
        x[0], y[1] = limits(dtype)[[0, 1, -1]], limits(dtype)[[-1, -2, 0]]
    chosen = np.array([True, False, True])
    same(lambda c, x, y: tf.where(c, x, y), np.tile(chosen, (5, 1)), x, y)


def test_strings_are_chosen_from(tmp_path):
    x, y = keras.Input((3,), dtype="int32"), keras.Input((3,), dtype="string")
    call = lambda xy: tf.where(xy[0] > 0, "more", xy[1])  # noqa: E731
    model = keras.Model([x, y], layers.Lambda(call, output_shape=(3,), dtype="string")([x, y]))
    export.to_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    given = [np.array([[1, -1, 0]], "int32"), np.array([["a", "b", ""]], object)]
    names = [end.name for end in session.get_inputs()]
    found = session.run(None, dict(zip(names, given, strict=True)))[0]
    assert found.tolist() == [["more", "b", ""]]


@pytest.mark.parametrize("shapes", [((4,), (4, 3, 2)), ((4, 3), (4, 3)), ((4,), (4,))])
def test_a_condition_per_row(shapes, rng):
    condition, shape = rng.normal(size=shapes[0]) > 0, shapes[1]
    x, y = rng.normal(size=(2, *shape)).astype("float32")
    same(lambda c, x, y: tf.raw_ops.Select(condition=c, x=x, y=y), condition, x, y)


def test_conditions_and_sides_that_spread(rng):
    condition = rng.normal(size=(4, 1, 3)) > 0
    x, y = (
        rng.normal(size=(4, 2, 1)).astype("float32"),
        rng.normal(size=(4, 1, 3)).astype("float32"),
    )
    same(tf.where, condition, x, y)


GUARDED = {
    "sinc": ops.sinc,
    "1 / x": lambda x: ops.where(ops.equal(x, 0.0), 0.0, 1.0 / x),
    "softplus": lambda x: ops.where(x < 20.0, ops.log1p(ops.exp(x)), x),
    "nan_to_num": ops.nan_to_num,
    "unit": lambda x: ops.where(ops.abs(x) > 0, x / ops.abs(x), x),
    "trunc": ops.trunc,
    "soft_shrink": ops.soft_shrink,
}


@pytest.mark.parametrize("name", GUARDED)
def test_what_is_guarded_against(name, tmp_path):
    """Where a formula breaks down, `where` takes the other one."""
    inputs = keras.Input((8,), name="x")
    model = keras.Model(inputs, layers.Lambda(GUARDED[name], output_shape=(8,))(inputs))
    x = np.array([[0, 1, -3, 100, -100, 1e30, np.inf, -np.inf]], "float32")
    export.to_onnx(model, tmp_path / "model.onnx")
    found = outputs_of(tmp_path / "model.onnx", x)
    np.testing.assert_allclose(found, np.asarray(model(x)), rtol=1e-6, atol=1e-40)


def outputs_of(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


# One hot


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool", "float16", "int64"])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis, dtype, rng):
    on, off = (np.array(value, dtype) for value in (1, 0))
    for shape in ((7,), (3, 4)):
        indices = rng.integers(-3, 8, shape).astype("int32")
        same(lambda x: tf.one_hot(x, 5, on, off, axis), indices)
        same(lambda x: tf.one_hot(x, 5, on, off, axis), indices.astype("int64"))


def test_one_hot_of_other_numbers():
    indices = np.array([[-1, 0, 4], [5, 2**31 - 1, -(2**31)]], "int32")
    same(lambda x: tf.one_hot(x, 5, on_value=2.5, off_value=-1.0), indices)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.CategoryEncoding(5, output_mode="one_hot"),
        lambda: layers.Lambda(lambda x: ops.multi_hot(x, 5), output_shape=(5,)),
        lambda: layers.Lambda(lambda x: ops.one_hot(x, 5), output_shape=(1, 5)),
    ],
)
def test_padding_with_minus_one(layer, tmp_path):
    inputs = keras.Input((1,), dtype="int32")
    model = keras.Model(inputs, layer()(inputs))
    x = np.array([[-1], [0], [4], [-5], [9]], "int32")
    export.to_onnx(model, tmp_path / "model.onnx", data={inputs.name: x[1:3]})
    np.testing.assert_array_equal(outputs_of(tmp_path / "model.onnx", x), np.asarray(model(x)))


def test_the_mask_token_of_a_lookup(tmp_path):
    lookup = layers.StringLookup(vocabulary=["a", "b"], mask_token="", output_mode="one_hot")
    model = keras.Sequential([keras.Input((1,), dtype="string", name="x"), lookup])
    export.to_onnx(model, tmp_path / "model.onnx")
    words = np.array([[""], ["a"], ["b"], ["z"]], object)
    wanted = np.asarray(model(tf.constant(words)))
    np.testing.assert_array_equal(outputs_of(tmp_path / "model.onnx", words), wanted)


# The largest


@pytest.mark.parametrize("dtype", [*WHOLE[:-1], "float32", "float64", "float16"])
def test_top_k_of_large_numbers(dtype, rng):
    x = rng.integers(0, 100, (6, 9)).astype(dtype)
    if dtype in WHOLE:
        x[0, :8] = limits(dtype)
        x[1, :8] = limits(dtype)[::-1]
    elif dtype != "float16":
        x[0] += np.float32(2**24)
    same(lambda x: list(tf.math.top_k(x, 4)), x, free=False)


def test_numbers_of_64_bits_without_a_sign_have_no_order(rng):
    with pytest.raises(export.ConversionError, match="TopKV2"):
        in_onnx(lambda x: list(tf.math.top_k(x, 2)), rng.integers(0, 9, (2, 5)).astype("uint64"))


def test_order_of_whole_numbers():
    x = np.array([[2**24 + 1, 2**24, 5, 2**24 - 1], [-(2**31), 2**31 - 1, 0, 1]], "int32")
    same(lambda x: [tf.sort(x), tf.argsort(x), tf.argsort(-x, stable=True)], x, free=False)


def test_targets_that_are_no_classes(rng):
    predictions = rng.normal(size=(9, 4)).astype("float32")
    predictions[3, 1] = np.nan
    targets = np.array([0, 3, -1, 1, 4, 2**31 - 1, -(2**31), 2, 1], "int32")
    same(lambda p, t: tf.math.in_top_k(t, p, 2), predictions, targets)


# Shifts


@pytest.mark.parametrize("dtype", WHOLE)
def test_shifts(dtype):
    bits = 8 * np.dtype(dtype).itemsize
    x = np.repeat(limits(dtype), 6)
    by = np.tile(np.array([0, 1, 2, bits // 2, bits - 2, bits - 1], dtype), 8)
    same(lambda x, y: [tf.bitwise.right_shift(x, y), tf.bitwise.left_shift(x, y)], x, by)
