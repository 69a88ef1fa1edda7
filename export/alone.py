"""One at a time: tracing changes layers, and tf2onnx, for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LOCK = threading.RLock()


def alone(function: Callable[P, R]) -> Callable[P, R]:
    """Let calls from several threads take turns."""

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        with LOCK:
            return function(*arguments, **keywords)

    return call
