"""Layers whose weights are computed from data once, before training."""

import abc
import warnings
from typing import Any

import keras
import numpy as np

from kerasdl._checks import require
from kerasdl.clipping._tensors import maths_dtype
from kerasdl.layers._batches import batches
from kerasdl.layers._moments import Array, Moments

# Elements of an array that are widened to float64 at a time.
ELEMENTS = 2**20


class Adaptable(keras.layers.Layer, abc.ABC):
    """A fixed map of the last axis, whose weights `adapt` computes.

    The weights are not trained. They are kept in float32 or wider, the map is computed there,
    and only its result has the layer's compute dtype.

    Attributes:
        diagonal: Whether the map needs variances only, no covariances.
    """

    diagonal = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.supports_masking = True
        self._adapted = False

    @abc.abstractmethod
    def _build_map(self, features: int) -> None:
        """Create the weights of the map."""

    @abc.abstractmethod
    def _assign_map(self, moments: Moments) -> None:
        """Compute the weights of the map."""

    @abc.abstractmethod
    def _map(self, x: Any) -> Any:
        """Return the map of `x`, which has the dtype of the weights."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for the features on the last axis."""
        features = input_shape[-1] if len(input_shape) > 1 else None
        require(
            features is not None,
            "input_shape",
            tuple(input_shape),
            "(samples, ..., features) with a known number of features",
            "Give the last axis a size in `keras.Input`.",
        )
        assert features is not None
        self.count = self._add_fixed("count", ())
        self._build_map(features)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: features})

    def _add_fixed(self, name: str, shape: tuple[int, ...], initializer: str = "zeros") -> Any:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer,
            dtype=maths_dtype(self.variable_dtype),
            trainable=False,
            autocast=False,
        )

    def adapt(self, data: Any) -> None:
        """Compute the weights from `data`, forgetting what earlier data gave.

        The data are read once, batch by batch, and their moments accumulated in float64: the
        result does not depend on how they are cut into batches. After an error the weights are
        the old ones.

        Args:
            data: Inputs of shape (samples, ..., features), all axes but the last counting
                samples. An array or tensor, or an iterable of batches (`tf.data.Dataset`,
                `PyDataset`, generator), where a tuple counts as (inputs, labels, ...). It must
                end: take a part of an endless one.

        Raises:
            ValueError: The data are empty, of another kind or shape, of changing shape, not
                finite, or too few.
        """
        moments: Moments | None = None
        rank: int | None = None
        for batch in batches(data, _rows_at_once(data), "data"):
            rows = self._rows(batch)
            rank = rank or np.ndim(batch)
            require(
                np.ndim(batch) == rank,
                "data",
                f"a batch of shape {tuple(np.shape(batch))}",
                f"batches with as many axes as the first one, {rank}",
                "Let only the sizes of the middle axes change.",
            )
            if moments is None:
                moments = Moments(rows.shape[1], self.diagonal)
            if len(rows):
                moments.add(rows)
        require(
            moments is not None and moments.count > 0,
            "data",
            _describe(data),
            "at least one sample",
            "Pass the training inputs.",
        )
        assert moments is not None
        self._assign_map(moments)
        self.count.assign(moments.count)
        self._adapted = True

    def _rows(self, batch: Any) -> Array:
        """Return a batch as a float64 matrix; build the layer on the first one."""
        if not hasattr(batch, "shape"):
            batch = np.asarray(batch)
        shape = tuple(batch.shape)
        require(
            len(shape) >= 2 and shape[-1] is not None and shape[-1] > 0,
            "data",
            f"a batch of shape {shape}",
            "batches of shape (samples, ..., features)",
            "Give single features an axis of their own, and batch a dataset.",
        )
        if not self.built:
            self.build((None,) * (len(shape) - 1) + shape[-1:])
        features = self.input_spec.axes[-1]
        require(
            shape[-1] == features,
            "data",
            f"a batch of shape {shape}",
            f"batches with {features} features on the last axis",
            f"The layer `{self.name}` was built for them.",
        )
        values = np.asarray(keras.ops.convert_to_numpy(batch))
        numeric = values.dtype.kind in "biuf" or "float" in values.dtype.name
        rows = values.astype("float64").reshape(-1, features) if numeric else np.empty((0, 0))
        require(
            numeric and bool(np.isfinite(rows).all()),
            "data",
            "NaN or infinity" if numeric else f"dtype {values.dtype}",
            "finite numbers",
            "Remove or fill the missing values first.",
        )
        return rows

    def call(self, inputs: Any) -> Any:
        """Return the map of `inputs`."""
        x = keras.ops.cast(inputs, maths_dtype(self.variable_dtype))
        return keras.ops.cast(self._map(self._checked(x)), self.compute_dtype)

    def _checked(self, x: Any) -> Any:
        """Refuse `x` before `adapt`; where only the compiled step can know, let it be NaN then."""
        if self._adapted:
            return x
        # `set_weights` is not announced to a layer, so the count itself is asked.
        count = _value_outside_the_graph(self.count)
        if count is None:
            return keras.ops.where(self.count > 0, x, float("nan"))
        self._adapted = count > 0
        if not self._adapted:
            raise RuntimeError(
                f"The layer `{self.name}` has seen no data. Call its `adapt(data)` on the "
                "training inputs first, or load weights that were adapted."
            )
        return x

    def load_own_variables(self, store: Any) -> None:
        """Restore the weights. Called by Keras."""
        super().load_own_variables(store)
        self._adapted = (_value_outside_the_graph(self.count) or 0) > 0

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Return the input shape."""
        return input_shape

    def _say_constant(self, moments: Moments, consequence: str) -> None:
        constant = np.flatnonzero(moments.constant()).tolist()
        if constant:
            warnings.warn(
                f"`{self.name}`: the features {constant} are constant in the data; {consequence}.",
                stacklevel=3,
            )


def _value_outside_the_graph(variable: Any) -> float | None:
    """Return what `variable` holds, also while it is traced; None if it cannot be known."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.init_scope():
            return float(variable.numpy())
    if keras.backend.backend() == "jax":
        import jax

        # `value` is what is traced; this is empty while Keras runs a compiled training step.
        held = variable._value
        return None if held is None or isinstance(held, jax.core.Tracer) else float(held)
    return float(keras.ops.convert_to_numpy(variable))


def _rows_at_once(data: Any) -> int:
    shape = getattr(data, "shape", ())
    return max(1, ELEMENTS // max(1, int(np.prod(shape[1:])))) if len(shape) else 1


def _describe(data: Any) -> Any:
    return f"an array of shape {tuple(data.shape)}" if hasattr(data, "shape") else data
