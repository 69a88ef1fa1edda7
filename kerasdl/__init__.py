"""The training algorithms of five lecture notes as ordinary Keras objects.

Every public name stands here and in the submodule where Keras has it. Importing the package
registers its classes with Keras, so that saved models load without `custom_objects`.

Example:

>>> import kerasdl
>>> kerasdl.Adam(1e-3).name
'adam'

References:
    N0 to N4: the notes, see ARCHITECTURE.md.
"""

from pathlib import Path as _Path

from kerasdl import (
    callbacks,
    catalog,
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
from kerasdl._version import __version__
from kerasdl.callbacks import (
    CurvatureMonitor,
    DeadUnits,
    EarlyStopping,
    GradientClipping,
    GradientMonitor,
    LearningRateDecay,
    OptimizerMonitor,
    ReduceLROnOscillation,
    ReduceLROnPlateau,
    SwapWeights,
    UpdateRatio,
    find_learning_rate,
    resumable_fit,
)
from kerasdl.clipping import (
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    global_norm,
)
from kerasdl.defaults import DefaultConfiguration, default_model, ensemble, hyper_model
from kerasdl.initializers import (
    Constant,
    HeNormal,
    HeUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    VariancePreserving,
    XavierNormal,
    XavierUniform,
    Zeros,
    initialize,
    initializer_for,
)
from kerasdl.layers import (
    PCA,
    Affine,
    BatchNormalization,
    CenteredWeightNormalization,
    Dropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
    Standardization,
    WeightNoise,
    Whitening,
    estimate_population_statistics,
    predict_mc,
    replace_batch_normalization,
)
from kerasdl.optimizers import (
    ASGD,
    SGD,
    AdaBound,
    Adadelta,
    Adagrad,
    AdagradDA,
    Adam,
    Adamax,
    AdamW,
    Clipped,
    Ftrl,
    GradientControlledSGD,
    Lookahead,
    Nadam,
    ProximalAdagrad,
    ProximalSGD,
    RMSprop,
    SparseAdam,
)
from kerasdl.plots import (
    plot_activations,
    plot_gradient_flow,
    plot_history,
    plot_trajectory,
    plot_weights,
)
from kerasdl.regularizers import L1, L1L2, L2
from kerasdl.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LinearDecay,
    NaturalExponentialDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
    Warmup,
)
from kerasdl.second_order import minimize

__all__ = [
    "ASGD",
    "L1",
    "L1L2",
    "L2",
    "PCA",
    "SGD",
    "AdaBound",
    "Adadelta",
    "Adagrad",
    "AdagradDA",
    "Adam",
    "AdamW",
    "Adamax",
    "Affine",
    "BatchNormalization",
    "CenteredWeightNormalization",
    "Clipped",
    "Constant",
    "CosineDecay",
    "CosineDecayRestarts",
    "CurvatureMonitor",
    "DeadUnits",
    "DefaultConfiguration",
    "Dropout",
    "EarlyStopping",
    "ExponentialDecay",
    "Ftrl",
    "GaussianNoise",
    "GradientClipping",
    "GradientControlledSGD",
    "GradientMonitor",
    "HeNormal",
    "HeUniform",
    "InverseTimeDecay",
    "LearningRateDecay",
    "LinearDecay",
    "Lookahead",
    "Nadam",
    "NaturalExponentialDecay",
    "Ones",
    "OptimizerMonitor",
    "Orthogonal",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "ProximalAdagrad",
    "ProximalSGD",
    "RMSprop",
    "RandomNormal",
    "RandomUniform",
    "ReduceLROnOscillation",
    "ReduceLROnPlateau",
    "SparseAdam",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "Standardization",
    "SwapWeights",
    "UpdateRatio",
    "VariancePreserving",
    "Warmup",
    "WeightNoise",
    "Whitening",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "__version__",
    "callbacks",
    "clip_by_average_norm",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "clipping",
    "default_model",
    "defaults",
    "ensemble",
    "estimate_population_statistics",
    "find_learning_rate",
    "global_norm",
    "hyper_model",
    "initialize",
    "initializer_for",
    "initializers",
    "layers",
    "minimize",
    "optimizers",
    "plot_activations",
    "plot_gradient_flow",
    "plot_history",
    "plot_trajectory",
    "plot_weights",
    "plots",
    "predict_mc",
    "regularizers",
    "replace_batch_normalization",
    "resumable_fit",
    "schedules",
    "second_order",
]


def _add_checkout(package: _Path, search_path: list[str]) -> None:
    """Let `kerasdl.export` be found in a bare checkout, where it stands beside `kerasdl/`.

    An installed package holds its own `export` folder and is left alone, and so is a folder
    of that name that belongs to somebody else.
    """
    root = package.parent
    project = root / "pyproject.toml"
    if (package / "export").exists() or not (root / "export" / "__init__.py").is_file():
        return
    if project.is_file() and 'name = "kerasdl"' in project.read_text(encoding="utf-8"):
        search_path.append(str(root))


_add_checkout(_Path(__file__).resolve().parent, __path__)
catalog.register()
