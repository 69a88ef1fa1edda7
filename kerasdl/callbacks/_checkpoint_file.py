"""Checkpoints in a folder: plain data and arrays, complete or not at all.

A checkpoint is a zip archive of `state.json` and the bytes of its arrays. Zip has a checksum
per part, so a damaged file is found out. It is written beside its place and renamed.
"""

import json
import os
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

NAME = "epoch-{:06d}-batch-{:08d}.checkpoint"
PATTERN = re.compile(r"epoch-(\d+)-batch-(\d+)\.checkpoint")
UNFINISHED = ".unfinished"
PLAIN = (type(None), bool, int, float, str)
GROUPS: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError)


class NotPlainError(TypeError):
    """A value is more than plain data."""


def encode(value: Any, arrays: list[np.ndarray]) -> Any:
    """Turn plain data into JSON, with its arrays put aside.

    Plain data is None, numbers, strings and arrays, in lists, tuples, sets and dicts.

    Args:
        value: The data.
        arrays: Where the arrays go, by number.

    Returns:
        What `json.dumps` takes.

    Raises:
        NotPlainError: There is something else in it.

    Example:

    >>> encode((1, [2.5, None]), [])
    {'tuple': [1, [2.5, None]]}
    """
    if type(value) in PLAIN:
        return value
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        arrays.append(np.asarray(value))
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        return {kind: [len(arrays) - 1, value.dtype.name, list(value.shape)]}
    if type(value) is list:
        return [encode(each, arrays) for each in value]
    if type(value) is dict:
        return {"dict": [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]}
    for name, group in GROUPS.items():
        if type(value) is group:
            return {name: [encode(each, arrays) for each in value]}
    raise NotPlainError(type(value).__name__)


def decode(code: Any, arrays: Any) -> Any:
    """What `encode` was given.

    Example:

    >>> decode({"tuple": [1, [2.5, None]]}, [])
    (1, [2.5, None])
    """
    if isinstance(code, list):
        return [decode(each, arrays) for each in code]
    if not isinstance(code, dict):
        return code
    ((kind, inside),) = code.items()
    if kind == "dict":
        return {decode(k, arrays): decode(v, arrays) for k, v in inside}
    if kind in GROUPS:
        return GROUPS[kind](decode(each, arrays) for each in inside)
    number, dtype, shape = inside
    array = np.frombuffer(arrays[number], _dtype(dtype)).reshape(shape).copy()
    return array if kind == "array" else array[()]


def _dtype(name: str) -> Any:
    import ml_dtypes  # Of Keras: NumPy itself has no bfloat16.

    return np.dtype(getattr(ml_dtypes, name, name))


def same(a: Any, b: Any) -> bool:
    """Whether two pieces of plain data are bitwise the same."""
    arrays: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    codes = [json.dumps(encode(each, kept)) for each, kept in zip((a, b), arrays, strict=True)]
    return codes[0] == codes[1] and all(
        x.tobytes() == y.tobytes() for x, y in zip(*arrays, strict=True)
    )


class CheckpointFolder:
    """The checkpoints of one training.

    Args:
        directory: The folder; made when needed.
        keep: How many checkpoints stay, the newest ones.
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int) -> None:
        self.directory = Path(directory)
        self.keep = keep

    def save(self, epoch: int, batch: int, state: Any) -> None:
        """Write a checkpoint, and remove those that are too many."""
        arrays: list[np.ndarray] = []
        text = json.dumps(encode(state, arrays))
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished = self.directory / UNFINISHED
        with open(unfinished, "wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("state.json", text)
                for number, array in enumerate(arrays):
                    archive.writestr(str(number), array.tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.directory / NAME.format(epoch, batch))
        for path in self.paths()[self.keep :]:
            path.unlink()

    def paths(self) -> list[Path]:
        """The checkpoints, the newest first."""
        if not self.directory.is_dir():
            return []
        places = {
            tuple(map(int, match.groups())): path
            for path in self.directory.iterdir()
            if (match := PATTERN.fullmatch(path.name))
        }
        return [places[place] for place in sorted(places, reverse=True)]

    def newest(self) -> Any:
        """State of the newest checkpoint that is whole; None if there are no checkpoints.

        Raises:
            ValueError: There are some, and all are damaged.
        """
        paths = self.paths()
        for path in paths:
            try:
                return _read(path)
            except DAMAGED as error:
                warnings.warn(
                    f"The checkpoint {path} is damaged and not used ({error}).", stacklevel=4
                )
        if paths:
            raise ValueError(
                f"`directory` must hold a checkpoint that can be read. Received: "
                f"{len(paths)} damaged in {self.directory}. Remove them to start from scratch."
            )
        return None


def _read(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        code = json.loads(archive.read("state.json"))
        names = [name for name in archive.namelist() if name != "state.json"]
        arrays = {int(name): archive.read(name) for name in names}
    return decode(code, arrays)
