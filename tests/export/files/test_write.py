"""A file appears complete, or not at all."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from kerasdl.export import TargetError, errors
from kerasdl.export.files import write as write_module
from kerasdl.export.files.write import check_target, pending, write


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "model.onnx"
    write(target, b"old")
    write(target, b"new")
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "model.onnx", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "model.onnx").stat().st_mode & 0o777 == 0o640


def test_systems_without_anonymous_files(tmp_path, monkeypatch):
    monkeypatch.delattr(write_module.os, "O_TMPFILE", raising=False)
    write(tmp_path / "model.onnx", b"new")
    assert (tmp_path / "model.onnx").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("anonymous", [True, False])
def test_a_full_disk_leaves_the_old_file(anonymous, tmp_path, monkeypatch):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    if not anonymous:
        monkeypatch.delattr(write_module.os, "O_TMPFILE", raising=False)

    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write_module.os, "write", full)
    with pytest.raises(TargetError, match="cannot be written: No space left on device"):
        write(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_targets_that_cannot_be_written(tmp_path):
    with pytest.raises(TargetError, match="is a folder"):
        check_target(tmp_path)
    with pytest.raises(TargetError, match="The folder .*missing does not exist"):
        check_target(tmp_path / "missing" / "model.onnx")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TargetError, match="is no ordinary file"):
        check_target(tmp_path / "pipe")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    # What is written beside the target has a longer name.
    long = (tmp_path / ("x" * length) for length in (242, 250, 255, 256, 300))
    for unusable in (tmp_path / "a" / "x.onnx", *long, None, "a\0b"):
        with pytest.raises(TargetError):
            check_target(unusable)
    assert check_target(tmp_path / "model.onnx") == tmp_path.resolve() / "model.onnx"
    longest = check_target(tmp_path / ("x" * 241))
    for external in (False, True):
        with pending(longest, external=external) as file:
            if external:
                file.fill_data([b"data"])
            file.fill([b"x"])
            file.keep()
    assert len(os.listdir(tmp_path)) == 5


def test_the_model_itself_is_no_target(tmp_path):
    model, folder = tmp_path / "model.keras", tmp_path / "saved"
    model.write_bytes(b"model")
    folder.mkdir()
    (tmp_path / "link.onnx").symlink_to(model)
    for target in (model, tmp_path / "link.onnx"):
        with pytest.raises(TargetError, match="is the model itself"):
            check_target(target, model)
    with pytest.raises(TargetError, match="is the model itself"):
        check_target(folder / "saved_model.pb", folder)


def test_a_closed_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(write_module.os, "access", lambda *_: False)
    with pytest.raises(TargetError, match="cannot be written to"):
        check_target(tmp_path / "model.onnx")


WRITER = """
    from pathlib import Path
    import sys
    from kerasdl_write import write
    target, turn = Path(sys.argv[1]), 0
    print("ready", flush=True)
    while True:
        turn += 1
        write(target, bytes([turn % 256]) * 3_000_000)
"""


def test_killed_at_any_moment(tmp_path):
    """A writer in a loop is killed 40 times: what is there is always one whole file, alone."""
    target = tmp_path / "out" / "model.onnx"
    target.parent.mkdir()
    # The module alone, so that the loop starts at once.
    source = write_module.__file__
    text = Path(source).read_text(encoding="utf-8").replace("from ..errors", "from kerasdl_errors")
    (tmp_path / "kerasdl_write.py").write_text(text, encoding="utf-8")
    shutil.copy(errors.__file__, tmp_path / "kerasdl_errors.py")
    for turn in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), target],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.002 + 0.0007 * turn)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        content = target.read_bytes() if target.exists() else b""
        assert content in {b"", bytes([content[0] if content else 0]) * 3_000_000}
        leftovers = [path for path in target.parent.iterdir() if path != target]
        assert all(path.stat().st_size == 3_000_000 for path in leftovers)
        for path in leftovers:
            path.unlink()


PAIR = """
    from pathlib import Path
    import sys, time
    from kerasdl_write import pending
    with pending(Path(sys.argv[1]), external=True) as pair:
        pair.fill_data([bytes(9)])
        pair.fill([b"model"])
        print("ready", flush=True)
        time.sleep(60)
"""


def pair_writer(tmp_path, target):
    """A process that is about to keep a file and its data."""
    text = Path(write_module.__file__).read_text(encoding="utf-8")
    text = text.replace("from ..errors", "from kerasdl_errors")
    (tmp_path / "kerasdl_write.py").write_text(text, encoding="utf-8")
    shutil.copy(errors.__file__, tmp_path / "kerasdl_errors.py")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PAIR), target], cwd=tmp_path, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def hidden(folder):
    return sorted(file.name for file in folder.iterdir() if file.name.startswith("."))


@pytest.mark.parametrize("external", [False, True])
def test_what_a_killed_process_left_is_removed(external, tmp_path):
    target = tmp_path / "out" / "model.onnx"
    target.parent.mkdir()
    process = pair_writer(tmp_path, target)
    (left,) = hidden(target.parent)
    mine = [".model.onnx.12345678", ".model.onnx.other", ".model.onnx.1a2b3c4d"]
    for name in mine:
        (target.parent / name).mkdir()
    (target.parent / mine[0] / "notes").write_bytes(b"mine")
    (target.parent / mine[1] / "data").write_bytes(b"mine")
    (target.parent / mine[2]).rmdir()
    (target.parent / mine[2]).write_bytes(b"mine")
    # While the process lives, its folder stays.
    with pending(target, external=external):
        assert {left, *mine} <= set(hidden(target.parent))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with pending(target.with_name("other.onnx"), external=external):
        assert left in hidden(target.parent)
    with pending(target, external=external) as file:
        assert left not in hidden(target.parent)
        file.fill([b"new"])
        file.keep()
    assert target.read_bytes() == b"new"
    assert hidden(target.parent) == sorted(mine)


def test_systems_without_locks(tmp_path, monkeypatch):
    """Nothing is removed there."""
    left = tmp_path / ".model.onnx.12345678"
    left.mkdir()

    def no_locks(descriptor, how):
        raise OSError(38, "Function not implemented")

    target = tmp_path / "model.onnx"
    for name, value in (("fcntl.flock", no_locks), ("fcntl", None)):
        monkeypatch.setattr(f"{write_module.__name__}.{name}", value)
        with pending(target, external=True) as file:
            file.fill_data([b"data"])
            file.fill([b"x"])
            file.keep()
        assert left.is_dir()
        assert len(os.listdir(tmp_path)) == 3


def test_a_folder_that_is_taken_before_it_is_locked(tmp_path, monkeypatch):
    real, turns = write_module._lock, iter(range(9))

    def lock(folder):
        turn = next(turns)
        if turn == 0:
            folder.rmdir()
        if turn == 1:
            raise BlockingIOError
        return real(folder)

    monkeypatch.setattr(write_module, "_lock", lock)
    with pending(tmp_path / "model.onnx", external=True) as file:
        file.fill([b"x"])
        file.keep()
    assert (tmp_path / "model.onnx").read_bytes() == b"x"
    assert next(turns) == 3


def test_folders_with_the_name_of_data_stay(tmp_path):
    folder = tmp_path / "model.onnx.12345678.data"
    folder.mkdir()
    write(tmp_path / "model.onnx", b"new")
    assert folder.is_dir()


def test_old_data_that_cannot_be_removed(tmp_path, monkeypatch):
    """The new file is complete all the same."""
    data = tmp_path / "model.onnx.12345678.data"
    data.write_bytes(b"old")

    def refuse(path, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    write(tmp_path / "model.onnx", b"new")
    assert (tmp_path / "model.onnx").read_bytes() == b"new"
    assert data.exists()


@pytest.mark.parametrize("external", [False, True])
def test_permissions_are_those_of_the_old_file(external, tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    target.chmod(0o604)
    with pending(target, external=external) as file:
        file.fill([b"new"])
        file.keep()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o604


def test_streams_and_folders_are_no_targets(tmp_path):
    (tmp_path / "out").symlink_to("/proc/self/fd/1")
    for stream in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", tmp_path / "out"):
        with pytest.raises(TargetError, match="is a stream of a process. Name a file"):
            check_target(stream)
    with pytest.raises(TargetError, match="names a folder. Name a file, such as .*/new/model.onnx"):
        check_target(f"{tmp_path}/new/")
    with pytest.raises(TargetError, match="its name is not UTF-8. Rename it"):
        check_target(os.fsdecode(os.fsencode(tmp_path) + b"/o\xff.onnx"))
    assert os.listdir(tmp_path) == ["out"]
