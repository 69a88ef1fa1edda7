"""Whatever order and numbers tf2onnx has chosen, the file is the same."""

import re
import subprocess
import sys
import textwrap

import keras
import numpy as np
import onnx
import onnx_ir as ir
import pytest
import tensorflow as tf
from keras import layers, ops

from kerasdl import export
from kerasdl.export.converting.convert import convert_graph
from kerasdl.export.files.serialize import serialize
from kerasdl.export.graphs.trace import trace
from kerasdl.export.onnx_graphs.canonical import settle
from random_networks import randomize


def branches():
    x = inputs = keras.Input((6, 6, 3), name="x")
    left = layers.Conv2D(4, 3, padding="same", activation="gelu")(x)
    right = layers.LayerNormalization()(layers.Conv2D(4, 1)(x))
    y = layers.Concatenate()([left, right, layers.Add()([left, right])])
    return keras.Model(inputs, [layers.GlobalAveragePooling2D()(y), layers.Flatten()(y)])


def attention():
    x = inputs = keras.Input((5, 8), name="x")
    x = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    return keras.Model(inputs, layers.Dense(3)(x))


def looping():
    x = inputs = keras.Input((5, 3), name="x")
    return keras.Model(inputs, layers.SimpleRNN(4, activation="gelu", return_sequences=True)(x))


def vocabulary():
    x = keras.Input((2,), dtype="int64", name="x")
    return keras.Model(x, layers.IntegerLookup(vocabulary=[7, 1, 5])(x))


NUMBER = re.compile(r"__\d+(?=(:\d+)?$)")
MODELS = {f.__name__: f for f in (branches, attention, looping, vocabulary)}


def converted(build):
    model = build()
    randomize(model, 0)
    graph = trace(model)
    return convert_graph(graph, 18)


def disturbed(model, rng):
    """The same graph, as another process might have written it."""
    proto = ir.to_proto(model)
    _disturb(proto.graph, rng)
    return ir.from_proto(proto)


def _disturb(graph, rng):
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _disturb(attribute.g, rng)
        if node.op_type in ("And", "Or"):
            turned = list(node.input)[::-1]
            if len({NUMBER.sub("", name) for name in turned}) == 2:
                node.input[:] = turned
        if node.op_type == "LabelEncoder":
            lists = [a for a in node.attribute if a.ints or a.strings]
            order = rng.permutation(len(lists[0].ints or lists[0].strings))
            for attribute in lists:
                values = attribute.ints or attribute.strings
                values[:] = [values[place] for place in order]
    _shuffle(graph, rng)


def _shuffle(graph, rng):
    """Another order in which the nodes can run."""
    waiting, ordered = list(graph.node), []
    made = {name for node in waiting for name in node.output}
    known = set()
    while waiting:
        ready = [n for n in waiting if not (_needs(n) & made) - known]
        node = ready[rng.integers(len(ready))]
        waiting.remove(node)
        ordered.append(node)
        known |= set(node.output)
    del graph.node[:]
    graph.node.extend(ordered)
    constants = [graph.initializer[i] for i in rng.permutation(len(graph.initializer))]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _needs(node):
    needed = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            needed |= {name for inner in attribute.g.node for name in _needs(inner)}
            needed |= {end.name for end in attribute.g.output}
    return needed


def renumbered(model, rng):
    """Other running numbers."""
    numbers = iter(rng.permutation(10_000))
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in [v for node in graph for v in node.outputs]:
            if value.name and not value.is_graph_output():
                value.name = NUMBER.sub("", value.name)
                end = value.name.rpartition(":")
                body, tail = (end[0], ":" + end[2]) if end[1] else (value.name, "")
                value.name = f"{body}__{next(numbers)}{tail}"
        for value in list(graph.initializers.values()):
            value.name = f"constant{next(numbers)}"
            value.metadata_props["folded_from"] = value.name
    return model


@pytest.mark.parametrize("name", MODELS)
def test_orders_and_numbers_do_not_matter(name, rng):
    file = ir.to_proto(converted(MODELS[name])).SerializeToString()
    files = set()
    for turn in range(6):
        other = ir.from_proto(onnx.load_from_string(file))
        if turn:
            other = renumbered(disturbed(other, rng), rng)
        settle(other)
        content = b"".join(serialize(other))
        assert b"folded_from" not in content
        onnx.checker.check_model(onnx.load_from_string(content))
        files.add(content)
    assert len(files) == 1


def test_the_names_say_what_a_constant_is_for():
    model = converted(branches)
    settle(model)
    convolutions = [node for node in model.graph if node.op_type == "Conv"]
    for node in convolutions:
        assert [value.name for value in node.inputs[1:]] == [f"{node.name}.W", f"{node.name}.B"]
    names = [value.name for node in model.graph for value in node.outputs]
    assert len(set(names)) == len(names)


class Call(layers.Layer):
    """A layer of one function, and of a Dense layer that the function may call."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function, self.dense = function, layers.Dense(3)

    def build(self, shape):
        self.dense.build(shape)

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        return self.function(x, self.dense)


def condition(x, dense):
    return ops.cond(ops.max(x) > 1000.0, lambda: x * 2.0, lambda: x - 1.0)


def conditions_in_a_condition(x, dense):
    return ops.cond(
        ops.max(x) > 0.5,
        lambda: ops.cond(ops.min(x) > 0.0, lambda: dense(x) * 2.0, lambda: dense(x) - 1.0),
        lambda: ops.cond(ops.min(x) > -2.0, lambda: dense(x) + 7.0, lambda: x * 3.0),
    )


def constants_as_branches(x, dense):
    return x + ops.cond(ops.max(x) > 0.5, lambda: 3.0 * ops.ones(3), lambda: 5.0 * ops.ones(3))


def while_loop(x, dense):
    return ops.while_loop(
        lambda i, y: ops.logical_and(i < 4, ops.max(y) < 1e6),
        lambda i, y: (i + 1, ops.tanh(dense(y)) * 1.5),
        (0, x),
    )[1]


def conditions_in_a_loop(x, dense):
    return ops.while_loop(
        lambda y: ops.cond(ops.max(y) > 5.0, lambda: ops.max(y) < 90.0, lambda: ops.min(y) < 50.0),
        lambda y: (ops.cond(ops.max(y) > 5.0, lambda: y * 2.0, lambda: ops.abs(y) + 1.0),),
        (x,),
    )[0]


def loop_in_a_condition(x, dense):
    return ops.cond(
        ops.max(x) > 0.5,
        lambda: ops.while_loop(lambda y: ops.max(y) < 1e3, lambda y: (y * 2.0,), (x,))[0],
        lambda: x - 1.0,
    )


def fori_loop(x, dense):
    return ops.fori_loop(0, 5, lambda i, y: y * 1.25 + 0.5, x)


def row_by_row(x, dense):
    return ops.map(lambda row: row * 2.0 + ops.sum(row) / 3.0, x)


def vectorized(x, dense):
    return ops.vectorized_map(lambda row: row * 2.0 + ops.sum(row) / 3.0, x)


def sequential(*stack, shape=(3,)):
    model = keras.Sequential([keras.Input(shape, name="x"), *stack], name="model")
    randomize(model, 0)
    return model


FUNCTIONS = (
    condition,
    conditions_in_a_condition,
    constants_as_branches,
    while_loop,
    conditions_in_a_loop,
    loop_in_a_condition,
    fori_loop,
    row_by_row,
    vectorized,
)
BRANCHING = {
    **{f.__name__: lambda f=f: sequential(Call(f, name="own")) for f in FUNCTIONS},
    "names like those of functions": lambda: sequential(
        Call(condition, name="my.cond_3_x-1"),
        layers.Dense(3, name="a_cond_true_25_b"),
        Call(while_loop, name="while_body_7"),
    ),
    "LSTM": lambda: sequential(
        layers.Masking(), layers.LSTM(4, return_sequences=True), shape=(5, 3)
    ),
    "GRU": lambda: sequential(layers.Masking(), layers.GRU(4), shape=(5, 3)),
    "bidirectional": lambda: sequential(
        layers.Masking(), layers.Bidirectional(layers.LSTM(2)), shape=(5, 3)
    ),
}


def graph_in(path):
    """The bytes of a file without its metadata, which tell of a measurement."""
    return onnx.load(path).graph.SerializeToString(deterministic=True)


def move_the_counter_of_functions():
    for _ in range(7):
        branching = tf.function(lambda x: tf.cond(x > 1.0, lambda: x + 1.0, lambda: x * 2.0))
        branching(tf.constant(1.0))


def graphs_in(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_in(attribute.g)


LONG = {"bidirectional", "LSTM", "conditions_in_a_condition", "vectorized"}


def branching(names):
    """The long ones are slow tests."""
    return [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in names]


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", branching(BRANCHING))
def test_the_functions_of_tensorflow_leave_no_number(name, tmp_path):
    model = BRANCHING[name]()
    export.to_onnx(model, tmp_path / "one.onnx")
    move_the_counter_of_functions()
    export.to_onnx(model, tmp_path / "other.onnx")
    assert graph_in(tmp_path / "one.onnx") == graph_in(tmp_path / "other.onnx")
    assert not re.search(rb"unk__\d|folded_from", graph_in(tmp_path / "one.onnx"))
    report = export.verify(model, tmp_path / "one.onnx")
    assert report.passed
    assert report.constants is not None
    assert report.constants.wrong == ()
    graphs = list(graphs_in(onnx.load(tmp_path / "one.onnx").graph))
    nodes = [node.name for graph in graphs for node in graph.node]
    inner = [graph.name for graph in graphs[1:]]
    values = [end.name for graph in graphs[1:] for end in graph.input]
    values += [tensor.name for graph in graphs for tensor in graph.initializer]
    values += [value for graph in graphs for node in graph.node for value in node.output if value]
    for names in (nodes, inner, values):
        assert len(set(names)) == len(names)
    assert {graph.doc_string for graph in graphs} == {""}
    assert {graph.rpartition(".")[0] for graph in inner} <= set(nodes)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", branching(name for name in BRANCHING if "bi" not in name))
def test_the_names_of_nodes_begin_with_their_layer(name, tmp_path):
    model = BRANCHING[name]()
    export.to_onnx(model, tmp_path / "model.onnx")
    _, *graphs = graphs_in(onnx.load(tmp_path / "model.onnx").graph)
    scopes = tuple(f"{layer.name}/" for layer in model.layers)
    assert [n.name for g in graphs for n in g.node if not n.name.startswith(scopes)] == []


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["condition", "constants_as_branches", "while_loop"])
def test_a_wrong_constant_in_a_branch_is_found(name, tmp_path):
    model, path = BRANCHING[name](), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    proto = onnx.load(path)
    _, *graphs = graphs_in(proto.graph)
    tensors = [tensor for graph in graphs for tensor in graph.initializer if tensor.data_type == 1]
    tensor = next(t for t in tensors if onnx.numpy_helper.to_array(t).any())
    array = (1.5 * onnx.numpy_helper.to_array(tensor)).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(proto, path)
    report = export.verify(model, path)
    assert not report.passed
    (wrong,) = report.constants.wrong
    assert (wrong.name, wrong.layer) == (tensor.name, "own")
    assert wrong.error == pytest.approx(0.5)


PROGRAM = """
    import sys
    import zoo_models as zoo
    from kerasdl import export
    for number, name in enumerate(sorted(zoo.CASES)):
        try:
            export.to_onnx(zoo.build(name), f"{sys.argv[1]}/{number}.onnx")
        except export.ExportError:
            continue
"""


@pytest.mark.slow
def test_every_model_of_the_zoo_in_two_processes(tmp_path, request):
    folders = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), folder],
            env={
                "PYTHONHASHSEED": seed,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(request.config.rootpath / "tools"),
            },
            check=True,
            capture_output=True,
        )
        folders.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert len(folders[0]) > 550
    assert set(folders[0]) == set(folders[1])
    assert [name for name, content in folders[0].items() if folders[1][name] != content] == []
