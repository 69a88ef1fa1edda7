"""Every task learns, is saved, and is refused with a reason."""

import itertools

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kerasdl import default_model

# NumPy 2 finds no `copy` argument in `keras.Variable.__array__` whenever Keras saves one.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = {"units": (16,), "filters": (4, 8), "learning_rate": 1e-2, "dropout": 0.1}


def data(task, shape, rng):
    x = rng.normal(size=(64, *shape)).astype("float32")
    score = x.reshape(64, -1, shape[-1]).mean(1)[:, :3]
    labels = {
        "multiclass": score.argmax(-1),
        "categorical": np.eye(3)[score.argmax(-1)],
        "binary": score[:, :1] > 0,
        "multilabel": score > 0,
        "regression": score * 2 + 1,
    }
    return x, np.asarray(labels[task], "float32")


OUTPUTS = {"multiclass": 3, "categorical": 3, "binary": 1, "multilabel": 3, "regression": 3}
LOSSES = {
    "multiclass": ("softmax", "SparseCategoricalCrossentropy", "accuracy"),
    "categorical": ("softmax", "CategoricalCrossentropy", "accuracy"),
    "binary": ("sigmoid", "BinaryCrossentropy", "accuracy"),
    "multilabel": ("sigmoid", "BinaryCrossentropy", "accuracy"),
    "regression": ("linear", "MeanSquaredError", "mae"),
}


@pytest.mark.parametrize(
    ("shape", "task"),
    [
        *itertools.product([(6,)], OUTPUTS),
        *itertools.product([(8, 8, 3)], ("multiclass", "binary", "multilabel", "regression")),
        ((10, 3), "multiclass"),
    ],
)
def test_learns(shape, task, rng):
    x, y = data(task, shape, rng)
    model = default_model(shape, OUTPUTS[task], task, adapt_to=x, **TINY)
    activation, loss, metric = LOSSES[task]
    assert model.layers[-1].activation.__name__ == activation
    assert type(model.loss).__name__ == loss
    history = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history
    assert metric in history
    assert history["loss"][-1] < 0.8 * history["loss"][0]


def test_digits(rng):
    x, y = load_digits(return_X_y=True)
    train, test = np.split(rng.permutation(len(x)), [1400])
    model = default_model((64,), 10, adapt_to=x[train])
    model.fit(x[train], y[train], batch_size=64, epochs=8, verbose=0)
    assert model.evaluate(x[test], y[test], verbose=0, return_dict=True)["accuracy"] > 0.9


@pytest.mark.parametrize("shape", [(6,), (10, 3), (8, 8, 3)])
def test_saved_and_loaded_predictions_are_equal(shape, rng, tmp_path):
    x, y = data("multiclass", shape, rng)
    model = default_model(shape, 3, adapt_to=x, l2=1e-4, statistics="population", **TINY)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))
    assert type(loaded.optimizer) is type(model.optimizer)


def test_standardization_is_inside(rng):
    x = rng.normal(100, 7, size=(50, 4))
    model = default_model((4,), task="regression", adapt_to=x, **TINY)
    inner = keras.Model(model.input, model.layers[1].output)
    np.testing.assert_allclose(inner(x), (x - x.mean(0)) / x.std(0), atol=1e-4)


def test_open_sequences_are_standardized_per_feature(rng):
    x = rng.normal([3.0, -5.0], [2.0, 0.5], size=(40, 6, 2))
    model = default_model((None, 2), task="regression", adapt_to=x, **TINY)
    inner = keras.Model(model.input, model.layers[1].output)
    np.testing.assert_allclose(inner(x), (x - x.mean((0, 1))) / x.std((0, 1)), atol=1e-4)


def test_constant_features_stay_small(rng):
    x = rng.normal(size=(50, 3)).astype("float32")
    x[:, 1] = 0.1
    model = default_model((3,), task="regression", adapt_to=x, **TINY)
    inner = keras.Model(model.input, model.layers[1].output)
    shifted = x + np.float32([0, 0.5, 0])
    np.testing.assert_allclose(inner(x)[:, 1], 0, atol=1e-6)
    np.testing.assert_allclose(inner(shifted)[:, 1], 0.5, rtol=1e-5)


def refused(text, *args, error=ValueError, **kwargs):
    with pytest.raises(error) as raised:
        default_model(*args, **kwargs)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    "shape",
    [(), (4, None), (0, 4), 5, None, (0,), (None,), (4, 4, None), (8, 0, 1), (2, 2, 2, 2), "ab"],
)
def test_shapes(shape):
    refused(
        "`input_shape` must be (features,), (time, features) or (height, width, channels) of "
        f"one sample, without the batch. Received: input_shape={shape!r}. Reshape other data; grey "
        "images need a channel axis of size 1.",
        shape,
        3,
    )


@pytest.mark.parametrize(
    ("task", "outputs", "allowed", "advice"),
    [
        ("multiclass", 1, "an integer of 2 or more with task='multiclass'",
         "Pass the number of classes, or task='binary' for two classes."),
        ("categorical", 1, "an integer of 2 or more with task='categorical'",
         "Pass the number of classes, one column of the labels each."),
        ("binary", 2, "1 with task='binary'",
         "One output is the probability of class 1."),
        ("multilabel", 0, "a positive integer with task='multilabel'",
         "Pass the number of labels."),
        ("regression", 1.5, "a positive integer with task='regression'",
         "Pass the number of values to predict."),
    ],
)  # fmt: skip
def test_outputs(task, outputs, allowed, advice):
    text = f"`outputs` must be {allowed}. Received: outputs={outputs}. {advice}"
    refused(text, (4,), outputs, task)


def test_task():
    refused(
        "`task` must be one of 'multiclass', 'categorical', 'binary', 'multilabel', 'regression'. "
        "Received: task='ranking'. Use 'multiclass' for one label out of several.",
        (4,),
        task="ranking",
    )


@pytest.mark.parametrize("shape", [(5, 3), (0, 4), (5, 4, 1)])
def test_adapt_to_of_another_shape(shape):
    refused(
        f"`adapt_to` must be inputs of the shape (samples, 4). Received: adapt_to={shape}. "
        "Pass the training inputs without their labels.",
        (4,),
        3,
        adapt_to=np.zeros(shape),
    )


@pytest.mark.parametrize(
    ("value", "received"),
    [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), ("a", "dtype <U1")],
)
def test_adapt_to_that_is_not_finite(value, received):
    refused(
        f"`adapt_to` must be finite numbers. Received: adapt_to={received!r}. "
        "Remove or fill the missing values first.",
        (2,),
        3,
        adapt_to=np.array([[value, value]]),
    )


def test_unknown_field():
    with pytest.raises(TypeError, match="widths"):
        default_model((4,), 3, widths=(3,))
