"""Write: a file appears complete, or not at all.

Where the system has anonymous files (Linux), the bytes go to one without a name, which vanishes
with the process; only when they are all on the disk, and have been looked at there, does it get a
name beside the target, and is renamed onto it. Elsewhere a temporary file takes its place.

A file that keeps its weights in another one is written into a folder beside the target. The weights
are moved out first, under a name made of their hash, so that the old file has the old ones until
the new one takes its place. A process that is killed leaves the folder behind, but not the lock
that it held on it: the next one that writes to the same target removes what nobody holds.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import SourceError, TargetError, reason

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TOKEN = r"[0-9a-f]{8}"
SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))
PROCESSES = ("/proc/", "/dev/fd/")
"""Where streams are found that lead elsewhere, such as to the file of a shell's `>`."""


def check_target(path: str | os.PathLike[str], *sources: object) -> Path:
    """Find out before the work begins whether the target can be written.

    Args:
        path: The file to write; a link is followed.
        sources: What is read, none of which must be overwritten: paths, or other things.

    Returns:
        The target, without links.

    Raises:
        TargetError: The folder is missing or closed, or the target is a folder, no ordinary
            file, or one of the sources.
        SourceError: A source is no path.
    """
    try:
        text = os.fsdecode(path)
        text.encode()
        if text.endswith(SEPARATORS):
            raise TargetError(f"{text} names a folder. Name a file, such as {text}model.onnx.")
        if text.startswith(PROCESSES) or _leads_to_process(text):
            raise TargetError(f"{text} is a stream of a process. Name a file.")
        target = Path(path).resolve()
        _check_target(target)
    except UnicodeEncodeError as error:
        raise TargetError(f"{path} cannot be written: its name is not UTF-8. Rename it.") from error
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise TargetError(f"{path} cannot be written: {reason(error)}.") from error
    paths = [one for one in sources if isinstance(one, str | os.PathLike)]
    try:
        read = [Path(one).resolve() for one in paths]
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise SourceError(f"{paths} cannot be read: {reason(error)}.") from error
    if any(one == target or one in target.parents for one in read):
        raise TargetError(
            f"{path} is the model itself, or the data, or lies in it. Name another target."
        )
    return target


def _leads_to_process(text: str) -> bool:
    """Whether it is a link such as /dev/stdout."""
    return os.path.islink(text) and os.readlink(text).startswith(PROCESSES)


def _check_target(target: Path) -> None:
    folder = target.parent
    with suppress(FileNotFoundError, NotADirectoryError):  # what lies beside it may not fit either
        target.with_name(_data_name(target, "0" * 8)).lstat()
    if target.is_dir():
        raise TargetError(f"{target} is a folder. Name a file, such as {target / 'model.onnx'}.")
    if target.exists() and not target.is_file():
        raise TargetError(f"{target} is no ordinary file. Name another target.")
    if not folder.is_dir():
        raise TargetError(f"The folder {folder} does not exist. Create it, or name another target.")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):  # it is looked through for old data
        raise TargetError(f"The folder {folder} cannot be written to. Name another target.")


class Pending:
    """A file that can be read by its `path`, and that is not there until it is kept."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._beside = _hidden(target)
        self._named = False
        try:
            flags = os.O_TMPFILE | os.O_RDWR
            self._descriptor = os.open(target.parent, flags, 0o666)
        except (AttributeError, OSError):  # no anonymous files on this system or file system
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(self._beside, flags, 0o666)
            self._named = True

    @property
    def path(self) -> Path:
        return self._beside if self._named else Path(f"/proc/self/fd/{self._descriptor}")

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def fill(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Write the chunks one after the other, through to the disk.

        Raises:
            TargetError: The system refuses, e.g. because the disk is full.
        """
        with _refused(self._target):
            _write_through(self._descriptor, chunks)

    def keep(self) -> None:
        """Put the file at its target in one step.

        Raises:
            TargetError: The system refuses.
        """
        with _refused(self._target):
            _take_mode(self._target, self.path)
            if not self._named:
                source = f"/proc/self/fd/{self._descriptor}"
                # Only with a `src_dir_fd` does Python ask the system to follow the link.
                os.link(source, self._beside, src_dir_fd=self._descriptor)
                self._named = True
            os.replace(self._beside, self._target)
            self._named = False
            _sync_folder(self._target.parent)
        _forget_data(self._target)

    def close(self) -> None:
        """Let go of the file; it vanishes unless it was kept."""
        os.close(self._descriptor)
        if self._named:
            self._beside.unlink(missing_ok=True)


class PendingPair:
    """A file and the data it reads, which can be read by its `path`, but are not there yet."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._folder, self._lock = _locked_folder(target)
        self._data = ""

    @property
    def path(self) -> Path:
        return self._folder / self._target.name

    @property
    def size(self) -> int:
        return sum(file.stat().st_size for file in self._folder.iterdir())

    def fill_data(self, chunks: Iterable[bytes | memoryview]) -> str:
        """Write the data, and return the name of its file; there is none if there are no data.

        Raises:
            TargetError: The system refuses, e.g. because the disk is full.
        """
        digest = hashlib.sha256()

        def read() -> Iterator[bytes | memoryview]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        file = self._folder / "data"
        self._append(file, read())
        with _refused(self._target):
            if not file.stat().st_size:
                file.unlink()
                return ""
            self._data = _data_name(self._target, digest.hexdigest()[:8])
            file.rename(self._folder / self._data)
        return self._data

    def fill(self, chunks: Iterable[bytes | memoryview]) -> None:
        """Write the chunks one after the other, through to the disk.

        Raises:
            TargetError: The system refuses, e.g. because the disk is full.
        """
        self._append(self.path, chunks)

    def keep(self) -> None:
        """Put the data beside the target, and then the file at its target, each in one step.

        Raises:
            TargetError: The system refuses.
        """
        with _refused(self._target):
            _take_mode(self._target, self.path)
            if self._data:
                os.replace(self._folder / self._data, self._target.with_name(self._data))
                _sync_folder(self._target.parent)
            os.replace(self.path, self._target)
            _sync_folder(self._target.parent)
        _forget_data(self._target, self._data)

    def close(self) -> None:
        """Let go of what was not kept."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def _append(self, file: Path, chunks: Iterable[bytes | memoryview]) -> None:
        with _refused(self._target):
            binary = getattr(os, "O_BINARY", 0)
            descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND | binary, 0o666)
            try:
                _write_through(descriptor, chunks)
            finally:
                os.close(descriptor)


@contextmanager
def pending(target: Path, *, external: bool = False) -> Iterator[Pending | PendingPair]:
    """A file that takes the place of `target` when it is kept; an old one stays until then.

    Args:
        target: The file.
        external: Whether its data go to another one.

    Raises:
        TargetError: The system refuses.
    """
    with _refused(target):
        _forget_folders(target)
        file = PendingPair(target) if external else Pending(target)
    try:
        yield file
    finally:
        file.close()


def write(target: Path, content: bytes) -> None:
    """Put `content` at `target` in one step; an old file stays until the new one is complete.

    Raises:
        TargetError: The system refuses, e.g. because the disk is full.
    """
    with pending(target) as file:
        file.fill([content])
        file.keep()


def _take_mode(old: Path, new: Path) -> None:
    """Let who may read and write the old file do so with the one that takes its place."""
    with suppress(FileNotFoundError):
        new.chmod(stat.S_IMODE(old.stat().st_mode))


@contextmanager
def _refused(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetError(f"{target} cannot be written: {error.strerror or error}.") from error


def _write_through(descriptor: int, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _data_name(target: Path, digest: str) -> str:
    return f"{target.name}.{digest}.data"


def _hidden(target: Path) -> Path:
    """A new name beside the target."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def _forget_data(target: Path, current: str = "") -> None:
    """Remove the data of files that stood at the target before.

    The new file is in its place by then. What the system keeps, because it is open elsewhere or
    not ours, stays.
    """
    ours = re.compile(rf"{re.escape(target.name)}\.{TOKEN}\.data")
    for file in target.parent.iterdir():
        if ours.fullmatch(file.name) and file.name != current and not _is_folder(file):
            with suppress(OSError):
                file.unlink(missing_ok=True)


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    """A new folder beside the target, and the lock that says that this process is writing there."""
    while True:
        folder = _hidden(target)
        folder.mkdir()
        # Before it is locked, another process may take it for one that was left behind.
        with suppress(BlockingIOError):
            lock = _lock(folder)
            if folder.is_dir():
                return folder, lock
            if lock is not None:
                os.close(lock)


def _forget_folders(target: Path) -> None:
    """Remove the folders of processes that were killed while they wrote to the target."""
    folders = re.compile(rf"\.{re.escape(target.name)}\.{TOKEN}")
    files = re.compile(rf"data|{re.escape(target.name)}(\.{TOKEN}\.data)?")
    for folder in target.parent.iterdir():
        if not folders.fullmatch(folder.name) or not _is_folder(folder):
            continue
        with suppress(BlockingIOError, FileNotFoundError):  # in use, or another was quicker
            lock = _lock(folder)
            if lock is None:
                return
            try:
                if all(files.fullmatch(file.name) for file in folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """The lock on a folder, which ends with the process.

    Returns:
        What to close, or None where the system or the file system has no such locks.

    Raises:
        BlockingIOError: Another process has it.
    """
    if fcntl is None:
        return None
    descriptor = -1
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def _is_folder(file: Path) -> bool:
    return file.is_dir() and not file.is_symlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
