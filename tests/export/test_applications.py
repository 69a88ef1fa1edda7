"""Every model of `keras.applications`, with random weights: converted, folded, verified."""

import keras
import numpy as np
import pytest

from kerasdl import export

APPLICATIONS = sorted(name for name in dir(keras.applications) if name[0].isupper())


# Untrained, their signals grow until rounding alone decides on the class.
GROWING = {"EfficientNetV2L", "EfficientNetV2M"}


def statistics_of_their_own(model, rng, variances=(0.8, 1.2)):
    """As after a training, but tame, so that a hundred layers do not overflow."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0.0, 0.1, shape))
            layer.moving_variance.assign(rng.uniform(*variances, shape))


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_application(name, tmp_path, rng):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(96, 96, 3), classes=10)
    statistics_of_their_own(model, rng, (1.1, 1.5) if name in GROWING else (0.8, 1.2))
    report = export.to_onnx(model, tmp_path / "model.onnx")
    (tmp_path / "model.onnx").unlink()  # some have a gigabyte
    assert report.passed
    assert {check.batch for check in report.checks if check.data == "random"} == {1, 3, 32}
    kept = [fold for fold in report.folds if not fold.into]
    print(name, sum(report.nodes.values()), len(report.folds), len(kept), f"{report.size:,}")
    assert np.mean([not fold.into for fold in report.folds] or [0.0]) <= 0.5


def test_they_are_there():
    assert len(APPLICATIONS) >= 38
    assert {"ConvNeXtTiny", "EfficientNetB0", "ResNet50", "VGG16"} <= set(APPLICATIONS)
