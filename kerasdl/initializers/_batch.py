"""The one batch that a data-dependent initialization looks at."""

from collections.abc import Iterable
from typing import Any

import keras

from kerasdl._checks import require


def one_batch(data: Any, batch_size: int) -> Any:
    """Return the inputs of one batch.

    1. Arrays, or a list, tuple or dict of them: `batch_size` rows at even distances, so that
       data sorted by class are seen from end to end.
    2. A dataset, or another iterable of batches: the first batch; a tuple counts as (inputs,
       labels, ...).

    Example:

    >>> import numpy as np
    >>> one_batch(np.arange(10), 3).tolist()
    [0, 3, 6]
    """
    leaves = keras.tree.flatten(data)
    if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
        lengths = {int(leaf.shape[0]) if len(leaf.shape) else 0 for leaf in leaves}
        require(
            len(lengths) == 1 and 0 not in lengths,
            "data",
            [tuple(leaf.shape) for leaf in leaves],
            "arrays with the same number of samples, one or more",
            "Pass one array per input, each with the samples on its first axis.",
        )
        step = max(1, lengths.pop() // batch_size)
        return keras.tree.map_structure(lambda array: array[::step][:batch_size], data)
    require(
        isinstance(data, (Iterable, keras.utils.PyDataset))
        and not isinstance(data, (list, tuple, dict, str)),
        "data",
        data,
        "arrays or an iterable of batches",
        "Pass NumPy arrays, a dataset or a generator.",
    )
    batch = data[0] if isinstance(data, keras.utils.PyDataset) else next(iter(data), None)
    require(batch is not None, "data", data, "at least one batch", "Pass training inputs.")
    return batch[0] if isinstance(batch, tuple) else batch
