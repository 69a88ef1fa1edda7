"""For the tests of your own project: does an ONNX file compute what a Keras model computes?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import SourceError, shown
from .judging import Data
from .pipeline import verify
from .reporting.report import Report

if TYPE_CHECKING:
    import keras
    import onnx


def assert_parity(
    model: keras.Model | str | os.PathLike[str],
    onnx_model: str | os.PathLike[str] | onnx.ModelProto,
    *,
    data: Data | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    unsafe: bool = False,
    imports: Sequence[str] = (),
) -> Report:
    """Fail a test if an ONNX model, whoever wrote it, disagrees with a Keras model.

    Args:
        model: As in `kerasdl.export.verify`, and so are the arguments below.
        onnx_model: The ONNX file, or the model in memory.
        data: Arrays to compare on besides random ones.
        rtol: Allowed error, relative to the largest output; None to derive it.
        atol: Allowed absolute error; None to derive it.
        unsafe: Load a file even if it carries Python code.
        imports: Modules to import first.

    Returns:
        The report, if all is well.

    Raises:
        AssertionError: They disagree; the message is the report, with the layer where it begins.
        SourceError: The model or the ONNX file cannot be read.
        OptionError: An argument or the data cannot be used, or the file has other inputs.

    Example:

    >>> import keras, tempfile, os
    >>> from kerasdl import export
    >>> from kerasdl.export.testing import assert_parity
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.onnx")
    ...     _ = export.to_onnx(model, path)
    ...     assert_parity(model, path).passed
    True

    References: N4 (ONNX conversion).
    """
    __tracebackhide__ = True  # pytest shows the line of the user's test
    with _on_disk(onnx_model) as path:
        report = verify(
            model, path, data=data, rtol=rtol, atol=atol, unsafe=unsafe, imports=imports
        )
    if not isinstance(onnx_model, str | os.PathLike):
        report.target = f"ModelProto of graph `{onnx_model.graph.name}`"
    if not report.passed:
        raise AssertionError(f"The ONNX model is not the Keras model.\n{report.to_text()}")
    return report


@contextmanager
def _on_disk(
    onnx_model: str | os.PathLike[str] | onnx.ModelProto,
) -> Iterator[str | os.PathLike[str]]:
    """The path of an ONNX model, which is written for as long as it is needed."""
    if isinstance(onnx_model, str | os.PathLike):
        yield onnx_model
        return
    import onnx

    if not isinstance(onnx_model, onnx.ModelProto):
        raise SourceError(
            "The ONNX model must be a path or an onnx.ModelProto. "
            f"Received: {shown(onnx_model)}. Bytes are read by `onnx.load_model_from_string`."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(onnx_model, path)
        yield path
