"""Handlers of gamma functions, diagonals, products, counts, transposed convolutions."""

import itertools

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from keras import layers, ops
from operations import check, in_onnx, spread
from own_layers import Computing

from kerasdl import export
from kerasdl.export.errors import ConversionError

pytestmark = pytest.mark.tensorflow

OPSETS = [13, 18]
NEWER = [pytest.param(13, marks=pytest.mark.slow), 18]
BROKEN = [0.0, -0.0, np.inf, -np.inf, np.nan]


def same(call, *arrays, rtol=0.0, atol=0.0, **options):
    """Against TensorFlow."""
    found = in_onnx(call, *arrays, **options)
    wanted = [np.asarray(y) for y in tf.nest.flatten(call(*map(tf.constant, arrays)))]
    for one, other in zip(found, wanted, strict=True):
        check(one, other, rtol, atol)


def passes(call, shape, path, opset=18, dtype=None, **options):
    """Of a model with the function between two layers."""
    inputs = keras.Input(shape, dtype=dtype)
    y = inputs if dtype else layers.Dense(shape[-1] or 3, activation="sigmoid")(inputs)
    model = keras.Model(inputs, Computing(call)(y))
    return export.to_onnx(model, path / "model.onnx", opset=opset, **options).passed


# 1. Special functions


def places(dtype):
    """Around the poles and the zeros of log Γ and ψ, and everywhere else."""
    rng = np.random.default_rng(0)
    poles = np.arange(-30.0, 8)
    zeros = [-2.4570247382208005, -2.747682646727412, -3.1435808883499801, 1.4616321449683623]
    zeros += [-0.504083008264455, -1.573498473162390, 1.0, 2.0, -9.9999997245, -20.0000001]
    steps = np.ldexp(1.0, -np.arange(1, 24))
    around = np.concatenate(
        [(np.array([*poles, *zeros])[:, None] + s * steps).ravel() for s in (-1, 1)]
    )
    spread = rng.choice([-1, 1], 3000) * 10 ** rng.uniform(-30, 30, 3000)
    x = [poles, around, zeros, spread, rng.uniform(-40, 40, 4000), BROKEN]
    with np.errstate(over="ignore"):
        return np.concatenate(x).astype(dtype)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_log_gamma_has_all_digits_near_its_zeros(opset):
    x = places("float32")
    exact = scipy.special.gammaln(x.astype("float64")).astype("float32")
    exact[x == -np.inf] = np.inf
    for free in (False, True):
        (y,) = in_onnx(tf.math.lgamma, x, opset=opset, free=free)
        check(y, exact, 2e-7)
    x = places("float64")
    (y,) = in_onnx(tf.math.lgamma, x, opset=opset)
    check(y, tf.math.lgamma(x).numpy(), 1e-13, 1e-13)


@pytest.mark.parametrize("opset", OPSETS)
def test_digamma_has_all_digits_near_its_zeros(opset):
    x = places("float32")
    exact = scipy.special.digamma(x.astype("float64"))
    exact = np.where((x <= 0) & (x == np.floor(x)), np.nan, exact).astype("float32")
    for free in (False, True):
        (y,) = in_onnx(tf.math.digamma, x, opset=opset, free=free)
        check(y, exact, 3e-7)
    x = np.linspace(-4.99, 50, 5003)
    (y,) = in_onnx(tf.math.digamma, x, opset=opset)
    check(y, scipy.special.digamma(x), 1e-11, 1e-13)


@pytest.mark.parametrize("opset", OPSETS)
def test_quantiles_of_the_normal_distribution(opset):
    small = 10.0 ** -np.linspace(0.1, 44.9, 3000)
    middle = np.linspace(0, 1, 4001)
    edges = [0.125, 0.875, 0.5, 1 - 2**-24, 2**-149, 2**-126, -0.1, 1.1, *BROKEN]
    x = np.concatenate([small, 1 - small, middle, 0.5 + small, edges]).astype("float32")
    for free in (False, True):
        (y,) = in_onnx(tf.math.ndtri, x, opset=opset, free=free)
        check(y, scipy.special.ndtri(x.astype("float64")).astype("float32"), 2e-7)
    x = np.concatenate([10.0 ** -np.linspace(0.1, 307, 2000), middle, [0.0, 1.0, np.nan, 2.0]])
    (y,) = in_onnx(tf.math.ndtri, x, opset=opset)
    check(y, scipy.special.ndtri(x), 1e-13, 1e-15)


@pytest.mark.parametrize("name", ["i1", "i1e"])
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_bessel_of_order_one(name, opset):
    x = np.concatenate([np.linspace(-60, 60, 2001), [1e-20, 8.0, 7.9999995, *BROKEN]])
    x = x.astype("float32")
    (y,) = in_onnx(getattr(tf.math, f"bessel_{name}"), x, opset=opset)
    exact = getattr(scipy.special, name)(x.astype("float64")).astype("float32")
    check(y, exact, 2e-6)


@pytest.mark.parametrize("opset", OPSETS)
def test_products_with_zero_are_zero(opset, rng):
    x, y = np.array(list(itertools.product([*BROKEN, 2.0], repeat=2)), "float32").T
    same(tf.math.multiply_no_nan, x, y, opset=opset)
    x = rng.normal(size=(3, 4)).astype("float32")
    same(lambda x: tf.math.multiply_no_nan(x[:, None], tf.nn.relu(x)), x, opset=opset)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [None, 0, -1, [0, 2], [], [1, 0, 2]])
def test_euclidean_norms(axis, opset, rng):
    for dtype, keep in itertools.product(("float32", "float64"), (False, True)):
        x = rng.normal(size=(3, 4, 5)).astype(dtype)
        call = lambda x, k=keep: tf.math.reduce_euclidean_norm(x, axis, keepdims=k)  # noqa: E731
        for free in (False, True):
            same(call, x, rtol=1e-6, opset=opset, free=free)
    call = lambda x: tf.math.reduce_euclidean_norm(x, 1)  # noqa: E731
    same(call, np.array([[np.inf, np.nan], [-np.inf, 1], [0, -0.0]], "float32"), opset=opset)
    same(call, np.zeros((3, 0), "float32"), opset=opset)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_special_functions_in_models(precision, tmp_path):
    def call(x):
        parts = [tf.math.lgamma(x + 0.1), tf.math.digamma(x + 0.3), tf.math.ndtri(x)]
        parts += [tf.math.multiply_no_nan(x, tf.nn.relu(x - 0.5)), tf.math.bessel_i1e(x)]
        return tf.concat([*parts, tf.math.reduce_euclidean_norm(x, 1, keepdims=True)], -1)

    assert passes(call, (6,), tmp_path, precision=precision)


# 2. Diagonals


def known(call, x, free):
    """With all extents but the first, without which TensorFlow itself fails."""
    return (lambda x, s=x.shape[1:]: call(tf.ensure_shape(x, [None, *s]))) if free else call


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("k", [0, 1, -1, 3, -2])
@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        "bool",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("int32", "float16", "int64")),
    ],
)
def test_matrices_with_one_diagonal(k, dtype, opset, rng):
    for shape in ((4,), (3, 4), (2, 3, 4), (1, 1), (0, 4), *([(3, 0)] if k == 0 else [])):
        x = rng.integers(0, 2, shape).astype(dtype)
        for free in (False, True):
            same(lambda x: tf.linalg.diag(x, k=k), x, opset=opset, free=free)


@pytest.mark.parametrize("opset", NEWER)
@pytest.mark.parametrize("align", ["LEFT_LEFT", "LEFT_RIGHT", "RIGHT_LEFT", "RIGHT_RIGHT"])
def test_matrices_with_several_diagonals(align, opset, rng):
    for k, extents in itertools.product([(-1, 1), (0, 2), (-2, 0), (1, 2), (-2, -1)], range(4)):
        x = rng.normal(size=(2, k[1] - k[0] + 1, 4)).astype("float32")
        rows, columns = ((-1, -1), (6, -1), (-1, 6), (5, 7))[extents]
        call = lambda x: tf.linalg.diag(x, "d", k, rows, columns, -7.0, align)  # noqa: B023, E731
        try:
            call(x)
        except tf.errors.InvalidArgumentError:
            continue
        for free in (False, True):
            same(known(call, x, free), x, opset=opset, free=free)


@pytest.mark.parametrize("opset", OPSETS)
def test_matrices_of_given_extents(opset, rng):
    x = np.array([[1, np.nan, np.inf], [-0.0, 2, -np.inf]], "float32")
    for rows, columns, k in (
        (3, 3, 0),
        (5, 3, 0),
        (-1, 5, 0),
        (5, -1, 0),
        (3, 6, 1),
        (-1, 6, 1),
        (5, 3, -2),
    ):
        call = lambda x: tf.linalg.diag(x, "d", k, rows, columns, 9.0)  # noqa: B023, E731
        for free in (False, True):
            same(known(call, x, free), x, opset=opset, free=free)


def test_extents_that_are_computed_are_refused():
    call = lambda x: tf.linalg.diag(x, num_rows=tf.cast(x[0, 0], tf.int32))  # noqa: E731
    with pytest.raises(ConversionError, match="needs num_rows and num_cols as constants"):
        in_onnx(call, np.full((2, 2), 5, "float32"))


@pytest.mark.parametrize(
    "call",
    [
        tf.linalg.diag,
        lambda x: tf.linalg.diag(x, k=1),
        lambda x: ops.vectorized_map(ops.diag, x),
        lambda x: tf.linalg.diag(tf.stack([x, x], 1), k=(0, 1)),
    ],
)
def test_diagonals_in_models(call, tmp_path):
    assert passes(call, (4,), tmp_path)
    assert passes(call, (4,), tmp_path, opset=13)


# 3. Products of whole numbers


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint64", "int16"])
def test_products_wrap(dtype, opset, rng):
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max, (3, 5, 7), dtype, endpoint=True) | np.array(1, dtype)
    for axis, keep in itertools.product((None, 0, 1, -1, (0, 2), ()), (False, True)):
        call = lambda x: tf.reduce_prod(x, axis, keep)  # noqa: B023, E731
        for free in (False, True):
            same(call, x, opset=opset, free=free)


def test_products_of_any_number_of_factors():
    for count in (*range(10), 63, 64, 65, 100):
        x = np.arange(2 * count, dtype="int32").reshape(2, count) * 2 + 3
        same(lambda x: tf.reduce_prod(x, 1), x)
        same(lambda x: tf.reduce_prod(x, 1), x, free=False)
    same(lambda x: tf.reduce_prod(x, 0), np.ones((0, 3), "int64"))


@pytest.mark.parametrize("opset", OPSETS)
def test_products_of_extents_are_left(opset):
    same(
        lambda x: tf.reshape(x, [tf.reduce_prod(tf.shape(x)[:2]), -1]),
        np.ones((2, 3, 4), "float32"),
    )


def test_products_in_models(tmp_path):
    for call in (lambda x: ops.prod(x, axis=-1), lambda x: ops.prod(x, axis=(1, 2)) + 1):
        assert passes(call, (3, 8), tmp_path, dtype="int32")
    assert passes(lambda x: ops.prod(x, axis=1), (None, 4), tmp_path, dtype="int64")


# 4. Counts


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_sums_of_weights(dtype, rng):
    for shape in ((20,), (3, 8), (0, 4), (3, 0), (0,)):
        x = rng.integers(0, 7, shape, "int32")
        w = rng.integers(-5, 9, shape).astype(dtype) / (1 if dtype[0] == "i" else 3)
        w = w.astype(dtype)
        for size in (5, 9):
            keywords = {"minlength": size, "maxlength": size, "axis": -1}
            call = lambda x, w: tf.math.bincount(x, w, **keywords)  # noqa: B023, E731
            for free in (False, True):
                same(call, x, w, opset=16 if free else 18, free=free, rtol=1e-6)
    if dtype.startswith("f"):
        x = np.array([[0, 1, 1, 3]], "int32")
        w = np.array([[np.nan, np.inf, 1, -0.0]], dtype)
        same(lambda x, w: tf.math.bincount(x, w, 5, 5, axis=-1), x, w)
    same(tf.math.bincount, np.array([3, 1, 1], "int32"), np.array([1, 2, 4], dtype))


def test_weights_need_an_operator_set():
    x, w = np.array([[0, 1]], "int32"), np.ones((1, 2), "float32")
    call = lambda x, w: tf.math.bincount(x, w, 5, 5, axis=-1)  # noqa: E731
    with pytest.raises(ConversionError, match="with weights needs opset 16"):
        in_onnx(call, x, w, opset=13)
    call = lambda x: tf.histogram_fixed_width(x, [0.0, 1.0], 3)  # noqa: E731
    with pytest.raises(ConversionError, match="needs opset 16"):
        in_onnx(call, w, opset=13)


def test_weighted_categories_in_models(tmp_path):
    x, w = keras.Input((4,), dtype="int32", name="x"), keras.Input((4,), name="w")
    y = layers.CategoryEncoding(6, output_mode="count")(x, count_weights=w)
    model = keras.Model([x, w], layers.Dense(3)(y))
    data = [np.array([[0, 1, 1, 5], [2, 2, 2, 3]], "int32"), np.arange(8.0).reshape(2, 4)]
    data[1] = data[1].astype("float32")
    assert export.to_onnx(model, tmp_path / "model.onnx", data={"x": data[0], "w": data[1]}).passed


@pytest.mark.parametrize("opset", [16, 18])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_histograms(dtype, opset, rng):
    x = np.round(rng.normal(3, 4, (7, 9)) * 2) / (2 if dtype[0] == "f" else 1)
    limits = np.array([-1, 6], dtype)
    for bins, free in itertools.product((1, 7, 14, 28), (False, True)):
        call = lambda x: tf.histogram_fixed_width(x, limits, bins)  # noqa: B023, E731
        same(call, x.astype(dtype), opset=opset, free=free)
        same(call, x.astype(dtype)[:0], opset=opset, free=free)


# 5. Transposed convolutions with channels first


def transposed(rank, steps, dilations, padding, kernel, extra):
    """As TensorFlow does with channels last, and zeros between weights that are further apart: not
    everywhere has it the rest."""
    letters = "DHW"[3 - rank :]

    def call(x, first):
        x = tf.ensure_shape(x, [None, kernel.shape[-1], *[None] * rank])
        extents = []
        for axis in range(rank):
            window = dilations[axis] * (kernel.shape[axis] - 1) + 1
            n = tf.shape(x)[2 + axis]
            least = (n - 1) * steps[axis]
            extents.append(least + (window if padding == "VALID" else 1) + extra[axis])
        channels, batch = kernel.shape[-2], tf.shape(x)[0]
        keywords = {"strides": steps, "padding": padding, "dilations": dilations}
        if first:
            shape = tf.stack([batch, channels, *extents])
            keywords["data_format"] = f"NC{letters}"
            return tf.nn.conv_transpose(x, kernel, shape, **keywords)
        x = tf.transpose(x, [0, *range(2, rank + 2), 1])
        shape = tf.stack([batch, *extents, channels])
        y = tf.nn.conv_transpose(x, spread(kernel, dilations), shape, steps, padding)
        return tf.transpose(y, [0, rank + 1, *range(1, rank + 1)])

    return call


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("opset", OPSETS)
def test_any_extents_with_channels_first(rank, padding, opset, rng):
    for windows, steps, dilation in (
        ((4, 4, 4), (2, 2, 2), 1),
        ((3, 4, 2), (1, 1, 1), 1),
        ((3, 5, 2), (2, 3, 4), 1),
        ((1, 2, 1), (3, 3, 2), 1),
        ((3, 2, 3), (1, 1, 1), 2),
    ):
        if rank == 3 and dilation > 1:
            continue
        windows, steps = windows[:rank], steps[:rank]
        kernel = rng.normal(size=(*windows, 3, 2)).astype("float32")
        for share in (0, 1):
            extra = [share * (step - 1) for step in steps]
            call = transposed(rank, steps, [dilation] * rank, padding, kernel, extra)
            x = rng.normal(size=(2, 2, 5, 4, 3)[: rank + 2]).astype("float32")
            (y,) = in_onnx(lambda x: call(x, True), x, opset=opset)  # noqa: B023
            check(y, call(tf.constant(x), False), 1e-5, 1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_known_and_free_extents_with_channels_first(padding, tmp_path):
    shapes = [(None,), (4,), (None, None), (None, 5), (4, None), (4, 5), (None, 2, 3), (2, None, 3)]
    for shape, steps in itertools.product(shapes, (1, 2, 3)):
        if len(shape) == 3 and steps == 3:
            continue
        layer = getattr(layers, f"Conv{len(shape)}DTranspose")
        inputs = keras.Input((2, *shape))
        y = layer(3, 4, steps, padding, data_format="channels_first")(inputs)
        model = keras.Model(inputs, y)
        assert export.to_onnx(model, tmp_path / "model.onnx").passed


@pytest.mark.parametrize("opset", NEWER)
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_networks_with_channels_first(precision, opset, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((1, None, None))
    first = {"padding": "same", "data_format": "channels_first"}
    y = layers.Conv2DTranspose(6, 4, strides=2, output_padding=1, **first)(inputs)
    y = layers.BatchNormalization(axis=1)(y)
    y = layers.Conv2DTranspose(2, 2, strides=3, **first)(layers.ReLU()(y))
    model = keras.Model(inputs, y)
    options = {"precision": precision, "opset": opset}
    assert export.to_onnx(model, tmp_path / "model.onnx", **options).passed


# 6. Images


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("name", ["dilation2d", "erosion2d"])
def test_dilation_and_erosion(name, padding, opset, rng):
    x = rng.normal(size=(2, 9, 8, 3)).astype("float32")
    x[0, 3, 3] = [np.nan, np.inf, -np.inf]
    for size, step, rate in (((3, 3), 1, 1), ((1, 4), 2, 1), ((2, 3), 1, 2), ((2, 1), 3, 1)):
        element = rng.normal(size=(*size, 3)).astype("float32")

        def call(x, element=element, step=step, rate=rate):
            x = tf.ensure_shape(x, [None, None, None, 3])
            grow = [1, rate, rate, 1]
            steps = [1, step, step, 1]
            return getattr(tf.nn, name)(x, element, steps, padding, "NHWC", grow)

        for free in (False, True):
            clean = np.nan_to_num(x, nan=1.0)
            same(call, clean, opset=opset, free=free, rtol=1e-6)


def test_large_elements_are_refused():
    call = lambda x: tf.nn.dilation2d(x, tf.zeros((12, 11, 1)), [1] * 4, "SAME", "NHWC", [1] * 4)  # noqa: E731
    with pytest.raises(ConversionError, match="elements of up to 121 numbers"):
        in_onnx(call, np.zeros((1, 20, 20, 1), "float32"), free=False)


def test_dilation_in_models(tmp_path):
    element = np.random.default_rng(0).normal(size=(3, 3, 2)).astype("float32")
    for function in (tf.nn.dilation2d, tf.nn.erosion2d):
        call = lambda x: function(x, element, [1] * 4, "SAME", "NHWC", [1] * 4)  # noqa: B023, E731
        for shape in ((6, 7, 2), (None, None, 2)):
            for precision in ("float32", "float16"):
                assert passes(call, shape, tmp_path, precision=precision)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("mode", ["reflect", "wrap"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_what_lies_beyond_an_image(mode, interpolation, opset, rng):
    x = rng.normal(size=(6, 5, 4, 2)).astype("float32")
    maps = [[1, 0, -7, 0, 1, 3, 0, 0], [0.5, 0.25, 9, -0.3, 2.1, -11.5, 0, 0]]
    maps += [[1, 0, 0, 0, 1, 0, 0, 0], [3.7, 0.1, -20, 1.3, -4.2, 30, 0, 0]]
    maps += [[1, 0, 23, 0, 1, -26, 0, 0], [-1.1, 0.3, 2, 0.2, 0.9, 50, 0, 0]]
    maps = np.array(maps, "float32")

    def call(x):
        return ops.image.affine_transform(x, maps, interpolation, mode)

    for image in (x, x[:, :1, :], x[:, :, :1]):
        same(call, image, opset=opset, free=False, rtol=1e-5, atol=1e-5)


def test_what_lies_beyond_an_image_in_models(tmp_path):
    maps = tf.constant([0.5, 0.25, 9, -0.3, 2.1, -11.5, 0, 0])
    for mode in ("reflect", "wrap"):
        call = lambda x: ops.image.affine_transform(x, maps, "bilinear", mode)  # noqa: B023, E731
        assert passes(call, (6, 7, 2), tmp_path)


# 7. TensorArrays outside of loops


def written(x, order=(0, 1, 2)):
    array = tf.TensorArray(tf.float32, size=3, clear_after_read=False)
    for place in order:
        array = array.write(place, x[:, place] * (place + 1.0))
    return array


@pytest.mark.parametrize("opset", OPSETS)
def test_arrays_written_and_stacked(opset, rng):
    x = rng.normal(size=(2, 3, 4)).astype("float32")

    def again(x):
        array = written(x, (2, 0, 1, 0))
        first = array.stack()
        array = array.write(1, x[:, 2])
        return [first, array.stack(), array.read(1) + array.read(0)]

    def growing(x):
        array = tf.TensorArray(tf.float32, size=0, dynamic_size=True, clear_after_read=False)
        for place in range(3):
            array = array.write(place, x[:, place])
        return array.stack()

    # Eagerly, an array is written in place.
    for call in (
        lambda x: tf.transpose(written(x).stack(), [1, 0, 2]),
        tf.function(again),
        growing,
    ):
        for free in (False, True):
            same(call, x, opset=opset, free=free)


def test_arrays_of_unknown_places_are_refused():
    x = np.zeros((2, 3, 4), "float32")
    with pytest.raises(
        ConversionError, match="every place of a TensorArray must be written: 1 is not"
    ):
        in_onnx(lambda x: written(x, (0, 2)).stack(), x)
    with pytest.raises(ConversionError, match="place 1 of a TensorArray is read and not written"):
        in_onnx(lambda x: written(x, (0, 2)).read(1), x)

    def computed(x):
        array = written(x, (0, 1, 2))
        return array.write(tf.cast(x[0, 0, 0], tf.int32), x[:, 0]).stack()

    with pytest.raises(ConversionError, match="only if its size and its places are constants"):
        in_onnx(computed, x)


def test_arrays_in_models(tmp_path):
    call = lambda x: tf.transpose(written(x).stack(), [1, 0, 2])  # noqa: E731
    assert passes(call, (3, 4), tmp_path)
    assert passes(lambda x: written(x).read(1), (3, 4), tmp_path, opset=13)


def test_arrays_of_loops_are_left(tmp_path):
    def call(x):
        array = tf.TensorArray(tf.float32, size=3)
        y = tf.zeros_like(x[:, 0])
        turn = lambda i, y, array: (i + 1, y + x[:, i], array.write(i, y + x[:, i]))  # noqa: E731
        _, y, array = tf.while_loop(lambda i, *rest: i < 3, turn, (0, y, array))
        return tf.transpose(array.stack(), [1, 0, 2]) + y[:, None]

    assert passes(call, (3, 4), tmp_path)
