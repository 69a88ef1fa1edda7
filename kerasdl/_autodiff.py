"""Derivatives of a scalar function of a list of tensors, on every backend."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

Function = Callable[[list[Any]], Any]


def gradient(function: Function, values: Sequence[Any]) -> list[Any]:
    """∇f at `values`, zero where f does not depend on one.

    Example:

    >>> from keras import ops
    >>> (slope,) = gradient(lambda x: ops.sum(x[0] ** 2), [ops.convert_to_tensor([3.0])])
    >>> slope.tolist() if hasattr(slope, "tolist") else slope.numpy().tolist()
    [6.0]
    """
    return _BACKENDS[keras.backend.backend()](function, list(values), False)[0]


def gradient_and_product(function: Function, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """g = ∇f and Hg, the derivative of ∇f along g, for the cost of about three gradients."""
    return _BACKENDS[keras.backend.backend()](function, list(values), True)


def _tensorflow(
    function: Function, values: list[Any], product: bool
) -> tuple[list[Any], list[Any]]:
    import tensorflow as tf

    zero = tf.UnconnectedGradients.ZERO

    def slopes(tape: Any, value: Any) -> list[Any]:
        found = tape.gradient(value, values, unconnected_gradients=zero)
        return [tf.convert_to_tensor(each) for each in found]

    values = [tf.convert_to_tensor(value) for value in values]
    with tf.GradientTape(persistent=product) as outer:
        outer.watch(values)
        with tf.GradientTape() as tape:
            tape.watch(values)
            value = function(values)
        g = slopes(tape, value)
        if not product:
            return g, []
        along = sum(tf.reduce_sum(each * tf.stop_gradient(each)) for each in g)
    return g, slopes(outer, along)


def _jax(function: Function, values: list[Any], product: bool) -> tuple[list[Any], list[Any]]:
    import jax

    slope = jax.grad(function)
    g = slope(values)
    return g, jax.jvp(slope, (values,), (g,))[1] if product else []


def _torch(function: Function, values: list[Any], product: bool) -> tuple[list[Any], list[Any]]:
    import torch

    def slopes(value: Any) -> list[Any]:
        if not value.requires_grad:
            return [torch.zeros_like(each) for each in values]
        found = torch.autograd.grad(value, values, create_graph=product, allow_unused=True)
        return [
            torch.zeros_like(each) if slope is None else slope
            for each, slope in zip(values, found, strict=True)
        ]

    values = [value.detach().clone().requires_grad_(True) for value in values]
    with torch.enable_grad():
        g = slopes(function(values))
        fixed = [each.detach() for each in g]
        if not product:
            return fixed, []
        along = sum(torch.sum(each * other) for each, other in zip(g, fixed, strict=True))
        return fixed, [each.detach() for each in slopes(along)]


_BACKENDS: dict[str, Callable[..., tuple[list[Any], list[Any]]]] = {
    "tensorflow": _tensorflow,
    "jax": _jax,
    "torch": _torch,
}
