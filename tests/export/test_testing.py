"""The helper for users' own tests."""

import doctest

import keras
import onnx
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export import testing
from kerasdl.export.testing import assert_parity
from random_networks import randomize


@pytest.fixture
def pair(tmp_path):
    stack = [layers.Dense(5, activation="tanh", name="hidden"), layers.Dense(2, name="head")]
    model = keras.Sequential([keras.Input((4,), name="x"), *stack])
    randomize(model, 0)
    export.to_onnx(model, tmp_path / "model.onnx")
    return model, tmp_path / "model.onnx"


def test_a_right_file(pair):
    model, path = pair
    assert assert_parity(model, path).passed
    assert assert_parity(model, str(path), rtol=1e-4).passed
    assert assert_parity(model, onnx.load(path)).passed


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_wrong_file_fails_with_the_report(pair, in_memory):
    model, path = pair
    model.get_layer("hidden").bias.assign_add([0.0, 0.01, 0.0, 0.0, 0.0])
    given = onnx.load(path) if in_memory else path
    with pytest.raises(AssertionError, match="is not the Keras model") as caught:
        assert_parity(model, given)
    assert "hidden" in str(caught.value)
    assert assert_parity(model, given, atol=0.1).passed


def test_what_is_no_model(pair, tmp_path):
    model, _ = pair
    with pytest.raises(export.SourceError, match="does not exist"):
        assert_parity(model, tmp_path / "none.onnx")
    with pytest.raises(export.OptionError, match="`rtol` must be a number"):
        assert_parity(model, tmp_path / "none.onnx", rtol="small")


@pytest.mark.parametrize("odd", [None, 3, b"model.onnx", [], object(), onnx.GraphProto()])
def test_what_is_no_onnx_model(odd, pair):
    with pytest.raises(export.SourceError, match="must be a path or an onnx.ModelProto. Received"):
        assert_parity(pair[0], odd)
    with pytest.raises(export.SourceError, match="must be a keras.Model or a path to"):
        assert_parity(odd, pair[1])


def test_the_example_runs():
    assert doctest.testmod(testing).failed == 0
