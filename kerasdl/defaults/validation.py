"""What the Default Configuration accepts."""

from typing import Any

from kerasdl._checks import is_integer, is_real, require
from kerasdl.defaults.tasks import TASKS, Task
from kerasdl.initializers import initializer_for


def require_choices(fields: Any, initialization: tuple[str, ...]) -> None:
    """Check the fields of a configuration that are chosen from a list.

    Args:
        fields: A `DefaultConfiguration`.
        initialization: The allowed names of initializers.

    Raises:
        ValueError: A field is out of its set.
    """
    choices: dict[str, tuple[Any, ...]] = {
        "initialization": initialization,
        "statistics": ("moving", "population"),
        "dropout_placement": ("after_last_batch_normalization", "every_block"),
        "normalization": (True, False),
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
    require(
        isinstance(fields.activation, str),
        "activation",
        fields.activation,
        "the name of a Keras activation",
        "Pass a string such as 'elu'.",
    )
    initializer_for(fields.activation)


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
        is_real(fields.learning_rate) and fields.learning_rate > 0,
        "learning_rate",
        fields.learning_rate,
        "a positive number",
        "Typical values are 1e-4 to 1e-2.",
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
    """Return the shape of one sample as a tuple; height and width may be None.

    Raises:
        ValueError: It is neither that of a vector nor that of an image.
    """
    known = isinstance(shape, (tuple, list)) and len(shape) in (1, 3)
    *places, features = shape if known else (None,)
    require(
        known and _is_size(features) and all(p is None or _is_size(p) for p in places),
        "input_shape",
        shape,
        "(features,) or (height, width, channels) of one sample, without the batch",
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


def _is_size(value: Any) -> bool:
    return is_integer(value) and value > 0
