"""Optimizers, one algorithm per file."""

from kerasdl.optimizers.adabound import AdaBound
from kerasdl.optimizers.adadelta import Adadelta
from kerasdl.optimizers.adagrad import Adagrad
from kerasdl.optimizers.adagrad_da import AdagradDA
from kerasdl.optimizers.adam import Adam
from kerasdl.optimizers.adamax import Adamax
from kerasdl.optimizers.adamw import AdamW
from kerasdl.optimizers.asgd import ASGD
from kerasdl.optimizers.base import Optimizer
from kerasdl.optimizers.clipped import Clipped
from kerasdl.optimizers.ftrl import Ftrl
from kerasdl.optimizers.gradient_controlled_sgd import GradientControlledSGD
from kerasdl.optimizers.lookahead import Lookahead
from kerasdl.optimizers.nadam import Nadam
from kerasdl.optimizers.proximal_adagrad import ProximalAdagrad
from kerasdl.optimizers.proximal_sgd import ProximalSGD
from kerasdl.optimizers.rmsprop import RMSprop
from kerasdl.optimizers.sgd import SGD
from kerasdl.optimizers.sparse_adam import SparseAdam

__all__ = [
    "ASGD",
    "SGD",
    "AdaBound",
    "Adadelta",
    "Adagrad",
    "AdagradDA",
    "Adam",
    "AdamW",
    "Adamax",
    "Clipped",
    "Ftrl",
    "GradientControlledSGD",
    "Lookahead",
    "Nadam",
    "Optimizer",
    "ProximalAdagrad",
    "ProximalSGD",
    "RMSprop",
    "SparseAdam",
]
