"""The rooms of `export/` stand above all that they import, in the order of ARCHITECTURE.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPORT = ROOT / "export"
TABLE = re.compile(r"\| room \|.*?\n\n", re.DOTALL)


def rooms():
    """The row of the table in which a room stands, counted from the top."""
    text = TABLE.search((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))[0].strip()
    names = (re.findall(r"`([a-z_]+)(?:/|\.py)`", line.split("|")[0]) for line in text.split("\n|"))
    return {name: row for row, found in enumerate(names) for name in found}


def imports(file):
    """The rooms that a file imports from, at any place."""
    package = file.relative_to(EXPORT).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            path = (*base, *(node.module.split(".") if node.module else ()))
            yield from [path[0]] if path else [alias.name for alias in node.names]


def test_every_room_is_in_the_table():
    found = {path.stem for path in EXPORT.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(rooms()) == found - {"__init__", "__pycache__"}


@pytest.mark.parametrize("room", sorted(rooms()))
def test_imports_go_down(room):
    order = rooms()
    files = [EXPORT / f"{room}.py"] if (EXPORT / f"{room}.py").exists() else []
    for file in files or sorted((EXPORT / room).rglob("*.py")):
        for other in set(imports(file)) - {room}:
            assert order[other] > order[room], f"{file.name} imports {other}"
