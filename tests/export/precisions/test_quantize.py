"""Files in float16, bfloat16 and int8, and verdicts on them."""

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers
from own_layers import Computing
from sklearn.datasets import load_digits

from kerasdl import export
from kerasdl.export.formats import FLOAT32, FORMATS, Rounding, format_of
from kerasdl.export.precisions import quantize as quantize_module
from kerasdl.export.precisions.quantize import format_in
from random_networks import randomize

NAMES = [name for name in FORMATS if name != "float32"]
TYPES = {
    "float16": onnx.TensorProto.FLOAT16,
    "bfloat16": onnx.TensorProto.BFLOAT16,
    "int8": onnx.TensorProto.INT8,
}


def mlp():
    model = keras.Sequential(
        [
            keras.Input((12,), name="x"),
            layers.Dense(40, activation="elu", name="one"),
            layers.BatchNormalization(),
            layers.Dense(30, activation="tanh", name="two"),
            layers.Dense(5, name="y"),
        ]
    )
    randomize(model, 0)
    return model


def cnn():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="x"),
            layers.Conv2D(12, 3, padding="same", name="one"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, name="two"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5, name="y"),
        ]
    )
    randomize(model, 1)
    return model


def sequence():
    model = keras.Sequential(
        [
            keras.Input((9, 6), name="x"),
            layers.LSTM(16, return_sequences=True, name="one"),
            layers.LayerNormalization(),
            layers.GlobalAveragePooling1D(),
            layers.Dense(5, name="y"),
        ]
    )
    randomize(model, 2)
    return model


BUILDERS = {"mlp": mlp, "cnn": cnn, "sequence": sequence}


def rows(model, count=48):
    return np.random.default_rng(5).normal(size=(count, *model.input_shape[1:])).astype("float32")


def outputs(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def numbers(proto):
    """Bytes of all weights."""
    return sum(onnx.numpy_helper.to_array(x).nbytes for x in proto.graph.initializer)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("name", NAMES)
def test_smaller_and_verified(name, builder, tmp_path):
    model, path = BUILDERS[builder](), tmp_path / "model.onnx"
    plain = export.to_onnx(model, tmp_path / "plain.onnx")
    report = export.to_onnx(model, path, precision=name)
    assert report.precision == name
    proto = onnx.load(path)
    assert numbers(proto) < numbers(onnx.load(tmp_path / "plain.onnx"))
    onnx.checker.check_model(proto, full_check=True)
    assert TYPES[name] in {tensor.data_type for tensor in proto.graph.initializer}
    for end in (*proto.graph.input, *proto.graph.output):
        assert end.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    # It is another computation, and the verdict knows how far it may be off.
    assert report.max_error > 20 * plain.max_error
    assert report.worst.tolerance < 0.25 * max(check.magnitude for check in report.checks)
    again = export.verify(model, path)
    assert again.passed
    assert again.precision == name
    assert f", {name}\n" in again.to_text()


@pytest.mark.parametrize("builder", ["mlp", "cnn"])
def test_static_ranges(builder, tmp_path):
    model, path = BUILDERS[builder](), tmp_path / "model.onnx"
    x = rows(model)
    np.savez(tmp_path / "x.npz", x=x)
    report = export.to_onnx(model, path, precision="int8", calibration=tmp_path / "x.npz")
    assert {check.data for check in report.checks} == {"data"}
    assert report.nodes["QuantizeLinear"] > 0
    assert report.nodes["DynamicQuantizeLinear"] == 0
    exact = model.predict(x, verbose=0)
    assert np.max(np.abs(outputs(path, x) - exact)) < 0.1 * np.max(np.abs(exact))
    assert export.verify(model, path, data={"x": x}).passed
    with pytest.raises(export.OptionError, match="only on data like that"):
        export.verify(model, path)


def test_ranges_come_from_the_calibration(tmp_path):
    """Calibrated on small numbers, the file cuts off large ones; that is seen on data of theirs."""
    model, path = mlp(), tmp_path / "model.onnx"
    x = rows(model)
    export.to_onnx(model, path, precision="int8", calibration={"x": 0.05 * x})
    assert export.verify(model, path, data={"x": 0.05 * x}).passed
    assert not export.verify(model, path, data={"x": x}).passed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weight", ["one", "two", "y"])
def test_a_wrong_weight_is_found_in_every_format(name, weight, tmp_path):
    model, path = mlp(), tmp_path / "model.onnx"
    export.to_onnx(model, path, precision=name)
    kernel = model.get_layer(weight).kernel
    # A swapped pair of rows: the size of the outputs stays what it was.
    kernel.assign(np.asarray(kernel)[[1, 0, *range(2, kernel.shape[0])]])
    report = export.verify(model, path)
    assert any(check.error > check.tolerance for check in report.checks)
    assert not report.passed


def test_float16_that_overflows_is_refused(tmp_path):
    model = mlp()
    model.get_layer("two").activation = keras.activations.linear
    model.get_layer("two").kernel.assign(3e4 * np.asarray(model.get_layer("two").kernel))
    export.to_onnx(model, tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(export.ParityError):
        export.to_onnx(model, tmp_path / "model.onnx", precision="float16")
    assert (tmp_path / "model.onnx").read_bytes() == before


def computing(function, shape=(5, 3)):
    inputs = keras.Input(shape, name="x")
    return keras.Model(inputs, Computing(function, name="own")(inputs))


def resized_twice():
    x = inputs = keras.Input((4, 4, 3), name="x")
    for _ in range(2):
        x = layers.Conv2D(4, 3, padding="same")(x)
        x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return keras.Model(inputs, x)


def cosine():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    return keras.Model([a, b], layers.Dot(axes=1, normalize=True)([a, b]))


# CumSum, IsInf, Max and Min stay in float32.
STAYING = {
    "one constant of two Resize": resized_twice,
    "one constant of two Max": cosine,
    "one constant of two kinds": lambda: computing(lambda x: tf.maximum(tf.exp(x), 0.25) * 0.25),
    "one value": lambda: computing(lambda x: tf.cumsum(x * x, 1) * tf.maximum(x * x, x)),
    "one value twice in one node": lambda: computing(lambda x: tf.maximum(x * x, x * x)),
    "an operator without float16": lambda: keras.Sequential(
        [keras.Input((4, 3), name="x"), layers.Softmax(axis=(1, 2))]
    ),
    "an input and an output": lambda: computing(lambda x: [tf.cumsum(x, 1), tf.maximum(x, 0.5)]),
}


@pytest.mark.parametrize("builder", STAYING)
def test_what_nodes_in_float32_share(builder, tmp_path):
    report = export.to_onnx(STAYING[builder](), tmp_path / "model.onnx", precision="float16")
    assert report.passed
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


def test_constants_in_float32_have_no_cast(tmp_path):
    """Neither the scales of a Resize, nor a bound that float16 would round to another."""
    report = export.to_onnx(resized_twice(), tmp_path / "model.onnx", precision="float16")
    assert report.nodes["Cast"] == 2  # of the input and of the output
    model = computing(lambda x: tf.maximum(tf.exp(x), 1e-9) + 1e-9)
    report = export.to_onnx(model, tmp_path / "model.onnx", precision="float16")
    assert report.nodes["Cast"] == 4  # and in front of Max and behind it
    constants = map(
        onnx.numpy_helper.to_array, onnx.load(tmp_path / "model.onnx").graph.initializer
    )
    assert {(str(array.dtype), float(array)) for array in constants} == {
        ("float32", float(np.float32(1e-9))),
        ("float16", float(np.float16(6e-8))),
    }


def looped(step):
    return computing(lambda x: tf.while_loop(lambda k, _: k < 3, step, (0, x))[1])


INSIDE = {
    "branch": lambda: computing(
        lambda x: tf.cond(tf.shape(x)[1] > 3, lambda: tf.cumsum(x, 1), lambda: x), (None,)
    ),
    "both branches": lambda: computing(
        lambda x: tf.cond(
            tf.shape(x)[1] > 3,
            lambda: tf.cumsum(tf.maximum(2.0 * x, 0.5), 1),
            lambda: tf.cumsum(tf.maximum(2.0 * x, 0.5), 1, reverse=True),
        ),
        (None,),
    ),
    "branch in a branch": lambda: computing(
        lambda x: tf.cond(
            tf.reduce_sum(x) > 0,
            lambda: tf.cond(
                tf.reduce_sum(x) > 9,
                lambda: tf.cumsum(2.0 * x, 1),
                lambda: tf.maximum(x, tf.cumsum(2.0 * x, 1)),
            ),
            lambda: tf.cumsum(x, 1),
        )
    ),
    "loop": lambda: looped(lambda k, y: (k + 1, tf.cumsum(tf.maximum(y, 0.5), 1) * 0.25)),
    "branch in a loop": lambda: looped(
        lambda k, y: (
            k + 1,
            tf.cond(k > 1, lambda: tf.cumsum(y, 1) * 0.1, lambda: tf.maximum(0.5 * y, y)),
        )
    ),
}


@pytest.mark.parametrize("builder", INSIDE)
def test_nodes_in_float32_inside_of_others(builder, tmp_path):
    report = export.to_onnx(INSIDE[builder](), tmp_path / "model.onnx", precision="float16")
    assert report.passed
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


def test_the_cause_is_told(monkeypatch, tmp_path):
    """onnx_ir wraps what it raises."""

    def broken(model):
        proto = ir.to_proto(model)
        proto.graph.node.add().CopyFrom(proto.graph.node[0])
        return proto

    monkeypatch.setattr(quantize_module, "to_float16", broken)
    with pytest.raises(export.ConversionError, match="written in float16: .*redeclared"):
        export.to_onnx(mlp(), tmp_path / "model.onnx", precision="float16")


def test_the_users_bound_holds_for_every_format(tmp_path):
    model = mlp()
    with pytest.raises(export.ParityError):
        export.to_onnx(model, tmp_path / "model.onnx", precision="int8", rtol=1e-5)
    report = export.to_onnx(model, tmp_path / "model.onnx", precision="int8", atol=10.0)
    assert report.passed


def test_files_of_others_are_seen_through(tmp_path):
    model, path = mlp(), tmp_path / "model.onnx"
    for name in NAMES:
        export.to_onnx(model, path, precision=name)
        proto = onnx.load(path)
        del proto.metadata_props[:]
        assert format_in(proto) is FORMATS[name]
        onnx.save(proto, path)
        assert export.verify(model, path).passed
    export.to_onnx(model, path)
    proto = onnx.load(path)
    del proto.metadata_props[:]
    assert format_in(proto) is FLOAT32


def test_a_float16_file_without_weights(tmp_path):
    x = keras.Input((6, 4))
    model, path = keras.Model(x, layers.Attention()([x, x])), tmp_path / "model.onnx"
    export.to_onnx(model, path, precision="float16")
    report = export.verify(model, path)
    assert report.passed
    assert report.precision == "float16"
    export.to_onnx(model, path)
    assert export.verify(model, path).precision == "float32"


def test_a_saved_model(tmp_path):
    model = mlp()
    model.export(tmp_path / "saved", verbose=False)
    paths = tmp_path / "saved", tmp_path / "model.onnx"
    for name in NAMES:
        report = export.to_onnx(*paths, precision=name)
        assert report.passed
        assert export.verify(*paths).precision == name


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("name", NAMES)
def test_operator_sets(name, opset, tmp_path):
    report = export.to_onnx(mlp(), tmp_path / "model.onnx", precision=name, opset=opset)
    assert report.opset == opset
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


def convolution():
    model = keras.Sequential(
        [
            keras.Input((12, 4), name="x"),
            layers.Conv1D(8, 3, activation="relu", name="one"),
            layers.MaxPooling1D(),
            layers.Conv1D(6, 3),
            layers.GlobalMaxPooling1D(),
            layers.Dense(3),
        ]
    )
    randomize(model, 3)
    return model


def attention():
    inputs = keras.Input((6, 8), name="x")
    y = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    model = keras.Model(inputs, layers.Dense(3)(y))
    randomize(model, 4)
    return model


@pytest.mark.parametrize("opset", [18, 21, 25])
@pytest.mark.parametrize("builder", [cnn, convolution, attention])
def test_static_ranges_in_every_operator_set(builder, opset, tmp_path):
    """onnxruntime widens what is quantized over Reshape, Squeeze and Transpose as it loads."""
    model, path = builder(), tmp_path / "model.onnx"
    x = rows(model)
    report = export.to_onnx(model, path, precision="int8", calibration={"x": x}, opset=opset)
    assert report.opset == opset
    assert report.nodes["QuantizeLinear"] > 0
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_bad_input(tmp_path):
    with pytest.raises(export.OptionError, match="must be one of float32, float16, bfloat16, int8"):
        export.to_onnx(mlp(), tmp_path / "model.onnx", precision="int4")
    with pytest.raises(export.OptionError, match="`calibration` is for precision='int8'"):
        export.to_onnx(mlp(), tmp_path / "model.onnx", calibration={"x": np.ones((1, 12))})
    for wrong in ({"z": np.ones((1, 12), "float32")}, {"x": np.ones((1, 3), "float32")}):
        with pytest.raises(export.OptionError, match="The data must"):
            export.to_onnx(mlp(), tmp_path / "m.onnx", precision="int8", calibration=wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_formats_bound_what_rounding_does(name, rng):
    """The largest error of numpy's own rounding is the bound, and is nearly reached."""
    import ml_dtypes

    number = np.float16 if name == "float16" else ml_dtypes.bfloat16
    x = rng.normal(size=(200, 50)) * 10.0 ** rng.integers(-4, 4, (200, 50))
    rounding = FORMATS[name].weights
    error = np.abs(x.astype(number).astype(np.float64) - x)
    bound = rounding.unit * np.abs(x) + rounding.smallest
    assert np.all(error <= bound)
    assert np.max(error / bound) > 0.9
    noise = np.abs(rounding.noise(x, rng))
    assert np.all(noise <= bound)
    assert np.max(noise / bound) > 0.9


def test_steps_of_fixed_point_numbers(rng):
    x = rng.normal(size=(40, 3)) * np.array([1.0, 10.0, 0.0])
    each = np.max(np.abs(Rounding(0.0, steps=126).noise(x, rng, channels=True)), axis=0)
    spans = (np.max(x, axis=0) - np.min(x, axis=0)) / 252
    assert np.all(each <= spans)
    assert np.all(each[:2] > 0.8 * spans[:2])
    assert each[2] == 0
    whole = np.abs(Rounding(0.0, steps=255).noise(x, rng))
    assert np.max(whole) <= (np.max(x) - np.min(x)) / 510
    assert np.max(whole[:, 0]) > np.max(each[0])
    assert format_of("int8").move_weight(np.ones(4), rng) == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("static", [False, True])
def test_int8_of_columns_of_very_different_size(static, tmp_path, rng):
    """Each column has its own range only behind its Normalization."""
    columns = (10.0 ** np.arange(-4, 4) * (3 + rng.normal(size=(200, 8)))).astype("float32")
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(columns)
    model = keras.Sequential(
        [
            keras.Input((8,), name="x"),
            normalization,
            layers.Dense(32, "relu", name="one"),
            layers.BatchNormalization(name="behind"),
            layers.Dense(16, "tanh", name="two"),
            layers.BatchNormalization(name="last"),
        ]
    )
    data = {"x": columns[:64]}
    path = tmp_path / "model.onnx"
    options = {"calibration": data} if static else {}
    report = export.to_onnx(model, path, precision="int8", data=data, **options)
    folds = {fold.layer: fold for fold in report.folds}
    assert not folds["normalization"].into
    assert "all channels in one range" in folds["normalization"].reason
    assert folds["behind"].into == ("one",)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, data)
    right = np.asarray(model(data["x"]))
    assert np.corrcoef(found.ravel(), right.ravel())[0, 1] > 0.999
    assert export.verify(model, path, data=data).passed


@pytest.mark.parametrize("static", [False, True])
def test_int8_of_attention(static, tmp_path, rng):
    inputs = keras.Input((8, 16), name="x")
    x = inputs + layers.MultiHeadAttention(2, 8)(inputs, inputs)
    x = layers.Dense(16, "gelu")(layers.LayerNormalization()(x))
    model = keras.Model(inputs, layers.Dense(4, "softmax")(layers.Flatten()(x)))
    data = {"x": rng.normal(size=(64, 8, 16)).astype("float32")}
    options = {"calibration": data} if static else {}
    assert export.to_onnx(model, tmp_path / "m.onnx", precision="int8", data=data, **options).passed


@pytest.mark.parametrize("static", [False, True])
def test_int8_leaves_float16_layers_what_they_are(static, tmp_path, rng):
    convolution = layers.Conv2D(8, 3, dtype="mixed_float16")
    model = keras.Sequential(
        [keras.Input((8, 8, 1), name="x"), convolution, layers.Flatten(), layers.Dense(10)]
    )
    x = rng.normal(size=(32, 8, 8, 1)).astype("float32")
    options = {"calibration": {"x": x}} if static else {}
    report = export.to_onnx(model, tmp_path / "m.onnx", precision="int8", **options)
    assert report.passed
    assert report.nodes["Conv"] == 1
    assert not {"ConvInteger"} & report.nodes.keys()
    assert {"DequantizeLinear", "MatMulInteger"} & report.nodes.keys()


@pytest.mark.parametrize("static", [False, True])
def test_int8_of_models_without_products(static, tmp_path, rng, capfd):
    model = keras.Sequential([keras.Input((5,), name="x"), layers.Activation("elu")])
    x = {"x": rng.normal(size=(32, 5)).astype("float32")}
    options = {"calibration": x} if static else {}
    report = export.to_onnx(model, tmp_path / "m.onnx", precision="int8", **options)
    assert report.notes == [
        "nothing is stored in int8, which is for products of weights in float32"
    ]
    assert export.verify(model, tmp_path / "m.onnx").passed
    assert not capfd.readouterr().err  # onnxruntime warns of what it measures with


def test_channels_that_one_range_makes_zero_are_told(tmp_path, rng):
    model = keras.Sequential(
        [keras.Input((8, 8, 2), name="x"), layers.Conv2D(6, 3, name="conv"), layers.Flatten()]
    )
    kernel = rng.uniform(-1, 1, (3, 3, 2, 6)).astype("float32")
    kernel[..., 1], kernel[..., 4] = kernel[..., 1] / 1000, kernel[..., 4] / 500
    model.get_layer("conv").kernel.assign(kernel)
    x = {"x": rng.normal(size=(32, 8, 8, 2)).astype("float32")}
    report = export.to_onnx(model, tmp_path / "m.onnx", precision="int8")
    (note,) = report.notes
    assert "all channels of layer `conv`, in which 2 of them are zero" in note
    (y,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, x)
    y = y.reshape(32, 6, 6, 6)
    assert not y[..., [1, 4]].any()
    assert y[..., [0, 2, 3, 5]].any(axis=(0, 1, 2)).all()
    measured = export.to_onnx(model, tmp_path / "s.onnx", precision="int8", calibration=x)
    assert not measured.notes


class Experts(layers.Layer):
    """A matrix for each place."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[1], shape[-1], 5), name="kernel")

    def call(self, x):
        return tf.matmul(x, self.kernel)


@pytest.mark.parametrize("static", [False, True])
def test_int8_of_stacks_of_matrices(static, tmp_path, rng):
    inputs = keras.Input((3, 6, 4), name="x")
    model = keras.Model(inputs, layers.Dense(2)(Experts()(inputs)))
    x = rng.normal(size=(64, 3, 6, 4)).astype("float32")
    options = {"calibration": {"x": x}} if static else {}
    report = export.to_onnx(model, tmp_path / "m.onnx", precision="int8", **options)
    assert report.passed
    assert report.nodes.get("MatMulInteger", 0) == (0 if static else 2)


class Backwards(layers.Layer):
    """To the end, from a place that the shape decides."""

    def call(self, x):
        return x[:, tf.shape(x)[1] // 2 :]


def test_open_ends_of_slices_in_float16(tmp_path, rng):
    inputs = keras.Input((None, 4), name="x")
    model = keras.Model(inputs, Backwards()(layers.Dense(4)(inputs)))
    path = str(tmp_path / "m.onnx")
    assert export.to_onnx(model, path, precision="float16").passed
    x = rng.normal(size=(1, 5001, 4)).astype("float32")
    (found,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    np.testing.assert_allclose(found, np.asarray(model(x)), atol=0.02)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_quantized_model_is_judged_by_the_format_of_its_file(precision, tmp_path):
    parts = [layers.Dense(32, activation="relu"), layers.Dense(4)]
    model = keras.Sequential([keras.Input((16,)), *parts])
    for layer in parts:
        layer.quantize("int8")
    path = tmp_path / "m.onnx"
    assert export.to_onnx(model, path, precision=precision).passed
    report = export.verify(model, path)
    assert report.passed
    assert (report.precision == "float16") == (precision == "float16")


def test_int8_keeps_units_that_measure_different_things(tmp_path, rng):
    x = rng.normal(size=(200, 8)).astype("float32")
    last = layers.Dense(2)
    model = keras.Sequential([keras.Input((8,), name="x"), layers.Dense(16, "relu"), last])
    kernel = np.asarray(last.kernel)
    last.kernel.assign(kernel * [1000.0, 1.0])
    path = str(tmp_path / "m.onnx")
    report = export.to_onnx(model, path, precision="int8", calibration={"x": x})
    assert report.passed
    (found,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    wanted = np.asarray(model(x))
    for unit in range(2):
        assert np.corrcoef(found[:, unit], wanted[:, unit])[0, 1] > 0.999
    for factor in (-1.0, 0.0):
        last.kernel.assign(kernel * [1000.0, factor])
        assert not export.verify(model, path, data={"x": x}).passed


@pytest.mark.parametrize("seed", range(3))
def test_int8_of_small_trained_models(seed, tmp_path):
    digits = load_digits()
    x = (digits.images / 16).astype("float32")
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8, 8), name="x"),
            layers.Conv1D(16, 3, padding="same", activation="relu"),
            layers.Conv1D(16, 3, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(x[:1300], digits.target[:1300], epochs=4, verbose=0)
    for options in ({"data": {"x": x[:100]}}, {"calibration": {"x": x[:300]}}):
        path = str(tmp_path / "m.onnx")
        assert export.to_onnx(model, path, precision="int8", **options).passed
        (found,) = onnxruntime.InferenceSession(path).run(None, {"x": x[1300:]})
        same = found.argmax(-1) == np.asarray(model(x[1300:])).argmax(-1)
        assert same.mean() > 0.97


def test_int8_of_what_is_largest(tmp_path, rng):
    inputs = keras.Input((12,), name="x")
    y = layers.Dense(10)(layers.Dense(32, "relu")(inputs))
    model = keras.Model(inputs, keras.ops.argmax(y, -1))
    x = rng.normal(size=(64, 12)).astype("float32")
    assert export.to_onnx(model, tmp_path / "m.onnx", precision="int8", data={"x": x}).passed
