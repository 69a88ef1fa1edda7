"""From what a configuration says to Keras objects: names are looked up, objects are copied.

A configuration builds any number of models and layers, and none of them may share what they
draw, train or count.
"""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras

from kerasdl import initializers, optimizers
from kerasdl.initializers.initializer_for import activation_name


def _classes(module: Any) -> Mapping[str, Callable[..., Any]]:
    found = {name.lower(): getattr(module, name) for name in module.__all__}
    return MappingProxyType({name: it for name, it in found.items() if isinstance(it, type)})


_INITIALIZERS = _classes(initializers)
# Optimizers around another one have no learning rate of their own.
_OPTIMIZERS = MappingProxyType(
    {
        name: it
        for name, it in _classes(optimizers).items()
        if it is not optimizers.Optimizer and "learning_rate" in inspect.signature(it).parameters
    }
)
_S_SHAPED = frozenset(
    {"hard_sigmoid", "hard_tanh", "sigmoid", "softsign", "sparse_sigmoid", "tanh"}
)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def initializer(choice: Any, activation: Any, place: int) -> keras.initializers.Initializer:
    """Return a new initializer, ours where a name is also one of Keras'.

    Args:
        choice: `"auto"`, a name or an initializer; its integer seed is moved on by `place`,
            because equal seeds draw equal weights. One whose seed is a generator draws anew
            at every call, and is returned as it is.
        activation: The one behind the weights, for `"auto"`, and in front of those of the
            next layer, for `"variance_preserving"`.
        place: Number of the layer, from 0.

    Raises:
        ValueError: There is no such initializer, or none for the activation.
        TypeError: The initializer that is named has arguments without defaults.

    Example:

    >>> initializer("he_normal", "elu", 0).__module__
    'kerasdl.initializers.he_normal'
    >>> initializer(initializers.HeNormal(seed=3), "elu", 2).get_config()["seed"]
    5
    """
    if choice == "auto":
        return initializers.initializer_for(activation)
    if isinstance(choice, keras.initializers.Initializer):
        return _moved_on(choice, place)
    name = _plain(choice)
    if name == "variancepreserving":
        return initializers.VariancePreserving(activation if place else "linear")
    if name in _INITIALIZERS:
        return _INITIALIZERS[name]()
    return keras.initializers.get(choice)


def _moved_on(choice: keras.initializers.Initializer, place: int) -> Any:
    config = choice.get_config()
    seed = config.get("seed")
    if isinstance(seed, Mapping):
        return choice
    if seed is not None:
        config["seed"] = seed + place
    return type(choice).from_config(config)


def optimizer(choice: Any, learning_rate: Any) -> keras.optimizers.Optimizer:
    """Return a new optimizer, ours where a name is also one of Keras'.

    Args:
        choice: A name, or an optimizer, whose arguments are taken over, but not its state.
        learning_rate: Number or schedule; for a name only.

    Raises:
        ValueError: There is no such optimizer.
        TypeError: It is one around another one, which has to be given as an object.

    Example:

    >>> type(optimizer("sgd", 0.1)) is optimizers.SGD
    True
    """
    if isinstance(choice, keras.optimizers.Optimizer):
        return type(choice).from_config(choice.get_config())
    if has_optimizer(choice):
        return _OPTIMIZERS[_plain(choice)](learning_rate=learning_rate)
    return keras.optimizers.get({"class_name": choice, "config": {"learning_rate": learning_rate}})


def has_optimizer(name: str) -> bool:
    """Whether kerasdl has an optimizer of this name.

    Example:

    >>> has_optimizer("adam"), has_optimizer("lion")
    (True, False)
    """
    return _plain(name) in _OPTIMIZERS


def regularizer(choice: Any, l2: float) -> keras.regularizers.Regularizer | None:
    """Return the penalty on kernels, or None.

    Example:

    >>> round(float(regularizer(None, 0.01).l2), 6)
    0.01
    """
    if choice is None:
        return keras.regularizers.L2(l2) if l2 else None
    return keras.regularizers.get(choice)


def activation(choice: Any) -> keras.layers.Layer:
    """Return a new layer for an activation given as name, function or layer.

    Example:

    >>> activation(keras.layers.LeakyReLU(0.3)).negative_slope
    0.3
    """
    if isinstance(choice, keras.layers.Layer):
        config = {key: value for key, value in choice.get_config().items() if key != "name"}
        return type(choice).from_config(config)
    return keras.layers.Activation(choice)


def is_s_shaped(choice: Any) -> bool:
    """Whether the activation saturates on both sides.

    Example:

    >>> is_s_shaped(keras.activations.tanh), is_s_shaped("elu")
    (True, False)
    """
    return activation_name(choice) in _S_SHAPED
