"""The Default Configuration's search space, in KerasTuner's terms. Imports KerasTuner."""

from collections.abc import Mapping
from typing import Any

import keras
import keras_tuner

from kerasdl.defaults.configuration import DefaultConfiguration


class SearchSpace(keras_tuner.HyperModel):
    """Fields that are not fixed are asked of KerasTuner.

    Args:
        build: Arguments of `DefaultConfiguration.build`.
        fields: The fixed fields.
        name: Name of the models.
    """

    def __init__(
        self, build: Mapping[str, Any], fields: Mapping[str, Any], name: str | None
    ) -> None:
        super().__init__(name=name)
        self._build_arguments = build
        self._fields = fields

    def build(self, hp: Any) -> keras.Model:
        """Return the compiled model for KerasTuner's choice."""
        model = self.configuration(hp).build(**self._build_arguments, name=self.name)
        # Else KerasTuner cannot load the optimizer's state, with which it saved the weights.
        model.optimizer.build(model.trainable_variables)
        return model

    def configuration(self, hp: Any) -> DefaultConfiguration:
        """Return the configuration for KerasTuner's choice."""
        return DefaultConfiguration(**self._searched(hp), **self._fields)

    def _searched(self, hp: Any) -> dict[str, Any]:
        fixed, found = self._fields, {}
        sizes = "units" if len(self._build_arguments["input_shape"]) == 1 else "filters"
        if sizes not in fixed:
            found[sizes] = _units(hp) if sizes == "units" else _filters(hp)
        if "dropout" not in fixed:
            found["dropout"] = hp.Float("dropout", 0.2, 0.5, step=0.1, default=0.5)
        if not {"l2", "regularizer"} & fixed.keys():
            found["l2"] = hp.Choice("l2", [0.0, 1e-5, 1e-4, 1e-3])
        if "learning_rate" not in fixed and isinstance(fixed.get("optimizer", ""), str):
            found["learning_rate"] = hp.Float(
                "learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3
            )
        return found


def _units(hp: Any) -> tuple[int, ...]:
    width = hp.Choice("width", [32, 64, 128, 256, 512], default=128)
    return tuple(width // 2**block for block in range(_blocks(hp)))


def _filters(hp: Any) -> tuple[int, ...]:
    width = hp.Choice("width", [16, 32, 64], default=32)
    return tuple(width * 2**block for block in range(_blocks(hp)))


def _blocks(hp: Any) -> int:
    return int(hp.Int("blocks", 1, 3, default=2))
