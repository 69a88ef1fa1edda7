"""What `initialize` returns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerVariance:
    """The output of one layer, before its activation, on the batch.

    Attributes:
        name: Path of the layer, as in the names of its weights.
        before: Variance over batch, positions and channels with the weights it had.
        after: The same with the weights it has now. A layer that no data reached has NaN.
        note: What could not be done, or an empty string.
    """

    name: str
    before: float
    after: float
    note: str = ""


@dataclass(frozen=True)
class InitializationReport:
    """How an initialization went. The weights are in the model.

    Attributes:
        layers: One line per affine layer, in the order in which the data reach them.
        note: What concerns all of them, or an empty string.
    """

    layers: tuple[LayerVariance, ...]
    note: str = ""

    def __str__(self) -> str:
        """Return one line per layer."""
        width = max(len(layer.name) for layer in self.layers)
        lines = [
            f"{layer.name:{width}}  {layer.before:10.4g} -> {layer.after:10.4g}  {layer.note}"
            for layer in self.layers
        ]
        return "\n".join(line.rstrip() for line in [*lines, self.note] if line)
