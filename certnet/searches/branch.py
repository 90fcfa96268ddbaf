r"""Branch and bound: closes ``lower ≤ L ≤ upper`` for a small hidden layer with one kink at zero.

``L = max ‖V diag(s) W‖₂`` over the activation cells that some input reaches. A node fixes the sides of some units; the
others are relaxed as in LipSDP (:mod:`certnet.searches.relax`). Sides that no input reaches within a node are found by
Gordan's theorem (:mod:`certnet.searches.cells`) and cut off; the inputs found in between raise the lower side. The tree
is the proof, re-checked by :mod:`certnet.proofs.tree`; nothing else found here is trusted.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certnet.claims.region import ALL, Region
from certnet.core.errors import CertificateError, InvalidInputError
from certnet.core.until import Until
from certnet.core.validation import Float, finite_array, positive_number, whole_number
from certnet.networks.hidden import HiddenLayer
from certnet.proofs.gradients import gradient_norm_below
from certnet.proofs.tree import MAX_NODES, Highest, Sides, TreeChecker
from certnet.searches.cells import Cells
from certnet.searches.relax import NodeBound, relaxation
from certnet.searches.result import BranchResult
from certnet.searches.shallow import Balanced, balance

__all__ = ["Prover", "close_bracket"]

Prover = Callable[[Float], float]
"""A proved lower bound of L from a point (d,), 0 where none follows."""

_ROOT_ROUNDS, _ROUNDS = 60, 8  # of refinement of a bound, at the root and below
_DIVE_EVERY = 16  # nodes between two greedy descents to a cell
_NOTHING = 1e-13  # of the largest unit: what is left when units cancel is not told from rounding
_SEEN = 1e-12  # a hyperplane must be this far from a point, both of norm one, for its side to be known
_SHARE = 0.5  # of the tolerance that the search uses; the rest is for rounding
_PROOF_SECONDS = 1e-3  # of a leaf, kept back from the time limit


def close_bracket(
    network: HiddenLayer,
    *,
    low: Float | float = 0.0,
    high: Float | float = 1.0,
    lower: float,
    witness: ArrayLike,
    prove: Prover | None = None,
    region: Region = ALL,
    highest: Highest | None = None,
    tol: float = 1e-6,
    time_limit: float = 60.0,
    max_nodes: int = MAX_NODES,
    random_state: int = 0,
    should_stop: Callable[[], bool] | None = None,
) -> BranchResult:
    """The bracket of L, closed to a relative ``tol`` or as far as time and nodes allow.

    Parameters
    ----------
    network : HiddenLayer
        Its W, b and V are used; its activation is that of the slopes.
    low, high : float or ndarray, shape (h,)
        Slopes of the units where ``w_j x + b_j`` is negative, and where it is positive.
    lower, witness : float and array_like of shape (d,)
        A proved lower bound and the point that proves it.
    prove : callable, optional
        Proves a lower bound at a point, in the units' actual activation and within what is claimed. By default the
        gradient of a ReLU network, for all inputs.
    region : Region
        A ball of the l2 norm or a box that the claim is about: cells that do not meet it are cut off.
    highest : callable, optional
        Of such a region: :func:`certnet.proofs.tree.highest_in`.
    tol : float
        Relative gap ``upper / lower − 1`` that counts as closed.
    time_limit : float
        Seconds, the proof of the result included.
    max_nodes : int
        Limit on the nodes of the tree.
    random_state : int
        Seed of the start; the result is reproducible where the time limit was not reached.
    should_stop : callable, optional
        Asked before every node; the best bracket is kept.

    Raises
    ------
    InvalidInputError
        Slopes that are not those of ReLU without a ``prove``; arguments of wrong shape or range.
    CertificateError
        No bound could be proved: the weights span too many orders of magnitude.
    """
    start = time.perf_counter()
    low, high = (_slopes(s, name, network.n_hidden) for s, name in ((low, "low"), (high, "high")))
    point = finite_array(witness, "witness", ndim=(1,))
    if point.shape != (network.n_inputs,):
        raise InvalidInputError(f"witness has shape {point.shape}, the network has {network.n_inputs} inputs")
    if prove is None:
        if low.any() or (high != 1.0).any():
            raise InvalidInputError(
                "the slopes are not those of ReLU: give prove, which proves gradients of the network"
            )
        prove = _relu_prover(network)
    max_nodes = min(whole_number(max_nodes, "max_nodes", least=1), MAX_NODES)
    tol = positive_number(tol, "tol")
    # the search, on balanced units
    best = _Best(prove, positive_number(lower, "lower", zero=True), point)
    until = Until(start + positive_number(time_limit, "time_limit"), should_stop)
    rng = np.random.default_rng(whole_number(random_state, "random_state"))
    balanced = balance(network.W, network.V, np.maximum(np.abs(low), np.abs(high)))
    if balanced is None:
        tree: list[list[Any]] = [["bound", [0.0] * network.n_hidden]]
        guess, n_nodes = 0.0, 1
    else:
        search = _Search(network, balanced, low, high, best, tol, until, Cells(network, region, highest))
        search.run(rng, max_nodes)
        tree, guess = search.tree()
        n_nodes = search.n_nodes
    # the proof, on the network's own
    checker = TreeChecker(network, tree, low, high, highest)
    upper = checker.smallest(guess)
    if upper is None:
        raise CertificateError(
            f"no bound near {guess:.6g} could be proved ({checker.refusal or 'the numbers are too large'}): rescale "
            "the units, (w_j, b_j) / κ and V_:j κ, to weights of similar magnitudes"
        )
    closed = upper <= best.lower * (1.0 + tol)
    return BranchResult(upper, best.lower, best.witness, tree, closed, n_nodes, time.perf_counter() - start)


def _slopes(value: Float | float, name: str, h: int) -> Float:
    slopes = finite_array(value, name, ndim=(0, 1))
    if slopes.shape not in ((), (h,)):
        raise InvalidInputError(f"{name} has shape {slopes.shape}: one slope, or one per unit ({h}), is needed")
    return np.broadcast_to(slopes, (h,))


def _relu_prover(network: HiddenLayer) -> Prover:
    return lambda x: gradient_norm_below(network, x)


class _Best:
    """The lower side: the best point so far."""

    def __init__(self, prove: Prover, lower: float, witness: Float) -> None:
        self._prove = prove
        self.lower, self.witness = lower, witness

    def offer(self, x: Float | None) -> None:
        value = self._prove(x) if x is not None else 0.0
        if x is not None and value > self.lower:
            self.lower, self.witness = value, x


@dataclass(eq=False)
class _Record:
    """A node of the tree as it grows: a leaf with a bound, a split with two children, or empty."""

    upper: float
    t: Float
    unit: int = -1
    children: tuple[_Record, ...] = ()
    empty: list[Any] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Node:
    """An open leaf: sides (h,) with the splits that matter for its cells, points (n, d + 1) in it, and its bound."""

    record: _Record
    sides: Sides
    walls: list[int]
    points: list[Float]
    found: NodeBound


class _Search:
    """Best-first search over one network; bounds are those of the balanced units, up to a power of two."""

    def __init__(
        self,
        network: HiddenLayer,
        balanced: Balanced,
        low: Float,
        high: Float,
        best: _Best,
        tol: float,
        until: Until,
        cells: Cells,
    ) -> None:
        self._best, self._balanced, self._until = best, balanced, until
        self._W, self._V = balanced.W, balanced.V
        self._low, self._high = low[balanced.kept], high[balanced.kept]
        self._units = np.flatnonzero(balanced.kept)  # of the network
        self._relax = relaxation(self._W, self._V, self._low, self._high)
        self._cells = cells
        self._G = self._cells.G[self._units]
        self._h = network.n_hidden
        self._branchable = self._low != self._high
        self._goal = 1.0 + _SHARE * tol
        self._open: list[tuple[float, int, _Node]] = []
        self._leaves = 1
        self.n_nodes = 1

    # ------------------------------------------------------------------------------------------- the loop

    def run(self, rng: np.random.Generator, max_nodes: int) -> None:
        sides: Sides = np.zeros(len(self._units), dtype=np.int8)
        self._raise_to(self._best.lower)
        found = self._relax.bound(sides, self._relax.start(rng), self._target, _ROOT_ROUNDS)
        self._root = _Record(found.upper, found.t)
        self._push(_Node(self._root, sides, [], [np.eye(self._G.shape[1])[-1]], found))
        taken = 0
        room = 2 * len(self._units) + 2  # what one step may add
        while self._open and self.n_nodes + room <= max_nodes and not self._late():
            node = heapq.heappop(self._open)[-1]
            if node.found.upper <= self._target:
                return  # best first: all the others are below too
            if taken % _DIVE_EVERY == 0:
                self._dive(node)
            taken += 1
            self._split(self._cut(node))

    def _late(self) -> bool:
        proof = _PROOF_SECONDS * self._leaves
        return self._until.reached is not None or time.perf_counter() + proof > self._until.deadline

    @property
    def _target(self) -> float:
        return self._lower * self._goal

    def _raise_to(self, lower: float) -> None:
        with np.errstate(over="ignore", under="ignore"):
            self._lower = float(np.ldexp(lower, -self._balanced.exponent))

    def _push(self, node: _Node) -> None:
        if node.found.upper > self._target:
            heapq.heappush(self._open, (-node.found.upper, self.n_nodes, node))

    # -------------------------------------------------------------------------------------------- a step

    def _cut(self, node: _Node) -> _Node:
        """Fix the units that have one side only in this node; its bound with those fixed."""
        sides, points, record = node.sides.copy(), list(node.points), node.record
        # of every free unit and side: a point there, or the proof that there is none
        seen = self._seen(points)
        for j in map(int, np.flatnonzero((sides == 0) & self._branchable)):
            for side in (-1, 1):
                if seen[(side + 1) // 2, j] or sides[j] or self._late():
                    continue
                sides[j] = side
                point, proof = self._cells.decide(*self._global([*node.walls, j], sides))
                sides[j] = 0
                if point is not None:
                    points.append(point)
                    seen |= self._seen([point])
                if proof is not None:
                    sides[j] = -side
                    record = self._grow_empty(record, j, side, proof)
        self._offer(points[len(node.points) :])
        if record is node.record:
            return node if len(points) == len(node.points) else _Node(record, sides, node.walls, points, node.found)
        found = self._bound(sides, node.found)
        record.upper, record.t = found.upper, found.t
        return _Node(record, sides, node.walls, points, found)

    def _split(self, node: _Node) -> None:
        """Two children on either side of the unit that the relaxation is least clear about."""
        if node.found.upper <= self._target:
            return
        free = (node.sides == 0) & self._branchable
        if not free.any():
            self._offer_thin(node)  # its bound is its norm: above the lower side, it stays as it is
            return
        score = np.where(free, node.found.weight * (1.0 - np.abs(node.found.lean)) + 1e-12 * node.found.weight, -1.0)
        j = int(np.argmax(score))
        children = []
        for side in (-1, 1):
            sides = node.sides.copy()
            sides[j] = side
            found = self._bound(sides, node.found)
            kept = self._useful([z for z in node.points if side * (self._G[j] @ z) > 0.0])
            children.append(_Node(_Record(found.upper, found.t), sides, [*node.walls, j], kept, found))
        node.record.unit, node.record.children = j, tuple(child.record for child in children)
        self._leaves += 1
        for child in children:
            self.n_nodes += 1
            self._push(child)

    def _bound(self, sides: Sides, parent: NodeBound) -> NodeBound:
        found = self._relax.bound(sides, parent.state, self._target, _ROUNDS)
        if found.upper <= parent.upper:
            return found
        # with a unit fixed the parent's multipliers prove as much as before
        return NodeBound(parent.upper, np.where(sides == 0, parent.t, 0.0), found.lean, found.weight, found.state)

    def _grow_empty(self, record: _Record, j: int, side: int, proof: list[Any]) -> _Record:
        """Split off the side of unit j that is empty; the record of the other."""
        empty = _Record(0.0, record.t, empty=proof)
        left = _Record(record.upper, record.t)
        record.unit, record.children = j, (empty, left) if side < 0 else (left, empty)
        self.n_nodes += 2
        return left

    # ----------------------------------------------------------------------------------- points and cells

    def _global(self, units: Sequence[int], sides: Sides) -> tuple[list[int], Sides]:
        """The same with the network's own numbers of the units."""
        of_network: Sides = np.zeros(self._h, dtype=np.int8)
        of_network[self._units] = sides
        return [int(self._units[j]) for j in units], of_network

    def _seen(self, points: Sequence[Float]) -> np.ndarray:
        """Whether some of the points lie on the low (row 0) and on the high side (row 1) of each unit."""
        if not points:
            return np.zeros((2, len(self._units)), dtype=bool)
        z = np.array(points) @ self._G.T
        return np.stack([(z < -_SEEN).any(axis=0), (z > _SEEN).any(axis=0)])

    def _useful(self, points: Sequence[Float]) -> list[Float]:
        """Those that lie where the ones before do not."""
        kept, seen = [], self._seen([])
        for z in points:
            here = self._seen([z])
            if (here & ~seen).any():
                kept.append(z)
                seen |= here
        return kept

    def _offer(self, points: Sequence[Float]) -> None:
        """Raise the lower side by those of the points where the gradient is steeper."""
        if not points:
            return
        slopes = np.where(np.array(points) @ self._G.T > 0.0, self._high, self._low)
        if len(self._V) == 1:
            norms = np.linalg.norm((slopes * self._V[0]) @ self._W, axis=1)
        else:
            norms = np.array([np.linalg.norm((self._V * s) @ self._W, 2) for s in slopes])
        for i in np.argsort(-norms):
            if norms[i] <= self._lower * (1.0 + 1e-12):
                return
            self._best.offer(self._cells.location(points[i]))
            self._raise_to(self._best.lower)

    def _offer_thin(self, node: _Node) -> None:
        """More points of one cell, whose gradient was not told from rounding so far."""
        units, sides = self._global(node.walls, node.sides)
        everyone = [int(j) for j in np.flatnonzero(sides)]
        for point in (self._cells.point(everyone, sides), self._cells.centre(units, sides)):
            if point is not None:
                self._offer([point])

    def _dive(self, node: _Node) -> None:
        """Fix one unit after the other to the side that the relaxation prefers, where that can be reached."""
        if not node.points:
            return
        sides, walls, z = node.sides.copy(), list(node.walls), node.points[-1]
        # units in the order of what their side is worth to the relaxation
        urge = node.found.weight * np.abs(node.found.lean)
        for j in np.argsort(-urge, kind="stable"):
            if self._late():
                return
            if sides[j] or not self._branchable[j]:
                continue
            walls.append(int(j))
            wanted = 1 if node.found.lean[j] > 0.0 else -1
            sides[j] = wanted
            if wanted * (self._G[j] @ z) > _SEEN:
                continue
            point = self._cells.point(*self._global(walls, sides))
            if point is None:
                sides[j] = -wanted
            else:
                z = point
        self._offer([z])

    # ------------------------------------------------------------------------------------------- the proof

    def tree(self) -> tuple[list[list[Any]], float]:
        """The tree in preorder, without splits that were not needed in the end, and the bound that it proves."""
        upper = max(_bounds_of_leaves(self._root))
        nodes: list[list[Any]] = []
        stack = [self._root]
        while stack:
            record = stack.pop()
            if record.empty:
                nodes.append(record.empty)
            elif record.children and record.upper > upper:
                nodes.append(["split", int(self._units[record.unit])])
                stack.extend(reversed(record.children))
            else:
                nodes.append(["bound", self._multipliers(record.t)])
        return nodes, self._balanced.size(max(upper, _NOTHING))

    def _multipliers(self, t: Float) -> list[float]:
        """Of the network's own units, to ten digits: more are of no use, and a file holds thousands of them."""
        own = np.zeros(self._h)
        own[self._units] = self._balanced.multipliers(t)
        return [float(f"{a:.10g}") for a in own]


def _bounds_of_leaves(root: _Record) -> list[float]:
    found, stack = [], [root]
    while stack:
        record = stack.pop()
        stack.extend(record.children)
        if not record.children and not record.empty:
            found.append(record.upper)
    return found
