"""The Default Configuration: a small table of choices that builds a compiled model."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras

from kerasdl import initializers
from kerasdl.defaults.standardization import standardization
from kerasdl.defaults.tasks import Task
from kerasdl.defaults.validation import (
    checked_shape,
    checked_task,
    require_choices,
    require_numbers,
    require_sizes,
)
from kerasdl.layers import BatchNormalization, Dropout
from kerasdl.optimizers import Adam

_INITIALIZERS: Mapping[str, Any] = MappingProxyType(
    {
        "he_normal": initializers.HeNormal,
        "he_uniform": initializers.HeUniform,
        "xavier_normal": initializers.XavierNormal,
        "xavier_uniform": initializers.XavierUniform,
    }
)

_S_SHAPED = frozenset(
    {"hard_sigmoid", "hard_tanh", "sigmoid", "softsign", "sparse_sigmoid", "tanh"}
)


@dataclass(frozen=True)
class DefaultConfiguration:
    """The choices that the notes recommend to start from.

        vectors   [Dense → BN → ELU] × units                       → Dropout → Dense
        images    [Conv 3×3 → BN → ELU → MaxPool 2×2] × filters
                  → GlobalAveragePooling                           → Dropout → Dense

    Batch normalization stands before the activation, and after it for the s-shaped ones
    (sigmoid, tanh, softsign; N0). A layer directly before it has no bias, because μ_B would
    take it away again. Dropout stands once, after the last batch normalization: before one,
    it shifts the variance that the normalization relies on (N0). The head's weights suit
    the head's own activation.

    Start with it as it is. If the training loss stays high, widen `units` or `filters`; if
    the gap to the validation loss grows, raise `l2` first.

    Args:
        initialization: `"he_normal"`, `"he_uniform"`, `"xavier_normal"`,
            `"xavier_uniform"`, or `"auto"`, which follows the activation.
            Default `"he_normal"`.
        activation: Name of a Keras activation. Default `"elu"`.
        normalization: Whether there is batch normalization. Default True.
        statistics: `"moving"` or `"population"`, see `BatchNormalization`.
            Default `"moving"`.
        dropout: Share of units to drop, in [0, 1). Typical values are 0.2 to 0.5, N0 has
            0.5 to 0.8. Default 0.5.
        dropout_placement: `"after_last_batch_normalization"`, or `"every_block"` for a
            dropout at the end of each. Default `"after_last_batch_normalization"`.
        l2: Strength λ of λΣθ² on all kernels. Typical values are 0 to 1e-3. Default 0.0.
        learning_rate: Of Adam. Typical values are 1e-4 to 1e-2. Default 1e-3.
        units: Widths of the hidden layers for vectors. Default (128, 64).
        filters: Channels of the blocks for images. Default (32, 64).
        steps_per_execution: Batches that one call of the compiled step takes; callbacks see
            the last of them. 16 halve the time of small models; 1 shows every batch, and
            is what PyTorch gets. Default 16.

    Raises:
        ValueError: A field is out of its set.

    Example:

    >>> DefaultConfiguration(units=(64,)).build((20,), 3).output_shape
    (None, 3)

    References:
        N1 (default configuration), N0 (guidelines for batch norm and dropout), N4 (design);
        Clevert et al. 2016 (ELU); Ioffe & Szegedy 2015; Srivastava et al. 2014; Li et al.,
        "Understanding the Disharmony between Dropout and Batch Normalization by Variance
        Shift", 2019.
    """

    initialization: str = "he_normal"
    activation: str = "elu"
    normalization: bool = True
    statistics: str = "moving"
    dropout: float = 0.5
    dropout_placement: str = "after_last_batch_normalization"
    l2: float = 0.0
    learning_rate: float = 1e-3
    units: tuple[int, ...] = (128, 64)
    filters: tuple[int, ...] = (32, 64)
    steps_per_execution: int = 16

    def __post_init__(self) -> None:
        require_choices(self, initialization=(*_INITIALIZERS, "auto"))
        require_numbers(self)
        for field in ("units", "filters"):
            require_sizes(field, getattr(self, field))
            object.__setattr__(self, field, tuple(getattr(self, field)))

    def build(
        self,
        input_shape: tuple[int | None, ...],
        outputs: int = 1,
        task: str = "multiclass",
        adapt_to: Any = None,
        name: str | None = None,
    ) -> keras.Model:
        """Return a new compiled model; the arguments are those of `default_model`.

        Example:

        >>> DefaultConfiguration().build((8, 8, 1), 10).count_params()
        19754
        """
        shape = checked_shape(input_shape)
        kind = checked_task(task, outputs)
        inputs = x = keras.Input(shape, name="input")
        if adapt_to is not None:
            x = standardization(adapt_to, shape)(x)
        x = self._body(x)
        model = keras.Model(inputs, self._head(x, kind, outputs), name=name)
        model.compile(
            Adam(self.learning_rate),
            loss=kind.loss(),
            metrics=[kind.metric()],
            steps_per_execution=self._steps_per_execution(),
        )
        return model

    def _steps_per_execution(self) -> int:
        # Keras compiles no step on PyTorch and takes only one batch at a time there.
        return 1 if keras.backend.backend() == "torch" else self.steps_per_execution

    def _body(self, x: Any) -> Any:
        image = len(x.shape) == 4
        block = self._image_block if image else self._vector_block
        *others, last = self.filters if image else self.units
        for size in others:
            x = self._dropped(block(x, size), when=self.dropout_placement == "every_block")
        x = block(x, last)
        if image:
            x = keras.layers.GlobalAveragePooling2D()(x)
        return self._dropped(x, when=True)

    def _dropped(self, x: Any, when: bool) -> Any:
        return Dropout(self.dropout)(x) if self.dropout and when else x

    def _vector_block(self, x: Any, units: int) -> Any:
        return self._activated(keras.layers.Dense(units, **self._weights()), x)

    def _image_block(self, x: Any, filters: int) -> Any:
        layer = keras.layers.Conv2D(filters, 3, padding="same", **self._weights())
        x = self._activated(layer, x)
        if any(size == 1 for size in x.shape[1:3]):
            return x
        return keras.layers.MaxPooling2D(2)(x)

    def _activated(self, layer: keras.layers.Layer, x: Any) -> Any:
        steps = [layer, keras.layers.Activation(self.activation)]
        if self.normalization:
            position = 2 if self.activation in _S_SHAPED else 1
            steps.insert(position, BatchNormalization(statistics=self.statistics))
        for step in steps:
            x = step(x)
        return x

    def _weights(self) -> dict[str, Any]:
        return {
            "use_bias": not self.normalization or self.activation in _S_SHAPED,
            "kernel_initializer": self._initializer(),
            "kernel_regularizer": self._penalty(),
        }

    def _initializer(self) -> keras.initializers.Initializer:
        if self.initialization == "auto":
            return initializers.initializer_for(self.activation)
        return _INITIALIZERS[self.initialization]()

    def _penalty(self) -> keras.regularizers.Regularizer | None:
        return keras.regularizers.L2(self.l2) if self.l2 else None

    def _head(self, x: Any, task: Task, outputs: int) -> Any:
        return keras.layers.Dense(
            outputs,
            activation=task.activation,
            kernel_initializer=initializers.initializer_for(task.activation),
            kernel_regularizer=self._penalty(),
            dtype=_at_least_float32(),
            name="output",
        )(x)


def _at_least_float32() -> str | None:
    """Return the head's dtype: probabilities and losses are not kept in half precision."""
    half = keras.config.dtype_policy().compute_dtype in {"float16", "bfloat16"}
    return "float32" if half else None
