"""The page: well-formed, self-contained, harmless, and complete."""

import doctest
import math
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from kerasdl.export import Check, Fold, Port, Report
from kerasdl.export.reporting import html
from kerasdl.export.reporting.html import bars, duration, number, prose, size, used
from kerasdl.export.verifying.checks import Tolerance
from kerasdl.export.verifying.histogram import EDGES, WITHIN
from kerasdl.export.verifying.latency import Latency
from kerasdl.export.verifying.layers import LayerCheck

VOID = {"meta"}
EVIL = "<script>alert(1)</script>\"'`&<img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Reads a page and insists that every tag is closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.texts, self.attributes = [], Counter(), [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def histogram(**bins):
    counts = [0] * (len(EDGES) + 1)
    for place, count in bins.items():
        counts[int(place.removeprefix("at_"))] = count
    return tuple(counts)


def check(**changes):
    facts = {"output": "y", "data": "random", "batch": 3, "optimized": True, "max_error": 2e-7}
    facts |= {"error": 1e-7, "tolerance": 1e-6, "keras_error": 3e-8, "magnitude": 1.25}
    return Check(**facts | {"histogram": histogram(at_0=7, at_12=2)} | changes)


def report(**changes):
    facts = {
        "source": "model.keras",
        "target": "folder/model.onnx",
        "model": "tiny",
        "inputs": [Port("x", (None, 4), "float32")],
        "outputs": [Port("y", (None, 2), "float32")],
        "opset": 18,
        "folds": [
            Fold("bn", ("dense",), "its shift kept as a node of its own (`relu` lets none pass)"),
            Fold("n", (), "odd"),
        ],
        "dropped": ["drop"],
        "operations_by_kind": Counter({"Dense": 2, "ELU": 1}),
        "nodes": Counter({"MatMul": 2, "Add": 1}),
        "size": 2345,
        "checks": [check(), check(batch=32, optimized=False)],
        "latency": [Latency(1, 0.25, 20, 2)],
        "versions": {"keras": "3.15"},
        "seconds": {"fold": 0.5, "verify": 1.5},
        "notes": ["a note"],
    }
    return Report(**facts | changes)


LAYERS = [
    LayerCheck("hidden", "Dense", (None, 3), "t:0", ("hidden",), 1e-7, 1e-6, True),
    LayerCheck("elu", "ELU", (None, 3), None, ("elu", "head"), None, None, None),
    LayerCheck("head", "Dense", (None, 2), "y", ("elu", "head"), math.inf, 1e-6, False),
]
PAGES = {
    "verified": report(),
    "failed": report(checks=[check(), check(error=1e-3)], layer="head", layers=LAYERS),
    "undecided": report(checks=[check(conclusive=False)]),
    "given": report().judged(rtol=1e-9),
    "empty": Report("a", "b", "c", [], []),
    "nothing known": report(
        checks=[check(histogram=())], operations_by_kind=None, latency=[], folds=[]
    ),
    "infinite": report(checks=[check(error=math.inf, tolerance=0.0, max_error=math.inf)]),
}


@pytest.mark.parametrize("name", PAGES)
def test_well_formed_and_self_contained(name):
    text = PAGES[name].to_html()
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert "script" not in page.tags
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not {"src", "href", "srcset", "action"} & {key for key, _ in page.attributes}
    assert not re.search(r"https?:|//|@import|url\(", text)
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert "nan" not in page.text.lower().split()
    assert len(text.encode()) < 40_000


def test_names_are_harmless():
    evil = report(
        source=EVIL,
        target=EVIL,
        model=EVIL,
        inputs=[Port(EVIL, (None,), EVIL)],
        folds=[Fold(EVIL, (EVIL,), EVIL), Fold(EVIL, (), EVIL)],
        dropped=[EVIL],
        operations_by_kind=Counter({EVIL: 1}),
        nodes=Counter({EVIL: 1}),
        checks=[check(output=EVIL, data=EVIL, error=1.0)],
        float64_failure=EVIL,
        layer=EVIL,
        layers=[LayerCheck(EVIL, EVIL, (None,), EVIL, (EVIL,), 1.0, 0.0, False)],
        versions={EVIL: EVIL},
        seconds={EVIL: 1.0},
        notes=[EVIL],
    )
    plain, page = Page(report().to_html()), Page(evil.to_html())
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert page.text.count("alert(1)") > 15
    assert plain.tags["main"] == page.tags["main"] == 1


def test_what_a_page_says():
    text = Page(PAGES["verified"].to_html()).text
    for piece in (
        "Verified", "model.keras → folder/model.onnx", "computes what the Keras model computes",
        "10 % by the worst comparison", "2.35 kB", "operator set 18", "250 µs batch of 1",
        "random 3 on 1.00e-07 1.00e-06 10 % 3.00e-08 1.25 passed", "random 32 off",
        "bn folded into dense its shift kept as a node of its own ( relu lets none pass)",
        "n kept odd", "drop",
        "Keras operations before: 3 Dense 2 ELU 1", "ONNX nodes after: 3 MatMul 2 Add 1",
        "input x [batch, 4] float32", "output y [batch, 2] float32", "fold 500 ms verify 1.5 s",
        "keras 3.15", "a note", "18 numbers",
    ):  # fmt: skip
        assert piece in text, piece
    assert "Layers" not in text


def test_a_failure_names_the_layer():
    text = Page(PAGES["failed"].to_html()).text
    assert "it begins to differ at layer head ." in text
    assert "1,000×" in text
    assert "hidden Dense [batch, 3] t:0 1.00e-07 1.00e-06 passed" in text
    assert "elu ELU [batch, 3] inside elu + head – – undecided" in text
    assert "head Dense [batch, 2] y (elu + head) ∞ 1.00e-06 failed" in text


def test_other_verdicts():
    assert "Undecided" in PAGES["undecided"].to_html()
    assert "Nothing can be told" in Page(PAGES["undecided"].to_html()).text
    assert "Nothing was compared" in PAGES["empty"].to_html()
    mixed = report(checks=[check(conclusive=False), check(error=1.0)])
    assert "<title>Failed: model.onnx</title>" in mixed.to_html()
    given = Page(PAGES["given"].to_html()).text
    assert "Allowed, as given: 1e-09 · max|y|." in given
    assert "Allowed, as derived 1.00e-06" in given
    failure = Page(report(float64_failure="only `float32`").to_html()).text
    assert "There is no float64 run: only float32" in failure
    near = Page(report(checks=[check(keras_error=None)]).to_html()).text
    assert "Compared with Keras’ float32 run where the file is so near to it that a" in near
    assert "Keras’ own rounding –" in near


def test_histograms_add_up_and_show_what_is_rare():
    one = check(histogram=histogram(at_0=1_000_000, at_17=1))
    page = Page(report(checks=[one, one]).to_html())
    assert "2,000,000 up to 1e-06 of the tolerance" in page.text
    assert "2 above 1e+02 times the tolerance" in page.text
    drawn = bars(one.histogram)
    assert [bar.beyond for bar in drawn] == [False, True]
    assert drawn[0].height == 1.0
    assert drawn[1].height == 0.02
    assert math.isclose(drawn[1].left + drawn[1].width, 1.0)
    edge = bars(histogram(**{f"at_{WITHIN - 1}": 1, f"at_{WITHIN}": 1}))
    assert [bar.beyond for bar in edge] == [False, True]
    assert bars([]) == []


def test_a_histogram_of_other_bins_is_left_out():
    page = Page(report(checks=[check(histogram=(1, 2, 3))]).to_html())
    assert page.tags["rect"] == 0


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (number, None, "–"),
        (number, 0.0, "0"), (number, 1.23456, "1.23"), (number, 1.5e-7, "1.50e-07"),
        (number, -2e9, "-2.00e+09"), (number, math.inf, "∞"), (number, math.nan, "∞"),
        (size, 0, "0 bytes"), (size, 999, "999 bytes"), (size, 1500, "1.5 kB"),
        (size, 102_000_000, "102 MB"), (size, 3 * 10**9, "3 GB"),
        (duration, 2.5, "2.5 s"), (duration, 0.0125, "12.5 ms"), (duration, 2e-5, "20 µs"),
        (duration, 0.0, "0 µs"),
        (used, 0.0, "0 %"), (used, 0.123, "12 %"), (used, 1.0, "100 %"), (used, 1.0049, "100.5 %"),
        (used, 12.3, "12×"), (used, 12345.6, "12,346×"), (used, 1e9, "1.0e+09×"),
        (used, math.inf, "∞"),
        (prose, "`a<b` and `c`", "<code>a&lt;b</code> and <code>c</code>"),
        (prose, "one ` & none", "one ` &amp; none"), (prose, "", ""),
        (prose, "<b> `x` <i>", "&lt;b&gt; <code>x</code> &lt;i&gt;"),
    ],
)  # fmt: skip
def test_numbers_and_words(form, value, text):
    assert str(form(value)) == text


def test_given_bounds_colour_no_bar():
    """The bins are of the derived tolerance, and say nothing about another one."""
    assert 'class="neutral"' in PAGES["given"].to_html()
    assert 'class="within"' not in PAGES["given"].to_html()
    assert report(tolerance=Tolerance(atol=1.0)).to_html().count('class="limit"') == 1


def test_examples():
    assert doctest.testmod(html).failed == 0
