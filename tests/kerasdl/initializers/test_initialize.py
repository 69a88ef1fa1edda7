"""LSUV and Krähenbühl's method, on all kinds of affine layers and models."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from kerasdl import CenteredWeightNormalization, initialize
from kerasdl.initializers import _krahenbuhl

LSUV = {"method": "lsuv", "seed": 0}
KRAHENBUHL = {"method": "krahenbuhl", "seed": 0}


def images():
    """Every kind of affine layer, in one chain with a nested model and the layers around."""
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation=layers.ReLU())(x)
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2)(x)
    x = layers.Conv2DTranspose(4, 3, activation="relu")(x)
    x = layers.Reshape((36, 4))(x)
    x = layers.Conv1D(6, 3, groups=2)(x)
    x = layers.EinsumDense("abc,cde->abde", (34, 3, 5), bias_axes="de", activation="tanh")(x)
    x = layers.EinsumDense("...de,def->...fd", (2, 3), bias_axes="fd")(x)
    x = layers.Flatten()(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.5)(x)
    inner = keras.Sequential([layers.Dense(9, activation="elu"), layers.Dense(7)])
    return keras.Model(inputs, inner(x))


def chain(units=(30, 200, 10, 100), activation="relu", **kwargs):
    hidden = [layers.Dense(width, activation=activation, **kwargs) for width in units]
    return keras.Sequential([keras.Input((20,)), *hidden, layers.Dense(5, **kwargs)])


def vectors(rng, size=300):
    return 7 * rng.normal(size=(size, 20)).astype("float32") + 3


def linear_outputs(model, x):
    """Output of each Dense of a chain before its activation, in float64."""
    x = x.astype("float64")
    found = []
    for layer in model.layers:
        weights = [ops.convert_to_numpy(weight).astype("float64") for weight in layer.weights]
        z = x @ weights[0] + (weights[1] if len(weights) > 1 else 0)
        found.append(z)
        x = ops.convert_to_numpy(layer.activation(ops.convert_to_tensor(z)))
    return found


def numpy_weights(model):
    return [ops.convert_to_numpy(weight).copy() for weight in model.weights]


def test_lsuv_gives_unit_variance_to_every_kind_of_layer(rng):
    model = images()
    report = initialize(model, 50 * rng.normal(size=(64, 10, 10, 3)) + 3, **LSUV)
    assert len(report.layers) == 9
    for layer in report.layers:
        assert layer.note == ""
        assert abs(layer.before - 1) > 0.02
        assert layer.after == pytest.approx(1, abs=1e-4)
    assert report.layers[-1].name.endswith("/dense_1")


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu"])
def test_lsuv_against_numpy(activation, rng):
    model, x = chain(activation=activation), vectors(rng)
    report = initialize(model, x, batch_size=300, **LSUV)
    for layer, z, line in zip(model.layers, linear_outputs(model, x), report.layers, strict=True):
        assert z.var() == pytest.approx(1, abs=1e-4)
        assert line.after == pytest.approx(z.var(), rel=1e-4)
        w = ops.convert_to_numpy(layer.kernel).astype("float64")
        gram = w.T @ w if w.shape[0] > w.shape[1] else w @ w.T
        np.testing.assert_allclose(gram, gram[0, 0] * np.eye(len(gram)), atol=1e-5 * gram[0, 0])


def test_lsuv_kernels_are_orthonormal_in_each_group(rng):
    model = images()
    initialize(model, rng.normal(size=(32, 10, 10, 3)), **LSUV)
    found = {layer.name: layer for layer in model.layers}
    depthwise = np.asarray(found["depthwise_conv2d"].kernel, "float64").reshape(9, 8, 2)
    separable = np.asarray(found["separable_conv2d"].depthwise_kernel, "float64")
    einsum = np.asarray(found["einsum_dense_1"].kernel, "float64")
    matrices = [*depthwise.transpose(1, 0, 2), *separable.reshape(9, 16, 2).transpose(1, 0, 2)]
    for w in [*matrices, *einsum]:
        gram = w.T @ w
        np.testing.assert_allclose(gram, gram[0, 0] * np.eye(2), atol=1e-5 * gram[0, 0])


def test_lsuv_reaches_the_tolerance_when_the_bias_has_variance(rng):
    model, x = (
        chain((40,), bias_initializer=keras.initializers.RandomNormal(stddev=0.5)),
        vectors(rng),
    )
    bias = numpy_weights(model)[1]
    report = initialize(model, x, **LSUV)
    assert all(abs(layer.after - 1) < 0.01 for layer in report.layers)
    np.testing.assert_array_equal(bias, numpy_weights(model)[1])


def test_lsuv_says_where_it_does_not_arrive(rng):
    model = chain((40,), bias_initializer=keras.initializers.RandomNormal(stddev=3.0))
    before = numpy_weights(model)
    report = initialize(model, vectors(rng), max_iterations=3, **LSUV)
    assert report.layers[0].note.endswith("after the last iteration: left as it was")
    assert report.layers[0].after == report.layers[0].before
    for old, new in zip(before, numpy_weights(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_krahenbuhl_within_layers_against_numpy(rng):
    """ELU keeps the second half away, so that channels can be looked at."""
    model, x = chain(activation="elu"), vectors(rng)
    report = initialize(model, x, batch_size=300, **KRAHENBUHL)
    assert report.note == "not rescaled between layers: it would change what the network computes"
    for z in linear_outputs(model, x):
        np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(z.var(axis=0), 1, rtol=1e-3)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_krahenbuhl_channels_of_every_kind_of_layer(data_format, rng):
    """Read back through a copy of each layer without its activation."""
    first = data_format == "channels_first"
    shape = (4, 8, 8) if first else (8, 8, 4)
    makers = [
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, data_format=data_format),
        lambda: layers.SeparableConv2D(6, 3, data_format=data_format),
        lambda: layers.Conv2DTranspose(5, 3, data_format=data_format),
        lambda: layers.Conv2D(6, 3, groups=2, data_format=data_format),
    ]
    if first and keras.backend.backend() == "tensorflow":
        makers = makers[:0]  # TensorFlow has no such kernels on the CPU
    makers += [
        lambda: layers.EinsumDense("abcd,dfg->abcgf", (*shape[:2], 5, 3), bias_axes="gf"),
        lambda: layers.EinsumDense("...d,de->...e", (6,), bias_axes="e"),
    ]
    x = rng.normal(size=(16, *shape)).astype("float32") * 3 + 1
    for make in makers:
        layer = make()
        model = keras.Sequential([layer])
        initialize(model, x, **KRAHENBUHL)
        z = ops.convert_to_numpy(layer(x)).astype("float64")
        if isinstance(layer, layers.EinsumDense):
            kept = (3, 4) if z.ndim == 5 else (3,)
        else:
            kept = (1,) if first else (3,)
        others = tuple(axis for axis in range(z.ndim) if axis not in kept)
        np.testing.assert_allclose(z.mean(axis=others), 0, atol=1e-4)
        np.testing.assert_allclose(z.var(axis=others), 1, rtol=1e-3)


def test_krahenbuhl_between_layers(rng, monkeypatch):
    """The function stays, and all layers learn at one speed: gradients written out in NumPy."""
    model, x = chain(), vectors(rng, 256)
    with monkeypatch.context() as patch:
        patch.setattr(_krahenbuhl, "_equalize", lambda *_: "")
        initialize(model, x, **KRAHENBUHL)
    start, within = gradient_speeds(model, x, rng), linear_outputs(model, x)[-1]
    report = initialize(model, x, **KRAHENBUHL)
    assert report.note == ""
    outputs = linear_outputs(model, x)
    np.testing.assert_allclose(outputs[-1], within, atol=1e-3)
    np.testing.assert_allclose(outputs[-1].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(outputs[-1].var(axis=0), 1, rtol=2e-3)
    speeds = gradient_speeds(model, x, rng)
    assert np.max(speeds) / np.min(speeds) < 1.25
    assert np.max(start) / np.min(start) > 1.8


def gradient_speeds(model, x, rng, draws=40):
    """‖∂ℓ/∂W_k‖/‖W_k‖ for ℓ = Σ ηᵀz by back-propagation."""
    outputs = linear_outputs(model, x)
    kernels = [ops.convert_to_numpy(layer.kernel).astype("float64") for layer in model.layers]
    inputs = [x, *[np.maximum(z, 0) for z in outputs[:-1]]]
    squares = np.zeros(len(kernels))
    for _ in range(draws):
        δ = rng.normal(size=outputs[-1].shape)
        for k in reversed(range(len(kernels))):
            squares[k] += np.sum((inputs[k].T @ δ) ** 2)
            if k:
                δ = (δ @ kernels[k].T) * (outputs[k - 1] > 0)
    return np.sqrt(squares / draws) / [np.linalg.norm(w) for w in kernels]


@pytest.mark.parametrize("how", [LSUV, KRAHENBUHL], ids=lambda how: how["method"])
def test_nothing_but_kernels_and_biases_changes(how, rng):
    model = images()
    model.layers[-1].layers[0].trainable = False
    x = rng.normal(size=(32, 10, 10, 3)).astype("float32")
    normalization = next(v for v in model.layers if isinstance(v, layers.BatchNormalization))
    normalization.moving_mean.assign(rng.normal(size=normalization.moving_mean.shape))
    kept = [*normalization.weights, *model.layers[-1].layers[0].weights]
    kept += [
        v for layer in model.layers if isinstance(layer, layers.Dropout) for v in layer.variables
    ]
    before = [ops.convert_to_numpy(variable).copy() for variable in kept]
    report = initialize(model, x, **how)
    for old, variable in zip(before, kept, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))
    assert report.layers[-2].note == "frozen: left as it was"
    assert all("call" not in vars(layer) for layer in model._flatten_layers())
    assert isinstance(model.layers[2].activation, layers.ReLU)


@pytest.mark.parametrize("how", [LSUV, KRAHENBUHL], ids=lambda how: how["method"])
def test_an_error_changes_nothing(how, rng):
    class Breaks(layers.Layer):
        calls = 0

        def call(self, inputs):
            self.calls += 1
            if self.calls > 2:
                raise RuntimeError("broken")
            return inputs

    model = chain()
    model = keras.Sequential([keras.Input((20,)), *model.layers[:-1], Breaks(), model.layers[-1]])
    before = numpy_weights(model)
    with pytest.raises(RuntimeError, match="broken"):
        initialize(model, vectors(rng), **how)
    for old, new in zip(before, numpy_weights(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all("call" not in vars(layer) for layer in model._flatten_layers())


def test_not_finite(rng):
    model, x = chain(), vectors(rng)
    x[0, 0] = np.nan
    before = numpy_weights(model)
    with pytest.raises(ValueError, match="finite") as error:
        initialize(model, x)
    assert "`data` must be inputs that give finite values at layer" in str(error.value)
    assert "Look for NaN, infinity or overflow in the data or the weights." in str(error.value)
    for old, new in zip(before, numpy_weights(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_dead_layers_are_said(rng):
    """A bias of −1000 behind ReLU leaves nothing to the layer after it."""
    model = keras.Sequential([
        keras.Input((20,)),
        layers.Dense(8, activation="relu", bias_initializer=keras.initializers.Constant(-1000.0)),
        layers.Dense(3, name="behind"),
    ])  # fmt: skip
    before = numpy_weights(model)[2]
    report = initialize(model, vectors(rng), **LSUV)
    assert report.layers[1].note == "no variance on this batch: left as it was"
    np.testing.assert_array_equal(before, numpy_weights(model)[2])


def test_dead_channels_are_said(rng):
    model, x = chain((6,)), vectors(rng)
    kernel = numpy_weights(model)[0]
    kernel[:, 2] = 0
    model.layers[0].kernel.assign(kernel)
    report = initialize(model, x, **KRAHENBUHL)
    assert report.layers[0].note == "1 of 6 channels have no variance"
    assert np.isfinite(numpy_weights(model)[0]).all()


def test_without_biases_krahenbuhl_only_scales(rng):
    model, x = chain(use_bias=False), vectors(rng)
    report = initialize(model, x, batch_size=300, **KRAHENBUHL)
    assert {line.note for line in report.layers} == {"no bias per channel: scaled, not centred"}
    np.testing.assert_allclose(linear_outputs(model, x)[-1].var(axis=0), 1, rtol=1e-3)


@pytest.mark.parametrize("how", [LSUV, KRAHENBUHL], ids=lambda how: how["method"])
def test_shared_layers_wrappers_and_branches(how, rng):
    inputs = {name: keras.Input((20,), name=name) for name in ("left", "right")}
    shared = layers.Dense(12, activation="relu", name="shared")
    wrapped = CenteredWeightNormalization(layers.Dense(6), name="wrapped")
    x = layers.Add()([shared(inputs["left"]), shared(inputs["right"])])
    model = keras.Model(inputs, [wrapped(x), layers.Dense(2, name="head")(x)])
    data = {"left": vectors(rng), "right": 2 * vectors(rng)}
    before = [ops.convert_to_numpy(weight).copy() for weight in wrapped.weights]
    lines = {line.name: line for line in initialize(model, data, **how).layers}
    assert set(lines) == {"shared", "wrapped/dense", "head"}
    assert lines["wrapped/dense"].note == "its kernel is computed by a wrapper: left as it was"
    assert lines["shared"].after == pytest.approx(1, abs=0.3)
    assert lines["head"].after == pytest.approx(1, abs=0.05)
    for old, weight in zip(before, wrapped.weights, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(weight))


def test_subclassed_unbuilt_and_unreached(rng):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.attention = layers.MultiHeadAttention(2, 4)
            self.head = layers.Dense(3)
            self.idle = layers.Dense(3, name="idle")
            self.idle.build((None, 5))

        def call(self, x, training=None):
            return self.head(self.attention(x, x))

    model = Model()
    report = initialize(model, rng.normal(size=(40, 6, 5)).astype("float32"), **LSUV)
    assert len(report.layers) == 6
    *reached, idle = report.layers
    assert all(line.after == pytest.approx(1, abs=1e-3) for line in reached)
    assert idle.note == "not reached by the data"
    assert math.isnan(idle.before)
    assert "nan ->" in str(report)


def test_kinds_of_data(rng):
    x = vectors(rng, 100)
    batches = [
        x,
        ops.convert_to_tensor(x),
        iter([(x, x[:, 0])]),
        iter([x]),
        Batches(x, workers=1),
    ]
    found = []
    for data in batches:
        keras.utils.set_random_seed(1)
        model = chain()
        initialize(model, data, **LSUV)
        found.append(numpy_weights(model))
    for weights in found[1:]:
        for one, other in zip(found[0], weights, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, **kwargs):
        super().__init__(**kwargs)
        self.x = x

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.x, self.x[:, 0]


@pytest.mark.tensorflow
def test_tf_data(rng):
    import tensorflow as tf

    x = vectors(rng, 64)
    dataset = tf.data.Dataset.from_tensor_slices((x, x[:, 0])).batch(32)
    report = initialize(chain(), dataset, **LSUV)
    assert report.layers[0].after == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("how", [LSUV, KRAHENBUHL], ids=lambda how: how["method"])
def test_dropout_and_noise_are_off(how, rng):
    x = vectors(rng)
    hidden = keras.Sequential([
        keras.Input((20,)), layers.Dense(50), layers.Dropout(0.9), layers.GaussianNoise(1.0)
    ])  # fmt: skip
    head = layers.Dense(4)
    report = initialize(keras.Sequential([hidden, head]), x, batch_size=300, **how)
    z = ops.convert_to_numpy(head(hidden(x, training=False)))
    assert report.layers[1].after == pytest.approx(z.var(), rel=1e-4)
    assert z.var() == pytest.approx(1, abs=0.01)


def test_sorted_data_are_seen_from_end_to_end(rng):
    x = np.repeat(np.arange(10.0), 100)[:, None] + rng.normal(size=(1000, 20)) / 100
    model = chain(())
    initialize(model, x, batch_size=50, **LSUV)
    assert linear_outputs(model, x)[0].var() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_full_weights(policy, rng):
    model = keras.Sequential([
        keras.Input((20,)),
        layers.Dense(30, activation="relu", dtype=policy),
        layers.Dense(4, dtype=policy),
    ])  # fmt: skip
    report = initialize(model, vectors(rng), **LSUV)
    assert all(line.after == pytest.approx(1, abs=0.02) for line in report.layers)
    kernel = ops.convert_to_numpy(model.layers[0].kernel)
    assert kernel.dtype == "float32"
    assert np.abs(kernel - kernel.astype("float16").astype("float32")).max() > 0


def test_the_same_seed_gives_the_same_weights(rng):
    x, found = vectors(rng), []
    for seed in (3, 3, 4, keras.random.SeedGenerator(3)):
        keras.utils.set_random_seed(1)
        model = chain()
        initialize(model, x, seed=seed)
        found.append(numpy_weights(model)[0])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[3])
    assert np.abs(found[0] - found[2]).max() > 0.01


def test_training_goes_on_from_the_new_weights(rng):
    model, x = chain(), vectors(rng)
    initialize(model, x, **LSUV)
    model.compile("sgd", loss="mse", jit_compile=False)
    expected = linear_outputs(model, x)[-1]
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-3, atol=1e-3)
    model.fit(x, expected, epochs=1, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"method": "magic"}, "`method` must be 'lsuv' or 'krahenbuhl'. Received: method='magic'"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer. Received: batch_size=0"),
        ({"max_iterations": 1.5}, "`max_iterations` must be a positive integer. Received:"),
        ({"tolerance": 0}, "`tolerance` must be in (0, 1). Received: tolerance=0. It bounds"),
        ({"data": [[1.0]]}, "`data` must be arrays or an iterable of batches. Received:"),
        ({"data": iter([])}, "`data` must be at least one batch. Received:"),
        ({"data": [np.ones((3, 2)), np.ones((4, 2))]}, "`data` must be arrays with the same"),
        ({"data": np.ones((0, 20))}, "`data` must be arrays with the same number of samples"),
        (
            {"model": keras.Sequential([keras.Input((20,)), layers.ReLU()])},
            "`model` must be a model with a Dense, EinsumDense or convolution layer",
        ),
    ],
)
def test_errors(arguments, text, rng):
    with pytest.raises(ValueError, match="must be") as error:
        initialize(**{"model": chain(), "data": vectors(rng)} | arguments)
    assert str(error.value).startswith(text)
