"""The penalty's part of an interior-point step: the one protocol that every block keeps.

The method minimises ``fit + block`` over the cells; a block stands for the penalty with its weight or its limit. It
keeps its own primal and dual variables, linearises them, and tells what it adds to the system of the weights:

    (H + own part) dU + Fᵀ v = r,        D v − F dU + C t = g,        Cᵀ v = b

with rows F and columns C of its own (:mod:`certnet.solvers.newton`). What a direction and its corrections are is the
block's own affair.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from certnet.core.validation import Float
from certnet.programs.restriction import Solution
from certnet.solvers.dual_bound import DualPoint

__all__ = ["Block", "BlockAim", "BlockSystem"]


class BlockAim(NamedTuple):
    """Right-hand sides of a direction: r (h, p), g of the rows, b of the columns, and what the block remembers."""

    r: Float
    g: Float
    b: Float
    kept: Any


class BlockSystem(Protocol):
    """What a linearised block tells of its part of the system."""

    D: Float
    """Between its rows, (n_rows, n_rows)."""
    columns: Float
    """C, (n_rows, n_columns)."""

    def aim(self, target: float, corrections: Any | None, r: Float) -> BlockAim:
        """Right-hand sides for complementarity ``target``: r (h, p) gains the part of the eliminated variables."""
        ...

    def direction(self, dU: Float, v: Float, t: Float, aimed: Any) -> Any:
        """The direction of the block's variables, from that of the weights and the multipliers of rows and columns."""
        ...


class Block(Protocol):
    """State of a penalty along the iterations, in whitened coordinates, with p = d + 1."""

    n_rows: int
    """Coupling rows of the system."""
    n_columns: int
    """Its columns."""
    degree: int
    """Of the cones: their complementarity is ``degree · μ`` on the central path."""

    # ---- start and values

    def metric(self) -> Float:
        """The penalty's metric for weights of one unit, (p, p), up to a factor: what the centres are found in."""
        ...

    def start(self, U: Float, pull: Float, share: float, force: float) -> tuple[Float, Float]:
        """A start well inside, exactly dual feasible for residuals zero.

        Parameters
        ----------
        U : ndarray, shape (h, p)
            Directions of the units, each near the analytic centre of its cone.
        pull : ndarray, shape (h, p)
            How cone multipliers ``1 / s`` there pull the weights; nothing in the last column where biases are free.
        share : float
            The penalty's part of the objective to start with.
        force : float
            Factor of the cone multipliers; the bound below is the worse for it.

        Returns
        -------
        U : ndarray, shape (h, p)
            Scaled to the block.
        level : ndarray, shape (h,)
            Cone multipliers are ``level / s``, with the scaled slacks.
        """
        ...

    @property
    def value(self) -> float:
        """What the block adds to the primal objective."""
        ...

    @property
    def dual_value(self) -> float:
        """What it adds to the dual objective."""
        ...

    @property
    def dual_pull(self) -> Float:
        """What its duals take from the gradient in U, (h, p)."""
        ...

    def solution(self, U: Float, c: Float) -> Solution:
        """The point in the data's units, inside the closed cell."""
        ...

    def dual_point(self, residual: Float, z: Float) -> DualPoint:
        """The dual point in the data's units, for residuals (n, m) and multipliers (n, k) that are so already."""
        ...

    # ---- one linearisation

    def scale(self, U: Float) -> bool:
        """Scale the cones at U (Nesterov and Todd); False where floating point no longer can."""
        ...

    @property
    def complement(self) -> float:
        """``<T, Z>`` of primal and dual variables."""
        ...

    def linearise(self, H: Float, rows: Float, first: int) -> BlockSystem:
        """Add the own part to the blocks H (h, p, p), and fill the coupling rows ``rows[..., first:]``."""
        ...

    # ---- along a direction

    def longest(self, step: Any, primal: float, dual: float) -> tuple[float, float]:
        """The longest primal and dual steps up to the given ones that stay inside."""
        ...

    def ahead(self, step: Any, primal: float, dual: float) -> float:
        """``<T + primal dT, Z + dual dZ>``."""
        ...

    def second_order(self, step: Any) -> Any:
        """Mehrotra's correction."""
        ...

    def clipped(self, step: Any, steps: tuple[float, float], bounds: tuple[float, float], corrections: Any) -> Any:
        """Gondzio's correction on top of ``corrections``: products ahead are brought into the bounds."""
        ...

    def move(self, step: Any, primal: float, dual: float) -> None:
        """Take the step; the caller moves U."""
        ...
