"""Complex numbers as pairs of real ones: each operation against TensorFlow's, and whole layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from operations import in_onnx, scale

from kerasdl import export

pytestmark = pytest.mark.tensorflow

SPECIAL = np.array([0, 1, -1, 1j, -1j, 1 + 1j, -2 - 3j, 1e-20, -1e-20j, 1e15 - 2e15j, 3 + 4j, 0])


def parts(*tensors):
    """What a file can give of results, some of which are complex."""
    flat = tf.nest.flatten(tensors)
    pairs = [[tf.math.real(z), tf.math.imag(z)] if z.dtype.is_complex else [z] for z in flat]
    return [part for pair in pairs for part in pair]


def check(call, *arrays, rtol=2e-6, free=False):
    """Complex arrays are given as two real ones."""

    def of_parts(*tensors):
        return parts(call(*map(tf.complex, tensors[::2], tensors[1::2])))

    given = [part for z in arrays for part in (z.real, z.imag)]
    found = in_onnx(of_parts, *given, free=free)
    wanted = [y.numpy() for y in of_parts(*map(tf.constant, given))]
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale(other))


def numbers(rng, *shape, dtype="complex64"):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


BOTH = {
    "add": lambda z, w: z + w,
    "add, real": lambda z, w: z + tf.cast(tf.math.real(w), z.dtype),
    "sub": lambda z, w: z[:, :1] - w,
    "neg": lambda z, w: [-z, tf.math.angle(-tf.cast(tf.math.real(z), w.dtype))],
    "add_n": lambda z, w: tf.add_n([z, w, z]),
    "concat": lambda z, w: tf.concat([z, w, tf.zeros_like(z)], 1),
    "concat, real": lambda z, w: tf.concat([z, tf.cast(tf.abs(w), z.dtype)], -1),
    "stack": lambda z, w: tf.stack([z, w], 2),
    "unstack": lambda z, w: tf.unstack(z - w, axis=1),
    "reshape": lambda z, w: tf.reshape(z, (-1, 2, 2)),
    "transpose": lambda z, w: tf.transpose(z[:, :, None] * w[:, None], (2, 0, 1)),
    "slices": lambda z, w: [z[:, 1:3], w[:, ::-2], z[0], w[..., None], tf.slice(z, [0, 1], [2, 2])],
    "reverse": lambda z, w: tf.reverse(z, [1]),
    "split": lambda z, w: tf.split(z, 2, 1) + tf.split(w, [1, 3], 1),
    "pad": lambda z, w: [tf.pad(z, [[0, 0], [1, 2]]), tf.pad(w, [[0, 0], [2, 1]], "REFLECT")],
    "pad, value": lambda z, w: tf.pad(z, [[0, 0], [1, 2]], constant_values=2 - 1j),
    "gather": lambda z, w: tf.gather(z, [[3, 0], [1, 1]], axis=1),
    "gather_nd": lambda z, w: tf.gather_nd(z, [[0, 1], [2, 3]]),
    "sums": lambda z, w: [tf.reduce_sum(z, 1), tf.reduce_mean(w, 1, keepdims=True)],
    "cumsum": lambda z, w: tf.cumsum(z, 1),
    "where": lambda z, w: tf.where(tf.math.real(z) > 0, z, w),
    "tile": lambda z, w: [tf.tile(z, [1, 2]), tf.broadcast_to(w[:, :1], tf.shape(w))],
    "squeeze": lambda z, w: tf.squeeze(z[:, :1], 1),
    "scatter": lambda z, w: tf.scatter_nd([[4], [0], [4]], z, (6, 4)),
    "update": lambda z, w: tf.tensor_scatter_nd_update(z, [[1]], w[:1]),
    "diagonal": lambda z, w: [tf.linalg.diag_part(z[:, :3]), tf.linalg.band_part(w, 0, -1)],
    "shape": lambda z, w: [tf.shape(z), tf.size(w), z * tf.cast(tf.shape(z)[1], z.dtype)],
    "fill": lambda z, w: tf.fill([2, 3], tf.constant(1 - 2j, tf.complex64)) + z[0, 0],
    "ones": lambda z, w: [tf.ones_like(z) * w, tf.zeros_like(z)],
    "equal": lambda z, w: [z == w, z != w, z == tf.identity(z)],
    "casts": lambda z, w: [tf.cast(tf.cast(z, tf.complex128), z.dtype), tf.cast(w, tf.float32)],
    "whole": lambda z, w: tf.cast(tf.cast(10 * tf.math.real(z), tf.int32), tf.complex64) + w,
}


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("name", BOTH)
def test_what_is_linear(name, free, rng):
    if free and name in {"unstack", "split"}:
        free = False  # TensorFlow asks for known extents
    check(BOTH[name], numbers(rng, 3, 4), numbers(rng, 3, 4), free=free, rtol=1e-6)


PRODUCTS = {
    "mul": lambda z, w: z * w,
    "mul, broadcast": lambda z, w: z[:, :, None] * w[None, 0],
    "mul, real": lambda z, w: [tf.cast(tf.abs(z), z.dtype) * w, w * tf.cast(tf.abs(z), z.dtype)],
    "of reals": lambda z, w: tf.cast(tf.math.real(z), z.dtype) * tf.cast(tf.math.imag(w), z.dtype),
    "constant": lambda z, w: z * tf.constant([1j, 2, -1 - 1j, 0.5], tf.complex64),
    "matmul": lambda z, w: tf.matmul(z, w, transpose_b=True),
    "matmul, real": lambda z, w: tf.matmul(z, tf.cast(tf.math.real(w), z.dtype), transpose_b=True),
    "adjoint": lambda z, w: [tf.matmul(z, w, adjoint_b=True), tf.linalg.adjoint(z)],
    "batches": lambda z, w: tf.matmul(z[None, :, :] * w[:, :1, None], w[None], adjoint_a=True),
    "einsum": lambda z, w: tf.einsum("bi,bj->bij", z, w),
    "einsum, one": lambda z, w: [tf.einsum("bi->b", z), tf.einsum("ij->ji", w)],
    "einsum, three": lambda z, w: tf.einsum("bi,bj,bi->j", z, w, z),
    "square": lambda z, w: [tf.square(z), z**2, w**3],
    "conj": lambda z, w: [z * tf.math.conj(z), tf.math.conj(w)],
    "div": lambda z, w: [z / w, z / 3.0, 1.0 / w, tf.math.reciprocal(z)],
    "div, real": lambda z, w: [z / tf.cast(tf.abs(w), z.dtype), tf.cast(tf.abs(z), z.dtype) / w],
}


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name, dtype, rng):
    if name == "constant" and dtype == "complex128":
        dtype = "complex64"
    check(PRODUCTS[name], numbers(rng, 3, 4, dtype=dtype), numbers(rng, 3, 4, dtype=dtype))


FUNCTIONS = {
    "abs": tf.abs,
    "angle": tf.math.angle,
    "exp": tf.exp,
    "log": tf.math.log,
    "sqrt": tf.sqrt,
    "power": lambda z: z ** tf.constant(0.7 - 0.2j, z.dtype),
    "real power": lambda z: z**-1.5,
    "of reals": lambda z: [f(tf.cast(tf.math.real(z), z.dtype)) for f in (tf.exp, tf.sqrt, tf.abs)],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, rng):
    check(FUNCTIONS[name], numbers(rng, 40))
    if name in {"power", "real power"}:
        check(FUNCTIONS[name], np.zeros(4, "complex64"))
    if name in {"abs", "angle", "sqrt"}:
        for z in SPECIAL:
            check(FUNCTIONS[name], np.full(1, z, "complex64"))


def test_roots_lose_no_digits():
    z = np.array([1 + 1e-6j, -1 + 1e-6j, -1 - 1e-6j, 1 - 1e-6j, -4, 0, -1e-30, 1e30j], "complex64")
    real, imaginary = in_onnx(lambda x, y: parts(tf.sqrt(tf.complex(x, y))), z.real, z.imag)
    wanted = np.sqrt(z.astype("complex128"))
    np.testing.assert_allclose(real, wanted.real, rtol=1e-6)
    np.testing.assert_allclose(imaginary, wanted.imag, rtol=1e-6)


def test_quotients_of_large_numbers():
    z = np.array([3e38 + 1e38j, 1e-30j, 1, 0], "complex64")
    w = np.array([2e38 - 1e38j, 1e-30 + 2e-30j, 0, 0], "complex64")
    call = lambda a, b, c, d: parts(tf.complex(a, b) / tf.complex(c, d))  # noqa: E731
    real, imaginary = in_onnx(call, z.real, z.imag, w.real, w.imag)
    with np.errstate(all="ignore"):
        wanted = z.astype("complex128") / w.astype("complex128")
    np.testing.assert_allclose(real[:2], wanted.real[:2], rtol=1e-6)
    np.testing.assert_allclose(imaginary[:2], wanted.imag[:2], rtol=1e-6)
    assert np.isnan([*real[2:], *imaginary[2:]]).all()


# Control flow


def looped(z, w):
    def step(i, total):
        return i + 1, total * w + z

    return tf.while_loop(lambda i, total: tf.abs(total[0, 0]) < 50, step, (0, z))


def chosen(z, w):
    return tf.cond(tf.abs(z[0, 0]) > 0, lambda: [z * w, z], lambda: [z, tf.zeros_like(w)])


def among(z, w):
    return tf.switch_case(tf.shape(z)[0] - 2, [lambda: z, lambda: z * w, lambda: w])


inner = tf.function(lambda z, w: z * w + tf.math.conj(z), autograph=False)


@pytest.mark.parametrize("call", [looped, chosen, among, inner])
def test_control_flow(call, rng):
    check(call, numbers(rng, 3, 4), numbers(rng, 3, 4) / 4 + 1.2)


# Layers


def _frequencies(count, size):
    return np.exp(1j * np.arange(count)[:, None] / 100 ** (np.arange(size) / size))


class Rotary(layers.Layer):
    """Positions as angles of complex numbers."""

    def call(self, x):
        count, size = x.shape[1:]
        z = tf.complex(x[..., ::2], x[..., 1::2])
        z *= tf.constant(_frequencies(count, size // 2), tf.complex64)
        return tf.reshape(tf.stack([tf.math.real(z), tf.math.imag(z)], -1), tf.shape(x))


class Autocorrelation(layers.Layer):
    """As in Autoformer."""

    def call(self, x):
        z = tf.signal.rfft(tf.transpose(x, (0, 2, 1)))
        return tf.transpose(tf.signal.irfft(z * tf.math.conj(z), [x.shape[1]]), (0, 2, 1))


class GlobalFilter(layers.Layer):
    """As in GFNet."""

    def build(self, shape):
        size = (shape[-1], shape[1], shape[2] // 2 + 1, 2)
        self.kernel = self.add_weight(shape=size, initializer="glorot_normal", name="kernel")

    def call(self, x):
        z = tf.signal.rfft2d(tf.transpose(x, (0, 3, 1, 2)))
        z *= tf.complex(self.kernel[..., 0], self.kernel[..., 1])
        return tf.transpose(tf.signal.irfft2d(z, x.shape[1:3]), (0, 2, 3, 1))


class FourierOperator(layers.Layer):
    """As in FNO: the lowest frequencies times a matrix for each."""

    def build(self, shape):
        self.kernels = [
            self.add_weight(shape=(shape[-1], 5, 3, 3), initializer="glorot_normal", name=name)
            for name in ("real", "imaginary")
        ]

    def call(self, x):
        height, width = x.shape[1:3]
        kernel = tf.complex(*(tf.convert_to_tensor(part) for part in self.kernels))
        z = tf.signal.rfft2d(tf.transpose(x, (0, 3, 1, 2)))[:, :, :3, :3]
        z = tf.einsum("bixy,ioxy->boxy", z, kernel)
        z = tf.pad(z, [[0, 0], [0, 0], [0, height - 3], [0, width // 2 - 2]])
        return tf.transpose(tf.signal.irfft2d(z, [height, width]), (0, 2, 3, 1))


class Resynthesis(layers.Layer):
    def call(self, x):
        z = tf.signal.stft(x, 16, 8)
        return tf.signal.inverse_stft(z * z / tf.cast(1 + tf.abs(z), z.dtype), 16, 8)


class StateSpace(layers.Layer):
    """As in an LRU: a complex state that is carried from step to step."""

    def build(self, shape):
        self.decay = self.add_weight(shape=(shape[-1], 2), initializer="normal", name="decay")
        self.matrix = self.add_weight(shape=(shape[-1], 3), dtype="complex64", name="matrix")
        self.matrix.assign(numbers(np.random.default_rng(3), shape[-1], 3))

    def call(self, x):
        z = tf.complex(x, x[..., ::-1] / 2)
        decay = tf.exp(tf.complex(-tf.abs(self.decay[:, 0]), self.decay[:, 1]))
        state = tf.zeros_like(z[:, 0])
        for i in range(x.shape[1]):
            state = decay * state + z[:, i]
        return tf.abs(tf.matmul(state, self.matrix))


LAYERS = {
    Rotary: (5, 8),
    Autocorrelation: (12, 3),
    GlobalFilter: (6, 8, 3),
    FourierOperator: (8, 8, 2),
    Resynthesis: (64,),
    StateSpace: (4, 3),
}


@pytest.mark.parametrize("opset", [13, pytest.param(18, marks=pytest.mark.slow), 21])
@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer, opset, tmp_path):
    inputs = keras.Input(LAYERS[layer])
    x = layers.Dense(LAYERS[layer][-1])(inputs)
    model = keras.Model(inputs, layers.Dense(4)(layer(name="complex")(x)))
    report = export.to_onnx(model, tmp_path / "model.onnx", opset=opset)
    assert report.passed
    assert export.verify(model, tmp_path / "model.onnx", layers=True).passed
    for weight in model.weights[2:-2]:
        weight.assign(1.5 * weight)
    if len(model.weights) > 4:
        wrong = export.verify(model, tmp_path / "model.onnx")
        assert not wrong.passed
        assert wrong.layer == "complex"


class Join(layers.Layer):
    def call(self, x):
        return tf.complex(x[..., 0], x[..., 1])


def test_complex_values_between_layers(tmp_path):
    inputs = keras.Input((6, 2))
    z = Join()(layers.Dense(2)(inputs))
    turned = ops.multiply(z, ops.conjugate(z[:, :1]))
    model = keras.Model(inputs, [ops.real(turned), ops.view_as_real(turned), ops.angle(z)])
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


def test_ends_are_real(tmp_path):
    inputs = keras.Input((6, 2))
    with pytest.raises(export.ConversionError, match="Output .* is complex.* its real and"):
        export.to_onnx(keras.Model(inputs, Join()(inputs)), tmp_path / "model.onnx")
    inputs = keras.Input((6,), dtype="complex64", name="wave")
    with pytest.raises(export.SourceError, match="Input `wave` .* is complex"):
        export.to_onnx(keras.Model(inputs, ops.abs(inputs)), tmp_path / "model.onnx")


class Spectrum(layers.Layer):
    def call(self, x):
        return tf.abs(tf.signal.stft(x, 16, 8))


LAYERS[Spectrum] = (100,)


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("layer", [FourierOperator, Resynthesis, Spectrum])
def test_other_formats(layer, precision, tmp_path):
    inputs = keras.Input(LAYERS[layer])
    model = keras.Model(inputs, layers.Dense(4)(layer()(inputs)))
    assert export.to_onnx(model, tmp_path / "model.onnx", precision=precision).passed


def test_saved_models(tmp_path):
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, groups=2)(layers.Conv2D(4, 3, groups=4)(inputs))
    model = keras.Model(inputs, GlobalFilter()(x))
    model.export(tmp_path / "model", verbose=False)
    assert export.to_onnx(tmp_path / "model", tmp_path / "model.onnx").passed
    assert export.verify(tmp_path / "model", tmp_path / "model.onnx").passed


def test_an_operation_without_a_form_is_named(tmp_path):
    class Hyperbolic(layers.Layer):
        def call(self, x):
            return tf.math.real(tf.tanh(tf.complex(x, x)))

    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(Hyperbolic(name="curve")(layers.Dense(3)(inputs))))
    with pytest.raises(export.ConversionError, match="Tanh of complex numbers") as caught:
        export.to_onnx(model, tmp_path / "model.onnx")
    assert caught.value.layer == "curve"
    assert not (tmp_path / "model.onnx").exists()
