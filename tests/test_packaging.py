"""The package as users get it: a wheel, away from the checkout, and the bare checkout itself."""

import itertools
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TREES = {"kerasdl": "kerasdl", "export": "kerasdl.export", "kerasdl_cli": "kerasdl_cli"}
USE = """
import keras, numpy, pathlib, sys
import kerasdl
from kerasdl import export
home = pathlib.Path(sys.argv[1]).resolve()
for module in (kerasdl, export):
    assert home in pathlib.Path(module.__file__).resolve().parents, module.__file__
model = kerasdl.default_model((4,), 3, units=(5,))
model.fit(numpy.zeros((8, 4)), numpy.zeros(8), verbose=0)
model.save("model.keras")
report = export.to_onnx("model.keras", "model.onnx")
assert report.passed and report.folds[0].into == ("dense",), report.to_text()
report.save("report.html")
"""


def packages_in_the_tree():
    found = set()
    for folder, name in TREES.items():
        for path in (ROOT / folder).rglob("__init__.py"):
            inner = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *inner)))
    return found


def test_every_package_is_listed():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert listed == sorted(listed)
    assert set(listed) == packages_in_the_tree()


def test_constraints_pin_every_dependency():
    pinned = [
        line.partition("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    ]
    assert all(separator == "==" for _, separator, _ in pinned)
    names = {name.lower().replace("_", "-") for name, _, _ in pinned}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in itertools.chain(PROJECT["project"]["dependencies"], *extras):
        assert requirement.partition(">=")[0] in names


def run(*words, cwd):
    result = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: setuptools leaves its build folder beside the sources.
    for name in ("kerasdl", "export", "kerasdl_cli", "pyproject.toml", "README.md", "LICENSE"):
        run("cp", "-r", ROOT / name, folder, cwd=folder)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", folder, cwd=folder)
    (file,) = (folder / "dist").iterdir()
    return file


def test_wheel_holds_what_the_tree_holds(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in TREES.items():
        for path in (ROOT / folder).rglob("*.*"):
            inner = path.relative_to(ROOT / folder).as_posix()
            if path.suffix in {".py", ".html", ".css"}:
                assert f"{package.replace('.', '/')}/{inner}" in names
    assert "kerasdl/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "export/", "examples/"))]


def test_wheel_works_away_from_the_checkout(wheel, tmp_path):
    """Installed over this environment's packages, it shadows the editable install."""
    home = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", home, wheel, cwd=tmp_path)
    code = f"import sys; sys.path.insert(0, {str(home)!r})\n" + USE
    run(sys.executable, "-c", code, home, cwd=tmp_path)


@pytest.mark.slow
def test_bare_checkout(tmp_path):
    """Without any installation: on the path, and as the working directory."""
    environment = tmp_path / "bare"
    venv.create(environment, with_pip=False)
    (site,) = environment.glob("lib/python*/site-packages")
    dependencies = Path(__import__("keras").__file__).parent.parent
    # The dependencies, but not the editable install, which comes as a .pth file.
    for path in dependencies.iterdir():
        if "kerasdl" not in path.name and path.suffix != ".pth":
            (site / path.name).symlink_to(path)
    python = environment / "bin" / "python"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + USE
    run(python, "-c", code, ROOT, cwd=tmp_path)
    run(python, "-m", "kerasdl_cli", "inspect", tmp_path / "model.onnx", cwd=ROOT)
