"""Units that do not learn any more, in the logs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl.callbacks._probe import require_inputs, require_samples, tensors
from kerasdl.callbacks._slopes import Slope, slope_of

SATURATED_BELOW = 0.1
MOST = 0.5


class DeadUnits(keras.callbacks.Callback):
    """Write the shares of dead and of saturated units into the logs, at the end of every epoch.

    With y = φ(z) the outputs of one unit over all samples of `x`, and its relative slope
    s = |φ'(z)|/max|φ'|:

    1. `dead_units/LAYER`, of ReLU and ReLU6: a unit is dead if s = 0 for every sample (for
       ReLU, if y is zero for every sample). No gradient passes, so it stays dead unless the
       layers before it change.
    2. `saturated_units/LAYER`, of sigmoid, tanh, softsign, softplus, log-sigmoid, their hard
       forms, ELU, CELU and SELU: a unit is saturated if s < 0.1 for more than half of the
       samples. That is |y| > 0.949 for tanh, y < 0.026 or y > 0.974 for sigmoid, y < −0.9 for
       ELU, and a bound itself for the hard forms.

    The activation may be a layer (`ReLU`, `ELU`, `Activation`) or the argument of one
    (`Dense`, `Conv2D`); models inside the model are entered, other layers made of layers and
    recurrent layers are not. A unit is a channel: positions in space and time count as
    samples, and so do several calls of a shared layer. Activations that never become flat,
    softmax and functions of your own are left out. A sigmoid as the output of a sure
    classifier is saturated, and may be.

    The network runs in inference mode, and nothing that it assigns stays. More than 0.4 dead
    usually means that the learning rate is, or was, too large; saturated ones, that the
    initial weights or the inputs are. Place the callback before `CSVLogger` and
    `TensorBoard`.

    Args:
        x: Inputs of a batch: an array, or a structure of them as in `fit`. More samples than
            a hundred, so that a rare unit is not called dead.

    Raises:
        ValueError: `x` is not, or is empty; at the start of the training: it does not fit the
            model, or no layer has such an activation.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, "relu", name="hidden")])
    >>> model.compile(keras.optimizers.SGD(0.0), loss="mse")
    >>> model.set_weights([np.array([[1.0, 1.0]]), np.array([0.0, -2.0])])
    >>> x, y = np.array([[1.0], [-1.0]]), np.zeros((2, 2))
    >>> model.fit(x, y, verbose=0, callbacks=[DeadUnits(x)]).history["dead_units/hidden"]
    [0.5]

    References:
        N1, N2 and N4 (saturating activations, ReLU); Glorot & Bengio 2010 (saturation),
        Maas et al. 2013, "Rectifier Nonlinearities Improve Neural Network Acoustic Models"
        (dead units).
    """

    def __init__(self, x: Any) -> None:
        super().__init__()
        require_samples(x)
        self.x = x

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Look whether the inputs fit, and whether there is something to look at."""
        model = self.model
        require_inputs(model, self.x)
        if not any(slope_of(layer) for _, layer in _layers(model)):
            raise ValueError(
                f"DeadUnits needs a model with activations that can become flat: ReLU, sigmoid, "
                f"tanh, ELU and the like. Received: model {model.name!r} without one. "
                "Leave the callback out."
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the shares into the logs."""
        if logs is None:
            return
        for name, count in _observe(self.model, self.x).items():
            kind = "dead" if count.slope.rectifies else "saturated"
            logs[f"{kind}_units/{name}"] = count.share()


class _Count:
    """What is known of the units of one layer after some of its outputs."""

    def __init__(self, layer: Any, slope: Slope) -> None:
        self.slope = slope
        self.format = getattr(layer, "data_format", None)
        self.samples = 0
        self.flat: Any = 0

    def add(self, outputs: Any) -> None:
        y = ops.convert_to_numpy(outputs).astype("float64")
        image = self.format or (y.ndim > 3 and keras.config.image_data_format())
        axis = 1 if image == "channels_first" else y.ndim - 1
        slopes = self.slope.of(np.moveaxis(y, axis, -1).reshape(-1, y.shape[axis]))
        flat = slopes == 0 if self.slope.rectifies else slopes < SATURATED_BELOW
        self.flat = self.flat + flat.sum(axis=0)
        self.samples += len(slopes)

    def share(self) -> float:
        shares = self.flat / self.samples
        return float(np.mean(shares == 1.0 if self.slope.rectifies else shares > MOST))


def _observe(model: Any, x: Any) -> dict[str, _Count]:
    """Run `x` through the model while its activations are counted."""
    counts: dict[str, _Count] = {}
    hear: dict[int, tuple[Any, Callable[[Any], None]]] = {}
    for name, layer in _layers(model):
        slope = slope_of(layer)
        if slope is not None and id(layer) not in hear:
            counts[name] = _Count(layer, slope)
            hear[id(layer)] = layer, counts[name].add
    inputs = tensors(x)
    with _heard(list(hear.values())), keras.StatelessScope():
        model(inputs, training=False)
    return {name: count for name, count in counts.items() if count.samples}


def _layers(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer, f"{prefix}{layer.name}/")
        else:
            yield f"{prefix}{layer.name}", layer


@contextmanager
def _heard(pairs: list[tuple[Any, Callable[[Any], None]]]) -> Iterator[None]:
    """Let functions hear what layers put out.

    `call` is looked up on the layer, so an entry in its dictionary stands before the method;
    Keras' own attribute tracking is passed by.
    """
    before = [(layer, vars(layer).get("call")) for layer, _ in pairs]

    def heard(call: Callable[..., Any], hear: Callable[[Any], None]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            hear(outputs)
            return outputs

        return wrapped

    try:
        for layer, hear in pairs:
            vars(layer)["call"] = heard(layer.call, hear)
        yield
    finally:
        for layer, call in before:
            vars(layer).pop("call", None)
            if call is not None:
                vars(layer)["call"] = call
