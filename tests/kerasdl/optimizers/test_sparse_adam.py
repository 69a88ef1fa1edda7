"""SparseAdam: rows without a gradient rest."""

import keras
import numpy as np
import pytest
from keras import ops

import references
from kerasdl.optimizers import Adam, SparseAdam

TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


def by_rows(θ, batches, η, beta_1=0.9, beta_2=0.999, epsilon=1e-8, amsgrad=False):
    """Adam with the moments of each row by itself; t counts all updates."""
    θ = θ.copy()
    m, v, v_max = np.zeros_like(θ), np.zeros_like(θ), np.zeros_like(θ)
    for t, (indices, values) in enumerate(batches, start=1):
        for i in sorted(set(indices)):
            g = values[indices == i].sum(axis=0)
            m[i] = beta_1 * m[i] + (1 - beta_1) * g
            v[i] = beta_2 * v[i] + (1 - beta_2) * g**2
            v_hat = v[i] / (1 - beta_2**t)
            v_max[i] = np.maximum(v_max[i], v_hat)
            root = np.sqrt(v_max[i] if amsgrad else v_hat)
            θ[i] -= η * m[i] / (1 - beta_1**t) / (root + epsilon)
    return θ, m, v


def random_batches(rng, steps=30, rows=8, shape=(3,)):
    """Row 7 never comes, row 6 comes late; rows repeat within a batch."""
    for step in range(steps):
        indices = rng.integers(0, 6 if step < 20 else 7, size=rng.integers(1, 7))
        yield indices, rng.normal(size=(len(indices), *shape))


def slices(indices, values, shape, dtype):
    import tensorflow as tf

    values = tf.cast(tf.convert_to_tensor(values), dtype)
    return tf.IndexedSlices(values, tf.convert_to_tensor(indices), tf.constant(shape))


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_every_row_has_its_own_moments(rng, dtype, amsgrad, compiled):
    import tensorflow as tf

    start, batches = rng.normal(size=(8, 3)), list(random_batches(rng))
    θ = keras.Variable(start, dtype=dtype)
    optimizer = SparseAdam(0.125, amsgrad=amsgrad)
    optimizer.build([θ])

    def apply(indices, values):
        optimizer.apply([slices(indices, values, (8, 3), dtype)], [θ])

    step = tf.function(apply, reduce_retracing=True) if compiled else apply
    for indices, values in batches:
        step(indices, values)
    expected, m, v = by_rows(start, batches, 0.125, amsgrad=amsgrad)
    check = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype] / 10}
    np.testing.assert_allclose(θ.numpy(), expected, **check)
    np.testing.assert_allclose(optimizer.slot("m", θ), m, **check)
    np.testing.assert_allclose(optimizer.slot("v", θ), v, **check)
    np.testing.assert_array_equal(θ.numpy()[7], start[7].astype(dtype))


@pytest.mark.usefixtures("has_float64")
def test_dense_gradients_are_applied_as_in_adam(rng):
    start, gradients = rng.normal(size=(4, 3)), rng.normal(size=(30, 4, 3))
    θ = keras.Variable(start, dtype="float64")
    optimizer = SparseAdam(0.125)
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient)], [θ])
    rtol = 1e-6 if keras.backend.backend() == "jax" else 1e-12
    np.testing.assert_allclose(θ.numpy(), references.adam(start, gradients, 0.125), rtol=rtol)


@pytest.mark.tensorflow
def test_differs_from_adam_where_a_row_pauses():
    variables = [keras.Variable(np.zeros((2, 1))) for _ in range(2)]
    for optimizer, θ in zip((Adam(0.5), SparseAdam(0.5)), variables, strict=True):
        for row in (0, 1, 1):
            optimizer.apply([slices([row], [[1.0]], (2, 1), "float32")], [θ])
    moved, rested = (float(θ.numpy()[0, 0]) for θ in variables)
    assert rested == pytest.approx(-0.5)
    assert moved < -0.7


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_rows_that_no_batch_has_rest_in_fit(rng, jit_compile, tmp_path):
    embedding = keras.layers.Embedding(50, 4)
    layers = [keras.Input((2,), dtype="int32"), embedding, keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile(SparseAdam(0.1), loss="mse", jit_compile=jit_compile)
    before = embedding.get_weights()[0]
    x, y = rng.integers(0, 10, size=(32, 2)), rng.normal(size=(32, 1))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    after = embedding.get_weights()[0]
    np.testing.assert_array_equal(before[10:], after[10:])
    assert np.all(before[:10] != after[:10])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_config_with_and_without_lazy():
    config = SparseAdam(0.1).get_config()
    assert config["lazy"] is True
    assert SparseAdam.from_config(config).get_config() == config
    del config["lazy"]
    assert SparseAdam.from_config(config).lazy is True


def test_is_always_lazy():
    with pytest.raises(ValueError) as error:  # noqa: PT011
        SparseAdam(lazy=False)
    text = "`lazy` must be True in SparseAdam. Received: lazy=False. Use Adam to update all rows."
    assert str(error.value) == text
    with pytest.raises(ValueError, match="gradient_accumulation_steps"):
        SparseAdam(gradient_accumulation_steps=2)
