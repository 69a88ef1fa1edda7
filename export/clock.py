"""The clock: names the stage that runs, and keeps its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def _silent(message: str) -> None:
    """No progress is shown."""


@dataclass
class Clock:
    """Stages of an export.

    Attributes:
        progress: Called with a line at each stage.
        seconds: Time per stage.
    """

    progress: Callable[[str], None] = _silent
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, message: str) -> Iterator[None]:
        self.progress(message)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start
