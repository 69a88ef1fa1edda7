"""A folded Keras model computes what the model does, and is a model like any other."""

import doctest
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from keras import layers
from keras.src.saving import object_registration
from own_layers import Computing

import kerasdl
from kerasdl import export
from kerasdl.export import folded as folded_module
from kerasdl.export.folding import folding
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


def test_a_sequential_with_masks_is_saved_as_one(tmp_path):
    """Keras cannot read a Functional model with masks from a `.h5` file."""
    words = keras.Input((5,), dtype="int32", name="words")
    table = layers.Embedding(9, 4, mask_zero=True)
    tanh = layers.Activation("tanh")
    behind = [layers.LSTM(3, return_sequences=True), tanh, layers.BatchNormalization()]
    model = keras.Sequential([words, table, layers.BatchNormalization(), *behind, layers.ELU()])
    randomize(model, 7)
    folded = export.fold(model)
    assert kinds(folded) == ["Embedding", "LSTM", "Activation", "Affine", "ELU"]
    assert folded.name == model.name
    assert folded.inputs[0].name == "words"
    folded.save(tmp_path / "folded.h5")
    loaded = keras.saving.load_model(tmp_path / "folded.h5")
    agree(loaded, model, np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 8]]))


def test_a_mask_that_ends_with_a_nested_model_ends_there():
    words = keras.Input((5,), dtype="int32")
    inner = keras.Sequential([words, layers.Embedding(9, 4, mask_zero=True)])
    model = keras.Sequential([words, inner, layers.BatchNormalization(), layers.LSTM(3)])
    randomize(model, 8)
    folded = export.fold(model)
    assert kinds(folded) == ["InputLayer", "Embedding", "LSTM"]
    agree(folded, model, np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 8]]))


HALVES = {
    "Affine of a scale": lambda: kerasdl.Affine(scale_initializer="random_normal"),
    "Affine of an offset": lambda: kerasdl.Affine(offset_initializer="random_normal"),
    "Rescaling": lambda: layers.Rescaling(2.0),
    "Normalization of a deviation": lambda: layers.Normalization(
        mean=[0.0, 0.0], variance=[4.0, 9.0]
    ),
    "Normalization of a mean": lambda: layers.Normalization(mean=[3.0, 1.0], variance=[1.0, 1.0]),
}


@pytest.mark.parametrize("name", HALVES)
def test_a_scale_or_a_shift_alone_is_one_node(name, tmp_path):
    tanh = layers.Activation("tanh")
    model = keras.Sequential([keras.Input((2,)), tanh, HALVES[name](), layers.Activation("tanh")])
    for one in (model, export.fold(model)):
        report = export.to_onnx(one, tmp_path / "model.onnx")
        assert sum(report.nodes.values()) == 3


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


def normalized(inputs, name="hidden"):
    x = layers.Dense(4, name=name)(inputs)
    return layers.BatchNormalization(name=f"{name}_bn")(x)


def of_vectors(behind):
    """A model of a normalization and what `behind` makes of it."""
    x = keras.Input((8,), name="x")
    model = keras.Model(x, behind(normalized(x)))
    randomize(model, 5)
    return model


def state(model):
    """What is to stay of a model: the calls of its layers, their functions, their weights."""
    layers_of = model._flatten_layers()
    return (
        [(id(layer), len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers_of],
        [[id(value) for value in vars(layer).values() if callable(value)] for layer in layers_of],
        [np.array(weight).tolist() for weight in model.get_weights()],
    )


def check(model, inputs=None):
    if inputs is None:
        inputs = np.random.default_rng(6).normal(size=(3, *model.input_shape[1:]))
        inputs = inputs.astype("float32")
    before, registered = state(model), dict(object_registration.GLOBAL_CUSTOM_NAMES)
    folded = export.fold(model)
    assert state(model) == before
    assert registered == object_registration.GLOBAL_CUSTOM_NAMES
    assert "BatchNormalization" not in kinds(folded)
    agree(folded, model, inputs)
    return folded


class Multiply(layers.Layer):
    """Has the name of a layer of Keras, and of an operation."""

    def call(self, inputs):
        return 3.0 * inputs


class Dense(layers.Layer):
    def call(self, inputs):
        return inputs - 3.0


def own(factor):
    """Layers whose classes have one name."""

    class Own(layers.Layer):
        def call(self, inputs):
            return factor * inputs

    return Own()


def wave(factor):
    def activation(x):
        return keras.ops.sin(factor * x)

    return activation


@keras.saving.register_keras_serializable("tests_of_fold")
class Registered(layers.Layer):
    def call(self, inputs):
        return 5.0 * inputs


FIRST = Registered


@keras.saving.register_keras_serializable("tests_of_fold")
class Registered(layers.Layer):
    """Under the name of the one before, which Keras finds no more."""

    def call(self, inputs):
        return 7.0 * inputs


class Constant(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.full(shape, 0.5, dtype)


SAME_NAMES = {
    "Multiply": lambda y: layers.Multiply()([y, y * 2.0]),
    "Add": lambda y: layers.Add()([y, y + y]),
    "Subtract": lambda y: layers.Subtract()([y, y - 1.0]),
    "Reshape": lambda y: layers.Reshape((2, 2))(keras.ops.reshape(y, (-1, 2, 2))),
    "a user's": lambda y: layers.Multiply()([Dense()(y), Multiply()(y) * 2.0]),
    "two users'": lambda y: own(2.0)(own(3.0)(layers.ReLU()(y))),
    "two functions": lambda y: layers.Dense(4, wave(2.0))(layers.Dense(4, wave(3.0))(y)),
    "registered twice": lambda y: FIRST()(Registered()(layers.ReLU()(y))),
    "an initializer": lambda y: layers.Dense(3, kernel_initializer=Constant())(y),
}


@pytest.mark.parametrize("case", SAME_NAMES)
def test_classes_and_functions_by_name(case):
    """Keras goes by the last part of a name alone."""
    check(of_vectors(SAME_NAMES[case]))


def test_a_class_registered_under_the_name_of_an_operation(monkeypatch):
    monkeypatch.setitem(keras.saving.get_custom_objects(), "Multiply", Multiply)
    check(of_vectors(lambda y: layers.Multiply()([y, Multiply()(y) * 2.0])))


def closure(function):
    return layers.Lambda(lambda x: function(x))


class Scale:
    factor = 3.0

    def __call__(self, x):
        return self.factor * x

    def method(self, x):
        return self.factor * x


CONSTANT = np.array([1.0, 2.0, 3.0, 4.0], "float32")


def around(lambdas):
    """A Sequential model that is no open one in its layer."""
    return keras.Sequential([keras.Input((4,)), lambdas, layers.Dense(3)])


def functional(lambdas):
    inputs = keras.Input((4,))
    return keras.Model(inputs, lambdas(inputs) * 2.0)


def over_time(layer):
    s = keras.Input((5, 8), name="s")
    model = keras.Model(s, layers.TimeDistributed(layer)(normalized(s)))
    randomize(model, 5)
    return model


def l2():
    return layers.Lambda(lambda x: tf.nn.l2_normalize(x))


GIVEN = {
    "a global name": lambda: of_vectors(
        layers.Lambda(lambda x: tf.nn.l2_normalize(x), output_shape=(4,))
    ),
    "no shape": lambda: of_vectors(l2()),
    "a shape": lambda: of_vectors(
        layers.Lambda(lambda x: tf.reshape(x, (-1, 2, 2)), output_shape=lambda s: (s[0], 2, 2))
    ),
    "defaults": lambda: of_vectors(layers.Lambda(lambda x, add=CONSTANT: tf.abs(x) + add)),
    "arguments": lambda: of_vectors(
        layers.Lambda(lambda x, by: tf.abs(x) * by["a"], arguments={"by": {"a": 3.0}})
    ),
    "two of the same code": lambda: of_vectors(
        lambda y: closure(keras.ops.cos)(closure(keras.ops.sin)(y))
    ),
    "an activation": lambda: of_vectors(
        layers.Dense(3, activation=lambda x: tf.nn.relu(x) * CONSTANT[:3])
    ),
    "a regularizer": lambda: of_vectors(
        layers.Dense(3, kernel_regularizer=lambda w: tf.reduce_sum(w * w))
    ),
    "of Keras": lambda: of_vectors(layers.Lambda(keras.ops.abs)),
    "of TensorFlow": lambda: of_vectors(layers.Dense(3, activation=tf.nn.swish)),
    "a partial": lambda: of_vectors(
        layers.Dense(3, activation=functools.partial(keras.ops.leaky_relu, negative_slope=0.3))
    ),
    "a method": lambda: of_vectors(layers.Lambda(Scale().method)),
    "an object": lambda: of_vectors(layers.Lambda(Scale())),
    "a tf.function": lambda: of_vectors(layers.Lambda(tf.function(lambda x: tf.abs(x)))),
    "over time": lambda: over_time(l2()),
    "in a model over time": lambda: over_time(around(l2())),
    "in a nested model": lambda: of_vectors(around(l2())),
    "in a nested functional model": lambda: of_vectors(functional(l2())),
}


@pytest.mark.parametrize("case", GIVEN)
def test_functions_that_layers_were_given(case):
    """The copy calls the function itself, with all that it refers to."""
    check(GIVEN[case]())


class Doubled(layers.Wrapper):
    def call(self, inputs):
        return 2.0 * self.layer(inputs)


class Optional(layers.Layer):
    def call(self, first, second=None):
        return first if second is None else first + second


class Wide(keras.Model):
    """A functional model with a constructor of its own, which Keras cannot repeat."""

    def __init__(self, width):
        inputs = keras.Input((8,))
        super().__init__(inputs, normalized(layers.Dense(width)(inputs)))


def test_what_layers_are_made_of():
    s = keras.Input((5, 8), name="s")
    for layer in (
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.RNN(layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2)])),
    ):
        check(keras.Model(s, layer(normalized(s))))
    check(of_vectors(Doubled(layers.Dense(3))))
    check(of_vectors(Doubled(Dense())))
    check(of_vectors(lambda y: Optional()(y, None)))
    check(of_vectors(lambda y: Optional()(y, second=layers.ReLU()(y))))
    check(Wide(5))


def test_a_sequential_that_a_batch_has_built():
    model = keras.Sequential([layers.Dense(3), layers.BatchNormalization()])
    model(np.ones((5, 4), "float32"))
    assert export.fold(model).input_shape == (None, 4)


def test_an_optional_input_stays_optional():
    x, extra = keras.Input((8,), name="x"), keras.Input((4,), optional=True, name="extra")
    model = keras.Model([x, extra], Optional()(normalized(x), extra))
    randomize(model, 6)
    data = [np.ones((3, 8), "float32"), np.ones((3, 4), "float32")]
    folded = check(model, data)
    agree(folded, model, [data[0], None])


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")
@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantized_models(mode):
    model = of_vectors(lambda y: layers.Dense(3, name="head")(layers.ReLU()(y)))
    model.quantize(mode)
    folded = export.fold(model)
    assert folded.get_layer("head").quantization_mode == mode
    agree(folded, model, np.ones((3, 8), "float32"))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_policies(policy):
    x = keras.Input((8,), name="x")
    y = layers.Dense(4, dtype=policy, name="hidden")(x)
    y = layers.BatchNormalization(dtype=policy)(y)
    model = keras.Model(x, layers.Dense(3, dtype="float32", name="head")(y))
    randomize(model, 7)
    folded = export.fold(model)
    assert kinds(folded) == ["InputLayer", "Dense", "Dense"]
    assert folded.get_layer("hidden").dtype_policy.name == policy


def test_how_it_is_trained_does_not_matter():
    model = of_vectors(layers.Dense(2))
    model.compile(loss=functools.partial(keras.losses.mean_squared_error))  # cannot be saved
    check(model)
    assert model.compiled


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


class Forgetful(layers.Layer):
    """Its copy has lost what it computes with."""

    def __init__(self, factor=None, **keywords):
        super().__init__(**keywords)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return super().get_config()


class Late(layers.Layer):
    """Its copy fails when it is run."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.ready = False

    def call(self, inputs):
        if tf.executing_eagerly() and not self.ready:
            raise RuntimeError("not ready")
        return inputs


def test_what_cannot_be_copied():
    model = keras.Sequential([keras.Input((3,)), Uncopyable(name="odd")])
    with pytest.raises(
        export.SourceError, match=r"`odd` \(Uncopyable\) cannot be copied: .*config"
    ):
        export.fold(model)
    with pytest.raises(export.SourceError, match="`odd`.*Give it a `get_config`"):
        export.fold(of_vectors(Computing(abs, name="odd")))
    with pytest.raises(export.SourceError, match="`sequential.*/odd` .*Give it a `get_config`"):
        export.fold(of_vectors(around(Computing(abs, name="odd"))))
    with pytest.raises(export.SourceError, match=r"`odd` \(Forgetful\) cannot be copied: .*odd"):
        export.fold(of_vectors(Forgetful(2.0, name="odd")))
    inputs = keras.Input((8,))
    with pytest.raises(export.SourceError, match=r"`wide` \(Wide\) cannot be copied"):
        export.fold(keras.Model(inputs, Wide(5)(inputs)))


def test_a_copy_that_does_not_run():
    late = Late(name="late")
    late.ready = True
    with pytest.raises(export.ConversionError, match="`late`.*not ready") as caught:
        export.fold(of_vectors(late))
    assert caught.value.layer == "late"


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
