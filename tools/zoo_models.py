"""The models of the coverage zoo: one per layer, activation and op of Keras' public API.

A *case* is a model of one layer or op, with random weights. Its first word is the public name
that it covers, the rest names the variant. What a case cannot be is in `EXCLUDED`, with the
reason.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, activations, layers, ops

FREE_AXIS = 9

VECTOR, SEQUENCE, IMAGE, VOLUME = (5,), (6, 4), (8, 7, 4), (5, 6, 4, 3)
SQUARE, RGB, FIRST = (4, 4), (8, 6, 3), (4, 8, 7)
INTEGERS = ((5,), "int32")
TEXT = ((1,), "string")

Spec = Any
Build = Callable[..., Any]

# ------------------------------------------------------------------------------ layers

LAYERS: dict[str, tuple[tuple[Spec, ...], Build]] = {
    "Activation": ((VECTOR,), lambda x: layers.Activation("tanh")(x)),
    "ELU": ((VECTOR,), lambda x: layers.ELU(0.7)(x)),
    "LeakyReLU": ((VECTOR,), lambda x: layers.LeakyReLU(0.1)(x)),
    "PReLU": ((IMAGE,), lambda x: layers.PReLU()(x)),
    "PReLU shared axes": ((IMAGE,), lambda x: layers.PReLU(shared_axes=[1, 2])(x)),
    "ReLU": ((VECTOR,), lambda x: layers.ReLU()(x)),
    "ReLU all arguments": ((VECTOR,), lambda x: layers.ReLU(1.5, 0.1, 0.2)(x)),
    "Softmax": ((VECTOR,), lambda x: layers.Softmax()(x)),
    "Softmax axes": ((SEQUENCE,), lambda x: layers.Softmax(axis=(1, 2))(x)),
    "Softmax mask": (
        (VECTOR, (VECTOR, "bool")),
        lambda x, m: layers.Softmax()(x, mask=m),
    ),
    "AdditiveAttention": (
        (SEQUENCE, (3, 4)),
        lambda q, v: layers.AdditiveAttention()([q, v]),
    ),
    "Attention": ((SEQUENCE, (3, 4)), lambda q, v: layers.Attention()([q, v])),
    "Attention scaled causal": (
        (SEQUENCE,),
        lambda x: layers.Attention(use_scale=True)([x, x], use_causal_mask=True),
    ),
    "Attention concat": (
        (SEQUENCE, (3, 4)),
        lambda q, v: layers.Attention(score_mode="concat")([q, v]),
    ),
    "GroupQueryAttention": (
        (SEQUENCE,),
        lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x),
    ),
    "GroupQueryAttention causal": (
        (SEQUENCE,),
        lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x, use_causal_mask=True),
    ),
    "MultiHeadAttention": ((SEQUENCE,), lambda x: layers.MultiHeadAttention(2, 3)(x, x)),
    "MultiHeadAttention cross": (
        (SEQUENCE, (3, 5)),
        lambda q, v: layers.MultiHeadAttention(2, 3, value_dim=5)(q, v),
    ),
    "MultiHeadAttention causal": (
        (SEQUENCE,),
        lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
    ),
    "MultiHeadAttention attention mask": (
        (SEQUENCE, ((6, 6), "bool")),
        lambda x, m: layers.MultiHeadAttention(2, 3)(x, x, attention_mask=m),
    ),
    "MultiHeadAttention dynamic length": (
        ((None, 4),),
        lambda x: layers.MultiHeadAttention(2, 3)(x, x),
    ),
    "MultiHeadAttention two axes": (
        (IMAGE,),
        lambda x: layers.MultiHeadAttention(2, 3, attention_axes=(1, 2))(x, x),
    ),
    "Conv1D": ((SEQUENCE,), lambda x: layers.Conv1D(5, 3)(x)),
    "Conv1D same strided": (
        (SEQUENCE,),
        lambda x: layers.Conv1D(5, 3, strides=2, padding="same")(x),
    ),
    "Conv1D causal dilated": (
        (SEQUENCE,),
        lambda x: layers.Conv1D(5, 3, padding="causal", dilation_rate=2)(x),
    ),
    "Conv1D groups": ((SEQUENCE,), lambda x: layers.Conv1D(6, 3, groups=2)(x)),
    "Conv1D channels first": (
        ((4, 6),),
        lambda x: layers.Conv1D(5, 3, data_format="channels_first")(x),
    ),
    "Conv1D dynamic length": (
        ((None, 4),),
        lambda x: layers.Conv1D(5, 3, strides=2, padding="same")(x),
    ),
    "Conv1DTranspose": ((SEQUENCE,), lambda x: layers.Conv1DTranspose(5, 3)(x)),
    "Conv1DTranspose same strided": (
        (SEQUENCE,),
        lambda x: layers.Conv1DTranspose(5, 3, strides=2, padding="same")(x),
    ),
    "Conv2D": ((IMAGE,), lambda x: layers.Conv2D(5, 3)(x)),
    "Conv2D activation": (
        (IMAGE,),
        lambda x: layers.Conv2D(5, (3, 2), padding="same", activation="swish")(x),
    ),
    "Conv2D same strided": (
        (IMAGE,),
        lambda x: layers.Conv2D(5, 3, strides=2, padding="same")(x),
    ),
    "Conv2D dilated": ((IMAGE,), lambda x: layers.Conv2D(5, 3, dilation_rate=2)(x)),
    "Conv2D groups": ((IMAGE,), lambda x: layers.Conv2D(6, 3, groups=2)(x)),
    "Conv2D groups same strided": (
        (IMAGE,),
        lambda x: layers.Conv2D(8, 3, strides=2, padding="same", groups=4)(x),
    ),
    "Conv2D channels first": (
        (FIRST,),
        lambda x: layers.Conv2D(5, 3, padding="same", data_format="channels_first")(x),
    ),
    "Conv2D dynamic extents": (
        ((None, None, 4),),
        lambda x: layers.Conv2D(5, 3, strides=2, padding="same")(x),
    ),
    "Conv2D large": ((IMAGE,), lambda x: layers.Conv2D(32, 3, use_bias=False)(x)),
    "Conv2D row constant": (
        ((5, 5, 4),),
        lambda x: layers.Conv2D(5, 3, padding="same", use_bias=False)(x) + _constant((5, 1, 1)),
    ),
    "Conv2D column constant": (
        ((5, 5, 4),),
        lambda x: layers.Conv2D(5, 3, padding="same", use_bias=False)(x) * _constant((1, 5, 1)),
    ),
    "Conv2DTranspose": ((IMAGE,), lambda x: layers.Conv2DTranspose(5, 3)(x)),
    "Conv2DTranspose same strided": (
        (IMAGE,),
        lambda x: layers.Conv2DTranspose(5, 3, strides=2, padding="same")(x),
    ),
    "Conv2DTranspose output padding": (
        (IMAGE,),
        lambda x: layers.Conv2DTranspose(5, 3, strides=3, padding="same", output_padding=1)(x),
    ),
    "Conv3D": ((VOLUME,), lambda x: layers.Conv3D(4, 2)(x)),
    "Conv3D same strided": (
        (VOLUME,),
        lambda x: layers.Conv3D(4, 3, strides=2, padding="same")(x),
    ),
    "Conv3D channels first": (
        ((3, 5, 6, 4),),
        lambda x: layers.Conv3D(4, 2, data_format="channels_first")(x),
    ),
    "Conv3DTranspose": ((VOLUME,), lambda x: layers.Conv3DTranspose(4, 2)(x)),
    "Conv3DTranspose same strided": (
        (VOLUME,),
        lambda x: layers.Conv3DTranspose(4, 3, strides=2, padding="same")(x),
    ),
    "DepthwiseConv1D": ((SEQUENCE,), lambda x: layers.DepthwiseConv1D(3)(x)),
    "DepthwiseConv1D multiplier same": (
        (SEQUENCE,),
        lambda x: layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same")(x),
    ),
    "DepthwiseConv2D": ((IMAGE,), lambda x: layers.DepthwiseConv2D(3)(x)),
    "DepthwiseConv2D multiplier same strided": (
        (IMAGE,),
        lambda x: layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2)(x),
    ),
    "DepthwiseConv2D dilated": (
        (IMAGE,),
        lambda x: layers.DepthwiseConv2D(3, dilation_rate=2)(x),
    ),
    "SeparableConv1D": ((SEQUENCE,), lambda x: layers.SeparableConv1D(5, 3)(x)),
    "SeparableConv1D same": (
        (SEQUENCE,),
        lambda x: layers.SeparableConv1D(5, 3, padding="same", depth_multiplier=2)(x),
    ),
    "SeparableConv2D": ((IMAGE,), lambda x: layers.SeparableConv2D(5, 3)(x)),
    "SeparableConv2D same strided": (
        (IMAGE,),
        lambda x: layers.SeparableConv2D(5, 3, strides=2, padding="same")(x),
    ),
    "Dense": ((VECTOR,), lambda x: layers.Dense(3)(x)),
    "Dense large": (((40,),), lambda x: layers.Dense(30, activation="relu")(x)),
    "Dense on images": ((IMAGE,), lambda x: layers.Dense(3, activation="softmax")(x)),
    "Dense bfloat16": (
        (VECTOR,),
        lambda x: ops.cast(layers.Dense(3, dtype="mixed_bfloat16")(x), "float32"),
    ),
    "Dense float16": ((VECTOR,), lambda x: layers.Dense(3, dtype="mixed_float16")(x)),
    "EinsumDense": (
        (SEQUENCE,),
        lambda x: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")(x),
    ),
    "EinsumDense contraction": (
        ((6, 2, 3),),
        lambda x: layers.EinsumDense("abcd,cde->abe", (None, 4), bias_axes="e")(x),
    ),
    "Embedding": ((INTEGERS,), lambda x: layers.Embedding(10, 4)(x)),
    "Embedding mask LSTM": (
        (INTEGERS,),
        lambda x: layers.LSTM(3)(layers.Embedding(10, 4, mask_zero=True)(x)),
    ),
    "Identity": ((VECTOR,), lambda x: layers.Identity()(x)),
    "Input": ((VECTOR,), lambda x: layers.Dense(2)(x)),
    "InputLayer": (
        (),
        lambda: keras.Sequential([layers.InputLayer(shape=(4,)), layers.Dense(2)]),
    ),
    "Masking": ((SEQUENCE,), lambda x: layers.Masking(0.0)(x)),
    "Masking LSTM": ((SEQUENCE,), lambda x: layers.LSTM(3)(layers.Masking()(ops.relu(x)))),
    "Masking LSTM sequences": (
        (SEQUENCE,),
        lambda x: layers.LSTM(3, return_sequences=True)(layers.Masking()(ops.relu(x - 1))),
    ),
    "Masking GRU": ((SEQUENCE,), lambda x: layers.GRU(3)(layers.Masking()(ops.relu(x - 1)))),
    "ReversibleEmbedding": ((INTEGERS,), lambda x: layers.ReversibleEmbedding(10, 4)(x)),
    "ReversibleEmbedding reverse": (
        (SEQUENCE,),
        lambda x: layers.ReversibleEmbedding(10, 4, logit_soft_cap=2.0)(x, reverse=True),
    ),
    "Add": ((VECTOR, VECTOR), lambda *x: layers.Add()(x)),
    "Average": ((VECTOR, VECTOR), lambda *x: layers.Average()(x)),
    "Concatenate": ((IMAGE, IMAGE), lambda *x: layers.Concatenate(axis=1)(x)),
    "Dot": ((SEQUENCE, SEQUENCE), lambda *x: layers.Dot(axes=2)(x)),
    "Dot normalized": ((VECTOR, VECTOR), lambda *x: layers.Dot(axes=1, normalize=True)(x)),
    "Maximum": ((VECTOR, VECTOR), lambda *x: layers.Maximum()(x)),
    "Minimum": ((VECTOR, VECTOR), lambda *x: layers.Minimum()(x)),
    "Multiply": ((VECTOR, VECTOR), lambda *x: layers.Multiply()(x)),
    "Subtract": ((VECTOR, VECTOR), lambda *x: layers.Subtract()(x)),
    "add": ((VECTOR, (1,)), lambda *x: layers.add(x)),
    "average": ((VECTOR, VECTOR, VECTOR), lambda *x: layers.average(x)),
    "concatenate": ((VECTOR, VECTOR), lambda *x: layers.concatenate(x)),
    "dot": ((VECTOR, VECTOR), lambda *x: layers.dot(x, axes=1)),
    "maximum": ((VECTOR, VECTOR), lambda *x: layers.maximum(x)),
    "minimum": ((VECTOR, VECTOR), lambda *x: layers.minimum(x)),
    "multiply": ((VECTOR, VECTOR), lambda *x: layers.multiply(x)),
    "subtract": ((VECTOR, VECTOR), lambda *x: layers.subtract(x)),
    "BatchNormalization": ((IMAGE,), lambda x: layers.BatchNormalization()(x)),
    "BatchNormalization axis 1": ((IMAGE,), lambda x: layers.BatchNormalization(axis=1)(x)),
    "BatchNormalization after Conv2D": (
        (IMAGE,),
        lambda x: layers.BatchNormalization()(layers.Conv2D(5, 3)(x)),
    ),
    "BatchNormalization bare": (
        (VECTOR,),
        lambda x: layers.BatchNormalization(center=False, scale=False)(x),
    ),
    "GroupNormalization": ((IMAGE,), lambda x: layers.GroupNormalization(2)(x)),
    "GroupNormalization instance": ((IMAGE,), lambda x: layers.GroupNormalization(-1)(x)),
    "LayerNormalization": ((SEQUENCE,), lambda x: layers.LayerNormalization()(x)),
    "LayerNormalization axes": (
        (IMAGE,),
        lambda x: layers.LayerNormalization(axis=(1, 2))(x),
    ),
    "RMSNormalization": ((SEQUENCE,), lambda x: layers.RMSNormalization()(x)),
    "SpectralNormalization": (
        (IMAGE,),
        lambda x: layers.SpectralNormalization(layers.Conv2D(5, 3))(x),
    ),
    "UnitNormalization": ((SEQUENCE,), lambda x: layers.UnitNormalization()(x)),
    "AdaptiveAveragePooling1D": (
        (SEQUENCE,),
        lambda x: layers.AdaptiveAveragePooling1D(4)(x),
    ),
    "AdaptiveAveragePooling2D": (
        (IMAGE,),
        lambda x: layers.AdaptiveAveragePooling2D((3, 4))(x),
    ),
    "AdaptiveAveragePooling3D": (
        (VOLUME,),
        lambda x: layers.AdaptiveAveragePooling3D((2, 3, 3))(x),
    ),
    "AdaptiveMaxPooling1D": ((SEQUENCE,), lambda x: layers.AdaptiveMaxPooling1D(4)(x)),
    "AdaptiveMaxPooling2D": ((IMAGE,), lambda x: layers.AdaptiveMaxPooling2D((3, 4))(x)),
    "AdaptiveMaxPooling3D": ((VOLUME,), lambda x: layers.AdaptiveMaxPooling3D((2, 3, 3))(x)),
    "AveragePooling1D": ((SEQUENCE,), lambda x: layers.AveragePooling1D(2)(x)),
    "AveragePooling2D": ((IMAGE,), lambda x: layers.AveragePooling2D(2)(x)),
    "AveragePooling2D same": (
        (IMAGE,),
        lambda x: layers.AveragePooling2D(3, 2, padding="same")(x),
    ),
    "AveragePooling2D channels first": (
        (FIRST,),
        lambda x: layers.AveragePooling2D(2, data_format="channels_first")(x),
    ),
    "AveragePooling3D": ((VOLUME,), lambda x: layers.AveragePooling3D(2)(x)),
    "GlobalAveragePooling1D": ((SEQUENCE,), lambda x: layers.GlobalAveragePooling1D()(x)),
    "GlobalAveragePooling1D mask": (
        (SEQUENCE,),
        lambda x: layers.GlobalAveragePooling1D()(layers.Masking()(x)),
    ),
    "GlobalAveragePooling2D": ((IMAGE,), lambda x: layers.GlobalAveragePooling2D()(x)),
    "GlobalAveragePooling3D": (
        (VOLUME,),
        lambda x: layers.GlobalAveragePooling3D(keepdims=True)(x),
    ),
    "GlobalMaxPooling1D": ((SEQUENCE,), lambda x: layers.GlobalMaxPooling1D()(x)),
    "GlobalMaxPooling2D": ((IMAGE,), lambda x: layers.GlobalMaxPooling2D(keepdims=True)(x)),
    "GlobalMaxPooling3D": ((VOLUME,), lambda x: layers.GlobalMaxPooling3D()(x)),
    "MaxPooling1D": ((SEQUENCE,), lambda x: layers.MaxPooling1D(2)(x)),
    "MaxPooling2D": ((IMAGE,), lambda x: layers.MaxPooling2D(2)(x)),
    "MaxPooling2D same": ((IMAGE,), lambda x: layers.MaxPooling2D(3, 2, padding="same")(x)),
    "MaxPooling3D": ((VOLUME,), lambda x: layers.MaxPooling3D(2, padding="same")(x)),
    "CategoryEncoding": ((INTEGERS,), lambda x: layers.CategoryEncoding(10)(x)),
    "CategoryEncoding one hot": (
        (((1,), "int32"),),
        lambda x: layers.CategoryEncoding(10, output_mode="one_hot")(x),
    ),
    "CategoryEncoding count": (
        (INTEGERS,),
        lambda x: layers.CategoryEncoding(10, output_mode="count")(x),
    ),
    "Discretization": ((VECTOR,), lambda x: layers.Discretization([-1.0, 0.0, 0.5])(x)),
    "Discretization one hot": (
        ((1,),),
        lambda x: layers.Discretization([-1.0, 0.0, 0.5], output_mode="one_hot")(x),
    ),
    "HashedCrossing": ((((1,), "int64"),) * 2, lambda *x: layers.HashedCrossing(5)(x)),
    "HashedCrossing one hot": (
        (((1,), "int64"),) * 2,
        lambda *x: layers.HashedCrossing(5, output_mode="one_hot")(x),
    ),
    "Hashing": ((((1,), "int64"),), lambda x: layers.Hashing(5)(x)),
    "Hashing strong": ((((1,), "int64"),), lambda x: layers.Hashing(5, salt=[1, 2])(x)),
    "Hashing count": (
        (((3,), "int64"),),
        lambda x: layers.Hashing(5, mask_value=3, output_mode="count")(x),
    ),
    "AugMix": ((RGB,), lambda x: layers.AugMix()(x)),
    "AutoContrast": ((RGB,), lambda x: layers.AutoContrast()(x)),
    "CenterCrop": ((IMAGE,), lambda x: layers.CenterCrop(4, 5)(x)),
    "CenterCrop resized": ((IMAGE,), lambda x: layers.CenterCrop(10, 9)(x)),
    "ContrastLimitedAdaptiveHistogramEqualization": (
        (RGB,),
        lambda x: layers.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 2))(x),
    ),
    "CutMix": ((RGB,), lambda x: layers.CutMix()(x)),
    "MixUp": ((RGB,), lambda x: layers.MixUp()(x)),
    "RandAugment": ((RGB,), lambda x: layers.RandAugment()(x)),
    "RandomBrightness": ((RGB,), lambda x: layers.RandomBrightness(0.2)(x)),
    "RandomColorDegeneration": ((RGB,), lambda x: layers.RandomColorDegeneration(0.2)(x)),
    "RandomColorJitter": ((RGB,), lambda x: layers.RandomColorJitter()(x)),
    "RandomContrast": ((RGB,), lambda x: layers.RandomContrast(0.2)(x)),
    "RandomCrop": ((RGB,), lambda x: layers.RandomCrop(4, 4)(x)),
    "RandomElasticTransform": ((RGB,), lambda x: layers.RandomElasticTransform()(x)),
    "RandomErasing": ((RGB,), lambda x: layers.RandomErasing()(x)),
    "RandomFlip": ((RGB,), lambda x: layers.RandomFlip()(x)),
    "RandomGaussianBlur": ((RGB,), lambda x: layers.RandomGaussianBlur()(x)),
    "RandomGrayscale": ((RGB,), lambda x: layers.RandomGrayscale()(x)),
    "RandomHue": ((RGB,), lambda x: layers.RandomHue(0.2)(x)),
    "RandomInvert": ((RGB,), lambda x: layers.RandomInvert()(x)),
    "RandomPerspective": ((RGB,), lambda x: layers.RandomPerspective()(x)),
    "RandomPosterization": ((RGB,), lambda x: layers.RandomPosterization(4)(x)),
    "RandomRotation": ((RGB,), lambda x: layers.RandomRotation(0.2)(x)),
    "RandomSaturation": ((RGB,), lambda x: layers.RandomSaturation(0.2)(x)),
    "RandomSharpness": ((RGB,), lambda x: layers.RandomSharpness(0.2)(x)),
    "RandomShear": ((RGB,), lambda x: layers.RandomShear(0.2, 0.2)(x)),
    "RandomTranslation": ((RGB,), lambda x: layers.RandomTranslation(0.2, 0.2)(x)),
    "RandomZoom": ((RGB,), lambda x: layers.RandomZoom(0.2)(x)),
    "Resizing": ((IMAGE,), lambda x: layers.Resizing(5, 12)(x)),
    "Resizing nearest": ((IMAGE,), lambda x: layers.Resizing(5, 12, "nearest")(x)),
    "Resizing bicubic": ((IMAGE,), lambda x: layers.Resizing(5, 12, "bicubic")(x)),
    "Resizing area": ((IMAGE,), lambda x: layers.Resizing(5, 12, "area")(x)),
    "Resizing lanczos3": ((IMAGE,), lambda x: layers.Resizing(5, 12, "lanczos3")(x)),
    "Resizing lanczos5": ((IMAGE,), lambda x: layers.Resizing(5, 12, "lanczos5")(x)),
    "Resizing antialias": ((IMAGE,), lambda x: layers.Resizing(3, 4, antialias=True)(x)),
    "Resizing crop": (
        (IMAGE,),
        lambda x: layers.Resizing(5, 12, crop_to_aspect_ratio=True)(x),
    ),
    "Resizing pad": (
        (IMAGE,),
        lambda x: layers.Resizing(5, 12, pad_to_aspect_ratio=True)(x),
    ),
    "Resizing dynamic extents": (((None, None, 3),), lambda x: layers.Resizing(5, 12)(x)),
    "Solarization": ((RGB,), lambda x: layers.Solarization(0.1, 0.2)(x)),
    "IntegerLookup": (
        ((VECTOR, "int64"),),
        lambda x: layers.IntegerLookup(vocabulary=[7, 2, 5])(x),
    ),
    "IntegerLookup multi hot": (
        ((VECTOR, "int64"),),
        lambda x: layers.IntegerLookup(vocabulary=[7, 2, 5], output_mode="multi_hot")(x),
    ),
    "MelSpectrogram": (
        ((200,),),
        lambda x: layers.MelSpectrogram(64, 16, num_mel_bins=8)(x),
    ),
    "Normalization": (
        (VECTOR,),
        lambda x: layers.Normalization(mean=[1, 2, 3, 4, 5], variance=[2, 1, 3, 4, 0.5])(x),
    ),
    "Normalization invert": (
        (VECTOR,),
        lambda x: layers.Normalization(mean=2.0, variance=4.0, invert=True)(x),
    ),
    "Pipeline": (
        (RGB,),
        lambda x: layers.Pipeline([layers.Rescaling(2.0), layers.CenterCrop(4, 4)])(x),
    ),
    "Rescaling": ((RGB,), lambda x: layers.Rescaling(1 / 255, -0.5)(x)),
    "STFTSpectrogram": (((200, 1),), lambda x: layers.STFTSpectrogram(frame_length=32)(x)),
    "STFTSpectrogram angle": (
        ((200, 1),),
        lambda x: layers.STFTSpectrogram("angle", frame_length=32, padding="same")(x),
    ),
    "StringLookup": ((TEXT,), lambda x: layers.StringLookup(vocabulary=["b", "a"])(x)),
    "StringLookup one hot": (
        (TEXT,),
        lambda x: layers.StringLookup(vocabulary=["b", "a"], output_mode="one_hot")(x),
    ),
    "TextVectorization": (
        (TEXT,),
        lambda x: layers.TextVectorization(vocabulary=["b", "a"], output_sequence_length=3)(x),
    ),
    "ActivityRegularization": ((VECTOR,), lambda x: layers.ActivityRegularization(0.1)(x)),
    "AlphaDropout": ((VECTOR,), lambda x: layers.AlphaDropout(0.5)(x)),
    "Dropout": ((VECTOR,), lambda x: layers.Dropout(0.5)(x)),
    "GaussianDropout": ((VECTOR,), lambda x: layers.GaussianDropout(0.5)(x)),
    "GaussianNoise": ((VECTOR,), lambda x: layers.GaussianNoise(0.5)(x)),
    "SpatialDropout1D": ((SEQUENCE,), lambda x: layers.SpatialDropout1D(0.5)(x)),
    "SpatialDropout2D": ((IMAGE,), lambda x: layers.SpatialDropout2D(0.5)(x)),
    "SpatialDropout3D": ((VOLUME,), lambda x: layers.SpatialDropout3D(0.5)(x)),
    "Cropping1D": ((SEQUENCE,), lambda x: layers.Cropping1D((1, 2))(x)),
    "Cropping2D": ((IMAGE,), lambda x: layers.Cropping2D(((1, 2), (0, 3)))(x)),
    "Cropping3D": ((VOLUME,), lambda x: layers.Cropping3D(1)(x)),
    "Flatten": ((IMAGE,), lambda x: layers.Flatten()(x)),
    "Flatten channels first": (
        (FIRST,),
        lambda x: layers.Flatten(data_format="channels_first")(x),
    ),
    "Permute": ((IMAGE,), lambda x: layers.Permute((3, 1, 2))(x)),
    "RepeatVector": ((VECTOR,), lambda x: layers.RepeatVector(3)(x)),
    "Reshape": ((IMAGE,), lambda x: layers.Reshape((-1, 7))(x)),
    "UpSampling1D": ((SEQUENCE,), lambda x: layers.UpSampling1D(3)(x)),
    "UpSampling2D": ((IMAGE,), lambda x: layers.UpSampling2D((2, 3))(x)),
    "UpSampling2D bilinear": (
        (IMAGE,),
        lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x),
    ),
    "UpSampling2D bicubic": (
        (IMAGE,),
        lambda x: layers.UpSampling2D(2, interpolation="bicubic")(x),
    ),
    "UpSampling3D": ((VOLUME,), lambda x: layers.UpSampling3D(2)(x)),
    "ZeroPadding1D": ((SEQUENCE,), lambda x: layers.ZeroPadding1D((1, 2))(x)),
    "ZeroPadding2D": ((IMAGE,), lambda x: layers.ZeroPadding2D(((1, 2), (0, 3)))(x)),
    "ZeroPadding3D": ((VOLUME,), lambda x: layers.ZeroPadding3D(1)(x)),
    "Bidirectional": ((SEQUENCE,), lambda x: layers.Bidirectional(layers.LSTM(3))(x)),
    "Bidirectional GRU sequences": (
        (SEQUENCE,),
        lambda x: layers.Bidirectional(layers.GRU(3, return_sequences=True), "sum")(x),
    ),
    "Bidirectional masked": (
        (SEQUENCE,),
        lambda x: layers.Bidirectional(layers.LSTM(3))(layers.Masking()(ops.relu(x - 1))),
    ),
    "ConvLSTM1D": (((5, 6, 3),), lambda x: layers.ConvLSTM1D(2, 3)(x)),
    "ConvLSTM2D": (((4, 5, 6, 3),), lambda x: layers.ConvLSTM2D(2, 3)(x)),
    "ConvLSTM2D sequences same": (
        ((4, 5, 6, 3),),
        lambda x: layers.ConvLSTM2D(2, 3, padding="same", return_sequences=True)(x),
    ),
    "ConvLSTM3D": (((3, 4, 4, 4, 2),), lambda x: layers.ConvLSTM3D(2, 2)(x)),
    "GRU": ((SEQUENCE,), lambda x: layers.GRU(3)(x)),
    "GRU sequences": ((SEQUENCE,), lambda x: layers.GRU(3, return_sequences=True)(x)),
    "GRU reset before": ((SEQUENCE,), lambda x: layers.GRU(3, reset_after=False)(x)),
    "GRU dynamic length": (((None, 4),), lambda x: layers.GRU(3)(x)),
    "GRUCell": ((SEQUENCE,), lambda x: layers.RNN(layers.GRUCell(3))(x)),
    "LSTM": ((SEQUENCE,), lambda x: layers.LSTM(3)(x)),
    "LSTM sequences": ((SEQUENCE,), lambda x: layers.LSTM(3, return_sequences=True)(x)),
    "LSTM states": ((SEQUENCE,), lambda x: layers.LSTM(3, return_state=True)(x)),
    "LSTM backwards": (
        (SEQUENCE,),
        lambda x: layers.LSTM(3, go_backwards=True, return_sequences=True)(x),
    ),
    "LSTM unrolled": ((SEQUENCE,), lambda x: layers.LSTM(3, unroll=True)(x)),
    "LSTM relu": ((SEQUENCE,), lambda x: layers.LSTM(3, activation="relu")(x)),
    "LSTM dynamic length": (((None, 4),), lambda x: layers.LSTM(3)(x)),
    "LSTM initial state": (
        (SEQUENCE, (3,), (3,)),
        lambda x, h, c: layers.LSTM(3)(x, initial_state=[h, c]),
    ),
    "LSTM large": (((6, 16),), lambda x: layers.LSTM(16)(x)),
    "LSTMCell": ((SEQUENCE,), lambda x: layers.RNN(layers.LSTMCell(3))(x)),
    "RNN": (
        (SEQUENCE,),
        lambda x: layers.RNN(layers.SimpleRNNCell(3), return_sequences=True)(x),
    ),
    "SimpleRNN": ((SEQUENCE,), lambda x: layers.SimpleRNN(3)(x)),
    "SimpleRNN sequences": (
        (SEQUENCE,),
        lambda x: layers.SimpleRNN(3, return_sequences=True)(x),
    ),
    "SimpleRNNCell": ((SEQUENCE,), lambda x: layers.RNN(layers.SimpleRNNCell(3))(x)),
    "StackedRNNCells": (
        (SEQUENCE,),
        lambda x: layers.RNN(layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2)]))(x),
    ),
    "TimeDistributed": ((SEQUENCE,), lambda x: layers.TimeDistributed(layers.Dense(3))(x)),
    "TimeDistributed Conv2D": (
        ((4, 8, 7, 3),),
        lambda x: layers.TimeDistributed(layers.Conv2D(2, 3))(x),
    ),
    "TimeDistributed dynamic length": (
        ((None, 4),),
        lambda x: layers.TimeDistributed(layers.Dense(3))(x),
    ),
    "TimeDistributed dynamic Conv2D": (
        ((None, 8, 7, 3),),
        lambda x: layers.TimeDistributed(layers.Conv2D(2, 3))(x),
    ),
}

# ------------------------------------------------------------------------- activations

ACTIVATIONS: dict[str, tuple[tuple[Spec, ...], Build]] = {
    **{
        name: ((VECTOR,), lambda x, name=name: layers.Activation(getattr(activations, name))(x))
        for name in (
            *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu"),
            *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu"),
            *("relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus"),
            *("softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "tanh"),
            "tanh_shrink",
        )
    },
    "gelu approximate": ((VECTOR,), lambda x: activations.gelu(x, approximate=True)),
    "glu": (((6,),), lambda x: layers.Activation(activations.glu)(x)),
    "threshold": ((VECTOR,), lambda x: activations.threshold(x, 0.2, 0.7)),
}

# -------------------------------------------------------------------------------- ops

UNARY = """abs absolute angle arccos arcsin arcsinh arctan arctanh cbrt ceil conj conjugate
copy cos cosh deg2rad erf erfc erfinv exp exp2 expm1 fabs floor i0 imag isfinite isinf isnan
isneginf isposinf isreal log log10 log1p log2 logical_not nan_to_num negative rad2deg real
reciprocal round rsqrt sign signbit sin sinc sinh sqrt square tan tanh trunc
celu elu gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu log_sigmoid
log_softmax relu relu6 selu sigmoid silu swish soft_shrink softmax softplus softsign sparse_plus
sparse_sigmoid sparsemax squareplus tanh_shrink stop_gradient convert_to_tensor array
ones_like zeros_like empty_like ravel"""
BINARY = """add subtract multiply divide true_divide divide_no_nan floor_divide mod fmod power
maximum minimum fmax fmin arctan2 hypot logaddexp logaddexp2 heaviside nextafter equal not_equal
greater greater_equal less less_equal isclose logical_and logical_or logical_xor"""
INTEGER_BINARY = """bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift
left_shift right_shift"""
REDUCTIONS = """all any amax amin argmax argmin average count_nonzero max mean median min
nanargmax nanargmin nanmax nanmean nanmin nanprod nanstd nansum nanvar prod ptp std sum
var logsumexp"""
SCANS = "cumprod cumsum nancumprod nancumsum argsort sort"

OPS: dict[str, tuple[tuple[Spec, ...], Build]] = {
    **{n: ((VECTOR,), lambda x, n=n: getattr(ops, n)(x)) for n in UNARY.split()},
    **{n: ((VECTOR, VECTOR), lambda x, y, n=n: getattr(ops, n)(x, y)) for n in BINARY.split()},
    **{
        n: ((INTEGERS, INTEGERS), lambda x, y, n=n: getattr(ops, n)(x, y))
        for n in INTEGER_BINARY.split()
    },
    **{
        n: ((INTEGERS, INTEGERS), lambda x, y, n=n: getattr(ops, n)(ops.max(x, 0), ops.max(y, 0)))
        for n in ("gcd", "lcm")
    },
    **{n: ((SEQUENCE,), lambda x, n=n: getattr(ops, n)(x, axis=1)) for n in REDUCTIONS.split()},
    **{n: ((SEQUENCE,), lambda x, n=n: getattr(ops, n)(x, axis=1)) for n in SCANS.split()},
    "arccosh": ((VECTOR,), lambda x: ops.arccosh(ops.abs(x) + 1.1)),
    "gelu exact": ((VECTOR,), lambda x: ops.gelu(x, approximate=False)),
    "sum everything": ((SEQUENCE,), lambda x: ops.sum(x)),
    "max keepdims": ((SEQUENCE,), lambda x: ops.max(x, axis=(1, 2), keepdims=True)),
    "argmax keepdims": ((SEQUENCE,), lambda x: ops.argmax(x, axis=-1, keepdims=True)),
    "mean integers": ((INTEGERS,), lambda x: ops.mean(x, axis=1)),
    "floor_divide integers": (
        (INTEGERS, INTEGERS),
        lambda x, y: ops.floor_divide(x - 5, y + 1),
    ),
    "mod integers": ((INTEGERS, INTEGERS), lambda x, y: ops.mod(x - 5, y + 1)),
    "glu": (((6,),), lambda x: ops.glu(x)),
    "threshold": ((VECTOR,), lambda x: ops.threshold(x, 0.2, 0.7)),
    "bitwise_invert": ((INTEGERS,), lambda x: ops.bitwise_invert(x)),
    "bitwise_not": ((INTEGERS,), lambda x: ops.bitwise_not(x)),
    "ldexp": ((VECTOR, INTEGERS), lambda x, y: ops.ldexp(x, y)),
    "allclose": ((VECTOR, VECTOR), lambda x, y: ops.allclose(x, y)),
    "append": ((VECTOR, VECTOR), lambda x, y: ops.append(x, y, axis=1)),
    "argpartition": ((VECTOR,), lambda x: ops.argpartition(ops.mean(x, 0), 2)[2]),
    "array_split": ((VECTOR,), lambda x: ops.array_split(x, 3, axis=1)),
    "average weights": (
        (SEQUENCE,),
        lambda x: ops.average(x, axis=2, weights=np.array([1, 2, 3, 4.0], "float32")),
    ),
    "bincount": ((INTEGERS,), lambda x: ops.bincount(x, minlength=10)),
    "broadcast_to": (((1, 4),), lambda x: ops.broadcast_to(ops.mean(x, 0), (2, 3, 4))),
    "cast": ((VECTOR,), lambda x: ops.cast(x, "int32")),
    "saturate_cast": ((VECTOR,), lambda x: ops.saturate_cast(x * 200, "uint8")),
    "clip": ((VECTOR,), lambda x: ops.clip(x, -0.5, 1.0)),
    "concatenate": ((VECTOR, VECTOR), lambda x, y: ops.concatenate([x, y], axis=1)),
    "correlate": ((VECTOR,), lambda x: ops.correlate(ops.mean(x, 0), _constant((3,)))),
    "cdist": ((SEQUENCE, (3, 4)), lambda x, y: ops.cdist(x, y)),
    "cross": (((6, 3), (6, 3)), lambda x, y: ops.cross(x, y)),
    "diag": (((None,),), lambda x: ops.diag(x[0], 1)),
    "diagflat": ((VECTOR,), lambda x: ops.diagflat(x[0])),
    "diagonal": ((SEQUENCE,), lambda x: ops.diagonal(x, 1, 1, 2)),
    "diff": ((SEQUENCE,), lambda x: ops.diff(x, 2, axis=1)),
    "digitize": ((VECTOR,), lambda x: ops.digitize(x, np.array([-1, 0, 0.5]))),
    "dot": ((SEQUENCE,), lambda x: ops.dot(x, _constant((4, 3)))),
    "dsplit": ((IMAGE,), lambda x: ops.dsplit(x[0], 2)),
    "dstack": ((SEQUENCE, SEQUENCE), lambda *x: ops.dstack(x)),
    "einsum": ((SEQUENCE, (5, 4)), lambda x, y: ops.einsum("abc,adc->abd", x, y)),
    "expand_dims": ((VECTOR,), lambda x: ops.expand_dims(x, 1)),
    "extract_sequences": (((20,),), lambda x: ops.extract_sequences(x, 6, 3)),
    "fft": (((8,), (8,)), lambda *x: ops.fft(x)),
    "fft2": (((4, 8), (4, 8)), lambda *x: ops.fft2(x)),
    "ifft2": (((4, 8), (4, 8)), lambda *x: ops.ifft2(x)),
    "rfft": (((8,),), lambda x: ops.rfft(x)),
    "rfft length": (((9,),), lambda x: ops.rfft(x, 12)),
    "irfft": (((5,), (5,)), lambda *x: ops.irfft(x)),
    "stft": (((40,),), lambda x: ops.stft(x, 8, 4, 8)),
    "istft": (((11, 5), (11, 5)), lambda *x: ops.istft(x, 8, 4, 8)),
    "flip": ((SEQUENCE,), lambda x: ops.flip(x, axis=1)),
    "fliplr": ((SEQUENCE,), lambda x: ops.fliplr(x)),
    "flipud": ((SEQUENCE,), lambda x: ops.flipud(x)),
    "full_like": ((VECTOR,), lambda x: ops.full_like(x, 2.5)),
    "get_item": ((IMAGE,), lambda x: ops.get_item(x, (slice(None), slice(1, 6, 2), 3))),
    "get_item ellipsis": ((IMAGE,), lambda x: x[..., ::-1, None, 1]),
    "geomspace": (
        (VECTOR, VECTOR),
        lambda x, y: ops.geomspace(ops.exp(x), ops.exp(y), 5),
    ),
    "linspace": ((VECTOR, VECTOR), lambda x, y: ops.linspace(x, y, 4, axis=1)),
    "logspace": ((VECTOR, VECTOR), lambda x, y: ops.logspace(x, y, 4, axis=1)),
    "hsplit": (((6, 4),), lambda x: ops.hsplit(x, 3)),
    "hstack": ((VECTOR, VECTOR), lambda *x: ops.hstack(x)),
    "in_top_k": (
        (((), "int32"), (10,)),
        lambda t, p: ops.in_top_k(t, p, 3),
    ),
    "inner": ((SEQUENCE,), lambda x: ops.inner(ops.mean(x, 0), _constant((6, 4)))),
    "matmul": ((SEQUENCE, (4, 3)), lambda x, y: ops.matmul(x, y)),
    "matmul constant": ((SEQUENCE,), lambda x: ops.matmul(x, _constant((4, 3)))),
    "meshgrid": ((VECTOR,), lambda x: ops.meshgrid(x[0], _constant((3,)))),
    "moveaxis": ((IMAGE,), lambda x: ops.moveaxis(x, 3, 1)),
    "percentile": ((SEQUENCE,), lambda x: ops.percentile(x, 30, axis=1)),
    "quantile": ((SEQUENCE,), lambda x: ops.quantile(x, 0.3, axis=1)),
    "quantile nearest": ((SEQUENCE,), lambda x: ops.quantile(x, 0.3, axis=1, method="nearest")),
    "nonzero": ((VECTOR,), lambda x: ops.nonzero(ops.relu(x))),
    "norm": ((SEQUENCE,), lambda x: ops.norm(x, axis=2)),
    "norm 1": ((SEQUENCE,), lambda x: ops.norm(x, ord=1, axis=(1, 2))),
    "outer": ((VECTOR,), lambda x: ops.outer(x, _constant((3,)))),
    "pad": ((SEQUENCE,), lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1)), "reflect")),
    "pad constant": (
        (SEQUENCE,),
        lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1)), constant_values=3.0),
    ),
    "rearrange": (
        (IMAGE,),
        lambda x: ops.rearrange(ops.mean(x, 0, keepdims=True), "b h w c -> c b w h"),
    ),
    "repeat": ((VECTOR,), lambda x: ops.repeat(x, 3, axis=1)),
    "reshape": ((IMAGE,), lambda x: ops.reshape(x, (-1, 7, 8, 4))),
    "roll": ((SEQUENCE,), lambda x: ops.roll(x, 2, axis=1)),
    "rot90": ((IMAGE,), lambda x: ops.rot90(x, axes=(1, 2))),
    "round decimals": ((VECTOR,), lambda x: ops.round(x, 1)),
    "scatter": (
        ((4,),),
        lambda x: ops.scatter(np.array([[1], [5], [7], [2]]), ops.mean(x, 0), (9,)),
    ),
    "scatter_update": (
        (VECTOR,),
        lambda x: ops.scatter_update(ops.mean(x, 0), np.array([[1], [3]]), _constant((2,))),
    ),
    "searchsorted": (
        (VECTOR,),
        lambda x: ops.searchsorted(np.sort(_constant((6,))), ops.mean(x, 0)),
    ),
    "segment_max": ((SEQUENCE,), lambda x: _segment(ops.segment_max, x)),
    "segment_min": ((SEQUENCE,), lambda x: _segment(ops.segment_min, x)),
    "segment_prod": ((SEQUENCE,), lambda x: _segment(ops.segment_prod, x)),
    "segment_sum": ((SEQUENCE,), lambda x: _segment(ops.segment_sum, x)),
    "segment_sum sorted": (
        (SEQUENCE,),
        lambda x: ops.segment_sum(ops.mean(x, 0), np.array([0, 0, 1, 2, 2, 2]), sorted=True),
    ),
    "select": ((VECTOR,), lambda x: ops.select([x > 1, x < 0], [x * 2, x - 1], 0.5)),
    "size": ((VECTOR,), lambda x: ops.size(x)),
    "slice": ((IMAGE,), lambda x: ops.slice(x, (0, 1, 2, 0), (1, 4, 3, 4))),
    "slice_update": (
        (VECTOR,),
        lambda x: ops.slice_update(ops.mean(x, 0), (1,), _constant((2,))),
    ),
    "split": ((SEQUENCE,), lambda x: ops.split(x, [1, 4], axis=1)),
    "squeeze": (((4, 1, 3),), lambda x: ops.squeeze(x, 2)),
    "stack": ((VECTOR, VECTOR), lambda *x: ops.stack(x, axis=1)),
    "swapaxes": ((IMAGE,), lambda x: ops.swapaxes(x, 1, 3)),
    "take": ((SEQUENCE,), lambda x: ops.take(x, np.array([1, 0, 5]), axis=1)),
    "take indices": ((INTEGERS,), lambda i: ops.take(_constant((10, 3)), i, axis=0)),
    "take_along_axis": (
        ((10,), INTEGERS),
        lambda x, i: ops.take_along_axis(x, i, axis=1),
    ),
    "tensordot": ((IMAGE,), lambda x: ops.tensordot(x, _constant((7, 4, 3)), 2)),
    "tile": ((SEQUENCE,), lambda x: ops.tile(x, (1, 2, 3))),
    "top_k": ((VECTOR,), lambda x: ops.top_k(x, 3)),
    "trace": ((SQUARE,), lambda x: ops.trace(x, 0, 1, 2)),
    "transpose": ((IMAGE,), lambda x: ops.transpose(x, (0, 3, 1, 2))),
    "trapezoid": ((VECTOR,), lambda x: ops.trapezoid(x, dx=0.5)),
    "tril": ((SEQUENCE,), lambda x: ops.tril(x, 1)),
    "triu": ((SEQUENCE,), lambda x: ops.triu(x, -1)),
    "unique": ((INTEGERS,), lambda x: ops.unique(x)),
    "unravel_index": ((INTEGERS,), lambda x: ops.unravel_index(ops.max(x, 0), (3, 4))),
    "unstack": ((SEQUENCE,), lambda x: ops.unstack(x, axis=1)),
    "vander": ((VECTOR,), lambda x: ops.vander(ops.mean(x, 0), 4)),
    "vdot": ((VECTOR, VECTOR), lambda x, y: ops.vdot(x, y)),
    "view": ((VECTOR,), lambda x: ops.view(x, "int32")),
    "view_as_real": ((VECTOR, VECTOR), lambda r, a: ops.view_as_real(ops.polar(r, a))),
    "vsplit": ((SEQUENCE,), lambda x: ops.vsplit(x[0], 3)),
    "vstack": ((SEQUENCE, SEQUENCE), lambda *x: ops.vstack(x)),
    "where": ((VECTOR, VECTOR), lambda x, y: ops.where(x > y, x, 0.5)),
    # neural networks
    "adaptive_average_pool": ((IMAGE,), lambda x: ops.adaptive_average_pool(x, (3, 4))),
    "adaptive_max_pool": ((IMAGE,), lambda x: ops.adaptive_max_pool(x, (3, 4))),
    "average_pool": ((IMAGE,), lambda x: ops.average_pool(x, 3, 2, "same")),
    "max_pool": ((IMAGE,), lambda x: ops.max_pool(x, 3, 2, "same")),
    "batch_normalization": (
        (IMAGE,),
        lambda x: ops.batch_normalization(x, _constant((4,)), ops.abs(_constant((4,))) + 1, -1),
    ),
    "binary_crossentropy": (
        (VECTOR, VECTOR),
        lambda x, y: ops.binary_crossentropy(ops.sigmoid(x), y, from_logits=True),
    ),
    "categorical_crossentropy": (
        (VECTOR, VECTOR),
        lambda x, y: ops.categorical_crossentropy(ops.softmax(x), ops.softmax(y)),
    ),
    "sparse_categorical_crossentropy": (
        (((), "int32"), (10,)),
        lambda t, y: ops.sparse_categorical_crossentropy(t, y, from_logits=True),
    ),
    "conv": ((IMAGE,), lambda x: ops.conv(x, _constant((3, 3, 4, 2)), 2, "same")),
    "depthwise_conv": ((IMAGE,), lambda x: ops.depthwise_conv(x, _constant((3, 3, 4, 2)))),
    "separable_conv": (
        (IMAGE,),
        lambda x: ops.separable_conv(x, _constant((3, 3, 4, 1)), _constant((1, 1, 4, 5))),
    ),
    "ctc_decode": (
        ((7, 4), ((), "int32")),
        lambda x, n: ops.ctc_decode(x, ops.minimum(n, 6) + 1)[0],
    ),
    "ctc_loss": (
        (((3,), "int32"), (20, 12)),
        lambda t, x: ops.ctc_loss(t + 1, x, ops.full_like(t[:, 0], 3), ops.full_like(t[:, 0], 20)),
    ),
    "depth_to_space": ((IMAGE,), lambda x: ops.depth_to_space(x, 2)),
    "space_to_depth": (((8, 6, 3),), lambda x: ops.space_to_depth(x, 2)),
    "dot_product_attention": (
        ((6, 2, 4), (5, 2, 4)),
        lambda q, k: ops.dot_product_attention(q, k, k),
    ),
    "dot_product_attention causal": (
        ((6, 2, 4),),
        lambda x: ops.dot_product_attention(x, x, x, is_causal=True),
    ),
    "fold": (((16, 12),), lambda x: ops.fold(x, (4, 5), 2)),
    "unfold": (((3, 6, 5),), lambda x: ops.unfold(ops.mean(x, 0, keepdims=True), 2, stride=2)),
    "layer_normalization": ((SEQUENCE,), lambda x: ops.layer_normalization(x)),
    "rms_normalization": ((SEQUENCE,), lambda x: ops.rms_normalization(x)),
    "moments": ((IMAGE,), lambda x: ops.moments(x, (1, 2))),
    "multi_hot": ((INTEGERS,), lambda x: ops.multi_hot(x, 10)),
    "one_hot": ((INTEGERS,), lambda x: ops.one_hot(x, 10)),
    "normalize": ((SEQUENCE,), lambda x: ops.normalize(x)),
    "polar": ((VECTOR, VECTOR), lambda r, a: ops.real(ops.polar(r, a))),
    "psnr": ((IMAGE, IMAGE), lambda x, y: ops.psnr(x, y, 1.0)),
    # linear algebra
    "cholesky": ((SQUARE,), lambda x: ops.cholesky(_definite(x))),
    "cholesky_inverse": ((SQUARE,), lambda x: ops.cholesky_inverse(_triangle(x))),
    "det": ((SQUARE,), lambda x: ops.det(x)),
    "eig": ((SQUARE,), lambda x: ops.real(ops.eig(_definite(x))[0])),
    "eigh": ((SQUARE,), lambda x: ops.eigh(_definite(x))[0]),
    "inv": ((SQUARE,), lambda x: ops.inv(_definite(x))),
    "logdet": ((SQUARE,), lambda x: ops.logdet(_definite(x))),
    "lstsq": ((SQUARE, (4, 2)), lambda x, y: ops.lstsq(_definite(x[0]), y[0])),
    "lu_factor": ((SQUARE,), lambda x: ops.lu_factor(x[0])),
    "matrix_rank": ((SQUARE,), lambda x: ops.matrix_rank(x)),
    "pinv": ((SQUARE,), lambda x: ops.pinv(_definite(x))),
    "qr": ((SQUARE,), lambda x: ops.qr(x)),
    "slogdet": (
        (SQUARE,),
        lambda x: ops.slogdet(x + _constant((4, 4)) + 6 * np.eye(4, dtype="float32")),
    ),
    "solve": ((SQUARE, (4, 2)), lambda a, b: ops.solve(_definite(a), b)),
    "solve_triangular": (
        (SQUARE, (4, 2)),
        lambda a, b: ops.solve_triangular(_triangle(a), b, lower=True),
    ),
    "svd": ((SEQUENCE,), lambda x: ops.svd(x, compute_uv=False)),
    # images
    "image.affine_transform": (
        (RGB,),
        lambda x: ops.image.affine_transform(
            ops.mean(x, 0), np.array([1, 0.2, 0.5, 0.1, 0.9, -0.5, 0, 0], "float32")
        ),
    ),
    "image.crop_images": (
        (RGB,),
        lambda x: ops.image.crop_images(x, 1, 2, target_height=4, target_width=3),
    ),
    "image.extract_patches": ((RGB,), lambda x: ops.image.extract_patches(x, (3, 2), 2)),
    "image.extract_patches_3d": (
        (VOLUME,),
        lambda x: ops.image.extract_patches_3d(x, (2, 2, 2)),
    ),
    "image.gaussian_blur": ((RGB,), lambda x: ops.image.gaussian_blur(x)),
    "image.hsv_to_rgb": ((RGB,), lambda x: ops.image.hsv_to_rgb(ops.sigmoid(x))),
    "image.map_coordinates": (
        ((8, 6),),
        lambda x: ops.image.map_coordinates(
            ops.mean(x, 0), np.array([[0.5, 2.2, 7.9], [1.5, 3.3, -0.4]], "float32"), 1
        ),
    ),
    "image.pad_images": ((RGB,), lambda x: ops.image.pad_images(x, 1, 2, 3, 4)),
    "image.perspective_transform": (
        (RGB,),
        lambda x: ops.image.perspective_transform(
            ops.mean(x, 0),
            np.array([[0, 0], [0, 5], [7, 0], [7, 5]], "float32"),
            np.array([[1, 0], [0, 4], [7, 1], [6, 5]], "float32"),
        ),
    ),
    "image.resize": ((RGB,), lambda x: ops.image.resize(x, (5, 9))),
    "image.resize nearest": ((RGB,), lambda x: ops.image.resize(x, (5, 9), "nearest")),
    "image.resize bicubic": ((RGB,), lambda x: ops.image.resize(x, (5, 9), "bicubic")),
    "image.resize area": ((RGB,), lambda x: ops.image.resize(x, (5, 9), "area")),
    "image.resize lanczos3": ((RGB,), lambda x: ops.image.resize(x, (5, 9), "lanczos3")),
    "image.rgb_to_grayscale": ((RGB,), lambda x: ops.image.rgb_to_grayscale(x)),
    "image.rgb_to_hsv": ((RGB,), lambda x: ops.image.rgb_to_hsv(ops.sigmoid(x))),
    "image.scale_and_translate": (
        ((8, 6),),
        lambda x: ops.image.scale_and_translate(
            ops.mean(x, 0),
            (5, 9),
            np.array([0.6, 1.5], "float32"),
            np.array([0.1, -0.2], "float32"),
            (0, 1),
            "linear",
        ),
    ),
    "image.sobel_edges": ((RGB,), lambda x: ops.image.sobel_edges(x)),
    "image.ssim": (
        ((12, 13, 3),) * 2,
        lambda x, y: ops.image.ssim(x, y, max_val=4.0),
    ),
}

# -------------------------------------------------------------------------- exclusions

FUNCTION = "takes a Python function"
NUMBERS = "makes a tensor from numbers, not from tensors"
NO_TENSOR = "returns no tensor"
RANDOM = "needs random state"
BASE = "a base class, which computes nothing"
FOREIGN = "holds a model of another framework"

# What Keras itself cannot run in `predict` of a functional model on TensorFlow.
BROKEN: dict[str, tuple[tuple[Spec, ...], Build]] = {
    "layers.Equalization": ((RGB,), lambda x: layers.Equalization()(x)),
    "ops.conv_transpose": (
        (IMAGE,),
        lambda x: ops.conv_transpose(x, _constant((3, 3, 2, 4)), 2, "same"),
    ),
    "ops.corrcoef": ((SEQUENCE,), lambda x: ops.corrcoef(ops.mean(x, 0))),
    "ops.histogram": ((VECTOR,), lambda x: ops.histogram(x[:, 0], 4, (-1.0, 1.0))),
    "ops.isin": ((INTEGERS,), lambda x: ops.isin(x, np.array([2, 9]))),
    "ops.kron": ((SEQUENCE,), lambda x: ops.kron(ops.mean(x, 0), _constant((2, 3)))),
    "ops.nanmedian": ((SEQUENCE,), lambda x: ops.nanmedian(x, axis=1)),
    "ops.nanpercentile": ((SEQUENCE,), lambda x: ops.nanpercentile(x, 30, axis=1)),
    "ops.nanquantile": ((SEQUENCE,), lambda x: ops.nanquantile(x, 0.3, axis=1)),
    "ops.view_as_complex": (((3, 2),), lambda x: ops.real(ops.view_as_complex(x))),
}

EXCLUDED: dict[str, str] = {
    **dict.fromkeys(BROKEN, "Keras itself cannot run it in `predict` on TensorFlow"),
    "layers.Layer": BASE,
    "layers.Wrapper": BASE,
    "layers.InputSpec": NO_TENSOR,
    "layers.Lambda": FUNCTION,
    "layers.FlaxLayer": FOREIGN,
    "layers.JaxLayer": FOREIGN,
    "layers.TorchModuleWrapper": FOREIGN,
    "layers.TFSMLayer": "holds a SavedModel, which is exported as one",
    "layers.MaxNumBoundingBoxes": "takes bounding boxes, for training data",
    "layers.serialize": NO_TENSOR,
    "layers.deserialize": NO_TENSOR,
    "activations.serialize": NO_TENSOR,
    "activations.deserialize": NO_TENSOR,
    "activations.get": NO_TENSOR,
    **{
        f"ops.{name}": FUNCTION
        for name in (
            *(
                "map",
                "scan",
                "associative_scan",
                "switch",
                "while_loop",
                "fori_loop",
                "cond",
                "vectorized_map",
            ),
            *("custom_gradient", "vectorize", "jvp"),
        )
    },
    **{
        f"ops.{name}": NUMBERS
        for name in (
            *("arange", "bartlett", "blackman", "hamming", "hanning", "kaiser", "empty", "eye"),
            *("full", "identity", "ones", "tri", "zeros"),
        )
    },
    **{
        f"ops.{name}": NO_TENSOR
        for name in ("shape", "dtype", "is_tensor", "ndim", "convert_to_numpy")
    },
    "ops.image.elastic_transform": RANDOM,
}

CASES: dict[str, tuple[tuple[Spec, ...], Build]] = {
    f"{package}.{name}": case
    for package, table in (("layers", LAYERS), ("activations", ACTIVATIONS), ("ops", OPS))
    for name, case in table.items()
}


def _constant(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def _segment(function: Any, x: Any) -> Any:
    return function(ops.mean(x, 0), np.array([2, 0, 1, 0, 2, 2]), 3)


def _definite(x: Any) -> Any:
    return ops.matmul(x, ops.swapaxes(x, -1, -2)) + 2 * np.eye(4, dtype="float32")


def _triangle(x: Any) -> Any:
    return ops.tril(x) + 3 * np.eye(4, dtype="float32")


def public_names() -> dict[str, Any]:
    """Every public object of `keras.layers`, `keras.activations`, `keras.ops`, by dotted name."""
    spaces = {"layers": layers, "activations": activations, "ops": ops, "ops.image": ops.image}
    spaces["ops.linalg"], spaces["ops.nn"] = ops.linalg, ops.nn
    spaces["ops.numpy"] = ops.numpy
    return {
        f"{space}.{name}": getattr(module, name)
        for space, module in spaces.items()
        for name in dir(module)
        if not name.startswith("_") and callable(getattr(module, name))
    }


def uncovered() -> list[str]:
    """The public names that are neither in the zoo, under this or another name, nor excluded."""
    names = public_names()
    known = {name.split()[0] for name in CASES} | set(EXCLUDED)
    objects = {id(names[name]) for name in known if name in names}
    return [name for name, thing in names.items() if id(thing) not in objects]


def build(name: str) -> keras.Model:
    """The model of a case, with random weights and statistics."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    specs, call = CASES[name] if name in CASES else BROKEN[name]
    inputs = []
    for index, spec in enumerate(specs):
        shape, dtype = spec if len(spec) == 2 and isinstance(spec[1], str) else (spec, "float32")
        inputs.append(keras.Input(shape, dtype=dtype, name=f"x{index}"))
    outputs = call(*inputs)
    if isinstance(outputs, keras.Model):
        model = outputs
    else:
        outputs = [y for y in keras.tree.flatten(outputs) if isinstance(y, KerasTensor)]
        model = keras.Model(one_or_all(inputs), outputs, name="zoo")
    randomize(model)
    return model


def one_or_all(entries: list[Any]) -> Any:
    return entries[0] if len(entries) == 1 else entries


def randomize(model: keras.Model) -> None:
    """Weights and statistics that are nowhere what an initializer leaves."""
    rng = np.random.default_rng(11)
    for variable in model.variables:
        if "float" not in variable.dtype:
            continue
        if "variance" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        else:
            variable.assign(0.5 * rng.standard_normal(variable.shape))


def batch(model: keras.Model, size: int) -> dict[str, np.ndarray]:
    """Random arrays by name of the input; integers are in 0..9."""
    rng = np.random.default_rng(size)
    arrays = {}
    for tensor in model.inputs:
        shape = (size, *(FREE_AXIS if n is None else n for n in tensor.shape[1:]))
        if tensor.dtype == "string":
            array = rng.choice(np.array(["a", "b", "c"], object), shape)
        elif "float" in tensor.dtype:
            array = rng.standard_normal(shape).astype(tensor.dtype)
        else:
            array = rng.integers(0, 2 if tensor.dtype == "bool" else 10, shape)
            array = array.astype(tensor.dtype)
        arrays[tensor.name] = array
    return arrays
