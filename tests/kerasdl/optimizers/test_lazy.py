"""`lazy=True`: only the rows that a sparse gradient has are updated."""

import keras
import numpy as np
import pytest

import kerasdl
import references
from kerasdl.catalog import CATALOG
from kerasdl.optimizers._monitor import Monitor

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

OPTIMIZERS = [
    entry
    for entry in CATALOG
    if entry.kind == "optimizer"
    and "inner_optimizer" not in entry.arguments
    and entry.object is not kerasdl.ASGD
]
TOLERANCES = {"float64": 1e-12, "float32": 1e-6}
ROWS, WIDTH = 9, 3
ABSENT = 7

every_optimizer = pytest.mark.parametrize("entry", OPTIMIZERS, ids=lambda entry: entry.name)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCES)


def slices(indices, values, dtype, integers="int64"):
    values = tf.cast(tf.convert_to_tensor(values), dtype)
    shape = tf.constant((ROWS, *values.shape[1:]), integers)
    return tf.IndexedSlices(values, tf.convert_to_tensor(indices, integers), shape)


def dense(indices, values):
    gradient = np.zeros((ROWS, *values.shape[1:]))
    np.add.at(gradient, indices, values)
    return gradient


def batches(rng, steps=12, among=ABSENT, size=6):
    """Indices and values; rows repeat, and those from `among` on never come."""
    return [(rng.integers(0, among, size), rng.normal(size=(size, WIDTH))) for _ in range(steps)]


def table(rng, dtype, name="table", **arguments):
    return keras.Variable(rng.normal(size=(ROWS, WIDTH)), dtype=dtype, name=name, **arguments)


def wide(variable):
    return tf.cast(tf.convert_to_tensor(variable), "float64").numpy()


def state(optimizer, θ):
    """θ and the slots, but for those that all rows have in common."""
    names = [name for name in optimizer.slot_names if name not in optimizer.scalar_slots]
    return {"θ": wide(θ), **{name: optimizer.slot(name, θ) for name in names}}


def run(optimizer, θ, gradients):
    for gradient in gradients:
        optimizer.apply([gradient], [θ])
    return state(optimizer, θ)


def assert_close(got, expected, dtype):
    for name, value in expected.items():
        tolerance = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype]}
        np.testing.assert_allclose(got[name], value, err_msg=name, **tolerance)


# What is updated


@every_dtype
@every_optimizer
def test_with_all_rows_present_equal_to_the_dense_update(entry, dtype, rng):
    start = rng.normal(size=(ROWS, WIDTH))
    steps = []
    for _ in range(12):
        indices = rng.permutation([*range(ROWS), *rng.integers(0, ROWS, 4)])
        steps.append((indices, rng.normal(size=(len(indices), WIDTH))))
    lazy = {} if entry.object is kerasdl.SparseAdam else {"lazy": True}
    got = run(
        entry.object(**entry.arguments, **lazy),
        keras.Variable(start, dtype=dtype),
        [slices(*each, dtype) for each in steps],
    )
    expected = run(
        entry.object(**entry.arguments),
        keras.Variable(start, dtype=dtype),
        [tf.cast(dense(*each), dtype) for each in steps],
    )
    assert_close(got, expected, dtype)


@pytest.mark.parametrize(
    ("dtype", "compiled"),
    [("float64", None), ("float32", None), ("float32", False), ("float32", True)],
)
@every_optimizer
def test_absent_rows_rest_with_their_slots(entry, dtype, compiled, rng):
    θ = table(rng, dtype)
    lazy = {} if entry.object is kerasdl.SparseAdam else {"lazy": True}
    optimizer = entry.object(**entry.arguments, **lazy)
    # Slots that are no longer at their start, of all rows.
    run(optimizer, θ, [tf.cast(rng.normal(size=(ROWS, WIDTH)), dtype) for _ in range(2)])

    def apply(indices, values):
        optimizer.apply([slices(indices, values, dtype)], [θ])

    step = apply if compiled is None else tf.function(apply, jit_compile=compiled)
    for indices, values in batches(rng, steps=3):
        before = state(optimizer, θ)
        step(tf.constant(indices), tf.constant(values))
        absent = sorted({*range(ROWS)} - {*indices.tolist()})
        for name, value in state(optimizer, θ).items():
            np.testing.assert_array_equal(value[absent], before[name][absent], err_msg=name)
            if name == "θ":
                assert (value[indices] != before[name][indices]).any()


PER_ROW = [
    ("SGD", {"learning_rate": 0.125, "momentum": 0.8, "nesterov": True}),
    ("RMSprop", {"learning_rate": 0.125, "rho": 0.8, "centered": True, "momentum": 0.5}),
    ("Adagrad", {"learning_rate": 0.5, "weight_decay": 0.02}),
    ("Adadelta", {"learning_rate": 1.0, "rho": 0.8, "epsilon": 1e-3}),
    ("ProximalAdagrad", {"learning_rate": 0.25, "l1_regularization_strength": 0.05}),
    ("Ftrl", {"learning_rate": 0.5, "l1_regularization_strength": 0.1, "beta": 0.5}),
]


@every_dtype
@pytest.mark.parametrize(("name", "options"), PER_ROW, ids=[name for name, _ in PER_ROW])
def test_each_row_is_updated_as_by_the_formula_over_its_own_steps(name, options, dtype, rng):
    """Of rules that do not know the number of the step; Adam's is in test_sparse_adam.py."""
    reference = {key: function for key, function, _ in references.CASES}[name]
    steps = [(i, v.astype(dtype).astype("float64")) for i, v in batches(rng)]
    θ = table(rng, dtype)
    start = wide(θ)
    optimizer = getattr(kerasdl, name)(**options, lazy=True)
    got = run(optimizer, θ, [slices(*each, dtype) for each in steps])["θ"]
    options = dict(options)
    η = options.pop("learning_rate")
    for row in range(ROWS):
        own = [dense(*each)[row] for each in steps if row in each[0]]
        expected = reference(start[row], np.array(own), η, **options) if own else start[row]
        tolerance = 10 * TOLERANCES[dtype]
        np.testing.assert_allclose(got[row], expected, rtol=tolerance, atol=tolerance)


def test_the_number_of_the_update_is_common_to_all_rows(rng):
    """Rows that come in the updates 1 and 4, of Adamax, whose m̂ has t."""
    optimizer = kerasdl.Adamax(0.5, beta_1=0.5, beta_2=0.5, lazy=True)
    θ = keras.Variable(np.zeros((ROWS, 1)), dtype="float64")
    for row in (0, 1, 1, 0):
        optimizer.apply([slices([row], [[1.0]], "float64")], [θ])
    first, fourth = 0.5 * 0.5 / (1 - 0.5), 0.5 * 0.75 / (1 - 0.5**4)
    np.testing.assert_allclose(θ.numpy()[0], -(first + fourth), rtol=1e-7)


# Clipping

LIMITS = [
    {"clipnorm": 0.3},
    {"clipvalue": 0.2},
    {"global_clipnorm": 0.3},
    {"average_clipnorm": 0.02},
]


@every_dtype
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_clipping_is_that_of_the_dense_gradient(limit, lazy, dtype, rng):
    """With another, dense variable; ‖g‖/n counts the rows that are zero."""
    starts = rng.normal(size=(ROWS, WIDTH)), rng.normal(size=4)
    both = [[keras.Variable(start, dtype=dtype) for start in starts] for _ in range(2)]
    ours, reference = kerasdl.SGD(1.0, lazy=lazy, **limit), kerasdl.SGD(1.0, **limit)
    for indices, values in batches(rng):
        other = tf.cast(rng.normal(size=4), dtype)
        ours.apply([slices(indices, values, dtype), other], both[0])
        reference.apply([tf.cast(dense(indices, values), dtype), other], both[1])
    for a, b, start in zip(*both, starts, strict=True):
        tolerance = {"rtol": TOLERANCES[dtype], "atol": TOLERANCES[dtype]}
        np.testing.assert_allclose(wide(a), wide(b), **tolerance)
        assert (wide(a) != start).any()


@pytest.mark.parametrize("lazy", [False, True])
def test_average_norm_in_numbers(lazy):
    """‖g‖ = 5 over 27 elements; the limit is 1/27, so ‖g‖ becomes 1."""
    θ = keras.Variable(np.zeros((ROWS, WIDTH)), dtype="float64")
    optimizer = kerasdl.SGD(1.0, average_clipnorm=1 / (ROWS * WIDTH), lazy=lazy)
    optimizer.apply([slices([4, 4], [[1.0, 0.0, 4.0], [2.0, 0.0, 0.0]], "float64")], [θ])
    np.testing.assert_allclose(θ.numpy()[4], [-0.6, 0.0, -0.8], rtol=1e-12)


# Everything else that belongs to an update


def test_noise_is_added_to_present_rows_only(rng):
    θ = table(rng, "float32")
    before = wide(θ)
    optimizer = kerasdl.SGD(1.0, gradient_noise=1.0, seed=3, lazy=True)
    optimizer.apply([slices([5, 2, 5], np.zeros((3, WIDTH)), "float32")], [θ])
    moved = wide(θ) != before
    assert moved[[2, 5]].all()
    assert not np.delete(moved, [2, 5], axis=0).any()


def test_rows_that_repeat_bring_no_noise_of_their_own():
    """Where the rule takes the norm: of the noise of one row, however often it comes."""
    noise = {"gradient_noise": 1.0, "seed": 1, "lazy": True}
    for times in (1, 6):
        θ, plain = (keras.Variable(np.zeros((ROWS, 1)), dtype="float64") for _ in range(2))
        gradient = slices([4] * times, np.full((times, 1), 1 / times), "float64")
        kerasdl.GradientControlledSGD(1.0, c=1.0, **noise).apply([gradient], [θ])
        kerasdl.SGD(1.0, **noise).apply([gradient], [plain])
        g = -plain.numpy()[4, 0]
        assert -θ.numpy()[4, 0] == pytest.approx(g / (1 + np.sqrt(abs(g))), rel=1e-12)


def test_decay_shrinks_present_rows_only(rng):
    θ = table(rng, "float64")
    before = wide(θ)
    optimizer = kerasdl.SGD(0.5, weight_decay=0.5, lazy=True)
    optimizer.apply([slices([5, 2, 5], np.zeros((3, WIDTH)), "float64")], [θ])
    before[[2, 5]] *= 0.75
    np.testing.assert_allclose(wide(θ), before, rtol=1e-12)


def test_the_constraint_holds_for_the_table(rng):
    θ, lazy = table(rng, "float32"), table(rng, "float32")
    lazy.assign(θ)
    for variable in (θ, lazy):
        variable.constraint = keras.constraints.MaxNorm(0.5, axis=1)
    indices, values = np.array([5, 2, 5]), rng.normal(size=(3, WIDTH))
    kerasdl.SGD(0.5, lazy=True).apply([slices(indices, values, "float32")], [lazy])
    kerasdl.SGD(0.5).apply([tf.cast(dense(indices, values), "float32")], [θ])
    np.testing.assert_allclose(wide(lazy), wide(θ), rtol=1e-6)
    assert np.linalg.norm(wide(lazy), axis=1).max() < 0.5001


def test_a_step_that_is_left_out_leaves_the_constraint_out():
    θ = keras.Variable(-np.ones((ROWS, WIDTH)), dtype="float32")
    θ.constraint = keras.constraints.NonNeg()
    optimizer = kerasdl.SGD(lazy=True, nonfinite="skip")
    optimizer.build([θ])

    @tf.function
    def apply(values):
        optimizer.apply([slices([1], values, "float32")], [θ])

    apply(tf.fill((1, WIDTH), np.nan))
    np.testing.assert_array_equal(wide(θ), -1.0)
    apply(tf.ones((1, WIDTH)))
    np.testing.assert_array_equal(wide(θ), 0.0)


def test_a_table_of_one_number_may_repeat_it():
    """Nadam has a slot of one number too, which has no rows."""
    results = []
    for indices in ([0], [0, 0]):
        θ = keras.Variable(np.zeros(1), dtype="float64")
        optimizer = kerasdl.Nadam(0.1, lazy=True)
        for _ in range(3):
            values = tf.fill((len(indices),), tf.constant(1 / len(indices), "float64"))
            optimizer.apply([tf.IndexedSlices(values, tf.constant(indices), (1,))], [θ])
        results.append(θ.numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)


def test_rows_that_repeat_are_measured_once():
    """The callback's ratio ‖Δθ‖/‖θ‖, over the rows that the gradient has."""
    ratios = []
    for indices in ([5, 2], [5, 2, 5, 5]):
        θ = keras.Variable(np.arange(1.0, ROWS + 1)[:, None], dtype="float32")
        optimizer = kerasdl.SGD(0.5, momentum=0.9, lazy=True)
        optimizer.apply([tf.ones((ROWS, 1))], [θ])
        optimizer.set_monitor(Monitor([θ], 1))
        values = [[1 / indices.count(index)] for index in indices]
        optimizer.apply([slices(indices, values, "float32")], [θ])
        ratios.append(optimizer._update.monitor.means()[1])
    np.testing.assert_allclose(*ratios, rtol=1e-6)


def test_a_gradient_that_is_not_finite_names_the_table(rng):
    variables = [table(rng, "float32", name="other"), table(rng, "float32")]
    before = [wide(v) for v in variables]
    gradients = [slices([5, 2], value, "float32") for value in (np.ones((2, 1)), [[1.0], [np.nan]])]
    gradients = [
        tf.IndexedSlices(tf.repeat(g.values, WIDTH, 1), g.indices, (ROWS, WIDTH)) for g in gradients
    ]
    optimizer = kerasdl.SGD(lazy=True)
    with pytest.raises(FloatingPointError, match="for `table` in step 1"):
        optimizer.apply(gradients, variables)
    kerasdl.SGD(lazy=True, nonfinite="skip").apply(gradients, variables)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(wide(variable), value)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_short_floats_keep_by_row_what_they_cannot_hold(dtype):
    θ = keras.Variable(np.ones((ROWS, WIDTH)), dtype=dtype)
    optimizer = kerasdl.SGD(2.0**-13, lazy=True)
    for step in range(256):
        indices = [1, 4] if step % 2 else [4, 4]
        optimizer.apply([slices(indices, np.ones((2, WIDTH)), dtype)], [θ])
    expected = np.ones((ROWS, WIDTH))
    expected[1] -= 128 * 2.0**-13
    expected[4] -= 384 * 2.0**-13
    resolution = {"bfloat16": 2.0**-9, "float16": 2.0**-12}[dtype]
    np.testing.assert_allclose(wide(θ), expected, atol=resolution, rtol=0)
    np.testing.assert_array_equal(wide(θ)[0], 1.0)


@pytest.mark.parametrize("compiled", [None, True])
@every_optimizer
def test_a_gradient_without_rows_changes_nothing(entry, compiled, rng):
    θ = table(rng, "float32")
    lazy = {} if entry.object is kerasdl.SparseAdam else {"lazy": True}
    optimizer = entry.object(**entry.arguments, **lazy, clipnorm=1.0, gradient_noise=0.1, seed=1)
    run(optimizer, θ, [slices([1], np.ones((1, WIDTH)), "float32")])
    before = state(optimizer, θ)

    def apply():
        optimizer.apply([slices([], np.zeros((0, WIDTH)), "float32")], [θ])

    (apply if compiled is None else tf.function(apply, jit_compile=compiled))()
    for name, value in state(optimizer, θ).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert int(optimizer.iterations) == 2


def test_indices_of_32_and_64_bits_are_the_same(rng):
    start, steps = rng.normal(size=(ROWS, WIDTH)), batches(rng)
    results = [
        run(
            kerasdl.Adam(0.1, lazy=True),
            keras.Variable(start),
            [slices(*each, "float32", integers) for each in steps],
        )
        for integers in ("int32", "int64")
    ]
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name])


def test_slots_are_copies_of_the_table_shape(rng):
    θ = table(rng, "float32")
    optimizer = kerasdl.Adam(0.1, lazy=True)
    run(optimizer, θ, [slices([5, 2, 5], np.ones((3, WIDTH)), "float32")])
    expected = np.zeros((ROWS, WIDTH))
    expected[2], expected[5] = 0.1, 0.2
    np.testing.assert_allclose(optimizer.slot("m", θ), expected, rtol=1e-6)


# In `fit`


def make_model(optimizer, **arguments):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Embedding(50, 4, name="words"), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((2,), dtype="int32"), *layers, keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse", **arguments)
    return model


@pytest.mark.parametrize(
    "name",
    [
        "Adam",
        pytest.param("Ftrl", marks=pytest.mark.slow),
        pytest.param("GradientControlledSGD", marks=pytest.mark.slow),
    ],
)
def test_in_fit_compiled_or_not(name, rng):
    x, y = rng.integers(0, 10, size=(32, 2)), rng.normal(size=(32, 1))
    results = []
    for jit_compile in (False, True):
        optimizer = getattr(kerasdl, name)(0.05, lazy=True, global_clipnorm=1.0)
        model = make_model(optimizer, jit_compile=jit_compile)
        before = model.get_weights()[0]
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        after = model.get_weights()
        np.testing.assert_array_equal(after[0][10:], before[10:])
        assert (after[0][:10] != before[:10]).all()
        results.append(after)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
