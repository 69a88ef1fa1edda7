"""A TensorFlow SavedModel as a program: its serving signature, and the same in float64.

A SavedModel holds no Keras layers: its float64 run is one of TensorFlow's operations
(`widened.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ..errors import SourceError
from ..formats import FLOAT32, Format
from ..ports import Port, is_any_batch
from .program import Arrays
from .ranges import Range
from .widened import Widened

SIGNATURE = "serving_default"


class SavedModelProgram:
    """The `serving_default` signature of a SavedModel."""

    def __init__(self, path: Path) -> None:
        self._loaded = tf.saved_model.load(str(path))  # keeps the variables alive
        signatures = self._loaded.signatures
        if SIGNATURE not in signatures:
            raise SourceError(
                f"The SavedModel {path} has no signature `{SIGNATURE}`; it has "
                f"{sorted(signatures) or 'none'}. Save it with `model.export(path)`."
            )
        self._signature = signatures[SIGNATURE]
        self.name = path.name
        specs = self._signature.structured_input_signature[1]
        self.inputs = [_port(name, specs[name]) for name in sorted(specs)]
        if not self.inputs:
            raise SourceError(f"The signature `{SIGNATURE}` of {path} has no inputs.")
        self.any_batch = is_any_batch(self.inputs)
        results = self._signature.structured_outputs
        self.outputs = [_port(name, results[name]) for name in sorted(results)]
        self._widened = Widened(self)

    def __call__(self, *tensors: Any) -> list[Any]:
        named = {port.name: tensor for port, tensor in zip(self.inputs, tensors, strict=True)}
        results = self._signature(**named)
        return [results[port.name] for port in self.outputs]

    def run(self, arrays: Arrays) -> Arrays:
        return [y.numpy() for y in self(*map(tf.convert_to_tensor, arrays))]

    def run_float64(self, arrays: Arrays) -> Arrays:
        return self._widened(arrays)

    def reaches(
        self, arrays: Arrays, exact: Arrays, rng: np.random.Generator, stored: Format = FLOAT32
    ) -> Iterator[Arrays]:
        return self._widened.reaches(arrays, exact, rng, stored)

    def ranges(self) -> dict[str, Range]:
        return {}

    def parameters(self) -> int:
        return sum(int(np.prod(variable.shape)) for variable in self._signature.variables)

    def layer_names(self) -> list[str]:
        return []  # a SavedModel holds none

    def calls_of(self, layer: str) -> list[str]:
        return [layer]

    def has_weights(self, layer: str) -> bool:
        return True  # of what it is made of, nothing is known

    def work(self) -> int:
        return self.parameters()

    def work_on(self, arrays: Arrays) -> int:
        return self._widened.work(arrays)


def _port(name: str, spec: Any) -> Port:
    shape = spec.shape
    if shape.rank is None:
        raise SourceError(f"`{name}` of the SavedModel has no known rank; it cannot be exported.")
    return Port(name, tuple(shape.as_list()), spec.dtype.name)
