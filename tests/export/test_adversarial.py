"""Models and files that once led, or might lead, to a wrong or an empty verdict."""

import keras
import numpy as np
import onnx
import pytest
from keras import layers, ops

import kerasdl
from kerasdl import export
from random_networks import randomize


def exported(model, tmp_path, **options):
    return export.to_onnx(model, tmp_path / "model.onnx", **options)


def sequential(*stack, shape=(4,)):
    model = keras.Sequential([keras.Input(shape), *stack])
    randomize(model, 0)
    return model


def test_nested_model_whose_dictionary_keys_are_not_its_input_names(tmp_path, recwarn):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    inner = keras.Model({"a": b, "b": a}, layers.Dense(3)(a) - 2 * layers.Dense(3)(b))
    p, q = keras.Input((4,), name="p"), keras.Input((4,), name="q")
    model = keras.Model([p, q], inner({"a": p, "b": q}))
    randomize(model, 0)
    assert exported(model, tmp_path).passed


def test_a_wrong_trace_is_not_taken_for_rounding(tmp_path, monkeypatch):
    """The noise comes from a run of the graph; it must not hide an error of the graph."""
    from kerasdl.export import conversion
    from kerasdl.export.programs import program

    right = conversion.trace

    def wrong(model):
        graph = right(model)
        graph.nodes[1].operation = graph.nodes[0].operation
        return graph

    model = sequential(layers.Dense(4, name="a"), layers.Dense(4, name="b"))
    monkeypatch.setattr(conversion, "trace", wrong)
    monkeypatch.setattr(program, "trace", wrong)
    with pytest.raises(export.ParityError):
        exported(model, tmp_path)


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_data_far_from_zero_leaves_the_verdict_sharp(offset, tmp_path, rng):
    x = (offset + rng.normal(size=(100, 5))).astype("float32")
    model = kerasdl.default_model((5,), 1, task="regression", adapt_to=x)
    exported(model, tmp_path, data={"input": x})
    kernel = model.get_layer("output").kernel
    kernel.assign(0.999 * np.array(keras.ops.convert_to_numpy(kernel.value)))
    assert not export.verify(model, tmp_path / "model.onnx", data={"input": x}).passed


def test_a_comparison_that_cannot_fail_is_none(tmp_path):
    model = sequential(layers.Dense(3), layers.Lambda(lambda y: ops.sin(1e7 * y)))
    with pytest.raises(export.ParityError, match="Nothing can be told: rounding") as caught:
        exported(model, tmp_path)
    assert "  ?    lambda, random batch of 3" in caught.value.report.to_text()
    assert not caught.value.report.conclusive
    assert exported(model, tmp_path, atol=3.0).passed


def test_outputs_without_a_finite_number(tmp_path):
    model = sequential(layers.Lambda(lambda x: ops.log(-ops.abs(x) - 1.0)))
    with pytest.raises(export.ParityError, match="Nothing can be told"):
        exported(model, tmp_path)


def test_outputs_that_are_exactly_zero(tmp_path):
    model = sequential(layers.Dense(3, kernel_initializer="zeros"))
    model.layers[0].kernel.assign(np.zeros((4, 3)))
    model.layers[0].bias.assign(np.zeros(3))
    assert exported(model, tmp_path).passed


def test_stateful_layers_are_refused_and_left_alone(tmp_path):
    x = keras.Input(batch_shape=(2, 5, 3))
    model = keras.Model(x, layers.LSTM(4, stateful=True, name="memory")(x))
    model.predict(np.ones((2, 5, 3)), verbose=0)
    before = [np.array(v.value.numpy()) for v in model.variables if "seed" not in v.path]
    with pytest.raises(export.ConversionError, match="`memory` .* keeps its state") as caught:
        exported(model, tmp_path)
    assert caught.value.layer == "memory"
    after = [np.array(v.value.numpy()) for v in model.variables if "seed" not in v.path]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


class Counting(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x


def test_what_a_layer_assigns_is_undone(tmp_path):
    model = sequential(layers.Dense(3), Counting(name="c"))
    before = float(model.get_layer("c").count.value)
    exported(model, tmp_path)
    assert float(model.get_layer("c").count.value) == before


def test_policy_maps_are_restored(tmp_path):
    policies = keras.dtype_policies.DTypePolicyMap()
    policies["outer/half"] = keras.DTypePolicy("mixed_float16")
    stack = layers.Dense(4, dtype=policies, name="half"), layers.Dense(2)
    model = keras.Sequential([keras.Input((6,)), *stack], name="outer")
    exported(model, tmp_path)
    assert model.layers[0].compute_dtype == "float16"
    assert policies["outer/half"].name == "mixed_float16"


@pytest.mark.parametrize("kind", ["lambda", "prelu", "layer"])
def test_the_activation_of_an_absorbing_layer_is_kept(kind, tmp_path):
    activation = {
        "lambda": lambda y: ops.tanh(y) + 1,
        "prelu": layers.PReLU(),
        "layer": layers.LeakyReLU(0.3),
    }[kind]
    model = sequential(
        layers.BatchNormalization(name="bn"), layers.Dense(3, activation=activation, name="d")
    )
    if kind == "prelu":
        model(np.zeros((1, 4)))
        activation.alpha.assign([0.1, 0.5, 2.0])
    assert exported(model, tmp_path).folds[0].into == ("d",)


def test_a_fold_out_of_range_is_declined(tmp_path):
    model = sequential(layers.Dense(3, name="d"), layers.BatchNormalization(name="bn"))
    model.get_layer("d").kernel.assign(np.full((4, 3), 1e-20))
    model.get_layer("d").bias.assign(np.full(3, 1e20))
    model.get_layer("bn").gamma.assign(np.full(3, 1e30))
    assert "would leave the range of float32" in export.inspect(model).folds[0]


def test_a_batch_normalization_that_nothing_reads():
    x = keras.Input((4,))
    dead = layers.BatchNormalization(name="dead")(x)
    inner = keras.Model(x, [layers.Dense(2)(x), dead], name="inner")
    y = keras.Input((4,))
    model = keras.Model(y, inner(y)[0])
    assert export.inspect(model).folds[0].endswith("nothing reads its output")


def test_indices_behind_other_layers(tmp_path):
    x = keras.Input((3,), dtype="int32")
    first = layers.Embedding(5, 3)(x[:, 0])
    both = layers.Embedding(50, 3)(x[:, 1]) + first
    assert exported(keras.Model(x, layers.Dense(2)(both)), tmp_path).passed


def test_indices_of_a_saved_model(tmp_path):
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(5, 3)])
    model.export(tmp_path / "saved", verbose=False)
    assert export.to_onnx(tmp_path / "saved", tmp_path / "model.onnx").passed


def test_data_that_the_model_cannot_take(tmp_path):
    model = keras.Sequential([keras.Input((3,), dtype="int32", name="i"), layers.Embedding(5, 3)])
    with pytest.raises(export.OptionError, match="cannot be run on the data"):
        exported(model, tmp_path, data={"i": np.full((2, 3), 7, "int32")})


@pytest.mark.parametrize("damaged", ["da", "db", "db2", "da2", "end"])
def test_the_damaged_one_of_two_branches_is_named(damaged, tmp_path):
    x = keras.Input((6,))
    branches = [
        layers.Dense(5, activation="tanh", name=f"d{k}2")(
            layers.Dense(4, activation="relu", name=f"d{k}")(x)
        )
        for k in "ab"
    ]
    model = keras.Model(x, layers.Dense(2, name="end")(layers.Concatenate(name="cat")(branches)))
    randomize(model, 3)
    exported(model, tmp_path)
    bias = model.get_layer(damaged).bias
    bias.assign(np.array(bias.value.numpy()) + 0.5)
    assert export.verify(model, tmp_path / "model.onnx").layer == damaged


def test_mixed_precision_saved_model(tmp_path):
    stack = layers.Dense(4, dtype="mixed_float16"), layers.Dense(2, dtype="float32")
    keras.Sequential([keras.Input((6,)), *stack]).export(tmp_path / "saved", verbose=False)
    assert export.to_onnx(tmp_path / "saved", tmp_path / "model.onnx").passed


def test_functional_subclass_with_a_call_of_its_own(tmp_path):
    class Doubling(keras.Model):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs, training=training)

    x = keras.Input((4,), name="x")
    model = Doubling(inputs=x, outputs=layers.Dense(3)(x))
    report = exported(model, tmp_path)
    assert [port.name for port in report.inputs] == ["x"]


class Odd(keras.Model):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def call(self, x):
        if self.how == "none":
            return {"y": x, "n": None}
        return x if float(ops.sum(x)) > 0 else -x


@pytest.mark.parametrize(
    ("how", "message"), [("none", "something that is no tensor"), ("branch", "cannot be traced")]
)
def test_subclassed_models_that_cannot_be_exported(how, message, tmp_path, recwarn):
    model = Odd(how)
    model(np.ones((2, 3), "float32"))
    with pytest.raises(export.SourceError, match=message):
        exported(model, tmp_path)


def rewritten(tmp_path, change):
    proto = onnx.load(tmp_path / "model.onnx")
    change(proto)
    onnx.save(proto, tmp_path / "model.onnx")


def test_a_foreign_file_with_its_inputs_in_another_order(tmp_path):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], layers.Dense(2, name="d")(a) + layers.Dense(2, name="e")(b))
    randomize(model, 4)
    exported(model, tmp_path)

    def swap(proto):
        ends = list(proto.graph.input)[::-1]
        del proto.graph.input[:]
        proto.graph.input.extend(ends)
        proto.opset_import[0].domain = "ai.onnx"

    rewritten(tmp_path, swap)
    report = export.verify(model, tmp_path / "model.onnx")
    assert report.passed
    assert report.opset == 18
    model.get_layer("e").bias.assign([9.0, 9.0])
    assert export.verify(model, tmp_path / "model.onnx").layer == "e"


def test_a_foreign_file_with_another_input_shape(tmp_path):
    exported(sequential(layers.Dense(2), shape=(5,)), tmp_path)
    with pytest.raises(export.SourceError, match="does not run on the model's inputs"):
        export.verify(sequential(layers.Dense(2), shape=(6,)), tmp_path / "model.onnx")


def test_a_wrong_file_of_a_model_that_refuses_float64(tmp_path):
    class Stubborn(layers.Layer):
        def call(self, x):
            assert x.dtype == "float32"
            return 2 * x

    model = sequential(layers.Dense(3, name="d"), Stubborn(), layers.Dense(2, name="e"))
    exported(model, tmp_path)
    model.get_layer("e").bias.assign([9.0, 9.0])
    report = export.verify(model, tmp_path / "model.onnx")
    assert (report.passed, report.layer) == (False, "e")


@pytest.mark.parametrize("bad", [None, 3, np.zeros(3), layers.Dense(3)])
def test_what_is_no_model_at_all(bad, tmp_path):
    for call in (export.inspect, lambda m: export.verify(m, "x"), lambda m: exported(m, tmp_path)):
        with pytest.raises(export.SourceError):
            call(bad)


@pytest.mark.parametrize(
    "options", [{"rtol": "a"}, {"data": 3}, {"data": {"x": [[1.0], [1.0, 2.0]]}}, {"data": "none"}]
)
def test_what_is_no_option(options, tmp_path):
    x = keras.Input((4,), name="x")
    with pytest.raises(export.OptionError):
        exported(keras.Model(x, layers.Dense(2)(x)), tmp_path, **options)
