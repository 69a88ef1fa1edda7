"""Sources: from what the user names to a program.

Accepted are a Keras model in memory, a `.keras` or `.h5` file, and a SavedModel folder. Loading is
safe: a file that carries Python code (a Lambda) is refused unless the user asks for it.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras

from ..errors import OptionError, SourceError, reason, shown
from .h5_file import check_h5
from .program import KerasProgram, Program
from .saved_model import SavedModelProgram
from .side_effects import side_effects

ACCEPTED = "a .keras file, a .h5 file or a SavedModel folder"
SUFFIXES = (".keras", ".h5", ".hdf5")
"""Of the files in which Keras keeps models."""
REFUSED = {
    "a `Lambda` layer": "carries Python code (a Lambda layer), which is not run",
    "a Python lambda": "carries Python code (a lambda), which is not run",
    "a `TFSMLayer`": "has a TFSMLayer, which loads a SavedModel from elsewhere; it is not loaded",
    "a vocabulary file": "takes a vocabulary from a file outside of it, which is not read",
}
"""What Keras does not do in its safe mode, by its own words."""


def open_source(
    source: keras.Model | str | os.PathLike[str],
    *,
    unsafe: bool = False,
    imports: Sequence[str] = (),
    accepted: str = ACCEPTED,
) -> Program:
    """The program behind a model or a path.

    Args:
        source: A built Keras model, or a path to a `.keras` file, a `.h5` file or a SavedModel.
        unsafe: Also load files that carry Python code, and run that code.
        imports: Modules to import first, so that their registered custom objects are known.
        accepted: What an error tells the user to give.

    Raises:
        SourceError: Nothing can be read there, or it is no model.
        OptionError: A module cannot be imported.
    """
    _check_imports(imports)
    if isinstance(source, keras.Model):
        return KerasProgram(source)
    if not isinstance(source, str | os.PathLike):
        raise SourceError(
            f"The model must be a keras.Model or a path to {accepted}. Received: {shown(source)}."
        )
    for module in imports:
        _import(module)
    path = Path(source)
    try:
        if not path.exists():
            raise SourceError(f"{path} does not exist. Give {accepted}.")
        if not (path.is_file() or path.is_dir()):
            raise SourceError(f"{path} is no ordinary file. Give {accepted}.")
        if (path / "saved_model.pb").is_file():
            return _load_saved_model(path, unsafe)
        return KerasProgram(_load_keras(path, unsafe, accepted))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {reason(error)}") from error


def _check_imports(imports: Sequence[str]) -> None:
    listed = isinstance(imports, Sequence) and not isinstance(imports, str)
    if not listed or not all(isinstance(name, str) for name in imports):
        raise OptionError(
            f"`imports` must be a list of names of modules. Received: {shown(imports)}."
        )


def _import(module: str) -> None:
    # As with `python -m`, modules beside the user come first.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    # The module's own code may raise anything, and a script may end with `sys.exit(0)`.
    except (Exception, SystemExit) as error:
        what = "it ends the process" if isinstance(error, SystemExit) else reason(error)
        raise OptionError(f"The module `{module}` cannot be imported: {what}") from error


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


def _load_keras(path: Path, unsafe: bool, accepted: str) -> keras.Model:
    _check_container(path, accepted)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not unsafe)
    # Keras raises whatever the broken part of the file provokes.
    except Exception as error:
        raise SourceError(_explain(path, error)) from error
    if not isinstance(model, keras.Model):
        raise SourceError(f"{path} holds a {type(model).__name__}, not a keras.Model.")
    return model


def _check_container(path: Path, accepted: str) -> None:
    """Tell a file that is no model from a damaged one before Keras reads it."""
    if path.name.endswith(".weights.h5"):
        raise SourceError(
            f"{path} holds weights without a model. Load them into the model and save that: "
            "`model.load_weights(...); model.save('model.keras')`."
        )
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or path.is_dir():
        raise SourceError(f"{path} is not a model. Give {accepted}.")
    if suffix == ".keras":
        _check_archive(path)
    else:
        check_h5(path)


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
    asked = re.search(r"Requested the (?:deserialization|loading) of (an? [\w` ]+)", text)
    if asked or "safe_mode" in text:
        known = (what for words, what in REFUSED.items() if asked and asked[1].startswith(words))
        what = next(known, "has a part that Keras loads from trusted files alone")
        return (
            f"{path} {what}. If you trust the file, load it with `--unsafe` (in Python: "
            "`unsafe=True`)."
        )
    if "Could not locate" in text or re.search(r"Unknown [\w ]+: '", text):
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
