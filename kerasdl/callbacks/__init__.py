"""Callbacks for `fit`."""

from kerasdl.callbacks.early_stopping import EarlyStopping
from kerasdl.callbacks.gradient_clipping import GradientClipping
from kerasdl.callbacks.learning_rate_decay import LearningRateDecay
from kerasdl.callbacks.optimizer_monitor import OptimizerMonitor
from kerasdl.callbacks.swap_weights import SwapWeights

__all__ = [
    "EarlyStopping",
    "GradientClipping",
    "LearningRateDecay",
    "OptimizerMonitor",
    "SwapWeights",
]
