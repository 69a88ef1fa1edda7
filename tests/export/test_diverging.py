"""The layer where a wrong file begins to differ is the one that was damaged."""

import keras
import numpy as np
import pytest
from keras import layers

from kerasdl import export
from random_networks import randomize


def chain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu", name="one"),
            layers.BatchNormalization(name="two"),
            layers.Conv2D(4, 3, padding="same", name="three"),
            layers.BatchNormalization(name="four"),
            layers.ELU(name="five"),
            layers.Flatten(name="six"),
            layers.Dropout(0.5, name="seven"),
            layers.Dense(6, activation="tanh", name="eight"),
            layers.Dense(3, activation="softmax", name="nine"),
        ]
    )


@pytest.mark.parametrize(
    ("damaged", "weight", "named"),
    [
        ("one", "kernel", {"one"}),
        ("one", "bias", {"one"}),
        ("two", "gamma", {"two"}),
        ("two", "moving_mean", {"two"}),
        # The three are one node in the file, but for a shift of `two` at the borders.
        ("three", "kernel", {"two", "three", "four"}),
        ("four", "beta", {"two", "three", "four"}),
        ("eight", "kernel", {"eight"}),
        ("nine", "bias", {"nine"}),
    ],
)
def test_damaged_weight(damaged, weight, named, tmp_path):
    model = chain()
    randomize(model, 0)
    for name in ("two", "four"):
        model.get_layer(name).moving_variance.assign([0.5, 1.0, 2.0, 0.8])
    export.to_onnx(model, tmp_path / "model.onnx")
    variable = getattr(model.get_layer(damaged), weight)
    variable.assign(1.01 * np.array(keras.ops.convert_to_numpy(variable.value)))
    report = export.verify(model, tmp_path / "model.onnx")
    assert not report.passed
    assert report.layer in named


def test_a_branch(tmp_path):
    x = keras.Input((5,))
    left = layers.Dense(4, activation="relu", name="left")(x)
    right = layers.Dense(4, activation="tanh", name="right")(x)
    model = keras.Model(x, layers.Add(name="sum")([left, right]))
    randomize(model, 1)
    export.to_onnx(model, tmp_path / "model.onnx")
    model.get_layer("right").bias.assign([0.0, 0.1, 0.0, 0.0])
    assert export.verify(model, tmp_path / "model.onnx").layer == "right"
