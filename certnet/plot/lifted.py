"""Lifted networks: filters, energies, learning curves, certified accuracy, and the limit of weak feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array, whole_number
from certnet.plot.figures import COLOURS, GREY, MARKERS, Display, axes_for, check_models, legend_above, wide

__all__ = ["EnergyDisplay", "FilterDisplay", "GradientGapDisplay", "LearningDisplay", "RadiusDisplay"]


@final
@dataclass(eq=False)
class FilterDisplay(Display):
    """First-layer weights as images in a grid (H, figure 1): grey is zero, each filter on its own scale.

    Attributes
    ----------
    filters : ndarray, shape (n, d)
        Rows of W_0.
    shape : tuple of int
        Height and width, or height, width and three channels, with ``d`` their product.
    columns : int, optional
        Of the grid; about one and a half times the rows by default.
    title : str
    """

    filters: Float
    shape: tuple[int, ...]
    columns: int | None = None
    title: str = ""
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.filters = finite_array(self.filters, "filters", ndim=(2,))
        self.shape = tuple(whole_number(n, "shape", least=1) for n in self.shape)
        if len(self.shape) not in (2, 3) or (len(self.shape) == 3 and self.shape[2] not in (1, 3)):
            raise InvalidInputError(f"shape is {self.shape}: (height, width) or (height, width, 3) is needed")
        if self.filters.size == 0 or self.filters.shape[1] != np.prod(self.shape):
            raise InvalidInputError(
                f"filters has shape {self.filters.shape}: (n, {int(np.prod(self.shape))}) is needed"
            )
        if self.columns is not None:
            self.columns = whole_number(self.columns, "columns", least=1)

    @classmethod
    def from_filters(
        cls, filters: ArrayLike, shape: Sequence[int], *, columns: int | None = None, title: str = "", ax: Any = None
    ) -> FilterDisplay:
        """Draw the rows of a matrix as images."""
        if not isinstance(shape, Sequence):
            raise InvalidInputError(f"shape is {shape!r}: (height, width) or (height, width, 3) is needed")
        return cls(filters, tuple(shape), columns, title).plot(ax)  # type: ignore[arg-type]  # converted there

    def grid(self) -> Float:
        """All filters in one image with values in [0, 1], a white line between them."""
        n, (height, width) = len(self.filters), self.shape[:2]
        columns = self.columns or max(1, int(np.ceil(np.sqrt(1.5 * n))))
        rows = -(-n // columns)
        channels = self.shape[2:]
        page = np.ones((rows * (height + 1) + 1, columns * (width + 1) + 1, *channels))
        largest = np.abs(self.filters).max(axis=1)
        scaled = 0.5 + 0.5 * self.filters / np.where(largest > 0.0, largest, 1.0)[:, None]
        for i, one in enumerate(scaled):
            top, left = 1 + (i // columns) * (height + 1), 1 + (i % columns) * (width + 1)
            page[top : top + height, left : left + width] = one.reshape(self.shape)
        return page[..., 0] if channels == (1,) else page

    def plot(self, ax: Any = None) -> FilterDisplay:
        """Draw on ``ax``, or on a new figure."""
        page = self.grid()
        ratio = page.shape[0] / page.shape[1]
        self.figure_, self.ax_ = axes_for(ax, self, width=6.4, height=6.4 * ratio + 0.4)
        self.ax_.imshow(page, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        self.ax_.set_axis_off()
        self.ax_.set_title(self.title, fontsize=10)
        return self


@final
@dataclass(eq=False)
class EnergyDisplay(Display):
    """Histograms of ``min_z E(z; x)``, one colour per set of samples: low energies are like the training data.

    Attributes
    ----------
    energies : mapping of str to ndarray, shape (N,)
    """

    energies: Mapping[str, Float]
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.energies = _checked(self.energies, "energies")

    @classmethod
    def from_energies(cls, energies: Mapping[str, ArrayLike], *, ax: Any = None) -> EnergyDisplay:
        """Draw the energies of one or more sets of samples."""
        return cls(energies).plot(ax)  # type: ignore[arg-type]  # converted at construction

    def plot(self, ax: Any = None) -> EnergyDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self)
        every = np.concatenate(list(self.energies.values()))
        # a few samples far out would leave the others one bar
        ends = np.quantile(every, [0.0, 0.998])
        edges = np.linspace(ends[0], ends[1] if ends[1] > ends[0] else ends[0] + 1.0, 61)
        for colour, (name, values) in zip(COLOURS, self.energies.items()):
            heights = np.histogram(values, edges)[0] / values.size
            self.ax_.stairs(heights, edges, color=colour, lw=1.4, label=f"{name} (mean {values.mean():.3g})")
            self.ax_.stairs(heights, edges, color=colour, alpha=0.15, fill=True)
        self.ax_.set(xlabel="Energy of the sample, min over z of E(z; x)", ylabel="Fraction of samples")
        legend_above(self.ax_)
        return self


@final
@dataclass(eq=False)
class LearningDisplay(Display):
    """Training loss by epoch (solid), with accuracies or other scores on the axis to the right (dashed).

    Attributes
    ----------
    losses, scores : mapping of str to ndarray, shape (epochs,)
    score : str
        Name of the scores.
    """

    losses: Mapping[str, Float]
    scores: Mapping[str, Float] = field(default_factory=dict)
    score: str = "Accuracy"
    ax_: Any = field(init=False, repr=False)
    score_ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.losses = _checked(self.losses, "losses")
        self.scores = _checked(self.scores, "scores") if self.scores else {}

    @classmethod
    def from_curves(
        cls,
        losses: Mapping[str, ArrayLike],
        scores: Mapping[str, ArrayLike] | None = None,
        *,
        score: str = "Accuracy",
        ax: Any = None,
    ) -> LearningDisplay:
        """Draw the curves of one or more runs."""
        return cls(losses, scores or {}, score).plot(ax)  # type: ignore[arg-type]  # converted at construction

    def plot(self, ax: Any = None) -> LearningDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self)
        colours = dict(zip(dict.fromkeys([*self.losses, *self.scores]), COLOURS))
        _lines(self.ax_, self.losses, colours, "-")
        if wide(np.concatenate(list(self.losses.values()))):
            self.ax_.set_yscale("log")
        self.ax_.set(xlabel="Epoch", ylabel="Training loss (solid)" if self.scores else "Training loss")
        self.score_ax_ = None
        if self.scores:
            self.score_ax_ = self.ax_.twinx()
            self.score_ax_.spines["top"].set_visible(False)
            _lines(self.score_ax_, self.scores, colours, "--")
            self.score_ax_.set_ylabel(f"{self.score} (dashed)")
            for name in (name for name in self.scores if name not in self.losses):
                self.ax_.plot([], [], "--", color=colours[name], label=name)
        legend_above(self.ax_)
        return self


@final
@dataclass(eq=False)
class RadiusDisplay(Display):
    """Fraction of samples whose class is right and proved to stay so, against the radius of the perturbation.

    Attributes
    ----------
    radii : mapping of str to ndarray, shape (N,)
        Certified radius of every sample, negative where its class is wrong.
    """

    radii: Mapping[str, Float]
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.radii = _checked(self.radii, "radii")

    @classmethod
    def from_radii(
        cls, radii: Mapping[str, ArrayLike], correct: Mapping[str, ArrayLike], *, ax: Any = None
    ) -> RadiusDisplay:
        """Draw certified radii of one or more models; ``correct`` says of each sample whether its class is right.

        Infinite radii, of networks that do not depend on the input, are drawn at the right end.
        """
        signed = {}
        for name, values in radii.items():
            if name not in correct or np.shape(correct[name]) != np.shape(values):
                raise InvalidInputError(f"correct[{name!r}] must hold one truth value per radius of {name!r}")
            signed[name] = np.where(np.asarray(correct[name], dtype=bool), np.asarray(values, dtype=float), -1.0)
        finite = [values[np.isfinite(values)].max(initial=0.0) for values in signed.values()]
        end = max([0.0, *map(float, finite)]) or 1.0
        return cls({name: np.where(np.isposinf(v), end, v) for name, v in signed.items()}).plot(ax)

    def plot(self, ax: Any = None) -> RadiusDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self)
        largest = max(0.0, *(float(values.max()) for values in self.radii.values()))
        for colour, (name, values) in zip(COLOURS, self.radii.items()):
            right = np.sort(values[values >= 0.0])
            # right of every radius one sample fewer is certified
            heights = (right.size - np.arange(right.size + 1)) / values.size
            self.ax_.step([0.0, *right], heights, where="post", color=colour, label=name)
        self.ax_.set(xlim=(0.0, 1.03 * largest or 1.0), ylim=(0.0, 1.02))
        self.ax_.set(xlabel=r"Radius of the perturbation, $\ell_2$ norm", ylabel="Certified accuracy")
        legend_above(self.ax_)
        return self


@final
@dataclass(eq=False)
class GradientGapDisplay(Display):
    """Relative difference of contrastive and back-propagated gradients against the feedback γ, one line per layer.

    Attributes
    ----------
    gammas : ndarray, shape (K,)
    errors : mapping of str to ndarray, shape (K,)
    """

    gammas: Float
    errors: Mapping[str, Float]
    ax_: Any = field(init=False, repr=False)
    figure_: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.gammas = finite_array(self.gammas, "gammas", ndim=(1,))
        self.errors = _checked(self.errors, "errors")
        for name, values in self.errors.items():
            if values.shape != self.gammas.shape:
                raise InvalidInputError(f"errors[{name!r}] has shape {values.shape}, gammas has {self.gammas.shape}")

    @classmethod
    def from_errors(cls, gammas: ArrayLike, errors: Mapping[str, ArrayLike], *, ax: Any = None) -> GradientGapDisplay:
        """Draw the errors by layer."""
        return cls(gammas, errors).plot(ax)  # type: ignore[arg-type]  # converted at construction

    def plot(self, ax: Any = None) -> GradientGapDisplay:
        """Draw on ``ax``, or on a new figure."""
        self.figure_, self.ax_ = axes_for(ax, self)
        for colour, marker, (name, values) in zip(COLOURS, MARKERS, self.errors.items()):
            self.ax_.plot(self.gammas, values, "-", marker=marker, ms=4.5, color=colour, label=name)
        first = next(iter(self.errors.values()))
        at = int(np.argmax(self.gammas))
        guide = first[at] * self.gammas / self.gammas[at]
        self.ax_.plot(self.gammas, guide, "--", color=GREY, lw=1, label="proportional to γ")
        self.ax_.set(xscale="log", yscale="log")
        self.ax_.set(xlabel="Feedback γ", ylabel="Relative error of the gradient")
        legend_above(self.ax_)
        return self


def _lines(ax: Any, curves: Mapping[str, Float], colours: Mapping[str, str], style: str) -> None:
    for name, values in curves.items():
        ax.plot(np.arange(1, values.size + 1), values, style, color=colours[name], label=name)


def _checked(values: Mapping[str, Float], name: str) -> dict[str, Float]:
    check_models(values, name)
    checked = {key: finite_array(array, f"{name}[{key!r}]", ndim=(1,)) for key, array in values.items()}
    for key, array in checked.items():
        if array.size == 0:
            raise InvalidInputError(f"{name}[{key!r}] is empty: at least one value is needed")
    return checked
