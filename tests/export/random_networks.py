"""Random networks for the property tests: stacks of linear layers, batch norms and the rest."""

import math

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers

import kerasdl

ACTIVATIONS = ("linear", "relu", "elu", "tanh", "sigmoid", "leaky_relu")
NAMES = {
    2: ("Dense",),
    3: ("Dense", "Conv1D", "DepthwiseConv1D", "SeparableConv1D", "Conv1DTranspose"),
    4: ("Dense", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"),
    5: ("Dense", "Conv3D", "Conv3DTranspose"),
}
KINDS = (
    *("linear", "batch_normalization") * 4,
    *("activation", "dropout", "residual", "window", "rearranged", "joined", "scaled"),
    *("bent", "weighted", "sequence", "called_twice", "forked"),
)


def recipes(max_layers=7):
    """What to build: a rank, and per layer its kind and numbers that settle its options.

    Keras uses Python's random state while it builds, which is hypothesis' own inside a strategy;
    so the strategy draws plain numbers, and `build` makes the network of them.
    """
    numbers = st.lists(st.integers(0, 2**16), min_size=24, max_size=24)
    kinds = st.sampled_from(KINDS)
    return st.fixed_dictionaries(
        {
            "numbers": numbers,
            "layers": st.lists(st.tuples(kinds, numbers), min_size=2, max_size=max_layers),
            "seed": st.integers(0, 2**32 - 1),
        }
    )


def recipe_of(seed, max_layers=7):
    """The recipe of a number, for programs that want more networks than a test draws."""
    rng = np.random.default_rng(seed)

    def numbers():
        return rng.integers(0, 2**16, 24).tolist()

    kinds = rng.choice(KINDS, rng.integers(2, max_layers + 1))
    return {
        "numbers": numbers(),
        "layers": [(str(kind), numbers()) for kind in kinds],
        "seed": int(rng.integers(2**32)),
    }


def build(recipe, convertible=True):
    """A built Functional model with random weights; extents often equal the channel count.

    Args:
        convertible: Leave out what has no ONNX form or runs in float32 only.
    """
    pick = _Picker(recipe["numbers"])
    rank, size = pick((2, 2, 3, 3, 4, 4, 5)), pick((3, 4, 5))
    x = inputs = keras.Input((size,) * (rank - 2) + (pick((size, size, 1, 2, 4)),))
    outputs = []
    for kind, numbers in recipe["layers"]:
        x = _add(kind, _Picker(numbers, convertible), x)
        if kind == "batch_normalization" and numbers[-1] % 16 == 0:
            outputs.append(x)
    if len(x.shape) > 2 and pick((False, True)):
        x = pick((layers.Flatten(), _pooled(pick, x)))(x)
        x = layers.Dense(3)(layers.BatchNormalization()(x))
    model = keras.Model(inputs, [*outputs, x] if outputs else x)
    randomize(model, recipe["seed"])
    _vary(model, recipe["seed"])
    return model


def _vary(model, seed):
    """Let some γ be positive throughout, some variances tiny."""
    rng = np.random.default_rng([seed, 1])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, variance = layer.gamma, np.array(layer.moving_variance.value)
            if gamma is not None and rng.integers(2):
                gamma.assign(np.abs(gamma.value))
            variance[0] = 1e-12 if rng.integers(4) == 0 else variance[0]
            layer.moving_variance.assign(variance)


class _Picker:
    """Picks options by the numbers of a recipe."""

    def __init__(self, numbers, convertible=True):
        self.rest = iter(numbers)
        self.convertible = convertible

    def __call__(self, options):
        return options[next(self.rest) % len(options)]


def _pooled(pick, x):
    names = ("GlobalAveragePooling", "GlobalMaxPooling")
    return getattr(layers, f"{pick(names)}{len(x.shape) - 2}D")()


def _add(kind, pick, x):
    made = LAYERS[kind](pick, x)
    return made(x) if isinstance(made, layers.Layer) else made


def _residual(pick, x):
    branch = _linear(pick, x, shape_kept=True)(x)
    branch = _batch_normalization(pick, branch)(branch)
    return pick((layers.Add(), layers.Subtract(), layers.Average()))([x, branch])


def _window(pick, x):
    """Pooling, cropping, padding and repetition over space."""
    rank = len(x.shape)
    if rank == 2:
        return _activation(pick, x)
    # TensorFlow has no pooling of volumes in float64.
    names = ["ZeroPadding", *("AveragePooling", "MaxPooling", "MaxPooling") * (rank < 5)]
    names += ["Cropping"] * (min(x.shape[1:-1]) > 2)
    names += ["UpSampling"] * (math.prod(x.shape[1:]) < 100)
    name = pick(names)
    options = {"padding": pick(("same", "valid"))} if "Pooling" in name else {}
    size = () if name == "ZeroPadding" or (name == "Cropping") else (pick((1, 2)),)
    if "Pooling" in name and min(x.shape[1:-1]) < 2:
        size = (1,)
    return getattr(layers, f"{name}{rank - 2}D")(*size, **options)


def _rearranged(pick, x):
    """Axes that go elsewhere, or into each other."""
    rank = len(x.shape)
    if rank == 2:
        half = x.shape[1] // 2 if x.shape[1] % 2 == 0 else 1
        return pick(
            (layers.RepeatVector(2), layers.Reshape((-1, half)), layers.Reshape((1, x.shape[1])))
        )
    order = list(range(1, rank))
    swap = pick(range(rank - 1))
    order[0], order[swap] = order[swap], order[0]
    kept = layers.Reshape((math.prod(x.shape[1:-1]), x.shape[-1]))
    mixed = layers.Reshape((x.shape[1], math.prod(x.shape[2:])))
    return pick((layers.Permute(order), kept, mixed, layers.Flatten(), layers.Identity()))


def _joined(pick, x):
    """A map of some parts, of all parts, or of the whole."""
    parts = [x, _linear(pick, x, shape_kept=True)(x)]
    if pick((False, True)):
        parts[0] = _batch_normalization(pick, x)(x)
    joined = layers.Concatenate(axis=pick((-1, -1, 1)))(parts)
    return layers.BatchNormalization()(joined) if pick((False, True)) else joined


def _scaled(pick, x):
    size = x.shape[-1]
    return pick(
        (
            kerasdl.Affine(),
            layers.Rescaling(0.25, -1.0),
            layers.Normalization(mean=[1.0] * size, variance=[4.0] * size),
        )
    )


def _bent(pick, x):
    """A bend at zero, and a map on either side."""
    bend = pick((layers.ReLU(), layers.LeakyReLU(0.3), layers.PReLU(), layers.ReLU(max_value=2)))
    norm = layers.BatchNormalization(center=pick((False, True)))
    return bend(norm(x)) if pick((False, True)) else norm(bend(x))


def _weighted(pick, x):
    """A normalization with weights of its own; of one number it would leave rounding alone."""
    x = layers.Dense(max(2, x.shape[-1]))(x)
    if pick.convertible or pick((False, True)):
        norm = layers.LayerNormalization(scale=pick((False, True)), center=pick((False, True)))
    else:
        norm = layers.GroupNormalization(groups=x.shape[-1])
    return layers.BatchNormalization()(norm(x))


def _sequence(pick, x):
    """Layers for sequences; a convolution in groups on anything else."""
    rank, size = len(x.shape), x.shape[-1]
    if rank == 3:
        cell = pick((layers.LSTM, layers.GRU, layers.SimpleRNN))
        options = {"reset_after": pick((False, True))} if cell is layers.GRU else {}
        layer = cell(3, return_sequences=True, use_bias=pick((False, True)), **options)
        attention = layers.MultiHeadAttention(2, 2, use_bias=pick((False, True)))
        y = layers.BatchNormalization()(x)
        kind = pick(("one way", "both ways", "attention", "einsum", "distributed"))
        if kind == "attention":
            return attention(y, x) if pick((False, True)) else attention(x, y)
        if kind == "both ways":
            return layers.Bidirectional(layer)(y)
        if kind == "einsum":
            axes = pick(("d", "bd", None))
            return layers.EinsumDense("abc,cd->abd", (x.shape[1], 3), bias_axes=axes)(y)
        if kind == "distributed":
            return layers.TimeDistributed(layers.Dense(3))(y)
        return layer(y)
    if rank > 3 and not pick.convertible and size % 2 == 0:
        conv = getattr(layers, f"Conv{rank - 2}D")
        return conv(4, 1, groups=2)(layers.BatchNormalization()(x))
    return _linear(pick, x)


def _called_twice(pick, x):
    """A layer and a map that are both called twice, in either order; or only one of them is."""
    shared, norm = _linear(pick, x, shape_kept=True), layers.BatchNormalization()
    other = norm if pick((True, True, False)) else layers.BatchNormalization()
    ends = layers.Activation("tanh")(x), layers.Activation("sigmoid")(x)
    if pick((False, True)):
        return layers.Subtract()([shared(norm(ends[0])), shared(other(ends[1]))])
    bends = layers.Activation("tanh"), layers.Activation("sigmoid")
    return layers.Subtract()([bends[0](norm(shared(ends[0]))), bends[1](other(shared(ends[1])))])


def _forked(pick, x):
    """A map that is read twice."""
    y = _batch_normalization(pick, x)(layers.Activation("tanh")(x))
    first = _linear(pick, y, shape_kept=True)(y)
    second = y if pick((False, True)) else layers.Activation("relu")(y)
    return layers.Add()([first, second])


def _linear(pick, x, shape_kept=False):
    rank, bias = len(x.shape), pick((False, True))
    name = pick(NAMES[rank])
    activation = pick(("linear", "linear", "linear", *ACTIVATIONS))
    units = x.shape[-1] if shape_kept else pick((x.shape[1], 1, 3, 4))
    if name == "Dense":
        return layers.Dense(units, activation=activation, use_bias=bias)
    kernel = pick((1, 2, 3))
    fits = min(x.shape[1:-1]) >= kernel
    padding = "same" if shape_kept or not fits else pick(("same", "valid"))
    # tf2onnx has no form of a transposed convolution whose strides exceed its kernel.
    strides = 1 if shape_kept or kernel == 1 else pick((1, 1, 2))
    options = {"strides": strides, "padding": padding, "use_bias": bias, "activation": activation}
    if name.startswith("Depthwise"):
        multiplier = 1 if shape_kept else pick((1, 2))
        return getattr(layers, name)(kernel, depth_multiplier=multiplier, **options)
    if name.startswith("Separable"):
        options["depth_multiplier"] = pick((1, 2))
    return getattr(layers, name)(units, kernel, **options)


def _batch_normalization(pick, x):
    axis = pick((-1, -1, -1, -1, 1))
    return layers.BatchNormalization(
        axis=axis,
        center=pick((False, True)),
        scale=pick((False, True)),
        epsilon=pick((1e-3, 1e-5)),
    )


def _activation(pick, x):
    return layers.Activation(pick(ACTIVATIONS))


def _dropout(pick, x):
    return pick((layers.Dropout, layers.GaussianNoise, layers.GaussianDropout))(0.5)


LAYERS = {
    "residual": _residual,
    "window": _window,
    "rearranged": _rearranged,
    "joined": _joined,
    "scaled": _scaled,
    "bent": _bent,
    "weighted": _weighted,
    "sequence": _sequence,
    "called_twice": _called_twice,
    "forked": _forked,
    "linear": _linear,
    "batch_normalization": _batch_normalization,
    "activation": _activation,
    "dropout": _dropout,
}


def randomize(model, seed):
    """Random weights: γ of both signs, variances from zero to large, means off zero."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        for variable in layer.weights:
            if "float" not in variable.dtype or variable.path in _inner_paths(layer):
                continue
            variable.assign(_draw(rng, variable))


def _inner_paths(layer):
    return {v.path for inner in layer._flatten_layers(include_self=False) for v in inner.weights}


def _draw(rng, variable):
    shape = variable.shape
    if variable.name == "moving_variance":
        return rng.choice([0.0, 0.01, 1.0, 4.0], shape) * rng.uniform(0.5, 1.5, shape)
    if variable.name == "gamma":
        return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.2, 1.5, shape)
    if variable.name in {"bias", "beta", "moving_mean"}:
        return rng.normal(size=shape)
    fan = np.prod(shape[:-1]) if len(shape) > 1 else 1
    return rng.normal(size=shape) / np.sqrt(fan)
