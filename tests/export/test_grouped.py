"""Depthwise convolutions of grouped layers: the same numbers, and the layer is as it was."""

import numpy as np
import pytest
from keras import layers

from kerasdl.export.grouped import uncompiled
from kerasdl.export.precision import float64_run

CASES = {
    "plain": (layers.Conv2D(4, 3, groups=4), (7, 6, 4)),
    "multiplied": (layers.Conv2D(12, (3, 2), groups=4, padding="same"), (7, 6, 4)),
    "strides": (layers.Conv2D(8, 3, groups=4, strides=2, padding="same"), (7, 7, 4)),
    "dilated": (layers.Conv2D(4, 3, groups=4, dilation_rate=2, activation="tanh"), (9, 9, 4)),
    "sequence": (layers.Conv1D(6, 3, groups=3, padding="same"), (8, 3)),
    "no bias": (layers.Conv2D(4, 3, groups=4, use_bias=False), (7, 6, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers(name, rng):
    layer, shape = CASES[name]
    x = rng.normal(size=(2, *shape))
    layer.build((None, *shape))
    layer.kernel.assign(rng.normal(size=layer.kernel.shape))
    own = np.asarray(layer(x.astype("float32")))
    with float64_run([layer]):
        wide = np.asarray(layer(x))
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, own, rtol=1e-5, atol=1e-5)
    assert "convolution_op" not in vars(layer)
    np.testing.assert_array_equal(np.asarray(layer(x.astype("float32"))), own)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(4, 3, groups=2),
        layers.Conv2D(4, 3),
        layers.Conv1D(4, 3, groups=4, padding="causal"),
        layers.DepthwiseConv2D(3),
    ],
)
def test_others_are_left_alone(layer):
    layer.build((None, 7, 4) if isinstance(layer, layers.Conv1D) else (None, 7, 7, 4))
    with uncompiled([layer, layers.Conv2D(4, 3, groups=4)]):
        assert "convolution_op" not in vars(layer)


def test_an_error_inside_leaves_nothing_behind():
    layer = layers.Conv2D(4, 3, groups=4)
    layer.build((None, 7, 7, 4))

    def stop():
        with uncompiled([layer]):
            assert "convolution_op" in vars(layer)
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert "convolution_op" not in vars(layer)
