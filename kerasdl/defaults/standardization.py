"""Mean subtraction and division by the standard deviation, as a first layer."""

from typing import Any

import keras
import numpy as np

from kerasdl._checks import require


def standardization(x: Any, shape: tuple[int | None, ...]) -> keras.layers.Normalization:
    """Return Keras' `Normalization` layer for the training inputs `x`.

        y = (x − mean) / std    per feature, or per channel of an image

    Mean and variance are computed in float64. A feature that is constant in `x` gets the
    variance 1: Keras would divide by 1e-7, and the first value that is off by a little
    would drown all other features.

    Args:
        x: Training inputs, of shape (samples, *shape).
        shape: Shape of one sample; None leaves a size open.

    Returns:
        The layer, its mean and variance stored in its configuration.

    Raises:
        ValueError: `x` is empty, of another shape, or not finite.

    Example:

    >>> layer = standardization(np.array([[0.0, 5.0], [2.0, 5.0]]), (2,))
    >>> np.asarray(layer(np.array([[2.0, 6.0]]))).tolist()
    [[1.0, 1.0]]

    References:
        N4 (data preprocessing), N0 (recipe); LeCun et al., "Efficient BackProp", 1998.
    """
    values = np.asarray(x)
    _require_fitting(values, shape)
    axes = tuple(range(values.ndim - 1))
    mean = np.mean(values, axis=axes, dtype="float64")
    variance = np.var(values, axis=axes, dtype="float64")
    constant = np.max(values, axis=axes) == np.min(values, axis=axes)
    variance = np.where(constant, 1.0, variance)
    return keras.layers.Normalization(mean=mean.tolist(), variance=variance.tolist())


def _require_fitting(values: np.ndarray[Any, Any], shape: tuple[int | None, ...]) -> None:
    fits = values.ndim == len(shape) + 1 and all(
        size in (None, found) for size, found in zip(shape, values.shape[1:], strict=True)
    )
    require(
        fits and values.shape[0] > 0,
        "adapt_to",
        tuple(values.shape),
        f"inputs of the shape (samples, {', '.join(map(str, shape))})",
        "Pass the training inputs without their labels.",
    )
    numeric = values.dtype.kind in "biuf"
    require(
        numeric and bool(np.isfinite(values).all()),
        "adapt_to",
        f"dtype {values.dtype}" if not numeric else "NaN or infinity",
        "finite numbers",
        "Remove or fill the missing values first.",
    )
