"""The update step and the `fit` step beside keras.optimizers, and torch where installed.

    python benchmarks/optimizer_step.py [--quick] [--all] [--rounds N]

Both sides run in the same process, in turn, with the same options; a ratio is the median over
the pairs. torch runs alone, in a process of its own. "First" is the first step of a fresh
optimizer: its slots, the trace and the compilation.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf
from _timing import epoch_seconds, paired, sampler, seconds, verdict
from keras import layers
from rich.console import Console
from rich.table import Table

import kerasdl

LARGE, SMALL, FIT, BUILDER, MONITOR = 0.55, 0.8, 0.9, 0.55, 1.03
FIRST = 0.5
SAME = 1e-3
BATCH = 32

# Our options name the variant that Keras has; torch has the same rules, or nearly.
ADAPTIVE = {"epsilon": 1e-7}
ALGORITHMS = {
    "Adam": ("Adam", ADAPTIVE, {}),
    "SGD, momentum": ("SGD", {"momentum": 0.9}, {}),
    "RMSprop": ("RMSprop", ADAPTIVE, {}),
    "SGD": ("SGD", {}, {}),
    "Adagrad": (
        "Adagrad",
        {"initial_accumulator_value": 0.1} | ADAPTIVE,
        {"epsilon_position": "inside"},
    ),
    "AdamW": ("AdamW", {"weight_decay": 0.004} | ADAPTIVE, {}),
    "Adamax": ("Adamax", ADAPTIVE, {}),
    "Nadam": ("Nadam", ADAPTIVE, {"averaging": "constant", "schedule_decay": 1.0}),
}
USUAL = ("Adam", "SGD, momentum", "RMSprop")

SHAPES = {
    "1 of 2048 × 2048": (LARGE, [(2048, 2048)]),
    "4 of 1024 × 1024": (LARGE, [(1024, 1024)] * 4),
    "80 small": (SMALL, [(32, 32), (32,)] * 40),
    "80 small, all different": (
        SMALL,
        [shape for i in range(40) for shape in ((16 + i, 24 + i), (16 + i,))],
    ),
}

TORCH = """
import json
import statistics
import sys

import torch
from _timing import sampler, without_gc

def milliseconds(name, options, shapes, rounds):
    variables = [torch.randn(shape, requires_grad=True) for shape in shapes]
    for variable in variables:
        variable.grad = torch.randn_like(variable)
    optimizer = getattr(torch.optim, name)(variables, lr=1e-3, foreach=True, **options)
    optimizer.step()
    sample = sampler(optimizer.step)
    with without_gc():
        return 1e3 * statistics.median(sample() for _ in range(rounds))

print(json.dumps([milliseconds(*case) for case in json.load(sys.stdin)]))
"""
TORCH_NAMES = {"Nadam": "NAdam"}
TORCH_OPTIONS = {"epsilon": "eps"}


class Side:
    """One optimizer and its variables; `step` updates them all by the same gradients."""

    def __init__(self, module, name, options, shapes, jit_compile):
        normal = np.random.default_rng(0).normal
        self.starts = [normal(size=shape).astype("float32") for shape in shapes]
        self.gradients = [tf.constant(normal(size=shape), "float32") for shape in shapes]
        self.variables = [keras.Variable(start) for start in self.starts]
        self.optimizer = getattr(module, name)(learning_rate=1e-3, **options)
        self.step = tf.function(self._apply, jit_compile=jit_compile, autograph=False)

    def _apply(self):
        self.optimizer.apply(self.gradients)

    def first(self):
        self.optimizer.build(self.variables)
        self.step()


def movements(side):
    pairs = zip(side.variables, side.starts, strict=True)
    return np.concatenate([(variable.numpy() - start).ravel() for variable, start in pairs])


def same(theirs, ours):
    """Whether both have moved alike, so that the times are those of the same work."""
    expected, found = movements(theirs), movements(ours)
    return np.abs(found - expected).mean() <= SAME * np.abs(expected).mean()


def update(name, shapes, jit_compile, rounds):
    """First seconds of both, then `paired`."""
    keras_name, options, own = ALGORITHMS[name]
    theirs = Side(keras.optimizers, keras_name, options, shapes, jit_compile)
    ours = Side(kerasdl, keras_name, options | own, shapes, jit_compile)
    firsts = seconds(theirs.first), seconds(ours.first)
    for side in (theirs, ours, theirs, ours):
        side.step()
    if not same(theirs, ours):
        print(f"{name}: the two sides differ, the times compare unlike work", file=sys.stderr)
    return firsts, paired(sampler(theirs.step), sampler(ours.step), rounds)


def first_columns(firsts):
    theirs, ours = firsts
    numbers = f"{theirs:.2f} → {ours:.2f} ({ours - theirs:+.2f})"
    return [numbers, verdict(ours - theirs <= FIRST)]


def columns(firsts, times, asked):
    theirs, ours, ratio = times
    return [
        f"{1e3 * theirs:.3f}",
        f"{1e3 * ours:.3f}",
        f"{ratio:.2f}",
        f"≤ {asked}",
        verdict(ratio <= asked),
        *first_columns(firsts),
    ]


def heading(title, *names):
    own = ["kerasdl, ms", "ratio", "asked", "", "first, s", ""]
    table = Table(*names, "Keras, ms", *own, title=title, title_justify="left")
    for column in table.columns[len(names) : len(names) + 4]:
        column.justify = "right"
    return table


def torch_times(cases, rounds):
    """torch's milliseconds of every case; None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    requests = []
    for name, shapes in cases:
        keras_name, options, _ = ALGORITHMS[name]
        options = {TORCH_OPTIONS.get(key, key): value for key, value in options.items()}
        if keras_name == "RMSprop":
            options["alpha"] = 0.9
        requests.append((TORCH_NAMES.get(keras_name, keras_name), options, shapes, rounds))
    words = [sys.executable, "-c", TORCH]
    result = subprocess.run(
        words,
        check=True,
        input=json.dumps(requests),
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    return json.loads(result.stdout)


def warm_up(kinds):
    """The first function and the first compilation of a process start TensorFlow itself."""
    for jit_compile in kinds:
        for module in (keras.optimizers, kerasdl):
            Side(module, "Adam", {}, [(3, 5)], jit_compile).first()


def updates(names, shapes, kinds, rounds):
    warm_up(kinds)
    cases, rows = [], []
    for jit_compile in kinds:
        for name in names:
            for size in shapes:
                asked, sizes = SHAPES[size]
                firsts, times = update(name, sizes, jit_compile, rounds)
                cases.append((name, sizes))
                kind = "XLA" if jit_compile else "plain"
                rows.append([kind, name, size, *columns(firsts, times, asked)])
    torch = torch_times(cases, rounds)
    table = heading("Update step", "tf.function", "", "variables")
    if torch is None:
        table.caption = "torch is not installed: its column is left out."
    else:
        table.add_column("torch, ms", justify="right")
        rows = [[*row, f"{time:.3f}"] for row, time in zip(rows, torch, strict=True)]
    for row in rows:
        table.add_row(*row)
    return table


def data(samples):
    random = np.random.default_rng(0)
    x = random.normal(size=(samples, 64)).astype("float32")
    return x, random.integers(10, size=samples)


def fit(model, steps, callbacks=(), epochs=1):
    """Seconds per step of the last epoch."""
    x, y = data(steps * BATCH)
    return epoch_seconds(model, x, y, BATCH, callbacks, epochs) / steps


def compiled(model, optimizer, **settings):
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        **settings,
    )
    return model


def default_layers(width):
    return kerasdl.default_model((64,), 10, units=(width, width))


def same_layers(width, jit_compile):
    """The default configuration's layers twice: only the optimizer differs."""
    first, second = default_layers(width), default_layers(width)
    second.set_weights(first.get_weights())
    return (
        compiled(first, keras.optimizers.Adam(1e-3, epsilon=1e-7), jit_compile=jit_compile),
        compiled(second, kerasdl.Adam(1e-3, epsilon=1e-7), jit_compile=jit_compile),
    )


def plain_keras(width):
    """The layers of the default configuration, as a user of Keras alone writes them."""
    x = inputs = keras.Input((64,))
    for _ in range(2):
        x = layers.Dense(width, use_bias=False, kernel_initializer="he_normal")(x)
        x = layers.Activation("elu")(layers.BatchNormalization()(x))
    outputs = layers.Dense(10, activation="softmax")(layers.Dropout(0.5)(x))
    return compiled(keras.Model(inputs, outputs), keras.optimizers.Adam(1e-3))


def as_built(width):
    return plain_keras(width), default_layers(width)


def fit_row(models, steps, rounds, asked):
    theirs, ours = models
    firsts = [seconds(lambda model=model: fit(model, 1)) for model in models]
    for model in models:
        fit(model, steps)
    times = paired(lambda: fit(theirs, steps), lambda: fit(ours, steps), rounds)
    return columns(firsts, times, asked)


def fits(widths, kinds, steps, rounds):
    """Each kind is a label, a maker of two models, and the asked ratio."""
    table = heading(f"Step of fit, batch of {BATCH}, default configuration", "", "units")
    fit(compiled(plain_keras(8), keras.optimizers.Adam()), 1)
    for label, make, asked in kinds:
        for width in widths:
            row = fit_row(make(width), steps, rounds, asked)
            table.add_row(label, f"{width}, {width}", *row)
    return table


def monitored(widths, steps, rounds):
    """What `OptimizerMonitor` costs: the same model with it, against without."""
    table = Table(title="Step of fit with OptimizerMonitor")
    for name in ("units", "without, ms", "with, ms", "ratio", "asked", ""):
        table.add_column(name, justify="left" if name == "units" else "right")
    for width in widths:
        plain, watched = (
            compiled(default_layers(width), kerasdl.Adam(clipnorm=1.0)) for _ in range(2)
        )
        callbacks = [kerasdl.OptimizerMonitor()]
        # The callback has the step traced again: the second epoch shows what it costs.
        watch = partial(fit, watched, steps, callbacks, epochs=2)
        bare = partial(fit, plain, steps, epochs=2)
        without, with_it, ratio = paired(bare, watch, rounds)
        numbers = (f"{1e3 * without:.2f}", f"{1e3 * with_it:.2f}", f"{ratio:.3f}")
        table.add_row(f"{width}, {width}", *numbers, f"≤ {MONITOR}", verdict(ratio <= MONITOR))
    return table


ONLY_OPTIMIZER = ("only Adam differs", partial(same_layers, jit_compile="auto"), FIT)
AS_BUILT = ("as built, against plain Keras", as_built, BUILDER)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="pairs per row")
    parser.add_argument("--all", action="store_true", help="all the optimizers both have")
    parser.add_argument("--quick", action="store_true", help="a few rows, to see that it runs")
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    console = Console(width=130)
    if arguments.quick:
        rounds = arguments.rounds or 3
        sizes = ("1 of 2048 × 2048", "80 small")
        console.print(updates(ALGORITHMS if arguments.all else ["Adam"], sizes, [False], rounds))
        console.print(fits([128], [ONLY_OPTIMIZER, AS_BUILT], 32, rounds))
        return
    rounds = arguments.rounds or 9
    names = ALGORITHMS if arguments.all else USUAL
    console.print(updates(names, SHAPES, [False, True], rounds))
    console.print(fits([32, 128, 512], [ONLY_OPTIMIZER, AS_BUILT], 192, rounds))
    console.print(monitored([32, 128, 512], 192, rounds))


if __name__ == "__main__":
    main()
