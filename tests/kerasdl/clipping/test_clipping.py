"""Each clipping function against NumPy in float64."""

import keras
import numpy as np
import pytest
from keras import ops
from keras.ops import convert_to_numpy

from kerasdl.clipping import (
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    global_norm,
)

pytestmark = pytest.mark.usefixtures("has_float64")

CLIPS = [clip_by_value, clip_by_norm, clip_by_average_norm, clip_by_global_norm]


in_every_mode = pytest.mark.parametrize(
    "jit_compile",
    [None, *(pytest.param(jit, marks=pytest.mark.tensorflow) for jit in (False, True))],
)


def norm_of(gradients):
    return np.sqrt(sum((g**2).sum() for g in gradients))


REFERENCES = {
    clip_by_value: lambda gs, c: [np.clip(g, -c, c) for g in gs],
    clip_by_norm: lambda gs, c: [g * min(1, c / norm_of([g])) for g in gs],
    clip_by_average_norm: lambda gs, c: [g * min(1, c * g.size / norm_of([g])) for g in gs],
    clip_by_global_norm: lambda gs, c: [g * min(1, c / norm_of(gs)) for g in gs],
}


def traced(function, jit_compile):
    import tensorflow as tf

    return tf.function(function, jit_compile=jit_compile)


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def gradients_of(rng, scale=1.0):
    return [np.array(scale * rng.normal(size=shape)) for shape in [(3, 4), (), (5,)]]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 1e-5)])
def test_formula(clip, dtype, rtol, rng):
    gradients = gradients_of(rng)
    for limit in (1e-3, 0.1, 1.0, 100.0):
        clipped = clip([ops.convert_to_tensor(g, dtype) for g in gradients], limit)
        for got, expected in zip(clipped, REFERENCES[clip](gradients, limit), strict=True):
            assert dtype_of(got) == dtype
            np.testing.assert_allclose(got, expected, rtol=rtol)


@pytest.mark.tensorflow
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_traced(clip, jit_compile, rng):
    gradients = gradients_of(rng)
    run = traced(lambda *gs: clip(gs, 0.1), jit_compile)
    for got, expected in zip(run(*gradients), REFERENCES[clip](gradients, 0.1), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13)


@pytest.mark.parametrize("clip", CLIPS)
def test_small_gradients_are_untouched_to_the_last_bit(clip, rng):
    gradients = gradients_of(rng, 1e-4)
    for got, g in zip(clip(gradients, 3.0), gradients, strict=True):
        np.testing.assert_array_equal(convert_to_numpy(got), g)


@pytest.mark.parametrize("clip", CLIPS)
def test_missing_gradients_pass(clip):
    assert clip([None, None], 1.0) == [None, None]
    clipped = clip([None, np.ones(2), None], 0.5)
    assert [g is None for g in clipped] == [True, False, True]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("zeros", [np.zeros((2, 2)), np.zeros((0, 3))])
def test_zeros_stay_zeros(clip, zeros):
    np.testing.assert_array_equal(clip([zeros], 1.0)[0], zeros)


@pytest.mark.parametrize("clip", CLIPS)
@in_every_mode
def test_nan_stays_nan(clip, jit_compile):
    run = clip if jit_compile is None else traced(clip, jit_compile)
    clipped = run([np.array([1.0, np.nan])], 0.5)[0]
    assert np.isnan(convert_to_numpy(clipped)[1])


@pytest.mark.parametrize("clip", CLIPS[1:])
@in_every_mode
def test_an_infinite_norm_is_seen(clip, jit_compile):
    run = clip if jit_compile is None else traced(clip, jit_compile)
    assert np.isnan(convert_to_numpy(run([np.array([1.0, np.inf])], 0.5)[0])).all()


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(
    ("dtype", "size"), [("float16", 6e4), ("bfloat16", 1e38), ("float32", 1e38)]
)
def test_large_numbers_do_not_overflow(clip, dtype, size):
    gradient = ops.convert_to_tensor(np.array([size, -size]), dtype)
    clipped = clip([gradient], 1.0)[0]
    assert dtype_of(clipped) == dtype
    expected = REFERENCES[clip]([np.array([size, -size])], 1.0)[0]
    np.testing.assert_allclose(convert_to_numpy(clipped).astype("float64"), expected, rtol=1e-2)


@pytest.mark.tensorflow
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("limit", [0.05, 50.0])
def test_repeated_rows_are_summed(clip, limit, rng):
    import tensorflow as tf

    values, rows = rng.normal(size=(4, 2)), [1, 3, 1, 1]
    dense = np.zeros((5, 2))
    np.add.at(dense, rows, values)
    slices = tf.IndexedSlices(tf.constant(values), tf.constant(rows), tf.constant([5, 2]))
    other = rng.normal(size=3)
    for got, expected in zip(
        clip([slices, other], limit), REFERENCES[clip]([dense, other], limit), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_global_norm(rng):
    gradients = gradients_of(rng)
    norm = global_norm([*gradients, None])
    np.testing.assert_allclose(float(norm), norm_of(gradients), rtol=1e-14)
    assert float(global_norm([])) == float(global_norm([None])) == 0.0
    assert float(global_norm([np.zeros(3)])) == 0.0
    mixed = [
        ops.convert_to_tensor([3.0], "float16"),
        ops.convert_to_tensor([4.0], "float64"),
    ]
    assert dtype_of(global_norm(mixed)) == "float64"
    assert float(global_norm(mixed)) == 5.0


def test_tensorflow_agrees_about_the_average_norm(rng):
    gradient = rng.normal(size=(3, 4))
    got = clip_by_average_norm([gradient], 0.05)[0]
    mean = np.linalg.norm(gradient) / gradient.size
    np.testing.assert_allclose(got, gradient * 0.05 / mean, rtol=1e-14)


@pytest.mark.parametrize("clip", CLIPS)
def test_rejected_limits(clip):
    argument = "value" if clip is clip_by_value else "norm"
    for limit in (0.0, -1.0, float("nan"), float("inf"), "1", True):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            clip([np.ones(2)], limit)
        text = f"`{argument}` must be positive. Received: {argument}={limit!r}. Pass None"
        assert str(error.value).startswith(text)
