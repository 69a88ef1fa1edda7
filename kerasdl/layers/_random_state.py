"""Layers without weights whose random generator is saved with the model."""

from typing import Any

import keras


class SavedRandomState:
    """Mixin of a layer that draws from `self.seed_generator`, if it draws at all.

    A `.keras` file of Keras' own layers forgets how far their generators have come, so that a
    training that continues from the file draws other numbers than the uninterrupted one.
    """

    def save_own_variables(self, store: Any) -> None:
        """Save the state of the random generator. Called by Keras."""
        generator = getattr(self, "seed_generator", None)
        if generator is not None:
            store["random_state"] = keras.ops.convert_to_numpy(generator.state)

    def load_own_variables(self, store: Any) -> None:
        """Restore it, if the file has it. Called by Keras."""
        generator = getattr(self, "seed_generator", None)
        if generator is not None and "random_state" in store.keys():  # noqa: SIM118 (no `in`)
            generator.state.assign(store["random_state"])
