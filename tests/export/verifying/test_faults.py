"""Two hundred faults, and the layer that is named.

Right is the layer that was broken. Where the file has no value of its own for it, since it was
folded into a neighbour, a piece of several layers is named; that is right only if the broken layer
is one of them, and if the right file holds the output of none of them but the last; or of layers
that read one it does not hold, which is then folded into several. What the file holds is found out
here in another way: by sorting all of its values.
"""

import itertools
import re
from collections import Counter

import faults
import keras
import numpy as np
import onnx
import pytest

from kerasdl import export
from kerasdl.export.files.runtime import open_session
from kerasdl.export.graphs.trace import trace
from kerasdl.export.programs.program import KerasProgram
from kerasdl.export.verifying.samples import random_rows
from random_networks import build, recipe_of

RIGHT, PIECE, WRONG = "right", "right piece", "wrong"


def outcome(seed, exporter, path):
    """What became of one fault: the kind, a verdict, and the story; None if there is no fault."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng([seed, 9])
    how = faults.KINDS[seed % len(faults.KINDS)]
    model = build(recipe_of([seed, 1]))
    try:
        fault, held = faults.inject(how, model, path, rng, exporter, held_alone)
        report = None if fault is None else export.verify(model, path, layers=True)
    except export.ExportError:
        return None
    # Where only a constant tells, no layer computes something else than it should.
    if report is None or not report.conclusive or all(check.passed for check in report.checks):
        return None
    named = next((check.group for check in report.layers if check.passed is False), ())
    story = f"{seed} {exporter}: {fault.kind} in {fault.names}, named {named}"
    said = _said(report)
    if not set(named) & set(said) & set(fault.names):
        return fault.kind, WRONG, f"{story}, said {said}"
    held = held - set(fault.names) if how is faults.without_a_layer else held
    if len(named) == 1:
        return fault.kind, RIGHT, story
    return fault.kind, PIECE if _is_one_piece(model, named, held) else WRONG, story


def _said(report):
    """The layer that the report names, and those that it says may be it."""
    pieces = [re.findall("`(.+?)`", note) for note in report.notes if "one piece" in note]
    assert all(piece[0] == report.layer for piece in pieces)
    return pieces[0] if pieces else [report.layer]


def _is_one_piece(model, named, held):
    graph = trace(model)
    absent = set(named) - held
    for node in graph.nodes:
        if node.name in set(named[:-1]) & held:
            sources = [graph.producer(value) for value in node.inputs]
            if not any(source is not None and source.name in absent for source in sources):
                return False
    return True


def held_alone(model, path):
    """The layers whose output a file holds, in any order of its numbers."""
    program = KerasProgram(model)
    (rows,) = random_rows(program)
    found = {}

    def collect(node, given, results):
        found[node.name] = [np.asarray(y) for y in results]
        return results

    program.graph(*rows.arrays, after=collect)
    proto = onnx.load(path)
    ends = [end.name for end in proto.graph.output]
    inner = [name for node in proto.graph.node for name in node.output if name and name not in ends]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = open_session(proto.SerializeToString(), optimized=False)
    names = [end.name for end in session.get_inputs()]
    values = session.run(None, dict(zip(names, rows.arrays, strict=True)))
    values = [np.sort(v, axis=None) for v in [*values, *rows.arrays] if v.dtype == np.float32]
    return {name for name, ys in found.items() if all(_is_among(y, values) for y in ys)}


def _is_among(y, values):
    y = np.sort(y, axis=None)
    close = 1e-4 * np.max(np.abs(y), initial=0.0)
    return any(v.size == y.size and np.max(np.abs(v - y), initial=0.0) <= close for v in values)


@pytest.mark.parametrize("exporter", ["ours", pytest.param("plain", marks=pytest.mark.slow)])
def test_one_fault_of_every_kind(exporter, tmp_path):
    found = [outcome(seed, exporter, tmp_path / "model.onnx") for seed in range(len(faults.KINDS))]
    seen = [each for each in found if each is not None]
    assert len(seen) > 5
    assert [story for _, verdict, story in seen if verdict == WRONG] == []


@pytest.mark.slow
@pytest.mark.parametrize("exporter", faults.EXPORTERS)
def test_two_hundred_faults(exporter, tmp_path):
    counts, stories, seeds = Counter(), [], itertools.count()
    while counts.total() < 200:
        found = outcome(next(seeds), exporter, tmp_path / "model.onnx")
        if found is not None:
            kind, verdict, story = found
            counts[kind, verdict] += 1
            stories += [story] * (verdict == WRONG)
    print(exporter, dict(counts), *stories, sep="\n")
    assert len(stories) <= 2
