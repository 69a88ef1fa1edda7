"""What the Default Configuration accepts."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerasdl._checks import is_integer, is_real, require
from kerasdl.defaults import _parts
from kerasdl.defaults.tasks import TASKS, Task


def require_choices(fields: Any) -> None:
    """Check the fields of a configuration that are chosen from a list.

    Args:
        fields: A `DefaultConfiguration`.

    Raises:
        ValueError: A field is out of its set.
    """
    choices: dict[str, tuple[Any, ...]] = {
        "statistics": ("moving", "population"),
        "dropout_placement": ("after_last_batch_normalization", "every_block"),
        "normalization": (True, False),
        "normalization_placement": ("auto", "before", "after"),
    }
    for field, allowed in choices.items():
        value = getattr(fields, field)
        require(
            isinstance(value, type(allowed[0])) and value in allowed,
            field,
            value,
            f"one of {', '.join(repr(choice) for choice in allowed)}",
            f"The default is {allowed[0]!r}.",
        )


def require_parts(fields: Any) -> None:
    """Check the fields that are given as names or as Keras objects.

    Raises:
        ValueError: A field is out of its set.
    """
    require(
        _is_activation(fields.activation),
        "activation",
        fields.activation,
        "the name of a Keras activation, a function or an activation layer",
        "Pass a string such as 'elu'.",
    )
    require(
        _is_made(
            fields.initialization,
            keras.initializers.Initializer,
            lambda name: name == "auto" or _parts.initializer(name, "linear", 0),
        ),
        "initialization",
        fields.initialization,
        "'auto', the name of an initializer, or an initializer",
        "The default is 'he_normal'.",
    )
    if fields.initialization in ("auto", "variance_preserving"):
        _parts.initializer(fields.initialization, fields.activation, 1)
    require(
        fields.regularizer is None
        or _is_made(
            fields.regularizer, keras.regularizers.Regularizer, lambda n: _parts.regularizer(n, 0)
        ),
        "regularizer",
        fields.regularizer,
        "None, the name of a Keras regularizer, or a regularizer",
        "Pass `l2` for the usual penalty, or an object such as kerasdl.L1(1e-4).",
    )
    require(
        fields.regularizer is None or fields.l2 == 0,
        "l2",
        fields.l2,
        "0 beside a `regularizer`",
        "Pass kerasdl.L1L2(l1, l2) as `regularizer` to have both.",
    )


def require_optimizer(fields: Any, default_rate: float) -> None:
    """Check the optimizer and its learning rate.

    Raises:
        ValueError: A field is out of its set.
    """
    rate, named = fields.learning_rate, isinstance(fields.optimizer, str)
    require(
        isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        or (is_real(rate) and rate > 0),
        "learning_rate",
        rate,
        "a positive number or a LearningRateSchedule",
        "Typical values are 1e-4 to 1e-2.",
    )
    require(
        _is_made(
            fields.optimizer,
            keras.optimizers.Optimizer,
            # One of ours is not made: each takes a name of its own, and would count.
            lambda name: _parts.has_optimizer(name) or _parts.optimizer(name, default_rate),
        ),
        "optimizer",
        fields.optimizer,
        "the name of an optimizer, or an optimizer",
        "Pass a name such as 'adam'; optimizers around another one are passed as objects.",
    )
    require(
        named or rate == default_rate,
        "learning_rate",
        rate,
        "left out beside an optimizer that is an object",
        "Give the optimizer itself the learning rate.",
    )


def require_numbers(fields: Any) -> None:
    """Check the real-valued fields of a configuration.

    Raises:
        ValueError: A field is out of its set.
    """
    require(
        is_real(fields.dropout) and 0 <= fields.dropout < 1,
        "dropout",
        fields.dropout,
        "in [0, 1)",
        "It is the share of units to drop; 0 leaves dropout out.",
    )
    require(
        is_real(fields.l2) and fields.l2 >= 0,
        "l2",
        fields.l2,
        "a number that is not negative",
        "Typical values are 0 to 1e-3.",
    )
    require(
        _is_size(fields.steps_per_execution),
        "steps_per_execution",
        fields.steps_per_execution,
        "a positive integer",
        "Pass 1 to have callbacks see every batch.",
    )


def require_sizes(field: str, sizes: Any) -> None:
    """Check the sizes of the hidden blocks.

    Raises:
        ValueError: `sizes` is not a tuple of positive integers, or is empty.
    """
    require(
        isinstance(sizes, (tuple, list)) and len(sizes) > 0 and all(map(_is_size, sizes)),
        field,
        sizes,
        "a tuple of one or more positive integers",
        "Pass one size per hidden block, such as (128, 64).",
    )


def checked_shape(shape: Any) -> tuple[int | None, ...]:
    """Return the shape of one sample as a tuple; time, height and width may be None.

    Raises:
        ValueError: It is not that of a vector, a sequence or an image.
    """
    known = isinstance(shape, (tuple, list)) and len(shape) in (1, 2, 3)
    *places, features = shape if known else (None,)
    require(
        known and _is_size(features) and all(p is None or _is_size(p) for p in places),
        "input_shape",
        shape,
        "(features,), (time, features) or (height, width, channels) of one sample, without "
        "the batch",
        "Reshape other data; grey images need a channel axis of size 1.",
    )
    return (*places, features)


def checked_task(task: str, outputs: int) -> Task:
    """Return what `task` asks of the model.

    Raises:
        ValueError: There is no such task, or it does not go with so many outputs.
    """
    require(
        isinstance(task, str) and task in TASKS,
        "task",
        task,
        f"one of {', '.join(repr(name) for name in TASKS)}",
        "Use 'multiclass' for one label out of several.",
    )
    kind = TASKS[task]
    require(
        is_integer(outputs) and kind.fewest <= outputs <= kind.most,
        "outputs",
        outputs,
        kind.allowed,
        kind.advice,
    )
    return kind


def checked_labels(y: Any, task: str) -> tuple[str, int]:
    """Return the task and the number of outputs that go with the targets.

    Raises:
        ValueError: The targets do not fit the task.
    """
    columns = y.shape[1] if y.ndim == 2 else 1
    require(
        y.ndim in (1, 2) and y.size > 0,
        "y",
        y.shape,
        "targets of the shape (samples,) or (samples, outputs)",
        "Pass one row per sample.",
    )
    if task != "multiclass":
        return task, columns
    if columns > 1:
        require(
            y.dtype.kind in "biuf" and bool(np.allclose(y.sum(axis=1), 1)),
            "y",
            y.shape,
            "one column per class, with rows that sum to 1, with task='multiclass'",
            "Pass task='multilabel' or task='regression' for other columns.",
        )
        return "categorical", columns
    require(
        y.dtype.kind in "biuf" and bool(((y == np.floor(y)) & (y >= 0)).all()),
        "y",
        f"{y.dtype} from {y.min()} to {y.max()}" if y.dtype.kind in "biuf" else str(y.dtype),
        "integer labels from 0 with task='multiclass'",
        "Pass task='regression' for values; SKLearnClassifier takes labels of any kind.",
    )
    return task, max(int(y.max()) + 1, 2)


def _is_made(value: Any, base: type, make: Callable[[str], Any]) -> bool:
    """Whether `value` is an object of the class, or a name that `make` makes one of."""
    if not isinstance(value, str):
        return isinstance(value, base)
    try:
        make(value)
    # What Keras and constructors raise at names they do not know, or that need arguments.
    except (ValueError, TypeError):
        return False
    return True


def _is_activation(value: Any) -> bool:
    if isinstance(value, str):
        return _is_made(value, object, keras.activations.get)
    return callable(value) and not isinstance(value, type)


def _is_size(value: Any) -> bool:
    return is_integer(value) and value > 0
