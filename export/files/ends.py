"""Ends: how the inputs and outputs of a file differ from those of its model.

Names may be others, free axes fixed or named, images may come with their channels first. The file
says so in its metadata, so that it can be compared with the model by anyone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OptionError, shown
from ..ports import Port

if TYPE_CHECKING:
    import onnx_ir as ir

METADATA = "kerasdl_ends"
"""Key of the metadata."""
BATCH = "batch"
"""What the first axis is called where it is free."""
AUTOMATIC = re.compile(r"(keras_tensor|input_layer)(_\d+)?")
"""Names that Keras gives to inputs."""
MOST_NUMBERS = 2**28
"""Of one row or batch of an input; what is more would fill the memory."""


@dataclass(frozen=True)
class Ends:
    """What a file does with the ends of its model.

    Attributes:
        rename: Names in the file, by name in the model.
        channels_first: Inputs of the model that the file takes with the channels behind the batch.
        dimensions: Extents or names of free axes, by the name they have otherwise (`batch`).
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    channels_first: Sequence[str] = ()
    dimensions: Mapping[str, int | str] = field(default_factory=dict)

    def check(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        """Raise OptionError unless this can be done with these ends."""
        _check_names(self.rename, inputs, outputs)
        if isinstance(self.channels_first, str | bytes) or not isinstance(
            self.channels_first, Sequence
        ):
            raise OptionError(
                f"`channels_first` must be a list of names. Received: {shown(self.channels_first)}."
            )
        for name in self.channels_first:
            _check_channels(name, inputs)
        if not isinstance(self.dimensions, Mapping):
            raise OptionError(
                "`dimensions` must map axes to extents or names. "
                f"Received: {shown(self.dimensions)}."
            )
        own, free = _free(inputs), _free([*inputs, *outputs])
        for symbol, value in self.dimensions.items():
            _check_dimension(symbol, value, free)
            if isinstance(value, Integral) and symbol not in own:
                raise OptionError(
                    f"`dimensions` can fix axes of the inputs, {own}; those of the outputs follow "
                    f"from them, and can be given names. Received: {symbol}={value!r}."
                )
        _check_shared(self.dimensions, free)
        for port in inputs:
            _check_size(port, self.fixed(port))

    def fixed(self, port: Port) -> Port:
        """The model's own end, with the extents that are fixed and the names that are given."""
        axes = [self._axis(size, symbol) for size, symbol in port.axes()]
        return replace(
            port,
            shape=tuple(size for size, _ in axes),
            symbols=tuple(symbol for _, symbol in axes),
        )

    def in_file(self, port: Port) -> Port:
        """The end as the file has it."""
        port = self.fixed(port)
        order = _to_channels_first(len(port.shape))
        if port.name in self.channels_first:
            port = replace(
                port,
                shape=tuple(port.shape[axis] for axis in order),
                symbols=tuple(port.symbols[axis] for axis in order),
            )
        return replace(port, name=self.rename.get(port.name, port.name))

    def arrays(self, inputs: Sequence[Port], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Arrays for the model, as the file takes them."""
        return [
            np.ascontiguousarray(np.transpose(array, _to_channels_first(array.ndim)))
            if port.name in self.channels_first
            else array
            for port, array in zip(inputs, arrays, strict=True)
        ]

    def transpose(self, model: ir.Model, inputs: Sequence[Port]) -> None:
        """Let input_0, ... of an ONNX model come with their channels first, in place."""
        for index, port in enumerate(inputs):
            if port.name in self.channels_first:
                _transpose_input(model, f"input_{index}", len(port.shape))

    def metadata(self) -> dict[str, str]:
        """What the file says of names and layouts; its extents are seen."""
        changed = {"rename": dict(self.rename), "channels_first": list(self.channels_first)}
        return {METADATA: json.dumps(changed, sort_keys=True)} if any(changed.values()) else {}

    @classmethod
    def of(
        cls,
        metadata: Mapping[str, str],
        inputs: Sequence[Port] = (),
        present: Sequence[str] = (),
    ) -> Ends:
        """What a file says of its ends.

        Args:
            metadata: Of the file.
            inputs: Those of the model.
            present: The names of the file's inputs.

        Raises:
            OptionError: What it says is damaged.
        """
        return cls._read(metadata)._for_inputs(inputs, present)

    @classmethod
    def _read(cls, metadata: Mapping[str, str]) -> Ends:
        if METADATA not in metadata:
            return cls()
        try:
            read = json.loads(metadata[METADATA])
        except (ValueError, RecursionError) as error:
            raise _damaged(metadata) from error
        match read:
            case {"rename": dict(names), "channels_first": list(turned)}:
                if all(isinstance(name, str) for name in (*names.values(), *turned)):
                    return cls(names, tuple(turned))
        raise _damaged(metadata)

    def _for_inputs(self, inputs: Sequence[Port], present: Sequence[str]) -> Ends:
        """For inputs that nobody named: Keras calls one by its tensor in memory, and by its layer
        once it is loaded. Such inputs stand in the same order."""
        if len(inputs) != len(present):
            return self
        before = {new: old for old, new in self.rename.items()}
        pairs = [
            (before.get(name, name), name, port.name)
            for name, port in zip(present, inputs, strict=True)
        ]
        other = {
            old: (own, name)
            for old, name, own in pairs
            if old != own and AUTOMATIC.fullmatch(old) and AUTOMATIC.fullmatch(own)
        }
        kept = {old: new for old, new in self.rename.items() if old not in other}
        turned = (other[name][0] if name in other else name for name in self.channels_first)
        return replace(self, rename={**kept, **dict(other.values())}, channels_first=tuple(turned))

    def with_extents(self, inputs: Sequence[Port], ends: Iterable[Any]) -> Ends:
        """With the free axes of a model that the inputs of an ONNX graph fix.

        Raises:
            OptionError: What the file says of its inputs does not suit the model's.
        """
        try:
            for name in self.channels_first:
                _check_channels(name, inputs)
        except OptionError as error:
            raise OptionError(
                f"The file's note on its inputs does not suit the model: {error} Is it the file of "
                "another model?"
            ) from error
        given = {end.name: end.type.tensor_type.shape.dim for end in ends}
        if len(given) == len(inputs) == 1:
            given[self.in_file(inputs[0]).name] = next(iter(given.values()))
        fixed: dict[str, int | str] = {}
        for port in map(self.in_file, inputs):
            axes = given.get(port.name, ())
            if len(axes) == len(port.shape):
                for (_, symbol), axis in zip(port.axes(), axes, strict=True):
                    if symbol and axis.dim_value > 0:
                        fixed[symbol] = axis.dim_value
        found = replace(self, dimensions=fixed)
        for port in inputs:
            _check_size(port, found.fixed(port))
        return found

    def names(
        self,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        present_inputs: list[str],
        present_outputs: list[str],
    ) -> tuple[list[str], list[str]]:
        """The file's names for the ends of a model, given those that it has.

        Equal names belong together; a single input or output belongs to the only one there is.

        Raises:
            OptionError: The file has other inputs or outputs than the model.
        """
        return (
            self._matched("inputs", inputs, present_inputs),
            self._matched("outputs", outputs, present_outputs),
        )

    def _matched(self, kind: str, ports: Sequence[Port], present: list[str]) -> list[str]:
        wanted = [self.in_file(port).name for port in ports]
        if len(wanted) == len(present) == 1:
            return present
        if sorted(wanted) == sorted(present):
            return wanted
        raise OptionError(
            f"The ONNX file has the {kind} {present}, the model has {wanted}. "
            "Is it the file of another model?"
        )

    def _axis(self, size: int | None, symbol: str) -> tuple[int | None, str]:
        value = self.dimensions.get(symbol, symbol) if symbol else ""
        return (int(value), "") if isinstance(value, Integral) else (size, str(value))


def _check_names(rename: Any, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    names = [port.name for port in (*inputs, *outputs)]
    if not isinstance(rename, Mapping):
        raise OptionError(f"`rename` must map names to names. Received: {shown(rename)}.")
    for old, new in rename.items():
        if old not in names:
            raise OptionError(
                f"`rename` must name inputs and outputs of the model, {names}. "
                f"Received: {shown(old)}."
            )
        if not isinstance(new, str) or not new.strip() or not new.isprintable():
            raise OptionError(
                "`rename` must give a name that is not empty, of characters that can be printed. "
                f"Received: {shown(new)}."
            )
    after = [rename.get(name, name) for name in names]
    if len(set(after)) < len(set(names)):
        raise OptionError(
            f"`rename` must leave all names different. Received: {shown(dict(rename))}."
        )


def _damaged(metadata: Mapping[str, str]) -> OptionError:
    return OptionError(
        f"The file's note on its inputs and outputs is damaged: {shown(metadata[METADATA])}. "
        "Export it again."
    )


def _check_channels(name: Any, inputs: Sequence[Port]) -> None:
    ranks = {port.name: len(port.shape) for port in inputs}
    if not isinstance(name, str) or ranks.get(name, 0) < 3:
        able = [known for known, rank in ranks.items() if rank >= 3]
        raise OptionError(
            "`channels_first` must name inputs with a batch, space and channels, of which the "
            f"model has {able or 'none'}. Received: {shown(name)}."
        )


def _free(ports: Sequence[Port]) -> list[str]:
    """Names of the free axes."""
    return list(dict.fromkeys(symbol for port in ports for _, symbol in port.axes() if symbol))


def _check_dimension(symbol: str, value: Any, free: Sequence[str]) -> None:
    if symbol not in free:
        raise OptionError(
            f"`dimensions` must name free axes of the model, {free}. Received: {shown(symbol)}."
        )
    named = isinstance(value, str) and value.isidentifier()
    if not named and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
        raise OptionError(
            "`dimensions` must give an extent of at least 1, or a name of letters, digits and "
            f"underscores. Received: {symbol}={shown(value)}."
        )


def _check_shared(dimensions: Mapping[str, int | str], free: Sequence[str]) -> None:
    """Axes of one name have one extent.

    That is for the user to say of each of them, and of a batch it is never so.
    """
    for symbol, value in dimensions.items():
        same = [
            other for other in free if other != symbol and dimensions.get(other, other) == value
        ]
        unsaid = [other for other in same if BATCH in {other, symbol} or other not in dimensions]
        if isinstance(value, str) and (unsaid or value == BATCH != symbol):
            raise OptionError(
                "`dimensions` must give axes of different extents different names, and this is "
                f"that of `{unsaid[0] if unsaid else BATCH}`. Received: {symbol}={value!r}."
            )


def _check_size(port: Port, fixed: Port) -> None:
    """Whether an input whose extents are fixed can be compared in memory."""
    if fixed.shape != port.shape and math.prod(filter(None, fixed.shape)) > MOST_NUMBERS:
        raise OptionError(
            f"An input must have at most {MOST_NUMBERS:,} numbers. Received: {fixed}. "
            "Fix smaller extents."
        )


def _to_channels_first(rank: int) -> list[int]:
    return [0, rank - 1, *range(1, rank - 1)]


def _transpose_input(model: ir.Model, name: str, rank: int) -> None:
    """Put a Transpose behind an input; with one that turns back it cancels."""
    import onnx_ir as ir

    inputs = list(model.graph.inputs)
    old = next((value for value in inputs if value.name == name), None)
    if old is None:
        return  # nothing reads it
    order = _to_channels_first(rank)
    new = ir.Value(name=name, type=old.type)
    back = [0, *range(2, rank), 1]
    turn = ir.node("Transpose", [new], {"perm": back}, name=f"{name}__channels_last")
    turn.outputs[0].name = f"{name}__channels_last"
    turn.outputs[0].type = old.type
    old.replace_all_uses_with(turn.outputs[0])
    old.name = None
    model.graph.inputs[:] = [new if value is old else value for value in inputs]
    model.graph.insert_before(model.graph[0], turn)
    for use in list(turn.outputs[0].uses()):
        if _turns(use.node, order):
            use.node.outputs[0].replace_all_uses_with(new)


def _turns(node: ir.Node, order: Iterable[int]) -> bool:
    """Whether a node does nothing but turn axes to this order, and is no output itself."""
    perm = node.attributes.get("perm")
    return (
        node.op_type == "Transpose"
        and perm is not None
        and list(perm.as_ints()) == list(order)
        and not node.outputs[0].is_graph_output()
    )
