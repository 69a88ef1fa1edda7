"""Files whose weights lie beside them."""

import re

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export.files import serialize as serialize_module
from kerasdl.export.files import write as write_module
from random_networks import randomize


def model_of(seed, width=40):
    model = keras.Sequential(
        [
            keras.Input((30,), name="x"),
            layers.Dense(width, activation="tanh", name="one"),
            layers.BatchNormalization(),
            layers.Dense(30, activation="elu"),
            layers.Dense(2, name="y"),
        ]
    )
    randomize(model, seed)
    return model


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_weights_lie_beside_the_file(tmp_path):
    path = tmp_path / "model.onnx"
    report = export.to_onnx(model_of(0), path, external_data=True)
    first, second = names(tmp_path)
    assert first == "model.onnx"
    assert re.fullmatch(r"model\.onnx\.[0-9a-f]{8}\.data", second)
    assert report.size == sum(file.stat().st_size for file in tmp_path.iterdir())
    onnx.checker.check_model(str(path), full_check=True)
    assert export.verify(model_of(0), path).size == report.size
    assert export.inspect(path).parameters == sum(
        int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer
    )
    plain = export.to_onnx(model_of(0), tmp_path / "plain.onnx")
    x = np.random.default_rng(0).normal(size=(3, 30)).astype("float32")
    np.testing.assert_array_equal(*(_run(tmp_path / n, x) for n in ("model.onnx", "plain.onnx")))
    assert plain.nodes == report.nodes


def _run(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_a_new_file_takes_the_old_data_with_it(tmp_path):
    path = tmp_path / "model.onnx"
    (tmp_path / "model.onnx.other.data").write_bytes(b"mine")
    export.to_onnx(model_of(0), path, external_data=True)
    old = names(tmp_path)
    export.to_onnx(model_of(1), path, external_data=True)
    new = names(tmp_path)
    assert len(old) == len(new) == 3
    assert old != new
    assert export.verify(model_of(1), path).passed
    export.to_onnx(model_of(1), path)
    assert names(tmp_path) == ["model.onnx", "model.onnx.other.data"]


def test_small_weights_need_no_data(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    report = export.to_onnx(model, tmp_path / "model.onnx", external_data=True)
    assert names(tmp_path) == ["model.onnx"]
    assert report.size == (tmp_path / "model.onnx").stat().st_size
    assert export.verify(model, tmp_path / "model.onnx").passed


def test_names_too_long_for_data_are_refused_at_once(tmp_path):
    work = []
    with pytest.raises(export.TargetError, match="too long"):
        export.to_onnx(
            model_of(0), tmp_path / ("x" * 242), external_data=True, progress=work.append
        )
    assert work == []
    assert names(tmp_path) == []


def test_a_failure_leaves_the_old_pair(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    export.to_onnx(model_of(0), path, external_data=True)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(export.ParityError):
        export.to_onnx(model_of(1), path, external_data=True, atol=0.0)

    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write_module.os, "write", full)
    with pytest.raises(export.TargetError, match="No space left on device"):
        export.to_onnx(model_of(1), path, external_data=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_stopped_between_the_two_renamings(tmp_path, monkeypatch):
    """The old file still has its own data."""
    path = tmp_path / "model.onnx"
    export.to_onnx(model_of(0), path, external_data=True)
    replace = write_module.os.replace

    def stop(source, target):
        if str(target).endswith("model.onnx"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(write_module.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        export.to_onnx(model_of(1), path, external_data=True)
    monkeypatch.undo()
    assert export.verify(model_of(0), path).passed
    export.to_onnx(model_of(1), path, external_data=True)
    assert len(names(tmp_path)) == 2


def test_a_model_too_large_for_one_file_has_two(tmp_path, monkeypatch):
    monkeypatch.setattr(serialize_module, "LARGEST_FILE", 9_000)
    export.to_onnx(model_of(0), tmp_path / "large.onnx")
    assert len(names(tmp_path)) == 2
    assert export.verify(model_of(0), tmp_path / "large.onnx").passed


def test_missing_and_damaged_data(tmp_path):
    path = tmp_path / "model.onnx"
    export.to_onnx(model_of(0), path, external_data=True)
    data = next(file for file in tmp_path.iterdir() if file != path)
    content = bytearray(data.read_bytes())
    proto = onnx.load(path, load_external_data=False)
    kernel = next(tensor for tensor in proto.graph.initializer if list(tensor.dims) == [30, 40])
    place = int(next(entry.value for entry in kernel.external_data if entry.key == "offset"))
    content[place : place + 4000] = bytes(4000)
    data.write_bytes(content)
    report = export.verify(model_of(0), path)
    assert not report.passed
    assert report.layer == "one"
    data.write_bytes(content[:100])
    with pytest.raises(export.SourceError):
        export.verify(model_of(0), path)
    data.unlink()
    with pytest.raises(export.SourceError):
        export.verify(model_of(0), path)


@pytest.mark.slow
def test_more_than_two_gigabytes(tmp_path):
    """2.4 GB of weights; without `external_data` being asked for."""
    width = 14_000
    model = keras.Sequential(
        [
            keras.Input((width,), name="x"),
            layers.Dense(width, use_bias=False, kernel_initializer="zeros", name="one"),
            layers.BatchNormalization(),
            layers.Dense(width, kernel_initializer="zeros", name="two"),
            layers.Dense(width, kernel_initializer="zeros", name="three"),
            layers.Dense(3, name="y"),
        ]
    )
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        kernel = rng.standard_normal((width, width), "float32")
        kernel /= np.float32(np.sqrt(width))
        model.get_layer(name).kernel.assign(kernel)
    report = export.to_onnx(model, tmp_path / "model.onnx")
    assert report.passed
    assert report.size > 2**31
    assert [entry.into for entry in report.folds] == [("one",)]
    assert (tmp_path / "model.onnx").stat().st_size < 100_000
    assert export.verify(model, tmp_path / "model.onnx").passed
    # A wrong file of that size is searched layer by layer, too.
    model.get_layer("two").kernel.assign_add(np.eye(width, dtype="float32"))
    report = export.verify(model, tmp_path / "model.onnx")
    assert not report.passed
    assert report.layer == "two"
