"""The clipping functions by the arguments of an optimizer that ask for them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kerasdl.clipping.by_average_norm import clip_by_average_norm
from kerasdl.clipping.by_global_norm import clip_by_global_norm
from kerasdl.clipping.by_norm import clip_by_norm
from kerasdl.clipping.by_value import clip_by_value

CLIPS: Mapping[str, Callable[[Sequence[Any], float], list[Any]]] = MappingProxyType(
    {
        "clipnorm": clip_by_norm,
        "clipvalue": clip_by_value,
        "global_clipnorm": clip_by_global_norm,
        "average_clipnorm": clip_by_average_norm,
    }
)
