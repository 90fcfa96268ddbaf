"""Slopes by feature: what is proved of every partial derivative of a network, for all inputs or in a region."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.claims.claim import NORMS, Claim, parse_output
from certnet.claims.families import identity
from certnet.claims.region import ALL, Region
from certnet.core.errors import (
    CertificateError,
    InvalidInputError,
    NotConvergedWarning,
    UnsupportedModelError,
)
from certnet.core.until import Until, listening
from certnet.core.validation import Float, one_of, positive_number, whole_number
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network
from certnet.proofs.regions import UnitSlopes
from certnet.proofs.sectors import SectorChecker, Sectors
from certnet.proofs.slope_files import EndProof
from certnet.proofs.slopes import (
    SlopeIntervals,
    ends_of,
    slopes_everywhere,
    slopes_reached,
    too_large,
    with_room,
)
from certnet.proofs.subject import Subject
from certnet.searches.increments import increments_of
from certnet.searches.one_sided import Ends, OneSided

__all__ = ["certify_features"]

_log = logging.getLogger("certnet")

METHODS: Final = ("auto", "intervals", "multipliers")
_ROOM: Final = 1e-10  # that limits of units are widened by, of their size: a proof holds wherever sums are rounded
_ELSEWHERE: Final = 1e-9  # of a bound's size: as much for the bounds that multipliers prove
_NO_WIDTH: Final = 1e-9  # of an interval's size
_COLUMNS: Final = 12
_STEPS: Final = (30, 60, 200, 700)  # of the search, until the gap is small enough
_SLACKS: Final = (1e-4, 1e-3, 1e-2, 1e-1)  # of multipliers, whose matrix is singular at the optimum
_LEAST_SLACK: Final = 1e-9
_BATCH: Final = 1 << 19  # numbers of a layer that are searched at a time
_PROVED: Final = 1e9  # N³ of the proofs that follow a search, summed up: a time limit is heard in between
_MOST_WORK: Final = 3e12  # multiplications from which on "auto" leaves it at interval arithmetic: some minutes
_MOST_NUMBERS: Final = 1 << 22  # in a file, likewise


def certify_features(
    network: Network,
    *,
    region: Region = ALL,
    output: int | tuple[int, int] | None = None,
    norm: str = "l2",
    method: str = "auto",
    tol: float = 1e-3,
    time_limit: float | None = None,
    should_stop: Callable[[], bool] | None = None,
    random_state: int = 0,
) -> SlopeIntervals:
    """Prove an interval of ``∂f_o/∂x_i`` for every input, and for every output or a chosen one.

    The intervals hold for finite steps too: ``lower ≤ (f_o(x + t e_i) − f_o(x)) / t ≤ upper`` for all x and
    x + t e_i of the region. Activations are known by the slopes that they have there: an interval is that of all
    networks whose units have such slopes, and contains that of this one.

    Interval arithmetic gives the first intervals, which for one hidden layer no choice of slopes makes smaller. At
    depth a multiplier per unit that bends proves smaller ones (:mod:`certnet.proofs.sectors`); of both the smaller
    ends are returned, with the multipliers that they need.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
        With ``d`` inputs and ``m`` outputs, in its own units. Names of inputs and outputs are those of ``about``.
    region : Box or Ball, optional
        Where the slopes are taken; by default all inputs. Nothing is said of other inputs.
    output : int or pair of int, optional
        The output i, or the difference ``f_i − f_j`` for (i, j), instead of all outputs.
    norm : {"l2", "linf"}
        That of a ball.
    method : {"auto", "intervals", "multipliers"}
        "intervals" is interval arithmetic alone. "auto" searches multipliers as well unless that would take minutes
        (many inputs, outputs and units at once), "multipliers" always.
    tol : float
        Gap at which the search for multipliers stops, relative to the width of the interval.
    time_limit : float, optional
        Seconds for the search for multipliers; the widest intervals come first. Ctrl-C ends it in the same way. What
        is not reached has its interval by interval arithmetic.
    should_stop : callable, optional
        Asked between steps: once true, the search ends likewise.
    random_state : int
        Seed of the search.

    Returns
    -------
    SlopeIntervals
        ``lower`` and ``upper`` (m, d), or (1, d) for a chosen output, in the network's units; ``table()`` sorts them.

    Raises
    ------
    InvalidInputError
        An option is unknown or out of range, or the region or output does not fit the network.
    UnsupportedModelError
        The network has convolutions that are too large to be written out as matrices, or too many units for
        ``method="multipliers"``.
    CertificateError
        Products of its weights overflow.

    Warns
    -----
    NotConvergedWarning
        The time was up, or the gap of some intervals is above ``tol``; they are proved all the same.

    Examples
    --------
    >>> from certnet import FeedForward, certify_features
    >>> net = FeedForward([[[1.0, -1.0], [2.0, 0.0]], [[1.0, 0.5]]], [[0.0, 0.0], [0.0]], "relu")
    >>> for row in certify_features(net).table():
    ...     print(row.name, round(row.lower, 6), round(row.upper, 6), row.verdict)
    input 0 0.0 2.0 increasing
    input 1 -1.0 0.0 decreasing
    """
    network = require_network(network)
    for name, value, names in (("method", method, METHODS), ("norm", norm, NORMS)):
        one_of(value, name, names)
    tol = positive_number(tol, "tol")
    seed = whole_number(random_state, "random_state")
    limit = None if time_limit is None else positive_number(time_limit, "time_limit")
    subject = _subject(network, region, norm, output)
    slopes = slopes_reached(subject, room=_ROOM)
    everywhere = slopes_everywhere(network)
    narrower = any(bool((low > a).any() or (high < b).any()) for (low, high), (a, b) in zip(slopes, everywhere))
    slopes = slopes if narrower else everywhere
    ends = ends_of(subject, slopes)
    if ends is None:
        raise CertificateError(f"{network!r}: products of its weights overflow: rescale the outputs or the inputs")
    lower, upper = with_room(ends)
    proofs: list[EndProof] = []
    if _pays(subject, slopes, method):
        with listening(Until.within(limit, should_stop)) as until:
            search = _Search(subject, slopes, lower, upper, tol, until)
            search.run(np.random.default_rng(seed))
        lower, upper, proofs = search.lower, search.upper, search.proofs
        if search.concern:
            warnings.warn(f"the intervals hold, but {search.concern}", NotConvergedWarning, stacklevel=2)
    known, about = identity(network), network.about
    return SlopeIntervals(
        lower,
        upper,
        known.units,
        known.digest,
        known.shape,
        known.slopes,
        about.read,
        region=region,
        norm=norm,
        output=subject.claim.output,
        inputs=about.inputs,
        outputs=about.outputs,
        reached=tuple(slopes) if narrower else (),
        multipliers=tuple(proofs),
    )


def _subject(network: Network, region: Region, norm: str, output: int | tuple[int, int] | None) -> Subject:
    if not isinstance(region, Region):
        raise InvalidInputError(f"region must be a certnet.Box or a certnet.Ball, got {type(region).__name__}")
    refusal = too_large(network)
    if refusal is not None:
        raise UnsupportedModelError(f"{network!r}: {refusal}")
    subject = Subject.of(Claim(network, region, norm, parse_output(output, network.n_outputs)))
    if isinstance(subject, str):
        raise InvalidInputError(subject)
    return subject


def _pays(subject: Subject, slopes: UnitSlopes, method: str) -> bool:
    """Can multipliers prove more than intervals, at a price that is asked for?"""
    bending = [int((low < high).sum()) for low, high in slopes]
    n = sum(bending)
    if method == "intervals" or not n or subject.network.depth == 1:
        return False
    d, m = subject.network.n_inputs, subject.chosen.n_outputs
    products = sum(a * b for a, b in zip(subject.chosen.widths, subject.chosen.widths[1:]))
    work = 2.0 * d * m * (4.0 * float(n) ** 3 + 4.0 * _COLUMNS * sum(_STEPS[:2]) * products)
    large = not Sectors.fit(subject.network, slopes)
    if large and method == "multipliers":
        raise UnsupportedModelError(f'{subject.network!r} has too many units for multipliers: use method="intervals"')
    if method == "auto" and (large or work > _MOST_WORK or 2 * d * m * n > _MOST_NUMBERS):
        _log.info("slopes by interval arithmetic alone: multipliers of %d intervals would take minutes", d * m)
        return False
    return True


class _Search:
    """Intervals that begin as those of interval arithmetic, and end after end is replaced where multipliers prove less.

    Attributes
    ----------
    lower, upper : ndarray, shape (m, d)
    proofs : list of EndProof
        Of the ends that were replaced.
    concern : str
        What a user should know of the search.
    """

    def __init__(
        self, subject: Subject, slopes: UnitSlopes, lower: Float, upper: Float, tol: float, until: Until
    ) -> None:
        self.lower, self.upper = lower.copy(), upper.copy()
        self.proofs: list[EndProof] = []
        self.concern = ""
        self._sectors = Sectors.of(subject.chosen, slopes)
        self._net = increments_of(subject.within(slopes))
        self._charge = subject.charge()
        self._tol, self._until = tol, until
        self._worst = 0.0
        self._slack = _SLACKS[0]

    def run(self, rng: np.random.Generator) -> None:
        pairs = self._widest_first()
        in_search = _BATCH // (2 * _COLUMNS * max(self._net.widths))
        at_once = max(1, min(in_search, int(_PROVED // (self._sectors.n**3 + 1))))
        for at in range(0, len(pairs), at_once):
            if self._until.reached:
                self.concern = (
                    f"the time was up after {at} of {len(pairs)} intervals, the rest is by interval arithmetic"
                )
                return
            outputs, inputs = pairs[at : at + at_once].T
            both = Ends(np.repeat(outputs, 2), np.repeat(inputs, 2), np.tile([1, -1], len(outputs)))
            with np.errstate(all="ignore"):  # what overflows proves nothing
                self._improve(OneSided.started(self._net, both, rng, _COLUMNS))
        if self._worst > self._tol:
            self.concern = f"better multipliers may prove less (gap {self._worst:.1e} of an interval's width)"

    def _widest_first(self) -> NDArray[np.intp]:
        """Pairs (o, i) of the intervals that have a width at all."""
        width, size = self.upper - self.lower, np.maximum(np.abs(self.lower), np.abs(self.upper))
        order = np.argsort(-width, axis=None)
        order = order[(width > _NO_WIDTH * size).ravel()[order]]
        return np.stack(np.unravel_index(order, width.shape), axis=1)

    def _improve(self, search: OneSided) -> None:
        """Of the ends of both sides of some intervals, one after the other, with more steps where gaps stay."""
        best: dict[tuple[int, int, int], _Candidate] = {}
        for steps in _STEPS:
            search.climb(steps, self._until)
            multipliers = search.multipliers()
            width = self._widths(search)
            left = []
            for e, key in enumerate(_keys(search.ends)):
                # what no multipliers bring below interval arithmetic's end is left to that
                reach = self._tol * width[e]
                if not search.values[e] + self._charge < self._end(key) - reach:
                    continue
                found = self._candidate(key, [t[:, e] for t in multipliers], search.values[e], reach)
                if found.bound < (best[key].bound if key in best else np.inf):
                    best[key] = replace(found, gap=(found.bound - search.values[e]) / width[e])
                if not found.bound <= search.values[e] + reach:
                    left.append(e)
            if not left or self._until.reached:
                break
            # both sides of an interval, whose width the gap is measured by
            pairs = np.unique(np.array(left) // 2)
            search = search.rows(np.sort(np.concatenate([2 * pairs, 2 * pairs + 1])))
        for key, candidate in best.items():
            self._keep(key, candidate)

    def _widths(self, search: OneSided) -> Float:
        """Of the interval that each end may come to belong to, a part of what it is now at least; sides alternate."""
        found = np.repeat(search.values[0::2] + search.values[1::2], 2)
        known = (self.upper - self.lower)[search.ends.outputs, search.ends.inputs]
        return np.maximum(found, 1e-6 * known)

    def _end(self, key: tuple[int, int, int]) -> float:
        o, i, side = key
        return float(self.upper[o, i] if side == 1 else -self.lower[o, i])

    def _candidate(self, key: tuple[int, int, int], T: list[Float], value: float, reach: float) -> _Candidate:
        """T with as much slack as it takes, and the bound that it may prove."""
        slacks = [slack for slack in _SLACKS if slack >= self._slack]
        for slack in slacks:
            best = self._with_slack(key, T, slack)
            if best.bound < np.inf:
                self._slack = slack
                break
        # less slack costs less, as long as P is definite
        while best.bound > value + reach and slack > _LEAST_SLACK:
            slack *= 0.1
            found = self._with_slack(key, T, slack)
            if not found.bound < best.bound:
                break
            best, self._slack = found, min(max(slack, _SLACKS[0]), self._slack)
        return best

    def _with_slack(self, key: tuple[int, int, int], T: list[Float], slack: float) -> _Candidate:
        return _Candidate(self._checker(key, T, slack)[0].guess, T, slack)

    def _checker(self, key: tuple[int, int, int], T: list[Float], slack: float) -> tuple[SectorChecker, Float]:
        """Of ``(1 + s)^{K−k+1} T_k``: each layer is given more than the next."""
        given = np.concatenate([t * (1.0 + slack) ** (len(T) - k) for k, t in enumerate(T)])
        given = np.where(self._sectors.live(*key[:2]), given, 0.0)
        return SectorChecker(self._sectors, *key, given), given

    def _keep(self, key: tuple[int, int, int], candidate: _Candidate) -> None:
        """Prove the bound, with more slack where rounding asks for it, and replace the end if that is less."""
        o, i, side = key
        slack, proved = candidate.slack, None
        while proved is None and slack < 1.0:
            checker, T = self._checker(key, candidate.T, slack)
            proved, slack = checker.least(), 10.0 * slack
        if proved is None:
            return
        # what another machine may round otherwise, and the charge of a difference, are on top
        size = max(abs(proved), self.upper[o, i] - self.lower[o, i])
        end = float(np.nextafter(proved + _ELSEWHERE * size + self._charge, np.inf))
        if end < self._end(key):
            (self.upper if side == 1 else self.lower)[o, i] = side * end
            self.proofs.append((o, i, side, T))
            self._worst = max(self._worst, candidate.gap)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Multipliers of every hidden layer, the slack that they are given, and the bound that they may prove then."""

    bound: float
    T: list[Float]
    slack: float
    gap: float = 0.0


def _keys(ends: Ends) -> Iterator[tuple[int, int, int]]:
    return zip(ends.outputs.tolist(), ends.inputs.tolist(), ends.sides.tolist())
