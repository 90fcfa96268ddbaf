"""Errors against the radius of an attack, and against the certified bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array, one_of
from certnet.networks.shallow import UNITS
from certnet.plot.figures import (
    COLOURS,
    GREY,
    NORMS,
    Display,
    axes_for,
    check_models,
    legend_above,
    spoken,
    wide,
)
from certnet.refinement.path import TradeoffPath
from certnet.robust.curves import AdversarialCurve

__all__ = ["AdversarialCurveDisplay", "TradeoffDisplay"]


@final
@dataclass(eq=False)
class AdversarialCurveDisplay(Display):
    """Mean squared error against the radius of the perturbation, one colour per model.

    Solid: what an attack reached (a lower bound of the worst case). Dashed, same colour: the certified upper
    bound. The dotted end at ε = 0 is the clean error, where the curve does not start there itself.

    Attributes
    ----------
    curves : mapping of str to AdversarialCurve
        All of one norm.
    units : {"as given", "standardised", "raw"}
        What ε and the error are measured in.
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    curves: Mapping[str, AdversarialCurve]
    units: str = "as given"
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_models(self.curves, "curves")
        for name, curve in self.curves.items():
            if not isinstance(curve, AdversarialCurve):
                raise InvalidInputError(f"curves[{name!r}] must be an AdversarialCurve, got {type(curve).__name__}")
        norms = {curve.norm for curve in self.curves.values()}
        if len(norms) > 1:
            raise InvalidInputError(f"the curves use the norms {', '.join(sorted(norms))}: draw one norm per picture")
        one_of(self.units, "units", UNITS)

    @classmethod
    def from_curves(
        cls, curves: Mapping[str, AdversarialCurve], *, units: str = "as given", ax: Any = None
    ) -> AdversarialCurveDisplay:
        """Draw the curves of one or more models."""
        return cls(curves, units).plot(ax)

    def plot(self, ax: Any = None) -> AdversarialCurveDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self)
        for colour, (name, curve) in zip(COLOURS, self.curves.items()):
            self._draw(name, curve, colour)
        every = np.concatenate([_errors(curve) for curve in self.curves.values()])
        if wide(every):
            self.ax_.set_yscale("log")
            self.ax_.yaxis.set_major_formatter("{x:g}")
        else:
            self.ax_.set_ylim(0.0, 1.06 * every.max() or 1.0)
        norm = NORMS[next(iter(self.curves.values())).norm]
        self.ax_.set_xlabel(f"Radius ε of the perturbation, {norm} norm ({spoken(self.units, 'inputs')})")
        self.ax_.set_ylabel(f"Mean squared error ({spoken(self.units, 'target')}, squared)")
        self._explain()
        return self

    def _draw(self, name: str, curve: AdversarialCurve, colour: str) -> None:
        if curve.epsilons[0] > 0.0:
            self.ax_.plot([0.0, curve.epsilons[0]], [curve.clean, curve.adversarial[0]], ":", color=colour, lw=1.2)
        self.ax_.plot(curve.epsilons, curve.adversarial, "-", marker="o", ms=3.5, color=colour, label=name)
        if curve.certified is not None:
            self.ax_.plot(curve.epsilons, curve.certified, "--", color=colour, label=f"_{name}, certified")

    def _explain(self) -> None:
        """Colours name the models, line styles (two empty grey lines) the kind of bound."""
        self.ax_.plot([], [], "-", marker="o", ms=3.5, color=GREY, label="attacked (lower bound)")
        if any(curve.certified is not None for curve in self.curves.values()):
            self.ax_.plot([], [], "--", color=GREY, label="certified (upper bound)")
        legend_above(self.ax_)


@final
@dataclass(eq=False)
class TradeoffDisplay(Display):
    """Mean squared error, clean and attacked, against the certified Lipschitz bound, along a path of weights.

    Attributes
    ----------
    upper : ndarray, shape (K,)
        Certified bounds.
    errors : mapping of str to ndarray, shape (K,)
        Errors by name, one line each.
    weights : ndarray, shape (K,), optional
        Written beside the first line's points.
    start : mapping of str to float, optional
        ``"upper"`` and one error per line of the network before refinement: hollow marks.
    units : {"as given", "standardised", "raw"}
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    upper: Float
    errors: Mapping[str, Float]
    weights: Float | None = None
    start: Mapping[str, float] | None = None
    units: str = "as given"
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_models(self.errors, "errors")
        self.upper = finite_array(self.upper, "upper", ndim=(1,))
        lines = {f"errors[{name!r}]": values for name, values in self.errors.items()}
        if self.weights is not None:
            lines["weights"] = self.weights
        for name, values in lines.items():
            if np.shape(values) != self.upper.shape:
                raise InvalidInputError(f"{name} has shape {np.shape(values)}, upper has {self.upper.shape}")
        self.errors = {name: finite_array(values, name, ndim=(1,)) for name, values in self.errors.items()}
        one_of(self.units, "units", UNITS)

    @classmethod
    def from_path(
        cls,
        path: TradeoffPath,
        curves: Sequence[AdversarialCurve],
        *,
        start: AdversarialCurve | None = None,
        ax: Any = None,
    ) -> TradeoffDisplay:
        """Draw the networks of a path with the error curve of each (and of the start), all with the same radii.

        ``curves = [adversarial_mse(network, X, y, epsilons) for network in path.networks]``
        """
        every = [*curves, *([] if start is None else [start])]
        if len(curves) != len(path) or any(
            c.norm != every[0].norm or not np.array_equal(c.epsilons, every[0].epsilons) for c in every
        ):
            raise InvalidInputError(f"one curve per network is needed ({len(path)}), all with the same radii and norm")
        names = ["clean", *(f"attacked, ε = {epsilon:g}" for epsilon in every[0].epsilons)]
        table = np.array([[curve.clean, *curve.adversarial] for curve in every])
        marks = None
        if start is not None:
            marks = dict(zip(names, map(float, table[-1]))) | {"upper": path.results[0].certificate_before.upper}
        errors = dict(zip(names, table[: len(path)].T))
        return cls(path.upper, errors, path.weights, marks, path.start.units).plot(ax)

    def plot(self, ax: Any = None) -> TradeoffDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self)
        order = np.argsort(self.upper)
        for colour, marker, (name, values) in zip(COLOURS, "os^vDPX", self.errors.items()):
            self.ax_.plot(self.upper[order], values[order], "-", marker=marker, ms=4.5, color=colour, label=name)
            if self.start is not None and name in self.start:
                at = ([self.start["upper"]], [self.start[name]])
                self.ax_.plot(*at, marker=marker, ms=7, color=colour, mfc="white", ls="")
        if self.start is not None:
            self.ax_.plot([], [], "o", ms=7, color=GREY, mfc="white", label="before refinement")
        if self.weights is not None:
            first = next(iter(self.errors.values()))
            for weight, x, y in zip(self.weights, self.upper, first):
                self.ax_.annotate(
                    f"{weight:.2g}", (x, y), xytext=(3, -11), textcoords="offset points", fontsize=7, color=GREY
                )
        if wide(self.upper[self.upper > 0.0]):
            self.ax_.set_xscale("log")
            self.ax_.xaxis.set_major_formatter("{x:g}")
        self.ax_.set_xlabel(f"Certified Lipschitz bound ({spoken(self.units, 'inputs and target')})")
        self.ax_.set_ylabel("Mean squared error")
        legend_above(self.ax_)
        return self


def _errors(curve: AdversarialCurve) -> Float:
    certified = () if curve.certified is None else curve.certified
    return np.concatenate([[curve.clean], curve.adversarial, certified])
