"""What the normal initializers share: a normal that is whole unless it is asked to be cut."""

from collections.abc import Sequence
from typing import Any, Literal

from kerasdl._checks import require
from kerasdl.initializers.scaling import Scaling


class NormalScaling(Scaling):
    """W ~ N(0, scale / n), n the fan-in or the mean of fan-in and fan-out.

    With `truncated=True` the normal is cut at two of its own standard deviations and widened
    beforehand, so that the standard deviation of what is drawn is the same in both forms.
    """

    def __init__(
        self,
        scale: float,
        mode: Literal["fan_in", "fan_avg"],
        seed: Any = None,
        truncated: bool = False,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        require(
            isinstance(truncated, bool),
            "truncated",
            truncated,
            "True or False",
            "Pass True to draw no value beyond two standard deviations.",
        )
        self.truncated = truncated
        distribution = "truncated_normal" if truncated else "untruncated_normal"
        super().__init__(scale, mode, distribution, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments that the subclasses have in common."""
        return {**super().get_config(), "truncated": self.truncated}
