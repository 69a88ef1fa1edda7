"""What the backends do differently around an update."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


def is_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def not_converted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as it is: TensorFlow's autograph would rewrite it, and trace for longer."""
    if not is_tensorflow():
        return function
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def read(variable: Any) -> Any:
    """The value of a variable as a tensor; `ops.convert_to_tensor` may return the variable."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    if not is_tensorflow():
        return value
    import tensorflow as tf

    return tf.convert_to_tensor(value)


def read_rows(variable: Any, indices: Any) -> Any:
    """Some rows of a variable of TensorFlow, without reading the others."""
    import tensorflow as tf

    return tf.gather(variable.value if isinstance(variable, keras.Variable) else variable, indices)


def in_xla() -> bool:
    """Whether what is traced now will be compiled by TensorFlow's XLA, which cannot raise."""
    if not is_tensorflow():
        return False
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


def is_traced(tensor: Any) -> bool:
    """Whether the tensor has no value yet, because a step is being traced."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    if backend == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    return False


def known(condition: Any) -> bool | None:
    """The value of a boolean tensor, or None where it is known only when the step runs."""
    return None if is_traced(condition) else bool(condition)


def no_gradient() -> Any:
    """A context in which PyTorch records nothing; the others record nothing here anyway."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def choose(
    condition: Any,
    action: Callable[[], None],
    otherwise: Callable[[], None],
    variables: Sequence[Any],
    read_too: Sequence[Any] = (),
) -> None:
    """Run `action` where the condition holds, else `otherwise`.

    Args:
        condition: Boolean scalar.
        action: Without arguments and result.
        otherwise: Likewise.
        variables: What they assign to.
        read_too: What else they read.
    """
    if keras.backend.backend() != "jax":
        ops.cond(condition, action, otherwise)
        return
    value = known(condition)
    if value is not None:
        # JAX would compile both branches, and anew at every call.
        (action if value else otherwise)()
        return

    # A branch of JAX must return what it changes.
    def outcome(branch: Callable[[], None]) -> list[Any]:
        pairs = [(variable, read(variable)) for variable in (*variables, *read_too)]
        with keras.StatelessScope(state_mapping=pairs) as scope:
            branch()
        return [scope.get_current_value(variable) for variable in variables]

    values = ops.cond(condition, lambda: outcome(action), lambda: outcome(otherwise))
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def sum_over_replicas(gradients: Sequence[Any]) -> list[Any]:
    """The gradients, summed over the replicas of a `tf.distribute` strategy."""
    if not is_tensorflow():
        return list(gradients)
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or not tf.distribute.has_strategy():
        return list(gradients)
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)))


def on_every_device(
    update: Callable[[Sequence[Any]], None], gradients: Sequence[Any], variable: Any
) -> None:
    """Call `update(gradients)`; under a strategy once per device, on that device's copies.

    Args:
        update: Reads and assigns variables.
        gradients: The same on all replicas.
        variable: Any variable of the model: where it has copies `update` is called.
    """
    if not is_tensorflow():
        update(gradients)
        return
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        update(gradients)
        return

    def across(strategy: Any, gradients: Sequence[Any]) -> None:
        def local(_: Any, gradients: Sequence[Any]) -> None:
            update(gradients)

        anchor = variable.value if isinstance(variable, keras.Variable) else variable
        strategy.extended.update(anchor, local, args=(list(gradients),), group=False)

    strategy = tf.distribute.get_strategy()
    if tf.distribute.in_cross_replica_context():
        # Outside of `strategy.run` a gradient belongs to no replica: it is the sum already.
        across(strategy, gradients)
        return
    tf.__internal__.distribute.interim.maybe_merge_call(across, strategy, list(gradients))
