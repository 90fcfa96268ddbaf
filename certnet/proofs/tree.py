r"""Proofs by a branch-and-bound tree for one hidden layer with one kink at zero. NumPy only.

``f(x) = V φ(W x + b) + c`` with slope low_j of φ_j where ``z_j = w_jᵀ x + b_j < 0`` and high_j where ``z_j > 0`` has

    L = max { ‖V diag(s) W‖₂ : s the slopes of a cell },    cell(σ) = { x : σ_j z_j > 0 for all j with w_j ≠ 0 } ≠ ∅,

because the cells are dense. A node of the tree fixes the sides σ_j of some units and stands for the cells within. It is

- ``["split", j]``: followed in the list by the tree of ``σ_j = −1``, then by that of ``σ_j = +1``;
- ``["bound", t]``: the multipliers t (h,) bound every cell of the node, by :mod:`certnet.proofs.shallow` with the
  slopes of the fixed units known;
- ``["empty", S]``: no cell is left. Farkas (or Gordan): there are ``y_j > 0`` for j in S, fixed units, with
  ``Σ_S y_j σ_j w_j = 0`` and ``Σ_S y_j σ_j b_j ≤ 0``, while ``Σ_S y_j σ_j z_j > 0`` in a cell. S must leave one y up to
  a factor; it is recomputed in exact integer arithmetic;
- ``["empty", S, y]``: no cell is left that meets the region of the claim, a ball or a box, in which
  ``Σ_S y_j σ_j z_j`` is below zero; its maximum there is known, and rounded up.

``L ≤ u`` is proved when every bound leaf proves it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.networks.hidden import HiddenLayer
from certnet.proofs.inflation import inflated
from certnet.proofs.proof import Checker, LayeredProof
from certnet.proofs.relaxation import highest, inputs_of, limits
from certnet.proofs.shallow import BoundChecker
from certnet.proofs.subject import Subject

__all__ = [
    "MAX_NODES",
    "MAX_WORK",
    "Combinations",
    "EmptyCells",
    "Highest",
    "LeavesChecker",
    "Sides",
    "TreeChecker",
    "TreeProof",
    "highest_in",
    "is_index",
    "side_slopes",
]

MAX_NODES: Final = 300_000
"""Nodes of a tree that are looked at; a longer list is refused."""

MAX_WORK: Final = 1 << 30
"""Products of 64-bit words, roughly, that all empty leaves together may ask for: about a minute."""

Sides = NDArray[np.int8]
"""Of every unit: −1 and +1 where it is fixed to z_j < 0 and z_j > 0, 0 where it is free."""

Highest = Callable[[Float], float]
"""At least the largest value of ``y · z`` in a region, z the pre-activations of the hidden layer, y (h,)."""

_KEPT = 1 << 24  # numbers in matrices of leaves that are kept: 128 MiB
_SHOWN = 8  # splits of a path that a message shows


@register("feed-forward", "tree")
class TreeProof(LayeredProof):
    """The nodes of a tree in preorder."""

    KIND: ClassVar[str] = "tree"
    LAYOUT: ClassVar[str] = "nodes"

    def checker(self, subject: Subject) -> Checker | None:
        if subject.claim.norm != "l2" or not subject.one_kink_at_zero:
            return None
        left, right = subject.side_slopes
        return TreeChecker(subject.hidden, list(self.multipliers), low=left, high=right, highest=highest_in(subject))


def highest_in(subject: Subject) -> Highest | None:
    """Of the region of a claim about one hidden layer; None for all inputs."""
    if subject.everywhere:
        return None
    network = subject.network
    inputs = inputs_of(subject.claim.region, network.n_inputs, subject.claim.norm)
    known = limits(network, inputs)
    return lambda y: float(highest(network, inputs, known, [y[None]])[0])


class LeavesChecker(Checker):
    """Parts of a claim, each with a checker of its own, that together prove it."""

    @abstractmethod
    def _checkers(self) -> Iterator[tuple[str, Checker]]:
        """Of every part, in words where it is, the checker."""

    def objection(self, upper: object) -> str | None:
        """Why the bound is not proved."""
        for where, checker in self._checkers():
            objection = checker.refusal or checker.objection(upper)
            if objection is not None:
                return f"{where}: {objection}"
        return None

    def smallest(self, guess: float) -> float | None:
        """A bound of at least ``guess`` that holds, raised as little as the parts ask for.

        None when even twice the guess is not proved for some part.
        """
        if self.refusal is not None:
            return None
        upper = guess
        for _, checker in self._checkers():
            if not checker.holds(upper):
                raised = _raised(checker, upper)
                if raised is None:
                    return None
                upper = raised
        # what holds need not hold for every larger number
        return upper if self.holds(upper) else inflated(self.holds, upper, first=1e-14, most=2e-10)


class TreeChecker(LeavesChecker):
    """One hidden layer and one tree, prepared to test many bounds.

    Parameters
    ----------
    layer : HiddenLayer
        Its W, b and V are used; its activation is that of the slopes.
    tree : sequence of nodes
        In preorder, see the module; lists and numbers as JSON has them.
    low, high : float or ndarray, shape (h,)
        Slopes of the units for z_j < 0 and for z_j > 0: ReLU's by default. The proof is for activations that are
        linear on either side of zero; whoever calls knows that of the network.
    highest : callable, optional
        Of the region of the claim, if that is not everywhere.
    """

    def __init__(
        self,
        layer: HiddenLayer,
        tree: object,
        low: Float | float = 0.0,
        high: Float | float = 1.0,
        highest: Highest | None = None,
    ) -> None:
        self.refusal = None
        self._layer, self._highest = layer, highest
        self._leaves: list[_Leaf] = []
        self._room = _KEPT // (layer.n_inputs + layer.n_outputs) ** 2
        try:
            slopes = tuple(np.broadcast_to(np.asarray(s, np.float64), (layer.n_hidden,)) for s in (low, high))
        except (TypeError, ValueError, OverflowError):
            self.refusal = f"the slopes are not numbers, or not one per unit ({layer.n_hidden})"
            return
        self._low, self._high = slopes
        if not all(np.isfinite(s).all() for s in slopes):
            self.refusal = "a slope is NaN or infinite"
        elif not isinstance(tree, list | tuple) or not tree:
            self.refusal = "the tree is not a list of nodes"
        elif len(tree) > MAX_NODES:
            self.refusal = f"the tree has {len(tree)} nodes, more than {MAX_NODES}"
        else:
            self._read(tree)

    def _read(self, tree: Sequence[object]) -> None:
        walk = _Walk(self._layer)
        cells = EmptyCells(self._layer, self._highest)
        for number, node in enumerate(tree):
            if walk.done:
                self.refusal = f"nodes are left over: the tree is complete before node {number}"
                return
            where = f"node {number} ({walk.path()})"
            kind, data = _parsed(node)
            reason: str | None
            if kind == "split":
                reason = walk.split(data)
            elif kind in ("empty", "empty here"):
                reason = cells.refusal(data, walk.sides) if kind == "empty" else cells.refusal_here(data, walk.sides)
                walk.leave()
            elif kind == "bound":
                checker = self._checker(data, walk.sides)
                reason = checker.refusal
                kept = checker if len(self._leaves) < self._room else None
                self._leaves.append(_Leaf(where, data, walk.sides.copy(), kept))
                walk.leave()
            else:
                reason = "not one of [split, unit], [bound, multipliers], [empty, units], [empty, units, weights]"
            if reason is not None:
                self.refusal = f"{where}: {reason}"
                return
        if not walk.done:
            self.refusal = f"the tree ends at node {len(tree)}, where the subtree of {walk.path()} is missing"
        elif not self._leaves:
            self.refusal = "no leaf of the tree gives a bound"

    def _checker(self, multipliers: Sequence[float], sides: Sides) -> BoundChecker:
        least, most = side_slopes(sides, self._low, self._high)
        return BoundChecker(self._layer, multipliers, low=least, high=most)

    def _checkers(self) -> Iterator[tuple[str, BoundChecker]]:
        for leaf in self._leaves:
            yield leaf.where, leaf.kept or self._checker(leaf.multipliers, leaf.sides)


@dataclass(frozen=True, eq=False)
class _Leaf:
    """A bound leaf; its checker is made again where there was no room to keep it."""

    where: str
    multipliers: Sequence[float]
    sides: Sides
    kept: BoundChecker | None


def side_slopes(sides: Sides, low: Float, high: Float) -> tuple[Float, Float]:
    """The interval of every unit's slope, arrays (h,), where it has low_j for z_j < 0 and high_j for z_j > 0."""
    least = np.where(sides < 0, low, np.where(sides > 0, high, np.minimum(low, high)))
    most = np.where(sides < 0, low, np.where(sides > 0, high, np.maximum(low, high)))
    return least, most


def _parsed(node: object) -> tuple[str, Any]:
    """Kind and data of a node, its data of the right types; numbers are judged later. The kind is empty if wrong."""
    if not isinstance(node, list | tuple) or not 2 <= len(node) <= 3:
        return "", None
    kind, data, *more = node
    if kind == "empty" and isinstance(data, list | tuple) and all(map(is_index, data)):
        if not more:
            return "empty", data
        return ("empty here", (data, more[0])) if _are_numbers(more[0]) else ("", None)
    if more:
        return "", None
    if kind == "split" and is_index(data):
        return "split", data
    if kind == "bound" and _are_numbers(data):
        return "bound", data
    return "", None


def _are_numbers(values: object) -> bool:
    return isinstance(values, list | tuple) and all(type(t) in (int, float) for t in values)


def is_index(value: object) -> bool:
    return type(value) is int


def _raised(checker: Checker, least: float) -> float | None:
    """A bound above ``least`` that one leaf proves, within one part in 1e13 of the smallest."""
    proved = checker.smallest(least)
    if proved is None:
        return None
    failed = least
    while proved - failed > 1e-13 * proved:
        middle = failed + 0.5 * (proved - failed)
        if checker.holds(middle):
            proved = middle
        else:
            failed = middle
    return proved


class _Walk:
    """Where a walk through a tree in preorder stands: the sides that are fixed there."""

    def __init__(self, network: HiddenLayer) -> None:
        self.sides: Sides = np.zeros(network.n_hidden, dtype=np.int8)
        self.done = False
        self._constant: list[bool] = (network.W == 0.0).all(axis=1).tolist()
        self._path: list[int] = []

    def split(self, unit: int) -> str | None:
        """Go to the low side of a unit; the reason where that is not allowed."""
        if not 0 <= unit < len(self.sides):
            return f"it splits a unit that does not exist; there are {len(self.sides)}"
        if self._constant[unit]:
            return f"it splits unit {unit}, whose weights are zero: it has no sides"
        if self.sides[unit]:
            return f"it splits unit {unit}, which is fixed there"
        self.sides[unit] = -1
        self._path.append(unit)
        return None

    def leave(self) -> None:
        """Go to the next node that a list in preorder holds after a leaf."""
        while self._path and self.sides[self._path[-1]] > 0:
            self.sides[self._path.pop()] = 0
        if self._path:
            self.sides[self._path[-1]] = 1
        else:
            self.done = True

    def path(self) -> str:
        shown = [f"{'+' if self.sides[j] > 0 else '-'}{j}" for j in self._path[-_SHOWN:]]
        return "sides " + " ".join(["..."] * (len(self._path) > _SHOWN) + shown) if shown else "root"


class Combinations:
    """Exact proofs that functions ``g·x + h`` are not all positive anywhere, with a limit on all the work.

    Attributes
    ----------
    work : int
        What was spent of :data:`MAX_WORK`.
    """

    def __init__(self) -> None:
        self.work: int = 0

    def combination_refusal(self, columns: Sequence[Sequence[int]], *, strict: bool = False) -> str | None:
        """Why the functions (g, h), whole numbers, do not prove it; ``strict``: that one is negative everywhere.

        The one combination with ``Σ y_j g_j = 0``, y > 0, is to have ``Σ y_j h_j ≤ 0``, or below 0.
        """
        d = len(columns[0]) - 1
        bits = max(abs(a).bit_length() for column in columns for a in column)
        words = len(columns) * bits // 64
        # dividing long numbers takes their square
        self.work += d * len(columns) ** 2 * (1 + words + words**2 // 256)
        if self.work > MAX_WORK:
            return "the tree asks for too much exact arithmetic"
        y = _kernel([list(row) for row in zip(*(column[:d] for column in columns))])
        if y is None:
            return "the units of an empty cell do not determine their combination"
        if not (all(a > 0 for a in y) or all(a < 0 for a in y)):
            return "the cell is not shown to be empty: a multiplier is not positive"
        total = sum(abs(a) * column[d] for a, column in zip(y, columns))
        if total > 0 or (strict and total == 0):
            return "the cell is not shown to be empty: the biases leave room"
        return None


class EmptyCells(Combinations):
    """Proofs that no point is on the given sides of some units: exact ones, and those of a region."""

    def __init__(self, network: HiddenLayer, highest: Highest | None = None) -> None:
        super().__init__()
        self._network, self._highest = network, highest
        self._rows: dict[int, list[int]] = {}

    def refusal_here(self, shown: tuple[Sequence[int], Sequence[float]], sides: Sides) -> str | None:
        """Why units and their weights do not prove that the region does not meet the closed cell."""
        units, weights = shown
        if self._highest is None:
            return "weights of units show that a cell is empty in a region, the claim is about all inputs"
        if len(units) != len(weights) or len(set(units)) != len(units):
            return "an empty cell is shown by different units with one weight each"
        if any(not 0 <= j < len(sides) or sides[j] == 0 for j in units):
            return "an empty cell is shown by units that are fixed there"
        if not all(0.0 < a < 2.0**1000 for a in weights):
            return "a weight of an empty cell is not positive and finite"
        y = np.zeros(len(sides))
        y[list(units)] = sides[list(units)] * np.array(weights, dtype=np.float64)
        return None if self._highest(y) < 0.0 else "the cell is not shown to be empty in the region"

    def refusal(self, units: Sequence[int], sides: Sides) -> str | None:
        """Why the ``units`` do not prove that the open cell of ``sides`` (h,) is empty; None where they do."""
        d = self._network.n_inputs
        if not 2 <= len(units) <= d + 1 or len(set(units)) != len(units):
            return f"an empty cell is shown by 2 to {d + 1} different units"
        if any(not 0 <= j < len(sides) or sides[j] == 0 for j in units):
            return "an empty cell is shown by units that are fixed there"
        columns = [[int(sides[j]) * a for a in self._row(j)] for j in units]
        return self.combination_refusal(columns)

    def _row(self, j: int) -> list[int]:
        """(w_j, b_j) times a power of two, exact integers; a zero row has no side and must not get here."""
        if j not in self._rows:
            ratios = [float(a).as_integer_ratio() for a in (*self._network.W[j], self._network.b[j])]
            common = max(q for _, q in ratios)  # powers of two
            self._rows[j] = [p * (common // q) for p, q in ratios]
        return self._rows[j]


def _kernel(A: list[list[int]]) -> list[int] | None:
    """The y with ``A y = 0`` for an integer matrix of order (d, s), unique up to a factor; None where it is not.

    Fraction-free Gauss–Jordan elimination (Bareiss 1968): all entries are minors of A, all divisions exact.
    """
    s = len(A[0])
    pivots: list[int] = []  # the column of the pivot in every finished row
    free: list[int] = []
    previous = 1
    for column in range(s):
        at = len(pivots)
        found = next((i for i in range(at, len(A)) if A[i][column]), None)
        if found is None:
            free.append(column)
            if len(free) > 1:
                return None
            continue
        # clear the column above and below the pivot; minors divide exactly
        A[at], A[found] = A[found], A[at]
        row, pivot = A[at], A[at][column]
        for i, other in enumerate(A):
            if i != at:
                factor = other[column]
                A[i] = [(pivot * a - factor * b) // previous for a, b in zip(other, row)]
        previous = pivot
        pivots.append(column)
    if len(free) != 1:
        return None
    # one free column is left: back-substitution with it at the last pivot
    y = [0] * s
    y[free[0]] = previous
    for row, column in zip(A, pivots):
        y[column] = -row[free[0]]
    return y
