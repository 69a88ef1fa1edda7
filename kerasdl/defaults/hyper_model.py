"""The Default Configuration for KerasTuner to search around."""

from typing import Any

from kerasdl.defaults.configuration import DefaultConfiguration
from kerasdl.defaults.validation import checked_shape, checked_task


def hyper_model(
    input_shape: tuple[int | None, ...],
    outputs: int = 1,
    task: str = "multiclass",
    adapt_to: Any = None,
    name: str | None = None,
    **fields: Any,
) -> Any:
    """Return a KerasTuner `HyperModel` that searches around the Default Configuration.

        name            what                                   range            default
        width           of the first block: units              32, 64, ... 512      128
                        of the first block: filters            16, 32, 64            32
        blocks          units halve and filters double         1, 2, 3                2
                        from block to block
        dropout                                                0.2, 0.3, 0.4, 0.5   0.5
        l2                                                     0, 1e-5, 1e-4, 1e-3    0
        learning_rate   sampled by its logarithm               1e-4 to 1e-2        1e-3

    The defaults together are the Default Configuration. A field that is given here is not
    searched: `units` and `filters` take `width` and `blocks` out, `regularizer` takes `l2`
    out, and an optimizer that is an object takes `learning_rate` out. Other ranges go through
    KerasTuner's own argument `hyperparameters`, under the same names. KerasTuner comes with
    `pip install 'kerasdl[tuner]'`.

        tuner = keras_tuner.RandomSearch(hyper_model((20,), 3), "val_loss", max_trials=20)
        tuner.search(x, y, validation_split=0.2, epochs=50,
                     callbacks=[kerasdl.EarlyStopping(patience=5)])

    `configuration(hp)` of the result is the `DefaultConfiguration` of a trial, to print, store
    or build from.

    Args:
        input_shape: As in `default_model`.
        outputs: As in `default_model`. Default 1.
        task: As in `default_model`. Default `"multiclass"`.
        adapt_to: As in `default_model`. Default None.
        name: Name of the models. Default None.
        **fields: Fields of `DefaultConfiguration` to fix.

    Returns:
        The `keras_tuner.HyperModel`.

    Raises:
        ImportError: KerasTuner is not installed.
        ValueError: An argument is out of its set.
        TypeError: `fields` holds a name that `DefaultConfiguration` does not have.

    Example:

    >>> import keras_tuner
    >>> space, hp = hyper_model((20,), 3, activation="tanh"), keras_tuner.HyperParameters()
    >>> space.configuration(hp) == DefaultConfiguration(activation="tanh")
    True
    >>> sorted(hp.values)
    ['blocks', 'dropout', 'l2', 'learning_rate', 'width']

    References:
        N0 (recipe: tune), N4 (design: what is left to choose); Bergstra & Bengio, "Random
        Search for Hyper-Parameter Optimization", 2012.
    """
    try:
        from kerasdl.defaults._search_space import SearchSpace
    except ModuleNotFoundError as error:
        if error.name != "keras_tuner":
            raise
        raise ImportError(
            "`hyper_model` needs KerasTuner. Install it with: pip install 'kerasdl[tuner]'."
        ) from error
    checked_task(task, outputs)
    DefaultConfiguration(**fields)
    build = {
        "input_shape": checked_shape(input_shape),
        "outputs": outputs,
        "task": task,
        "adapt_to": adapt_to,
    }
    return SearchSpace(build, fields, name)
