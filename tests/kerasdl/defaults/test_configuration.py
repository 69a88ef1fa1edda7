"""The fields of the Default Configuration and the layers that it lays out."""

import dataclasses

import keras
import pytest

from kerasdl import Adam, BatchNormalization, DefaultConfiguration, HeNormal, HeUniform
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
        "statistics": "moving",
        "dropout": 0.5,
        "dropout_placement": "after_last_batch_normalization",
        "l2": 0.0,
        "learning_rate": 1e-3,
        "units": (128, 64),
        "filters": (32, 64),
        "steps_per_execution": 16,
    }
    model = DefaultConfiguration().build((20,), 3)
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


TEXTS = {
    "initialization": (
        "ones",
        "one of 'he_normal', 'he_uniform', 'xavier_normal', 'xavier_uniform', 'auto'",
        "The default is 'he_normal'.",
    ),
    "activation": (3, "the name of a Keras activation", "Pass a string such as 'elu'."),
    "normalization": (1, "one of True, False", "The default is True."),
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
    "learning_rate": (0.0, "a positive number", "Typical values are 1e-4 to 1e-2."),
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


def test_unknown_activation():
    with pytest.raises(ValueError, match="Received: activation='step'"):
        DefaultConfiguration(activation="step")


def test_every_field_has_its_text():
    assert set(TEXTS) == {field.name for field in dataclasses.fields(DefaultConfiguration)}
