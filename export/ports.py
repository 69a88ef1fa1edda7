"""Ports: the named, shaped, typed ends of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Port:
    """One input or output.

    Attributes:
        name: The name the user knows; it is the name in the ONNX file.
        shape: Axes, None where the extent is free.
        dtype: Keras' name of the element type, e.g. `"float32"`.
        symbols: Names of the free axes, "" for the others; none, if they have the usual ones.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    symbols: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{self.extents}"

    @property
    def extents(self) -> str:
        """The axes as text, such as `[batch, 28, 28, 1]`."""
        return f"[{', '.join(symbol or str(size) for size, symbol in self.axes())}]"

    def axes(self) -> list[tuple[int | None, str]]:
        """(extent, symbol) per axis: the first free axis is `batch`, others `<name>_<axis>`."""
        if self.symbols:
            return list(zip(self.shape, self.symbols, strict=True))
        return [
            (
                size,
                "" if size is not None else "batch" if axis == 0 else f"{self.name}_{axis}",
            )
            for axis, size in enumerate(self.shape)
        ]


def agreed(port: Port, known: tuple[int | None, ...]) -> Port:
    """The port with the extents that are known otherwise, where they contradict its own."""
    if len(known) != len(port.shape):
        return Port(port.name, known, port.dtype)
    pairs = zip(port.shape, known, strict=True)
    own = tuple(new if None not in (old, new) else old for old, new in pairs)
    return replace(port, shape=own)


def seen(
    port: Port, shapes: Sequence[tuple[int, ...]], batches: Sequence[int], symbol: str
) -> Port:
    """The port as its arrays are, where they contradict it.

    Args:
        port: The port.
        shapes: Of some arrays.
        batches: The batches that they belong to.
        symbol: Name of the batch's axis.
    """
    if len(set(map(len, shapes))) != 1:
        return port
    known = port if len(port.shape) == len(shapes[0]) else Port(port.name, shapes[0], port.dtype)
    axes: list[tuple[int | None, str]] = []
    for number, (size, name) in enumerate(known.axes()):
        extents = [shape[number] for shape in shapes]
        other = f"{port.name}_{number}"
        if size is not None and {*extents} == {size} and known is port:
            axes.append((size, ""))
        elif size is None and (name != symbol or extents == list(batches)):
            axes.append((None, name))
        elif size is not None and len({*extents}) == 1:
            axes.append((extents[0], ""))
        else:
            axes.append((None, symbol if extents == list(batches) else other))
    return replace(port, shape=tuple(s for s, _ in axes), symbols=tuple(n for _, n in axes))


def is_any_batch(ports: Iterable[Port]) -> bool:
    """Whether no input fixes the size of a batch."""
    return not any(port.shape and port.shape[0] is not None for port in ports)


def unique(names: Iterable[str]) -> list[str]:
    """The same names, later repetitions numbered: a, b, a → a, b, a_1."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, count = name, 0
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        taken.add(candidate)
        result.append(candidate)
    return result
