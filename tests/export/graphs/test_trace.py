"""The inference graph computes what the model computes, whatever the model is made of."""

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers, ops

from kerasdl import export
from kerasdl.export.graphs.trace import trace
from random_networks import randomize


def dictionary_model():
    a, b = keras.Input((3,), name="b"), keras.Input((3,), name="a")
    return keras.Model({"b": a, "a": b}, {"sum": a + b, "difference": a - b})


def nested_with_dictionary():
    x, y = keras.Input((3,)), keras.Input((3,))
    return keras.Model([x, y], dictionary_model()({"a": x, "b": ops.tanh(y)})["difference"])


def nested_twice():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    x = keras.Input((3,))
    return keras.Model(x, inner(inner(x)))


def operators():
    x = keras.Input((4, 4))
    y = ops.concatenate([x[:, :2] * 2.0, ops.exp(-x[:, 2:])], axis=1)
    return keras.Model(x, [ops.sum(y, axis=-1), ops.matmul(y, ops.transpose(x, (0, 2, 1)))])


def attention():
    x = keras.Input((5, 8))
    return keras.Model(x, layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True))


def masked():
    x = keras.Input((6,), dtype="int32")
    y = layers.Dropout(0.5)(layers.Embedding(9, 4, mask_zero=True)(x))
    return keras.Model(x, layers.LSTM(3)(layers.Dense(4)(y)))


def same_twice():
    x = keras.Input((3,))
    y = layers.Dense(2)(x)
    return keras.Model(x, [y, y, x])


MODELS = (
    dictionary_model,
    nested_with_dictionary,
    nested_twice,
    operators,
    attention,
    masked,
    same_twice,
)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_graph_equals_model(make, rng):
    model = make()
    randomize(model, 0)
    graph = trace(model)
    draw = rng.integers(0, 5, (4, 64)) if make is masked else rng.normal(size=(4, 64))
    arrays = [
        np.resize(draw, (4, *port.shape[1:])).astype(port.dtype) for port in graph.input_ports
    ]
    named = {port.name: x for port, x in zip(graph.input_ports, arrays, strict=True)}
    fed = named if isinstance(model.input, dict) else arrays
    fed = fed[0] if isinstance(fed, list) and len(fed) == 1 else fed
    truth = keras.tree.flatten(model(fed, training=False))
    for mine, true in zip(graph(*arrays), truth, strict=True):
        np.testing.assert_allclose(mine, true, rtol=1e-6, atol=1e-6)


def test_names():
    graph = trace(nested_twice())
    assert [node.name for node in graph.nodes] == [
        "sequential/dense",
        "sequential/dense_1",
    ]
    graph = trace(same_twice())
    ports = [port.name for port in (*graph.input_ports, *graph.output_ports)]
    assert len(set(ports)) == 4
    assert [port.name for port in trace(dictionary_model()).output_ports] == [
        "difference",
        "sum",
    ]


def test_looking_twice_leaves_no_trace():
    model = nested_twice()
    before = [len(layer._inbound_nodes) for layer in model.layers]
    trace(model)
    trace(model)
    assert [len(layer._inbound_nodes) for layer in model.layers] == before


class Neighbours(keras.Model):
    """Called on features and on the numbers of each node's neighbours."""

    def __init__(self):
        super().__init__(name="neighbours")
        self.dense = layers.Dense(3)

    def call(self, inputs):
        nodes, numbers = inputs["nodes"], inputs["numbers"]
        return self.dense(ops.mean(tf.gather(nodes, numbers, batch_dims=1), 1))


class Numbers(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, numbers):
        return self.dense(ops.take(ops.eye(5), numbers, axis=0))


class Stubborn(keras.Model):
    def call(self, x):
        raise ValueError("never")


def test_subclassed_models_of_whole_numbers(tmp_path, rng):
    """Keras does not say on which types they were called."""
    model, numbers = Numbers(), rng.integers(0, 5, 6).astype("int32")
    truth = model(numbers)
    export.to_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (end,) = session.get_inputs()
    assert end.type == "tensor(int32)"
    (found,) = session.run(None, {end.name: numbers})
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)

    model = Neighbours()
    model({"nodes": np.ones((2, 4, 3), "float32"), "numbers": np.zeros((2, 5), "int32")})
    assert [port.dtype for port in trace(model).input_ports] == ["float32", "int32"]
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


class Many(keras.Model):
    def call(self, inputs):
        return sum(inputs)


def test_a_model_of_many_inputs():
    """Of which the types are not tried out, as there are too many."""
    model = Many()
    model([np.ones((2, 3), "float32")] * 40)
    assert {port.dtype for port in trace(model).input_ports} == {"float32"}


def test_a_call_that_cannot_be_traced():
    model = Stubborn(name="stubborn")
    model.build((None, 3))
    with pytest.raises(export.SourceError, match=r"stubborn.*never.*keras\.Input\(shape, dtype"):
        trace(model)
