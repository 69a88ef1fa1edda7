"""Standard streams that take whatever is written, however the shell has set them up."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


def ready_streams() -> None:
    """Open what is closed, and let characters that a stream cannot write be escaped.

    If descriptor 2 stayed closed, the next file would get it, such as the ONNX file, and with it
    all that TensorFlow prints.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO | None) -> None:
    """Let what a stream could not write go: Python would try again, and exit with 120."""
    try:
        descriptor = -1 if stream is None else stream.fileno()
    except (OSError, ValueError):  # it is closed, or not the process' own
        return
    if descriptor >= 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def can_write(text: str, stream: TextIO | None) -> bool:
    """Whether a stream has all of the characters."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
