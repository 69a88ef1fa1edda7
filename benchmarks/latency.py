"""Latency of our file beside tf2onnx's plain one, and beside Keras itself.

    python benchmarks/latency.py [--seconds S] [--models NAME ...]

The files take turns in one process, so that what slows one slows the other, each in a session of
its own that is gone before the next one is opened: idle threads of another session spin, and take
the cores from the one that is measured. The ratio is the median over the rounds; below 1, ours is
faster. Keras is `model(x)` in a compiled function, and `predict`.
"""

import argparse
import logging
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import onnxruntime
import tensorflow as tf
from _models import BUILDERS, build, by_tf2onnx
from _timing import seconds
from rich.console import Console
from rich.table import Table

from kerasdl import export

BATCHES, THREADS, ROUNDS = (1, 32, 256), (1, 2), 7


def session(file, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def in_turn(calls, limit):
    """Seconds of each call, one list per call, for about so many seconds in all."""
    for call in calls:
        call()
    once = sum(map(seconds, calls))
    rounds = max(5, min(2000, int(limit / once)))
    turns = [[seconds(call) for call in calls] for _ in range(rounds)]
    return list(zip(*turns, strict=True))


def median_seconds(file, x, threads, limit):
    """Of a run, in a session of its own, which runs for about so many seconds."""
    own = session(file, threads)
    feed = {own.get_inputs()[0].name: x}
    (found,) = in_turn([lambda: own.run(None, feed)], limit)
    return statistics.median(found)


def compare(plain, ours, x, threads, limit):
    """Seconds of both files, and the median of their ratio in the same round."""
    part = limit / (2 * ROUNDS)
    pairs = []
    for turn in range(ROUNDS):
        found = {
            file: median_seconds(file, x, threads, part)
            for file in ((plain, ours) if turn % 2 else (ours, plain))
        }
        pairs.append((found[plain], found[ours]))
    theirs, own = zip(*pairs, strict=True)
    ratio = statistics.median(b / a for a, b in zip(theirs, own, strict=True))
    return statistics.median(theirs), statistics.median(own), ratio


def rows(name, folder, limit):
    model = build(name)
    plain, ours = str(folder / "plain.onnx"), str(folder / "ours.onnx")
    by_tf2onnx(model, plain)
    export.to_onnx(model, ours)
    compiled = tf.function(lambda x: model(x, training=False))
    for batch in BATCHES:
        shape = (batch, *model.input_shape[1:])
        if np.prod(shape) > 2e7:
            continue
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        tensor = tf.constant(x)
        called, predicted = map(
            statistics.median,
            in_turn([lambda t=tensor: compiled(t), lambda a=x: model.predict(a, verbose=0)], limit),
        )
        for threads in THREADS:
            theirs, own, ratio = compare(plain, ours, x, threads, limit)
            yield [
                name,
                f"{batch}",
                f"{threads}",
                f"{1e6 * theirs:,.0f} µs",
                f"{1e6 * own:,.0f} µs",
                f"[bold]{ratio:.2f}[/]",
                f"{1e6 * called:,.0f} µs",
                f"{1e6 * predicted:,.0f} µs",
            ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each comparison")
    parser.add_argument("--models", nargs="*", default=list(BUILDERS), choices=list(BUILDERS))
    arguments = parser.parse_args()
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    heads = ("", "batch", "threads", "tf2onnx", "kerasdl", "ratio", "model(x)", "predict")
    table = Table(*heads, title="Latency")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            for row in rows(name, Path(folder), arguments.seconds):
                table.add_row(*row)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
