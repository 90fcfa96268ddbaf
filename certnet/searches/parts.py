r"""Branch and bound at any depth, in a region or everywhere: closes ``lower ≤ L ≤ upper`` by cutting it into parts.

A part is a box of inputs at which some units are on known sides of their kink. Its bound is LipSDP with the slopes
that its units have there (:mod:`certnet.searches.vectors`); where none is left to bend it is the norm of an affine
map. A part is split

- at the middle of an input: small boxes leave few units undecided. The way for few inputs. The input is the one that
  the undecided units lean on, each weighed by its share in the bound;
- at the kink of a unit: the only way where limits are infinite. Sides that no input of the part reaches are cut off
  (:mod:`certnet.searches.hulls`), layer by layer: units are affine functions as long as those below are decided.

Best first by upper bounds, in rounds of a fixed number of parts, so that the tree is the same for any number of
processes. Gradients at the middle of parts and at the points that the cuts find raise the lower side. The tree is the
proof, re-checked by :mod:`certnet.proofs.parts`; nothing else found here is trusted.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from threadpoolctl import threadpool_limits

from certnet.claims.region import Ball
from certnet.core.errors import CertificateError
from certnet.core.until import Until
from certnet.core.validation import Float
from certnet.proofs.gradients import slope_of_chosen_at
from certnet.proofs.parts import MAX_PRODUCTS, ExactRows, Part, PartsChecker, Space, node_products
from certnet.proofs.regions import UnitSlopes
from certnet.proofs.storage import StorageChecker
from certnet.proofs.subject import Subject
from certnet.proofs.tree import MAX_NODES, MAX_WORK
from certnet.searches.hulls import common_point, nearest_point
from certnet.searches.result import BranchResult
from certnet.searches.vectors import multipliers_with_slack, search_to_goal

__all__ = ["close_parts"]

_ROOM: Final = 1e-10  # of limits: units nearer to a kink count as undecided, whatever another machine's rounding
_SHARE: Final = 0.5  # of the tolerance that the search uses; the rest is for rounding
_ROUND: Final = 16  # parts at a time
_SEEN: Final = 1e-11  # of its terms: what a pre-activation must differ from zero by for its side to be known
_POINTS: Final = 48  # that a part keeps
_FEW: Final = (1.0, 0.25)  # times d (d − 1): undecided units up to which kinks are split, for small and other gaps
_HALVED: Final = 10  # bisections of every input after which parts are split at kinks
_SMALL: Final = 1e-2  # gaps that bisection has a hard time with: where kinks meet no box is small enough
_KINKED: Final = ("relu", "leaky_relu")
_CHEAP_WORK: Final = 0.5  # of the exact arithmetic that a checker allows for
_SLACKS: Final = (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5)
_ELSEWHERE: Final = 1.0 + 2.0**-42  # of the bound: another machine sums in another order


def close_parts(
    subject: Subject,
    *,
    lower: float,
    witness: Float,
    tol: float = 1e-6,
    time_limit: float = 60.0,
    should_stop: Callable[[], bool] | None = None,
    n_jobs: int = 1,
    random_state: int = 0,
    ways: Sequence[str] = ("inputs", "units"),
) -> BranchResult:
    """The bracket of L, closed to a relative ``tol`` or as far as time and nodes allow.

    Parameters
    ----------
    subject : Subject
        Of dense layers. On all inputs, and where a box has no limits, of ReLU, leaky ReLU and linear layers; elsewhere
        activations have values.
    lower, witness : float and ndarray of shape (d,)
        A proved lower bound and the point that proves it.
    tol : float
        Relative gap ``upper / lower − 1`` that counts as closed.
    time_limit : float
        Seconds, the proof of the result included.
    should_stop : callable, optional
        Asked between parts; the best bracket is kept.
    n_jobs : int
        Processes that parts are shared out over. Where the time limit was not reached the tree does not depend on it.
    random_state : int
    ways : sequence of {"inputs", "units"}
        What parts may be split at.

    Raises
    ------
    CertificateError
        No bound could be proved: the weights span too many orders of magnitude.
    """
    start = time.perf_counter()
    until = Until(start + time_limit, should_stop)
    with threadpool_limits(limits=1), np.errstate(all="ignore"):  # what overflows is refused by the checker
        search = _Search(subject, lower, witness, tol, until, random_state, ways)
        with _workers(search.splitter, n_jobs) as each:
            search.run(each)
        upper, tree = search.proved()
    closed = upper <= search.lower * (1.0 + tol)
    seconds = time.perf_counter() - start
    return BranchResult(upper, search.lower, search.witness, tree, closed, search.n_nodes, seconds)


# ------------------------------------------------------------------------------------------------------------ the tree


@dataclass(frozen=True, eq=False)
class _Bound:
    """A bound with its proof: multipliers, slopes (low, high) that it goes by, weights of inputs; and what units do."""

    upper: float
    T: tuple[Float, ...]
    slopes: UnitSlopes
    weights: Float | None
    scores: tuple[Float, ...]
    shares: tuple[Float, ...]


@dataclass(eq=False)
class _Record:
    """A node of the tree as it grows: a leaf with a bound, a split with two children, or empty."""

    bound: _Bound | None
    split: list[Any] = field(default_factory=list)
    children: tuple[_Record, ...] = ()
    empty: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class _Node:
    """An open leaf: its part, the splits of units that matter for its cells, points (n, d) in it."""

    record: _Record
    part: Part
    walls: tuple[tuple[int, int], ...]
    points: Float
    bound: _Bound
    way: str
    depth: int = 0


@dataclass(frozen=True, eq=False)
class _Grown:
    """What a node became: its record with what grew below, open leaves, the steepest points found, work to check."""

    record: _Record
    nodes: list[_Node]
    points: list[tuple[float, Float]]
    made: int
    work: int


# ----------------------------------------------------------------------------------------------------------- splitting


class _Splitter:
    """Splits parts and bounds what comes of them; the same answer in every process."""

    def __init__(self, subject: Subject, until: Until, tol: float, random_state: int, ways: Sequence[str]) -> None:
        self.subject = subject
        self._until = Until(until.deadline)
        self._seed = random_state
        self.space = Space(subject.network, subject.claim.region, subject.claim.norm)
        self._hidden = subject.network.layers[:-1]
        self._kinked = [layer.activation.name in _KINKED for layer in self._hidden]
        self._exact = ExactRows(subject.network, strict=not self.space.solid)
        self._ways = ways
        d = subject.network.n_inputs
        self._few = _FEW[tol >= _SMALL] * d * (d - 1)
        self._norm = subject.claim.norm
        self._ball = subject.claim.region if isinstance(subject.claim.region, Ball) and self._norm == "l2" else None
        rows = np.linalg.norm(subject.network.weights[0], axis=1)
        away = np.abs(subject.network.biases[0])[rows > 0.0] / rows[rows > 0.0]
        away = away[away > 0.0]
        self._unit = float(np.median(away)) if away.size else 1.0  # of length, where there are no limits

    def root(self, goal: float) -> _Node:
        part = self.space.root
        bound = self.bound(part, goal, None)
        centre = self._centre(part)
        points = centre[None] if self._inside(centre) else np.zeros((0, len(centre)))
        return _Node(_Record(bound), part, (), points, bound, "")

    def expand(self, node: _Node, goal: float, exactly: bool) -> _Grown:
        """Cut off what is empty, and split what is left where its bound is above the goal."""
        root = _Record(node.bound)
        before = len(node.points)
        self._exact.work = 0
        node = replace(node, record=root, way=self._way(node))
        made = work = 0
        if node.way == "units":
            node, made, work = self._cut(node, goal, exactly)
        found = list(node.points[before:])
        nodes: list[_Node] = []
        if node.bound.upper > goal:
            nodes = self._halves(node, goal)
            made += 2
            found += [x for child in nodes for x in (self._centre(child.part),) if self._inside(x)]
        if node.way == "units" and not nodes and node.bound.upper > goal:
            found += list(node.points[:4])
        return _Grown(root, nodes, self._steep(found), made, work)

    def _way(self, node: _Node) -> str:
        """At what the node is to be split."""
        bounded = bool(np.isfinite(node.part.lower).all() and np.isfinite(node.part.upper).all())
        if not ("inputs" in self._ways and bounded):
            return "units"
        if "units" not in self._ways or not any(self._kinked):
            return "inputs"
        smooth = any((low < high).any() for (low, high), kinked in zip(node.bound.slopes, self._kinked) if not kinked)
        return "inputs" if smooth else self._easier(node)

    def _easier(self, node: _Node) -> str:
        """A bisection halves what units are undecided by, d of them are needed; a split at a kink decides one unit.

        Where more kinks meet in a point than there are inputs no box about it is small enough.
        """
        undecided = sum(int((low < high).sum()) for low, high in node.bound.slopes)
        return "units" if undecided <= self._few or node.depth > _HALVED * len(node.part.lower) else "inputs"

    # -------------------------------------------------------------------------------------------------------- bounds

    def bound(self, part: Part, goal: float, parent: _Bound | None) -> _Bound:
        """The bound of a part, no better than needed to be at most ``goal`` or to see that it will not be."""
        slopes = self.space.slopes(part, room=_ROOM)
        network = self.subject.within(slopes)
        bends = [low < high for low, high in slopes]
        if not any(b.any() for b in bends) and (self._norm == "l2" or network.n_outputs == 1):
            found = self._affine(slopes)
        else:
            done = search_to_goal(network, goal, norm=self._norm, random_state=self._seed, until=self._until)
            scores, shares = [], []
            for b, share, lean in zip(bends, done.shares, done.leans):
                score, whole = np.zeros((2, len(b)))
                score[b] = share * (1.0 - np.abs(lean)) + 1e-9 * share
                whole[b] = share
                scores.append(score)
                shares.append(whole)
            # a bound that hangs on the last digits is none elsewhere
            upper = done.upper * (1.0 + 1e-12)
            found = _Bound(upper, done.multipliers, slopes, done.input_weights, tuple(scores), tuple(shares))
        if parent is not None and not found.upper < parent.upper:
            # what the parent proves holds here as well
            return replace(parent, scores=found.scores, shares=found.shares)
        return found

    def _affine(self, slopes: UnitSlopes) -> _Bound:
        """Of units none of which bends."""
        M = np.eye(self.subject.network.n_inputs)
        for layer, (low, _) in zip(self.subject.chosen.layers, slopes):
            M = low[:, None] * (layer.operator.matrix @ M)
        M = self.subject.chosen.layers[-1].operator.matrix @ M
        none = tuple(np.zeros(0) for _ in slopes)
        scores = tuple(np.zeros(len(low)) for low, _ in slopes)
        if self._norm == "l2":
            return _Bound(float(np.linalg.norm(M, 2)) * (1.0 + 1e-12), none, slopes, None, scores, scores)
        sizes = np.abs(M[0])
        weights = np.maximum(sizes, 1e-15 * sizes.max(initial=0.0)) if sizes.any() else np.ones(len(sizes))
        return _Bound(float(sizes.sum()) * (1.0 + 1e-12), none, slopes, weights, scores, scores)

    # ------------------------------------------------------------------------------------------------------- splits

    def _halves(self, node: _Node, goal: float) -> list[_Node]:
        """The children of a node that are not empty; the record of the node has all of them."""
        part, split = node.part, self._split(node)
        if split is None:
            return []
        kind, *at = split
        both = part.within(*at) if kind == "input" else part.either_side(*at)
        nodes, records = [], []
        for side, half in zip((-1, 1), self.space.narrowed(both)):
            half = _own(half)
            if half.contradicts(_ROOM) or self.space.outside(half):
                records.append(_Record(None, empty=["empty"]))
                continue
            bound = self.bound(half, goal, node.bound)
            records.append(_Record(bound))
            walls = node.walls if kind == "input" else (*node.walls, (at[0], at[1]))
            kept = self._within(node.points, half, kind, at, side)
            nodes.append(_Node(records[-1], half, walls, kept, bound, node.way, node.depth + 1))
        node.record.split, node.record.children = split, tuple(records)
        return nodes

    def _split(self, node: _Node) -> list[Any] | None:
        if node.way == "units":
            return self._unit_split(node)
        part = node.part
        middle = 0.5 * part.lower + 0.5 * part.upper
        can = (part.lower < middle) & (middle < part.upper)
        if not can.any():
            return self._unit_split(node)
        i = int(np.argmax(np.where(can, self._leaning(node), -1.0)))
        return ["input", i, float(middle[i])]

    def _leaning(self, node: _Node) -> Float:
        """How much of what the undecided units are undecided by is due to each input, weighed by their shares."""
        half = 0.5 * (node.part.upper - node.part.lower)
        G, total = np.eye(len(half)), 1e-12 * half / max(float(half.max()), 1e-300)
        for layer, (low, high), share in zip(self._hidden, node.bound.slopes, node.bound.shares):
            G = layer.operator.matrix @ G
            reach = np.abs(G) * half
            total += (share / np.maximum(reach.sum(axis=1), 1e-300)) @ reach
            G = (0.5 * (low + high))[:, None] * G
        return np.asarray(total)

    def _unit_split(self, node: _Node) -> list[Any] | None:
        """At the kink that counts most, of the first layer that has some: those above become affine functions then."""
        for k, (score, side) in enumerate(zip(node.bound.scores, node.part.sides)):
            free = np.where(side == 0, score, 0.0)
            j = int(np.argmax(free))
            if self._kinked[k] and free[j] > 0.0:
                return ["unit", k, j]
        return None

    # ----------------------------------------------------------------------------------------------- points and cells

    def _centre(self, part: Part) -> Float:
        """The middle; without limits what is nearest to zero."""
        closed = np.isfinite(part.lower) & np.isfinite(part.upper)
        with np.errstate(invalid="ignore"):
            return np.where(closed, 0.5 * part.lower + 0.5 * part.upper, np.clip(0.0, part.lower, part.upper))

    def _inside(self, x: Float) -> bool:
        return self.subject.contains(x)

    def _steep(self, points: Sequence[Float]) -> list[tuple[float, Float]]:
        """The steepest of the points, in floating point, steepest first."""
        points = [x for x in points if np.isfinite(x).all()]
        if not points:
            return []
        J = self.subject.chosen.gradients(np.array(points))
        if self._norm == "l2":
            sizes = np.linalg.norm(J, axis=(1, 2)) if J.shape[1] == 1 else np.linalg.norm(J, 2, axis=(1, 2))
        else:
            sizes = np.abs(J).sum(axis=2).max(axis=1) if J.shape[1] == 1 else _sup_sizes(J)
        order = np.argsort(-sizes, kind="stable")[:2]
        return [(float(sizes[n]), points[n]) for n in order]

    def _preactivations(self, X: Float) -> list[tuple[Float, Float]]:
        """Of all hidden layers at the rows of X, with the sizes of what they are summed from."""
        found, x = [], X
        for layer in self._hidden:
            z = layer.preactivations(x)
            found.append((z, layer.operator.absolute(np.abs(x)) + np.abs(layer.bias)))
            x = layer.activated(z)
        return found

    def _within(self, points: Float, part: Part, kind: str, at: Sequence[Any], side: int) -> Float:
        if not len(points):
            return points
        if kind == "input":
            x = points[:, at[0]]
            return points[x <= at[1]] if side < 0 else points[x >= at[1]]
        z, size = self._preactivations(points)[at[0]]
        return points[side * z[:, at[1]] > _SEEN * size[:, at[1]]]

    def _cut(self, node: _Node, goal: float, exactly: bool) -> tuple[_Node, int, int]:
        """Fix units that have one side only in this part, in the first layer that has some, then in the next ones."""
        part, record, points = node.part, node.record, node.points
        changed = made = work = 0
        while self._until.reached is None:
            slopes = self.space.slopes(part, room=_ROOM)
            walls = _Walls(self, part, slopes, node.walls)
            k = walls.frontier
            if k is None or not self._kinked[k]:
                break
            cut: tuple[int, int, list[Any]] | None = None
            seen = self._seen(points, k)
            for j in map(int, np.flatnonzero((slopes[k][0] < slopes[k][1]) & (part.sides[k] == 0) & walls.counts)):
                for side in (-1, 1):
                    if seen[(side + 1) // 2, j]:
                        continue
                    point, empty = walls.decide(k, j, side, exactly)
                    if point is not None:
                        points = np.vstack([points, point])
                        seen = seen | self._seen(points[-1:], k)
                    elif empty is not None:
                        cut = (j, side, empty)
                        break
                if cut is not None:
                    break
            if cut is None:
                break
            j, side, empty = cut
            work += self._exact.work
            self._exact.work = 0
            gone, left = _Record(None, empty=empty), _Record(node.bound)
            record.split, record.children = ["unit", k, j], (gone, left) if side < 0 else (left, gone)
            record, changed, made = left, changed + 1, made + 2
            part = _own(self.space.narrowed([part.on(k, j, -side)])[0])
        if len(points) > _POINTS:
            points = points[-_POINTS:]
        bound = node.bound
        if changed:
            bound = self.bound(part, goal, node.bound)
            record.bound = bound
        return replace(node, part=part, record=record, points=points, bound=bound), made, work

    def _seen(self, points: Float, k: int) -> NDArray[np.bool_]:
        """Whether some of the points lie on the low (row 0) and on the high side (row 1) of each unit of a layer."""
        z, size = self._preactivations(points)[k]
        return np.stack([(z < -_SEEN * size).any(axis=0), (z > _SEEN * size).any(axis=0)])


class _Walls:
    """Units as affine functions within a part, as far up as those below are decided."""

    def __init__(self, splitter: _Splitter, part: Part, slopes: UnitSlopes, splits: Sequence[tuple[int, int]]) -> None:
        self._splitter, self._part = splitter, part
        self._bounded = bool(np.isfinite(part.lower).all() and np.isfinite(part.upper).all())
        ball = splitter._ball
        if ball is not None:
            self._origin, self._scale = ball.centre, np.full(len(ball.centre), max(ball.radius, 1e-300))
        else:
            closed = np.isfinite(part.lower) & np.isfinite(part.upper)
            self._origin = splitter._centre(part)
            self._scale = np.where(closed, 0.5 * part.upper - 0.5 * part.lower, splitter._unit)
        self._maps: list[tuple[Float, Float]] = []
        self.frontier: int | None = None  # the first layer with units that are undecided and count
        self.counts: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        layers = splitter.subject.network.layers
        G, h = np.diag(self._scale), self._origin
        for k, (low, high) in enumerate(slopes):
            W = layers[k].operator.matrix
            G, h = W @ G, W @ h + layers[k].bias
            self._maps.append((G, h))
            counts = np.asarray((layers[k + 1].operator.matrix != 0.0).any(axis=0))
            if ((low < high) & counts).any():
                self.frontier, self.counts = k, counts
                break
            if layers[k].activation.name not in (*_KINKED, "identity"):
                break
            G, h = low[:, None] * G, low * h
        self._splits = [(k, j) for k, j in splits if k < len(self._maps)]

    def decide(self, k: int, j: int, side: int, exactly: bool) -> tuple[Float | None, list[Any] | None]:
        """A point of the part on that side of a unit, or a node that shows that there is none; or neither."""
        units = [*((kk, jj, int(self._part.sides[kk][jj])) for kk, jj in self._splits), (k, j, side)]
        A = np.array([s * np.append(self._maps[kk][0][jj], self._maps[kk][1][jj]) for kk, jj, s in units])
        sizes = np.linalg.norm(A, axis=1)
        if not (sizes > 0.0).all():
            return None, None
        n_units = len(units)
        ends, rows = self._limits()
        A = np.vstack([A / sizes[:, None], rows])
        part = self._part.on(k, j, side)
        ball, z, y = self._splitter._ball is not None, None, None
        if not ball:
            z, y = common_point(np.vstack([A, np.eye(A.shape[1])[-1]]))
        if z is None and (ball or self._bounded):
            xi, y = nearest_point(A[:, :-1], A[:, -1], 1.0 if ball else np.inf)
            z = None if xi is None else np.append(xi, 1.0)
        if z is not None:
            x = self._origin + self._scale * (z[:-1] / z[-1])
            x = np.clip(x, self._part.lower, self._part.upper)
            return (x, None) if np.isfinite(x).all() and self._splitter._inside(x) else (None, None)
        if y is None:
            return None, None
        empty = self._in_bounds(part, units, y[:n_units] / sizes)
        if empty is None and exactly and not self._bounded:
            empty = self._exact(part, units, ends, y)
            if empty is None:
                y = self._vertex(A)
                empty = None if y is None else self._exact(part, units, ends, y)
        return None, empty

    def _limits(self) -> tuple[list[tuple[int, int]], Float]:
        """Finite limits of the inputs, [−1 or −2, i], and their rows of norm one."""
        part, d = self._part, len(self._part.lower)
        names, rows = [], []
        for name, end, sign in ((-1, part.lower, 1.0), (-2, part.upper, -1.0)):
            for i in np.flatnonzero(np.isfinite(end) & (self._scale > 0.0)):
                row = np.zeros(d + 1)
                row[i], row[d] = sign * self._scale[i], sign * (self._origin[i] - end[i])
                names.append((name, int(i)))
                rows.append(row / np.linalg.norm(row))
        return names, np.array(rows).reshape(-1, d + 1)

    def _in_bounds(self, part: Part, units: Sequence[tuple[int, int, int]], weights: Float) -> list[Any] | None:
        top = float(weights.max(initial=0.0))
        if not 0.0 < top < np.inf:
            return None
        weights = weights / top
        chosen = [n for n in range(len(units)) if weights[n] > 1e-12]
        rows = [units[n][:2] for n in chosen]
        y = [float(f"{weights[n]:.12g}") for n in chosen]
        value = self._splitter.space.highest(part, rows, y)
        size = sum(a * max(abs(part.ends[k].left[j]), abs(part.ends[k].right[j])) for (k, j), a in zip(rows, y))
        return ["empty", [list(row) for row in rows], y] if value < -_ROOM * size else None

    def _exact(
        self, part: Part, units: Sequence[tuple[int, int, int]], ends: Sequence[tuple[int, int]], y: Float
    ) -> list[Any] | None:
        names = [*(unit[:2] for unit in units), *ends]
        rows = [name for name, a in zip(names, y) if a > 1e-13]
        if not rows or len(rows) > len(self._origin) + 1:
            return None
        # limits do not depend on the side of the unit in question, its layer is the last one that counts
        slopes = self._splitter.space.slopes(part)
        before = self._splitter._exact.work
        if self._splitter._exact.refusal(rows, part, slopes) is None:
            return ["empty", [list(row) for row in rows]]
        self._splitter._exact.work = before
        return None

    def _vertex(self, A: Float) -> Float | None:
        """A linear program's vertex has linearly independent columns, as the exact proof needs."""
        d = A.shape[1] - 1
        done = linprog(
            A[:, d],
            A_eq=np.vstack([A[:, :d].T, np.ones(len(A))]),
            b_eq=np.append(np.zeros(d), 1.0),
            method="highs-ds",
        )
        return None if done.status != 0 or done.x is None else np.where(done.x > 1e-11, done.x, 0.0)


def _own(part: Part) -> Part:
    """The same with arrays in one piece: what is sent to a process and what is not are to be alike."""
    ends = tuple(replace(e, left=np.array(e.left), right=np.array(e.right)) for e in part.ends)
    return replace(part, lower=np.array(part.lower), upper=np.array(part.upper), ends=ends)


def _sup_sizes(J: Float) -> Float:
    """About ``max ‖J s‖`` over signs s, for a batch of J."""
    s = np.where(np.linalg.svd(J, full_matrices=False)[2][:, 0] >= 0.0, 1.0, -1.0)
    for _ in range(4):
        image = np.einsum("nij,nj->ni", J, s)
        s = np.where(np.einsum("nij,ni->nj", J, image) >= 0.0, 1.0, -1.0)
    return np.asarray(np.linalg.norm(np.einsum("nij,nj->ni", J, s), axis=1))


# ------------------------------------------------------------------------------------------------------------ processes

_Each = Callable[[Sequence[_Node], float, bool], Iterator[_Grown]]
"""Expands nodes, one after the other or at once, and answers in their order."""

_splitters: list[_Splitter] = []  # the one of a worker process


def _begin(splitter: _Splitter) -> None:
    _splitters[:] = [splitter]


def _expanded(node: _Node, goal: float, exactly: bool) -> _Grown:
    with threadpool_limits(limits=1), np.errstate(all="ignore"):
        return _splitters[0].expand(node, goal, exactly)


@contextmanager
def _workers(splitter: _Splitter, n_jobs: int) -> Iterator[_Each]:
    if n_jobs == 1:
        yield lambda nodes, goal, exactly: (splitter.expand(node, goal, exactly) for node in nodes)
        return
    from joblib.externals.loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(n_jobs, initializer=_begin, initargs=(splitter,))
    try:

        def each(nodes: Sequence[_Node], goal: float, exactly: bool) -> Iterator[_Grown]:
            # the record of a node stays here
            sent = [pool.submit(_expanded, replace(node, record=_Record(None)), goal, exactly) for node in nodes]
            return (one.result() for one in sent)

        yield each
    finally:
        pool.shutdown(wait=True, kill_workers=True)


# ------------------------------------------------------------------------------------------------------------- the loop


class _Search:
    """Best-first search in rounds."""

    def __init__(
        self,
        subject: Subject,
        lower: float,
        witness: Float,
        tol: float,
        until: Until,
        random_state: int,
        ways: Sequence[str],
    ) -> None:
        self._subject, self.lower, self.witness, self._until = subject, lower, witness, until
        self._goal = 1.0 + _SHARE * tol
        self.splitter = _Splitter(subject, until, tol, random_state, ways)
        node = self.splitter.root(self._target)
        self._proof_seconds = self._measured(node.bound)  # of a leaf, kept back from the time limit
        self._root = node.record
        self._open: list[tuple[float, int, _Node]] = []
        self._count = self._leaves = self.n_nodes = 1
        self._work = 0
        self._most = min(MAX_NODES, int(MAX_PRODUCTS / node_products(subject.network)))
        self._push(node)

    def _measured(self, bound: _Bound) -> float:
        """About the seconds that a leaf will take to be checked: limits, and the proof of its multipliers."""
        start = time.perf_counter()
        _ = self.splitter.space.root
        StorageChecker(self._subject.within(bound.slopes), bound.T, bound.weights).smallest(bound.upper)
        return 2.0 * (time.perf_counter() - start)

    @property
    def _target(self) -> float:
        return self.lower * self._goal

    def _push(self, node: _Node) -> None:
        if node.bound.upper > self._target:
            heapq.heappush(self._open, (-node.bound.upper, self._count, node))
            self._count += 1

    def _late(self) -> bool:
        proof = self._proof_seconds * self._leaves
        return self._until.reached is not None or time.perf_counter() + proof > self._until.deadline

    def run(self, each: _Each) -> None:
        room = 4 * sum(self._subject.network.widths) + 4
        while self._open and self.n_nodes + _ROUND * room <= self._most and not self._late():
            chosen: list[_Node] = []
            # few parts at first, so that the steepest come first; nothing but the tree decides
            many = min(_ROUND, 1 + len(self._open) // 2)
            while self._open and len(chosen) < many and -self._open[0][0] > self._target:
                chosen.append(heapq.heappop(self._open)[-1])
            if not chosen:
                return  # best first: all the others are below too
            for n, (node, grown) in enumerate(
                zip(chosen, each(chosen, self._target, self._work < _CHEAP_WORK * MAX_WORK))
            ):
                self._add(node, grown)
                if self._late():
                    for left in chosen[n + 1 :]:
                        self._push(left)
                    break

    def _add(self, node: _Node, grown: _Grown) -> None:
        record = node.record
        record.bound = grown.record.bound or record.bound
        record.split, record.children = grown.record.split, grown.record.children
        self.n_nodes += grown.made
        self._leaves += grown.made // 2
        self._work += grown.work
        for size, x in grown.points:
            if size > self.lower * (1.0 + 1e-9):
                value = slope_of_chosen_at(self._subject, x)
                if value > self.lower:
                    self.lower, self.witness = value, x
        for child in grown.nodes:
            self._push(child)

    # ----------------------------------------------------------------------------------------------------- the proof

    def proved(self) -> tuple[float, list[list[Any]]]:
        """The bound that the tree proves, and its nodes."""
        guess = max((b.upper for b in _leaf_bounds(self._root)), default=0.0)
        refusal = ""
        for mend in (False, True):
            tree = list(_written(self._root, guess, self._mended_leaf if mend else self._leaf))
            checker = PartsChecker(self._subject, tree)
            upper = checker.smallest(guess)
            if upper is not None and np.isfinite(upper) and upper <= guess * (1.0 + 1e-6):
                return upper * _ELSEWHERE, tree
            refusal = checker.refusal or "the numbers are too large"
        if upper is not None and np.isfinite(upper):
            return upper * _ELSEWHERE, tree
        raise CertificateError(
            f"no bound near {guess:.6g} could be proved ({refusal}): rescale inputs or outputs, or the units, to "
            "weights of similar magnitudes"
        )

    def _leaf(self, bound: _Bound) -> list[Any]:
        """A node of JSON; multipliers to twelve digits, more are of no use, and a file holds thousands of leaves."""
        T = [[float(f"{t:.12g}") for t in own] for own in bound.T]
        slopes: list[Any] = []
        for layer, (low, high) in zip(self._subject.network.layers, bound.slopes):
            bends = [int(j) for j in np.flatnonzero(low < high)]
            slopes.append([low.tolist(), high.tolist()] if layer.activation.smooth else bends)
        return ["bound", T, slopes] if bound.weights is None else ["bound", T, slopes, bound.weights.tolist()]

    def _mended_leaf(self, bound: _Bound) -> list[Any]:
        """With as much slack as the proof of the bound asks for."""
        network, best = self._subject.within(bound.slopes), None
        for slack in _SLACKS:
            T = multipliers_with_slack(bound.T, slack)
            proved = StorageChecker(network, T, bound.weights).smallest(bound.upper)
            if proved is not None and (best is None or proved < best[0]):
                best = proved, T
            if proved is not None and proved <= bound.upper * (1.0 + 1e-9):
                break
        return self._leaf(bound if best is None else replace(bound, T=best[1]))


def _leaf_bounds(root: _Record) -> Iterator[_Bound]:
    stack = [root]
    while stack:
        record = stack.pop()
        stack.extend(record.children)
        if not record.children and not record.empty and record.bound is not None:
            yield record.bound


def _written(root: _Record, upper: float, leaf: Callable[[_Bound], list[Any]]) -> Iterator[list[Any]]:
    """The nodes in preorder, without splits that were not needed in the end."""
    stack = [root]
    while stack:
        record = stack.pop()
        if record.empty:
            yield record.empty
        elif record.children and (record.bound is None or record.bound.upper > upper):
            yield record.split
            stack.extend(reversed(record.children))
        elif record.bound is not None:
            yield leaf(record.bound)
