"""Where folding must not happen, or only just may: nothing is ever folded wrongly."""

import keras
import numpy as np
import pytest
from keras import layers
from test_fold_patterns import (
    assert_exact,
    behind,
    bn,
    conv,
    curved,
    dense,
    functional,
    lazily,
    positive,
    prepared,
    remaining,
    run,
    scale_only,
    stack,
)

import kerasdl
from kerasdl.export.folding.absorb import ABSORBERS
from kerasdl.export.folding.carry import CARRIERS
from kerasdl.export.folding.folding import fold
from kerasdl.export.folding.remainder import Remainder
from kerasdl.export.graphs.inference import drop_training_only
from kerasdl.export.graphs.maps import Map, align, compact, spread, vector
from kerasdl.export.graphs.trace import trace


def along(axis):
    return lambda: bn(axis=axis)


def folded(model, rng, exact=True):
    graph = trace(model)
    drop_training_only(graph)
    folds = fold(graph)
    if exact:
        assert_exact(model, graph, rng)
    return graph, folds


CUBE = (4, 4, 4)
SQUARE = (4, 4)
KEPT = {
    "height like channels, in front": (stack(CUBE, conv(4, 1), along(1)), 2),
    "width like channels, in front": (stack(CUBE, conv(4, 1), along(2)), 2),
    "height like channels, behind": (stack(CUBE, curved, along(1), conv(4, 1)), 2),
    "width like channels, behind": (stack(CUBE, curved, along(2), conv(4, 1)), 2),
    "depthwise": (stack(CUBE, lazily(layers.DepthwiseConv2D, 1), along(1)), 2),
    "transposed": (stack(CUBE, lazily(layers.Conv2DTranspose, 4, 1), along(2)), 2),
    "steps like units, in front": (stack(SQUARE, dense(4), along(1)), 2),
    "steps like units, behind": (stack(SQUARE, curved, along(1), dense(4)), 2),
    "steps of a recurrent layer": (stack(SQUARE, curved, along(1), lazily(layers.LSTM, 4)), 2),
    "steps of attention": (
        functional(SQUARE, lambda x: layers.MultiHeadAttention(2, 4)(bn(axis=1)(curved()(x)), x)),
        2,
    ),
    "steps behind attention": (
        functional(SQUARE, lambda x: bn(axis=1)(layers.MultiHeadAttention(2, 4)(x, x))),
        2,
    ),
    "steps of TimeDistributed": (
        stack(SQUARE, lambda: layers.TimeDistributed(layers.Dense(4)), along(1)),
        2,
    ),
    "steps of an Embedding": (
        behind((4,), layers.Embedding, 7, 4, norm=along(1), dtype="int32"),
        2,
    ),
    "axis over which LayerNormalization has no weights": (
        stack(SQUARE, layers.LayerNormalization, along(1)),
        2,
    ),
    "axis that EinsumDense does not form": (
        stack(SQUARE, lazily(layers.EinsumDense, "abc,cd->abd", (4, 4), bias_axes="d"), along(1)),
        1,  # its bias can
    ),
    "Permute moves the axis": (
        stack(SQUARE, curved, bn, lazily(layers.Permute, (2, 1)), dense(4)),
        2,
    ),
    "Reshape mixes the axes": (
        stack(SQUARE, curved, bn, lazily(layers.Reshape, (8, 2)), dense(4)),
        2,
    ),
    "pooling over the axis": (
        stack(CUBE, curved, along(1), lazily(layers.AveragePooling2D, 2), conv(4, 1)),
        2,
    ),
    "UpSampling of the axis": (stack(CUBE, conv(4, 1), layers.UpSampling2D, along(1)), 2),
    "RepeatVector makes the axis": (
        stack((4,), dense(4), lazily(layers.RepeatVector, 4), along(1)),
        2,
    ),
    "relu of a shift": (stack((4,), dense(4), layers.ReLU, bn, curved), 2),
    "relu with a threshold": (
        stack((4,), dense(4), lazily(layers.ReLU, threshold=0.1), scale_only),
        1,
    ),
    "softmax": (stack((4,), dense(4), layers.Softmax, scale_only), 1),
    "elu": (stack((4,), dense(4, "elu"), scale_only), 1),
    "maximum of negative scales": (
        stack(CUBE, curved, bn, layers.GlobalMaxPooling2D, dense(3)),
        1,
    ),
    "a sum of a value and itself": (
        functional((4,), lambda x: bn()(layers.Add()([y := layers.Dense(4)(x), y]))),
        1,
    ),
    "a difference of a value and itself": (
        functional((4,), lambda x: bn()(layers.Subtract()([y := layers.Dense(4)(x), y]))),
        1,
    ),
    "one of two readers refuses": (
        functional((4,), lambda x: [layers.Dense(3)(y := bn()(curved()(x))), layers.Softmax()(y)]),
        2,
    ),
    "three readers without biases": (
        functional((4,), lambda x: _thrice(bn()(curved()(x)))),
        1,
    ),
    "also read by something else": (
        functional((4,), lambda x: [bn()(y := layers.Dense(4)(x)), curved()(y)]),
        2,
    ),
    "also read by another map": (
        functional((4,), lambda x: [bn()(y := layers.Dense(4)(x)), bn()(y)]),
        4,
    ),
    "also a model output": (
        functional((4,), lambda x: [y := layers.Dense(4)(x), bn()(y)]),
        2,
    ),
    "as the state of a recurrent layer": (
        functional((4,), lambda x: _as_state(bn()(curved()(x)))),
        2,
    ),
    "both input and state": (
        functional((4, 4), lambda x: _as_both(bn()(curved()(x)))),
        2,
    ),
    "product of two": (
        functional((4,), lambda x: layers.Dense(2)(layers.Multiply()([bn()(curved()(x)), x]))),
        2,
    ),
    "sum that is broadcast": (
        functional((4, 4), lambda x: bn(axis=1)(layers.Add()([layers.Dense(4)(x), _row(x)]))),
        2,
    ),
    "a constant is added": (
        functional((4,), lambda x: layers.Dense(3)(bn()(curved()(x)) + np.float32(3.0))),
        2,
    ),
}


def _thrice(x):
    return [layers.Dense(2, "tanh", use_bias=False)(x) for _ in range(3)]


def _as_state(x):
    return layers.SimpleRNN(4)(layers.RepeatVector(3)(layers.Softmax()(x)), initial_state=x)


def _as_both(x):
    return layers.SimpleRNN(4)(x, initial_state=layers.Lambda(lambda y: y[:, 0])(x))


def _row(x):
    return layers.Dense(4)(layers.Reshape((1, 4))(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize("name", KEPT)
def test_what_stays(name, rng):
    make, left = KEPT[name]
    graph, folds = folded(prepared(make), rng)
    assert remaining(graph) == left
    assert any(entry.reason for entry in folds)


def with_zero_scale(make, channel=1):
    model = prepared(make)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma = np.array(layer.gamma.value)
            gamma[channel] = 0.0
            layer.gamma.assign(gamma)
    return model


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (stack((4,), dense(3), bn), 0),
        (stack((4,), curved, bn, dense(3)), 0),
        (stack(CUBE, curved, bn, conv(3, 3, padding="same")), 1),
        (stack((None, None, 4), curved, bn, conv(3, 3, padding="same")), 2),
        (stack(CUBE, curved, positive, layers.MaxPooling2D, conv(3, 1)), 1),
        (stack((4,), dense(3), layers.ReLU, positive, curved), 2),
    ],
    ids=["in front", "behind", "border", "free border", "maximum", "relu"],
)
def test_a_scale_of_zero(make, left, rng):
    graph, _ = folded(with_zero_scale(make), rng)
    assert remaining(graph) == left


@pytest.mark.parametrize("variance", [0.0, 1e-12, 1e12])
@pytest.mark.parametrize("make", [stack((4,), dense(3), bn), stack((4,), curved, bn, dense(3))])
def test_variances(make, variance, rng):
    model = prepared(make)
    norm = next(x for x in model.layers if isinstance(x, layers.BatchNormalization))
    norm.moving_variance.assign(np.full(norm.moving_variance.shape, variance))
    assert remaining(folded(model, rng)[0]) == 0


def test_an_identity_leaves_nothing(rng):
    model = keras.Sequential([keras.Input((4,)), curved(), kerasdl.Affine(name="a"), curved()])
    graph, folds = folded(model, rng)
    assert [node.kind for node in graph.nodes] == ["Activation", "Activation"]
    assert str(folds[0]) == "a: kept, it changes nothing"


def _subclass(cls):
    class Odd(cls):
        def call(self, inputs, *args, **kwargs):
            return 2 * super().call(inputs, *args, **kwargs)

    return Odd


@pytest.mark.parametrize("cls", [layers.Dense, layers.Conv1D, layers.LayerNormalization])
def test_subclasses_absorb_nothing(cls, rng):
    arguments = (3, 1) if cls is layers.Conv1D else (3,) * (cls is layers.Dense)
    graph, folds = folded(prepared(stack(SQUARE, lambda: _subclass(cls)(*arguments), bn)), rng)
    assert remaining(graph) == 2
    assert "(Odd) lets no map pass" in folds[0].reason


def test_subclasses_carry_nothing(rng):
    graph, _ = folded(prepared(stack(CUBE, dense(3), _subclass(layers.Flatten), bn)), rng)
    assert remaining(graph) == 2


@pytest.mark.parametrize("change", ["lora", "quantized"])
def test_changed_weights(change, rng):
    model = prepared(stack((4,), dense(6), bn))
    if change == "lora":
        model.layers[0].enable_lora(2)
    else:
        model.layers[0].quantize("int8")
    graph, folds = folded(model, rng, exact=False)
    assert remaining(graph) == 2
    assert {"lora": "has LoRA weights", "quantized": "is quantized"}[change] in folds[0].reason


@pytest.mark.parametrize("half", ["layer", "norm", "between"])
def test_nothing_moves_across_a_change_of_dtype(half, rng):
    policies = {name: "mixed_float16" if name == half else "float32" for name in ("layer", "norm")}
    between = [layers.Flatten(dtype="float16")] if half == "between" else []
    stacked = layers.Dense(3, dtype=policies["layer"]), *between
    norm = layers.BatchNormalization(dtype=policies["norm"])
    model = keras.Sequential([keras.Input((4,)), *stacked, norm])
    graph, folds = folded(model, rng, exact=False)
    assert remaining(graph) == 2 or "dtype" in folds[0].reason
    assert not folds[0].into


def test_no_reader_of_another_dtype_absorbs(rng):
    half = layers.Dense(3, dtype="mixed_float16")
    graph, folds = folded(keras.Sequential([keras.Input((4,)), bn(), half]), rng, exact=False)
    assert remaining(graph) == 1
    assert "`dense` computes in another dtype" in folds[0].reason


def test_half_precision_folds_within_itself(rng):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, dtype="mixed_float16"), bn(dtype="mixed_float16")]
    )
    assert remaining(folded(model, rng, exact=False)[0]) == 0


def test_weights_out_of_the_range_of_float16(rng):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, dtype="mixed_float16"), bn(dtype="mixed_float16")]
    )
    model.layers[-1].gamma.assign([1e7] * 3)
    assert "range of float16" in folded(model, rng, exact=False)[1][0].reason


def masked(*parts):
    def make():
        first = keras.Input((6,), dtype="int32"), layers.Embedding(7, 4, mask_zero=True), curved()
        return keras.Sequential([*first, *(part() for part in parts)])

    return make


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (masked(bn, lazily(layers.LSTM, 3)), 0),
        (masked(bn, lambda: layers.Bidirectional(layers.GRU(3))), 0),
        (masked(bn, lazily(layers.LSTM, 3, return_sequences=True), dense(3), bn), 0),
        (masked(bn, layers.GlobalAveragePooling1D, dense(3)), 2),
        (stack((5, 4), layers.Masking, bn, lazily(layers.GRU, 3)), 0),
        (stack((5, 4), dense(4), bn, layers.Masking, lazily(layers.GRU, 3)), 0),
        (stack((5, 4), curved, bn, layers.Masking, lazily(layers.GRU, 3)), 2),
    ],
)
def test_masks(make, left, rng):
    """A mask comes from indices, or from the values behind a map: both stay what they are."""
    graph, _ = folded(prepared(make), rng)
    assert remaining(graph) == left


def test_masked_steps_stay_masked(rng):
    model = prepared(stack((5, 4), layers.Masking, bn, lazily(layers.GRU, 3)))
    x = rng.normal(size=(3, 5, 4)).astype("float32")
    x[:, 2:] = 0.0
    graph, _ = folded(model, rng)
    np.testing.assert_allclose(graph(x)[0], model(x), atol=1e-6)


@pytest.mark.parametrize("direction", ["in front", "behind"])
@pytest.mark.parametrize("groups", [1, 2])
def test_channels_first(direction, groups, rng):
    """No device here runs it; the new weights are those of the same layer with channels last."""

    def absorbed(data_format):
        axis = 1 if data_format == "channels_first" else -1
        shape = (4, 7, 6) if axis == 1 else (7, 6, 4)
        layer = layers.Conv2D(4, 3, groups=groups, data_format=data_format)
        norm = layers.BatchNormalization(axis=axis)
        parts = [layer, norm] if direction == "in front" else [curved(), norm, layer]
        model = keras.Sequential([keras.Input(shape), *parts])
        keras.utils.set_random_seed(3)
        model.set_weights(
            [np.random.default_rng(w.size).uniform(0.5, 2, w.shape) for w in model.get_weights()]
        )
        graph = trace(model)
        fold(graph)
        assert remaining(graph) == 0
        return [value for _, value in graph.exact.values()]

    for first, last in zip(absorbed("channels_first"), absorbed("channels_last"), strict=True):
        np.testing.assert_allclose(first, last, rtol=1e-12)


def _halves(behind):
    """A batch of two halves, of which one has a map, and what is behind it."""

    def layout(x):
        return behind(layers.Concatenate(axis=0)([bn()(curved()(x)), x]))

    return layout


SAMPLES = {
    "Flatten": (_halves(lambda y: curved()(layers.Flatten()(y))), 2),
    "Flatten, Dense": (_halves(lambda y: layers.Dense(2)(layers.Flatten()(y))), 2),
    "Reshape": (_halves(lambda y: curved()(layers.Reshape((4, 3))(y))), 2),
    "Reshape, backwards": (lambda x: bn(axis=0)(layers.Reshape((4, 3))(curved()(x))), 2),
    "Conv1D": (_halves(lambda y: curved()(layers.Conv1D(2, 2)(y))), 2),
    "axis 0, Conv1D": (lambda x: layers.Conv1D(2, 2)(bn(axis=0)(curved()(x))), 2),
    "two maps, Conv1D": (lambda x: layers.Conv1D(2, 2)(bn()(bn(axis=0)(curved()(x)))), 2),
    "axis 0, Flatten": (lambda x: curved()(layers.Flatten()(bn(axis=0)(curved()(x)))), 2),
    "axis 0, Dense": (lambda x: layers.Dense(2)(bn(axis=0)(curved()(x))), 2),
    "axis 0, joined": (
        lambda x: curved()(layers.Concatenate()([bn(axis=0)(curved()(x)), curved()(x)])),
        2,
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_maps_that_differ_from_sample_to_sample(name, rng):
    layout, left = SAMPLES[name]
    x = keras.Input(batch_shape=(2, 3, 4))
    model = prepared(lambda: keras.Model(x, layout(x)))
    graph = trace(model)
    folds = fold(graph)
    arrays = [rng.normal(size=(2, 3, 4))]
    for ours, theirs in zip(run(graph, arrays), run(trace(model), arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    assert remaining(graph) == left
    assert all(entry.into or entry.reason for entry in folds)


def test_the_model_is_left_as_it_was(rng):
    model = prepared(stack(CUBE, conv(3, 2), bn, layers.MaxPooling2D, bn, layers.Flatten, dense(2)))
    weights, nodes = model.get_weights(), [len(x._inbound_nodes) for x in model.layers]
    folded(model, rng)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]


def test_folding_again_changes_nothing(rng):
    model = prepared(stack(CUBE, curved, bn, conv(3, 3, padding="same"), bn, curved))
    graph = trace(model)
    fold(graph)
    nodes = [(node.name, node.kind) for node in graph.nodes]
    assert fold(graph) == []
    assert nodes == [(node.name, node.kind) for node in graph.nodes]


def test_data_far_from_zero_are_centred_exactly(rng):
    """The shift that stays is the mean itself, which float32 subtracts without an error."""
    mean = [2000.3, 0.7]
    far = layers.Normalization(mean=mean, variance=[1.0, 4.0])
    model = keras.Sequential([keras.Input((2,)), far, bn(), layers.Dense(3)])
    graph, folds = folded(prepared(lambda: model), rng)
    kept = next(node.operation for node in graph.nodes if isinstance(node.operation, Remainder))
    assert kept.scale is None
    np.testing.assert_array_equal(np.ravel(kept.shift), -np.float32(mean))
    assert "far from zero" in folds[0].reason
    assert folds[1].reason is None


def test_partial_folds_say_what_stays(rng):
    _, folds = folded(prepared(stack((4,), dense(3, "relu"), positive, curved)), rng)
    assert folds[0].into == ("dense",)
    assert folds[0].reason.startswith(
        "its shift kept as a node of its own (in front of it: `dense` has the activation"
    )
    assert str(folds[0]).endswith(f"folded into dense; {folds[0].reason}")


def test_no_layer_both_absorbs_and_carries():
    assert not set(ABSORBERS) & set(CARRIERS)


def test_maps_are_compact():
    one = Map.of(np.full((1, 3, 4), 2.0), np.arange(4.0).reshape(1, 1, 4) * np.ones((1, 3, 1)))
    assert (one.scale.shape, one.shift.shape) == ((1, 1, 1), (1, 1, 4))
    assert (one.axes, one.nodes, one.numbers) == ({2}, 2, 5)
    assert compact(np.array([[1.0, 2.0], [1.0, 2.0]])).shape == (1, 2)


def test_maps_follow_each_other(rng):
    maps = [Map.along(1, 2, *rng.normal(size=(2, 3))) for _ in range(2)]
    x = rng.normal(size=(5, 3))
    both = maps[0].then(maps[1])
    inner = maps[0].scale * x + maps[0].shift
    np.testing.assert_allclose(both.scale * x + both.shift, maps[1].scale * inner + maps[1].shift)
    first = maps[0].shift_first()
    np.testing.assert_allclose(maps[0].scale * (x + first.shift), inner)
    assert Map.along(1, 2, np.zeros(3), np.ones(3)).shift_first() is None


def test_arrays_of_maps():
    array = np.arange(3.0).reshape(1, 1, 3)
    assert vector(array, 2, 3).tolist() == [0.0, 1.0, 2.0]
    assert vector(array, 1, 3) is None
    assert spread(array, (None, 2, 3), [1]).shape == (1, 2, 3)
    assert spread(array, (None, None, 3), [1]) is None
    assert align(array, "abc", "dc").shape == (1, 3)
    assert align(array, "abc", "ab") is None
