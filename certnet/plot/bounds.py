"""Brackets of Lipschitz constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from certnet.core.digits import above, below
from certnet.core.errors import InvalidInputError
from certnet.core.validation import positive_number
from certnet.plot.figures import (
    COLOURS,
    GREY,
    MARKERS,
    Display,
    axes_for,
    check_models,
    legend_above,
    wide,
)

__all__ = ["BoundsDisplay"]


@final
@dataclass(eq=False)
class BoundsDisplay(Display):
    """Brackets ``[lower, upper]`` of the Lipschitz constant, one row per model, cheaper upper bounds as markers.

    Attributes
    ----------
    bounds : mapping of str to mapping of str to float
        Per model ``"lower"``, ``"upper"`` (certified) and any further upper bounds by name.
    title : str
        Of the axis; it says which norm and units.
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    bounds: Mapping[str, Mapping[str, float]]
    title: str = r"Lipschitz constant, $\ell_2$ to $\ell_2$"
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_models(self.bounds, "bounds")
        self.bounds = {model: _checked_bounds(model, values) for model, values in self.bounds.items()}
        if len(self._cheaper()) > len(MARKERS):
            raise InvalidInputError(f"at most {len(MARKERS)} further upper bounds can be told apart")

    @classmethod
    def from_bounds(
        cls,
        bounds: Mapping[str, Mapping[str, float]],
        *,
        title: str = r"Lipschitz constant, $\ell_2$ to $\ell_2$",
        ax: Any = None,
    ) -> BoundsDisplay:
        """Draw the bounds of one or more models."""
        return cls(bounds, title).plot(ax)

    def plot(self, ax: Any = None) -> BoundsDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self, height=1.3 + 0.75 * len(self.bounds))
        self._scale()
        rows = range(len(self.bounds))
        for row, colour, values in zip(rows, COLOURS, self.bounds.values()):
            self._draw(row, colour, values)
        for marker, name in zip(MARKERS, self._cheaper()):
            at = [(values[name], row) for row, values in zip(rows, self.bounds.values()) if name in values]
            x, y = zip(*at)
            self.ax_.plot(x, y, marker, color=GREY, mfc="white", ms=7, label=name)
        self.ax_.set_yticks(list(rows), list(self.bounds))
        self.ax_.set_ylim(len(self.bounds) - 0.4, -0.7)  # the first model on top
        self.ax_.set_xlabel(self.title)
        if self._cheaper():
            legend_above(self.ax_)
        return self

    def _draw(self, row: int, colour: str, values: Mapping[str, float]) -> None:
        lower, upper = values["lower"], values["upper"]
        self.ax_.barh(row, upper - lower, left=lower, height=0.28, color=colour)
        # end caps, so that a bracket too narrow to see is still seen
        self.ax_.plot([lower, upper], [row, row], "|", ms=22, mew=2, color=colour)
        text = above(upper, 4) if lower == upper else f"{below(lower, 4)} to {above(upper, 4)}"
        right = self.ax_.transLimits.transform(self.ax_.transScale.transform((upper, row)))[0] > 0.6
        place: dict[str, Any] = {"xytext": (0, 14), "textcoords": "offset points", "fontsize": 9, "color": colour}
        self.ax_.annotate(text, (upper if right else lower, row), ha="right" if right else "left", **place)

    def _scale(self) -> None:
        every = np.array([value for values in self.bounds.values() for value in values.values()])
        if wide(every):
            self.ax_.set_xscale("log")
            self.ax_.xaxis.set_major_formatter("{x:g}")
            self.ax_.set_xlim(every.min() / 1.6, every.max() * 1.6)
        else:
            self.ax_.set_xlim(0.0, 1.15 * every.max() or 1.0)

    def _cheaper(self) -> list[str]:
        names = (name for values in self.bounds.values() for name in values)
        return [name for name in dict.fromkeys(names) if name not in ("lower", "upper")]


def _checked_bounds(model: str, values: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(values, Mapping) or not {"lower", "upper"} <= set(values):
        raise InvalidInputError(f"bounds[{model!r}] must be a mapping with at least 'lower' and 'upper'")
    checked = {
        name: positive_number(value, f"bounds[{model!r}][{name!r}]", zero=True) for name, value in values.items()
    }
    if checked["lower"] > checked["upper"]:
        raise InvalidInputError(
            f"bounds[{model!r}]: lower {checked['lower']:g} exceeds upper {checked['upper']:g}, so one of them is wrong"
        )
    return checked
