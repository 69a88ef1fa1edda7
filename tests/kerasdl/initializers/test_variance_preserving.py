"""The quadrature against SciPy's, and the spread that follows from it."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, special

from kerasdl.initializers import VariancePreserving
from kerasdl.initializers.variance_preserving import second_moment

NORMAL = 1 / np.sqrt(2 * np.pi)


@keras.saving.register_keras_serializable(package="test_variance_preserving")
def step(z):
    """A jump, at a place that no grid hits."""
    return ops.where(z > 0.3141592, 2.0, -0.5) * ops.ones_like(z)


def staircase(z):
    return ops.floor(3 * z)


REFERENCES = {
    "linear": (lambda z: z, []),
    "relu": (lambda z: max(z, 0), [0]),
    "leaky_relu": (lambda z: max(z, 0.2 * z), [0]),
    "relu6": (lambda z: min(max(z, 0), 6), [0, 6]),
    "elu": (lambda z: z if z > 0 else np.expm1(z), [0]),
    "selu": (
        lambda z: 1.05070098735548 * (z if z > 0 else 1.67326324235438 * np.expm1(z)),
        [0],
    ),
    "gelu": (lambda z: z * special.ndtr(z), []),
    "silu": (lambda z: z * special.expit(z), []),
    "softplus": (lambda z: np.logaddexp(0, z), []),
    "sigmoid": (special.expit, []),
    "hard_sigmoid": (lambda z: min(max(z / 6 + 0.5, 0), 1), [-3, 3]),
    "tanh": (np.tanh, []),
    "hard_tanh": (lambda z: min(max(z, -1), 1), [-1, 1]),
    "softsign": (lambda z: z / (1 + abs(z)), [0]),
    "exponential": (np.exp, []),
    "hard_shrink": (lambda z: z if abs(z) > 0.5 else 0, [-0.5, 0.5]),
}


def reference(f, kinks):
    edges = [-12, *kinks, 12]
    parts = [
        integrate.quad(
            lambda z: f(z) ** 2 * NORMAL * np.exp(-z * z / 2), low, high, epsabs=1e-12, limit=200
        )[0]
        for low, high in itertools.pairwise(edges)
    ]
    return sum(parts)


@pytest.mark.parametrize("name", REFERENCES)
def test_against_scipy(name):
    expected = reference(*REFERENCES[name])
    assert second_moment(keras.activations.get(name)) == pytest.approx(expected, rel=1e-6)
    assert VariancePreserving(name).scale == pytest.approx(1 / expected, rel=1e-6)


def test_steps():
    above = special.ndtr(-0.3141592)
    assert second_moment(step) == pytest.approx(4 * above + 0.25 * (1 - above), rel=1e-6)
    k = np.arange(-40, 40)
    mass = special.ndtr((k + 1) / 3) - special.ndtr(k / 3)
    assert second_moment(staircase) == pytest.approx(np.sum(k**2 * mass), rel=1e-6)


def test_known_gains():
    assert VariancePreserving("relu").scale == pytest.approx(2, abs=1e-6)
    assert VariancePreserving("elu").scale == pytest.approx(1.551, abs=5e-4)
    assert VariancePreserving(None).scale == pytest.approx(1, abs=1e-6)
    assert VariancePreserving("selu").scale == pytest.approx(1, abs=1e-6)
    slope = keras.layers.LeakyReLU(negative_slope=0.5)
    assert VariancePreserving(slope).scale == pytest.approx(2 / 1.25, abs=1e-6)


@pytest.mark.parametrize(
    "activation",
    [
        keras.activations.elu,
        keras.layers.ELU(),
        keras.layers.Activation("elu"),
        keras.layers.ELU(dtype="mixed_bfloat16"),
    ],
)
def test_functions_and_layers_count_like_names(activation):
    assert VariancePreserving(activation).scale == pytest.approx(1.5505188, rel=1e-6)


def test_a_layer_with_weights_is_not_built():
    layer = keras.layers.PReLU(alpha_initializer=keras.initializers.Constant(0.5))
    assert VariancePreserving(layer).scale == pytest.approx(2 / 1.25, abs=1e-6)
    assert not layer.built


@pytest.mark.parametrize("activation", [step, keras.layers.LeakyReLU(negative_slope=0.3), "tanh"])
def test_saved_with_its_activation(activation, tmp_path):
    initializer = VariancePreserving(activation, "uniform", seed=3, dropout=0.1)
    config = keras.saving.serialize_keras_object(initializer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.scale == initializer.scale
    np.testing.assert_array_equal(initializer((5, 6)), again((5, 6)))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer=again)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].kernel_initializer.get_config() == initializer.get_config()


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_is_made_up_for(rate, rng):
    """E[z'²] behind ReLU and inverted dropout, over many weights and samples."""
    z = ops.convert_to_tensor(rng.normal(size=(2000, 500)).astype("float32"))
    x = keras.layers.Dropout(rate, seed=1)(ops.relu(z), training=True)
    for p, expected in ((rate, 1.0), (0.0, 1 / (1 - rate))):
        w = VariancePreserving("relu", seed=2, dropout=p)((500, 500))
        size = float(ops.mean(ops.square(ops.matmul(x, w))))
        assert size == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax", "glu"])
def test_not_elementwise(name):
    with pytest.raises(ValueError, match="activation") as error:
        VariancePreserving(name)
    text = str(error.value)
    assert text.startswith("`activation` must be a function that acts on each element by itself. ")
    assert text.endswith("Softmax and its relatives have no such gain; use `initializer_for`.")


@pytest.mark.parametrize(
    "function",
    [
        ops.zeros_like,
        lambda z: ops.exp(z * z / 4),
        ops.log,
    ],
)
def test_no_second_moment(function):
    with pytest.raises(ValueError, match="activation") as error:
        second_moment(function)
    text = str(error.value)
    assert text.startswith("`activation` must be a function φ, smooth almost everywhere, with 0 <")
    assert text.endswith("Look at its values between -16 and 16, or set the spread by hand.")


def test_a_random_function_is_refused():
    noise = keras.random.SeedGenerator(1)
    with pytest.raises(ValueError, match="each element by itself"):
        second_moment(lambda z: z + keras.random.normal(z.shape, dtype=z.dtype, seed=noise))


@pytest.mark.parametrize("activation", ["nope", keras.layers.ReLU, 3.0])
def test_unknown_activation(activation):
    with pytest.raises(ValueError, match="activation") as error:
        VariancePreserving(activation)
    assert str(error.value) == (
        "`activation` must be None, the name of a Keras activation, a function of a tensor or "
        f"an activation layer. Received: activation={activation!r}. "
        "Pass a name such as 'elu', or the function itself."
    )


@pytest.mark.parametrize("dropout", [-0.1, 1, "0.5", float("nan")])
def test_dropout_error(dropout):
    with pytest.raises(ValueError, match="dropout") as error:
        VariancePreserving("relu", dropout=dropout)
    assert str(error.value) == (
        f"`dropout` must be in [0, 1). Received: dropout={dropout!r}. "
        "Pass the rate of the dropout layer in front of the weights."
    )


def test_distribution_error():
    with pytest.raises(ValueError, match="distribution") as error:
        VariancePreserving("relu", "cauchy")
    assert str(error.value).startswith("`distribution` must be 'normal' or 'uniform'. Received:")
