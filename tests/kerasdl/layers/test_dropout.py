"""Dropout: the notes' inverted form, with a random state that survives saving."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy

from kerasdl import Dropout


def test_inverted_form(rng):
    p = 0.3
    x = rng.normal(size=(500, 400)).astype("float32")
    y = convert_to_numpy(Dropout(p, seed=0)(x, training=True))
    kept = y != 0
    np.testing.assert_allclose(y[kept], (x / np.float32(1 - p))[kept], rtol=1e-6)
    share, standard_error = 1 - kept.mean(), np.sqrt(p * (1 - p) / x.size)
    assert abs(share - p) < 5 * standard_error


def test_identity_at_inference(rng):
    x = rng.normal(size=(5, 4)).astype("float32")
    np.testing.assert_array_equal(convert_to_numpy(Dropout(0.9)(x, training=False)), x)


def test_a_saved_model_draws_on_where_it_was(tmp_path):
    model = keras.Sequential([keras.Input((50,)), Dropout(0.5, seed=3)])
    x = np.ones((4, 50), "float32")
    first = convert_to_numpy(model(x, training=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    second = convert_to_numpy(model(x, training=True))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(convert_to_numpy(loaded(x, training=True)), second)


def test_rate_zero_is_saved_too(tmp_path):
    model = keras.Sequential([keras.Input((5,)), Dropout(0.0)])
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").layers[0].rate == 0


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "0.5"])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\)\. Received: rate="):
        Dropout(rate)


@pytest.mark.usefixtures("float64")
def test_classic_form(rng):
    """N0: the mask alone in training, the keep probability at test."""
    p = 0.3
    x = rng.normal(size=(500, 400))
    layer = Dropout(p, seed=0, mode="classic")
    y = convert_to_numpy(layer(x, training=True))
    kept = y != 0
    np.testing.assert_array_equal(y[kept], x[kept])
    share, standard_error = 1 - kept.mean(), np.sqrt(p * (1 - p) / x.size)
    assert abs(share - p) < 5 * standard_error
    np.testing.assert_allclose(convert_to_numpy(layer(x, training=False)), (1 - p) * x, rtol=1e-15)


def test_both_forms_drop_the_same_units(rng):
    x = rng.normal(size=(8, 6, 4)).astype("float32")
    for shape in (None, (None, 1, 4)):
        draws = [
            convert_to_numpy(Dropout(0.5, shape, seed=7, mode=mode)(x, training=True)) == 0
            for mode in ("inverted", "classic")
        ]
        np.testing.assert_array_equal(*draws)
    assert (draws[0] == draws[0][:, :1]).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_classic_in_mixed_precision(policy):
    layer = Dropout(0.25, mode="classic", dtype=policy)
    for training in (False, True):
        y = layer(np.ones((3, 2), "float32"), training=training)
        assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype


def test_classic_without_dropping_is_the_identity(rng):
    x = rng.normal(size=(3, 2)).astype("float32")
    for training in (False, True):
        y = Dropout(0.0, mode="classic")(x, training=training)
        np.testing.assert_array_equal(convert_to_numpy(y), x)


@pytest.mark.parametrize("mode", ["inverse", None, 1])
def test_bad_mode(mode):
    with pytest.raises(ValueError, match="mode") as error:
        Dropout(0.5, mode=mode)
    assert str(error.value) == (
        f"`mode` must be 'inverted' or 'classic'. Received: mode={mode!r}. "
        "Pass 'classic' to scale by the keep probability at inference."
    )
