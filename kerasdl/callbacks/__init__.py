"""Callbacks for `fit`."""

from kerasdl.callbacks.curvature_monitor import CurvatureMonitor
from kerasdl.callbacks.dead_units import DeadUnits
from kerasdl.callbacks.early_stopping import EarlyStopping
from kerasdl.callbacks.gradient_clipping import GradientClipping
from kerasdl.callbacks.gradient_monitor import GradientMonitor
from kerasdl.callbacks.learning_rate_decay import LearningRateDecay
from kerasdl.callbacks.learning_rate_finder import find_learning_rate
from kerasdl.callbacks.optimizer_monitor import OptimizerMonitor
from kerasdl.callbacks.reduce_lr_on_oscillation import ReduceLROnOscillation
from kerasdl.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau
from kerasdl.callbacks.resumable_fit import resumable_fit
from kerasdl.callbacks.swap_weights import SwapWeights
from kerasdl.callbacks.update_ratio import UpdateRatio

__all__ = [
    "CurvatureMonitor",
    "DeadUnits",
    "EarlyStopping",
    "GradientClipping",
    "GradientMonitor",
    "LearningRateDecay",
    "OptimizerMonitor",
    "ReduceLROnOscillation",
    "ReduceLROnPlateau",
    "SwapWeights",
    "UpdateRatio",
    "find_learning_rate",
    "resumable_fit",
]
