"""Variables of float32 are known in float64."""

import keras
import numpy as np
import pytest
from keras import layers

from kerasdl.export.folding.folding import fold
from kerasdl.export.graphs.exact import Exact
from kerasdl.export.graphs.trace import trace
from kerasdl.export.programs.precision import float64_run


def kept(value, dtype="float32"):
    exact, variable = Exact(), keras.Variable(np.zeros(value.shape), dtype=dtype)
    exact.assign(variable, value)
    known, found = exact[id(variable)]
    assert known is variable
    assert found.dtype == np.float64
    return variable.numpy(), found


def extremes(rng):
    yield rng.normal(size=(3, 4)) * 1e-25
    yield rng.normal(size=(3, 4)) * 1e30
    yield np.where(rng.random((3, 4)) < 0.5, 0.0, rng.normal(size=(3, 4)))
    yield np.zeros((0, 4))


def test_as_good_as_float64(rng):
    for value in extremes(rng):
        rounded, found = kept(value)
        np.testing.assert_array_equal(rounded, value.astype("float32"))
        np.testing.assert_allclose(found, value, rtol=2.0**-47, atol=0)


@pytest.mark.parametrize(
    "value", [[1e39, 1.1], [-1e300, 2.2], [1e-39, 0.3], [1e-60, 0.4], [3e-46, 1.0], [np.pi, 1e-35]]
)
def test_numbers_that_float32_has_not(value):
    value = np.array(value)
    rounded, found = kept(value)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(rounded, value.astype("float32"))
    np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes_keep_the_value(dtype, rng):
    value = rng.normal(size=7)
    np.testing.assert_array_equal(kept(value, dtype)[1], value)


def test_what_is_folded_again_is_forgotten(rng):
    model = keras.Sequential([keras.Input((5,))])
    for _ in range(2):
        model.add(layers.BatchNormalization())
        model.add(layers.Dense(5))
    model.add(layers.BatchNormalization())
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 2.0, weight.shape))
    graph = trace(model)
    fold(graph)
    present = {id(variable) for layer in graph.layers() for variable in layer.variables}
    assert len(graph.exact) == 4
    assert set(graph.exact) <= present
    graph.exact.clear()
    assert not graph.exact


@pytest.mark.parametrize("far", [1e-42, 1e-30, 1e30, 1e36])
def test_scales_that_leave_float32_and_come_back(far, rng):
    """Three maps meet in one layer; between them its weights are no numbers of float32."""
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4)])
    for scale in (far, 1.0 / far, 1.0):
        model.add(layers.Rescaling(scale, offset=0.0))
    model.layers[0].set_weights([rng.normal(size=(5, 4)) * 1e-3, rng.normal(size=4)])
    graph = trace(model)
    fold(graph)
    assert len(graph.nodes) == 1
    x = rng.normal(size=(3, 5))
    kernel, bias = map(np.float64, model.layers[0].get_weights())
    with float64_run(graph.layers(), graph.exact):
        (y,) = graph(x)
    np.testing.assert_allclose(y, x @ kernel + bias, rtol=1e-12)
