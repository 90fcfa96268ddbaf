"""Predictions, and objectives by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array
from certnet.plot.figures import (
    COLOURS,
    GREY,
    Display,
    axes_for,
    check_models,
    legend_above,
    wide,
)
from certnet.refinement.trace import TraceRow

__all__ = ["PredictionDisplay", "TraceDisplay"]


@final
@dataclass(eq=False)
class PredictionDisplay(Display):
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
        check_models(self.predictions, "predictions")
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
        self.figure_, self.ax_ = axes_for(ax, self, width=4.8, height=4.8)
        every = np.concatenate([self.y_true, *self.predictions.values()])
        margin = 0.04 * float(np.ptp(every)) or 1.0
        ends = (every.min() - margin, every.max() + margin)
        self.ax_.plot(ends, ends, color=GREY, lw=1, zorder=1, label="_diagonal")
        alpha = float(np.clip(60.0 / self.y_true.size, 0.25, 0.8))
        for colour, marker, (name, value) in zip(COLOURS, "os^vDPX", self.predictions.items()):
            style = {"ms": 4.5, "alpha": alpha, "mew": 0, "color": colour}
            self.ax_.plot(self.y_true, value, marker, ls="", label=name, **style)
        self.ax_.set(xlim=ends, ylim=ends, aspect="equal")
        unit = f" ({self.unit})" if self.unit else ""
        self.ax_.set(xlabel=f"Measured{unit}", ylabel=f"Predicted{unit}")
        legend_above(self.ax_)
        return self


@final
@dataclass(eq=False)
class TraceDisplay(Display):
    """Objective after each stage of a refinement.

    Attributes
    ----------
    objectives : ndarray, shape (K,)
    labels : sequence of str, length K
        Names of the stages.
    kept : sequence of bool, length K, optional
        False where a stage's network was not kept: a hollow mark, off the line.
    ax_, figure_ : matplotlib Axes and Figure
        Set by :meth:`plot`.
    """

    objectives: Float
    labels: Sequence[str]
    kept: Sequence[bool] | None = None
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.objectives = finite_array(self.objectives, "objectives", ndim=(1,))
        if self.objectives.size == 0 or self.objectives.size != len(self.labels):
            raise InvalidInputError(
                f"{self.objectives.size} objectives and {len(self.labels)} labels: one label per stage is needed, "
                "and at least one stage"
            )
        if self.kept is not None and len(self.kept) != self.objectives.size:
            raise InvalidInputError(f"kept has {len(self.kept)} entries, objectives has {self.objectives.size}")

    @classmethod
    def from_rows(cls, trace: Sequence[TraceRow], *, ax: Any = None) -> TraceDisplay:
        """Draw the stages of a refinement of any depth, ``RefineResult.trace``.

        Left out are stages that gave no network, or one beyond a limit, which have no objective.
        """
        rows = [row for row in trace if row.objective < float("inf")]
        objectives = np.array([row.objective for row in rows])
        return cls(objectives, [row.stage for row in rows], [row.accepted for row in rows]).plot(ax)

    @classmethod
    def from_trace(cls, objectives: ArrayLike, labels: Sequence[str], *, ax: Any = None) -> TraceDisplay:
        """Draw the objective by stage."""
        return cls(objectives, labels).plot(ax)  # type: ignore[arg-type]  # converted at construction

    def plot(self, ax: Any = None) -> TraceDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self)
        stages = np.arange(self.objectives.size)
        kept = np.ones(stages.size, dtype=bool) if self.kept is None else np.asarray(self.kept, dtype=bool)
        self.ax_.plot(stages[kept], self.objectives[kept], "-o", color=COLOURS[0], ms=5)
        if not kept.all():
            self.ax_.plot(stages[~kept], self.objectives[~kept], "o", color=COLOURS[0], mfc="white", ms=5)
        if wide(self.objectives):
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
                f"{value:.4g}", (stage, value), xytext=(4, 6), textcoords="offset points", fontsize=9, color=GREY
            )
