"""A run that is stopped and continued from its file ends with the same bits."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl
from kerasdl.catalog import CATALOG

ENTRIES = {entry.name: entry for entry in CATALOG if entry.kind == "optimizer"}
LAZY = {"SparseAdam"}  # These cannot accumulate.
PLAIN = [name for name, entry in ENTRIES.items() if "inner_optimizer" not in entry.arguments]
OPTIONS = {
    "clipnorm": {"clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "average_clipnorm": {"average_clipnorm": 0.01},
    "ema": {"use_ema": True, "ema_momentum": 0.7},
    "ema_overwriting": {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 2},
    "accumulation": {"gradient_accumulation_steps": 3, "clipnorm": 0.1},
    "noise": {"gradient_noise": 0.01, "seed": 5},
    "noise_with_a_drawn_seed": {"gradient_noise": 0.01},
    "multipliers": {
        "learning_rate_multipliers": {"sequential*/first": 0.5, "bias": 2.0},
        "weight_decay_multipliers": {"bias": 0.0},
        "weight_decay": 0.05,
    },
    "lookahead": {},
    "short_floats": {},
    "mixed_precision": {},
}
rng = np.random.default_rng(1)
X = rng.normal(size=(32, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")


@pytest.fixture
def policy(request):
    name = {"short_floats": "bfloat16", "mixed_precision": "mixed_float16"}
    keras.config.set_dtype_policy(name.get(request.getfixturevalue("option"), "float32"))
    yield
    keras.config.set_dtype_policy("float32")


def make_model(optimizer, **arguments):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(4, "tanh", name="first"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer, loss="mse", **{"run_eagerly": True, **arguments})
    return model


def steps(model, first, last):
    for step in range(first, last):
        rows = slice(4 * (step % 8), 4 * (step % 8) + 4)
        model.train_on_batch(X[rows], Y[rows])


def restart(model, path):
    model.save(path)
    again = keras.models.load_model(path)
    again.run_eagerly = model.run_eagerly
    return again


def assert_same_state(a, b):
    variables = [model.trainable_variables + model.optimizer.variables for model in (a, b)]
    for x, y in zip(*variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(x), ops.convert_to_numpy(y))


def matrix():
    """Every optimizer with every option: a third of the pairs in turn, the others are slow."""
    for row, name in enumerate(PLAIN):
        for column, option in enumerate(OPTIONS):
            if not (name in LAZY and option == "accumulation"):
                marks = pytest.mark.slow if (row + column) % 3 else ()
                yield pytest.param(name, option, marks=marks, id=f"{name}-{option}")


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize(("name", "option"), [*matrix()])
def test_from_a_file(name, option, tmp_path):
    entry = ENTRIES[name]
    chosen = {**entry.arguments, **OPTIONS[option]}
    if name == "AdagradDA":
        chosen.pop("weight_decay", None)  # It has none.
    config = entry.object(**chosen).get_config()

    def again():
        optimizer = entry.object(**config)
        return kerasdl.Lookahead(optimizer, k=3) if option == "lookahead" else optimizer

    whole, halves = make_model(again()), make_model(again())
    start = whole.get_weights()
    applied(whole, 0, 6)
    applied(halves, 0, 4)
    halves = restart(halves, tmp_path / "model.keras")
    assert "sequential" not in halves.trainable_variables[0].path
    applied(halves, 4, 6)
    assert_same_state(whole, halves)
    pairs = zip(whole.get_weights(), start, strict=True)
    assert any(not np.array_equal(new, old) for new, old in pairs)


def applied(model, first, last):
    """Steps with random gradients, much quicker than those of a loss."""
    variables = model.trainable_variables
    for step in range(first, last):
        rng = np.random.default_rng(step)
        gradients = [rng.normal(size=v.shape) * 0.3 for v in variables]
        gradients = [ops.convert_to_tensor(g, "float32") for g in gradients]
        if keras.backend.backend() == "jax":
            apply_stateless(model.optimizer, gradients, variables)
        else:
            model.optimizer.apply(gradients, variables)


def apply_stateless(optimizer, gradients, variables):
    """As `fit` does on JAX, where Keras' LossScaleOptimizer.apply leaks tracers."""
    if not optimizer.built:
        optimizer.build(variables)
    state = [variable.value for variable in optimizer.variables]
    weights = [variable.value for variable in variables]
    trained, state = optimizer.stateless_apply(state, gradients, weights)
    both = [*variables, *optimizer.variables]
    for variable, value in zip(both, [*trained, *state], strict=True):
        variable.assign(value)


@pytest.mark.parametrize("option", ["ema", "ema_overwriting", "nesterov", "accumulation"])
@pytest.mark.filterwarnings("ignore:The model has the trained weights")
def test_two_fits_are_one(option):
    """`fit` ends with the trained weights, so a further one goes on from them."""
    arguments = {"momentum": 0.9, "nesterov": True} if option == "nesterov" else OPTIONS[option]
    fit = {"x": X, "y": Y, "batch_size": 8, "shuffle": False, "verbose": 0}
    cls = ENTRIES["SGD" if option == "nesterov" else "Adam"].object
    once, twice = (make_model(cls(0.02, **arguments), run_eagerly=False) for _ in range(2))
    once.fit(epochs=4, **fit)
    twice.fit(epochs=2, **fit)
    twice.fit(epochs=4, initial_epoch=2, **fit)
    assert_same_state(once, twice)


class KilledError(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_train_batch_end(self, batch, logs=None):
        self.after -= 1
        if self.after < 0:
            raise KilledError


@pytest.mark.parametrize(
    ("name", "killed_after"),
    [
        ("Adam", 5),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("Adam", 2), ("Nadam", 5), ("RMSprop", 7))
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The model has the trained weights")
def test_backup_and_restore(name, killed_after, tmp_path):
    """Killed at any step, in the middle of an accumulation too, and started once more.

    Keras starts again at the end of the last epoch, whatever `save_freq` is.
    """
    entry, option = ENTRIES[name], {**OPTIONS["ema"], **OPTIONS["noise"]}
    option["gradient_accumulation_steps"] = 3
    fit = {"x": X, "y": Y, "batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}
    make = lambda: make_model(entry.object(**entry.arguments, **option), run_eagerly=False)  # noqa: E731
    whole, killed, again = make(), make(), make()
    whole.fit(**fit)
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KilledError):
        killed.fit(**fit, callbacks=[backup, Kill(killed_after)])
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    again.fit(**fit, callbacks=[backup])
    assert_same_state(whole, again)


def test_a_state_of_another_shape_is_named(tmp_path):
    model = make_model(ENTRIES["Adam"].object())
    steps(model, 0, 1)
    store = {}
    model.optimizer.save_own_variables(store)
    store["m.2"] = np.zeros((4, 2))
    before = [ops.convert_to_numpy(v).copy() for v in model.optimizer.variables]
    with pytest.raises(ValueError, match=r"`m\.2` of shape \(4, 2\) for `.*last/kernel`.*\(4, 1\)"):
        model.optimizer.load_own_variables(store)
    for old, new in zip(before, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


def test_a_state_of_another_optimizer_is_left_alone():
    adam, sgd = (make_model(ENTRIES[name].object()) for name in ("Adam", "SGD"))
    steps(adam, 0, 1)
    steps(sgd, 0, 2)
    store = {}
    adam.optimizer.save_own_variables(store)
    with pytest.warns(UserWarning, match=r"Not expected: m\.0, m\.1.*Missing: nothing"):
        sgd.optimizer.load_own_variables(store)
    assert int(sgd.optimizer.iterations) == 2


def test_a_file_does_not_depend_on_the_grouping(tmp_path, monkeypatch):
    from kerasdl.optimizers import _groups

    model = make_model(ENTRIES["Adam"].object(0.1))
    steps(model, 0, 3)
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(_groups, "SMALL", 0)
    alone = keras.models.load_model(tmp_path / "model.keras")
    alone.run_eagerly = True
    assert len(alone.optimizer.variables) > len(model.optimizer.variables)
    steps(model, 3, 5)
    steps(alone, 3, 5)
    for x, y in zip(model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
