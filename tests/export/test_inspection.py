"""What `inspect` says of models and files."""

import json

import keras
import onnx
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export import inspection
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
    assert "Folding, if exported" in found.to_text()


def test_keras_file_and_onnx_file(model, tmp_path):
    model.save(tmp_path / "model.keras")
    assert export.inspect(tmp_path / "model.keras").folds == export.inspect(model).folds
    export.to_onnx(model, tmp_path / "model.onnx")
    found = export.inspect(str(tmp_path / "model.onnx"))
    assert (found.kind, found.name) == ("ONNX", "small")
    assert found.inputs == ["x: float32[batch, 4]"]
    assert found.operations == {"Add": 2, "MatMul": 1, "Mul": 1, "Relu": 2}
    assert found.facts["opset"] == "ai.onnx 18"
    assert found.facts["producer"].startswith("kerasdl ")
    assert "opset: ai.onnx 18" in found.to_text()


@pytest.mark.parametrize("name", ["model.txt", "model", "model.keras", "model.json", "model.pbtxt"])
def test_an_onnx_file_is_known_by_its_content(name, model, tmp_path):
    export.to_onnx(model, tmp_path / "model.onnx")
    found = export.inspect((tmp_path / "model.onnx").rename(tmp_path / name))
    assert (found.kind, found.name) == ("ONNX", "small")


@pytest.mark.parametrize("content", [b"", b"hello", b"{}", b"\x08\x08", b"PK\x03\x04"])
def test_another_file_is_no_model(content, tmp_path):
    (tmp_path / "model.txt").write_bytes(content)
    with pytest.raises(
        export.SourceError, match=r"txt is not a model. Give .*, an .onnx file or a SavedModel fold"
    ):
        export.inspect(tmp_path / "model.txt")
    for other in (tmp_path / "none", 3):
        with pytest.raises(export.SourceError, match="an .onnx file or a SavedModel folder"):
            export.inspect(other)


def test_a_file_of_another_name_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "closed").touch()

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", closed)
    with pytest.raises(export.SourceError, match="closed cannot be read: .*Permission denied"):
        export.inspect(tmp_path / "closed")


def test_large_keras_files_are_not_read_as_onnx(model, tmp_path, monkeypatch):
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")

    def load(*_, **__):
        raise AssertionError

    monkeypatch.setattr(onnx, "load", load)
    for name in ("model.keras", "model.h5"):
        assert export.inspect(tmp_path / name).kind == "Keras"


def test_what_an_onnx_file_says_of_itself(model, tmp_path):
    export.to_onnx(model, tmp_path / "model.onnx", rename={"x": "image"})
    found = export.inspect(tmp_path / "model.onnx")
    assert found.folds == export.inspect(model).folds
    assert "batch_normalization" not in found.facts
    assert found.facts["kerasdl_ends"] == {"channels_first": [], "rename": {"x": "image"}}
    assert found.facts["parity"]["nearest_to_tolerance"]["output"] == "r"
    assert found.facts["keras_version"] == keras.__version__
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
    text = found.to_text()
    assert "  kerasdl_ends:\n    channels_first: []\n    rename:\n      x: image\n" in text
    assert f"\nFolding\n  {found.folds[0]}" in text
    assert "{" not in text


@pytest.mark.parametrize(
    "value",
    [
        "[1, NaN]",
        "[1e999]",
        '["\\ud800"]',
        "[" * 500 + "]" * 500,
        "[" * 100_000 + "]" * 100_000,
        f"[{'9' * 5000}]",
        '{"a": ',
        "1.0",
        "true",
        '"x"',
        "{0: 'cat'}",
        "",
    ],
)
def test_metadata_of_others_that_are_no_json(value, model, tmp_path):
    """Or what JSON cannot say again, or numbers that may be versions."""
    found = with_metadata(model, tmp_path, batch_normalization=value, other=value)
    assert found.folds == []
    assert found.facts["batch_normalization"] == found.facts["other"] == value
    found.to_text().encode()
    json.dumps(found.to_dict(), indent=2, allow_nan=False)


def test_metadata_of_others(model, tmp_path):
    value = {"names": ["cat", "dog"], "sizes": [[1, 2], None], "none": {}, "deep": {"a": {"b": 1}}}
    found = with_metadata(
        model, tmp_path, opset="mine", batch_normalization="[1]", other=json.dumps(value)
    )
    assert found.folds == []
    assert found.facts["batch_normalization"] == [1]
    assert found.facts["opset"] == "ai.onnx 18"
    assert found.facts["other"] == value
    lines = (
        "  other:",
        '    names: ["cat", "dog"]',
        "    sizes: [[1, 2], null]",
        "    none: {}",
        "    deep:",
        "      a:",
        "        b: 1",
    )
    assert "\n".join(lines) in found.to_text()


def with_metadata(model, tmp_path, **entries):
    export.to_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, entries)
    onnx.save(proto, tmp_path / "model.onnx")
    return export.inspect(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("FLOAT", "float32"),
        ("DOUBLE", "float64"),
        ("FLOAT16", "float16"),
        ("BFLOAT16", "bfloat16"),
        ("INT64", "int64"),
        ("BOOL", "bool"),
        ("STRING", "string"),
        ("UNDEFINED", "unknown"),
    ],
)
def test_element_types_are_called_as_by_numpy(kind, name):
    kind = onnx.TensorProto.DataType.Value(kind)
    end = onnx.helper.make_tensor_value_info("x", kind, ["rows", 3, None])
    assert inspection._end(end) == f"x: {name}[rows, 3, ?]"


def test_saved_model(model, tmp_path):
    model.export(tmp_path / "saved", verbose=False)
    found = export.inspect(tmp_path / "saved")
    assert (found.kind, found.folds, found.operations) == ("SavedModel", [], None)
    first, *rest = found.to_text().splitlines()
    assert first.endswith(f"saved: SavedModel `{found.name}`")
    assert "  operations: not visible in a SavedModel" in rest
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
