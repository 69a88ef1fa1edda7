"""A float64 run in which nothing is float32."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasdl import export
from kerasdl.export.formats import format_of
from kerasdl.export.programs.precision import float64_run, refusing_float32
from kerasdl.export.programs.program import KerasProgram, flatten_layers


class Short(layers.Layer):
    """Gives float32, whatever it is told to compute in."""

    def call(self, inputs):
        return ops.cast(inputs, "float32") * 3


def program_of(*stack):
    model = keras.Sequential([keras.Input((4,)), *stack])
    return KerasProgram(model)


def ids(program):
    return {id(node.operation) for node in program.graph.nodes}


def refused(program, arrays, call):
    operations = [node.operation for node in program.graph.nodes]
    with float64_run(flatten_layers(program.model)), refusing_float32(operations) as unseen:
        call(*arrays)
    return unseen


@pytest.mark.parametrize(
    "stack",
    [
        lambda: [Short()],
        lambda: [Short(), layers.Dense(2)],  # whose result is float64 again
        lambda: [keras.Sequential([layers.Dense(3), Short(), layers.Dense(2)])],
    ],
    ids=["last", "first", "nested"],
)
def test_models_with_a_float32_layer_run_operation_by_operation(stack, rng):
    program = program_of(*stack())
    x = rng.normal(size=(3, 4)).astype("float32")
    (exact,) = program.run_float64([x])
    assert program.by_operations
    (native,) = program.run([x])
    assert exact.dtype == np.float64
    np.testing.assert_allclose(exact, native, rtol=1e-5, atol=1e-6)
    assert np.any(exact != exact.astype("float32"))


def test_an_operation_of_keras_ops_is_refused(rng):
    x = keras.Input((4,))
    program = KerasProgram(keras.Model(x, layers.Dense(2)(ops.cast(x * 2, "float32") + 1)))
    program.run_float64([rng.normal(size=(3, 4)).astype("float32")])
    assert program.by_operations


def test_every_operation_of_a_model_is_seen(rng):
    x = keras.Input((4,))
    inner = keras.Sequential([layers.Dense(4, "relu"), layers.BatchNormalization()])
    program = KerasProgram(keras.Model(x, ops.exp(inner(inner(x))) + layers.Activation("tanh")(x)))
    x = rng.normal(size=(3, 4))
    before = [dict(vars(node.operation)) for node in program.graph.nodes]
    assert refused(program, [x], program.model) == set()
    assert [dict(vars(node.operation)) for node in program.graph.nodes] == before
    program.run_float64([x.astype("float32")])
    assert not program.by_operations


def test_what_was_not_called_is_told(rng):
    program = program_of(layers.Dense(3), Short())
    dense = program.graph.nodes[0].operation
    assert refused(program, [rng.normal(size=(3, 4))], dense) == ids(program) - {id(dense)}


def test_quantized_layers_are_looked_at_in_the_graph(rng, monkeypatch):
    """Keras calls them in another way; the first row of the graph is run besides."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    for layer in model.layers:
        layer.quantize("int8")
    program = KerasProgram(model)
    rows, run = [], type(program.graph).__call__

    def counted(graph, *tensors, **keywords):
        rows.append(len(tensors[0]))
        return run(graph, *tensors, **keywords)

    monkeypatch.setattr(type(program.graph), "__call__", counted)
    x = rng.normal(size=(3, 4)).astype("float32")
    program.run_float64([x])
    assert rows == [1]
    plain = program_of(layers.Dense(2))
    plain.run_float64([x])
    assert rows == [1]


def test_a_call_that_another_has_replaced_comes_back(rng):
    """As preprocessing layers have theirs replaced for the time of a float64 run."""
    program = program_of(layers.Rescaling(2.0), layers.Dense(2))
    layer = program.graph.nodes[0].operation
    with float64_run(flatten_layers(program.model)):
        replaced = vars(layer)["call"]
        with refusing_float32([layer]):
            assert vars(layer)["call"] is not replaced
        assert vars(layer)["call"] is replaced
    assert "call" not in vars(layer)
    assert not np.any(np.isnan(program.run_float64([np.ones((2, 4), "float32")])[0]))


def test_operations_that_take_tensors_alone(rng, tmp_path):
    """NumPy's arrays know no `as_list`, which Keras' own adaptive pooling asks for."""
    x = keras.Input((8, 7, 4))
    program = KerasProgram(keras.Model(x, ops.adaptive_average_pool(x, (3, 4))))
    arrays = [rng.normal(size=(2, 8, 7, 4)).astype("float32")]
    exact = program.run_float64(arrays)
    assert not program.by_operations
    (reach,) = next(program.reaches(arrays, exact, np.random.default_rng(0)))
    assert 0 < reach.max() < 1e-6
    report = export.to_onnx(program.model, tmp_path / "model.onnx", precision="float16")
    assert report.float64_failure is None


def test_rounding_of_a_graph_that_does_not_run_is_that_of_its_operations(rng):
    program = program_of(layers.Dense(3), layers.Dense(2))
    arrays = [rng.normal(size=(5, 4)).astype("float32")]
    exact = program.run_float64(arrays)
    own = next(program.reaches(arrays, exact, np.random.default_rng(0)))[0]
    program.graph.nodes[-1].operation = Failing()
    runs = program.reaches(arrays, exact, np.random.default_rng(0))
    for _ in range(2):
        found = next(runs)[0]
        assert found.shape == own.shape
        assert 0.1 * own.max() < found.max() < 10 * own.max()


class Failing(layers.Layer):
    def call(self, inputs):
        raise ValueError("not in the graph")


def test_fourier_transforms_stay_where_only_learnt_matrices_are_rounded():
    inputs = keras.Input((256, 1))
    x = layers.STFTSpectrogram("log", 64, 32, name="transform")(inputs)
    model = keras.Model(inputs, layers.Dense(8)(x))
    transform, dense = model.layers[1], model.layers[-1]
    before = [np.array(weight) for weight in (*transform.weights, dense.kernel)]
    for precision in ("bfloat16", "float16"):
        rng, stored = np.random.default_rng(0), format_of(precision)
        with float64_run(flatten_layers(model), perturb=rng, stored=stored):
            after = [np.array(weight.value) for weight in (*transform.weights, dense.kernel)]
        moved = [np.any(one != other) for one, other in zip(before, after, strict=True)]
        assert moved == [precision == "float16"] * 2 + [True]
