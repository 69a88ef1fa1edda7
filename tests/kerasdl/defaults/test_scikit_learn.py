"""The configuration behind Keras' scikit-learn wrappers."""

import functools
import pickle

import keras
import numpy as np
import pytest
from keras.wrappers import SKLearnClassifier, SKLearnRegressor
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from kerasdl import DefaultConfiguration

SMALL = DefaultConfiguration(units=(16,), dropout=0.0, learning_rate=1e-2, steps_per_execution=4)
FIT = {"net__epochs": 20, "net__verbose": 0}


@pytest.fixture(autouse=True)
def quiet():
    """`predict` shows its progress otherwise."""
    keras.config.disable_interactive_logging()
    yield
    keras.config.enable_interactive_logging()


def pipeline(net):
    return Pipeline([("scale", StandardScaler()), ("net", net)])


def test_classifier_in_a_pipeline():
    x, y = load_iris(return_X_y=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    scores = cross_val_score(
        pipeline(SKLearnClassifier(SMALL.build_for)), x, labels, cv=2, params=FIT
    )
    assert scores.min() > 0.85


def test_regressor_in_a_pipeline(rng):
    x = rng.normal(5.0, 3.0, size=(200, 3))
    y = x @ [1.0, -2.0, 0.5]
    net = SKLearnRegressor(SMALL.build_for, model_kwargs={"task": "regression", "dropout": 0.0})
    steps = pipeline(net).fit(x, y / y.std(), **FIT | {"net__epochs": 40})
    assert steps.score(x, y / y.std()) > 0.8


@pytest.mark.slow
def test_a_search_over_fields():
    x, y = load_iris(return_X_y=True)
    grid = {"net__model_kwargs": [{"learning_rate": 1e-7}, {"units": (8,)}]}
    search = GridSearchCV(pipeline(SKLearnClassifier(SMALL.build_for)), grid, cv=2)
    search.fit(x, y, **FIT)
    assert search.best_params_ == {"net__model_kwargs": {"units": (8,)}}
    best = search.best_estimator_["net"]
    assert best.model_.layers[1].units == 8
    assert search.predict(x).shape == (150,)


def test_clones_and_set_params():
    net = SKLearnClassifier(SMALL.build_for, model_kwargs={"l2": 0.5})
    copy = clone(net)
    assert copy.get_params()["model"] == net.get_params()["model"]
    copy.set_params(model_kwargs={"units": (3,)})
    assert net.get_params()["model_kwargs"] == {"l2": 0.5}
    x, y = load_iris(return_X_y=True)
    copy.fit(x, y, verbose=0)
    assert copy.model_.layers[1].units == 3


def test_a_fitted_wrapper_is_pickled():
    x, y = load_iris(return_X_y=True)
    net = SKLearnClassifier(functools.partial(SMALL.build_for, adapt=True))
    net.fit(x, y, verbose=0)
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.decision_function(x), net.decision_function(x))
    again.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("y", "task", "loss", "outputs"),
    [
        (np.array([0, 2, 1, 1]), "multiclass", "SparseCategoricalCrossentropy", 3),
        (np.array([[0], [0], [0], [1]]), "multiclass", "SparseCategoricalCrossentropy", 2),
        (np.array([0.0, 0, 0, 0]), "multiclass", "SparseCategoricalCrossentropy", 2),
        (np.eye(4), "multiclass", "CategoricalCrossentropy", 4),
        (np.eye(4), "categorical", "CategoricalCrossentropy", 4),
        (np.array([True, False, False, False]), "binary", "BinaryCrossentropy", 1),
        (np.ones((4, 3)), "multilabel", "BinaryCrossentropy", 3),
        (np.array([0.5, 2, 3, -1]), "regression", "MeanSquaredError", 1),
        (np.ones((4, 2)), "regression", "MeanSquaredError", 2),
    ],
)
def test_the_head_fits_the_targets(y, task, loss, outputs, rng):
    model = SMALL.build_for(rng.normal(size=(4, 3)), y, task=task)
    assert type(model.loss).__name__ == loss
    assert model.output_shape == (None, outputs)
    assert np.isfinite(model.evaluate(rng.normal(size=(4, 3)), y, verbose=0)[0])


def test_any_shape_and_standardization(rng):
    x = rng.normal(7.0, 3.0, size=(20, 6, 2))
    model = SMALL.build_for(x, np.zeros(20), adapt=True, filters=(3,))
    assert [type(layer).__name__ for layer in model.layers[1:3]] == ["Normalization", "Conv1D"]
    np.testing.assert_allclose(np.ravel(model.layers[1].mean), x.mean((0, 1)), rtol=1e-5)
    assert model.layers[2].filters == 3


SHAPES = "targets of the shape (samples,) or (samples, outputs)"
LABELS = "integer labels from 0 with task='multiclass'"
COLUMNS = "one column per class, with rows that sum to 1, with task='multiclass'"


@pytest.mark.parametrize(
    ("y", "allowed", "received", "advice"),
    [
        (np.zeros(0), SHAPES, "(0,)", "Pass one row"),
        (np.zeros((3, 2, 2)), SHAPES, "(3, 2, 2)", "Pass one row"),
        (np.array([0.5, 1.0]), LABELS, "'float64 from 0.5 to 1.0'", "Pass task='regression'"),
        (np.array([-1, 1]), LABELS, "'int64 from -1 to 1'", "Pass task='regression'"),
        (np.array(["a", "b"]), LABELS, "'<U1'", "Pass task='regression'"),
        (np.ones((2, 3)), COLUMNS, "(2, 3)", "Pass task='multilabel' or"),
    ],
)
def test_targets_that_do_not_fit(y, allowed, received, advice):
    with pytest.raises(ValueError, match="`y` must be") as error:
        SMALL.build_for(np.zeros((2, 3)), y)
    start = f"`y` must be {allowed}. Received: y={received}. {advice}"
    assert str(error.value).startswith(start)


def test_unknown_fields():
    with pytest.raises(TypeError, match="widths"):
        SMALL.build_for(np.zeros((2, 3)), np.zeros(2), widths=3)
