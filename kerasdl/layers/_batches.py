"""One way to read data in batches, whatever holds it."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from kerasdl._checks import require


def batches(x: Any, batch_size: int, argument: str = "x") -> Iterator[Any]:
    """Yield the inputs of each batch.

    1. An array, or a list, tuple or dict of arrays: so many rows at a time.
    2. A `PyDataset` or any other iterable of batches: as they come; of a tuple (inputs,
       labels, ...) the inputs.

    Args:
        x: The data.
        batch_size: Rows per batch in case 1.
        argument: What the user calls the data, for the errors.

    Raises:
        ValueError: The arrays differ in length, or `x` is neither case.

    Example:

    >>> import numpy as np
    >>> [len(batch) for batch in batches(np.zeros((5, 2)), 2)]
    [2, 2, 1]

    References:
        N3 (mini-batches).
    """
    leaves = keras.tree.flatten(x)
    if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
        yield from _slices(x, leaves, batch_size, argument)
        return
    if isinstance(x, keras.utils.PyDataset):
        x = map(x.__getitem__, range(len(x)))
    require(
        isinstance(x, Iterable) and not isinstance(x, (list, tuple, dict, str)),
        argument,
        x,
        "arrays or an iterable of batches",
        "Pass NumPy arrays, a dataset or a generator.",
    )
    for batch in x:
        yield batch[0] if isinstance(batch, tuple) else batch


def _slices(x: Any, leaves: list[Any], batch_size: int, argument: str) -> Iterator[Any]:
    lengths = {int(leaf.shape[0]) for leaf in leaves}
    require(
        len(lengths) == 1,
        argument,
        [tuple(leaf.shape) for leaf in leaves],
        "arrays with the same number of samples",
        "Pass one array per input; pass `iter(batches)` for a list of batches.",
    )
    for start in range(0, lengths.pop(), batch_size):
        stop = start + batch_size
        yield keras.tree.map_structure(lambda array, a=start, b=stop: array[a:b], x)
