"""KerasTuner searches around the Default Configuration."""

import json
import sys

import keras_tuner
import numpy as np
import pytest

import kerasdl
from kerasdl import DefaultConfiguration, hyper_model

# KerasTuner calls methods of `threading` by their old names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:getName:DeprecationWarning"),
]


def space(*args, **kwargs):
    """The names and ranges that a hyper model asks for."""
    hp = keras_tuner.HyperParameters()
    hyper_model(*args, **kwargs).configuration(hp)
    return {entry.name: entry for entry in hp.space}


@pytest.mark.parametrize("shape", [(20,), (12, 3), (8, 8, 1)])
def test_its_defaults_are_the_default_configuration(shape):
    hp = keras_tuner.HyperParameters()
    assert hyper_model(shape, 3).configuration(hp) == DefaultConfiguration()
    assert isinstance(hyper_model(shape, 3), keras_tuner.HyperModel)


def test_ranges():
    entries = space((20,), 3)
    assert sorted(entries) == ["blocks", "dropout", "l2", "learning_rate", "width"]
    assert entries["width"].values == [32, 64, 128, 256, 512]
    assert space((8, 8, 1), 3)["width"].values == [16, 32, 64]
    blocks, dropout, rate = (entries[name] for name in ("blocks", "dropout", "learning_rate"))
    assert (blocks.min_value, blocks.max_value) == (1, 3)
    assert (dropout.min_value, dropout.max_value, dropout.step) == (0.2, 0.5, 0.1)
    assert (rate.min_value, rate.max_value, rate.sampling) == (1e-4, 1e-2, "log")
    assert entries["l2"].values == [0.0, 1e-5, 1e-4, 1e-3]


@pytest.mark.parametrize(
    ("shape", "field", "sizes"),
    [((20,), "units", (64, 32, 16)), ((9, 3), "filters", (64, 128, 256))],
)
def test_sizes_from_width_and_blocks(shape, field, sizes):
    hp = keras_tuner.HyperParameters()
    hp.Fixed("width", 64)
    hp.Fixed("blocks", 3)
    hp.Fixed("dropout", 0.25)
    configuration = hyper_model(shape, 3).configuration(hp)
    assert getattr(configuration, field) == sizes
    assert configuration.dropout == 0.25


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"units": (5,)}, {"dropout", "l2", "learning_rate"}),
        ({"filters": (5,)}, {"width", "blocks", "dropout", "l2", "learning_rate"}),
        ({"dropout": 0.0, "l2": 0.5}, {"width", "blocks", "learning_rate"}),
        ({"regularizer": "l1"}, {"width", "blocks", "dropout", "learning_rate"}),
        ({"optimizer": "sgd"}, {"width", "blocks", "dropout", "l2", "learning_rate"}),
        ({"optimizer": kerasdl.SGD(0.5)}, {"width", "blocks", "dropout", "l2"}),
        ({"learning_rate": 0.5}, {"width", "blocks", "dropout", "l2"}),
    ],
)
def test_fixed_fields_are_not_searched(fields, left):
    hp = keras_tuner.HyperParameters()
    configuration = hyper_model((20,), 3, **fields).configuration(hp)
    assert set(hp.values) == left
    for name, value in fields.items():
        assert getattr(configuration, name) == value


@pytest.mark.slow
def test_a_search(tmp_path, rng):
    x = rng.normal(5.0, 2.0, size=(64, 4)).astype("float32")
    y = (x[:, 0] > 5).astype("int32")
    hyper = hyper_model((4,), task="binary", adapt_to=x, name="searched", activation="relu")
    tuner = keras_tuner.RandomSearch(
        hyper, "val_loss", max_trials=2, seed=0, directory=tmp_path, project_name="search"
    )
    tuner.search(x, y, validation_split=0.25, epochs=2, verbose=0)
    trials = tuner.oracle.get_best_trials(2)
    assert len(trials) == 2
    assert all(np.isfinite(trial.score) for trial in trials)
    (best,) = tuner.get_best_models(1)
    hp = tuner.get_best_hyperparameters()[0]
    configuration = hyper.configuration(hp)
    assert configuration.activation == "relu"
    assert best.name == "searched"
    assert tuple(x.units for x in best.layers if hasattr(x, "units"))[:-1] == configuration.units
    found = best.evaluate(x[48:], y[48:], verbose=0)[0]
    assert found == pytest.approx(trials[0].score, rel=1e-4)
    assert int(best.optimizer.iterations) > 0
    stored = json.loads(json.dumps(configuration.get_config()))
    assert DefaultConfiguration.from_config(stored) == configuration


def test_errors_come_before_the_search():
    with pytest.raises(ValueError, match="`outputs` must be"):
        hyper_model((20,), 1)
    with pytest.raises(ValueError, match="`input_shape` must be"):
        hyper_model((), 3)
    with pytest.raises(ValueError, match="`dropout` must be"):
        hyper_model((20,), 3, dropout=2)
    with pytest.raises(TypeError, match="widths"):
        hyper_model((20,), 3, widths=2)


def test_without_keras_tuner(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    monkeypatch.delitem(sys.modules, "kerasdl.defaults._search_space", raising=False)
    with pytest.raises(ImportError) as error:
        hyper_model((20,), 3)
    assert str(error.value) == (
        "`hyper_model` needs KerasTuner. Install it with: pip install 'kerasdl[tuner]'."
    )
