"""Kernels against the formula, gradients, and everything that wraps and saves."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasdl import CenteredWeightNormalization

KINDS = {
    "dense": (lambda **k: layers.Dense(5, **k), (6,), (0,)),
    "conv1d": (lambda **k: layers.Conv1D(5, 3, **k), (8, 4), (0, 1)),
    "conv2d": (lambda **k: layers.Conv2D(6, 3, groups=2, **k), (8, 8, 4), (0, 1, 2)),
    "transposed": (lambda **k: layers.Conv2DTranspose(5, 3, **k), (6, 6, 4), (0, 1, 3)),
    "depthwise": (
        lambda **k: layers.DepthwiseConv2D(3, depth_multiplier=2, **renamed(k)),
        (6, 6, 4),
        (0, 1),
    ),
    "einsum": (lambda **k: layers.EinsumDense("abc,cde->abde", (7, 2, 3), **k), (7, 4), (0,)),
    "einsum_groups": (lambda **k: layers.EinsumDense("abc,bcd->abd", (7, 3), **k), (7, 4), (1,)),
}


def renamed(arguments):
    return {name.replace("kernel_i", "depthwise_i"): value for name, value in arguments.items()}


def reference(v, g, axes):
    centred = v - v.mean(axis=axes, keepdims=True)
    return g * centred / np.sqrt((centred**2).sum(axis=axes, keepdims=True))


def kernel(layer):
    return layer._kernel if hasattr(layer, "_kernel") else layer.kernel


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("float64")
def test_against_numpy(kind, rng):
    make, shape, axes = KINDS[kind]
    x = rng.normal(size=(3, *shape))
    wrapped = CenteredWeightNormalization(make(), scale_initializer="random_normal")
    outputs = ops.convert_to_numpy(wrapped(x))
    v = ops.convert_to_numpy(kernel(wrapped.layer))
    g = ops.convert_to_numpy(wrapped.scale)
    assert g.shape == tuple(1 if axis in axes else size for axis, size in enumerate(v.shape))
    w = reference(v, g, axes)
    np.testing.assert_allclose(ops.convert_to_numpy(wrapped.normalized_kernel()), w, atol=1e-11)
    plain = make()
    plain.build((None, *shape))
    kernel(plain).assign(w)
    np.testing.assert_allclose(outputs, ops.convert_to_numpy(plain(x)), atol=1e-11)
    assert tuple(wrapped.compute_output_shape((3, *shape))) == outputs.shape
    assert any(weight is kernel(wrapped.layer) for weight in wrapped.trainable_weights)
    assert len(wrapped.trainable_weights) == len(plain.trainable_weights) + 1


def test_constants_in_the_input_cancel(rng):
    wrapped = CenteredWeightNormalization(layers.Dense(5))
    x = rng.normal(size=(4, 30)).astype("float32")
    first, second = ops.convert_to_numpy(wrapped(x)), ops.convert_to_numpy(wrapped(x + 5))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_the_length_of_v_does_not_matter(rng):
    wrapped = CenteredWeightNormalization(layers.Dense(5))
    x = rng.normal(size=(4, 30)).astype("float32")
    before = ops.convert_to_numpy(wrapped(x))
    wrapped.layer.kernel.assign(3 * wrapped.layer.kernel + 2)
    np.testing.assert_allclose(before, ops.convert_to_numpy(wrapped(x)), atol=1e-5)


def test_training_moves_v_and_g_and_keeps_the_constraint(rng):
    wrapped = CenteredWeightNormalization(layers.Dense(1), scale_initializer="ones")
    model = keras.Sequential([keras.Input((6,)), wrapped])
    model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
    x = rng.normal(size=(256, 6)).astype("float32")
    y = x @ np.array([[3.0], [-1], [-1], [-1], [0], [0]], "float32")
    before = [ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    history = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert history[-1] < 1e-4 * history[0]
    for old, weight in zip(before[:1], model.trainable_weights, strict=False):
        assert np.abs(old - ops.convert_to_numpy(weight)).max() > 1e-3
    w = ops.convert_to_numpy(wrapped.normalized_kernel())
    np.testing.assert_allclose(w.sum(), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(w), np.sqrt(12), rtol=1e-2)


@pytest.mark.tensorflow
def test_gradient_on_v_has_no_part_along_v_or_a_constant(rng):
    import tensorflow as tf

    wrapped = CenteredWeightNormalization(layers.Dense(4))
    x = rng.normal(size=(16, 9)).astype("float32")
    wrapped.build((None, 9))
    with tf.GradientTape() as tape:
        loss = ops.sum(ops.sin(wrapped(x)))
    δ = ops.convert_to_numpy(tape.gradient(loss, wrapped.layer.kernel.value))
    v = ops.convert_to_numpy(wrapped.layer.kernel)
    np.testing.assert_allclose(δ.sum(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose((δ * v).sum(axis=0), 0, atol=1e-4)
    assert np.abs(δ).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_saved_models_are_the_same(kind, rng, tmp_path):
    make, shape, _ = KINDS[kind]
    wrapped = CenteredWeightNormalization(make(activation="relu"), scale_initializer="he_normal")
    model = keras.Sequential([keras.Input(shape), wrapped])
    x = rng.normal(size=(3, *shape)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))
    assert isinstance(loaded.layers[0].layer, type(wrapped.layer))
    assert isinstance(loaded.layers[0].scale_initializer, keras.initializers.HeNormal)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_short_floats(policy, rng):
    with_policy = CenteredWeightNormalization(layers.Dense(5, dtype=policy), dtype=policy)
    x = rng.normal(size=(4, 50)).astype("float32")
    outputs = with_policy(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    w = ops.convert_to_numpy(with_policy.normalized_kernel())
    assert w.dtype == "float32"
    expected = x @ w
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(outputs, "float32")), expected, atol=0.1
    )


def test_weights_without_a_direction_give_zero(rng):
    wrapped = CenteredWeightNormalization(layers.Dense(3, kernel_initializer="ones"))
    x = rng.normal(size=(2, 4)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(wrapped(x)), np.zeros((2, 3)))


def test_an_error_in_the_layer_leaves_its_kernel(rng):
    wrapped = CenteredWeightNormalization(layers.Dense(3))
    wrapped.build((None, 4))
    before = wrapped.layer._kernel
    with pytest.raises(ValueError, match="incompatible"):
        wrapped(np.ones((2, 5), "float32"))
    assert wrapped.layer._kernel is before


def test_masks_pass_through():
    wrapped = CenteredWeightNormalization(layers.Dense(3))
    inputs = layers.Embedding(5, 4, mask_zero=True)(np.array([[1, 0], [2, 3]]))
    mask = wrapped(inputs)._keras_mask
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), [[True, False], [True, True]])


@pytest.mark.parametrize("layer", [layers.ReLU(), layers.SeparableConv2D(3, 2), "dense"])
def test_layer_error(layer):
    with pytest.raises(ValueError, match="layer") as error:
        CenteredWeightNormalization(layer)
    assert str(error.value) == (
        "`layer` must be a Dense, EinsumDense, Conv, ConvTranspose or DepthwiseConv layer. "
        f"Received: layer={layer!r}. "
        "Write a separable convolution as a depthwise one and one with kernel size 1."
    )


def test_one_weight_per_unit():
    wrapped = CenteredWeightNormalization(layers.Dense(3, name="thin"))
    with pytest.raises(ValueError, match="layer") as error:
        wrapped.build((None, 1))
    assert str(error.value) == (
        "`layer` must be a layer with two or more weights per unit. Received: layer='thin'. "
        "One weight alone is its own mean."
    )
