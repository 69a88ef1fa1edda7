"""The Default Configuration: a small table of choices that builds a compiled model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import keras
import numpy as np

from kerasdl import initializers
from kerasdl.defaults import _parts
from kerasdl.defaults._blocks import hidden_layers
from kerasdl.defaults._table import table
from kerasdl.defaults.standardization import standardization
from kerasdl.defaults.tasks import Task
from kerasdl.defaults.validation import (
    checked_labels,
    checked_shape,
    checked_task,
    require_choices,
    require_numbers,
    require_optimizer,
    require_parts,
    require_sizes,
)

# Where a default comes from; "speed" was measured.
_N0, _N1, _N4, _SPEED = ({"source": source} for source in ("N0", "N1", "N4", "speed"))


@dataclass(frozen=True)
class DefaultConfiguration:
    """The choices that the notes recommend to start from.

        vectors    (features,)
            [Dense → BN → ELU] × units                         → Dropout → Dense
        sequences  (time, features)
            [Conv 3 → BN → ELU → MaxPool 2] × filters
            → GlobalAveragePooling                             → Dropout → Dense
        images     (height, width, channels)
            [Conv 3×3 → BN → ELU → MaxPool 2×2] × filters
            → GlobalAveragePooling                             → Dropout → Dense

    What the inputs are is told by the number of axes of one sample. The notes have no
    sequences: theirs is the block of images along time. All steps of a batch count, so pad
    sequences only as far as the task allows.

    Batch normalization stands before the activation, and after it for the s-shaped ones
    (sigmoid, tanh, softsign; N0). A layer directly before it has no bias, because μ_B would
    take it away again. Dropout stands once, after the last batch normalization: before one,
    it shifts the variance that the normalization relies on (N0). The head's weights suit
    the head's own activation.

    Start with it as it is. If the training loss stays high, widen `units` or `filters`; if
    the gap to the validation loss grows, raise `l2` first. `print` shows every field beside
    its default and its source; `get_config` has what `json.dump` can store.

    Args:
        initialization: Of the hidden kernels: the name of an initializer of kerasdl or of
            Keras, an initializer, or `"auto"`, which follows the activation. A name that
            both have is kerasdl's. An object is copied for every layer, its integer seed
            counted up. Default `"he_normal"`.
        activation: Name of a Keras activation, function or activation layer, which is
            copied. Default `"elu"`.
        normalization: Whether there is batch normalization. Default True.
        normalization_placement: `"before"` or `"after"` the activation, or `"auto"`: after
            an s-shaped one, else before it. Default `"auto"`.
        statistics: `"moving"` or `"population"`, see `BatchNormalization`.
            Default `"moving"`.
        dropout: Share of units to drop, in [0, 1). Typical values are 0.2 to 0.5, N0 has
            0.5 to 0.8. Default 0.5.
        dropout_placement: `"after_last_batch_normalization"`, or `"every_block"` for a
            dropout at the end of each. Default `"after_last_batch_normalization"`.
        l2: Strength λ of λΣθ² on all kernels. Typical values are 0 to 1e-3. Default 0.0.
        regularizer: Another penalty on all kernels, in place of `l2`: a regularizer or
            Keras' name of one. Default None.
        optimizer: Name of an optimizer of kerasdl or of Keras, or an optimizer, which is
            copied and brings its own learning rate. A name that both have is kerasdl's.
            Default `"adam"`.
        learning_rate: Of the named optimizer: a number or a `LearningRateSchedule`. Typical
            values are 1e-4 to 1e-2 for Adam. Default 1e-3, no schedule.
        units: Widths of the hidden layers for vectors. Default (128, 64).
        filters: Channels of the blocks for sequences and images. Default (32, 64).
        steps_per_execution: Batches that one call of the compiled step takes; callbacks see
            the last of them. 16 halve the time of small models; 1 shows every batch, and
            is what PyTorch gets. Default 16.

    Raises:
        ValueError: A field is out of its set.

    Example:

    >>> DefaultConfiguration(units=(64,)).build((20,), 3).output_shape
    (None, 3)
    >>> configuration = DefaultConfiguration(optimizer="sgd", learning_rate=0.1)
    >>> DefaultConfiguration.from_config(configuration.get_config()) == configuration
    True

    References:
        N1 (default configuration), N0 (guidelines for batch norm and dropout), N4 (design);
        Clevert et al. 2016 (ELU); Ioffe & Szegedy 2015; Srivastava et al. 2014; Li et al.,
        "Understanding the Disharmony between Dropout and Batch Normalization by Variance
        Shift", 2019.
    """

    initialization: str | keras.initializers.Initializer = field(default="he_normal", metadata=_N1)
    activation: Any = field(default="elu", metadata=_N1)
    normalization: bool = field(default=True, metadata=_N1)
    normalization_placement: str = field(default="auto", metadata=_N0)
    statistics: str = field(default="moving", metadata=_N1)
    dropout: float = field(default=0.5, metadata=_N1)
    dropout_placement: str = field(default="after_last_batch_normalization", metadata=_N0)
    l2: float = field(default=0.0, metadata=_N4)
    regularizer: Any = field(default=None, metadata=_N4)
    optimizer: str | keras.optimizers.Optimizer = field(default="adam", metadata=_N1)
    learning_rate: Any = field(default=1e-3, metadata=_N1)
    units: tuple[int, ...] = field(default=(128, 64), metadata=_N4)
    filters: tuple[int, ...] = field(default=(32, 64), metadata=_N4)
    steps_per_execution: int = field(default=16, metadata=_SPEED)

    def __post_init__(self) -> None:
        require_choices(self)
        require_numbers(self)
        require_parts(self)
        require_optimizer(self, default_rate=type(self).learning_rate)
        for name in ("units", "filters"):
            require_sizes(name, getattr(self, name))
        for each in dataclasses.fields(self):
            object.__setattr__(self, each.name, _pure(getattr(self, each.name)))

    def __str__(self) -> str:
        """The fields as a table: value, default, source.

        Example:

        >>> print(str(DefaultConfiguration()).splitlines()[0].split())
        ['|', 'field', '|', 'value', '|', 'default', '|', 'source', '|']
        """
        return table(self)

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
        x = hidden_layers(self, x)
        model = keras.Model(inputs, self._head(x, kind, outputs), name=name)
        model.compile(
            _parts.optimizer(self.optimizer, self.learning_rate),
            loss=kind.loss(),
            metrics=[kind.metric()],
            steps_per_execution=self._steps_per_execution(),
        )
        return model

    def build_for(
        self, X: Any, y: Any, task: str = "multiclass", adapt: bool = False, **fields: Any
    ) -> keras.Model:
        """Return a new compiled model for these data, as Keras' scikit-learn wrappers ask.

        Give the wrapper this method as its `model`, and fields as `model_kwargs`, which
        `GridSearchCV` can search: `{"net__model_kwargs": [{"l2": 0.0}, {"l2": 1e-4}]}` for
        the pipeline below. `SKLearnRegressor` needs `{"task": "regression"}` there. Arguments
        of `fit` go through the outer `fit` or `cross_val_score`, because copies of a wrapper
        forget its `fit_kwargs`.

        Args:
            X: Inputs of the shape (samples, *input_shape).
            y: Targets. With `task="multiclass"` integer labels, or one column per class with
                a 1 in each row, which is how `SKLearnClassifier` passes labels of any kind.
            task: As in `default_model`. Default `"multiclass"`.
            adapt: Whether to put the standardization of `X` into the model. Default False.
            **fields: Fields that shall differ from those of this configuration.

        Raises:
            ValueError: An argument is out of its set.
            TypeError: `fields` holds a name that there is not.

        Example:

        >>> import contextlib, io
        >>> from keras.wrappers import SKLearnClassifier
        >>> from sklearn.model_selection import cross_val_score
        >>> from sklearn.pipeline import Pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> x = np.random.default_rng(0).normal(5.0, 3.0, size=(400, 2))
        >>> y = np.where(x[:, 0] > x[:, 1], "left", "right")
        >>> net = SKLearnClassifier(DefaultConfiguration().build_for, model_kwargs={"units": (8,)})
        >>> pipeline = Pipeline([("scale", StandardScaler()), ("net", net)])
        >>> fit = {"net__epochs": 60, "net__verbose": 0}
        >>> with contextlib.redirect_stdout(io.StringIO()):  # no progress bars
        ...     scores = cross_val_score(pipeline, x, y, cv=2, params=fit)
        >>> bool(scores.mean() > 0.8)
        True

        References: N0 (recipe: tune).
        """
        inputs = np.asarray(X)
        task, outputs = checked_labels(np.asarray(y), task)
        configuration = dataclasses.replace(self, **fields)
        adapt_to = inputs if adapt else None
        return configuration.build(inputs.shape[1:], outputs, task=task, adapt_to=adapt_to)

    def get_config(self) -> dict[str, Any]:
        """Return the fields as plain data that JSON can hold.

        Example:

        >>> import json
        >>> json.loads(json.dumps(DefaultConfiguration().get_config()))["units"]
        [128, 64]
        """
        return {
            each.name: _serialized(getattr(self, each.name)) for each in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the configuration that `get_config` was called on."""
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                if isinstance(value, Mapping)
                else value
                for name, value in config.items()
            }
        )

    def _steps_per_execution(self) -> int:
        # Keras compiles no step on PyTorch and takes only one batch at a time there.
        return 1 if keras.backend.backend() == "torch" else self.steps_per_execution

    def _head(self, x: Any, task: Task, outputs: int) -> Any:
        return keras.layers.Dense(
            outputs,
            activation=task.activation,
            kernel_initializer=initializers.initializer_for(task.activation, table="N0"),
            kernel_regularizer=_parts.regularizer(self.regularizer, self.l2),
            dtype=_at_least_float32(),
            name="output",
        )(x)


def _pure(value: Any) -> Any:
    """NumPy's numbers as Python's, sequences as tuples."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_pure, value))
    return value.item() if isinstance(value, np.generic) else value


def _serialized(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return keras.saving.serialize_keras_object(value)


def _at_least_float32() -> str | None:
    """Return the head's dtype: probabilities and losses are not kept in half precision."""
    half = keras.config.dtype_policy().compute_dtype in {"float16", "bfloat16"}
    return "float32" if half else None
