"""The report: views of the same facts, back from JSON, and judged anew."""

import copy
import doctest
import json
import math
import pickle
from collections import Counter

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from kerasdl import export
from kerasdl.export import Check, Fold, OptionError, Port, Report, SourceError, TargetError
from kerasdl.export.reporting import report as module
from kerasdl.export.reporting.plain import to_plain
from kerasdl.export.verifying.checks import Derived, Tolerance
from kerasdl.export.verifying.histogram import EDGES, WITHIN
from kerasdl.export.verifying.latency import Latency
from kerasdl.export.verifying.layers import LayerCheck
from random_networks import build, randomize, recipes


def check(output="y", error=1e-7, tolerance=1e-6, **rest):
    facts = {"data": "random", "batch": 3, "optimized": True, "keras_error": 0.0, "magnitude": 1.0}
    facts |= {"max_error": error, **rest}
    return Check(output=output, error=error, tolerance=tolerance, **facts)


def report(**fields):
    facts = {"source": "m", "target": "m.onnx", "model": "m", "opset": 18}
    return Report(**facts, inputs=[], outputs=[], **fields)


def test_passed_needs_a_comparison():
    assert not report().passed
    assert report(checks=[check()]).passed
    assert not report(checks=[check(), check(error=1e-5)]).passed


def test_worst_is_the_most_strained():
    checks = [check(error=1e-5, tolerance=1e-3), check(error=1e-6, tolerance=1e-6), check()]
    assert report(checks=checks).worst is checks[1]
    assert report(checks=checks).max_error == 1e-5
    zero = check(error=1e-30, tolerance=0.0)
    assert report(checks=[*checks, zero]).worst is zero
    assert report().worst is None


def test_json_has_no_number_that_json_lacks():
    bad = report(checks=[check(error=math.inf)])
    data = json.loads(bad.to_json())
    assert data["checks"][0]["max_error"] is None
    assert data["passed"] is False
    assert json.loads(report().to_json())["max_error"] is None


def test_json_says_what_the_text_says(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,), name="x"), layers.Dense(3), layers.BatchNormalization(name="bn")]
    )
    randomize(model, 0)
    found = export.to_onnx(model, tmp_path / "model.onnx")
    data = json.loads(found.to_json())
    assert data["passed"] is True
    assert data["folds"] == [{"layer": "bn", "into": ["dense"], "reason": None, "closed": False}]
    (end,) = data["inputs"]
    assert (end["name"], end["shape"], end["dtype"]) == ("x", [None, 4], "float32")
    assert {c["batch"] for c in data["checks"]} == {1, 3, 4, 32}
    assert all(c["passed"] and c["error"] <= c["tolerance"] for c in data["checks"])
    assert set(data["versions"]) == {
        "keras",
        "kerasdl",
        "onnx",
        "onnxruntime",
        "tensorflow",
        "tf2onnx",
    }
    text = found.to_text()
    assert "bn: folded into dense" in text
    assert text.endswith("Result: verified")
    assert f"{data['size']:,} bytes" in text


def test_text_of_a_failure():
    failed = report(
        checks=[check(error=1.0)],
        folds=[Fold("bn", (), "it is odd")],
        layer="dense",
        float64_failure="only float32",
        notes=["something"],
    )
    lines = failed.to_text().splitlines()
    assert "  bn: kept, it is odd" in lines
    assert any(line.startswith("  FAIL y, random batch of 3: error 1.00e+00") for line in lines)
    assert "  compared with: Keras' float32 run (no float64 run: only float32)" in lines
    assert "Result: FAILED, it begins to differ at layer `dense`" in lines
    assert lines[-1] == "  note: something"


def test_text_of_a_file_that_needs_no_float64_run():
    lines = report(checks=[check(keras_error=None), check("z", keras_error=3e-8)]).to_text()
    near, far = (line for line in lines.splitlines() if "random batch" in line)
    assert near.endswith("error 1.00e-07, allowed 1.00e-06")
    assert far.endswith("error 1.00e-07, allowed 1.00e-06 (Keras' own rounding 3.00e-08)")
    assert f"compared with: {module.NEAR_ENOUGH}, runtime optimizations off and on" in lines
    assert module.NEAR_ENOUGH not in report(checks=[check()]).to_text()
    assert (
        module.NEAR_ENOUGH
        not in report(checks=[check(keras_error=None)], float64_failure="other shapes").to_text()
    )


def test_a_large_model_needs_no_float64_run(tmp_path):
    """Where nothing cancels out, so that both are within some steps of float32."""
    model = keras.Sequential([keras.Input((400,)), layers.Dense(600, "relu"), layers.Dense(3)])
    model.layers[-1].kernel.assign(np.random.default_rng(0).uniform(0.5, 1.5, (600, 3)))
    found = export.to_onnx(model, tmp_path / "model.onnx")
    assert found.needs_no_float64
    assert all(one.error <= one.tolerance for one in found.checks)
    model.layers[-1].bias.assign_add(np.float32([0, 0, 1e-2]))
    wrong = export.verify(model, tmp_path / "model.onnx")
    assert wrong.layer == model.layers[-1].name
    assert all(one.keras_error is not None for one in wrong.checks if not one.passed)


def dense(seed=0):
    hidden = layers.Dense(5, activation="tanh", name="hidden")
    stack = [hidden, layers.BatchNormalization(name="bn"), layers.Dense(3, name="head")]
    model = keras.Sequential([keras.Input((4,), name="x"), *stack], name="dense")
    randomize(model, seed)
    return model


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Of a right file and of one that belongs to a model slightly different."""
    model, path = dense(), tmp_path_factory.mktemp("reports") / "model.onnx"
    right = export.to_onnx(model, path)
    model.get_layer("hidden").bias.assign_add(np.float32([0, 0, 1e-4, 0, 0]))
    return {"right": right, "wrong": export.verify(model, path, layers=True)}


FULL = report(
    folds=[Fold("bn", ("a", "b"), "it is odd", True)],
    dropped=["drop"],
    operations_by_kind=Counter({"Dense": 2, "ELU": 1}),
    nodes=Counter({"MatMul": 2}),
    size=7,
    checks=[
        check(error=math.inf, histogram=(1, 2), derived=Derived(1.0, math.inf, False)),
        check(conclusive=False, keras_error=None),
        check(keras_error=math.inf),
    ],
    tolerance=Tolerance(0.1, 0.0),
    float64_failure="only float32",
    layer="hidden",
    layers=[
        LayerCheck("a", "Dense", (None, 3), "y", ("a",), math.inf, 1e-6, False),
        LayerCheck("b", "ELU", (None, 3), None, ("b",), None, None, None),
    ],
    latency=[Latency(3, 0.25, 20, 2)],
    versions={"keras": "3"},
    seconds={"fold": 0.5},
    notes=["<note>"],
)


@pytest.mark.parametrize("name", ["right", "wrong", "full", "plain"])
def test_back_from_json(name, reports):
    whole = {"full": FULL, "plain": report(), **reports}[name]
    again = Report.from_json(whole.to_json())
    assert again == whole
    assert again.to_json() == whole.to_json()
    assert again.to_text() == whole.to_text()
    assert again.passed == whole.passed == (name == "right")


def test_json_has_the_counts(reports):
    data = json.loads(reports["right"].to_json())
    assert data["format"] == 1
    assert data["operations"] == 3
    assert data["operations_by_kind"] == {"Dense": 2, "BatchNormalization": 1}
    assert data["histogram_edges"] == list(EDGES)
    for one in data["checks"]:
        assert sum(one["histogram"]) == one["batch"] * 3
        assert sum(one["histogram"][WITHIN:]) == 0
    assert any(sum(c.histogram[WITHIN:]) for c in reports["wrong"].checks)
    assert [one["batch"] for one in data["latency"]] == [1, 3, 32]
    assert len(reports["right"].to_json()) < 8192


def test_the_histogram_ends_where_the_worst_error_lies(reports):
    for one in [*reports["right"].checks, *reports["wrong"].checks]:
        last = max(index for index, count in enumerate(one.histogram) if count)
        assert last == np.searchsorted(EDGES, one.error / one.tolerance)


def test_the_verdict_is_taken_from_the_comparisons(reports):
    data = reports["wrong"].to_dict()
    data["passed"] = True
    for one in data["checks"]:
        one["passed"] = True
    assert not Report.from_dict(data).passed


def test_the_answer_of_a_failed_export_has_the_report_inside(reports):
    answer = {"error": "ParityError", "report": reports["wrong"].to_dict()}
    assert Report.from_dict(answer) == reports["wrong"]


BROKEN = [
    (lambda data: [], "`format` is missing"),
    (lambda data: {"kind": "ONNX"}, "`format` is missing"),
    (lambda data: data | {"format": True}, "`format` is missing"),
    (lambda data: data | {"format": 2}, "has format 2, this version of kerasdl reads up to 1"),
    (lambda data: {k: v for k, v in data.items() if k != "target"}, "`report.target` is missing"),
    (lambda data: data | {"checks": {}}, "`report.checks` must be a list"),
    (lambda data: data | {"opset": "18"}, "`report.opset` must be an integer. Received: '18'"),
    (lambda data: data | {"inputs": [{"name": "x"}]}, "`report.inputs[0].shape` is missing"),
    (lambda data: data | {"folds": [None]}, "`report.folds[0]` must be an object"),
    (
        lambda data: data | {"inputs": [to_plain(Port("x", (None, 4), "float32", ("batch",)))]},
        "one symbol per axis. Received: (None, 4) with ('batch',) of `x`.",
    ),
    (lambda data: data | {"size": 10**4000}, "integers of a report must be in 0..2^63"),
    (lambda data: data | {"size": -1}, "in 0..2^63 − 1. Received: -1."),
    (lambda data: data | {"nodes": {"MatMul": 2**63}}, "in 0..2^63"),
    (lambda data: data | {"checks": [data["checks"][0] | {"histogram": [-1] * 18}]}, "in 0..2^63"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_json_that_is_no_report(change, message):
    with pytest.raises(SourceError) as caught:
        Report.from_dict(change(FULL.to_dict()))
    assert message in str(caught.value)


def test_a_report_with_a_tolerance_that_is_none():
    with pytest.raises(OptionError, match="`rtol` must be a non-negative number"):
        Report.from_dict(FULL.to_dict() | {"tolerance": {"rtol": -1.0, "atol": 0.0}})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", None, 3])
def test_what_is_no_json(text):
    with pytest.raises(SourceError, match="This is no JSON: "):
        Report.from_json(text)


BOUND = st.one_of(st.none(), st.just(0), st.floats(1e-10, 1e2), st.floats(0, 1e-6))


@pytest.mark.parametrize("name", ["right", "wrong"])
@settings(max_examples=50, derandomize=True, deadline=None)
@given(rtol=BOUND, atol=BOUND)
def test_judged_anew_and_back(name, reports, rtol, atol):
    one = reports[name]
    other = one.judged(rtol, atol)
    assert other.judged() == one
    assert other.judged(rtol, atol) == other
    assert Report.from_json(other.to_json()).judged() == one
    for before, after in zip(one.checks, other.checks, strict=True):
        if rtol is None and atol is None:
            assert after == before
        else:
            allowed = (atol or 0) + (rtol or 0) * before.magnitude
            if before.data == "edges":
                larger = max(1.0, before.magnitude / before.usual)
                allowed = max(
                    (atol or 0) * larger + (rtol or 0) * before.magnitude, before.tolerance
                )
            assert after.tolerance == allowed
            assert after.passed == (before.max_error <= allowed)


def test_judging_leaves_the_first_report_alone(reports):
    before = reports["right"].to_json()
    other = reports["right"].judged(atol=1.0)
    other.notes.append("x")
    other.nodes["x"] += 1
    assert reports["right"].to_json() == before


@pytest.mark.parametrize("bound", [-1, math.nan, math.inf, "1"])
def test_bounds_that_are_none(bound):
    with pytest.raises(OptionError, match="`atol` must be a"):
        FULL.judged(atol=bound)


def verdict(one):
    """All that the bounds decide, and what they must not change."""
    facts = one.to_dict()
    apart = {"seconds", "latency", "layer", "layers", "notes", "size"}
    return {key: value for key, value in facts.items() if key not in apart}


def test_judging_says_what_verify_says(tmp_path):
    model = dense()
    export.to_onnx(model, tmp_path / "model.onnx")
    model.get_layer("head").bias.assign_add(np.float32([0, 3e-5, 0]))
    first = export.verify(model, tmp_path / "model.onnx")
    edge = max(c.max_error for c in first.checks)
    for bounds in (
        {"atol": edge},
        {"atol": np.nextafter(edge, 0).item()},
        {"rtol": 1e-5},
        {"rtol": 0},
    ):
        again = export.verify(model, tmp_path / "model.onnx", **bounds)
        assert verdict(first.judged(**bounds)) == verdict(again)
        assert verdict(again.judged()) == verdict(first)
    assert first.judged(atol=edge).passed
    assert not first.judged(atol=np.nextafter(edge, 0).item()).passed


@settings(max_examples=8, derandomize=True, deadline=None)
@given(recipe=recipes(), rtol=st.floats(1e-9, 1e-5), atol=st.one_of(st.none(), st.floats(0, 1e-6)))
def test_judging_says_what_the_export_says(recipe, rtol, atol, tmp_path_factory):
    model, path = build(recipe), tmp_path_factory.mktemp("judged") / "model.onnx"

    def exported(**bounds):
        try:
            return export.to_onnx(model, path, **bounds)
        except export.ParityError as error:
            return error.report

    first, second = exported(), exported(rtol=rtol, atol=atol)
    assert verdict(first.judged(rtol, atol)) == verdict(second)
    assert verdict(second.judged()) == verdict(first)
    keras.utils.clear_session(free_memory=False)


def test_an_undecided_comparison_is_decided_by_bounds_of_ones_own():
    undecided = report(checks=[check(error=1.0, tolerance=2.0, conclusive=False)])
    assert not undecided.passed
    assert undecided.judged(atol=1.0).passed
    assert undecided.judged(atol=1.0).conclusive
    assert not undecided.judged(atol=0.5).passed
    assert undecided.judged(atol=1.0).judged() == undecided


def test_no_bound_lets_an_infinite_error_pass():
    assert not report(checks=[check(error=math.inf, magnitude=math.inf)]).judged(rtol=1.0).passed


def test_text_names_the_bounds_and_the_latency(reports):
    text = reports["right"].judged(rtol=1e-3, atol=1e-2).to_text()
    given = (
        "  allowed, as given: 0.01 + 0.001 · max|y|; of edges in proportion, at least as derived\n"
    )
    assert given in text
    assert "  edges: zeros, " in text
    assert str(Tolerance(rtol=0.5)) == "0.5 · max|y|"
    assert str(Tolerance(atol=0.5)) == "0.5"
    assert str(Tolerance()) == "0"
    assert "allowed, as given" not in reports["right"].to_text()
    assert "  0.25 ms (batch of 3)\n" in FULL.to_text()


def test_a_failed_export_says_that_nothing_was_written(tmp_path):
    with pytest.raises(export.ParityError) as caught:
        export.to_onnx(dense(), tmp_path / "model.onnx", atol=0)
    found = caught.value.report
    assert found.to_text().endswith("note: the file was not written")
    assert found.seconds
    assert Report.from_json(found.to_json()).judged().passed


@pytest.mark.parametrize("suffix", ["html", "json", "txt", "HTML"])
def test_save(suffix, tmp_path):
    path = tmp_path / f"report.{suffix}"
    path.write_text("old")
    FULL.save(str(path))
    view = {"html": FULL.to_html, "json": FULL.to_json, "txt": FULL.to_text}[suffix.lower()]
    assert path.read_text(encoding="utf-8") == view() + "\n"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_names_that_are_no_text_are_saved_all_the_same(tmp_path):
    odd = Report("\udc80.keras", "m.onnx", "m", [Port("\udc80", (None,), "float32")], [])
    for suffix in ("html", "json", "txt"):
        odd.save(tmp_path / f"report.{suffix}")
        assert b"\\udc80" in (tmp_path / f"report.{suffix}").read_bytes()
    assert Report.load(tmp_path / "report.json") == odd


def test_where_a_report_cannot_be_saved(tmp_path):
    for name in ("report", "report.onnx", "report.json.gz"):
        with pytest.raises(OptionError, match="must end in one of `.html`, `.json`, `.txt`"):
            FULL.save(tmp_path / name)
    with pytest.raises(TargetError, match="does not exist"):
        FULL.save(tmp_path / "none" / "report.json")


@pytest.mark.parametrize("path", [None, 3, b"r.json", ["r.json"]])
def test_paths_that_are_none(path):
    with pytest.raises(SourceError, match="must be the path of a file. Received: "):
        Report.load(path)
    with pytest.raises(OptionError, match="must be a path. Received: "):
        FULL.save(path)


def test_load_names_the_file(tmp_path):
    for name, content, message in (
        ("none.json", None, "none.json cannot be read: "),
        ("binary.json", b"\xff", "binary.json cannot be read: "),
        ("empty.json", b"", "empty.json: This is no JSON: "),
        ("other.json", b"{}", "other.json: This is no report of kerasdl"),
        ("a\0.json", None, "cannot be read: embedded null byte"),
        (
            "bound.json",
            json.dumps(FULL.to_dict() | {"tolerance": {"rtol": -1}}).encode(),
            "bound.json: `rtol` must be a non-negative number",
        ),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=message):
            Report.load(tmp_path / name)


def test_examples():
    assert doctest.testmod(module).failed == 0


def test_the_error_goes_to_other_processes(reports):
    error = export.ParityError("They disagree.", reports["wrong"], "dense")
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(copied), copied.layer, copied.exit_code) == ("They disagree.", "dense", 4)
        assert copied.report.to_dict() == error.report.to_dict()
