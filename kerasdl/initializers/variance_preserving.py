"""The exact spread for any activation: its second moment under a normal, by quadrature."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kerasdl._checks import is_real, require
from kerasdl.clipping._tensors import maths_dtype
from kerasdl.initializers.scaling import Scaling

# φ² is integrated over [−16, 16]: the normal has less than 1e-56 of its mass outside.
_REACH = 16.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(15)
_MOST_PANELS = 100_000
_DEPTH = 45


class VariancePreserving(Scaling):
    """Weights that keep the size of the signal exactly, for any activation.

        W has mean 0 and variance (1 − dropout) / (fan_in · E[φ(z)²])    z ~ N(0, 1)

    φ is the activation *in front of* these weights, the one whose output they take. If the
    pre-activations of a layer have E[z²] = 1, so have those of the next one:
    E[z'²] = fan_in · Var(W) · E[φ(z)²], whatever the mean of φ. E[φ(z)²] is 1/2 for ReLU (so
    this is He's 2 / fan_in), 1/1.551 for ELU, 1/2.536 for tanh, 1 for SELU and linear. It is
    computed by adaptive quadrature, to 1e-6 or better, for functions with kinks and steps
    too.

    Use it for deep networks without batch normalization. The first layer takes data and not
    an activation: give it `VariancePreserving("linear")`. Three things to know:

        1. What is kept is the second moment. If φ has a mean (sigmoid: 0.5), the share
           E[φ]²/E[φ²] of the signal is the same for all samples (sigmoid: 85 %), and after
           some layers all of it. For such φ use batch normalization, or `initialize`.
        2. Finite width makes the size fluctuate. Tanh, ELU, SELU and the s-shaped functions
           pull it back to 1. ReLU and linear do not: over L layers of n units the logarithm
           of one network's second moment drifts by about √(5L/n) with ReLU. GELU, SiLU and
           Mish push it away, in either direction, by orders of magnitude over 50 layers.
        3. Inverted dropout at rate p between φ and these weights multiplies the second moment
           by 1/(1 − p) while training; `dropout=p` takes it out. At test time, without
           dropout, the signal is smaller by the same factor per layer.

    Args:
        activation: φ: name (`"elu"`), function of a tensor, activation layer or None for
            linear. It has to act on each element by itself. To save a function of your own,
            register it with `keras.saving.register_keras_serializable`.
        distribution: `"normal"` or `"uniform"`. Default `"normal"`.
        seed: Integer or `keras.random.SeedGenerator`. One object with an integer (or no)
            seed draws the same values at every call, so give each layer an initializer of
            its own. Default None, a seed drawn at random.
        dropout: Share of units that an (inverted) dropout layer between φ and the weights
            sets to zero, in [0, 1). Default 0.0.
        input_axes: Axes of the kernel that index inputs, where they are not the usual ones.
            Filled in by `EinsumDense`; `[0, 1]` for the kernel of a `DepthwiseConv2D`.
            Default None.
        output_axes: Axes of the kernel that index outputs; `[2, 3]` in the same place. Given
            together with `input_axes`. Default None.

    Raises:
        ValueError: `activation` is unknown, does not act element by element (softmax), or
            has a second moment that is zero or not finite; another argument is out of its
            set.

    Example:

    >>> round(VariancePreserving("relu").scale, 6), round(VariancePreserving("elu").scale, 3)
    (2.0, 1.551)
    >>> kernel = VariancePreserving("tanh", seed=1)((400, 300))
    >>> round(float(400 * keras.ops.var(kernel)), 1)
    2.5

    References:
        N0 (weight initialization; N0 lists Hendrycks & Gimpel), N1 (variance of the outputs
        equal to that of the inputs); He et al. 2015, eq. 10, for any φ; Hendrycks & Gimpel,
        "Adjusting for Dropout Variance in Batch Normalization and Weight Initialization",
        2017, its forward term; Poole et al., "Exponential Expressivity in Deep Neural
        Networks through Transient Chaos", 2016.
    """

    def __init__(
        self,
        activation: Any,
        distribution: str = "normal",
        seed: Any = None,
        dropout: float = 0.0,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        require(
            distribution in ("normal", "uniform"),
            "distribution",
            distribution,
            "'normal' or 'uniform'",
            "Both have the same standard deviation; 'normal' is the default.",
        )
        require(
            is_real(dropout) and 0 <= dropout < 1,
            "dropout",
            dropout,
            "in [0, 1)",
            "Pass the rate of the dropout layer in front of the weights.",
        )
        self.activation = _activation(activation)
        self.dropout = dropout
        super().__init__(
            scale=(1 - dropout) / second_moment(self.activation),
            mode="fan_in",
            distribution="untruncated_normal" if distribution == "normal" else "uniform",
            seed=seed,
            input_axes=input_axes,
            output_axes=output_axes,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "distribution": "uniform" if self.distribution == "uniform" else "normal",
            "dropout": self.dropout,
        }


def second_moment(activation: Callable[[Any], Any]) -> float:
    """E[φ(z)²] for z ~ N(0, 1).

    Panels of [−16, 16] are halved until the 15-point Gauss rule agrees with itself on both
    halves. Around a step that never happens, but there the panels shrink to nothing.

    Args:
        activation: φ, a function of a tensor or an activation layer, element by element.

    Returns:
        The moment, with a relative error below 1e-6.

    Raises:
        ValueError: φ does not act element by element, is not smooth almost everywhere, or
            its moment is zero or not finite.

    Example:

    >>> round(second_moment(keras.activations.relu), 9)
    0.5
    """
    _require_elementwise(activation)
    edges = np.linspace(-_REACH, _REACH, 65)
    left, right = edges[:-1], edges[1:]
    whole, total = _panels(activation, left, right), 0.0
    for _ in range(_DEPTH):
        _require_moment(activation, bool(np.isfinite(whole).all()) and whole.size <= _MOST_PANELS)
        middle = (left + right) / 2
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        halves = _panels(activation, left, right)
        first, second = np.split(halves, 2)
        rough = np.abs(first + second - whole) > 1e-9 * (total + halves.sum())
        total += float((first + second)[~rough].sum())
        both = np.concatenate([rough, rough])
        left, right, whole = left[both], right[both], halves[both]
        if not whole.size:
            break
    total += float(whole.sum())
    ends = np.abs(_integrand(activation, np.array([-_REACH, _REACH])))
    _require_moment(activation, 0 < total < np.inf and bool(ends.max() < 1e-9 * total))
    return total


def _panels(activation: Callable[[Any], Any], left: Any, right: Any) -> Any:
    """The Gauss rule's integral of φ(z)²·N(z) over each panel."""
    half = (right - left)[:, None] / 2
    z = (left + right)[:, None] / 2 + half * _NODES
    return (half * _WEIGHTS * _integrand(activation, z)).sum(axis=1)


def _integrand(activation: Callable[[Any], Any], z: Any) -> Any:
    return _values(activation, z) ** 2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def _values(activation: Callable[[Any], Any], z: Any) -> Any:
    """φ(z), computed in `floatx` or float32; of a layer, a new one does the work."""
    dtype = maths_dtype(keras.config.floatx())
    if isinstance(activation, keras.layers.Layer):
        config = activation.get_config() | {"dtype": dtype}
        activation = type(activation).from_config(config)
    outputs = activation(keras.ops.convert_to_tensor(z, dtype=dtype))
    return keras.ops.convert_to_numpy(outputs).astype("float64")


def _activation(identifier: Any) -> Any:
    try:
        found = keras.activations.get(identifier)
    except ValueError:
        found = None
    require(
        found is not None and not isinstance(found, type),
        "activation",
        identifier,
        "None, the name of a Keras activation, a function of a tensor or an activation layer",
        "Pass a name such as 'elu', or the function itself.",
    )
    return found


def _require_elementwise(activation: Callable[[Any], Any]) -> None:
    z = np.linspace(-2.0, 2.0, 24)
    values = [_values(activation, z.reshape(shape)) for shape in ((4, 6), (6, 4))]
    require(
        values[0].shape == (4, 6)
        and values[1].shape == (6, 4)
        and np.allclose(values[0].ravel(), values[1].ravel(), 1e-5, 1e-6, equal_nan=True),
        "activation",
        activation,
        "a function that acts on each element by itself",
        "Softmax and its relatives have no such gain; use `initializer_for`.",
    )


def _require_moment(activation: Callable[[Any], Any], condition: bool) -> None:
    require(
        condition,
        "activation",
        activation,
        "a function φ, smooth almost everywhere, with 0 < E[φ(z)²] < ∞ for z ~ N(0, 1)",
        "Look at its values between -16 and 16, or set the spread by hand.",
    )
