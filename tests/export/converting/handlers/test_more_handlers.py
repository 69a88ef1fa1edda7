"""Handlers of quantized steps, texts, segments, diagonals: on ties, limits and broken numbers."""

import keras
import numpy as np
import onnx_ir as ir
import pytest
import tensorflow as tf
from operations import NORMAL, check, in_onnx, numbers
from test_handlers import projected

from kerasdl import export
from kerasdl.export.converting.convert import convert
from kerasdl.export.converting.opset import raise_opset
from kerasdl.export.converting.weights import Weights
from kerasdl.export.errors import ConversionError
from kerasdl.export.files.runtime import open_session
from kerasdl.export.ports import Port

pytestmark = pytest.mark.tensorflow

OPSETS = [13, 18]
BROKEN = [np.nan, np.inf, -np.inf, -0.0]
WHOLE = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
SMALL = ["int8", "int16", "uint8", "uint16", "uint32"]


def same(call, *arrays, rtol=0.0, atol=0.0, **options):
    """Against TensorFlow."""
    found = in_onnx(call, *arrays, **options)
    wanted = [np.asarray(y) for y in tf.nest.flatten(call(*map(tf.constant, arrays)))]
    for one, other in zip(found, wanted, strict=True):
        check(one, other, rtol, atol)


# 1. Quantized steps


def steps(low, high, bits, narrow):
    """The moved range, from the definition, and numbers inside, beside, on and between steps."""
    low, high = np.float32(low), np.float32(high)
    first, last = np.float32(narrow), np.float32(2**bits - 1)
    scale = (high - low) / (last - first)
    place = np.clip(np.floor(np.float64(first - low / scale) + 0.5), first, last)
    bottom = (first - place) * scale
    count = np.arange(min(2**bits - int(narrow), 3000))
    spread = np.random.default_rng(0).uniform(1.3 * low - 1, 1.3 * high + 1, 2000)
    return np.concatenate(
        [bottom + scale * count, bottom + scale * (count + 0.5), spread, BROKEN]
    ).astype("float32")


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0, 6), (-1, 1), (-0.3, 5.1), (-7, 0), (1, 6), (-5, -2)])
def test_steps_are_tensorflow_bit_by_bit(low, high, narrow):
    for bits, opset in ((2, 18), (8, 13), (13, 18)):
        x = steps(low, high, bits, narrow)
        for kind in ("args", "vars"):
            quantize = getattr(tf.quantization, f"fake_quant_with_min_max_{kind}")
            same(lambda x, q=quantize, b=bits: q(x, low, high, b, narrow), x, opset=opset)


def test_half_a_step_is_rounded_up():
    x = np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 253.5], "float32")
    call = lambda x: tf.quantization.fake_quant_with_min_max_args(x, -127, 128)  # noqa: E731
    check(in_onnx(call, x)[0], np.float32([-1, 0, 1, 2, 3, 128]), 0)


@pytest.mark.parametrize("narrow", [False, True])
def test_steps_of_each_channel(narrow, rng):
    low = np.array([-1, 0, -0.2, 0, 2, -3], "float32")
    high = np.array([1, 6, 7.3, 0, 5, -3], "float32")
    x = rng.normal(0, 4, (30, 5, 6)).astype("float32")
    x[0, :, 3] = [np.nan, np.inf, -np.inf, -0.0, 1]
    per_channel = tf.quantization.fake_quant_with_min_max_vars_per_channel
    for bits in (3, 8):
        same(lambda x, b=bits: per_channel(x, low, high, b, narrow), x)
    same(lambda x: tf.quantization.fake_quant_with_min_max_vars(x, 0.0, 0.0), x)


# 2. Texts


WORDS = ["a", "", "ä", "b c", "\n", "漢字", "😀", "A", "a ", "zzz"]


def texts_in_onnx(call, *arrays, opset=18):
    ports = [Port(f"x{i}", (None,) * np.ndim(x), "string") for i, x in enumerate(arrays)]
    model = convert(
        lambda *tensors: tf.nest.flatten(call(*tensors)), ports, opset, weights=Weights([])
    )
    raise_opset(model, opset)
    results = []
    for optimized in (False, True):
        session = open_session(ir.to_proto(model).SerializeToString(), optimized)
        feeds = {f"input_{i}": np.asarray(x, object) for i, x in enumerate(arrays)}
        results.append(session.run(None, feeds)[0])
    np.testing.assert_array_equal(*results)
    wanted = np.asarray(call(*(tf.constant(x, tf.string) for x in arrays)))
    if wanted.dtype == object:
        wanted = np.vectorize(bytes.decode, otypes=[object])(wanted)
    assert results[0].shape == wanted.shape
    assert results[0].dtype == wanted.dtype
    np.testing.assert_array_equal(results[0], wanted)
    return results[0]


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_texts_equal_to_constants(opset):
    words = np.array([WORDS, WORDS[::-1]], object)
    for call in (tf.equal, tf.not_equal):
        for constant in ("a", "", "漢字", "nowhere"):
            texts_in_onnx(lambda x, c=call, t=constant: c(x, t), words, opset=opset)
        texts_in_onnx(lambda x, c=call: c(WORDS, x), words, opset=opset)
        texts_in_onnx(lambda x, c=call: c(x, [["a"], [""]]), words, opset=opset)
    kinds = ["a", "b c", "", "a"]
    texts_in_onnx(lambda x: x[..., tf.newaxis] == kinds, words, opset=opset)
    texts_in_onnx(lambda x: x[:, 2:5] == "ä", words, opset=opset)
    texts_in_onnx(lambda x: tf.equal(x[0], words[1]), words, opset=opset)
    texts_in_onnx(lambda x: x == "a", words[:0], opset=opset)


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_texts_equal_to_texts(opset):
    x = np.array(WORDS, object)
    y = np.roll(x, 1)
    y[3:7] = x[3:7]
    for call in (tf.equal, tf.not_equal):
        texts_in_onnx(call, x, y, opset=opset)
        texts_in_onnx(call, np.stack([x, y]), y, opset=opset)
    texts_in_onnx(lambda x, y: x[:, tf.newaxis] == y, x, y, opset=opset)
    texts_in_onnx(tf.equal, x[:0], y[:0], opset=opset)


def test_numbers_are_compared_as_before(rng):
    x, y = rng.integers(0, 3, (2, 50))
    for dtype in ("float32", "int64", "uint8", "bool"):
        for call in (tf.equal, tf.not_equal):
            same(call, x.astype(dtype), y.astype(dtype))
    broken = np.array([*BROKEN, 0.0], "float32")
    for call in (tf.equal, tf.not_equal):
        same(call, broken, np.repeat(broken[::-1], 1))
        same(lambda x, c=call: c(x, x), broken)


def test_texts_compared_in_a_model(tmp_path):
    word = keras.Input((2,), dtype="string")
    call = lambda x: tf.cast(tf.equal(x, "yes"), "float32")  # noqa: E731
    model = keras.Model(word, keras.layers.Lambda(call, output_shape=(2,), dtype="float32")(word))
    given = np.array([["yes", "no"], ["", "yes"], ["Yes", "yes "]], object)
    assert export.to_onnx(model, tmp_path / "model.onnx", data={word.name: given}).passed


@pytest.mark.parametrize("separator", ["", " ", "-ä-"])
def test_texts_joined(separator):
    x = np.array(WORDS, object)
    y, z = x[::-1].copy(), np.roll(x, 3)
    join = lambda *parts: tf.strings.join(parts, separator)  # noqa: E731
    for opset in (20, 21):
        texts_in_onnx(join, x, y, z, opset=opset)
        texts_in_onnx(
            lambda x, y: join("<", x, "|", y), x[:, np.newaxis], y[:, np.newaxis], opset=20
        )
        texts_in_onnx(lambda x: join(x), x, opset=opset)
        texts_in_onnx(join, x[:0], y[:0], opset=opset)
    with pytest.raises(ConversionError, match="opset=20"):
        texts_in_onnx(join, x, y)


# 3. Division, functions that are zero at zero


@pytest.mark.parametrize("call", [tf.truncatediv, tf.math.xlogy, tf.math.xlog1py, tf.math.xdivy])
def test_complex_numbers_are_refused(call, rng):
    x, y = rng.normal(size=(2, 5)).astype("float32")
    with pytest.raises(ConversionError, match="complex"):
        in_onnx(lambda x, y: tf.math.real(call(tf.complex(x, y), tf.complex(y, x))), x, y)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", WHOLE)
def test_division_towards_zero_of_whole_numbers(dtype, opset, rng):
    limits = np.iinfo(dtype)
    x, y = rng.integers(limits.min, limits.max, (2, 500), dtype=dtype)
    x[:4] = limits.max, limits.min, limits.max - 1, 7
    y[:4], y[4:250] = 3, rng.integers(1, 9, 246)
    y[y == 0] = 5
    if limits.min < 0:
        y[250:300] = rng.integers(-9, -1, 50)
    rest = np.fmod(x, y)
    check(in_onnx(tf.truncatediv, x, y, opset=opset)[0], (x - rest) // y, 0)
    if dtype in {"int32", "int64"}:  # which TensorFlow has
        check(in_onnx(tf.truncatemod, x, y, opset=opset)[0], rest, 0)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_division_towards_zero(dtype, opset):
    x, y = (grid.ravel() for grid in np.meshgrid([5.5, -5.5, 0.3, -0.3, 7, *BROKEN], [2, -2, 0.75]))
    x, y = np.append(x, [1, -1, 0]).astype(dtype), np.append(y, [0, 0, 0]).astype(dtype)
    check(in_onnx(tf.truncatediv, x, y, opset=opset)[0], np.trunc(x / y), 0)
    if dtype != "float16":  # which TensorFlow lacks
        check(in_onnx(tf.truncatemod, x, y, opset=opset)[0], np.fmod(x, y), 0)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("dtype", "rtol"), [("float16", 2e-3), ("float32", 5e-7), ("float64", 2e-15)]
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_zero_at_zero(dtype, rtol, opset, rng):
    some = numbers(rng, dtype)
    x, y = some, rng.permutation(some)
    x[::3] = 0
    x[::6] *= -1
    tiny = 2 * float(np.finfo(dtype).tiny) * np.nanmax(np.abs(x[np.isfinite(x)])).astype("float64")
    wide = [z.astype("float64") for z in (x, y)]
    with np.errstate(all="ignore"):
        exact = {
            tf.math.xlogy: wide[0] * np.log(wide[1]),
            tf.math.xlog1py: wide[0] * np.log1p(wide[1]),
            tf.math.xdivy: wide[0] / wide[1],
        }
        for call, result in exact.items():
            wanted = np.where(x == 0, 0, result)
            (found,) = in_onnx(call, x, y, opset=opset)
            normal = np.abs(np.nan_to_num(wide[1], nan=1)) >= NORMAL
            check(found[normal], wanted[normal].astype(dtype), rtol, atol=tiny)
            assert not found[x == 0].any()


# 4. Reductions


REDUCTIONS = ["sum", "prod", "mean", "max", "min"]


@pytest.mark.parametrize(
    ("dtype", "opset"),
    [("int8", 18), ("int16", 18), ("uint16", 13), ("uint32", 18), ("float64", 13)],
)
def test_every_type_is_reduced(dtype, opset, rng):
    x = rng.integers(1, 3, (3, 4, 5)).astype(dtype)
    if dtype in SMALL:
        limits = np.iinfo(dtype)
        x = rng.integers(limits.min, limits.max, (3, 4, 5), dtype=dtype)
        x[0, :2] = [[limits.max], [limits.min]]
    close = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-14}.get(dtype, 0)
    for kind in REDUCTIONS:
        reduce = getattr(tf, f"reduce_{kind}")
        if kind == "mean" and dtype in SMALL:  # TensorFlow's sum of some of them wraps
            for axes in (-1, (0, 2)):
                call = lambda x, axes=axes: tf.reduce_mean(x, axes)  # noqa: E731
                wanted = np.trunc(x.astype("int64").mean(axes)).astype(dtype)
                check(in_onnx(call, x, opset=opset)[0], wanted, 0)
            continue
        same(lambda x, r=reduce: r(x, -1), x, opset=opset, rtol=close)
        same(lambda x, r=reduce: r(x, (0, 1), keepdims=True), x[1:], opset=opset, rtol=close)
    for kind in ("argmax", "argmin"):
        same(lambda x, k=kind: getattr(tf, k)(x, 1), x, opset=opset)
        same(lambda x, k=kind: getattr(tf, k)(x, -1, output_type=tf.int32), x, opset=opset)


def test_sums_and_products_wrap_and_are_exact():
    x = np.full((2, 70001), 65535, "uint16")
    same(lambda x: tf.reduce_sum(x, 1), x)
    x = np.full((70001, 3), 2**32 - 1, "uint32")
    same(lambda x: tf.reduce_sum(x, 0), x)
    same(lambda x: tf.reduce_prod(x, 0), x[:4001])
    same(lambda x: tf.reduce_sum(x, 0, keepdims=True), x[:0])
    same(lambda x: tf.reduce_prod(x, 0, keepdims=True), x[:0])
    same(lambda x: tf.reduce_prod(x, 1), x[:0])


@pytest.mark.parametrize("opset", OPSETS)
def test_the_first_truth(opset, rng):
    x = rng.integers(0, 2, (20, 3)).astype(bool)
    same(lambda x: tf.argmax(x, 1), x, opset=opset)
    same(lambda x: keras.ops.argmax(x, 1), x, opset=opset)
    same(lambda x: keras.ops.sum(x, 1), rng.integers(0, 255, (5, 40)).astype("uint8"), opset=opset)


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_segments(kind, dtype, rng):
    call = getattr(tf.math, f"segment_{kind}")
    close = {"float16": 4e-3, "float32": 1e-6, "float64": 1e-13}.get(dtype, 0)
    ids = np.array([0, 0, 2, 2, 2, 5, 7])
    x = 3 * rng.normal(size=(7, 3, 2))
    x = (np.abs(x) if dtype in SMALL else x).astype(dtype)
    same(call, x, ids, rtol=close)
    if dtype == "float32":
        same(lambda x: call(x, ids), x[:, 0, 0], rtol=close)
        same(call, x[:0], ids[:0].astype("int32"))


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_segments_of_broken_numbers(kind):
    x = np.array([-np.inf, -np.inf, np.inf, 1, -0.0, np.nan], "float32")
    call = getattr(tf.math, f"segment_{kind}")
    same(call, x, np.array([0, 0, 2, 2, 4, 6]))


def test_segments_before_opset_18(rng):
    x, ids = rng.normal(size=(4, 2)).astype("float32"), np.array([0, 0, 3, 3])
    for kind in ("sum", "prod"):
        same(getattr(tf.math, f"segment_{kind}"), x, ids, opset=13, rtol=1e-6)
    same(tf.math.segment_mean, x, ids, opset=16, rtol=1e-6)
    for kind, since in {"max": 18, "min": 18, "mean": 16}.items():
        message = f"Segment{kind.title()} needs opset {since}. Pass opset={since} or a later one"
        with pytest.raises(ConversionError, match=message):
            in_onnx(getattr(tf.math, f"segment_{kind}"), x, ids, opset=13)


@pytest.mark.parametrize("kind", ["sum", "max"])
def test_unsorted_segments_before_opset_18(kind, rng):
    call = lambda x, ids: getattr(tf.math, f"unsorted_segment_{kind}")(x, ids, 5)  # noqa: E731
    x, ids = rng.normal(size=(4, 2)).astype("float32"), np.array([3, 0, 3, 1])
    since = {"sum": 16, "max": 18}[kind]
    same(call, x, ids, opset=since, rtol=1e-6)
    with pytest.raises(ConversionError, match=f"opset {since - 1}: .* Pass opset={since} or"):
        in_onnx(call, x, ids, opset=since - 1)


def test_what_tf2onnx_itself_writes_in_later_operator_sets(rng):
    call = lambda x: tf.tensor_scatter_nd_add(x, [[1], [1]], x[:2])  # noqa: E731
    x = rng.normal(size=(4, 2)).astype("float32")
    same(call, x, opset=16, rtol=1e-6)
    with pytest.raises(ConversionError, match="TensorScatterAdd needs opset 16. Pass opset=16"):
        in_onnx(call, x, opset=15)


@pytest.mark.parametrize(("exclusive", "opset"), [(False, 18), (True, 18), (True, 13)])
@pytest.mark.parametrize("reverse", [False, True])
def test_logarithms_of_sums(exclusive, reverse, opset, rng):
    x = 30 * rng.normal(size=(3, 5, 4))
    for dtype, rtol, axis in (
        ("float64", 1e-14, 0),
        ("float32", 1e-6, 1),
        ("float16", 4e-3, -1),
    ):
        call = lambda x, a=axis: tf.math.cumulative_logsumexp(x, a, exclusive, reverse)  # noqa: E731
        y = x.astype(dtype)
        flipped = np.flip(y, axis) if reverse else y
        wanted = np.logaddexp.accumulate(flipped.astype("float64"), axis)
        if exclusive:
            wanted = np.roll(wanted, 1, axis)
            np.moveaxis(wanted, axis, 0)[0] = -np.inf
        wanted = np.flip(wanted, axis) if reverse else wanted
        free = axis != 1
        check(in_onnx(call, y, opset=opset, free=free)[0], wanted.astype(dtype), rtol)
    for nothing in (x[:0], x[..., :0]):
        same(call, nothing, opset=opset)


@pytest.mark.parametrize("reverse", [False, True])
def test_logarithms_of_sums_of_broken_numbers(reverse):
    inf, huge = np.inf, 3e38
    rows = [
        [-inf, 1, 2, -inf],
        [-inf] * 4,
        [inf, 1, -inf, 2],
        [1, inf, inf, 2],
        [huge, -huge, 0, huge],
    ]
    x = np.array(rows, "float32")
    call = lambda x: tf.math.cumulative_logsumexp(x, 1, reverse=reverse)  # noqa: E731
    same(call, x, rtol=1e-6)
    x = np.float32([[1, np.nan, 2]])
    np.testing.assert_array_equal(
        np.isnan(in_onnx(call, x)[0])[0, :: -1 if reverse else 1], [0, 1, 1]
    )
    x = np.float32([[-20, 0, -20]])
    small = np.log1p(np.exp([-20.0]) * [[1, 2]])[0]
    found = np.sort(in_onnx(call, x)[0][0])
    check(found[1:], np.sort([small[0], small[1]]).astype("float32"), 1e-6)
    x = np.linspace(-700, 700, 2000)[np.newaxis]
    check(in_onnx(call, x)[0], np.asarray(call(x)), 1e-13)


# 5. Matrices, shapes


ALIGNED = ["LEFT_RIGHT", "RIGHT_LEFT", "LEFT_LEFT", "RIGHT_RIGHT"]


@pytest.mark.parametrize(
    ("shape", "opset"), [((2, 3, 4), 18), ((4, 3), 18), ((2, 1, 1), 18), ((1, 2, 3), 13)]
)
def test_diagonals_are_set(shape, opset, rng):
    height, width = shape[-2:]
    x = np.where(rng.random(shape) < 0.1, np.nan, rng.normal(size=shape)).astype("float32")
    for k in range(1 - height, width):
        length = min(height + min(k, 0), width - max(k, 0))
        diagonal = rng.normal(size=(*shape[:-2], length)).astype("float32")
        call = lambda x, d, k=k: tf.linalg.set_diag(x, d, k=k)  # noqa: E731
        same(call, x, diagonal, opset=opset, free=k % 2 == 0)


@pytest.mark.parametrize(
    ("align", "dtype"),
    [*((align, "float32") for align in ALIGNED), ("RIGHT_LEFT", "bool"), ("RIGHT_LEFT", "uint8")],
)
def test_bands_are_set(align, dtype, rng):
    x = rng.integers(0, 9, (2, 4, 6)).astype(dtype)
    for low, high in ((-1, 1), (-3, -1), (1, 5), (2, 2)):
        lengths = [min(4 + min(d, 0), 6 - max(d, 0)) for d in range(low, high + 1)]
        shape = (2, len(lengths), max(lengths)) if low < high else (2, lengths[0])
        band = rng.integers(0, 9, shape).astype(dtype)
        # Of free extents TensorFlow gets the rank of the result wrong.
        call = lambda x, d, k=(low, high): tf.linalg.set_diag(  # noqa: E731
            tf.ensure_shape(x, (2, 4, 6)), d, k=k, align=align
        )
        same(call, x, band)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_shapes_of_several(dtype, opset, rng):
    x, y = np.zeros((3, 0, 5), "float32"), np.zeros(4, "float32")
    same(lambda x, y: tf.shape_n([x, y], tf.as_dtype(dtype)), x, y, opset=opset)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_times_dense(transposed, dtype, rng):
    a = np.where(rng.random((5, 7)) < 0.3, rng.normal(size=(5, 7)), 0).astype(dtype)
    a[2], a[:, 3] = 0, 0
    b = rng.normal(size=(5 if transposed else 7, 4)).astype(dtype)
    b[1 if transposed else 3, :3] = np.nan, np.inf, -np.inf
    a[1, 0] = 0
    sparse = tf.sparse.from_dense(a)
    times = tf.sparse.sparse_dense_matmul
    same(lambda b: times(sparse, b, adjoint_a=transposed), b, rtol=1e-5, atol=1e-6)
    turned = np.ascontiguousarray(b.T)
    call = lambda b: times(sparse, b, adjoint_a=transposed, adjoint_b=True)  # noqa: E731
    same(call, turned, rtol=1e-5, atol=1e-6)
    same(call, turned[:0])
    with pytest.raises(ConversionError, match="SparseTensorDenseMatMul needs opset 16"):
        in_onnx(call, turned, opset=13)


def test_entries_of_one_place_are_added():
    sparse = tf.SparseTensor([[2, 1], [0, 0], [2, 1]], [1.0, 2.0, 3.0], (3, 2))
    b = np.float32([[1, 2], [3, 4]])
    check(
        in_onnx(lambda b: tf.sparse.sparse_dense_matmul(sparse, b), b)[0],
        np.float32([[2, 4], [0, 0], [12, 16]]),
        0,
    )


# 6. Images


def colours(rng):
    """Grey, two equal parts, black, and more than there is."""
    x = rng.uniform(0, 1, (2, 6, 7, 3)).astype("float32")
    x[0, :2] = rng.choice(np.float32([0, 0.5, 1]), (2, 7, 3))
    x[1, 0] = rng.normal(size=(7, 3))
    return x


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("factor", [0.0, 0.4, 30.0])
def test_saturation(factor, opset, rng):
    x = np.abs(colours(rng))
    call = lambda x: tf.image.adjust_saturation(x, factor)  # noqa: E731
    same(call, x, rtol=1e-5, atol=2e-6, opset=opset)
    same(
        lambda x, s: tf.image.adjust_saturation(x, s[0]),
        x,
        np.float32([factor]),
        rtol=1e-5,
        atol=2e-6,
    )


@pytest.mark.parametrize("opset", OPSETS)
def test_hue_and_contrast(opset, rng):
    x = colours(rng)
    for amount in (-1.0, -0.3, 0.0, 0.2, 1.0):
        call = lambda x, a=amount: tf.image.adjust_hue(x, a)  # noqa: E731
        same(call, x, rtol=1e-5, atol=5e-6, opset=opset)
        call = lambda x, a=amount: tf.image.adjust_contrast(x, 1 + a)  # noqa: E731
        same(call, x, rtol=1e-5, atol=2e-6, opset=opset)


@pytest.mark.parametrize(("dtype", "opset"), [("float32", 13), ("uint8", 18), ("float64", 18)])
def test_crops_of_nearest_pixels(dtype, opset, rng):
    x = rng.integers(0, 200, (3, 5, 7, 2)).astype(dtype)
    boxes = rng.uniform(-0.3, 1.3, (40, 4)).astype("float32")
    whole = [[0, 0, 1, 1], [1, 1, 0, 0], [0.5, 0, 0.5, 1], [0, 0, 0.25, 0.5], [0, 0, 2, 2]]
    boxes = np.concatenate([boxes, np.float32(whole)])
    owners = rng.integers(0, 3, 45).astype("int32")
    for size in ((9, 13), (1, 1), (2, 25)):

        def call(x, b, i, size=size):
            return tf.image.crop_and_resize(x, b, i, size, "nearest", extrapolation_value=-3.5)

        same(call, x, boxes, owners, opset=opset)
    same(lambda x: tf.image.crop_and_resize(x, boxes, owners, (4, 3), "nearest"), x, opset=opset)
    same(call, x, boxes[:0], owners[:0], opset=opset)


def test_crops_of_bilinear_pixels(rng):
    x = rng.normal(size=(2, 5, 7, 2)).astype("float32")
    boxes = np.float32([[0.1, 0.2, 0.8, 0.9], [0, 0, 1.2, 1]])
    same(lambda x: tf.image.crop_and_resize(x, boxes, [0, 1], (3, 4)), x, rtol=1e-5, atol=1e-6)


# 7. All of them


LATER = {
    "steps": lambda x: tf.quantization.fake_quant_with_min_max_vars(x, -1.0, 2.0),
    "xlogy": lambda x: tf.math.xlogy(x, tf.abs(x)),
    "rest": lambda x: tf.truncatemod(tf.cast(10 * x, tf.int32), 3),
    "sum": lambda x: tf.reduce_sum(tf.cast(10 * tf.abs(x), tf.uint8), 1),
    "product": lambda x: tf.reduce_prod(tf.cast(10 * tf.abs(x), tf.uint8), 1),
    "largest": lambda x: tf.reduce_max(tf.cast(10 * x, tf.int16), 1),
    "place": lambda x: tf.argmax(x > 0, 1),
    "segments": lambda x: tf.math.segment_max(x, [0, 0, 3]),
    "logarithms": lambda x: tf.math.cumulative_logsumexp(x, 1),
    "diagonal": lambda x: tf.linalg.set_diag(x, x[1:, 1], k=-1),
    "shapes": lambda x: tf.shape_n([x, x[0]]),
    "sparse": lambda x: tf.sparse.sparse_dense_matmul(tf.sparse.eye(4, 3), x),
    "saturation": lambda x: tf.image.adjust_saturation(tf.abs(x[..., tf.newaxis] * [1, 2, 3]), 2),
    "crops": lambda x: tf.image.crop_and_resize(
        x[tf.newaxis, ..., tf.newaxis], [[0.0, 0, 1, 1]], [0], (5, 2), "nearest"
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_later_operator_sets(name, rng):
    x = rng.normal(size=(3, 3)).astype("float32")
    ports = [Port("x", x.shape, "float32")]
    model = convert(lambda x: tf.nest.flatten(LATER[name](x)), ports, 21)
    raise_opset(model, 21)
    session = open_session(ir.to_proto(model).SerializeToString(), True)
    wanted = tf.nest.flatten(LATER[name](tf.constant(x)))
    for one, other in zip(session.run(None, {"input_0": x}), wanted, strict=True):
        check(one, other, 1e-5, atol=1e-6)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axes", [-1, 0, [0, 1], [0, 1, 2]])
def test_the_largest_of_long_numbers(axes, opset, rng):
    x = rng.choice([1, 3_000_000_000, -1, -3_000_000_000, 2**40, 2**40 + 2**31], (3, 5, 9))
    for reduce, wanted in ((tf.reduce_max, np.max), (tf.reduce_min, np.min)):
        for keep in (False, True):
            (result,) = in_onnx(lambda x: reduce(x, axes, keep), x, opset=opset, free=False)  # noqa: B023
            axis = tuple(axes) if isinstance(axes, list) else axes
            check(result, wanted(x, axis=axis, keepdims=keep), rtol=0)


@pytest.mark.parametrize("fill", ["CONSTANT", "NEAREST"])
def test_nearest_pixels_halfway(fill, rng):
    """TensorFlow rounds away from zero, also in front of the first pixel."""
    images = rng.normal(size=(9, 6, 7, 2)).astype("float32")
    maps = np.tile(np.eye(3).ravel()[:8].astype("float32"), (9, 1))
    maps[:, [2, 5]] = np.array([-1.5, -0.5, 0.5, 1.5, -0.49999997, 0.49999997, 2.5, 0, 7])[:, None]

    call = projected([6, 7], "NEAREST", fill)
    (result,) = in_onnx(call, images, maps, free=False)
    check(result, call(images, maps), rtol=0)


def test_angles_of_all_quadrants(rng):
    special = [0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 3e38, -3e38, np.inf, -np.inf, np.nan]
    y, x = (part.ravel() for part in np.meshgrid(special, special))
    drawn = rng.normal(size=(2, 200)) * 10.0 ** rng.uniform(-20, 20, (2, 200))
    y, x = np.concatenate([y, drawn[0]]), np.concatenate([x, drawn[1]])
    y, x = y.astype("float32"), x.astype("float32")
    (found,) = in_onnx(tf.atan2, y, x)
    wanted = np.arctan2(y.astype("float64"), x.astype("float64"))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-44)


# 5. Decoding


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("blank", [0, 2, -1, -4])
def test_greedy_decoding(blank, merged, opset, rng):
    def call(x, lengths):
        (found,), score = tf.nn.ctc_greedy_decoder(x, lengths, merged, blank)
        return found.indices, found.values, found.dense_shape, score, tf.sparse.to_dense(found)

    for samples, steps in ((5, 9), (1, 1), (3, 40)):
        x = rng.integers(-3, 3, (steps, samples, 4)).astype("float32")  # with many ties
        lengths = rng.integers(0, steps + 1, samples).astype("int32")
        wanted = call(tf.constant(x), tf.constant(lengths))
        for one, other in zip(in_onnx(call, x, lengths, opset=opset), wanted, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other.numpy())


@pytest.mark.parametrize("ragged", [False, True])
def test_greedy_decoding_in_a_model(ragged, tmp_path):
    inputs = keras.Input((12, 8))
    x = keras.layers.GRU(6, return_sequences=True)(inputs)
    x = keras.layers.Dense(5, "softmax")(x)
    used = inputs[..., 0] > -1 if ragged else keras.ops.ones_like(inputs[..., 0])
    lengths = keras.ops.sum(keras.ops.cast(used, "int32"), 1)
    labels, scores = keras.ops.ctc_decode(x, lengths)
    model = keras.Model(inputs, {"labels": labels, "scores": scores})
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
