"""A configuration as a table in plain text."""

import dataclasses
import inspect
import io
import shutil
from typing import Any

COLUMNS = ("field", "value", "default", "source")
_NARROWEST = 24


def table(configuration: Any) -> str:
    """Return one line per field: name, value, default, and the notes it comes from.

    The table is as wide as the terminal at most (100 columns where there is none); cells that
    are too long go on in the next line. It is also a table in Markdown. Below 24 columns the
    terminal has to break the lines.

    Args:
        configuration: An instance of a dataclass whose fields have a `source` in their
            metadata.

    Example:

    >>> from kerasdl.defaults.configuration import DefaultConfiguration
    >>> table(DefaultConfiguration(dropout=0.2)).splitlines()[7].split()
    ['|', 'dropout', '|', '0.2', '|', '0.5', '|', 'N1', '|']
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=box.MARKDOWN)
    for name in COLUMNS:
        rows.add_column(name, overflow="fold")
    for field in dataclasses.fields(configuration):
        value = getattr(configuration, field.name)
        cells = (field.name, shown(value), shown(field.default), field.metadata["source"])
        rows.add_row(*map(Text, cells))
    text = io.StringIO()
    width = max(_NARROWEST, shutil.get_terminal_size((100, 24)).columns)
    Console(file=text, width=width, color_system=None).print(rows)
    return text.getvalue().strip()


def shown(value: Any) -> str:
    """Return a short text for a value; of a Keras object, what differs from its defaults.

    Example:

    >>> import kerasdl
    >>> shown(kerasdl.SGD(0.1, momentum=0.9))
    'SGD(learning_rate=0.1, momentum=0.9)'
    """
    if not hasattr(value, "get_config"):
        return getattr(value, "__name__", None) or repr(value)
    parameters = inspect.signature(type(value)).parameters
    changed = [
        f"{name}={_short(given)}"
        for name, given in value.get_config().items()
        if name in parameters and name != "name" and given != parameters[name].default
    ]
    return f"{type(value).__name__}({', '.join(changed)})"


def _short(value: Any) -> str:
    if isinstance(value, dict) and "class_name" in value:
        return str(value["class_name"])
    # Keras keeps rates and strengths in float32.
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
