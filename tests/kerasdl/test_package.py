"""The package front: its names, what it imports, and how `kerasdl.export` is found."""

import subprocess
import sys
import types
from pathlib import Path

import kerasdl
from kerasdl.catalog import CATALOG

SUBMODULES = {
    "callbacks", "clipping", "defaults", "initializers", "layers", "optimizers", "plots",
    "regularizers", "schedules", "second_order",
}  # fmt: skip
HEAVY = {"scipy", "onnx", "tf2onnx", "onnxruntime", "matplotlib", "sklearn", "rich", "typer"}


def test_all_is_sorted_importable_and_the_catalog():
    names = kerasdl.__all__
    assert len(names) == len(set(names))
    assert names == sorted(names, key=_case_order)
    assert set(names) == {entry.name for entry in CATALOG} | SUBMODULES | {"__version__"}
    found = {name for name in vars(kerasdl) if not name.startswith("_")}
    assert found - {"catalog", "export"} == set(names) - {"__version__"}
    for entry in CATALOG:
        assert getattr(kerasdl, entry.name) is entry.object


def _case_order(name):
    return (not name.isupper() and not name[1:2].isdigit(), not name[0].isupper(), name)


def test_submodules_export_what_they_list():
    for name in SUBMODULES:
        module = getattr(kerasdl, name)
        assert isinstance(module, types.ModuleType)
        assert all(hasattr(module, public) for public in module.__all__)


def test_import_loads_nothing_heavy():
    code = f"""
import keras, sys
before = set(sys.modules)
import kerasdl
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
assert not new & {HEAVY!r}, new & {HEAVY!r}
print(sorted(name for name in new if not name.startswith("kerasdl")))
"""
    result = _python(code)
    assert result.returncode == 0, result.stderr
    new = set(eval(result.stdout))
    assert new <= set(sys.stdlib_module_names), new


def test_export_beside_the_package_is_found_only_in_this_project(tmp_path):
    add = kerasdl._add_checkout
    package = tmp_path / "kerasdl"
    package.mkdir()

    def added():
        search_path = []
        add(package, search_path)
        return search_path

    assert added() == []
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "__init__.py").touch()
    assert added() == []
    (tmp_path / "pyproject.toml").write_text('name = "other"\n')
    assert added() == []
    (tmp_path / "pyproject.toml").write_text('name = "kerasdl"\n')
    assert added() == [str(tmp_path)]
    (package / "export").mkdir()
    assert added() == []


def _python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(kerasdl.__file__).parent.parent,
        check=False,
    )
