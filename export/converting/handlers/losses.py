"""Cross entropies from logits, by logarithms: tf2onnx takes those of quotients, which may be 0."""

from __future__ import annotations

from typing import Any

from .formula import Formula, converts


@converts("SparseSoftmaxCrossEntropyWithLogits")
def _of_classes(f: Formula, logits: str, classes: str) -> Any:
    logs = f.LogSoftmax(logits, axis=-1)
    own = f.GatherElements(logs, f.unsqueeze(classes, -1), axis=-1)
    return f.Neg(f.Squeeze(own, [-1]))
