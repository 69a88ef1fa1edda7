"""Constants of a file against those that its model gives."""

import re
import warnings
from contextlib import nullcontext

import keras
import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from keras import layers
from onnx import numpy_helper

from kerasdl import export
from kerasdl.export import Report, conversion, pipeline
from kerasdl.export.converting import convert
from kerasdl.export.converting.convert import convert_graph
from kerasdl.export.files.serialize import serialize
from kerasdl.export.formats import FORMATS
from kerasdl.export.graphs.trace import trace
from kerasdl.export.onnx_graphs.canonical import settle
from kerasdl.export.precisions.quantize import quantize
from kerasdl.export.verifying import constants
from random_networks import build, randomize, recipe_of

pytestmark = pytest.mark.tensorflow


def sequential(*stack, shape=(6,)):
    model = keras.Sequential([keras.Input(shape, name="x"), *stack], name="model")
    randomize(model, 0)
    return model


def mlp():
    return sequential(
        layers.Dense(8, name="one"),
        layers.BatchNormalization(name="two"),
        layers.ReLU(name="three"),
        layers.Dense(3, name="four"),
    )


def changed(path, change):
    """The file again, with `change` applied to it."""
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, path)


def replace_one(proto, number, place, change):
    tensor = proto.graph.initializer[number]
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[place] = change(array.flat[place])
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def scale_one(proto, number, place, factor):
    replace_one(proto, number, place, lambda weight: weight * factor)


@pytest.mark.parametrize("seed", range(6))
def test_a_clean_file_has_the_constants_of_its_model(seed, tmp_path):
    keras.utils.set_random_seed(seed)
    model = build(recipe_of((17, seed)))
    export.to_onnx(model, tmp_path / "model.onnx")
    report = export.verify(model, tmp_path / "model.onnx")
    assert report.passed
    assert report.constants.wrong == ()
    assert report.constants.compared >= len(onnx.load(tmp_path / "model.onnx").graph.initializer)


OPTIONS = {
    "opset 13": {"opset": 13},
    "opset 21": {"opset": 21},
    "opset 26": {"opset": 26},
    "float16": {"precision": "float16"},
    "bfloat16": {"precision": "bfloat16"},
    "int8": {"precision": "int8"},
    "channels first": {"channels_first": ["x"]},
    "fixed batch": {"dimensions": {"batch": 4}},
    "named batch": {"dimensions": {"batch": "rows"}},
    "renamed": {"rename": {"x": "image", "four": "scores"}},
    "external": {"external_data": True},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_files_with_options(name, tmp_path):
    model = sequential(
        layers.Conv2D(16, 3, name="one"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, name="four"),
        shape=(6, 6, 2),
    )
    export.to_onnx(model, tmp_path / "model.onnx", **OPTIONS[name])
    report = export.verify(model, tmp_path / "model.onnx")
    assert report.passed
    assert report.constants.compared >= 4
    model.get_layer("one").kernel.assign(1.02 * model.get_layer("one").kernel)
    wrong = export.verify(model, tmp_path / "model.onnx").constants.wrong
    assert "one" in {constant.layer for constant in wrong}


def test_every_number_of_every_constant_is_looked_at(tmp_path):
    model, path = mlp(), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    sizes = [int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer]
    assert sorted(sizes) == [3, 8, 24, 48]
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for number, size in enumerate(sizes):
        place = rng.integers(size)
        path.write_bytes(whole)
        changed(path, lambda proto, n=number, p=place: scale_one(proto, n, p, 1.001))
        report = export.verify(model, path)
        (wrong,) = report.constants.wrong
        assert (wrong.wrong, wrong.count) == (1, size)
        assert wrong.error == pytest.approx(1e-3, rel=1e-3)
        assert wrong.layer == wrong.name.partition("/")[0]
        assert not report.passed
        assert report.layer == wrong.layer


def test_a_weight_without_effect(tmp_path):
    """Behind a ReLU that is closed, no output tells."""
    model, path = mlp(), tmp_path / "model.onnx"
    model.get_layer("two").beta.assign(np.full(8, -1e4))
    export.to_onnx(model, path)
    model.get_layer("one").kernel.assign(1.001 * model.get_layer("one").kernel)
    report = export.verify(model, path)
    assert all(check.passed for check in report.checks)
    assert not report.passed
    assert (report.layer, report.constants.wrong[0].wrong) == ("one", 48)
    assert "Constants: 3 of 4 are those of the model" in report.to_text()
    place = "layer `one` (with `two` folded into it)"
    assert f"FAIL one/one_1/MatMul.B, {place}: 48 of 48, rela" in report.to_text()
    told = f"the outputs agree, but 1 of 4 constants are not the model's, first in {place}"
    assert report.failure == told
    assert report.to_text().endswith(f"FAILED, {told}")
    assert Report.from_json(report.to_json()) == report
    page = report.to_html()
    assert "<title>Failed" in page
    assert "3 of 4 constants are those that the model gives" in page


def test_a_tolerance_of_the_user_is_about_outputs(tmp_path):
    model, path = mlp(), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    changed(path, lambda proto: scale_one(proto, 0, 0, 1.001))
    loose = export.verify(model, path, rtol=0.1)
    assert loose.passed
    assert len(loose.constants.wrong) == 1
    assert "FAIL" not in loose.to_text()
    assert not loose.judged().passed
    assert export.verify(model, path).judged(rtol=0.1).passed


def test_a_unit_in_the_last_place_is_granted(tmp_path):
    model, path = mlp(), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    whole = path.read_bytes()
    changed(path, lambda proto: replace_one(proto, 0, 0, lambda x: np.nextafter(x, np.float32(9))))
    assert export.verify(model, path).constants.wrong == ()
    path.write_bytes(whole)
    changed(path, lambda proto: scale_one(proto, 0, 0, 1 + 2.0**-20))
    assert len(export.verify(model, path).constants.wrong) == 1


def test_numbers_in_attributes_and_tables(tmp_path):
    x = keras.Input((4,), name="x")
    word = keras.Input((2,), dtype="string", name="word")
    codes = layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="multi_hot")(word)
    y = layers.Concatenate()([layers.LeakyReLU(0.3, name="leaky")(x), codes])
    model, path = keras.Model([x, word], layers.Dense(2, name="last")(y)), tmp_path / "model.onnx"
    randomize(model, 0)
    export.to_onnx(model, path)
    assert export.verify(model, path).constants.wrong == ()
    whole = path.read_bytes()

    def slope(proto):
        (node,) = (node for node in proto.graph.node if node.op_type == "LeakyRelu")
        node.attribute[0].f = 0.3001

    changed(path, slope)
    (wrong,) = export.verify(model, path).constants.wrong
    assert (wrong.layer, wrong.wrong, wrong.count) == ("leaky", 1, 1)
    assert wrong.name.endswith(".alpha")

    def entry(proto):
        (node,) = (node for node in proto.graph.node if node.op_type == "LabelEncoder")
        keys = next(a for a in node.attribute if a.name == "keys_strings")
        keys.strings[1] = b"never seen"

    path.write_bytes(whole)
    changed(path, entry)
    (wrong,) = export.verify(model, path).constants.wrong
    assert (wrong.wrong, wrong.count, wrong.error) == (1, 3, np.inf)


def test_names_of_nodes_do_not_matter(tmp_path):
    """Constants belong together by their places."""
    x = keras.Input((4,), name="x")
    y = layers.LeakyReLU(0.3, name="last")(layers.Dense(2)(layers.LeakyReLU(0.2, name="first")(x)))
    model, path = keras.Model(x, y), tmp_path / "model.onnx"
    randomize(model, 0)
    export.to_onnx(model, path)

    def renamed(proto):
        for number, node in enumerate(proto.graph.node):
            node.name = f"node_{number}"

    changed(path, renamed)
    assert export.verify(model, path).constants.wrong == ()

    def slope(proto):
        next(node for node in proto.graph.node if node.op_type == "LeakyRelu").attribute[0].f = 0.21

    changed(path, slope)
    (wrong,) = export.verify(model, path).constants.wrong
    assert wrong.layer == "first"


def test_an_attribute_that_refers_to_another(tmp_path):
    x = keras.Input((4,), name="x")
    model, path = keras.Model(x, layers.LeakyReLU(0.3, name="y")(x)), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    changed(path, lambda proto: setattr(proto.graph.node[0].attribute[0], "ref_attr_name", "z"))
    assert export.verify(model, path).constants is None


def test_files_whose_constants_cannot_be_compared(tmp_path):
    model, path = mlp(), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    whole = path.read_bytes()

    def edited(proto):
        output = proto.graph.node[-1].output[0]
        proto.graph.node[-1].output[0] = "inner"
        proto.graph.node.append(onnx.helper.make_node("Identity", ["inner"], [output]))

    changed(path, edited)
    report = export.verify(model, path)
    assert report.constants is None
    assert report.passed
    assert "the model gives another graph" in report.notes[0]

    def older(proto):
        entry = next(e for e in proto.metadata_props if e.key == "kerasdl_version")
        entry.value = "0.0.1"

    path.write_bytes(whole)
    changed(path, older)
    scaled = export.verify(model, path)
    assert scaled.constants is None
    assert scaled.passed
    (note,) = scaled.notes
    assert "not compared one by one: the file was written with kerasdl 0.0.1, and here" in note


def test_a_file_of_somebody_else(tmp_path):
    """Without our metadata only outputs are compared."""
    model, path = mlp(), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    changed(path, lambda proto: proto.ClearField("metadata_props"))
    report = export.verify(model, path)
    assert report.passed
    assert report.constants is None


def convolutional():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2), name="x"),
            layers.Conv2D(6, 3, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(4, name="y"),
        ]
    )
    randomize(model, 4)
    return model


@pytest.mark.parametrize("make", [mlp, convolutional])
def test_constants_of_a_static_int8_file(make, tmp_path):
    """Ranges are the data's; all else is the model's, and a bias is in units of both."""
    model, path = make(), tmp_path / "model.onnx"
    rng, shape = np.random.default_rng(0), model.input_shape[1:]
    rows = {"x": rng.normal(size=(64, *shape)).astype("float32")}
    written = export.to_onnx(model, path, precision="int8", calibration=rows)
    others = {"x": rng.normal(size=(40, *shape)).astype("float32")}
    report = export.verify(model, path, data=others)
    assert report.passed
    assert report.constants.compared > 8
    last = model.layers[-1]
    for weight, change in ((last.kernel, 0.03), (last.bias, 0.02)):
        old = weight.numpy()
        new = old.copy()
        new.flat[1] += change * np.abs(old).max()
        weight.assign(new)
        found = export.verify(model, path, data=others)
        assert not found.passed
        assert found.layer == last.name
        weight.assign(old)
    folds = {fold.layer: fold.into for fold in written.folds}
    for layer, (into,) in folds.items():
        beta = model.get_layer(layer).beta
        beta.assign_add(np.full(beta.shape, 0.3, np.float32))
        found = export.verify(model, path, data=others)
        (wrong, *_) = found.constants.wrong
        assert (wrong.layer, wrong.folded) == (into, (layer,))
        assert f"layer `{into}` (with `{layer}` folded into it)" in str(wrong)
        assert f"with {layer} folded into it" in found.to_html()
        beta.assign_add(np.full(beta.shape, -0.3, np.float32))
    assert export.verify(model, path, data=others).passed


def test_a_bias_in_units_of_its_ranges_is_compared_as_a_number(tmp_path):
    model, path = convolutional(), tmp_path / "model.onnx"
    rows = {"x": np.random.default_rng(0).normal(size=(64, 8, 8, 2)).astype("float32")}
    export.to_onnx(model, path, precision="int8", calibration=rows)

    def harm(proto):
        whole = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT32]
        bias = next(tensor for tensor in whole if numpy_helper.to_array(tensor).any())
        steps = numpy_helper.to_array(bias).copy()
        steps[2] += 40
        bias.CopyFrom(numpy_helper.from_array(steps, bias.name))

    changed(path, harm)
    report = export.verify(model, path, data={"x": 2.5 * rows["x"][:16]})
    assert not report.passed
    (wrong,) = report.constants.wrong
    assert (wrong.layer, wrong.wrong) == ("conv", 1)


def damage(model):
    """What an optimizer of tf2onnx might do: another bias."""
    name, value = next(iter(model.graph.initializers.items()))
    value.const_value = ir.tensor(value.const_value.numpy() + 1, name=name)


def refuse(model):
    """What onnxruntime does not run."""
    next(iter(model.graph)).attributes["transA"] = ir.AttrInt64("transA", 1)


@pytest.mark.parametrize("harm", [damage, refuse])
def test_a_wrong_file_is_converted_once_more_with_care(harm, tmp_path, monkeypatch):
    real, tries = conversion.convert_graph, []

    def first_wrong(graph, opset, careful):
        tries.append(careful)
        model = real(graph, opset, careful)
        if not careful:
            harm(model)
        return model

    model, path = mlp(), tmp_path / "model.onnx"
    monkeypatch.setattr(conversion, "convert_graph", first_wrong)
    assert export.to_onnx(model, path).passed
    assert tries == [False, True]
    assert "converted_carefully" in {entry.key for entry in onnx.load(path).metadata_props}
    report = export.verify(model, path)
    assert report.passed
    assert report.constants.compared > 3


def test_what_stays_wrong_is_refused(tmp_path, monkeypatch):
    real = conversion.convert_graph

    def wrong(graph, opset, careful):
        model = real(graph, opset, careful)
        damage(model)
        return model

    monkeypatch.setattr(conversion, "convert_graph", wrong)
    with pytest.raises(export.ParityError, match="They begin to differ at layer `four`"):
        export.to_onnx(mlp(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "int64", "bool"])
def test_which_numbers_are_the_same(dtype):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    right = np.array([1, 0, 100], kind)
    assert constants._compare("a/b", "a", right, right.copy()) is None
    other = right.copy()
    other[2] = 0
    found = constants._compare("a/b", "a", right, other)
    if dtype == "bool":
        assert (found.wrong, found.error) == (1, np.inf)
    else:
        assert (found.wrong, found.error) == (1, 1.0)
    if "float" in dtype:
        same = np.array([np.nan, np.inf, -np.inf], kind)
        assert constants._compare("a/b", "a", same, same.copy()) is None
        assert constants._compare("a/b", "a", same, same[::-1].copy()).wrong == 2


@keras.saving.register_keras_serializable("kerasdl_test_constants")
class Unnamed(keras.Model):
    """Its layers are named by Keras, by a number of the process."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.first, self.last = layers.Dense(8, "relu"), layers.Dense(2)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.last.build((None, 8))
        super().build(input_shape)

    def call(self, inputs):
        return self.last(self.first(inputs))


def masked():
    steps = [layers.Masking(), layers.LSTM(3), layers.Dense(8, "relu"), layers.Dense(2)]
    return keras.Sequential([keras.Input((6, 4)), *steps])


def unnamed():
    model = Unnamed()
    model(np.zeros((1, 4), "float32"))
    return model


@pytest.mark.parametrize("make", [masked, unnamed])
def test_what_nobody_named_is_compared_too(make, tmp_path):
    """Behind ReLUs that never open, which no output tells."""
    source = tmp_path / "model.keras"
    model = make()
    dense = next(layer for layer in model.layers if isinstance(layer, layers.Dense))
    dense.bias.assign([-99.0] * 4 + [1.0] * 4)
    model.save(source)
    files = [tmp_path / name for name in ("one.onnx", "other.onnx")]
    for file in files:
        export.to_onnx(source, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    changed = keras.models.load_model(source)
    names = [layer.name for layer in changed.layers]
    dense = next(layer for layer in changed.layers if isinstance(layer, layers.Dense))
    dense.kernel.assign(dense.kernel * ([1.5] * 4 + [1.0] * 4))
    report = export.verify(changed, files[0])
    assert not report.passed
    assert report.constants.wrong
    assert [layer.name for layer in changed.layers] == names


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_largest_number(dtype):
    """Above it there is none, so that its unit is that below; and nothing is warned of."""
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype).type
    largest = ml_dtypes.finfo(kind).max
    right = np.array([largest, -largest, 1], kind)
    below = np.nextafter(right, np.zeros_like(right))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert constants._compare("a/b", "a", right, right.copy()) is None
        assert constants._compare("a/b", "a", right, below) is None
        assert constants._compare("a/b", "a", right, np.array([0, 1, 1], kind)).wrong == 2
        assert constants._compare("a/b", "a", right, -right).wrong == 3


def convolutions():
    """tf2onnx forgets the names of what comes of the axes of some."""
    return sequential(
        layers.Conv2D(16, 3, activation="relu", name="one"),
        layers.DepthwiseConv2D(3, name="two"),
        layers.BatchNormalization(name="three"),
        layers.Conv2DTranspose(8, 3, activation="tanh", name="four"),
        layers.Flatten(name="five"),
        layers.Dense(30, name="six"),
        shape=(8, 8, 4),
    )


@pytest.mark.parametrize("precision", [*FORMATS])
def test_every_constant_has_its_layer(precision, tmp_path, monkeypatch):
    """All that are wrong, each by itself: through Casts and Reshapes, and between named nodes."""
    model, path = convolutions(), tmp_path / "model.onnx"
    export.to_onnx(model, path, precision=precision)
    monkeypatch.setattr(constants, "_same", lambda right, found: np.zeros(right.shape, bool))
    report = export.verify(model, path, rtol=1.0)
    wrong = [one for one in report.constants.wrong if not one.name.startswith("graph_")]
    owners = list(dict.fromkeys(constant.layer for constant in wrong))
    alone = ["three"] if precision == "int8" else []  # otherwise folded into `two`
    assert owners == ["one", "two", *alone, "four", "five", "six"]
    named = {one.layer for one in wrong if one.name.startswith(f"{one.layer}/")}
    assert named == set(owners)
    assert [one.name for one in wrong if "__" in one.name or one.name[0] in "._"] == []


@pytest.mark.parametrize("precision", [*FORMATS])
def test_a_wrong_matrix_has_its_layer(precision, tmp_path):
    model, path = convolutions(), tmp_path / "model.onnx"
    export.to_onnx(model, path, precision=precision)
    for name in ("two", "six"):
        kernel = model.get_layer(name).kernel
        before = np.array(kernel)
        kernel.assign(1.02 * before)
        report = export.verify(model, path)
        assert {constant.layer for constant in report.constants.wrong} == {name}
        assert report.layer == name
        kernel.assign(before)


@pytest.mark.parametrize("names", [True, False])
def test_what_lies_between_layers_without_names_has_none(names, tmp_path, monkeypatch):
    """Either of two convolutions might be it, as tf2onnx leaves them."""
    if not names:
        monkeypatch.setattr(convert, "named_convolutions", nullcontext)
    twice = [layers.DepthwiseConv2D(3, name=name) for name in ("one", "two")]
    model, path = sequential(*twice, shape=(8, 8, 4)), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    model.get_layer("two").bias.assign_add(np.ones(4))
    report = export.verify(model, path)
    assert [constant.layer for constant in report.constants.wrong] == ["two" if names else None]
    assert report.layer == "two"


def test_wrong_constants_stand_in_the_order_of_their_layers(tmp_path):
    """The file computes the short branch before the long one."""
    x = keras.Input((6,), name="x")
    long = layers.Dense(4, "relu", name="second")(layers.Dense(4, "tanh", name="first")(x))
    short = layers.Dense(4, "tanh", name="short")(x)
    model, path = keras.Model(x, layers.Add()([short, long])), tmp_path / "model.onnx"
    randomize(model, 0)
    export.to_onnx(model, path, precision="float16")
    nodes = [node.name.partition("/")[0] for node in onnx.load(path).graph.node]
    assert nodes.index("short") < nodes.index("first")
    for name in ("short", "first"):
        model.get_layer(name).bias.assign_add(np.full(4, 0.5))
    report = export.verify(model, path)
    assert [constant.layer for constant in report.constants.wrong] == ["first", "short"]
    assert report.layer == "first"


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_piece_of_a_wrong_constant(precision, tmp_path):
    """Its numbers are those of the convolution and of the normalization in front of it."""
    model = sequential(
        layers.BatchNormalization(name="scale"),
        layers.Conv2D(4, 3, name="conv"),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(3, name="last"),
        shape=(8, 8, 2),
    )
    export.to_onnx(model, tmp_path / "model.onnx", precision=precision)
    model.get_layer("conv").kernel.assign(1.5 * model.get_layer("conv").kernel)
    report = export.verify(model, tmp_path / "model.onnx")
    assert {constant.layer for constant in report.constants.wrong} == {"conv"}
    assert report.layer == "scale"
    assert report.notes == [
        "in the file `scale`, `conv` are one piece, and any of them may be wrong"
    ]


def test_no_word_of_a_piece_that_is_right(tmp_path, monkeypatch):
    """The search may be misled by rounding; a wrong constant is not."""
    model, path = mlp(), tmp_path / "model.onnx"
    export.to_onnx(model, path, precision="float16")
    model.get_layer("four").kernel.assign(1.5 * model.get_layer("four").kernel)

    monkeypatch.setattr(pipeline, "look_at_layers", lambda *args, **options: ("one", "two"))
    report = export.verify(model, path)
    assert (report.layer, report.notes) == ("four", [])


@pytest.mark.parametrize("precision", [*FORMATS])
def test_names_in_other_formats_tell_nothing_of_the_process(precision, rng):
    model = convolutions()
    graph = trace(model)
    file = ir.to_proto(convert_graph(graph, 18)).SerializeToString()
    files = set()
    for turn in range(3):
        other = ir.from_proto(onnx.load_from_string(file))
        for node in other.graph if turn else ():
            node.name = _renumbered(node.name, rng)
            for value in node.outputs:
                if not value.is_graph_output():
                    value.name = _renumbered(value.name, rng)
        for value in list(other.graph.initializers.values()) if turn else ():
            value.name = f"constant__{rng.integers(1000, 9999)}"
        other = quantize(other, FORMATS[precision], ())
        settle(other)
        proto = onnx.load_from_string(b"".join(serialize(other)))
        onnx.checker.check_model(proto)
        names = [name for node in proto.graph.node for name in (node.name, *node.output)]
        assert len({*names}) == len(names)
        files.add(proto.SerializeToString(deterministic=True))
    assert len(files) == 1


def _renumbered(name, rng):
    head, separator, place = re.sub(r"__\d+(?=(:\d+)?$)", "", name).partition(":")
    return f"{head}__{rng.integers(1000, 9999)}{separator}{place}"


def test_the_table_of_layers_has_wrong_constants_too(tmp_path):
    model, path = mlp(), tmp_path / "model.onnx"
    model.get_layer("two").beta.assign(np.full(8, -1e4))  # in front of a ReLU that hides all
    export.to_onnx(model, path)
    model.get_layer("one").kernel.assign(1.001 * model.get_layer("one").kernel)
    verdicts = {c.layer: c.passed for c in export.verify(model, path, layers=True).layers}
    assert verdicts == {"one": False, "two": True, "three": True, "four": True}
    model.get_layer("four").bias.assign_add([0.0, 0.1, 0.0])
    found = export.verify(model, path, layers=True)  # outputs tell where it begins
    assert [check.layer for check in found.layers if check.passed is False] == ["four"]
    model.get_layer("four").bias.assign_add([0.0, -0.1, 0.0])
    loose = export.verify(model, path, layers=True, atol=1.0)
    assert all(check.passed for check in loose.layers)


def test_the_layer_of_the_only_wrong_constant(tmp_path):
    """In the file the activation and what is left of the normalization are one piece."""
    x = keras.Input((3,), name="x")
    y = keras.layers.Activation("gelu", name="gelu")(keras.layers.Dense(3, name="dense")(x))
    model = keras.Model(x, keras.layers.BatchNormalization(name="bn")(y))
    randomize(model, 2)
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path)
    proto = onnx.load(path)
    places = [i for i, t in enumerate(proto.graph.initializer) if t.name.startswith("bn/")]
    scale_one(proto, places[-1], 0, 1.01)
    onnx.save(proto, path)
    report = export.verify(model, path)
    assert not report.passed
    assert report.layer == "bn"
    assert [constant.layer for constant in report.wrong_constants] == ["bn"]


def test_a_constant_that_has_taken_up_another(tmp_path):
    """TensorFlow multiplies the scale with the half in the activation, which has no weights."""
    parts = [
        layers.Activation("gelu", name="gelu"),
        layers.BatchNormalization(center=False, name="bn"),
    ]
    model, path = keras.Sequential([keras.Input((4,)), *parts]), tmp_path / "model.onnx"
    model.get_layer("bn").gamma.assign([0.5, 1.5, -1.0, 2.0])
    export.to_onnx(model, path)
    model.get_layer("bn").gamma.assign([0.5, 1.515, -1.0, 2.0])
    report = export.verify(model, path)
    assert [constant.layer for constant in report.wrong_constants][:1] == ["gelu"]
    assert report.layer == "gelu"
    assert report.notes == ["in the file `gelu`, `bn` are one piece, and any of them may be wrong"]


@pytest.mark.parametrize("filters", [1, 2])
def test_the_layer_of_a_convolution_with_one_filter(filters, tmp_path):
    """tf2onnx makes another node of it, without a name."""
    x = keras.Input((8, 8, 2))
    y = layers.Conv2D(filters, 1, name="attention")(x)
    y = layers.Multiply()([x, keras.ops.sigmoid(y)])
    model, path = keras.Model(x, layers.Dense(3)(y)), tmp_path / "model.onnx"
    randomize(model, 1)
    bias = model.get_layer("attention").bias
    bias.assign(1e-5 * bias)
    export.to_onnx(model, path)
    bias.assign(1.01 * bias)
    report = export.verify(model, path)
    assert [constant.layer for constant in report.wrong_constants] == ["attention"]
    assert report.layer == "attention"


def test_a_wrong_constant_of_a_layer_that_is_called_twice(tmp_path):
    """The file holds it once, by the name of the one or the other call."""
    x = keras.Input((5, 3), name="x")
    shared, norm = layers.Dense(4, name="shared"), layers.BatchNormalization(name="bn")
    ends = [norm(shared(layers.Activation(name)(x))) for name in ("tanh", "sigmoid")]
    model = keras.Model(x, layers.Subtract()(ends))
    randomize(model, 3)
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path)
    shared.kernel.assign(1.5 * shared.kernel)
    report = export.verify(model, path)
    assert [constant.folded for constant in report.wrong_constants] == [("bn", "bn_1")]
    assert report.layer == "shared"
    (note,) = report.notes
    assert note.startswith("in the file `shared`, `bn")
