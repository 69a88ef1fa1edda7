"""N3's polynomial: every optimizer takes 100 steps from x = -5, where the local minimum is near.

    python examples/n3_polynomial.py [--output FOLDER]

The global minimum is at 3.27, a hill away. N3's own methods come first.
"""

from kerasdl_cli.quiet import quiet_start

with quiet_start():
    import kerasdl

import matplotlib.pyplot as plt
from _pictures import output_folder, save

from kerasdl import SGD

η = 0.1
OPTIMIZERS = {
    "gradient descent": SGD(η),
    "momentum 0.1": SGD(η, momentum=0.1),
    "momentum 0.9": SGD(η, momentum=0.9),
    "Nesterov 0.9": SGD(η, momentum=0.9, nesterov=True),
    "decay 0.99": SGD(kerasdl.ExponentialDecay(η * 0.99, 1, 0.99)),
    "controlled": kerasdl.GradientControlledSGD(η, c=0.99, compounding=True),
    "Adagrad": kerasdl.Adagrad(η),
    "Adadelta": kerasdl.Adadelta(η),
    "RMSprop": kerasdl.RMSprop(η),
    "Adam": kerasdl.Adam(η),
    "AdamW": kerasdl.AdamW(η),
    "Adamax": kerasdl.Adamax(η),
    "Nadam": kerasdl.Nadam(η),
    "SparseAdam": kerasdl.SparseAdam(η),
    "AdaBound": kerasdl.AdaBound(η, final_lr=η),
    "ASGD": kerasdl.ASGD(η),
    "Ftrl": kerasdl.Ftrl(η),
    "AdagradDA": kerasdl.AdagradDA(η),
    "ProximalSGD": kerasdl.ProximalSGD(η),
    "ProximalAdagrad": kerasdl.ProximalAdagrad(η),
    "Lookahead": kerasdl.Lookahead(kerasdl.Adam(η)),
}


def f(x):
    return 319 / 8400 * x**4 + 43 / 4200 * x**3 - 6799 / 8400 * x**2 - 299 / 840 * x + 6


def main():
    folder = output_folder(__doc__)
    figure, grid = plt.subplots(3, 7, figsize=(12, 6), sharex=True, sharey=True, layout="tight")
    for (name, optimizer), ax in zip(OPTIMIZERS.items(), grid.flat, strict=True):
        kerasdl.plot_trajectory(f, {name: optimizer}, -5.0, bounds=(-6, 6), ax=ax)
        (way,) = [line for line in ax.lines if line.get_label() == name]
        end = way.get_xdata()[-1]
        print(f"{name + ':':<17} {end}")
        ax.get_legend().remove()
        ax.set(title=f"{name}\n{end:.2f}", ylim=(0, 15))
        ax.label_outer()
    save(figure, folder / "n3_polynomial.png")


if __name__ == "__main__":
    main()
