"""Clipped: any optimizer, with its gradients clipped."""

import keras
import numpy as np
import pytest
from keras import ops

import kerasdl
from references import descend

INNER = {
    "keras SGD": lambda **more: keras.optimizers.SGD(0.125, momentum=0.5, **more),
    "keras Adam": lambda **more: keras.optimizers.Adam(0.125, **more),
    "kerasdl SGD": lambda **more: kerasdl.SGD(0.125, momentum=0.5, **more),
    "kerasdl Adam": lambda **more: kerasdl.Adam(0.125, **more),
}
LIMITS = [
    {"clipnorm": 0.75},
    {"clipvalue": 0.5},
    {"global_clipnorm": 1.5},
    {"average_clipnorm": 0.25},
]
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}
SHAPES = [(3, 2), (4,), ()]
every_inner = pytest.mark.parametrize("make", INNER.values(), ids=INNER)
every_limit = pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: next(iter(limit)))


def clipped(gradients, clipnorm=None, clipvalue=None, global_clipnorm=None, average_clipnorm=None):
    norms = [np.linalg.norm(g) for g in gradients]
    if clipvalue is not None:
        return [np.clip(g, -clipvalue, clipvalue) for g in gradients]
    if clipnorm is not None:
        return [g * min(1, clipnorm / n) for g, n in zip(gradients, norms, strict=True)]
    if global_clipnorm is not None:
        return [g * min(1, global_clipnorm / np.linalg.norm(norms)) for g in gradients]
    pairs = zip(gradients, norms, strict=True)
    return [g * min(1, average_clipnorm / (n / g.size)) for g, n in pairs]


def random_gradients(rng, steps=40):
    """Of sizes from far below the limits to far above."""
    scales = 10 ** rng.uniform(-2, 1, size=steps)
    return [[np.asarray(scale * rng.normal(size=s)) for s in SHAPES] for scale in scales]


def trained(optimizer, starts, steps, dtype):
    variables = [keras.Variable(start, dtype=dtype) for start in starts]
    descend(optimizer, variables, steps)
    return [variable.numpy() for variable in variables]


def check(got, expected, dtype):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


@pytest.mark.usefixtures("has_float64")
@every_inner
@every_limit
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_is_the_inner_optimizer_with_clipped_gradients(rng, make, limit, dtype):
    starts, steps = [np.asarray(rng.normal(size=s)) for s in SHAPES], random_gradients(rng)
    got = trained(kerasdl.Clipped(make(), **limit), starts, steps, dtype)
    by_hand = [clipped(gradients, **limit) for gradients in steps]
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(steps, by_hand, strict=True))
    assert any(np.array_equal(a[0], b[0]) for a, b in zip(steps, by_hand, strict=True))
    check(got, trained(make(), starts, by_hand, dtype), dtype)


@every_inner
@every_limit
def test_clips_after_accumulating_and_unscaling(rng, make, limit):
    starts, steps = [np.asarray(rng.normal(size=s)) for s in SHAPES], random_gradients(rng)
    pairs = zip(steps[::2], steps[1::2], strict=True)
    means = [[(a + b) / 2 for a, b in zip(*pair, strict=True)] for pair in pairs]
    inner = make(gradient_accumulation_steps=2, loss_scale_factor=8.0)
    scaled = [[8 * g for g in gradients] for gradients in steps]
    got = trained(kerasdl.Clipped(inner, **limit), starts, scaled, "float32")
    by_hand = [clipped(gradients, **limit) for gradients in means]
    check(got, trained(make(), starts, by_hand, "float32"), "float32")


@pytest.mark.tensorflow
@every_inner
@every_limit
def test_rows_with_equal_indices_are_summed_first(rng, make, limit):
    import tensorflow as tf

    values, rows = rng.normal(size=(20, 4, 2)), rng.integers(0, 3, size=(20, 4))
    dense = np.zeros((20, 3, 2))
    for step in range(20):
        np.add.at(dense[step], rows[step], values[step])
    θ = keras.Variable(np.ones((3, 2)), dtype="float64")
    optimizer = kerasdl.Clipped(make(), **limit)
    for v, r in zip(values, rows, strict=True):
        sparse = tf.IndexedSlices(tf.constant(v), tf.constant(r), tf.constant([3, 2]))
        optimizer.apply([sparse], [θ])
    by_hand = [clipped([gradient], **limit) for gradient in dense]
    check([θ.numpy()], trained(make(), [np.ones((3, 2))], by_hand, "float64"), "float64")


@pytest.mark.compiled
@every_inner
@pytest.mark.parametrize("arguments", [{"jit_compile": True}, {"run_eagerly": True}])
def test_compiled_or_not_is_the_same(rng, make, arguments):
    x = rng.normal(size=(64, 3)).astype("float32")
    weights = []
    for kind in (arguments, {"jit_compile": False}):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
        model.compile(kerasdl.Clipped(make(), global_clipnorm=0.25), loss="mse", **kind)
        model.fit(x, 9 * x[:, :1], batch_size=8, shuffle=False, verbose=0)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(*weights, rtol=1e-4, atol=1e-5)


@every_inner
def test_resumes_bitwise(rng, make, tmp_path):
    x = rng.normal(size=(24, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(kerasdl.Clipped(make(), clipnorm=0.25), loss="mse", jit_compile=False)
    model.fit(x, 9 * x[:, :1], batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(x, 9 * x[:, :1], batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = zip(model.optimizer.variables, loaded.optimizer.variables, strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_reaches_the_innermost_optimizer():
    for wrap in (
        lambda: kerasdl.Clipped(kerasdl.Lookahead(keras.optimizers.SGD(1.0)), clipvalue=0.5),
        lambda: kerasdl.Lookahead(kerasdl.Clipped(keras.optimizers.SGD(1.0), clipvalue=0.5)),
    ):
        θ = keras.Variable(0.0)
        wrap().apply([ops.array(-8.0)], [θ])
        assert float(θ.numpy()) == 0.5


def test_two_limits_are_refused_wherever_they_stand():
    text = "`clipnorm` must be None in the inner optimizer of Clipped. Received: clipnorm=1.0. "
    inner = [
        keras.optimizers.SGD(clipnorm=1.0),
        kerasdl.SGD(clipnorm=1.0),
        kerasdl.Clipped("sgd", clipnorm=1.0),
        kerasdl.Lookahead(keras.optimizers.SGD(clipnorm=1.0)),
        keras.optimizers.LossScaleOptimizer(kerasdl.Clipped("sgd", clipnorm=1.0)),
    ]
    for each in inner:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            kerasdl.Clipped(each, clipvalue=1.0)
        assert str(error.value).startswith(text)
    with pytest.raises(ValueError, match="average_clipnorm"):
        kerasdl.Clipped(kerasdl.SGD(average_clipnorm=1.0), clipvalue=1.0)


def test_the_callback_and_the_wrapper_exclude_each_other(rng):
    x = rng.normal(size=(8, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(kerasdl.Clipped("sgd", clipnorm=1.0), loss="mse", run_eagerly=True)
    with pytest.raises(ValueError, match="without GradientClipping when the optimizer is Clipped"):
        model.fit(x, x[:, :1], verbose=0, callbacks=[kerasdl.GradientClipping(norm=1.0)])
    # On JAX an error in a step takes the values of the model with it.
    if keras.backend.backend() != "jax":
        model.fit(x, x[:, :1], verbose=0)


def test_several_optimizers_at_once_are_refused():
    optimizers = keras.optimizers.OptimizerMap(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="`inner_optimizer` must be a single optimizer"):
        kerasdl.Clipped(keras.optimizers.MultiOptimizer(optimizers), clipnorm=1.0)


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ({}, "must be exactly one limit. Received: "),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, "must be exactly one limit. Received: "),
        ({"clipnorm": 0.0}, "`clipnorm` must be positive. Received: clipnorm=0.0. "),
        ({"clipvalue": "1"}, "`clipvalue` must be positive. Received: clipvalue='1'. "),
        (
            {"clipnorm": 1.0, "weight_decay": 0.1},
            "`weight_decay` must be left out of Clipped. Received: weight_decay=0.1. ",
        ),
    ],
)
def test_rejected_arguments(arguments, start):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kerasdl.Clipped("sgd", **arguments)
    assert start in str(error.value)
