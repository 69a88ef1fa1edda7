"""Lookup tables of the user's own layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kerasdl import export
from kerasdl.export.files.runtime import open_session

pytestmark = pytest.mark.tensorflow


class Lookup(layers.Layer):
    def __init__(self, keys, values, default):
        super().__init__()
        content = tf.lookup.KeyValueTensorInitializer(keys, values)
        self.table = tf.lookup.StaticHashTable(content, default)

    def call(self, x):
        return self.table.lookup(x)


WORDS = tf.constant(["b", "ä", "", 'a "quoted" {x}'])
NUMBERS = [3, -(2**31), 0, 7]


def check(layer, keys, dtype, path, opset=18, **options):
    inputs = keras.Input((2,), dtype=dtype)
    model = keras.Model(inputs, layer(inputs))
    assert export.to_onnx(model, path, opset=opset, data={inputs.name: keys}, **options).passed
    session = open_session(path.read_bytes(), True)
    for batch in (keys, keys[:1], keys[:0]):
        (found,) = session.run(None, {session.get_inputs()[0].name: batch})
        wanted = layer(tf.constant(batch, "string" if dtype == "string" else dtype)).numpy()
        if wanted.dtype == object:
            assert found.tolist() == [[word.decode() for word in row] for row in wanted]
        else:
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)


def words():
    known = [word.decode() for word in WORDS.numpy()]
    return np.array([known[:2], known[2:], ["unknown", "B"]], object)


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64", "bool"])
def test_from_words(dtype, opset, tmp_path):
    values = np.array([3.1, 0, -2, 1 / 3]).astype(dtype)
    layer = Lookup(WORDS, tf.constant(values), values[0])
    check(layer, words(), "string", tmp_path / "model.onnx", opset)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("values", [[0.5, 1, -2, 1 / 3], ["b", "ä", "", "z"], [5, 1, -2, 3]])
def test_from_numbers(values, dtype, opset, tmp_path):
    keys = np.array([NUMBERS[:2], NUMBERS[2:], [1, -1]], dtype)
    kind = dtype if isinstance(values[0], int) else None
    layer = Lookup(tf.constant(NUMBERS, dtype), tf.constant(values, kind), values[-1])
    check(layer, keys, dtype, tmp_path / "model.onnx", opset)


def test_from_words_to_words(tmp_path):
    check(Lookup(WORDS, WORDS[::-1], "other"), words(), "string", tmp_path / "model.onnx")


def test_two_tables_and_one_read_twice(tmp_path):
    one = Lookup(WORDS, tf.constant([1, 2, 3, 4], tf.int64), -1)
    other = Lookup(tf.constant([1, 2, -1], tf.int64), tf.constant([0.5, 1.5, 2.5]), 9.0)

    class Both(layers.Layer):
        def __init__(self):
            super().__init__()
            self.one, self.other = one, other

        def call(self, x):
            return self.other(self.one(x)) + self.other(2 * self.one(x))

    check(Both(), words(), "string", tmp_path / "model.onnx")


def test_a_table_inside_a_function(tmp_path):
    class Inside(Lookup):
        @tf.function
        def look(self, x):
            return self.table.lookup(x)

        def call(self, x):
            return self.look(x)

    layer = Inside(WORDS, tf.constant([1, 2, 3, 4], tf.int64), -1)
    check(layer, words(), "string", tmp_path / "model.onnx")


def test_a_table_of_vectors(tmp_path):
    class Vectors(layers.Layer):
        def __init__(self):
            super().__init__()
            self.table = tf.lookup.experimental.MutableHashTable(
                tf.string, tf.float32, default_value=[0.0, -1.0, 2.0]
            )
            self.table.insert(WORDS, tf.reshape(tf.range(12.0), (4, 3)))

        def call(self, x):
            return tf.ensure_shape(self.table.lookup(x), (*x.shape, 3))

    check(Vectors(), words(), "string", tmp_path / "model.onnx")


def test_a_saved_model(tmp_path):
    inputs = keras.Input((2,), dtype="string", name="x")
    layer = Lookup(WORDS, tf.constant([1.0, 2.5, 3.0, 4.0]), -1.0)
    model = keras.Model(inputs, layer(inputs))
    model.export(tmp_path / "saved", verbose=False)
    given = {"x": words()}
    assert export.to_onnx(tmp_path / "saved", tmp_path / "model.onnx", data=given).passed


def test_tables_do_not_stay():
    from kerasdl.export.converting.handlers import tables

    assert not tables._captured


@pytest.mark.parametrize(("oov", "mask"), [(2, None), (1, 9), (2, 9), (3, 0)])
def test_several_unknown_places_beside_a_mask(oov, mask, tmp_path):
    lookup = layers.IntegerLookup(vocabulary=[7, 2, 5, -3], num_oov_indices=oov, mask_token=mask)
    model = keras.Sequential([keras.Input((1,), dtype="int64"), lookup])
    assert export.to_onnx(model, tmp_path / "model.onnx").passed
