"""The numbers in the logs against NumPy, computed from the weights and gradients of each step."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl

rng = np.random.default_rng(1)
X = rng.normal(size=(24, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")
FIT = {"batch_size": 4, "shuffle": False, "verbose": 0}


def make_model(optimizer, **arguments):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(4, "tanh", name="first"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, loss="mse", **arguments)
    return model


class Steps(keras.callbacks.Callback):
    """The weights before each step."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_train_batch_begin(self, batch, logs=None):
        self.weights.append([w.astype("float64") for w in self.model.get_weights()])

    def on_train_end(self, logs=None):
        self.on_train_batch_begin(0)


def norm(tensors):
    return np.sqrt(sum((t**2).sum() for t in tensors))


MODES = [
    {"run_eagerly": True},
    pytest.param({"jit_compile": False}, marks=pytest.mark.compiled),
    pytest.param({"jit_compile": True}, marks=pytest.mark.compiled),
]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("every", [1, 4])
def test_numbers(mode, every):
    """With SGD the update is −η times the clipped gradient, which gives the gradient away."""
    η, limit = 0.25, 0.5
    model = make_model(kerasdl.SGD(η, clipnorm=limit), **mode)
    steps = Steps()
    monitor = kerasdl.OptimizerMonitor(every=every)
    logs = model.fit(X, Y, epochs=2, callbacks=[monitor, steps], **FIT).history
    for epoch in range(2):
        sampled = range(6 * epoch, 6 * epoch + 6, every)
        for layer, columns in (("first", (0, 1)), ("last", (2, 3))):
            ratios, clipped = [], []
            for step in sampled:
                before, after = steps.weights[step], steps.weights[step + 1]
                changes = [after[c] - before[c] for c in columns]
                ratios.append(norm(changes) / norm([before[c] for c in columns]))
                sizes = np.array([before[c].size for c in columns])
                hit = [norm([change]) / η > limit * (1 - 1e-4) for change in changes]
                clipped.append((sizes * hit).sum() / sizes.sum())
            got = logs[f"update_ratio/{layer}"][epoch], logs[f"clipped_fraction/{layer}"][epoch]
            np.testing.assert_allclose(got, (np.mean(ratios), np.mean(clipped)), rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.compiled
def test_gradient_norms_are_those_before_clipping(jit_compile):
    free, clipped = (
        make_model(optimizer, jit_compile=jit_compile)
        for optimizer in (kerasdl.SGD(0.0), kerasdl.SGD(0.0, global_clipnorm=1e-3))
    )
    steps = Steps()
    histories = []
    for model in (free, clipped):
        monitor = kerasdl.OptimizerMonitor(every=1)
        histories.append(model.fit(X, Y, callbacks=[monitor, steps], **FIT).history)
    for layer in ("first", "last"):
        norms = [history[f"gradient_norm/{layer}"][0] for history in histories]
        assert norms[0] == pytest.approx(norms[1], rel=1e-6)
        assert norms[0] > 0.1
    assert "clipped_fraction/first" not in histories[0]
    assert histories[1]["clipped_fraction/first"] == [1.0]


@pytest.mark.parametrize(
    "optimizer", [kerasdl.Nadam, pytest.param(kerasdl.RMSprop, marks=pytest.mark.slow)]
)
def test_training_is_not_changed(optimizer, tmp_path):
    plain, watched = make_model(optimizer(0.05)), make_model(optimizer(0.05))
    plain.fit(X, Y, epochs=3, **FIT)
    callbacks = [kerasdl.OptimizerMonitor(2), keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    save = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    watched.fit(X, Y, epochs=2, callbacks=[*callbacks, save], **FIT)
    header = (tmp_path / "log.csv").read_text().splitlines()[0]
    assert "update_ratio/first" in header
    count = len(watched.optimizer.variables)
    watched.fit(X, Y, initial_epoch=2, epochs=3, **FIT)
    assert len(watched.optimizer.variables) == count == len(plain.optimizer.variables)
    for a, b in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    again = keras.models.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == 12


def test_models_that_are_built_by_the_first_batch():
    model = keras.Sequential([keras.layers.Dense(1, name="only")])
    model.compile(kerasdl.SGD(0.1), loss="mse")
    logs = model.fit(X, Y, callbacks=[kerasdl.OptimizerMonitor(1)], **FIT).history
    assert logs["gradient_norm/only"][0] > 0


def test_mixed_precision_and_accumulation():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model(kerasdl.Adam(0.01, gradient_accumulation_steps=2))
        logs = model.fit(X, Y, callbacks=[kerasdl.OptimizerMonitor(1)], **FIT).history
        assert 0 < logs["update_ratio/first"][0] < 1
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.tensorflow
def test_lazy_rows_are_measured():
    model = keras.Sequential(
        [keras.layers.Embedding(50, 2, name="table"), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model.compile(kerasdl.SGD(0.1, lazy=True), loss="mse")
    words = np.array([[1, 1], [2, 3]])
    logs = model.fit(
        words, np.ones((2, 1)), epochs=2, verbose=0, callbacks=[kerasdl.OptimizerMonitor(1)]
    ).history
    assert logs["gradient_norm/table"][-1] > 0
    assert np.isfinite(ops.convert_to_numpy(logs["update_ratio/table"])).all()


@pytest.mark.parametrize("every", [0, 1.5, True, None])
def test_rejected_arguments(every):
    with pytest.raises(ValueError, match="`every` must be an integer ≥ 1"):
        kerasdl.OptimizerMonitor(every)


def test_other_optimizers_are_refused():
    model = make_model(keras.optimizers.Adam())
    with pytest.raises(ValueError, match=r"Received: Adam 'adam'.*`kerasdl\.Adam`"):
        model.fit(X, Y, callbacks=[kerasdl.OptimizerMonitor()], **FIT)
