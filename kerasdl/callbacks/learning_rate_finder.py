"""A learning rate to begin with, found by trying."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kerasdl._checks import is_integer, is_real, require
from kerasdl.callbacks._optimizer import innermost_optimizer
from kerasdl.callbacks._resumable_data import resumable_data
from kerasdl.callbacks._training_state import (
    assign,
    build,
    random_state,
    set_random_state,
    values_of,
    variables_of,
)
from kerasdl.optimizers import Optimizer
from kerasdl.optimizers._wrapper import chain

SMOOTHING = 0.8
"""Share of the old value in the smoothed loss."""
DIVERGED = 3.0
"""A run has diverged when its smoothed loss is so many times the untouched one above its lowest."""
COARSE = 4.0
"""Ratio of the rates of neighbouring trials, before the two beside the best."""
DOWNWARDS = 4
"""Number of trials below the rate of the sweep's lowest loss."""
JUDGED = 1 / 3
"""Share of a trial, its end, that is compared."""


@dataclass(frozen=True)
class LearningRateSearch:
    """What `find_learning_rate` found.

    Attributes:
        learning_rates: η of every step of the sweep, float64.
        losses: Loss of every step.
        smoothed: The smoothed loss.
        trials: Rates that were tried, in rising order, and what the loss was in the end, as
            pairs; infinite where the trial diverged.
        suggestion: The rate to begin with.
        diverged: Whether the sweep stopped before its end.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    trials: tuple[tuple[float, float], ...]
    suggestion: float
    diverged: bool

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses over the rates, the trials and the suggestion.

        Args:
            ax: Axes of matplotlib to draw on. Default None, those of a new figure.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: `ax` is neither None nor axes.
        """
        # Drawing is a room that nothing else here needs.
        from kerasdl.plots._axes import axes

        ax = axes(ax)
        finite = [(rate, loss) for rate, loss in self.trials if np.isfinite(loss)]
        ax.plot(self.learning_rates, self.losses, alpha=0.3, label="loss")
        ax.plot(self.learning_rates, self.smoothed, label="smoothed loss")
        ax.plot(*zip(*finite, strict=True), "o", label="trials")
        ax.axvline(self.suggestion, linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        ax.set_title("Learning rates tried")
        ax.set_xscale("log")
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.legend()
        return ax


def find_learning_rate(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    batch_size: int | None = None,
    sample_weight: Any = None,
) -> LearningRateSearch:
    """Find the learning rate that lowers the loss most in a few steps.

    1. The sweep: ηᵢ = start · (end/start)^(i/(steps−1)). It shows where the loss falls and
       where it diverges.
    2. Its loss is compared with the loss ℓᵢ⁰ of the untouched weights on the same batch, under
       the same random draws, so that easy and hard batches do not count:
       dᵢ = ℓᵢ − ℓᵢ⁰, sᵢ = 0.8 sᵢ₋₁ + 0.2 dᵢ, smoothed loss = mean(ℓ⁰) + sᵢ/(1 − 0.8ⁱ⁺¹).
    3. The sweep stops once that is 3·(|mean(ℓ⁰)| + std(ℓ⁰)) above its lowest value, or not
       finite.
    4. The trials: `steps` steps each with a constant rate, from the same weights on the same
       batches. They are compared by the mean of dᵢ over their last third. The rates are that
       of the lowest smoothed loss and down from it by factors of 4, and those a factor of 2
       beside the best of them. The best of all is the suggestion.

    A sweep alone, read at its steepest point or at a fraction of its lowest, was up to 60 times
    off on small noisy tasks. With the trials, seven or so, 57 of 60 searches came within a
    factor of 3 of the best rate of a fine grid, and all within a factor of 8. Count
    9·`steps` steps of training.

    Afterwards everything is as before, bit by bit, also after an error or an interrupt:
    weights, statistics, optimizer, metrics, random states. What has not been built yet is
    built. A learning-rate schedule is put aside meanwhile; the suggestion is for its largest
    rate. Every step counts by itself, whatever `steps_per_execution` is.

    Args:
        model: A compiled model.
        x: Arrays (with `y` and `sample_weight`), a `tf.data.Dataset` (of which `steps` batches
            are held in memory) or a `PyDataset`.
        y: Targets.
        start: Lowest rate, > 0.
        end: Highest rate, > `start`.
        steps: Number of steps ≥ 10 of the sweep, and of a trial. The more there are, the
            smaller the suggestion as a rule.
        batch_size: Samples per batch of arrays; None for 32. Pass that of the training.
        sample_weight: Weights of the samples.

    Returns:
        A `LearningRateSearch`: `suggestion`, the curves, `plot()`.

    Raises:
        ValueError: An argument is out of its set; the model is not compiled; there are no
            data; the first loss is not finite; no rate lowers the loss.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(256, 3))
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", loss="mse")
    >>> found = find_learning_rate(model, x, x @ [[1.0], [2.0], [3.0]])
    >>> 0.05 < found.suggestion < 0.9
    True

    References:
        N0 (the learning rate first), N3; Smith 2017, "Cyclical Learning Rates for Training
        Neural Networks" (the sweep); Bengio 2012, "Practical Recommendations for
        Gradient-Based Training" (trials on a logarithmic scale).
    """
    _require_arguments(model, start, end, steps)
    data = resumable_data(x, y, sample_weight, batch_size=batch_size, steps=steps, shuffle=True)
    with _restored(model, data) as runs:
        runs.batches = data.batches(steps)
        runs.take_baseline(start, steps)
        rates = np.geomspace(start, end, steps)
        losses, smoothed = runs.run(rates)
        lowest = int(np.argmin(smoothed))
        _require_fall(smoothed[lowest], runs.scale)
        trials = _trials(runs.trial, float(rates[lowest]), start, end)
    best = min(trials, key=lambda rate: trials[rate])
    mean = float(runs.baseline.mean())
    return LearningRateSearch(
        learning_rates=rates[: len(losses)],
        losses=losses,
        smoothed=mean + smoothed,
        trials=tuple((rate, mean + trials[rate]) for rate in sorted(trials)),
        suggestion=best,
        diverged=len(losses) < steps,
    )


class _Runs:
    """Runs of a model over the same batches, each from the same start."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.optimizer = innermost_optimizer(model, self)
        self.variables = variables_of(model)
        self.values = values_of(self.variables)
        self.random = random_state()
        self.batches: Any = ()
        self.baseline = self.samples = np.empty(0)

    def restart(self) -> None:
        """Put everything back to where it was."""
        assign(self.variables, self.values, "The model")
        set_random_state(self.random)

    def step(self, batch: Any, rate: float) -> float:
        """Train on one batch and return its loss."""
        self.optimizer.learning_rate = rate
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        logs = self.model.train_on_batch(x, y, weight, return_dict=True)
        require("loss" in logs, "model", sorted(logs), "one that reports `loss`", "Return it.")
        return float(logs["loss"])

    def take_baseline(self, rate: float, steps: int) -> None:
        """Note the losses of the untouched weights."""
        self.restart()
        weights = self.model.trainable_variables
        values = values_of(weights)
        losses, samples = [], []
        for i in range(steps):
            losses.append(self.step(self.batches[i], rate))
            samples.append(keras.tree.flatten(self.batches[i])[0].shape[0])
            assign(weights, values, "The model")
        self.baseline, self.samples = np.array(losses), np.array(samples)
        require(
            bool(np.isfinite(self.baseline).all()),
            "loss",
            float(self.baseline.sum()),
            "finite before anything has been learned",
            "Look for NaN in the data, and for a logarithm or a division by zero.",
        )

    def run(self, rates: Iterable[float]) -> tuple[np.ndarray, np.ndarray]:
        """Losses of a run with these rates, and smoothed changes, up to where it diverges."""
        self.restart()
        losses: list[float] = []
        changes = _Smoothed()
        far = DIVERGED * self.scale
        for i, rate in enumerate(rates):
            loss = self.step(self.batches[i], float(rate))
            changes.add(loss - self.baseline[i])
            if not changes.values[-1] - min(changes.values) <= far:
                break
            losses.append(loss)
        return np.array(losses), np.array(changes.values[: len(losses)])

    def trial(self, rate: float) -> float:
        """How much a run with a constant rate has changed the loss in the end."""
        losses, _ = self.run([rate] * len(self.baseline))
        if len(losses) < len(self.baseline):
            return float("inf")
        last = slice(-int(JUDGED * len(losses)), None)
        return float(np.average((losses - self.baseline)[last], weights=self.samples[last]))

    @property
    def scale(self) -> float:
        """How large the losses are."""
        return float(abs(self.baseline.mean()) + self.baseline.std())


@contextmanager
def _restored(model: Any, data: Any) -> Iterator[_Runs]:
    """Runs of the model, after which everything is as before."""
    random_before = random_state()
    functions = model.train_function, model.test_function
    runs = None
    try:
        build(model, data.sample())
        set_random_state(random_before)
        runs = _Runs(model)
        model.train_function = None
        with _settable_rate(runs.optimizer), _divergence_allowed(model.optimizer):
            yield runs
    finally:
        model.train_function, model.test_function = functions
        if runs is not None:
            runs.restart()
        set_random_state(random_before)


@contextmanager
def _settable_rate(optimizer: Any) -> Iterator[None]:
    """Have a variable in place of a schedule or a function."""
    before = optimizer._learning_rate
    if isinstance(before, keras.Variable):
        yield
        return
    instead = keras.Variable(0.0, trainable=False, name="learning_rate")
    # Set so as not to be tracked: TensorFlow saves no optimizer of which something tracked was
    # taken out. Only JAX must be told of every variable.
    object.__setattr__(optimizer, "_learning_rate", instead)
    tracked = keras.backend.backend() == "jax"
    if tracked:
        optimizer._track_variable(instead)
    try:
        yield
    finally:
        if tracked:
            optimizer._untrack_variable(instead)
        object.__setattr__(optimizer, "_learning_rate", before)


@contextmanager
def _divergence_allowed(optimizer: Any) -> Iterator[None]:
    """Have optimizers of kerasdl go on with gradients that are not finite."""
    screens = [each._screen for each in chain(optimizer) if isinstance(each, Optimizer)]
    policies = [screen.policy for screen in screens]
    for screen in screens:
        screen.policy = "allow"
    try:
        yield
    finally:
        for screen, policy in zip(screens, policies, strict=True):
            screen.policy = policy


class _Smoothed:
    """An exponential average that is corrected for its start at 0."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._average = 0.0

    def add(self, number: float) -> None:
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * number
        self.values.append(self._average / (1 - SMOOTHING ** (len(self.values) + 1)))


def _trials(
    trial: Callable[[float], float], lowest: float, start: float, end: float
) -> dict[float, float]:
    """Try `DOWNWARDS`, further where the best is on the edge, then between.

    Args:
        trial: From a rate to how much the loss has changed.
        lowest: Rate of the sweep's lowest loss.
        start: Lowest rate.
        end: Highest rate.

    Returns:
        Results by rate.
    """
    results: dict[float, float] = {}

    def best() -> float:
        return min(results, key=lambda rate: results[rate])

    def add(rate: float) -> None:
        if start <= rate <= end:
            results[rate] = trial(rate)

    for place in range(DOWNWARDS + 1):
        add(lowest / COARSE**place)
    while best() == min(results) and min(results) / COARSE >= start:
        add(min(results) / COARSE)
    while best() == max(results) and max(results) * COARSE <= end:
        add(max(results) * COARSE)
    for rate in (best() / COARSE**0.5, best() * COARSE**0.5):
        add(rate)
    return results


def _require_fall(change: float, scale: float) -> None:
    require(
        bool(change < -1e-6 * scale),
        "model",
        f"a loss that changes by {change:g} at best",
        "one whose loss falls at some rate between `start` and `end`",
        "Pass more steps; look whether it has trainable weights and the data say anything.",
    )


def _require_arguments(model: Any, start: Any, end: Any, steps: Any) -> None:
    require(
        getattr(model, "compiled", False) and getattr(model, "optimizer", None) is not None,
        "model",
        getattr(model, "name", model),
        "compiled with an optimizer",
        "Call `model.compile(optimizer, loss)` first.",
    )
    for name, rate in (("start", start), ("end", end)):
        require(is_real(rate) and rate > 0, name, rate, "positive", "Typical are 1e-7 and 10.")
    require(start < end, "start", start, f"smaller than end={end!r}", "Typical are 1e-7 and 10.")
    require(
        is_integer(steps) and steps >= 10,
        "steps",
        steps,
        "an integer ≥ 10",
        "Pass 100 for a first look.",
    )
