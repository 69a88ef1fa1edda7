"""Each handler against the mathematics, or else against TensorFlow, on numbers chosen to hurt."""

import keras
import numpy as np
import onnx_ir as ir
import pytest
import scipy.linalg
import scipy.special
import tensorflow as tf
from operations import EDGES, NORMAL, TINY, check, in_onnx, numbers, scale

from kerasdl.export.converting.convert import convert
from kerasdl.export.converting.handlers import HANDLERS
from kerasdl.export.converting.opset import MINIMUM_OPSET
from kerasdl.export.converting.weights import Weights
from kerasdl.export.errors import ConversionError
from kerasdl.export.files.runtime import open_session
from kerasdl.export.ports import Port

pytestmark = pytest.mark.tensorflow

# 1. Elementary functions


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 5e-7), ("float64", 2e-15)])
@pytest.mark.parametrize("name", ["expm1", "log1p"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_expm1_and_log1p_have_all_their_digits(name, dtype, rtol, rng):
    x = numbers(rng, dtype)
    (y,) = in_onnx(getattr(tf.math, name), x)
    exact = getattr(np, name)(x.astype("float64")).astype(dtype)
    # What is smaller than the smallest normal number may come out as zero.
    check(y, exact, rtol, atol=2 * NORMAL if dtype == "float32" else 0)


def test_erfc_is_exact_in_relation_to_its_range(rng):
    x = numbers(rng)
    (y,) = in_onnx(tf.math.erfc, x)
    check(y, scipy.special.erfc(x.astype("float64")).astype("float32"), 2e-7, atol=1.2e-7)


def test_erfinv(rng):
    inside = np.tanh(np.linspace(-8, 8, 1001)).astype("float32")
    x = np.concatenate([inside, [0.0, -0.0, 1.0, -1.0, 1 - 2**-24, TINY, 1e-10, 2.0, np.nan]])
    x = x.astype("float32")
    (y,) = in_onnx(tf.math.erfinv, x)
    exact = scipy.special.erfinv(x.astype("float64")).astype("float32")
    check(y, exact, 1e-6, atol=2 * NORMAL)


@pytest.mark.parametrize("name", ["i0", "i0e"])
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_bessel(name, rng):
    x = np.concatenate(
        [np.linspace(-60, 60, 2001), [0.0, -0.0, TINY, 8.0, 7.9999995, np.inf, np.nan]]
    )
    x = x.astype("float32")
    (y,) = in_onnx(getattr(tf.math, f"bessel_{name}"), x)
    exact = getattr(scipy.special, name)(x.astype("float64")).astype("float32")
    check(y, exact, 2e-6)


@pytest.mark.parametrize(("x", "y"), [(-4.0, 0.0), (0.0, 1.0)])
def test_gelu_and_celu_through_keras(x, y, rng):
    values = rng.normal(x, 2, (7, 5)).astype("float32")
    for function in (lambda t: keras.ops.gelu(t, approximate=False), keras.ops.celu):
        (result,) = in_onnx(function, values)
        check(result, keras.ops.convert_to_numpy(function(values)), 1e-6, atol=1e-6)


# 2. Bits, search and order


def test_float_to_bits():
    rng = np.random.default_rng(0)
    random = rng.integers(-(2**31), 2**31, 5000, dtype=np.int64).astype(np.int32).view(np.float32)
    powers = 2.0 ** np.arange(-149, 128)
    around = [np.nextafter(powers.astype("f"), np.float32(s)) for s in (0, np.inf)]
    x = np.concatenate([EDGES[:-1], random[~np.isnan(random)], powers, -powers, *around])
    x = x.astype("float32")
    (bits,) = in_onnx(lambda t: tf.bitcast(t, tf.int32), x)
    np.testing.assert_array_equal(bits, x.view(np.int32))
    (back,) = in_onnx(lambda t: tf.bitcast(t, tf.float32), bits)
    np.testing.assert_array_equal(back.view(np.int32), bits)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_next_after(dtype, rng):
    x = numbers(rng, dtype)
    limits = np.finfo(dtype)
    x = np.concatenate([x, [limits.smallest_subnormal, limits.tiny, 2 * limits.tiny, limits.max]])
    x = x.astype(dtype)
    for towards in (np.inf, -np.inf, 0.0, 1.0):
        y = np.full_like(x, towards)
        with np.errstate(over="ignore", under="ignore"):
            wanted = np.nextafter(x, y)
        (result,) = in_onnx(tf.math.nextafter, x, y)
        np.testing.assert_array_equal(result, wanted)


def test_sign_bit_of_zeros():
    x = np.array([0.0, -0.0, TINY, -TINY, np.inf, -np.inf, 2.0, -2.0], "float32")
    (result,) = in_onnx(keras.ops.signbit, x)
    np.testing.assert_array_equal(result, np.signbit(x))


def test_the_bit_of_the_sign_read_otherwise(rng):
    """By another mask, for another comparison, and as a number."""
    x = np.array([0.0, -0.0, 1.5, -1.5, 1e-40, -1e-40, np.inf, -np.inf], "float32")
    sign = np.int32(np.iinfo(np.int32).min)

    def read(t):
        bits = tf.bitcast(t, tf.int32)
        masked = tf.bitwise.bitwise_and(bits, sign)
        return masked < 0, masked, tf.bitwise.bitwise_and(bits, 255) < 1, masked < 1, bits < 3

    found = in_onnx(read, x)
    for one, other in zip(found, read(tf.constant(x)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_argmax_of_signed_zeros():
    x = np.array([[-0.0, 0.0, -0.0], [0.0, -0.0, 0.0], [-1.0, -0.0, -2.0]], "float32")
    for function in (keras.ops.argmax, keras.ops.argmin):
        (result,) = in_onnx(lambda t, f=function: f(t, axis=1), x)
        np.testing.assert_array_equal(result, function(x, axis=1))


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(side, rng):
    ordered = np.sort(rng.integers(-5, 5, (3, 9)), axis=1).astype("float32")
    values = rng.integers(-7, 7, (3, 20)).astype("float32")
    values[:, :2] = -np.inf, np.inf
    (found,) = in_onnx(lambda a, b: tf.searchsorted(a, b, side), ordered, values)
    wanted = [np.searchsorted(a, b, side) for a, b in zip(ordered, values, strict=True)]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_bucketize(dtype, rng):
    boundaries = [-2.0, 0.0, 0.5, 3.0]
    x = np.array([-np.inf, -2, -0.0, 0, 0.5, np.nextafter(np.float32(0.5), 0), 3, np.inf, np.nan])
    x = (x if dtype == "float32" else np.arange(-4, 6)).astype(dtype)
    call = lambda t: tf.raw_ops.Bucketize(input=t, boundaries=boundaries)  # noqa: E731
    (found,) = in_onnx(call, x)
    check(found, np.asarray(call(x)), 0)


def test_in_top_k_with_ties_and_broken_numbers(rng):
    p = rng.integers(0, 4, (60, 6)).astype("float32")
    p[0, 1], p[1, 2], p[2, 3] = np.nan, np.inf, -np.inf
    t = rng.integers(0, 6, 60).astype("int32")
    call = lambda p, t: tf.math.in_top_k(t, p, 3)  # noqa: E731
    (found,) = in_onnx(call, p, t)
    finite = np.isfinite(p).all(1)
    np.testing.assert_array_equal(found[finite], np.asarray(call(p, t))[finite])
    assert not found[~finite].any()


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_segments_some_empty_and_some_rows_dropped(kind, dtype, rng):
    data = (3 * rng.normal(size=(9, 2, 4))).astype(dtype)
    ids = np.array([0, 2, 2, -1, 5, 0, 2, -1, 5], "int32")
    call = lambda d, i: getattr(tf.math, f"unsorted_segment_{kind}")(d, i, 7)  # noqa: E731
    (result,) = in_onnx(call, data, ids)
    check(result, np.asarray(call(data, ids)), 1e-6)


def test_the_largest_of_segments_needs_opset_18(rng):
    data, ids = rng.normal(size=(3, 2)).astype("float32"), np.zeros(3, "int32")
    with pytest.raises(ConversionError, match="UnsortedSegmentMax"):
        in_onnx(lambda d, i: tf.math.unsorted_segment_max(d, i, 2), data, ids, opset=MINIMUM_OPSET)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_division_of_all_signs(dtype, rng):
    x = rng.integers(-20, 20, 400).astype(dtype)
    y = rng.choice([-7, -3, -1, 1, 2, 5], 400).astype(dtype)
    if dtype == "float32":
        x[:4], y[:4] = [-1e-8, 1e-8, -0.0, 5.5], [3, -3, 2, -2.5]
    (quotient,) = in_onnx(tf.math.floordiv, x, y)
    check(quotient, np.floor_divide(x, y), 0)
    (rest,) = in_onnx(tf.math.floormod, x, y)
    check(rest, np.mod(x, y), 1e-6)


@pytest.mark.parametrize(
    ("a", "b"), [((5, 1, 3), (4, 1)), ((1,), (2, 7)), ((3, 2), (3, 2)), ((1, 0), (1,))]
)
def test_broadcast_args(a, b):
    given = [np.array(shape, "int32") for shape in (a, b)]
    call = lambda a, b: tf.raw_ops.BroadcastArgs(s0=a, s1=b)  # noqa: E731
    ports = [Port(f"x{i}", x.shape, "int32") for i, x in enumerate(given)]
    model = convert(lambda *t: [call(*t)], ports, 18, weights=Weights([]))
    session = open_session(ir.to_proto(model).SerializeToString(), False)
    (shape,) = session.run(None, {f"input_{i}": x for i, x in enumerate(given)})
    assert tuple(shape) == np.broadcast_shapes(a, b)


@pytest.mark.parametrize("start", [(0, 0), (1, 2), (9, 9), (-3, 1)])
def test_update_of_a_slice_stays_inside(start, rng):
    x, update = rng.normal(size=(5, 6)).astype("f"), rng.normal(size=(2, 3)).astype("f")
    places = np.array(start, "int32")
    (result,) = in_onnx(
        lambda x, u, s: keras.ops.slice_update(x, s, u), *(x, update, places), free=False
    )
    row, column = np.clip(start, 0, (3, 3))
    wanted = x.copy()
    wanted[row : row + 2, column : column + 3] = update
    check(result, wanted, 0)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_inverse_of_a_permutation(length, rng):
    p = rng.permutation(length).astype("int32")
    (result,) = in_onnx(tf.math.invert_permutation, p)
    np.testing.assert_array_equal(result, np.argsort(p))


def test_cross_product(rng):
    a, b = rng.normal(size=(2, 5, 4, 3)).astype("float32")
    (result,) = in_onnx(tf.linalg.cross, a, b)
    check(result, np.cross(a, b), 1e-6, atol=1e-6)


# 3. Complex numbers


@pytest.mark.parametrize("length", [1, 2, 7, 8, 30])
@pytest.mark.parametrize("inverse", [False, True])
def test_fft(length, inverse, rng):
    real, imaginary = rng.normal(size=(2, 3, 4, length)).astype("float32")
    transform = tf.signal.ifft if inverse else tf.signal.fft

    def call(a, b):
        z = transform(tf.complex(a, b))
        return tf.math.real(z), tf.math.imag(z)

    found = in_onnx(call, real, imaginary, free=False)
    wanted = (np.fft.ifft if inverse else np.fft.fft)(real + 1j * imaginary)
    for part, exact in zip(found, (wanted.real, wanted.imag), strict=True):
        np.testing.assert_allclose(part, exact, atol=1e-6 * (scale(wanted.real) + 1))


def test_fft_in_two_dimensions(rng):
    real, imaginary = rng.normal(size=(2, 3, 5, 6)).astype("float32")
    found = in_onnx(lambda a, b: keras.ops.fft2((a, b)), real, imaginary, free=False)
    wanted = np.fft.fft2(real + 1j * imaginary)
    for part, exact in zip(found, (wanted.real, wanted.imag), strict=True):
        np.testing.assert_allclose(part, exact, atol=2e-5)


@pytest.mark.parametrize(("given", "length"), [(8, 8), (9, 9), (9, 4), (5, 12), (6, 1)])
def test_real_fft_crops_and_pads(given, length, rng):
    x = rng.normal(size=(3, given)).astype("float32")
    found = in_onnx(lambda t: keras.ops.rfft(t, length), x, free=False)
    wanted = np.fft.rfft(x, length)
    for part, exact in zip(found, (wanted.real, wanted.imag), strict=True):
        np.testing.assert_allclose(part, exact, atol=1e-5)


@pytest.mark.parametrize(("given", "length"), [(5, 8), (5, 9), (6, 8), (1, 1)])
def test_inverse_of_the_real_fft(given, length, rng):
    real, imaginary = rng.normal(size=(2, 3, given)).astype("float32")
    (found,) = in_onnx(lambda *t: keras.ops.irfft(t, length), real, imaginary, free=False)
    wanted = np.fft.irfft(real + 1j * imaginary, length)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_padding_of_complex_numbers(rng):
    real, imaginary = rng.normal(size=(2, 3, 4)).astype("float32")
    (found,) = in_onnx(lambda *t: keras.ops.irfft(t, 12), real, imaginary, free=False)
    np.testing.assert_allclose(found, np.fft.irfft(real + 1j * imaginary, 12), atol=1e-5)


def test_parts_of_complex_numbers_that_are_output(rng):
    real, imaginary = rng.normal(size=(2, 3, 4)).astype("float32")
    pair = in_onnx(lambda a, b: keras.ops.view_as_real(tf.complex(a, b)), real, imaginary)[0]
    np.testing.assert_array_equal(pair, np.stack([real, imaginary], -1))


# 4. Images


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "area", "lanczos3", "gaussian"])
@pytest.mark.parametrize("size", [(1, 1), (3, 20), (8, 7), (16, 14), (5, 2)])
@pytest.mark.parametrize("antialias", [False, True])
def test_resizing(method, size, antialias, rng):
    x = rng.normal(size=(3, 8, 7, 2)).astype("float32")
    call = lambda t: tf.image.resize(t, size, method, antialias=antialias)  # noqa: E731
    (result,) = in_onnx(call, x, free=False)
    check(result, np.asarray(call(x)), 1e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 7), (30, 3)])
def test_bilinear_resizing_of_free_extents(shape, rng):
    x = rng.normal(size=(2, *shape, 3)).astype("float32")
    call = lambda t: tf.image.resize(tf.ensure_shape(t, (None,) * 3 + (3,)), (5, 12))  # noqa: E731
    (result,) = in_onnx(call, x)
    check(result, np.asarray(call(x)), 1e-5, atol=2e-6)


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("opset", [13, 18])
def test_resizing_to_the_extents_of_others(method, known, opset, tmp_path, rng):
    from kerasdl import export

    large = keras.Input((None, None, 2))
    small = keras.Input((4, 5, 2) if known else (None, None, 2))
    call = lambda xy: xy[0] + tf.image.resize(xy[1], tf.shape(xy[0])[1:3], method)  # noqa: E731
    y = keras.layers.Lambda(call, output_shape=(None, None, 2))([large, small])
    model = keras.Model([large, small], y)
    assert export.to_onnx(model, tmp_path / "model.onnx", opset=opset).passed
    session = open_session((tmp_path / "model.onnx").read_bytes(), True)
    names = [end.name for end in session.get_inputs()]
    for batch, extents in ((1, (4, 5)), (3, (9, 11)), (2, (1, 3)), (0, (8, 2))):
        given = [
            rng.normal(size=(batch, *shape, 2)).astype("float32") for shape in (extents, (4, 5))
        ]
        (found,) = session.run(None, dict(zip(names, given, strict=True)))
        check(found, call([tf.constant(x) for x in given]), 1e-5, atol=2e-6)


def projected(size, interpolation, fill_mode):
    return lambda images, maps: tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=maps,
        output_shape=size,
        fill_value=0.5,
        interpolation=interpolation,
        fill_mode=fill_mode,
    )


@pytest.mark.parametrize("fill_mode", ["constant", "nearest"])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_projective_maps(fill_mode, interpolation, rng):
    x = rng.normal(size=(4, 8, 7, 3)).astype("float32")
    maps = rng.normal(0, 0.1, (4, 8)).astype("float32") + np.float32([1, 0, 0, 0, 1, 0, 0, 0])
    maps[3] = [1, 0, 0.3, 0, 1, -0.7, -0.25, 0]  # a column where the denominator is zero

    call = projected([6, 9], interpolation.upper(), fill_mode.upper())
    (result,) = in_onnx(call, x, maps, free=False)
    wanted = np.asarray(call(x, maps))
    assert np.mean(np.abs(result - wanted) < 1e-4) > 0.99  # not at the step between two pixels
    assert result.shape == wanted.shape


def test_colours_there_and_back(rng):
    rgb = rng.uniform(0, 1, (3, 9, 8, 3)).astype("float32")
    rgb[0, :4] = [
        [0, 0, 0],
        [1, 1, 1],
        [1, 0, 0],
        [0, 1, 1],
        [1, 1, 0],
        [0, 0, 1],
        [0.5] * 3,
        [1, 0, 1],
    ]
    (hsv,) = in_onnx(tf.image.rgb_to_hsv, rgb)
    check(hsv, np.asarray(tf.image.rgb_to_hsv(rgb)), 1e-5, atol=1e-6)
    (back,) = in_onnx(tf.image.hsv_to_rgb, hsv)
    check(back, np.asarray(tf.image.hsv_to_rgb(hsv)), 1e-5, atol=1e-6)
    np.testing.assert_allclose(back, rgb, atol=1e-5)


# 5. Linear algebra


def square(rng, size=5, batch=(3,), dtype="float64"):
    return rng.normal(size=(*batch, size, size)).astype(dtype)


def zeros_on_the_diagonal(rng, dtype="float64"):
    """Without pivoting, nothing could be divided by."""
    a = square(rng, dtype=dtype)
    a[..., np.arange(5), np.arange(5)] = 0
    return a


@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-11), ("float32", 3e-4)])
def test_solve_invert_determinant(dtype, atol, rng):
    a, b = zeros_on_the_diagonal(rng, dtype), rng.normal(size=(3, 5, 2)).astype(dtype)
    for adjoint in (False, True):
        (x,) = in_onnx(lambda a, b, t=adjoint: tf.linalg.solve(a, b, adjoint=t), a, b, free=False)
        system = np.swapaxes(a, 1, 2) if adjoint else a
        np.testing.assert_allclose(x, np.linalg.solve(system, b), rtol=atol, atol=atol)
    (inverse,) = in_onnx(tf.linalg.inv, a, free=False)
    np.testing.assert_allclose(inverse, np.linalg.inv(a), rtol=atol, atol=atol)
    sign, logarithm = in_onnx(tf.linalg.slogdet, a, free=False)
    wanted = np.linalg.slogdet(a)
    np.testing.assert_array_equal(sign, wanted.sign)
    np.testing.assert_allclose(logarithm, wanted.logabsdet, rtol=atol, atol=atol)


def test_a_permutation_matrix_is_solved_exactly(rng):
    a = np.eye(6)[rng.permutation(6)][np.newaxis]
    b = rng.normal(size=(1, 6, 2))
    (x,) = in_onnx(tf.linalg.solve, a, b, free=False)
    np.testing.assert_array_equal(x, np.swapaxes(a, 1, 2) @ b)


def test_huge_and_tiny_rows_are_solved(rng):
    a = square(rng) * 10.0 ** np.array([-200, 0, 150, -3, 40])[:, np.newaxis]
    b = a @ np.ones((5, 1))
    (x,) = in_onnx(tf.linalg.solve, a, b, free=False)
    np.testing.assert_allclose(x, 1, rtol=1e-9)


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
def test_triangular_solve_reads_one_triangle(lower, adjoint, rng):
    a, b = square(rng) + 3 * np.eye(5), rng.normal(size=(3, 5, 2))
    call = lambda a, b: tf.linalg.triangular_solve(a, b, lower, adjoint)  # noqa: E731
    (x,) = in_onnx(call, a, b, free=False)
    wanted = [
        scipy.linalg.solve_triangular(m, r, trans=int(adjoint), lower=lower)
        for m, r in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(x, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 12])
def test_cholesky(size, rng):
    a = square(rng, size, (2, 3))
    a = a @ np.swapaxes(a, -1, -2) + np.eye(size)
    (factor,) = in_onnx(tf.linalg.cholesky, a, free=False)
    np.testing.assert_allclose(factor, np.linalg.cholesky(a), rtol=1e-12, atol=1e-12)


def test_lu(rng):
    a = zeros_on_the_diagonal(rng)
    found = in_onnx(tf.linalg.lu, a, free=False)
    wanted = [np.asarray(part) for part in tf.linalg.lu(a)]
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(found[1], wanted[1])
    assert found[1].dtype == wanted[1].dtype


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 1), (5, 1)])
@pytest.mark.parametrize("full", [False, True])
def test_qr(shape, full, rng):
    a = rng.normal(size=(2, *shape))
    a[0, :, 0] = np.eye(shape[0])[0]  # a column that needs no reflection
    call = lambda a: tf.linalg.qr(a, full_matrices=full)  # noqa: E731
    found = in_onnx(lambda a: list(call(a)), a, free=False)
    for one, other in zip(found, call(a), strict=True):
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-11, atol=1e-12)


def test_two_operations_of_one_kind_and_several_results(rng):
    """Names made for the second result of one are not those of the other."""
    a, b = rng.normal(size=(2, 3, 4, 4))
    call = lambda a, b: [*tf.linalg.qr(a), *tf.linalg.qr(b)]  # noqa: E731
    for one, other in zip(in_onnx(call, a, b, free=False), call(a, b), strict=True):
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-11, atol=1e-12)


def test_large_matrices_are_refused(rng):
    a = square(rng, 65, (1,), "float32")
    with pytest.raises(ConversionError, match="MatrixInverse"):
        in_onnx(tf.linalg.inv, a, free=False)


# 6. Lookup tables, and the registry


@pytest.mark.parametrize("output_mode", ["int", "multi_hot", "count"])
def test_integer_lookup(output_mode, tmp_path, rng):
    from kerasdl import export

    layer = keras.layers.IntegerLookup(
        vocabulary=[-(2**40), 2**40, 0, 7], num_oov_indices=2, output_mode=output_mode
    )
    inputs = keras.Input((3,), dtype="int64")
    model = keras.Model(inputs, layer(inputs))
    x = rng.choice([-(2**40), 2**40, 0, 7, 1, -1], (9, 3)).astype("int64")
    report = export.to_onnx(model, tmp_path / "model.onnx", data={inputs.name: x})
    assert report.passed
    assert layer.lookup_table is not None


@pytest.mark.parametrize("mask_token", [None, "", "m"])
def test_string_lookup(mask_token, tmp_path):
    from kerasdl import export

    layer = keras.layers.StringLookup(
        vocabulary=["b", "ä", 'a "quoted" {x}'], mask_token=mask_token
    )
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, layer(inputs))
    words = ["b", "ä", 'a "quoted" {x}', "unknown", "", "m"]
    x = np.array([[word] for word in words], object)
    assert export.to_onnx(model, tmp_path / "model.onnx", data={inputs.name: x}).passed


def test_handlers_are_for_operations_that_tensorflow_has():
    unknown = {name for name in HANDLERS if not hasattr(tf.raw_ops, name)}
    assert unknown == {"XlaDynamicUpdateSlice"}  # XLA's own


@pytest.mark.parametrize("opset", [16, 18])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_numbers_scattered_to_one_place_are_added(dtype, opset, rng):
    indices = rng.integers(0, 4, (20, 2)).astype("int32")
    updates = (10 * rng.normal(size=(20, 3))).astype(dtype)
    (result,) = in_onnx(lambda i, y: tf.scatter_nd(i, y, (4, 5, 3)), indices, updates, opset=opset)
    wanted = np.zeros((4, 5, 3))
    np.add.at(wanted, tuple(indices.T), updates)
    check(result, wanted.astype(dtype), rtol=1e-6, atol=1e-5)


def test_scattering_before_opset_16(rng):
    y, places = rng.normal(size=(3, 2)).astype("float32"), np.array([[4], [0], [2]])
    (result,) = in_onnx(lambda y: tf.scatter_nd(places, y, (5, 2)), y, opset=13)
    check(result, tf.scatter_nd(places, y, (5, 2)), rtol=0)
    with pytest.raises(ConversionError, match="ScatterNd"):
        in_onnx(lambda y: tf.scatter_nd([[1], [1], [0]], y, (5, 2)), y, opset=13)
    with pytest.raises(ConversionError, match="ScatterNd"):
        in_onnx(lambda y, i: tf.scatter_nd(i, y, (5, 2)), y, places, opset=13)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("axes", [[], [0], [-1], [1, 2], [-3, -1]])
def test_reverse_is_one_slice(axes, opset, rng):
    x = rng.normal(size=(2, 3, 8)).astype("float32")
    (result,) = in_onnx(lambda x: tf.reverse(x, axes), x, opset=opset)
    check(result, np.flip(x, axes), rtol=0)

    def spectrum(x):
        return tf.math.real(tf.signal.fft(tf.reverse(tf.complex(x, x), axes)))

    (result,) = in_onnx(spectrum, x, opset=opset, free=False)
    wanted = np.fft.fft(np.flip(x, axes) * (1 + 1j)).real
    check(result, wanted.astype("float32"), rtol=1e-5, atol=1e-4)
