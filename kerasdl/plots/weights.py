"""Histograms of weights."""

from typing import Any

from keras import ops

from kerasdl.optimizers._groups import path_of
from kerasdl.optimizers._monitor import layer_names
from kerasdl.plots._histograms import draw_rows, require_rows


def plot_weights(model: Any, ax: Any = None) -> Any:
    """Draw a histogram of the trainable weights of every layer, one row per variable.

    Every row has a height of its own; σ is the standard deviation of the values. Values that
    are all the same are one line.

    Args:
        model: A built Keras model, or one layer.
        ax: Axes of matplotlib to draw on. Default None, those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: There are no weights.
        ImportError: matplotlib is not installed.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="hidden")])
    >>> ax = plot_weights(model)
    >>> [label.get_text().splitlines()[0] for label in ax.get_yticklabels()]
    ['hidden/kernel', 'hidden/bias']

    References:
        N0, N1, N3 (initialization); Glorot & Bengio 2010.
    """
    variables = getattr(model, "trainable_variables", [])
    require_rows(variables, model, "trainable weights")
    paths = [path_of(variable) for variable in variables]
    names = [
        f"{layer}/{path.rpartition('/')[2]}" if "/" in path else path
        for layer, path in zip(layer_names(paths), paths, strict=True)
    ]
    values = [ops.convert_to_numpy(each).astype("float64").ravel() for each in variables]
    return draw_rows(ax, list(zip(names, values, strict=True)), "weight", "Weights")
