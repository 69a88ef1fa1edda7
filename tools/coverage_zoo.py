"""The coverage zoo: every layer, activation and op of Keras' public API, by three exporters.

Each exporter writes each case of `zoo_models.py`, and the file is compared with Keras at batch
sizes 1, 3 and 32, with onnxruntime's optimizations off and on:

    right    loads and agrees everywhere
    refused  the exporter raised an error (or died)
    wrong    a file was written in silence that does not load, or does not agree

    python tools/coverage_zoo.py [--only NAME ...] [--no-peers] [--json PATH]

Exit code 1 if a file of ours is wrong, or a refusal of ours does not name the layer.
"""

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import onnxruntime
from keras import layers, ops
from rich.console import Console
from rich.table import Table
from zoo_models import CASES, batch, build, one_or_all

from kerasdl import export
from kerasdl.export.files.runtime import open_session
from kerasdl.export.programs.layouts import any_layout

BATCH_SIZES = (1, 3, 32)


def ours(model: keras.Model, path: str) -> None:
    export.to_onnx(model, path)


def tf2onnx_alone(model: keras.Model, path: str) -> None:
    import tf2onnx

    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    if not hasattr(model, "output_names"):
        model.output_names = [f"y{i}" for i in range(len(model.outputs))]
    tf2onnx.convert.from_keras(model, opset=18, output_path=path)


def model_export(model: keras.Model, path: str) -> None:
    run_keras(model, batch(model, 1))
    model.export(path, format="onnx", verbose=False)


EXPORTERS: dict[str, Callable[[keras.Model, str], None]] = {
    "kerasdl": ours,
    "tf2onnx": tf2onnx_alone,
    "Model.export": model_export,
}


@dataclass(frozen=True)
class Verdict:
    """What became of one case under one exporter; `named`: the refusal names the Keras layer."""

    case: str
    exporter: str
    verdict: str
    detail: str = ""
    named: bool = True
    seconds: float = 0.0


def judge(case: str, exporter: str) -> Verdict:
    """Build, export, compare, without what the exporters log."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return _judged(case, exporter)
    finally:
        logging.disable(before)


def _judged(case: str, exporter: str) -> Verdict:
    model = build(case)
    data = [batch(model, size) for size in BATCH_SIZES]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        try:
            EXPORTERS[exporter](model, path)
        # Every exporter has its own ways to fail, and each of them is a refusal.
        except Exception as error:  # noqa: BLE001
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
            seconds = time.perf_counter() - start
            return Verdict(case, exporter, "refused", text, names_layer(error, model), seconds)
        seconds = time.perf_counter() - start
        trouble = difference(model, path, data) if os.path.exists(path) else "no file"
    return Verdict(case, exporter, "wrong" if trouble else "right", trouble, True, seconds)


def names_layer(error: Exception, model: keras.Model) -> bool:
    """Whether a refusal says which of the model's operations it is about."""
    named = getattr(error, "layer", None) or str(error)
    return any(
        operation.name in named
        for operation in getattr(model, "operations", model.layers)
        if not isinstance(operation, layers.InputLayer)
    )


def run_keras(model: keras.Model, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    tensors = [ops.convert_to_tensor(arrays[tensor.name]) for tensor in model.inputs]
    with any_layout():  # of TensorFlow alone, some processors could not run all models
        outputs = model(one_or_all(tensors), training=False)
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]


def difference(model: keras.Model, path: str, data: list[dict[str, np.ndarray]]) -> str:
    """How the file differs from Keras; empty if it does not."""
    narrow = [x for x in model.layers if x.compute_dtype in {"float16", "bfloat16"}]
    coarse = 1e-2 if narrow else 1e-4
    for arrays in data:
        wanted = run_keras(model, arrays)
        for optimized in (False, True):
            size = len(next(iter(arrays.values())))
            where = f"batch {size}, optimizations {'on' if optimized else 'off'}"
            try:
                got = _results(open_session(path, optimized), arrays)
            # onnxruntime has no exception class of its own.
            except Exception as error:  # noqa: BLE001
                return f"does not run ({where}): {' '.join(str(error).split())[:300]}"
            if len(got) != len(wanted):
                return f"{len(got)} outputs instead of {len(wanted)}"
            for one, other in zip(got, wanted, strict=True):
                gap = _gap(np.asarray(one), other, coarse)
                if gap:
                    return f"{gap} ({where})"
    return ""


def _results(session: onnxruntime.InferenceSession, arrays: dict[str, np.ndarray]) -> list[Any]:
    """By name where the names fit, else in order: peers name the inputs as they like."""
    names = [entry.name for entry in session.get_inputs()]
    if not set(names) <= set(arrays):
        arrays = dict(zip(names, arrays.values(), strict=False))
    return session.run(None, {name: arrays[name] for name in names})


def _gap(got: np.ndarray, wanted: np.ndarray, coarse: float) -> str:
    if got.shape != wanted.shape:
        return f"shape {got.shape} instead of {wanted.shape}"
    if wanted.dtype.kind != "f":
        if wanted.dtype.kind in "iub" and got.dtype.kind not in "iub":
            return f"{got.dtype} instead of {wanted.dtype}"
        same = np.array_equal(got.astype(str), wanted.astype(str))
        return "" if same else "other values"
    scale = np.max(np.abs(wanted[np.isfinite(wanted)]), initial=1e-3)
    if np.allclose(got, wanted, rtol=coarse, atol=coarse * scale, equal_nan=True):
        return ""
    with np.errstate(invalid="ignore"):
        worst = np.nanmax(np.abs(got.astype(float) - wanted.astype(float)), initial=0.0)
    return f"off by {worst:.3g} of {scale:.3g}"


def run(pairs: list[tuple[str, str]]) -> Iterator[Verdict]:
    """The verdicts, from a process of its own: an exporter may take its process with it."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, context)
    for case, exporter in pairs:
        try:
            yield pool.submit(judge, case, exporter).result()
        except BrokenProcessPool:
            pool = ProcessPoolExecutor(1, context)
            yield Verdict(case, exporter, "refused", "the process died", False)
    pool.shutdown()


def show(verdicts: list[Verdict], console: Console) -> None:
    """The score per exporter and the list of what is not right."""
    scores = Table("exporter", "right", "refused", "wrong", "cases", "seconds", title="Score")
    for exporter in dict.fromkeys(v.exporter for v in verdicts):
        own = [v for v in verdicts if v.exporter == exporter]
        count = Counter(v.verdict for v in own)
        seconds = f"{sum(v.seconds for v in own):.0f}"
        numbers = (str(count[key]) for key in ("right", "refused", "wrong"))
        scores.add_row(exporter, *numbers, str(len(own)), seconds)
    rest = Table("case", "exporter", "verdict", "why", title="Not right")
    for v in sorted(verdicts, key=lambda v: (v.exporter, v.verdict, v.case)):
        if v.verdict != "right":
            rest.add_row(v.case, v.exporter, v.verdict, v.detail[:160])
    if rest.row_count:
        console.print(rest)
    console.print(scores)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts of case names")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, metavar="PATH")
    arguments = parser.parse_args()
    cases = [
        name for name in CASES if not arguments.only or any(part in name for part in arguments.only)
    ]
    exporters = list(EXPORTERS) if arguments.peers else ["kerasdl"]
    console = Console(width=None if sys.stdout.isatty() else 160)
    verdicts = []
    with console.status("") as status:
        for verdict in run([(case, exporter) for exporter in exporters for case in cases]):
            verdicts.append(verdict)
            status.update(f"{len(verdicts)}/{len(cases) * len(exporters)} {verdict.case}")
    show(verdicts, console)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(v) for v in verdicts], indent=1))
    mine = [v for v in verdicts if v.exporter == "kerasdl"]
    return int(any(v.verdict == "wrong" or not v.named for v in mine))


if __name__ == "__main__":
    sys.exit(main())
