"""The report: text and JSON of the same facts."""

import json
import math

import keras
from keras import layers

from kerasdl import export
from kerasdl.export import Check, Fold, Report
from random_networks import randomize


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
    assert data["inputs"] == [{"name": "x", "shape": [None, 4], "dtype": "float32"}]
    assert {c["batch"] for c in data["checks"]} == {1, 3, 32}
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
