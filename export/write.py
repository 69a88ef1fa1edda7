"""Write: a file appears complete, or not at all.

Where the system has anonymous files (Linux), the bytes go to one without a name, which vanishes
with the process; only when they are all on the disk, and have been looked at there, does it get a
name beside the target, and is renamed onto it. Elsewhere a temporary file takes its place.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import TargetError, reason


def check_target(path: str | os.PathLike[str], source: object = None) -> Path:
    """Find out before the work begins whether the target can be written.

    Args:
        path: The file to write; a link is followed.
        source: The model's path, which must not be overwritten.

    Returns:
        The target, without links.

    Raises:
        TargetError: The folder is missing or closed, or the target is a folder, no ordinary
            file, or the model itself.
    """
    try:
        target = Path(path).resolve()
        _check_target(target)
        own = Path(source).resolve() if isinstance(source, str | os.PathLike) else None
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise TargetError(f"{path} cannot be written: {reason(error)}.") from error
    if own is not None and (own == target or own in target.parents):
        raise TargetError(f"{path} is the model itself, or lies in it. Name another target.")
    return target


def _check_target(target: Path) -> None:
    folder = target.parent
    if target.is_dir():
        raise TargetError(f"{target} is a folder. Name a file, such as {target / 'model.onnx'}.")
    if target.exists() and not target.is_file():
        raise TargetError(f"{target} is no ordinary file. Name another target.")
    if not folder.is_dir():
        raise TargetError(f"The folder {folder} does not exist. Create it, or name another target.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TargetError(f"The folder {folder} cannot be written to. Name another target.")


class Pending:
    """A file that can be read by its `path`, and that is not there until it is kept."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
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
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)

    def keep(self) -> None:
        """Put the file at its target in one step.

        Raises:
            TargetError: The system refuses.
        """
        with _refused(self._target):
            if not self._named:
                source = f"/proc/self/fd/{self._descriptor}"
                # Only with a `src_dir_fd` does Python ask the system to follow the link.
                os.link(source, self._beside, src_dir_fd=self._descriptor)
                self._named = True
            os.replace(self._beside, self._target)
            self._named = False
            _sync_folder(self._target.parent)

    def close(self) -> None:
        """Let go of the file; it vanishes unless it was kept."""
        os.close(self._descriptor)
        if self._named:
            self._beside.unlink(missing_ok=True)


@contextmanager
def pending(target: Path) -> Iterator[Pending]:
    """A file that takes the place of `target` when it is kept; an old one stays until then.

    Raises:
        TargetError: The system refuses.
    """
    with _refused(target):
        file = Pending(target)
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


@contextmanager
def _refused(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetError(f"{target} cannot be written: {error.strerror or error}.") from error


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
