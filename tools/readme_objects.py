"""Writes the README's list of what there is, from the table of public objects.

    python tools/readme_objects.py            rewrite it
    python tools/readme_objects.py --check    exit 1 if it is out of date

The list stands between two comments in README.md.
"""

import os
import sys
from itertools import groupby
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from kerasdl.catalog import CATALOG, Entry

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- objects: written by tools/readme_objects.py -->\n"
END = "<!-- end of objects -->\n"


def table() -> str:
    """One row per submodule, in the order of the catalog."""
    order = list(dict.fromkeys(entry.room for entry in CATALOG))
    entries = sorted(CATALOG, key=lambda entry: order.index(entry.room))
    rows = [
        f"| `kerasdl.{room}` | {', '.join(map(_listed, group))} |\n"
        for room, group in groupby(entries, key=lambda entry: entry.room)
    ]
    return "".join(["| submodule | objects |\n", "|---|---|\n", *rows])


def _listed(entry: Entry) -> str:
    return f"`{entry.name}`" + (f" ({entry.note})" if entry.note else "")


def written(text: str) -> str:
    """The README with the list as it should be.

    Raises:
        ValueError: The text does not have the two comments.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must have the lines {BEGIN!r} and {END!r} once each.")
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def main(arguments: list[str]) -> int:
    text = README.read_text(encoding="utf-8")
    new = written(text)
    if arguments == ["--check"]:
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
