"""Runtime: a file in onnxruntime, called as the program that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..programs.program import Arrays, Program
from .ends import Ends


class RefusedError(Exception):
    """onnxruntime cannot load or run a file; the message is its own, in one line."""


class LoadedFile:
    """A file in onnxruntime, on the CPU.

    Args:
        file: Its path, or its bytes.
        program: What it was made from.
        optimized: Whether onnxruntime's optimizations are on.

    Raises:
        RefusedError: onnxruntime cannot load the file.
        OptionError: It has other inputs or outputs than the program.
    """

    def __init__(self, file: Path | bytes, program: Program, *, optimized: bool) -> None:
        with _refusing():
            self._session = open_session(file, optimized)
            noted = self._session.get_modelmeta().custom_metadata_map
            inputs = [end.name for end in self._session.get_inputs()]
            outputs = [end.name for end in self._session.get_outputs()]
            self._declared = {
                end.name: tuple(end.shape)
                for end in (*self._session.get_inputs(), *self._session.get_outputs())
            }
        self._program = program
        self._ends = Ends.of(noted, program.inputs, inputs)
        self._inputs, self._outputs = self._ends.names(
            program.inputs, program.outputs, inputs, outputs
        )

    def run(self, arrays: Arrays) -> Arrays:
        """The outputs in the program's order, given the inputs in that order.

        Raises:
            RefusedError: onnxruntime cannot run the file.
        """
        arrays = self._ends.arrays(self._program.inputs, arrays)
        given = dict(zip(self._inputs, arrays, strict=True))
        with _refusing():
            results: Arrays = self._session.run(self._outputs, given)
        for name, result in zip(self._outputs, results, strict=True):
            if not isinstance(result, np.ndarray):
                raise RefusedError(f"output `{name}` is no tensor but a {type(result).__name__}")
        self._check_shapes({**given, **dict(zip(self._outputs, results, strict=True))})
        return results

    def _check_shapes(self, arrays: dict[str, np.ndarray]) -> None:
        """onnxruntime gives results of other shapes than the file declares without an error."""
        extents: dict[str, int] = {}
        for name, array in arrays.items():
            declared = self._declared[name]
            # Without a rank onnxruntime says the same as of a number.
            pairs = zip(declared, array.shape, strict=False)
            wrong = len(declared) not in {0, array.ndim} or any(
                have != (extents.setdefault(want, have) if isinstance(want, str) else want)
                for want, have in pairs
                if want
            )
            if wrong:
                raise RefusedError(
                    f"`{name}` is declared as {list(declared)} and has the shape {array.shape}"
                    + "".join(f", {symbol}={extent}" for symbol, extent in extents.items())
                )


def open_session(file: Path | bytes, optimized: bool) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    )
    model = file if isinstance(file, bytes) else str(file)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    # onnxruntime has no exception class of its own.
    except Exception as error:
        raise RefusedError(" ".join(str(error).split())) from error
