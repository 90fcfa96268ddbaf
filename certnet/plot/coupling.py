"""Regularised norms: what a product of norms leaves free (C, figure 1), and errors under noise (C, figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array, positive_number
from certnet.plot.figures import COLOURS, GREY, MARKERS, Display, axes_for, check_models, legend_above

__all__ = ["CouplingDisplay", "NoiseDisplay"]


@final
@dataclass(eq=False)
class CouplingDisplay(Display):
    """Contours of ``|w₁| |w₂|``, the bound of a network with one unit, and the regions of two constraints.

    Coupled: ``|w₁| |w₂| ≤ bound``, which reaches to infinity along both axes. Layer by layer: ``|w₁|, |w₂| ≤ √bound``,
    the largest square in it.

    Attributes
    ----------
    bound : float
        Limit of the product; 1 in C.
    extent : float
        The axes go from −extent to extent.
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    bound: float = 1.0
    extent: float = 3.0
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.bound = positive_number(self.bound, "bound")
        self.extent = positive_number(self.extent, "extent")
        if self.extent**2 <= self.bound:
            raise InvalidInputError(
                f"extent {self.extent:g} shows nothing outside the bound {self.bound:g}: it must be above its root"
            )

    @classmethod
    def from_bound(cls, bound: float = 1.0, *, extent: float = 3.0, ax: Any = None) -> CouplingDisplay:
        """Draw the regions of a bound."""
        return cls(bound, extent).plot(ax)

    def plot(self, ax: Any = None) -> CouplingDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self, width=5.2, height=5.6)
        w = np.linspace(-self.extent, self.extent, 401)
        product = np.abs(np.outer(w, w))
        self.ax_.contourf(w, w, product, levels=[0.0, self.bound], colors=[COLOURS[0]], alpha=0.2)
        lines = self.ax_.contour(
            w, w, product, levels=self.bound * np.array([0.25, 0.5, 1.0, 2.0, 4.0]), colors=COLOURS[0], linewidths=0.9
        )
        self.ax_.clabel(lines, fmt="{:g}".format, fontsize=8)
        side = self.bound**0.5
        corners = side * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        self.ax_.fill(*corners.T, facecolor=COLOURS[1], edgecolor=COLOURS[1], alpha=0.45, label="layer by layer")
        self.ax_.fill([], [], facecolor=COLOURS[0], alpha=0.2, label=f"coupled: product at most {self.bound:g}")
        self.ax_.set(xlabel="First weight, $w_1$", ylabel="Second weight, $w_2$", aspect="equal")
        legend_above(self.ax_)
        return self


@final
@dataclass(eq=False)
class NoiseDisplay(Display):
    """Error against the level of the noise, one colour per model: mean over trials, bars of one standard deviation.

    Attributes
    ----------
    levels : ndarray, shape (K,)
        Increasing.
    errors : mapping of str to ndarray, shape (trials, K)
    error : str
        Name of the vertical axis.
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    levels: Float
    errors: Mapping[str, Float]
    error: str = "Mean absolute error"
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.levels = finite_array(self.levels, "levels", ndim=(1,))
        if not self.levels.size or np.any(np.diff(self.levels) <= 0.0):
            raise InvalidInputError("levels must hold at least one number and increase")
        check_models(self.errors, "errors")
        self.errors = {
            name: finite_array(values, f"errors[{name!r}]", ndim=(2,)) for name, values in self.errors.items()
        }
        for name, values in self.errors.items():
            if len(values) == 0 or values.shape[1] != self.levels.size:
                raise InvalidInputError(
                    f"errors[{name!r}] has shape {values.shape}: (trials, {self.levels.size}) is needed"
                )

    @classmethod
    def from_errors(
        cls,
        levels: ArrayLike,
        errors: Mapping[str, ArrayLike],
        *,
        error: str = "Mean absolute error",
        ax: Any = None,
    ) -> NoiseDisplay:
        """Draw the errors of one or more models, trials in rows."""
        return cls(levels, errors, error).plot(ax)  # type: ignore[arg-type]  # converted at construction

    def plot(self, ax: Any = None) -> NoiseDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self)
        step = 0.012 * float(np.ptp(self.levels) or 1.0)  # side by side, or bars hide each other
        middle = 0.5 * (len(self.errors) - 1)
        for k, (colour, marker, (name, values)) in enumerate(zip(COLOURS, MARKERS, self.errors.items())):
            at = self.levels + step * (k - middle)
            mean, spread = values.mean(axis=0), values.std(axis=0)
            self.ax_.errorbar(
                at, mean, spread, fmt="-", marker=marker, ms=4.5, color=colour, elinewidth=0.8, label=name
            )
        self.ax_.set_ylim(bottom=0.0)
        self.ax_.set_xticks(self.levels)
        self.ax_.set(xlabel="Noise level η (share of each input's range)", ylabel=self.error)
        if max(len(values) for values in self.errors.values()) > 1:
            self.ax_.plot([], [], "|", ms=9, color=GREY, label="± one standard deviation")
        legend_above(self.ax_)
        return self
