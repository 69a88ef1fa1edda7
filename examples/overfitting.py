"""Overfitting: a large network, 300 images with wrong labels, and what helps.

    python examples/overfitting.py [--output FOLDER]

30 % of the labels in training are drawn by lot. The network learns them by heart, and the
validation loss turns; dropout and L2 stand against it.
"""

from kerasdl_cli.quiet import quiet_start

with quiet_start():
    import keras

    import kerasdl

import matplotlib.pyplot as plt
import numpy as np
from _pictures import output_folder, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

FORMS = {"no regularization": {}, "dropout": {"dropout": 0.5}, "L2": {"l2": 3e-3}}


def load_data():
    """(x, y) for training, with wrong labels, and (x, y) for validation, without."""
    x, y = load_digits(return_X_y=True)
    x, x_val, y, y_val = train_test_split(x / 16, y, train_size=300, stratify=y, random_state=0)
    rng = np.random.default_rng(0)
    return (x, np.where(rng.random(300) < 0.3, rng.integers(0, 10, 300), y)), (x_val, y_val)


def train(form):
    """The history of 25 epochs; `cross-entropy` is the loss without the penalty."""
    keras.utils.set_random_seed(0)
    fields = {"units": (256, 256), "activation": "relu", "normalization": False, "dropout": 0.0}
    fields |= {"dropout_placement": "every_block", **form}
    model = kerasdl.DefaultConfiguration(**fields).build((64,), 10)
    loss = keras.losses.SparseCategoricalCrossentropy()
    metric = keras.metrics.SparseCategoricalCrossentropy(name="cross-entropy")
    model.compile(kerasdl.Adam(3e-3), loss, metrics=[metric], steps_per_execution=5)
    training, validation = load_data()
    data = {"validation_data": validation, "validation_batch_size": 1500}
    return model.fit(*training, **data, batch_size=60, epochs=25, verbose=0)


def main():
    folder = output_folder(__doc__)
    figure, grid = plt.subplots(1, 3, figsize=(11, 3.8), sharey=True, layout="constrained")
    for (name, form), ax in zip(FORMS.items(), grid, strict=True):
        history = train(form)
        training, validation = (history.history[p + "cross-entropy"] for p in ("", "val_"))
        print(
            f"{name + ':':<18} training {training[-1]:.4f}, validation {validation[-1]:.4f}, "
            f"best {min(validation):.4f}"
        )
        kerasdl.plot_history(history, "cross-entropy", ax=ax)
        ax.set(title=name, ylim=(0, 2.5))
        ax.label_outer()
    save(figure, folder / "overfitting.png")


if __name__ == "__main__":
    main()
