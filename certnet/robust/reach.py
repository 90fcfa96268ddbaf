r"""How far an input can move before one of several slacks is used up, by bounds in the ball that it may move in.

A slack q_p ≥ 0 at x is a margin ``f_i − f_j`` of a classifier, or what is left of a tolerance δ of a prediction. Of the
ball B(x, r) two things may prove that it stays positive:

- linear relaxation of q_p over the ball (:mod:`certnet.proofs.relaxation`), in batch;
- ``q_p(x) ≥ r L_p(r)``, L_p(r) a bound of the slope in the ball: LipSDP with the slopes that units have there, checked
  as the certificates of regions are (:mod:`certnet.proofs.storage`).

L_p grows with r. One bound therefore says more than whether a trial t is proved: all ``r ≤ min(t, q_p(x) / L_p(t))``
are, and no more than ``q_p(x) / L_p(t)`` can be where that is above t. L_p(t) is at least the slope at x, so that no
trial is made beyond ``q_p(x) / ‖∇q_p(x)‖``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from certnet.claims.claim import Claim, Output
from certnet.claims.region import Ball
from certnet.core.errors import CertnetError
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.regions import UnitSlopes, slopes_at
from certnet.proofs.relaxation import Balls, Ends, limits, output_limits
from certnet.proofs.rounding import gamma
from certnet.proofs.storage import StorageChecker
from certnet.proofs.subject import Subject
from certnet.robust.intervals import values
from certnet.searches.result import SearchResult
from certnet.searches.vectors import search_vectors

__all__ = ["BY", "Margins", "Move", "Slacks", "held_at", "reach_of"]

BY: Final = ("global", "relaxation", "region")
"""What a radius may be proved by."""

_SEARCH: Final = 1e-2  # relative gap of ρ at which a search ends
_EASE: Final = 1e-5  # that a bound is raised by before it is tried
_TRIALS: Final = 48  # of a bisection
_SEARCHES: Final = 6  # balls in which slopes are bounded, per sample
_ROWS: Final = 256  # samples whose gradients are held at a time


class Slacks(ABC):
    """Slacks q_p of N samples, (N, P).

    Attributes
    ----------
    net : Network
    X : ndarray, shape (N, d)
    norm : {"l2", "linf"}
    here : ndarray, shape (N, P)
        At most q_p(x).
    everywhere : ndarray, shape (P,)
        At least the slopes of the q_p, for all inputs.
    """

    net: Network
    X: Float
    norm: str
    here: Float
    everywhere: Float

    @property
    @abstractmethod
    def outputs(self) -> Sequence[Output]:
        """What the slopes L_p are of, P claims."""

    @abstractmethod
    def held(self, rows: NDArray[np.intp], radius: Float) -> NDArray[np.bool_]:
        """Which slacks (R, P) relaxation proves to be positive in balls about some rows; radius (R,)."""

    @abstractmethod
    def slopes(self, J: Float) -> Float:
        """Norms (R, P) of gradients, from Jacobians (R, m, d) of the network."""

    @property
    def globally(self) -> Float:
        """Radii (N, P) that the slopes for all inputs prove; 0 where there is no slack."""
        with np.errstate(divide="ignore", invalid="ignore"):  # a bound of zero: the slack is never used up
            radii = np.nextafter(self.here / self.everywhere, 0.0)
        return np.where(self.here > 0.0, np.where(self.everywhere > 0.0, radii, np.inf), 0.0)

    def at_most(self, rows: NDArray[np.intp]) -> Float:
        """About ``q_p(x) / ‖∇q_p(x)‖`` at some rows, (R, P): what bounds of slopes do not exceed. Floating point."""
        X, here = self.X[rows], self.here[rows]
        slope = np.concatenate([self.slopes(self.net.gradients(X[k : k + _ROWS])) for k in range(0, len(X), _ROWS)])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(here > 0.0, np.where(slope > 0.0, here / slope, np.inf), 0.0)

    def balls(self, rows: NDArray[np.intp], radius: Float) -> Balls:
        return Balls(self.X[rows], radius, self.norm)

    def _dual(self, g: Float) -> Float:
        return np.asarray(np.abs(g).sum(axis=-1) if self.norm == "linf" else np.linalg.norm(g, axis=-1))


@final
@dataclass(frozen=True, eq=False)
class Margins(Slacks):
    """``f_i − f_j`` for all j ≠ i, of samples of the class i."""

    net: Network
    X: Float
    norm: str
    here: Float
    everywhere: Float
    pairs: tuple[tuple[int, int], ...]

    @property
    def outputs(self) -> Sequence[Output]:
        return self.pairs

    def held(self, rows: NDArray[np.intp], radius: Float) -> NDArray[np.bool_]:
        return output_limits(self.net, self.balls(rows, radius), self.pairs).left > 0.0

    def slopes(self, J: Float) -> Float:
        i, j = np.array(self.pairs, dtype=np.intp).T
        return self._dual(J[:, i] - J[:, j])


@final
@dataclass(frozen=True, eq=False)
class Move(Slacks):
    """``δ − ‖f(y) − f(x)‖₂``: one slack."""

    net: Network
    X: Float
    norm: str
    here: Float
    everywhere: Float

    @property
    def outputs(self) -> Sequence[Output]:
        return (None,)

    def held(self, rows: NDArray[np.intp], radius: Float) -> NDArray[np.bool_]:
        at, ends = values(self.net, self.X[rows]), output_limits(self.net, self.balls(rows, radius))
        with np.errstate(over="ignore", invalid="ignore"):
            move = np.maximum(ends.right - at.left, at.right - ends.left)
            size = np.linalg.norm(move, axis=1, keepdims=True) * (1.0 + gamma(move.shape[1] + 16)) + 2.0**-500
        return size <= self.here[rows]

    def slopes(self, J: Float) -> Float:
        if self.net.n_outputs == 1:
            return self._dual(J)
        if self.norm == "linf":  # the largest row is at most the norm
            return np.asarray(self._dual(J).max(axis=1, keepdims=True))
        return np.asarray(np.linalg.norm(J, 2, axis=(1, 2))[:, None])


# ---------------------------------------------------------------------------------------------------------- the search


@np.errstate(over="ignore", invalid="ignore")  # what overflows is not proved
def reach_of(slacks: Slacks, *, search: bool, tol: float) -> tuple[Float, NDArray[np.intp]]:
    """Radii (N,) below which no slack is used up, and what proves each, an index into :data:`BY`.

    Never below the radius of the bounds for all inputs. Without ``search`` by relaxation alone.
    """
    each = slacks.globally
    radius, by = each.min(axis=1), np.zeros(len(each), dtype=np.intp)
    some = np.flatnonzero(np.isfinite(radius) & (slacks.here > 0.0).all(axis=1))
    if not len(some) or not slacks.net.has_values:
        return radius, by
    most = slacks.at_most(some)
    relaxed = _bisected(slacks, some, radius[some], most.min(axis=1), tol)
    better = relaxed > radius[some]
    radius[some[better]], by[some[better]] = relaxed[better], 1
    for n, k in enumerate(some if search else ()):
        found = _searched(slacks, int(k), float(radius[k]), each[k], most[n], tol)
        if found > radius[k]:
            radius[k], by[k] = found, 2
    return radius, by


@np.errstate(over="ignore", invalid="ignore")
def held_at(slacks: Slacks, rows: NDArray[np.intp], radius: float, *, search: bool) -> NDArray[np.bool_]:
    """Which of some rows (R,) keep all slacks in a ball of this radius, as far as proved."""
    each = slacks.globally[rows]
    done: NDArray[np.bool_] = np.asarray((each >= radius).all(axis=1))
    left = np.flatnonzero(~done & (slacks.here[rows] > 0.0).all(axis=1))
    if not len(left) or not slacks.net.has_values:
        return done
    relaxed = slacks.held(rows[left], np.full(len(left), radius)) | (each[left] >= radius)
    done[left] = relaxed.all(axis=1)
    if search and not done.all():
        open_ = ~relaxed.all(axis=1)
        left, relaxed = left[open_], relaxed[open_]
        most = slacks.at_most(rows[left])
        for n in np.flatnonzero(((most >= radius) | relaxed).all(axis=1)):
            ball = _InBall(slacks, int(rows[left[n]]), radius)
            done[left[n]] = ball.least(each[left[n]], most[n], at_least=radius, proved=True) >= radius
    return done


def _bisected(slacks: Slacks, rows: NDArray[np.intp], low: Float, guess: Float, tol: float) -> Float:
    """The largest radii that relaxation is found to prove; those of ``low`` are proved."""
    low, high = low.copy(), np.full(len(rows), np.inf)
    trial = np.where(np.isfinite(guess) & (guess > low), guess, 2.0 * low)
    active = np.arange(len(rows))
    for _ in range(_TRIALS):
        if not len(active):
            break
        held = slacks.held(rows[active], trial[active]).all(axis=1)
        low[active[held]] = trial[active[held]]
        high[active[~held]] = trial[active[~held]]
        # where nothing is proved yet the ball is shrunk, where nothing failed it is doubled
        between = np.where(low > 0.0, np.sqrt(low) * np.sqrt(high), 0.25 * high)
        trial = np.where(np.isfinite(high), between, 2.0 * low)
        active = active[(high[active] > low[active] * (1.0 + tol)) & np.isfinite(trial[active]) & (trial[active] > 0.0)]
    return low


def _searched(slacks: Slacks, row: int, low: float, each: Float, most: Float, tol: float) -> float:
    """The largest radius that slopes in balls are found to prove, if it is above ``low``; else ``low``.

    With ``h(t) = min_p q_p(x) / L_p(t)``, which falls from ``min_p q_p(x) / ‖∇q_p(x)‖`` at 0, the next trial is where
    ``t = h(t)`` if 1 / h is linear through the last two points. Only the best trial is proved.
    """
    goal, best = low, None
    (t, h), trial = (0.0, float(most.min())), min(1.1 * low, 0.98 * float(most.min()))
    for _ in range(_SEARCHES):
        if not (np.isfinite(trial) and trial > goal * (1.0 + 0.5 * tol)):
            break
        ball = _InBall(slacks, row, trial)
        promised = ball.least(each, most, at_least=goal)
        if min(trial, promised) > goal:
            goal, best = min(trial, promised), ball
        if abs(promised - trial) <= tol * trial:
            break
        (t, h), trial = (trial, promised), _crossing((t, h), (trial, promised))
    if best is None:
        return low
    return max(low, min(best.radius, best.least(each, most, at_least=low, proved=True)))


def _crossing(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Where ``t = h(t)``, 1 / h linear through two points (t, h)."""
    (t, h), (s, g) = one, other
    if not np.isfinite(g):
        return 2.0 * s
    if min(h, g) <= 0.0 or s == t:
        return 0.5 * s
    k = (1.0 / g - 1.0 / h) / (s - t)
    first = 1.0 / h - k * t
    root = first * first + 4.0 * k
    found = 2.0 / (first + np.sqrt(root)) if root >= 0.0 and first + np.sqrt(root) > 0.0 else g
    return float(np.clip(found, 0.25 * s, 2.0 * s))


class _InBall:
    """Bounds of slopes in one ball."""

    def __init__(self, slacks: Slacks, row: int, radius: float) -> None:
        self.radius = radius
        self._slacks, self._row = slacks, row
        rows, size = np.array([row], dtype=np.intp), np.array([radius])
        ends = limits(slacks.net, slacks.balls(rows, size))
        hidden = zip(slacks.net.layers, ends)  # not the last
        self._reached: UnitSlopes = [slopes_at(layer, Ends(e.left[0], e.right[0])) for layer, e in hidden]
        self._held = slacks.held(rows, size)[0]
        self._found: dict[int, _Slope | None] = {}

    def least(self, each: Float, most: Float, *, at_least: float, proved: bool = False) -> float:
        """``min_p q_p(x) / L_p`` over what relaxation does not prove; no more is looked at below ``at_least``.

        All radii up to it that are not above this ball's are proved, if that is asked; else L_p is floating point.
        """
        found = np.inf
        for p in map(int, np.argsort(most, kind="stable")):
            if self._held[p]:
                continue
            room = float(most[p])
            if each[p] >= min(found, self.radius):
                room = float(each[p])
            elif room >= at_least:
                slope = self._slope(p, proved)
                room = float(np.nextafter(self._slacks.here[self._row, p] / slope, 0.0)) if slope > 0.0 else np.inf
                room = max(room, float(each[p]))
            found = min(found, room)
            if found < at_least:
                break
        return found

    def _slope(self, p: int, proved: bool) -> float:
        """A bound of a slope in the ball; infinite where none is found."""
        if p not in self._found:
            self._found[p] = _Slope.of(self._slacks, self._row, self.radius, p, self._reached)
        slope = self._found[p]
        if slope is None:
            return float("inf")
        return slope.proved() if proved else slope.found.upper * (1.0 + 2.0 * _EASE)


@dataclass(frozen=True, eq=False)
class _Slope:
    """Multipliers that were found for a slope in a ball."""

    subject: Subject
    network: Network
    found: SearchResult[tuple[Float, ...]]

    @classmethod
    def of(cls, slacks: Slacks, row: int, radius: float, p: int, reached: UnitSlopes) -> _Slope | None:
        claim = Claim(slacks.net, Ball(slacks.X[row], radius), slacks.norm, slacks.outputs[p])
        subject = Subject.of(claim)
        if isinstance(subject, str):
            return None
        try:
            with np.errstate(all="ignore"):  # what overflows is refused by the checker
                network = subject.within(reached)
                return cls(subject, network, search_vectors(network, norm=slacks.norm, tol=_SEARCH))
        except _FAILURES:
            return None

    def proved(self) -> float:
        """The bound that the checker proves."""
        try:
            with np.errstate(all="ignore"):
                checker = StorageChecker(self.network, self.found.multipliers, self.found.input_weights)
                upper = checker.smallest(self.found.upper * (1.0 + _EASE))
        except _FAILURES:
            return float("inf")
        charge = self.subject.charge() * (1.0 + 1e-9)
        return float("inf") if upper is None else float(np.nextafter(upper + charge, np.inf))


_FAILURES: Final = (np.linalg.LinAlgError, ValueError, ArithmeticError, CertnetError)
"""Of searches, where numbers overflow."""
