"""Drawn means, spreads and bounds against the formulas."""

import keras
import numpy as np
import pytest

from kerasdl.initializers import (
    Constant,
    HeNormal,
    HeUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    VariancePreserving,
    XavierNormal,
    XavierUniform,
    Zeros,
)

SHAPES = [((400, 300), 400, 300), ((3, 5, 80, 100), 15 * 80, 15 * 100), ((7, 64, 256), 448, 1792)]
NORMAL = [(HeNormal, False), (HeNormal, True), (XavierNormal, False), (XavierNormal, True)]


def sigma(cls, fan_in, fan_out):
    he = cls in (HeNormal, HeUniform)
    return np.sqrt(2 / fan_in) if he else np.sqrt(2 / (fan_in + fan_out))


def drawn(initializer, shape):
    return np.asarray(initializer(shape), "float64").ravel()


def assert_moments(values, std):
    n = values.size
    assert n >= 100_000
    assert abs(values.mean()) < 5 * std / np.sqrt(n)
    kurtosis = np.mean(values**4) / np.mean(values**2) ** 2
    error = np.sqrt((kurtosis - 1) / n) / 2
    assert abs(values.std() / std - 1) < 5 * error


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
@pytest.mark.parametrize(("cls", "truncated"), NORMAL)
def test_normal(cls, truncated, shape, fan_in, fan_out):
    values = drawn(cls(seed=1, truncated=truncated), shape)
    std = sigma(cls, fan_in, fan_out)
    assert_moments(values, std)
    beyond = np.mean(np.abs(values) > 2.3 * std)
    assert (beyond == 0) if truncated else (0.018 < beyond < 0.025)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), SHAPES)
@pytest.mark.parametrize("cls", [HeUniform, XavierUniform])
def test_uniform(cls, shape, fan_in, fan_out):
    values = drawn(cls(seed=1), shape)
    std = sigma(cls, fan_in, fan_out)
    assert_moments(values, std)
    bound = np.sqrt(3) * std
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert np.abs(values).max() > bound * (1 - 1e-3)


@pytest.mark.parametrize(("cls", "truncated"), NORMAL)
def test_config(cls, truncated):
    initializer = cls(seed=5, truncated=truncated)
    shared = {"seed": 5, "truncated": truncated, "input_axes": None, "output_axes": None}
    assert initializer.get_config() == shared | ({"gain": 1.0} if cls is XavierNormal else {})
    again = cls.from_config(initializer.get_config())
    np.testing.assert_array_equal(initializer((4, 5)), again((4, 5)))


MILLION = (1000, 1000)
DRAWN = [
    (RandomNormal(mean=0.2, stddev=0.3, seed=1), 0.2, 0.3, None),
    (RandomUniform(minval=-0.1, maxval=0.3, seed=2), 0.1, 0.4 / np.sqrt(12), (-0.1, 0.3)),
    (HeNormal(seed=3), 0, np.sqrt(2 / 1000), None),
    (HeNormal(seed=4, truncated=True), 0, np.sqrt(2 / 1000), "two"),
    (HeUniform(seed=5), 0, np.sqrt(2 / 1000), "uniform"),
    (XavierNormal(seed=6, gain=4.0), 0, 4 * np.sqrt(1 / 1000), None),
    (XavierNormal(seed=7, truncated=True, gain=0.5), 0, 0.5 * np.sqrt(1 / 1000), "two"),
    (XavierUniform(seed=8, gain=np.sqrt(2)), 0, np.sqrt(2 / 1000), "uniform"),
    (VariancePreserving("elu", seed=9), 0, np.sqrt(1.5505188 / 1000), None),
    (VariancePreserving("relu", "uniform", 10, 0.2), 0, np.sqrt(1.6 / 1000), "uniform"),
]


@pytest.mark.parametrize(
    ("initializer", "mean", "std", "bounds"), DRAWN, ids=lambda value: type(value).__name__
)
def test_a_million_draws(initializer, mean, std, bounds):
    values = drawn(initializer, MILLION)
    assert abs(values.mean() - mean) < 5 * std / 1000
    centred = values - mean
    variance = np.mean(centred**2)
    assert abs(variance - std**2) < 5 * np.sqrt(np.mean(centred**4) - variance**2) / 1000
    if bounds is None:
        assert np.abs(centred).max() > 4 * std
        return
    if bounds == "two":
        # Cut at two standard deviations of the normal before it was cut.
        bounds = (-2 * std / 0.87962566, 2 * std / 0.87962566)
        # Keras on PyTorch draws no more than four times: of a million, about 4 stay beyond.
        if keras.backend.backend() == "torch":
            inside = (bounds[0] <= values) & (values <= bounds[1])
            assert np.sum(~inside) < 20
            values = values[inside]
    low, high = (-np.sqrt(3) * std, np.sqrt(3) * std) if bounds == "uniform" else bounds
    slack = 1e-6 * (high - low)
    assert low - slack <= values.min() < low + 1e-3 * (high - low)
    assert high + slack >= values.max() > high - 1e-3 * (high - low)


def test_constants():
    np.testing.assert_array_equal(Constant(0.3)((2, 3)), np.full((2, 3), 0.3, "float32"))
    np.testing.assert_array_equal(Ones()((2, 3)), np.ones((2, 3)))
    np.testing.assert_array_equal(Zeros()((2, 3)), np.zeros((2, 3)))


@pytest.mark.parametrize("initializer", [Zeros(), Constant(0.5)])
def test_equal_weights_stay_equal(initializer, rng):
    """The symmetry that random weights are there to break."""
    model = keras.Sequential([keras.Input((4,))])
    for units in (5, 5, 1):
        model.add(keras.layers.Dense(units, activation="tanh", kernel_initializer=initializer))
    model.compile("sgd", loss="mse", jit_compile=False)
    x = rng.normal(size=(32, 4)).astype("float32")
    model.fit(x, x[:, :1], epochs=2, verbose=0)
    for layer in model.layers[:2]:
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        np.testing.assert_allclose(kernel, np.repeat(kernel[:, :1], 5, axis=1), atol=1e-7)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (3, 3, 5, 7), (2, 2, 3, 40), (5, 8, 3)])
def test_orthogonal(shape):
    w = np.asarray(Orthogonal(gain=1.5, seed=3)(shape), "float64").reshape(-1, shape[-1])
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(gram, 2.25 * np.eye(len(gram)), atol=1e-5)


AXES = [HeNormal, HeUniform, XavierNormal, XavierUniform]


@pytest.mark.parametrize("make", [*AXES, lambda seed: VariancePreserving("relu", seed=seed)])
def test_einsum_dense_and_attention(make, rng):
    """They tell the initializer which axes are inputs; Keras gives its own the same."""
    layer = keras.layers.EinsumDense("abc,cde->abde", (7, 40, 50), kernel_initializer=make(seed=1))
    layer.build((None, 7, 300))
    he = keras.initializers.VarianceScaling(
        make(seed=1).scale, make(seed=1).mode, input_axes=[0], output_axes=[1, 2]
    )
    expected = np.std(np.asarray(he((300, 40, 50))))
    assert abs(np.std(np.asarray(layer.kernel)) / expected - 1) < 0.01
    attention = keras.layers.MultiHeadAttention(2, 3, kernel_initializer=make(seed=1))
    x = rng.normal(size=(2, 5, 4)).astype("float32")
    assert attention(x, x).shape == (2, 5, 4)


def test_axes_of_a_depthwise_kernel():
    axes = {"input_axes": [0, 1], "output_axes": [2, 3]}
    for initializer in (HeNormal(seed=1, **axes), VariancePreserving("relu", seed=1, **axes)):
        assert abs(drawn(initializer, (3, 3, 500, 20)).std() / np.sqrt(2 / 9) - 1) < 0.02
        assert type(initializer).from_config(initializer.get_config()).input_axes == [0, 1]


@pytest.mark.parametrize("cls", [XavierNormal, XavierUniform])
@pytest.mark.parametrize("gain", [0, -1.0, float("nan"), "4", True])
def test_gain_error(cls, gain):
    with pytest.raises(ValueError, match="gain") as error:
        cls(gain=gain)
    assert str(error.value) == (
        f"`gain` must be a positive number. Received: gain={gain!r}. "
        "Pass 1.0 for the paper's spread."
    )


@pytest.mark.parametrize("cls", [HeNormal, HeUniform, XavierNormal, XavierUniform])
def test_seed_generator_moves_on_and_survives_its_config(cls):
    initializer = cls(seed=keras.random.SeedGenerator(3))
    assert np.any(np.asarray(initializer((4, 5))) != np.asarray(initializer((4, 5))))
    config = keras.saving.serialize_keras_object(initializer)
    assert isinstance(keras.saving.deserialize_keras_object(config), cls)


@pytest.mark.parametrize("cls", [HeNormal, XavierNormal])
def test_truncated_error(cls):
    with pytest.raises(ValueError, match="truncated") as error:
        cls(truncated="yes")
    assert str(error.value) == (
        "`truncated` must be True or False. Received: truncated='yes'. "
        "Pass True to draw no value beyond two standard deviations."
    )
