"""Histograms of weights and activations."""

import keras
import numpy as np
import pytest
from keras import ops
from matplotlib.patches import StepPatch

import kerasdl
from kerasdl.plots import plot_activations, plot_weights


def rows(ax):
    """(name, note) from the top."""
    return [tuple(label.get_text().split("\n")) for label in ax.get_yticklabels()]


def counts(ax):
    """Edges and relative counts of each histogram, in the order of drawing."""
    found = []
    for patch in (each for each in ax.patches if isinstance(each, StepPatch)):
        values, edges, baseline = patch.get_data()
        found.append((edges, (values - baseline) / 0.8))
    return found


def σ(values):
    return f"σ = {np.std(np.asarray(values, 'float64')):.2g}"


@pytest.fixture
def model():
    inner = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(7, "relu", name="b")], name="in"
    )
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, "tanh", name="a")(inputs)
    x = keras.layers.Dropout(0.5, name="drop")(inner(x))
    return keras.Model(inputs, keras.layers.Dense(2, name="c")(x), name="outer")


def test_weights(model):
    ax = plot_weights(model)
    weights = [each.numpy() for each in model.trainable_variables]
    assert [note for _, note in rows(ax)] == [σ(each) for each in weights]
    assert [name.rpartition("/")[2] for name, _ in rows(ax)] == ["kernel", "bias"] * 3
    assert [name.split("/")[-2] for name, _ in rows(ax)] == ["a", "a", "b", "b", "c", "c"]
    for (edges, heights), kernel in zip(counts(ax), weights[::2], strict=True):
        expected, same = np.histogram(kernel, bins=int(np.sqrt(kernel.size)) + 1)
        np.testing.assert_allclose(edges, same, atol=1e-6)
        np.testing.assert_allclose(heights, expected / expected.max(), atol=1e-12)
    # Biases, all zero, are lines.
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.0, 0.0]] * 3
    # The names stand at their rows.
    ticks = ax.get_yticks()
    baselines = [patch.get_data().baseline for patch in ax.patches]
    np.testing.assert_allclose(baselines, ticks[::2] - 0.4)
    np.testing.assert_allclose([line.get_ydata()[0] for line in ax.lines], ticks[1::2] - 0.4)
    assert list(ticks) == sorted(ticks, reverse=True)


def test_only_what_is_trained_counts_as_weight():
    frozen = keras.layers.Dense(3, trainable=False, name="frozen")
    normalization = keras.layers.BatchNormalization(name="bn")
    ax = plot_weights(keras.Sequential([keras.Input((2,)), frozen, normalization]))
    assert [name for name, _ in rows(ax)] == ["bn/gamma", "bn/beta"]


def test_weights_of_one_layer_and_of_none(model):
    assert [name for name, _ in rows(plot_weights(model.get_layer("c")))] == ["c/kernel", "c/bias"]
    with pytest.raises(ValueError, match="`model` must be a Keras model with trainable weights"):
        plot_weights(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="model='dict'"):
        plot_weights({})


def test_activations(model, rng):
    x = rng.normal(size=(64, 6)).astype("float32")
    before = [each.numpy() for each in model.weights]
    ax = plot_activations(model, x)
    a = np.tanh(x @ before[0])
    b = np.maximum(a @ before[2], 0)
    outputs = {"a": a, "in/b": b, "drop": b, "c": b @ before[4]}
    assert rows(ax) == [(name, σ(values)) for name, values in outputs.items()]
    for (edges, _), values in zip(counts(ax), outputs.values(), strict=True):
        np.testing.assert_allclose(edges[[0, -1]], [values.min(), values.max()], rtol=1e-4)
    # Nothing stays: neither of the listening nor of the pass.
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_activations_leave_statistics_alone(rng):
    layers = [kerasdl.BatchNormalization(name="bn"), kerasdl.Dropout(0.5, name="drop")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    variables = [*model.weights, layers[1].seed_generator.state]
    before = [each.numpy().copy() for each in variables]
    plot_activations(model, rng.normal(5.0, 2.0, size=(32, 4)))
    for old, new in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


class Branches(keras.Model):
    """Subclassed, with a shared layer, integers, and several outputs of one layer."""

    def __init__(self):
        super().__init__()
        self.shared = keras.layers.Dense(3, use_bias=False, name="shared")
        self.recurrent = keras.layers.LSTM(2, return_state=True, name="recurrent")
        self.embedding = keras.layers.Embedding(4, 3, name="embedding")
        self.discretization = keras.layers.Discretization([0.0], name="bins")

    def call(self, inputs):
        x = self.shared(self.shared(inputs))
        x = x + self.embedding(self.discretization(inputs[..., 0] + 0.0))
        return self.recurrent(x)[0]


def test_activations_of_a_subclassed_model(rng):
    model = Branches()
    x = rng.normal(size=(8, 5, 3)).astype("float32")
    ax = plot_activations(model, x)
    assert [name for name, _ in rows(ax)] == ["shared", "embedding", "recurrent"]
    kernel = model.shared.kernel.numpy()
    assert rows(ax)[0][1] == σ(np.concatenate([x @ kernel, x @ kernel @ kernel]))
    state = ops.convert_to_numpy(ops.concatenate(model.recurrent(x), axis=-1))
    assert state.shape == (8, 6)


def test_what_is_not_finite_is_counted_and_huge_values_are_drawn():
    layer = keras.layers.Dense(4, use_bias=False, name="odd")
    layer.build((None, 3))
    layer.kernel.assign([[np.nan, np.inf, 1e38, -1e38]] * 3)
    (row,) = rows(plot_weights(layer))
    assert row == ("odd/kernel", "σ = 1e+38, 6 not finite")
    layer.kernel.assign(np.full((3, 4), np.nan))
    ax = plot_weights(layer)
    assert rows(ax) == [("odd/kernel", "no value, 12 not finite")]
    assert not counts(ax)


@pytest.mark.usefixtures("float64")
def test_values_that_are_nearly_the_same():
    layer = keras.layers.Dense(50, use_bias=False, dtype="float64", name="same")
    layer.build((None, 50))
    layer.kernel.assign(1e8 + np.linspace(0, 1e-7, 2500).reshape(50, 50))
    ax = plot_weights(layer)
    assert len(ax.lines) == 1
    assert not counts(ax)


def test_short_floats(rng):
    with_policy = keras.layers.Dense(3, dtype="mixed_bfloat16", name="short")
    model = keras.Sequential([keras.Input((4,)), with_policy])
    ax = plot_activations(model, rng.normal(size=(8, 4)).astype("float32"))
    assert [name for name, _ in rows(ax)] == ["short"]


def test_inputs_that_do_not_fit(model):
    with pytest.raises(ValueError, match=r"inputs of shape \(None, 6\)"):
        plot_activations(model, np.ones((4, 5)))
    with pytest.raises(ValueError, match="one or more"):
        plot_activations(model, np.ones((0, 6)))
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def test_a_model_without_floats():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Discretization([0.0])], name="ints")
    with pytest.raises(ValueError, match=r"floating-point numbers\. Received: model='ints'"):
        plot_activations(model, np.ones((2, 1)))
