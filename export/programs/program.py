"""Programs: what an ONNX file is compared with.

A program has named inputs and outputs, runs arrays in float32 or float64, and can be traced by
TensorFlow. `KerasProgram` is a Keras model; `saved_model.SavedModelProgram` a TensorFlow one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from ..errors import ConversionError, SourceError
from ..formats import FLOAT32, Format
from ..graphs.exact import float64
from ..graphs.graph import Graph, Node, Value, flatten_layers
from ..graphs.inference import map_of
from ..graphs.trace import closed_inputs, open_function, trace, without_bfloat16
from ..ports import Port, is_any_batch
from .confusions import Confusions, rows_apart
from .precision import (
    absorbing,
    float64_run,
    in_float32,
    is_narrow,
    refuse_float32,
    refusing_float32,
    widen,
)
from .ranges import Range, range_of
from .released import releasing
from .rounding import distance, move_input, move_results
from .widened import Widened

Arrays = list[np.ndarray]
FREE_EXTENT = 32
"""What a free axis is taken to have where an amount of work is estimated."""


class Program(Protocol):
    """A model as the export sees it."""

    name: str
    inputs: list[Port]
    outputs: list[Port]
    any_batch: bool
    """Whether the model itself takes batches of any size."""

    def run(self, arrays: Arrays) -> Arrays:
        """Outputs as the user sees them, in the model's own precision."""

    def run_float64(self, arrays: Arrays) -> Arrays:
        """Outputs of the same model computed in float64; see `precision.float64_run`."""

    def reaches(
        self, arrays: Arrays, exact: Arrays, rng: np.random.Generator, stored: Format = FLOAT32
    ) -> Iterator[Arrays]:
        """How far rounding moves each number of the outputs `exact`, run after run without end.

        See `rounding.py`.
        """

    def ranges(self) -> dict[str, Range]:
        """What is known of the data, per input name."""

    def parameters(self) -> int:
        """Number of weights."""

    def layer_names(self) -> list[str]:
        """Names of the layers, in the order in which they compute."""

    def calls_of(self, layer: str) -> list[str]:
        """Names of all calls of the layer that is called so in one of them."""

    def has_weights(self, layer: str) -> bool:
        """Whether the layer that is called so in one of its calls has any."""

    def work(self) -> int:
        """About how many numbers the model computes for one row, or how many weights it has."""

    def work_on(self, arrays: Arrays) -> int:
        """How many numbers it computes of these, inside its layers, too."""


class KerasProgram:
    """A Keras model, called as `model(x, training=False)`.

    Attributes:
        by_operations: Whether the layers could not run in float64, so that their operations are.
        confusions: What Keras would have confused in sums.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.graph = without_bfloat16(trace(model))
        self.name = self.graph.name
        self.inputs = self.graph.input_ports
        self.outputs = self.graph.output_ports
        self.any_batch = is_any_batch(self.inputs)
        self.by_operations = False
        self.confusions = Confusions()
        self._operations = Widened(self._call)
        self.round_in(self.graph)
        self._check_inputs()
        self._check_weights()
        self._check_states()

    def run(self, arrays: Arrays) -> Arrays:
        outputs = self._run(arrays)
        if not self.confusions.turned or self.confusions.weights is not None:
            return outputs
        # Beside another one, a row is confused with nothing; what still is, is a weight.
        self.confusions.turned = False
        self._run([x if x.ndim == 0 else np.concatenate([x, x]) for x in arrays])
        self.confusions.weights, self.confusions.turned = self.confusions.turned, True
        return self._run(arrays) if self.confusions.weights else outputs

    def _run(self, arrays: Arrays) -> Arrays:
        with self.apart(), in_float32(flatten_layers(self.model)) as scope:
            before = dict(scope.state_mapping)
            outputs = _flat(self._called(arrays))
            after = scope.state_mapping.items()
            assigned = [key for key, value in after if before.get(key) is not value]
            if assigned and not _equal(outputs, _flat(self._called(arrays))):
                raise self._remembers(assigned)
        for port, y in zip(self.outputs, outputs, strict=True):
            if y.dtype.kind == "c":  # of which Keras' symbolic tensors know nothing
                raise ConversionError(self._is_complex("Output", port))
        return outputs

    def _is_complex(self, kind: str, port: Port) -> str:
        return (
            f"{kind} `{port.name}` of model `{self.name}` is complex, which onnxruntime does not "
            "know. Build the model with its real and its imaginary part instead; layers may "
            "compute with complex numbers."
        )

    def _remembers(self, assigned: Sequence[int]) -> ConversionError:
        """The error of a model whose outputs are others each time it is called."""
        for layer in flatten_layers(self.model):
            own = [*layer._trainable_variables, *layer._non_trainable_variables]
            named = [variable.name for variable in own if id(variable) in assigned]
            if named:
                return ConversionError(
                    f"Layer `{layer.name}` ({type(layer).__name__}) assigns to `{named[0]}` in "
                    "each call, and gives other outputs in the next one, which an ONNX file "
                    "cannot. Make what it remembers an input and an output of the model.",
                    layer.name,
                )
        return ConversionError(f"Model `{self.name}` gives other outputs in each call.")

    def apart(self) -> AbstractContextManager[None]:
        """Lets rows be rows, whatever their number, unless the model itself fixes that."""
        return rows_apart(self.confusions) if self.any_batch else nullcontext()

    @property
    def narrow(self) -> bool:
        """Whether some layers compute in bfloat16, and here in float32."""
        return any(map(is_narrow, flatten_layers(self.model)))

    def run_float64(self, arrays: Arrays) -> Arrays:
        if not self.by_operations:
            try:
                return self._layers_in_float64(arrays)
            # A custom layer may refuse float64 in any way it likes.
            except Exception:  # noqa: BLE001
                self.by_operations = True
        return self._operations(arrays)

    def _layers_in_float64(self, arrays: Arrays) -> Arrays:
        wide = [widen(array) for array in arrays]
        operations = [node.operation for node in self.graph.nodes]
        with self.apart(), float64_run(flatten_layers(self.model)):
            with refusing_float32(operations) as unseen:
                outputs = self._called(wide)
            if unseen:
                self.graph(*self._first_row(wide), after=_refuse_float32)
        return [np.asarray(keras.ops.convert_to_numpy(y)) for y in tree.flatten(outputs)]

    def _first_row(self, arrays: Arrays) -> Arrays:
        """The first row, or all where rows are not the batch's."""
        rows = self.any_batch and all(port.shape for port in self.inputs)
        return [array[:1] for array in arrays] if rows else arrays

    def _call(self, *tensors: Any) -> list[Any]:
        layers = flatten_layers(self.model)
        with self.apart(), in_float32(layers), absorbing(layers):
            return list(tree.flatten(self._called(tensors)))

    def _called(self, tensors: Sequence[Any]) -> Any:
        with releasing():
            return self.model(self._packed(tensors), training=False)

    def round_in(self, graph: Graph) -> None:
        """Let products be rounded where this form of the model has them, as a file that is made of
        it does: what was folded into a product in one with it."""
        # Operations of a graph are named after their layers.
        names = [node.name for node in graph.nodes]
        self._operations_of_layers = Widened(partial(self._in_graph, graph), names)

    def _in_graph(self, graph: Graph, *tensors: Any) -> list[Any]:
        both = [*flatten_layers(self.model), *graph.layers()]
        layers = list({id(layer): layer for layer in both}.values())
        with self.apart(), in_float32(layers), absorbing(layers):
            return graph(*tensors)

    def reaches(
        self, arrays: Arrays, exact: Arrays, rng: np.random.Generator, stored: Format = FLOAT32
    ) -> Iterator[Arrays]:
        # What int8 rounds, the factors of products, only operations show.
        if stored.results.steps:
            exact = self._operations_of_layers(arrays)
            return self._operations_of_layers.reaches(arrays, exact, rng, stored)
        if self.by_operations:
            return self._operations.reaches(arrays, exact, rng, stored)
        return self._reaches(arrays, exact, rng, stored)

    def _reaches(
        self, arrays: Arrays, exact: Arrays, rng: np.random.Generator, stored: Format
    ) -> Iterator[Arrays]:
        """Of the graph against itself: where it computes something else, that is no rounding."""

        def move(node: Node, given: list[Any], results: list[Any]) -> list[Any]:
            return move_results(node, given, results, rng, stored)

        wide = [widen(array) for array in arrays]
        rounded = [self._is_rounded(value, stored) for value in self.graph.inputs]

        def given() -> Arrays:
            pairs = zip(wide, rounded, strict=True)
            return [move_input(x, rng, stored) if moves else x for x, moves in pairs]

        layers = flatten_layers(self.model)
        try:
            with self.apart(), float64_run(layers):
                still = self._still(wide, exact)
        # As in `run_float64`: the model may do what its graph does not.
        except Exception:  # noqa: BLE001
            yield from self._operations.reaches(arrays, self._operations(arrays), rng, stored)
        while True:
            with self.apart(), float64_run(layers, perturb=rng, stored=stored):
                moved = self.graph(*given(), after=move)
            yield [distance(a, b) for a, b in zip(moved, still, strict=True)]

    def _is_rounded(self, value: Value, stored: Format) -> bool:
        """Whether a file rounds an input: not where it is first made to fit into its numbers."""
        maps = [map_of(node) for node in self.graph.consumers(value)]
        return any(one is None or stored.holds(one.scale, one.shift) for one in maps)

    def _still(self, arrays: Arrays, exact: Arrays) -> Arrays:
        """What the graph computes: `exact`, if that is so of the first row."""
        first = self._first_row(arrays)
        if first is not arrays:
            found = [np.asarray(y) for y in self.graph(*first)]
            if all(map(_begins, exact, found)):
                return exact
        return self.graph(*arrays)

    def parameters(self) -> int:
        return int(self.model.count_params())

    def layer_names(self) -> list[str]:
        return [node.name for node in self.graph.nodes]

    def calls_of(self, layer: str) -> list[str]:
        operation = self._operation(layer)
        return [node.name for node in self.graph.nodes if node.operation is operation]

    def has_weights(self, layer: str) -> bool:
        return bool(getattr(self._operation(layer), "weights", ()))

    def _operation(self, layer: str) -> Any:
        return next(node.operation for node in self.graph.nodes if node.name == layer)

    def work(self) -> int:
        values = [value for node in self.graph.nodes for value in node.outputs]
        return max(self.parameters(), sum(_size(value.shape[1:]) for value in values))

    def work_on(self, arrays: Arrays) -> int:
        return self._operations.work(arrays)

    def ranges(self) -> dict[str, Range]:
        """What the layers that read an input know of it."""
        layers = flatten_layers(self.model)
        return {
            port.name: range_of(port, [node.operation for node in readers], layers)
            for port, value in zip(self.inputs, self.graph.inputs, strict=True)
            for readers in [self.graph.consumers(value)]
        }

    def _packed(self, arrays: Sequence[Any]) -> Any:
        tensors = [tf.convert_to_tensor(array) for array in arrays]
        function = open_function(self.model)
        structure = closed_inputs(self.model) if function is None else function._inputs_struct
        return tree.pack_sequence_as(structure, tensors)

    def _check_inputs(self) -> None:
        """Raises SourceError for inputs that are complex, or that Keras would round to bfloat16."""
        for port in self.inputs:
            if "complex" in port.dtype:
                raise SourceError(self._is_complex("Input", port))
        function = open_function(self.model)
        for tensor in () if function is None else function.inputs:
            if tensor.dtype == "bfloat16":
                raise SourceError(
                    f"Input `{tensor.name}` of model `{self.name}` is bfloat16, which onnxruntime "
                    "does not take. Build the model with a float32 input; its layers may compute "
                    "in bfloat16."
                )

    def _check_weights(self) -> None:
        """Raises SourceError if a weight is not finite: no comparison could say anything."""
        for layer in flatten_layers(self.model):
            if isinstance(layer, keras.layers.BatchNormalization) and layer.built:
                least = float(np.min(float64(layer.moving_variance), initial=0.0))
                if least + layer.epsilon < 0:
                    raise SourceError(
                        f"Layer `{layer.name}`: the moving variance must not be negative, since "
                        f"its root is taken. Received: {least:g} at the least. Train the model "
                        "again, or restore weights from before it went wrong."
                    )
            for variable in getattr(layer, "_trainable_variables", []) + getattr(
                layer, "_non_trainable_variables", []
            ):
                if "float" not in keras.backend.standardize_dtype(variable.dtype):
                    continue
                bad = int(np.sum(~np.isfinite(float64(variable))))
                if bad:
                    raise SourceError(
                        f"Layer `{layer.name}`: {bad} of {int(np.prod(variable.shape))} values "
                        f"of `{variable.name}` are NaN or infinite. Train the model again, or "
                        "restore weights from before it diverged."
                    )

    def _check_states(self) -> None:
        """Raises ConversionError for layers that remember the batch before."""
        for layer in flatten_layers(self.model):
            if getattr(layer, "stateful", False):
                raise ConversionError(
                    f"Layer `{layer.name}` ({type(layer).__name__}, stateful=True) keeps its state "
                    "from batch to batch, which an ONNX file cannot. Build the model with "
                    "stateful=False, or with the state as an input and an output.",
                    layer.name,
                )


def plain(tensor: Any) -> np.ndarray:
    """The numbers of a tensor; bfloat16, which NumPy lacks, in float32."""
    array = np.asarray(keras.ops.convert_to_numpy(tensor))
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _flat(outputs: Any) -> Arrays:
    return [plain(y) for y in tree.flatten(outputs)]


def _equal(some: Arrays, others: Arrays) -> bool:
    pairs = zip(some, others, strict=True)
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def _refuse_float32(node: Node, _: list[Any], results: list[Any]) -> list[Any]:
    refuse_float32(node.operation, results)
    return results


def _begins(whole: np.ndarray, first: np.ndarray) -> bool:
    """Whether a result begins with this one, to nearly all digits of float64."""
    if whole.ndim == 0 or whole[:1].shape != first.shape or whole.dtype != first.dtype:
        return False
    if whole.dtype.kind != "f":
        return np.array_equal(whole[:1], first)
    close = 1e-11 * np.max(np.abs(first), initial=0.0, where=np.isfinite(first))
    return np.allclose(whole[:1], first, rtol=0, atol=close, equal_nan=True)


def _size(shape: Sequence[int | None]) -> int:
    """Elements of a shape, whose free axes count as some images' or texts' would."""
    return math.prod(FREE_EXTENT if extent is None else extent for extent in shape)
