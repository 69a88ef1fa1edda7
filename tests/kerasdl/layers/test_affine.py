"""Affine against NumPy, on every axis and rank."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy

from kerasdl.layers import Affine


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((4, 3), -1), ((4, 3), 1), ((2, 3, 5), 1), ((2, 3, 5), -2), ((2, 4, 4, 3), -1),
     ((2, 3, 4, 4), 1), ((2, 2, 2, 2, 3), 4)],
)  # fmt: skip
@pytest.mark.usefixtures("float64")
def test_values(shape, axis, rng):
    x, a, b = rng.normal(size=shape), *rng.normal(size=(2, shape[axis]))
    layer = Affine(axis=axis)
    layer.build(shape)
    layer.scale.assign(a)
    layer.offset.assign(b)
    where = [1] * len(shape)
    where[axis] = -1
    expected = a.reshape(where) * x + b.reshape(where)
    np.testing.assert_allclose(convert_to_numpy(layer(x)), expected, rtol=1e-14)


def test_mask_passes_through():
    model = keras.Sequential([keras.Input((3, 1)), keras.layers.Masking(), Affine()])
    y = model(np.array([[[1.0], [0.0], [2.0]]], "float32"))
    assert convert_to_numpy(y._keras_mask).tolist() == [[True, False, True]]


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
@pytest.mark.usefixtures("has_float64")
def test_dtype_policies(policy):
    layer = Affine(dtype=policy)
    y = layer(np.ones((2, 3), "float32"))
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    assert layer.scale.dtype == layer.variable_dtype


def test_regularizers_and_constraints_act():
    layer = Affine(scale_regularizer="l2", offset_regularizer="l1", scale_constraint="non_neg")
    layer.build((None, 2))
    assert len(layer.losses) == 2
    assert layer.scale.constraint is not None


@pytest.mark.parametrize("axis", [0, 1.0, True, None, "last"])
def test_axis_error(axis):
    with pytest.raises(ValueError, match="axis") as error:
        Affine(axis=axis)
    assert str(error.value) == (
        f"`axis` must be a non-zero integer. Received: axis={axis!r}. "
        "Pass -1 for channels last or 1 for channels first; axis 0 is the batch."
    )


@pytest.mark.parametrize("axis", [3, -3, -4])
def test_axis_outside_the_input(axis):
    with pytest.raises(ValueError, match="axis") as error:
        Affine(axis=axis).build((None, 4, 2))
    assert str(error.value) == (
        "`axis` must be a channel axis of the input of shape (None, 4, 2). "
        f"Received: axis={axis}. Choose an axis inside the input, other than the batch axis."
    )


def test_unknown_channels():
    with pytest.raises(ValueError, match="axis") as error:
        Affine().build((None, None))
    assert str(error.value) == (
        "`axis` must be an axis of known size in the input of shape (None, None). "
        "Received: axis=-1. Give that axis a size in `keras.Input`."
    )
