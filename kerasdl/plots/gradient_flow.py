"""How large the gradients of the layers are while the training goes on."""

from typing import Any

import numpy as np

from kerasdl._checks import require
from kerasdl.plots._axes import axes, colours
from kerasdl.plots._logs import Logs, marker

PREFIX = "gradient_norm/"
MOST_LABELS = 12


def plot_gradient_flow(history: Any, ax: Any = None) -> Any:
    """Draw the norm ‖g‖ of the gradient of every layer over the epochs.

    One line per layer, dark at the input and light at the output, on a logarithmic scale.
    Lines that fan out, the dark ones far below the light ones, are vanishing gradients; dark
    ones far above, exploding. Zeros and what is not finite leave a gap.

    Args:
        history: What `fit` returns, or its dict, from a training with the callback
            `OptimizerMonitor` or `GradientMonitor`.
        ax: Axes of matplotlib to draw on. Default None, those of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: The history has no norms.
        ImportError: matplotlib is not installed.

    Example:

    >>> ax = plot_gradient_flow({"gradient_norm/a": [0.1, 0.01], "gradient_norm/b": [1.0, 1.1]})
    >>> [line.get_label() for line in ax.lines], ax.get_yscale()
    (['a', 'b'], 'log')

    References:
        N0, N1, N2 (vanishing and exploding gradients); Glorot & Bengio 2010.
    """
    logs = Logs(history)
    layers = [name.removeprefix(PREFIX) for name in logs.values if name.startswith(PREFIX)]
    require(
        bool(layers),
        "history",
        logs.names(),
        f"one with values under {PREFIX}LAYER",
        "Train with callbacks=[kerasdl.OptimizerMonitor()], or with kerasdl.GradientMonitor.",
    )
    ax = axes(ax)
    labelled = set(np.linspace(0, len(layers) - 1, min(len(layers), MOST_LABELS)).astype(int))
    any_positive = False
    for index, (layer, colour) in enumerate(zip(layers, colours(len(layers)), strict=True)):
        epochs, norms = logs.series(PREFIX + layer)
        shown = np.isfinite(norms) & (norms > 0)
        any_positive |= bool(shown.any())
        label = layer if index in labelled else f"_{layer}"
        values = np.where(shown, norms, np.nan)
        look = {"color": colour, "marker": marker(values), "markersize": 3}
        ax.plot(epochs, values, label=label, **look)
    if any_positive:
        ax.set_yscale("log")
    ax.set(xlabel="epoch", ylabel="gradient norm ‖g‖", title="Gradient flow")
    ax.legend(title="layer", fontsize="small")
    return ax
