"""Random batches that suit the model, and the checks on the user's own arrays."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export import OptionError
from kerasdl.export.ports import Port
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.verifying.samples import (
    data_rows,
    edge_rows,
    extents_of,
    load_data,
    random_rows,
    zero_rows,
)

X = Port("x", (None, 4), "float32")
Y = Port("y", (None,), "int32")


def test_batches_of_three_sizes_the_same_every_time():
    program = KerasProgram(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))
    (rows,) = random_rows(program)
    assert {batch.data for batch in rows.batches} == {"random"}
    batches = [rows.batch(batch)[0] for batch in rows.batches]
    assert [batch.shape for batch in batches] == [(1, 4), (3, 4), (32, 4)]
    assert len(np.unique(batches[-1], axis=0)) == 32
    np.testing.assert_array_equal(rows.arrays[0], random_rows(program)[0].arrays[0])


def test_much_work_has_few_rows_that_repeat():
    stack = [layers.Conv2D(64, 1) for _ in range(3)]
    program = KerasProgram(keras.Sequential([keras.Input((128, 128, 1)), *stack]))
    (rows,) = random_rows(program)
    assert rows.count == 3
    single, few, many = rows.batches
    np.testing.assert_array_equal(rows.batch(single)[0], rows.arrays[0][:1])
    np.testing.assert_array_equal(rows.batch(few)[0], rows.arrays[0])
    # Who gives a row what is another one's gives some row what is none of its own.
    assert len(many.places) == 32
    for shift in range(1, 30):
        assert not np.array_equal(many.places[:-shift], many.places[shift:])


def test_a_batch_that_the_model_fixes():
    inputs = [keras.Input((4,), batch_size=5, name="a"), keras.Input((4,), name="b")]
    program = KerasProgram(keras.Model(inputs, inputs[0] * 2))
    assert not program.any_batch
    first, *others = random_rows(program)
    assert len(others) == 3
    for rows in (first, *others):
        (batch,) = rows.batches
        assert [x.shape for x in rows.batch(batch)] == [(5, 4), (5, 4)]
    assert not np.array_equal(first.arrays[0], others[0].arrays[0])
    assert edge_rows(program) == []


@pytest.mark.parametrize(("size", "count"), [(1, 32), (5, 7), (40, 1)])
def test_a_batch_that_is_fixed_for_the_file_alone(size, count):
    """One row is a thin proof: all rows are run at once, and compared in batches of that size."""
    program = KerasProgram(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))
    program.inputs = [replace(program.inputs[0], shape=(size, 4), symbols=("", ""))]
    (rows,) = random_rows(program)
    batches = [rows.batch(batch)[0] for batch in rows.batches]
    assert [x.shape for x in batches] == [(size, 4)] * count
    assert len(np.unique(np.concatenate(batches), axis=0)) == size * count
    (edges,) = edge_rows(program)
    places = [batch.places for batch in edges.batches]
    assert set(map(len, places)) == {size}
    assert set(np.concatenate(places)) == {0, 1, 2, 3}


def test_zeros_are_empty_strings_where_there_are_strings():
    inputs = [keras.Input((4,), name="a"), keras.Input((1,), dtype="string", name="b")]
    (rows,) = zero_rows(KerasProgram(keras.Model(inputs, inputs)))
    assert not rows.arrays[0].any()
    assert set(rows.arrays[1].ravel()) == {""}


def test_batches_follow_what_the_model_knows_of_its_data():
    words = keras.Input((50,), dtype="int32", name="words")
    numbers = keras.Input((2,), name="numbers")
    normalization = layers.Normalization(mean=[100.0, -5.0], variance=[4.0, 1e-4])
    summed = layers.GlobalAveragePooling1D()(layers.Embedding(3, 2)(words))
    model = keras.Model([words, numbers], layers.Add()([summed, normalization(numbers)]))
    drawn = random_rows(KerasProgram(model))[0].arrays
    assert set(np.unique(drawn[0])) == {0, 1, 2}
    assert np.abs(drawn[1].mean(axis=0) - [100.0, -5.0]).max() < 2
    assert drawn[1][:, 1].std() < 0.05


def test_free_axes_get_an_extent():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)])
    assert random_rows(KerasProgram(model))[0].arrays[0].shape[1:] == (32, 32, 3)


def test_data_is_cut_into_runs_of_32_rows(rng):
    data = {"x": rng.normal(size=(70, 4)).astype("float32"), "y": np.arange(70, dtype="int32")}
    batches = [rows.batch(rows.batches[0]) for rows in data_rows(data, [X, Y])]
    assert [len(x) for x, _ in batches] == [32, 32, 6]
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), data["y"])


def test_data_from_a_file(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 4), "float32"))
    assert load_data(tmp_path / "data.npz")["x"].shape == (2, 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r"exactly the model's inputs \['x'\]. Received: \[\]"),
        ({"z": np.zeros((1, 4), "float32")}, r"Received: \['z'\]"),
        ({"x": np.zeros((1, 5), "float32")}, r"fit the input x: float32\[batch, 4\]"),
        ({"x": np.zeros(4, "float32")}, r"Received: shape \(4,\)"),
        ({"x": np.zeros((1, 4))}, r"Received: dtype float64. Convert it with `array.astype"),
        ({"x": np.zeros((0, 4), "float32")}, "at least one row"),
        ({"x": np.full((1, 4), np.nan, "float32")}, "input `x` holds NaN or infinite values"),
    ],
)
def test_data_that_does_not_fit(data, message):
    with pytest.raises(OptionError, match=message):
        data_rows(data, [X])


@pytest.mark.parametrize("dtype", ["U3", "S3", object])
def test_strings_however_they_are_held(dtype):
    port = Port("x", (None, 1), "string")
    texts = np.array([["é".encode()], ["b"]], object)
    if dtype == "U3":
        texts = np.array([["é"], ["b"]])
    elif dtype == "S3":
        texts = np.array([["é".encode()], [b"b"]])
    (rows,) = data_rows({"x": texts}, [port])
    assert rows.arrays[0].tolist() == [["é"], ["b"]]
    assert all(type(text) is str for text in rows.arrays[0].ravel())


@pytest.mark.parametrize("texts", [[[b"\xff"]], [[None]], [[3]], [[["a"], 1]]])
def test_what_is_no_string(texts):
    with pytest.raises(OptionError):
        data_rows({"x": np.array(texts, object)}, [Port("x", (None, 1), "string")])


def test_keys_of_any_kind():
    with pytest.raises(OptionError, match=r"Received: \['3', 'x'\]"):
        data_rows({"x": np.zeros((1, 4), "float32"), 3: 0}, [X])


def test_unequal_rows():
    data = {"x": np.zeros((2, 4), "float32"), "y": np.zeros(3, "int32")}
    with pytest.raises(OptionError, match=r"equally many rows. Received: \{'x': 2, 'y': 3\}"):
        data_rows(data, [X, Y])


def test_a_fixed_batch():
    port = Port("x", (5, 4), "float32")
    data = {"x": np.zeros((10, 4), "float32")}
    assert [rows.count for rows in data_rows(data, [port])] == [5, 5]
    data = {"x": np.zeros((11, 4), "float32")}
    with pytest.raises(OptionError, match="takes batches of 5 rows. Received: 11 rows"):
        data_rows(data, [port])


def test_files_that_hold_no_data(tmp_path):
    with pytest.raises(OptionError, match="does not exist"):
        load_data(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(OptionError, match="is no readable .npz file"):
        load_data(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(OptionError, match="one array without a name"):
        load_data(tmp_path / "one.npy")
    np.savez(tmp_path / "code.npz", x=np.array([print], object))
    with pytest.raises(OptionError, match="is no readable .npz file"):
        load_data(tmp_path / "code.npz")


@pytest.mark.parametrize("seed", range(4))
def test_one_row_at_a_time_is_judged_by_the_noise_of_many(seed, tmp_path):
    keras.utils.set_random_seed(seed)
    stack = [layers.Dense(16, "relu"), layers.Dense(8, "tanh"), layers.Dense(4)]
    model, path = keras.Sequential([keras.Input((12,)), *stack]), tmp_path / "model.onnx"
    assert export.to_onnx(model, path, precision="int8", dimensions={"batch": 1}).passed
    report = export.verify(model, path, layers=True)
    assert report.passed
    assert all(check.passed for check in report.layers)


@pytest.mark.parametrize("with_batch", [True, False])
def test_an_input_that_is_one_number(with_batch, tmp_path):
    one, many = keras.Input(batch_shape=(), name="one"), keras.Input((3,), name="many")
    inputs = [one, many] if with_batch else [one]
    model, path = keras.Model(inputs, [each + one for each in inputs]), tmp_path / "model.onnx"
    assert export.to_onnx(model, path).passed
    assert export.verify(model, path, layers=True).passed
    data = {"one": np.array(2.0, "float32"), "many": np.ones((40, 3), "float32")}
    report = export.verify(model, path, data={each.name: data[each.name] for each in inputs})
    assert report.passed
    batches = [check.batch for check in report.checks if check.data == "data"]
    assert set(batches) == ({32, 8} if with_batch else {1})


def video():
    frames = keras.Input((None, 4, 4, 3), name="frames")
    mask = keras.Input((None,), dtype="bool", name="mask")
    x = layers.Dense(2)(layers.Reshape((-1, 48))(frames))
    return keras.Model([frames, mask], layers.GRU(3)(x, mask=mask))


def test_axes_that_belong_together_are_tried_with_one_extent(tmp_path):
    report = export.to_onnx(video(), tmp_path / "model.onnx")
    assert report.passed
    assert {check.data for check in report.checks} == {"random", "edges"}
    assert report.notes == []


def test_data_are_what_a_rescaling_expects():
    for dtype, scale, offset, mean, deviation in (
        ("float32", 1 / 127.5, -1.0, 127.5, 127.5),
        ("float32", 1 / 255, 0.0, 0.0, 255),
        ("uint8", 1 / 255, 0.0, 127.5, 74),
    ):
        inputs = keras.Input((8, 8, 3), dtype=dtype)
        model = keras.Model(inputs, layers.Rescaling(scale, offset)(inputs))
        (rows,) = random_rows(KerasProgram(model), scaled=True)
        assert rows.arrays[0].dtype == dtype
        assert np.mean(rows.arrays[0]) == pytest.approx(mean, abs=0.05 * deviation)
        assert np.std(rows.arrays[0]) == pytest.approx(deviation, rel=0.05)


def test_texts_that_are_drawn_have_words():
    inputs = keras.Input((1,), dtype="string")
    text = layers.TextVectorization(vocabulary=["one", "two"])
    (rows,) = random_rows(KerasProgram(keras.Model(inputs, text(inputs))))
    assert all(row[0].split() for row in rows.arrays[0])


def test_layers_that_go_step_by_step_are_given_few_steps():
    steps = layers.TimeDistributed(layers.GRU(3))
    stepwise = KerasProgram(keras.Sequential([keras.Input((None, None, 3)), steps]))
    assert extents_of(stepwise)[0] == (7, 7)
    image = KerasProgram(keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3)]))
    assert extents_of(image)[0] == (32, 7)
    assert sorted(extents_of(image)) == sorted(extents_of(stepwise))
    assert len(extents_of(KerasProgram(keras.Sequential([keras.Input((3,)), layers.ReLU()])))) == 1
