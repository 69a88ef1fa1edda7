"""What every optimizer keeps, whatever its rule: sparse gradients, resuming, compilation.

The table of public objects says which optimizers there are, and with which options.
"""

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl
from kerasdl.catalog import CATALOG

OPTIMIZERS = [entry for entry in CATALOG if entry.kind == "optimizer"]
X = np.random.default_rng(1).normal(size=(32, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")

every_optimizer = pytest.mark.parametrize("entry", OPTIMIZERS, ids=lambda entry: entry.name)


def make(entry, with_options=True, **more):
    """An optimizer of the table; what is more goes to the inner optimizer if there is one."""
    if "inner_optimizer" in entry.arguments:
        inner = entry.arguments["inner_optimizer"]
        config = {**(inner["config"] if with_options else {}), **more}
        return entry.object(**{**entry.arguments, "inner_optimizer": {**inner, "config": config}})
    return entry.object(**(entry.arguments if with_options else {}), **more)


def make_model(entry, **arguments):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    # Accumulated gradients are not sparse any more.
    accumulation = {} if entry.object is kerasdl.SparseAdam else {"gradient_accumulation_steps": 2}
    optimizer = make(entry, **accumulation)
    model.compile(optimizer, loss="mse", **arguments)
    return model


def steps(model, first, last):
    for row in range(4 * first, 4 * last, 4):
        model.train_on_batch(X[row : row + 4], Y[row : row + 4])


def state(model):
    variables = model.trainable_variables + model.optimizer.variables
    return [ops.convert_to_numpy(variable) for variable in variables]


@every_optimizer
@pytest.mark.parametrize("with_options", [False, True])
@pytest.mark.tensorflow
def test_repeated_rows_are_summed_before_anything_else(entry, with_options):
    import tensorflow as tf

    if entry.object is kerasdl.SparseAdam:
        pytest.skip("sparse and dense gradients differ there: see test_sparse_adam.py")
    rng = np.random.default_rng(2)
    values, rows = rng.normal(size=(6, 4, 2)), rng.integers(0, 3, size=(6, 4))
    dense = np.zeros((6, 5, 2))
    for step in range(6):
        np.add.at(dense[step], rows[step], values[step])
    slices = [
        tf.IndexedSlices(tf.constant(v), tf.constant(r), tf.constant((5, 2)))
        for v, r in zip(values, rows, strict=True)
    ]
    results = []
    for gradients in (slices, map(tf.constant, dense)):
        θ = keras.Variable(np.ones((5, 2)), dtype="float64")
        optimizer = make(entry, with_options)
        for gradient in gradients:
            optimizer.apply([gradient], [θ])
        results.append(θ.numpy())
    assert not np.array_equal(results[0], np.ones((5, 2)))
    np.testing.assert_allclose(*results, rtol=1e-12)


@pytest.mark.slow
@every_optimizer
def test_saved_and_resumed_bitwise(entry, tmp_path):
    """In the middle of an accumulation: after 5 steps, by twos."""
    whole = make_model(entry, jit_compile=False)
    steps(whole, 0, 7)
    halves = make_model(entry, jit_compile=False)
    steps(halves, 0, 5)
    halves.save(tmp_path / "model.keras")
    halves = keras.models.load_model(tmp_path / "model.keras")
    assert type(halves.optimizer) is entry.object
    steps(halves, 5, 7)
    for a, b in zip(state(whole), state(halves), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@every_optimizer
@pytest.mark.compiled
def test_compiled_and_eager_steps_agree(entry):
    compiled, eager = make_model(entry, jit_compile=True), make_model(entry, run_eagerly=True)
    for model in (compiled, eager):
        steps(model, 0, 7)
    for a, b in zip(state(compiled), state(eager), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=5e-6)
