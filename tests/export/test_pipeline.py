"""The whole line, from a model to a verified file, and what keeps a file from being written."""

import json
import logging
import logging.config

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, assume, given, settings
from keras import layers

import kerasdl
from kerasdl import export
from kerasdl.export import conversion
from kerasdl.export.converting import convert as convert_module
from kerasdl.export.programs.widened import Widened
from random_networks import build, randomize, recipes


def small(name="small"):
    model = keras.Sequential(
        [
            keras.Input((4,), name="features"),
            layers.Dense(5, name="hidden"),
            layers.BatchNormalization(name="bn"),
            layers.ELU(name="elu"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(3, activation="softmax", name="probabilities"),
        ],
        name=name,
    )
    randomize(model, 0)
    return model


def predictions(path, **feeds):
    return onnxruntime.InferenceSession(path).run(None, feeds)


def test_the_file_computes_what_keras_computes(tmp_path, rng):
    model, path = small(), tmp_path / "model.onnx"
    report = export.to_onnx(model, path)
    x = rng.normal(size=(11, 4)).astype("float32")
    np.testing.assert_allclose(
        predictions(path, features=x)[0], model.predict(x, verbose=0), atol=1e-6
    )
    assert report.passed
    assert [str(entry) for entry in report.folds] == ["bn: folded into hidden"]
    assert report.dropped == ["drop"]
    assert (report.operations, report.remaining) == (5, 3)
    assert report.size == path.stat().st_size
    kinds = {"MatMul": 2, "Add": 2, "Elu": 1, "Softmax": 1}
    assert dict(report.nodes) == kinds
    assert {(c.batch, c.optimized) for c in report.checks} == {
        (batch, optimized) for batch in (1, 3, 4, 32) for optimized in (False, True)
    }


def test_the_file_bears_the_users_names(tmp_path):
    export.to_onnx(small(), tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    for ends, name, width in (
        (proto.graph.input, "features", 4),
        (proto.graph.output, "probabilities", 3),
    ):
        assert [end.name for end in ends] == [name]
        batch, last = ends[0].type.tensor_type.shape.dim
        assert (batch.dim_param, last.dim_value) == ("batch", width)
    assert proto.graph.name == "small"
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(metadata["batch_normalization"]) == ["bn: folded into hidden"]


def test_the_same_model_gives_the_same_bytes(tmp_path):
    model = small()
    export.to_onnx(model, tmp_path / "a.onnx")
    export.to_onnx(build_other(), tmp_path / "other.onnx")
    export.to_onnx(model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def build_other():
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.Flatten()])
    randomize(model, 1)
    return model


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_files_as_sources(suffix, tmp_path, recwarn):
    model = small()
    model.save(tmp_path / f"model.{suffix}")
    report = export.to_onnx(tmp_path / f"model.{suffix}", tmp_path / "model.onnx")
    assert [entry.into for entry in report.folds] == [("hidden",)]
    assert export.verify(model, tmp_path / "model.onnx").passed


def test_saved_model_as_source(tmp_path, rng):
    model = small()
    model.export(tmp_path / "saved", verbose=False)
    report = export.to_onnx(tmp_path / "saved", tmp_path / "model.onnx")
    assert report.passed
    assert report.float64_failure is None
    assert [port.name for port in report.inputs] == ["features"]
    x = rng.normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(
        predictions(tmp_path / "model.onnx", features=x)[0],
        model.predict(x, verbose=0),
        atol=1e-6,
    )


@keras.saving.register_keras_serializable(package="test_pipeline")
class Closed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.hidden = layers.Dense(4, activation="relu")
        self.norm = layers.BatchNormalization(name="norm")
        self.head = layers.Dense(2)

    def call(self, inputs, training=None):
        hidden = self.norm(self.hidden(inputs["left"]), training=training)
        return {"sum": self.head(hidden), "product": hidden * inputs["right"]}


def test_subclassed_model_with_dictionaries(tmp_path, rng):
    model = Closed(name="closed")
    feeds = {
        "left": rng.normal(size=(5, 3)).astype("float32"),
        "right": rng.normal(size=(5, 4)).astype("float32"),
    }
    truth = model(feeds)
    randomize(model, 2)
    truth = model(feeds)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert [port.name for port in report.inputs] == ["left", "right"]
    assert [port.name for port in report.outputs] == ["product", "sum"]
    assert "Keras graph is closed" in report.folds[0].reason
    product, total = predictions(tmp_path / "model.onnx", **feeds)
    np.testing.assert_allclose(product, truth["product"], atol=1e-5)
    np.testing.assert_allclose(total, truth["sum"], atol=1e-5)


def test_several_inputs_and_outputs(tmp_path, rng):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(4, name="shared")
    total = layers.Add(name="total")([shared(a), shared(b)])
    model = keras.Model([a, b], [layers.BatchNormalization(name="bn")(total), total, a])
    randomize(model, 3)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert [port.name for port in report.outputs] == ["bn", "total", "a_1"]
    feeds = {name: rng.normal(size=(2, 4)).astype("float32") for name in "ab"}
    for mine, theirs in zip(
        predictions(tmp_path / "model.onnx", **feeds), model(list(feeds.values())), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_integer_input_and_embedding(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32", name="tokens"),
            layers.Embedding(11, 5),
            layers.Conv1D(4, 3),
            layers.BatchNormalization(),
            layers.GlobalMaxPooling1D(),
        ]
    )
    randomize(model, 4)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert str(report.inputs[0]) == "tokens: int32[batch, 6]"
    assert report.folds[0].into == ("conv1d",)


def test_masks_travel_past_dropped_layers(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(11, 5, mask_zero=True),
            layers.Dropout(0.5),
            layers.Dense(4),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling1D(),
        ]
    )
    randomize(model, 4)
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


def test_sequential_built_by_a_call_has_a_free_batch(tmp_path):
    model = keras.Sequential([layers.Dense(3)])
    model(np.zeros((2, 4), "float32"))
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.inputs[0].shape == (None, 4)


def test_fixed_batch_is_kept(tmp_path):
    x = keras.Input(batch_shape=(5, 4))
    report = export.to_onnx(keras.Model(x, layers.Dense(3)(x)), tmp_path / "model.onnx")
    assert {check.batch for check in report.checks} == {5}


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel", "regression"])
def test_default_models(task, tmp_path, rng):
    x = rng.normal(3, 5, size=(64, 12)).astype("float32")
    outputs = 1 if task in {"binary", "regression"} else 3
    model = kerasdl.default_model((12,), outputs, task=task, adapt_to=x)
    report = export.to_onnx(model, tmp_path / "model.onnx", data={"input": x})
    assert all(entry.into for entry in report.folds)
    assert [port.name for port in (*report.inputs, *report.outputs)] == ["input", "output"]


@pytest.mark.parametrize("opset", [13, 15, 18])
def test_opsets(opset, tmp_path):
    assert export.to_onnx(small(), tmp_path / "model.onnx", opset=opset).opset == opset


@pytest.mark.parametrize("opset", [12, 27, "18", True])
def test_opset_out_of_range(opset, tmp_path):
    with pytest.raises(export.OptionError, match=r"`opset` must be .* Received: opset="):
        export.to_onnx(small(), tmp_path / "model.onnx", opset=opset)


def test_verify_finds_a_changed_weight_and_names_the_layer(tmp_path):
    model = small()
    export.to_onnx(model, tmp_path / "model.onnx")
    assert export.verify(model, tmp_path / "model.onnx").passed
    kernel = model.get_layer("probabilities").kernel
    kernel.assign(np.array(kernel) * 1.001)
    report = export.verify(model, tmp_path / "model.onnx")
    assert not report.passed
    assert report.layer == "probabilities"
    assert "FAILED, it begins to differ at layer `probabilities`" in report.to_text()


def test_a_user_tolerance_replaces_the_derived_one(tmp_path):
    model = small()
    export.to_onnx(model, tmp_path / "model.onnx")
    kernel = model.get_layer("probabilities").kernel
    kernel.assign(np.array(kernel) * 1.001)
    assert export.verify(model, tmp_path / "model.onnx", atol=0.1).passed
    assert not export.verify(model, tmp_path / "model.onnx", rtol=1e-7).passed


@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_a_bad_tolerance(name, tmp_path):
    with pytest.raises(export.OptionError, match=f"`{name}` must be a non-negative number"):
        export.to_onnx(small(), tmp_path / "model.onnx", **{name: -1.0})


def test_a_wrong_fold_never_reaches_the_disk(tmp_path, monkeypatch):
    """What is written is what was compared: a bug in folding cannot pass."""
    right = conversion.fold

    def wrong(graph, stored):
        folds = right(graph, stored)
        layer = graph.nodes[0].operation
        layer.bias.assign(np.array(layer.bias) + 1e-3)
        return folds

    monkeypatch.setattr(conversion, "fold", wrong)
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the old file")
    with pytest.raises(export.ParityError, match="begin to differ at layer `hidden`") as caught:
        export.to_onnx(small(), target)
    assert caught.value.layer == "hidden"
    assert not caught.value.report.passed
    assert target.read_bytes() == b"the old file"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_wrong_conversion_never_reaches_the_disk(tmp_path, monkeypatch):
    right = convert_module.convert

    def wrong(*args):
        model = right(*args)
        node = next(n for n in model.graph if n.op_type == "Elu")
        node.attributes.add(ir.AttrFloat32("alpha", 0.9))
        return model

    monkeypatch.setattr(convert_module, "convert", wrong)
    with pytest.raises(export.ParityError, match="begin to differ at layer `elu`"):
        export.to_onnx(small(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_unconvertible_layer_is_named(tmp_path):
    words = layers.TextVectorization(max_tokens=10, split="character", name="words")
    words.adapt(["a b c", "b d"])
    model = keras.Sequential(
        [keras.Input((1,), dtype="string"), words, layers.Embedding(10, 4), layers.Flatten()]
    )
    with pytest.raises(export.ConversionError, match="`words`") as caught:
        export.to_onnx(model, tmp_path / "model.onnx")
    assert caught.value.layer == "words"
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_fails_in_conversion_is_found_by_bisection(tmp_path, monkeypatch):
    """tf2onnx may raise without a name."""
    right = convert_module._tf2onnx

    def fragile(function, *args):
        if "Elu" in {op.type for op in function.graph.get_operations()}:
            raise KeyError("somewhere")
        return right(function, *args)

    monkeypatch.setattr(convert_module, "_tf2onnx", fragile)
    with pytest.raises(export.ConversionError, match=r"Layer `elu` \(ELU\) cannot be converted"):
        export.to_onnx(small(), tmp_path / "model.onnx")


def test_a_file_that_onnxruntime_refuses_names_the_layer(tmp_path):
    """It has no LSTM in float64, which tf2onnx makes of this layer all the same."""
    model = keras.Sequential([keras.Input((5, 16)), layers.LSTM(20, dtype="float64", name="cell")])
    with pytest.raises(export.ConversionError, match="Layer `cell` cannot be converted") as caught:
        export.to_onnx(model, tmp_path / "model.onnx")
    assert caught.value.layer == "cell"


def test_a_transposed_convolution_of_long_steps(tmp_path):
    """tf2onnx alone gives it negative pads."""
    stack = layers.Conv2D(3, 1), layers.Conv2DTranspose(2, 1, strides=2, name="up")
    model = keras.Sequential([keras.Input((3, 3, 3)), *stack])
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


@pytest.mark.parametrize("kernel", [1, 2, 4])
def test_transposed_convolution_behind_a_dense(kernel, tmp_path):
    """tf2onnx alone pads it wrongly where it does not know the extents of the images."""
    up = layers.Conv2DTranspose(3, kernel, padding="same")
    model = keras.Sequential([keras.Input((5, 5, 2)), layers.Dense(4, activation="relu"), up])
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


def test_nan_weights_are_named(tmp_path):
    model = small()
    model.get_layer("hidden").kernel.assign(np.full((4, 5), np.nan))
    with pytest.raises(export.SourceError, match="Layer `hidden`: 20 of 20 values of `kernel`"):
        export.to_onnx(model, tmp_path / "model.onnx")


class Refusing(layers.Layer):
    def call(self, inputs):
        assert inputs.dtype == "float32", "only float32 here"
        return inputs * 2


def test_a_layer_that_refuses_float64_is_run_operation_by_operation(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), Refusing(name="refusing")])
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.float64_failure is None
    assert all(check.keras_error > 0 for check in report.checks if check.data == "random")


def test_without_any_float64_run_the_comparison_is_in_float32(tmp_path, monkeypatch):
    def fail(*arguments):
        raise ValueError("only float32 here")

    monkeypatch.setattr(Widened, "__call__", fail)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), Refusing(name="refusing")])
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert "only float32 here" in report.float64_failure
    assert "compared with: Keras' float32 run" in report.to_text()


def test_progress_names_the_stages(tmp_path):
    lines = []
    report = export.to_onnx(small(), tmp_path / "model.onnx", progress=lines.append)
    assert lines[0] == "reading the model"
    assert lines[-2:] == ["comparing, onnxruntime optimizations on", "measuring the latency"]
    proof = ["reference", "verify", "latency"]
    assert list(report.seconds) == ["source", "fold", "convert", "write", *proof]


def test_layers_of_operations_that_take_tensors_alone(tmp_path):
    """NumPy's arrays know no `as_list`, which Keras' own adaptive pooling asks for."""
    x = keras.Input((8, 7, 4), name="x")
    model = keras.Model(x, keras.ops.adaptive_max_pool(x, (3, 4)))
    export.to_onnx(model, tmp_path / "model.onnx")
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert report.passed
    assert [check.passed for check in report.layers] == [True]


def _export_random(recipe, folder):
    model = build(recipe)
    try:
        report = export.to_onnx(model, folder / "model.onnx")
    except export.ParityError as error:
        # A network whose rounding hides everything says nothing of the export.
        assume(error.report.conclusive)
        raise
    assert report.passed
    keras.utils.clear_session(free_memory=False)


def _settings(examples):
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=checks,
    )


@_settings(12)
@given(recipe=recipes())
def test_random_networks(recipe, tmp_path_factory):
    _export_random(recipe, tmp_path_factory.mktemp("random"))


@pytest.mark.slow
@_settings(500)
@given(recipe=recipes())
def test_five_hundred_random_networks(recipe, tmp_path_factory):
    _export_random(recipe, tmp_path_factory.mktemp("random"))


@pytest.mark.parametrize("name", ["a>b", "<script>", "ü & b", "a.b-c", "_x", "1"])
def test_names_of_layers_may_hold_anything(name, tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name=name)])
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
    model.layers[0].bias.assign([0.5, 0.0])
    assert export.verify(model, tmp_path / "model.onnx").layer == name


@pytest.mark.parametrize("how", ["disabled", "configured", "silent"])
def test_errors_of_tf2onnx_are_heard_where_logging_is_off(how, tmp_path):
    """They are all that it says of what it cannot convert."""
    import tf2onnx.tfonnx

    inner = logging.getLogger(tf2onnx.tfonnx.__name__)
    loggers = [each for each in logging.root.manager.loggerDict.values() if hasattr(each, "level")]
    before = [(each, each.disabled, each.level, each.propagate) for each in loggers]
    x = keras.Input((6,))
    draw = layers.Lambda(lambda x: x + tf.random.normal((6,)), name="draw", output_shape=(6,))
    try:
        if how == "disabled":
            logging.disable(logging.CRITICAL)
        elif how == "configured":
            logging.config.dictConfig({"version": 1})
        else:
            inner.setLevel(logging.CRITICAL)
            inner.propagate = False
        state = [(logging.root.manager.disable, each.disabled, each.level) for each in loggers]
        with pytest.raises(export.ConversionError, match=r"`draw` .*\(it draws random numbers"):
            export.to_onnx(keras.Model(x, draw(x)), tmp_path / "model.onnx")
        after = [(logging.root.manager.disable, each.disabled, each.level) for each in loggers]
        assert after == state
    finally:
        logging.disable(logging.NOTSET)
        for each, disabled, level, propagate in before:
            each.disabled, each.propagate = disabled, propagate
            each.setLevel(level)


def test_what_to_do_is_said(tmp_path):
    class Outside(layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.numpy_function(lambda a: 2 * a, [x], tf.float32), (None, 4))

    inputs = keras.Input((4,))
    path = tmp_path / "model.onnx"
    with pytest.raises(export.ConversionError, match="calls Python.*`keras.ops`"):
        export.to_onnx(keras.Model(inputs, Outside()(inputs)), path)
    wide = layers.Dense(2, activation="gelu", dtype="float64")
    with pytest.raises(export.ConversionError, match="compute in float32") as caught:
        export.to_onnx(keras.Model(inputs, wide(inputs)), path)
    assert "/proc/" not in str(caught.value)
    assert caught.value.layer == wide.name


def test_a_format_that_is_too_coarse_is_called_that(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    with pytest.raises(export.ParityError, match="int8 is too coarse .* rows of `calibration`"):
        export.to_onnx(model, tmp_path / "model.onnx", precision="int8", rtol=1e-6)
