"""N2's last step: batch normalization becomes a fixed map, and the model a new one."""

import copy
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional  # Keras exports `Model`, not this class

from kerasdl._checks import require
from kerasdl.layers.affine import Affine
from kerasdl.layers.batch_normalization import BatchNormalization

CALLS = (keras.layers.BatchNormalization.call, BatchNormalization.call)


def replace_batch_normalization(model: keras.Model) -> keras.Model:
    """Return a new model in which every batch normalization is an `Affine` layer.

        y = γ (x − E)/√(V + ε) + β = a ⊙ x + b        a = γ/√(V + ε)        b = β − aE

    a and b are computed in float64 from the statistics that the layers hold; re-estimate them
    first with `estimate_population_statistics` (N2). At inference the new model computes what
    the old one does. It has copies of all other layers and is not compiled; the model itself
    is left as it is. Layers keep their names, and an `Affine` is trainable if its batch
    normalization was.

    Sequential and functional models are entered, nested ones included. A batch normalization
    inside another layer or a subclassed model is out of reach, and an error names it.

    Args:
        model: A built Keras model, Sequential or functional.

    Returns:
        The new model, Sequential or functional as the old one.

    Raises:
        ValueError: `model` is of another kind, is not built, has a batch normalization out of
            reach or with a `call` of its own, or has a layer that cannot be copied.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    >>> [type(layer).__name__ for layer in replace_batch_normalization(model).layers]
    ['Affine']

    References:
        N2 (training and inference using batch norm); Ioffe & Szegedy, "Batch Normalization",
        2015, algorithm 2, step 11.
    """
    require(
        _is_open(model),
        "model",
        f"{type(model).__name__} {getattr(model, 'name', '')!r}",
        "a Sequential or functional model",
        "The layers of another model cannot be replaced from outside.",
    )
    require(model.built, "model", model.name, "a built model", "Call it on a batch first.")
    return _Copy().model(model)


class _Copy:
    """Copies layers, each once, so that what is shared stays shared."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}

    def model(self, model: Any) -> Any:
        """Return the copy of an open model."""
        if isinstance(model, keras.Sequential):
            return self._sequential(model)
        # A view of the graph: `clone_model` would compile the copy of a compiled model.
        view = keras.Model(model.input, model.output, name=model.name)
        return keras.models.clone_model(view, clone_function=self.layer, call_function=_call)

    def _sequential(self, model: keras.Sequential) -> keras.Sequential:
        # `layers` leaves out the input.
        inputs = [
            keras.Input(batch_shape=layer.batch_shape, dtype=layer.dtype, name=layer.name)
            for layer in model._layers[:1]
            if isinstance(layer, keras.layers.InputLayer)
        ]
        stack = [self.layer(layer) for layer in model.layers]
        new = keras.Sequential([*inputs, *stack], name=model.name)
        if not new.built:
            new.build((None, *model.input_shape[1:]))
        return new

    def layer(self, layer: Any) -> Any:
        """Return the copy of a layer or operation."""
        if not isinstance(layer, keras.layers.Layer):
            return layer
        if id(layer) not in self.made:
            self.made[id(layer)] = self._new(layer)
        return self.made[id(layer)]

    def _new(self, layer: keras.layers.Layer) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization):
            return _affine(layer)
        return self.model(layer) if _is_open(layer) else _duplicate(layer)


def _call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a layer as the old model does; an `Affine` only takes what it multiplies."""
    if isinstance(layer, Affine):
        return layer(args[0] if args else kwargs["inputs"])
    return layer(*args, **kwargs)


def _is_open(layer: Any) -> bool:
    """Whether the graph of a model can be read."""
    if isinstance(layer, keras.Sequential):
        return type(layer).call is keras.Sequential.call
    return isinstance(layer, Functional) and type(layer).call is Functional.call


def _affine(layer: Any) -> Affine:
    require(
        type(layer).call in CALLS,
        "model",
        f"{type(layer).__name__} {layer.name!r}",
        "a model whose batch normalizations are Keras' or kerasdl's",
        "This one has a `call` of its own, which may compute something else.",
    )
    scale = 1 / np.sqrt(_float64(layer.moving_variance) + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * _float64(layer.gamma)
    offset = -scale * _float64(layer.moving_mean)
    if layer.beta is not None:
        offset = offset + _float64(layer.beta)
    new = Affine(
        axis=layer.axis, name=layer.name, dtype=layer.dtype_policy, trainable=layer.trainable
    )
    new.build(layer.get_build_config()["input_shape"])
    new.scale.assign(scale)
    new.offset.assign(offset)
    return new


def _duplicate(layer: keras.layers.Layer) -> Any:
    """Return a copy with all state, by Keras' own saving."""
    parts = layer._flatten_layers()
    for part in parts:
        require(
            not isinstance(part, keras.layers.BatchNormalization),
            "model",
            f"{type(layer).__name__} {layer.name!r}, which holds {part.name!r}",
            "a model whose batch normalizations stand in Sequential or functional models",
            "Rebuild this part as a functional model.",
        )
    try:
        with keras.saving.custom_object_scope({type(part).__name__: type(part) for part in parts}):
            return copy.deepcopy(layer)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"The layer `{layer.name}` ({type(layer).__name__}) cannot be copied: {error} "
            "Give it a `get_config` with which it can be saved."
        ) from error


def _float64(variable: Any) -> Any:
    return keras.ops.convert_to_numpy(variable).astype("float64")
