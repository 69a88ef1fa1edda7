"""Training data whose order depends on nothing but a seed and the position.

`fit` shuffles arrays by random generators that cannot be read or set. Here the order of a pass
through the data is the permutation drawn from (seed, number of the pass).
"""

import math
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from kerasdl._checks import is_integer, require


class Batches(keras.utils.PyDataset):
    """The batches of every epoch, by number: batch i of epoch e is step e·n + i of them all.

    Args:
        steps: Number n of batches per epoch; None for one pass.
        in_a_pass: Number of batches that there are; None if endless.
        shuffled: Number of things to shuffle in every pass; None to leave the order alone.
        **workers: See `keras.utils.PyDataset`.
    """

    def __init__(
        self, steps: int | None, in_a_pass: int | None, shuffled: int | None, **workers: Any
    ) -> None:
        super().__init__(**workers)
        steps = in_a_pass if steps is None else steps
        require(
            steps is not None and is_integer(steps) and steps > 0,
            "steps_per_epoch",
            steps,
            "a positive integer, or None for one pass through data that is not endless",
            "Pass the number of batches per epoch.",
        )
        assert steps
        self._steps = steps
        self._in_a_pass = in_a_pass
        self._shuffled = shuffled
        self._orders: dict[int, Any] = {}
        self.seed = 0
        self.epoch = 0
        self._first = 0
        self._instead: Any = None

    @property
    def num_batches(self) -> int:
        return self._steps

    @property
    def for_fit(self) -> dict[str, Any]:
        return {"x": self}

    def sample(self) -> Any:
        return self[0]

    def batches(self, number: int) -> Any:
        """Something to index for the first batches."""
        return self

    def set_position(self, saved: dict[str, Any]) -> None:
        """Nothing to do: the number of the epoch says it all."""

    def position(self) -> dict[str, Any]:
        return {}

    needs_iterator = False

    def attach(self, iterator: Any) -> None:
        """Nothing to do, likewise."""

    def skip(self, iterator: Any, steps: int) -> None:
        """Take batches that are not looked at, where Keras has not taken them itself."""
        if hasattr(iterator, "__next__"):
            for _ in range(steps):
                next(iterator, None)

    def start(self, epoch: int, first: int = 0) -> None:
        """Go to an epoch, of which the batches before `first` will not be looked at."""
        self.epoch = epoch
        self._first = min(first, self.num_batches - 1)
        self._instead = None

    def __getitem__(self, index: int) -> Any:
        if index >= self._first:
            return self._batch_at(index)
        if self._instead is None:
            self._instead = self._batch_at(self._first)
        return self._instead

    def _batch_at(self, index: int) -> Any:
        step = self.epoch * self.num_batches + index
        number, place = divmod(step, self._in_a_pass) if self._in_a_pass else (0, step)
        return self.batch(place, self._order(number))

    def _order(self, number: int) -> Any:
        """Order of a pass; the last two stay, since one epoch can have the end of a pass."""
        if self._shuffled is None:
            return None
        if number not in self._orders:
            kept = {n: order for n, order in self._orders.items() if n == number - 1}
            rng = np.random.default_rng([self.seed, number])
            self._orders = {**kept, number: rng.permutation(self._shuffled)}
        return self._orders[number]

    def batch(self, place: int, order: Any) -> Any:
        """The batch at a place of a pass with this order."""
        raise NotImplementedError


class ArrayBatches(Batches):
    """Batches of arrays."""

    def __init__(
        self, arrays: Any, batch_size: int | None, steps: int | None, shuffle: bool
    ) -> None:
        arrays = tree.map_structure(lambda x: None if x is None else _as_array(x), arrays)
        leaves = [leaf for leaf in tree.flatten(arrays) if leaf is not None]
        sizes = sorted({len(leaf) for leaf in leaves})
        require(
            len(sizes) == 1 and sizes[0] > 0,
            "x, y, sample_weight",
            [leaf.shape for leaf in leaves],
            "arrays with the same number of samples, at least one",
            "Pass one array per input and output.",
        )
        require(
            batch_size is None or (is_integer(batch_size) and batch_size > 0),
            "batch_size",
            batch_size,
            "a positive integer",
            "Typical values are 32 to 512.",
        )
        (size,) = sizes
        self.batch_size = batch_size or 32
        super().__init__(steps, math.ceil(size / self.batch_size), size if shuffle else None)
        self.arrays = arrays
        self.shapes = [[leaf.dtype.name, *leaf.shape] for leaf in leaves]

    def batch(self, place: int, order: Any) -> Any:
        rows: Any = slice(place * self.batch_size, (place + 1) * self.batch_size)
        rows = rows if order is None else order[rows]
        return tree.map_structure(lambda x: None if x is None else x[rows], self.arrays)

    def description(self) -> dict[str, Any]:
        return {"kind": "arrays", "shapes": self.shapes, "batch_size": self.batch_size}


class ReorderedBatches(Batches):
    """Batches of a `PyDataset`."""

    def __init__(self, dataset: keras.utils.PyDataset, steps: int | None, shuffle: bool) -> None:
        size = dataset.num_batches
        require(size != 0, "x", size, "a PyDataset with batches", "This one has none.")
        super().__init__(
            steps,
            size,
            size if shuffle else None,
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset

    def batch(self, place: int, order: Any) -> Any:
        return self.dataset[place if order is None else int(order[place])]

    def pass_epochs(self, number: int) -> None:
        """Have the dataset do what it does between epochs, for those that are done."""
        for _ in range(number):
            self.dataset.on_epoch_begin()
            self.dataset.on_epoch_end()

    def on_epoch_begin(self) -> None:
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.dataset.on_epoch_end()

    def description(self) -> dict[str, Any]:
        return {"kind": "PyDataset", "batches": self.dataset.num_batches}


class Pipeline:
    """A `tf.data.Dataset` whose one iterator serves all epochs, and is saved.

    Args:
        dataset: The dataset.
        steps: Number of batches per epoch; None for those of one pass.
    """

    def __init__(self, dataset: Any, steps: int | None) -> None:
        size = int(dataset.cardinality())
        require(
            steps is None or (is_integer(steps) and steps > 0),
            "steps_per_epoch",
            steps,
            "a positive integer or None",
            "Pass the number of batches per epoch.",
        )
        require(
            steps is not None or size >= 0,
            "steps_per_epoch",
            steps,
            "given for a dataset whose number of batches is not known or not finite",
            "Pass the number of batches per epoch.",
        )
        self.num_batches = steps or size
        self.dataset = dataset
        self.seed = 0
        self._iterator: Any = None
        self._saved: dict[str, Any] | None = None

    @property
    def for_fit(self) -> dict[str, Any]:
        require(
            keras.backend.backend() == "tensorflow",
            "x",
            self.dataset,
            "arrays or a PyDataset unless Keras runs on TensorFlow",
            "Only there can an iterator of tf.data be saved.",
        )
        return {"x": self.dataset.repeat(), "steps_per_epoch": self.num_batches}

    def sample(self) -> Any:
        return self.batches(1)[0]

    def batches(self, number: int) -> list[Any]:
        """The first batches, in memory."""
        dataset = self.dataset.repeat().take(number)
        on_tensorflow = keras.backend.backend() == "tensorflow"
        found = [*(dataset if on_tensorflow else dataset.as_numpy_iterator())]
        require(bool(found), "x", self.dataset, "a dataset with batches", "This one has none.")
        return found

    def description(self) -> dict[str, Any]:
        return {"kind": "tf.data", "elements": str(self.dataset.element_spec)}

    def start(self, epoch: int, first: int = 0) -> None:
        """Nothing to do: the iterator knows where it is."""

    def set_position(self, saved: dict[str, Any]) -> None:
        """Have the iterator go on from where it was saved."""
        self._saved = saved

    def skip(self, iterator: Any, steps: int) -> None:
        """Nothing to do, likewise."""

    @property
    def needs_iterator(self) -> bool:
        """Whether `attach` is still to be called."""
        return self._iterator is None

    def attach(self, iterator: Any) -> None:
        """Learn which iterator `fit` uses, before its first batch is taken."""
        if self._iterator is not None:
            return
        import tensorflow as tf

        require(
            isinstance(iterator, tf.data.Iterator),
            "x",
            type(iterator).__name__,
            "arrays or a PyDataset under a distribution strategy",
            "The iterator of a distributed dataset cannot be saved.",
        )
        self._iterator = iterator
        if self._saved is not None:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in self._saved.items():
                    (Path(folder) / name).write_bytes(content.tobytes())
                tf.train.Checkpoint(iterator=iterator).read(str(Path(folder) / "iterator"))

    def position(self) -> dict[str, Any]:
        """State of the iterator, as the files that TensorFlow writes."""
        if self._iterator is None:
            return self._saved or {}
        import tensorflow as tf

        with tempfile.TemporaryDirectory() as folder:
            try:
                tf.train.Checkpoint(iterator=self._iterator).write(str(Path(folder) / "iterator"))
            except tf.errors.OpError as error:
                raise ValueError(
                    f"`x` must be a dataset whose iterator TensorFlow can save. Received: "
                    f"{self.dataset}: {error.message} Leave out generators, Python functions "
                    f"and unseeded random ones, or pass arrays or a PyDataset."
                ) from error
            return {
                path.name: np.frombuffer(path.read_bytes(), "uint8")
                for path in Path(folder).iterdir()
            }


def resumable_data(
    x: Any, y: Any, weight: Any, *, batch_size: int | None, steps: int | None, shuffle: bool
) -> ArrayBatches | ReorderedBatches | Pipeline:
    """The data of `fit` in a form that can be gone on with in the middle.

    Raises:
        ValueError: There is none, or an argument does not belong to this kind of data.
    """
    is_dataset = isinstance(x, keras.utils.PyDataset)
    if is_dataset or hasattr(x, "element_spec"):
        for name, value in (("y", y), ("sample_weight", weight), ("batch_size", batch_size)):
            require(
                value is None, name, value, "None with a dataset", "The dataset makes the batches."
            )
        return ReorderedBatches(x, steps, shuffle) if is_dataset else Pipeline(x, steps)
    leaves = tree.flatten((x, y, weight))
    require(
        x is not None and all(each is None or hasattr(each, "shape") for each in leaves),
        "x, y, sample_weight",
        [type(each).__name__ for each in leaves],
        "arrays, a tf.data.Dataset or a PyDataset",
        "A generator cannot be wound back; write a PyDataset instead.",
    )
    return ArrayBatches(
        keras.utils.pack_x_y_sample_weight(x, y, weight), batch_size, steps, shuffle
    )


def _as_array(value: Any) -> np.ndarray:
    """As Keras does: floats in `floatx`."""
    array = np.asarray(keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value)
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array
