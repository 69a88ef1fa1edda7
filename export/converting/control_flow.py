"""Control flow: `keras.ops.scan`, `associative_scan` and `switch` in forms that ONNX has.

For TensorFlow, Keras keeps what a scan carries in lists of length one, puts the halves of an
associative scan together in branches that depend on their lengths, and has one operation choose
among many branches. While a graph is traced, what is carried is carried by the loop, halves of
known length are put together by one Gather, and every choice is one between two. The numbers are
the same: each step and each pair is computed in Keras' order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from keras import tree
from keras.src.backend import core  # `keras.ops` looks these functions up here


@contextmanager
def plain_control_flow() -> Iterator[None]:
    """Let scans and switches be traced in these forms."""
    functions = core.scan, core.associative_scan, core.switch
    core.scan, core.associative_scan, core.switch = _scan, _associative_scan, switch
    try:
        yield
    finally:
        core.scan, core.associative_scan, core.switch = functions


def _scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """As `keras.ops.scan`; `unroll` changes no number."""
    given = [tf.convert_to_tensor(x) for x in tree.flatten(xs)] if xs is not None else []
    steps = int(length) if length is not None else tf.shape(given[0])[0]
    first = [tf.convert_to_tensor(x) for x in tree.flatten(init)]
    arrays = [
        tf.TensorArray(x.dtype, steps, element_shape=x.shape[1:]).unstack(_turned(x, 0, reverse))
        for x in given
    ]
    results = [tf.TensorArray(x.dtype, steps, element_shape=x.shape) for x in first]

    def step(i: Any, carried: list[Any], results: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        x = tree.pack_sequence_as(xs, [array.read(i) for array in arrays]) if given else None
        after, result = f(tree.pack_sequence_as(init, carried), x)
        if after is not None:
            carried = [_like(*pair) for pair in zip(tree.flatten(after), first, strict=False)]
        if result is not None:
            pairs = zip(results, tree.flatten(result), strict=False)
            results = [array.write(i, y) for array, y in pairs]
        return i + 1, carried, results

    _, carried, results = tf.while_loop(lambda i, *_: i < steps, step, (0, first, results))
    stacked = [_turned(array.stack(), 0, reverse) for array in results]
    return tree.pack_sequence_as(init, carried), tree.pack_sequence_as(init, stacked)


def _like(value: Any, first: tf.Tensor) -> tf.Tensor:
    """What a loop carries keeps its shape."""
    tensor = tf.convert_to_tensor(value)
    tensor.set_shape(first.shape)
    return tensor


def _turned(x: tf.Tensor, axis: int, reverse: bool) -> tf.Tensor:
    return x[(slice(None),) * axis + (slice(None, None, -1),)] if reverse else x


def _associative_scan(
    f: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """As `keras.ops.associative_scan`, over as many as are known."""
    tensors = [tf.convert_to_tensor(x) for x in tree.flatten(elems)]
    lengths = {x.shape[axis] for x in tensors}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            "an associative scan needs one known length of all that it scans. Received lengths "
            f"along axis {axis}: {[x.shape[axis] for x in tensors]}"
        )
    axis %= tensors[0].shape.rank

    def part(x: tf.Tensor, *bounds: int | None) -> tf.Tensor:
        return x[(slice(None),) * axis + (slice(*bounds),)]

    def pairs(some: list[tf.Tensor], others: list[tf.Tensor]) -> list[Any]:
        packed = (tree.pack_sequence_as(elems, flat) for flat in (some, others))
        return tree.flatten(f(*packed))

    def scan(level: list[tf.Tensor]) -> list[tf.Tensor]:
        length = level[0].shape[axis]
        if length < 2:
            return level
        halves = pairs([part(x, 0, -1, 2) for x in level], [part(x, 1, None, 2) for x in level])
        odd = scan([tf.convert_to_tensor(x) for x in halves])
        even = [part(x, 0, 1) for x in level]
        if length > 2:
            before = odd if length % 2 else [part(x, 0, -1) for x in odd]
            later = pairs(before, [part(x, 2, None, 2) for x in level])
            even = [tf.concat(both, axis) for both in zip(even, later, strict=True)]
        places = [i // 2 + (i % 2) * ((length + 1) // 2) for i in range(length)]
        return [
            tf.gather(tf.concat(both, axis), places, axis=axis)
            for both in zip(even, odd, strict=True)
        ]

    scanned = scan([_turned(x, axis, reverse) for x in tensors])
    return tree.pack_sequence_as(elems, [_turned(x, axis, reverse) for x in scanned])


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """As `keras.ops.switch`: the first branch for smaller indices, the last for larger ones."""
    index = tf.convert_to_tensor(index)

    def chosen(start: int, stop: int) -> Any:
        if stop - start == 1:
            return branches[start](*operands)
        middle = (start + stop) // 2
        return tf.cond(index < middle, lambda: chosen(start, middle), lambda: chosen(middle, stop))

    return chosen(0, len(branches))
