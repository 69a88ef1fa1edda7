"""The bytes of a file, put together from its weights: what onnx itself reads and would write."""

import keras
import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasdl import export
from kerasdl.export.files.serialize import serialize

ARRAYS = {
    "float32": np.arange(6, dtype="float32").reshape(2, 3),
    "turned": np.arange(6, dtype="float32").reshape(2, 3).T,
    "float16": np.ones((5,), "float16"),
    "bfloat16": np.ones((3, 1), ml_dtypes.bfloat16),
    "int64": np.array(2**40),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4), "float64"),
    "int4": np.array([1, -2, 3], ml_dtypes.int4),
    "text": np.array(["a", "", "ü"], object),
}


def model_with(arrays):
    """A model that hands on its constants."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 21}, name="constants")
    for name, array in arrays.items():
        texts = array.dtype == object
        tensor = (
            ir.StringTensor([x.encode() for x in array], shape=ir.Shape(array.shape), name=name)
            if texts
            else ir.tensor(array, name=name)
        )
        value = ir.Value(name=name, const_value=tensor)
        value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape)
        graph.register_initializer(value)
        node = ir.node("Identity", [value])
        node.outputs[0].name = f"{name}_out"
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        graph.append(node)
        graph.outputs.append(node.outputs[0])
    return ir.Model(graph, ir_version=10)


def test_every_kind_of_tensor():
    model = model_with(ARRAYS)
    proto = onnx.load_from_string(b"".join(serialize(model)))
    onnx.checker.check_model(proto)
    read = {each.name: each for each in proto.graph.initializer}
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        found = onnx.numpy_helper.to_array(read[name])
        assert found.shape == array.shape
        if array.dtype == object:
            found = np.array([x.decode() if isinstance(x, bytes) else x for x in found], object)
        np.testing.assert_array_equal(found, array)
    assert list(model.graph.initializers) == list(ARRAYS)  # as they were


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40_000), max_size=4), st.text(min_size=1, max_size=200))
def test_lengths(sizes, name):
    """Lengths of one, two and three bytes."""
    arrays = {f"{name}{i}": np.zeros(size, "uint8") for i, size in enumerate(sizes)}
    model = model_with(arrays)
    file = b"".join(serialize(model))
    proto = onnx.load_from_string(file)
    assert [each.name for each in proto.graph.initializer] == list(arrays)
    # Nothing is lost and nothing is added, whatever the order of the fields.
    assert len(proto.SerializeToString()) == len(file)


def test_a_file_is_read_alike_by_onnx_and_by_ir(tmp_path, rng):
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(30), keras.layers.Dense(3)])
    export.to_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    again = ir.from_proto(proto)
    # Entries of the metadata have no order; the last was added when the file had been verified.
    assert onnx.load_from_string(b"".join(serialize(again))).graph == proto.graph


@pytest.mark.parametrize("size", [0, 1, 127, 128, 2**14 - 1, 2**14])
def test_a_single_tensor(size):
    (read,) = onnx.load_from_string(
        b"".join(serialize(model_with({"w": np.ones(size, "int8")})))
    ).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(read), np.ones(size, "int8"))
