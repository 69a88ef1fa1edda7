"""Starting weights: plain ones, ones that suit the activation, ones that suit the data.

Constant weights make all units of a layer equal, and training keeps them so; plain random ones
let the signal explode or vanish with depth. `Constant`, `Ones`, `Zeros`, `RandomNormal` and
`RandomUniform` are here to show it, and are Keras' own, like `Orthogonal`, whose kernels keep
the length of what they are multiplied by.
"""

from keras.initializers import Constant, Ones, Orthogonal, RandomNormal, RandomUniform, Zeros

from kerasdl.initializers.he_normal import HeNormal
from kerasdl.initializers.he_uniform import HeUniform
from kerasdl.initializers.initialize import initialize
from kerasdl.initializers.initializer_for import initializer_for
from kerasdl.initializers.variance_preserving import VariancePreserving
from kerasdl.initializers.xavier_normal import XavierNormal
from kerasdl.initializers.xavier_uniform import XavierUniform

__all__ = [
    "Constant",
    "HeNormal",
    "HeUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "VariancePreserving",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "initialize",
    "initializer_for",
]
