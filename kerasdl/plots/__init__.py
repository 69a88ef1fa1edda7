"""Pictures of trainings, networks and optimizers, on matplotlib's axes.

Every function draws on the axes `ax`, or on those of a new figure, and returns them; showing,
saving and closing are the user's. matplotlib is imported when a function is called; it comes
with `pip install 'kerasdl[plots]'`.
"""

from kerasdl.plots.activations import plot_activations
from kerasdl.plots.gradient_flow import plot_gradient_flow
from kerasdl.plots.history import plot_history
from kerasdl.plots.trajectory import plot_trajectory
from kerasdl.plots.weights import plot_weights

__all__ = [
    "plot_activations",
    "plot_gradient_flow",
    "plot_history",
    "plot_trajectory",
    "plot_weights",
]
