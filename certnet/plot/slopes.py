"""Proved intervals of slopes, feature by feature."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.validation import whole_number
from certnet.plot.figures import COLOURS, GREY, Display, axes_for, legend_above
from certnet.proofs.slope_rows import FeatureSlope
from certnet.proofs.slopes import SlopeIntervals

__all__ = ["SlopesDisplay"]

_VERDICTS: Final = {"increasing": COLOURS[2], "decreasing": COLOURS[1], "either": COLOURS[0], "constant": GREY}
_NAME: Final = 34  # characters of a name that are shown


@final
@dataclass(eq=False)
class SlopesDisplay(Display):
    """Bars from ``lower`` to ``upper`` of ``∂f/∂x_i``, one row per feature, the largest on top, a line at zero.

    The colour of a bar is its verdict: increasing, decreasing, or either.

    Attributes
    ----------
    intervals : SlopeIntervals
        Of :func:`certnet.certify_features`.
    output : int
        The row of the intervals that is shown.
    most : int
        At most so many features; a row below says how many were left out.
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    intervals: SlopeIntervals
    output: int = 0
    most: int = 25
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.intervals, SlopeIntervals):
            raise InvalidInputError(
                f"intervals must be SlopeIntervals, got {type(self.intervals).__name__}: see certnet.certify_features"
            )
        whole_number(self.output, "output", most=len(self.intervals.lower) - 1)
        whole_number(self.most, "most", least=1)

    @classmethod
    def from_intervals(
        cls, intervals: SlopeIntervals, *, output: int = 0, most: int = 25, ax: Any = None
    ) -> SlopesDisplay:
        """Draw the intervals of one output."""
        return cls(intervals, output, most).plot(ax)

    def plot(self, ax: Any = None) -> SlopesDisplay:
        """Draw on ``ax``, or on a new figure."""
        rows = self._rows()
        shown = rows[: self.most]
        names = [row.name if len(row.name) <= _NAME else f"{row.name[: _NAME - 1]}…" for row in shown]
        # long names take nothing of the axes' width
        width = 6.0 + 0.09 * max(map(len, names))
        self.figure_, self.ax_ = axes_for(ax, self, width=width, height=1.5 + 0.27 * len(shown))
        self.ax_.axvline(0.0, color="black", lw=1.0, zorder=3)
        for verdict, colour in _VERDICTS.items():
            own = [(at, row) for at, row in enumerate(shown) if row.verdict == verdict]
            if own:
                self._draw(own, verdict, colour)
        self.ax_.set_yticks(np.arange(len(shown)), names)
        self.ax_.set_ylim(len(shown) - 0.4, -0.6)  # the first row on top
        ends = [end for row in shown for end in (row.lower, row.upper)]
        room = 0.05 * (max(ends) - min(ends)) or 1.0
        self.ax_.set_xlim(min(*ends, 0.0) - room, max(*ends, 0.0) + room)
        self.ax_.set_xlabel(self._title(len(rows) - len(shown)))
        legend_above(self.ax_)
        return self

    def _rows(self) -> list[FeatureSlope]:
        d = self.intervals.lower.shape[1]
        return self.intervals.table()[self.output * d : (self.output + 1) * d]

    def _draw(self, own: list[tuple[int, FeatureSlope]], verdict: str, colour: str) -> None:
        at = [place for place, _ in own]
        lower, upper = (np.array([getattr(row, end) for _, row in own]) for end in ("lower", "upper"))
        # an edge, so that an interval too narrow to see is still seen
        bar = {"height": 0.5, "color": colour, "edgecolor": colour, "lw": 1.2}
        self.ax_.barh(at, upper - lower, left=lower, label=verdict, **bar)

    def _title(self, left_out: int) -> str:
        held = self.intervals
        alone = held.output is None and len(held.output_names) == 1 and not held.outputs
        name = "the output" if alone else held.output_names[self.output]
        more = f"\n{left_out} smaller ones are not shown" if left_out else ""
        return f"slope of {name}, proved {held.region.words or 'for all inputs'} ({held.units} units){more}"
