"""What looks at a training leaves it bit by bit as it is, and is seen by what logs."""

import csv

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")
PROBE = X[:5], Y[:5]
KEYS = {
    "curvature": ["curvature/gradient_squared", "curvature/half_eta_gHg"],
    "dead": ["dead_units/relu", "saturated_units/tanh"],
    "gradient": ["gradient_norm/relu", "gradient_norm/tanh", "gradient_norm/out"],
    "oscillation": ["oscillation", "learning_rate"],
    "ratio": ["update_ratio/relu", "update_ratio/tanh", "update_ratio/out"],
}


LONG = {"ratio", "oscillation"}
each = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in KEYS]
)


def make_callback(name):
    return {
        "curvature": lambda: kerasdl.CurvatureMonitor(PROBE),
        "dead": lambda: kerasdl.DeadUnits(X[:5]),
        "gradient": lambda: kerasdl.GradientMonitor(PROBE),
        "oscillation": lambda: kerasdl.ReduceLROnOscillation(patience=99, every=1),
        "ratio": lambda: kerasdl.UpdateRatio(1),
    }[name]()


class Restless(keras.layers.Layer):
    """Draws random numbers and counts its calls, in inference too."""

    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(5)

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.calls.assign(self.calls + 1)
        return inputs + 0.1 * keras.random.normal(ops.shape(inputs), seed=self.seed_generator)


def make_model(optimizer):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Dense(6, "relu", name="relu", kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            Restless(),
            keras.layers.Dense(5, "tanh", name="tanh", activity_regularizer="l2"),
            kerasdl.BatchNormalization(),
            kerasdl.Dropout(0.3),
            keras.layers.Dense(1, name="out"),
        ]
    )
    model.compile(optimizer, loss="mse", metrics=["mae"], weighted_metrics=["mse"])
    return model


def train(callbacks, optimizer):
    model = make_model(optimizer)
    fit = {"epochs": 3, "batch_size": 8, "verbose": 0, "validation_data": (X[:3], Y[:3])}
    history = model.fit(X, Y, callbacks=callbacks, **fit).history
    # Another training shows whether anything else was left behind.
    more = model.fit(X, Y, epochs=1, batch_size=8, verbose=0).history
    state = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    drawn = keras.random.normal((3,))
    values = [ops.convert_to_numpy(each) for each in [*state, drawn]]
    return history | {f"more {name}": value for name, value in more.items()}, values


@pytest.fixture(scope="module")
def plain():
    return train([], keras.optimizers.Adam(0.01))


@pytest.mark.filterwarnings("ignore:Epoch")
@each
def test_training_is_the_same(name, plain):
    history, values = train([make_callback(name)], keras.optimizers.Adam(0.01))
    assert len(values) == len(plain[1])
    for one, other in zip(values, plain[1], strict=True):
        np.testing.assert_array_equal(one, other)
    for key, value in plain[0].items():
        assert history[key] == value, key


@pytest.mark.filterwarnings("ignore:Epoch", "ignore:__array__ implementation:DeprecationWarning")
@each
def test_logs_reach_history_and_file(name, tmp_path):
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history, _ = train([make_callback(name), log], kerasdl.Adam(0.01))
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    for key in KEYS[name]:
        written = [float(row[key]) for row in rows]
        np.testing.assert_array_equal(written, history[key])
        assert len(written) == 3
        assert np.isfinite(written).all()
    extra = {key.partition("/")[0] for key in KEYS[name]}
    found = {key for key in history if key.partition("/")[0] in extra}
    assert found >= set(KEYS[name])


@pytest.mark.filterwarnings("ignore:Epoch")
@pytest.mark.parametrize("name", KEYS)
def test_models_that_are_built_by_the_first_batch(name):
    layers = [keras.layers.Dense(3, "relu"), keras.layers.Dense(2, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.01), loss="mse")
    fit = {"epochs": 2, "batch_size": 8, "verbose": 0}
    history = model.fit(X, Y, callbacks=[make_callback(name)], **fit).history
    prefix = KEYS[name][0].partition("/")[0]
    found = [key for key in history if key.startswith(prefix)]
    assert found
    assert all(np.isfinite(history[key][1]) for key in found)


SAMPLES = "`data` must be arrays with the same number of samples, one or more. Received: "
PROBES = {
    "curvature": kerasdl.CurvatureMonitor,
    "gradient": kerasdl.GradientMonitor,
}


@pytest.mark.parametrize("make", PROBES.values())
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (X, "`data` must be (x, y) or (x, y, sample_weight). Received: data='ndarray'. "),
        ((X,), "`data` must be (x, y) or (x, y, sample_weight). Received: data='1 items'. "),
        (
            (X[:0], Y[:0]),
            SAMPLES + "data=[(0, 4), (0, 1)]. ",
        ),
        (
            (X[:3], Y),
            SAMPLES + "data=[(3, 4), (24, 1)]. ",
        ),
        (
            (X, 3.0),
            SAMPLES + "data=[(24, 4), ()]. ",
        ),
    ],
)
def test_data_that_is_none(make, data, text):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make(data)
    assert str(error.value).startswith(text)


@pytest.mark.parametrize(
    "callback",
    [
        lambda: kerasdl.CurvatureMonitor((X[:, :3], Y)),
        lambda: kerasdl.GradientMonitor((X[:, :3], Y)),
        lambda: kerasdl.DeadUnits(X[:, :3]),
    ],
)
def test_inputs_that_do_not_fit_are_refused_at_the_start(callback):
    model = make_model("sgd")
    before = model.get_weights()
    with pytest.raises(ValueError) as error:  # noqa: PT011
        model.fit(X, Y, verbose=0, callbacks=[callback()])
    assert str(error.value).startswith("`data` must be inputs of shape (None, 4) for ")
    assert "Received: data=(24, 3). Pass x as `fit` gets it" in str(error.value)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_inputs_by_name_and_a_missing_last_axis():
    inputs = [keras.Input((1,), name="b"), keras.Input((4,), name="a")]
    outputs = keras.layers.Dense(1, "relu")(keras.layers.Concatenate()(inputs))
    model = keras.Model({"b": inputs[0], "a": inputs[1]}, outputs)
    model.compile("sgd", loss="mse")
    x = {"a": X, "b": X[:, 0]}
    callback = kerasdl.DeadUnits(x)
    assert model.fit(x, Y, verbose=0, callbacks=[callback]).epoch == [0]
    with pytest.raises(ValueError, match=r"inputs of shape \(None, 1\) for 'b'"):
        model.fit(x, Y, verbose=0, callbacks=[kerasdl.DeadUnits({"a": X, "b": X})])
    with pytest.raises(ValueError, match="inputs for the 2 inputs of the model"):
        model.fit(x, Y, verbose=0, callbacks=[kerasdl.DeadUnits(X)])
