"""One process, one backend, quiet TensorFlow."""

import gc
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MPLBACKEND", "agg")


import keras
import numpy as np
import pytest
from keras.src.backend.common import dtypes

# What TensorFlow's import left is never garbage; collections need not walk it again.
gc.collect()
gc.freeze()


BACKEND = keras.backend.backend()
BACKENDS = {
    "tensorflow": ("tensorflow",),
    "compiled": ("tensorflow", "jax"),
}
REASONS = {
    "tensorflow": "only TensorFlow under Keras has it",
    "compiled": "Keras compiles no step on PyTorch, unless asked to and given a C++ compiler",
}


def pytest_configure(config):
    for marker, reason in REASONS.items():
        config.addinivalue_line("markers", f"{marker}: {reason}")


def pytest_collection_modifyitems(items):
    for item in items:
        for marker, reason in REASONS.items():
            if BACKEND not in BACKENDS[marker] and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random state and leaves no global Keras state."""
    keras.utils.set_random_seed(0)
    yield
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def has_float64():
    """Let JAX have float64 for the length of one test; the other backends always do."""
    if BACKEND != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def float64(has_float64, monkeypatch):
    """Let Keras build and compute everything in float64 for the length of one test.

    Outside of TensorFlow its type promotion makes float32 of float64, in the product of a
    Dense layer for one, whatever the policy says.
    """
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)
