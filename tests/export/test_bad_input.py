"""What users hand in by mistake: an error that tells, or an honest verdict; nothing is lost."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export.programs import h5_file
from random_networks import randomize


def small(seed=0):
    model = keras.Sequential(
        [
            keras.Input((6,), name="x"),
            layers.Dense(20, activation="tanh", name="hidden"),
            layers.BatchNormalization(),
            layers.Dense(2, name="y"),
        ]
    )
    randomize(model, seed)
    return model


@pytest.fixture
def pair(tmp_path):
    model, path = small(), tmp_path / "model.onnx"
    export.to_onnx(model, path)
    return model, path


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_onnx_files(share, pair):
    model, path = pair
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for look in (lambda: export.verify(model, path), lambda: export.inspect(path)):
        with pytest.raises(export.SourceError, match=r"is no valid ONNX file"):
            look()


def test_damaged_onnx_files(pair):
    """Bytes at random places are changed: an error with a reason, or a verdict."""
    model, path = pair
    content, rng = path.read_bytes(), np.random.default_rng(0)
    weights = {t.name: t.SerializeToString() for t in onnx.load(path).graph.initializer}
    verdicts = {"error": 0, "passed": 0, "failed": 0}
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] ^= 1 << rng.integers(0, 8)
        path.write_bytes(damaged)
        try:
            report = export.verify(model, path)
        except export.ExportError:
            verdicts["error"] += 1
            continue
        verdicts["passed" if report.passed else "failed"] += 1
        if report.passed:  # a name, a remark, or a digit of a weight below rounding
            now = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
            for name, tensor in weights.items():
                if name in now:
                    old = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(tensor))
                    np.testing.assert_allclose(now[name], old, rtol=1e-3, atol=1e-5)
    assert min(verdicts["error"], verdicts["failed"]) > 10, verdicts


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"PK\x03\x04", b"{}", b"\x89HDF\r\n\x1a\n"])
def test_files_that_are_no_onnx(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(export.SourceError, match="no valid ONNX file"):
        export.verify(small(), path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.HDF5"])
def test_a_model_in_place_of_the_onnx_file(name, pair, tmp_path):
    """The two are in the wrong order, or the name of the file is one of a model's."""
    model, path = pair
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    message = f"{name} is no ONNX file. The model comes first, and the ONNX file second."
    with pytest.raises(export.SourceError, match=message):
        export.verify(path, tmp_path / name)
    (tmp_path / name).write_bytes(path.read_bytes())
    assert export.verify(model, tmp_path / name).passed


def test_a_folder_in_place_of_the_onnx_file(pair, tmp_path):
    with pytest.raises(export.SourceError, match="Give an ONNX file. The model comes first, and"):
        export.verify(pair[1], tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(export.SourceError, match="is a folder. Give an ONNX file.$"):
        export.inspect(tmp_path / "folder.onnx")


@pytest.mark.parametrize("name", ["model.json", "model.pbtxt", "model.onnxtxt"])
def test_the_name_of_another_format(name, pair, tmp_path):
    """By which onnx would read it."""
    (tmp_path / name).write_bytes(pair[1].read_bytes())
    with pytest.raises(export.SourceError, match=r"the name of another format. .* end in .onnx"):
        export.verify(pair[0], tmp_path / name)


def test_missing_weights(tmp_path):
    model = keras.Sequential([keras.Input((30,)), layers.Dense(40)])
    export.to_onnx(model, tmp_path / "model.onnx", external_data=True)
    (data,) = tmp_path.glob("*.data")
    data.unlink()
    proto = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    for name in (data.name, "weights/part.bin"):
        (tensor,) = (each for each in proto.graph.initializer if each.external_data)
        next(e for e in tensor.external_data if e.key == "location").value = name
        (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
        message = rf"model.onnx is incomplete: the weights file `{name}` is missing beside it; copy"
        for look in (export.inspect, lambda path: export.verify(model, path)):
            with pytest.raises(export.SourceError, match=message):
                look(tmp_path / "model.onnx")


def test_weights_are_not_read_from_elsewhere(pair, tmp_path):
    """A file may not make its reader open others that lie outside its folder."""
    model, path = pair
    (tmp_path / "secret").write_bytes(bytes(10_000))
    inner = tmp_path / "inner"
    inner.mkdir()
    proto = onnx.load(path)
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for location in ("../secret", "../none", str(tmp_path / "secret"), str(tmp_path / "none")):
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=location)
        (inner / "model.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(export.SourceError, match="is no valid ONNX file"):
            export.verify(model, inner / "model.onnx")


def test_an_output_that_is_no_tensor(pair):
    model, path = pair
    proto = onnx.load(path)
    output = proto.graph.output[0]
    kind = output.type.tensor_type.elem_type
    proto.graph.node.append(onnx.helper.make_node("SequenceConstruct", [output.name], ["several"]))
    several = onnx.helper.make_tensor_sequence_value_info("several", kind, None)
    proto.graph.output[0].CopyFrom(several)
    onnx.save(proto, path)
    with pytest.raises(export.SourceError, match="`several` is no tensor but a list"):
        export.verify(model, path)


def test_the_file_of_another_model(pair, tmp_path):
    other = keras.Sequential([keras.Input((7,), name="x"), layers.Dense(2, name="y")])
    with pytest.raises(export.SourceError, match="does not run on the model's inputs"):
        export.verify(other, pair[1])
    x, z = keras.Input((6,), name="x"), keras.Input((6,), name="z")
    two = keras.Model([x, z], layers.Add(name="y")([x, z]))
    with pytest.raises(export.OptionError, match="Is it the file of another model"):
        export.verify(two, pair[1])
    assert not export.verify(small(1), pair[1]).passed


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 4, 3)])
def test_axes_without_an_extent(shape, tmp_path):
    """Nothing goes in, so nothing can be told, or it is told that it is so."""
    x = keras.Input(shape, name="x")
    model = keras.Model(x, layers.ReLU()(x))
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.passed
    assert export.verify(model, tmp_path / "model.onnx").passed


def test_huge_integers(tmp_path):
    x = keras.Input((3,), dtype="int64", name="x")
    looked_up = layers.IntegerLookup(vocabulary=[1, 5, 9], num_oov_indices=2)(x)
    model = keras.Model(x, [looked_up, layers.Embedding(5, 4)(looked_up)])
    huge = np.array([[2**62, -(2**62), 5], [2**31, -(2**31) - 1, 2**53 + 1]], np.int64)
    export.to_onnx(model, tmp_path / "model.onnx", data={"x": huge})
    y = keras.Input((3,), dtype="int64", name="y")
    model = keras.Model(y, layers.Embedding(5, 4)(y))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(export.ExportError) as caught:
        export.to_onnx(model, tmp_path / "other.onnx", data={"y": huge})
    assert isinstance(caught.value, export.OptionError | export.ParityError | export.SourceError)
    assert sorted(os.listdir(tmp_path)) == before


def test_strings_outside_the_vocabulary(tmp_path):
    x = keras.Input((2,), dtype="string", name="x")
    model = keras.Model(x, layers.StringLookup(vocabulary=["a", "Ü", "long word"])(x))
    words = np.array([["a", "Ü"], ["never seen", ""], ["A", "\N{SNOWMAN}" * 300]], object)
    report = export.to_onnx(model, tmp_path / "model.onnx", data={"x": words})
    assert {check.data for check in report.checks} == {"random", "edges", "data"}
    assert export.verify(model, tmp_path / "model.onnx", data={"x": words}).passed


class Uncalled(keras.Model):
    pass


def test_a_model_without_a_call(tmp_path):
    for model in (Uncalled(), keras.Model(), keras.Sequential()):
        with pytest.raises(export.SourceError):
            export.to_onnx(model, tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


WRITER = """
    import sys
    import keras
    from kerasdl import export
    models = [keras.models.load_model(path) for path in sys.argv[2:]]
    print("ready", flush=True)
    while True:
        for model in models:
            export.to_onnx(model, sys.argv[1], external_data="beside" in sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "beside.onnx"])
def test_killed_a_hundred_times(name, tmp_path):
    """An export killed at any moment leaves a file of the one model or of the other."""
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / name
    sources = []
    for seed in (0, 1):
        sources.append(tmp_path / f"{seed}.keras")
        small(seed).save(sources[-1])
    rng, seen = np.random.default_rng(0), set()
    for _ in range(50):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), target, *sources],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if target.exists():
            passed = [export.verify(small(seed), target).passed for seed in (0, 1)]
            assert sum(passed) == 1
            seen.add(passed[0])
    assert seen == {True, False}


@pytest.mark.parametrize("call", ["to_onnx", "verify", "inspect", "fold"])
def test_calls_from_inside_of_graphs(call, pair):
    import tensorflow as tf

    model, path = pair
    rest = {"to_onnx": [path], "verify": [path]}.get(call, [])

    def run():
        getattr(export, call)(model, *rest)

    with pytest.raises(export.SourceError, match=f"`{call}` reads the numbers.*Call it outside"):
        tf.function(run, autograph=False)()
    with tf.Graph().as_default(), pytest.raises(export.SourceError, match="Call it outside"):
        run()
    with keras.StatelessScope(), pytest.raises(export.SourceError, match="`keras.StatelessScope`"):
        run()
    run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unsafe": "no"}, "`unsafe` must be True or False. Received: unsafe='no'."),
        ({"unsafe": 1}, "`unsafe` must be True or False"),
        ({"external_data": None}, "`external_data` must be True or False"),
        ({"progress": 3}, "`progress` must be a function of one line of text, or None"),
        ({"precision": ["float16"]}, r"`precision` must be one of .* Received: \['float16'\]"),
        ({"precision": np.array(["float16"])}, "`precision` must be one of"),
        ({"precision": None}, "`precision` must be one of"),
        ({"opset": "18"}, "`opset` must be an integer. Received: opset='18'."),
        ({"opset": True}, "`opset` must be an integer"),
        ({"opset": 18.0}, "`opset` must be an integer"),
        ({"opset": 10**5000}, "`opset` must be in 13..26. Received: opset=<int>"),
        ({"precision": "x" * 5000}, "`precision` must be one of [^…]{,300}…"),
    ],
)
def test_options_of_odd_types(options, message, tmp_path):
    with pytest.raises(export.OptionError, match=message):
        export.to_onnx(small(), tmp_path / "model.onnx", **options)
    assert os.listdir(tmp_path) == []


def test_layers_is_a_switch(pair):
    with pytest.raises(export.OptionError, match="`layers` must be True or False"):
        export.verify(*pair, layers="all")


def test_the_output_does_not_replace_the_data(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((4, 6), "float32"))
    before = (tmp_path / "x.npz").read_bytes()
    with pytest.raises(export.TargetError, match="or the data"):
        export.to_onnx(small(), tmp_path / "x.npz", data=tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_bytes() == before


def test_a_variance_below_zero(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    model.layers[1].moving_variance.assign(-np.ones(3))
    with pytest.raises(export.SourceError, match="variance must not be negative.*: -1 at"):
        export.to_onnx(model, tmp_path / "model.onnx")


def test_data_of_more_rows_than_a_fixed_batch(tmp_path):
    data = {"x": np.ones((10, 6), "float32")}
    fixed = {"batch": 1}
    export.to_onnx(small(), tmp_path / "model.onnx", dimensions=fixed, data=data)
    assert export.verify(small(), tmp_path / "model.onnx", data=data).passed


def test_a_note_of_a_coarser_format_does_not_help_a_wrong_file(tmp_path):
    export.to_onnx(small(), tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(1.02 * array, tensor.name))
    for entry in proto.metadata_props:
        if entry.key == "precision":
            entry.value = "int8"
    onnx.save(proto, tmp_path / "model.onnx")
    assert not export.verify(small(), tmp_path / "model.onnx").passed


def test_threads_take_turns(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        paths = [tmp_path / f"{i}.onnx" for i in range(4)]
        model = small()
        reports = list(pool.map(lambda path: export.to_onnx(model, path), paths))
    assert all(report.passed for report in reports)
    assert len({path.read_bytes() for path in paths}) == 1


@pytest.mark.parametrize("name", ["model.json", "model.textproto"])
def test_a_target_with_the_name_of_another_format(name, tmp_path):
    with pytest.raises(export.TargetError, match="the name of another format. Let it end in .onnx"):
        export.to_onnx(small(), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_not_utf8(pair, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/o\xff.onnx"))
    path.write_bytes(pair[1].read_bytes())
    with pytest.raises(export.SourceError, match="is not UTF-8. Rename it"):
        export.verify(pair[0], path)


def test_pipes(tmp_path):
    """Nobody writes into them, so that reading would never end."""
    for name in ("m.keras", "m.h5", "d.npz", "r.json"):
        os.mkfifo(tmp_path / name)
    for name in ("m.keras", "m.h5"):
        for call in (export.inspect, lambda path: export.to_onnx(path, tmp_path / "m.onnx")):
            with pytest.raises(export.SourceError, match="is no ordinary file. Give a .keras"):
                call(tmp_path / name)
    for option in ("data", "calibration"):
        precision = {"precision": "int8"} if option == "calibration" else {}
        with pytest.raises(export.OptionError, match="is no ordinary file. Give an `.npz` file"):
            export.to_onnx(
                small(), tmp_path / "m.onnx", **{option: tmp_path / "d.npz"}, **precision
            )
    with pytest.raises(export.SourceError, match="is no ordinary file. Give a report"):
        export.Report.load(tmp_path / "r.json")


@pytest.mark.parametrize("reading", ["while True: pass", "import os; os.abort()"])
def test_an_hdf5_file_that_is_not_read_to_its_end(reading, tmp_path, monkeypatch):
    """As HDF5 does with some damaged files: it goes round in a circle, or ends the process."""
    small().save(tmp_path / "m.h5")
    assert export.inspect(tmp_path / "m.h5").parameters
    monkeypatch.setattr(h5_file, "SECONDS", 0.5)
    monkeypatch.setattr(h5_file, "READING", reading)
    with pytest.raises(export.SourceError, match="is damaged: HDF5 cannot read it. Copy or save"):
        export.to_onnx(tmp_path / "m.h5", tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == ["m.h5"]


def test_the_other_byte_order(tmp_path, rng):
    model, path = small(), tmp_path / "m.onnx"
    (port,) = export.to_onnx(model, path).inputs
    x = rng.normal(size=(64, *port.shape[1:])).astype(">f4")
    np.savez(tmp_path / "x.npz", **{port.name: x})
    assert export.to_onnx(model, path, data=tmp_path / "x.npz").passed
    assert export.verify(model, path, data={port.name: x}, layers=True).passed
    assert export.to_onnx(model, path, precision="int8", calibration={port.name: x}).passed


def test_a_graph_optimizer_that_is_taken(tmp_path):
    from tensorflow.python.grappler.cluster import Cluster

    taken = Cluster()
    with pytest.raises(export.ExportError, match="optimizer is taken by another part") as failure:
        export.to_onnx(small(), tmp_path / "m.onnx")
    assert not isinstance(failure.value, export.ConversionError)
    taken.Shutdown()
    assert export.to_onnx(small(), tmp_path / "m.onnx").passed


def test_names_that_tensorflow_does_not_take(tmp_path):
    stack = [layers.Dense(3, name="a b"), layers.Dense(2, name="c d")]
    model = keras.Sequential([keras.Input((4,)), *stack])
    with pytest.raises(export.ConversionError, match="not a valid scope name.* Rename it") as error:
        export.to_onnx(model, tmp_path / "m.onnx")
    assert error.value.layer in {"a b", "c d"}
