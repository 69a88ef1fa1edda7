"""Batch normalization before and after the activation, for two activations.

    python examples/normalization_placement.py [--output FOLDER]

N0 puts it before ReLU-like activations and after s-shaped ones. Four hidden layers learn
scikit-learn's digits, from one initialization.
"""

from kerasdl_cli.quiet import quiet_start

with quiet_start():
    import keras

    import kerasdl

import matplotlib.pyplot as plt
from _pictures import output_folder, save
from sklearn.datasets import load_digits

EPOCHS = 5
PLACES = {
    "before": {"normalization_placement": "before"},
    "after": {"normalization_placement": "after"},
    "none": {"normalization": False},
}


def train(activation, place):
    """The losses of a training."""
    x, y = load_digits(return_X_y=True)
    keras.utils.set_random_seed(0)
    fields = {"units": (48,) * 4, "dropout": 0.0, "learning_rate": 0.01, **place}
    initializer = kerasdl.initializer_for(activation, seed=0)
    fields |= {"activation": activation, "initialization": initializer}
    model = kerasdl.DefaultConfiguration(**fields).build((64,), 10)
    return model.fit(x / 16, y, batch_size=64, epochs=EPOCHS, verbose=0).history["loss"]


def main():
    folder = output_folder(__doc__)
    figure, grid = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for activation, ax in zip(("relu", "sigmoid"), grid, strict=True):
        for name, place in PLACES.items():
            losses = train(activation, place)
            print(f"{activation:<8} {name + ':':<7} {losses[-1]:.4f}")
            ax.plot(range(1, EPOCHS + 1), losses, label=name)
        ax.set(xlabel="epoch", title=activation, xticks=range(1, EPOCHS + 1), yscale="log")
    grid[0].set_ylabel("cross-entropy")
    grid[0].legend(title="normalization")
    save(figure, folder / "normalization_placement.png")


if __name__ == "__main__":
    main()
