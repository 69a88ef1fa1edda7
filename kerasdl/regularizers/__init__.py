"""Penalties on the weights: Keras' own classes are the notes' algorithms.

    L1    Ω(θ) = λ Σ |θ|            drives weights to exactly zero
    L2    Ω(θ) = λ Σ θ²             shrinks all of them; its gradient is 2λθ
    L1L2  Ω(θ) = λ₁ Σ |θ| + λ₂ Σ θ²

There is no factor ½ in L2: N0's decay form θ ← (1 − ηλ)θ − ηg needs `L2(λ / 2)` under plain
gradient descent. Typical λ lie between 1e-5 and 1e-2. The penalty covers every weight it is
attached to, so attach it to kernels and leave biases and batch normalization alone.

Under an adaptive optimizer the decay form is no penalty at all: there the penalty's gradient is
divided by √v like any other, and weights with large gradients hardly decay. The decoupled decay
θ ← (1 − ηλ)θ is an argument of every optimizer, `weight_decay`, with
`weight_decay_multipliers` to choose the weights:

    kerasdl.Adam(1e-3, weight_decay=1e-4, weight_decay_multipliers={"*/bias": 0.0})

Example:

>>> import numpy as np
>>> float(L2(0.1)(np.array([3.0, -4.0], "float32")))
2.5

References:
    N0, N1, N4 (weight regularization); Krogh & Hertz, "A Simple Weight Decay Can Improve
    Generalization", 1991; Tibshirani, "Regression Shrinkage and Selection via the Lasso",
    1996; Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019.
"""

from keras.regularizers import L1, L1L2, L2

__all__ = ["L1", "L1L2", "L2"]
