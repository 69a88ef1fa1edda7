"""Models whose layers compute in bfloat16: in a file they compute in float32."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers, ops

from kerasdl import export
from kerasdl.export.verifying.diverging import first_wrong
from random_networks import randomize

pytestmark = pytest.mark.tensorflow

POLICIES = ("mixed_bfloat16", "bfloat16")


class Closed(keras.Model):
    def __init__(self, policy):
        super().__init__(dtype=policy)
        self.one = layers.Dense(8, dtype=policy)
        self.two = layers.BatchNormalization(dtype=policy)

    def call(self, x):
        return ops.tanh(self.two(self.one(x)))


def vectors(policy):
    x = keras.Input((6,), name="x")
    y = layers.Dense(8, dtype=policy, name="one")(x)
    y = layers.BatchNormalization(dtype=policy, name="two")(y)
    y = layers.Activation("tanh", dtype=policy, name="three")(y)
    return keras.Model(x, layers.Dense(3, dtype=policy, name="four")(y))


def images(policy):
    x = keras.Input((8, 8, 3), name="x")
    y = layers.Conv2D(8, 3, dtype=policy)(x)
    y = layers.BatchNormalization(dtype=policy)(layers.ReLU(dtype=policy)(y))
    y = layers.SeparableConv2D(4, 3, padding="same", dtype=policy)(y)
    y = layers.LayerNormalization(dtype=policy)(y)
    return keras.Model(x, layers.GlobalAveragePooling2D(dtype="float32")(y))


def kept(policy):
    """A batch normalization that stays an operation."""
    x = keras.Input((6,), name="x")
    y = layers.Activation("tanh", dtype=policy)(x)
    return keras.Model(x, layers.BatchNormalization(dtype=policy)(y))


def sequence(policy):
    x = keras.Input((5, 4), name="x")
    y = layers.BatchNormalization(dtype=policy)(x)
    # Keras' own initializer is orthogonal, which TensorFlow has not in bfloat16.
    options = {"recurrent_initializer": "glorot_uniform", "dtype": policy}
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True, **options), dtype=policy)(y)
    y = layers.TimeDistributed(layers.Dense(8, dtype=policy), dtype=policy)(y)
    y = y + layers.MultiHeadAttention(2, 4, dtype=policy)(y, y)
    return keras.Model(x, layers.Dense(2, dtype="float32")(y))


def closed(policy):
    model = Closed(policy)
    model(np.zeros((2, 6), "float32"))
    return model


MODELS = {"vectors": vectors, "images": images, "kept": kept, "sequence": sequence} | {
    "closed": closed
}


def built(name, policy):
    model = MODELS[name](policy)
    randomize(model, 3)
    return model


def run(path, model, rng):
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    x = rng.standard_normal((4, *given.shape[1:])).astype("float32")
    return session.run(None, {given.name: x})[0], ops.convert_to_numpy(
        ops.cast(model(x, training=False), "float32")
    )


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", MODELS)
def test_the_file_computes_in_float32(name, policy, tmp_path, rng):
    model = built(name, policy)
    path = tmp_path / "model.onnx"
    policies = [layer.dtype_policy.name for layer in model._flatten_layers()]
    weights = [ops.convert_to_numpy(v).copy() for v in model.weights]
    report = export.to_onnx(model, path)
    assert [layer.dtype_policy.name for layer in model._flatten_layers()] == policies
    for before, variable in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, ops.convert_to_numpy(variable))
    assert "bfloat16 layers compute in float32" in report.notes[0]
    assert report.worst.tolerance < 1e-4 * max(1.0, report.worst.magnitude)
    assert [port.dtype for port in report.outputs] == ["float32"]
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.INT32}
    ours, own = run(path, model, rng)
    # Keras rounds every result to 8 bits.
    assert np.max(np.abs(ours - own)) < 0.1 * np.max(np.abs(own))
    again = export.verify(model, path)
    assert again.passed
    assert again.constants.wrong == ()


def test_folded_like_any_other(tmp_path):
    report = export.to_onnx(built("vectors", "mixed_bfloat16"), tmp_path / "model.onnx")
    assert dict(report.nodes) == {"MatMul": 2, "Add": 2, "Tanh": 1}
    assert [fold.into for fold in report.folds] == [("one",)]


def test_the_wrong_layer_is_found(tmp_path):
    model = built("vectors", "bfloat16")
    export.to_onnx(model, tmp_path / "model.onnx")
    kernel = model.get_layer("four").kernel
    kernel.assign(1.1 * kernel)
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert not report.passed
    assert report.layer == "four"
    assert first_wrong(report.layers) == ("four",)


@pytest.mark.parametrize("policy", POLICIES)
def test_fold_leaves_the_policies(policy):
    model = built("vectors", policy)
    folded = export.fold(model)
    assert [layer.name for layer in folded.layers[1:]] == ["one", "three", "four"]
    assert {layer.compute_dtype for layer in folded.layers[2:]} == {"bfloat16"}
    # What has absorbed a map is not rounded to bfloat16.
    assert folded.get_layer("one").kernel.dtype == "float32"


def test_a_batch_normalization_in_float32_is_not_rounded_by_a_fold():
    x = keras.Input((6,))
    y = layers.Dense(4, dtype="mixed_bfloat16", name="one")(x)
    model = keras.Model(x, layers.BatchNormalization(dtype="float32", name="two")(y))
    randomize(model, 0)
    assert len(export.fold(model).layers) == len(model.layers)


def test_a_bfloat16_input_is_refused(tmp_path):
    x = keras.Input((6,), dtype="bfloat16", name="x")
    model = keras.Model(x, layers.Dense(2, dtype="bfloat16")(x), name="narrow")
    with pytest.raises(export.SourceError, match="Input `x` of model `narrow` is bfloat16"):
        export.to_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_cast_to_bfloat16_is_refused(tmp_path):
    x = keras.Input((6,), name="x")
    y = 2 * ops.cast(layers.Dense(3)(x), "bfloat16")
    model = keras.Model(x, ops.cast(y, "float32"))
    with pytest.raises(export.ExportError):
        export.to_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("inputs", "notes"), [(4, 1), (400, 0)])
def test_a_file_of_small_matrices_says_that_it_is_in_float32(inputs, notes, tmp_path):
    model = keras.Sequential([keras.Input((inputs,)), layers.Dense(8)])
    report = export.to_onnx(model, tmp_path / "model.onnx", precision="bfloat16")
    assert [note for note in report.notes if "no matrix is large enough" in note] == report.notes
    assert len(report.notes) == notes


def test_constants_of_a_bfloat16_file_of_float16_layers(tmp_path):
    steps = [layers.Conv2D(8, 3, dtype="mixed_float16"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((8, 8, 1)), *steps, layers.Dense(10)])
    export.to_onnx(model, tmp_path / "model.onnx", precision="bfloat16")
    report = export.verify(model, tmp_path / "model.onnx")
    assert report.passed
    assert report.constants.compared
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 1.01)
    assert not export.verify(model, tmp_path / "model.onnx").passed
