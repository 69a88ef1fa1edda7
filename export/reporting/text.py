"""Text: the report as a person reads it in a terminal."""

from __future__ import annotations

from ..verifying.checks import Check
from ..verifying.layers import table
from .report import EDGES_ARE, LAYERS_AS_DERIVED, NEAR_ENOUGH, Report, strain_of


def to_text(report: Report) -> str:
    """The report as lines of text.

    Example:

    >>> from kerasdl.export import Report
    >>> from kerasdl.export.reporting.text import to_text
    >>> report = Report("model.keras", "model.onnx", "tiny", [], [])
    >>> to_text(report).splitlines()[0]
    'model.keras → model.onnx'

    References: N4 (ONNX conversion).
    """
    nodes = sum(report.nodes.values())
    lines = [
        f"{report.source} → {report.target}",
        f"  {nodes} nodes, {report.size:,} bytes, opset {report.opset}, {report.precision}",
        *(f"  input  {port}" for port in report.inputs),
        *(f"  output {port}" for port in report.outputs),
    ]
    lines += _folds(report) + _latency(report)
    lines += _layers(report) + _constants(report) + _parity(report)
    lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(lines)


def _folds(report: Report) -> list[str]:
    lines = ["Folding"] if report.folds else []
    lines += [f"  {fold}" for fold in report.folds]
    if report.dropped:
        lines.append(f"Training only, left out: {', '.join(report.dropped)}")
    if report.remaining != report.operations:
        lines.append(f"Keras operations: {report.operations} → {report.remaining}")
    return lines


def _latency(report: Report) -> list[str]:
    if not report.latency:
        return []
    times = (f"{each.milliseconds:.3g} ms (batch of {each.batch})" for each in report.latency)
    lines = [f"Latency in onnxruntime, default session, {report.latency[0].cores} cores"]
    return [*lines, f"  {', '.join(times)}"]


def _layers(report: Report) -> list[str]:
    lines = table(report.layers)
    if lines and report.tolerance is not None:
        lines.append(f"  {LAYERS_AS_DERIVED}")
    return lines


def _constants(report: Report) -> list[str]:
    if report.constants is None:
        return []
    right = report.constants.compared - len(report.constants.wrong)
    aside = report.constants.wrong and report.tolerance is not None
    lines = [
        f"Constants: {right} of {report.constants.compared} are those of the model"
        + (" (the others are left aside, since a tolerance was given)" if aside else "")
    ]
    mark = "    " if aside else "FAIL"
    return [*lines, *(f"  {mark} {constant}" for constant in report.constants.wrong)]


def _parity(report: Report) -> list[str]:
    lines = ["Parity with Keras in onnxruntime"]
    for key in dict.fromkeys((c.output, c.data, c.batch) for c in report.checks):
        group = [c for c in report.checks if (c.output, c.data, c.batch) == key]
        worst = max(group, key=strain_of)
        lines.append(
            f"  {_verdict(worst)} {key[0]}, {key[1]} batch of {key[2]}: "
            f"error {worst.error:.2e}, allowed {worst.tolerance:.2e}" + _own_rounding(worst)
        )
    truth = "float64 run of the model, runtime optimizations off and on"
    if report.float64_failure is not None:
        truth = f"Keras' float32 run (no float64 run: {report.float64_failure})"
    elif report.needs_no_float64:
        truth = f"{NEAR_ENOUGH}, runtime optimizations off and on"
    lines.append(f"  compared with: {truth}")
    if report.tolerance is not None:
        more = "; of edges in proportion, at least as derived" if report.has_edges else ""
        lines.append(f"  allowed, as given: {report.tolerance}{more}")
    if report.has_edges:
        lines.append(f"  edges: {EDGES_ARE}")
    if not report.conclusive:
        lines.append(f"  ?: {report.untold}")
    if report.passed:
        return [*lines, "Result: verified"]
    return [*lines, f"Result: {', '.join(filter(None, ('FAILED', report.failure)))}"]


def _own_rounding(check: Check) -> str:
    return "" if check.keras_error is None else f" (Keras' own rounding {check.keras_error:.2e})"


def _verdict(check: Check) -> str:
    """Four letters: passed, failed, or nothing could be told."""
    if check.conclusive:
        return "ok  " if check.passed else "FAIL"
    return "?   "
