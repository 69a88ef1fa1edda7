"""Batch normalization at test time: moving averages against statistics of the population.

    python examples/batch_statistics.py [--output FOLDER]

After 16 steps of training the moving averages still remember the start; N2's estimate looks at
the training data once more, at the weights as they are.
"""

from kerasdl_cli.quiet import quiet_start

with quiet_start():
    import keras

    import kerasdl

import matplotlib.pyplot as plt
from _pictures import output_folder, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

STEPS, ROUNDS, BATCH = 16, 12, 64


def train():
    """Test accuracies with both statistics, after every 16 steps."""
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, stratify=y, random_state=0)
    configuration = kerasdl.DefaultConfiguration(statistics="population", dropout=0.0)
    model = configuration.build((64,), 10)
    batches = STEPS * BATCH
    moving, population = [], []
    for _ in range(ROUNDS):
        model.fit(x[:batches], y[:batches], batch_size=BATCH, verbose=0)
        moving.append(model.evaluate(x_test, y_test, verbose=0)[1])
        averages = model.get_weights()
        kerasdl.estimate_population_statistics(model, x[:batches], batch_size=BATCH)
        population.append(model.evaluate(x_test, y_test, verbose=0)[1])
        model.set_weights(averages)
    return moving, population


def main():
    folder = output_folder(__doc__)
    keras.utils.set_random_seed(0)
    moving, population = train()
    for name, accuracies in (("moving", moving), ("population", population)):
        print(
            f"{name + ':':<11} after {STEPS} steps {accuracies[0]:.4f}, "
            f"after {STEPS * ROUNDS} {accuracies[-1]:.4f}"
        )
    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    steps = range(STEPS, STEPS * ROUNDS + 1, STEPS)
    ax.plot(steps, moving, ".-", label="moving averages")
    ax.plot(steps, population, ".-", label="population")
    ax.set(xlabel="training steps", ylabel="test accuracy", title="Statistics at test time")
    ax.legend(loc="lower right")
    save(figure, folder / "batch_statistics.png")


if __name__ == "__main__":
    main()
