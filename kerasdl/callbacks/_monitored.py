"""The value in the logs that a callback goes by."""

from typing import Any

from kerasdl._checks import is_integer, is_real, require

MODES = {"auto", "min", "max"}


def require_monitored(monitor: str, logs: dict[str, Any], seen: bool, advice: str) -> None:
    """Raise ValueError, with the names that there are, unless `monitor` is in the logs.

    Once seen, a value may be missing: `fit(validation_freq=n)` skips epochs.
    """
    available = ", ".join(sorted(logs)) or "none"
    require(
        monitor in logs or seen,
        "monitor",
        monitor,
        f"one of the values in the logs ({available})",
        advice,
    )


def require_mode(mode: Any) -> None:
    """Raise ValueError unless `mode` is one of Keras'."""
    require(mode in MODES, "mode", mode, '"auto", "min" or "max"', 'Pass "max" for accuracies.')


def require_delta(min_delta: Any) -> None:
    """Raise ValueError unless `min_delta` is a number ≥ 0."""
    require(
        is_real(min_delta) and min_delta >= 0,
        "min_delta",
        min_delta,
        "non-negative",
        "Pass 0.0 to count every improvement.",
    )


def require_epochs(**numbers: Any) -> None:
    """Raise ValueError unless all are integers ≥ 0."""
    for argument, epochs in numbers.items():
        require(
            is_integer(epochs) and epochs >= 0,
            argument,
            epochs,
            "an integer ≥ 0",
            "Pass a number of epochs.",
        )
