"""The steps of recurrent operators compute what the operators do, at every batch."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from kerasdl.export.onnx_graphs.steps import LARGEST, write_steps

TIME, FEATURES, UNITS = 5, 4, 3
GATES = {"GRU": 3, "RNN": 1, "LSTM": 4}
USUAL = {"GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
FUNCTIONS = {
    "Affine": lambda x: x,
    "Elu": lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0))),
    "HardSigmoid": lambda x: np.clip(0.3 * x + 0.4, 0, 1),
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Tanh": np.tanh,
}
NUMBERS = {"Affine": (1.0, 0.0), "Elu": (0.7,), "HardSigmoid": (0.3, 0.4)}
READ = ["all", "last", "both"]


def operator(kind, functions, rng, *, direction="forward", state=False, read="both", batch="n",
             after=0, time=TIME, dtype="float32", **attributes):  # fmt: skip
    """A model of one operator with random weights, and its weights."""
    ways = 2 if direction == "bidirectional" else 1
    width = GATES[kind] * UNITS
    weights = {
        "w": rng.normal(size=(ways, width, FEATURES)),
        "r": rng.normal(size=(ways, width, UNITS)),
        "b": rng.normal(size=(ways, 2 * width)),
    }
    # Small enough that states do not grow from step to step.
    weights = {name: (0.4 * array).astype(dtype) for name, array in weights.items()}
    attributes |= {
        "hidden_size": UNITS,
        "direction": direction,
        "activations": functions,
        "activation_alpha": [NUMBERS[name][0] for name in functions if name in NUMBERS],
        "activation_beta": [
            NUMBERS[name][1] for name in functions if len(NUMBERS.get(name, ())) > 1
        ],
    }
    attributes |= {"linear_before_reset": after} if kind == "GRU" else {}
    attributes = {name: value for name, value in attributes.items() if value != []}
    outputs = {"all": ["y", ""], "last": ["", "y_h"], "both": ["y", "y_h"]}[read]
    given = ["x", "w", "r", "b", "", "h"] if state else ["x", "w", "r", "b"]
    node = helper.make_node(kind, given, outputs, name="layer", **attributes)
    shapes = {
        "x": (time, batch, FEATURES),
        "h": (ways, batch, UNITS),
        "y": (time, ways, batch, UNITS),
        "y_h": (ways, batch, UNITS),
    }
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = {
        name: helper.make_tensor_value_info(name, number, shape) for name, shape in shapes.items()
    }
    graph = helper.make_graph(
        [node],
        "model",
        [ends["x"], ends["h"]] if state else [ends["x"]],
        [ends[name] for name in outputs if name],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model, weights


def by_formula(kind, functions, weights, x, h, direction, after):
    """What ONNX' definition says, in float64."""
    weights = {name: array.astype("float64") for name, array in weights.items()}
    each = len(functions) // weights["w"].shape[0]
    steps, last = [], []
    for way, (w, r, b) in enumerate(zip(*weights.values(), strict=True)):
        backwards = direction == "reverse" or way == 1
        own = [FUNCTIONS[name] for name in functions[way * each : (way + 1) * each]]
        state, found = h[way].astype("float64"), []
        wb, rb = np.split(b, 2)
        for now in (x[::-1] if backwards else x).astype("float64"):
            if kind == "RNN":
                state = own[0](now @ w.T + wb + state @ r.T + rb)
            else:
                (wz, wr, wh), (rz, rr, rh) = np.split(w, 3), np.split(r, 3)
                (bz, br, bh), (cz, cr, ch) = np.split(wb, 3), np.split(rb, 3)
                z = own[0](now @ wz.T + state @ rz.T + bz + cz)
                gate = own[0](now @ wr.T + state @ rr.T + br + cr)
                inner = gate * (state @ rh.T + ch) if after else (gate * state) @ rh.T + ch
                state = (1 - z) * own[1](now @ wh.T + inner + bh) + z * state
            found.append(state)
        steps.append(found[::-1] if backwards else found)
        last.append(state)
    return {"y": np.moveaxis(np.array(steps), 0, 1), "y_h": np.array(last)}


def with_steps(model):
    changed = ir.from_proto(model)
    write_steps(changed)
    changed = ir.to_proto(changed)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def outputs_of(model, given):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [end.name for end in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def kinds_in(graph):
    found = Counter()
    for node in graph.node:
        found[node.op_type] += 1
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += kinds_in(attribute.g)
    return found


def check(kind, functions, rng, *, direction="forward", state=False, read="both", after=0):
    model, weights = operator(
        kind, functions, rng, direction=direction, state=state, read=read, after=after
    )
    changed = with_steps(model)
    ways = weights["w"].shape[0]
    kinds = kinds_in(changed.graph)
    assert (kinds["Scan"], kinds[kind], kinds["If"]) == (
        (ways, 1, 1) if kind == "GRU" else (1 * ways, 0, 0)
    )
    for batch in (0, 1, LARGEST[kind], LARGEST[kind] + 1, 40):
        x = rng.normal(size=(TIME, batch, FEATURES)).astype("float32")
        h = rng.normal(size=(ways, batch, UNITS)).astype("float32")
        given = {"x": x, "h": h} if state else {"x": x}
        found = outputs_of(changed, given)
        wanted = by_formula(
            kind, functions, weights, x, h if state else np.zeros_like(h), direction, after
        )
        assert set(found) == {"all": {"y"}, "last": {"y_h"}, "both": {"y", "y_h"}}[read]
        for name, array in found.items():
            np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("state", [False, True])
def test_every_direction_and_result(direction, read, state, rng):
    functions = {"GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
    for kind, after in (("GRU", 0), ("GRU", 1), ("RNN", 0)):
        names = functions[kind] * (2 if direction == "bidirectional" else 1)
        check(kind, names, rng, direction=direction, state=state, read=read, after=after)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_function(function, rng):
    check("RNN", [function], rng)
    for after in (0, 1):
        check("GRU", [function, "Tanh"], rng, after=after)
        check("GRU", ["HardSigmoid", function, "Elu", "Relu"], rng, direction="bidirectional")


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("batch", [0, "n"])
def test_an_empty_batch(kind, batch, dtype, rng):
    """onnxruntime's GRU and LSTM end the process there."""
    model, _ = operator(kind, USUAL[kind], rng, batch=batch, dtype=dtype)
    found = outputs_of(with_steps(model), {"x": np.zeros((TIME, 0, FEATURES), dtype)})
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {"y": (TIME, 1, 0, UNITS), "y_h": (1, 0, UNITS)}
    assert {array.dtype for array in found.values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("batch", [2, "n"])
def test_no_time_at_all(batch, rng):
    """onnxruntime's GRU ends the process there, too."""
    model, _ = operator("GRU", USUAL["GRU"], rng, batch=batch, time="t")
    changed = with_steps(model)
    with pytest.raises(Exception, match="Scan"):
        outputs_of(changed, {"x": np.zeros((0, 2, FEATURES), "float32")})
    # Whose steps cannot be written down has the first state behind none of them.
    model, _ = operator("GRU", USUAL["GRU"], rng, batch=batch, time="t", state=True, clip=3.0)
    h = rng.normal(size=(1, 2, UNITS)).astype("float32")
    given = {"x": np.zeros((0, 2, FEATURES), "float32"), "h": h}
    found = outputs_of(with_steps(model), given)
    np.testing.assert_array_equal(found["y_h"], h)
    assert found["y"].shape == (0, 1, 2, UNITS)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_float16_is_computed_in_float32(kind, direction, rng):
    functions = USUAL[kind] * (2 if direction == "bidirectional" else 1)
    model, weights = operator(kind, functions, rng, direction=direction, dtype="float16")
    changed = with_steps(model)
    for batch in (1, 40):
        x = rng.normal(size=(TIME, batch, FEATURES)).astype("float16")
        h = np.zeros((weights["w"].shape[0], batch, UNITS))
        found = outputs_of(changed, {"x": x})
        wanted = (
            outputs_of(model, {"x": x})
            if kind == "LSTM"
            else by_formula(kind, functions, weights, x, h, direction, 0)
        )
        for name, array in found.items():
            assert array.dtype == np.float16
            np.testing.assert_allclose(array, wanted[name], rtol=2e-3, atol=1e-3)


def test_an_lstm_stays_with_all_its_states(rng):
    model, _ = operator("LSTM", USUAL["LSTM"], rng, state=True)
    model.graph.node[0].input.append("c")
    model.graph.node[0].output.append("y_c")
    state = helper.make_tensor_value_info("c", 1, (1, "n", UNITS))
    model.graph.input.append(state)
    model.graph.output.append(helper.make_tensor_value_info("y_c", 1, (1, "n", UNITS)))
    changed = with_steps(model)
    assert kinds_in(changed.graph)["LSTM"] == kinds_in(changed.graph)["If"] == 1
    for batch in (1, 40):
        x = rng.normal(size=(TIME, batch, FEATURES)).astype("float32")
        h, c = rng.normal(size=(2, 1, batch, UNITS)).astype("float32")
        given = {"x": x, "h": h, "c": c}
        for name, array in outputs_of(model, given).items():
            np.testing.assert_array_equal(outputs_of(changed, given)[name], array)
    empty = {name: array[:, :0] for name, array in given.items()}
    assert outputs_of(changed, empty)["y_c"].shape == (1, 0, UNITS)


@pytest.mark.parametrize(
    ("batch", "kinds"), [(0, {"Scan": 1}), (1, {"GRU": 1}), (16, {"GRU": 1}), (17, {"Scan": 1})]
)
def test_a_fixed_batch_needs_no_branch(batch, kinds, rng):
    model, _ = operator("GRU", ["Sigmoid", "Tanh"], rng, batch=batch)
    found = kinds_in(with_steps(model).graph)
    assert {kind: found[kind] for kind in ("GRU", "If", "Scan") if found[kind]} == kinds


@pytest.mark.parametrize(
    ("functions", "options"),
    [
        (["Sigmoid", "Tanh"], {"clip": 3.0}),
        (["Sigmoid", "LeakyRelu"], {}),
        (["Sigmoid", "Softplus"], {}),
    ],
)
def test_other_operators_stay_where_there_is_a_batch(functions, options, rng):
    model, _ = operator("GRU", functions, rng, **options)
    changed = with_steps(model)
    _has_no_steps(changed)
    x = rng.normal(size=(TIME, 40, FEATURES)).astype("float32")
    for name, array in outputs_of(model, {"x": x}).items():
        np.testing.assert_array_equal(outputs_of(changed, {"x": x})[name], array)
    assert outputs_of(changed, {"x": x[:, :0]})["y_h"].shape == (1, 0, UNITS)
    fixed, _ = operator("GRU", functions, rng, batch=40, **options)
    assert with_steps(fixed) == ir.to_proto(ir.from_proto(fixed))


def _has_no_steps(model):
    kinds = kinds_in(model.graph)
    assert (kinds["GRU"], kinds["If"], kinds["Scan"]) == (1, 1, 0)


def test_another_layout_stays(rng):
    model, _ = operator("GRU", ["Sigmoid", "Tanh"], rng)
    model.graph.node[0].attribute.append(helper.make_attribute("layout", 1))
    changed = ir.from_proto(model)
    write_steps(changed)
    assert [node.op_type for node in changed.graph] == ["GRU"]


def test_lengths_of_sequences_stay(rng):
    model, _ = operator("GRU", ["Sigmoid", "Tanh"], rng)
    model.graph.node[0].input.append("lengths")
    model.graph.input.append(helper.make_tensor_value_info("lengths", 6, ("n",)))
    changed = with_steps(model)
    _has_no_steps(changed)
    for batch in (2, 0):
        x = rng.normal(size=(TIME, batch, FEATURES)).astype("float32")
        found = outputs_of(changed, {"x": x, "lengths": np.full(batch, 3, "int32")})
        assert found["y"].shape == (TIME, 1, batch, UNITS)


def test_numbers_that_are_left_out(rng):
    """What they are then is for onnxruntime to say."""
    model, _ = operator("RNN", ["Elu"], rng)
    kept = [one for one in model.graph.node[0].attribute if one.name != "activation_alpha"]
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.extend(kept)
    assert kinds_in(with_steps(model).graph) == {"RNN": 1}
