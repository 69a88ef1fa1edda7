"""float16 and float64: what onnxruntime spells out in other words, what is infinite or NaN."""

import keras
import numpy as np
import onnxruntime as ort
import pytest
import tensorflow as tf
from keras import ops
from operations import check, in_onnx
from test_choice import WHOLE

from kerasdl import export

pytestmark = pytest.mark.tensorflow

BROKEN = [np.nan, np.inf, -np.inf, 0.0, -0.0]


def spread(dtype):
    limits = np.finfo(dtype)
    sizes = np.geomspace(float(limits.tiny), float(limits.max) / 2, 200)
    near = np.linspace(-40, 40, 321)
    ends = [limits.max, limits.min, limits.tiny, limits.smallest_subnormal]
    return np.concatenate([sizes, -sizes, near, ends, BROKEN]).astype(dtype)


# Softplus and logarithms


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(("dtype", "rtol"), [("float16", 1e-3), ("float64", 4e-16)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_softplus(dtype, rtol, opset):
    x = spread(dtype)
    wide = x.astype("float64")
    wanted = np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide)))
    wanted = np.where(np.isnan(wide), wide, wanted)
    least = float(np.finfo(dtype).smallest_subnormal)
    calls = lambda x: [tf.nn.softplus(x), tf.math.log_sigmoid(-x)]  # noqa: E731
    for one, sign in zip(in_onnx(calls, x, opset=opset), (1, -1), strict=True):
        check(one, (sign * wanted).astype(dtype), rtol, atol=least)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(("dtype", "rtol"), [("float16", 1e-3), ("float64", 1e-15)])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_logarithms(dtype, rtol, opset):
    x = spread(dtype)
    calls = lambda x: [ops.log(x), ops.log2(x), ops.log10(x)]  # noqa: E731
    found = in_onnx(calls, x, opset=opset)
    wide = x.astype("float64")
    for one, function in zip(found, (np.log, np.log2, np.log10), strict=True):
        # The quotient by log 2 or log 10 is rounded once more.
        check(one, function(wide).astype(dtype), 2 * rtol, atol=rtol)


def test_logarithms_of_sums(rng):
    x = rng.normal(0, 10, (4, 6)).astype("float16")
    x[0, :2], x[1, 0], x[2] = np.inf, np.nan, -np.inf
    x[3] = 6e4
    wide = x.astype("float64")
    with np.errstate(all="ignore"):
        wanted = np.logaddexp.reduce(wide, 1).astype("float16")
    (found,) = in_onnx(lambda x: ops.logsumexp(x, 1), x)
    check(found, wanted, 2e-3)


# Infinite or not


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_kinds_of_numbers(dtype, opset):
    x = spread(dtype)
    calls = [ops.isinf, ops.isfinite, ops.isnan, ops.nan_to_num]
    calls += [lambda x: ops.nan_to_num(x, 1.0, 2.0, 3.0)]
    found = in_onnx(lambda x: [call(x) for call in calls], x, opset=opset)
    for one, call in zip(found, calls, strict=True):
        check(one, ops.convert_to_numpy(call(x)), 0)


def test_powers_of_two():
    x = spread("float16")[::7]
    exponents = np.resize(np.arange(-20, 15), x.shape).astype("int32")
    (found,) = in_onnx(ops.ldexp, x, exponents)
    check(found, ops.convert_to_numpy(ops.ldexp(x, exponents)), 1e-3)


@pytest.mark.parametrize("opset", [13, 18])
def test_padding_and_sums_up_to_a_place(opset):
    x = np.array([[1, 2.5, np.inf], [-3, np.nan, 6e4]], "float16")
    pads = [[0, 1], [2, 0]]
    calls = [lambda x: tf.pad(x, pads), lambda x: tf.pad(x, pads, constant_values=7)]
    calls += [lambda x: tf.pad(x, [[0, 1], [1, 1]], "SYMMETRIC"), lambda x: tf.cumsum(x, 1)]
    calls += [lambda x: tf.pad(x, pads, constant_values=x[0, 1])]
    found = in_onnx(lambda x: [call(x) for call in calls], x, opset=opset)
    for one, call in zip(found, calls, strict=True):
        check(one, call(x), 0)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_in_a_file(dtype, tmp_path):
    x = keras.Input((6,), dtype=dtype, name="x")
    size = ops.abs(x) + 1
    results = [ops.softplus(x), ops.log_sigmoid(x), ops.log(size), ops.logsumexp(size, 1)]
    results += [ops.isfinite(x), ops.nan_to_num(x), ops.pad(x, ((0, 0), (1, 0)), constant_values=1)]
    model = keras.Model(x, results)
    export.to_onnx(model, tmp_path / "m.onnx")
    given = np.array([[50, 100, 800, -800, -12, 0]], dtype)
    found = ort.InferenceSession(tmp_path / "m.onnx").run(None, {"x": given})
    for one, other in zip(found, model(given), strict=True):
        check(one, other, 2e-3 if dtype == "float16" else 1e-12, atol=2e-7)


# Triangles


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", [*WHOLE, "bool", "float16", "float32", "float64"])
def test_bands(dtype, opset):
    x = np.arange(1, 25).reshape(2, 3, 4).astype(dtype)
    if np.dtype(dtype).kind == "f":
        x[0, 0], x[0, :, 2], x[1, :, 0], x[1, 2] = np.inf, -np.inf, np.nan, -0.0
    bands = [(-1, 0), (0, -1), (0, 0), (1, 0), (-1, -1), (-1, 1), (2, 1), (3, 4)]
    calls = lambda x: [tf.linalg.band_part(x, *band) for band in bands]  # noqa: E731
    for free in (False, True):
        for one, other in zip(in_onnx(calls, x, opset=opset, free=free), calls(x), strict=True):
            check(one, other, 0)


@pytest.mark.parametrize("opset", [13, 18])
def test_bands_of_other_shapes(opset):
    for shape in ((0, 3, 3), (3, 1), (1, 3), (2, 2, 4, 4)):
        x = np.full(shape, -np.inf, "float32")
        call = lambda x: [tf.linalg.band_part(x, 1, 0), tf.linalg.band_part(x, -1, 1)]  # noqa: E731
        for one, other in zip(in_onnx(call, x, opset=opset), call(x), strict=True):
            check(one, other, 0)
    for shape in ((2, 0, 3), (4, 0), (0, 0)):
        x = np.ones(shape, "float32")
        (found,) = in_onnx(lambda x: tf.linalg.band_part(x, -1, 0), x, opset=opset)
        check(found, x, 0)


@pytest.mark.parametrize("opset", [13, 18])
def test_bands_that_are_not_known(opset):
    x = np.full((2, 4, 4), np.inf, "float32")
    call = lambda x, k: [tf.linalg.band_part(x, k, -1), tf.linalg.band_part(x, 1, k)]  # noqa: E731
    for k in (-1, 0, 2):
        found = in_onnx(lambda x, k: call(x, k[0]), x, np.array([k], "int32"), opset=opset)
        for one, other in zip(found, call(x, k), strict=True):
            check(one, other, 0)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_triangles_in_a_file(precision, tmp_path):
    x = keras.Input((4, 4), name="x")
    results = [ops.tril(x), ops.triu(x), ops.tril(x, -1), ops.triu(x, 1), ops.tril(x, 2)]
    model = keras.Model(x, results)
    export.to_onnx(model, tmp_path / "m.onnx", precision=precision)
    session = ort.InferenceSession(tmp_path / "m.onnx")
    given = np.full((1, 4, 4), -np.inf, "float32")
    for one, other in zip(session.run(None, {"x": given}), model(given), strict=True):
        check(one, other, 0)


# Cross entropies


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (1,)])
def test_cross_entropies(dtype, shape, rng):
    z = rng.choice([0.0, 1.5, -3.0, 200.0, -300.0, 5e4], (8, *shape, 5)).astype(dtype)
    z[0, ..., 1] = -np.inf
    y = rng.integers(0, 5, (8, *shape)).astype("int32")
    call = lambda y, z: ops.sparse_categorical_crossentropy(y, z, from_logits=True)  # noqa: E731
    for labels in (y, y.astype("int64")):
        (found,) = in_onnx(call, labels, z, free=False)
        check(found, ops.convert_to_numpy(call(y, z)), 2e-3 if dtype == "float16" else 1e-5)


@pytest.mark.parametrize("logits", [True, False])
def test_cross_entropies_in_a_file(logits, tmp_path):
    y, z = keras.Input((4,), dtype="int32"), keras.Input((4, 5))
    classes = ops.clip(y, 0, 4)
    result = ops.sparse_categorical_crossentropy(
        classes, z if logits else ops.softmax(z), from_logits=logits
    )
    assert export.to_onnx(keras.Model([y, z], result), tmp_path / "m.onnx").passed
