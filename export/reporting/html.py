"""The report as one HTML page that needs nothing else: no scripts, no fonts, no network.

What is shown is made ready here; `templates/report.html` has the words, `templates/report.css` the
looks. Every text is escaped, so that a layer may be called `<script>`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..verifying.checks import Check
from ..verifying.histogram import EDGES, WITHIN
from .report import EDGES_ARE, LAYERS_AS_DERIVED, NEAR_ENOUGH, Report, strain_of

BINS = len(EDGES) + 1


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in shares of its width and height."""

    left: float
    width: float
    height: float
    beyond: bool
    label: str


@dataclass(frozen=True)
class Share:
    """A name, how many it has, and how that compares with the most."""

    name: str
    value: float
    share: float


@dataclass(frozen=True)
class Output:
    """All comparisons of one output."""

    name: str
    checks: list[Check]
    histogram: list[Bar]
    numbers: int

    @property
    def shown(self) -> list[Check]:
        """The worst of each kind of data, batch size and setting of onnxruntime."""
        groups: dict[tuple[str, int, bool], list[Check]] = {}
        for check in self.checks:
            groups.setdefault((check.data, check.batch, check.optimized), []).append(check)
        return [max(group, key=strain_of) for group in groups.values()]

    @property
    def worst(self) -> Check:
        return max(self.checks, key=strain_of)


def to_html(report: Report) -> str:
    """Render the page.

    Args:
        report: The report.

    Returns:
        The page, in UTF-8.

    Example:

    >>> from kerasdl.export import Report
    >>> from kerasdl.export.reporting.html import to_html
    >>> page = to_html(Report("<b>.keras", "model.onnx", "tiny", [], []))
    >>> "&lt;b&gt;.keras" in page, "<b>" in page
    (True, False)

    References: N4 (ONNX conversion).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "size": size,
        "duration": duration,
        "prose": prose,
        "used": used,
        "shape": shape,
        "file_name": lambda path: PurePath(path).name or path,
    }
    return environment.get_template("report.html").render(
        report=report,
        verdict=verdict(report),
        edges_are=EDGES_ARE,
        near_enough=NEAR_ENOUGH.replace("'", "’"),
        layers_as_derived=LAYERS_AS_DERIVED,
        outputs=list(outputs(report.checks)),
        before=shares(report.operations_by_kind or {}),
        after=shares(report.nodes),
        stages=shares(report.seconds, by_value=False),
        layer_verdicts={True: "verified", False: "failed", None: "undecided"},
        verdict_of=check_verdict,
        strain_of=strain_of,
    )


def verdict(report: Report) -> str:
    """`"verified"`, `"failed"` or `"undecided"`."""
    if report.passed:
        return "verified"
    failed = any(check.conclusive and not check.passed for check in report.checks)
    return "failed" if failed or report.wrong_constants else "undecided"


def check_verdict(check: Check) -> str:
    """The same of one comparison."""
    if not check.conclusive:
        return "undecided"
    return "verified" if check.passed else "failed"


def outputs(checks: Sequence[Check]) -> Iterable[Output]:
    """Comparisons by output, with one histogram of all of them."""
    for name in dict.fromkeys(check.output for check in checks):
        own = [check for check in checks if check.output == name]
        counts = [check.histogram for check in own if len(check.histogram) == BINS]
        total = [sum(column) for column in zip(*counts, strict=True)]
        yield Output(name, own, bars(total), sum(total))


def bars(counts: Sequence[int]) -> list[Bar]:
    """The bars of a histogram; whatever is not zero can be seen."""
    most = max(counts, default=0)
    return [
        Bar(
            left=index / BINS,
            width=1 / BINS,
            height=max(count / most, 0.02),
            beyond=index >= WITHIN,
            label=f"{count:,} {_range(index)}",
        )
        for index, count in enumerate(counts)
        if count
    ]


def _range(index: int) -> str:
    if index == 0:
        return f"up to {EDGES[0]:.2g} of the tolerance"
    if index == len(EDGES):
        return f"above {EDGES[-1]:.2g} times the tolerance"
    return f"from {EDGES[index - 1]:.2g} to {EDGES[index]:.2g} of the tolerance"


def shares(counts: Mapping[str, float], by_value: bool = True) -> list[Share]:
    """Entries with their share of the largest, which comes first if they are sorted."""
    most = max(counts.values(), default=0) or 1
    entries = [Share(name, value, value / most) for name, value in counts.items()]
    return sorted(entries, key=lambda entry: (-entry.value, entry.name)) if by_value else entries


def shape(extents: Sequence[int | None]) -> str:
    """The axes of a layer's output."""
    axes = (
        "batch" if not i and x is None else "?" if x is None else x for i, x in enumerate(extents)
    )
    return f"[{', '.join(map(str, axes))}]"


def number(value: float | None) -> str:
    """Three digits."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "∞"
    if value == 0:
        return "0"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def size(value: int) -> str:
    """Bytes, in the unit that suits."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= one:
            return f"{value / one:.3g} {unit}"
    return f"{value} bytes"


def duration(seconds: float) -> str:
    """A time, in the unit that suits."""
    for unit, one in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= one:
            return f"{seconds / one:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def used(strain: float) -> str:
    """How much of the tolerance an error uses up."""
    if not math.isfinite(strain):
        return "∞"
    if strain >= 1e6:
        return f"{strain:.1e}×"
    if strain >= 10:
        return f"{strain:,.0f}×"
    return f"{100 * strain:.2g} %" if strain < 0.995 else f"{100 * strain:.4g} %"


def prose(text: str) -> Any:
    """A sentence with names in backticks, as Markdown has them."""
    from markupsafe import Markup, escape

    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return escape(text)
    marked = [
        Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(pieces)
    ]
    return Markup("").join(marked)
