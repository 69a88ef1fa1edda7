"""How sharp is the verdict? Clean models that it refuses, and wrong ones that it lets pass.

Random networks are exported; each file agrees with its model but for rounding, and each refusal is
a false alarm. In some of the models one weight is then wrong by 1e-3, a whole tensor or a single
number of it, and the file is judged again: by its outputs, and where they do not tell, by its
constants. What is found by neither is sorted by what outputs could have told: r is how far the
fault moves them in float64, as a root mean square per channel in units of the rounding.

    without effect       r = 0
    below the rounding   r ≤ 1: no comparison of outputs could tell
    missed               r > 1

    python tools/verdict_sharpness.py --clean 1000 --faults 500 --seed 0

Exit code 1 if more than one clean model in 1,000 is refused.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path.append(str(Path(__file__).parents[1] / "tests" / "export"))

import keras
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from kerasdl import export
from kerasdl.export.clock import Clock
from kerasdl.export.converting.opset import DEFAULT_OPSET
from kerasdl.export.files.ends import Ends
from kerasdl.export.formats import FLOAT32
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.verifying.channels import channel_means, channel_spread, is_float
from kerasdl.export.verifying.checks import Check
from kerasdl.export.verifying.constants import Constants, check_constants
from kerasdl.export.verifying.parity import Judge
from kerasdl.export.verifying.samples import random_rows
from kerasdl.export.verifying.truth import Truth
from random_networks import build, recipe_of

ERROR = 1e-3
FAULTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "whole tensor": lambda weight, rng: weight * (1 + ERROR),
    "one number": lambda weight, rng: _one_number(weight, rng),
}
FOUND = ("by outputs", "by constants")
VERDICTS = (*FOUND, "without effect", "below the rounding", "missed")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how sharp the verdict of parity is.")
    parser.add_argument("--clean", type=int, default=1000, help="number of clean models")
    parser.add_argument("--faults", type=int, default=500, help="how many of them are broken")
    parser.add_argument("--seed", type=int, default=0, help="of the models and the faults")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    clean, faults = Counter[str](), {name: Counter[str]() for name in FAULTS}
    alarms, stories = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        for number in track(range(given.clean), "models", console=Console(stderr=True)):
            model = _model((given.seed, number))
            verdict = _export(model, path)
            clean[verdict] += 1
            if verdict != "passed":
                alarms.append(f"model {number}: {verdict}")
                continue
            if sum(faults["whole tensor"].values()) < given.faults:
                rng = np.random.default_rng((given.seed, number, 1))
                for name, (where, seen, r) in _broken(model, path, rng).items():
                    faults[name][seen] += 1
                    if seen not in FOUND:
                        stories.append(f"model {number}, {name}, {where}: {seen}, r = {r:.2g}")
    _show(clean, faults, [*alarms, *stories])
    sys.exit(clean["refused"] > given.clean / 1000)


def _model(seed: Sequence[int]) -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed[-1])
    return build(recipe_of(seed))


def _export(model: keras.Model, path: Path) -> str:
    try:
        export.to_onnx(model, path)
    except export.ParityError as error:
        return "refused" if error.report.conclusive else "undecided"
    return "passed"


def _broken(model: keras.Model, path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Per kind of fault: where, a verdict, and r."""
    weights = [v for v in model.variables if "float" in v.dtype and np.any(_value(v))]
    if not weights:
        return {}
    variable = weights[rng.integers(len(weights))]
    before, right = _value(variable), _judged(model, path)[0]
    found = {}
    for name, change in FAULTS.items():
        variable.assign(change(before, rng))
        judge, checks = _judged(model, path)
        constants = None
        if all(check.passed for check in checks):
            constants = check_constants(
                KerasProgram(model), path, DEFAULT_OPSET, Ends(), FLOAT32, Clock()
            )
        largest = max(range(len(right.truths)), key=lambda place: right.truths[place].batch)
        wrong = judge.truths[largest].exact  # run no later than here, while the weight is wrong
        variable.assign(before)
        r = _effect(wrong, right.truths[largest])
        found[name] = (variable.path, _verdict(checks, constants, r), r)
    return found


def _verdict(checks: Sequence[Check], constants: Constants | None, r: float) -> str:
    if not all(check.passed for check in checks):
        return FOUND[0]
    return FOUND[1] if constants is not None and constants.wrong else _reason(r)


def _value(variable: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable.value))


def _one_number(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wrong, places = weight.copy(), np.argwhere(weight != 0)
    wrong[tuple(places[rng.integers(len(places))])] *= 1 + ERROR
    return wrong


def _judged(model: keras.Model, path: Path) -> tuple[Judge, list[Check]]:
    program = KerasProgram(model)
    judge = Judge(program)
    judge.add(random_rows(program))
    return judge, judge.compare(path, lambda message: None)


def _effect(wrong: Sequence[np.ndarray], right: Truth) -> float:
    """How far a fault moves a batch of outputs, in units of the rounding."""
    effects = [0.0]
    for y, native, exact, reach in zip(wrong, right.native, right.exact, right.reach, strict=True):
        if is_float(native):
            with np.errstate(invalid="ignore"):
                moved = np.nan_to_num(np.abs(y - exact), posinf=0.0)
            effects.append(
                float(np.max(channel_means(moved) / channel_spread(native, exact, reach)))
            )
    return max(effects)


def _reason(r: float) -> str:
    if r == 0:
        return "without effect"
    return "below the rounding" if r <= 1 else "missed"


def _show(clean: Counter[str], faults: dict[str, Counter[str]], stories: Sequence[str]) -> None:
    console = Console()
    for story in stories:
        console.print(story, highlight=False, soft_wrap=True)
    first = Table("clean models", *(entry := ("passed", "refused", "undecided")))
    first.add_row(str(clean.total()), *(str(clean[verdict]) for verdict in entry))
    second = Table("weights wrong by 1e-3", *VERDICTS)
    for name, counted in faults.items():
        second.add_row(
            f"{counted.total()}, {name}", *(str(counted[verdict]) for verdict in VERDICTS)
        )
    console.print(first, second)


if __name__ == "__main__":
    main()
