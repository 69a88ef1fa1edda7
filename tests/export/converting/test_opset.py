"""Later operator sets than tf2onnx writes."""

import keras
import numpy as np
import onnx
import pytest
from keras import layers, ops

from kerasdl import export
from kerasdl.export.converting import opset as opset_module
from kerasdl.export.converting.opset import MAXIMUM_OPSET
from random_networks import randomize


def classifier():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(6, 3, activation="gelu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.UpSampling2D(interpolation="bilinear"),
            layers.Flatten(),
            layers.Dense(40, activation="elu"),
            layers.LayerNormalization(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    randomize(model, 0)
    return model


def recurrent():
    model = keras.Sequential([keras.Input((6, 4)), layers.GRU(5), layers.Dense(2)])
    randomize(model, 0)
    return model


def arithmetic():
    x = keras.Input((4,))
    parts = ops.split(ops.cumsum(ops.relu(x), axis=1), 2, axis=1)
    return keras.Model(x, ops.argmax(ops.concatenate(parts[::-1], axis=1), axis=1))


@pytest.mark.parametrize("make", [classifier, recurrent, arithmetic])
@pytest.mark.parametrize("opset", [19, 21, 23, 25, MAXIMUM_OPSET])
def test_later_sets(make, opset, tmp_path):
    report = export.to_onnx(make(), tmp_path / "model.onnx", opset=opset)
    assert report.passed
    assert report.opset == opset
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [entry.version for entry in proto.opset_import if not entry.domain] == [opset]


def test_the_largest_is_the_runtimes():
    """A newer onnxruntime may run more; then the number here can rise."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    imports = [onnx.helper.make_opsetid("", MAXIMUM_OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=imports)
    model.ir_version = onnx.helper.find_min_ir_version_for(imports)
    import onnxruntime

    assert onnxruntime.InferenceSession(model.SerializeToString()).get_outputs()


@pytest.mark.parametrize("opset", [18, 21, MAXIMUM_OPSET])
def test_numbers_of_numpy(opset, tmp_path):
    report = export.to_onnx(arithmetic(), tmp_path / "model.onnx", opset=np.int64(opset))
    assert (report.opset, type(report.opset)) == (opset, int)
    assert export.Report.from_json(report.to_json()) == report


def test_what_cannot_be_brought_there(tmp_path, monkeypatch):
    from onnxscript import version_converter

    def stuck(model, target, fallback):
        assert target == 23

    monkeypatch.setattr(version_converter, "convert_version", stuck)
    with pytest.raises(export.ConversionError, match="opset 23 cannot be written.*opset=18"):
        export.to_onnx(recurrent(), tmp_path / "model.onnx", opset=23)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_operator_is_not_relabelled(tmp_path, monkeypatch):
    monkeypatch.setattr(opset_module, "LAST_OF_ONNXSCRIPT", 20)  # Identity etc. changed in 21
    with pytest.raises(export.ConversionError, match="changed in opset 2"):
        export.to_onnx(classifier(), tmp_path / "model.onnx", opset=21)


@pytest.mark.parametrize("opset", ["18", 18.0, True])
def test_what_is_no_integer(opset, tmp_path):
    with pytest.raises(export.OptionError, match=r"an integer\. .* 13\.\.26; without it, it is 18"):
        export.to_onnx(arithmetic(), tmp_path / "model.onnx", opset=opset)
