"""What every public object promises, checked over the table of public objects."""

import doctest
import inspect
import sys

import keras
import numpy as np
import pytest

import kerasdl
from kerasdl.catalog import CATALOG, SERIALIZED
from references import stepper

# NumPy 2 finds no `copy` argument in `keras.Variable.__array__` whenever Keras saves one.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OWN = [entry for entry in CATALOG if entry.own]


def entries(*kinds, quick=None):
    """The entries of these kinds; all are quick tests, or those that are named."""
    chosen = [
        pytest.param(
            entry,
            id=entry.name,
            marks=() if quick is None or entry.name in quick else pytest.mark.slow,
        )
        for entry in CATALOG
        if entry.kind in kinds
    ]
    return pytest.mark.parametrize("entry", chosen)


def own(entry):
    marks = pytest.mark.tensorflow if entry.object is kerasdl.minimize else ()
    return pytest.param(entry, id=entry.name, marks=marks)


SAVED = {entry.name for entry in CATALOG if entry.kind in {"optimizer", "layer", "regularizer"}}
SAVED |= {"Warmup", "PiecewiseConstantDecay", "CosineDecayRestarts"}
SAVED |= {"HeNormal", "Orthogonal", "VariancePreserving"}
"""Those that hold something, and some of those that differ in their numbers only."""


own_entries = pytest.mark.parametrize("entry", [own(entry) for entry in OWN])


def make(entry):
    return entry.object(**entry.arguments)


def model_with(entry):
    """Return a small compiled model that uses the object."""
    made = make(entry)
    dense = {"kernel_initializer": made} if entry.kind == "initializer" else {}
    dense |= {"kernel_regularizer": made} if entry.kind == "regularizer" else {}
    extra = [made] if entry.kind == "layer" else []
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, **dense), *extra, keras.layers.Dense(1)]
    )
    optimizer = made if entry.kind == "optimizer" else keras.optimizers.SGD(0.01)
    optimizer = kerasdl.SGD(made) if entry.kind == "schedule" else optimizer
    model.compile(optimizer, loss="mse", jit_compile=False)
    return model


def data(rng, size=32):
    x = rng.normal(size=(size, 4)).astype("float32")
    return x, x[:, :1] - x[:, 1:2]


@entries(*sorted(SERIALIZED))
def test_arguments_differ_from_the_defaults(entry):
    """So that a round trip that loses one is seen."""
    parameters = inspect.signature(entry.object).parameters
    for name, value in entry.arguments.items():
        assert name in parameters
        assert value != parameters[name].default


@entries(*sorted(SERIALIZED))
def test_config_round_trip(entry):
    made = make(entry)
    config = made.get_config()
    again = type(made).from_config(config)
    assert again.get_config() == config
    if entry.own:
        assert set(entry.arguments) <= set(config)
    for name, value in entry.arguments.items():
        if isinstance(value, float):
            assert float(config[name]) == pytest.approx(value)
        elif entry.own and isinstance(value, (bool, int)):
            assert config[name] is value


@entries(*sorted(SERIALIZED))
def test_keras_serialization_round_trip(entry):
    config = keras.saving.serialize_keras_object(make(entry))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is entry.object
    assert keras.saving.serialize_keras_object(again) == config


@entries(*sorted(SERIALIZED))
def test_own_classes_are_registered(entry):
    name = keras.saving.get_registered_name(entry.object)
    assert name == (f"kerasdl>{entry.name}" if entry.own else entry.name)
    if entry.own:
        assert keras.saving.get_registered_object(name) is entry.object


@entries(*sorted(SERIALIZED), quick=SAVED)
def test_a_loaded_model_is_the_saved_one_and_goes_on_as_it(entry, rng, tmp_path):
    model = model_with(entry)
    x, y = data(rng)
    model.fit(x, y, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    given = keras.ops.convert_to_tensor(x)
    outputs = (keras.ops.convert_to_numpy(each(given)) for each in (model, loaded))
    np.testing.assert_array_equal(*outputs)
    assert_same(model.weights, loaded.weights)
    assert_same(model.optimizer.variables, loaded.optimizer.variables)
    for each in (model, loaded):
        keras.utils.set_random_seed(1)
        each.fit(x, y, batch_size=8, shuffle=False, epochs=2, verbose=0)
    assert_same(model.weights, loaded.weights)


def assert_same(variables, others):
    for old, new in zip(variables, others, strict=True):
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(old.numpy(), new.numpy())


@entries("optimizer")
@pytest.mark.parametrize(
    "dtype",
    ["float32", *(pytest.param(each, marks=pytest.mark.slow) for each in ("float64", "bfloat16"))],
)
@pytest.mark.usefixtures("has_float64")
def test_optimizers_learn_a_quadratic_and_keep_the_dtype(entry, dtype):
    θ = keras.Variable([3.0, -2.0, 1.0], dtype=dtype)
    step = stepper(make(entry), [θ])
    for _ in range(400):
        step([2 * keras.ops.convert_to_tensor(θ)])
    assert keras.backend.standardize_dtype(θ.dtype) == dtype
    assert np.abs(keras.ops.convert_to_numpy(θ).astype("float64")).max() < 0.05


@pytest.mark.compiled
@entries("optimizer", quick=("Adam", "SGD", "Nadam", "SparseAdam"))
def test_jit_on_and_off_agree(entry, rng):
    x, y = data(rng)
    weights = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(2)
        model = model_with(entry)
        model.compile(make(entry), loss="mse", jit_compile=jit_compile)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(*weights, rtol=1e-5, atol=1e-6)


TRACED = {"Adam", "ASGD", "SparseAdam", "Lookahead", "Clipped", "GradientControlledSGD"}
TRACED |= {"BatchNormalization", "Dropout", "WeightNoise", "CosineDecay"}
"""Those that keep count of something, or look at it."""


class Traces(keras.layers.Layer):
    """Counts how often Python runs through it."""

    count = 0

    def call(self, inputs):
        self.count += 1
        return inputs


@pytest.mark.compiled
@entries(*sorted(SERIALIZED), quick=TRACED)
def test_training_is_traced_once(entry, rng):
    model = model_with(entry)
    traces = Traces()
    counted = keras.Sequential([keras.Input((4,)), traces, *model.layers])
    # JAX traces only what it compiles.
    counted.compile(model.optimizer, loss="mse", jit_compile=keras.backend.backend() == "jax")
    x, y = data(rng)
    counted.fit(x, y, batch_size=8, verbose=0)
    before = traces.count
    counted.fit(x, y, batch_size=8, epochs=3, verbose=0)
    assert traces.count == before


@entries("callback")
def test_callbacks_run_in_fit(entry, rng):
    layers = [keras.layers.Dense(8, "elu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(kerasdl.SGD(0.01, momentum=0.9, nesterov=True), loss="mse", jit_compile=False)
    x, y = data(rng)
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[make(entry)])
    assert np.isfinite(history.history["loss"]).all()
    assert history.history["loss"][-1] < history.history["loss"][0]


@entries("default")
def test_defaults_build_a_model(entry):
    assert make(entry).build((4,), 3).output_shape == (None, 3)


@own_entries
def test_docstrings_have_their_parts(entry):
    text = inspect.getdoc(entry.object)
    assert text.splitlines()[0].endswith(".")
    parts = [text.index(part) for part in ("Args:", "Example:", "References:") if part in text]
    assert "Example:" in text
    assert ">>>" in text
    assert parts == sorted(parts)
    references = text[text.index("References:") :]
    keys = [key for key in ("N0", "N1", "N2", "N3", "N4") if key in entry.source]
    assert keys
    for key in keys:
        assert key in references, f"{entry.name} does not mention {key}"


@own_entries
def test_docstring_examples_run(entry):
    module = sys.modules[entry.object.__module__]
    finder = doctest.DocTestFinder(recurse=True)
    runner = doctest.DocTestRunner()
    tests = finder.find(entry.object, entry.name, module=module, globs=dict(vars(module)))
    for test in tests:
        runner.run(test)
    assert runner.tries > 0
    assert runner.failures == 0


@own_entries
def test_everything_is_annotated(entry):
    target = entry.object
    if inspect.isclass(target):
        target = vars(target).get("__init__", lambda self: None)
    for name, parameter in inspect.signature(target).parameters.items():
        assert name == "self" or parameter.annotation is not inspect.Parameter.empty
