"""Optimizers compared: the same network, data and initial weights.

    python examples/compare_optimizers.py [--output FOLDER]

6 epochs over scikit-learn's digits with mini-batches of 32, each optimizer at a usual rate.
"""

from kerasdl_cli.quiet import quiet_start

with quiet_start():
    import keras

    import kerasdl

import matplotlib.pyplot as plt
from _pictures import output_folder, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS = 6
OPTIMIZERS = {
    "SGD": kerasdl.SGD(0.05),
    "momentum": kerasdl.SGD(0.05, momentum=0.9),
    "Nesterov": kerasdl.SGD(0.05, momentum=0.9, nesterov=True),
    "Adagrad": kerasdl.Adagrad(0.05),
    "RMSprop": kerasdl.RMSprop(0.002),
    "Adam": kerasdl.Adam(0.002),
}


def train(optimizer):
    """The history of a training, validated on a quarter of the images."""
    x, y = load_digits(return_X_y=True)
    x, x_val, y, y_val = train_test_split(x / 16, y, stratify=y, random_state=0)
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(64, "elu", kernel_initializer=kerasdl.HeNormal(seed=0))
    output = keras.layers.Dense(10, "softmax", kernel_initializer=kerasdl.XavierNormal(seed=1))
    model = keras.Sequential([keras.Input((64,)), hidden, output])
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], steps_per_execution=16)
    data = {"x": x, "y": y, "validation_data": (x_val, y_val), "validation_batch_size": 450}
    return model.fit(**data, batch_size=32, epochs=EPOCHS, verbose=0).history


def main():
    folder = output_folder(__doc__)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, optimizer in OPTIMIZERS.items():
        history = train(optimizer)
        print(
            f"{name + ':':<9} loss {history['loss'][-1]:.4f}, "
            f"validation accuracy {history['val_accuracy'][-1]:.4f}"
        )
        left.plot(range(1, EPOCHS + 1), history["loss"], label=name)
        right.plot(range(1, EPOCHS + 1), history["val_accuracy"], label=name)
    left.set(xlabel="epoch", ylabel="cross-entropy", yscale="log", title="Loss in training")
    right.set(xlabel="epoch", ylabel="accuracy", title="Validation", ylim=(0.8, 1.0))
    right.legend()
    save(figure, folder / "compare_optimizers.png")


if __name__ == "__main__":
    main()
