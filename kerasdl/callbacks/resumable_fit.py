"""Training that goes on where it was stopped, to the bit."""

import os
import random
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops, tree

from kerasdl._checks import is_integer, is_real, require
from kerasdl.callbacks._checkpoint_file import CheckpointFolder
from kerasdl.callbacks._resumable_data import (
    ArrayBatches,
    Pipeline,
    ReorderedBatches,
    resumable_data,
)
from kerasdl.callbacks._training_state import (
    CallbackStates,
    assign,
    build,
    random_state,
    seeds_of,
    set_random_state,
    set_seeds,
    values_of,
    variables_of,
)


def resumable_fit(
    model: keras.Model,
    directory: str | os.PathLike[str],
    x: Any,
    y: Any = None,
    *,
    save_freq: Literal["epoch"] | int = "epoch",
    keep: int = 2,
    batch_size: int | None = None,
    epochs: int = 1,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    sample_weight: Any = None,
    steps_per_epoch: int | None = None,
    verbose: Any = "auto",
    **arguments: Any,
) -> keras.callbacks.History:
    """Call `model.fit`, and go on from the checkpoint in `directory` if there is one.

    A training that was stopped anywhere, inside an epoch too, and that is started again by the
    same program ends with the same weights and the same `History`, bit by bit, as if it had
    not been stopped. A checkpoint has the weights, the optimizer's state, the metrics, the
    random states (Python, NumPy, Keras and its layers), the state of every callback and the
    position in the data. It appears whole or not at all; a damaged one is left out with a
    warning, and the one before it is used.

    What makes it exact:

    1. The order of arrays, and of the batches of a `PyDataset`, is drawn anew in every pass from
       a seed that is saved. Batch i of a `PyDataset` must depend on i only; its
       `on_epoch_begin` and `on_epoch_end` are called again for the epochs that are done.
    2. The iterator of a `tf.data.Dataset` is saved by TensorFlow, shuffle buffers included
       (TensorFlow backend, no distribution strategy, no Python functions in the dataset). Give
       `shuffle` a seed: from it come the orders of the passes that have not begun.
    3. While a half-done epoch is gone through again, nothing is trained and no callback called.

    Pass new callbacks that are made as the first ones were. Of a callback the attributes that
    are numbers, texts, arrays, containers of these, and metrics are saved. Callbacks that write
    files have to append. Outside are: TensorFlow's own generator (`tf.random`), and steps of
    the hardware that do not repeat themselves, as on some GPUs.

    Args:
        model: A compiled model.
        directory: Folder of the checkpoints of this one training.
        x: Arrays (with `y` and `sample_weight`), a `tf.data.Dataset` or a `PyDataset`.
        y: Targets.
        save_freq: "epoch" to save at the end of every epoch; a number ≥ 1 to save after so many
            batches too.
        keep: Number ≥ 1 of checkpoints that stay. With 2 one may be damaged.
        batch_size: Samples per batch of arrays; None for 32.
        epochs: Number of epochs altogether, ≥ 0. It may be larger the next time.
        callbacks: Callbacks of Keras and of kerasdl.
        validation_split: Share in [0, 1) of the arrays, at their end, to validate on.
        validation_data: See `fit`.
        shuffle: Shuffle arrays, or the batches of a `PyDataset`, in every pass.
        sample_weight: Weights of the samples.
        steps_per_epoch: Batches per epoch; None for one pass through the data.
        verbose: See `fit`.
        **arguments: Further arguments of `fit`.

    Returns:
        The `History` of the whole training.

    Raises:
        ValueError: An argument is out of its set; the model, the data, the callbacks or
            `steps_per_execution` are not those of the checkpoint; all checkpoints are damaged;
            the data cannot be gone on with (a generator).

    Example:

    >>> import tempfile
    >>> x, y = np.ones((64, 2)), np.ones((64, 1))
    >>> def train(epochs):
    ...     keras.utils.set_random_seed(1)
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    ...     model.compile("adam", loss="mse")
    ...     return resumable_fit(model, folder, x, y, epochs=epochs, verbose=0).epoch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     train(2), train(3)
    ([0, 1], [0, 1, 2])

    References:
        N3 (saver and loader).
    """
    _require_arguments(model, save_freq, keep, epochs, shuffle, validation_split, arguments)
    other = [each for each in callbacks or () if isinstance(each, keras.callbacks.BackupAndRestore)]
    require(
        not other,
        "callbacks",
        [type(each).__name__ for each in other],
        "without BackupAndRestore",
        "The checkpoints are in its place.",
    )
    if validation_split and validation_data is None:
        (x, y, sample_weight), validation_data = _split((x, y, sample_weight), validation_split)
    data = resumable_data(
        x, y, sample_weight, batch_size=batch_size, steps=steps_per_epoch, shuffle=shuffle
    )
    folder = CheckpointFolder(directory, keep)
    described = {**data.description(), "shuffle": shuffle, "steps_per_epoch": data.num_batches}
    listed = _Callbacks(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=data.num_batches,
    )
    listed.begin(folder, save_freq, data, described)
    try:
        return model.fit(
            **data.for_fit,
            epochs=epochs,
            initial_epoch=listed.first_epoch(epochs),
            callbacks=listed,
            validation_data=validation_data,
            shuffle=False,
            verbose=verbose,
            **arguments,
        )
    finally:
        listed.end()


class _Callbacks(keras.callbacks.CallbackList):
    """The callbacks of `fit`: a checkpoint after them, and silence while batches are skipped."""

    def begin(
        self,
        folder: CheckpointFolder,
        save_freq: Literal["epoch"] | int,
        data: ArrayBatches | ReorderedBatches | Pipeline,
        described: dict[str, Any],
    ) -> None:
        """Before `fit`: read the checkpoint, and put in place what can be by now."""
        self._folder = folder
        self._save_freq = save_freq
        self._data = data
        self._states = CallbackStates(self.callbacks)
        self._same = {**described, "callbacks": self._states.names}
        self._same["optimizer"] = keras.saving.get_registered_name(type(self.model.optimizer))
        self._first_steps: _FirstSteps | None = None
        self._epoch = self._since = self._skipping = 0
        self._logs: Any = {}
        self._saved = folder.newest()
        if self._saved is None:
            data.seed = random.randrange(2**31)
            self._random_start = random_state()
        else:
            self._require_same(self._saved)
            data.seed = self._saved["seed"]
            data.start(self._saved["epoch"])
            data.set_position(self._saved["data"])
            set_seeds(self.model.optimizer, self._saved["optimizer_seeds"])
            self.model.train_function = None
            self._random_start = self._saved["random_start"]
            set_random_state(self._random_start)
        # In a new training too: what Keras does to the data depends on what is built.
        build(self.model, data.sample())

    def first_epoch(self, epochs: int) -> int:
        """The epoch to begin with; the last one's end if a callback had stopped the training."""
        if self._saved is None:
            return 0
        stopped = self._saved["stopped"] and not self._saved["batch"]
        return max(epochs, self._saved["epoch"]) if stopped else int(self._saved["epoch"])

    def end(self) -> None:
        """After `fit`, however it ended."""
        if self._first_steps is not None:
            self._first_steps.leave()

    # Called by `fit`

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if self._saved is None:
            return
        if isinstance(self._data, ReorderedBatches):
            self._data.pass_epochs(self._saved["epoch"])
        self._restore()
        if not self._saved["batch"]:
            set_random_state(self._saved["random"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._epoch, self._since = epoch, 0
        if self._saved is not None and epoch == self._saved["epoch"]:
            self._skipping = self._saved["batch"]
        self._data.start(epoch, self._skipping)
        if self._skipping:
            self._restore()
        if self._skipping or self._data.needs_iterator:
            logs = self._saved["logs"] if self._saved else {}
            self._first_steps = _FirstSteps(self.model, self._data, self._skipping, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self._skipping:
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = min(batch + 1, self._data.num_batches)
        if not self._skipping:
            super().on_train_batch_end(batch, logs)
            self._logs = logs
            if self._save_freq != "epoch" and done - self._since >= self._save_freq:
                self._since = done
                self._save(self._epoch, done)
        elif done >= self._skipping:
            self._skipping, self._since = 0, done
            self._logs = self._saved["logs"]
            set_random_state(self._saved["random"])
            self.model.stop_training = self._saved["stopped"]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._save(epoch + 1, 0)

    # Saving and loading

    def _save(self, epoch: int, batch: int) -> None:
        self._flush_futures()
        model = self.model
        state = {
            "epoch": epoch,
            "batch": batch,
            "stopped": bool(model.stop_training),
            "steps_per_execution": model.steps_per_execution,
            "same": self._same,
            "seed": self._data.seed,
            "optimizer_seeds": seeds_of(model.optimizer),
            "data": self._data.position(),
            "logs": tree.map_structure(ops.convert_to_numpy, dict(self._logs)),
            "variables": values_of(variables_of(model)),
            "callbacks": self._states.get(),
            "random": random_state(),
            "random_start": self._random_start,
        }
        self._folder.save(epoch, batch, state)

    def _restore(self) -> None:
        assign(variables_of(self.model), self._saved["variables"], "The model")
        self._states.set(self._saved["callbacks"])

    def _require_same(self, saved: Any) -> None:
        now, then = self._same, saved["same"]
        if saved["batch"]:
            now = {**now, "steps_per_execution": self.model.steps_per_execution}
            then = {**then, "steps_per_execution": saved["steps_per_execution"]}
        for name in {**then, **now}:
            require(
                now.get(name) == then.get(name),
                name,
                now.get(name),
                f"as in the checkpoint, {then.get(name)!r}",
                "Pass the same as before, or another directory for another training.",
            )


class _FirstSteps:
    """In place of the model's training function until a step is really to be made.

    Args:
        model: The model, whose `train_function` it replaces.
        data: The data, which may have to learn the iterator.
        skipping: Number of batches to skip.
        logs: What the last of the skipped steps returned.
    """

    def __init__(self, model: Any, data: Any, skipping: int, logs: Any) -> None:
        self.model = model
        self.data = data
        self.skipping = skipping
        self.logs = logs
        self.function = model.train_function
        model.train_function = self

    def __call__(self, *state_and_iterator: Any) -> Any:
        # JAX hands the state through.
        *state, iterator = state_and_iterator
        if self.skipping > 0:
            self.skipping -= self.model.steps_per_execution
            self.data.skip(iterator, self.model.steps_per_execution)
            return (self.logs, *state) if state else self.logs
        self.leave()
        self.data.attach(iterator)
        return self.function(*state_and_iterator)

    def leave(self) -> None:
        """Put the function back."""
        if self.model.train_function is self:
            self.model.train_function = self.function


def _split(arrays: Any, share: float) -> tuple[Any, Any]:
    """Training and validation arrays, as `fit` splits them."""
    leaves = [leaf for leaf in tree.flatten(arrays) if leaf is not None]
    require(
        all(hasattr(leaf, "shape") for leaf in leaves),
        "validation_split",
        share,
        "0 unless `x` and `y` are arrays",
        "Pass validation_data.",
    )
    at = int(len(leaves[0]) * (1.0 - share))
    require(
        0 < at < len(leaves[0]),
        "validation_split",
        share,
        "a share that leaves samples on both sides",
        "Pass validation_data.",
    )
    parts = [
        tree.map_structure(lambda x, r=rows: None if x is None else np.asarray(x)[r], arrays)
        for rows in (slice(None, at), slice(at, None))
    ]
    return parts[0], parts[1]


def _require_arguments(
    model: Any,
    save_freq: Any,
    keep: Any,
    epochs: Any,
    shuffle: Any,
    validation_split: Any,
    arguments: Any,
) -> None:
    require(
        getattr(model, "compiled", False) and model.optimizer is not None,
        "model",
        getattr(model, "name", model),
        "compiled with an optimizer",
        "Call `model.compile(optimizer, loss)` first.",
    )
    require(
        save_freq == "epoch" or (is_integer(save_freq) and save_freq >= 1),
        "save_freq",
        save_freq,
        '"epoch" or an integer ≥ 1',
        "Pass the number of batches from one checkpoint to the next.",
    )
    require(
        is_integer(keep) and keep >= 1,
        "keep",
        keep,
        "an integer ≥ 1",
        "With 2 one checkpoint may be damaged.",
    )
    require(
        is_integer(epochs) and epochs >= 0,
        "epochs",
        epochs,
        "an integer ≥ 0",
        "Pass the number of epochs altogether.",
    )
    require(
        isinstance(shuffle, bool),
        "shuffle",
        shuffle,
        "True or False",
        "Whole batches are shuffled by a PyDataset.",
    )
    require(
        is_real(validation_split) and 0 <= validation_split < 1,
        "validation_split",
        validation_split,
        "in [0, 1)",
        "Pass the share of the samples to validate on.",
    )
    require(
        "initial_epoch" not in arguments,
        "initial_epoch",
        arguments.get("initial_epoch"),
        "left out",
        "The checkpoint says where to begin.",
    )
