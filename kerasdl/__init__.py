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
    regularizers,
    schedules,
    second_order,
)
from kerasdl._version import __version__
from kerasdl.callbacks import (
    EarlyStopping,
    GradientClipping,
    LearningRateDecay,
    OptimizerMonitor,
    SwapWeights,
)
from kerasdl.clipping import (
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    global_norm,
)
from kerasdl.defaults import DefaultConfiguration, default_model
from kerasdl.initializers import (
    HeNormal,
    HeUniform,
    XavierNormal,
    XavierUniform,
    initializer_for,
)
from kerasdl.layers import (
    Affine,
    BatchNormalization,
    Dropout,
    estimate_population_statistics,
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
    "Clipped",
    "CosineDecay",
    "CosineDecayRestarts",
    "DefaultConfiguration",
    "Dropout",
    "EarlyStopping",
    "ExponentialDecay",
    "Ftrl",
    "GradientClipping",
    "GradientControlledSGD",
    "HeNormal",
    "HeUniform",
    "InverseTimeDecay",
    "LearningRateDecay",
    "LinearDecay",
    "Lookahead",
    "Nadam",
    "NaturalExponentialDecay",
    "OptimizerMonitor",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "ProximalAdagrad",
    "ProximalSGD",
    "RMSprop",
    "SparseAdam",
    "SwapWeights",
    "Warmup",
    "XavierNormal",
    "XavierUniform",
    "__version__",
    "callbacks",
    "clip_by_average_norm",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "clipping",
    "default_model",
    "defaults",
    "estimate_population_statistics",
    "global_norm",
    "initializer_for",
    "initializers",
    "layers",
    "minimize",
    "optimizers",
    "regularizers",
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
