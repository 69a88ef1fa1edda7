"""The way of optimizers over a curve or a surface."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl import _autodiff
from kerasdl._checks import is_integer, is_real, require
from kerasdl.plots._axes import axes
from kerasdl.schedules._time import rate_dtype

Array = np.ndarray[Any, np.dtype[np.float64]]

POINTS = {1: 400, 2: 160}
"""Points per axis at which the function is drawn, by the number of its arguments."""
LEVELS = 16
MARGIN = 0.1


def plot_trajectory(
    function: Callable[..., Any],
    optimizers: Any,
    start: float | Sequence[float],
    steps: int = 100,
    bounds: Sequence[Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draw where optimizers go on a function of one number, or of two.

    Each begins at `start` and takes `steps` steps along the exact gradient. One number: the
    curve f(x) with a dot for every step. Two numbers: contours, each with the same share of
    the area between it and the next, and a line through all steps. The black dot is the
    start, stars are the ends.

    A way ends early where the function or its gradient is not finite. The optimizers stay as
    they are: copies with the same arguments take the steps. With Nesterov's momentum the
    variable holds the interim point, and that is drawn.

    Args:
        function: f(x) or f(x, y) of tensors, element by element: written with operators and
            `keras.ops`.
        optimizers: A Keras optimizer, a list of them, or a dict of them by label. Without
            labels they go by the names of their classes.
        start: One number, or a pair.
        steps: Number of steps ≥ 1. Default 100.
        bounds: What to show: (low, high), or ((low, high), (low, high)) for a surface.
            Default None: the ways and a margin of a tenth.
        ax: Axes of matplotlib to draw on. Default None, those of a new figure.

    Returns:
        The axes. Each way is a line with the optimizer's label.

    Raises:
        ValueError: An argument is out of its set, or `function` not element by element.
        ImportError: matplotlib is not installed.

    Example:

    >>> import kerasdl
    >>> ax = plot_trajectory(lambda x: x**2, kerasdl.SGD(0.25), start=4.0, steps=3)
    >>> [line.get_xdata().tolist() for line in ax.lines if line.get_label() == "SGD"]
    [[4.0, 2.0, 1.0, 0.5]]

    References:
        N3 (gradient descent on a polynomial), N0, N2 (saddle points, ravines, momentum).
    """
    labelled = _labelled(optimizers)
    beginning = _beginning(start)
    require(
        is_integer(steps) and steps >= 1,
        "steps",
        steps,
        "an integer ≥ 1",
        "Pass how many steps each optimizer shall take.",
    )
    limits = None if bounds is None else _limits(bounds, len(beginning))
    _evaluate(function, [*beginning[:, np.newaxis]])  # the way needs numbers that have a slope
    ways = {
        label: _way(function, optimizer, beginning, steps) for label, optimizer in labelled.items()
    }
    limits = _around(list(ways.values())) if limits is None else limits
    ticks = [np.linspace(low, high, POINTS[len(limits)]) for low, high in limits]
    grid = np.meshgrid(*ticks)
    values = _evaluate(function, grid)
    ax = axes(ax)
    if len(limits) == 1:
        _draw_curve(ax, function, ways, grid[0], values)
    else:
        _draw_surface(ax, ways, grid, values)
        ax.set_ylim(limits[1])
    ax.set(xlim=limits[0], title=f"{steps} step{'s' if steps > 1 else ''}")
    ax.legend()
    return ax


def _draw_curve(ax: Any, function: Any, ways: dict[str, Array], grid: Array, f: Array) -> None:
    ax.plot(grid, f, color="0.7", zorder=0)
    for label, way in ways.items():
        x = way[:, 0]
        y = _evaluate(function, [x])
        (line,) = ax.plot(x, y, ".", alpha=0.6, label=label)
        ax.plot(x[-1:], y[-1:], "*", markersize=11, color=line.get_color())
    ax.plot(x[:1], y[:1], "ko", markersize=5)
    ax.set(xlabel="x", ylabel="f(x)")


def _draw_surface(ax: Any, ways: dict[str, Array], grid: Sequence[Array], f: Array) -> None:
    finite = f[np.isfinite(f)]
    levels = np.unique(np.quantile(finite, np.linspace(0, 1, LEVELS))) if finite.size else finite
    if levels.size > 1:
        masked = np.ma.masked_invalid(f)
        ax.contour(*grid, masked, levels=levels, cmap="Greys_r", linewidths=0.7, zorder=0)
    for label, way in ways.items():
        (line,) = ax.plot(*way.T, ".-", markersize=4, linewidth=1, label=label)
        ax.plot(*way[-1:].T, "*", markersize=11, color=line.get_color())
    ax.plot(*way[:1].T, "ko", markersize=5)
    ax.set(xlabel="x", ylabel="y")


def _way(function: Any, optimizer: Any, start: Array, steps: int) -> Array:
    """The points of one optimizer, one per row."""
    θ = keras.Variable(start, dtype=rate_dtype(ops.zeros(())), name="x")
    optimizer = type(optimizer).from_config(optimizer.get_config())

    def value(point: list[Any]) -> Any:
        return ops.convert_to_tensor(function(*(point[0][i] for i in range(len(start)))))

    points = [start]
    for _ in range(steps):
        (g,) = _autodiff.gradient(value, [ops.convert_to_tensor(θ)])
        if not np.isfinite(ops.convert_to_numpy(g)).all():
            break
        optimizer.apply([g], [θ])
        point = ops.convert_to_numpy(θ).astype("float64")
        if not np.isfinite(point).all():
            break
        points.append(point)
    return np.stack(points)


def _evaluate(function: Any, coordinates: Sequence[Array]) -> Array:
    dtype = rate_dtype(ops.zeros(()))
    found = function(*(ops.convert_to_tensor(each, dtype=dtype) for each in coordinates))
    values = np.asarray(ops.convert_to_numpy(found), dtype="float64")
    require(
        values.shape in {coordinates[0].shape, ()},
        "function",
        f"a result of the shape {values.shape} for inputs of the shape {coordinates[0].shape}",
        "a function that works element by element",
        "Write it with operators and keras.ops, without sums over elements.",
    )
    return np.broadcast_to(values, coordinates[0].shape)


def _around(ways: list[Array]) -> Array:
    """Limits of each coordinate around all points, with a margin."""
    points = np.concatenate(ways)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, MARGIN * (high - low), 1.0)
    return np.stack([low - margin, high + margin], axis=1)


def _labelled(optimizers: Any) -> dict[str, Any]:
    if isinstance(optimizers, Mapping):
        pairs = list(optimizers.items())
    else:
        several = optimizers if isinstance(optimizers, (list, tuple)) else [optimizers]
        pairs = [(type(each).__name__, each) for each in several]
    require(
        bool(pairs)
        and len(dict(pairs)) == len(pairs)
        and all(isinstance(each, keras.optimizers.Optimizer) for _, each in pairs),
        "optimizers",
        optimizers,
        "a Keras optimizer, a list of different classes, or a dict by label",
        'Pass {"momentum": kerasdl.SGD(0.1, momentum=0.9), ...} for instance.',
    )
    return dict(pairs)


def _beginning(start: Any) -> Array:
    several = isinstance(start, (list, tuple)) or getattr(start, "ndim", 0) == 1
    numbers = list(start) if several else [start]
    require(
        len(numbers) in POINTS and all(map(is_real, numbers)),
        "start",
        start,
        "a finite number, or a pair of them",
        "Pass -5.0 for f(x), or (1.0, -2.0) for f(x, y).",
    )
    return np.array(numbers, dtype="float64")


def _limits(bounds: Any, count: int) -> Array:
    try:
        limits = np.array(bounds, dtype="float64").reshape(count, 2)
        usable = np.isfinite(limits).all() and bool((limits[:, 0] < limits[:, 1]).all())
    except (TypeError, ValueError):
        usable = False
    require(
        usable,
        "bounds",
        bounds,
        "(low, high)" if count == 1 else "((low, high), (low, high))",
        "Give finite limits, the lower one first.",
    )
    return limits
