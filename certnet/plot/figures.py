"""What the pictures share: colours, axes, legends and files. matplotlib is imported here alone."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from certnet.core.errors import InvalidInputError, MissingDependencyError
from certnet.core.files import check_writable, path_of, write_atomic
from certnet.core.validation import Float, positive_number

__all__ = [
    "COLOURS",
    "GREY",
    "MARKERS",
    "NORMS",
    "Display",
    "axes_for",
    "check_models",
    "figure_png",
    "legend_above",
    "save_figure",
    "spoken",
    "wide",
]

# Okabe & Ito, Color Universal Design (2008), the dark ones first
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY: Final = "#666666"
MARKERS: Final = ("D", "s", "^", "v", "o", "P", "X")
NORMS: Final = {"l2": r"$\ell_2$", "linf": r"$\ell_\infty$"}
_WIDE: Final = 30.0
"""An axis is logarithmic where the largest value exceeds the smallest, positive one by this factor."""


class Display(ABC):
    """A picture that a notebook shows by itself, without pyplot's global state."""

    figure_: Any

    @abstractmethod
    def plot(self, ax: Any = None) -> Display:
        """Draw on ``ax``, or on a new figure."""

    def _repr_png_(self) -> bytes:
        return figure_png(self.figure_, dpi=100.0)


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
    kind = path_of(path).suffix.lower().removeprefix(".")
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


def axes_for(ax: Any, display: object, *, width: float = 6.4, height: float = 4.2) -> tuple[Any, Any]:
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
            'pictures need matplotlib (certnet[plot]): pip install "matplotlib>=3.10.8"'
        ) from error
    return Figure


def legend_above(ax: Any) -> None:
    """A legend above the axes, where it hides nothing, in as many columns as the longest label leaves room for."""
    longest = max(len(label) for label in ax.get_legend_handles_labels()[1])
    columns = int(np.clip(76 // (longest + 7), 1, 3))
    legend = ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False, borderaxespad=0.3)
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)


def spoken(units: str, what: str) -> str:
    return f"{what} as given" if units == "as given" else f"{units} {what}"


def wide(values: Float) -> bool:
    return bool(values.size and values.min() > 0.0 and values.max() > _WIDE * values.min())


def check_models(models: object, name: str) -> None:
    if not isinstance(models, Mapping) or not 1 <= len(models) <= len(COLOURS):
        raise InvalidInputError(
            f"{name} must be a mapping from names to values, with 1 to {len(COLOURS)} entries "
            "(more cannot be told apart by colour)"
        )
