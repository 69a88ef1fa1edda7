"""The command line: exit codes, text, JSON."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile

import keras
import numpy as np
import onnx
import pytest
from keras import layers
from typer.testing import CliRunner

from kerasdl.export import Port, Report, TargetError
from kerasdl.export.reporting import report
from kerasdl.export.reporting.report import NOT_WRITTEN
from kerasdl.export.verifying.checks import Check
from kerasdl_cli import helping, options
from kerasdl_cli.main import _tell_what_was_written, app

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


def test_what_the_file_should_be(folder):
    options = ["--precision", "float16", "--opset", "21", "--rename", "x=image", "--external-data"]
    result = exported(folder, *options, "--dim", "batch=N", "--rename", "y=scores")
    assert result.exit_code == OK
    assert "opset 21, float16" in result.stdout
    assert "input  image: float32[N, 4]" in result.stdout
    assert "output scores: float32[N, 2]" in result.stdout
    assert not list(folder.glob("model.onnx.*.data"))  # all weights are small
    result = run("verify", folder / "model.keras", folder / "model.onnx")
    assert result.exit_code == OK
    assert exported(folder, "--dim", "batch=4").exit_code == OK
    (end,) = onnx.load(folder / "model.onnx").graph.input
    assert end.type.tensor_type.shape.dim[0].dim_value == 4


def test_int8_with_ranges_of_the_users_data(folder, rng):
    np.savez(folder / "x.npz", x=rng.normal(size=(40, 4)).astype("float32"))
    options = ["--precision", "int8", "--calibrate", folder / "x.npz", "--rtol", "0.5"]
    assert exported(folder, *options).exit_code == OK
    result = run("verify", folder / "model.keras", folder / "model.onnx")
    assert result.exit_code == UNUSABLE
    assert "only on data like that" in result.stderr
    options = ["--data", folder / "x.npz", "--rtol", "0.5"]
    assert run("verify", folder / "model.keras", folder / "model.onnx", *options).exit_code == OK


def test_an_image_with_its_channels_first(folder):
    stack = [layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2, name="y")]
    model = keras.Sequential([keras.Input((6, 5, 2), name="x"), *stack])
    model.save(folder / "model.keras")
    result = exported(folder, "--channels-first", "x")
    assert result.exit_code == OK
    assert "input  x: float32[batch, 2, 6, 5]" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dim", "batch"], "NAME=VALUE"),
        (["--rename", "x"], "NAME=VALUE"),
        (["--dim", "batch=2", "--dim", "batch=3"], "give each name once. Received: 'batch' again"),
        (["--rename", "x=a", "--rename", "x=b"], "give each name once. Received: 'x' again"),
        (["--dim", "batch=1.5"], "a name of letters, digits and underscores"),
        (["--dim", "batch=+5"], "a name of letters, digits and underscores"),
        (["--dim", "batch=99999999999999999999"], "a name of letters, digits and underscores"),
        (["--precision", "float8"], "must be one of float32"),
        (["--dim", "batch=-1"], "an extent of at least 1"),
        (["--dim", "rows=3"], "must name free axes"),
        (["--channels-first", "y"], "must name inputs"),
        (["--rename", "z=w"], "must name inputs and outputs"),
        (["--calibrate", "none.npz"], "is for precision='int8'"),
        (["--precision", "int8", "--calibrate", "none.npz"], "does not exist"),
    ],
)
def test_what_the_file_cannot_be(words, message, folder):
    result = exported(folder, *words)
    assert result.exit_code == UNUSABLE
    assert message in " ".join(result.stderr.split())
    assert not (folder / "model.onnx").exists()


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


@pytest.mark.parametrize("suffix", ["html", "json", "txt"])
def test_report_beside_the_answer(suffix, folder):
    file = folder / f"report.{suffix}"
    result = exported(folder, "--report", file)
    assert result.exit_code == OK
    assert result.stdout.endswith("Result: verified\n")
    text = file.read_text(encoding="utf-8")
    marks = {"html": "<h1", "json": '"passed": true', "txt": "Result: verified\n"}
    assert marks[suffix] in text
    other = folder / f"other.{suffix}"
    words = ("verify", folder / "model.keras", folder / "model.onnx", "--report", other)
    assert run(*words).exit_code == OK
    assert other.exists()


def test_report_of_a_failure(folder):
    for name in ("report.html", "report.json"):
        result = exported(folder, "--atol", 0, "--report", folder / name)
        assert result.exit_code == PARITY_FAILED
        assert not (folder / "model.onnx").exists()
    assert "the file was not written" in (folder / "report.html").read_text(encoding="utf-8")
    result = run("judge", folder / "report.json")
    assert result.exit_code == OK
    exported(folder)
    words = ("verify", folder / "model.keras", folder / "model.onnx", "--atol", 0)
    result = run(*words, "--report", folder / "other.json")
    assert result.exit_code == PARITY_FAILED
    assert json.loads((folder / "other.json").read_text(encoding="utf-8"))["passed"] is False


@pytest.mark.parametrize(
    ("bounds", "again"),
    [
        ([], "without --rtol and --atol"),
        (["--rtol", 1e-3], "with --rtol 0.001"),
        (["--rtol", 1e-3, "--atol", 1], "with --rtol 0.001 --atol 1.0"),
        (["--rtol", 0], None),
    ],
)
def test_judge_says_that_a_failed_export_wrote_nothing(bounds, again, folder):
    """Which is true whatever the numbers say now, and however often they are judged."""
    exported(folder, "--atol", 0, "--report", folder / "report.json")
    run("judge", folder / "report.json", "--atol", 5, "--report", folder / "report.json")
    result = run("judge", folder / "report.json", *bounds)
    assert result.exit_code == (PARITY_FAILED if again is None else OK)
    told = "the file was not written by that export"
    if again is not None:
        told += f"; to have it, export it again {again}"
    _, note = result.stdout.split("Result: ")
    assert note.splitlines()[1:] == [f"  note: {told}"]
    data = json.loads(run("judge", folder / "report.json", *bounds, "--json").stdout)
    assert data["notes"] == [told]


def test_bounds_of_zero_are_named():
    whole = Check("y", "random", 1, True, 0.0, 0.0, 0.0, 0.0, 1.0)
    given = Report("m", "m.onnx", "m", [], [], checks=[whole], notes=[NOT_WRITTEN]).judged(atol=0)
    _tell_what_was_written(given)
    assert given.notes[0].endswith("export it again with --atol 0.0")


@pytest.mark.parametrize(
    "words",
    [["export", "m.keras", "-o", "m.onnx"], ["verify", "m.keras", "m.onnx"], ["judge", "r"]],
)
def test_a_report_of_another_suffix_is_a_usage_error(words):
    result = run(*words, "--report", "report.pdf")
    assert result.exit_code == UNUSABLE
    assert "must end in one of .html, .json, .txt" in " ".join(
        result.stderr.replace("│", "").split()
    )


def test_the_suffixes_are_those_of_the_library():
    assert options.SUFFIXES == report.SUFFIXES


def test_a_report_that_cannot_be_written_is_known_before_the_work(folder):
    failed(exported(folder, "--report", folder / "none" / "r.json"), UNUSABLE, "does not exist")
    assert not (folder / "model.onnx").exists()
    target = folder / "model.json"
    result = run("export", folder / "model.keras", "-o", target, "--report", target)
    failed(result, UNUSABLE, "Name another target")
    assert not target.exists()


def test_a_report_that_fails_late_hides_no_verdict(folder, monkeypatch):
    def full(*_):
        raise TargetError("report.json cannot be written: disk full.")

    monkeypatch.setattr(report, "write", full)
    result = exported(folder, "--report", folder / "report.json")
    failed(result, UNUSABLE, "disk full")
    assert result.stdout.endswith("Result: verified\n")
    result = exported(folder, "--atol", 0, "--report", folder / "report.json")
    assert result.exit_code == PARITY_FAILED
    assert "disk full" in result.stderr
    assert "FAILED" in result.stdout


def test_judge(folder):
    exported(folder, "--report", folder / "report.json")
    before = (folder / "report.json").read_bytes()
    (folder / "model.keras").unlink()
    (folder / "model.onnx").unlink()
    result = run("judge", folder / "report.json", "--rtol", 1e-12)
    assert result.exit_code == PARITY_FAILED
    assert "allowed, as given: 1e-12 · max|y|" in result.stdout
    result = run("judge", folder / "report.json", "--atol", 1, "--json")
    assert result.exit_code == OK
    assert json.loads(result.stdout)["tolerance"] == {"rtol": 0.0, "atol": 1.0}
    assert run("judge", folder / "report.json").exit_code == OK
    assert (folder / "report.json").read_bytes() == before
    words = ("judge", folder / "report.json", "--atol", 0, "--report", folder / "report.json")
    assert run(*words).exit_code == PARITY_FAILED
    assert run("judge", folder / "report.json").exit_code == OK


def test_judge_what_json_printed(folder):
    answer = exported(folder, "--atol", 0, "--json")
    assert answer.exit_code == PARITY_FAILED
    (folder / "answer.json").write_text(answer.stdout, encoding="utf-8")
    assert run("judge", folder / "answer.json").exit_code == OK
    exported(folder)
    words = ("verify", folder / "model.keras", folder / "model.onnx", "--atol", 0, "--json")
    (folder / "answer.json").write_text(run(*words).stdout, encoding="utf-8")
    assert run("judge", folder / "answer.json").exit_code == OK


def test_a_failed_export_and_a_failed_verify_have_one_shape(folder):
    failure = json.loads(exported(folder, "--atol", 0, "--json").stdout)
    exported(folder)
    words = ("verify", folder / "model.keras", folder / "model.onnx", "--atol", 0, "--json")
    report = json.loads(run(*words).stdout)
    assert failure["passed"] is report["passed"] is False
    assert set(failure) - set(report) == {"error", "message", "exit_code"}
    assert (failure["error"], failure["exit_code"]) == ("ParityError", PARITY_FAILED)
    assert "was not written" in failure["message"]
    assert failure["layer"] is report["layer"] is None


def test_judge_a_damaged_report(folder):
    data = Report("m", "m.onnx", "m", [Port("x", (None, 4), "float32")], []).to_dict()
    for change, message in (
        ({"size": 10**4000}, "in 0..2^63"),
        ({"inputs": [data["inputs"][0] | {"symbols": ["a"]}]}, "one symbol per axis"),
        ({"source": 3}, "`report.source` must be a string. Received: 3"),
    ):
        (folder / "report.json").write_text(json.dumps(data | change))
        failed(run("judge", folder / "report.json"), UNUSABLE, message)


def test_judge_what_is_no_report(folder):
    wanted = "Give a .json file that `--report` or `--json` wrote."
    (folder / "report.html").write_text("<!doctype html>")
    for name, what in (
        ("none.json", "does not exist"),
        ("x" * 5000, "does not exist"),
        ("model.keras", "is no report of kerasdl"),
        ("report.html", "is no report of kerasdl"),
        ("", "is a folder"),
    ):
        failed(run("judge", folder / name), UNUSABLE, f"{folder / name} {what}. {wanted}")
    (folder / "other.json").write_text("[1]")
    failed(run("judge", folder / "other.json"), UNUSABLE, "This is no report of kerasdl")
    (folder / "other.json").write_text('{"format": 1,')
    failed(run("judge", folder / "other.json"), UNUSABLE, "This is no JSON: Expecting property")


def test_judge_a_report_without_comparisons(folder):
    """Nothing failed, but nothing can be judged either."""
    Report("m", "m.onnx", "m", [], []).save(folder / "report.json")
    result = run("judge", folder / "report.json")
    failed(result, UNUSABLE, "report.json holds no comparisons that could be judged. Give a .json")
    assert result.stdout == ""


def test_every_layer(folder):
    exported(folder)
    result = run("verify", folder / "model.keras", folder / "model.onnx", "--layers")
    assert result.exit_code == OK
    lines = result.stdout.splitlines()
    start = lines.index("Layer by layer")
    assert [line.split()[:2] for line in lines[start + 2 : start + 6]] == [
        ["ok", name] for name in ("hidden", "bn", "elu", "y")
    ]
    assert "inside hidden + bn" in lines[start + 2]
    result = run("verify", folder / "model.keras", folder / "model.onnx", "--layers", "--json")
    checks = json.loads(result.stdout)["layers"]
    assert [check["layer"] for check in checks] == ["hidden", "bn", "elu", "y"]
    result = run("verify", folder / "model.keras", folder / "model.onnx")
    assert "Layer by layer" not in result.stdout


def test_a_layer_without_an_onnx_form_exits_with_3(folder):
    words = layers.Hashing(10, name="words")
    model = keras.Sequential([keras.Input((1,), dtype="string"), words, layers.Embedding(10, 4)])
    model.save(folder / "model.keras")
    failed(exported(folder), NOT_CONVERTIBLE, "Layer `words` cannot be traced")
    data = json.loads(exported(folder, "--json").stdout)
    assert (data["error"], data["layer"], data["exit_code"]) == ("ConversionError", "words", 3)
    assert set(data) == {"error", "message", "layer", "exit_code"}
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


def test_help_of_judge_has_an_example():
    result = run("judge", "--help")
    assert result.exit_code == OK
    assert "Example: kerasdl judge report.json --rtol" in " ".join(result.stdout.split())


COMMANDS = ("export", "verify", "judge", "inspect")


def help_of(*words, columns=80):
    result = CliRunner().invoke(app, words, env={"COLUMNS": str(columns)}, prog_name="kerasdl")
    assert result.exit_code == OK
    return result.stdout


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_help(command):
    text = help_of(*command, "--help")
    assert help_of(*command, "-h") == text
    assert "<bool>" not in text
    prose = text.partition("╭")[0].replace("\n" + 80 * " ", "\n").strip()
    for paragraph in prose.split("\n\n"):
        lines = [line.strip() for line in paragraph.splitlines()]
        assert textwrap.wrap(" ".join(lines), 78) == lines


@pytest.mark.parametrize("columns", [1, 40, 50, 59, 60, 80])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_cut_off_nowhere(command, columns):
    text = help_of(command, "--help", columns=columns)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= max(columns, helping.LEAST)
    for option in ("--json", "--unsafe" if command != "judge" else "--report"):
        assert option in text


@pytest.mark.parametrize(
    ("command", "codes"),
    [
        ("export", [0, 2, 3, 4]),
        ("verify", [0, 2, 3, 4]),
        ("judge", [0, 2, 4]),
        ("inspect", [0, 2, 3]),
    ],
)
def test_help_lists_the_exit_codes_that_can_come(command, codes):
    text = " ".join(help_of(command, "--help", columns=200).split())
    listed = text.split("Exit codes: ")[1].split(", ")
    assert [int(each[0]) for each in listed] == codes


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_model_that_no_file_can_be_like_exits_with_3(command, folder):
    model = keras.Sequential(
        [keras.Input((3, 4), batch_size=2), layers.LSTM(2, stateful=True, name="memory")]
    )
    exported(folder)
    model.save(folder / "model.keras")
    words = [folder / "model.onnx"] if command == "verify" else []
    result = run(command, folder / "model.keras", *words)
    failed(result, NOT_CONVERTIBLE, "Layer `memory` (LSTM, stateful=True) keeps its state")


def test_help_of_verify_says_what_is_compared():
    text = " ".join(help_of("verify", "--help").split())
    for words in (
        "in a file that this version of kerasdl wrote, the constants",
        "wrong constants are shown, but do not count",
        "what is given or what is derived is allowed, whichever is larger",
        "Allowed absolute error of the outputs",
    ):
        assert words in text.replace(" │ │ ", " ")


def test_an_onnx_file_of_another_name(folder):
    for name in ("model.txt", "model"):
        assert run("export", folder / "model.keras", "-o", folder / name).exit_code == OK
        assert run("verify", folder / "model.keras", folder / name).exit_code == OK
        assert f"{name}: ONNX model `sequential" in run("inspect", folder / name).stdout
    (folder / "model.txt").write_text("hello")
    message = "is not a model. Give a .keras file, a .h5 file, an .onnx file or a SavedModel folder"
    failed(run("inspect", folder / "model.txt"), UNUSABLE, message)


def test_a_model_and_its_file_in_the_wrong_order(folder):
    exported(folder)
    result = run("verify", folder / "model.onnx", folder / "model.keras")
    failed(
        result, UNUSABLE, "model.keras is no ONNX file. The model comes first, and the ONNX file"
    )


def test_help_and_version_import_no_tensorflow():
    code = (
        "import sys; from kerasdl_cli.main import app\n"
        "for words in (['--help'], ['export', '--help'], ['--version']):\n"
        "    try: app(words)\n"
        "    except SystemExit: pass\n"
        "sys.exit(int(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy'))))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).returncode == 0


@pytest.mark.parametrize("module", ["kerasdl", pytest.param("kerasdl_cli", marks=pytest.mark.slow)])
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


def in_shell(folder, words, redirection, python="", **environment):
    """Exit code and outputs of the command in a process whose streams a shell has set up."""
    line = f'"{sys.executable}" {python} -m kerasdl_cli {words} {redirection}'
    result = subprocess.run(
        ["sh", "-c", line], cwd=folder, capture_output=True, env=os.environ | environment
    )
    assert b"Traceback" not in result.stderr
    return result.returncode, result.stdout, result.stderr


EXPORT = "export model.keras -o model.onnx --report report.json"


@pytest.mark.parametrize(
    "redirection", [">&- 2>&- <&-", pytest.param("2>&-", marks=pytest.mark.slow)]
)
def test_closed_streams(redirection, folder):
    code, answer, _ = in_shell(folder, EXPORT, redirection)
    assert code == OK
    assert b"Result: verified" in answer or ">&- 2" in redirection
    assert run("judge", folder / "report.json").exit_code == OK
    assert run("verify", folder / "model.keras", folder / "model.onnx").exit_code == OK


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk always full")
def test_a_full_disk_behind_standard_output(folder):
    code, _, complaint = in_shell(folder, EXPORT, "> /dev/full")
    assert code == UNUSABLE
    assert complaint.decode() == (
        "Error: the standard output cannot be written: No space left on device.\n"
    )
    assert run("verify", folder / "model.keras", folder / "model.onnx").exit_code == OK
    words = "judge report.json --atol 0 --report other.json"
    assert in_shell(folder, words, "> /dev/full 2> /dev/full")[0] == PARITY_FAILED
    assert (folder / "other.json").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk always full")
@pytest.mark.parametrize("words", ["--version", "--help"])
def test_a_full_disk_behind_the_help(words, folder):
    code, _, complaint = in_shell(folder, words, "> /dev/full")
    assert (code, complaint) == (UNUSABLE, b"Error: No space left on device.\n")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.slow
def test_an_encoding_without_some_characters(as_json, folder):
    wrong = Check("y", "random", 1, True, 0.5, 0.5, 0.1, 0.0, 1.0)
    report = Report("model", "\U0001f600.onnx", "m", [], [], checks=[wrong])
    report.save(folder / "report.json")
    words = f"judge report.json {'--json' if as_json else ''}"
    code, answer, _ = in_shell(folder, words, "", PYTHONIOENCODING="latin-1")
    assert code == PARITY_FAILED
    if as_json:
        assert json.loads(answer.decode("ascii"))["target"] == "\U0001f600.onnx"
    else:
        assert answer.startswith(rb"model \u2192 \U0001f600.onnx")


def test_warnings_that_are_errors(folder):
    assert in_shell(folder, "inspect model.keras", "", python="-W error")[0] == OK


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_was_begun_is_cleared_away_when_the_process_is_ended(name):
    code = f"""
import os, signal, sys
import kerasdl_cli.main as main

def app():
    try:
        os.kill(os.getpid(), signal.{name})
    finally:
        print("cleared away", flush=True)

main.app = app
# What this process ignores, its children do, too; nohup lets all of them ignore SIGHUP.
signal.signal(signal.{name}, signal.SIG_IGN if sys.argv[1:] else signal.SIG_DFL)
main.run()
"""
    for argument, expected in (([], 128 + getattr(signal, name)), (["ignored"], 0)):
        command = [sys.executable, "-c", code, *argument]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == expected, ended.stderr
        assert ended.stdout == "cleared away\n"


def test_what_a_module_prints_is_no_json(folder, monkeypatch):
    (folder / "loud.py").write_text("print('here I am')\n")
    monkeypatch.chdir(folder)
    result = exported(folder, "--json", "--import", "loud")
    assert result.exit_code == OK
    assert json.loads(result.stdout)["target"]
    assert "here I am" in result.stderr
