"""Batch normalization against float64 NumPy, step by step."""

import contextlib
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy

import kerasdl
from kerasdl.layers import BatchNormalization

pytestmark = pytest.mark.filterwarnings("ignore:.* trains on a mini-batch:UserWarning")
ε, d = 1e-3, 0.9
# Keras' own layer computes in float32 outside of TensorFlow.
DIGITS = 1e-12 if keras.backend.backend() == "tensorflow" else 1e-4


def numpy_steps(batches, unbiased, axes):
    """Return the outputs of each step, E and V, by the formulas of N1 and N2."""
    channels = batches[0].shape[-1]
    E, V, outputs = np.zeros(channels), np.ones(channels), []
    for x in batches:
        m = x.size // channels
        μ, σ2 = x.mean(axes), ((x - x.mean(axes)) ** 2).mean(axes)
        outputs.append((x - μ) / np.sqrt(σ2 + ε))
        E = d * E + (1 - d) * μ
        V = d * V + (1 - d) * σ2 * (m / (m - 1) if unbiased else 1)
    return outputs, E, V


@pytest.mark.parametrize("statistics", ["moving", "population"])
@pytest.mark.parametrize("shape", [(8, 3), (2, 3), (4, 5, 3), (2, 3, 3, 3)])
@pytest.mark.usefixtures("float64")
def test_steps(statistics, shape, rng):
    batches = [rng.normal(1, 3, shape) for _ in range(4)]
    axes = tuple(range(len(shape) - 1))
    expected, E, V = numpy_steps(batches, statistics == "population", axes)
    layer = BatchNormalization(momentum=d, epsilon=ε, statistics=statistics)
    for x, y in zip(batches, expected, strict=True):
        got = convert_to_numpy(layer(x, training=True))
        np.testing.assert_allclose(got, y, rtol=DIGITS, atol=DIGITS)
    np.testing.assert_allclose(layer.moving_mean.numpy(), E, rtol=DIGITS)
    np.testing.assert_allclose(layer.moving_variance.numpy(), V, rtol=DIGITS)
    test = convert_to_numpy(layer(batches[0], training=False))
    np.testing.assert_allclose(test, (batches[0] - E) / np.sqrt(V + ε), DIGITS, DIGITS)


def test_moving_is_keras_bit_for_bit(rng):
    ours, keras_own = BatchNormalization(), keras.layers.BatchNormalization()
    for _ in range(3):
        x = rng.normal(size=(6, 4)).astype("float32")
        outputs = [convert_to_numpy(layer(x, training=True)) for layer in (ours, keras_own)]
        np.testing.assert_array_equal(*outputs)
    for a, b in zip(ours.weights, keras_own.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.usefixtures("float64")
def test_channels_first(rng):
    x = rng.normal(size=(4, 3, 5))
    layer = BatchNormalization(axis=1, momentum=0.0, statistics="population")
    layer(x, training=True)
    expected = x.transpose(0, 2, 1).reshape(-1, 3).var(0, ddof=1)
    np.testing.assert_allclose(layer.moving_variance.numpy(), expected, rtol=DIGITS)


@pytest.mark.parametrize("shape", [(4, 6), (4, 1)])
@pytest.mark.usefixtures("float64")
def test_mask_counts_the_unmasked(shape, rng):
    """Keras adds 1e-7 to the masked count, hence the tolerance."""
    x = rng.normal(size=(4, 6, 3))
    mask = rng.random(shape) < 0.6
    layer = BatchNormalization(momentum=0.0, statistics="population")
    layer(x, training=True, mask=np.broadcast_to(mask, (4, 6)) if shape[1] > 1 else mask)
    kept = x[np.broadcast_to(mask, (4, 6))]
    np.testing.assert_allclose(layer.moving_variance.numpy(), kept.var(0, ddof=1), rtol=1e-6)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "options",
    [{}, pytest.param({"jit_compile": True}, marks=pytest.mark.compiled), {"run_eagerly": True}],
)
def test_fit_with_a_smaller_last_batch(options, rng):
    x = rng.normal(2, 3, size=(11, 3))
    batches = [x[:4], x[4:8], x[8:]]
    _, E, V = numpy_steps(batches * 2, True, (0,))
    layer = BatchNormalization(momentum=d, epsilon=ε, statistics="population")
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", loss="mse", **{"jit_compile": False, **options})
    model.fit(x, x, batch_size=4, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(layer.moving_mean.numpy(), E, rtol=DIGITS)
    np.testing.assert_allclose(layer.moving_variance.numpy(), V, rtol=DIGITS)


@pytest.mark.tensorflow
def test_a_last_batch_of_one_in_fit_stays_finite(rng):
    layer = BatchNormalization(momentum=0.5, statistics="population")
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile("sgd", loss="mse", jit_compile=False)
    x = rng.normal(size=(5, 2))
    model.fit(x, x, batch_size=4, shuffle=False, verbose=0)
    expected = 0.5 * (0.5 + 0.5 * x[:4].var(0, ddof=1))
    np.testing.assert_allclose(layer.moving_variance.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, rng):
    layer = BatchNormalization(momentum=0.0, statistics="population", dtype=policy)
    x = rng.normal(size=(16, 3)).astype("float32")
    y = layer(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    assert layer.moving_variance.dtype == "float32"
    np.testing.assert_allclose(layer.moving_variance.numpy(), x.var(0, ddof=1), rtol=0.02)


@pytest.mark.tensorflow
def test_synchronized_without_replicas(rng):
    x = rng.normal(size=(4, 3)).astype("float32")
    layer = BatchNormalization(momentum=0.0, statistics="population", synchronized=True)
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_variance.numpy(), x.var(0, ddof=1), rtol=1e-5)


def test_frozen_and_test_time_change_nothing(rng):
    layer = BatchNormalization(statistics="population")
    layer.build((None, 3))
    before = [w.numpy().copy() for w in layer.weights]
    layer(rng.normal(size=(4, 3)), training=False)
    layer.trainable = False
    layer(rng.normal(size=(4, 3)), training=True)
    layer.trainable = True
    for old, new in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_statistics_error():
    with pytest.raises(ValueError, match="statistics") as error:
        BatchNormalization(statistics="batch")
    assert str(error.value) == (
        "`statistics` must be 'moving' or 'population'. Received: statistics='batch'. "
        "Pass 'population' for unbiased estimates."
    )


def test_renorm_error():
    assert BatchNormalization(renorm=True).renorm
    with pytest.raises(ValueError, match="renorm") as error:
        BatchNormalization(renorm=True, statistics="population")
    assert str(error.value) == (
        "`renorm` must be False with statistics='population'. Received: renorm=True. "
        "Drop `renorm`, or pass statistics='moving'."
    )


def test_one_value_error():
    layer = BatchNormalization(statistics="population")
    with pytest.raises(ValueError, match="inputs") as error:
        layer(np.ones((1, 3), "float32"), training=True)
    assert (
        "`inputs` must be a batch with 2 or more values per channel while training with "
        "statistics='population'. Received: inputs=(1, 3). Use larger batches, or "
        "statistics='moving'."
    ) in str(error.value)
    BatchNormalization()(np.ones((1, 3), "float32"), training=True)


ONE = (
    "`bn` trains on a mini-batch with one value per channel, which has no variance: its output "
    "does not depend on the input. Use larger batches."
)
FEW = (
    "`bn` trains on a mini-batch of {} samples, whose statistics are noisy. Use 8 or more, "
    "better 32, or another normalization."
)


@contextlib.contextmanager
def saying(text):
    """What is said inside is this one warning, or none."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    assert {str(each.message) for each in said} == ({text} if text else set())


@pytest.mark.parametrize(
    ("shape", "text"),
    [((1, 3), ONE), ((1, 1, 1, 3), ONE), ((1, 4, 4, 3), FEW.format(1)), ((7, 3), FEW.format(7)),
     ((2, 9, 3), FEW.format(2)), ((8, 3), None), ((8, 2, 3), None)],
)  # fmt: skip
def test_small_mini_batches_are_said(shape, text):
    x = np.ones(shape, "float32")
    for statistics in ("moving", "population"):
        layer = BatchNormalization(statistics=statistics, name="bn")
        frozen = BatchNormalization(statistics=statistics, trainable=False)
        with saying(None):
            layer(x, training=False)
            frozen(x, training=True)
        if text != ONE or statistics == "moving":
            with saying(text):
                layer(x, training=True)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_small_mini_batches_are_said_by_fit(size, rng):
    layer = BatchNormalization(name="bn")
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", loss="mse", jit_compile=False)
    x = rng.normal(size=(16, 3))
    with saying({1: ONE, 4: FEW.format(4), 8: None}[size]):
        model.fit(x, x, batch_size=size, verbose=0)
        model.evaluate(x, x, batch_size=1, verbose=0)


REPLICAS = """
import keras, numpy as np, tensorflow as tf
from kerasdl import BatchNormalization

cpu = tf.config.list_physical_devices("CPU")[0]
devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, devices)
x = np.random.default_rng(0).normal(3, 2, size=(8, 3)).astype("float32")
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    layer = BatchNormalization(momentum=0.0, statistics="population", synchronized=True)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("sgd", loss="mse", jit_compile=False)
model.fit(x, x, batch_size=8, verbose=0)
np.testing.assert_allclose(layer.moving_variance.numpy(), x.var(0, ddof=1), rtol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.tensorflow
def test_synchronized_over_two_replicas():
    root = Path(kerasdl.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", REPLICAS], cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
