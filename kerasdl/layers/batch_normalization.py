"""Batch normalization whose test-time statistics can be those of the population.

Two nouns carry the file. The *batch moments* μ_B and σ²_B come from one mini-batch and
normalize it during training. The *statistics* are what takes their place at test time:
Keras' moving averages of the moments, or unbiased estimates for the population the batches
are drawn from.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import keras

from kerasdl._checks import require
from kerasdl.clipping._tensors import maths_dtype

Observer = Callable[[Any, Any, Any], None]

# From 16 samples to 8, 4 and 2, ResNet-50 loses 1, 4 and 11 points on ImageNet (Wu & He 2018).
FEWEST_SAMPLES = 8


class BatchNormalization(keras.layers.BatchNormalization):
    """Normalize every channel by its mini-batch, and by stored statistics at test time.

        μ_B = (1/m) Σ x        σ²_B = (1/m) Σ (x − μ_B)²
        x̂ = (x − μ_B) / √(σ²_B + ε)        y = γ x̂ + β

    m is the number of values per channel in the mini-batch: batch size × positions, without
    the masked ones. While training, with d = `momentum`,

        E ← d·E + (1 − d)·μ_B

        1. statistics="moving" (N1, Keras):      V ← d·V + (1 − d)·σ²_B
        2. statistics="population" (N2):         V ← d·V + (1 − d)·m/(m−1)·σ²_B

    and at test time y = γ (x − E)/√(V + ε) + β. Case 1 is Keras' layer, unchanged. Its V is
    too small by the factor (m − 1)/m: 3 % with m = 32, 50 % with m = 2. Case 2 removes that
    bias, and `estimate_population_statistics` then replaces E and V by N2's means over many
    mini-batches at the final weights, without any memory of earlier ones.

    σ²_B of a small mini-batch is too noisy to divide by: with fewer than 8 samples the layer
    warns while training (Wu & He 2018 measured what that costs); 16 or more are better. With
    short trainings lower `momentum` to 0.9, or use case 2 and estimate.

    One value has no variance: with m = 1 every output is β, whatever the input. That is an
    error with case 2, and a warning with case 1, which is Keras' own.

    Both are said where the size of the mini-batch is known to Python: on JAX and PyTorch, in
    eager mode, and on TensorFlow while the training step is traced, which `fit` does with the
    first mini-batch. There a smaller one later on (the last of an epoch, say) goes unnoticed,
    and one with m = 1 keeps the factor 1 in case 2: it adds its σ²_B = 0 just as Keras does.

    Args:
        axis: The channel axis. Default −1.
        momentum: d in [0, 1]. Typical values are 0.9 to 0.999. Default 0.99.
        epsilon: ε, in the square of the input's unit. Default 1e-3.
        statistics: `"moving"` or `"population"`. Default `"moving"`.
        **kwargs: Everything else that `keras.layers.BatchNormalization` accepts (`center`,
            `scale`, the initializers, regularizers and constraints, `synchronized`, ...).

    Raises:
        ValueError: `statistics` is none of the two, or `renorm=True` comes with
            `"population"`, or (in training, `"population"`) m is statically 1.

    Example:

    >>> layer = BatchNormalization(momentum=0.0, statistics="population")
    >>> y = layer(keras.ops.reshape(keras.ops.arange(8.0), (8, 1)), training=True)
    >>> layer.moving_mean.numpy().tolist(), layer.moving_variance.numpy().tolist()
    ([3.5], [6.0])

    References:
        N1 (batch normalization at test time), N2 (inference using batch norm), N0, N4;
        Ioffe & Szegedy, "Batch Normalization", 2015, algorithms 1 and 2; Wu & He, "Group
        Normalization", 2018 (small mini-batches).
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        statistics: str = "moving",
        **kwargs: Any,
    ) -> None:
        require(
            statistics in ("moving", "population"),
            "statistics",
            statistics,
            "'moving' or 'population'",
            "Pass 'population' for unbiased estimates.",
        )
        super().__init__(axis=axis, momentum=momentum, epsilon=epsilon, **kwargs)
        require(
            statistics == "moving" or not self.renorm,
            "renorm",
            self.renorm,
            "False with statistics='population'",
            "Drop `renorm`, or pass statistics='moving'.",
        )
        self.statistics = statistics
        self._observer: Observer | None = None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize `inputs`; in training also move the statistics towards this batch."""
        if self._observer is not None and self.trainable:
            return self._normalize_and_report(inputs, mask, self._observer)
        if training and self.trainable:
            self._say_small(inputs)
        if self.statistics == "moving" or not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        count = self._count(inputs, mask)
        kept = self.momentum * keras.ops.convert_to_tensor(self.moving_variance)
        outputs = super().call(inputs, training=training, mask=mask)
        self._unbias(kept, count)
        return outputs

    def _unbias(self, kept: Any, count: Any) -> None:
        """Multiply what this step added to V by m/(m − 1).

        Keras has left V' = dV + (1 − d)σ²_B, of which `kept` = dV is known. Since
        m/(m − 1) = 1 + 1/(m − 1), what is missing is (V' − dV)/(m − 1).
        """
        biased = keras.ops.convert_to_tensor(self.moving_variance)
        count = keras.ops.cast(count, maths_dtype(biased.dtype))
        share = keras.ops.where(count > 1, 1 / keras.ops.maximum(count - 1, 1), 0)
        added = keras.ops.cast(biased - kept, share.dtype)
        self.moving_variance.assign(keras.ops.cast(biased, share.dtype) + added * share)

    def _say_small(self, inputs: Any) -> None:
        """Warn of mini-batches that are known to be too small, unless an error follows."""
        sizes = list(inputs.shape)
        del sizes[self.axis]
        if None in sizes or isinstance(inputs, keras.KerasTensor):
            return
        replicas = _all_replicas(1) if self.synchronized else 1
        one_value = math.prod(sizes) * replicas == 1
        if one_value and self.statistics == "moving":
            warnings.warn(
                f"`{self.name}` trains on a mini-batch with one value per channel, which has no "
                "variance: its output does not depend on the input. Use larger batches.",
                stacklevel=3,
            )
        elif not one_value and sizes[0] * replicas < FEWEST_SAMPLES:
            warnings.warn(
                f"`{self.name}` trains on a mini-batch of {sizes[0] * replicas} samples, whose "
                f"statistics are noisy. Use {FEWEST_SAMPLES} or more, better 32, or another "
                "normalization.",
                stacklevel=3,
            )

    def _count(self, inputs: Any, mask: Any) -> Any:
        """Return m, over all replicas if their moments are synchronized."""
        count = _values_per_channel(inputs, mask, self.axis)
        count = _all_replicas(count) if self.synchronized else count
        require(
            not (isinstance(count, int) and count == 1),
            "inputs",
            tuple(inputs.shape),
            "a batch with 2 or more values per channel while training with statistics='population'",
            "Use larger batches, or statistics='moving'.",
        )
        return count

    def _normalize_and_report(self, inputs: Any, mask: Any, observer: Observer) -> Any:
        x = keras.ops.cast(inputs, maths_dtype(self.compute_dtype))
        mean, variance = _moments(x, mask, self.axis)
        observer(mean, variance, _values_per_channel(inputs, mask, self.axis))
        outputs = keras.ops.batch_normalization(
            x,
            mean,
            variance,
            axis=self.axis,
            offset=keras.ops.cast(self.beta, x.dtype) if self.center else None,
            scale=keras.ops.cast(self.gamma, x.dtype) if self.scale else None,
            epsilon=self.epsilon,
        )
        return keras.ops.cast(outputs, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "statistics": self.statistics}


def _values_per_channel(inputs: Any, mask: Any, axis: int) -> Any:
    """Return m as an int where the shape is static, as a scalar tensor elsewhere."""
    if mask is not None:
        keep = keras.ops.cast(mask, "bool")
        keep = keras.ops.broadcast_to(keep, keras.ops.shape(inputs)[:-1])
        return keras.ops.sum(keras.ops.cast(keep, "int32"))
    sizes = list(keras.ops.shape(inputs))
    del sizes[axis]
    return math.prod(sizes)


def _moments(x: Any, mask: Any, axis: int) -> tuple[Any, Any]:
    """Return μ_B and σ²_B over all axes but `axis`, without the masked positions."""
    axes = [i for i in range(len(x.shape)) if i != axis % len(x.shape)]
    if mask is None:
        return keras.ops.moments(x, axes=axes)
    keep = keras.ops.expand_dims(keras.ops.cast(mask, "bool"), -1)
    keep = keras.ops.broadcast_to(keep, keras.ops.shape(x))
    count = keras.ops.sum(keras.ops.cast(keep, x.dtype), axis=axes)
    mean = keras.ops.sum(keras.ops.where(keep, x, 0), axis=axes) / count
    deviation = keras.ops.where(keep, x - mean, 0)
    return mean, keras.ops.sum(keras.ops.square(deviation), axis=axes) / count


def _all_replicas(count: Any) -> Any:
    """Return `count` times the replicas that share their moments; each has an equal part.

    Keras synchronizes moments on TensorFlow only, which is loaded by then. A second reduction
    over the replicas could overtake that of the moments, and so is avoided.
    """
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return count if context is None else count * context.num_replicas_in_sync
