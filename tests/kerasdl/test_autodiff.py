"""Derivatives against NumPy, on whichever backend runs."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdl._autodiff import gradient, gradient_and_product

# Keras on PyTorch computes some of these functions in float32.
RTOL = 1e-6 if keras.backend.backend() == "torch" else 1e-13


def numpy(tensors):
    return [ops.convert_to_numpy(each) for each in tensors]


def function(values):
    """f = Σ (A x)⁴ / 4 + Σ exp(y) x₀; z has no part in it."""
    x, y, _ = values
    matrix = ops.convert_to_tensor(A, dtype=x.dtype)
    return ops.sum(ops.matmul(matrix, x) ** 4) / 4 + ops.sum(ops.exp(y)) * x[0]


A = np.array([[1.0, -2.0, 0.5], [0.25, 1.0, -1.0]])
X, Y, Z = np.array([0.3, -0.7, 1.1]), np.array([0.2, -0.4]), np.ones((2, 2))


def by_hand():
    e = np.exp(Y)
    g = A.T @ (A @ X) ** 3 + np.array([e.sum(), 0, 0]), e * X[0]
    H = A.T @ np.diag(3 * (A @ X) ** 2) @ A
    Hg = H @ g[0] + np.array([e @ g[1], 0, 0]), e * g[0][0] + e * X[0] * g[1]
    return g, Hg


@pytest.mark.usefixtures("float64")
def test_gradient_and_product():
    values = [ops.convert_to_tensor(each, dtype="float64") for each in (X, Y, Z)]
    (gx, gy), (hx, hy) = by_hand()
    g, Hg = gradient_and_product(function, values)
    for found in (g, gradient(function, values)):
        for one, other in zip(numpy(found), (gx, gy, 0 * Z), strict=True):
            np.testing.assert_allclose(one, other, rtol=RTOL)
    for one, other in zip(numpy(Hg), (hx, hy, 0 * Z), strict=True):
        np.testing.assert_allclose(one, other, rtol=RTOL)


def test_a_linear_function_is_not_curved():
    values = [ops.convert_to_tensor(X), ops.convert_to_tensor(Y)]
    g, Hg = gradient_and_product(lambda values: 2.0 * ops.sum(values[0]), values)
    assert [each.tolist() for each in numpy(g)] == [[2.0] * 3, [0.0] * 2]
    assert [each.tolist() for each in numpy(Hg)] == [[0.0] * 3, [0.0] * 2]


def test_rows_that_are_looked_up_twice_are_summed():
    (slope,) = gradient(
        lambda values: ops.sum(ops.take(values[0], np.array([1, 1, 0]), axis=0)),
        [ops.zeros((3, 2))],
    )
    assert ops.convert_to_numpy(slope).tolist() == [[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]
