"""Weights that suit the data: each layer's output gets unit variance on a batch."""

import math
from typing import Any, Literal

import keras

from kerasdl._checks import is_integer, is_real, require
from kerasdl.initializers._batch import one_batch
from kerasdl.initializers._krahenbuhl import krahenbuhl
from kerasdl.initializers._lsuv import lsuv
from kerasdl.initializers._passes import Passes
from kerasdl.initializers.initialization_report import InitializationReport, LayerVariance


def initialize(
    model: keras.Model,
    data: Any,
    method: Literal["lsuv", "krahenbuhl"] = "lsuv",
    batch_size: int = 256,
    tolerance: float = 0.01,
    max_iterations: int = 10,
    seed: Any = None,
) -> InitializationReport:
    """Set the weights of a model by what its layers put out on a batch of data.

    For each affine layer (Dense, EinsumDense, convolutions of all kinds), in the order in which
    the data reach them, with z its output before the activation:

        1. method="lsuv":        W ← an orthonormal matrix;
                                 until |Var(z) − 1| < tolerance:  W ← W / √Var(z)
        2. method="krahenbuhl":  W_c ← W_c / √Var(z_c),  b_c ← (b_c − E[z_c]) / √Var(z_c)
                                 for each channel c; then  W_k ← s_k W_k  for each layer k, so
                                 that ‖∂ℓ/∂W_k‖ / ‖W_k‖ is the same for all of them

    In case 1 the variance is that of all of z, and biases stay as they are. Case 2 starts from
    the weights that the model has. Its factors s_k have the product 1, so that a chain of
    layers with piecewise linear activations goes on computing the same; for other networks
    (ELU, tanh, branches, batch normalization) it would not, and the report says that this
    second half was left out.

    Call it before training, with data as they come in training, shuffled or sorted. The
    batch passes once or a few times, with `training=False`: dropout and noise are off and
    their random states stay as they are, and batch normalization normalizes by its stored
    statistics (in a new model: not at all) and keeps them. A layer in front of a batch
    normalization gains little, since that divides by the variance anyway. Frozen layers stay
    as they are. After an error nothing has changed.

    Args:
        model: Keras model, functional, sequential, nested or of a class of your own. Built
            here if it is not.
        data: Inputs as an array, or list, tuple or dict of arrays; or an iterable of batches
            (`tf.data.Dataset`, `PyDataset`, generator), where a tuple counts as (inputs,
            labels, ...) and the first batch is taken.
        method: `"lsuv"` or `"krahenbuhl"`. Default `"lsuv"`.
        batch_size: Samples taken from arrays, at even distances. Default 256.
        tolerance: Case 1: largest |Var(z) − 1|. Default 0.01.
        max_iterations: Case 1: most scalings per layer. More than two are needed only where
            the bias adds variance of its own. Default 10.
        seed: Integer, `keras.random.SeedGenerator` or None. Default None.

    Returns:
        An `InitializationReport`; printed, it is one line per layer: variance before, after,
        and what could not be done (no variance on this batch, dead channels, no bias to
        centre by, layers that the data did not reach).

    Raises:
        ValueError: An argument is out of its set; the model has no affine layer; a variance
            is not finite.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([
    ...     keras.Input((8,)),
    ...     keras.layers.Dense(16, activation="relu", name="first"),
    ...     keras.layers.Dense(1, name="second"),
    ... ])
    >>> x = 100 * np.random.default_rng(0).normal(size=(512, 8))
    >>> report = initialize(model, x, seed=0)
    >>> [round(layer.after, 2) for layer in report.layers]
    [1.0, 1.0]

    References:
        N0 (proper initialization is an active area of research); Mishkin & Matas, "All You
        Need Is a Good Init", 2016, algorithm 1; Krähenbühl, Doersch, Donahue & Darrell,
        "Data-dependent Initializations of Convolutional Neural Networks", 2016; Saxe et al.
        2013 (orthonormal weights).
    """
    _require_arguments(method, batch_size, tolerance, max_iterations)
    passes = Passes(model, one_batch(data, int(batch_size)))
    require(
        bool(passes.layers),
        "model",
        getattr(model, "name", model),
        "a model with a Dense, EinsumDense or convolution layer of its own float weights",
        "Other layers have no scale that this could set.",
    )
    is_generator = isinstance(seed, keras.random.SeedGenerator)
    generator = seed if is_generator else keras.random.SeedGenerator(seed)
    before = passes.variances()
    notes, note = {}, ""
    if method == "lsuv":
        notes = lsuv(passes, tolerance, max_iterations, generator)
    else:
        notes, note = krahenbuhl(passes, generator)
    after = passes.variances()
    passes.commit()
    reached = {id(layer): layer for layer in passes.layers}
    lines = [
        LayerVariance(passes.name(reached[key]), value, after[key], notes.get(key, ""))
        for key, value in before.items()
    ]
    lines += [
        LayerVariance(passes.name(layer), math.nan, math.nan, "not reached by the data")
        for layer in passes.layers
        if id(layer) not in before
    ]
    return InitializationReport(tuple(lines), note)


def _require_arguments(
    method: object, batch_size: object, tolerance: object, max_iterations: object
) -> None:
    require(
        method in ("lsuv", "krahenbuhl"),
        "method",
        method,
        "'lsuv' or 'krahenbuhl'",
        "The default is 'lsuv'.",
    )
    for argument, value in (("batch_size", batch_size), ("max_iterations", max_iterations)):
        require(
            is_integer(value) and value > 0,  # type: ignore[operator]
            argument,
            value,
            "a positive integer",
            "The default is 256 for `batch_size` and 10 for `max_iterations`.",
        )
    require(
        is_real(tolerance) and 0 < tolerance < 1,  # type: ignore[operator]
        "tolerance",
        tolerance,
        "in (0, 1)",
        "It bounds |Var(z) − 1|; the default is 0.01.",
    )
