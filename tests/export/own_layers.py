"""Layers of a user's own."""

from keras import layers


class Computing(layers.Layer):
    """Any function of a tensor; without `get_config`, so that Keras cannot save it."""

    def __init__(self, function, **keywords):
        super().__init__(**keywords)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)
