"""Pictures of results. They read values that were computed elsewhere and solve nothing; matplotlib is optional."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import ArrayLike

from certnet.digits import above, below
from certnet.errors import InvalidInputError, MissingDependencyError
from certnet.files import check_writable, write_atomic
from certnet.network import UNITS
from certnet.restrict.path import TradeoffPath
from certnet.robust.curves import AdversarialCurve
from certnet.validation import Float, finite_array, positive_number

__all__ = [
    "AdversarialCurveDisplay",
    "BoundsDisplay",
    "PredictionDisplay",
    "TraceDisplay",
    "TradeoffDisplay",
    "figure_png",
    "save_figure",
]

# Okabe & Ito, Color Universal Design (2008), the dark ones first
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY: Final = "#666666"
_MARKERS: Final = ("D", "s", "^", "v", "o", "P", "X")
_NORMS: Final = {"l2": r"$\ell_2$", "linf": r"$\ell_\infty$"}
_WIDE: Final = 30.0
"""An axis is logarithmic where the largest value exceeds the smallest, positive one by this factor."""


class _Display(ABC):
    """A picture that a notebook shows by itself, without pyplot's global state."""

    figure_: Any

    @abstractmethod
    def plot(self, ax: Any = None) -> _Display:
        """Draw on ``ax``, or on a new figure."""

    def _repr_png_(self) -> bytes:
        return figure_png(self.figure_, dpi=100.0)


@final
@dataclass(eq=False)
class AdversarialCurveDisplay(_Display):
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
        _check_models(self.curves, "curves")
        for name, curve in self.curves.items():
            if not isinstance(curve, AdversarialCurve):
                raise InvalidInputError(f"curves[{name!r}] must be an AdversarialCurve, got {type(curve).__name__}")
        norms = {curve.norm for curve in self.curves.values()}
        if len(norms) > 1:
            raise InvalidInputError(f"the curves use the norms {', '.join(sorted(norms))}: draw one norm per picture")
        if self.units not in UNITS:
            raise InvalidInputError(f"units must be one of {', '.join(map(repr, UNITS))}, got {self.units!r}")

    @classmethod
    def from_curves(
        cls, curves: Mapping[str, AdversarialCurve], *, units: str = "as given", ax: Any = None
    ) -> AdversarialCurveDisplay:
        """Draw the curves of one or more models."""
        return cls(curves, units).plot(ax)

    def plot(self, ax: Any = None) -> AdversarialCurveDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = _axes(ax, self)
        for colour, (name, curve) in zip(_COLOURS, self.curves.items()):
            self._draw(name, curve, colour)
        every = np.concatenate([_errors(curve) for curve in self.curves.values()])
        if _wide(every):
            self.ax_.set_yscale("log")
            self.ax_.yaxis.set_major_formatter("{x:g}")
        else:
            self.ax_.set_ylim(0.0, 1.06 * every.max() or 1.0)
        norm = _NORMS[next(iter(self.curves.values())).norm]
        self.ax_.set_xlabel(f"Radius ε of the perturbation, {norm} norm ({_spoken(self.units, 'inputs')})")
        self.ax_.set_ylabel(f"Mean squared error ({_spoken(self.units, 'target')}, squared)")
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
        self.ax_.plot([], [], "-", marker="o", ms=3.5, color=_GREY, label="attacked (lower bound)")
        if any(curve.certified is not None for curve in self.curves.values()):
            self.ax_.plot([], [], "--", color=_GREY, label="certified (upper bound)")
        _legend_above(self.ax_)


@final
@dataclass(eq=False)
class BoundsDisplay(_Display):
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
        _check_models(self.bounds, "bounds")
        self.bounds = {model: _checked_bounds(model, values) for model, values in self.bounds.items()}
        if len(self._cheaper()) > len(_MARKERS):
            raise InvalidInputError(f"at most {len(_MARKERS)} further upper bounds can be told apart")

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
        self.figure_, self.ax_ = _axes(ax, self, height=1.3 + 0.75 * len(self.bounds))
        self._scale()
        rows = range(len(self.bounds))
        for row, colour, values in zip(rows, _COLOURS, self.bounds.values()):
            self._draw(row, colour, values)
        for marker, name in zip(_MARKERS, self._cheaper()):
            at = [(values[name], row) for row, values in zip(rows, self.bounds.values()) if name in values]
            x, y = zip(*at)
            self.ax_.plot(x, y, marker, color=_GREY, mfc="white", ms=7, label=name)
        self.ax_.set_yticks(list(rows), list(self.bounds))
        self.ax_.set_ylim(len(self.bounds) - 0.4, -0.7)  # the first model on top
        self.ax_.set_xlabel(self.title)
        if self._cheaper():
            _legend_above(self.ax_)
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
        if _wide(every):
            self.ax_.set_xscale("log")
            self.ax_.xaxis.set_major_formatter("{x:g}")
            self.ax_.set_xlim(every.min() / 1.6, every.max() * 1.6)
        else:
            self.ax_.set_xlim(0.0, 1.15 * every.max() or 1.0)

    def _cheaper(self) -> list[str]:
        names = (name for values in self.bounds.values() for name in values)
        return [name for name in dict.fromkeys(names) if name not in ("lower", "upper")]


@final
@dataclass(eq=False)
class PredictionDisplay(_Display):
    """Predicted against measured values, one colour per model, with the diagonal.

    Attributes
    ----------
    y_true : ndarray, shape (N,)
    predictions : mapping of str to ndarray, shape (N,)
    unit : str
        Unit of the target, for the axis titles.
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    y_true: Float
    predictions: Mapping[str, Float]
    unit: str = ""
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_models(self.predictions, "predictions")
        self.y_true = finite_array(self.y_true, "y_true", ndim=(1,))
        if self.y_true.size == 0:
            raise InvalidInputError("y_true has no samples: at least one is needed")
        self.predictions = {
            name: finite_array(value, f"predictions[{name!r}]", ndim=(1,)) for name, value in self.predictions.items()
        }
        for name, value in self.predictions.items():
            if value.shape != self.y_true.shape:
                raise InvalidInputError(f"predictions[{name!r}] has {value.size} values, y_true has {self.y_true.size}")

    @classmethod
    def from_predictions(
        cls, y_true: ArrayLike, predictions: Mapping[str, ArrayLike], *, unit: str = "", ax: Any = None
    ) -> PredictionDisplay:
        """Draw the predictions of one or more models."""
        return cls(y_true, predictions, unit).plot(ax)  # type: ignore[arg-type]  # converted at construction

    def plot(self, ax: Any = None) -> PredictionDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = _axes(ax, self, width=4.8, height=4.8)
        every = np.concatenate([self.y_true, *self.predictions.values()])
        margin = 0.04 * float(np.ptp(every)) or 1.0
        ends = (every.min() - margin, every.max() + margin)
        self.ax_.plot(ends, ends, color=_GREY, lw=1, zorder=1, label="_diagonal")
        alpha = float(np.clip(60.0 / self.y_true.size, 0.25, 0.8))
        for colour, marker, (name, value) in zip(_COLOURS, "os^vDPX", self.predictions.items()):
            style = {"ms": 4.5, "alpha": alpha, "mew": 0, "color": colour}
            self.ax_.plot(self.y_true, value, marker, ls="", label=name, **style)
        self.ax_.set(xlim=ends, ylim=ends, aspect="equal")
        unit = f" ({self.unit})" if self.unit else ""
        self.ax_.set(xlabel=f"Measured{unit}", ylabel=f"Predicted{unit}")
        _legend_above(self.ax_)
        return self


@final
@dataclass(eq=False)
class TraceDisplay(_Display):
    """Objective after each stage of a refinement.

    Attributes
    ----------
    objectives : ndarray, shape (K,)
    labels : sequence of str, length K
        Names of the stages.
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    objectives: Float
    labels: Sequence[str]
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.objectives = finite_array(self.objectives, "objectives", ndim=(1,))
        if self.objectives.size == 0 or self.objectives.size != len(self.labels):
            raise InvalidInputError(
                f"{self.objectives.size} objectives and {len(self.labels)} labels: one label per stage is needed, "
                "and at least one stage"
            )

    @classmethod
    def from_trace(cls, objectives: ArrayLike, labels: Sequence[str], *, ax: Any = None) -> TraceDisplay:
        """Draw the objective by stage."""
        return cls(objectives, labels).plot(ax)  # type: ignore[arg-type]  # converted at construction

    def plot(self, ax: Any = None) -> TraceDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = _axes(ax, self)
        stages = np.arange(self.objectives.size)
        self.ax_.plot(stages, self.objectives, "-o", color=_COLOURS[0], ms=5)
        if _wide(self.objectives):
            self.ax_.set_yscale("log")
        self.ax_.margins(x=0.1, y=0.15)
        shown = stages[:: 1 + stages.size // 12]
        slanted = stages.size > 3 and max(map(len, self.labels)) * shown.size > 60
        turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
        self.ax_.set_xticks(shown, [self.labels[k] for k in shown], **turned)
        if stages.size <= 8:
            self._write_values()
        self.ax_.set_ylabel("Objective: MSE + penalty")
        return self

    def _write_values(self) -> None:
        for stage, value in enumerate(self.objectives):
            self.ax_.annotate(
                f"{value:.4g}", (stage, value), xytext=(4, 6), textcoords="offset points", fontsize=9, color=_GREY
            )


@final
@dataclass(eq=False)
class TradeoffDisplay(_Display):
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
        _check_models(self.errors, "errors")
        self.upper = finite_array(self.upper, "upper", ndim=(1,))
        lines = {f"errors[{name!r}]": values for name, values in self.errors.items()}
        if self.weights is not None:
            lines["weights"] = self.weights
        for name, values in lines.items():
            if np.shape(values) != self.upper.shape:
                raise InvalidInputError(f"{name} has shape {np.shape(values)}, upper has {self.upper.shape}")
        self.errors = {name: finite_array(values, name, ndim=(1,)) for name, values in self.errors.items()}
        if self.units not in UNITS:
            raise InvalidInputError(f"units must be one of {', '.join(map(repr, UNITS))}, got {self.units!r}")

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
        self.figure_, self.ax_ = _axes(ax, self)
        order = np.argsort(self.upper)
        for colour, marker, (name, values) in zip(_COLOURS, "os^vDPX", self.errors.items()):
            self.ax_.plot(self.upper[order], values[order], "-", marker=marker, ms=4.5, color=colour, label=name)
            if self.start is not None and name in self.start:
                at = ([self.start["upper"]], [self.start[name]])
                self.ax_.plot(*at, marker=marker, ms=7, color=colour, mfc="white", ls="")
        if self.start is not None:
            self.ax_.plot([], [], "o", ms=7, color=_GREY, mfc="white", label="before refinement")
        if self.weights is not None:
            first = next(iter(self.errors.values()))
            for weight, x, y in zip(self.weights, self.upper, first):
                self.ax_.annotate(
                    f"{weight:.2g}", (x, y), xytext=(3, -11), textcoords="offset points", fontsize=7, color=_GREY
                )
        if _wide(self.upper[self.upper > 0.0]):
            self.ax_.set_xscale("log")
            self.ax_.xaxis.set_major_formatter("{x:g}")
        self.ax_.set_xlabel(f"Certified Lipschitz bound ({_spoken(self.units, 'inputs and target')})")
        self.ax_.set_ylabel("Mean squared error")
        _legend_above(self.ax_)
        return self


def figure_png(figure: Any, *, dpi: float = 150.0) -> bytes:
    """The figure as the bytes of a PNG file.

    Raises
    ------
    InvalidInputError
        ``dpi`` is not positive, or ``figure`` is not a matplotlib figure.
    """
    return _rendered(figure, "png", dpi)


def save_figure(figure: Any, path: str | os.PathLike[str], *, force: bool = False, dpi: float = 150.0) -> Path:
    """Write the figure as ``.png`` or ``.svg``, by the suffix of the path; complete or not at all.

    Raises
    ------
    InvalidInputError
        Another suffix, ``dpi`` not positive, or ``figure`` is not a matplotlib figure.
    OutputError
        The path exists (and ``force`` is false) or cannot be written.
    """
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise InvalidInputError(f"{path} ends in neither .png nor .svg: pictures are written as one of the two")
    check_writable(path, force=force)
    return write_atomic(path, _rendered(figure, kind, dpi), force=force)


def _rendered(figure: Any, kind: str, dpi: float) -> bytes:
    if not hasattr(figure, "savefig"):
        raise InvalidInputError(f"figure must be a matplotlib figure, got {type(figure).__name__}; try display.figure_")
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    figure.savefig(buffer, format=kind, dpi=positive_number(dpi, "dpi"), metadata=metadata)
    return buffer.getvalue()


def _axes(ax: Any, display: object, *, width: float = 6.4, height: float = 4.2) -> tuple[Any, Any]:
    """The figure of ``ax`` and ``ax``, or a new pair; no global figure list (pyplot) is touched."""
    if ax is None:
        figure_class = _figure_class()
        ax = figure_class(figsize=(width, height), layout="constrained").add_subplot()
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#dddddd", lw=0.6)
        ax.set_axisbelow(True)
    elif not hasattr(ax, "plot") or not hasattr(ax, "figure"):
        raise InvalidInputError(f"{type(display).__name__}.plot needs a matplotlib Axes, got {type(ax).__name__}")
    return ax.figure, ax


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            'pictures need matplotlib (certnet[plot]): pip install "matplotlib>=3.9"'
        ) from error
    return Figure


def _legend_above(ax: Any) -> None:
    """A legend above the axes, where it hides nothing, in as many columns as the longest label leaves room for."""
    longest = max(len(label) for label in ax.get_legend_handles_labels()[1])
    columns = int(np.clip(76 // (longest + 7), 1, 3))
    legend = ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False, borderaxespad=0.3)
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)


def _spoken(units: str, what: str) -> str:
    return f"{what} as given" if units == "as given" else f"{units} {what}"


def _errors(curve: AdversarialCurve) -> Float:
    certified = () if curve.certified is None else curve.certified
    return np.concatenate([[curve.clean], curve.adversarial, certified])


def _wide(values: Float) -> bool:
    return bool(values.size and values.min() > 0.0 and values.max() > _WIDE * values.min())


def _check_models(models: object, name: str) -> None:
    if not isinstance(models, Mapping) or not 1 <= len(models) <= len(_COLOURS):
        raise InvalidInputError(
            f"{name} must be a mapping from names to values, with 1 to {len(_COLOURS)} entries "
            "(more cannot be told apart by colour)"
        )


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
