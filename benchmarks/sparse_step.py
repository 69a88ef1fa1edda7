"""Adam on a large embedding table of which a step sees few rows: lazy mode beside Keras.

    python benchmarks/sparse_step.py [--quick] [--rounds N]

Both sides run in the same process, in turn; "times faster" is the median over the pairs. The
rows of a step are random, with repeats, as `tf.IndexedSlices`: alone in a `tf.function`, and
inside `fit` of a model with an `Embedding` layer.
"""

import argparse
import itertools
import os

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

ASKED = 20
WIDTH = 64
ROWS = 1000
BATCH, WORDS = 50, 20


def keras_adam():
    return keras.optimizers.Adam(1e-3, epsilon=1e-7)


def lazy_adam():
    return kerasdl.Adam(1e-3, epsilon=1e-7, lazy=True)


def dense_adam():
    return kerasdl.Adam(1e-3, epsilon=1e-7)


OURS = {"kerasdl, lazy": lazy_adam, "kerasdl, dense": dense_adam}


def some_rows(random, size):
    """Random rows, every tenth of them twice."""
    rows = random.integers(size, size=ROWS)
    rows[::10] = rows[1::10]
    return rows


def step_of(optimizer, size):
    """A call that updates random rows, others in each call; the first call builds."""
    random = np.random.default_rng(0)
    table = keras.Variable(tf.random.stateless_normal((size, WIDTH), (0, 0)))
    values = tf.constant(random.normal(size=(ROWS, WIDTH)), "float32")
    picks = [tf.constant(some_rows(random, size)) for _ in range(16)]

    @tf.function(autograph=False)
    def update(rows):
        optimizer.apply([tf.IndexedSlices(values, rows, (size, WIDTH))])

    turns = itertools.cycle(picks)
    optimizer.build([table])
    return lambda: update(next(turns))


def fit_of(optimizer, size, jit_compile, steps):
    """A call that trains for `steps` steps of ROWS rows, and returns the seconds of one."""
    words = keras.Input((WORDS,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(size, WIDTH)(words))
    model = keras.Model(words, layers.Dense(1)(x))
    model.compile(optimizer, loss="mse", jit_compile=jit_compile)
    random = np.random.default_rng(0)
    x = random.integers(size, size=(steps * BATCH, WORDS)).astype("int32")
    y = random.normal(size=(steps * BATCH, 1)).astype("float32")

    return lambda: epoch_seconds(model, x, y, BATCH) / steps


def columns(times, firsts, asked):
    theirs, ours, ratio = times
    return [
        f"{1e3 * theirs:.2f}",
        f"{1e3 * ours:.2f}",
        f"{1 / ratio:.1f}",
        f"≥ {asked}" if asked else "",
        verdict(1 / ratio >= asked) if asked else "",
        f"{firsts[0]:.2f} → {firsts[1]:.2f} ({firsts[1] - firsts[0]:+.2f})" if firsts else "",
    ]


def step_row(ours, size, rounds, asked):
    calls = step_of(keras_adam(), size), step_of(ours(), size)
    firsts = [seconds(call) for call in calls]
    return columns(paired(*map(sampler, calls), rounds), firsts, asked)


def fit_row(ours, size, jit_compile, rounds):
    slow, fast = 4, 64 if ours is lazy_adam else 4
    samples = (
        fit_of(keras_adam(), size, jit_compile, slow),
        fit_of(ours(), size, jit_compile, fast),
    )
    for sample in samples:
        sample()
    return columns(paired(*samples, rounds), None, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="pairs per row")
    parser.add_argument("--quick", action="store_true", help="a small table, to see that it runs")
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    size = 50_000 if arguments.quick else 1_000_000
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    table = Table(
        "",
        "against Keras",
        *("Keras, ms", "ours, ms", "times faster", "asked", "", "first call, s"),
        title=f"Adam, table of {size:,} × {WIDTH}, {ROWS:,} rows per step",
        title_justify="left",
    )
    for name, ours in OURS.items():
        asked = ASKED if ours is lazy_adam and not arguments.quick else None
        table.add_row("step in a tf.function", name, *step_row(ours, size, rounds, asked))
        for jit_compile in (False, "auto"):
            label = f"fit, jit_compile={jit_compile!r}"
            table.add_row(label, name, *fit_row(ours, size, jit_compile, rounds))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
