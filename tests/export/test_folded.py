"""A folded Keras model computes what the model does, and is a model like any other."""

import doctest

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from keras import layers

import kerasdl
from kerasdl import export
from kerasdl.export import folded as folded_module
from kerasdl.export import folding
from random_networks import build, randomize, recipes


def agree(one, other, inputs):
    """To the rounding of a few layers."""
    for ours, theirs in zip(
        keras.tree.flatten(one(inputs, training=False)),
        keras.tree.flatten(other(inputs, training=False)),
        strict=True,
    ):
        wanted = np.asarray(theirs)
        close = 1e-4 * max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
        np.testing.assert_allclose(np.asarray(ours), wanted, rtol=0, atol=close)


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def images():
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Dropout(0.5)(layers.ELU(name="elu")(x))
    x = layers.Dense(3, name="head")(layers.Flatten(name="flat")(x))
    model = keras.Model(inputs, x, name="images")
    randomize(model, 0)
    return model


def test_what_is_left(rng):
    model = images()
    before = [np.array(w) for w in model.get_weights()]
    folded = export.fold(model)
    assert folded.name == "images"
    assert [layer.name for layer in folded.layers] == ["image", "conv", "elu", "flat", "head"]
    agree(folded, model, rng.normal(size=(5, 8, 8, 3)).astype("float32"))
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert "bn" in [layer.name for layer in model.layers]
    # Nothing is shared.
    folded.get_layer("head").bias.assign([9.0, 9.0, 9.0])
    assert not np.any(np.asarray(model.get_layer("head").bias) == 9.0)


def test_structures_and_names_stay(rng):
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    shared = layers.Dense(4, name="shared")
    total = layers.BatchNormalization()(layers.Add()([shared(left), shared(right)]))
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.BatchNormalization()])
    model = keras.Model({"left": left, "right": right}, {"y": inner(total), "same": left})
    randomize(model, 1)
    folded = export.fold(model)
    assert [tensor.name for tensor in folded.inputs] == ["left", "right"]
    inputs = {"left": rng.normal(size=(3, 4)), "right": rng.normal(size=(3, 4))}
    result = folded(inputs)
    assert set(result) == {"y", "same"}
    agree(folded, model, inputs)
    assert kinds(folded).count("Dense") == 2  # the shared one is one layer still
    assert "BatchNormalization" not in kinds(folded)


def test_saved_and_loaded_without_the_export(tmp_path, rng):
    """What stays of a normalization is a layer that everybody knows."""
    x = inputs = keras.Input((6,), name="x")
    x = layers.BatchNormalization()(layers.Activation("tanh")(x))
    x = layers.BatchNormalization(name="again")(layers.Activation("tanh")(x))
    model = keras.Model(inputs, x)
    randomize(model, 2)
    folded = export.fold(model)
    assert kinds(folded).count("Affine") == 2
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    agree(loaded, model, rng.normal(size=(3, 6)).astype("float32"))
    assert loaded.trainable_variables == []


def test_a_remainder_over_space_is_saved_and_loaded(tmp_path, rng):
    x = inputs = keras.Input((5, 5, 8), name="x")
    x = layers.BatchNormalization()(layers.ReLU()(x))
    x = layers.Conv2D(1, 3, strides=3, padding="same")(x)  # fewer numbers go out than in
    model = keras.Model(inputs, layers.ReLU()(x))
    randomize(model, 3)
    folded = export.fold(model)
    assert "Remainder" in kinds(folded)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    agree(loaded, model, rng.normal(size=(3, 5, 5, 8)).astype("float32"))


def test_a_scalar_that_stays_is_a_rescaling(rng):
    x = inputs = keras.Input((4,), name="x")
    x = layers.Rescaling(2.0, 1.0)(layers.Activation("tanh")(x))
    model = keras.Model(inputs, layers.Activation("tanh")(x))
    folded = export.fold(model)
    assert kinds(folded) == ["InputLayer", "Activation", "Rescaling", "Activation"]
    agree(folded, model, rng.normal(size=(3, 4)).astype("float32"))


def test_from_a_file(tmp_path, rng):
    model = images()
    model.save(tmp_path / "model.keras")
    folded = export.fold(tmp_path / "model.keras", data={"image": np.ones((2, 8, 8, 3), "float32")})
    agree(folded, model, rng.normal(size=(2, 8, 8, 3)).astype("float32"))


def sine(x):
    return keras.ops.sin(x)


class Doubling(layers.Layer):
    """Registered nowhere."""

    def call(self, inputs):
        return 2.0 * inputs


def test_custom_layers_that_are_registered_nowhere(rng):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, activation=sine),
            Doubling(),
            layers.Lambda(lambda x: x + 1.0),
            layers.Dense(2),
            layers.BatchNormalization(),
        ]
    )
    randomize(model, 4)
    folded = export.fold(model)
    assert "BatchNormalization" not in kinds(folded)
    agree(folded, model, rng.normal(size=(3, 3)).astype("float32"))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def test_what_cannot_be_folded(tmp_path):
    model = Subclassed()
    model(np.ones((1, 3), "float32"))
    with pytest.raises(export.SourceError, match="shows no Keras layers"):
        export.fold(model)
    images().export(tmp_path / "saved", verbose=False)
    with pytest.raises(export.SourceError, match="shows no Keras layers"):
        export.fold(tmp_path / "saved")
    with pytest.raises(export.OptionError, match="The data must"):
        export.fold(images(), data={"picture": np.ones((1, 8, 8, 3), "float32")})


class Uncopyable(layers.Layer):
    def get_config(self):
        raise NotImplementedError("no configuration")

    def call(self, inputs):
        return inputs


def test_what_cannot_be_copied():
    model = keras.Sequential([keras.Input((3,)), Uncopyable(name="odd")])
    with pytest.raises(export.SourceError, match="cannot be copied: .*configuration"):
        export.fold(model)


def test_a_wrong_fold_is_not_handed_over(monkeypatch):
    def wrong(graph):
        folds = folding.fold(graph)
        next(n for n in graph.nodes if n.name == "head").operation.bias.assign([1.0, 2.0, 3.0])
        return folds

    monkeypatch.setattr(folded_module, "fold_graph", wrong)
    with pytest.raises(export.ParityError, match="The folded model disagrees") as caught:
        export.fold(images())
    assert not caught.value.report.passed


def test_default_models():
    for model in (
        kerasdl.default_model((20,), task="binary"),
        kerasdl.default_model((8, 8, 1), 10),
    ):
        folded = export.fold(model)
        assert not {"BatchNormalization", "Dropout"} & set(kinds(folded))
        assert len(folded.layers) < len(model.layers)


@settings(deadline=None, max_examples=8, suppress_health_check=list(HealthCheck))
@given(recipes())
def test_random_networks(recipe):
    model, inconclusive = build(recipe, convertible=False), False
    try:
        folded = export.fold(model)
    except export.ParityError as error:
        inconclusive = not error.report.conclusive
        folded = None
    # Rounding may be too much for any verdict, but nothing may be wrong.
    assert inconclusive == (folded is None)
    if folded is None:
        return
    names = [layer.name for layer in folded.layers]
    assert len(set(names)) == len(names)
    again = export.fold(folded)
    assert len(again.layers) <= len(folded.layers)


def test_the_example_runs():
    assert doctest.testmod(folded_module).failed == 0
