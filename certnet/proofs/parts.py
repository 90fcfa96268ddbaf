r"""Proofs by cases at any depth: a region is cut into parts, with a bound of the slopes of each. NumPy only.

A part is a box (or a ball within a box) of inputs, at which some units are on known sides of zero. The parts cover the
region, so that almost every point of it lies in one and is not isolated there: differences between it and points of the
part nearby, in all directions, are bounded by the part's own bound, which therefore bounds the gradient. A region
without an inside is covered without the exception, and its segments are cut by the parts likewise.

Nodes of the tree, in preorder:

- ``["input", i, t]``: followed by the tree of ``x_i ≤ t``, then by that of ``x_i ≥ t``;
- ``["unit", k, j]``: followed by the tree of ``z_kj ≤ 0``, then by that of ``z_kj ≥ 0``, z_k the pre-activations of
  hidden layer k;
- ``["bound", T, S]``, in the maximum norm ``["bound", T, S, μ]``: T_k are the multipliers of the units of layer k that
  still bend. S_k is the list of these units; all others are on one piece of their activation, by the limits that are
  computed for the part. Where the activation is smooth S_k is the pair of lists of lowest and highest slopes instead.
  The bound is that of :mod:`certnet.proofs.storage`;
- ``["empty"]``: the limits of a unit contradict each other;
- ``["empty", R, y]``: for units R = [[k, j], …] with known sides σ, ``Σ y_kj σ_kj z_kj`` is negative all over the part,
  by its linear relaxation, while it cannot be where all are on their sides;
- ``["empty", R]``: the same for limits that are infinite, in exact integers. All units below those of R that count
  have known slopes, so that R are affine functions of x; [−1, i] and [−2, i] in R are the lower and upper limit of
  input i. They determine their combination (:class:`certnet.proofs.tree.Combinations`), and where it is zero a
  hyperplane holds the part.

Limits are those of :mod:`certnet.proofs.relaxation`, and at most those of the parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from certnet.claims.kinds import register
from certnet.claims.region import Ball, Box, Region
from certnet.core.validation import Float
from certnet.networks.layers import Layer
from certnet.networks.network import Network
from certnet.proofs.proof import Checker, LayeredProof
from certnet.proofs.regions import UnitSlopes, slopes_at
from certnet.proofs.relaxation import Balls, Boxes, Ends, Inputs, highest, limits
from certnet.proofs.rounding import SAFETY, gamma, norm
from certnet.proofs.storage import StorageChecker
from certnet.proofs.subject import Subject
from certnet.proofs.tree import MAX_NODES, Combinations, LeavesChecker, is_index

__all__ = ["MAX_PRODUCTS", "ExactRows", "Part", "PartsChecker", "PartsProof", "Space", "node_products"]

MAX_PRODUCTS: Final = 1 << 43
"""Multiplications, roughly, that a tree may ask for: an hour."""

_KEPT = 1 << 24  # numbers in matrices of leaves that are kept: 128 MiB
_LONGEST = 1 << 14  # bits of a whole number
_LINEAR = ("relu", "leaky_relu", "identity")  # ``φ(z) = s z`` on either side of zero
_LOWER, _UPPER = -1, -2  # "layers" of limits of inputs
_SHOWN = 8  # splits of a path that a message shows

Side = NDArray[np.int8]


@register("feed-forward", "parts", "linf")
@register("feed-forward", "parts")
class PartsProof(LayeredProof):
    """The nodes of a tree in preorder."""

    KIND: ClassVar[str] = "parts"
    LAYOUT: ClassVar[str] = "nodes"

    def checker(self, subject: Subject) -> Checker | None:
        return PartsChecker(subject, list(self.multipliers))


# --------------------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True, eq=False)
class Part:
    """Inputs and sides, with the limits of all hidden pre-activations there.

    Attributes
    ----------
    lower, upper : ndarray, shape (d,)
    sides : tuple of ndarray, shapes (n_k,)
        ±1 where units are confined to z ≥ 0 or z ≤ 0, else 0.
    ends : tuple of Ends, shapes (n_k,)
    """

    lower: Float
    upper: Float
    sides: tuple[Side, ...]
    ends: tuple[Ends, ...]

    def within(self, i: int, t: float) -> tuple[Part, Part]:
        """``x_i ≤ t`` and ``x_i ≥ t``, their limits still those of the whole."""
        upper, lower = self.upper.copy(), self.lower.copy()
        upper[i] = lower[i] = t
        return replace(self, upper=upper), replace(self, lower=lower)

    def either_side(self, k: int, j: int) -> tuple[Part, Part]:
        """``z_kj ≤ 0`` and ``z_kj ≥ 0``, their limits still those of the whole."""
        return self.on(k, j, -1), self.on(k, j, 1)

    def on(self, k: int, j: int, side: int) -> Part:
        own = self.sides[k].copy()
        own[j] = side
        return replace(self, sides=(*self.sides[:k], own, *self.sides[k + 1 :]))

    def contradicts(self, room: float = 0.0) -> bool:
        """Is there a unit whose limits leave nothing, even if both were wrong by ``room`` of their size?"""
        return any(bool((e.left - e.right > room * (np.abs(e.left) + np.abs(e.right))).any()) for e in self.ends)


@dataclass(frozen=True, eq=False)
class Space:
    """The region of a claim about a network, in which parts are cut."""

    network: Network
    region: Region
    norm: str

    @property
    def solid(self) -> bool:
        """Does the region have an inside, so that a hyperplane is a part that does not count?"""
        if isinstance(self.region, Box):
            return bool((self.region.lower < self.region.upper).all())
        return not isinstance(self.region, Ball) or self.region.radius > 0.0

    @property
    def root(self) -> Part:
        d, hidden = self.network.n_inputs, self.network.widths[1:-1]
        lower, upper = np.full(d, -np.inf), np.full(d, np.inf)
        if isinstance(self.region, Box):
            lower, upper = self.region.lower, self.region.upper
        elif isinstance(self.region, Ball):
            ends = self._balls(self.region, 1).ends
            lower, upper = ends.left[0], ends.right[0]
        nothing = tuple(Ends(np.full(n, -np.inf), np.full(n, np.inf)) for n in hidden)
        return self.narrowed([Part(lower, upper, tuple(np.zeros(n, np.int8) for n in hidden), nothing)])[0]

    def inputs(self, parts: Sequence[Part]) -> Inputs:
        """The inputs of parts, without their sides."""
        boxes = Boxes(np.array([p.lower for p in parts]), np.array([p.upper for p in parts]))
        return _Cut(self._balls(self.region, len(parts)), boxes) if isinstance(self.region, Ball) else boxes

    def _balls(self, ball: Ball, n: int) -> Balls:
        return Balls(np.tile(ball.centre, (n, 1)), np.full(n, ball.radius), self.norm)

    def narrowed(self, parts: Sequence[Part]) -> list[Part]:
        """The parts with limits of their own, at most those that they had."""
        sides = [np.array(side) for side in zip(*(p.sides for p in parts))]
        known = [
            Ends(np.array([e.left for e in k]), np.array([e.right for e in k])) for k in zip(*(p.ends for p in parts))
        ]
        found = [ends.meet(old) for ends, old in zip(limits(self.network, self.inputs(parts), sides, known), known)]
        return [replace(part, ends=tuple(Ends(e.left[n], e.right[n]) for e in found)) for n, part in enumerate(parts)]

    def outside(self, part: Part) -> bool:
        """Is the box of a part certain not to meet the ball that the region is?"""
        if not isinstance(self.region, Ball):
            return False
        gap = np.maximum(np.maximum(part.lower - self.region.centre, self.region.centre - part.upper), 0.0)
        away = norm(gap) if self.norm == "l2" else float(gap.max())  # of huge numbers, too
        far = float(np.abs(self.region.centre).max()) + self.region.radius
        return away * (1.0 - 1e-12) - 1e-12 * far > self.region.radius

    def slopes(self, part: Part, room: float = 0.0) -> UnitSlopes:
        """Slopes of the units of all hidden layers in a part (:func:`certnet.proofs.regions.slopes_at`).

        ``room`` widens limits by that part of their size, but not beyond the sides that units are confined to.
        """
        hidden = self.network.layers[:-1]
        ends = part.ends if room == 0.0 else tuple(_widened(e, room).on_side(s) for e, s in zip(part.ends, part.sides))
        return [slopes_at(layer, e) for layer, e in zip(hidden, ends)]

    def highest(self, part: Part, units: Sequence[tuple[int, int]], weights: Sequence[float]) -> float:
        """At least ``max Σ y_kj σ_kj z_kj`` over a part; NaN or infinite where nothing is known."""
        y = [np.zeros((1, len(side))) for side in part.sides[: 1 + max(k for k, _ in units)]]
        for (k, j), a in zip(units, weights):
            y[k][0, j] = a * part.sides[k][j]
        known = [Ends(e.left[None], e.right[None]) for e in part.ends]
        return float(highest(self.network, self.inputs([part]), known, y)[0])


def _widened(ends: Ends, room: float) -> Ends:
    sizes = [np.where(np.isfinite(end), np.abs(end), 0.0) for end in (ends.left, ends.right)]
    more = room * np.maximum(*sizes)
    return Ends(ends.left - more, ends.right + more)


@dataclass(frozen=True, eq=False)
class _Cut(Inputs):
    """Balls, each within a box."""

    balls: Balls
    boxes: Boxes

    @property
    def ends(self) -> Ends:
        return self.balls.ends.meet(self.boxes.ends)

    def most(self, A: Float, at: NDArray[np.intp]) -> Float:
        # the ball may be much larger than what is left of it, and is wrong by its own size
        wrong = SAFETY * gamma(A.shape[-1] + 16) * np.einsum("ij,ij->i", np.abs(A), self.balls.ends.size[at])
        return np.minimum(self.balls.most(A, at) + wrong, self.boxes.most(A, at))

    def first(self, layer: Layer, known: Ends) -> Ends:
        return self.balls.first(layer, known)

    def rows(self, chosen: slice) -> _Cut:
        return _Cut(self.balls.rows(chosen), self.boxes.rows(chosen))


# --------------------------------------------------------------------------------------------------------- the checker


class PartsChecker(LeavesChecker):
    """A network, a region, and one tree, prepared to test many bounds.

    Parameters
    ----------
    subject : Subject
    tree : sequence of nodes
        In preorder, see the module; lists and numbers as JSON has them.
    """

    def __init__(self, subject: Subject, tree: object) -> None:
        self.refusal = None
        self._subject = subject
        self._space = Space(subject.network, subject.claim.region, subject.claim.norm)
        self._exact = ExactRows(subject.network, strict=not self._space.solid)
        self._leaves: list[_Leaf] = []
        self._room = _KEPT // (subject.network.n_inputs + subject.network.widths[1]) ** 2
        if subject.network.structured:
            self.refusal = "parts are for networks of dense layers"
        elif not isinstance(tree, list | tuple) or not tree:
            self.refusal = "the tree is not a list of nodes"
        elif len(tree) > MAX_NODES:
            self.refusal = f"the tree has {len(tree)} nodes, more than {MAX_NODES}"
        elif len(tree) * node_products(subject.network) > MAX_PRODUCTS:
            self.refusal = f"the tree asks for too much work: {len(tree)} nodes of a network of this size"
        else:
            with np.errstate(all="ignore"):  # what overflows is refused
                self.refusal = self._read(tree)

    def _read(self, tree: Sequence[object]) -> str | None:
        """Why the nodes are no tree whose leaves all have a proof, if so."""
        waiting: list[tuple[Part, tuple[str, ...]]] = [(self._space.root, ())]
        for number, node in enumerate(tree):
            if not waiting:
                return f"nodes are left over: the tree is complete before node {number}"
            part, path = waiting.pop()
            where = f"node {number} ({_shown(path)})"
            kind, data = _parsed(node)
            reason: str | None
            if kind in ("input", "unit"):
                reason = self._no_split(kind, data, part)
                if reason is None:
                    halves = part.within(*data) if kind == "input" else part.either_side(*data)
                    low, high = self._space.narrowed(halves)
                    step = ("x{} <= {:g}", "x{} >= {:g}") if kind == "input" else ("-{}:{}", "+{}:{}")
                    waiting += [(high, (*path, step[1].format(*data))), (low, (*path, step[0].format(*data)))]
            elif kind == "empty":
                reason = self._not_empty(data, part)
            elif kind == "bound":
                reason = self._add(where, data, part)
            else:
                reason = "not one of [input, i, t], [unit, k, j], [bound, T, S], [empty], [empty, R, y], [empty, R]"
            if reason is not None:
                return f"{where}: {reason}"
        if waiting:
            return f"the tree ends at node {len(tree)}, where the subtree of {_shown(waiting[-1][1])} is missing"
        return None if self._leaves else "no leaf of the tree gives a bound"

    def _no_split(self, kind: str, data: tuple[int, Any], part: Part) -> str | None:
        if kind == "input":
            i, t = data
            if not 0 <= i < len(part.lower):
                return f"it splits an input that does not exist; there are {len(part.lower)}"
            return None if part.lower[i] <= t <= part.upper[i] else f"it splits input {i} outside of the part"
        k, j = data
        if not (0 <= k < len(part.sides) and 0 <= j < self._subject.network.layers[k].n_bending):
            return "it splits a unit that does not exist"
        return f"it splits unit {j} of layer {k}, which is fixed there" if part.sides[k][j] else None

    def _not_empty(self, shown: tuple[list[tuple[int, int]] | None, list[float] | None], part: Part) -> str | None:
        """Why a part is not shown to be empty, if so."""
        rows, weights = shown
        if rows is None:
            if part.contradicts() or self._space.outside(part):
                return None
            return "the part is not shown to be empty: its limits leave room"
        if not rows or len(set(rows)) != len(rows):
            return "an empty part is shown by different units"
        for k, j in rows:
            if k in (_LOWER, _UPPER) and weights is None:
                end = (part.lower if k == _LOWER else part.upper) if 0 <= j < len(part.lower) else None
                if end is None or not np.isfinite(end[j]):
                    return "an empty part is shown by limits of inputs that are finite"
            elif not (0 <= k < len(part.sides) and 0 <= j < len(part.sides[k]) and part.sides[k][j]):
                return "an empty part is shown by units that are fixed there"
        if weights is None:
            return self._exact.refusal(rows, part, self._space.slopes(part))
        if len(weights) != len(rows) or not all(0.0 < a < 2.0**1000 for a in weights):
            return "an empty part is shown by units with one positive weight each"
        return None if self._space.highest(part, rows, weights) < 0.0 else "the part is not shown to be empty"

    def _add(self, where: str, data: tuple[Any, ...], part: Part) -> str | None:
        """Prepare the checker of a leaf; the reason where it proves nothing."""
        T, given, weights = data
        slopes = self._claimed(given, part)
        if isinstance(slopes, str):
            return slopes
        if (weights is None) == (self._subject.claim.norm == "linf"):
            return "weights of the inputs are for the maximum norm, and needed there"
        leaf = _Leaf(where, slopes, T, weights, None)
        checker = leaf.checker_of(self._subject)
        self._leaves.append(replace(leaf, kept=checker) if len(self._leaves) < self._room else leaf)
        return checker.refusal

    def _claimed(self, given: list[Any], part: Part) -> UnitSlopes | str:
        """The slopes that a leaf goes by, if they hold all that occur in its part."""
        hidden = self._subject.network.layers[:-1]
        if len(given) != len(hidden):
            return f"slopes of {len(given)} layers are given, the network has {len(hidden)} hidden layers"
        found = []
        for k, (layer, one, (least, most)) in enumerate(zip(hidden, given, self._space.slopes(part))):
            pair = _slopes_of(layer, one, least, most)
            if isinstance(pair, str):
                return f"layer {k}: {pair}"
            low, high = pair
            held = (low <= least) & (most <= high)  # NaN holds nothing
            if not held.all():
                j = int(np.argmin(held))
                return (
                    f"unit {j} of layer {k} may have slopes from {least[j]:g} to {most[j]:g}, more than are allowed for"
                )
            found.append(pair)
        return found

    def _checkers(self) -> Iterator[tuple[str, Checker]]:
        for leaf in self._leaves:
            yield leaf.where, leaf.kept or leaf.checker_of(self._subject)


@dataclass(frozen=True, eq=False)
class _Leaf:
    """A part with a bound; its checker is made again where there was no room to keep it."""

    where: str
    slopes: UnitSlopes
    T: list[Any]
    weights: list[float] | None
    kept: StorageChecker | None

    def checker_of(self, subject: Subject) -> StorageChecker:
        return StorageChecker(subject.within(self.slopes), self.T, self.weights)


def _slopes_of(layer: Layer, given: object, least: Float, most: Float) -> tuple[Float, Float] | str:
    """The slopes that S_k stands for; not yet whether they hold all that occur."""
    if layer.activation.smooth:
        pair = given if isinstance(given, list | tuple) and len(given) == 2 else ()
        if len(pair) != 2 or not all(_are_numbers(part) and len(part) == len(least) for part in pair):
            return "lists of lowest and of highest slopes of all units are needed, its activation is smooth"
        try:
            low, high = (np.array(part, dtype=np.float64) for part in pair)
        except OverflowError:
            return "a slope is too large"
        return (low, high) if np.isfinite(low).all() and np.isfinite(high).all() else "a slope is not finite"
    if not (isinstance(given, list | tuple) and all(map(is_index, given))):
        return "a list of the units that bend is needed"
    units = np.array(given, dtype=np.int64) if all(0 <= j < layer.n_bending for j in given) else None
    if units is None or (np.diff(units) <= 0).any():
        return "the units that bend are to be in order, each once"
    low, high = np.where(least == most, least, most), most.copy()  # what is not listed is held by one slope or refused
    low[units], high[units] = layer.activation.slopes
    return low, high


def node_products(network: Network) -> float:
    """About so many multiplications does a node take: limits of all layers, backwards, and a proof."""
    n = np.array(network.widths[:-1], dtype=np.float64)
    below = np.cumsum(n[:-1] * n[1:])
    return float(4.0 * np.sum(n[1:] * below) + 4.0 * np.sum(n**3) + 1e5)


def _parsed(node: object) -> tuple[str, Any]:
    """Kind and data of a node, its data of the right types; numbers are judged later. The kind is empty if wrong."""
    if not isinstance(node, list | tuple) or not node or not isinstance(node[0], str):
        return "", None
    kind, *data = node
    if kind == "unit" and len(data) == 2 and all(map(is_index, data)):
        return kind, (data[0], data[1])
    if kind == "input" and len(data) == 2 and is_index(data[0]) and _are_numbers(data[1:]) and abs(data[1]) < 2.0**1023:
        return kind, (data[0], float(data[1]))
    if kind == "empty" and len(data) <= 2:
        rows = data[0] if data else []
        pairs = isinstance(rows, list | tuple) and all(map(_is_pair, rows))
        if pairs and (len(data) < 2 or _are_numbers(data[1])):
            return kind, ([tuple(row) for row in rows] if data else None, list(data[1]) if len(data) == 2 else None)
    lists = kind == "bound" and 2 <= len(data) <= 3 and all(isinstance(part, list | tuple) for part in data)
    if lists and all(map(_are_numbers, data[0])) and (len(data) == 2 or _are_numbers(data[2])):
        return kind, (list(data[0]), list(data[1]), list(data[2]) if len(data) == 3 else None)
    return "", None


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_index, value))


def _are_numbers(values: object) -> bool:
    return isinstance(values, list | tuple) and all(type(a) in (int, float) for a in values)


def _shown(path: Sequence[str]) -> str:
    return " ".join([*["..."] * (len(path) > _SHOWN), *path[-_SHOWN:]]) if path else "root"


# --------------------------------------------------------------------------------------------------------------- exact


class ExactRows(Combinations):
    """Units of a part as affine functions of the inputs, in whole numbers, and proofs that they contradict each other.

    Parameters
    ----------
    network : Network
        Of dense layers.
    strict : bool
        A part that a hyperplane holds counts: the region has no inside.
    """

    work: int

    def __init__(self, network: Network, *, strict: bool) -> None:
        super().__init__()
        self._network, self._strict = network, strict
        self._whole: dict[int, tuple[Any, Any, int]] = {}

    def refusal(self, rows: Sequence[tuple[int, int]], part: Part, slopes: UnitSlopes) -> str | None:
        """Why the rows do not show that the part is empty; None where they do."""
        d = len(part.lower)
        if len(rows) > d + 1:
            return f"an empty part is shown by at most {d + 1} units and limits"
        columns = []
        for k, j in rows:
            column = self._limit(k, j, part) if k < 0 else self._unit(k, j, int(part.sides[k][j]), slopes)
            if isinstance(column, str):
                return column
            columns.append(column)
        return self.combination_refusal(columns, strict=self._strict or len(rows) == 1)

    def _limit(self, which: int, i: int, part: Part) -> list[int]:
        """``x_i − lower_i`` or ``upper_i − x_i``, times a whole number."""
        sign = 1 if which == _LOWER else -1
        p, q = float((part.lower if which == _LOWER else part.upper)[i]).as_integer_ratio()
        column = [0] * len(part.lower) + [-sign * p]
        column[i] = sign * q
        return column

    def _unit(self, k: int, j: int, side: int, slopes: UnitSlopes) -> list[int] | str:
        """``σ z_kj`` as a function of the inputs, times a power of two."""
        W, b, e = self._integers(k)
        g, h = W[j], b[j]  # z = (g·x_k + h) 2^−e
        for below in range(k - 1, -1, -1):
            layer, (low, high) = self._network.layers[below], slopes[below]
            counts = np.array([a != 0 for a in g])
            if layer.activation.name not in _LINEAR:
                return "exact combinations are for ReLU, leaky ReLU and linear layers"
            if (counts & (low != high)).any():
                return "a unit below those of an empty part is on neither side"
            W, b, e_below = self._integers(below)
            s, e_s = _integers(low)
            q = g * s
            bits = max((abs(a).bit_length() for a in q), default=0)
            self.work += W.size * (1 + bits // 64)
            if bits > _LONGEST:
                return "the numbers of an empty part are too long"
            g, h, e = q @ W, q @ b + (h << (e_s + e_below)), e + e_s + e_below
        common = int(np.gcd.reduce(np.append(g, h))) or 1  # shorter numbers
        return [side * int(a) // common for a in (*g, h)]

    def _integers(self, k: int) -> tuple[Any, Any, int]:
        """W, b of a layer times ``2^e``, as whole numbers."""
        if k not in self._whole:
            layer = self._network.layers[k]
            together, e = _integers(np.column_stack([layer.operator.matrix, layer.bias]))
            self._whole[k] = together[:, :-1], together[:, -1], e
        return self._whole[k]


def _integers(values: Float) -> tuple[Any, int]:
    """``values 2^e`` as an array of whole numbers, with the least e that is not negative."""
    ratios = [float(a).as_integer_ratio() for a in values.ravel()]
    e = max((q.bit_length() - 1 for _, q in ratios), default=0)
    whole = np.empty(len(ratios), dtype=object)
    whole[:] = [p << (e - q.bit_length() + 1) for p, q in ratios]
    return whole.reshape(values.shape), e
