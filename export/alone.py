"""Alone: what each call of `to_onnx`, `verify`, `inspect` and `fold` needs around it.

One at a time, because tracing changes layers, and tf2onnx, for as long as it takes; where
TensorFlow and Keras compute with numbers, not inside of a graph that is being built; without
TensorFlow's advice on how often a function is traced, and without NumPy's on numbers that overflow,
which the comparison sees. Python's random numbers go on where they were.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import tensorflow as tf

# Keras exports the scope, but not the question.
from keras.src.backend.common.stateless_scope import in_stateless_scope

from .errors import OptionError, SourceError, shown

P = ParamSpec("P")
R = TypeVar("R")

LOCK = threading.RLock()
SWITCHES = ("external_data", "layers", "unsafe")
"""Options that are true or false. `unsafe="no"` must not let code run."""
NOT_TOLD = ("triggered tf.function retracing", "Fingerprint was found, but")
"""In TensorFlow's words of a function that is traced again and again, and of a SavedModel whose
fingerprint is damaged, with a traceback."""
LOGGERS = ("tensorflow", "absl")


def alone(function: Callable[P, R]) -> Callable[P, R]:
    """Let calls from several threads take turns, each outside of graphs and scopes.

    Raises:
        SourceError: A call comes from inside of a graph or of a `keras.StatelessScope`.
        OptionError: A switch is neither true nor false, or `progress` cannot be called.
    """

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> R:
        _check_place(function.__name__)
        _check_options(keywords)
        with LOCK, _quiet_loggers(), np.errstate(all="ignore"), _same_chance():
            return function(*arguments, **keywords)

    return call


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Keep TensorFlow from calling it expensive that functions are traced anew, as here they must.

    What another thread does meanwhile is told as ever.
    """
    own = threading.get_ident()

    def is_told(record: logging.LogRecord) -> bool:
        return record.thread != own or not any(map(record.getMessage().__contains__, NOT_TOLD))

    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addFilter(is_told)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_told)


@contextmanager
def _same_chance() -> Iterator[None]:
    """Leave Python's random numbers as they were: Keras draws the seeds of new layers from them."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def _check_place(name: str) -> None:
    if not tf.executing_eagerly():
        raise SourceError(
            f"`{name}` reads the numbers of a model, which are not there inside of a "
            "`tf.function`, a `tf.Graph` or a symbolic call. Call it outside."
        )
    if in_stateless_scope():
        raise SourceError(
            f"`{name}` reads the variables of a model, which have other values inside of a "
            "`keras.StatelessScope`. Call it outside."
        )


def _check_options(keywords: Mapping[str, Any]) -> None:
    for name in SWITCHES:
        value = keywords.get(name, False)
        if not isinstance(value, bool | np.bool_):
            raise OptionError(f"`{name}` must be True or False. Received: {name}={shown(value)}.")
    progress = keywords.get("progress")
    if progress is not None and not callable(progress):
        raise OptionError(
            "`progress` must be a function of one line of text, or None. "
            f"Received: progress={shown(progress)}."
        )
