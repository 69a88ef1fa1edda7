"""How large the signal is after many layers: the second moment of the pre-activations.

It is averaged over networks, since the weights are what is random; its expectation is what the
formulas keep.
"""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from kerasdl.initializers import HeNormal, RandomNormal, VariancePreserving, initializer_for

DEPTH = 50
# Few, as JAX compiles the same operation anew for each pair of them.
WIDTHS = (256, 384, 512)


def sizes(activation, make, seeds):
    """E[z²] of each layer, relative to the first, averaged over networks."""
    φ = keras.activations.get(activation)
    networks = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        units = [int(width) for width in rng.choice(WIDTHS, DEPTH + 1)]
        generator = keras.random.SeedGenerator(seed)
        x = ops.convert_to_tensor(rng.normal(size=(32, units[0])).astype("float32"))
        z = ops.matmul(x, VariancePreserving("linear", seed=generator)((units[0], units[1])))
        found = [float(ops.mean(ops.square(z)))]
        for shape in itertools.pairwise(units[1:]):
            z = ops.matmul(φ(z), make(generator)(shape))
            found.append(float(ops.mean(ops.square(z))))
        networks.append(found)
    mean = np.mean(networks, axis=0)
    return mean / mean[0]


def preserving(activation):
    return lambda seed: VariancePreserving(activation, seed=seed)


HOLDING = ["linear", "elu", "selu", "tanh", "sigmoid", "softsign", "softplus"]


@pytest.mark.parametrize("activation", HOLDING)
def test_variance_preserving_holds(activation):
    found = sizes(activation, preserving(activation), seeds=2)
    assert 0.5 < found.min() <= found.max() < 2


@pytest.mark.parametrize(("activation", "seeds"), [("relu", 8), ("selu", 2)])
def test_tables_that_hold(activation, seeds):
    found = sizes(activation, lambda seed: initializer_for(activation, seed=seed), seeds)
    assert 0.5 < found.min() <= found.max() < 2


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_rectifiers_hold_on_average(activation):
    """One network drifts by a factor of about 2; the mean over many does not."""
    found = sizes(activation, preserving(activation), seeds=40)
    assert 0.5 < found.min() <= found.max() < 2


WRONG = [
    ("relu", "xavier", 0, 1e-10),
    ("elu", "he", 10, 200),
    ("tanh", "xavier", 0, 0.05),
    ("tanh", "N1", 5, 50),
    ("sigmoid", "xavier", 0, 0.5),
    ("sigmoid", "glorot", 3, 20),
    ("gelu", "he", 0, 1e-6),
    ("linear", "he", 1e10, 1e20),
]


@pytest.mark.parametrize(("activation", "pair", "low", "high"), WRONG)
def test_wrong_pairs_do_not(activation, pair, low, high):
    """With N0's recommendations for ELU, tanh and sigmoid among them, as their docstring says."""
    makers = {
        "xavier": lambda seed: initializer_for(None, seed=seed),
        "he": lambda seed: HeNormal(seed=seed),
        "N1": lambda seed: initializer_for(activation, seed=seed, table="N1"),
        "glorot": lambda seed: initializer_for(activation, seed=seed, table="glorot"),
    }
    assert low <= sizes(activation, makers[pair], seeds=2)[-1] < high


@pytest.mark.parametrize(("stddev", "low", "high"), [(0.01, 0, 1e-30), (0.1, 1e20, 1e35)])
def test_plain_random_weights_vanish_and_explode(stddev, low, high):
    make = lambda seed: RandomNormal(stddev=stddev, seed=seed)  # noqa: E731
    assert low <= sizes("linear", make, seeds=1)[-1] < high


def test_unstable_activations_leave_even_the_exact_factor():
    """What the docstring of `VariancePreserving` says about SiLU."""
    found = sizes("silu", preserving("silu"), seeds=2)
    assert not 0.5 < found[-1] < 2
