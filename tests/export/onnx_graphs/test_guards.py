"""What onnxruntime's optimizer gets wrong comes out right."""

import itertools

import keras
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from keras import layers, ops
from keras.initializers import Constant
from onnx import TensorProto, helper, numpy_helper

from kerasdl import export
from kerasdl.export import conversion
from kerasdl.export.files.runtime import open_session
from kerasdl.export.onnx_graphs.guards import guard
from random_networks import randomize

POOLS = {
    "1D": ((9, 3), layers.Conv1D, layers.ZeroPadding1D, layers.MaxPooling1D),
    "2D": ((9, 8, 3), layers.Conv2D, layers.ZeroPadding2D, layers.MaxPooling2D),
    "3D": ((5, 6, 7, 2), layers.Conv3D, layers.ZeroPadding3D, layers.MaxPooling3D),
}


def padded(rank, free=False):
    shape, convolution, padding, pooling = POOLS[rank]
    if free:
        shape = (*[None] * (len(shape) - 1), shape[-1])
    x = inputs = keras.Input(shape)
    x = convolution(3, 1, kernel_initializer="zeros", bias_initializer=Constant(-5.0))(x)
    return keras.Model(inputs, pooling(3, strides=2)(padding(1)(x)))


@pytest.mark.parametrize("rank", POOLS)
@pytest.mark.parametrize("opset", [13, 18, 23])
@pytest.mark.parametrize("free", [False, True])
def test_maxima_over_zeros_at_the_border(rank, opset, free, tmp_path):
    model = padded(rank, free=free)
    report = export.to_onnx(model, tmp_path / "model.onnx", opset=opset)
    assert report.passed
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.ones((2, *(size or 8 for size in model.input_shape[1:])), "float32")
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    # Where a border of zeros is in the window, it is the largest.
    assert set(np.unique(np.where(np.abs(y) < 1e-44, 0, y))) <= {-5.0, 0.0}
    assert y[0].max() < 1e-44
    np.testing.assert_array_equal(np.round(y), np.round(model.predict(x, verbose=0)))


@pytest.mark.parametrize("rank", ["2D"])
def test_without_the_guard_the_runtime_is_wrong(rank, tmp_path, monkeypatch):
    """If this fails, onnxruntime has been mended, and the guard can go."""
    monkeypatch.setattr(conversion, "guard", lambda model, half: None)
    with pytest.raises(export.ParityError, match="disagree"):
        export.to_onnx(padded(rank), tmp_path / "model.onnx")


def pooled(front, padding=1, pool="valid", size=3, extent=8):
    x = keras.Input((extent, extent, 3), name="x")
    y = layers.ZeroPadding2D(padding)(front(layers.Conv2D(4, 3, padding="same")(x)))
    model = keras.Model(x, layers.MaxPooling2D(size, strides=2, padding=pool)(y))
    randomize(model, 0)
    return model


@pytest.mark.parametrize("front", ["relu", "relu6", "sigmoid", "softplus", ops.abs])
def test_zeros_are_no_others_behind_a_relu(front, tmp_path):
    model = pooled(layers.Activation(front) if isinstance(front, str) else front)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert "Pad" not in report.nodes
    (pool,) = (n for n in onnx.load(tmp_path / "model.onnx").graph.node if n.op_type == "MaxPool")
    assert [list(a.ints) for a in pool.attribute if a.name == "pads"] == [[1, 1, 1, 1]]


@pytest.mark.parametrize("extent", [1, 2, 8])
@pytest.mark.parametrize("padding", [((0, 2), (1, 1)), ((1, 1), (2, 0)), ((2, 0), (0, 2))])
def test_small_images_of_any_size_in_longer_windows(extent, padding, tmp_path, rng):
    model = pooled(layers.ReLU(), padding=padding, extent=None)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert "Pad" not in report.nodes
    x = rng.normal(size=(2, extent, extent, 3)).astype("float32")
    for optimized in (False, True):
        (y,) = open_session(tmp_path / "model.onnx", optimized).run(None, {"x": x})
        np.testing.assert_allclose(y, model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"front": layers.Activation("tanh")},
        {"front": lambda x: ops.clip(x, -1.0, 6.0)},
        {"front": lambda x: ops.clip(x, -6.0, -1.0)},
        {"front": layers.ReLU(), "padding": 2, "size": 2},
        {"front": layers.ReLU(), "padding": ((0, 3), (0, 0))},
        {"front": layers.ReLU(), "padding": ((0, 0), (3, 0))},
        {"front": layers.ReLU(), "padding": 2, "pool": "same"},
        {"front": layers.ReLU(), "padding": ((1, 2), (2, 1)), "extent": None},
    ],
    ids=["tanh", "clip", "negative", "wide", "wide behind", "wide in front", "pads itself", "free"],
)
def test_zeros_that_are_the_largest(options, tmp_path):
    model = pooled(**options)
    export.to_onnx(model, tmp_path / "model.onnx")
    assert len(_paddings(tmp_path / "model.onnx")) == 1


@pytest.mark.parametrize("size", [2, 3])
def test_padding_that_is_turned_before_it_is_pooled(size, tmp_path):
    """tf2onnx leaves a Transpose between the two, which onnxruntime moves away."""
    model = pooled(lambda x: ops.where(x > 0, x, 0.1 * x) - 3.0, padding=2, size=size)
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
    assert len(_paddings(tmp_path / "model.onnx")) == 1


@pytest.mark.parametrize(
    ("least", "others", "kinds"),
    [
        (0.0, [], ["Clip", "MaxPool"]),
        (-1.0, [], ["Clip", "Pad", "MaxPool"]),
        (0.0, [("Relu", "padded", {})], ["Clip", "Pad", "MaxPool", "Relu"]),
        (
            0.0,
            [("AveragePool", "padded", {"kernel_shape": [2]})],
            ["Clip", "Pad", "MaxPool", "AveragePool"],
        ),
        (0.0, [("MaxPool", "padded", {"kernel_shape": [3]})], ["Clip", "MaxPool", "MaxPool"]),
        (0.0, ["padded"], ["Clip", "Pad", "MaxPool"]),
        (0.0, ["places"], ["Clip", "Pad", "MaxPool"]),
        (0.0, [("Cast", "places", {"to": 1})], ["Clip", "Pad", "MaxPool", "Cast"]),
    ],
    ids=["at zero", "below", "relu", "mean", "two", "output", "places as output", "places"],
)
def test_zeros_behind_a_clip(least, others, kinds, rng):
    pads = numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 1]), "pads")
    bound = numpy_helper.from_array(np.float32(least), "least")
    nodes = [
        helper.make_node("Clip", ["x", "least"], ["clipped"]),
        helper.make_node("Pad", ["clipped", "pads"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["y", "places"], kernel_shape=[2]),
    ]
    ends = [helper.make_tensor_value_info(*end) for end in (("x", 1, [2, 3, 5]), ("y", 1, None))]
    for number, other in enumerate(others):
        name = other
        if isinstance(other, tuple):
            name = f"y{number}"
            nodes.append(helper.make_node(other[0], [other[1]], [name], **other[2]))
        ends.append(helper.make_tensor_value_info(name, 7 if name == "places" else 1, None))
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [pads, bound])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model = ir.from_proto(proto)
    guard(model)
    assert [node.op_type for node in model.graph] == kinds
    x = rng.normal(size=(2, 3, 5)).astype("float32")
    found = open_session(ir.to_proto(model).SerializeToString(), True).run(None, {"x": x})
    plain = open_session(proto.SerializeToString(), False).run(None, {"x": x})
    for some, same in zip(found, plain, strict=True):
        np.testing.assert_allclose(some, same, rtol=1e-6, atol=1e-44)


def _paddings(path):
    """The numbers that a file pads with, and that are next to zero."""
    graph = onnx.load(path).graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    pads = [node.input[2] for node in graph.node if node.op_type == "Pad" and node.input[2:]]
    return [name for name in pads if 0 < constants[name] < 1e-44]


def test_other_paddings_stay(tmp_path):
    inputs = keras.Input((6, 6, 2))
    edge = keras.ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    own = keras.ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-1.0)
    pool = layers.MaxPooling2D(2)
    mean = layers.AveragePooling2D(2)(layers.ZeroPadding2D(1)(inputs))
    model = keras.Model(inputs, [pool(edge), pool(own), mean])
    export.to_onnx(model, tmp_path / "model.onnx")
    assert _paddings(tmp_path / "model.onnx") == []


RECURRENT = [layers.SimpleRNN, layers.GRU, layers.LSTM]


@pytest.mark.parametrize("layer", RECURRENT)
def test_products_of_turned_axes_in_float16(layer, tmp_path):
    """Otherwise onnxruntime ends the process."""
    x = keras.Input((6, 5))
    y = layer(4, return_sequences=True)(x)
    model = keras.Model(x, [layers.Dense(3)(y), layers.Dense(2, activation="tanh")(y), y])
    report = export.to_onnx(model, tmp_path / "model.onnx", precision="float16")
    assert report.nodes["MatMul"] == 2
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


def test_products_of_turned_axes_of_a_float16_layer(tmp_path):
    model = keras.Sequential([keras.Input((6, 5)), layers.Permute((1, 2))])
    model.add(layers.GRU(4, return_sequences=True, dtype="mixed_float16"))
    model.add(layers.Dense(3, dtype="mixed_float16"))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


def product(perm, side, constant, *, given=TensorProto.FLOAT16, to=None, computed=False):
    """A model of a product whose one operand is turned, and cast if asked to; the other one is a
    constant, or computed as a product."""
    extents = [2, 3, 4, 4][4 - len(perm) :]
    shape = [extents[perm.index(axis)] for axis in range(len(perm))]
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Transpose", ["x" if computed else "r"], ["t"], perm=perm),
    ]
    turned = "t"
    if to is not None:
        nodes.append(helper.make_node("Cast", ["t"], ["c"], to=to))
        turned = "c"
    other = "m" if computed else "w"
    operands = [turned, other] if side == 0 else [other, turned]
    nodes += [helper.make_node("MatMul", ["v", "w"], ["m"])] * computed
    nodes += [
        helper.make_node("MatMul", operands, ["p"]),
        helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", given, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(constant, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    dtype = helper.tensor_dtype_to_np_dtype(given)
    return model, np.random.default_rng(1).normal(size=shape).astype(dtype)


def run_guarded(model, x):
    """Results of the plain model without optimizations, and of the guarded one with them."""
    guarded = ir.from_proto(model)
    guard(guarded)
    guarded = ir.to_proto(guarded)
    results = []
    for proto, optimized in ((model, False), (guarded, True)):
        session = open_session(proto.SerializeToString(), optimized)
        results += session.run(None, {"x": x})
    return guarded, results


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4)])
def test_float16_products_of_every_turn(rank, side, shape, rng):
    """Some of them end the process without the guard."""
    constant = rng.normal(size=shape).astype("float16")
    for perm in itertools.permutations(range(rank)):
        model, x = product(perm, side, constant)
        _, (plain, guarded) = run_guarded(model, x)
        np.testing.assert_allclose(guarded, plain, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("to", [None, TensorProto.FLOAT16])
@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize("side", [0, 1])
def test_float16_products_with_a_product(rank, side, to, rng):
    """What is computed in float32 is not cast; that ends the process without the guard."""
    given = TensorProto.FLOAT16 if to is None else TensorProto.INT32
    for perm in itertools.permutations(range(rank)):
        weights = rng.normal(size=(4, 4)).astype("float16")
        model, x = product(perm, side, weights, given=given, to=to, computed=True)
        v = helper.make_tensor_value_info("v", TensorProto.FLOAT16, [4, 4])
        model.graph.input.append(v)
        fed = {"x": x, "v": rng.normal(size=(4, 4)).astype("float16")}
        guarded = ir.from_proto(model)
        guard(guarded)
        runs = ((model, False), (ir.to_proto(guarded), True))
        sessions = [open_session(proto.SerializeToString(), on) for proto, on in runs]
        plain, own = [session.run(None, fed)[0] for session in sessions]
        np.testing.assert_allclose(own, plain, rtol=1e-2, atol=2e-2)


EINSUMS = {
    "bhd,bhe->hde": ((2, 3), (2, 4)),
    "bcd,bec->deb": ((5, 4), (3, 5)),
    "ab,acd->cdb": ((4,), (3, 2)),
    "acd,ab->bcd": ((3, 2), (4,)),
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_float16_products_of_two_that_are_computed(equation, tmp_path):
    x = keras.Input((6,))
    parts = [
        layers.Reshape(shape)(layers.Dense(int(np.prod(shape)))(x)) for shape in EINSUMS[equation]
    ]
    model = keras.Model(x, ops.einsum(equation, *parts))
    randomize(model, 0)
    assert export.to_onnx(model, tmp_path / "model.onnx", precision="float16").passed


@pytest.mark.parametrize("perm", [(1, 0, 2), (1, 2, 0)])
@pytest.mark.parametrize("given", [TensorProto.FLOAT16, TensorProto.INT32])
def test_casts_between_a_turn_and_a_product(perm, given, rng):
    """They end the process in float32, too."""
    constant = rng.normal(size=(4, 3)).astype("float32")
    model, x = product(perm, 0, constant, given=given, to=TensorProto.FLOAT)
    file, (plain, guarded) = run_guarded(model, x)
    assert [node.op_type for node in file.graph.node][1:4] == ["Cast", "Transpose", "MatMul"]
    np.testing.assert_allclose(guarded, plain, rtol=1e-5, atol=1e-5)


def test_products_of_other_turns_stay(rng):
    constant = rng.normal(size=(4, 4)).astype("float16")
    for perm in ((0, 2, 1), (2, 0, 1), (2, 1, 0), (0, 2, 1, 3), (0, 2, 3, 1), (2, 1, 0, 3)):
        model, x = product(perm, 0, constant)
        assert run_guarded(model, x)[0] == ir.to_proto(ir.from_proto(model))


def test_a_turned_batch_in_float16(tmp_path):
    x = keras.Input(batch_shape=(4, 2, 3))
    model = keras.Model(x, layers.Dense(5)(ops.transpose(x, (1, 2, 0))))
    assert export.to_onnx(model, tmp_path / "model.onnx", precision="float16").passed


def of_nothing(path, shape):
    """What a file makes of an empty batch, without onnxruntime's optimizations and with them."""
    results = []
    for optimized in (False, True):
        session = open_session(path, optimized)
        x = np.zeros((0, *shape), "float32")
        results.append([y.shape for y in session.run(None, {session.get_inputs()[0].name: x})])
    assert results[0] == results[1]
    return results[0]


@pytest.mark.parametrize("opset", [13, 18])
def test_reductions_of_an_empty_batch(opset, tmp_path):
    """Over axes counted from the end onnxruntime gives such results another shape."""
    x = keras.Input((5, 4))
    reductions = [
        ops.any(x > 0, axis=-1),
        ops.std(x, axis=-1),
        ops.mean(x, axis=-2, keepdims=True),
        ops.logsumexp(ops.tanh(x), axis=-1),
        ops.max(x, axis=(-1, -2)),
    ]
    export.to_onnx(keras.Model(x, reductions), tmp_path / "model.onnx", opset=opset)
    shapes = of_nothing(tmp_path / "model.onnx", (5, 4))
    assert shapes == [(0, 5), (0, 5), (0, 1, 4), (0, 5), (0,)]


@pytest.mark.parametrize(
    ("precision", "masked"),
    [
        ("float32", False),
        ("float16", True),
        pytest.param("float32", True, marks=pytest.mark.slow),
        pytest.param("float16", False, marks=pytest.mark.slow),
    ],
)
def test_recurrent_layers_of_an_empty_batch(precision, masked, tmp_path):
    """Without a mask onnxruntime would end the process, with one it would refuse."""
    x = keras.Input((5, 4))
    given = layers.Masking()(x) if masked else x
    steps = layers.GRU(3, return_sequences=True)(given)
    model = keras.Model(x, [steps, layers.LSTM(2)(given), layers.SimpleRNN(2)(given)])
    export.to_onnx(model, tmp_path / "model.onnx", precision=precision)
    assert of_nothing(tmp_path / "model.onnx", (5, 4)) == [(0, 5, 3), (0, 2), (0, 2)]


def test_a_float16_layer_of_an_empty_batch(tmp_path):
    x = keras.Input((5, 4))
    model = keras.Model(x, layers.Dense(2)(layers.GRU(3, dtype="mixed_float16")(x)))
    export.to_onnx(model, tmp_path / "model.onnx")
    assert of_nothing(tmp_path / "model.onnx", (5, 4)) == [(0, 2)]
