"""N2's sign of ill-conditioning: does a gradient step still go down?"""

from typing import Any

import keras

from kerasdl.callbacks._optimizer import innermost_optimizer
from kerasdl.callbacks._probe import Probe, require_inputs
from kerasdl.callbacks._rate import rate


class CurvatureMonitor(keras.callbacks.Callback):
    """Write gᵀg and ½ηgᵀHg over a probe batch into the logs, at the end of every epoch.

        J(θ − ηg) ≈ J(θ) − η(gᵀg − ½ηgᵀHg)

    1. `curvature/gradient_squared`: gᵀg.
    2. `curvature/half_eta_gHg`: ½ηgᵀHg, with the present learning rate η.

    Once the second is larger than the first, a gradient step makes the loss larger. If gᵀg
    hardly shrinks while ½ηgᵀHg grows, the Hessian H is ill-conditioned: take a smaller η,
    momentum, or an optimizer that scales each weight. Negative values mean that the loss
    bends downward. Both are about the plain gradient step, whatever the optimizer makes of g.

    J is the compiled loss with all penalties at `data`. Hg is exact, from differentiating
    twice, for the cost of about three gradients. The network runs in inference mode (dropout
    and noise off, moving statistics in batch normalization), and training goes on bit by bit
    as without the callback. Place it before `CSVLogger` and `TensorBoard`.

    Args:
        data: (x, y) or (x, y, sample_weight), a batch of the training data.

    Raises:
        ValueError: `data` is not, or is empty; at the start of the training: the model has no
            optimizer, or x does not fit it.

    Example:

    >>> import numpy as np
    >>> dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    >>> model = keras.Sequential([keras.Input((1,)), dense])
    >>> model.compile(keras.optimizers.SGD(0.0), loss="mse")
    >>> x, y = np.array([[1.0]]), np.array([[1.0]])
    >>> history = model.fit(x, y, verbose=0, callbacks=[CurvatureMonitor((x, y))]).history
    >>> history["curvature/gradient_squared"], history["curvature/half_eta_gHg"]
    ([4.0], [0.0])

    References:
        N2 (ill-conditioning); Goodfellow, Bengio & Courville 2016, section 8.2.1; Pearlmutter
        1994, "Fast Exact Multiplication by the Hessian".
    """

    def __init__(self, data: Any) -> None:
        super().__init__()
        self._probe = Probe(data)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Look whether there is a learning rate and the inputs fit."""
        innermost_optimizer(self.model, self)
        require_inputs(self.model, self._probe.x)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the two numbers into the logs."""
        model = self.model
        squared, product = self._probe.curvature(model)
        if logs is not None:
            η = rate(innermost_optimizer(model, self))
            logs["curvature/gradient_squared"] = squared
            logs["curvature/half_eta_gHg"] = η * product / 2
