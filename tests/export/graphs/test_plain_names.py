"""Layers keep the names that a Keras file keeps, at every call."""

import keras
import onnx
from keras import layers

from kerasdl import export
from kerasdl.export.graphs.graph import layer_of
from kerasdl.export.graphs.trace import trace


def called_twice():
    """Layers whose own names have numbers, as Keras gives them."""
    x = keras.Input((6,), name="x")
    shared, inner = layers.Dense(6, "tanh", name="dense_7"), layers.Dense(6, name="dense_9")
    inner = keras.Sequential([keras.Input((6,)), inner], name="sequential_3")
    last = layers.BatchNormalization(name="batch_normalization_5")
    one, two = shared(x), inner(x)
    every = layers.Concatenate(name="all")([one, shared(one), two, inner(two)])
    return keras.Model(x, layers.Dense(2, name="dense_8")(last(every)))


def test_later_calls_keep_the_name_of_their_layer(tmp_path):
    model = called_twice()
    names = [node.name for node in trace(model).nodes]
    own = ["dense_7", "dense_7_1", "sequential_3/dense_9", "sequential_3/dense_9_1"]
    assert {*own} < {*names}
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert [str(fold) for fold in report.folds] == ["batch_normalization_5: folded into dense_8"]
    nodes = [node.name for node in onnx.load(tmp_path / "model.onnx").graph.node]
    found = {layer_of(node, names) for node in nodes}
    assert found == {*names} - {"batch_normalization_5"}
