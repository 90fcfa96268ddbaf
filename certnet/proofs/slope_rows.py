"""Proved intervals of slopes as rows, sentences, text and HTML. Nothing is decided here. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from certnet.core.digits import above, below

if TYPE_CHECKING:
    from certnet.proofs.slopes import SlopeIntervals

__all__ = ["FeatureSlope", "as_html", "as_text", "feature_rows", "sentences_of"]

_SHOWN = 20  # rows of a representation


class FeatureSlope(NamedTuple):
    """A row of :meth:`SlopeIntervals.table`.

    Attributes
    ----------
    output, name : str
        Of the output and of the input: their names, where the network has some, else "output 0" and "input 0".
    unit : {"raw", "standardised", "as given"}
        What both are measured in.
    lower, upper : float
    verdict : {"increasing", "decreasing", "constant", "either"}
        As far as it is proved: never falling, never rising, both, or neither.
    """

    output: str
    name: str
    unit: str
    lower: float
    upper: float
    verdict: str

    @property
    def size(self) -> float:
        """The larger one of ``|lower|`` and ``|upper|``."""
        return max(abs(self.lower), abs(self.upper))


def feature_rows(held: SlopeIntervals) -> list[FeatureSlope]:
    """One per interval, output by output, the largest first."""
    found = []
    for output, ends in zip(held.output_names, zip(held.lower.tolist(), held.upper.tolist())):
        pairs = zip(held.input_names, zip(*ends))
        rows = [FeatureSlope(output, name, held.units, low, high, _verdict(low, high)) for name, (low, high) in pairs]
        found += sorted(rows, key=lambda row: -row.size)
    return found


def _verdict(low: float, high: float) -> str:
    if low == 0.0 == high:
        return "constant"
    if low >= 0.0:
        return "increasing"
    return "decreasing" if high <= 0.0 else "either"


def sentences_of(held: SlopeIntervals) -> Iterator[str]:
    """One for every interval in the order of the arrays, its ends rounded outward."""
    numbers = range(held.lower.shape[0]) if held.output is None else [" minus output ".join(map(str, held.output))]
    where = f", {held.region.words}" if held.region.words else ""
    for number, ends in zip(numbers, zip(held.lower.tolist(), held.upper.tolist())):
        for i, (low, high) in enumerate(zip(*ends)):
            name = f" ({held.inputs[i]})" if held.inputs else ""
            yield f"{below(low)} <= slope of output {number} along input {i}{name} <= {above(high)}{where}"


def as_text(held: SlopeIntervals) -> str:
    """The head and the largest rows, in columns."""
    rows = [(row.output, row.name, below(row.lower, 4), above(row.upper, 4), row.verdict) for row in held.table()]
    if len(held.output_names) == 1:
        rows = [("", *row[1:]) for row in rows]
    shown = rows[:_SHOWN]
    widths = [max(len(row[k]) for row in shown) for k in range(5)]
    lines = [
        "  ".join(
            cell.rjust(width) if k in (2, 3) else cell.ljust(width) for k, (cell, width) in enumerate(zip(row, widths))
        ).strip()
        for row in shown
    ]
    rest = [f"… and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return "\n".join([repr(held), *lines, *rest])


def as_html(held: SlopeIntervals) -> str:
    """A table with a bar from lower to upper in every row, for notebooks: no scripts, no network."""
    rows = held.table()
    shown = rows[:_SHOWN]
    longest = max((row.size for row in shown), default=0.0) or 1.0
    several = len(held.output_names) > 1
    heads = [*(["output"] if several else []), "input", "at least", "at most", "", "proved"]
    body = "".join(
        "<tr>"
        + (_cell(row.output) if several else "")
        + _cell(row.name)
        + _cell(below(row.lower, 4), "right")
        + _cell(above(row.upper, 4), "right")
        + f"<td>{_bar(row, longest)}</td>"
        + _cell(row.verdict)
        + "</tr>"
        for row in shown
    )
    where = f", {held.region.words}" if held.region.words else ", for all inputs"
    more = f"<div>… and {len(rows) - _SHOWN} more</div>" if len(rows) > _SHOWN else ""
    head = "".join(f'<th style="text-align:left">{name}</th>' for name in heads)
    return (
        '<div style="border:1px solid #8888;border-radius:6px;padding:10px 14px;display:inline-block">'
        f"<div><b>Slopes by feature</b> ({escape(held.units)} units{escape(where)})</div>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
        '<div style="font-size:smaller;opacity:.7">Proved for the network with the stored weights in real arithmetic; '
        "<code>.check(network)</code> proves it again.</div></div>"
    )


def _cell(text: str, align: str = "left") -> str:
    return f'<td style="text-align:{align}">{escape(text)}</td>'


def _bar(row: FeatureSlope, longest: float) -> str:
    """From lower to upper, zero in the middle."""
    left, right = (100.0 + 96.0 * end / longest for end in (row.lower, row.upper))
    return (
        '<svg width="200" height="14" role="img" aria-label="interval">'
        '<line x1="100" x2="100" y1="0" y2="14" stroke="currentColor" stroke-opacity=".4"/>'
        f'<rect x="{left - 1.0:.1f}" y="3" width="{max(right - left, 0.0) + 2.0:.1f}" height="8" fill="#0072B2"/></svg>'
    )
