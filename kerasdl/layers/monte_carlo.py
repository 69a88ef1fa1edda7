"""Monte-Carlo dropout: mean and spread of many stochastic predictions."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from kerasdl._checks import is_integer, require
from kerasdl.layers._batches import batches
from kerasdl.layers.weight_noise import WeightNoise

STOCHASTIC: tuple[type, ...] = (
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    WeightNoise,
)


class _Spread:
    """Mean and sum of squared deviations of arrays that come one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, value: Any) -> None:
        """Take one more array into account."""
        self.count += 1
        deviation = value - self.mean
        self.mean = self.mean + deviation / self.count
        self.squares = self.squares + deviation * (value - self.mean)

    def stddev(self) -> Any:
        """Return the standard deviation, with n − 1."""
        return np.sqrt(self.squares / (self.count - 1))


def predict_mc(
    model: keras.Model,
    x: Any,
    samples: int = 100,
    batch_size: int | None = None,
    seed: int | None = None,
) -> tuple[Any, Any]:
    """Predict many times with dropout on; return the mean and the spread of the predictions.

        ȳ = (1/T) Σ y_t        s² = (1/(T−1)) Σ (y_t − ȳ)²        T = `samples`

    Each y_t is a forward pass with new draws: a member of N4's ensemble of thinned networks. s
    says how much they disagree. Only layers of dropout and noise behave as in training
    (Keras' and kerasdl's, nested ones and the `dropout` of recurrent and attention layers
    included); batch normalization and all the rest behave as in `predict`. Random draws that
    a layer makes outside of such layers are not seen.

    Nothing changes in the model: no weight, no statistic, no random state, so that a training
    goes on as if nothing had been predicted. Mean and deviation are accumulated in float64 as
    the passes come, so memory does not grow with `samples`.

    30 to 100 passes give a mean; the relative error of s is about 1/√(2T).

    Args:
        model: A Keras model.
        x: Inputs, as for `estimate_population_statistics`: arrays, or an iterable of batches.
        samples: T, at least 2. Default 100.
        batch_size: Samples per batch, for arrays only. Default None, 32 as in `predict`.
        seed: Integer for repeatable draws. Default None, one from Python's `random` (which
            `keras.utils.set_random_seed` fixes).

    Returns:
        Mean and standard deviation, each in the structure of the model's output (array, list
        or dict), in float64.

    Raises:
        ValueError: An argument is out of its set, there are no inputs, or the model has no
            layer of dropout or noise.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    >>> mean, spread = predict_mc(model, np.ones((2, 4)), samples=400, seed=1)
    >>> bool(abs(mean - 1).max() < 0.25), bool(abs(spread - 1).max() < 0.25)
    (True, True)

    References:
        N4 (dropout: ensemble effect); Gal & Ghahramani, "Dropout as a Bayesian Approximation",
        2016; Welford, "Note on a Method for Calculating Corrected Sums of Squares and
        Products", 1962.
    """
    _require_arguments(samples, batch_size, seed)
    stochastic = _stochastic_layers(model)
    draws = np.random.default_rng(random.getrandbits(32) if seed is None else seed)
    means, spreads = [], []
    for batch in batches(x, batch_size or 32):
        if not model.built:
            model(batch, training=False)
        mean, spread = _predict_batch(model, stochastic, batch, samples, draws)
        means.append(mean)
        spreads.append(spread)
    require(
        bool(means),
        "x",
        getattr(x, "shape", x),
        "at least one batch of inputs",
        "Pass the inputs to predict for.",
    )
    return _joined(means), _joined(spreads)


def _predict_batch(
    model: keras.Model,
    stochastic: list[keras.layers.Layer],
    batch: Any,
    samples: int,
    draws: np.random.Generator,
) -> tuple[Any, Any]:
    """Return mean and standard deviation for one batch."""
    spreads: list[_Spread] = []
    outputs: Any = None
    scope = keras.StatelessScope(_new_random_states(model, draws))
    with scope, _active(stochastic), _torch_forked(draws):
        for _ in range(samples):
            outputs = model(batch, training=False)
            leaves = keras.tree.flatten(outputs)
            spreads = spreads or [_Spread() for _ in leaves]
            for spread, leaf in zip(spreads, leaves, strict=True):
                spread.add(keras.ops.convert_to_numpy(leaf).astype("float64"))
    mean = keras.tree.pack_sequence_as(outputs, [spread.mean for spread in spreads])
    stddev = keras.tree.pack_sequence_as(outputs, [spread.stddev() for spread in spreads])
    return mean, stddev


@contextmanager
def _active(layers: list[keras.layers.Layer]) -> Iterator[None]:
    """Let `layers` behave as in training, whatever they are told."""
    with ExitStack() as stack:
        for layer in layers:
            # An instance attribute hides the method of the class until it is deleted.
            layer.call = _training(layer.call)
            stack.callback(delattr, layer, "call")
        yield


def _training(call: Any) -> Any:
    def active(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **{**kwargs, "training": True})

    return active


def _new_random_states(
    model: keras.Model, draws: np.random.Generator
) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    """Return a fresh state for each random generator in the model."""
    weights = {id(weight) for weight in model.weights}
    states = {
        id(variable): variable
        for layer in model._flatten_layers()
        for variable in layer.variables
        if id(variable) not in weights and variable.name == "seed_generator_state"
    }
    return [(state, np.array([draws.integers(2**31), 0])) for state in states.values()]


@contextmanager
def _torch_forked(draws: np.random.Generator) -> Iterator[None]:
    """Seed PyTorch's own generator for a while: Keras' dropout without a seed draws from it."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(int(draws.integers(2**31)))
        yield


def _stochastic_layers(model: keras.Model) -> list[keras.layers.Layer]:
    require(
        isinstance(model, keras.Model),
        "model",
        model,
        "a Keras model",
        "Wrap a single layer in keras.Sequential.",
    )
    found = {
        id(layer): layer
        for layer in model._flatten_layers()
        if isinstance(layer, STOCHASTIC) or _has_recurrent_dropout(layer)
    }
    require(
        bool(found),
        "model",
        model.name,
        "a model with layers of dropout or noise",
        "Its predictions are always the same: use `predict`.",
    )
    return list(found.values())


def _has_recurrent_dropout(layer: keras.layers.Layer) -> bool:
    if not isinstance(layer, keras.layers.RNN):
        return False
    cells = getattr(layer.cell, "cells", [layer.cell])
    return any(
        getattr(cell, "dropout", 0) or getattr(cell, "recurrent_dropout", 0) for cell in cells
    )


def _joined(parts: list[Any]) -> Any:
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def _require_arguments(samples: Any, batch_size: Any, seed: Any) -> None:
    require(
        is_integer(samples) and samples >= 2,
        "samples",
        samples,
        "an integer of 2 or more",
        "One pass has no spread; 100 are usual.",
    )
    require(
        batch_size is None or (is_integer(batch_size) and batch_size > 0),
        "batch_size",
        batch_size,
        "None or a positive integer",
        "Pass None for 32.",
    )
    require(
        seed is None or (is_integer(seed) and seed >= 0),
        "seed",
        seed,
        "None or a non-negative integer",
        "Pass an integer for repeatable draws.",
    )
