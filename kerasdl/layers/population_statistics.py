"""N2's inference statistics: means over many mini-batches at the final weights."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from kerasdl._checks import is_integer, require
from kerasdl.layers._batches import batches
from kerasdl.layers.batch_normalization import BatchNormalization


class _Moments:
    """Running sums of what one layer sees, in float64."""

    def __init__(self) -> None:
        self.batches = 0
        self.fewest: float = np.inf
        self.mean: Any = 0.0
        self.variance: Any = 0.0

    def add(self, mean: Any, variance: Any, count: Any) -> None:
        """Add μ_B and m/(m−1)·σ²_B of one mini-batch."""
        m = int(count)
        self.batches += 1
        self.fewest = min(self.fewest, m)
        self.mean = self.mean + _float64(mean)
        self.variance = self.variance + _float64(variance) * (m / max(m - 1, 1))

    def result(self) -> tuple[Any, Any]:
        """Return E and V."""
        return self.mean / self.batches, self.variance / self.batches


def estimate_population_statistics(
    model: keras.layers.Layer,
    x: Any,
    batch_size: int = 128,
    max_batches: int | None = None,
) -> int:
    """Replace the moving averages of a trained model by the statistics of the population.

        E = mean over mini-batches of μ_B
        V = mean over mini-batches of m/(m−1)·σ²_B

    The mini-batches run through the network with its weights frozen, dropout and noise off,
    and every `BatchNormalization(statistics="population")` normalizing by its own batch, so
    that each layer sees what it saw in training. E and V are accumulated in float64 and
    stored when the last mini-batch is through; after an error or an interrupt nothing has
    changed. A layer that is called more than once per pass counts each of its batches.
    Frozen layers (`trainable=False`) and plain Keras layers keep their statistics and
    normalize by them.

    Call it after training, with shuffled training data and the batch size of the training.
    Twenty mini-batches are usually enough; it matters most after short trainings, where the
    moving averages still remember the first steps.

    Args:
        model: A built or unbuilt Keras model.
        x: Training inputs. An array, or a list, tuple or dict of arrays for a model with
            several inputs; or else an iterable of batches (`tf.data.Dataset`, `PyDataset`,
            generator, `iter(list_of_batches)`), where a tuple counts as (inputs, labels,
            ...). A batch smaller than the first one is left out.
        batch_size: Samples per mini-batch, for arrays only. Typical values are 32 to 512.
            Default 128.
        max_batches: Stop after so many mini-batches. Needed for endless iterables. Default
            None, all of them.

    Returns:
        The number of mini-batches that were used.

    Raises:
        ValueError: An argument is out of its set; the model has no such layer; a layer was
            not reached, saw fewer than two values in a mini-batch, or values that are not
            finite.

    Example:

    >>> layer = BatchNormalization(statistics="population")
    >>> model = keras.Sequential([keras.Input((1,)), layer])
    >>> estimate_population_statistics(model, np.array([[0.0], [2.0], [4.0], [6.0]]), 2)
    2
    >>> layer.moving_mean.numpy().tolist(), layer.moving_variance.numpy().tolist()
    ([3.0], [2.0])

    References:
        N2 (training and inference using batch norm); Ioffe & Szegedy, "Batch
        Normalization", 2015, algorithm 2, steps 7 to 11.
    """
    _require_count("batch_size", batch_size, "Pass the batch size of the training.")
    if max_batches is not None:
        _require_count("max_batches", max_batches, "Pass None to use all batches.")
    layers = _population_layers(model)
    seen = [_Moments() for _ in layers]
    used = _observe(model, layers, seen, itertools.islice(_whole(x, batch_size), max_batches))
    require(
        used > 0,
        "x",
        getattr(x, "shape", x),
        "at least one batch of inputs",
        "Pass the training inputs.",
    )
    for layer, moments in zip(layers, seen, strict=True):
        _require_usable(layer, moments)
    for layer, moments in zip(layers, seen, strict=True):
        mean, variance = moments.result()
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    return used


def _observe(
    model: keras.layers.Layer,
    layers: list[BatchNormalization],
    seen: list[_Moments],
    batches: Iterable[Any],
) -> int:
    """Run the batches while each layer reports its moments; return how many there were."""
    used = 0
    try:
        for layer, moments in zip(layers, seen, strict=True):
            layer._observer = moments.add
        for batch in batches:
            model(batch, training=False)
            used += 1
    finally:
        for layer in layers:
            layer._observer = None
    return used


def _population_layers(model: keras.layers.Layer) -> list[BatchNormalization]:
    found = {
        id(layer): layer
        for layer in model._flatten_layers()
        if isinstance(layer, BatchNormalization)
        and layer.statistics == "population"
        and layer.trainable
    }
    require(
        bool(found),
        "model",
        getattr(model, "name", model),
        "a model with a trainable kerasdl.BatchNormalization(statistics='population')",
        "Build it with such layers, or unfreeze them.",
    )
    return list(found.values())


def _whole(x: Any, batch_size: int) -> Iterator[Any]:
    """Yield the inputs of each mini-batch that has the size of the first one."""
    whole: int | None = None
    for batch in batches(x, batch_size):
        rows = int(keras.tree.flatten(batch)[0].shape[0])
        whole = rows if whole is None else whole
        if rows >= whole:
            yield batch


def _float64(tensor: Any) -> Any:
    return keras.ops.convert_to_numpy(tensor).astype("float64")


def _require_count(argument: str, value: object, advice: str) -> None:
    positive = isinstance(value, int) and is_integer(value) and value > 0
    require(positive, argument, value, "a positive integer", advice)


def _require_usable(layer: BatchNormalization, moments: _Moments) -> None:
    require(
        moments.batches > 0,
        "model",
        layer.name,
        "a model that calls all its batch normalizations",
        "This layer was not reached; freeze it with `trainable=False`.",
    )
    require(
        moments.fewest >= 2,
        "x",
        moments.fewest,
        f"batches with 2 or more values per channel at layer '{layer.name}'",
        "Use larger batches; one value has no variance.",
    )
    require(
        all(np.isfinite(value).all() for value in moments.result()),
        "x",
        "values that are not finite",
        f"inputs that give finite moments at layer '{layer.name}'",
        "Look for NaN, infinity or overflow in the data or the weights.",
    )
