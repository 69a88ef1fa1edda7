"""The notes' tables: which initialization goes with which activation."""

import math
from typing import Any, Literal

import keras

from kerasdl._checks import require
from kerasdl.initializers.he_normal import HeNormal
from kerasdl.initializers.he_uniform import HeUniform
from kerasdl.initializers.xavier_normal import XavierNormal
from kerasdl.initializers.xavier_uniform import XavierUniform

Row = Literal["rectifier", "logistic", "tanh", "other", "selu"]

_MEMBERS: dict[Row, tuple[str, ...]] = {
    "rectifier": (
        "relu", "leaky_relu", "prelu", "relu6", "elu", "celu", "gelu", "silu", "swish",
        "hard_silu", "hard_swish", "mish", "softplus", "squareplus", "sparse_plus",
    ),
    "logistic": ("sigmoid", "hard_sigmoid", "sparse_sigmoid"),
    "tanh": ("tanh", "hard_tanh"),
    "other": ("linear", "log_sigmoid", "softsign", "softmax", "log_softmax", "sparsemax"),
    "selu": ("selu",),
}  # fmt: skip

_ROWS: dict[str, Row] = {
    member.replace("_", ""): row for row, members in _MEMBERS.items() for member in members
}

# Factors on the Xavier forms; 1 where nothing stands. A rectifier without a factor takes He.
_GAINS: dict[str, dict[Row, float]] = {
    "N0": {},
    "glorot": {"logistic": 4.0},
    "N1": {"tanh": 4.0, "rectifier": math.sqrt(2.0)},
}

_HE = {"normal": HeNormal, "uniform": HeUniform}
_XAVIER = {"normal": XavierNormal, "uniform": XavierUniform}
_LECUN = {"normal": keras.initializers.LecunNormal, "uniform": keras.initializers.LecunUniform}


def initializer_for(
    activation: Any, distribution: str = "normal", seed: Any = None, table: str = "glorot"
) -> keras.initializers.Initializer:
    """Return the initializer that suits the activation that follows the weights.

    With σ_X = √(2 / (fan_in + fan_out)), Xavier's spread, and σ_He = √(2 / fan_in):

        activation                     table="glorot"   "N0"       "N1"
        ReLU, leaky, ELU, GELU, ...    σ_He             σ_He       √2 σ_X
        logistic (sigmoid)             4 σ_X            σ_X        σ_X
        hyperbolic tangent             σ_X              σ_X        4 σ_X
        softmax, linear, others        σ_X              σ_X        σ_X
        SELU                           √(1/fan_in)      the same   the same

    The tables disagree about the factor 4. The one that goes by Glorot & Bengio's names has
    it on the logistic unit, whose slope at 0 is 1/4; N1 prints it on the hyperbolic tangent,
    whose slope is 1 and which it saturates. It is meant for hidden units: the output layer of
    a classifier starts better without it, as N0 has it.

    These are recommendations for a few layers, or for networks with batch normalization.
    Through any depth only ReLU with He, SELU with LeCun, and linear with Xavier at equal
    widths keep the size of the signal. After 50 layers of 256 to 512 units its second moment
    has changed by a factor of 25 to 50 for ELU with He, 0.01 for tanh with Xavier, 1e-13 for
    GELU with He. `VariancePreserving(activation)` has the exact factor of any activation.

    Args:
        activation: Name (`"elu"`), function (`keras.activations.elu`), activation layer
            (`keras.layers.ELU()`, `keras.layers.Activation("elu")`) or None for linear.
        distribution: `"normal"` or `"uniform"`. Default `"normal"`.
        seed: Integer or `keras.random.SeedGenerator`. Default None.
        table: `"glorot"`, `"N0"` or `"N1"`. Default `"glorot"`.

    Returns:
        A new initializer; call this once per layer, so that no two layers share their
        draws.

    Raises:
        ValueError: `activation`, `distribution` or `table` is not among the known ones.

    Example:

    >>> type(initializer_for("elu")).__name__
    'HeNormal'
    >>> type(initializer_for(keras.layers.Softmax(), distribution="uniform")).__name__
    'XavierUniform'
    >>> initializer_for("tanh", table="N1").gain
    4.0

    References:
        N0 (best practices), N1 (initialization table); Glorot & Bengio 2010; He et al.
        2015; Klambauer et al., "Self-Normalizing Neural Networks", 2017 (SELU).
    """
    require(
        distribution in ("normal", "uniform"),
        "distribution",
        distribution,
        "'normal' or 'uniform'",
        "Both have the same standard deviation; 'normal' is the default.",
    )
    require(
        isinstance(table, str) and table in _GAINS,
        "table",
        table,
        "'glorot', 'N0' or 'N1'",
        "'glorot' is the default; the tables differ in where they put a factor.",
    )
    row = _ROWS.get(activation_name(activation).lower().replace("_", ""))
    known = ", ".join(sorted(name for members in _MEMBERS.values() for name in members))
    require(
        row is not None,
        "activation",
        activation,
        f"None or one of: {known}",
        "For another activation use `VariancePreserving`, or choose an initializer by hand.",
    )
    assert row is not None
    if row == "selu":
        return _LECUN[distribution](seed=seed)
    if row == "rectifier" and row not in _GAINS[table]:
        return _HE[distribution](seed=seed)
    return _XAVIER[distribution](seed=seed, gain=_GAINS[table].get(row, 1.0))


def activation_name(activation: Any) -> str:
    """Return the plain name of an activation given as None, name, function or layer.

    Example:

    >>> activation_name(keras.layers.Activation("tanh"))
    'tanh'
    """
    if activation is None:
        return "linear"
    if isinstance(activation, str):
        return activation
    if isinstance(activation, keras.layers.Activation):
        return activation_name(activation.activation)
    return str(getattr(activation, "__name__", type(activation).__name__))
