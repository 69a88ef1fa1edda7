"""How far rounding reaches through activations that are approximations."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasdl import export
from kerasdl.export.formats import FLOAT32
from kerasdl.export.graphs.trace import trace
from kerasdl.export.programs.rounding import GATED, move_results

UNIT = 2.0**-24


def moved(function, x):
    """How far the result of an activation is moved, largest first."""
    inputs = keras.Input(x.shape[1:])
    (node,) = trace(keras.Model(inputs, function(inputs))).nodes
    y = np.asarray(node.operation(x), "float64")
    (other,) = move_results(node, [x], [ops.convert_to_tensor(y)], np.random.default_rng(1))
    return np.max(np.abs(np.asarray(other) - y)), np.max(np.abs(y))


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize(
    "function",
    [*map(layers.Activation, sorted(GATED)), ops.gelu, ops.silu, ops.swish],
    ids=lambda function: getattr(function, "name", None) or f"ops.{function.__name__}",
)
def test_a_gate_is_off_by_a_share_of_what_it_is_given(function, size):
    x = size * np.random.default_rng(0).uniform(-1, 1, (64, 50)).astype("float32")
    x[0, :2] = size, -size
    distance, largest = moved(function, x)
    assert 0.5 * UNIT * min(size, 1.0) < distance
    assert distance <= UNIT * (min(size, max(1.0, largest)) + largest)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu", "exponential", "softplus"])
def test_others_are_off_by_a_share_of_their_range(name):
    x = 1e-12 * np.random.default_rng(0).uniform(-1, 1, (64, 50)).astype("float32")
    distance, _ = moved(layers.Activation(name), x)
    assert distance > 0.9 * UNIT


def test_a_gate_behind_a_product_is_off_by_a_share_of_its_range():
    """What it is given there nobody sees."""
    x = 1e-12 * np.random.default_rng(0).uniform(-1, 1, (64, 50)).astype("float32")
    distance, _ = moved(layers.Dense(50, "silu"), x)
    assert distance > 0.9 * UNIT


@pytest.mark.parametrize("size", [1e-8, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("name", sorted(GATED))
def test_what_float32_makes_of_a_gate(name, size):
    """Keras' own run is off by no more than a tolerance takes it to be."""
    x = size * np.random.default_rng(2).uniform(-1, 1, (64, 50)).astype("float32")
    function = keras.activations.get(name)
    exact = np.asarray(function(ops.convert_to_tensor(x.astype("float64"))))
    errors = np.abs(np.asarray(function(ops.convert_to_tensor(x))) - exact)
    tops = np.minimum(np.maximum(1.0, np.abs(exact).max(axis=1)), np.abs(x).max(axis=1))
    assert np.all(errors <= FLOAT32.safety * UNIT * (tops[:, None] + np.abs(exact)))


@pytest.mark.parametrize("name", sorted(GATED))
def test_small_numbers_in_front_of_a_gate_are_no_riddle(name, tmp_path):
    """As in a network with batch normalization that was never trained."""
    inputs = keras.Input((6,))
    x = layers.Activation(name)(layers.Rescaling(1e-9)(inputs))
    model = keras.Model(inputs, layers.Dense(3)(x))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


def test_a_closed_gate_is_off_by_no_more_than_others():
    x = -np.random.default_rng(0).uniform(20, 30, (64, 50)).astype("float32")
    distance, _ = moved(ops.silu, x)
    assert 0.9 * UNIT < distance <= UNIT
