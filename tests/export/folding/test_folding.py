"""Folding is exact where it is done, and declined with a reason where it is not."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from keras import layers

import kerasdl
from kerasdl.export.folding.folding import Fold, fold
from kerasdl.export.folding.remainder import Remainder
from kerasdl.export.graphs.inference import drop_training_only, map_of
from kerasdl.export.graphs.trace import trace
from kerasdl.export.programs.precision import float64_run
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.verifying.parity import SAFETY
from random_networks import build, randomize, recipes


def folded(model):
    graph = trace(model)
    dropped = drop_training_only(graph)
    return graph, fold(graph), dropped


def run64(graph, *arrays):
    with float64_run(graph.layers(), graph.exact):
        return [np.asarray(y) for y in graph(*arrays)]


def samples(model, rng, batch=3):
    return [rng.normal(size=(batch, *x.shape[1:])).astype("float32") for x in model.inputs]


def assert_exact(model, rng):
    """The folded graph in float64 equals the model in float64; in float32, but for rounding."""
    arrays = samples(model, rng)
    program = KerasProgram(model)
    graph, folds, _ = folded(model)
    truth = program.run_float64(arrays)
    wide = [array.astype("float64") for array in arrays]
    for mine, true in zip(run64(graph, *wide), truth, strict=True):
        np.testing.assert_allclose(mine, true, rtol=1e-9, atol=1e-9 * np.max(np.abs(true)))
    for mine, keras_own, true in zip(graph(*arrays), program.run(arrays), truth, strict=True):
        noise = max(np.max(np.abs(keras_own - true)), 2.0**-24 * np.max(np.abs(true)))
        assert np.max(np.abs(mine - true)) <= SAFETY * noise
    return graph, folds


def sequential(*stack, shape):
    model = keras.Sequential([keras.Input(shape), *stack])
    randomize(model, 0)
    return model


def bn(**options):
    return layers.BatchNormalization(name="bn", **options)


PRECEDING = {
    "dense": ((4,), lambda **o: layers.Dense(3, **o)),
    "dense_on_sequences": ((5, 4), lambda **o: layers.Dense(5, **o)),
    "conv1d": ((6, 3), lambda **o: layers.Conv1D(4, 3, **o)),
    "conv2d": ((6, 6, 3), lambda **o: layers.Conv2D(6, 3, padding="same", **o)),
    "conv2d_dilated": ((7, 7, 2), lambda **o: layers.Conv2D(3, 2, dilation_rate=2, **o)),
    "conv2d_strided": ((6, 6, 3), lambda **o: layers.Conv2D(4, 3, strides=2, **o)),
    "conv3d": ((4, 4, 4, 2), lambda **o: layers.Conv3D(4, 2, padding="same", **o)),
    "depthwise1d": ((6, 3), lambda **o: layers.DepthwiseConv1D(2, depth_multiplier=2, **o)),
    "depthwise2d": ((6, 6, 3), lambda **o: layers.DepthwiseConv2D(2, depth_multiplier=2, **o)),
    "separable1d": ((6, 3), lambda **o: layers.SeparableConv1D(5, 3, **o)),
    "separable2d": ((6, 6, 3), lambda **o: layers.SeparableConv2D(5, 3, depth_multiplier=2, **o)),
    "transposed1d": ((5, 3), lambda **o: layers.Conv1DTranspose(4, 3, strides=2, **o)),
    "transposed2d": ((4, 4, 3), lambda **o: layers.Conv2DTranspose(2, 3, strides=2, **o)),
    "transposed3d": ((3, 3, 3, 2), lambda **o: layers.Conv3DTranspose(2, 2, **o)),
}


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("case", PRECEDING)
def test_linear_then_batch_normalization(case, use_bias, rng):
    shape, make = PRECEDING[case]
    model = sequential(make(use_bias=use_bias, name="linear"), bn(), shape=shape)
    graph, folds = assert_exact(model, rng)
    assert folds == [Fold("bn", ("linear",))]
    assert [node.name for node in graph.nodes] == ["linear"]


@pytest.mark.parametrize("shape", [(4,), (5, 4), (3, 3, 4)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_batch_normalization_then_dropout_then_dense(shape, use_bias, rng):
    stack = bn(), layers.Dropout(0.5), layers.Dense(3, use_bias=use_bias, name="head")
    graph, folds = assert_exact(sequential(*stack, shape=shape), rng)
    assert folds == [Fold("bn", ("head",))]
    assert [node.name for node in graph.nodes] == ["head"]


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}, {"epsilon": 0.1}])
def test_options_of_batch_normalization(options, rng):
    model = sequential(layers.Dense(3), bn(**options), shape=(4,))
    assert_exact(model, rng)


def test_our_batch_normalization_folds_like_keras(rng):
    own = kerasdl.BatchNormalization(statistics="population", name="bn")
    _, folds = assert_exact(sequential(layers.Dense(3, name="d"), own, shape=(4,)), rng)
    assert folds == [Fold("bn", ("d",))]


def test_two_batch_normalizations_both_enter_the_same_layer(rng):
    stack = layers.Dense(3, name="d"), layers.BatchNormalization(), layers.BatchNormalization()
    graph, folds = assert_exact(sequential(*stack, shape=(4,)), rng)
    assert [entry.into for entry in folds] == [("d",), ("d",)]
    assert len(graph.nodes) == 1


def test_every_reader_that_is_a_dense_absorbs(rng):
    x = keras.Input((4,))
    y = bn()(x)
    model = keras.Model(x, [layers.Dense(2, name="a")(y), layers.Dense(3, name="b")(y)])
    randomize(model, 1)
    _, folds = assert_exact(model, rng)
    assert [set(entry.into) for entry in folds] == [{"a", "b"}]


def declined(model, rng):
    graph, folds = assert_exact(model, rng)
    assert [entry.into for entry in folds] == [()]
    assert any(node.name == folds[0].layer for node in graph.nodes)
    return folds[0].reason


def test_reason_activation_in_between(rng):
    model = sequential(layers.Dense(3, activation="relu", name="d"), bn(), shape=(4,))
    assert "in front of it: `d` has the activation relu" in declined(model, rng)


def test_reason_other_axis(rng):
    model = sequential(layers.Conv2D(4, 1, name="c"), bn(axis=1), shape=(4, 4, 4))
    assert "the map changes along an axis that is not the channels of `c`" in declined(model, rng)


def test_reason_read_elsewhere(rng):
    x = keras.Input((4,))
    y = layers.Dense(4, name="d")(x)
    model = keras.Model(x, layers.Add(name="sum")([y, bn()(y)]))
    randomize(model, 2)
    reason = declined(model, rng)
    assert "in front of it: `d` is also read by `sum`" in reason
    assert "behind it: `sum` (Add) lets only equal scales pass" in reason


def test_reason_also_an_output(rng):
    x = keras.Input((4,))
    y = layers.Dense(4, name="d")(x)
    model = keras.Model(x, [y, bn()(y)])
    randomize(model, 3)
    assert "in front of it: the output of `d` is also a model output" in declined(model, rng)


def test_reason_shared_layer(rng):
    x = keras.Input((4,))
    shared = layers.Dense(4, name="d")
    model = keras.Model(x, [bn()(shared(x)), shared(layers.ReLU()(x))])
    randomize(model, 4)
    assert "in front of it: `d` is called more than once" in declined(model, rng)


def test_reason_not_linear(rng):
    reason = declined(sequential(bn(), layers.ReLU(name="r"), shape=(4,)), rng)
    assert reason == (
        "in front of it is the model's input; behind it: `r` (ReLU) lets no shift pass"
    )


def test_reason_subclass(rng):
    class Odd(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs, training=training) ** 2

    reason = declined(sequential(layers.Dense(3), Odd(name="bn"), shape=(4,)), rng)
    assert reason == "its class Odd may compute something else"


def test_reason_closed_model(rng):
    class Closed(keras.Model):
        def __init__(self):
            super().__init__(name="closed")
            self.dense, self.norm = layers.Dense(3), layers.BatchNormalization(name="norm")

        def call(self, inputs):
            return self.norm(self.dense(inputs))

    model = Closed()
    model(np.zeros((2, 4), "float32"))
    _, folds, _ = folded(model)
    assert [str(entry) for entry in folds] == [
        "closed/norm: kept, it lies inside `closed` (Closed), whose Keras graph is closed"
    ]


def test_nested_models_are_open(rng):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d"), bn()], name="inner")
    deeper = keras.Sequential([keras.Input((4,)), inner], name="deeper")
    x = keras.Input((4,))
    model = keras.Model(x, layers.ReLU()(deeper(x)))
    randomize(model, 5)
    _, folds = assert_exact(model, rng)
    assert folds == [Fold("deeper/inner/bn", ("deeper/inner/d",))]


def test_dropped_layers_are_named():
    stack = layers.Dropout(0.3, name="a"), layers.GaussianNoise(0.1, name="b"), layers.ReLU()
    graph, _, dropped = folded(sequential(*stack, shape=(4,)))
    assert dropped == ["a", "b"]
    assert [node.kind for node in graph.nodes] == ["ReLU"]


def test_a_subclass_of_dropout_stays():
    class Doubling(layers.Dropout):
        def call(self, inputs, training=False):
            return 2 * inputs

    assert folded(sequential(Doubling(0.5), shape=(4,)))[2] == []


def test_training_true_is_overridden_as_in_predict(rng):
    x = keras.Input((4,))
    y = layers.Dropout(0.5)(bn()(layers.Dense(3, name="d")(x), training=True), training=True)
    model = keras.Model(x, y)
    randomize(model, 6)
    _, folds = assert_exact(model, rng)
    assert folds == [Fold("bn", ("d",))]


def test_zero_variance_and_tiny_epsilon(rng):
    model = sequential(layers.Dense(3), bn(epsilon=1e-12), shape=(4,))
    model.get_layer("bn").moving_variance.assign(np.zeros(3))
    assert_exact(model, rng)


def test_the_model_is_left_as_it_was(rng):
    model = sequential(layers.Dense(3), bn(), layers.Dropout(0.5), layers.Dense(2), shape=(4,))
    weights, nodes = model.get_weights(), [len(x._inbound_nodes) for x in model.layers]
    assert_exact(model, rng)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]
    assert all(layer.dtype_policy.name == "float32" for layer in model.layers)


def _settings(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@_settings(30)
@given(recipe=recipes())
def test_random_networks(recipe):
    check(recipe)


def check(recipe):
    model = build(recipe)
    graph, folds = assert_exact(model, np.random.default_rng(0))
    kept = {entry.layer for entry in folds if entry.reason}
    assert {n.name.partition(".")[0] for n in graph.nodes if n.kind == "Remainder"} <= kept
    assert all(entry.into or entry.reason for entry in folds)
    keras.utils.clear_session(free_memory=False)


@pytest.mark.slow
@_settings(5000)
@given(recipe=recipes())
def test_many_random_networks(recipe):
    check_graph(recipe)


def check_graph(recipe):
    """Graph against graph in float64, neither with more nodes nor other results."""
    model = build(recipe, convertible=False)
    arrays = [a.astype("float64") for a in samples(model, np.random.default_rng(0))]
    truth = trace(model)
    drop_training_only(truth)
    graph, folds, _ = folded(model)
    for mine, true in zip(run64(graph, *arrays), run64(truth, *arrays), strict=True):
        # A difference of nearly equal numbers is as exact as they are.
        atol = 1e-9 * np.max(np.abs(true)) + 1e-13
        np.testing.assert_allclose(mine, true, rtol=1e-9, atol=atol)
    assert all(entry.into or entry.reason for entry in folds)
    assert cost(graph) <= cost(truth)
    keras.utils.clear_session(free_memory=False)


def cost(graph):
    """ONNX nodes that the maps of a graph need."""
    found = 0
    for node in graph.nodes:
        layer = node.operation
        if isinstance(layer, Remainder):
            found += (layer.scale is not None) + (layer.shift is not None)
        elif (known := map_of(node)) is not None:
            found += known.nodes
    return found
