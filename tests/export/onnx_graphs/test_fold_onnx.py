"""Folding inside closed models, on the ONNX graph."""

import keras
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export.converting.convert import convert_graph
from kerasdl.export.folding.folding import fold
from kerasdl.export.graphs.trace import trace
from kerasdl.export.onnx_graphs.fold_onnx import fold_onnx
from kerasdl.export.programs.precision import float64_run, widen
from random_networks import randomize


class Closed(keras.Model):
    """Layers one after the other; Keras sees none of them."""

    def __init__(self, *parts):
        super().__init__(name="closed")
        self.parts = list(parts)

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


class Both(Closed):
    """Two layers read the same values, and the model returns them, too."""

    def call(self, x):
        norm, first, second, output = self.parts
        y = norm(keras.ops.tanh(x))
        return (first(y), second(y), y) if output else (first(y), second(y))


def built(model, shape, seed=0):
    model(np.zeros((2, *shape), "float32"))
    randomize(model, seed)
    return model


def bn(name="bn", **options):
    return layers.BatchNormalization(name=name, **options)


def tanh():
    return layers.Activation("tanh")


def converted(model):
    graph = trace(model)
    folds = fold(graph)
    proto = convert_graph(graph, 18)
    before = len(list(proto.graph))
    folds = fold_onnx(proto, graph, folds)
    return proto, folds, before - len(list(proto.graph))


def assert_right(model, proto, shape, rng):
    """In float64 but for the rounding of the weights."""
    x = rng.normal(size=(3, *shape)).astype("float32")
    session = onnxruntime.InferenceSession(ir.to_proto(proto).SerializeToString())
    mine = session.run(None, {session.get_inputs()[0].name: x})
    graph = trace(model)
    with float64_run(graph.layers()):
        truth = [np.asarray(y) for y in graph(widen(x))]
    names = [output.name for output in session.get_outputs()]
    for name, ours in zip(names, mine, strict=True):
        theirs = truth[int(name.removeprefix("output_"))]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5 * np.max(np.abs(theirs)))


KERNELS = {
    "Dense": ((4,), lambda **o: layers.Dense(3, name="w", **o)),
    "Dense with large weights": ((20,), lambda **o: layers.Dense(30, name="w", **o)),
    "Dense on sequences": ((5, 4), lambda **o: layers.Dense(5, name="w", **o)),
    "Conv1D": ((6, 3), lambda **o: layers.Conv1D(4, 3, name="w", **o)),
    "Conv2D": ((6, 6, 3), lambda **o: layers.Conv2D(6, 3, padding="same", name="w", **o)),
    "DepthwiseConv2D": (
        (6, 6, 3),
        lambda **o: layers.DepthwiseConv2D(2, depth_multiplier=2, name="w", **o),
    ),
    "Conv2DTranspose": ((4, 4, 3), lambda **o: layers.Conv2DTranspose(2, 3, name="w", **o)),
}


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_linear_then_batch_normalization(name, use_bias, rng):
    shape, make = KERNELS[name]
    model = built(Closed(make(use_bias=use_bias), bn()), shape)
    proto, folds, fewer = converted(model)
    assert [str(entry) for entry in folds] == ["closed/bn: folded into closed/w"]
    # A convolution has a bias of its own; behind a product it is an addition.
    folded_by_tensorflow = name == "Conv2D" and not use_bias
    assert fewer >= (0 if folded_by_tensorflow else 2 if use_bias or "Conv" in name else 1)
    # TensorFlow calls the convolution as what it has folded into it.
    others = {"Transpose", "Conv"} if folded_by_tensorflow else {"Transpose"}
    assert not any("bn" in node.name for node in proto.graph if node.op_type not in others)
    assert_right(model, proto, shape, rng)


@pytest.mark.parametrize(
    "name", ["Dense", "Dense with large weights", "Dense on sequences", "Conv2D valid"]
)
def test_batch_normalization_then_linear(name, rng):
    shape, make = KERNELS.get(name, ((6, 6, 3), lambda: layers.Conv2D(4, 3, name="w")))
    model = built(Closed(tanh(), bn(), make()), shape)
    proto, folds, fewer = converted(model)
    assert [str(entry) for entry in folds] == ["closed/bn: folded into closed/w"]
    assert fewer == 2
    assert_right(model, proto, shape, rng)


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((4, 4, 4), lambda: (layers.Conv2D(4, 1), bn(axis=1))),
        ((4, 4, 4), lambda: (layers.Conv2D(4, 1), bn(axis=2))),
        ((4, 4, 4), lambda: (tanh(), bn(axis=1), layers.Conv2D(4, 1))),
        ((4, 4, 4), lambda: (tanh(), bn(), layers.Conv2D(4, 3, padding="same"))),
        ((4, 4), lambda: (layers.Dense(4), bn(axis=1))),
        ((4, 4), lambda: (tanh(), bn(axis=1), layers.Dense(4))),
        ((4, 4), lambda: (layers.Conv1D(4, 1), bn(axis=1))),
        ((4,), lambda: (layers.Dense(4, "tanh"), bn())),
        ((4, 4), lambda: (layers.Dense(4), layers.Permute((2, 1)), bn())),
        ((4, 4), lambda: (tanh(), bn(), layers.Permute((2, 1)), layers.Dense(4))),
        ((4, 4), lambda: (tanh(), bn(), layers.Reshape((2, 8)), layers.Dense(4))),
        ((2, 4), lambda: (layers.Dense(4), layers.Reshape((4, 2)), bn())),
    ],
)
def test_what_stays(shape, parts, rng):
    model = built(Closed(*parts()), shape)
    proto, folds, _ = converted(model)
    assert "whose Keras graph is closed" in folds[0].reason
    assert any("bn" in node.name for node in proto.graph)
    assert_right(model, proto, shape, rng)


def test_two_readers(rng):
    parts = bn(), layers.Dense(3, name="a"), layers.Dense(2, name="b", use_bias=False), False
    model = built(Both(*parts), (4,))
    proto, folds, fewer = converted(model)
    assert [set(entry.into) for entry in folds] == [{"closed/a", "closed/b"}]
    assert fewer == 1
    assert_right(model, proto, (4,), rng)


@pytest.mark.parametrize("second", [layers.Softmax(), layers.Conv1D(2, 2, padding="same")])
def test_one_of_two_readers_refuses(second, rng):
    model = built(Both(bn(), layers.Dense(3), second, False), (5, 4))
    proto, folds, _ = converted(model)
    assert folds[0].into == ()
    assert sum("bn" in node.name for node in proto.graph) == 2
    assert_right(model, proto, (5, 4), rng)


def test_also_an_output(rng):
    model = built(Both(bn(), layers.Dense(3), layers.Dense(2), True), (4,))
    proto, folds, fewer = converted(model)
    assert (fewer, folds[0].into) == (0, ())
    assert_right(model, proto, (4,), rng)


def test_a_layer_that_is_called_twice(rng):
    class Twice(Closed):
        def call(self, x):
            shared, norm = self.parts
            return norm(shared(x)) - keras.ops.tanh(shared(keras.ops.tanh(x)))

    model = built(Twice(layers.Dense(4, name="w"), bn()), (4,))
    proto, folds, _ = converted(model)
    assert folds[0].into == ("closed/w",)
    assert_right(model, proto, (4,), rng)


def test_a_norm_that_is_called_twice(rng):
    class Twice(Closed):
        def call(self, x):
            dense, norm = self.parts
            return norm(dense(x)) + keras.ops.softmax(norm(keras.ops.tanh(x)))

    model = built(Twice(layers.Dense(4, name="w"), bn()), (4,))
    proto, folds, _ = converted(model)
    assert folds[0].reason
    assert_right(model, proto, (4,), rng)


def test_a_constant_wider_than_the_values(rng):
    """(batch, 1) times four numbers has four channels; the Dense behind reads four."""

    class Wide(Closed):
        def call(self, x):
            wide = keras.ops.cast(x, x.dtype) * np.arange(1.0, 5.0).astype(x.dtype.as_numpy_dtype)
            return self.parts[1](self.parts[0](wide))

    model = built(Wide(layers.Dense(3), bn()), (1,))
    assert_right(model, converted(model)[0], (1,), rng)


def test_a_subclass_is_folded_as_what_it_computes(rng, tmp_path):
    class Odd(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training)

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="w"), Odd(name="bn")])
    randomize(model, 0)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert dict(report.nodes) == {"MatMul": 1, "Add": 1}
    assert [str(entry) for entry in report.folds] == ["bn: folded into w"]


def test_weights_out_of_range(rng):
    model = built(Closed(layers.Dense(3), bn()), (4,))
    model.parts[0].kernel.assign(np.full((4, 3), 1e30))
    model.parts[1].gamma.assign(np.full(3, 1e20))
    assert converted(model)[2] == 0


def test_nothing_else_is_touched(rng):
    """Multiplications of the user's own stay, where no layer is closed."""
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(3)(keras.ops.tanh(x) * np.ones(4, "float32") * 3 + 1))
    randomize(model, 0)
    assert converted(model)[2] == 0


def test_the_file_is_verified(tmp_path):
    parts = layers.Conv2D(4, 3), bn("a"), layers.ReLU(), bn("b"), layers.Conv2D(3, 2), bn("c")
    report = export.to_onnx(built(Closed(*parts), (7, 7, 2)), tmp_path / "model.onnx")
    assert dict(report.nodes) == {"Transpose": 2, "Conv": 2, "Relu": 1}
    assert all(entry.into for entry in report.folds)


@pytest.mark.parametrize("seed", range(12))
def test_random_stacks(seed, rng):
    check_stack(seed, rng)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
def test_many_random_stacks(seed, rng):
    check_stack(seed, rng)


def check_stack(seed, rng):
    choose = np.random.default_rng(seed)
    rank, size = int(choose.integers(2, 5)), 4
    shape = (5, 5, 4)[4 - rank :] if rank < 4 else (4, 4, 4)
    options = {
        2: [lambda: layers.Dense(size)],
        3: [lambda: layers.Dense(size), lambda: layers.Conv1D(size, 2, padding="same")],
        4: [
            lambda: layers.Conv2D(size, 1),
            lambda: layers.Conv2D(size, 3, padding="same"),
            lambda: layers.DepthwiseConv2D(1),
            lambda: layers.Dense(size),
            lambda: layers.Conv2DTranspose(size, 1),
        ],
    }[rank]
    axes = (-1, -1, -1, *range(1, rank))
    others = [lambda: bn(None, axis=int(choose.choice(axes)))] * 4 + [tanh, layers.ReLU]
    kinds = [*options, *others]
    parts = [kinds[choose.integers(len(kinds))]() for _ in range(choose.integers(2, 7))]
    model = built(Closed(*parts), shape, seed)
    proto, _, fewer = converted(model)
    assert fewer >= 0
    assert_right(model, proto, shape, rng)
