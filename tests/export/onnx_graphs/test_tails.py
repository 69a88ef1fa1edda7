"""Small values of sigmoids, and sums with very different constants."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers, ops

from kerasdl import export

pytestmark = pytest.mark.tensorflow

FAR = np.array([[-17, -18.5, -40, -80], [-20, -21, -22, -30], [3, 17, 30, 60]], "float32")


def share(x):
    gate = ops.sigmoid(x)
    return gate / ops.sum(gate, -1, keepdims=True)


def odds(x):
    p = ops.sigmoid(x)
    return p / ((1 - p) + 1e-12)


CALLS = {
    "log": lambda x: ops.log(ops.sigmoid(x)),
    "share": share,
    "log of a sum": lambda x: ops.log(ops.sigmoid(x) + 1e-7),
    "largest": lambda x: ops.argmax(ops.sigmoid(x), -1),
    "order": lambda x: ops.top_k(ops.sigmoid(x), 3)[1],
    "silu": lambda x: ops.log(1e-20 - ops.silu(-1.0 - ops.abs(x))),
    "root": lambda x: ops.sqrt(ops.sigmoid(x)),
    "through others": lambda x: ops.log(ops.reshape(ops.mean(ops.sigmoid(x), -1), (-1, 1))),
    "odds": odds,
}


def exported(model, path, **options):
    assert export.to_onnx(model, path, **options).passed
    session = onnxruntime.InferenceSession(path)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    return lambda x: session.run(None, {session.get_inputs()[0].name: x})[0], kinds


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("name", CALLS)
def test_far_from_zero(name, opset, tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, CALLS[name](x))
    run, kinds = exported(model, str(tmp_path / "m.onnx"), opset=opset)
    found, wanted = run(FAR), np.asarray(model(FAR))
    assert "Sigmoid" not in kinds
    if wanted.dtype.kind == "i":
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_sigmoids_stay(dtype, tmp_path):
    x = keras.Input((4,), dtype=dtype)
    y = layers.Dense(4, "sigmoid", dtype=dtype)(x)
    y = layers.Dense(4, "silu", dtype=dtype)(layers.LayerNormalization(dtype=dtype)(y))
    model = keras.Model(x, layers.Dense(2, "softmax", dtype=dtype)(y))
    assert exported(model, str(tmp_path / "m.onnx"))[1].count("Sigmoid") == 2


def test_a_sum_is_put_together_where_nothing_is_lost(tmp_path):
    x = keras.Input((4,))
    run, kinds = exported(keras.Model(x, (x + 1.0) - 3.0), str(tmp_path / "m.onnx"))
    assert len(kinds) == 1
    run, kinds = exported(keras.Model(x, (x - 1.0) + 1e-9), str(tmp_path / "n.onnx"))
    assert run(np.ones((1, 4), "float32"))[0, 0] == np.float32(1e-9)
