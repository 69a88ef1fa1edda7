"""Calls: layers that Keras computes in many operations, and ONNX in one or two.

For TensorFlow a Dense on sequences is a product of matrices between two reshapes, a Flatten asks
for the shape of its input, an Embedding looks for negative indices. While a graph is traced, the
`call` of these layers is another one, at any depth: inside attention, inside subclassed models.
Recurrent layers are one operator each (`recurrent.py`).

A TimeDistributed layer is its inner layer on all steps of all samples at once. Layers that look
words up find their table in the graph. A TextVectorization strips words of punctuation, where Keras
strips texts: that is less to join again (`handlers/text.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .handlers.tables import table_in_graph
from .operators import operator
from .recurrent import call_of, has_operator

LAYER_NORMALIZATION_SINCE = 17
"""ONNX operator set."""
PIXELS = {
    "nearest": {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    },
    "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
}
"""How a Resize of larger images reads the smaller ones."""
STRIPPING = ("strip_punctuation", "lower_and_strip_punctuation")
PUNCTUATION = r"""[!"#$%&()\*\+,-\./:;<=>?@\[\\\]^_`{|}~']"""
"""What Keras strips."""


@contextmanager
def shorter_calls(layers: Iterable[keras.Layer], opset: int) -> Iterator[None]:
    """Let those of the layers that have a shorter form be traced in it.

    Args:
        layers: Every layer that takes part, inner ones included.
        opset: ONNX operator set that is written.
    """
    changed: list[Any] = []
    try:
        for layer in layers:
            call = _shorter_call(layer, opset)
            if call is not None:
                # Not by assignment, which Keras would track.
                vars(layer)["call"] = call
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            del vars(layer)["call"]


def _shorter_call(layer: Any, opset: int) -> Callable[..., Any] | None:
    if has_operator(layer):
        return call_of(layer)
    return partial(CALLS[type(layer)], layer) if _has_shorter_call(layer, opset) else None


def _has_shorter_call(layer: Any, opset: int) -> bool:
    if type(layer) not in CALLS or getattr(layer, "lora_enabled", False):
        return False
    if getattr(layer, "quantization_mode", None) is not None:
        return False
    if type(layer) is keras.layers.LayerNormalization:
        narrow = layer.compute_dtype != "float32" or layer.rms_scaling
        return opset >= LAYER_NORMALIZATION_SINCE and not narrow
    return True


def _dense(layer: Any, inputs: Any, training: Any = None) -> Any:
    """A product of the last axis, whatever the rank."""
    if inputs.shape.rank is None or inputs.shape.rank <= 2:
        return type(layer).call(layer, inputs, training=training)
    kernel = keras.ops.cast(keras.ops.convert_to_tensor(layer.kernel), layer.compute_dtype)
    outputs = tf.raw_ops.BatchMatMulV2(x=inputs, y=kernel)
    if layer.bias is not None:
        outputs = tf.nn.bias_add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _flatten(layer: Any, inputs: Any) -> Any:
    rank = inputs.shape.rank
    if rank is None:
        return type(layer).call(layer, inputs)
    if layer.data_format == "channels_first" and rank > 1:
        inputs = tf.transpose(inputs, [0, *range(2, rank), 1])
    batch, *rest = inputs.shape
    extent = None if None in rest else math.prod(rest)
    return operator("Flatten", [inputs], [(batch, extent)], {"axis": 1})[0]


def _embedding(layer: Any, inputs: Any) -> Any:
    """ONNX counts negative indices from the end, as Keras does."""
    if inputs.dtype not in (tf.int32, tf.int64):
        inputs = tf.cast(inputs, tf.int32)
    table = keras.ops.convert_to_tensor(layer.embeddings)
    shape = (*inputs.shape, table.shape[-1])
    outputs = operator("Gather", [table, inputs], [shape], {"axis": 0})[0]
    return keras.ops.cast(outputs, layer.compute_dtype)


def _up_sampling(layer: Any, inputs: Any) -> Any:
    last = layer.data_format == "channels_last"
    attributes = PIXELS.get(layer.interpolation)
    # Weights between pixels are exact by halves and quarters; thirds would be rounded elsewhere.
    exact = layer.interpolation == "nearest" or all(by & (by - 1) == 0 for by in layer.size)
    if attributes is None or not (last and exact) or inputs.dtype != tf.float32:
        return _up_sampling_of_free(layer, inputs)
    x = tf.transpose(inputs, [0, 3, 1, 2])
    pairs = zip(x.shape, (1, 1, *layer.size), strict=True)
    shape = tuple(None if extent is None else extent * by for extent, by in pairs)
    scales = tf.constant([1.0, 1.0, *layer.size])
    outputs = operator("Resize", [x, None, scales], [shape], attributes)[0]
    return tf.transpose(outputs, [0, 2, 3, 1])


def _up_sampling_of_free(layer: Any, inputs: Any) -> Any:
    """Keras asks whether the extents are numbers, which free ones are not."""
    last = layer.data_format == "channels_last"
    extents = inputs.shape[1:3] if last else inputs.shape[2:4]
    if layer.interpolation == "nearest" or None not in extents:
        return type(layer).call(layer, inputs)
    x = inputs if last else tf.transpose(inputs, [0, 2, 3, 1])
    y = tf.image.resize(x, tf.shape(x)[1:3] * layer.size, layer.interpolation)
    y = tf.cast(y, inputs.dtype)
    pairs = zip(extents, layer.size, strict=True)
    larger = [None if extent is None else extent * by for extent, by in pairs]
    y.set_shape((x.shape[0], *larger, x.shape[3]))
    return y if last else tf.transpose(y, [0, 3, 1, 2])


def _random_crop(layer: Any, data: Any, training: bool = True) -> Any:
    """Keras resizes images that are smaller than the crop by their extents as numbers."""
    shape = [] if isinstance(data, dict) else data.shape
    if None in (shape[-2:] if layer.data_format == "channels_first" else shape[-3:-1]):
        raise ValueError(
            "a RandomCrop needs images of fixed extents. Fix those of the input, such as "
            "dimensions={'image_1': 8, 'image_2': 6} of one called `image` (on the command line "
            "`--dim image_1=8 --dim image_2=6`)"
        )
    return type(layer).call(layer, data, training=training)


def _global_average(layer: Any, inputs: Any) -> Any:
    """Unlike a mean, it leaves the channels as onnxruntime lays them out for convolutions."""
    rank = inputs.shape.rank
    if rank is None or inputs.dtype != tf.float32 or layer.keepdims:
        return type(layer).call(layer, inputs)
    if layer.data_format == "channels_last":
        inputs = tf.transpose(inputs, [0, rank - 1, *range(1, rank - 1)])
    shape = (*inputs.shape[:2], *[1] * (rank - 2))
    outputs = operator("GlobalAveragePool", [inputs], [shape], {})[0]
    return tf.squeeze(outputs, [*range(2, rank)])


def _layer_normalization(layer: Any, inputs: Any) -> Any:
    rank = inputs.shape.rank
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    if not inputs.dtype.is_floating:  # what lookups count, which Keras' own call rounds
        return type(layer).call(layer, inputs)
    if rank is None or sorted(axis % rank for axis in axes) != [*range(rank - len(axes), rank)]:
        return type(layer).call(layer, inputs)
    extents = inputs.shape[rank - len(axes) :]
    gamma = np.ones(extents, "float32") if layer.gamma is None else layer.gamma
    given = [inputs, tf.reshape(gamma, extents)]
    if layer.beta is not None:
        given.append(tf.reshape(layer.beta, extents))
    attributes = {"axis": -len(axes), "epsilon": layer.epsilon}
    return operator("LayerNormalization", given, [tuple(inputs.shape)], attributes)[0]


def _lookup(layer: Any, inputs: Any) -> Any:
    with table_in_graph(layer):
        return type(layer).call(layer, inputs)


def _text_vectorization(layer: Any, inputs: Any) -> Any:
    """No punctuation is white space, so that words can be told apart first."""
    if layer._ragged:
        raise ValueError("ONNX has no ragged tensors. Build the layer without `ragged=True`")
    standardize, rank = layer._standardize, inputs.shape.rank
    known = rank == 1 or (rank is not None and inputs.shape[-1] == 1)
    if standardize not in STRIPPING or layer._split != "whitespace" or not known:
        return type(layer).call(layer, inputs)
    texts = inputs if rank == 1 else tf.squeeze(inputs, -1)
    words = tf.strings.split(tf.strings.lower(texts) if "lower" in standardize else texts)
    stripped = tf.strings.regex_replace(words.values, PUNCTUATION, "")
    left = tf.where(tf.strings.regex_full_match(stripped, "(?s).+"))[:, 0]
    words = tf.RaggedTensor.from_value_rowids(
        tf.gather(stripped, left),
        tf.gather(words.value_rowids(), left),
        words.nrows(),
        validate=False,
    )
    if layer._ngrams is not None:
        words = tf.strings.ngrams(words, ngram_width=layer._ngrams, separator=" ")
    # Not by assignment, which Keras would track.
    vars(layer)["_preprocess"] = lambda inputs: words
    try:
        return type(layer).call(layer, inputs)
    finally:
        del vars(layer)["_preprocess"]


def _hashing(layer: Any, inputs: Any) -> Any:
    """Of whole numbers (`handlers/hashing.py`)."""
    if any(x.dtype == tf.string for x in tf.nest.flatten(inputs)):
        raise ValueError(
            "ONNX cannot take strings apart. Hash them before the model, or look them up with a "
            "StringLookup"
        )
    return type(layer).call(layer, inputs)


def _center_crop(layer: Any, data: Any, *arguments: Any, **keywords: Any) -> Any:
    """Of free extents, too, images that are smaller than the crop are resized."""
    own = partial(type(layer).call, layer, *arguments, **keywords)
    if isinstance(data, dict) or data.shape.rank != 4:
        return own(data)
    height = 2 if layer.data_format == "channels_first" else 1
    if None not in data.shape[height : height + 2]:
        return own(data)
    extents, size = tf.shape(data)[height : height + 2], [layer.height, layer.width]

    def resized() -> Any:
        images = tf.cast(data, layer.compute_dtype)
        return keras.preprocessing.image.smart_resize(images, size, data_format=layer.data_format)

    result = tf.cond(tf.reduce_all(extents >= size), lambda: own(data), resized)
    shape = [*data.shape]
    shape[height : height + 2] = size
    result.set_shape(shape)
    return result


def _time_distributed(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    """All steps of all samples at once. Keras calls the inner layer step by step, or in a loop if
    their number is free, which tf2onnx cannot always read."""
    shape = keras.ops.shape(inputs)
    inner = layer.layer
    keywords: dict[str, Any] = {"training": False} if inner._call_has_training_arg else {}
    if mask is not None and inner._call_has_mask_arg:
        keywords["mask"] = tf.reshape(mask, [-1, *keras.ops.shape(mask)[2:]])
    outputs = inner.call(tf.reshape(inputs, [-1, *shape[2:]]), **keywords)
    return tf.reshape(outputs, [-1, shape[1], *keras.ops.shape(outputs)[1:]])


CALLS: dict[type, Callable[..., Any]] = {
    keras.layers.CenterCrop: _center_crop,
    keras.layers.Dense: _dense,
    keras.layers.Embedding: _embedding,
    keras.layers.Flatten: _flatten,
    keras.layers.GlobalAveragePooling2D: _global_average,
    keras.layers.GlobalAveragePooling3D: _global_average,
    keras.layers.HashedCrossing: _hashing,
    keras.layers.Hashing: _hashing,
    keras.layers.IntegerLookup: _lookup,
    keras.layers.LayerNormalization: _layer_normalization,
    keras.layers.RandomCrop: _random_crop,
    keras.layers.StringLookup: _lookup,
    keras.layers.TimeDistributed: _time_distributed,
    keras.layers.TextVectorization: _text_vectorization,
    keras.layers.UpSampling2D: _up_sampling,
}
