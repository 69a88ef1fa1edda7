"""Signals that vanish and explode: 50 layers, four activations, four initializations.

    python examples/signals.py [--output FOLDER]

The root mean square of the pre-activations z of every layer, over 64 samples of normal inputs.
"""

from kerasdl_cli.quiet import quiet_start

with quiet_start():
    import keras

    import kerasdl

import matplotlib.pyplot as plt
import numpy as np
from _pictures import output_folder, save
from keras import ops

DEPTH, WIDTH = 50, 256
EXACT = "variance-preserving"
INITIALIZERS = {
    "σ = 0.01": lambda activation, seed: kerasdl.RandomNormal(stddev=0.01, seed=seed),
    "Xavier": lambda activation, seed: kerasdl.XavierNormal(seed=seed),
    "He": lambda activation, seed: kerasdl.HeNormal(seed=seed),
    EXACT: lambda activation, seed: kerasdl.VariancePreserving(activation, seed=seed),
}


def sizes(activation, make):
    """√E[z²] of every layer."""
    φ = keras.activations.get(activation)
    y = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(64, WIDTH)), "float32")
    found = []
    for layer in range(DEPTH):
        z = ops.matmul(y, make(activation, layer)((WIDTH, WIDTH)))
        found.append(float(ops.sqrt(ops.mean(ops.square(z)))))
        y = φ(z)
    return found


def main():
    folder = output_folder(__doc__)
    figure, grid = plt.subplots(1, 4, figsize=(12, 3.6), sharey=True, layout="constrained")
    for activation, ax in zip(("linear", "relu", "elu", "tanh"), grid, strict=True):
        for name, make in INITIALIZERS.items():
            found = sizes(activation, make)
            print(f"{activation:<7} {name + ':':<20} {found[0]:.3g} -> {found[-1]:.3g}")
            ax.plot(range(1, DEPTH + 1), found, "--" if name == EXACT else "-", label=name)
        ax.set(title=activation, xlabel="layer", yscale="log", ylim=(1e-6, 1e6))
    grid[0].set_ylabel("root mean square of z")
    grid[0].legend()
    save(figure, folder / "signals.png")


if __name__ == "__main__":
    main()
