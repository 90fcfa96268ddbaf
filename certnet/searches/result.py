"""What every search for multipliers returns: numbers in floating point, of which the checker of a proof decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from certnet.core.outcome import Status
from certnet.core.validation import Float

__all__ = ["BranchResult", "SearchResult", "dual_value"]

M = TypeVar("M", Float, tuple[Float, ...])


@dataclass(frozen=True, eq=False)
class BranchResult:
    """A bracket with the tree that proves its upper side.

    Attributes
    ----------
    upper, lower : float
        ``lower ≤ L ≤ upper``.
    witness : ndarray, shape (d,)
        The point that proves ``lower``.
    tree : list
        Nodes in preorder, for :class:`~certnet.proofs.tree.TreeChecker` or
        :class:`~certnet.proofs.parts.PartsChecker`; JSON holds it.
    closed : bool
        ``upper ≤ lower (1 + tol)``.
    n_nodes : int
        Nodes that were looked at; the tree may be smaller.
    seconds : float
    """

    upper: float
    lower: float
    witness: Float
    tree: list[list[Any]]
    closed: bool
    n_nodes: int
    seconds: float


@dataclass(frozen=True, eq=False)
class SearchResult(Generic[M]):
    """Multipliers, the bound on L that they give, and the dual value below it, both in floating point.

    Attributes
    ----------
    multipliers : ndarray, or tuple of ndarrays
    upper : float
    below : float
        No multipliers of this kind give less; 0 where nothing is known.
    status : Status
    input_weights : ndarray, shape (d,), or None
        In the maximum norm: the weights s of the inputs.
    steps : int
        Newton steps, where they were counted.
    """

    multipliers: M
    upper: float
    below: float
    status: Status
    input_weights: Float | None = None
    steps: int = 0

    @property
    def gap(self) -> float:
        return self.gap_of(self.upper)

    def gap_of(self, upper: float) -> float:
        """``(upper / below)² − 1``: the relative gap of the squared bound ρ; infinite without a dual value."""
        if upper == 0.0:
            return 0.0
        return (upper / self.below) ** 2 - 1.0 if self.below > 0.0 else float("inf")


def dual_value(upper: float, gap: float) -> float:
    """The dual value of a bound whose square has the relative gap ``gap``; 0 where that is not finite."""
    return float(upper / (1.0 + gap) ** 0.5) if gap < float("inf") else 0.0
