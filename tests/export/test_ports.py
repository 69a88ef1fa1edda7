"""Ports: a file declares the shapes that its results have, also where Keras says others."""

import keras
import onnx
import pytest
from keras import layers, ops

from kerasdl import export
from kerasdl.export.ports import Port, agreed, seen


class Claims(layers.Layer):
    """A layer whose `compute_output_shape` may say anything."""

    def __init__(self, claimed, function):
        super().__init__(name="y")
        self.claimed, self.function = claimed, function

    def call(self, x):
        return self.function(x)

    def compute_output_shape(self, shape):
        return self.claimed


CASES = {
    "right": ((None, 3), lambda x: x[:, :3], ["batch", 3]),
    "extent": ((None, 6), lambda x: x[:, :3], ["batch", 3]),
    "rank": ((None, 6, 1), lambda x: x[:, :3], ["batch", 3]),
    "more rows": ((None, 3), lambda x: ops.reshape(x, (-1, 3)), ["y_0", 3]),
    "no batch": ((4, 3), lambda x: x[:, :3], ["batch", 3]),
    "as wide as long": (
        (None, 3),
        lambda x: ops.matmul(x, ops.transpose(x)),
        ["batch", "batch"],
    ),
    "one number": ((None,), ops.mean, []),
}


@pytest.mark.parametrize("name", CASES)
def test_declared_as_computed(name, tmp_path):
    claimed, function, expected = CASES[name]
    inputs = keras.Input((6,), name="x")
    path = tmp_path / "model.onnx"
    model = keras.Model(inputs, Claims(claimed, function)(inputs))
    report = export.to_onnx(model, path)
    axes = onnx.load(path).graph.output[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == expected
    assert [symbol or size for size, symbol in report.outputs[0].axes()] == expected
    onnx.checker.check_model(path, full_check=True)
    assert export.verify(model, path).passed


@pytest.mark.parametrize(
    "model",
    [
        lambda x: layers.Activation("glu")(x),
        lambda x: layers.RandomCrop(4, 4)(x),
        lambda x: ops.adaptive_average_pool(x, (3, 3)),
        lambda x: ops.adaptive_max_pool(x, (2, 2)),
    ],
)
def test_where_keras_itself_is_wrong(model, tmp_path):
    inputs = keras.Input((8, 6, 4), name="x")
    export.to_onnx(keras.Model(inputs, model(inputs)), tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)


def test_a_file_whose_results_are_not_as_declared_is_refused(tmp_path):
    inputs = keras.Input((6,), name="x")
    model, path = keras.Model(inputs, ops.reshape(inputs, (-1, 3))), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    file = onnx.load(path)
    file.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(file, path)
    with pytest.raises(
        export.SourceError, match=r"is declared as \['batch', 3\] and has the shape"
    ):
        export.verify(model, path)


def test_extents_that_are_known():
    port = Port("y", (None, 6, 5), "float32", ("n", "", ""))
    assert agreed(port, (4, 3, None)).axes() == [(None, "n"), (3, ""), (5, "")]
    assert agreed(port, (None, 3)).axes() == [(None, "batch"), (3, "")]


def test_what_is_seen():
    port = Port("y", (None, 6, None), "float32", ("n", "", "y_2"))
    fits = [(1, 6, 7), (3, 6, 7)]
    assert seen(port, fits, [1, 3], "n").axes() == port.axes()
    assert seen(port, [(1, 4, 7), (3, 5, 7)], [1, 3], "n").axes()[1] == (None, "y_1")
    assert seen(port, [(2, 1, 7), (6, 3, 7)], [1, 3], "n").axes()[:2] == [
        (None, "y_0"),
        (None, "n"),
    ]
    assert seen(port, [(1,), (3, 1)], [1, 3], "n") == port
    assert seen(port, [], [], "n") == port
