"""Digits and NaN of the functions that keep float64."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy, convert_to_tensor

from kerasdl import _wide

X = np.array([-2.5, -1.0, -0.1, 0.0, 0.1, 0.5, 1.5, 1e15 + 0.5, np.inf, np.nan])
PAIRS = X, X[::-1].copy()


@pytest.mark.usefixtures("has_float64")
@pytest.mark.parametrize(
    ("function", "expected", "arguments"),
    [
        (_wide.maximum, np.maximum, PAIRS),
        (_wide.minimum, np.minimum, PAIRS),
        (_wide.floor, np.floor, [X]),
        (_wide.sin, np.sin, [X[:7]]),
    ],
)
def test_as_numpy_in_float64(function, expected, arguments):
    found = function(*(convert_to_tensor(x, "float64") for x in arguments))
    assert keras.backend.standardize_dtype(found.dtype) == "float64"
    np.testing.assert_allclose(convert_to_numpy(found), expected(*arguments), rtol=1e-15)
