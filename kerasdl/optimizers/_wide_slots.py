"""Keras' optimizer with variables of its own that are never short floats."""

from collections.abc import Sequence
from typing import Any

import keras

from kerasdl.clipping._tensors import maths_dtype


class WideSlots(keras.optimizers.Optimizer):
    """Base of kerasdl's optimizers and of its wrappers."""

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Keras' method, with short floats widened: slots, averages and accumulators."""
        dtype = maths_dtype(dtype or keras.config.floatx())
        return super().add_variable(shape, initializer, dtype=dtype, **kwargs)
