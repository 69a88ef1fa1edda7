"""Symmetry: units that start alike stay alike, so a hidden layer is worth one unit.

    python examples/symmetry.py [--output FOLDER]

A network with 16 hidden units learns scikit-learn's digits from three initializations. With
zeros nothing reaches the hidden layer; with one constant all units learn the same.
"""

from kerasdl_cli.quiet import quiet_start

with quiet_start():
    import keras

    import kerasdl

import matplotlib.pyplot as plt
import numpy as np
from _pictures import output_folder, save
from sklearn.datasets import load_digits

INITIALIZERS = {
    "zeros": kerasdl.Zeros(),
    "constant 0.1": kerasdl.Constant(0.1),
    "Xavier": kerasdl.XavierNormal(seed=0),
}


def train(initializer):
    """The losses of 30 epochs, and the weights of the hidden units as 8 × 8 images."""
    x, y = load_digits(return_X_y=True)
    hidden = keras.layers.Dense(16, "tanh", kernel_initializer=initializer)
    output = keras.layers.Dense(10, "softmax", kernel_initializer=initializer)
    model = keras.Sequential([keras.Input((64,)), hidden, output])
    model.compile(kerasdl.Adam(0.01), "sparse_categorical_crossentropy", steps_per_execution=16)
    history = model.fit(x / 16 - 0.3, y, batch_size=64, epochs=30, verbose=0)
    return history.history["loss"], hidden.kernel.numpy().T.reshape(16, 8, 8)


def main():
    folder = output_folder(__doc__)
    figure = plt.figure(figsize=(10, 4), layout="constrained")
    curves, pictures = figure.subplots(1, 2, width_ratios=(2, 3))
    strips = []
    for name, initializer in INITIALIZERS.items():
        keras.utils.set_random_seed(0)
        losses, units = train(initializer)
        distinct = len(np.unique(units.round(4), axis=0))
        print(f"{name + ':':<14} {distinct:>2} different units, loss {losses[-1]:.4f}")
        curves.plot(range(1, 31), losses, label=name)
        strips.append(np.pad(units[:8], ((0, 0), (1, 1), (1, 1)), constant_values=np.nan))
    curves.set(xlabel="epoch", ylabel="cross-entropy", title="Loss in training")
    curves.legend()
    rows = np.concatenate([np.concatenate(list(strip), axis=1) for strip in strips])
    image = pictures.imshow(rows, cmap="coolwarm", vmin=-1, vmax=1)
    pictures.set_yticks(np.arange(3) * 10 + 4.5, INITIALIZERS)
    pictures.set(xticks=[], xlabel="unit", title="Weights of 8 hidden units after training")
    figure.colorbar(image, ax=pictures, label="weight", shrink=0.6)
    save(figure, folder / "symmetry.png")


if __name__ == "__main__":
    main()
