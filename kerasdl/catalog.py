"""The table of public objects.

It is read by the registration of serializable classes (`kerasdl/__init__.py`), by the
contract tests (`tests/test_contract.py`) and by the list in the README. To add an object:
write its file, export it from its package, add its line here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import keras

from kerasdl import (
    callbacks,
    clipping,
    defaults,
    initializers,
    layers,
    optimizers,
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
    "callback",
    "function",
    "default",
]
SERIALIZED: frozenset[Kind] = frozenset(
    {"optimizer", "schedule", "initializer", "regularizer", "layer"}
)


@dataclass(frozen=True)
class Entry:
    """One public object.

    Attributes:
        kind: What it is to Keras.
        object: The class or function.
        source: Keys of the notes (N0..N4) and the paper it comes from.
        arguments: Non-default constructor arguments, for the contract tests.
    """

    kind: Kind
    object: Callable[..., Any]
    source: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def name(self) -> str:
        return self.object.__name__

    @property
    def own(self) -> bool:
        """Whether the class is ours; Keras' is re-exported where it is the algorithm."""
        return self.object.__module__.startswith("kerasdl.")


# Of the optimizers around another one: a config, so that every test gets a new one.
INNER = {"class_name": "kerasdl>SGD", "config": {"learning_rate": 0.05, "momentum": 0.8}}

CATALOG: tuple[Entry, ...] = (
    Entry(
        "optimizer",
        optimizers.SGD,
        "N0 N1 N2 N3 N4; Robbins & Monro 1951, Polyak 1964, Nesterov 1983",
        {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True},
    ),
    Entry(
        "optimizer",
        optimizers.Adam,
        "N0 N1 N3 N4; Kingma & Ba 2015, Reddi 2018",
        {"learning_rate": 0.05, "beta_1": 0.8, "amsgrad": True},
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
    ),
    Entry(
        "optimizer",
        optimizers.Clipped,
        "N2 N4; Pascanu 2013",
        {"inner_optimizer": INNER, "global_clipnorm": 0.5},
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
    Entry("function", second_order.minimize, "N2 N3; Levenberg 1944, Nocedal & Wright 2006"),
    Entry(
        "initializer",
        initializers.HeNormal,
        "N0 N1; He 2015",
        {"seed": 7, "truncated": True},
    ),
    Entry("initializer", initializers.HeUniform, "N0 N1; He 2015", {"seed": 7}),
    Entry(
        "initializer",
        initializers.XavierNormal,
        "N0 N1; Glorot & Bengio 2010",
        {"seed": 7, "truncated": True},
    ),
    Entry(
        "initializer",
        initializers.XavierUniform,
        "N0 N1; Glorot & Bengio 2010",
        {"seed": 7},
    ),
    Entry("function", initializers.initializer_for, "N0 N1; Glorot & Bengio 2010, He 2015"),
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
    ),
    Entry(
        "layer",
        layers.BatchNormalization,
        "N0 N1 N2 N4; Ioffe & Szegedy 2015",
        {"momentum": 0.9, "epsilon": 0.01, "statistics": "population"},
    ),
    Entry("layer", layers.Dropout, "N0 N1 N4; Srivastava 2014", {"rate": 0.25, "seed": 3}),
    Entry("function", layers.estimate_population_statistics, "N2; Ioffe & Szegedy 2015"),
    Entry(
        "callback",
        callbacks.EarlyStopping,
        "N0 N3; Prechelt 1998",
        {"monitor": "loss", "patience": 1},
    ),
    Entry("callback", callbacks.GradientClipping, "N2 N4; Pascanu 2013", {"global_norm": 0.5}),
    Entry(
        "callback", callbacks.LearningRateDecay, "N2 N3 N4; Robbins & Monro 1951", {"decay": 0.9}
    ),
    Entry("callback", callbacks.OptimizerMonitor, "N0 N2", {"every": 2}),
    Entry("callback", callbacks.SwapWeights, "N2 N3; Polyak & Juditsky 1992"),
    Entry("function", clipping.clip_by_value, "N2 N4"),
    Entry("function", clipping.clip_by_norm, "N2 N4; Pascanu 2013"),
    Entry("function", clipping.clip_by_average_norm, "N4"),
    Entry("function", clipping.clip_by_global_norm, "N4; Pascanu 2013"),
    Entry("function", clipping.global_norm, "N4; Pascanu 2013"),
    Entry("default", defaults.DefaultConfiguration, "N1 N0 N4", {"units": (16,)}),
    Entry("function", defaults.default_model, "N1 N0"),
)


def register() -> None:
    """Register our classes with Keras under the package name `kerasdl`."""
    for entry in CATALOG:
        if entry.own and entry.kind in SERIALIZED:
            keras.saving.register_keras_serializable(package="kerasdl")(entry.object)
