"""What happens when a gradient is NaN or infinite.

An error is raised where the step runs in Python, and by an assertion in TensorFlow's graphs.
What XLA or JAX has compiled can do neither: there the step changes nothing, nor does any
step after it, and the error comes when `fit` ends.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from kerasdl.clipping._rows import mapped, values_of
from kerasdl.optimizers._backend import in_xla, is_tensorflow, is_traced, known, read
from kerasdl.optimizers._groups import Group, path_of

ADVICE = (
    "Nothing was updated. Lower the learning rate, clip (global_clipnorm=1.0), look for a "
    'division by zero or a logarithm of zero in the loss, or pass nonfinite="skip" to the '
    "optimizer."
)


def message(path: str, step: int) -> str:
    return (
        f"The gradients must be finite. Received: NaN or infinity for `{path}` "
        f"in step {step + 1}. {ADVICE}"
    )


def _first_of(gradients: Sequence[Any]) -> Any:
    return next(values_of(g) for g in gradients if g is not None)


def all_finite(gradients: Sequence[Any]) -> Any:
    """Whether all elements of all gradients are finite; None entries are left out."""
    flags = [ops.all(ops.isfinite(values_of(g))) for g in gradients if g is not None]
    return flags[0] if len(flags) == 1 else ops.all(ops.stack(flags))


NONE = np.iinfo("int32").max
"""In place of an element's number: all are finite."""


def first_nonfinite(gradients: Sequence[Any]) -> tuple[Any, Any]:
    """Where the first element is that is not finite: group and element, int32.

    One pass that neither branches nor writes, which is what compilers are good at. The
    element is `NONE` where all are finite.
    """
    places = [place for place, gradient in enumerate(gradients) if gradient is not None]
    elements = ops.stack([_first(values_of(gradients[place])) for place in places])
    which = ops.argmin(elements)
    group = ops.take(ops.convert_to_tensor(places, "int32"), which)
    return group, ops.take(elements, which)


def _first(tensor: Any) -> Any:
    flat = ops.reshape(tensor, (-1,))
    numbers = ops.arange(ops.shape(flat)[0], dtype="int32")
    return ops.min(ops.where(ops.isfinite(flat), NONE, numbers), initial=NONE)


def unless_suspect(
    gradients: Sequence[Any], fine: Any, look: Callable[[Sequence[Any]], Any]
) -> Any:
    """`fine` where all elements must be finite, else what `look` says of the gradients.

    A sum shows a NaN and an infinity and is the cheapest pass there is; large numbers may make
    it overflow too, so then the elements are looked at. Sums of rows are what XLA does in
    parallel.
    """
    tensors = [values_of(g) for g in gradients if g is not None]
    rows = [x if len(x.shape) < 2 else ops.sum(x, axis=-1) for x in tensors]
    sums = [ops.cast(ops.sum(x), tensors[0].dtype) for x in rows]
    total = sums[0] if len(sums) == 1 else ops.sum(ops.stack(sums))
    return ops.cond(ops.isfinite(total), lambda: fine, lambda: look(gradients))


class Screen:
    """Applies the policy to the gradients of one step.

    Args:
        policy: "raise", "skip" or "allow".
        groups: The groups of variables.
        failed: Variable of shape (2,): 1 + the number of the group and the element that was
            not finite, where no error could be raised; zeros for none.
    """

    def __init__(self, policy: str, groups: Sequence[Group], failed: Any) -> None:
        self.policy = policy
        self.groups = groups
        self.failed = failed

    def __call__(self, gradients: list[Any], step: Any) -> tuple[list[Any], Any]:
        """The gradients to go on with, and whether the step may change anything.

        Args:
            gradients: One per group; None for a group without.
            step: Count of the steps before this one.

        Returns:
            Gradients, and True, False or a boolean tensor.

        Raises:
            FloatingPointError: A gradient is not finite, the policy is "raise", and the step
                runs in Python.
        """
        if self.policy == "allow":
            return gradients, True
        if is_traced(_first_of(gradients)):
            if self.policy == "skip":
                return gradients, unless_suspect(gradients, True, all_finite)
            if is_tensorflow() and not in_xla():
                return self._asserted(gradients, step), True
            return gradients, self._noted(gradients)
        finite = all_finite(gradients)
        value = known(finite)
        if self.policy == "skip" or value:
            return gradients, finite if value is None else value
        group, element = map(int, first_nonfinite(gradients))
        raise FloatingPointError(message(self._path(group, element), int(step)))

    def _asserted(self, gradients: list[Any], step: Any) -> list[Any]:
        import tensorflow as tf

        def look(gradients: Sequence[Any]) -> Any:
            group, element = first_nonfinite(gradients)
            names = [path_of(v) for each in self.groups for v in each.variables]
            path = tf.gather(names, self._number(group, element))
            text = ["The gradients must be finite. Received: NaN or infinity for", path]
            text += ["in step", tf.convert_to_tensor(step) + 1, ADVICE]
            tf.debugging.Assert(element == NONE, text)
            return True

        with tf.control_dependencies([unless_suspect(gradients, True, look)]):
            return [None if g is None else mapped(g, tf.identity) for g in gradients]

    def _path(self, group: int, element: int) -> str:
        each = self.groups[group]
        return path_of(each.variables[int(np.searchsorted(each.ends, element, "right"))])

    def _number(self, group: Any, element: Any) -> Any:
        """Number of the variable, in the order of the groups, as a tensor of TensorFlow."""
        import tensorflow as tf

        before = np.cumsum([0, *(len(each.variables) for each in self.groups)])[:-1]
        within = [
            tf.searchsorted(tf.constant(each.ends, tf.int32), [element], "right")[0]
            if each.together
            else 0
            for each in self.groups
        ]
        return tf.gather(before, group) + tf.gather(tf.cast(tf.stack(within), tf.int64), group)

    def _noted(self, gradients: list[Any]) -> Any:
        """Note the place in `failed`; True while nothing has ever failed."""
        before = read(self.failed)
        none = (ops.zeros((), "int32"), ops.convert_to_tensor(NONE, "int32"))
        group, element = unless_suspect(gradients, none, first_nonfinite)
        found = ops.where(element == NONE, 0, ops.stack([group + 1, element]))
        after = ops.where(before[0] == 0, found, before)
        self.failed.assign(after)
        return after[0] == 0

    def raise_noted(self, step: Any) -> None:
        """Raise what could not be raised in a compiled step, and forget it."""
        group, element = ops.convert_to_numpy(self.failed).tolist()
        if group:
            self.failed.assign([0, 0])
            raise FloatingPointError(message(self._path(group - 1, element), int(step)))
