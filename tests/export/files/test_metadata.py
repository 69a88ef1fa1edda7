"""What a file says of itself."""

import hashlib
import json
import subprocess
import sys
import textwrap

import keras
import onnx
import pytest
from keras import layers

from kerasdl import export
from kerasdl.export.files.metadata import sha256
from random_networks import randomize


def small():
    stack = [layers.Dense(5, name="hidden"), layers.BatchNormalization(name="bn")]
    model = keras.Sequential([keras.Input((4,), name="x"), *stack], name="small")
    randomize(model, 0)
    return model


def read(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_everything_is_noted(tmp_path):
    small().save(tmp_path / "model.keras")
    report = export.to_onnx(tmp_path / "model.keras", tmp_path / "model.onnx")
    noted = read(tmp_path / "model.onnx")
    source = (tmp_path / "model.keras").read_bytes()
    assert noted["source_sha256"] == hashlib.sha256(source).hexdigest()
    assert noted["keras_version"] == keras.__version__
    assert noted["onnx_version"] == onnx.__version__
    assert json.loads(noted["batch_normalization"]) == ["bn: folded into hidden"]
    assert noted["precision"] == "float32"
    parity = json.loads(noted["parity"])
    assert float(parity["max_error"]) == pytest.approx(report.max_error, rel=0.06)
    nearest = parity["nearest_to_tolerance"]
    assert nearest["output"] == report.worst.output
    assert float(nearest["tolerance"]) == pytest.approx(report.worst.tolerance, rel=0.06)
    assert parity["comparisons"] == len(report.checks)
    assert report.size == (tmp_path / "model.onnx").stat().st_size
    assert "source_sha256" in export.inspect(tmp_path / "model.onnx").to_text()


def test_a_model_in_memory_has_no_source(tmp_path):
    export.to_onnx(small(), tmp_path / "model.onnx")
    assert "source_sha256" not in read(tmp_path / "model.onnx")


def test_the_hash_of_a_folder(tmp_path):
    folder = tmp_path / "saved"
    (folder / "inner").mkdir(parents=True)
    (folder / "a").write_bytes(b"1")
    (folder / "inner" / "b").write_bytes(b"2")
    first = sha256(folder)
    assert sha256(folder) == first
    (folder / "inner" / "b").rename(folder / "inner" / "c")
    second = sha256(folder)
    (folder / "a").write_bytes(b"3")
    assert len({first, second, sha256(folder)}) == 3
    with pytest.raises(export.SourceError, match="cannot be read"):
        sha256(tmp_path / "none")


PROGRAM = """
    import sys
    from kerasdl import export
    export.to_onnx(sys.argv[1], sys.argv[2])
    export.to_onnx(sys.argv[1], sys.argv[3], precision="float16", external_data=True)
    export.to_onnx(sys.argv[1], sys.argv[4], precision="int8", opset=21, rtol=0.5)
"""


def test_other_processes_write_the_same_bytes(tmp_path):
    """With other hash seeds, too."""
    x = keras.Input((8, 8, 3), name="x")
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(20, 3, padding="same")(x)))
    z = layers.LSTM(6)(layers.Reshape((16, -1))(layers.AveragePooling2D(2)(y)))
    model = keras.Model(x, [layers.Dense(30)(z), layers.GlobalMaxPooling2D()(y)])
    randomize(model, 3)
    model.save(tmp_path / "model.keras")
    folders = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        targets = [folder / name for name in ("a.onnx", "b.onnx", "c.onnx")]
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), tmp_path / "model.keras", *targets],
            env={"PYTHONHASHSEED": seed, "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
        )
        folders.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert len(folders[0]) == 4  # one has its weights in another file
    assert folders[0] == folders[1]
