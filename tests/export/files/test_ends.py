"""Names, layouts and extents of a file that differ from its model's."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers, ops

from kerasdl import export
from kerasdl.export.files.ends import METADATA, Ends
from kerasdl.export.ports import Port
from random_networks import randomize


def images():
    x = inputs = keras.Input((6, 5, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    x = layers.ELU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(2, name="scores")(x), name="images")
    randomize(model, 0)
    return model


def two_inputs():
    left, right = keras.Input((4,), name="left"), keras.Input((None, 3), name="right")
    long = layers.LSTM(5)(right)
    outputs = {"sum": layers.Dense(2)(layers.Concatenate()([left, long])), "same": left}
    model = keras.Model({"left": left, "right": right}, outputs)
    randomize(model, 1)
    return model


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def dimensions(path, kind="input"):
    ends = getattr(onnx.load(path).graph, kind)
    return {
        e.name: [d.dim_param or d.dim_value for d in e.type.tensor_type.shape.dim] for e in ends
    }


def test_channels_first_is_the_same_model(tmp_path, rng):
    model, path = images(), tmp_path / "model.onnx"
    report = export.to_onnx(model, path, channels_first=["image"])
    assert dimensions(path) == {"image": ["batch", 3, 6, 5]}
    assert str(report.inputs[0]) == "image: float32[batch, 3, 6, 5]"
    x = rng.normal(size=(4, 6, 5, 3)).astype("float32")
    (y,) = session(path).run(None, {"image": np.transpose(x, (0, 3, 1, 2))})
    np.testing.assert_allclose(y, model.predict(x, verbose=0), rtol=1e-6, atol=1e-6)
    # The transposition of the input and that in front of the Conv have cancelled.
    assert [node.op_type for node in onnx.load(path).graph.node][:2] == ["Conv", "Elu"]
    assert export.verify(model, path).passed
    assert export.verify(model, path, data={"image": x}).passed


@pytest.mark.parametrize("shape", [(7, 3), (4, 5, 6, 2)])
def test_channels_first_of_other_ranks(shape, tmp_path):
    model = keras.Sequential([keras.Input(shape, name="x"), layers.Activation("tanh")])
    report = export.to_onnx(model, tmp_path / "model.onnx", channels_first=("x",))
    assert dimensions(tmp_path / "model.onnx")["x"] == ["batch", shape[-1], *shape[:-1]]
    assert report.nodes["Transpose"] == 1
    assert export.verify(model, tmp_path / "model.onnx").passed


def test_an_input_handed_on_is_still_handed_on(tmp_path, rng):
    x = keras.Input((2, 3, 4), name="x")
    model = keras.Model(x, [x, layers.ReLU()(x)])
    export.to_onnx(model, tmp_path / "model.onnx", channels_first=["x"])
    array = rng.normal(size=(1, 2, 3, 4)).astype("float32")
    same, _ = session(tmp_path / "model.onnx").run(None, {"x": np.transpose(array, (0, 3, 1, 2))})
    np.testing.assert_array_equal(same, array)


def test_a_wrong_file_with_channels_first_is_found_out(tmp_path):
    model, path = images(), tmp_path / "model.onnx"
    export.to_onnx(model, path, channels_first=["image"])
    model.get_layer("scores").bias.assign_add([0.1, 0.0])
    report = export.verify(model, path)
    assert not report.passed
    assert report.layer == "scores"


def test_names(tmp_path, rng):
    model, path = two_inputs(), tmp_path / "model.onnx"
    new = {"left": "right", "right": "left", "sum": "total"}
    report = export.to_onnx(model, path, rename=new)
    assert [port.name for port in report.inputs] == ["right", "left"]
    assert set(dimensions(path)) == {"left", "right"}
    assert "total" in dimensions(path, "output")
    left = rng.normal(size=(3, 4)).astype("float32")
    right = rng.normal(size=(3, 6, 3)).astype("float32")
    (total,) = session(path).run(["total"], {"right": left, "left": right})
    wanted = model.predict({"left": left, "right": right}, verbose=0)["sum"]
    np.testing.assert_allclose(total, wanted, atol=1e-6)
    assert export.verify(model, path).passed
    assert export.verify(model, path, data={"left": left, "right": right}).passed


def test_extents(tmp_path):
    model, path = two_inputs(), tmp_path / "model.onnx"
    report = export.to_onnx(model, path, dimensions={"batch": 2, "right_1": 9})
    assert dimensions(path) == {"left": [2, 4], "right": [2, 9, 3]}
    assert {check.batch for check in report.checks} == {2}
    assert dimensions(path, "output")["sum"] == [2, 2]
    report = export.verify(model, path)
    assert report.passed
    assert {check.batch for check in report.checks} == {2}
    # Whoever wrote it: the file's own extents are seen.
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    assert export.verify(model, path).passed


def test_names_of_axes(tmp_path):
    path = tmp_path / "model.onnx"
    export.to_onnx(two_inputs(), path, dimensions={"batch": "N", "right_1": "time"})
    assert dimensions(path) == {"left": ["N", 4], "right": ["N", "time", 3]}
    assert dimensions(path, "output")["same"] == ["N", 4]


def test_all_together(tmp_path):
    model, path = images(), tmp_path / "model.onnx"
    export.to_onnx(
        model,
        path,
        channels_first=["image"],
        rename={"image": "x"},
        dimensions={"batch": 4},
        precision="float16",
        opset=21,
    )
    assert dimensions(path) == {"x": [4, 3, 6, 5]}
    report = export.verify(model, path)
    assert report.passed
    assert report.precision == "float16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rename": {"picture": "x"}}, r"inputs and outputs of the model, \['image', 'scores'\]"),
        ({"rename": {"image": " "}}, "a name that is not empty"),
        ({"rename": {"image": 3}}, "a name that is not empty"),
        ({"rename": {"image": "scores"}}, "leave all names different"),
        ({"rename": ["image"]}, "must map names to names"),
        ({"channels_first": ["scores"]}, r"of which the model has \['image'\]"),
        ({"rename": {"image": "a\0"}}, "characters that can be printed"),
        ({"rename": {"image": "\ud800"}}, "characters that can be printed"),
        ({"channels_first": "image"}, "must be a list of names"),
        ({"channels_first": b"image"}, "must be a list of names"),
        ({"channels_first": None}, "must be a list of names. Received: None"),
        ({"channels_first": 5}, "must be a list of names. Received: 5"),
        ({"channels_first": {"image"}}, "must be a list of names"),
        ({"channels_first": [["image"]]}, r"must name inputs .* Received: \['image'\]"),
        ({"dimensions": {"rows": 3}}, r"free axes of the model, \['batch'\]"),
        ({"dimensions": {"batch": 0}}, "an extent of at least 1, or a name"),
        ({"dimensions": {"batch": True}}, "an extent of at least 1, or a name"),
        ({"dimensions": {"batch": ""}}, "an extent of at least 1, or a name"),
        ({"dimensions": {"batch": 2.0}}, "an extent of at least 1, or a name"),
        ({"dimensions": {"batch": np.float32(2)}}, "an extent of at least 1, or a name"),
        ({"dimensions": {"batch": "1.5"}}, "a name of letters, digits and underscores"),
        ({"dimensions": {"batch": "+5"}}, "a name of letters, digits and underscores"),
        ({"dimensions": {"batch": "a b"}}, "a name of letters, digits and underscores"),
        ({"dimensions": {"batch": "\ud800"}}, "a name of letters, digits and underscores"),
        ({"dimensions": {"batch": 10**9}}, "at most 268,435,456 numbers. Received: image: float32"),
        ({"dimensions": {("a",): 3, "batch": 2}}, r"must name free axes .* Received: \('a',\)"),
        ({"dimensions": ["batch"]}, "must map axes"),
    ],
)
def test_what_cannot_be_done(options, message, tmp_path):
    with pytest.raises(export.OptionError, match=message):
        export.to_onnx(images(), tmp_path / "model.onnx", **options)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"right_1": "batch"},
        {"right_1": "batch", "batch": "N"},
        {"batch": "right_1"},
        {"batch": "N", "right_1": "N"},
    ],
)
def test_axes_of_different_extents_have_different_names(given, tmp_path):
    with pytest.raises(export.OptionError, match="must give axes of different extents different"):
        export.to_onnx(two_inputs(), tmp_path / "model.onnx", dimensions=given)


def test_axes_that_the_user_declares_equal():
    ports = [Port(name, (None, None, 3), "float32") for name in ("a", "b")]
    Ends(dimensions={"a_1": "time", "b_1": "time"}).check(ports, [])
    with pytest.raises(export.OptionError, match="`b_1`"):
        Ends(dimensions={"a_1": "b_1"}).check(ports, [])


def test_extents_of_numpy(tmp_path):
    given = {"batch": np.int64(2), "right_1": np.uint8(9)}
    report = export.to_onnx(two_inputs(), tmp_path / "model.onnx", dimensions=given)
    assert dimensions(tmp_path / "model.onnx") == {"left": [2, 4], "right": [2, 9, 3]}
    assert export.Report.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    "note",
    [
        *("", "[]", "null", '{"rename": 3}', '{"rename": {}}', "{", "[" * 100_000, "9" * 5000),
        '{"rename": {}, "channels_first": "image"}',
        '{"rename": {}, "channels_first": [1]}',
        '{"rename": {"image": ["x"]}, "channels_first": []}',
    ],
)
def test_a_damaged_note(note):
    with pytest.raises(export.OptionError, match="note on its inputs and outputs is damaged"):
        Ends.of({METADATA: note})


def test_a_note_that_does_not_suit_the_model():
    ports = [Port("x", (None, 4), "float32")]
    for name in ("x", "z"):
        with pytest.raises(export.OptionError, match="note on its inputs does not suit the model"):
            Ends(channels_first=(name,)).with_extents(ports, [])
    both = [Port("a", (None,), "float32"), Port("b", (None,), "float32")]
    with pytest.raises(export.OptionError, match="Is it the file of another model"):
        Ends({"a": "c", "b": "c"}).names(ports, both, ["x"], ["c"])


def test_a_file_of_huge_extents():
    (end,) = onnx.helper.make_graph(
        [], "g", [onnx.helper.make_tensor_value_info("x", 1, [10**12, 4])], []
    ).input
    with pytest.raises(export.OptionError, match="at most 268,435,456 numbers"):
        Ends().with_extents([Port("x", (None, 4), "float32")], [end])


def test_the_usual_file_has_no_note(tmp_path):
    export.to_onnx(images(), tmp_path / "model.onnx", dimensions={"batch": "N"})
    assert METADATA not in {e.key for e in onnx.load(tmp_path / "model.onnx").metadata_props}


def test_axes_of_outputs_are_not_fixed(tmp_path):
    x = keras.Input((None, 3), name="x")
    model = keras.Model(x, layers.Conv1D(2, 3, name="c")(x))
    with pytest.raises(export.OptionError, match="axes of the inputs.*Received: c_1=9"):
        export.to_onnx(model, tmp_path / "model.onnx", dimensions={"x_1": 7, "c_1": 9})
    export.to_onnx(model, tmp_path / "model.onnx", dimensions={"x_1": 7, "c_1": "steps"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rename": {"keras_tensor": "image"}, "channels_first": ["keras_tensor"]},
        {"dimensions": {"batch": 2, "keras_tensor_1_1": "words"}, "rename": {"out": "y"}},
    ],
    ids=["plain", "renamed and turned", "fixed"],
)
def test_inputs_that_nobody_named(options, tmp_path):
    """Keras calls them by their tensors in memory, and by their layers once they are loaded."""
    keras.utils.clear_session(free_memory=False)
    image, text = keras.Input((4, 4, 3)), keras.Input((None, 2))
    both = layers.Concatenate()([layers.Flatten()(image), ops.max(text, axis=1)])
    model = keras.Model([image, text], layers.Dense(3, name="out")(both))
    assert [port.name for port in model.inputs] == ["keras_tensor", "keras_tensor_1"]
    model.save(tmp_path / "model.keras")
    export.to_onnx(model, tmp_path / "model.onnx", **options)
    report = export.verify(tmp_path / "model.keras", tmp_path / "model.onnx", layers=True)
    assert report.passed
    assert report.constants.wrong == ()
    names = [end.name for end in onnxruntime.InferenceSession(tmp_path / "model.onnx").get_inputs()]
    assert [port.name for port in report.inputs] == names
    model.layers[-1].kernel.assign(2 * model.layers[-1].kernel)
    model.save(tmp_path / "model.keras")
    assert export.verify(tmp_path / "model.keras", tmp_path / "model.onnx").layer == "out"


def test_named_inputs_are_never_matched_by_their_place(tmp_path):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    other = keras.Input((3,), name="input_layer"), keras.Input((3,), name="c")
    export.to_onnx(keras.Model([a, b], layers.Subtract()([a, b])), tmp_path / "model.onnx")
    with pytest.raises(export.OptionError, match="Is it the file of another model"):
        export.verify(keras.Model(other, layers.Subtract()(other)), tmp_path / "model.onnx")
