"""A batch at which the loss and its derivatives are evaluated beside the training."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasdl import _autodiff
from kerasdl._checks import require

Array = np.ndarray[Any, np.dtype[np.float64]]


class Probe:
    """The compiled loss of a model, with its penalties, over one fixed batch.

    The network runs in inference mode, so the loss is the same function of the weights every
    time: dropout and noise are off, batch normalization uses its moving statistics. It runs
    in a stateless scope, so nothing that a layer, a metric or a generator of random numbers
    assigns stays. Scaled losses (`LossScaleOptimizer`) are scaled here too, by less where
    they would overflow, and the scale is divided out.

    Args:
        data: (x, y) or (x, y, sample_weight): arrays, or structures of them as in `fit`, with
            one or more samples.

    Raises:
        ValueError: It is not.
    """

    def __init__(self, data: Any) -> None:
        require(
            isinstance(data, (tuple, list)) and len(data) in (2, 3),
            "data",
            type(data).__name__ if not isinstance(data, (tuple, list)) else f"{len(data)} items",
            "(x, y) or (x, y, sample_weight)",
            "Pass a batch of the data that the model is trained on.",
        )
        require_samples(*data)
        self.x, self.y, self.weight = (*data, None)[:3]

    def gradient(self, model: Any) -> list[Array]:
        """∇J, one array per trainable variable."""

        def at(loss: Callable[..., Any], values: list[Any], scale: float) -> list[Array]:
            return [each / scale for each in _wide(_autodiff.gradient(loss, values))]

        return self._evaluate(model, at)

    def curvature(self, model: Any) -> tuple[float, float]:
        """gᵀg and gᵀHg."""

        def at(loss: Callable[..., Any], values: list[Any], scale: float) -> list[Array]:
            g, Hg = map(_wide, _autodiff.gradient_and_product(loss, values))
            squared = sum((each**2).sum() for each in g)
            product = sum((each * other).sum() for each, other in zip(g, Hg, strict=True))
            return [np.asarray(squared / scale**2), np.asarray(product / scale**3)]

        squared, product = self._evaluate(model, at)
        return float(squared), float(product)

    def _evaluate(self, model: Any, at: Callable[..., list[Array]]) -> list[Array]:
        scale = _loss_scale(model)
        while True:
            values = [ops.convert_to_tensor(v.value) for v in model.trainable_variables]
            found = at(lambda values, s=scale: self._loss(model, values) * s, values, scale)
            if scale <= 1 or all(np.isfinite(each).all() for each in found):
                return found
            scale = max(scale / 16, 1.0)

    def _loss(self, model: Any, values: Sequence[Any]) -> Any:
        """J, differentiable in the values of the trainable variables."""
        mapping = list(zip(model.trainable_variables, values, strict=True))
        x, y, weight = map(tensors, (self.x, self.y, self.weight))
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True):
            prediction = model(x, training=False)
            return model.compute_loss(x=x, y=y, y_pred=prediction, sample_weight=weight)


def require_samples(x: Any, *others: Any) -> None:
    """Raise ValueError unless these are arrays with the same number of samples, not zero."""
    arrays = [each for part in (x, *others) for each in keras.tree.flatten(part)]
    arrays = [each for each in arrays if each is not None]
    shapes = [tuple(getattr(each, "shape", ())) for each in arrays]
    lengths = {shape[0] if shape else None for shape in shapes}
    require(
        len(lengths) == 1 and not lengths & {None, 0},
        "data",
        shapes,
        "arrays with the same number of samples, one or more",
        "Pass NumPy arrays with a batch of the training data.",
    )


def require_inputs(model: Any, x: Any) -> None:
    """Raise ValueError if a model that says what it takes would not take `x`."""
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return
    if isinstance(x, dict):
        pairs = [(each, x[each.name]) for each in inputs if each.name in x]
    else:
        arrays = keras.tree.flatten(x)
        require(
            len(arrays) == len(inputs),
            "data",
            f"{len(arrays)} input arrays",
            f"inputs for the {len(inputs)} inputs of the model {model.name!r}",
            "Pass x in the structure that `fit` gets.",
        )
        pairs = list(zip(inputs, arrays, strict=True))
    for each, array in pairs:
        require(
            _fits(tuple(each.shape)[1:], tuple(array.shape)[1:]),
            "data",
            tuple(array.shape),
            f"inputs of shape {tuple(each.shape)} for {each.name!r}",
            "Pass x as `fit` gets it, with the axis of the samples first.",
        )


def _fits(expected: tuple[int | None, ...], found: tuple[int, ...]) -> bool:
    """Whether Keras takes it: it adds or drops a last axis of length one."""
    if len(expected) == len(found) + 1 and expected[-1] == 1:
        found = (*found, 1)
    if len(found) == len(expected) + 1 and found[-1] == 1:
        found = found[:-1]
    return len(expected) == len(found) and all(
        size in (None, each) for size, each in zip(expected, found, strict=True)
    )


def _loss_scale(model: Any) -> float:
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return 1.0
    return float(ops.convert_to_numpy(optimizer.scale_loss(ops.ones(()))))


def tensors(arrays: Any) -> Any:
    """A structure of arrays as one of tensors; None stays."""
    return keras.tree.map_structure(
        lambda each: None if each is None else ops.convert_to_tensor(each), arrays
    )


def _wide(found: Sequence[Any]) -> list[Array]:
    return [ops.convert_to_numpy(each).astype("float64") for each in found]
