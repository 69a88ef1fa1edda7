"""Ensembles become one ONNX file, in which every member is folded."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

import kerasdl
from kerasdl import export
from random_networks import randomize


def predictions(path, **feeds):
    return onnxruntime.InferenceSession(path).run(None, feeds)


def trained(name, seed, **options):
    model = kerasdl.default_model((6,), 3, name=name, **options)
    randomize(model, seed)
    return model


def test_one_file_with_every_member_folded(tmp_path, rng):
    members = [
        trained("a", 0, units=(8, 5)),
        trained("b", 1, units=(7,), activation="tanh"),
        trained("a", 2, units=(8, 5)),
    ]
    model = kerasdl.ensemble(members, name="three")
    path = tmp_path / "model.onnx"
    report = export.to_onnx(model, path)
    assert report.passed
    assert len(report.folds) == 5
    assert all(fold.into for fold in report.folds)
    assert [str(fold) for fold in report.folds if fold.layer.startswith("b/")] == [
        f"b/{members[1].layers[3].name}: folded into b/output"
    ]
    assert {name.partition("/")[0] for fold in report.folds for name in fold.into} == {
        "a",
        "b",
        "a_1",
    }
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert not kinds & {"BatchNormalization", "Dropout"}
    assert ([port.name for port in report.inputs], [port.name for port in report.outputs]) == (
        ["input"],
        ["output"],
    )
    x = rng.normal(size=(11, 6)).astype("float32")
    mean = np.mean([member.predict(x, verbose=0) for member in members], axis=0)
    np.testing.assert_allclose(predictions(path, input=x)[0], mean, atol=1e-6)


def test_a_member_that_is_listed_twice_is_still_folded(tmp_path):
    one, other = trained("one", 0, units=(5,)), trained("other", 1, units=(5,))
    report = export.to_onnx(kerasdl.ensemble([one, one, other]), tmp_path / "model.onnx")
    assert report.passed
    assert [bool(fold.into) for fold in report.folds] == [True, True]


def test_from_a_file(tmp_path):
    model = kerasdl.ensemble([trained("a", 0, units=(5,)), trained("b", 1, units=(4,))])
    model.save(tmp_path / "model.keras")
    report = export.to_onnx(tmp_path / "model.keras", tmp_path / "model.onnx")
    assert [bool(fold.into) for fold in report.folds] == [True, True]
    assert export.verify(model, tmp_path / "model.onnx").passed


def two_ended(units, seed):
    ends = {"left": keras.Input((4,), name="left"), "right": keras.Input((2,), name="right")}
    x = layers.Dense(units)(layers.Concatenate()(list(ends.values())))
    x = layers.ELU()(layers.BatchNormalization()(x))
    outputs = {"label": layers.Dense(2, "softmax")(x), "value": layers.Dense(1)(x)}
    model = keras.Model(ends, outputs)
    randomize(model, seed)
    return model


def test_several_inputs_and_outputs(tmp_path, rng):
    members = [two_ended(3, 0), two_ended(5, 1)]
    report = export.to_onnx(kerasdl.ensemble(members), tmp_path / "model.onnx")
    assert report.passed
    assert [bool(fold.into) for fold in report.folds] == [True, True]
    assert sorted(port.name for port in report.inputs) == ["left", "right"]
    assert sorted(port.name for port in report.outputs) == ["label", "value"]
    x = {key: rng.normal(size=(5, n)).astype("float32") for key, n in (("left", 4), ("right", 2))}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for key in ("label", "value"):
        mean = np.mean([member.predict(x, verbose=0)[key] for member in members], axis=0)
        np.testing.assert_allclose(session.run([key], x)[0], mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 3), (None, 3)])
def test_models_for_sequences(shape, tmp_path, rng):
    members = [kerasdl.default_model(shape, 2, filters=(4, 5)) for _ in range(2)]
    for seed, member in enumerate(members):
        randomize(member, seed)
    path = tmp_path / "model.onnx"
    report = export.to_onnx(kerasdl.ensemble(members), path)
    assert report.passed
    assert [bool(fold.into) for fold in report.folds] == [True] * 4
    for length in (1, 2, 13) if shape[0] is None else (9,):
        x = rng.normal(size=(3, length, 3)).astype("float32")
        mean = np.mean([member.predict(x, verbose=0) for member in members], axis=0)
        np.testing.assert_allclose(predictions(path, input=x)[0], mean, atol=1e-5)
