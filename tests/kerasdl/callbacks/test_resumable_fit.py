"""A training that was stopped anywhere ends with the bits of the one that was not."""

import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import kerasdl
from kerasdl.callbacks._checkpoint_file import UNFINISHED

RNG = np.random.default_rng(1)
X = RNG.normal(size=(88, 5)).astype("float32")
Y = (X[:, :1] * 2 - X[:, 1:2] ** 2 + RNG.normal(size=(88, 1))).astype("float32")
DATA = {"x": X, "y": Y, "batch_size": 8}
VALIDATION = (X[:24], Y[:24])


class StopError(Exception):
    """What stops a training."""


class StopAt(keras.callbacks.Callback):
    """Stops at the n-th call of `on_train_batch_end` in this process."""

    def __init__(self, n):
        super().__init__()
        self.calls = itertools.count(1)
        self.n = n

    def on_train_batch_end(self, batch, logs=None):
        if next(self.calls) == self.n:
            raise StopError


class Noise(layers.Layer):
    """Draws from the generator that all of Keras shares."""

    def call(self, inputs, training=False):
        return inputs + 0.1 * keras.random.normal(keras.ops.shape(inputs)) if training else inputs


class Shaken(keras.callbacks.Callback):
    """Draws from Python's and NumPy's generators, and changes the model by what it draws."""

    def on_train_batch_end(self, batch, logs=None):
        bias = self.model.trainable_variables[-1]
        bias.assign(keras.ops.convert_to_numpy(bias) + 0.01 * (random.random() + np.random.rand()))


OPTIMIZERS = {
    "adam": lambda: kerasdl.Adam(0.02, gradient_noise=0.01),
    "ema": lambda: kerasdl.AdamW(0.02, use_ema=True),
    "nesterov": lambda: kerasdl.SGD(0.01, momentum=0.9, nesterov=True),
    "keras_momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "keras_adam_ema": lambda: keras.optimizers.Adam(0.02, use_ema=True),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(kerasdl.RMSprop(0.01)),
}


def make_model(optimizer="keras_momentum", steps=1, jit=False, deep=False):
    if steps > 1 and keras.backend.backend() == "torch":
        pytest.skip("Keras makes one step per execution on PyTorch")
    first = [Noise(), layers.Dense(6), layers.BatchNormalization(), layers.ReLU()] if deep else []
    model = keras.Sequential([keras.Input((5,)), *first, layers.Dropout(0.3), layers.Dense(1)])
    compiled = {"steps_per_execution": steps, "jit_compile": jit, "metrics": ["mae"]}
    model.compile(OPTIMIZERS[optimizer](), loss="mse", **compiled)
    return model


def callbacks_of_epochs():
    return [kerasdl.EarlyStopping("loss", patience=1), kerasdl.LearningRateDecay(0.7)]


def train(folder, stop=None, callbacks=callbacks_of_epochs, model=make_model, seed=5, **arguments):
    """As a new process: everything is made anew. None if it was stopped."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    fitted = model()
    made = callbacks() if stop is None else [*callbacks(), StopAt(stop)]
    made = made if stop is not None else [*made, StopAt(0)]
    data = {key: each() if callable(each) else each for key, each in (DATA | arguments).items()}
    data = {"epochs": 2, "save_freq": 3, "verbose": 0, **data}
    try:
        history = kerasdl.resumable_fit(fitted, folder, callbacks=made, **data)
    except StopError:
        return None
    variables = [*fitted.weights, *fitted.optimizer.variables]
    values = [keras.ops.convert_to_numpy(each) for each in variables]
    return history.history, history.epoch, values, fitted


def assert_same(a, b):
    assert a[:2] == b[:2]
    for x, y in zip(a[2], b[2], strict=True):
        np.testing.assert_array_equal(x, y)


def assert_exact(tmp_path, stops, reseed=True, **arguments):
    """Stop one training several times, and compare it with one that is not stopped."""
    whole = train(tmp_path / "whole", **arguments)
    for stop in (*stops, None):
        # Once there is a checkpoint, no random state of the new process may matter.
        started = list((tmp_path / "stopped").glob("*.checkpoint"))
        other = {"seed": 100 + len(started) + (stop or 0)} if started and reseed else {}
        resumed = train(tmp_path / "stopped", stop=stop, **other, **arguments)
    assert started
    assert_same(whole, resumed)
    return whole


slow = pytest.mark.slow
CASES = [("adam", 4)]
MORE_CASES = [
    (name, steps) for name in OPTIMIZERS for steps in (1, 4) if (name, steps) not in CASES
]


@pytest.mark.parametrize(
    ("optimizer", "steps"), [*CASES, *(pytest.param(*case, marks=slow) for case in MORE_CASES)]
)
@pytest.mark.filterwarnings("ignore:The model has the trained weights")
def test_stopped_inside_epochs(optimizer, steps, tmp_path):
    stops = (2, 7) if steps == 1 else (2, 3)
    history, *_ = assert_exact(
        tmp_path,
        stops,
        model=lambda: make_model(optimizer, steps, deep=True),
        validation_data=VALIDATION,
        epochs=3,
    )
    assert len(history["val_mae"]) > 1


@slow
@pytest.mark.parametrize("steps", [1, 3, 16])
@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.filterwarnings("ignore:The model has the trained weights")
def test_stopped_at_random(attempt, steps, tmp_path):
    rng = random.Random(10 * steps + attempt)
    stops = [rng.randint(2, 2 + 11 // steps) for _ in range(3)]
    assert_exact(
        tmp_path,
        stops,
        model=lambda: make_model("adam", steps, jit=True, deep=True),
        validation_split=0.2,
        save_freq=rng.randint(1, 5),
        epochs=6,
    )


def test_early_stopping_stops_where_it_did(tmp_path):
    def callbacks():
        return [kerasdl.EarlyStopping("val_loss", patience=1, min_delta=0.5)]

    whole = assert_exact(
        tmp_path, (8, 9), callbacks=callbacks, epochs=30, validation_data=VALIDATION
    )
    assert 2 <= len(whole[1]) < 30
    again = train(tmp_path / "stopped", callbacks=callbacks, epochs=30, validation_data=VALIDATION)
    assert_same(whole, again)


def test_stop_training_of_a_batch_is_kept(tmp_path):
    class Enough(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 5

    def killed():
        return [Enough(), StopAfterEpoch()]

    class StopAfterEpoch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if STOPPED:
                raise StopError

    STOPPED = []
    whole = train(tmp_path / "whole", callbacks=killed)
    STOPPED.append(True)
    assert train(tmp_path / "stopped", callbacks=killed) is None
    STOPPED.clear()
    assert_same(whole, train(tmp_path / "stopped", callbacks=killed))
    assert whole[1] == [0]


@pytest.mark.slow
def test_many_callbacks(tmp_path):
    def callbacks():
        return [
            kerasdl.OptimizerMonitor(every=2),
            kerasdl.GradientClipping(global_norm=1.0),
            kerasdl.SwapWeights(),
            keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=10.0, cooldown=1),
            keras.callbacks.TerminateOnNaN(),
            Shaken(),
        ]

    history, *_ = assert_exact(
        tmp_path, (5, 9), callbacks=callbacks, model=lambda: make_model("nesterov"), epochs=3
    )
    assert any(name.startswith("gradient_norm/") for name in history)


def test_no_callback_hears_of_skipped_batches(tmp_path):
    heard = []

    class Listener(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            heard.append(batch)

    assert train(tmp_path, stop=8, callbacks=lambda: [Listener()]) is None
    heard.clear()
    train(tmp_path, callbacks=lambda: [Listener()], epochs=1)
    assert heard == [6, 7, 8, 9, 10]


def test_arguments_of_callbacks_are_not_overwritten_unless_they_changed(tmp_path):
    class Callback(keras.callbacks.Callback):
        def __init__(self, path, level, seen):
            super().__init__()
            self.path, self.level, self.seen = path, level, seen

        def on_train_batch_end(self, batch, logs=None):
            self.level += 1
            self.seen.append(batch)

    assert train(tmp_path, stop=8, callbacks=lambda: [Callback("a", 0, [])]) is None
    callback = Callback("b", 0, [])
    train(tmp_path, callbacks=lambda: [callback], epochs=1)
    assert callback.path == "b"
    assert callback.level == 11
    assert callback.seen == list(range(11))


@slow
def test_metrics_inside_callbacks(tmp_path):
    class WithMetric(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.mean = keras.metrics.Mean()

        def on_train_batch_end(self, batch, logs=None):
            self.mean.update_state(batch)

        def on_epoch_end(self, epoch, logs=None):
            logs["mean"] = float(self.mean.result())

    history, *_ = assert_exact(tmp_path, (8,), callbacks=lambda: [WithMetric()], epochs=2)
    assert history["mean"] == [5.0, 5.0]


# Data


class Own(keras.utils.PyDataset):
    """Shuffles itself between epochs, by its own generator and by NumPy's."""

    def __init__(self, **workers):
        super().__init__(**workers)
        self.rng = np.random.default_rng(3)
        self.order = np.arange(88)
        self.read = []

    def __len__(self):
        return 11

    def __getitem__(self, index):
        self.read.append(index)
        rows = self.order[8 * index : 8 * index + 8]
        return X[rows], Y[rows]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)
        np.random.shuffle(self.order)


@pytest.mark.parametrize(
    ("shuffle", "workers"),
    [(True, 1), pytest.param(False, 1, marks=slow), pytest.param(False, 2, marks=slow)],
)
def test_py_dataset(shuffle, workers, tmp_path):
    arguments = {"y": None, "batch_size": None, "shuffle": shuffle}
    assert_exact(tmp_path, (5, 9), x=lambda: Own(workers=workers), **arguments)


def test_what_is_skipped_is_not_read(tmp_path):
    arguments = {"y": None, "batch_size": None, "shuffle": False, "epochs": 1}
    assert train(tmp_path, stop=8, x=Own, **arguments) is None
    data = Own()
    train(tmp_path, x=lambda: data, **arguments)
    assert not {3, 4, 5} & set(data.read)
    assert set(range(6, 11)) <= set(data.read)


def pipeline():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40, seed=7)
    return data.map(lambda x, y: (2 * x, y), num_parallel_calls=2).batch(8).prefetch(2)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("steps_per_epoch", "steps"),
    [
        (7, 1),
        pytest.param(None, 4, marks=slow),
        pytest.param(None, 1, marks=slow),
        pytest.param(7, 4, marks=slow),
    ],
)
def test_tf_data(steps, steps_per_epoch, tmp_path):
    assert_exact(
        tmp_path,
        (5, 13) if steps == 1 else (2, 4),
        reseed=False,
        x=pipeline,
        y=None,
        batch_size=None,
        steps_per_epoch=steps_per_epoch,
        model=lambda: make_model("keras_momentum", steps),
        callbacks=lambda: [kerasdl.LearningRateDecay(0.7)],
        epochs=4,
    )


@pytest.mark.parametrize("steps_per_epoch", [4, pytest.param(25, marks=slow)])
def test_epochs_that_are_no_passes(steps_per_epoch, tmp_path):
    assert_exact(tmp_path, (5, 6), steps_per_epoch=steps_per_epoch, epochs=3)


@slow
def test_several_inputs_and_weights(tmp_path):
    def model():
        a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
        merged = layers.Dropout(0.2)(layers.Concatenate()([a, b]))
        model = keras.Model({"a": a, "b": b}, layers.Dense(1)(merged))
        model.compile("adam", loss="mse", weighted_metrics=["mae"], jit_compile=False)
        return model

    x = {"a": X[:, :2], "b": X[:, 2:]}
    weight = np.random.default_rng(2).random(88)
    assert_exact(tmp_path, (5, 6), x=x, sample_weight=weight, model=model, validation_split=0.1)


def test_class_weight(tmp_path):
    labels = (X[:, 0] > 0).astype("int32")

    def model():
        model = keras.Sequential([keras.Input((5,)), layers.Dense(2, "softmax")])
        model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=False)
        return model

    assert_exact(tmp_path, (5,), y=labels, class_weight={0: 1.0, 1: 3.0}, model=model, epochs=2)


def test_every_sample_once_per_epoch_and_in_another_order(tmp_path):
    seen = []

    class Watched(keras.Sequential):
        def train_step(self, *arguments):
            seen.append(np.ravel(keras.ops.convert_to_numpy(arguments[-1][0])))
            return super().train_step(*arguments)

    def model():
        model = Watched([keras.Input((1,)), layers.Dense(1)])
        model.compile("sgd", loss="mse", run_eagerly=True)
        return model

    numbers = np.arange(20.0)[:, None]
    train(tmp_path, model=model, x=numbers, y=numbers, epochs=2)
    assert [len(each) for each in seen] == [8, 8, 4] * 2
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert not np.array_equal(first, second)
    for order in (first, second):
        assert not np.array_equal(order, np.arange(20))
        np.testing.assert_array_equal(np.sort(order), np.arange(20))


def test_a_model_that_is_not_built_yet(tmp_path):
    def model():
        model = keras.Sequential([layers.Dense(3), layers.Dropout(0.5), layers.Dense(1)])
        model.compile("adam", loss="mse", metrics=["mae"], jit_compile=False)
        return model

    assert_exact(tmp_path, (5,), model=model, epochs=2)


def test_a_train_step_with_logs_of_its_own(tmp_path):
    class Own(keras.Sequential):
        def train_step(self, *arguments):
            logs = super().train_step(*arguments)
            return {"double": 2 * logs["loss"]}

    def model():
        model = Own([keras.Input((5,)), layers.Dense(1)])
        model.compile("adam", loss="mse", jit_compile=False)
        return model

    if keras.backend.backend() == "jax":
        pytest.skip("a step of JAX returns its state too")
    # All batches of the first epoch are done when the second process starts.
    history, *_ = assert_exact(tmp_path, (11,), model=model, epochs=2, save_freq=10, callbacks=list)
    assert list(history) == ["double"]


# Going on, and files


def test_more_epochs_later(tmp_path):
    whole = train(tmp_path / "whole", epochs=3)
    train(tmp_path / "two", epochs=2)
    assert_same(whole, train(tmp_path / "two", epochs=3))
    assert_same(whole, train(tmp_path / "two", epochs=3))


@pytest.mark.parametrize("keep", [1, pytest.param(3, marks=slow)])
def test_keeps_the_newest(keep, tmp_path):
    train(tmp_path, keep=keep, epochs=1)
    names = ["epoch-000000-batch-00000006", "epoch-000000-batch-00000009"]
    names = [*names, "epoch-000001-batch-00000000"][-keep:]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.checkpoint" for n in names]


def test_only_at_the_end_of_an_epoch(tmp_path):
    train(tmp_path, save_freq="epoch", keep=9, epochs=2)
    assert len(list(tmp_path.iterdir())) == 2


def damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flipped":
        with zipfile.ZipFile(path) as archive:
            place = archive.getinfo("3").header_offset + 40
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.parametrize(
    "how", ["cut", pytest.param("flipped", marks=slow), pytest.param("empty", marks=slow)]
)
def test_a_damaged_checkpoint_is_left_out(how, tmp_path):
    whole = train(tmp_path / "whole", epochs=2)
    assert train(tmp_path / "stopped", stop=8, epochs=2) is None
    _old, new = sorted((tmp_path / "stopped").iterdir())
    damage(new, how)
    with pytest.warns(UserWarning, match=f"{new.name} is damaged and not used"):
        resumed = train(tmp_path / "stopped", epochs=2)
    assert_same(whole, resumed)
    for path in (tmp_path / "stopped").iterdir():
        damage(path, how)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="Received: 2 damaged"),
    ):
        train(tmp_path / "stopped", epochs=2)


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("zipfile.ZipFile.writestr", marks=slow),
        "os.replace",
        pytest.param("os.fsync", marks=slow),
    ],
)
def test_stopped_while_writing(where, tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", epochs=2)
    calls = itertools.count(1)
    original = {"zipfile.ZipFile.writestr": zipfile.ZipFile.writestr}.get(where)
    original = original or getattr(os, where.partition(".")[2])
    # In the third checkpoint, and in the middle of it.
    last = 2 * 60 + 9 if "zip" in where else 3

    def interrupted(*arguments):
        if next(calls) == last:
            raise StopError
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(where, interrupted)
        assert train(tmp_path / "stopped", epochs=2) is None
    assert (tmp_path / "stopped" / UNFINISHED).exists()
    assert_same(whole, train(tmp_path / "stopped", epochs=2))
    assert not (tmp_path / "stopped" / UNFINISHED).exists()


@slow
def test_processes_that_are_killed(tmp_path):
    """The real thing: SIGKILL at any moment, in other processes."""
    program = textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[1])
        import test_resumable_fit as t
        history, epoch, values, _ = t.train(
            sys.argv[2], epochs=400, save_freq=1, model=lambda: t.make_model("nesterov"),
            callbacks=lambda: [t.kerasdl.LearningRateDecay(0.99)],
        )
        t.np.savez(sys.argv[3], *values, loss=history["loss"])
    """)

    def run(folder, seconds=None):
        here = str(Path(__file__).parent)
        result = tmp_path / f"{folder}.npz"
        command = [sys.executable, "-c", program, here, str(tmp_path / folder), str(result)]
        process = subprocess.Popen(command)
        try:
            assert process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        return dict(np.load(result)) if result.exists() else None

    whole = run("whole")
    first = tmp_path / "stopped"
    kills = 0
    for seconds in (13.0, 14.1, 13.3, 13.7):
        if run("stopped", seconds) is not None:
            break
        kills += 1
    assert kills
    assert any(first.iterdir())
    resumed = run("stopped")
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(values, resumed[name])


def test_the_models_function_is_given_back(tmp_path):
    assert train(tmp_path, stop=8) is None
    model = make_model()
    functions = []

    class StopAtOnce(StopAt):
        def on_epoch_begin(self, epoch, logs=None):
            functions.append(model.train_function)
            raise StopError

    for Stop, stop in ((StopAtOnce, 0), (StopAt, 1)):
        Stop.__name__ = "StopAt"
        callbacks = [*callbacks_of_epochs(), Stop(stop)]
        with pytest.raises(StopError):
            kerasdl.resumable_fit(model, tmp_path, callbacks=callbacks, verbose=0, epochs=2, **DATA)
        assert type(model.train_function) is type(functions[0])


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": X[:80], "y": Y[:80]}, r"`shapes` must be as in the checkpoint.*88"),
        ({"x": X.astype("int32")}, "`shapes` must be as in the checkpoint"),
        ({"batch_size": 4}, "`batch_size` must be as in the checkpoint, 8"),
        ({"shuffle": False}, "`shuffle` must be as in the checkpoint, True"),
        ({"steps_per_epoch": 3}, "`steps_per_epoch` must be as in the checkpoint, 11"),
        ({"x": Own, "y": None, "batch_size": None}, "`kind` must be as in the checkpoint"),
        ({"callbacks": list}, r"`callbacks` must be as in the checkpoint, \['EarlyStopping'"),
        ({"model": lambda: make_model("nesterov")}, "`optimizer` must be as in the checkpoint"),
        ({"model": lambda: make_model(steps=2)}, "`steps_per_execution` must be as in"),
    ],
)
def test_another_training_is_refused(changes, message, tmp_path):
    assert train(tmp_path, stop=5) is None
    with pytest.raises(ValueError, match=message):
        train(tmp_path, **changes)


def test_another_model_is_refused(tmp_path):
    def model():
        model = keras.Sequential([keras.Input((5,)), layers.Dense(2), layers.Dense(1)])
        model.compile(OPTIMIZERS["keras_momentum"](), loss="mse", jit_compile=False)
        return model

    assert train(tmp_path, stop=5) is None
    with pytest.raises(ValueError, match="The model must have the variables of the checkpoint"):
        train(tmp_path, model=model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_freq": 0}, '`save_freq` must be "epoch" or an integer ≥ 1. Received: save_freq=0'),
        ({"save_freq": "batch"}, "`save_freq` must be"),
        ({"keep": 0}, "`keep` must be an integer ≥ 1"),
        ({"epochs": -1}, "`epochs` must be an integer ≥ 0"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"shuffle": "batch"}, "`shuffle` must be True or False"),
        ({"validation_split": 1.0}, r"`validation_split` must be in \[0, 1\)"),
        ({"validation_split": 1e-20}, "a share that leaves samples on both sides"),
        ({"initial_epoch": 1}, "`initial_epoch` must be left out"),
        (
            {"callbacks": lambda: [keras.callbacks.BackupAndRestore("folder")]},
            "`callbacks` must be without BackupAndRestore",
        ),
        ({"x": X[:0], "y": Y[:0]}, "at least one"),
        ({"y": Y[:5]}, "the same number of samples"),
        ({"x": iter([(X, Y)]), "y": None, "batch_size": None}, "A generator cannot be wound back"),
        ({"x": Own, "batch_size": None}, "`y` must be None with a dataset"),
        ({"x": Own, "y": None}, "`batch_size` must be None with a dataset"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be a positive integer"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_compiled(tmp_path):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="`model` must be compiled with an optimizer"):
        kerasdl.resumable_fit(model, tmp_path, X, Y)


@pytest.mark.tensorflow
def test_datasets_that_cannot_be_gone_on_with(tmp_path):
    import tensorflow as tf

    arguments = {"y": None, "batch_size": None}
    signature = (tf.TensorSpec((8, 5)), tf.TensorSpec((8, 1)))
    generated = tf.data.Dataset.from_generator(
        lambda: iter([(X[:8], Y[:8])] * 5), output_signature=signature
    )
    with pytest.raises(ValueError, match="`steps_per_epoch` must be given"):
        train(tmp_path, x=generated, **arguments)
    with pytest.raises(ValueError, match="must be a dataset whose iterator TensorFlow can save"):
        train(tmp_path, x=generated, steps_per_epoch=4, **arguments)
