"""A configuration in print, on terminals of any width."""

import dataclasses

import keras
import pytest

import kerasdl
from kerasdl import DefaultConfiguration
from kerasdl.defaults._table import shown


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_one_line_per_field(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    configuration = DefaultConfiguration(dropout=0.25, units=(7, 5))
    head, rule, *lines = map(cells, str(configuration).splitlines())
    assert head == ["field", "value", "default", "source"]
    assert all(set(cell) == {"-"} for cell in rule)
    assert [line[0] for line in lines] == [f.name for f in dataclasses.fields(configuration)]
    rows = {name: rest for name, *rest in lines}
    assert rows["dropout"] == ["0.25", "0.5", "N1"]
    assert rows["units"] == ["(7, 5)", "(128, 64)", "N4"]
    assert rows["normalization_placement"] == ["'auto'", "'auto'", "N0"]
    assert rows["regularizer"] == ["None", "None", "N4"]


def test_every_field_has_a_source():
    for field in dataclasses.fields(DefaultConfiguration):
        assert field.metadata["source"] in {"N0", "N1", "N2", "N3", "N4", "speed"}


@pytest.mark.parametrize("width", [24, 31, 60, 79, 200])
def test_nothing_is_lost_on_a_narrow_terminal(width, monkeypatch):
    configuration = DefaultConfiguration(
        optimizer=kerasdl.SGD(0.25, momentum=0.5), units=(512,) * 9
    )
    monkeypatch.setenv("COLUMNS", "1000")
    wide = [cells(line) for line in str(configuration).splitlines()[2:]]
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(configuration).splitlines()
    assert max(map(len, lines)) <= width
    narrow = [cells(line) for line in lines if not set(line) <= set("|- ")]
    columns = ["".join(column).replace(" ", "") for column in zip(*narrow, strict=True)]
    expected = ["field", "value", "default", "source"]
    for found, name, column in zip(columns, expected, zip(*wide, strict=True), strict=True):
        assert found == name + "".join(column).replace(" ", "")


def test_narrower_than_any_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "5")
    narrowest = str(DefaultConfiguration())
    monkeypatch.setenv("COLUMNS", "24")
    assert narrowest == str(DefaultConfiguration())


def test_plain_ascii_without_colors(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = str(DefaultConfiguration(activation=keras.layers.LeakyReLU(0.25)))
    assert text.isascii()
    assert "\x1b" not in text
    assert text == text.strip()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("elu", "'elu'"),
        (None, "None"),
        ("[red]", "'[red]'"),
        (keras.activations.tanh, "tanh"),
        (kerasdl.L1(1e-4), "L1(l1=0.0001)"),
        (kerasdl.HeNormal(), "HeNormal()"),
        (kerasdl.HeUniform(seed=3), "HeUniform(seed=3)"),
        (keras.layers.LeakyReLU(0.25), "LeakyReLU(negative_slope=0.25)"),
        (kerasdl.Lookahead(kerasdl.SGD(0.25), k=3), "Lookahead(inner_optimizer=SGD, k=3)"),
        (
            kerasdl.Adam(kerasdl.ExponentialDecay(0.1, 5, 0.5)),
            "Adam(learning_rate=ExponentialDecay)",
        ),
    ],
)
def test_values(value, text):
    assert shown(value) == text


def test_square_brackets_are_no_markup(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")

    @dataclasses.dataclass
    class Other:
        field: str = dataclasses.field(default="[red]", metadata={"source": "N1"})

    from kerasdl.defaults._table import table

    assert cells(table(Other()).splitlines()[2]) == ["field", "'[red]'", "'[red]'", "N1"]
