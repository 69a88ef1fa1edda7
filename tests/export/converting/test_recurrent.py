"""Recurrent layers are operators of ONNX wherever these compute the same, and loops elsewhere."""

from collections import Counter

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers, ops

from kerasdl import export
from kerasdl.export.converting import convert as convert_module
from kerasdl.export.converting.calls import shorter_calls
from kerasdl.export.converting.recurrent import ACTIVATIONS, has_operator
from random_networks import randomize

SHAPE = (3, 4)
EACH_KIND = {"GRU": 2, "LSTM": 1, "Scan": 3}
EACH_KIND_TWICE = {"GRU": 2, "LSTM": 1, "Scan": 6}
"""Of the layers of `each_kind`: what the pair of steps and operator comes to (`steps.py`)."""
SEQUENCES, STATE, BACKWARDS = (
    {name: True} for name in ("return_sequences", "return_state", "go_backwards")
)
OPTIONS = {
    "last": {},
    "sequences": SEQUENCES,
    "state": STATE,
    "both": SEQUENCES | STATE,
    "backwards": BACKWARDS,
    "backwards, sequences": BACKWARDS | SEQUENCES,
    "backwards, both": BACKWARDS | SEQUENCES | STATE,
    "unrolled": {"unroll": True},
    "unrolled, backwards": {"unroll": True} | BACKWARDS | SEQUENCES,
    "without bias": {"use_bias": False},
    "dropout": {"dropout": 0.3, "recurrent_dropout": 0.4},
}


def of(*parts, shape=SHAPE):
    """A model with random weights; what a layer returns are its outputs."""
    x = inputs = keras.Input(shape)
    for part in parts:
        x = part(x)
    model = keras.Model(inputs, x)
    randomize(model, 0)
    return model


def each_kind(units, **options):
    """GRU, GRU with the reset before the product, LSTM and SimpleRNN."""
    return [
        layers.GRU(units, **options),
        layers.GRU(units, reset_after=False, **options),
        layers.LSTM(units, **options),
        layers.SimpleRNN(units, **options),
    ]


def side_by_side(parts, shape=SHAPE):
    """A model of layers that read the same input."""
    x = keras.Input(shape)
    model = keras.Model(x, [part(x) for part in parts])
    randomize(model, 0)
    return model


def kinds_in(path):
    """How many there are of every operator, those inside loops included."""

    def kinds(graph):
        for node in graph.node:
            yield node.op_type
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from kinds(attribute.g)

    return Counter(kinds(onnx.load(path).graph))


def exported(model, tmp_path, **options):
    """The operators of the file, which was compared with the model as it was written."""
    path = tmp_path / "model.onnx"
    assert export.to_onnx(model, path, **options).passed
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return kinds_in(path)


def recurrent(kinds):
    """The operators among them that go through time."""
    return {kind: kinds[kind] for kind in ("GRU", "LSTM", "RNN", "Loop", "Scan") if kinds[kind]}


# One layer


@pytest.mark.parametrize("option", OPTIONS)
def test_one_operator(option, tmp_path):
    kinds = exported(side_by_side(each_kind(3, **OPTIONS[option])), tmp_path)
    assert recurrent(kinds) == EACH_KIND
    assert kinds["If"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(None, 4), (1, 4), (5, 1), (9, 30)])
def test_any_length_and_size(shape, tmp_path):
    parts = each_kind(1 if shape == (5, 1) else 20, **BACKWARDS, **SEQUENCES)
    assert recurrent(exported(side_by_side(parts, shape), tmp_path)) == EACH_KIND


@pytest.mark.parametrize("options", [{}, SEQUENCES | STATE, BACKWARDS | SEQUENCES])
def test_first_states(options, tmp_path):
    x, h, c = keras.Input(SHAPE), keras.Input((3,)), keras.Input((3,))
    outputs = [
        layer(x, initial_state=[h, c] if isinstance(layer, layers.LSTM) else [h])
        for layer in each_kind(3, **options)
    ]
    model = keras.Model([x, h, c], outputs)
    randomize(model, 0)
    assert recurrent(exported(model, tmp_path)) == EACH_KIND


def test_states_from_layer_to_layer(tmp_path):
    x = keras.Input((None, 4))
    y, *states = layers.LSTM(6, return_sequences=True, return_state=True)(x)
    z = layers.LSTM(6, return_sequences=True)(x, initial_state=states)
    model = keras.Model(x, layers.GRU(6)(y + z, initial_state=layers.Dense(6)(states[0])))
    randomize(model, 0)
    assert recurrent(exported(model, tmp_path)) == {"LSTM": 2, "GRU": 1, "Scan": 1}


def test_one_layer_called_twice(tmp_path):
    shared = layers.GRU(20)
    one, other = keras.Input((5, 20)), keras.Input((7, 20))
    model = keras.Model([one, other], shared(one) - shared(other))
    randomize(model, 0)
    assert recurrent(exported(model, tmp_path)) == {"GRU": 2, "Scan": 2}
    held = [tuple(t.dims) for t in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert len([shape for shape in held if shape == (1, 60, 20)]) == 2  # W and R


def test_cells(tmp_path):
    cells = [
        layers.GRUCell(3),
        layers.GRUCell(3, reset_after=False),
        layers.LSTMCell(3),
        layers.SimpleRNNCell(3),
    ]
    parts = [layers.RNN(cell, **SEQUENCES, **BACKWARDS) for cell in cells]
    assert recurrent(exported(side_by_side(parts), tmp_path)) == EACH_KIND


# Activations


FUNCTIONS = {form.name: function for function, form in ACTIVATIONS}


@pytest.mark.slow
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_activations(activation, tmp_path, rng):
    """Far from zero as well, where some approximations overflow."""
    x = keras.Input(SHAPE, name="x")
    parts = each_kind(3, activation=FUNCTIONS[activation])
    model = keras.Model(x, [part(x) for part in parts])
    randomize(model, 0)
    far = {"x": 30 * rng.normal(size=(9, *SHAPE)).astype("float32")}
    assert recurrent(exported(model, tmp_path, data=far)) == EACH_KIND


@pytest.mark.slow
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_activations_of_gates(activation, tmp_path):
    options = {"recurrent_activation": FUNCTIONS[activation]}
    parts = [
        layers.GRU(3, **options),
        layers.GRU(3, reset_after=False, **options),
        layers.LSTM(3, **options),
    ]
    assert recurrent(exported(side_by_side(parts), tmp_path)) == {"GRU": 2, "LSTM": 1, "Scan": 2}


@pytest.mark.parametrize(
    "activation", [pytest.param("softplus", marks=pytest.mark.slow), "leaky_relu"]
)
def test_other_activations_stay_loops(activation, tmp_path, rng):
    """The softplus of onnxruntime's operators is infinite from 89 on."""
    x = keras.Input(SHAPE, name="x")
    model = keras.Model(x, [layer(x) for layer in each_kind(3, activation=activation)])
    randomize(model, 0)
    far = {"x": 30 * rng.normal(size=(9, *SHAPE)).astype("float32")}
    assert recurrent(exported(model, tmp_path, data=far)) == {"Loop": 4}


def test_both_functions_of_a_pair(tmp_path):
    """Each direction has its own activations, and only some of them have numbers."""
    forward = layers.LSTM(3, activation="elu", recurrent_activation="hard_sigmoid")
    backward = layers.LSTM(3, activation="elu", go_backwards=True)
    model = of(layers.Bidirectional(forward, backward_layer=backward))
    assert recurrent(exported(model, tmp_path)) == {"LSTM": 1}


# Both directions


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.slow), SEQUENCES | STATE],
)
def test_both_directions_are_one_operator(options, tmp_path):
    parts = [layers.Bidirectional(layer) for layer in each_kind(3, **options)]
    assert recurrent(exported(side_by_side(parts), tmp_path)) == EACH_KIND_TWICE


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["sum", "mul", "ave", None])
@pytest.mark.parametrize("options", [STATE, SEQUENCES])
def test_merging(options, merge, tmp_path):
    model = of(layers.Bidirectional(layers.LSTM(3, **options), merge_mode=merge))
    assert recurrent(exported(model, tmp_path)) == {"LSTM": 1}


@pytest.mark.slow
@pytest.mark.parametrize("shape", [SHAPE, (None, 4)])
def test_first_states_of_both_directions(shape, tmp_path):
    x, states = keras.Input(shape), [keras.Input((3,)) for _ in range(4)]
    outputs = [
        layers.Bidirectional(layer)(
            x, initial_state=states if isinstance(layer, layers.LSTM) else states[:2]
        )
        for layer in each_kind(3, **SEQUENCES, **STATE)
    ]
    model = keras.Model([x, *states], outputs)
    randomize(model, 0)
    assert recurrent(exported(model, tmp_path)) == EACH_KIND_TWICE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "backward", "operators"),
    [
        (layers.GRU(3), layers.LSTM(3, go_backwards=True), {"GRU": 1, "LSTM": 1, "Scan": 1}),
        (layers.GRU(3), layers.GRU(3, reset_after=False, go_backwards=True), {"GRU": 2, "Scan": 2}),
        (layers.LSTM(3, go_backwards=True), layers.LSTM(3), {"LSTM": 2}),
        (layers.GRU(3), layers.GRU(3, use_bias=False, go_backwards=True), {"GRU": 1, "Scan": 2}),
        (layers.GRU(3), layers.GRU(3, "gelu", go_backwards=True), {"GRU": 1, "Loop": 1, "Scan": 1}),
    ],
)
def test_directions_that_differ(forward, backward, operators, tmp_path):
    for layer in (forward, backward):
        layer.return_sequences = True
    both = layers.Bidirectional(forward, merge_mode=None, backward_layer=backward)
    assert recurrent(exported(of(both), tmp_path)) == operators


# Inside other layers


def test_over_time(tmp_path):
    parts = [layers.TimeDistributed(layer) for layer in each_kind(3)]
    assert recurrent(exported(side_by_side(parts, (3, *SHAPE)), tmp_path)) == EACH_KIND


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(None, 5, 4), (3, None, 4)])
def test_over_free_time(shape, tmp_path):
    model = of(layers.TimeDistributed(layers.SimpleRNN(3)), shape=shape)
    assert recurrent(exported(model, tmp_path)) == {"Scan": 1}


class Decoder(keras.Model):
    """Feeds back what it said."""

    def __init__(self):
        super().__init__()
        self.listen = layers.GRU(4, return_state=True, return_sequences=True, name="listen")
        self.step = layers.LSTM(4, return_state=True, name="step")
        self.say = layers.Dense(4, name="say")

    def call(self, x):
        heard, state = self.listen(x)
        states = [state, state]
        for _ in range(3):
            y, *states = self.step(heard, initial_state=states)
            heard = heard + ops.expand_dims(self.say(y), 1)
        return heard


def test_inside_a_subclassed_model(tmp_path):
    model = Decoder()
    model(np.zeros((2, *SHAPE), "float32"))
    randomize(model, 0)
    assert recurrent(exported(model, tmp_path)) == {"GRU": 1, "LSTM": 3, "Scan": 1}


class Repeated(keras.Model):
    """A loop of TensorFlow's with a layer in it."""

    def __init__(self):
        super().__init__()
        self.gru = layers.GRU(16)

    def call(self, x):
        self.gru(x)  # the weights are made outside of the loop
        state = ops.zeros((ops.shape(x)[0], 16))

        def step(count, state):
            return count + 1, self.gru(x * (1.0 + ops.cast(count, "float32")), initial_state=state)

        return tf.while_loop(lambda count, _: count < 3, step, [tf.constant(0), state])[1]


def test_inside_a_loop(tmp_path):
    model = Repeated()
    model(np.zeros((2, 5, 20), "float32"))
    randomize(model, 0)
    assert recurrent(exported(model, tmp_path)) == {"GRU": 1, "Loop": 1}


class Careless(keras.Model):
    """Always in training."""

    def __init__(self):
        super().__init__()
        self.gru = layers.GRU(3)

    def call(self, x):
        return self.gru(x, training=True)


def test_training_stays_a_loop(tmp_path):
    model = Careless()
    model(np.zeros((2, *SHAPE), "float32"))
    assert recurrent(exported(model, tmp_path)) == {"Loop": 1}


# What stays


class Marked(layers.Layer):
    """Masks what it returns, which Keras sees only when it runs."""

    def __init__(self):
        super().__init__()
        self.mask = layers.Masking()

    def call(self, x):
        return self.mask(ops.relu(x - 1))


@pytest.mark.parametrize(
    "parts",
    [
        lambda: (layers.Masking(), layers.LSTM(20)),
        lambda: (layers.ReLU(threshold=1.0), layers.Masking(), layers.GRU(3)),
        lambda: (Marked(), layers.SimpleRNN(3, return_sequences=True)),
        lambda: (layers.Masking(), layers.RNN(layers.GRUCell(3))),
    ],
)
def test_masks_stay_loops(parts, tmp_path):
    assert recurrent(exported(of(*parts()), tmp_path)) == {"Loop": 1}


@pytest.mark.slow
@pytest.mark.parametrize("mark", [layers.Masking, Marked])
def test_masks_over_time_stay(mark, tmp_path):
    """Each step of each sample has its own mask."""
    model = of(mark(), layers.TimeDistributed(layers.GRU(3)), shape=(2, 5, 4))
    assert export.to_onnx(model, tmp_path / "model.onnx").passed


def test_a_mask_for_both_directions(tmp_path):
    model = of(layers.Masking(), layers.Bidirectional(layers.GRU(3, return_sequences=True)))
    assert recurrent(exported(model, tmp_path)) == {"Loop": 2}


class Own(layers.LSTM):
    """A class of the user's."""


@pytest.mark.parametrize(
    ("make", "operators"),
    [
        (lambda: Own(20), {"LSTM": 1}),  # tf2onnx knows it by its constants
        (lambda: layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)]), {"Loop": 1}),
        (lambda: layers.GRU(3, dtype="float64"), {"Loop": 1}),
        pytest.param(lambda: layers.ConvLSTM1D(2, 3), {"Loop": 1}, marks=pytest.mark.slow),
    ],
)
def test_other_layers_stay(make, operators, tmp_path):
    layer = make()
    shape = (4, 6, 2) if isinstance(layer, layers.ConvLSTM1D) else (5, 16)
    assert not has_operator(layer)
    assert recurrent(exported(of(layer, shape=shape), tmp_path)) == operators


def test_states_that_keras_broadcasts(tmp_path):
    x = keras.Input(SHAPE)
    state = keras.Variable(np.ones((1, 3), "float32"))

    class Starting(layers.Layer):
        def __init__(self):
            super().__init__()
            self.gru = layers.GRU(3, unroll=True)

        def call(self, x):
            return self.gru(x, initial_state=ops.convert_to_tensor(state))

    model = keras.Model(x, Starting()(x))
    assert recurrent(exported(model, tmp_path)) == {}


def test_functions_of_python_are_refused(tmp_path):
    def call(x):
        y = tf.numpy_function(np.sort, [x], tf.float32, stateful=False)
        return tf.ensure_shape(y, (None, 3))

    x = keras.Input((3,))
    model = keras.Model(x, layers.Lambda(call, output_shape=(3,), name="sort")(x))
    with pytest.raises(export.ConversionError, match="`sort`.*no form.*PyFuncStateless"):
        export.to_onnx(model, tmp_path / "model.onnx")


def test_the_model_stays_as_it_is(rng):
    model = of(layers.Bidirectional(layers.LSTM(3)), layers.RepeatVector(2), layers.GRU(3))
    x = rng.normal(size=(3, *SHAPE)).astype("float32")
    before = model.predict(x, verbose=0)
    found = list(model._flatten_layers())
    with shorter_calls(found, 18):
        assert sum("call" in vars(layer) for layer in found) == 4
    assert not any("call" in vars(layer) for layer in found)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


# The file


@pytest.mark.parametrize("opset", [13, 15, 21, 22, 26])
def test_operator_sets(opset, tmp_path):
    model = of(
        layers.Bidirectional(layers.GRU(5, return_sequences=True)),
        layers.SimpleRNN(5, return_sequences=True, go_backwards=True),
        layers.LSTM(5),
    )
    kinds = exported(model, tmp_path, opset=opset)
    assert recurrent(kinds) == {"GRU": 1, "LSTM": 1, "Scan": 3}


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_formats(precision, tmp_path):
    model = of(layers.GRU(16, return_sequences=True), layers.GRU(16), layers.Dense(4))
    assert recurrent(exported(model, tmp_path, precision=precision)) == {"GRU": 2, "Scan": 2}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "bfloat16"])
def test_half_precision(dtype, tmp_path):
    # TensorFlow has no orthogonal initialization in bfloat16.
    parts = each_kind(16, dtype=dtype, recurrent_initializer="glorot_uniform")
    both = [layers.Bidirectional(layer, dtype=dtype) for layer in parts]
    assert recurrent(exported(side_by_side(both, (5, 20)), tmp_path)) == EACH_KIND_TWICE


def test_same_model_same_bytes(tmp_path):
    contents = []
    for name in ("one", "other"):
        keras.utils.clear_session()
        model = of(layers.Bidirectional(layers.LSTM(16, return_sequences=True)), layers.GRU(16))
        export.to_onnx(model, tmp_path / f"{name}.onnx")
        contents.append((tmp_path / f"{name}.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_weights_do_not_go_through_tf2onnx(tmp_path, monkeypatch):
    sizes = []
    original = convert_module._tf2onnx

    def recording(function, *arguments):
        sizes.append(len(function.graph.as_graph_def().SerializeToString()))
        return original(function, *arguments)

    monkeypatch.setattr(convert_module, "_tf2onnx", recording)
    model = of(layers.LSTM(100, return_sequences=True), layers.GRU(100), shape=(5, 50))
    kinds = exported(model, tmp_path)
    assert len(sizes) == 1
    assert sizes[0] < 50_000 < (tmp_path / "model.onnx").stat().st_size
    assert recurrent(kinds) == {"LSTM": 1, "GRU": 1, "Scan": 1}


@pytest.mark.parametrize("steps", [(None, None), (3, 5)])
def test_masks_of_steps_over_time(steps, tmp_path, rng):
    """A hierarchical network: words that are padded, in sentences that are."""
    inputs = keras.Input(steps, dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = layers.TimeDistributed(layers.Bidirectional(layers.GRU(3)))(x)
    model = keras.Model(inputs, layers.ELU()(x))
    export.to_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    words = rng.integers(1, 9, (4, 3, 5)).astype("int32")
    words[:, :, 3:] = 0
    words[1, 2] = 0
    (result,) = session.run(None, {session.get_inputs()[0].name: words})
    np.testing.assert_allclose(result, model(words), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [layers.GRU, layers.LSTM, layers.SimpleRNN])
def test_states_of_a_masked_layer_are_first_states(kind, tmp_path):
    x, y = keras.Input((6, 4)), keras.Input((5, 4))
    _, *states = kind(3, return_state=True)(layers.Masking()(x))
    z = kind(3, return_sequences=True)(y, initial_state=states)
    assert export.to_onnx(keras.Model([x, y], z), tmp_path / "model.onnx").passed
