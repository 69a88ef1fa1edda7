"""Every pattern of folding: exact in float64, and with the fewest ONNX nodes.

A pattern is a model and what its maps may leave: how many nodes its ONNX file has more than that
of the same model without any map. Weights are random; γ has both signs, and variances of zero and
close to zero occur, unless a layer is called `positive`.
"""

import keras
import numpy as np
import pytest
from keras import layers

import kerasdl
from kerasdl.export.converting.convert import convert_graph
from kerasdl.export.folding.folding import fold
from kerasdl.export.folding.remainder import Remainder
from kerasdl.export.graphs.inference import drop_training_only, map_of
from kerasdl.export.graphs.trace import trace
from kerasdl.export.programs.precision import float64_run, widen
from random_networks import randomize


def bn(**options):
    return layers.BatchNormalization(**options)


def positive(**options):
    return layers.BatchNormalization(name=f"positive{next(COUNT)}", **options)


COUNT = iter(range(10**6))


def scale_only(**options):
    """A positive scale, no shift."""
    return kerasdl.Affine(name=f"scale{next(COUNT)}", **options)


def curved():
    """Something that no map passes."""
    return layers.Activation("tanh")


def stack(shape, *parts, dtype="float32"):
    def make():
        return keras.Sequential([keras.Input(shape, dtype=dtype), *(part() for part in parts)])

    return make


def functional(shape, call):
    def make():
        x = keras.Input(shape)
        return keras.Model(x, call(x))

    return make


def lazily(cls, *args, **options):
    return lambda: cls(*args, **options)


def behind(shape, cls, *args, norm=bn, dtype="float32", **options):
    """A layer, then a batch normalization."""
    return stack(shape, lazily(cls, *args, **options), norm, dtype=dtype)


def before(shape, cls, *args, norm=bn, **options):
    """A batch normalization whose input absorbs nothing, then a layer."""
    return stack(shape, curved, norm, lazily(cls, *args, **options))


def channels_first_norm():
    return bn(axis=1)


def time_distributed(cls, *args, **options):
    return lambda: layers.TimeDistributed(cls(*args, **options))


def bidirectional(cls, *args, **options):
    return lambda: layers.Bidirectional(cls(*args, **options))


LINEAR_THEN_MAP = {
    "Dense": (behind((4,), layers.Dense, 3), 0),
    "Dense, relu of a positive map": (behind((4,), layers.Dense, 3, "relu", norm=positive), 1),
    "Dense, relu of a map": (behind((4,), layers.Dense, 3, "relu"), 2),
    "Dense on sequences": (behind((5, 4), layers.Dense, 5), 0),
    "Dense on images": (behind((3, 3, 4), layers.Dense, 3), 0),
    "EinsumDense": (behind((5, 4), layers.EinsumDense, "abc,cd->abd", (None, 3), bias_axes="d"), 0),
    "EinsumDense without bias": (behind((5, 4), layers.EinsumDense, "abc,cd->abd", (None, 3)), 1),
    "EinsumDense, elided": (
        behind((5, 4), layers.EinsumDense, "...x,xy->...y", 3, bias_axes="y"),
        0,
    ),
    "EinsumDense, heads": (
        behind((5, 4), layers.EinsumDense, "abc,cde->abde", (None, 2, 3), bias_axes="de"),
        0,
    ),
    "EinsumDense, heads, bias of the heads": (
        behind((5, 4), layers.EinsumDense, "abc,cde->abde", (None, 2, 3), bias_axes="d"),
        0,
    ),
    "EinsumDense, both sides": (
        behind((5, 4), layers.EinsumDense, "abc,bcd->abd", (5, 3), bias_axes="d"),
        0,
    ),
    "EinsumDense, other axis": (
        stack(
            (5, 4),
            lazily(layers.EinsumDense, "abc,bd->adc", (3, 4), bias_axes="d"),
            channels_first_norm,
        ),
        0,
    ),
    "TimeDistributed Dense": (stack((3, 4), time_distributed(layers.Dense, 3), bn), 0),
    "TimeDistributed Conv2D": (
        stack((2, 4, 4, 3), time_distributed(layers.Conv2D, 3, 2), bn),
        0,
    ),
    "Conv1D": (behind((6, 3), layers.Conv1D, 4, 3), 0),
    "Conv1D causal": (behind((6, 3), layers.Conv1D, 4, 3, padding="causal"), 0),
    "Conv2D": (behind((6, 6, 3), layers.Conv2D, 6, 3, padding="same"), 0),
    "Conv2D without bias": (
        behind((6, 6, 3), layers.Conv2D, 6, 3, padding="same", use_bias=False),
        0,
    ),
    "Conv2D of unknown extents": (behind((None, None, 3), layers.Conv2D, 4, 3), 0),
    "Conv2D dilated": (behind((7, 7, 2), layers.Conv2D, 3, 2, dilation_rate=2), 0),
    "Conv2D in groups": (behind((6, 6, 4), layers.Conv2D, 6, 3, groups=2), 0),
    "Conv3D": (behind((4, 4, 4, 2), layers.Conv3D, 4, 2, padding="same"), 0),
    "DepthwiseConv1D": (behind((6, 3), layers.DepthwiseConv1D, 2, depth_multiplier=2), 0),
    "DepthwiseConv2D": (
        behind((6, 6, 3), layers.DepthwiseConv2D, 2, depth_multiplier=2, padding="same"),
        0,
    ),
    "DepthwiseConv2D dilated": (
        behind((6, 6, 3), layers.DepthwiseConv2D, 2, dilation_rate=2),
        0,
    ),
    "SeparableConv1D": (behind((6, 3), layers.SeparableConv1D, 5, 3), 0),
    "SeparableConv2D": (behind((6, 6, 3), layers.SeparableConv2D, 5, 3, depth_multiplier=2), 0),
    "Conv1DTranspose": (behind((5, 3), layers.Conv1DTranspose, 4, 3, strides=2), 0),
    "Conv2DTranspose": (behind((4, 4, 3), layers.Conv2DTranspose, 2, 3, strides=2), 0),
    "Conv3DTranspose": (behind((3, 3, 3, 2), layers.Conv3DTranspose, 2, 2), 0),
    "Embedding": (behind((6,), layers.Embedding, 7, 4, dtype="int32"), 0),
    "Embedding with a mask": (
        behind((6,), layers.Embedding, 7, 4, dtype="int32", mask_zero=True),
        0,
    ),
    "LayerNormalization": (behind((5, 4), layers.LayerNormalization), 0),
    "LayerNormalization of two axes": (behind((5, 4), layers.LayerNormalization, axis=[1, 2]), 0),
    # Both are inputs of the operator.
    "LayerNormalization without γ, β": (
        behind((5, 4), layers.LayerNormalization, scale=False, center=False),
        0,
    ),
    "GroupNormalization": (behind((4, 4, 4), layers.GroupNormalization, groups=2), 0),
    "RMSNormalization": (behind((5, 4), layers.RMSNormalization), 1),
    "MultiHeadAttention": (
        functional((5, 4), lambda x: bn()(layers.MultiHeadAttention(2, 3)(x, x))),
        0,
    ),
}
MAP_THEN_LINEAR = {
    "Dense": (before((4,), layers.Dense, 3), 0),
    "Dense without bias": (before((4,), layers.Dense, 3, use_bias=False), 1),
    "Dense with an activation": (before((4,), layers.Dense, 3, "relu"), 0),
    "Dense on sequences": (before((5, 4), layers.Dense, 5), 0),
    "EinsumDense": (before((5, 4), layers.EinsumDense, "abc,cd->abd", (None, 3), bias_axes="d"), 0),
    "EinsumDense, two axes": (
        before((3, 4), layers.EinsumDense, "abc,bcd->ad", 5, bias_axes="d"),
        0,
    ),
    "EinsumDense, kept axis": (
        before((3, 4), layers.EinsumDense, "abc,bcd->acd", (4, 5), bias_axes="cd"),
        0,
    ),
    "TimeDistributed Dense": (stack((3, 4), curved, bn, time_distributed(layers.Dense, 3)), 0),
    "Conv1D": (before((6, 3), layers.Conv1D, 4, 3), 0),
    "Conv2D": (before((6, 6, 3), layers.Conv2D, 4, 3), 0),
    "Conv2D of one pixel": (before((6, 6, 3), layers.Conv2D, 4, 1, padding="same"), 0),
    "Conv2D of one pixel, strided": (
        before((6, 6, 3), layers.Conv2D, 4, 1, strides=2, padding="same"),
        0,
    ),
    "Conv2D of unknown extents": (before((None, None, 3), layers.Conv2D, 4, 3), 0),
    "Conv2D in groups": (before((6, 6, 4), layers.Conv2D, 6, 3, groups=2), 0),
    "Conv2D dilated": (before((7, 7, 2), layers.Conv2D, 3, 2, dilation_rate=2), 0),
    "Conv3D": (before((4, 4, 4, 2), layers.Conv3D, 4, 2), 0),
    "DepthwiseConv1D": (before((6, 3), layers.DepthwiseConv1D, 2, depth_multiplier=2), 0),
    "DepthwiseConv2D": (before((6, 6, 3), layers.DepthwiseConv2D, 2, depth_multiplier=2), 0),
    "SeparableConv1D": (before((6, 3), layers.SeparableConv1D, 5, 3), 0),
    "SeparableConv2D": (before((6, 6, 3), layers.SeparableConv2D, 5, 3, depth_multiplier=2), 0),
    "Conv2DTranspose of one pixel": (before((4, 4, 3), layers.Conv2DTranspose, 2, 1), 0),
    "Conv2DTranspose": (before((4, 4, 3), layers.Conv2DTranspose, 2, 3, strides=2), 1),
    "LSTM": (before((4, 3), layers.LSTM, 2), 0),
    "LSTM without bias": (before((4, 3), layers.LSTM, 2, use_bias=False), 0),
    "GRU, reset after": (before((4, 3), layers.GRU, 2), 0),
    "GRU, reset before": (before((4, 3), layers.GRU, 2, reset_after=False), 0),
    "GRU without bias": (before((4, 3), layers.GRU, 2, use_bias=False), 0),
    "SimpleRNN": (before((4, 3), layers.SimpleRNN, 2, activation="relu"), 0),
    "Bidirectional LSTM": (stack((4, 3), curved, bn, bidirectional(layers.LSTM, 2)), 0),
    "Bidirectional GRU": (
        stack((4, 3), curved, bn, bidirectional(layers.GRU, 2, return_sequences=True)),
        0,
    ),
    "MultiHeadAttention, self": (
        functional((5, 4), lambda x: _attend(bn()(curved()(x)))),
        0,
    ),
    "MultiHeadAttention, query": (
        functional((5, 4), lambda x: layers.MultiHeadAttention(2, 3)(bn()(curved()(x)), x)),
        0,
    ),
    "MultiHeadAttention, value": (
        functional((5, 4), lambda x: layers.MultiHeadAttention(2, 3)(x, bn()(curved()(x)), x)),
        0,
    ),
    "MultiHeadAttention, key": (
        functional((5, 4), lambda x: layers.MultiHeadAttention(2, 3)(x, x, key=bn()(curved()(x)))),
        0,
    ),
    "MultiHeadAttention without bias": (
        functional((5, 4), lambda x: _attend(bn()(curved()(x)), use_bias=False)),
        1,
    ),
    "two Dense": (functional((4,), lambda x: _twice(bn()(curved()(x)))), 0),
    "Dense and relu": (
        functional((4,), lambda x: [layers.Dense(2)(y := bn()(curved()(x))), layers.ReLU()(y)]),
        2,
    ),
    "Dense and an output": (
        functional((4,), lambda x: [layers.Dense(2)(y := bn()(curved()(x))), y]),
        2,
    ),
}


def _attend(x, **options):
    return layers.MultiHeadAttention(2, 3, **options)(x, x)


def _twice(x):
    return [layers.Dense(2)(x), layers.Dense(3, "tanh")(x)]


def conv(*args, **options):
    return lazily(layers.Conv2D, *args, **options)


def dense(*args, **options):
    return lazily(layers.Dense, *args, **options)


IMAGE = (6, 4, 4)
THROUGH = {
    "Flatten, Dense": (stack((3, 2, 4), curved, bn, layers.Flatten, dense(3)), 0),
    "Dense, Flatten": (stack((3, 2, 4), dense(3), layers.Flatten, bn), 2),
    "Reshape, Dense": (stack((6, 4), curved, bn, lazily(layers.Reshape, (3, 2, 4)), dense(3)), 0),
    "Reshape over channels, Flatten, Dense": (
        stack((6, 4), curved, bn, lazily(layers.Reshape, (8, 3)), layers.Flatten, dense(3)),
        0,
    ),
    "Reshape over channels, Dense": (
        stack((6, 4), curved, bn, lazily(layers.Reshape, (8, 3)), dense(3)),
        2,
    ),
    "Reshape of unknown extents, Dense": (
        stack((None, None, 4), curved, bn, lazily(layers.Reshape, (-1, 4)), dense(3)),
        0,
    ),
    "Dense, Reshape": (stack((6, 4), dense(3), lazily(layers.Reshape, (2, 3, 3)), bn), 0),
    "Permute, EinsumDense": (
        stack(
            (5, 4),
            curved,
            bn,
            lazily(layers.Permute, (2, 1)),
            lazily(layers.EinsumDense, "abc,bd->adc", (3, 5), bias_axes="d"),
        ),
        0,
    ),
    "Dense, Permute": (
        stack((5, 4), dense(3), lazily(layers.Permute, (2, 1)), channels_first_norm),
        0,
    ),
    "Dense, RepeatVector": (stack((4,), dense(3), lazily(layers.RepeatVector, 2), bn), 0),
    "RepeatVector, Dense": (stack((4,), curved, bn, lazily(layers.RepeatVector, 2), dense(3)), 0),
    "Conv, AveragePooling": (stack(IMAGE, conv(3, 2), lazily(layers.AveragePooling2D, 2), bn), 0),
    "AveragePooling same, Conv": (
        stack(
            (5, 5, 3), curved, bn, lazily(layers.AveragePooling2D, 2, padding="same"), conv(3, 1)
        ),
        0,
    ),
    "Conv, MaxPooling, positive": (stack(IMAGE, conv(3, 2), layers.MaxPooling2D, positive), 0),
    "Conv, MaxPooling": (stack(IMAGE, conv(3, 2), layers.MaxPooling2D, bn), 1),
    "MaxPooling, Conv, positive": (
        stack(IMAGE, curved, positive, layers.MaxPooling2D, conv(3, 2)),
        0,
    ),
    "MaxPooling, Conv": (stack(IMAGE, curved, bn, layers.MaxPooling2D, conv(3, 2)), 1),
    "GlobalAveragePooling, Dense": (
        stack(IMAGE, curved, bn, layers.GlobalAveragePooling2D, dense(3)),
        0,
    ),
    "Conv, GlobalAveragePooling": (stack(IMAGE, conv(3, 2), layers.GlobalAveragePooling2D, bn), 0),
    "Conv, GlobalMaxPooling, positive": (
        stack(IMAGE, conv(3, 2), layers.GlobalMaxPooling2D, positive),
        0,
    ),
    "UpSampling, Conv": (stack((3, 3, 2), curved, bn, layers.UpSampling2D, conv(3, 2)), 0),
    "Conv, UpSampling bilinear": (
        stack((3, 3, 2), conv(3, 1), lazily(layers.UpSampling2D, interpolation="bilinear"), bn),
        0,
    ),
    "UpSampling1D": (stack((3, 2), curved, bn, layers.UpSampling1D, dense(3)), 0),
    "Cropping, Conv": (stack(IMAGE, curved, bn, layers.Cropping2D, conv(3, 2)), 0),
    "Conv, Cropping": (stack(IMAGE, conv(3, 2), layers.Cropping2D, bn), 0),
    "ZeroPadding, Conv, only a scale": (
        stack((4, 4, 3), curved, scale_only, layers.ZeroPadding2D, conv(3, 2)),
        0,
    ),
    "ZeroPadding, Conv": (stack((4, 4, 3), curved, positive, layers.ZeroPadding2D, conv(3, 2)), 1),
    "ZeroPadding, Flatten, Dense": (
        stack((4, 4, 3), curved, bn, layers.ZeroPadding2D, layers.Flatten, dense(3)),
        0,
    ),
    "Conv, ZeroPadding, only a scale": (
        stack((4, 4, 3), conv(3, 2), layers.ZeroPadding2D, scale_only),
        0,
    ),
    "Conv, ZeroPadding": (stack((4, 4, 3), conv(3, 2), layers.ZeroPadding2D, positive), 1),
    "relu, Dense, only a scale": (stack((4,), curved, scale_only, layers.ReLU, dense(3)), 0),
    "leaky relu, Dense, only a scale": (
        stack((4,), curved, scale_only, layers.LeakyReLU, dense(3)),
        0,
    ),
    "Dense, prelu, only a scale": (stack((4,), dense(3), layers.PReLU, scale_only), 0),
    "Dense, relu, positive": (stack((4,), dense(3), layers.ReLU, positive), 1),
    "Dense, relu": (stack((4,), dense(3), layers.ReLU, bn), 2),
    "relu, Dense": (stack((4,), curved, bn, layers.ReLU, dense(3)), 2),
    "Dense, relu6, only a scale": (
        stack((4,), dense(3), lazily(layers.ReLU, max_value=6), scale_only),
        1,
    ),
    "Dense, linear": (stack((4,), dense(3), lazily(layers.Activation, "linear"), bn), 0),
    "linear, Dense": (stack((4,), curved, bn, lazily(layers.Activation, "linear"), dense(3)), 0),
    "Dropout, Dense": (stack((4,), curved, bn, lazily(layers.Dropout, 0.5), dense(3)), 0),
    "Concatenate, Dense": (
        functional((4,), lambda x: layers.Dense(3)(_joined(bn()(curved()(x)), x))),
        0,
    ),
    "Concatenate of two, Dense": (
        functional((4,), lambda x: layers.Dense(3)(_joined(bn()(curved()(x)), bn()(curved()(x))))),
        0,
    ),
    "Dense, Concatenate": (
        functional((4,), lambda x: bn()(_joined(layers.Dense(3)(x), layers.Dense(2)(x)))),
        0,
    ),
    "Dense and tanh, Concatenate": (
        functional((4,), lambda x: bn()(_joined(layers.Dense(3)(x), curved()(x)))),
        2,
    ),
    "Concatenate along another axis": (
        functional(
            (5, 4),
            lambda x: bn()(layers.Concatenate(axis=1)([layers.Dense(3)(x), layers.Dense(3)(x)])),
        ),
        0,
    ),
    "Dense, Add": (functional((4,), lambda x: bn()(layers.Dense(3)(x) + layers.Dense(3)(x))), 0),
    "Dense, Subtract": (
        functional((4,), lambda x: bn()(layers.Dense(3)(x) - layers.Dense(3)(x))),
        0,
    ),
    "Dense, Average": (
        functional(
            (4,), lambda x: bn()(layers.Average()([layers.Dense(3)(x), layers.Dense(3)(x)]))
        ),
        0,
    ),
    "Dense and tanh, Add": (
        functional((4,), lambda x: bn()(layers.Add()([curved()(x), layers.Dense(4)(x)]))),
        1,
    ),
    "tanh and Dense, Subtract": (
        functional((4,), lambda x: bn()(layers.Subtract()([curved()(x), layers.Dense(4)(x)]))),
        1,
    ),
    "one summand": (
        functional((4,), lambda x: layers.Dense(3)(layers.Add()([bn()(curved()(x)), x]))),
        1,
    ),
    "both summands, of one map": (
        functional((4,), lambda x: layers.Dense(3)(_doubled(bn()(curved()(x))))),
        0,
    ),
    "residual": (
        functional((4,), lambda x: bn()(layers.Add()([y := curved()(x), layers.Dense(4)(y)]))),
        1,
    ),
}


def _joined(*values):
    return layers.Concatenate()(values)


def _doubled(x):
    return layers.Add()([x, layers.Activation("linear")(x)])


def _shared_layer(x):
    shared, norm = layers.Dense(4), bn()
    return [curved()(norm(shared(x))), norm(shared(curved()(x)))]


def _shared_reader(x):
    shared, norm = layers.Dense(4), bn()
    return [shared(norm(curved()(x))), shared(norm(layers.Activation("sigmoid")(x)))]


def _shared_but_one(x):
    shared = layers.Dense(4)
    return [bn()(shared(x)), shared(curved()(x))]


def _norm_called_twice(x):
    norm = bn()
    return [norm(layers.Dense(4)(x)), norm(curved()(x))]


def _siamese(x):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), bn(), curved()])
    return layers.Subtract()([inner(x), inner(layers.Activation("sigmoid")(x))])


def normalization(far=False):
    return layers.Normalization(mean=[100.0 * far, 0.5, -1.0, 2.0], variance=[1.0, 4.0, 0.25, 9.0])


def _normalized_late(x):
    both = layers.Concatenate()([x, bn()(curved()(x))])
    return curved()(layers.Normalization(mean=[100.0] * 8, variance=[4.0] * 8)(both))


JOINED = {
    "two maps": (stack((4,), curved, bn, bn, dense(3)), 0),
    "two maps that stay": (stack((4,), curved, bn, bn, curved), 2),
    "two maps around MaxPooling": (
        stack(IMAGE, curved, positive, layers.MaxPooling2D, bn, curved),
        2,
    ),
    "Affine, then a map": (stack((4,), curved, kerasdl.Affine, bn, curved), 2),
    "Affine, Dense": (stack((4,), curved, kerasdl.Affine, dense(3)), 0),
    "Dense, Affine": (stack((4,), dense(3), kerasdl.Affine), 0),
    "Normalization, Dense": (stack((4,), normalization, dense(3)), 0),
    "Normalization far from zero, Dense": (
        stack((4,), lazily(normalization, far=True), dense(3)),
        1,
    ),
    "Normalization far from zero, a map, Dense": (
        stack((4,), lazily(normalization, far=True), bn, dense(3)),
        1,
    ),
    "Normalization far from zero, a map that stays": (
        stack((4,), lazily(normalization, far=True), bn, curved),
        3,
    ),
    "Normalization of two, one far from zero": (functional((4,), _normalized_late), 4),
    "Normalization, inverse": (
        stack(
            (4,), dense(1), lazily(layers.Normalization, mean=[3.0], variance=[4.0], invert=True)
        ),
        0,
    ),
    "Rescaling, Conv": (stack(IMAGE, lazily(layers.Rescaling, 1 / 127.5, -1.0), conv(3, 2)), 0),
    "Rescaling by channel, Conv": (
        stack(
            IMAGE, lazily(layers.Rescaling, [1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 2.0, 1.0]), conv(3, 2)
        ),
        0,
    ),
    "Rescaling, Conv with borders": (
        stack(IMAGE, lazily(layers.Rescaling, 1 / 127.5, -1.0), conv(3, 3, padding="same")),
        1,
    ),
    "a layer called twice, its map too": (functional((4,), _shared_layer), 0),
    "a map called twice, its reader too": (functional((4,), _shared_reader), 0),
    "a layer called twice, once with a map": (functional((4,), _shared_but_one), 2),
    "a map called twice": (functional((4,), _norm_called_twice), 2),
    "a nested model called twice": (functional((4,), _siamese), 0),
}
BORDERS = {
    "Conv2D": (before((5, 4, 4), layers.Conv2D, 4, 3, padding="same", norm=positive), 1),
    "Conv2D, any scale": (before((5, 4, 4), layers.Conv2D, 4, 3, padding="same"), 1),
    "Conv2D strided": (before((5, 4, 4), layers.Conv2D, 4, 3, padding="same", strides=2), 1),
    "Conv2D in groups": (before((5, 4, 4), layers.Conv2D, 4, 3, padding="same", groups=2), 1),
    "Conv2D of unknown extents": (
        before((None, None, 4), layers.Conv2D, 4, 3, padding="same", norm=positive),
        1,
    ),
    "Conv1D causal": (before((6, 3), layers.Conv1D, 4, 3, padding="causal"), 1),
    "DepthwiseConv2D": (before((5, 4, 4), layers.DepthwiseConv2D, 3, padding="same"), 1),
    "SeparableConv2D": (before((5, 4, 4), layers.SeparableConv2D, 4, 3, padding="same"), 1),
    "Conv2D, then a global mean and Dense": (
        stack(
            (5, 4, 4),
            curved,
            bn,
            conv(3, 3, padding="same"),
            layers.GlobalAveragePooling2D,
            dense(2),
        ),
        0,
    ),
    "Conv2D, then Flatten and Dense": (
        stack((5, 4, 4), curved, bn, conv(3, 3, padding="same"), layers.Flatten, dense(2)),
        0,
    ),
    "Conv2D with an activation": (
        before((5, 4, 4), layers.Conv2D, 4, 3, activation="relu", padding="same", norm=positive),
        1,
    ),
}
TABLES = {
    "linear, map": LINEAR_THEN_MAP,
    "map, linear": MAP_THEN_LINEAR,
    "through": THROUGH,
    "joined": JOINED,
    "borders": BORDERS,
}
CASES = [(table, name) for table, cases in TABLES.items() for name in cases]
INSIDE = {"EinsumDense without bias", "Dense without bias"}
"""What the map leaves is inside the layer: a bias that it did not have."""


def prepared(make, seed=0):
    """A model of a pattern, with random weights."""
    model = make()
    randomize(model, seed)
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if layer.name.startswith("positive"):
            layer.gamma.assign(np.abs(layer.gamma))
        if layer.name.startswith("scale"):
            layer.scale.assign(rng.uniform(0.2, 2.0, layer.scale.shape))
            layer.offset.assign(np.zeros(layer.offset.shape))
    return model


def samples(model, rng, batch=3):
    shapes = [(batch, *(size or 6 for size in x.shape[1:])) for x in model.inputs]
    return [
        rng.integers(0, 7, shape).astype("int32")
        if "int" in x.dtype
        else rng.normal(size=shape).astype("float32")
        for x, shape in zip(model.inputs, shapes, strict=True)
    ]


def run(graph, arrays):
    with float64_run(graph.layers(), graph.exact):
        return [np.asarray(y) for y in graph(*map(widen, arrays))]


def assert_exact(model, graph, rng, rtol=1e-9):
    """The folded graph computes what the traced one does, in float64."""
    arrays = samples(model, rng)
    for ours, theirs in zip(run(graph, arrays), run(trace(model), arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.max(np.abs(theirs)))


def bare(model):
    """The inference graph as if none of its maps were there."""
    graph = trace(model)
    drop_training_only(graph)
    for node in [node for node in graph.nodes if map_of(node) is not None]:
        graph.bypass(node)
    return graph


def onnx_nodes(graph):
    return len(list(convert_graph(graph, 18).graph))


def remaining(graph):
    """Multiplications and additions that are left of maps."""
    kept = [node.operation for node in graph.nodes if isinstance(node.operation, Remainder)]
    maps = [found for node in graph.nodes if (found := map_of(node)) is not None]
    left = sum((layer.scale is not None) + (layer.shift is not None) for layer in kept)
    return left + sum(found.nodes for found in maps)


def examined(table, name):
    """The folded graph of a pattern, found exact."""
    model = prepared(TABLES[table][name][0])
    graph = trace(model)
    drop_training_only(graph)
    folds = fold(graph)
    # tf.image.resize answers in float32.
    assert_exact(model, graph, np.random.default_rng(1), 1e-5 if "bilinear" in name else 1e-9)
    return model, graph, folds


@pytest.mark.parametrize(("table", "name"), CASES)
def test_pattern_in_float64(table, name):
    _, graph, folds = examined(table, name)
    expected = TABLES[table][name][1]
    assert remaining(graph) == (0 if name in INSIDE else expected)
    assert all(bool(entry.into) or entry.reason for entry in folds)
    assert bool(remaining(graph)) == any(entry.reason for entry in folds)


def count_onnx(table, name):
    model, graph, _ = examined(table, name)
    assert onnx_nodes(graph) - onnx_nodes(bare(model)) == TABLES[table][name][1]


@pytest.mark.parametrize(("table", "name"), [CASES[i] for i in range(0, len(CASES), 6)])
def test_nodes_of_the_file(table, name):
    count_onnx(table, name)


@pytest.mark.slow
@pytest.mark.parametrize(("table", "name"), CASES)
def test_nodes_of_the_file_of_every_pattern(table, name):
    count_onnx(table, name)
