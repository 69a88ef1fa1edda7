"""What `inspect` says of models and files."""

import keras
import onnx
import pytest
from keras import layers

from kerasdl import export
from random_networks import randomize


@pytest.fixture
def model():
    model = keras.Sequential(
        [
            keras.Input((4,), name="x"),
            layers.Dense(3, activation="relu", name="d"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="r"),
        ],
        name="small",
    )
    randomize(model, 0)
    return model


def test_model_in_memory(model):
    found = export.inspect(model)
    assert (found.source, found.kind, found.name) == ("small", "Keras", "small")
    assert found.inputs == ["x: float32[batch, 4]"]
    assert found.outputs == ["r: float32[batch, 3]"]
    assert found.parameters == model.count_params()
    assert found.operations == {"BatchNormalization": 1, "Dense": 1, "ReLU": 1}
    assert (
        found.folds[0].startswith("bn: kept, in front of it `d` has")
        or "bn: kept" in found.folds[0]
    )
    assert "Batch normalization, if exported" in found.to_text()


def test_keras_file_and_onnx_file(model, tmp_path):
    model.save(tmp_path / "model.keras")
    assert export.inspect(tmp_path / "model.keras").folds == export.inspect(model).folds
    export.to_onnx(model, tmp_path / "model.onnx")
    found = export.inspect(str(tmp_path / "model.onnx"))
    assert (found.kind, found.name) == ("ONNX", "small")
    assert found.inputs == ["x: float[batch, 4]"]
    assert found.operations == {"Add": 2, "MatMul": 1, "Mul": 1, "Relu": 2}
    assert found.facts["opset"] == "ai.onnx 18"
    assert found.facts["producer"].startswith("kerasdl ")
    assert "opset: ai.onnx 18" in found.to_text()


def test_saved_model(model, tmp_path):
    model.export(tmp_path / "saved", verbose=False)
    found = export.inspect(tmp_path / "saved")
    assert (found.kind, found.folds) == ("SavedModel", [])
    assert found.inputs == ["x: float32[batch, 4]"]
    assert found.parameters == model.count_params()


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_files_that_are_no_onnx_model(content, tmp_path):
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(export.SourceError, match="no valid ONNX file|does not exist"):
        export.inspect(tmp_path / "model.onnx")


def test_what_is_no_onnx_file_to_be_read(model, tmp_path, monkeypatch):
    folder = tmp_path / "model.onnx"
    folder.mkdir()
    long = tmp_path / f"{'x' * 5000}.onnx"
    for path, message in ((folder, "is a folder. Give an ONNX file"), (long, "cannot be read: ")):
        with pytest.raises(export.SourceError, match=message):
            export.inspect(path)
        with pytest.raises(export.SourceError, match=message):
            export.verify(model, path)
    (tmp_path / "closed.onnx").touch()

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", closed)
    with pytest.raises(
        export.SourceError, match=r"closed.onnx cannot be read: .*Permission denied"
    ):
        export.inspect(tmp_path / "closed.onnx")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"small", b"sm\xffll", r"the text b'sm\\xffll' \(graph.name\) is not UTF-8"),
        (b"kerasdl", b"kerasd\xff", r"\(model.producer_name\) is not UTF-8"),
        (b"batch", b"b\xfftch", r"\(dim.dim_param\) is not UTF-8"),
        (b"\n\x01x", b"\n\x01\xff", "is not UTF-8"),
    ],
)
def test_names_that_are_no_text(old, new, message, model, tmp_path):
    export.to_onnx(model, tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    assert old in content
    (tmp_path / "model.onnx").write_bytes(content.replace(old, new))
    for look in (export.inspect, lambda path: export.verify(model, path)):
        with pytest.raises(export.SourceError, match=f"no valid ONNX file: .*{message}"):
            look(tmp_path / "model.onnx")


@pytest.mark.parametrize("end", ["input", "output"])
def test_unknown_element_types(end, model, tmp_path):
    export.to_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    getattr(proto.graph, end)[0].type.tensor_type.elem_type = 99
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    for look in (export.inspect, lambda path: export.verify(model, path)):
        with pytest.raises(export.SourceError, match="has the element type 99, which ONNX does"):
            look(tmp_path / "model.onnx")


def test_ends_that_are_no_tensors(tmp_path):
    helper = onnx.helper
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    several = helper.make_tensor_sequence_value_info("several", onnx.TensorProto.FLOAT, None)
    node = helper.make_node("SequenceConstruct", ["x"], ["several"])
    graph = helper.make_graph([node], "g", [x], [several])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    assert export.inspect(tmp_path / "model.onnx").outputs == ["several: sequence"]


def test_truncated_onnx_file(model, tmp_path):
    export.to_onnx(model, tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "cut.onnx").write_bytes(content[: int(share * len(content))])
        with pytest.raises(export.SourceError, match="no valid ONNX file"):
            export.inspect(tmp_path / "cut.onnx")
        with pytest.raises(export.SourceError, match="no valid ONNX file"):
            export.verify(model, tmp_path / "cut.onnx")


def test_an_onnx_file_with_an_unknown_operator(model, tmp_path):
    export.to_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    proto.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(export.SourceError, match="no valid ONNX file"):
        export.verify(model, tmp_path / "model.onnx")


class Closed(keras.Model):
    """Its Keras graph cannot be read."""

    def __init__(self, last):
        super().__init__(name="closed")
        self.d, self.bn, self.last = layers.Dense(3, name="d"), layers.BatchNormalization(), last

    def call(self, x):
        return self.last(self.bn(self.d(x)))


class Unknown(layers.Layer):
    """ONNX has no form of it."""

    def call(self, x):
        return keras.ops.svd(keras.ops.expand_dims(x, -1))[1]


def test_batch_normalization_in_a_closed_model(tmp_path):
    """What `inspect` says is what `to_onnx` does."""
    model = Closed(layers.ReLU())
    model(keras.ops.ones((2, 4)))
    randomize(model, 0)
    found = export.inspect(model)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert found.folds == [str(fold) for fold in report.folds]
    assert "folded into" in found.folds[0]
    assert found.facts == {}


def test_a_closed_model_that_cannot_be_exported(tmp_path):
    model = Closed(Unknown(name="unknown"))
    model(keras.ops.ones((2, 4)))
    found = export.inspect(model)
    with pytest.raises(export.ConversionError) as caught:
        export.to_onnx(model, tmp_path / "model.onnx")
    assert found.facts == {"cannot be exported": str(caught.value)}
    assert "kept" in found.folds[0]
    assert "cannot be exported: " in found.to_text()
