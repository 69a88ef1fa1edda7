"""The ratio against NumPy, and against what our optimizers measure themselves."""

import keras
import numpy as np
import pytest

import kerasdl

rng = np.random.default_rng(1)
X = rng.normal(size=(24, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")
FIT = {"batch_size": 4, "shuffle": False, "verbose": 0, "epochs": 2}


def make_model(optimizer, **arguments):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(4, "tanh", name="first"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, loss="mse", **arguments)
    return model


class Steps(keras.callbacks.Callback):
    """The weights before each step, and after the last."""

    def on_train_begin(self, logs=None):
        self.weights = [[w.astype("float64") for w in self.model.get_weights()]]

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append([w.astype("float64") for w in self.model.get_weights()])


def norm(tensors):
    return np.sqrt(sum((t**2).sum() for t in tensors))


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, keras.optimizers.SGD])
@pytest.mark.parametrize("every", [1, 4])
def test_ratios(optimizer, every):
    model, steps = make_model(optimizer(0.1)), Steps()
    logs = model.fit(X, Y, callbacks=[kerasdl.UpdateRatio(every), steps], **FIT).history
    for epoch in range(2):
        for layer, columns in (("first", (0, 1)), ("last", (2, 3))):
            ratios = []
            for step in range(6 * epoch, 6 * epoch + 6, every):
                before, after = steps.weights[step], steps.weights[step + 1]
                change = norm([after[c] - before[c] for c in columns])
                ratios.append(change / norm([before[c] for c in columns]))
            expected = pytest.approx(np.mean(ratios), rel=1e-12)
            assert logs[f"update_ratio/{layer}"][epoch] == expected


def test_same_as_the_optimizers_own():
    histories = [
        make_model(kerasdl.Adam(0.1)).fit(X, Y, callbacks=[callback], **FIT).history
        for callback in (kerasdl.UpdateRatio(2), kerasdl.OptimizerMonitor(2))
    ]
    for layer in ("first", "last"):
        one, other = (history[f"update_ratio/{layer}"] for history in histories)
        np.testing.assert_allclose(one, other, rtol=1e-3)


@pytest.mark.compiled
def test_an_execution_counts_as_one_update():
    model = make_model(keras.optimizers.SGD(0.1), steps_per_execution=3)
    once, steps = make_model(keras.optimizers.SGD(0.1)), Steps()
    logs = model.fit(X, Y, callbacks=[kerasdl.UpdateRatio(2)], **FIT).history
    once.fit(X, Y, callbacks=[steps], **FIT)
    before, after = steps.weights[0], steps.weights[3]
    expected = norm([after[c] - before[c] for c in (0, 1)]) / norm([before[c] for c in (0, 1)])
    assert logs["update_ratio/first"][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("every", [0, 1.5, True, None])
def test_rejected_arguments(every):
    with pytest.raises(ValueError, match="`every` must be an integer ≥ 1"):
        kerasdl.UpdateRatio(every)
