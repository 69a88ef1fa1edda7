"""The layer where a wrong file begins to differ is the one that was damaged."""

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import tensorflow as tf
from keras import layers

from kerasdl import export
from kerasdl.export import Report, conversion
from kerasdl.export.graphs.graph import Graph
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.programs.widened import Widened
from kerasdl.export.verifying import inner
from kerasdl.export.verifying.diverging import check_layers, first_wrong
from kerasdl.export.verifying.samples import random_rows
from random_networks import randomize


def chain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu", name="one"),
            layers.BatchNormalization(name="two"),
            layers.Conv2D(4, 3, padding="same", name="three"),
            layers.BatchNormalization(name="four"),
            layers.ELU(name="five"),
            layers.Flatten(name="six"),
            layers.Dropout(0.5, name="seven"),
            layers.Dense(6, activation="tanh", name="eight"),
            layers.Dense(3, activation="softmax", name="nine"),
        ]
    )


@pytest.mark.parametrize("large", [0, 100, 2**20])
def test_large_constants_need_not_be_written_down(large, tmp_path, monkeypatch):
    """The parts of a file that are run again get them as inputs."""
    model = chain()
    randomize(model, 0)
    export.to_onnx(model, tmp_path / "model.onnx")
    model.get_layer("eight").kernel.assign_add(0.1 * np.ones((144, 6), "float32"))
    written = []
    monkeypatch.setattr(inner, "LARGE", large)
    monkeypatch.setattr(inner, "open_session", _noting(written, inner.open_session))
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert report.layer == "eight"
    # The kernel of `eight` has 3.5 kB, the others less than 1 kB each.
    assert (max(written) > 4000) == (large > 1000)


def _noting(sizes, function):
    def call(file, optimized):
        sizes.append(len(file))
        return function(file, optimized=optimized)

    return call


@pytest.mark.parametrize(
    ("damaged", "weight", "named"),
    [
        ("one", "kernel", {"one"}),
        ("one", "bias", {"one"}),
        ("two", "gamma", {"two"}),
        ("two", "moving_mean", {"two"}),
        # The three are one node in the file, but for a shift of `two` at the borders.
        ("three", "kernel", {"two"}),
        ("four", "beta", {"two"}),
        ("eight", "kernel", {"eight"}),
        ("nine", "bias", {"nine"}),
    ],
)
def test_damaged_weight(damaged, weight, named, tmp_path):
    model = chain()
    randomize(model, 0)
    for name in ("two", "four"):
        model.get_layer(name).moving_variance.assign([0.5, 1.0, 2.0, 0.8])
    export.to_onnx(model, tmp_path / "model.onnx")
    variable = getattr(model.get_layer(damaged), weight)
    variable.assign(1.01 * np.array(keras.ops.convert_to_numpy(variable.value)))
    report = export.verify(model, tmp_path / "model.onnx")
    assert not report.passed
    assert report.layer in named


def test_a_branch(tmp_path):
    x = keras.Input((5,))
    left = layers.Dense(4, activation="relu", name="left")(x)
    right = layers.Dense(4, activation="tanh", name="right")(x)
    model = keras.Model(x, layers.Add(name="sum")([left, right]))
    randomize(model, 1)
    export.to_onnx(model, tmp_path / "model.onnx")
    model.get_layer("right").bias.assign([0.0, 0.1, 0.0, 0.0])
    assert export.verify(model, tmp_path / "model.onnx").layer == "right"


def of(*parts, shape=(6,)):
    model = keras.Sequential([keras.Input(shape), *parts])
    randomize(model, 3)
    return model


def broken(model, tmp_path, change):
    """The report with all layers, of a file that `change` has edited."""
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path)
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, path)
    return export.verify(model, path, layers=True)


def nodes(proto, kind):
    return [node for node in proto.graph.node if node.op_type == kind]


def drop(proto, kind):
    """Take out a node; what read it reads its first input."""
    node = nodes(proto, kind)[0]
    proto.graph.node.remove(node)
    for reader in proto.graph.node:
        reader.input[:] = [node.input[0] if x == node.output[0] else x for x in reader.input]


def groups(report):
    return list(dict.fromkeys(check.group for check in report.layers if check.passed is False))


@pytest.mark.parametrize("shape", [(4, 4), (5, 5, 2), (3, 4, 4)])
def test_an_axis_that_is_not_swapped(shape, tmp_path):
    """All numbers are there, in another order."""
    order = {(4, 4): (2, 1), (5, 5, 2): (2, 1, 3), (3, 4, 4): (1, 3, 2)}[shape]
    parts = [layers.Activation("tanh", name="one"), layers.Permute(order, name="two")]
    model = of(*parts, layers.Activation("elu"), layers.Flatten(), layers.Dense(3), shape=shape)
    report = broken(model, tmp_path, lambda proto: drop(proto, "Transpose"))
    assert (report.layer, groups(report)) == ("two", [("two",)])


def test_a_dropped_layer_whose_input_is_read_elsewhere(tmp_path):
    x = keras.Input((5,))
    y = layers.Dense(5, name="dense")(x)
    model = keras.Model(x, layers.Add(name="sum")([layers.ReLU(name="bend")(y), y]))
    randomize(model, 0)
    report = broken(model, tmp_path, lambda proto: drop(proto, "Relu"))
    assert groups(report) == [("bend",)]


def _beside_itself(layer, x):
    return layers.Subtract()([layer(layers.Activation(name)(x)) for name in ("tanh", "sigmoid")])


def _on_itself(layer, x):
    return layer(layer(x))


@pytest.mark.parametrize("twice", [_beside_itself, _on_itself])
def test_a_layer_that_is_called_twice(twice, tmp_path):
    x = keras.Input((5,))
    shared = layers.Dense(5, name="shared")
    model = keras.Model(x, layers.Dense(2, name="last")(twice(shared, x)))
    randomize(model, 0)
    export.to_onnx(model, tmp_path / "model.onnx")
    shared.kernel.assign(shared.kernel * 1.01)
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert groups(report) == [("shared",), ("shared_1",)]


def test_a_later_call_of_a_layer_is_told_as_that(tmp_path):
    """No layer has the name that it has in the graph."""
    x, path = keras.Input((5,), name="x"), tmp_path / "model.onnx"
    shared = layers.Dense(5, "tanh", name="shared")
    model = keras.Model(x, layers.Dense(2, name="last")(shared(shared(x))))
    randomize(model, 0)
    export.to_onnx(model, path)
    proto = onnx.load(path)
    second = [node for node in proto.graph.node if node.op_type == "Tanh"][1]
    second.op_type = "Sigmoid"
    onnx.save(proto, path)
    report = export.verify(model, path)
    assert report.layer == "shared_1"
    assert "`shared_1` is call 2 of layer `shared`" in report.notes


def test_a_piece_is_stated_as_one(tmp_path):
    parts = [layers.Dense(4, name="a"), layers.BatchNormalization(name="b")]
    model = of(*parts, layers.ReLU(name="c"), layers.Dense(3, name="d"))
    export.to_onnx(model, tmp_path / "model.onnx")
    checks = {c.layer: c for c in export.verify(model, tmp_path / "model.onnx", layers=True).layers}
    assert all(check.passed for check in checks.values())
    assert checks["a"].held is None
    assert (checks["a"].error, checks["a"].place) == (None, "inside a + b")
    assert checks["b"].group == ("a", "b")
    assert 0 <= checks["b"].error <= checks["b"].allowed < 1e-2
    model.get_layer("b").epsilon = 0.1
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert (report.layer, groups(report)) == ("a", [("a", "b")])
    verdicts = {check.layer: check.passed for check in report.layers}
    assert verdicts == {"a": False, "b": False, "c": True, "d": True}


def test_two_faults(tmp_path):
    x = keras.Input((5,))
    ends = [
        layers.Dense(2, name=f"{name}2")(layers.Dense(3, "tanh", name=name)(x)) for name in "ab"
    ]
    model = keras.Model(x, ends)
    randomize(model, 0)
    export.to_onnx(model, tmp_path / "model.onnx")
    for name in ("a", "b2"):
        model.get_layer(name).kernel.assign(model.get_layer(name).kernel * 1.1)
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert groups(report) == [("a",), ("b2",)]
    assert {check.layer for check in report.layers if check.passed} == {"b", "a2"}


def test_two_outputs(tmp_path):
    x = keras.Input((5,))
    first = layers.Dense(3, name="first")(x)
    second = layers.Dense(3, name="second")(layers.ELU(name="bend")(first))
    model = keras.Model(x, [first, second])
    randomize(model, 0)
    report = broken(model, tmp_path, lambda proto: drop(proto, "Elu"))
    assert groups(report) == [("bend",)]


@pytest.mark.parametrize("layer", [layers.LSTM(3, name="it"), layers.GRU(3, name="it")])
def test_inside_a_recurrent_layer(layer, tmp_path):
    model = of(layers.Dense(4), layer, layers.Dense(2), shape=(5, 3))
    export.to_onnx(model, tmp_path / "model.onnx")
    variable = layer.cell.recurrent_kernel
    variable.assign(variable * 1.02)
    assert export.verify(model, tmp_path / "model.onnx").layer == "it"


def test_three_passes(tmp_path, monkeypatch):
    model = chain()
    export.to_onnx(model, tmp_path / "model.onnx")
    program, passes = KerasProgram(model), []
    run = Graph.__call__

    def counted(graph, *tensors, **options):
        passes.append(graph)
        return run(graph, *tensors, **options)

    monkeypatch.setattr(Graph, "__call__", counted)
    model.get_layer("eight").bias.assign_add(np.ones(6))
    (rows,) = random_rows(program)
    checks = check_layers(program, tmp_path / "model.onnx", rows.arrays)
    assert first_wrong(checks) == ("eight",)
    assert len(passes) == 3


class Stubborn(layers.Layer):
    """Takes float32 and nothing else."""

    def call(self, x):
        return tf.matmul(x, tf.eye(6))


@pytest.mark.parametrize("widened", [True, False])
def test_where_layers_have_no_float64_run(widened, tmp_path, monkeypatch):
    if not widened:
        monkeypatch.setattr(Widened, "__call__", lambda *arguments: 1 / 0)
    model = of(layers.Dense(6, name="one"), Stubborn(name="two"), layers.Dense(2, name="three"))
    export.to_onnx(model, tmp_path / "model.onnx")
    model.get_layer("three").kernel.assign(model.get_layer("three").kernel * 1.01)
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert (report.float64_failure is None) == widened
    assert ("no float64 run:" in report.to_text()) != widened
    assert report.layer == "three"
    assert [check.passed for check in report.layers] == [True, True, False]


def test_a_half_precision_file(tmp_path):
    model = of(layers.Dense(6, activation="tanh", name="one"), layers.Dense(2, name="two"))
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path, precision="float16")
    assert all(check.passed for check in export.verify(model, path, layers=True).layers)
    model.get_layer("two").kernel.assign(model.get_layer("two").kernel * 1.2)
    assert export.verify(model, path).layer == "two"


def test_the_table(tmp_path):
    model = chain()
    randomize(model, 0)
    export.to_onnx(model, tmp_path / "model.onnx")
    assert export.verify(model, tmp_path / "model.onnx").layers == []
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    graph = KerasProgram(model).graph
    assert [check.layer for check in report.layers] == [node.name for node in graph.nodes]
    assert [check.kind for check in report.layers][:2] == ["Conv2D", "BatchNormalization"]
    assert report.layers[0].shape == (None, 6, 6, 4)
    plain = report.to_dict()["layers"]
    assert plain[0]["layer"] == "one"
    assert Report.from_json(report.to_json()).layers == report.layers
    text = report.to_text().splitlines()
    start = text.index("Layer by layer")
    rows = text[start + 1 : start + 2 + len(report.layers)]
    assert " ".join(rows[0].split()) == "layer kind shape error allowed in the file as"
    place = rows[0].index("kind")
    assert all(row[place - 2 : place] == "  " and row[place] != " " for row in rows)
    assert "(?, 6, 6, 4)" in rows[1]


def test_a_saved_model_has_no_layers(tmp_path):
    model = of(layers.Dense(2))
    model.export(tmp_path / "saved", verbose=False)
    export.to_onnx(tmp_path / "saved", tmp_path / "model.onnx")
    report = export.verify(tmp_path / "saved", tmp_path / "model.onnx", layers=True)
    assert report.passed
    assert report.layers == []
    assert any("no Keras layers that could be compared" in note for note in report.notes)


def test_an_output_without_axes(tmp_path):
    """One number for the whole batch: no rows, and no mean of squares."""
    x = keras.Input((3,), name="x")
    model = keras.Model(x, keras.ops.mean(layers.Dense(4, activation="tanh", name="one")(x)))
    randomize(model, 0)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.outputs[0].shape == ()
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert [check.passed for check in report.layers] == [True, True]
    model.get_layer("one").bias.assign_add([0.0, 0.5, 0.0, 0.0])
    report = export.verify(model, tmp_path / "model.onnx")
    assert not report.passed
    assert report.layer == "one"


class Fixed(layers.Layer):
    """The same matrix whatever comes in."""

    def __init__(self, matrix, **options):
        super().__init__(**options)
        self.matrix = matrix.astype("float32")

    def call(self, x):
        return tf.constant(self.matrix)


def with_a_constant_output(reader=False):
    """One output is a constant, one is computed, perhaps from it, and one is the input itself."""
    x = keras.Input((3,), name="x")
    fixed = Fixed(np.arange(9).reshape(3, 3) / 4, name="fixed")(x)
    y = layers.Dense(3, name="dense")(x)
    y = keras.ops.matmul(y, fixed) if reader else y
    model = keras.Model(x, [fixed, y, x])
    randomize(model, 0)
    return model


def add_to_the_fixed(proto):
    name = proto.graph.output[0].name
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    array = onnx.numpy_helper.to_array(tensor) + np.float32(0.5)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))


@pytest.mark.parametrize("reader", [False, True])
def test_an_output_that_is_a_constant(reader, tmp_path):
    model, path = with_a_constant_output(reader), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    report = export.verify(model, path, layers=True)
    assert report.passed
    assert {check.passed for check in report.layers} == {True}
    assert next(check.held for check in report.layers if check.layer == "fixed") == "fixed"
    whole = onnx.load(path)
    model.get_layer("dense").bias.assign_add([1.0, 0.0, 0.0])
    report = export.verify(model, path, layers=True)
    assert (report.layer, groups(report)) == ("dense", [("dense",)])
    model.get_layer("dense").bias.assign_add([-1.0, 0.0, 0.0])
    add_to_the_fixed(whole)
    onnx.save(whole, path)
    report = export.verify(model, path, layers=True)
    assert (report.layer, groups(report)) == ("fixed", [("fixed",)])
    assert [constant.layer for constant in report.constants.wrong] == ["fixed"]


def test_a_wrong_output_is_no_part_of_what_reads_it(tmp_path):
    """A product with the identity should be its input, which the file holds in any case."""
    x = keras.Input((3,), name="x")
    one = Fixed(np.eye(3), name="one")(x)
    model = keras.Model(x, [one, keras.ops.matmul(x, one)])
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path)
    proto = onnx.load(path)
    add_to_the_fixed(proto)
    onnx.save(proto, path)
    assert export.verify(model, path).layer == "one"


def test_an_export_that_fails_with_a_constant_output(tmp_path, monkeypatch):
    real = conversion.convert_graph

    def damaged(*arguments):
        model = real(*arguments)
        values = model.graph.initializers.values()
        value = next(value for value in values if value.is_graph_output())
        value.const_value = ir.tensor(value.const_value.numpy() + 1, name=value.name)
        return model

    monkeypatch.setattr(conversion, "convert_graph", damaged)
    with pytest.raises(export.ParityError, match="begin to differ at layer `fixed`") as error:
        export.to_onnx(with_a_constant_output(), tmp_path / "model.onnx")
    assert error.value.layer == "fixed"


@pytest.mark.parametrize("times", [1, 2])
def test_an_output_that_is_an_input(times, tmp_path):
    x = keras.Input((3,), name="x")
    model, path = keras.Model(x, [x] * times), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    report = export.verify(model, path, layers=True)
    assert (report.passed, report.layers) == (True, [])


def behind_relu(kind):
    x = keras.Input((6,), name="x")
    y = keras.layers.Dense(5, activation="relu", name="dense")(x)
    y = {
        "absolute": keras.ops.abs,
        "leaky": keras.layers.LeakyReLU(0.1, name="leaky"),
        "prelu": keras.layers.PReLU(name="prelu"),
    }[kind](y)
    return x, y


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    ("kind", "operator"), [("absolute", "Abs"), ("leaky", "LeakyRelu"), ("prelu", "Neg")]
)
def test_a_layer_that_does_nothing_to_what_it_is_given(kind, operator, behind, tmp_path):
    """Behind a ReLU its numbers are there twice, and what the file makes of it is another value."""
    x, y = behind_relu(kind)
    if behind:
        y = keras.layers.Dense(2, name="last")(keras.layers.Activation("tanh", name="tanh")(y))
    model = keras.Model(x, y)
    randomize(model, 3)
    path = tmp_path / "model.onnx"
    export.to_onnx(model, path)
    proto = onnx.load(path)
    node = [node for node in proto.graph.node if node.op_type == operator][-1]
    node.op_type = "Identity" if operator == "Neg" else "Neg"
    del node.attribute[:]
    onnx.save(proto, path)
    report = export.verify(model, path, layers=True)
    assert not report.passed
    assert report.layer.startswith(kind)


@pytest.mark.parametrize("name", ["resize", "argsort"])
def test_layers_of_right_files_in_float16_are_right(name, tmp_path):
    """Inner values that are looked at are rounded to float16 one by one, where onnxruntime else
    computes on in float32; and a few places of equal numbers may be others."""
    x = keras.Input((None, 9, 3), name="x") if name == "resize" else keras.Input((40,), name="x")
    call = {"resize": layers.Resizing(5, 12), "argsort": keras.ops.argsort}[name]
    model = keras.Model(x, call(x))
    export.to_onnx(model, tmp_path / "model.onnx", precision="float16")
    report = export.verify(model, tmp_path / "model.onnx", layers=True)
    assert report.passed
    assert [check.passed for check in report.layers] == [True]
    told = {(check.error, check.tolerance) for check in report.checks}
    assert (report.layers[0].error, report.layers[0].allowed) in told


def test_a_given_tolerance_makes_no_layer_right(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="a"), layers.ReLU()])
    export.to_onnx(model, tmp_path / "model.onnx")
    model.layers[0].bias.assign([1e-2, 0, 0, 0])
    report = export.verify(model, tmp_path / "model.onnx", layers=True, atol=1.0)
    assert report.outputs_agree
    assert [check.passed for check in report.layers] == [False, True]
