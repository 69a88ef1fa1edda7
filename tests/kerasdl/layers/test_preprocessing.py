"""Standardization, PCA and whitening against NumPy on all the data at once."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.ops import convert_to_numpy

from kerasdl import PCA, Standardization, Whitening
from kerasdl.catalog import CATALOG, REGISTERED, SERIALIZED
from kerasdl.layers._moments import Moments

ENTRIES = [entry for entry in CATALOG if entry.kind in REGISTERED - SERIALIZED]
LAYERS = [
    lambda: Standardization(),
    lambda: PCA(2),
    lambda: Whitening("pca"),
    lambda: Whitening("zca", epsilon=0.1),
]
each_layer = pytest.mark.parametrize("make", LAYERS)


def correlated(rng, n=60, features=4):
    mixing = rng.normal(size=(features, features))
    return rng.normal(size=(n, features)) @ mixing + 10 * rng.normal(size=features)


def reference(layer, x):
    """Return the function that the layer computes, fitted to the rows of `x`."""
    μ = x.mean(0)
    if isinstance(layer, Standardization):
        return lambda z: (z - μ) / x.std(0)
    λ, V = np.linalg.eigh(np.cov(x.T))
    λ, V = λ[::-1], V[:, ::-1]
    V = V * np.sign(V[np.abs(V).argmax(0), range(V.shape[1])])
    if isinstance(layer, PCA):
        return lambda z: (z - μ) @ V[:, : layer.components]
    W = V / np.sqrt(λ + layer.epsilon)
    W = W @ V.T if layer.method == "zca" else W
    return lambda z: (z - μ) @ W


@each_layer
@pytest.mark.usefixtures("float64")
def test_values(make, rng):
    x, z = correlated(rng), rng.normal(size=(7, 4))
    layer = make()
    layer.adapt(x)
    np.testing.assert_allclose(convert_to_numpy(layer(z)), reference(layer, x)(z), rtol=1e-10)


@each_layer
@pytest.mark.usefixtures("float64")
def test_every_kind_of_data_gives_the_same(make, rng, monkeypatch):
    import tensorflow as tf

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return x[16 * index : 16 * index + 16], np.zeros(16)

    monkeypatch.setattr("kerasdl.layers._adaptable.ELEMENTS", 40)
    x, z = correlated(rng), rng.normal(size=(7, 4))
    expected = reference(make(), x)(z)
    for data in (
        x,
        tf.constant(x),
        tf.data.Dataset.from_tensor_slices((x, np.zeros(60))).batch(7),
        Batches(),
        (x[i : i + 9] for i in range(0, 60, 9)),
        iter([x[:1], x[1:1], x[1:50], x[50:]]),
    ):
        layer = make()
        layer.adapt(data)
        np.testing.assert_allclose(convert_to_numpy(layer(z)), expected, rtol=1e-10)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 39), max_size=6), st.booleans())
def test_moments_do_not_depend_on_the_batches(seed, cuts, diagonal):
    """Also where the mean is 10⁸ times the spread, and the naive sum of squares has no digit."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 3)) * [1.0, 1e-3, 1e4] + [1e8, 0.0, -1e6]
    moments = Moments(3, diagonal)
    for rows in np.split(x, sorted(set(cuts))):
        moments.add(rows)
    covariance = np.cov(x.T, ddof=0) * 40
    expected = np.diag(covariance) if diagonal else covariance
    spread = np.sqrt(np.outer(x.var(0), x.var(0))) * 40
    scale = np.diag(spread) if diagonal else spread
    assert moments.count == 40
    np.testing.assert_allclose(moments.mean, x.mean(0), rtol=1e-14, atol=1e-14)
    assert np.all(np.abs(moments.scatter - expected) < 1e-6 * scale)
    np.testing.assert_array_equal(moments.smallest, x.min(0))
    np.testing.assert_array_equal(moments.largest, x.max(0))


@each_layer
@pytest.mark.usefixtures("float64")
def test_images_and_sequences_count_their_positions(make, rng):
    x = correlated(rng, 4 * 3 * 5).reshape(4, 3, 5, 4)
    layer, rows = make(), make()
    layer.adapt(x)
    rows.adapt(x.reshape(-1, 4))
    y = convert_to_numpy(layer(x))
    assert y.shape == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(
        y.reshape(60, -1), convert_to_numpy(rows(x.reshape(60, 4))), rtol=1e-12
    )


@each_layer
@pytest.mark.usefixtures("float64")
def test_adapting_again_starts_anew(make, rng):
    x, z = correlated(rng), correlated(rng)
    twice, once = make(), make()
    twice.adapt(x)
    twice.adapt(z)
    once.adapt(z)
    for a, b in zip(twice.get_weights(), once.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("float64")
def test_whitened_data_are_white(rng):
    x = correlated(rng, 200)
    for method in ("pca", "zca"):
        layer = Whitening(method, epsilon=0.0)
        layer.adapt(x)
        y = convert_to_numpy(layer(x))
        np.testing.assert_allclose(np.cov(y.T), np.eye(4), atol=1e-10)
        np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)
    matrix = convert_to_numpy(layer.matrix)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > 0


@pytest.mark.usefixtures("float64")
def test_explained_variance(rng):
    x = correlated(rng)
    layer = PCA(4)
    layer.adapt(x)
    y = convert_to_numpy(layer(x))
    λ = convert_to_numpy(layer.explained_variance)
    np.testing.assert_allclose(np.cov(y.T), np.diag(λ), atol=1e-10)
    assert (np.diff(λ) < 0).all()
    assert λ.sum() == pytest.approx(x.var(0, ddof=1).sum(), rel=1e-12)


@pytest.mark.usefixtures("float64")
def test_signs_do_not_hang_on_rounding(rng):
    """The two entries of (1, −1)/√2 are equally large: which one is larger is chance."""
    u = rng.normal(size=(50, 1))
    for _ in range(20):
        layer = PCA(1)
        layer.adapt(np.hstack([u, -u]) + 1e-9 * rng.normal(size=(50, 2)))
        assert layer.directions.numpy()[0, 0] > 0


@pytest.mark.filterwarnings("ignore:.*are constant")
@pytest.mark.usefixtures("float64")
def test_constant_features_keep_their_scale(rng):
    x = np.insert(rng.normal(size=(50, 2)), [0, 1], 0.1, axis=1)
    z = x[:3] + 1.0
    for layer in (Standardization(), Whitening("zca", epsilon=0.0)):
        with pytest.warns(UserWarning, match=r"the features \[0, 2\] are constant in the data"):
            layer.adapt(x)
        y = convert_to_numpy(layer(z))
        np.testing.assert_allclose(y[:, [0, 2]], 1.0, rtol=1e-10)
        assert np.isfinite(y).all()
    layer = PCA(2)
    with pytest.warns(UserWarning, match=r"the features \[0, 2\] are constant"):
        layer.adapt(x)
    np.testing.assert_array_equal(layer.directions.numpy()[[0, 2]], 0)


@pytest.mark.filterwarnings("ignore:.*are constant")
@pytest.mark.usefixtures("float64")
def test_all_features_constant():
    for make in LAYERS:
        layer = make()
        layer.adapt(np.full((9, 4), 3.0))
        assert np.isfinite(convert_to_numpy(layer(np.full((1, 4), 5.0)))).all()


@pytest.mark.usefixtures("float64")
def test_dependent_features(rng):
    x = rng.normal(size=(50, 3))
    x = np.hstack([x, x[:, :1] + x[:, 1:2]])
    layer = Whitening(epsilon=0.0)
    with pytest.warns(UserWarning, match="1 directions have no variance beyond rounding"):
        layer.adapt(x)
    y = convert_to_numpy(layer(x))
    np.testing.assert_allclose(np.cov(y.T), np.diag([1, 1, 1, 0]), atol=1e-10)


@each_layer
def test_before_adapt(make):
    layer = make()
    model = keras.Sequential([keras.Input((4,)), layer])
    text = (
        f"The layer `{layer.name}` has seen no data. Call its `adapt(data)` on the training "
        "inputs first, or load weights that were adapted."
    )
    x = np.ones((9, 4), "float32")
    predict = lambda x: model.predict(x, verbose=0)  # noqa: E731
    uses = [layer, model]
    if keras.backend.backend() == "jax":
        # A compiled step of JAX knows the values of the weights only while it runs.
        assert np.isnan(predict(x)).all()
    else:
        uses.append(predict)
    for use in uses:
        with pytest.raises(RuntimeError, match="has seen no data") as error:
            use(x)
        assert text in str(error.value)


@each_layer
def test_saved_loaded_and_copied(make, rng, tmp_path):
    x = correlated(rng).astype("float32")
    model = keras.Sequential([keras.Input((4,)), make(), keras.layers.Dense(1)])
    model.layers[0].adapt(x)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    weights = keras.models.clone_model(model)
    model.save_weights(tmp_path / "model.weights.h5")
    weights.load_weights(tmp_path / "model.weights.h5")
    for other in (loaded, copied, weights):
        np.testing.assert_array_equal(other.predict(x, verbose=0), expected)
    model.save(tmp_path / "again.keras")
    fresh = keras.Sequential([keras.Input((4,)), make()])
    fresh.save(tmp_path / "fresh.keras")
    with pytest.raises(RuntimeError, match="has seen no data"):
        keras.models.load_model(tmp_path / "fresh.keras")(x)


@each_layer
def test_training_leaves_them_alone(make, rng):
    x = correlated(rng).astype("float32")
    model = keras.Sequential([keras.Input((4,)), make(), keras.layers.Dense(1)])
    model.layers[0].adapt(x)
    before = model.layers[0].get_weights()
    model.compile("sgd", loss="mse", jit_compile=False)
    model.fit(x, x[:, :1], verbose=0)
    for old, new in zip(before, model.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.layers[0].trainable_weights == []


@each_layer
def test_mixed_precision_computes_in_float32(make, rng):
    """In float16 the means alone would lose the data."""
    x = (correlated(rng) / 10 + 3000).astype("float32")
    half, full = make(), make()
    half = type(half).from_config({**half.get_config(), "dtype": "mixed_float16"})
    for layer in (half, full):
        layer.adapt(x)
    y = half(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    np.testing.assert_allclose(convert_to_numpy(y), convert_to_numpy(full(x)), rtol=2e-3, atol=2e-3)


def test_integers_are_numbers():
    layer = Standardization()
    layer.adapt(np.array([[0, 10], [2, 30]], "uint8"))
    y = convert_to_numpy(layer(np.array([[2, 10]], "int32")))
    assert y.tolist() == [[1.0, -1.0]]


def failing(make, data, text):
    """Fail on a new layer, or on one that keeps its weights."""
    layer = make if isinstance(make, keras.layers.Layer) else make()
    before = layer.get_weights()
    with pytest.raises(ValueError, match="data") as error:
        layer.adapt(data)
    assert str(error.value) == text
    for old, new in zip(before, layer.get_weights() if before else [], strict=True):
        np.testing.assert_array_equal(old, new)


@each_layer
def test_bad_data(make, rng):
    good = correlated(rng)
    shape = "`data` must be batches of shape (samples, ..., features). Received: data="
    advice = "Give single features an axis of their own, and batch a dataset."
    failing(make, np.ones(5), f"{shape}'a batch of shape (5,)'. {advice}")
    failing(make, np.ones((5, 0)), f"{shape}'a batch of shape (5, 0)'. {advice}")
    empty = "`data` must be at least one sample. Received: data="
    failing(make, np.ones((0, 4)), f"{empty}'an array of shape (0, 4)'. Pass the training inputs.")
    for bad in (np.nan, np.inf):
        data = good.copy()
        data[17, 2] = bad
        text = (
            "`data` must be finite numbers. Received: data='NaN or infinity'. "
            "Remove or fill the missing values first."
        )
        failing(make, data, text)
        layer = make()
        layer.adapt(good)
        failing(layer, iter([good, data]), text)
    with pytest.raises(ValueError, match="must be finite numbers. Received: data='dtype <U1'"):
        make().adapt(np.full((3, 2), "a"))
    with pytest.raises(ValueError, match="`data` must be at least one sample"):
        make().adapt(iter([]))
    with pytest.raises(ValueError, match="`data` must be arrays or an iterable of batches"):
        make().adapt(5)
    with pytest.raises(ValueError, match="`data` must be arrays with the same number"):
        make().adapt([good, good[:3]])


@each_layer
def test_size_that_changes_between_batches(make, rng):
    layer = make()
    text = (
        "`data` must be batches with 4 features on the last axis. Received: "
        f"data='a batch of shape (6, 5)'. The layer `{layer.name}` was built for them."
    )
    x = correlated(rng)
    with pytest.raises(ValueError, match="features on the last axis") as error:
        layer.adapt(iter([x, np.ones((6, 5))]))
    assert str(error.value) == text
    with pytest.raises(RuntimeError, match="has seen no data"):
        layer(x)
    failing(
        make,
        iter([x, np.ones((6, 2, 4))]),
        "`data` must be batches with as many axes as the first one, 2. Received: "
        "data='a batch of shape (6, 2, 4)'. Let only the sizes of the middle axes change.",
    )


def test_too_few_samples():
    failing(
        lambda: PCA(3),
        np.arange(12.0).reshape(3, 4),
        "`data` must be more than 3 samples. Received: data=3. Fewer samples span no 3 directions.",
    )
    failing(
        lambda: Whitening(),
        np.arange(16.0).reshape(4, 4),
        "`data` must be more than 4 samples. Received: data=4. Fewer samples than features have "
        "no full covariance; reduce with PCA first.",
    )


def test_bad_arguments():
    for components in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match="`components` must be a positive integer. Received"):
            PCA(components)
    with pytest.raises(ValueError, match="`components` must be at most the 4 features of the"):
        PCA(5).adapt(np.ones((9, 4)))
    with pytest.raises(ValueError, match="`method` must be 'pca' or 'zca'. Received: method='svd'"):
        Whitening("svd")
    for epsilon in (-1e-9, float("nan"), "0"):
        with pytest.raises(ValueError, match="`epsilon` must be 0 or a positive number. Received"):
            Whitening(epsilon=epsilon)
    with pytest.raises(ValueError, match="with a known number of features. Received"):
        Standardization().build((None, None))


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_configuration_round_trip(entry):
    """The layers that the contract tests cannot put between two Dense layers."""
    made = entry.object(**entry.arguments)
    config = made.get_config()
    again = type(made).from_config(config)
    assert again.get_config() == config
    assert set(entry.arguments) <= set(config)
    serialized = keras.saving.serialize_keras_object(made)
    assert type(keras.saving.deserialize_keras_object(serialized)) is entry.object
    assert keras.saving.get_registered_name(entry.object) == f"kerasdl>{entry.name}"


def test_a_big_generator_is_never_held(rng):
    """Batches are asked for one at a time, and only once."""
    alive = []

    def batches():
        for _ in itertools.repeat(None, 20):
            alive.append(True)
            yield rng.normal(size=(32, 4))

    layer = PCA(1)
    layer.adapt(batches())
    assert len(alive) == 20
    assert int(layer.count.numpy()) == 640
