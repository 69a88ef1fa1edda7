"""A gradient that is zero but for some rows, as TensorFlow hands it over for embeddings."""

from collections.abc import Callable
from typing import Any

import keras


class Rows:
    """Some rows of a gradient, each once; all others are zero.

    The number of rows is fixed when a step is traced, so where the batch repeats a row there
    are rows left over: these have zero values and the index of the first row.

    Attributes:
        values: Sums of the rows, shape (n, ...), zero for what is left over.
        indices: Which rows of the variable, shape (n,).
        used: Whether a row is none that is left over, shape (n,), booleans.
        size: Number of elements of the whole variable.
    """

    def __init__(self, values: Any, indices: Any, used: Any, size: int) -> None:
        self.values = values
        self.indices = indices
        self.used = used
        self.size = size

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    def map(self, function: Callable[[Any], Any]) -> "Rows":
        """The rows with `function` of their values."""
        return Rows(function(self.values), self.indices, self.used, self.size)

    def where_used(self, values: Any, otherwise: Any) -> Any:
        """`values`, shape (n, ...), and `otherwise` for the rows that are left over."""
        import tensorflow as tf

        used = tf.reshape(self.used, [-1] + [1] * (len(values.shape) - 1))
        return tf.where(used, values, otherwise)


def is_sparse(gradient: Any) -> bool:
    """Whether the gradient is a `tf.IndexedSlices`."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(gradient, tf.IndexedSlices)


def distinct_rows(slices: Any, size: int) -> Rows:
    """`Rows` of a `tf.IndexedSlices`, rows with the same index summed.

    Args:
        slices: The sparse gradient, n rows.
        size: Number of elements of the whole variable.

    Returns:
        n rows. Works with a fixed n, so in XLA too.
    """
    import tensorflow as tf

    indices = tf.convert_to_tensor(slices.indices)
    n = tf.shape(indices)[0]
    order = tf.argsort(indices, stable=True)
    sorted_indices = tf.gather(indices, order)
    starts = tf.concat([tf.ones_like(order[:1]), _changes(sorted_indices)], 0)
    number = tf.cumsum(starts) - 1
    values = tf.math.unsorted_segment_sum(tf.gather(slices.values, order), number, n)
    rows = tf.math.unsorted_segment_max(sorted_indices, number, n)
    used = tf.range(n) < tf.reduce_sum(starts)
    rows = tf.where(used, rows, tf.broadcast_to(rows[:1], tf.shape(rows)))
    return Rows(values, rows, used, size)


def _changes(indices: Any) -> Any:
    """1 where an index differs from the one before, from the second on."""
    import tensorflow as tf

    return tf.cast(tf.not_equal(indices[1:], indices[:-1]), tf.int32)


def values_of(gradient: Any) -> Any:
    """The values of `Rows`; any other gradient itself."""
    return gradient.values if isinstance(gradient, Rows) else gradient


def mapped(gradient: Any, function: Callable[[Any], Any]) -> Any:
    """`function` of a tensor, or of the values of `Rows`."""
    return gradient.map(function) if isinstance(gradient, Rows) else function(gradient)
