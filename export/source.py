"""Sources: from what the user names to a program.

Accepted are a Keras model in memory, a `.keras` or `.h5` file, and a SavedModel folder. Loading is
safe: a file that carries Python code (a Lambda) is refused unless the user asks for it.
"""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras

from .errors import OptionError, SourceError, reason
from .program import KerasProgram, Program
from .saved_model import SavedModelProgram
from .side_effects import side_effects

ACCEPTED = "a .keras file, a .h5 file or a SavedModel folder"


def open_source(
    source: keras.Model | str | os.PathLike[str],
    *,
    unsafe: bool = False,
    imports: Sequence[str] = (),
) -> Program:
    """The program behind a model or a path.

    Args:
        source: A built Keras model, or a path to a `.keras` file, a `.h5` file or a SavedModel.
        unsafe: Also load files that carry Python code, and run that code.
        imports: Modules to import first, so that their registered custom objects are known.

    Raises:
        SourceError: Nothing can be read there, or it is no model.
    """
    if isinstance(source, keras.Model):
        return KerasProgram(source)
    if not isinstance(source, str | os.PathLike):
        raise SourceError(
            f"The model must be a keras.Model or a path to {ACCEPTED}. Received: {source!r}."
        )
    for module in imports:
        _import(module)
    path = Path(source)
    try:
        if not path.exists():
            raise SourceError(f"{path} does not exist. Give {ACCEPTED}.")
        if (path / "saved_model.pb").is_file():
            return _load_saved_model(path, unsafe)
        return KerasProgram(_load_keras(path, unsafe))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {reason(error)}") from error


def _import(module: str) -> None:
    # As with `python -m`, modules beside the user come first.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    # The module's own code may raise anything.
    except Exception as error:
        raise OptionError(f"The module `{module}` cannot be imported: {reason(error)}") from error


def _load_saved_model(path: Path, unsafe: bool) -> Program:
    try:
        reaching = [] if unsafe else side_effects(path)
        if reaching:
            raise SourceError(
                f"{path} does more than compute: it has the operations {', '.join(reaching)}, "
                "which write files or run code. If you trust it, pass unsafe=True, or --unsafe."
            )
        return SavedModelProgram(path)
    except SourceError:
        raise
    # TensorFlow raises whatever the broken part of the folder provokes.
    except Exception as error:
        raise SourceError(f"{path} is a damaged SavedModel: {reason(error)}") from error


def _load_keras(path: Path, unsafe: bool) -> keras.Model:
    _check_container(path)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not unsafe)
    # Keras raises whatever the broken part of the file provokes.
    except Exception as error:
        raise SourceError(_explain(path, error)) from error
    if not isinstance(model, keras.Model):
        raise SourceError(f"{path} holds a {type(model).__name__}, not a keras.Model.")
    return model


def _check_container(path: Path) -> None:
    """Tell a file that is no model from a damaged one before Keras reads it."""
    if path.name.endswith(".weights.h5"):
        raise SourceError(
            f"{path} holds weights without a model. Load them into the model and save that: "
            "`model.load_weights(...); model.save('model.keras')`."
        )
    suffix = path.suffix.lower()
    if suffix not in {".keras", ".h5", ".hdf5"} or path.is_dir():
        raise SourceError(f"{path} is not a model. Give {ACCEPTED}.")
    if suffix == ".keras":
        _check_archive(path)


def _check_archive(path: Path) -> None:
    """Read all of a `.keras` archive once: Keras itself never looks at the checksums."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            cut = file.read(4) == b"PK\x03\x04"
        what = "a truncated .keras file; copy or save it again" if cut else "no .keras file"
        raise SourceError(f"{path} is {what}.")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    # A decompressor may raise errors of its own.
    except Exception as error:  # noqa: BLE001
        damaged = reason(error)
    if damaged:
        raise SourceError(f"{path} is damaged ({damaged}); copy or save it again.")


def _explain(path: Path, error: Exception) -> str:
    text = str(error)
    if "safe_mode" in text or ("Lambda" in text and "arbitrary code" in text):
        return (
            f"{path} carries Python code (a Lambda layer), which is not run. If you trust the "
            "file, load it with `--unsafe` (in Python: `unsafe=True`)."
        )
    if "Could not locate" in text or "Unknown layer" in text or "Unknown" in text:
        missing = _missing_class(text)
        return (
            f"{path} uses {missing}, which Keras does not know. Name the module that registers it "
            "with `--import MODULE` (in Python: import it before)."
        )
    return f"{path} cannot be read as a Keras model: {reason(error)}"


def _missing_class(text: str) -> str:
    for marker in (
        "Could not locate class '",
        "Could not locate function '",
        "Unknown layer: '",
    ):
        if marker in text:
            return f"`{text.split(marker, 1)[1].split(chr(39), 1)[0]}`"
    return "a custom class"
