"""Whatever order and numbers tf2onnx has chosen, the file is the same."""

import re
import subprocess
import sys
import textwrap

import keras
import onnx
import onnx_ir as ir
import pytest
from keras import layers

from kerasdl.export.canonical import settle
from kerasdl.export.convert import convert_graph
from kerasdl.export.rewrites import rewrite
from kerasdl.export.serialize import serialize
from kerasdl.export.trace import trace
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
    rewrite(graph)
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
    differing = [name for name, content in folders[0].items() if folders[1][name] != content]
    # A loop that TensorFlow makes of a scatter without a rule of its own.
    assert len(differing) <= 1
