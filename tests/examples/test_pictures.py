"""The examples run as a reader runs them, and show what they say."""

import re
import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from kerasdl.plots import plot_trajectory

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
NAMES = sorted(
    path.stem for path in (ROOT / "examples").glob("[!_]*.py") if path.stem != "quickstart"
)
MOST_BYTES = 60_000
NUMBER = r"-?\d+\.?\d*(?:e[-+]\d+)?"


@pytest.fixture
def show(monkeypatch, tmp_path, capsys):
    """Run an example; return its namespace and the numbers of each line, by its label."""

    def run(name):
        program = ROOT / "examples" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(program), "--output", str(tmp_path)])
        monkeypatch.syspath_prepend(program.parent)
        namespace = runpy.run_path(str(program), run_name="__main__")
        assert plt.get_fignums() == []
        (picture,) = tmp_path.iterdir()
        assert picture.name == f"{name}.png"
        assert picture.stat().st_size <= MOST_BYTES
        with Image.open(picture) as new, Image.open(IMAGES / picture.name) as shown:
            assert new.size == shown.size
        *lines, last = capsys.readouterr().out.splitlines()
        assert last == f"Written to {picture}"
        return namespace, dict(map(_numbers, lines))

    yield run
    plt.close("all")


def _numbers(line):
    label, _, rest = line.partition(":")
    return " ".join(label.split()), [float(word) for word in re.findall(NUMBER, rest)]


def test_every_example_has_a_picture_and_a_place_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in IMAGES.iterdir()} == set(NAMES)
    for name in NAMES:
        assert f"examples/{name}.py" in readme
        assert f"docs/images/{name}.png" in readme
        assert (IMAGES / f"{name}.png").stat().st_size <= MOST_BYTES
        assert f"test_{name}" in globals()


@pytest.mark.slow
def test_n3_polynomial(show):
    """The worked numbers from -5 as they are shown, those from 5 with the same objects."""
    namespace, shown = show("n3_polynomial")
    worked = {
        "gradient descent": (-3.254993730859254, 3.2727653395584366),
        "momentum 0.1": (-3.254993730859254, 3.272765339558436),
        "momentum 0.9": (3.267681061691328, None),
        "Nesterov 0.9": (-3.2549937310899244, None),
        "decay 0.99": (-3.254993731279408, 3.272765339568853),
        "controlled": (-4.682201319000516, 4.669981058141692),
    }
    optimizers = namespace["OPTIMIZERS"]
    assert set(shown) == set(optimizers)
    for name, (end, _) in worked.items():
        assert shown[name] == [pytest.approx(end, rel=1e-13)]
    both = {name: optimizers[name] for name, (_, end) in worked.items() if end is not None}
    ax = plot_trajectory(namespace["f"], both, 5.0)
    ends = {line.get_label(): line.get_xdata()[-1] for line in ax.lines}
    for name in both:
        assert ends[name] == pytest.approx(worked[name][1], rel=1e-13)
    kinds = {type(optimizer).__name__ for optimizer in optimizers.values()}
    assert kinds == set(namespace["kerasdl"].optimizers.__all__) - {"Optimizer", "Clipped"}


@pytest.mark.slow
def test_symmetry(show):
    _, shown = show("symmetry")
    zeros, constant, xavier = shown["zeros"], shown["constant 0.1"], shown["Xavier"]
    assert (zeros[0], constant[0], xavier[0]) == (1, 1, 16)
    assert xavier[1] < 0.1 < 1 < constant[1] < 2 < zeros[1] < 2.31


def test_signals(show):
    _, shown = show("signals")
    for activation in ("linear", "relu", "elu", "tanh"):
        assert shown[f"{activation} σ = 0.01"][-1] == 0
        assert 0.3 < shown[f"{activation} variance-preserving"][-1] < 3
    assert shown["linear He"][-1] > 1e6
    assert shown["relu Xavier"][-1] < 1e-6
    assert 0.3 < shown["relu He"][-1] < 3
    assert shown["elu He"][-1] > 3


@pytest.mark.slow
def test_compare_optimizers(show):
    _, shown = show("compare_optimizers")
    assert len(shown) == 6
    for loss, accuracy in shown.values():
        assert loss < 0.6
        assert accuracy > 0.9
    assert max(shown, key=lambda name: shown[name][0]) == "SGD"
    assert shown["momentum"][0] < shown["SGD"][0] / 2


@pytest.mark.slow
def test_overfitting(show):
    _, shown = show("overfitting")
    training, validation, best = shown["no regularization"]
    assert training < 0.1
    assert validation > 1.1 * best
    for name in ("dropout", "L2"):
        assert shown[name][0] > 2 * training
        assert shown[name][1] < 0.95 * validation


@pytest.mark.slow
def test_normalization_placement(show):
    _, shown = show("normalization_placement")
    losses = {name: values[0] for name, values in shown.items()}
    assert losses["relu before"] < losses["relu none"]
    assert losses["relu after"] < losses["relu none"]
    assert losses["sigmoid after"] < losses["sigmoid before"] / 2
    assert losses["sigmoid before"] < losses["sigmoid none"]


@pytest.mark.slow
def test_batch_statistics(show):
    _, shown = show("batch_statistics")
    (_, early, steps, late), (_, early_population, _, late_population) = (
        shown[name] for name in ("moving", "population")
    )
    assert steps == 192
    assert early_population > early + 0.1
    assert abs(late - late_population) < 0.02
    assert min(late, late_population) > 0.9
