"""The fields of the Default Configuration and the layers that it lays out."""

import dataclasses
import json
import pickle

import keras
import numpy as np
import pytest
from keras.layers import Dense

from kerasdl import (
    L1,
    SGD,
    Adam,
    AdamW,
    BatchNormalization,
    DefaultConfiguration,
    ExponentialDecay,
    HeNormal,
    HeUniform,
    Lookahead,
    VariancePreserving,
)
from kerasdl.initializers import XavierNormal

VECTOR = ["Dense", "BatchNormalization", "Activation"]
IMAGE = ["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"]


def names(model):
    return [type(layer).__name__ for layer in model.layers[1:]]


def test_is_the_notes_table():
    fields = dataclasses.asdict(DefaultConfiguration())
    assert fields == {
        "initialization": "he_normal",
        "activation": "elu",
        "normalization": True,
        "normalization_placement": "auto",
        "statistics": "moving",
        "dropout": 0.5,
        "dropout_placement": "after_last_batch_normalization",
        "l2": 0.0,
        "regularizer": None,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "units": (128, 64),
        "filters": (32, 64),
        "steps_per_execution": 16,
    }
    keras.utils.clear_session(free_memory=False)
    model = DefaultConfiguration().build((20,), 3)
    assert model.optimizer.name == "adam"
    other = DefaultConfiguration(steps_per_execution=2).build((20,), 3)
    steps = (1, 1) if keras.backend.backend() == "torch" else (16, 2)
    assert (model.steps_per_execution, other.steps_per_execution) == steps
    assert type(model.optimizer) is Adam
    assert not isinstance(
        model.optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        DefaultConfiguration().dropout = 0.1


def test_layers_for_vectors():
    assert names(DefaultConfiguration().build((20,), 3)) == [*VECTOR * 2, "Dropout", "Dense"]


def test_layers_for_images():
    expected = [*IMAGE * 2, "GlobalAveragePooling2D", "Dropout", "Dense"]
    assert names(DefaultConfiguration().build((8, 8, 1), 3)) == expected


def test_a_dropout_in_every_block():
    model = DefaultConfiguration(dropout_placement="every_block").build((20,), 3)
    assert names(model) == [*[*VECTOR, "Dropout"] * 2, "Dense"]
    model = DefaultConfiguration(dropout=0).build((20,), 3)
    assert names(model) == [*VECTOR * 2, "Dense"]


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softsign"])
def test_normalization_after_s_shaped_activations(activation):
    model = DefaultConfiguration(activation=activation, dropout=0).build((20,), 3)
    assert names(model) == [*["Dense", "Activation", "BatchNormalization"] * 2, "Dense"]
    assert model.layers[1].use_bias


def test_no_bias_before_normalization_only():
    with_it = DefaultConfiguration(units=(4,)).build((20,), 3)
    assert [x.use_bias for x in with_it.layers if hasattr(x, "use_bias")] == [False, True]
    without = DefaultConfiguration(units=(4,), normalization=False).build((20,), 3)
    assert names(without) == ["Dense", "Activation", "Dropout", "Dense"]
    assert [x.use_bias for x in without.layers if hasattr(x, "use_bias")] == [True, True]
    images = DefaultConfiguration(filters=(4,)).build((8, 8, 1), 3)
    assert [x.use_bias for x in images.layers if hasattr(x, "use_bias")] == [False, True]


def test_fields_reach_their_layers():
    model = DefaultConfiguration(
        initialization="he_uniform", l2=0.01, statistics="population", learning_rate=0.02
    ).build((20,), 3)
    dense, normalization, head = model.layers[1], model.layers[2], model.layers[-1]
    assert type(dense.kernel_initializer) is HeUniform
    assert float(dense.kernel_regularizer.l2) == pytest.approx(0.01)
    assert float(head.kernel_regularizer.l2) == pytest.approx(0.01)
    assert type(normalization) is BatchNormalization
    assert normalization.statistics == "population"
    assert type(head.kernel_initializer) is XavierNormal
    assert float(model.optimizer.learning_rate) == pytest.approx(0.02)


def test_automatic_initialization():
    for activation, cls in (("tanh", XavierNormal), ("relu", HeNormal)):
        model = DefaultConfiguration(initialization="auto", activation=activation)
        assert type(model.build((5,), 2).layers[1].kernel_initializer) is cls


def test_two_layers_of_one_shape_start_differently():
    model = DefaultConfiguration(units=(6, 6, 6)).build((6,), 2)
    first, second = (model.layers[i].kernel.numpy() for i in (1, 4))
    assert (first != second).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3, 1), (None, None, 3), (5, 64, 2)])
def test_small_and_open_images(shape):
    model = DefaultConfiguration(filters=(4, 4, 4)).build(shape, 2)
    assert model.output_shape == (None, 2)


def test_names():
    model = DefaultConfiguration().build((5,), 2, name="net")
    assert (model.name, model.layers[0].name, model.layers[-1].name) == (
        "net",
        "input",
        "output",
    )


def test_head_is_float32_in_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = DefaultConfiguration().build((5,), 2)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.layers[1].compute_dtype == "float16"
    assert model.layers[-1].compute_dtype == "float32"


@pytest.mark.parametrize(
    ("placement", "activation", "after"),
    [
        ("auto", keras.activations.tanh, True),
        ("auto", keras.layers.Activation("hard_sigmoid"), True),
        ("auto", keras.activations.gelu, False),
        ("auto", keras.layers.LeakyReLU(0.2), False),
        ("before", "tanh", False),
        ("after", "elu", True),
    ],
)
def test_normalization_placement(placement, activation, after):
    model = DefaultConfiguration(
        normalization_placement=placement, activation=activation, units=(4,), dropout=0
    ).build((20,), 3)
    position = names(model).index("BatchNormalization")
    assert position == (2 if after else 1)
    assert model.layers[1].use_bias is after


def kernels(model):
    return [x.kernel_initializer for x in model.layers[:-1] if hasattr(x, "kernel_initializer")]


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("HeNormal", HeNormal),
        ("orthogonal", keras.initializers.Orthogonal),
        ("lecun_normal", keras.initializers.LecunNormal),
        ("glorot_uniform", keras.initializers.GlorotUniform),
        ("ones", keras.initializers.Ones),
    ],
)
def test_initializers_by_name(name, cls):
    assert [*map(type, kernels(DefaultConfiguration(initialization=name).build((5,), 2)))] == [
        cls,
        cls,
    ]


def test_variance_preserving_follows_what_is_in_front_of_the_weights():
    configuration = DefaultConfiguration(initialization="variance_preserving")
    first, second = kernels(configuration.build((5,), 2))
    assert isinstance(first, VariancePreserving)
    assert first.activation is keras.activations.linear
    assert second.activation is keras.activations.elu


def test_an_initializer_draws_anew_for_every_layer_and_again_for_every_model():
    given = HeNormal(seed=3)
    configuration = DefaultConfiguration(initialization=given, units=(6, 6, 6))
    weights = [
        [x.kernel.numpy() for x in configuration.build((6,), 2).layers if type(x) is Dense][:-1]
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*weights)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert (weights[0][i] != weights[0][j]).all()
    np.testing.assert_array_equal(weights[0][0], HeNormal(seed=3)((6, 6)))
    drawn = DefaultConfiguration(
        initialization=HeNormal(seed=keras.random.SeedGenerator(3)), units=(6, 6)
    ).build((6,), 2)
    assert (drawn.layers[1].kernel.numpy() != drawn.layers[4].kernel.numpy()).all()


def test_activation_layers_are_copied():
    prelu = keras.layers.PReLU(alpha_initializer="ones")
    model = DefaultConfiguration(activation=prelu, units=(4, 3)).build((5,), 2)
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.PReLU)]
    assert [layer.alpha.shape for layer in found] == [(4,), (3,)]
    np.testing.assert_array_equal(found[0].alpha.numpy(), np.ones(4))
    assert not prelu.built


def test_regularizers():
    x = np.zeros((1, 5))
    for given, expected in ((L1(0.5), 0.5), ("l1", 0.01)):
        model = DefaultConfiguration(regularizer=given, units=(4,), initialization="ones")
        model = model.build((5,), 2)
        model(x)
        head = np.abs(model.layers[-1].kernel.numpy()).sum()
        penalty = keras.ops.convert_to_numpy(sum(model.losses))
        assert penalty == pytest.approx(expected * (20 + head), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "cls"),
    [("SGD", SGD), ("adam_w", AdamW), ("adamw", AdamW), ("lion", keras.optimizers.Lion)],
)
def test_optimizers_by_name(name, cls):
    model = DefaultConfiguration(optimizer=name, learning_rate=0.25).build((5,), 2)
    assert isinstance(model.optimizer, cls)
    assert float(model.optimizer.learning_rate) == 0.25


def test_optimizers_are_copied():
    given = Lookahead(SGD(0.25, momentum=0.5), k=3)
    configuration = DefaultConfiguration(optimizer=given)
    one, other = (configuration.build((5,), 2) for _ in range(2))
    one.fit(np.ones((8, 5)), np.zeros(8), verbose=0)
    assert type(one.optimizer) is Lookahead
    assert one.optimizer.k == 3
    assert one.optimizer.inner_optimizer.momentum == 0.5
    assert int(one.optimizer.iterations) == 1
    assert int(other.optimizer.iterations) == 0
    assert not given.built


def test_a_schedule():
    configuration = DefaultConfiguration(
        learning_rate=ExponentialDecay(0.5, 1, 0.5), units=(4,), steps_per_execution=1
    )
    model = configuration.build((5,), 2)
    model.fit(np.ones((16, 5)), np.zeros(16), batch_size=8, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.125)


@keras.saving.register_keras_serializable(package="test_configuration")
def twice(x):
    return 2 * x


STORED = [
    {},
    {"units": (np.int64(8),), "dropout": np.float32(0.25), "filters": [4]},
    {"activation": keras.activations.gelu, "initialization": HeNormal(seed=3)},
    {"activation": twice, "regularizer": L1(0.5), "optimizer": SGD(0.25, momentum=0.5)},
    {"activation": keras.layers.LeakyReLU(0.25), "learning_rate": ExponentialDecay(0.5, 5, 0.5)},
    {"optimizer": Lookahead(SGD(0.25)), "initialization": keras.initializers.Orthogonal(2.0)},
]


@pytest.mark.parametrize("fields", STORED)
def test_stored_as_plain_data(fields):
    configuration = DefaultConfiguration(**fields)
    config = configuration.get_config()
    text = json.dumps(config)
    again = DefaultConfiguration.from_config(json.loads(text))
    assert json.dumps(again.get_config()) == text
    assert [type(getattr(again, name)) for name in config] == [
        type(getattr(configuration, name)) for name in config
    ]
    models = [each.build((5,), 2) for each in (configuration, again)]
    first, second = (
        (model.optimizer.get_config(), [layer.get_config() for layer in model.layers[1:3]])
        for model in models
    )
    for config in (first[0], second[0], *first[1], *second[1]):
        config.pop("name")
    assert first == second
    copied = pickle.loads(pickle.dumps(configuration))
    assert copied.get_config() == configuration.get_config()


def test_plain_configurations_are_equal_after_storing():
    configuration = DefaultConfiguration(units=[8, 4], dropout=np.float64(0.25))
    assert DefaultConfiguration.from_config(configuration.get_config()) == configuration
    assert hash(configuration) == hash(DefaultConfiguration(units=(8, 4), dropout=0.25))


def test_keras_serialization():
    config = keras.saving.serialize_keras_object(DefaultConfiguration(l2=0.5))
    assert config["registered_name"] == "kerasdl>DefaultConfiguration"
    assert keras.saving.deserialize_keras_object(config) == DefaultConfiguration(l2=0.5)


def test_layers_for_sequences():
    model = DefaultConfiguration().build((12, 3), 4)
    block = ["Conv1D", "BatchNormalization", "Activation", "MaxPooling1D"]
    assert names(model) == [*block * 2, "GlobalAveragePooling1D", "Dropout", "Dense"]
    assert [layer.output.shape for layer in model.layers if "Pool" in type(layer).__name__] == [
        (None, 6, 32),
        (None, 3, 64),
        (None, 64),
    ]
    assert model.layers[1].kernel.shape == (3, 3, 32)


@pytest.mark.parametrize("shape", [(None, 3), (1, 3), (2, 1), (5, 64), (3, 2)])
def test_short_and_open_sequences(shape, rng):
    model = DefaultConfiguration(filters=(4, 4, 4)).build(shape, 2)
    for length in (1, 2, 7) if shape[0] is None else shape[:1]:
        x = rng.normal(size=(3, length, shape[1]))
        assert np.isfinite(model.predict(x, verbose=0)).all()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_open_images_of_any_size(size, rng):
    model = DefaultConfiguration(filters=(4, 4)).build((None, None, 3), 2)
    assert np.isfinite(model.predict(rng.normal(size=(2, size, 9, 3)), verbose=0)).all()


TEXTS = {
    "initialization": (
        "lsuv",
        "'auto', the name of an initializer, or an initializer",
        "The default is 'he_normal'.",
    ),
    "activation": (
        3,
        "the name of a Keras activation, a function or an activation layer",
        "Pass a string such as 'elu'.",
    ),
    "normalization": (1, "one of True, False", "The default is True."),
    "normalization_placement": (
        "behind",
        "one of 'auto', 'before', 'after'",
        "The default is 'auto'.",
    ),
    "statistics": (
        "batch",
        "one of 'moving', 'population'",
        "The default is 'moving'.",
    ),
    "dropout": (
        1.0,
        "in [0, 1)",
        "It is the share of units to drop; 0 leaves dropout out.",
    ),
    "dropout_placement": (
        "first",
        "one of 'after_last_batch_normalization', 'every_block'",
        "The default is 'after_last_batch_normalization'.",
    ),
    "l2": (-0.1, "a number that is not negative", "Typical values are 0 to 1e-3."),
    "regularizer": (
        "l3",
        "None, the name of a Keras regularizer, or a regularizer",
        "Pass `l2` for the usual penalty, or an object such as kerasdl.L1(1e-4).",
    ),
    "optimizer": (
        "lookahead",
        "the name of an optimizer, or an optimizer",
        "Pass a name such as 'adam'; optimizers around another one are passed as objects.",
    ),
    "learning_rate": (
        0.0,
        "a positive number or a LearningRateSchedule",
        "Typical values are 1e-4 to 1e-2.",
    ),
    "steps_per_execution": (
        0,
        "a positive integer",
        "Pass 1 to have callbacks see every batch.",
    ),
    "units": (
        (),
        "a tuple of one or more positive integers",
        "Pass one size per hidden block, such as (128, 64).",
    ),
    "filters": (
        (4, 0),
        "a tuple of one or more positive integers",
        "Pass one size per hidden block, such as (128, 64).",
    ),
}


@pytest.mark.parametrize("field", TEXTS)
def test_texts(field):
    value, allowed, advice = TEXTS[field]
    with pytest.raises(ValueError, match=field) as error:
        DefaultConfiguration(**{field: value})
    assert str(error.value) == (
        f"`{field}` must be {allowed}. Received: {field}={value!r}. {advice}"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation", "step"),
        ("activation", None),
        ("activation", keras.layers.ELU),
        ("initialization", HeNormal),
        ("initialization", None),
        ("optimizer", "gradient_descent"),
        ("optimizer", None),
        ("regularizer", 0.01),
        ("learning_rate", "slow"),
        ("learning_rate", float("nan")),
        ("dropout", True),
    ],
)
def test_more_that_is_refused(field, value):
    with pytest.raises(ValueError, match=f"`{field}` must be") as error:
        DefaultConfiguration(**{field: value})
    assert f"Received: {field}={value!r}" in str(error.value)


def test_automatic_initialization_needs_an_activation_that_it_knows():
    assert DefaultConfiguration(activation=keras.ops.sin).initialization == "he_normal"
    with pytest.raises(ValueError, match="use `VariancePreserving`"):
        DefaultConfiguration(activation=keras.ops.sin, initialization="auto")
    with pytest.raises(ValueError, match="acts on each element by itself"):
        DefaultConfiguration(activation="softmax", initialization="variance_preserving")


def test_fields_that_exclude_each_other():
    with pytest.raises(ValueError, match="`l2`") as error:
        DefaultConfiguration(l2=0.1, regularizer="l1")
    assert str(error.value) == (
        "`l2` must be 0 beside a `regularizer`. Received: l2=0.1. "
        "Pass kerasdl.L1L2(l1, l2) as `regularizer` to have both."
    )
    with pytest.raises(ValueError, match="`learning_rate`") as error:
        DefaultConfiguration(learning_rate=0.1, optimizer=Adam())
    assert str(error.value) == (
        "`learning_rate` must be left out beside an optimizer that is an object. "
        "Received: learning_rate=0.1. Give the optimizer itself the learning rate."
    )


def test_every_field_has_its_text():
    assert set(TEXTS) == {field.name for field in dataclasses.fields(DefaultConfiguration)}
