"""What each task asks of the head, the loss and the metric."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from keras import losses, metrics


@dataclass(frozen=True)
class Task:
    """One kind of prediction.

    Attributes:
        activation: Of the head.
        loss: Makes the loss.
        metric: Makes the metric.
        allowed: The allowed numbers of outputs, completing "must be ...".
        advice: What to do about another number.
        fewest: The smallest number of outputs.
        most: The largest number of outputs.
    """

    activation: str
    loss: Callable[[], Any]
    metric: Callable[[], Any]
    allowed: str
    advice: str
    fewest: float = 1
    most: float = math.inf


def _named(metric: Callable[..., Any], name: str) -> Callable[[], Any]:
    return lambda: metric(name=name)


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "multiclass": Task(
            activation="softmax",
            loss=losses.SparseCategoricalCrossentropy,
            metric=_named(metrics.SparseCategoricalAccuracy, "accuracy"),
            allowed="an integer of 2 or more with task='multiclass'",
            advice="Pass the number of classes, or task='binary' for two classes.",
            fewest=2,
        ),
        "categorical": Task(
            activation="softmax",
            loss=losses.CategoricalCrossentropy,
            metric=_named(metrics.CategoricalAccuracy, "accuracy"),
            allowed="an integer of 2 or more with task='categorical'",
            advice="Pass the number of classes, one column of the labels each.",
            fewest=2,
        ),
        "binary": Task(
            activation="sigmoid",
            loss=losses.BinaryCrossentropy,
            metric=_named(metrics.BinaryAccuracy, "accuracy"),
            allowed="1 with task='binary'",
            advice="One output is the probability of class 1.",
            most=1,
        ),
        "multilabel": Task(
            activation="sigmoid",
            loss=losses.BinaryCrossentropy,
            metric=_named(metrics.BinaryAccuracy, "accuracy"),
            allowed="a positive integer with task='multilabel'",
            advice="Pass the number of labels.",
        ),
        "regression": Task(
            activation="linear",
            loss=losses.MeanSquaredError,
            metric=_named(metrics.MeanAbsoluteError, "mae"),
            allowed="a positive integer with task='regression'",
            advice="Pass the number of values to predict.",
        ),
    }
)
