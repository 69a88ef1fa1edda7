"""The table of public objects.

It is read by the registration of serializable classes (`kerasdl/__init__.py`), by the
contract tests (`tests/test_contract.py`) and by what writes the list in the README. To add an
object: write its file, export it from its package, add its line here, `make format`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import keras
import numpy as np

from kerasdl import (
    callbacks,
    clipping,
    defaults,
    initializers,
    layers,
    optimizers,
    plots,
    regularizers,
    schedules,
    second_order,
)

Kind = Literal[
    "optimizer",
    "schedule",
    "initializer",
    "regularizer",
    "layer",
    "preprocessing",
    "feature maps",
    "callback",
    "function",
    "default",
]
SERIALIZED: frozenset[Kind] = frozenset(
    {"optimizer", "schedule", "initializer", "regularizer", "layer"}
)
# Layers that need to see data first, or inputs of a higher rank, keep the same promises.
REGISTERED: frozenset[Kind] = SERIALIZED | {"preprocessing", "feature maps", "default"}


@dataclass(frozen=True)
class Entry:
    """One public object.

    Attributes:
        kind: What it is to Keras.
        object: The class or function.
        source: Keys of the notes (N0..N4) and the paper it comes from.
        arguments: Non-default constructor arguments, for the contract tests.
        note: What the README says behind the name.
    """

    kind: Kind
    object: Callable[..., Any]
    source: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    note: str = ""

    @property
    def name(self) -> str:
        return self.object.__name__

    @property
    def room(self) -> str:
        """The submodule that it stands in."""
        return self.object.__module__.split(".")[1] if self.own else f"{self.kind}s"

    @property
    def own(self) -> bool:
        """Whether the class is ours; Keras' is re-exported where it is the algorithm."""
        return self.object.__module__.startswith("kerasdl.")


# Of the optimizers around another one: a config, so that every test gets a new one.
INNER = {"class_name": "kerasdl>SGD", "config": {"learning_rate": 0.05, "momentum": 0.8}}
# Of the layers around another one, likewise.
LAYER = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 4}}
# A batch for the callbacks that look at the model beside the training.
PROBE = (np.linspace(-1.0, 1.0, 8).reshape(2, 4), np.zeros((2, 1)))

CATALOG: tuple[Entry, ...] = (
    Entry(
        "optimizer",
        optimizers.SGD,
        "N0 N1 N2 N3 N4; Robbins & Monro 1951, Polyak 1964, Nesterov 1983",
        {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True},
        note="momentum, Nesterov",
    ),
    Entry(
        "optimizer",
        optimizers.Adam,
        "N0 N1 N3 N4; Kingma & Ba 2015, Reddi 2018",
        {"learning_rate": 0.05, "beta_1": 0.8, "amsgrad": True},
        note="AMSGrad, ε outside or inside the root",
    ),
    Entry(
        "optimizer",
        optimizers.AdamW,
        "N0 N3; Loshchilov & Hutter 2019",
        {"learning_rate": 0.05, "weight_decay": 0.02, "beta_1": 0.8, "amsgrad": True},
    ),
    Entry(
        "optimizer",
        optimizers.Adamax,
        "N3 N4; Kingma & Ba 2015",
        {"learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.99},
    ),
    Entry(
        "optimizer",
        optimizers.Nadam,
        "N3 N4; Dozat 2016",
        {"learning_rate": 0.05, "beta_1": 0.8, "schedule_decay": 0.01, "averaging": "constant"},
    ),
    Entry(
        "optimizer",
        optimizers.AdaBound,
        "N3; Luo 2019",
        {"learning_rate": 0.05, "final_lr": 0.2, "gamma": 0.01, "amsbound": True},
    ),
    Entry(
        "optimizer",
        optimizers.Adagrad,
        "N2 N3 N4; Duchi 2011",
        {"learning_rate": 1.0, "initial_accumulator_value": 0.1, "epsilon_position": "inside"},
    ),
    Entry(
        "optimizer",
        optimizers.Adadelta,
        "N3 N4; Zeiler 2012",
        {"learning_rate": 0.4, "rho": 0.9, "epsilon": 1e-2},
    ),
    Entry(
        "optimizer",
        optimizers.RMSprop,
        "N0 N1 N2 N3 N4; Hinton 2012, Graves 2013",
        {
            "learning_rate": 0.01,
            "momentum": 0.5,
            "epsilon": 1e-2,
            "centered": True,
            "nesterov": True,
        },
        note="momentum, Nesterov, centered",
    ),
    Entry(
        "optimizer",
        optimizers.Ftrl,
        "N4; McMahan 2013",
        {"learning_rate": 0.5, "l1_regularization_strength": 0.01, "beta": 0.1},
    ),
    Entry(
        "optimizer",
        optimizers.AdagradDA,
        "N4; Duchi 2011, Xiao 2010",
        {
            "learning_rate": 0.5,
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.02,
        },
    ),
    Entry(
        "optimizer",
        optimizers.ProximalSGD,
        "N4; Duchi & Singer 2009",
        {
            "learning_rate": 0.05,
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.02,
        },
    ),
    Entry(
        "optimizer",
        optimizers.ProximalAdagrad,
        "N4; Duchi & Singer 2009, Duchi 2011",
        {
            "learning_rate": 0.5,
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.02,
        },
    ),
    Entry(
        "optimizer",
        optimizers.GradientControlledSGD,
        "N3",
        {"learning_rate": 0.1, "c": 0.01, "form": "elementwise", "compounding": True},
    ),
    Entry(
        "optimizer",
        optimizers.ASGD,
        "N3; Polyak & Juditsky 1992",
        {"learning_rate": 0.05, "average_from": 10},
        note="averaged",
    ),
    Entry(
        "optimizer",
        optimizers.SparseAdam,
        "N3; Kingma & Ba 2015",
        {"learning_rate": 0.05, "beta_1": 0.8, "amsgrad": True},
    ),
    Entry(
        "optimizer",
        optimizers.Lookahead,
        "N3; Zhang 2019",
        {"inner_optimizer": INNER, "k": 3, "alpha": 0.8},
        note="around any optimizer",
    ),
    Entry(
        "optimizer",
        optimizers.Clipped,
        "N2 N4; Pascanu 2013",
        {"inner_optimizer": INNER, "global_clipnorm": 0.5},
        note="around any optimizer",
    ),
    Entry(
        "schedule",
        schedules.ExponentialDecay,
        "N3 N4; Robbins & Monro 1951",
        {"initial_learning_rate": 0.05, "decay_steps": 5, "decay_rate": 0.9, "staircase": True},
    ),
    Entry(
        "schedule",
        schedules.InverseTimeDecay,
        "N2 N4; Robbins & Monro 1951",
        {"initial_learning_rate": 0.05, "decay_steps": 5, "decay_rate": 0.5, "staircase": True},
    ),
    Entry(
        "schedule",
        schedules.NaturalExponentialDecay,
        "N4; Robbins & Monro 1951",
        {"initial_learning_rate": 0.05, "decay_steps": 5, "decay_rate": 0.1, "staircase": True},
    ),
    Entry(
        "schedule",
        schedules.PiecewiseConstantDecay,
        "N4; Robbins & Monro 1951",
        {"boundaries": [2, 5], "values": [0.05, 0.02, 0.01]},
    ),
    Entry(
        "schedule",
        schedules.PolynomialDecay,
        "N4; Robbins & Monro 1951",
        {
            "initial_learning_rate": 0.05,
            "decay_steps": 20,
            "end_learning_rate": 0.01,
            "power": 2.0,
            "cycle": True,
        },
    ),
    Entry(
        "schedule",
        schedules.LinearDecay,
        "N2; Goodfellow 2016",
        {"initial_learning_rate": 0.05, "decay_steps": 20, "end_learning_rate": 0.01},
    ),
    Entry(
        "schedule",
        schedules.CosineDecay,
        "N2; Loshchilov & Hutter 2017, Goyal 2017",
        {
            "initial_learning_rate": 0.01,
            "decay_steps": 20,
            "alpha": 0.1,
            "warmup_target": 0.05,
            "warmup_steps": 3,
        },
    ),
    Entry(
        "schedule",
        schedules.CosineDecayRestarts,
        "N2; Loshchilov & Hutter 2017",
        {
            "initial_learning_rate": 0.05,
            "first_decay_steps": 5,
            "t_mul": 3.0,
            "m_mul": 0.5,
            "alpha": 0.1,
        },
    ),
    Entry(
        "schedule",
        schedules.Warmup,
        "N2; Goyal 2017",
        {"learning_rate": 0.05, "warmup_steps": 3, "initial_learning_rate": 0.01},
    ),
    Entry(
        "function",
        second_order.minimize,
        "N2 N3; Levenberg 1944, Nocedal & Wright 2006",
        note="Newton, Newton-CG, L-BFGS over a whole data set",
    ),
    Entry(
        "initializer",
        initializers.HeNormal,
        "N0 N1; He 2015",
        {"seed": 7, "truncated": True},
    ),
    Entry("initializer", initializers.HeUniform, "N0 N1; He 2015", {"seed": 7}),
    Entry("initializer", initializers.Constant, "N0 N3", {"value": 0.5}),
    Entry("initializer", initializers.Ones, "N0 N3"),
    Entry("initializer", initializers.Zeros, "N0 N3"),
    Entry("initializer", initializers.RandomNormal, "N0 N4", {"stddev": 0.5, "seed": 7}),
    Entry("initializer", initializers.RandomUniform, "N0 N4", {"minval": -0.5, "seed": 7}),
    Entry("initializer", initializers.Orthogonal, "N0; Saxe 2013", {"gain": 2.0, "seed": 7}),
    Entry(
        "initializer",
        initializers.VariancePreserving,
        "N0 N1; He 2015, Hendrycks & Gimpel 2017",
        {"activation": "elu", "distribution": "uniform", "seed": 7, "dropout": 0.25},
        note="any activation, with dropout",
    ),
    Entry(
        "initializer",
        initializers.XavierNormal,
        "N0 N1; Glorot & Bengio 2010",
        {"seed": 7, "truncated": True, "gain": 2.0},
    ),
    Entry(
        "initializer",
        initializers.XavierUniform,
        "N0 N1; Glorot & Bengio 2010",
        {"seed": 7, "gain": 2.0},
    ),
    Entry("function", initializers.initializer_for, "N0 N1; Glorot & Bengio 2010, He 2015"),
    Entry(
        "function",
        initializers.initialize,
        "N0; Mishkin & Matas 2016, Krähenbühl 2016",
        note="LSUV, Krähenbühl",
    ),
    Entry("regularizer", regularizers.L1, "N0 N1 N4; Tibshirani 1996", {"l1": 0.03}),
    Entry("regularizer", regularizers.L2, "N0 N1 N4; Krogh & Hertz 1991", {"l2": 0.03}),
    Entry(
        "regularizer",
        regularizers.L1L2,
        "N0 N4; Zou & Hastie 2005",
        {"l1": 0.01, "l2": 0.02},
    ),
    Entry(
        "layer",
        layers.Affine,
        "N2; Ioffe & Szegedy 2015",
        {"axis": 1, "scale_initializer": "he_normal"},
        note="what a batch normalization becomes",
    ),
    Entry(
        "layer",
        layers.BatchNormalization,
        "N0 N1 N2 N4; Ioffe & Szegedy 2015",
        {"momentum": 0.9, "epsilon": 0.01, "statistics": "population"},
        note="moving or population statistics",
    ),
    Entry(
        "layer",
        layers.CenteredWeightNormalization,
        "N0; Huang 2017",
        {
            "layer": {"module": "keras.layers", "class_name": "Dense", "config": {"units": 4}},
            "scale_initializer": "he_normal",
        },
    ),
    Entry(
        "layer",
        layers.Dropout,
        "N0 N1 N4; Srivastava 2014",
        {"rate": 0.25, "seed": 3, "mode": "classic"},
        note="inverted, classic",
    ),
    Entry(
        "feature maps",
        layers.SpatialDropout1D,
        "N0 N4; Tompson 2015",
        {"rate": 0.25, "seed": 3, "dtype": "mixed_float16"},
    ),
    Entry(
        "feature maps",
        layers.SpatialDropout2D,
        "N0 N4; Tompson 2015",
        {"rate": 0.25, "seed": 3, "data_format": "channels_first"},
    ),
    Entry(
        "feature maps",
        layers.SpatialDropout3D,
        "N0 N4; Tompson 2015",
        {"rate": 0.25, "seed": 3, "data_format": "channels_first"},
    ),
    Entry("layer", layers.GaussianNoise, "N0; Bishop 1995", {"stddev": 1.5, "seed": 3}),
    Entry(
        "layer",
        layers.WeightNoise,
        "N0; Jim 1996, Graves 2011",
        {"layer": LAYER, "stddev": 0.1, "seed": 3},
    ),
    Entry(
        "preprocessing",
        layers.Standardization,
        "N0 N4; LeCun 1998",
        note="adapts to data",
    ),
    Entry(
        "preprocessing",
        layers.PCA,
        "N4; Pearson 1901",
        {"components": 2},
        note="adapts to data",
    ),
    Entry(
        "preprocessing",
        layers.Whitening,
        "N4; LeCun 1998, Bell & Sejnowski 1997",
        {"method": "zca", "epsilon": 0.01},
        note="PCA, ZCA",
    ),
    Entry("function", layers.estimate_population_statistics, "N2; Ioffe & Szegedy 2015"),
    Entry("function", layers.replace_batch_normalization, "N2; Ioffe & Szegedy 2015"),
    Entry(
        "function",
        layers.predict_mc,
        "N4; Gal & Ghahramani 2016",
        note="Monte-Carlo dropout",
    ),
    Entry(
        "callback",
        callbacks.EarlyStopping,
        "N0 N3; Prechelt 1998",
        {"monitor": "loss", "patience": 1},
        note="with a target",
    ),
    Entry(
        "callback",
        callbacks.CurvatureMonitor,
        "N2; Goodfellow 2016, Pearlmutter 1994",
        {"data": PROBE},
        note="gᵀg against ½ηgᵀHg",
    ),
    Entry(
        "callback",
        callbacks.DeadUnits,
        "N1 N2 N4; Glorot & Bengio 2010, Maas 2013",
        {"x": PROBE[0]},
        note="and saturated ones",
    ),
    Entry(
        "callback",
        callbacks.GradientMonitor,
        "N0 N1 N2 N4; Glorot & Bengio 2010, Pascanu 2013, He 2015",
        {"data": PROBE, "growth": 20.0},
        note="vanishing, exploding",
    ),
    Entry(
        "callback",
        callbacks.GradientClipping,
        "N2 N4; Pascanu 2013",
        {"global_norm": 0.5},
        note="for any optimizer",
    ),
    Entry(
        "callback", callbacks.LearningRateDecay, "N2 N3 N4; Robbins & Monro 1951", {"decay": 0.9}
    ),
    Entry(
        "callback",
        callbacks.OptimizerMonitor,
        "N0 N2",
        {"every": 2},
        note="norms, ratios, clipping, in the step itself",
    ),
    Entry(
        "callback",
        callbacks.ReduceLROnOscillation,
        "N4",
        {"factor": 0.9, "patience": 1, "every": 1},
    ),
    Entry(
        "callback",
        callbacks.ReduceLROnPlateau,
        "N2 N4",
        {"monitor": "loss", "factor": 0.9, "patience": 1},
    ),
    Entry("callback", callbacks.UpdateRatio, "N0 N2", {"every": 2}),
    Entry(
        "callback",
        callbacks.SwapWeights,
        "N2 N3; Polyak & Juditsky 1992",
        note="averages in and out",
    ),
    Entry(
        "function",
        callbacks.find_learning_rate,
        "N0 N3; Smith 2017, Bengio 2012",
        note="sweep and trials",
    ),
    Entry(
        "function",
        callbacks.resumable_fit,
        "N3",
        note="stopped and continued to the bit",
    ),
    Entry("function", clipping.clip_by_value, "N2 N4"),
    Entry("function", clipping.clip_by_norm, "N2 N4; Pascanu 2013"),
    Entry("function", clipping.clip_by_average_norm, "N4"),
    Entry("function", clipping.clip_by_global_norm, "N4; Pascanu 2013"),
    Entry("function", clipping.global_norm, "N4; Pascanu 2013"),
    Entry("function", plots.plot_history, "N0; Prechelt 1998"),
    Entry("function", plots.plot_gradient_flow, "N0 N1 N2; Glorot & Bengio 2010"),
    Entry("function", plots.plot_activations, "N0 N1 N2; Glorot & Bengio 2010"),
    Entry("function", plots.plot_weights, "N0 N1 N3; Glorot & Bengio 2010"),
    Entry("function", plots.plot_trajectory, "N0 N2 N3"),
    Entry("default", defaults.DefaultConfiguration, "N1 N0 N4", {"units": (16,)}),
    Entry("function", defaults.default_model, "N1 N0"),
    Entry(
        "function",
        defaults.ensemble,
        "N0 N4; Hansen & Salamon 1990, Lakshminarayanan 2017",
        note="several models as one",
    ),
    Entry(
        "function",
        defaults.hyper_model,
        "N0 N4; Bergstra & Bengio 2012",
        note="for KerasTuner",
    ),
)


def register() -> None:
    """Register our classes with Keras under the package name `kerasdl`."""
    for entry in CATALOG:
        if entry.own and entry.kind in REGISTERED:
            keras.saving.register_keras_serializable(package="kerasdl")(entry.object)
