"""Keras' public API in ONNX: nothing is left out, nothing is wrong."""

import sys
from collections import Counter
from pathlib import Path

import keras
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

import coverage_zoo as zoo
import zoo_models

pytestmark = pytest.mark.tensorflow

LEAST_RIGHT = 0.97


def test_every_public_name_is_in_the_zoo_or_excluded_with_a_reason():
    assert zoo_models.uncovered() == []


def test_the_zoo_has_no_name_that_keras_does_not_have():
    names = zoo_models.public_names()
    assert [name for name in zoo_models.CASES if name.split()[0] not in names] == []
    assert [name for name in zoo_models.EXCLUDED if name not in names] == []
    assert {name.split()[0] for name in zoo_models.CASES} & set(zoo_models.EXCLUDED) == set()


def test_a_name_that_is_missing_would_be_noticed(monkeypatch):
    monkeypatch.delitem(zoo_models.CASES, "ops.cumsum")
    monkeypatch.delitem(zoo_models.CASES, "layers.GRUCell")
    found = set(zoo_models.uncovered())
    assert {"ops.cumsum", "ops.numpy.cumsum", "layers.GRUCell"} == found


@pytest.mark.parametrize("name", zoo_models.BROKEN)
def test_what_is_excluded_as_broken_cannot_predict(name):
    """Where this fails, Keras has been mended, and the case belongs into the zoo."""

    def predict():
        model = zoo_models.build(name)
        model.predict(zoo_models.batch(model, 4), verbose=0)

    with pytest.raises(Exception):  # noqa: B017, PT011
        predict()


def test_weights_are_random_and_the_same_every_time():
    model, again = (zoo_models.build("layers.BatchNormalization") for _ in range(2))
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        assert (one == other).all()
        assert one.std() > 0.1
    assert model.layers[-1].moving_variance.numpy().min() >= 0.5


# Every family of handlers and rewrites, and a layer of each kind.
QUICK = [
    "layers.Conv1D groups",
    "layers.Conv2D row constant",
    "layers.Conv3D channels first",
    "layers.Discretization",
    "layers.GRU dynamic length",
    "layers.IntegerLookup multi hot",
    "layers.Masking LSTM sequences",
    "layers.MelSpectrogram",
    "layers.MultiHeadAttention cross",
    "layers.Resizing area",
    "layers.Resizing dynamic extents",
    "layers.StringLookup",
    "layers.TimeDistributed dynamic Conv2D",
    "activations.celu",
    "activations.gelu",
    "ops.argmax",
    "ops.floor_divide integers",
    "ops.image.perspective_transform",
    "ops.in_top_k",
    "ops.logaddexp",
    "ops.psnr",
    "ops.segment_max",
    "ops.slice_update",
    "ops.solve",
    "ops.sum everything",
]


@pytest.mark.parametrize("name", QUICK)
def test_right(name):
    verdict = zoo.judge(name, "kerasdl")
    assert verdict.verdict == "right", verdict.detail


@pytest.mark.parametrize("name", ["ops.eig", pytest.param("ops.pinv", marks=pytest.mark.slow)])
def test_refused_by_name(name):
    verdict = zoo.judge(name, "kerasdl")
    assert (verdict.verdict, verdict.named) == ("refused", True), verdict.detail


def test_a_wrong_file_is_called_wrong(monkeypatch):
    def another(model, path):
        other = keras.models.clone_model(model)
        zoo.ours(other, path)

    monkeypatch.setitem(zoo.EXPORTERS, "kerasdl", another)
    verdict = zoo.judge("layers.Dense", "kerasdl")
    assert verdict.verdict == "wrong"
    assert verdict.detail.startswith("off by")


def test_a_file_for_one_batch_size_is_called_wrong(monkeypatch):
    def fixed(model, path):
        inputs = keras.Input(batch_shape=(1, 5), name="x0")
        zoo.ours(keras.Model(inputs, model(inputs)), path)

    monkeypatch.setitem(zoo.EXPORTERS, "kerasdl", fixed)
    verdict = zoo.judge("layers.Dense", "kerasdl")
    assert verdict.verdict == "wrong"
    assert "batch 3" in verdict.detail


@pytest.mark.slow
def test_the_whole_zoo():
    verdicts = [zoo.judge(name, "kerasdl") for name in zoo_models.CASES]
    count = Counter(verdict.verdict for verdict in verdicts)
    assert [v for v in verdicts if v.verdict == "wrong"] == []
    assert [v for v in verdicts if not v.named] == []
    assert count["right"] >= LEAST_RIGHT * len(verdicts)
