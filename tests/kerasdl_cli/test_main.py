"""The command line: exit codes, text, JSON."""

import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from typer.testing import CliRunner

from kerasdl_cli.main import app

OK, UNUSABLE, NOT_CONVERTIBLE, PARITY_FAILED = 0, 2, 3, 4


@pytest.fixture
def folder(tmp_path):
    stack = [layers.Dense(3, name="hidden"), layers.BatchNormalization(name="bn"), layers.ELU()]
    model = keras.Sequential([keras.Input((4,), name="x"), *stack, layers.Dense(2, name="y")])
    model.save(tmp_path / "model.keras")
    return tmp_path


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def exported(folder, *options):
    return run("export", folder / "model.keras", "-o", folder / "model.onnx", *options)


def test_export_then_verify_then_inspect(folder):
    result = exported(folder)
    assert result.exit_code == OK
    assert "bn: folded into hidden" in result.stdout
    assert result.stdout.endswith("Result: verified\n")
    result = run("verify", folder / "model.keras", folder / "model.onnx")
    assert result.exit_code == OK
    assert result.stdout.endswith("Result: verified\n")
    for name in ("model.keras", "model.onnx"):
        result = run("inspect", folder / name)
        assert result.exit_code == OK
        assert "input  x: float" in result.stdout


def test_json(folder):
    data = json.loads(exported(folder, "--json").stdout)
    assert data["passed"] is True
    data = json.loads(run("verify", folder / "model.keras", folder / "model.onnx", "--json").stdout)
    assert data["passed"] is True
    data = json.loads(run("inspect", folder / "model.onnx", "--json").stdout)
    assert data["kind"] == "ONNX"


def test_user_data(folder):
    np.savez(folder / "good.npz", x=np.zeros((5, 4), "float32"))
    result = exported(folder, "--data", folder / "good.npz")
    assert "y, data batch of 5" in result.stdout
    np.savez(folder / "bad.npz", z=np.zeros((5, 4), "float32"))
    result = exported(folder, "--data", folder / "bad.npz")
    assert result.exit_code == UNUSABLE
    assert "must hold exactly the model's inputs ['x']" in result.stderr


def failed(result, code, message):
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_wrong_file_exits_with_4_and_names_the_layer(folder):
    exported(folder)
    proto = onnx.load(folder / "model.onnx")
    weight = next(t for t in proto.graph.initializer if t.dims == [3, 2])
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0, 0] += 0.01
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(proto, folder / "model.onnx")
    result = run("verify", folder / "model.keras", folder / "model.onnx")
    assert result.exit_code == PARITY_FAILED
    assert "FAILED, it begins to differ at layer `y`" in result.stdout
    result = run("verify", folder / "model.keras", folder / "model.onnx", "--json")
    assert result.exit_code == PARITY_FAILED
    assert json.loads(result.stdout)["layer"] == "y"
    result = run("verify", folder / "model.keras", folder / "model.onnx", "--atol", 1)
    assert result.exit_code == OK


def test_a_layer_without_an_onnx_form_exits_with_3(folder):
    words = layers.TextVectorization(max_tokens=10, name="words")
    words.adapt(["a b c", "b d"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), words, layers.Embedding(10, 4)])
    model.save(folder / "model.keras")
    failed(exported(folder), NOT_CONVERTIBLE, "Layer `words` cannot be converted")
    data = json.loads(exported(folder, "--json").stdout)
    assert (data["error"], data["layer"], data["exit_code"]) == ("ConversionError", "words", 3)
    assert not (folder / "model.onnx").exists()


def test_unreadable_input_exits_with_2(folder):
    failed(run("inspect", folder / "none.keras"), UNUSABLE, "none.keras does not exist")
    failed(exported(folder, "--opset", 99), UNUSABLE, "`opset` must be in 13..26")
    failed(exported(folder, "--import", "no_such"), UNUSABLE, "`no_such` cannot be imported")
    failed(
        run("export", folder / "model.keras", "-o", folder / "none" / "model.onnx"),
        UNUSABLE,
        "none does not exist",
    )
    content = (folder / "model.keras").read_bytes()
    (folder / "model.keras").write_bytes(content[: len(content) // 2])
    failed(exported(folder), UNUSABLE, "truncated")
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    failed(exported(folder), UNUSABLE, "cannot be read as a Keras model")


def test_code_in_a_file_needs_the_flag(folder):
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2)])
    model.save(folder / "model.keras")
    failed(exported(folder), UNUSABLE, "`--unsafe`")
    assert exported(folder, "--unsafe").exit_code == OK


@pytest.mark.parametrize(
    "words", [["export"], ["export", "m.keras"], ["nonsense"], ["verify", "a"]]
)
def test_usage_errors_exit_with_2(words):
    assert run(*words).exit_code == UNUSABLE


@pytest.mark.parametrize("command", ["export", "verify", "inspect"])
def test_help_has_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == OK
    assert f"Example: kerasdl {command} model.keras" in " ".join(result.stdout.split())


def test_help_and_version_import_no_tensorflow():
    code = (
        "import sys; from kerasdl_cli.main import app\n"
        "for words in (['--help'], ['export', '--help'], ['--version']):\n"
        "    try: app(words)\n"
        "    except SystemExit: pass\n"
        "sys.exit(int(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).returncode == 0


@pytest.mark.parametrize("module", ["kerasdl", "kerasdl_cli"])
def test_module_in_a_process_of_its_own(module, folder):
    """As the command `kerasdl`, with nothing of TensorFlow's start-up on the terminal."""
    words = [sys.executable, "-m", module, "export", folder / "model.keras"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    result = subprocess.run(
        [*words, "-o", folder / "model.onnx"], capture_output=True, text=True, env=environment
    )
    assert result.returncode == OK
    assert result.stdout.endswith("Result: verified\n")
    # `python -m kerasdl` imports Keras before any of our code can run.
    assert module == "kerasdl" or result.stderr == ""
