"""The table from activation to initializer."""

import keras
import numpy as np
import pytest

from kerasdl.initializers import (
    HeNormal,
    HeUniform,
    XavierNormal,
    XavierUniform,
    initializer_for,
)

HE = ["relu", "leaky_relu", "elu", "prelu", "relu6", "silu", "swish", "gelu", "LeakyReLU"]
XAVIER = ["sigmoid", "tanh", "softmax", "linear", "softsign", None]


@pytest.mark.parametrize("activation", HE)
def test_he(activation):
    assert type(initializer_for(activation)) is HeNormal
    assert type(initializer_for(activation, distribution="uniform")) is HeUniform


@pytest.mark.parametrize("activation", XAVIER)
def test_xavier(activation):
    assert type(initializer_for(activation)) is XavierNormal
    assert type(initializer_for(activation, distribution="uniform")) is XavierUniform


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_selu_is_lecun(distribution):
    values = np.asarray(initializer_for("selu", distribution, seed=2)((400, 300)))
    assert abs(values.std() * 20 - 1) < 0.02


@pytest.mark.parametrize(
    ("activation", "cls"),
    [
        (keras.activations.elu, HeNormal),
        (keras.activations.silu, HeNormal),
        (keras.activations.tanh, XavierNormal),
        (keras.layers.ReLU(), HeNormal),
        (keras.layers.LeakyReLU(), HeNormal),
        (keras.layers.PReLU(), HeNormal),
        (keras.layers.ELU(), HeNormal),
        (keras.layers.Softmax(), XavierNormal),
        (keras.layers.Activation("relu"), HeNormal),
        (keras.layers.Activation("sigmoid"), XavierNormal),
    ],
)
def test_functions_and_layers(activation, cls):
    assert type(initializer_for(activation)) is cls


def test_seed_is_passed_on_and_every_call_makes_a_new_object():
    assert initializer_for("relu", seed=4).get_config()["seed"] == 4
    first, second = initializer_for("relu"), initializer_for("relu")
    assert np.any(np.asarray(first((3, 3))) != np.asarray(second((3, 3))))


def test_unknown_activation():
    with pytest.raises(ValueError, match="activation") as error:
        initializer_for("step")
    text = str(error.value)
    assert text.startswith("`activation` must be None or one of: celu, elu, gelu, hard_s")
    assert text.endswith(
        "tanh. Received: activation='step'. "
        "For another activation use `VariancePreserving`, or choose an initializer by hand."
    )


ROWS = ["relu", "elu", "sigmoid", "hard_sigmoid", "tanh", "softmax", "linear", None]
VARIANCES = {  # in units of 2 / (fan_in + fan_out), or "he": 2 / fan_in
    "N0": ["he", "he", 1, 1, 1, 1, 1, 1],
    "glorot": ["he", "he", 16, 16, 1, 1, 1, 1],
    "N1": [2, 2, 1, 1, 16, 1, 1, 1],
}


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("table", VARIANCES)
def test_tables(table, distribution):
    for activation, variance in zip(ROWS, VARIANCES[table], strict=True):
        initializer = initializer_for(activation, distribution, seed=3, table=table)
        expected = 2 / 400 if variance == "he" else variance * 2 / 600
        drawn = np.asarray(initializer((400, 200)), "float64").std()
        assert abs(drawn / np.sqrt(expected) - 1) < 0.02, (activation, drawn)


def test_glorot_is_the_default():
    assert initializer_for("sigmoid").gain == initializer_for("sigmoid", table="glorot").gain == 4


@pytest.mark.parametrize("table", VARIANCES)
def test_every_table_has_lecun_for_selu(table):
    assert type(initializer_for("selu", table=table)) is keras.initializers.LecunNormal


@pytest.mark.parametrize("table", ["n1", None, ["N1"]])
def test_unknown_table(table):
    with pytest.raises(ValueError, match="table") as error:
        initializer_for("relu", table=table)
    assert str(error.value) == (
        f"`table` must be 'glorot', 'N0' or 'N1'. Received: table={table!r}. "
        "'glorot' is the default; the tables differ in where they put a factor."
    )


def test_unknown_distribution():
    with pytest.raises(ValueError, match="distribution") as error:
        initializer_for("relu", distribution="cauchy")
    assert str(error.value) == (
        "`distribution` must be 'normal' or 'uniform'. Received: distribution='cauchy'. "
        "Both have the same standard deviation; 'normal' is the default."
    )
