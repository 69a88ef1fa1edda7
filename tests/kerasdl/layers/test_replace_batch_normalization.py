"""Models without batch normalization that compute what the old ones do."""

import keras
import numpy as np
import pytest
from keras import layers
from keras.ops import convert_to_numpy

import kerasdl
from kerasdl import Affine, replace_batch_normalization

pytestmark = pytest.mark.filterwarnings("ignore:.* trains on a mini-batch:UserWarning")


def randomize(model, rng):
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


def flat(model):
    return [part for part in model._flatten_layers() if not isinstance(part, keras.Model)]


def sequential():
    return keras.Sequential(
        [
            keras.Input((5,), name="x"),
            layers.Dense(4, use_bias=False),
            layers.BatchNormalization(name="bn"),
            kerasdl.Dropout(0.5),
            layers.Dense(3, activation="elu"),
            kerasdl.BatchNormalization(statistics="population", center=False),
            layers.BatchNormalization(scale=False, epsilon=0.1),
            layers.BatchNormalization(scale=False, center=False),
        ],
        name="stack",
    ), (5,)


def channels_first():
    stack = layers.BatchNormalization(axis=1), layers.Reshape((12,)), layers.BatchNormalization()
    return keras.Sequential([keras.Input((3, 2, 2)), *stack]), (3, 2, 2)


def images():
    x = keras.Input((6, 6, 2))
    y = layers.Conv2D(4, 3)(x)
    y = layers.BatchNormalization(axis=3)(y, training=False)
    y = keras.ops.relu(y) + 1.0
    y = layers.BatchNormalization(axis=-2)(inputs := y)
    return keras.Model(x, layers.Add()([y, inputs])), (6, 6, 2)


def shared():
    bn, dense = kerasdl.BatchNormalization(), layers.Dense(4)
    x = keras.Input((4,))
    return keras.Model(x, bn(dense(bn(dense(x))))), (4,)


def nested():
    bn = layers.BatchNormalization()
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization()])
    a = keras.Input((4,))
    deep = keras.Model(a, bn(inner(bn(a), training=False), training=False), name="deep")
    x = keras.Input((4,))
    y = layers.Concatenate()([deep(x), deep(layers.ReLU()(x))])
    return keras.Sequential([keras.Input((4,)), keras.Model(x, y)]), (4,)


def deferred():
    model = keras.Sequential([layers.Dense(4), layers.BatchNormalization()])
    model(np.ones((2, 3), "float32"))
    return model, (3,)


def recurrent():
    stack = layers.Masking(), layers.BatchNormalization(), layers.LSTM(3)
    return keras.Sequential([keras.Input((5, 2)), *stack]), (5, 2)


MODELS = [sequential, channels_first, images, shared, nested, deferred, recurrent]
models = pytest.mark.parametrize("build", MODELS)


def check(model, x, tolerance, tmp_path):
    before = [np.copy(weight) for weight in model.get_weights()]
    expected = convert_to_numpy(model(x, training=False))
    new = replace_batch_normalization(model)
    assert not any(isinstance(part, layers.BatchNormalization) for part in flat(new))
    assert any(isinstance(part, layers.BatchNormalization) for part in flat(model))
    got = convert_to_numpy(new(x, training=False))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(convert_to_numpy(loaded(x, training=False)), got)
    new.set_weights([weight + 1 for weight in new.get_weights()])
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)
    np.testing.assert_array_equal(convert_to_numpy(model(x, training=False)), expected)
    assert not {id(part) for part in flat(new)} & {id(part) for part in flat(model)}
    return new


@models
@pytest.mark.usefixtures("float64")
def test_the_same_in_float64(build, rng, tmp_path):
    model, shape = build()
    x = rng.normal(size=(6, *shape))
    check(randomize(model, rng), x, 1e-12, tmp_path)


@models
def test_the_same_in_float32(build, rng, tmp_path):
    model, shape = build()
    x = rng.normal(size=(6, *shape)).astype("float32")
    check(randomize(model, rng), x, 1e-6, tmp_path)


def test_scale_and_offset(float64, rng):
    bn = layers.BatchNormalization(epsilon=0.01)
    model = randomize(keras.Sequential([keras.Input((3,)), bn]), rng)
    γ, β, E, V = (convert_to_numpy(weight) for weight in bn.weights)
    (affine,) = replace_batch_normalization(model).layers
    np.testing.assert_allclose(affine.scale.numpy(), γ / np.sqrt(V + 0.01), rtol=1e-15)
    np.testing.assert_allclose(
        affine.offset.numpy(), β - γ * E / np.sqrt(V + 0.01), rtol=1e-14, atol=1e-15
    )


def test_sharing_is_kept(rng):
    model, _ = shared()
    new = replace_batch_normalization(model)
    assert [type(layer).__name__ for layer in new.layers] == ["InputLayer", "Dense", "Affine"]
    assert len(new.layers[2]._inbound_nodes) == 2


def test_sharing_between_models_is_kept(rng):
    """Keras itself cannot load such a model."""
    bn, dense = layers.BatchNormalization(), layers.Dense(4)
    inner = keras.Sequential([keras.Input((4,)), dense, bn])
    x = keras.Input((4,))
    model = randomize(keras.Model(x, bn(inner(dense(x)))), rng)
    data = rng.normal(size=(6, 4)).astype("float32")
    new = replace_batch_normalization(model)
    np.testing.assert_allclose(
        convert_to_numpy(new(data)), convert_to_numpy(model(data)), rtol=1e-5, atol=1e-5
    )
    assert len(new.weights) == 4


def test_names_flags_and_policies(rng):
    frozen = layers.BatchNormalization(name="frozen", trainable=False, dtype="mixed_float16")
    free = kerasdl.BatchNormalization(name="free")
    model = keras.Sequential([keras.Input((3,), name="x"), frozen, free], name="net")
    new = replace_batch_normalization(model)
    assert new.name == "net"
    assert new.inputs[0].name == "x"
    assert [layer.name for layer in new.layers] == ["frozen", "free"]
    assert [layer.trainable for layer in new.layers] == [False, True]
    assert new.layers[0].compute_dtype == "float16"
    assert new.layers[0].scale.dtype == "float32"


def test_several_inputs_and_outputs(rng, tmp_path):
    a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b")
    bn = layers.BatchNormalization()
    outputs = {"one": bn(a), "two": layers.Dense(2)(layers.BatchNormalization()(b))}
    model = randomize(keras.Model({"a": a, "b": b}, outputs), rng)
    data = {"a": rng.normal(size=(5, 3)), "b": rng.normal(size=(5, 4))}
    new = replace_batch_normalization(model)
    expected, got = (each.predict(data, verbose=0) for each in (model, new))
    assert set(got) == {"one", "two"}
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-5, atol=1e-6)
    model = randomize(keras.Model([a, b], [bn(a), layers.BatchNormalization()(b)]), rng)
    inputs = [data["a"], data["b"]]
    expected = model.predict(inputs, verbose=0)
    for y, z in zip(replace_batch_normalization(model).predict(inputs), expected, strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)


def test_a_compiled_model_with_a_loss_of_its_own(rng):
    model, _ = sequential()
    model.compile(kerasdl.Adam(), loss=lambda y, z: keras.ops.mean((y - z) ** 2))
    new = replace_batch_normalization(model)
    assert model.compiled
    assert not new.compiled


def test_states_beside_the_weights_are_copied(rng):
    """Random states, adapted statistics."""
    drop = kerasdl.Dropout(0.5, seed=1)
    scale = kerasdl.Standardization()
    scale.adapt(rng.normal(3, 2, size=(20, 4)))
    stack = scale, drop, layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4,)), *stack])
    x = rng.normal(size=(6, 4)).astype("float32")
    drop(x, training=True)
    new = replace_batch_normalization(model)
    np.testing.assert_allclose(
        convert_to_numpy(new(x, training=True)) == 0,
        convert_to_numpy(drop(scale(x), training=True)) == 0,
    )


@pytest.mark.tensorflow
def test_vocabularies_are_copied():
    words = layers.StringLookup()
    words.adapt(["a", "b", "b"])
    encode = layers.Embedding(4, 3), layers.BatchNormalization()
    model = keras.Sequential([keras.Input((2,), dtype="string"), words, *encode])
    text = np.array([["a", "b"], ["c", "b"]], dtype=object)
    expected, got = (
        convert_to_numpy(each(keras.ops.convert_to_tensor(text)))
        for each in (model, replace_batch_normalization(model))
    )
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_after_training_with_population_statistics(rng):
    bn = kerasdl.BatchNormalization(statistics="population")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), bn, layers.Dense(1)])
    model.compile("sgd", loss="mse", jit_compile=False)
    x = rng.normal(size=(64, 4)).astype("float32")
    model.fit(x, x[:, :1], verbose=0)
    kerasdl.estimate_population_statistics(model, x, 32)
    new = replace_batch_normalization(model)
    new.compile("sgd", loss="mse", jit_compile=False)
    np.testing.assert_allclose(
        new.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )
    new.fit(x, x[:, :1], verbose=0)


class Scaled(layers.Layer):
    """A layer that nobody has registered."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape):
        self.kernel = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return x * self.kernel * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Block(layers.Layer):
    """A layer with a batch normalization inside."""

    def __init__(self):
        super().__init__(name="block")
        self.bn = layers.BatchNormalization(name="inside")

    def call(self, x, training=False):
        return self.bn(x, training=training)


class Other(layers.BatchNormalization):
    def call(self, x, training=False):
        return super().call(x) + 1


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.bn = layers.BatchNormalization(name="inside")

    def call(self, x):
        return self.bn(x)


def test_a_layer_that_is_not_registered(rng):
    model = keras.Sequential([keras.Input((3,)), Scaled(2.0), layers.BatchNormalization()])
    randomize(model, rng)
    x = rng.normal(size=(4, 3)).astype("float32")
    new = replace_batch_normalization(model)
    np.testing.assert_allclose(convert_to_numpy(new(x)), convert_to_numpy(model(x)), rtol=1e-5)


def failing(layer, text):
    model = keras.Sequential([keras.Input((3,)), layer]) if layer is not None else None
    with pytest.raises(ValueError, match="model") as error:
        replace_batch_normalization(model)
    assert str(error.value) == text


def test_what_cannot_be_entered_is_named():
    advice = "Rebuild this part as a functional model."
    allowed = (
        "`model` must be a model whose batch normalizations stand in Sequential or functional "
        "models. Received: model="
    )
    failing(Block(), f"{allowed}\"Block 'block', which holds 'inside'\". {advice}")
    sub = Subclassed(name="sub")
    sub(np.ones((2, 3), "float32"))
    failing(sub, f"{allowed}\"Subclassed 'sub', which holds 'inside'\". {advice}")
    failing(
        Other(name="other"),
        "`model` must be a model whose batch normalizations are Keras' or kerasdl's. Received: "
        "model=\"Other 'other'\". This one has a `call` of its own, which may compute something "
        "else.",
    )
    with pytest.raises(ValueError, match="model") as error:
        replace_batch_normalization(sub)
    assert str(error.value) == (
        "`model` must be a Sequential or functional model. Received: model=\"Subclassed 'sub'\". "
        "The layers of another model cannot be replaced from outside."
    )
    with pytest.raises(ValueError, match="`model` must be a Sequential or functional model"):
        replace_batch_normalization(layers.BatchNormalization())
    with pytest.raises(ValueError, match="`model` must be a built model. Received: model='new'."):
        replace_batch_normalization(keras.Sequential([layers.BatchNormalization()], name="new"))


def test_a_layer_that_cannot_be_copied():
    class Closed(layers.Layer):
        def __init__(self, secret):
            super().__init__(name="closed")
            self.secret = secret

        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((3,)), Closed(object()), layers.BatchNormalization()])
    with pytest.raises(ValueError, match=r"The layer `closed` \(Closed\) cannot be copied: "):
        replace_batch_normalization(model)


def test_a_model_without_any_is_copied(rng):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    x = rng.normal(size=(4, 3)).astype("float32")
    new = replace_batch_normalization(model)
    np.testing.assert_array_equal(convert_to_numpy(new(x)), convert_to_numpy(model(x)))
    assert new.layers[0] is not model.layers[0]
    assert not isinstance(new.layers[0], Affine)
