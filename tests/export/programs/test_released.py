"""Results that nothing behind them needs, given up while a model runs."""

import weakref

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.ops.function import Function
from keras.src.ops.symbolic_arguments import SymbolicArguments

from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.programs.released import releasing

pytestmark = pytest.mark.tensorflow

WIDTH = 3


class Watching(layers.Layer):
    """Adds one, and notes at each call which of the results of such layers are still there."""

    results: list = []  # noqa: RUF012
    alive: list = []  # noqa: RUF012

    def call(self, inputs):
        self.alive.append([result() is not None for result in self.results])
        y = inputs + 1.0
        self.results.append(weakref.ref(y))
        return y


class Failing(layers.Layer):
    def call(self, inputs):
        raise RuntimeError("on purpose")

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def chain(length):
    x = y = keras.Input((WIDTH,))
    for _ in range(length):
        y = Watching()(y)
    return keras.Model(x, y)


def alive_during(run):
    """Which results are there at each call, one after the other."""
    Watching.results.clear()
    Watching.alive.clear()
    run([np.zeros((2, WIDTH), "float32")])
    return list(Watching.alive)


def random_model(rng, depth=2):
    """Layers that read what others before them gave, other models among them."""
    inputs = [keras.Input((WIDTH,)) for _ in range(rng.integers(1, 3))]
    values = list(inputs)
    shared = layers.Dense(WIDTH)
    for _ in range(rng.integers(4, 12)):
        kind = rng.integers(5)
        some = [values[i] for i in rng.integers(len(values), size=3)]
        if kind == 0:
            values.append(layers.Add()(some))
        elif kind == 1:
            values.append(shared(some[0]))
        elif kind == 2:
            values.append(keras.ops.tanh(some[0]) * some[1])
        elif kind == 3 and depth:
            inner = random_model(rng, depth - 1)
            given = (some * len(inner.inputs))[: len(inner.inputs)]
            values.extend(keras.tree.flatten(inner(given)))
        else:
            values.append(layers.Dense(WIDTH)(some[0]))
    outputs = [values[i] for i in rng.integers(len(values), size=rng.integers(1, 4))]
    return keras.Model(inputs, outputs)


def test_only_what_is_still_read_is_kept():
    alive = alive_during(KerasProgram(chain(6)).run)
    assert [*map(sum, alive)] == [0, 1, 1, 1, 1, 1]


def test_inner_models_keep_no_more():
    x = keras.Input((WIDTH,))
    alive = alive_during(KerasProgram(keras.Model(x, chain(6)(x))).run)
    assert [*map(sum, alive)] == [0, 1, 1, 1, 1, 1]


def test_keras_itself_keeps_them_all():
    """Without this nothing would be gained."""
    model = chain(6)
    assert [*map(sum, alive_during(lambda arrays: model(*arrays)))] == [0, 1, 2, 3, 4, 5]


def test_what_is_read_later_is_kept_until_then():
    x = keras.Input((WIDTH,))
    first = Watching()(x)
    last = Watching()(Watching()(Watching()(first)))
    end = Watching()(Watching()(layers.Add()([first, last])))
    alive = alive_during(KerasProgram(keras.Model(x, end)).run)
    assert [kept[0] for kept in alive[1:]] == [True, True, True, False, False]


@pytest.mark.parametrize("seed", range(30))
def test_models_give_what_they_gave(seed):
    rng = np.random.default_rng(seed)
    model = random_model(rng)
    arrays = [rng.normal(size=(4, WIDTH)).astype("float32") for _ in model.inputs]
    expected = keras.tree.flatten(model(arrays, training=False))
    with releasing():
        found = keras.tree.flatten(model(arrays, training=False))
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_models_of_the_same_nodes_read_to_different_depths():
    """What a part of a model reads last, the whole reads again."""
    x = keras.Input((WIDTH,))
    first = layers.Dense(WIDTH)(x)
    second = layers.Dense(WIDTH)(first)
    part = keras.Model(x, second)
    whole = keras.Model(x, layers.Add()([first, second]))
    top = keras.Input((WIDTH,))
    model = keras.Model(top, [part(top), whole(top), part(top)])
    array = np.random.default_rng(0).normal(size=(2, WIDTH)).astype("float32")
    expected = model(array)
    with releasing():
        found = model(array)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_keras_is_as_before_when_a_model_fails():
    before = (Function._run_through_graph, SymbolicArguments.fill_in)
    x = keras.Input((WIDTH,))
    model = keras.Model(x, Failing()(x))
    with pytest.raises(RuntimeError, match="on purpose"), releasing():
        model(np.zeros((2, WIDTH), "float32"))
    assert (Function._run_through_graph, SymbolicArguments.fill_in) == before
