"""The Default Configuration in one call."""

from typing import Any

import keras

from kerasdl.defaults.configuration import DefaultConfiguration


def default_model(
    input_shape: tuple[int | None, ...],
    outputs: int = 1,
    task: str = "multiclass",
    adapt_to: Any = None,
    name: str | None = None,
    **fields: Any,
) -> keras.Model:
    """Build and compile a model in the Default Configuration of the notes.

        He initialization, ELU, batch normalization, dropout, Adam, no schedule

    Train it with mini-batches of 32 to 512 and an `EarlyStopping` callback. Standardized
    inputs matter as much as everything inside: pass the training inputs as `adapt_to`.

    Args:
        input_shape: Shape of one sample: (features,) of a vector, (time, features) of a
            sequence or (height, width, channels) of an image. All but the last may be None.
        outputs: Number of classes, labels or values to predict. Default 1.
        task: `"multiclass"` (integer labels), `"categorical"` (the same, one column per
            class), `"binary"` (labels 0 and 1), `"multilabel"` (0 and 1 per label) or
            `"regression"`. Default `"multiclass"`.
        adapt_to: Training inputs (samples, *input_shape), to put their standardization into
            the model. Default None.
        name: Name of the model. Default None.
        **fields: Fields of `DefaultConfiguration` that shall differ from their defaults.

    Returns:
        The compiled functional model, with the layers "input" and "output".

    Raises:
        ValueError: An argument is out of its set.
        TypeError: `fields` holds a name that `DefaultConfiguration` does not have.

    Example:

    >>> model = default_model((30,), task="binary", units=(16,))
    >>> [type(layer).__name__ for layer in model.layers]
    ['InputLayer', 'Dense', 'BatchNormalization', 'Activation', 'Dropout', 'Dense']

    References:
        N1 (default configuration), N0 (guidelines for dropout and batch normalization).
    """
    return DefaultConfiguration(**fields).build(
        input_shape, outputs, task=task, adapt_to=adapt_to, name=name
    )
