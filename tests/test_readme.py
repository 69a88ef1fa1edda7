"""The README says what there is, and its Python runs."""

import contextlib
import doctest
import re
import runpy
from pathlib import Path

import pytest

from kerasdl.catalog import CATALOG

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_list_is_that_of_the_catalog():
    """`make format` writes it."""
    written = runpy.run_path(str(ROOT / "tools" / "readme_objects.py"))["written"]
    assert written(README) == README
    assert all(f"`{entry.name}`" in README for entry in CATALOG)
    with pytest.raises(ValueError, match="objects"):
        written("no list")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_blocks_run(block, tmp_path):
    test = doctest.DocTestParser().get_doctest(block, {}, "README.md", "README.md", 0)
    assert test.examples
    with contextlib.chdir(tmp_path):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        assert runner.run(test).failed == 0
