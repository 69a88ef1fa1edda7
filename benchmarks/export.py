"""Our export beside tf2onnx alone and `Model.export`: time, added memory, nodes, size.

    python benchmarks/export.py [--rounds N] [--models NAME ...] [--no-memory]

All convert the same models in the same process, in turn. Our time is shown without the proof (runs
in float32 and float64 and the comparison in onnxruntime) and the latency that the report tells, the
proof by itself, and the whole; the others neither prove nor measure anything. Memory is the
largest resident size above that before the export, measured in a process for each, with our
proof left out, as a multiple of the weights; of models with less than 10 MB it would say nothing.
"""

import argparse
import contextlib
import io
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import onnx
from _models import BUILDERS, build, by_tf2onnx
from rich.console import Console
from rich.table import Table

from kerasdl import export
from kerasdl.export import pipeline

PROOF = ("reference", "verify")
REPORT = ("latency",)
SMALL = 10e6
PASSED = export.Check("", "random", 1, False, 0.0, 0.0, 1.0, 0.0, 1.0)


def by_keras(model, path):
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(path, format="onnx", verbose=False)


def by_us(model, path):
    return export.to_onnx(model, path)


EXPORTERS = {"tf2onnx": by_tf2onnx, "Model.export": by_keras, "kerasdl": by_us}


def seconds(call, *arguments):
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


def times(model, folder, rounds):
    """Medians in seconds: tf2onnx, Model.export, our file alone, its proof, all of it."""
    taken = []
    for _ in range(rounds):
        theirs = seconds(by_tf2onnx, model, str(folder / "plain.onnx"))[0]
        keras_own = seconds(by_keras, model, str(folder / "keras.onnx"))[0]
        whole, report = seconds(by_us, model, str(folder / "ours.onnx"))
        proof, rest = (sum(map(report.seconds.get, stages)) for stages in (PROOF, REPORT))
        taken.append((theirs, keras_own, whole - proof - rest, proof, whole))
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def kibibytes(field):
    """A line of what Linux knows of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def warm_up(exporters, folder):
    """Export something once, so that what is loaded at the first use is there."""
    tiny = called(keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)]))
    for exporter in exporters:
        EXPORTERS[exporter](tiny, str(folder / "tiny.onnx"))


def called(model):
    """The same model; Keras exports none that was never called."""
    model(np.zeros((1, *model.input_shape[1:]), "float32"))
    return model


def measure_memory(name, exporter):
    """In a process of its own: what one export adds, in multiples of the weights."""
    model = called(build(name))
    pipeline.add_truth = lambda *_, **__: None
    pipeline.compare = lambda report, *_: report.checks.append(PASSED)
    with tempfile.TemporaryDirectory() as folder:
        warm_up([exporter], Path(folder))
        before = kibibytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins here
        EXPORTERS[exporter](model, str(Path(folder) / "model.onnx"))
        print((kibibytes("VmHWM") - before) * 1024 / (4 * model.count_params()))


def memory(name, exporter):
    command = [sys.executable, __file__, "--memory-of", name, exporter]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"{float(done.stdout.split()[-1]):.1f} x"


def row(name, folder, rounds, with_memory):
    model = called(build(name))
    theirs, keras_own, *ours = times(model, folder, rounds)
    files = [folder / "plain.onnx", folder / "ours.onnx"]
    nodes = [len(onnx.load(file).graph.node) for file in files]
    sizes = [file.stat().st_size / 1e3 for file in files]
    cells = [
        name,
        f"{theirs:.2f} s",
        f"{keras_own:.2f} s",
        *(f"{seconds:.2f} s ({seconds / theirs:.2f})" for seconds in ours),
        f"{nodes[0]} → {nodes[1]}",
        f"{sizes[0]:,.0f} → {sizes[1]:,.0f} kB",
    ]
    if not with_memory:
        return cells
    if 4 * model.count_params() < SMALL:
        return cells + ["–"] * len(EXPORTERS)
    return cells + [memory(name, exporter) for exporter in EXPORTERS]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=list(BUILDERS), choices=list(BUILDERS))
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    if arguments.memory_of:
        measure_memory(*arguments.memory_of)
        return
    with_memory = not arguments.no_memory and sys.platform == "linux"
    heads = ["", "tf2onnx", "Model.export", "kerasdl, unproved", "proof", "whole", "nodes", "size"]
    heads += [f"memory, {name}" for name in EXPORTERS] if with_memory else []
    table = Table(*heads, title="Export")
    with tempfile.TemporaryDirectory() as folder:
        warm_up(EXPORTERS, Path(folder))
        for name in arguments.models:
            table.add_row(*row(name, Path(folder), arguments.rounds, with_memory))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
