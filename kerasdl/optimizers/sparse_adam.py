"""Adam for sparse gradients."""

from collections.abc import Callable
from typing import Any, Literal

from kerasdl._checks import require
from kerasdl.optimizers.adam import Adam


class SparseAdam(Adam):
    """Adam that touches only the rows that the gradient has.

    For the rows i of a sparse gradient, with Adam's t: m[i] ← β₁m[i] + (1−β₁)g[i];
    v[i] ← β₂v[i] + (1−β₂)g[i]²; θ[i] ← θ[i] − η m̂[i]/(√v̂[i] + ε)

    Rows without a gradient stay as they are, with their moments: these do not decay, and the
    row does not move on by its momentum, as it does in `Adam`. The bias correction has the
    one t that counts all updates, so a row that is first seen late takes smaller first steps
    than the first rows did. A row that every gradient has is updated as in `Adam`.

    Use it for large embeddings of which a batch sees a few rows: an update costs what these
    rows cost. Only TensorFlow hands over sparse gradients (`tf.IndexedSlices`); any other
    gradient is applied as in `Adam`, so on JAX and PyTorch this is `Adam`.

    Args:
        learning_rate: η ≥ 0, a `LearningRateSchedule`, or a function without arguments.
        beta_1: β₁ in [0, 1), decay of the average of the gradients.
        beta_2: β₂ in [0, 1), decay of the average of their squares.
        epsilon: ε > 0, in units of the gradient outside the root, of its square inside.
        amsgrad: Never let the denominator shrink; see `Adam`.
        epsilon_position: "outside" or "inside" the square root.
        **kwargs: Arguments of `kerasdl.optimizers.Optimizer`, except lazy=False and
            `gradient_accumulation_steps`, which fills all rows.

    Raises:
        ValueError: An argument is out of its range.

    Example:

    >>> import keras
    >>> from keras import ops
    >>> θ = keras.Variable([[1.0], [1.0]])
    >>> SparseAdam(learning_rate=0.25).apply([ops.array([[10.0], [0.0]])], [θ])
    >>> θ.numpy().tolist()
    [[0.75], [1.0]]

    References:
        N3 (list); Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization".
    """

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        amsgrad: bool = False,
        epsilon_position: Literal["outside", "inside"] = "outside",
        **kwargs: Any,
    ) -> None:
        lazy = kwargs.pop("lazy", True)
        require(lazy is True, "lazy", lazy, "True in SparseAdam", "Use Adam to update all rows.")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, epsilon_position, lazy=True, **kwargs
        )
