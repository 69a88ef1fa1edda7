"""Noise on inputs, activations and weights: its law, its gradient, its random state."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy

import kerasdl
from kerasdl import BatchNormalization, Dropout, GaussianNoise, WeightNoise


def is_normal(values, σ):
    """Whether mean, variance and fourth moment are those of N(0, σ²), to five errors."""
    n = values.size
    z = values / σ
    return (
        abs(z.mean()) < 5 / np.sqrt(n)
        and abs((z**2).mean() - 1) < 5 * np.sqrt(2 / n)
        and abs((z**4).mean() - 3) < 5 * np.sqrt(96 / n)
    )


@pytest.mark.parametrize("σ", [0.3, 2.5])
@pytest.mark.usefixtures("float64")
def test_noise_on_activations(σ, rng):
    x = rng.normal(size=(300, 200))
    layer = GaussianNoise(σ, seed=1)
    assert is_normal(convert_to_numpy(layer(x, training=True)) - x, σ)
    np.testing.assert_array_equal(convert_to_numpy(layer(x, training=False)), x)
    again = GaussianNoise.from_config(layer.get_config())
    assert again.stddev == σ
    zero = GaussianNoise(0.0)
    np.testing.assert_array_equal(convert_to_numpy(zero(x, training=True)), x)


def test_noise_draws_what_keras_draws(rng):
    x = rng.normal(size=(4, 3)).astype("float32")
    ours, theirs = GaussianNoise(0.5, seed=4), keras.layers.GaussianNoise(0.5, seed=4)
    for _ in range(2):
        outputs = [convert_to_numpy(layer(x, training=True)) for layer in (ours, theirs)]
        np.testing.assert_array_equal(*outputs)


@pytest.mark.usefixtures("float64")
def test_noise_on_weights(rng):
    σ = 0.7
    layer = WeightNoise(keras.layers.Dense(200, bias_initializer="ones"), σ, seed=1)
    x = np.eye(300)
    clean = convert_to_numpy(layer(x, training=False))
    kernel, bias = (convert_to_numpy(w) for w in layer.layer.weights)
    np.testing.assert_array_equal(clean, kernel + bias)
    first, second = (convert_to_numpy(layer(x, training=True)) - clean for _ in range(2))
    assert is_normal(first, σ)
    assert is_normal(first - second, σ * np.sqrt(2))
    np.testing.assert_array_equal(convert_to_numpy(layer.layer.kernel), kernel)


@pytest.mark.tensorflow
@pytest.mark.usefixtures("float64")
def test_the_gradient_is_taken_at_the_noisy_weight_and_moves_the_clean_one(rng):
    import tensorflow as tf

    layer = WeightNoise(keras.layers.Dense(3, use_bias=False), 0.5, seed=1)
    x = rng.normal(size=(4, 2))
    layer.build((None, 2))
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_sum(y**2) / 2
    (gradient,) = tape.gradient(loss, [layer.layer.kernel.value])
    noisy = np.linalg.lstsq(x, y.numpy(), rcond=None)[0]
    assert np.abs(noisy - layer.layer.kernel.numpy()).max() > 0.1
    np.testing.assert_allclose(gradient.numpy(), x.T @ x @ noisy, rtol=1e-10)


def wrapped_kinds():
    layers = keras.layers
    return {
        "dense": (layers.Dense(3), (4,)),
        "convolution": (layers.Conv2D(2, 2), (4, 4, 1)),
        "separable": (layers.SeparableConv1D(2, 2), (5, 2)),
        "recurrent": (layers.LSTM(3), (5, 2)),
        "bidirectional": (layers.Bidirectional(layers.GRU(2, return_sequences=True)), (5, 2)),
        "embedding": (layers.Embedding(10, 3), (4,)),
        "model": (keras.Sequential([layers.Dense(3, "tanh"), layers.Dense(2)]), (4,)),
    }


@pytest.mark.parametrize("kind", list(wrapped_kinds()))
def test_any_layer_with_a_kernel(kind, rng, tmp_path):
    layer, shape = wrapped_kinds()[kind]
    x = rng.integers(0, 10, size=(3, *shape)).astype("float32")
    model = keras.Sequential([keras.Input(shape), WeightNoise(layer, 0.5, seed=1)])
    before = model.get_weights()
    clean = convert_to_numpy(model(x, training=False))
    first = convert_to_numpy(model(x, training=True))
    assert np.abs(first - clean).max() > 1e-3
    np.testing.assert_array_equal(convert_to_numpy(layer(x, training=False)), clean)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    second = convert_to_numpy(model(x, training=True))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(convert_to_numpy(loaded(x, training=True)), second)


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"jit_compile": True}, marks=pytest.mark.compiled)]
)
def test_it_trains(options, rng):
    x = rng.normal(size=(256, 4)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5], [0.0]], "float32")
    layer = WeightNoise(keras.layers.Dense(1), 0.05, seed=1)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(kerasdl.SGD(0.05), loss="mse", **{"jit_compile": False, **options})
    model.fit(x, y, batch_size=32, epochs=15, verbose=0)
    kernel = convert_to_numpy(layer.layer.kernel)
    np.testing.assert_allclose(kernel, [[1.0], [-2.0], [0.5], [0.0]], atol=0.1)


def test_what_the_inner_layer_assigns_and_adds_stays(rng):
    """Moving averages, random states and losses of the layers inside."""
    inner = keras.Sequential(
        [
            keras.layers.Dense(4, activity_regularizer=keras.regularizers.L2(0.1)),
            BatchNormalization(momentum=0.5),
            Dropout(0.5, seed=2),
        ]
    )
    layer = WeightNoise(inner, 0.1, seed=1)
    x = rng.normal(3, 1, size=(16, 4)).astype("float32")
    first = convert_to_numpy(layer(x, training=True))
    assert len(layer.losses) == 1
    assert convert_to_numpy(layer.losses[0]) > 0
    assert np.abs(inner.layers[1].moving_mean.numpy()).max() > 0.1
    assert convert_to_numpy(inner.layers[2].seed_generator.state)[1] == 1
    second = convert_to_numpy(layer(x, training=True))
    assert not np.array_equal(first == 0, second == 0)


def test_masks_pass_through():
    x = np.array([[1, 2, 0], [3, 0, 0]])
    model = keras.Sequential(
        [
            keras.layers.Embedding(5, 3, mask_zero=True),
            WeightNoise(keras.layers.LSTM(2, return_sequences=True), 0.1),
        ]
    )
    y = model(x, training=True)
    assert convert_to_numpy(y._keras_mask).tolist() == (x != 0).tolist()
    np.testing.assert_array_equal(convert_to_numpy(y)[1, 1], convert_to_numpy(y)[1, 2])


@pytest.mark.parametrize("sequences", [True, False])
def test_masks_of_symbolic_tensors(sequences):
    """Of a recurrent layer that returns its last state only, nothing is masked."""
    x = keras.layers.Embedding(5, 3, mask_zero=True)(keras.Input((4,)))
    y = WeightNoise(keras.layers.LSTM(2, return_sequences=sequences), 0.1)(x)
    assert (getattr(y, "_keras_mask", None) is not None) == sequences


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.usefixtures("has_float64")
def test_dtype_policies(policy, rng):
    x = rng.normal(size=(4, 3)).astype("float32")
    for layer in (
        GaussianNoise(0.5, dtype=policy),
        WeightNoise(keras.layers.Dense(2, dtype=policy), 0.5, dtype=policy),
    ):
        y = layer(x, training=True)
        assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
        assert not np.array_equal(convert_to_numpy(layer(x)), convert_to_numpy(y))


def test_noise_on_activations_goes_on_after_loading(tmp_path):
    model = keras.Sequential([keras.Input((50,)), GaussianNoise(2.0, seed=3)])
    x = np.ones((4, 50), "float32")
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    second = convert_to_numpy(model(x, training=True))
    np.testing.assert_array_equal(convert_to_numpy(loaded(x, training=True)), second)


def test_a_configuration_is_left_as_it_is():
    config = WeightNoise(keras.layers.Dense(2), 0.1).get_config()
    copies = [WeightNoise.from_config(config) for _ in range(2)]
    assert copies[0].layer is not copies[1].layer
    assert "layer" in config


@pytest.mark.parametrize("σ", [-0.1, float("nan"), float("inf"), "1", True])
@pytest.mark.parametrize("make", [GaussianNoise, lambda σ: WeightNoise(keras.layers.Dense(1), σ)])
def test_bad_stddev(make, σ):
    with pytest.raises(ValueError, match="stddev") as error:
        make(σ)
    assert str(error.value) == (
        f"`stddev` must be 0 or a positive number. Received: stddev={σ!r}. "
        "Pass the standard deviation of the noise."
    )


def test_bad_layer():
    with pytest.raises(ValueError, match="`layer` must be a Keras layer. Received: layer=3."):
        WeightNoise(3, 0.1)
    with pytest.raises(ValueError, match="`layer` must be a layer with a weight named"):
        WeightNoise(keras.layers.ReLU(), 0.1).build((None, 2))
