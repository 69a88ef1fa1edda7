"""Several models as one: means, names, files, and what does not go together."""

import keras
import numpy as np
import pytest
from keras import layers

from kerasdl import default_model, ensemble


def vectors(units=(5,), name=None, **options):
    return default_model((4,), 3, units=units, name=name, **options)


def two_ended(units, name=None, inputs=("left", "right"), width=2):
    ends = {key: keras.Input((size,), name=key) for key, size in zip(inputs, (4, 2), strict=True)}
    x = layers.Dense(units, "elu")(layers.Concatenate()(list(ends.values())))
    outputs = {
        "label": layers.Dense(width, "softmax", name="label")(x),
        "value": layers.Dense(1, name="value")(x),
    }
    return keras.Model(ends, outputs, name=name)


def predictions(model, x):
    return model.predict(x, verbose=0)


def reference(models, x):
    return np.mean([np.asarray(predictions(m, x), "float64") for m in models], axis=0)


def test_the_mean_of_the_members(rng):
    members = [vectors(), vectors((7, 5)), vectors(activation="tanh")]
    x = rng.normal(size=(9, 4)).astype("float32")
    model = ensemble(members, name="three")
    found = predictions(model, x)
    np.testing.assert_allclose(found, reference(members, x), rtol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    assert model.name == "three"
    assert ([end.name for end in model.inputs], model.output_names) == (["input"], ["output"])
    assert np.abs(found - predictions(members[0], x)).max() > 1e-3


def test_members_of_one_name_keep_it():
    members = [vectors(name="net"), vectors(name="net"), vectors(name="output")]
    model = ensemble(members)
    assert [member.name for member in members] == ["net", "net", "output"]
    names = [layer.name for layer in model.layers]
    assert names == ["input", "net", "net_1", "output_1", "output"]


def test_a_member_that_is_listed_twice_counts_twice(rng, tmp_path):
    one, other = vectors(), vectors()
    x = rng.normal(size=(9, 4)).astype("float32")
    model = ensemble([one, other, one])
    np.testing.assert_allclose(predictions(model, x), reference([one, other, one], x), rtol=1e-6)
    assert len(model.layers) == 4
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predictions(loaded, x), predictions(model, x))


def test_dicts_of_inputs_and_outputs(rng, tmp_path):
    members = [two_ended(3, "a"), two_ended(6, "b")]
    x = {"left": rng.normal(size=(5, 4)), "right": rng.normal(size=(5, 2))}
    model = ensemble(members)
    found = predictions(model, x)
    assert sorted(found) == ["label", "value"]
    for key in found:
        parts = [np.asarray(predictions(member, x)[key], "float64") for member in members]
        np.testing.assert_allclose(found[key], np.mean(parts, axis=0), rtol=1e-5, atol=1e-7)
    assert sorted(model.output_names) == ["label", "value"]
    model.save(tmp_path / "model.keras")
    loaded = predictions(keras.models.load_model(tmp_path / "model.keras"), x)
    for key in found:
        np.testing.assert_array_equal(loaded[key], found[key])


def test_lists_of_outputs(rng):
    def member():
        x = keras.Input((4,))
        return keras.Model(x, [layers.Dense(2)(x), layers.Dense(3)(x)])

    members = [member(), member()]
    x = rng.normal(size=(5, 4)).astype("float32")
    found = predictions(ensemble(members), x)
    assert [part.shape for part in found] == [(5, 2), (5, 3)]
    for index in (0, 1):
        parts = [predictions(member, x)[index].astype("float64") for member in members]
        np.testing.assert_allclose(found[index], np.mean(parts, axis=0), rtol=1e-5, atol=1e-6)


def test_sequential_members_of_several_architectures(rng):
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")])
    late = keras.Sequential([layers.Dense(6, "relu"), layers.Dense(3, "softmax")])
    x = rng.normal(size=(5, 4)).astype("float32")
    late(x[:2])
    members = [plain, late, vectors()]
    inner = ensemble(members[:2])
    np.testing.assert_allclose(predictions(ensemble(members), x), reference(members, x), rtol=1e-5)
    np.testing.assert_allclose(
        predictions(ensemble([inner, members[2]]), x),
        (reference(members[:2], x) + predictions(members[2], x)) / 2,
        rtol=1e-5,
    )


def test_saved_and_loaded(rng, tmp_path):
    x = rng.normal(size=(64, 4)).astype("float32")
    members = [vectors(adapt_to=x), vectors(statistics="population")]
    for member in members:
        member.fit(x, np.arange(64) % 3, verbose=0)
    model = ensemble(members)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predictions(loaded, x), predictions(model, x))
    np.testing.assert_allclose(predictions(loaded, x), reference(members, x), rtol=1e-5)


def test_weights_are_those_of_the_members(rng):
    members = [vectors(), vectors()]
    model = ensemble(members)
    assert {id(v) for v in model.variables} == {id(v) for m in members for v in m.variables}
    x = rng.normal(size=(5, 4)).astype("float32")
    members[0].layers[-1].bias.assign([5.0, 0.0, 0.0])
    np.testing.assert_allclose(predictions(model, x), reference(members, x), rtol=1e-6)


@pytest.mark.usefixtures("has_float64")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_the_mean_is_not_taken_in_half_precision(policy, rng):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        members = [vectors(), vectors()]
        model = ensemble(members)
    finally:
        keras.config.set_dtype_policy(before)
    x = rng.normal(size=(9, 4)).astype("float32")
    found = predictions(model, x)
    assert found.dtype == ("float64" if policy == "float64" else "float32")
    rtol = 1e-12 if policy == "float64" else 1e-6
    np.testing.assert_allclose(found, reference(members, x), rtol=rtol)


def test_half_precision_outputs_are_widened(rng):
    def member():
        head = layers.Dense(2, dtype="mixed_float16")
        return keras.Sequential([keras.Input((4,)), head])

    members = [member(), member(), member()]
    x = rng.normal(size=(9, 4)).astype("float32")
    found = predictions(ensemble(members), x)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, reference(members, x), rtol=1e-6, atol=1e-6)


def refused(models, received):
    with pytest.raises(ValueError, match="`models` must be") as error:
        ensemble(models)
    assert f"Received: models={received}" in str(error.value)
    return str(error.value)


def test_what_differs_is_named():
    ours = vectors(name="ours")
    other = default_model((5,), 3, name="other")
    text = refused(
        [ours, other],
        "'input of models[1] (`other`): (None, 5) float32, of models[0] (`ours`): "
        "(None, 4) float32'.",
    )
    assert text.startswith("`models` must be models with the same inputs and outputs. ")
    assert text.endswith("Leave out the one that differs, or build it with the same ends.")
    refused(
        [ours, vectors(), default_model((4,), 2, name="other")],
        "'output of models[2] (`other`): (None, 2) float32, of models[0] (`ours`): "
        "(None, 3) float32'.",
    )
    refused(
        [two_ended(3, "a"), two_ended(3, "b", inputs=("left", "up"))],
        "\"input['right'] of models[1] (`b`): none, of models[0] (`a`): (None, 2) float32\".",
    )
    refused(
        [two_ended(3, "a"), two_ended(3, "b", width=4)],
        "\"output['label'] of models[1] (`b`): (None, 4) float32, of models[0] (`a`): "
        '(None, 2) float32".',
    )
    wide = keras.Sequential([keras.Input((4,), dtype="float64"), layers.Dense(3)], name="wide")
    refused(
        [ours, wide],
        "'input of models[1] (`wide`): (None, 4) float64, of models[0] (`ours`): "
        "(None, 4) float32'.",
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


class OwnCall(keras.Model):
    def call(self, x):
        return 2 * super().call(x)


def test_models_without_a_graph():
    ours, subclassed = vectors(), Subclassed()
    subclassed(np.ones((1, 4)))
    x = keras.Input((4,))
    own = OwnCall(x, layers.Dense(3)(x))
    unbuilt = keras.Sequential([layers.Dense(3)])
    for models in ([ours], [], ours, [ours, subclassed], [ours, own], [ours, unbuilt], [ours, 3]):
        text = refused(models, "")
        assert "a list of two or more built Functional or Sequential models" in text


def test_outputs_that_have_no_mean():
    x = keras.Input((4,))
    members = [keras.Model(x, keras.ops.argmax(layers.Dense(3)(x), axis=-1)) for _ in range(2)]
    refused(members, "'outputs of type int32'.")


def test_common_layers_are_refused(rng):
    x = keras.Input((4,))
    body = layers.Dense(5, name="body")(x)
    members = [keras.Model(x, layers.Dense(3)(body)) for _ in range(2)]
    text = refused(members, "'`body/kernel` in models[0] and models[1]'.")
    assert text.endswith("copy = keras.models.clone_model(m); copy.set_weights(m.get_weights()).")
    copy = keras.models.clone_model(members[1])
    copy.set_weights(members[1].get_weights())
    x = rng.normal(size=(5, 4)).astype("float32")
    found = predictions(ensemble([members[0], copy]), x)
    np.testing.assert_allclose(found, reference(members, x), rtol=1e-5, atol=1e-6)
