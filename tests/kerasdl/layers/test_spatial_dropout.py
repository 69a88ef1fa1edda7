"""Spatial dropout: whole feature maps, and what saving keeps."""

import keras
import numpy as np
import pytest
from keras.ops import convert_to_numpy

from kerasdl import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D

KINDS = [
    (SpatialDropout1D, {}, (40, 5, 30), (1,)),
    (SpatialDropout2D, {"data_format": "channels_last"}, (40, 3, 4, 30), (1, 2)),
    (SpatialDropout2D, {"data_format": "channels_first"}, (40, 30, 3, 4), (2, 3)),
    (SpatialDropout3D, {"data_format": "channels_last"}, (40, 2, 3, 2, 30), (1, 2, 3)),
    (SpatialDropout3D, {"data_format": "channels_first"}, (40, 30, 2, 3, 2), (2, 3, 4)),
]
kinds = pytest.mark.parametrize(("kind", "options", "shape", "positions"), KINDS)


@kinds
@pytest.mark.usefixtures("float64")
def test_whole_maps_are_dropped(kind, options, shape, positions, rng):
    p = 0.4
    x = rng.uniform(1, 2, size=shape)
    layer = kind(p, seed=1, **options)
    y = convert_to_numpy(layer(x, training=True))
    kept = np.all(y != 0, axis=positions)
    np.testing.assert_array_equal(kept, np.any(y != 0, axis=positions))
    r = np.expand_dims(kept, positions)
    np.testing.assert_allclose(y, x * r / (1 - p), rtol=1e-14)
    assert abs(1 - kept.mean() - p) < 5 * np.sqrt(p * (1 - p) / kept.size)
    np.testing.assert_array_equal(convert_to_numpy(layer(x, training=False)), x)


@kinds
def test_a_loaded_layer_goes_on(kind, options, shape, positions, tmp_path):
    layer = kind(0.5, seed=3, dtype="mixed_float16", **options)
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    x = np.ones(shape, "float32")
    first = convert_to_numpy(model(x, training=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    second = convert_to_numpy(model(x, training=True))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(convert_to_numpy(loaded(x, training=True)), second)
    assert loaded.layers[0].dtype_policy.name == "mixed_float16"
    assert loaded.layers[0].get_config() == layer.get_config()


@pytest.mark.parametrize("kind", [SpatialDropout1D, SpatialDropout2D, SpatialDropout3D])
@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "0.5"])
def test_bad_rate(kind, rate):
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\)\. Received: rate="):
        kind(rate)
