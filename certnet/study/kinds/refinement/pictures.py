"""Pictures of improvements, and of errors under attack.

They read rows and solve nothing; matplotlib comes through :mod:`certnet.plot.figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from statistics import fmean
from typing import Any, final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.plot import AdversarialCurveDisplay
from certnet.plot.figures import COLOURS, GREY, Display, axes_for
from certnet.robust import AdversarialCurve
from certnet.study.kinds.refinement.evaluation import curve_mean
from certnet.study.kinds.statistics import mean_of
from certnet.study.tasks import Row

__all__ = ["ImprovementDisplay", "robustness_display"]


@final
@dataclass(eq=False)
class ImprovementDisplay(Display):
    """Improvements of an objective in per cent, a row per method: a mark per trial, a bar at the mean.

    The axis is linear between −10 and 10 and logarithmic beyond, for methods that lose more than their start was worth.

    Attributes
    ----------
    improvements : mapping of str to sequence of float
        By method, one number per trial.
    title : str
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    improvements: Mapping[str, Sequence[float]]
    title: str = ""
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.improvements:
            raise InvalidInputError("improvements is empty: at least one method is needed")
        if not all(len(values) for values in self.improvements.values()):
            raise InvalidInputError("improvements hold a method without a trial: leave it out")

    @classmethod
    def from_improvements(
        cls, improvements: Mapping[str, Sequence[float]], *, title: str = "", ax: Any = None
    ) -> ImprovementDisplay:
        """Draw the improvements of one or more methods."""
        return cls(improvements, title).plot(ax)

    def plot(self, ax: Any = None) -> ImprovementDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self, height=1.3 + 0.5 * len(self.improvements))
        for row, (colour, values) in enumerate(zip(cycle(COLOURS), self.improvements.values())):
            self.ax_.plot(values, np.full(len(values), row), "o", ms=5, color=colour, alpha=0.6)
            self.ax_.plot([fmean(values)], [row], "|", ms=20, mew=2.5, color=colour)
        every = np.concatenate([np.asarray(values, dtype=float) for values in self.improvements.values()])
        if np.abs(every).max() > 30.0:
            self.ax_.set_xscale("symlog", linthresh=10.0)
            self.ax_.xaxis.set_major_formatter("{x:g}")
        self.ax_.axvline(0.0, color=GREY, lw=1.0)
        self.ax_.set_yticks(list(range(len(self.improvements))), list(self.improvements))
        self.ax_.set_ylim(len(self.improvements) - 0.5, -0.5)  # the first method on top
        self.ax_.set_xlabel("Improvement of the objective, per cent (bar: mean)")
        self.ax_.set_title(self.title, loc="left")
        return self


def robustness_display(networks: Mapping[str, Sequence[Row]], norm: str) -> AdversarialCurveDisplay:
    """Mean curves over trials of several networks, one colour each: attacked (solid), certified (dashed)."""
    curves = {}
    for name, rows in networks.items():
        attacked, certified = curve_mean(rows, "adversarial_mse"), curve_mean(rows, "certified_mse")
        curves[name] = AdversarialCurve(
            np.array([float(epsilon) for epsilon in attacked]),
            np.array(list(attacked.values())),
            mean_of(rows, "mse_test"),
            np.array(list(certified.values())),
            norm,
        )
    return AdversarialCurveDisplay.from_curves(curves, units="standardised")
