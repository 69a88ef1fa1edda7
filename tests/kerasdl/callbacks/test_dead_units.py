"""Shares of units that are put to death, or to saturation, by their biases."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl
from kerasdl.callbacks._slopes import _SLOPES, slope_of
from kerasdl.callbacks.dead_units import _Count

X = np.linspace(-1.0, 1.0, 100, dtype="float32")[:, None]


def shares(model, x):
    """What the callback logs, with the weights as they are."""
    model.compile(keras.optimizers.SGD(0.0), loss="mse", run_eagerly=True)
    y = np.zeros((len(x), *model.output_shape[1:]), "float32")
    history = model.fit(x, y, verbose=0, batch_size=50, callbacks=[kerasdl.DeadUnits(x)]).history
    return {key: value[-1] for key, value in history.items() if "units" in key}


def dense(activation, biases, name="hidden", slope=1.0):
    """Units φ(slope · x + bias)."""
    kernel = keras.initializers.Constant(slope)
    bias = keras.initializers.Constant(np.array(biases))
    return keras.layers.Dense(
        len(biases), activation, name=name, kernel_initializer=kernel, bias_initializer=bias
    )


@pytest.mark.parametrize(
    ("activation", "biases", "expected"),
    [
        ("relu", [-1.5, -1.0, -0.97, 0.0, 5.0], {"dead": 0.4}),
        ("relu6", [-1.5, 0.0, 6.5, 8.0], {"dead": 0.5}),
        ("tanh", [1.7, 1.9, -1.9, 0.0, 3.0], {"saturated": 0.6}),
        ("sigmoid", [3.55, 3.75, -3.75, 0.0], {"saturated": 0.5}),
        ("elu", [-2.2, -2.4, 0.0, 3.0], {"saturated": 0.25}),
        ("hard_tanh", [0.95, 1.1, -1.1, 0.0], {"saturated": 0.5}),
        ("softplus", [-2.1, -2.4, 0.0, 3.0], {"saturated": 0.25}),
    ],
)
def test_shares(activation, biases, expected):
    """tanh: |z| > 1.8 at half of the samples; sigmoid: 3.6; ELU and softplus: about −2.3, −2.2."""
    model = keras.Sequential([keras.Input((1,)), dense(activation, biases)])
    ((kind, share),) = expected.items()
    assert shares(model, X) == {f"{kind}_units/hidden": pytest.approx(share)}


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Activation("relu", name="act"),
        keras.layers.ReLU(name="act"),
        keras.layers.ReLU(max_value=3.0, name="act"),
        keras.layers.Dense(
            4, keras.layers.ReLU(), kernel_initializer="identity", use_bias=False, name="act"
        ),
    ],
)
def test_layers_that_are_activations(layer):
    model = keras.Sequential([keras.Input((1,)), dense(None, [-2.0, -3.0, 0.0, 1.0]), layer])
    assert shares(model, X) == {"dead_units/act": 0.5}


def test_alpha_of_elu():
    layer = keras.layers.ELU(0.5, name="act")
    biases = [-1.5, -1.7, 0.0, 1.0]
    model = keras.Sequential([keras.Input((1,)), dense(None, biases), layer])
    assert shares(model, X) == {"saturated_units/act": 0.25}


@pytest.mark.parametrize("activation", [None, "gelu", "leaky_relu", "softmax", ops.cos])
def test_other_activations_are_left_out(activation):
    layers = [dense(activation, [-9.0, -9.0], "other"), dense("relu", [0.0], "relu")]
    model = keras.Sequential([keras.Input((1,)), *layers])
    assert set(shares(model, X)) == {"dead_units/relu"}


def test_a_leaky_relu_layer_is_not_dead():
    layers = [keras.layers.ReLU(negative_slope=0.1), dense("relu", [0.0], "relu")]
    model = keras.Sequential([keras.Input((1,)), *layers])
    assert set(shares(model, X)) == {"dead_units/relu"}


def test_channels_are_units_and_positions_are_samples():
    images = np.zeros((2, 5, 5, 1), "float32")
    images[1, 3, 2] = 1.0
    kernel = np.zeros((1, 1, 1, 3), "float32") + 1.0
    conv = keras.layers.Conv2D(3, 1, activation="relu", name="conv")
    model = keras.Sequential([keras.Input((5, 5, 1)), conv, keras.layers.ReLU(name="after")])
    conv.set_weights([kernel, np.array([-2.0, -0.5, 0.0])])
    expected = pytest.approx(1 / 3)
    assert shares(model, images) == {"dead_units/conv": expected, "dead_units/after": expected}


@pytest.mark.parametrize(("data_format", "axis"), [("channels_first", 1), ("channels_last", 3)])
def test_data_format(data_format, axis):
    """Only counted: TensorFlow has no such convolutions without a GPU."""
    count = _Count(
        keras.layers.Conv2D(3, 1, data_format=data_format), _SLOPES[keras.activations.relu]
    )
    outputs = np.zeros((2, 4, 4, 4))
    np.moveaxis(outputs, axis, 0)[1:3] = 1.0
    count.add(outputs)
    assert count.share() == 0.5
    assert count.samples == 32


def test_nested_and_shared_models():
    inner = keras.Sequential(
        [keras.Input((1,)), dense("relu", [-1.5, -2.5], "hidden")], name="inner"
    )
    inputs = keras.Input((1,))
    shifted = keras.layers.Rescaling(1.0, offset=1.0)(inputs)
    outputs = keras.layers.Concatenate()([inner(inputs), inner(shifted)])
    middle = keras.Model(inputs, outputs, name="middle")
    last = keras.layers.Dense(2, "tanh", kernel_initializer="zeros", name="last")
    model = keras.Sequential([keras.Input((1,)), middle, last])
    assert shares(model, X) == {
        "dead_units/middle/inner/hidden": 0.5,
        "saturated_units/last": 0.0,
    }


def test_subclassed_models():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = dense("relu", [-1.5, 0.0])

        def call(self, inputs):
            return self.hidden(inputs)

    model = Model()
    model.compile("sgd", loss="mse")
    callback = kerasdl.DeadUnits(X)
    fit = {"x": X, "y": np.zeros((100, 2)), "verbose": 0}
    assert model.fit(**fit, callbacks=[callback]).history["dead_units/hidden"] == [0.5]
    assert "call" not in vars(model.hidden)


def test_dropout_is_off():
    layers = [keras.layers.Dropout(0.999, seed=1), dense("relu", [0.0] * 8)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    assert shares(model, X) == {"dead_units/hidden": 0.0}


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = keras.Sequential([keras.Input((1,)), dense("tanh", [3.0, 0.0])])
        assert shares(model, X) == {"saturated_units/hidden": 0.5}
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("has_float64")
@pytest.mark.parametrize("activation", _SLOPES, ids=lambda each: each.__name__)
def test_slopes(activation):
    """The slope told from the output is the slope, by differences, over the largest one."""
    z = np.linspace(-8.03, 8.03, 2002)
    h = 1e-4

    def φ(values):
        return ops.convert_to_numpy(activation(ops.convert_to_tensor(values, "float64")))

    slopes = (φ(z + h) - φ(z - h)) / (2 * h)
    found = slope_of(keras.layers.Activation(activation)).of(φ(z))
    # The largest slope is at 0, from the left, or somewhere above it.
    largest = max(slopes.max(), ((φ(np.zeros(1)) - φ(np.full(1, -1e-6))) / 1e-6)[0])
    np.testing.assert_allclose(found, slopes / largest, atol=2e-3)


def test_a_model_without_such_layers_is_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)], name="linear")
    with pytest.raises(ValueError, match="Received: model 'linear' without one. Leave"):
        shares(model, X)


@pytest.mark.parametrize("x", [np.zeros((0, 1)), 3.0, [X, X[:4]]])
def test_inputs_that_are_none(x):
    with pytest.raises(ValueError, match="`data` must be arrays with the same number of samples"):
        kerasdl.DeadUnits(x)


def test_layers_are_as_before_after_an_error():
    model = keras.Sequential([keras.Input((1,)), dense("relu", [0.0], "a")])
    model.compile("sgd", loss="mse")

    def broken(*args, **kwargs):
        raise RuntimeError("broken")

    callback = kerasdl.DeadUnits(X)
    callback.set_model(model)
    vars(model.layers[0])["call"] = broken
    with pytest.raises(RuntimeError, match="broken"):
        callback.on_epoch_end(0, {})
    assert vars(model.layers[0])["call"] is broken
