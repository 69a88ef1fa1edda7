"""Norms of the gradients of every layer, and whether they vanish or explode."""

import math
import warnings
from typing import Any, Literal

import keras
import numpy as np

from kerasdl._checks import is_real, require
from kerasdl.callbacks._by_layer import by_layer, norm
from kerasdl.callbacks._probe import Probe, require_inputs

Verdict = Literal["vanishing", "exploding"]
ADVICE = {
    "vanishing": "Use non-saturating activations, He or Xavier initialization or batch "
    "normalization",
    "exploding": "Use a smaller learning rate, gradient clipping, smaller initial weights or "
    "batch normalization",
}


class GradientMonitor(keras.callbacks.Callback):
    """Write ‖g‖ of every layer over a probe batch into the logs, and judge it.

    At the end of every epoch g = ∇J is evaluated at `data`, where J is the compiled loss with
    all penalties, and `gradient_norm/LAYER` = ‖g‖ over the variables of the layer is logged.
    With r = ‖g‖/√n the root mean square over its n elements, a layer is

    1. exploding, if g is not finite; if r > `exploding` · the r of the last layer; or if
       ‖g‖ > `growth` · the mean of its ‖g‖ after the epochs before;
    2. vanishing, if r < `vanishing` · the r of a layer after it.

    "After" means nearer to the loss: the notes' gradients shrink or grow "as we go backward".
    So a network that has converged, where all gradients are small, gets no verdict. A warning
    names the layers when they get one; `verdicts` has those of the last epoch.

    Where the limits come from: He et al. 2015 (section 2.2) find that a gradient which is
    1/(1.7e4) of what it should be after nine layers explains why their network did not learn,
    and a wrong factor per layer acts to the power of the depth, one above 1 as one below it:
    so 1e-4 and its inverse. Pascanu et al. 2013 clip at half to ten times the average norm:
    what is above ten times is exploding.

    It works with any optimizer. The network runs in inference mode (dropout and noise off,
    moving statistics in batch normalization), so that the numbers can be compared from epoch
    to epoch, and training goes on bit by bit as without the callback. They are before
    clipping. `OptimizerMonitor` measures in the training step instead and logs under the same
    name: use one of the two. Place the callback before `CSVLogger` and `TensorBoard`.

    Args:
        data: (x, y) or (x, y, sample_weight), a batch of the training data.
        vanishing: In (0, 1).
        exploding: Above 1.
        growth: Above 1.

    Raises:
        ValueError: An argument is out of its range, or `data` empty; at the start of the
            training: x does not fit the model.

    Example:

    >>> dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="out")
    >>> model = keras.Sequential([keras.Input((1,)), dense])
    >>> model.compile(keras.optimizers.Adam(0.0), loss="mse")
    >>> x, y = np.array([[3.0]]), np.array([[1.0]])
    >>> monitor = GradientMonitor((x, y))
    >>> model.fit(x, y, verbose=0, callbacks=[monitor]).history["gradient_norm/out"]
    [6.0]
    >>> monitor.verdicts
    {}

    References:
        N0, N1, N2 and N4 (vanishing and exploding gradients); Glorot & Bengio 2010; Pascanu
        et al. 2013, "On the difficulty of training recurrent neural networks"; He et al.
        2015, "Delving Deep into Rectifiers".
    """

    def __init__(
        self,
        data: Any,
        vanishing: float = 1e-4,
        exploding: float = 1e4,
        growth: float = 10.0,
    ) -> None:
        super().__init__()
        require(
            is_real(vanishing) and 0 < vanishing < 1,
            "vanishing",
            vanishing,
            "in (0, 1)",
            "Pass the ratio to a layer nearer to the loss, 1e-4 for instance.",
        )
        for argument, limit in (("exploding", exploding), ("growth", growth)):
            require(
                is_real(limit) and limit > 1,
                argument,
                limit,
                "above 1",
                "Leave it out for the limit of the literature.",
            )
        self.vanishing = vanishing
        self.exploding = exploding
        self.growth = growth
        self.verdicts: dict[str, Verdict] = {}
        self._probe = Probe(data)
        self._before: list[dict[str, float]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget the training before."""
        require_inputs(self.model, self._probe.x)
        self.verdicts = {}
        self._before = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, log and judge."""
        model = self.model
        gradient = self._probe.gradient(model)
        layers = by_layer(model.trainable_variables)
        norms = {name: norm([gradient[i] for i in own]) for name, own in layers.items()}
        sizes = {name: sum(gradient[i].size for i in own) for name, own in layers.items()}
        if logs is not None:
            logs.update({f"gradient_norm/{name}": value for name, value in norms.items()})
        verdicts = self._judge(norms, sizes)
        self._warn(epoch, verdicts)
        self.verdicts = verdicts
        self._before.append(norms)

    def _judge(self, norms: dict[str, float], sizes: dict[str, int]) -> dict[str, Verdict]:
        verdicts: dict[str, Verdict] = {}
        r = {name: norms[name] / math.sqrt(max(sizes[name], 1)) for name in norms}
        last, most_after = [0.0, *r.values()][-1], 0.0
        for name in reversed(list(norms)):
            mean = np.mean([each[name] for each in self._before]) if self._before else 0.0
            grown = 0 < self.growth * mean < norms[name]
            if not math.isfinite(r[name]) or grown or 0 < self.exploding * last < r[name]:
                verdicts[name] = "exploding"
            elif r[name] < self.vanishing * most_after:
                verdicts[name] = "vanishing"
            if math.isfinite(r[name]):
                most_after = max(most_after, r[name])
        return {name: verdicts[name] for name in norms if name in verdicts}

    def _warn(self, epoch: int, verdicts: dict[str, Verdict]) -> None:
        for verdict, advice in ADVICE.items():
            new = [
                name
                for name, each in verdicts.items()
                if each == verdict and self.verdicts.get(name) != verdict
            ]
            if new:
                warnings.warn(
                    f"Epoch {epoch + 1}: {verdict} gradients in {', '.join(new)}. {advice}.",
                    stacklevel=2,
                )
