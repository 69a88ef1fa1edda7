"""Smaller formats where a file rounds less, or elsewhere, than one might think."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers, ops

from kerasdl import export
from kerasdl.export.formats import FORMATS, STATIC_INT8
from kerasdl.export.programs.rounding import move_input
from random_networks import randomize

pytestmark = pytest.mark.tensorflow
INTEGERS = {"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}
TEXTS = np.array([["good bad film"], ["the film was bad"], ["good good"]] * 20, dtype=object)


def texts():
    vectorization = layers.TextVectorization(30, output_mode="tf_idf", name="text")
    vectorization.adapt([text for (text,) in TEXTS])
    return keras.Sequential(
        [keras.Input((1,), dtype="string", name="t"), vectorization, layers.Dense(4)]
    )


@pytest.mark.parametrize(
    ("precision", "static"), [("float16", False), ("int8", False), ("int8", True)]
)
def test_operators_newer_than_what_tf2onnx_writes(precision, static, tmp_path):
    options = {"calibration": {"t": TEXTS}} if static else {}
    path = tmp_path / "model.onnx"
    report = export.to_onnx(texts(), path, precision=precision, opset=21, **options)
    assert report.passed
    assert report.opset == 21
    assert export.to_onnx(texts(), path, precision=precision, **options).opset == 20
    with pytest.raises(export.ConversionError, match="Pass opset=20") as failure:
        export.to_onnx(texts(), path, precision=precision, opset=18, **options)
    assert failure.value.layer == "text"


def recurrent(cell, mask):
    model = keras.Sequential(
        [
            keras.Input((10, 6), name="x"),
            *([layers.Masking(mask)] if mask is not None else []),
            cell,
            layers.Dense(8, "relu"),
            layers.Dense(3),
        ]
    )
    randomize(model, 2)
    return model


@pytest.mark.parametrize(
    ("kind", "mask"),
    [
        (layers.GRU, 0.0),
        (layers.LSTM, None),
        *(pytest.param(layers.GRU, mask, marks=pytest.mark.slow) for mask in (None, -1.0)),
        *(pytest.param(layers.LSTM, mask, marks=pytest.mark.slow) for mask in (0.0, -1.0)),
    ],
)
def test_int8_does_not_go_into_loops(kind, mask, tmp_path, rng):
    """Their products were taken for rounded ones, so that nothing could be told."""
    x = rng.normal(size=(64, 10, 6)).astype("float32")
    for row, length in enumerate(rng.integers(4, 11, 64)):
        x[row, length:] = mask or 0.0
    model, path = recurrent(kind(16), mask), tmp_path / "model.onnx"
    report = export.to_onnx(model, path, precision="int8", calibration={"x": x})
    assert max(check.tolerance for check in report.checks) < 0.2 * report.worst.magnitude
    assert export.verify(model, path, data={"x": x[:40]}).passed


@pytest.mark.parametrize(
    ("kind", "static"),
    [
        (layers.GRU, False),
        (layers.LSTM, True),
        pytest.param(layers.GRU, True, marks=pytest.mark.slow),
        pytest.param(layers.LSTM, False, marks=pytest.mark.slow),
    ],
)
def test_int8_rounds_weights_of_loops(kind, static, tmp_path, rng):
    """Alone, without layers behind it whose noise would hide that."""
    x = rng.normal(size=(64, 10, 6)).astype("float32")
    x[:, 7:] = 0
    model = keras.Sequential([keras.Input((10, 6), name="x"), layers.Masking(), kind(5)])
    randomize(model, 3)
    options = {"calibration": {"x": x}} if static else {}
    path = tmp_path / "model.onnx"
    report = export.to_onnx(model, path, precision="int8", **options)
    assert report.worst.error > 1e-5
    assert export.verify(model, path, data={"x": x}).passed


@pytest.mark.parametrize("kind", [layers.GRU, layers.LSTM])
def test_float16_holds_what_a_mask_hides(kind, tmp_path, rng):
    """Zeros that were moved were hidden no longer, and far too much was allowed."""
    x = rng.normal(size=(32, 10, 6)).astype("float32")
    x[:, 6:] = 0
    model, path = recurrent(kind(16), 0.0), tmp_path / "model.onnx"
    export.to_onnx(model, path, precision="float16")
    report = export.verify(model, path, data={"x": x})
    assert report.passed
    own = [check for check in report.checks if check.data == "data"]
    assert max(check.tolerance for check in own) < 0.05 * own[0].magnitude


def test_inputs_that_a_format_holds_are_not_moved(rng):
    x = np.array([0.0, 1.0, -3.0, 0.1])
    moved = move_input(x, rng, FORMATS["float16"]) != x
    assert moved.tolist() == [False, False, False, True]


def test_zero_is_a_step_of_every_range(rng):
    x = rng.normal(size=(50, 8)) * (rng.random((50, 8)) < 0.5)
    noise = STATIC_INT8.results.noise(x, rng, ends=(-4.0, 9.0))
    assert not noise[x == 0].any()
    assert noise[x != 0].all()


def resized():
    inputs = keras.Input((None, None, 2), name="x")
    return keras.Model(inputs, layers.Resizing(5, 6, interpolation="area")(inputs))


def orthogonal():
    inputs = keras.Input((4, 3), name="x")
    return keras.Model(inputs, ops.qr(inputs)[0])


def spectrogram():
    return keras.Sequential(
        [keras.Input((256,), name="x"), layers.MelSpectrogram(num_mel_bins=16, fft_length=64)]
    )


def spectrum():
    layer = layers.STFTSpectrogram(frame_length=64, frame_step=32, fft_length=64)
    return keras.Sequential([keras.Input((256, 1), name="x"), layer])


def multiplied():
    inputs = keras.Input((4, 5), name="x")
    return keras.Model(inputs, ops.matmul(inputs, np.ones((5, 3), "float32")))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("build", [resized, orthogonal, spectrogram, spectrum, multiplied])
def test_int8_is_for_weights(build, static, tmp_path, rng):
    """Not for products of two results, nor with matrices that nobody has learnt."""
    model = build()
    shape = [8 if extent is None else extent for extent in model.input_shape[1:]]
    x = rng.normal(size=(32, *shape)).astype("float32")
    options = {"calibration": {"x": x}} if static else {"data": {"x": x}}
    report = export.to_onnx(model, tmp_path / "m.onnx", precision="int8", **options)
    assert not INTEGERS & report.nodes.keys()
    assert max(check.error / check.magnitude for check in report.checks) < 1e-4


def test_int8_leaves_scores_of_attention_alone(tmp_path, rng):
    inputs = keras.Input((8, 16), name="x")
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 8)(inputs, inputs))
    x = rng.normal(size=(32, 8, 16)).astype("float32")
    export.to_onnx(model, tmp_path / "m.onnx", precision="int8", calibration={"x": x})
    graph = onnx.load(tmp_path / "m.onnx").graph
    read = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    products = [node for node in graph.node if node.op_type in {"MatMul", "Gemm"}]
    counts = sorted(len(read & set(node.input[:2])) for node in products)
    assert counts == [0, 0, 2, 2, 2, 2]  # scores, mixtures; queries, keys, values, outputs


class Normed(layers.Layer):
    """A kernel that is computed from a weight."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")

    def call(self, x):
        return ops.matmul(x, self.kernel / ops.norm(self.kernel))


@pytest.mark.parametrize("static", [False, True])
def test_int8_of_kernels_that_are_computed(static, tmp_path, rng):
    model = keras.Sequential([keras.Input((5,), name="x"), Normed(), layers.Dense(3)])
    randomize(model, 1)
    x = rng.normal(size=(64, 5)).astype("float32")
    options = {"calibration": {"x": x}} if static else {"data": {"x": x}}
    report = export.to_onnx(model, tmp_path / "m.onnx", precision="int8", **options)
    stored = {tensor.data_type for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in stored
    assert report.worst.error > 1e-5 * report.worst.magnitude


def counted():
    inputs = keras.Input((6,), dtype="int32", name="x")
    x = layers.CategoryEncoding(10, output_mode="count")(inputs)
    return keras.Model(inputs, layers.Dense(3)(x))


def summed():
    inputs = keras.Input((5,), name="x")
    rows = ops.transpose(inputs)
    return keras.Model(inputs, ops.transpose(ops.segment_sum(rows, np.array([0, 0, 1, 2, 2]), 3)))


def saturated():
    x = keras.Input((6,), name="x")
    return keras.Model(x, [layers.Activation(a)(x) for a in ("softplus", "log_sigmoid", "mish")])


def test_float16_of_large_numbers(tmp_path):
    """Where the exponential is infinite in float16."""
    model, path = saturated(), tmp_path / "m.onnx"
    export.to_onnx(model, path, precision="float16")
    x = np.array([[-300, -100, -5, 12, 100, 300]], np.float32)
    for found, wanted in zip(
        onnxruntime.InferenceSession(path).run(None, {"x": x}), model(x), strict=True
    ):
        assert found == pytest.approx(np.asarray(wanted), rel=2e-3, abs=1e-6)


def looked_up():
    table = np.linspace(-1, 1, 40).reshape(10, 4).astype("float32")
    inputs = keras.Input((3,), dtype="int32", name="x")
    return keras.Model(inputs, ops.take(table, inputs % 10, axis=0))


@pytest.mark.parametrize("build", [counted, summed, looked_up])
def test_float16_of(build, tmp_path):
    """Sums into places, which onnxruntime has no float16 for, and tables of constants."""
    assert export.to_onnx(build(), tmp_path / "m.onnx", precision="float16").passed


@pytest.fixture
def bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
def test_statistics_in_bfloat16(precision, tmp_path, rng):
    """Keras keeps the mean and the variance of a Normalization in bfloat16, of which the file takes
    the root in float32."""
    x = rng.normal(5, 3, (300, 6)).astype("float32")
    normalization = layers.Normalization()
    normalization.adapt(x)
    dense = layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.Input((6,)), normalization, layers.Dense(16, "selu"), dense])
    mean = normalization.mean
    assert export.to_onnx(model, tmp_path / "m.onnx", precision=precision).passed
    assert normalization.mean is mean  # and the model is what it was


@pytest.mark.parametrize("shape", [(300,), (300, 1), (300, 2, 1)])
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_normalizations_of_data_without_channels(last, invert, shape, tmp_path, rng):
    """Keras' way to undo the scaling of a target knows no axes."""
    normalization = layers.Normalization(axis=None, invert=invert)
    normalization.adapt(rng.normal(50.0, 9.0, shape))
    stack = [layers.Dense(1), normalization] if last else [normalization, layers.Dense(1)]
    model = keras.Sequential([keras.Input((10,), name="x"), *stack])
    report = export.to_onnx(model, tmp_path / "m.onnx")
    assert report.passed
    x = rng.normal(size=(4, 10)).astype("float32")
    (found,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})
    assert found.reshape(-1) == pytest.approx(np.asarray(model(x)).reshape(-1), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(
    "stack",
    [
        [layers.Resizing(5, 12)],
        [layers.Resizing(4, 3, "nearest")],
        [layers.Resizing(5, 12), layers.Rescaling(1 / 255), layers.Conv2D(2, 3)],
        [layers.CenterCrop(4, 4)],
        [layers.RandomGrayscale()],
    ],
    ids=["resized", "nearest", "network", "cropped", "augmented"],
)
def test_images_of_bytes(stack, tmp_path, rng):
    """Called alone, Keras leaves them bytes; in `predict` and in the file they are floats."""
    model = keras.Sequential([keras.Input((8, 6, 3), dtype="uint8", name="x"), *stack])
    export.to_onnx(model, tmp_path / "m.onnx")
    x = rng.integers(0, 256, (2, 8, 6, 3)).astype("uint8")
    (found,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})
    wanted = model.predict(x, verbose=0)
    assert found.dtype == wanted.dtype == np.float32
    assert found == pytest.approx(wanted, abs=1e-3)
    assert not {"call"} & {name for layer in model.layers for name in vars(layer)}


def test_buckets_of_whole_numbers(tmp_path):
    """Numbers are cut to the layer's type before they are looked up, as in `predict`."""
    model = keras.Sequential(
        [keras.Input((4,), name="x"), layers.Discretization([-1, 0, 2], dtype="int32")]
    )
    export.to_onnx(model, tmp_path / "m.onnx")
    x = np.array([[-0.4, 0.6, -1.7, 2.9]], np.float32)
    (found,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})
    assert np.array_equal(found, model.predict(x, verbose=0))
    assert not np.array_equal(found, np.asarray(model(tf.constant(x))))


def test_what_any_layer_looks_up_is_among_the_data(tmp_path):
    """Whichever reads the input first."""
    inputs = keras.Input((1,), name="age")
    normalization = layers.Normalization(mean=40.0, variance=144.0)
    buckets = layers.Discretization([20, 40, 60], output_mode="one_hot")
    joined = layers.Concatenate()([normalization(inputs), buckets(inputs)])
    model, path = keras.Model(inputs, layers.Dense(3)(joined)), tmp_path / "m.onnx"
    randomize(model, 0)
    export.to_onnx(model, path)
    proto = onnx.load(path)
    (node,) = (node for node in proto.graph.node if node.op_type == "Less")
    node.op_type = "LessOrEqual"
    onnx.save(proto, path)
    assert not export.verify(model, path).passed


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "float64"])
def test_layers_that_only_change_the_type(dtype, tmp_path):
    """Dropout does nothing at inference but compute in its own type."""
    for stack in ([layers.Dropout(0.1, dtype=dtype)], [layers.GaussianNoise(0.1, dtype=dtype)]):
        model = keras.Sequential([keras.Input((5,)), *stack])
        report = export.to_onnx(model, tmp_path / "m.onnx")
        assert report.passed
        assert report.outputs[0].dtype == dtype.removeprefix("mixed_")
        model = keras.Sequential([keras.Input((5,)), layers.Dense(3), *stack, layers.Dense(2)])
        assert export.to_onnx(model, tmp_path / "m.onnx").passed


def test_masks_that_are_read_elsewhere_too(tmp_path):
    """Where a constant is float32, operations run one by one, and hidden rows stay hidden."""
    q, v = keras.Input((6, 4), name="q"), keras.Input((5, 4), name="v")
    mask = keras.Input((5,), dtype="bool", name="m")
    y = layers.Attention()([q, v], mask=[None, mask])
    model = keras.Model([q, v, mask], [y, ops.sum(ops.cast(mask, "float32"), 1)])
    assert export.to_onnx(model, tmp_path / "m.onnx").passed


def test_advice_where_nothing_can_be_told(tmp_path, rng):
    """Whoever gave data is asked for other ones."""
    model = keras.Sequential(
        [keras.Input((4,), name="x"), layers.Rescaling(1e9), layers.Lambda(ops.sin)]
    )
    with pytest.raises(export.ParityError, match="Nothing can be told: .* give data of your own"):
        export.to_onnx(model, tmp_path / "m.onnx")
    data = {"x": rng.normal(size=(8, 4)).astype("float32")}
    with pytest.raises(export.ParityError, match="Nothing can be told: .* give other data with"):
        export.to_onnx(model, tmp_path / "m.onnx", data=data)
    report = export.Report("a", "b", "c", [], [], precision="int8")
    assert "int8 may be too coarse for the model" in report.untold


def test_an_error_without_a_size_is_told_as_what_it_is(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    path = tmp_path / "m.onnx"
    monkeypatch.setattr(
        "kerasdl.export.verifying.parity.LoadedFile.run", lambda *_: [np.zeros((7, 7), np.float32)]
    )
    with pytest.raises(export.ParityError, match="disagree: a shape, a type, or where numbers"):
        export.to_onnx(model, path)
    assert not path.exists()


def test_extents_that_keras_makes_tensors_of(tmp_path):
    inputs = keras.Input((5,), dtype="int32", name="x")
    model = keras.Model(inputs, ops.isfinite(inputs))
    with pytest.raises(export.ConversionError, match="--dim batch=1") as failure:
        export.to_onnx(model, tmp_path / "m.onnx")
    assert failure.value.layer == "isfinite"
    assert export.to_onnx(model, tmp_path / "m.onnx", dimensions={"batch": 3}).passed


SPECTRA = {
    "fft": lambda x: ops.concatenate(ops.fft((x, ops.zeros_like(x))), axis=-1),
    "mel": lambda x: layers.Flatten()(layers.MelSpectrogram(64, 16, 64, num_mel_bins=8)(x)),
    "stft": lambda x: layers.Flatten()(layers.STFTSpectrogram("log", 64, 32)(x[..., None])),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_bfloat16_stores_what_was_learnt_and_no_transform(name, tmp_path):
    x = keras.Input((256,), name="x")
    model = keras.Model(x, layers.Dense(8)(SPECTRA[name](x)))
    report = export.to_onnx(model, tmp_path / "model.onnx", precision="bfloat16")
    assert report.passed
    assert export.verify(model, tmp_path / "model.onnx").passed
    stored = onnx.load(tmp_path / "model.onnx").graph.initializer
    narrow = [tensor for tensor in stored if tensor.data_type == onnx.TensorProto.BFLOAT16]
    assert [sorted(tensor.dims) for tensor in narrow] == [sorted(model.layers[-1].kernel.shape)]
