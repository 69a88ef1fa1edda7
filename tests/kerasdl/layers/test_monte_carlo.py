"""Monte-Carlo predictions against closed forms, and what they leave alone."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers
from keras.ops import convert_to_numpy

import kerasdl
from kerasdl import Dropout, GaussianNoise, WeightNoise, predict_mc


class Recorder(layers.Layer):
    """Keeps what passes through it."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        self.seen.append(convert_to_numpy(x))
        return x

    def compute_output_shape(self, input_shape):
        return input_shape


COPIES, T = 200, 15


def moments_over_copies(model, x):
    """Return mean and variance of predictions; each row stands in the batch many times.

    The mean over copies of the variances estimates the variance without bias, as they do.
    """
    copies = np.repeat(x[np.newaxis], COPIES, axis=0).reshape(-1, *x.shape[1:])
    mean, spread = predict_mc(model, copies, T, batch_size=len(copies), seed=1)
    shape = (COPIES, len(x), *mean.shape[1:])
    return mean.reshape(shape).mean(0), (spread**2).reshape(shape).mean(0)


def agree(found, mean, variance):
    """Whether moments over `COPIES * T` draws are these, to five standard errors."""
    n = COPIES * T
    assert np.all(np.abs(found[0] - mean) < 5 * np.sqrt(variance / n) + 1e-12)
    # The fourth moment of what is tested here is below ten times the squared variance.
    assert np.all(np.abs(found[1] - variance) < 5 * 3 * variance / np.sqrt(n) + 1e-12)


@pytest.mark.parametrize("mode", ["inverted", "classic"])
@pytest.mark.usefixtures("float64")
def test_linear_model_has_the_closed_form(mode, rng):
    """y = Σ wᵢxᵢrᵢ/s has mean Σ wᵢxᵢ(1−p)/s and variance p(1−p) Σ (wᵢxᵢ/s)²."""
    p = 0.4
    dense = layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((6,)), Dropout(p, mode=mode), dense])
    x = rng.normal(size=(5, 6))
    terms = x * dense.kernel.numpy()[:, 0] / (1 - p if mode == "inverted" else 1)
    mean = (1 - p) * terms.sum(1)
    variance = p * (1 - p) * (terms**2).sum(1)
    agree([value[:, 0] for value in moments_over_copies(model, x)], mean, variance)
    np.testing.assert_allclose(mean, convert_to_numpy(model(x))[:, 0], rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_all_masks_of_a_small_model(rng):
    """The ensemble that N4 counts: every thinned network, weighted by its probability."""
    p = 0.5
    hidden, out = layers.Dense(3, activation="tanh"), layers.Dense(1)
    model = keras.Sequential([keras.Input((2,)), hidden, Dropout(p), out])
    x = rng.normal(size=(4, 2))
    h = convert_to_numpy(hidden(x))
    members = np.stack(
        [convert_to_numpy(out(h * mask / (1 - p))) for mask in itertools.product([0, 1], repeat=3)]
    )
    agree(moments_over_copies(model, x), members.mean(0), members.var(0))


@pytest.mark.usefixtures("float64")
def test_mean_and_spread_of_the_passes_themselves(rng):
    """Also where the spread is a 10⁻⁸ part of the mean."""
    recorder = Recorder()
    model = keras.Sequential([keras.Input((3,)), GaussianNoise(1.0), recorder])
    x = 1e8 + rng.normal(size=(4, 3))
    mean, spread = predict_mc(model, x, 50)
    passes = np.stack(recorder.seen[-50:])
    assert len(np.unique(passes[:, 0, 0])) == 50
    np.testing.assert_allclose(mean, passes.mean(0), rtol=1e-15)
    np.testing.assert_allclose(spread, passes.std(0, ddof=1), rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_batch_normalization_keeps_its_statistics(rng):
    """It divides by what it has stored, and stores nothing new."""
    bn = kerasdl.BatchNormalization()
    model = keras.Sequential([keras.Input((3,)), bn, Dropout(0.5, seed=1)])
    model.set_weights([rng.uniform(1, 2, size=w.shape) for w in model.get_weights()])
    before = model.get_weights()
    x = rng.normal(5, 2, size=(8, 3))
    normalized = convert_to_numpy(bn(x))
    agree(moments_over_copies(model, x), normalized, normalized**2)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def stochastic_layers():
    units = layers.Dense(4)
    return {
        "ours": Dropout(0.5),
        "keras": layers.Dropout(0.5),
        "spatial": keras.Sequential(
            [layers.Reshape((2, 2)), kerasdl.SpatialDropout1D(0.5), layers.Flatten()]
        ),
        "alpha": layers.AlphaDropout(0.5),
        "gaussian": layers.GaussianDropout(0.5),
        "noise": GaussianNoise(0.5),
        "weights": WeightNoise(units, 0.5),
        "distributed": keras.Sequential(
            [layers.Reshape((2, 2)), layers.TimeDistributed(Dropout(0.5)), layers.Flatten()]
        ),
        "recurrent": keras.Sequential([layers.Reshape((2, 2)), layers.LSTM(4, dropout=0.5)]),
        "bidirectional": keras.Sequential(
            [
                layers.Reshape((2, 2)),
                layers.Bidirectional(layers.GRU(2, recurrent_dropout=0.5)),
            ]
        ),
        "attention": Attention(),
    }


class Attention(layers.Layer):
    """Self-attention with dropout inside."""

    def __init__(self):
        super().__init__()
        self.inner = layers.MultiHeadAttention(2, 2, dropout=0.5)

    def call(self, x):
        sequence = keras.ops.reshape(x, (-1, 2, 2))
        return keras.ops.reshape(self.inner(sequence, sequence), (-1, 4))


@pytest.mark.parametrize("kind", list(stochastic_layers()))
def test_every_kind_of_stochastic_layer(kind, rng):
    x = rng.normal(size=(3, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), stochastic_layers()[kind]])
    expected = convert_to_numpy(model(x, training=False))
    _, spread = predict_mc(model, x, 10, seed=1)
    assert np.all(spread.max(axis=1) > 1e-4)
    np.testing.assert_array_equal(convert_to_numpy(model(x, training=False)), expected)
    assert all("call" not in vars(layer) for layer in model._flatten_layers())


def test_structures_of_inputs_and_outputs(rng):
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    inner = keras.Sequential([layers.Dense(2), Dropout(0.5)], name="inner")
    left, right = inner(a), layers.Dense(4)(b)
    data = {"a": rng.normal(size=(5, 2)), "b": rng.normal(size=(5, 3))}
    data = {key: value.astype("float32") for key, value in data.items()}
    model = keras.Model({"a": a, "b": b}, {"left": left, "right": right})
    mean, spread = predict_mc(model, data, 10, batch_size=2)
    assert {key: value.shape for key, value in mean.items()} == {"left": (5, 2), "right": (5, 4)}
    assert spread["left"].max() > 0
    assert spread["right"].max() < 1e-6
    right_only = model.predict(data, verbose=0)["right"]
    np.testing.assert_allclose(mean["right"], right_only, rtol=1e-5, atol=1e-6)
    model = keras.Model([a, b], [left, right])
    mean, spread = predict_mc(model, [data["a"], data["b"]], 10)
    assert [value.shape for value in mean] == [(5, 2), (5, 4)]
    assert [value.dtype for value in spread] == ["float64", "float64"]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.drop = layers.Dense(3), Dropout(0.5)

    def call(self, x, training=False):
        return self.drop(self.dense(x), training=training)


def test_subclassed_and_unbuilt_models(rng):
    model = Subclassed()
    x = rng.normal(size=(4, 2)).astype("float32")
    mean, spread = predict_mc(model, x, 10)
    assert mean.shape == (4, 3)
    assert spread.max() > 0


def test_datasets(rng):
    import tensorflow as tf

    x = rng.normal(size=(10, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), Dropout(0.5)])
    pairs = tf.data.Dataset.from_tensor_slices((x, np.zeros(10))).batch(4)
    first = predict_mc(model, pairs, 5, seed=3)
    second = predict_mc(model, x, 5, batch_size=4, seed=3)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_seeds_and_random_states(rng):
    x = rng.normal(size=(6, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), Dropout(0.5, seed=1), layers.Dropout(0.5)])
    untouched = keras.models.clone_model(model)
    predict_mc(model, x, 3)
    states = [convert_to_numpy(layer.seed_generator.state) for layer in model.layers]
    assert [state[1] for state in states] == [0, 0]
    np.testing.assert_array_equal(
        convert_to_numpy(model.layers[0](x, training=True)),
        convert_to_numpy(untouched.layers[0](x, training=True)),
    )
    same = [predict_mc(model, x, 3, seed=5)[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    other = [predict_mc(model, x, 3)[0] for _ in range(2)]
    assert not np.array_equal(*other)
    repeated = []
    for _ in range(2):
        keras.utils.set_random_seed(4)
        repeated.append(predict_mc(model, x, 3)[0])
    np.testing.assert_array_equal(*repeated)
    batches = predict_mc(model, np.repeat(x[:1], 4, axis=0), 3, batch_size=1, seed=5)[0]
    assert len(np.unique(batches, axis=0)) > 1


def test_equal_layers_draw_apart():
    model = keras.Sequential(
        [keras.Input((50,)), Dropout(0.5, seed=1), Recorder(), Dropout(0.5, seed=1), Recorder()]
    )
    predict_mc(model, np.ones((1, 50), "float32"), 2, seed=1)
    first, second = (model.layers[i].seen[-1] for i in (1, 3))
    assert (second == 0).sum() > (first == 0).sum()


def test_training_goes_on_as_if_nothing_had_been_predicted(rng):
    x, y = rng.normal(size=(64, 4)).astype("float32"), rng.normal(size=(64, 1))
    weights = []
    for between in (False, True):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), Dropout(0.5), layers.Dense(1)])
        model.compile("sgd", loss="mse", jit_compile=False)
        for _ in range(2):
            model.fit(x, y, shuffle=False, verbose=0)
            if between:
                predict_mc(model, x, 2, seed=1)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_array_equal(*weights)


def test_an_error_leaves_the_layers_as_they_were():
    model = keras.Sequential([keras.Input((4,)), Dropout(0.5), layers.Reshape((2, 2))])
    with pytest.raises(Exception, match="incompatible|shape"):
        predict_mc(model, np.ones((3, 5), "float32"), 3)
    x = np.ones((3, 4), "float32")
    np.testing.assert_array_equal(convert_to_numpy(model(x)).reshape(3, 4), x)


def test_errors():
    x = np.ones((3, 4), "float32")
    model = keras.Sequential([keras.Input((4,)), Dropout(0.5)], name="net")
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(1)], name="net")
    no_noise = (
        "`model` must be a model with layers of dropout or noise. Received: model='net'. "
        "Its predictions are always the same: use `predict`."
    )
    one_pass = (
        "`samples` must be an integer of 2 or more. Received: samples=1. "
        "One pass has no spread; 100 are usual."
    )
    no_batch = (
        "`batch_size` must be None or a positive integer. Received: batch_size=0. Pass None for 32."
    )
    no_seed = (
        "`seed` must be None or a non-negative integer. Received: seed=-1. "
        "Pass an integer for repeatable draws."
    )
    no_input = (
        "`x` must be at least one batch of inputs. Received: x=(0, 4). "
        "Pass the inputs to predict for."
    )
    cases = {
        no_noise: (plain, x),
        one_pass: (model, x, 1),
        no_batch: (model, x, 2, 0),
        no_seed: (model, x, 2, None, -1),
        no_input: (model, x[:0]),
    }
    for text, arguments in cases.items():
        with pytest.raises(ValueError, match="Received") as error:
            predict_mc(*arguments)
        assert str(error.value) == text
    with pytest.raises(ValueError, match="`model` must be a Keras model. Received"):
        predict_mc(Dropout(0.5), x)
