"""Where a descent takes place: samples in units of their own, the penalty of the goal there, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.until import Until
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.programs.goal import Goal, SlopeAtMost, Weighted
from certnet.programs.loss import Huber, Loss, Squared
from certnet.programs.restriction import Samples
from certnet.proofs.regions import UnitSlopes
from certnet.refinement.fit import Bend, Fit, left_slope
from certnet.refinement.gauge import Penalty, bound_at_one, unit_gauge
from certnet.refinement.regional import RegionalPenalty, regional_bound
from certnet.refinement.shape import ShapeLimits
from certnet.refinement.signs import SignedWeights
from certnet.refinement.smooth_objective import Parameters, Point, SmoothObjective, SmoothPenalty
from certnet.rows.base import Rows
from certnet.rows.block import Block
from certnet.rows.memory import MemoryRows
from certnet.rows.sums import Part, Sums, added
from certnet.searches.vectors import search_vectors

__all__ = ["LARGE", "SAMPLE", "Ground", "Units"]

LARGE: Final = 40_000  # samples above which early stages look at a part of them
SAMPLE: Final = 8_192
_MERGED: Final = 20_000  # samples up to which those that repeat are looked for
_HEAVIEST: Final = 1e50  # weights of the penalty above it overflow somewhere, and below its inverse charge nothing
_FEW_INPUTS: Final = 11
_LEAST: Final = 1e-12  # multipliers of units that have none
_FLATTER: Final = 1e-6  # weight of ρ, in the descent's units, where the goal has none: the flattest of equal fits
_STEEP: Final = 100.0  # limits on ρ above it are charged no more for being reached than this one
_ALIKE: Final = 16.0  # between spreads of columns that are taken as they are
_REACH: Final = 4.0  # over a limit on L: the least size of a column
_NARROW: Final = 1e-5  # of the largest spread: the same, where there is neither weight nor limit


@dataclass(frozen=True, eq=False)
class Units:
    """Inputs ``(x − x_shift) / x_scale`` and targets ``(y − y_shift) / y_scale``, one scale each.

    ``spreads`` are the standard deviations of the inputs, column by column, after that.
    """

    x_shift: Float
    x_scale: float
    y_shift: Float
    y_scale: float
    spreads: Float

    @classmethod
    def of(cls, rows: Rows, *, centred: bool = True) -> Units:
        """From the means and the root mean squares of a table; inputs stay where they are unless ``centred``."""
        about = rows.describe()
        x_shift, y_shift, spreads = about.mean, about.target_mean, about.scale
        x_scale, y_scale = _size(about.scale), _size(about.target_scale)
        if not np.isfinite(x_scale * y_scale) and isinstance(rows, MemoryRows):  # squares overflow
            x_shift, y_shift = rows.X.mean(axis=0), rows.y.mean(axis=0)
            x_scale, y_scale = _size(rows.X - x_shift), _size(rows.y - y_shift)
            spreads = np.array([_size(column) for column in (rows.X - x_shift).T])
        if not np.isfinite(x_scale * y_scale):
            raise InvalidInputError("squares of X or y overflow: measure them in larger units")
        if not centred:
            x_shift = np.zeros_like(x_shift)
        return cls(x_shift, x_scale, y_shift, y_scale * float(np.sqrt(rows.n_outputs)), spreads / x_scale)

    def inner(self, network: FeedForward) -> FeedForward:
        return network.rescaled(
            x_shift=-self.x_shift / self.x_scale,
            x_scale=1.0 / self.x_scale,
            y_shift=-self.y_shift / self.y_scale,
            y_scale=1.0 / self.y_scale,
        )

    def outer(self, network: FeedForward, units: str) -> FeedForward:
        return network.rescaled(
            x_shift=self.x_shift, x_scale=self.x_scale, y_shift=self.y_shift, y_scale=self.y_scale, units=units
        )

    @property
    def steepness(self) -> float:
        """Slopes in the units of the data that are 1 here."""
        return self.y_scale / self.x_scale


def _size(values: Float) -> float:
    """The root of the mean square, 1 where that is zero."""
    top = float(np.abs(values).max())
    if not np.isfinite(top):
        return top
    return top * float(np.sqrt(np.mean((values / top) ** 2))) if top > 0.0 else 1.0


@dataclass(frozen=True, eq=False)
class _Moved:
    """A part of blocks in other units, as one of blocks in the units of the data."""

    part: Part
    units: Units

    def __call__(self, block: Block) -> Sums:
        units = self.units
        X, y = (block.X - units.x_shift) / units.x_scale, (block.y - units.y_shift) / units.y_scale
        return self.part(Block(block.first, X, y, block.shares))


@dataclass(frozen=True, eq=False)
class Table:
    """A table in the units of a descent; what is not in memory is converted a block at a time."""

    rows: Rows
    units: Units | None = None

    @classmethod
    def of(cls, rows: Rows, units: Units) -> Table:
        if not isinstance(rows, MemoryRows):
            return cls(rows, units)
        X, y = (rows.X - units.x_shift) / units.x_scale, (rows.y - units.y_shift) / units.y_scale
        return cls(MemoryRows.of(X, y, rows.weights, rows.layout))

    def total(self, part: Part) -> Sums:
        """See :meth:`certnet.rows.base.Rows.total`."""
        rows = self.rows
        if isinstance(rows, MemoryRows) and rows.n_samples <= rows.rows_per_chunk:
            return added(map(part, rows.blocks()))  # the same sum, without what threads would need
        return rows.total(part if self.units is None else _Moved(part, self.units))


class Ground:
    """Samples, penalty and layout of a descent from one network, for a goal.

    Parameters
    ----------
    network : FeedForward
        Gives activations and shapes.
    rows : Rows
    goal : Goal
    loss : Loss
        In the units of the data.
    keep_biases, keep_first : bool
        What stays as it is.
    limits : ShapeLimits, optional
        On slopes, in the units of the data.
    seed : int
        Of the samples that early stages look at, where there are many.

    Attributes
    ----------
    fit, early_fit : Fit
        On all samples; on a part of many, for early stages.
    constant : float
        The error of the mean.
    reach : float
        What kinks are bent over, relative to that of few inputs: those are of size one each, so that pre-activations
        grow as the root of their number.
    signs : SignedWeights or None
        Of weights that are squares of what a vector holds.
    reached : list of pairs of ndarray, or None
        Slopes of the units in a region that ρ is of; None where it is of all inputs.
    """

    like: FeedForward
    goal: Goal

    def __init__(
        self,
        network: FeedForward,
        rows: Rows,
        goal: Goal,
        loss: Loss,
        *,
        keep_biases: bool = False,
        keep_first: bool = False,
        limits: ShapeLimits | None = None,
        seed: int = 0,
    ) -> None:
        self.like, self.goal = network, goal
        self.units: Units = Units.of(rows, centred=not keep_biases)
        self.loss: Squared | Huber = loss if isinstance(loss, Squared) else Huber(loss.threshold / self.units.y_scale)
        homogeneous = all(left_slope(phi) is not None for phi in network.activations)
        self.parameters: Parameters = Parameters(
            tuple((n, m) for m, n in pairwise(network.widths)),
            scaled=not homogeneous or keep_biases or keep_first,
            keep_biases=keep_biases,
            keep_first=keep_first,
            columns=self._columns(),
        )
        self.limits: ShapeLimits | None = None if limits is None else limits.scaled(1.0 / self.units.steepness)
        self.signs: SignedWeights | None = None
        self.reached: UnitSlopes | None = None
        self.reach: float = max(1.0, float(np.sqrt(network.n_inputs / _FEW_INPUTS)))
        self.order: int = sum(network.widths[:-1])
        self.fit: Fit = self._fit(rows)
        part = rows.sample(SAMPLE, seed) if rows.n_samples > LARGE else rows
        self.early_fit: Fit = self.fit if part is rows else self._fit(part)
        nothing = [np.zeros(shape) for shape in self.parameters.shapes], [np.zeros(n) for n in network.widths[1:]]
        self.constant: float = self.early_fit(*nothing, 0.0)[0] or 1.0

    def _fit(self, rows: Rows) -> Fit:
        bends, table, spread = tuple(map(Bend, self.like.activations)), Table.of(rows, self.units), 0.0
        inner = table.rows
        if isinstance(inner, MemoryRows) and inner.n_samples <= _MERGED:
            merged = Samples.of(inner.X, inner.y, inner.weights, self.loss)
            table = Table(MemoryRows.of(merged.rows, merged.targets, merged.shares, inner.layout))
            spread = merged.spread
        return Fit(table, bends, self.loss, spread)

    def _columns(self) -> Float | None:
        r"""Sizes that make columns of W_0 alike to a descent, powers of two; None where they are alike.

        The error bends with the weights of input i by its variance σ_i², and what is charged for ρ with all of them by
        the weight λ. With ``max(σ_i, √λ)`` for a size neither is much steeper in one column than in another. A limit on
        L has a λ of about one over its square; what a limit on the error has is not known before.
        """
        spreads = self.units.spreads
        varied = spreads[spreads > 0.0]
        if not varied.size or varied.max() < _ALIKE * varied.min():
            return None
        if isinstance(self.goal, Weighted):
            least = min(float(np.sqrt(self.weight)), 1.0)
        else:
            least = _REACH / np.sqrt(self.limit) if 0.0 < self.limit < np.inf else _NARROW * float(varied.max())
        return np.asarray(np.exp2(np.round(np.log2(np.maximum(spreads, max(least, 1e-100))))))

    @property
    def weight(self) -> float:
        """λ of the goal in these units; a small one where it has none."""
        if isinstance(self.goal, Weighted):
            return min(self.goal.weight / self.units.x_scale / self.units.x_scale, _HEAVIEST)
        return _FLATTER if self.limit == np.inf else _FLATTER * min(1.0, _STEEP / max(self.limit, 1e-300))

    @property
    def limit(self) -> float:
        """On ρ, in these units; infinite without one."""
        if not isinstance(self.goal, SlopeAtMost):
            return np.inf
        limit = self.goal.limit / self.units.steepness
        return limit * limit

    def objective(self, weight: float, *, early: bool = False) -> SmoothObjective:
        """J_μδ with a weight of ρ in these units, on all samples or on those of early stages."""
        charged = weight > 1.0 / _HEAVIEST or self.limit < np.inf
        penalty = self._penalty(max(weight, 1.0 / _HEAVIEST)) if charged else None
        charge = None if self.limits is None else self.limits.penalty
        fit = self.early_fit if early else self.fit
        return SmoothObjective(fit, penalty, self.parameters, charge, self.signs)

    def _penalty(self, weight: float) -> SmoothPenalty:
        if self.reached is None:
            return Penalty(self.like.slopes, weight, self.limit)
        return RegionalPenalty(self.reached, weight, self.limit)

    def within(self, slopes: UnitSlopes) -> Ground:
        """The same ground with the slopes that units have in a region."""
        made = copy(self)
        made.reached, made.parameters = slopes, replace(self.parameters, scaled=True)
        return made

    def bound(self, gauged: Sequence[Float]) -> float:
        """The ρ that multipliers 1 prove of weights in unit gauge, in floating point; infinite where they do not."""
        if self.reached is None:
            return bound_at_one(gauged, self.like.slopes)
        return regional_bound(gauged, self.reached)

    def multipliers(self, network: FeedForward, *, random_state: int, until: Until) -> list[Float]:
        """Multipliers of all units that prove a bound of a network in the units of the data, 1 where there is none."""
        inner = self.units.inner(network)
        if self.reached is None:
            return list(search_vectors(inner, random_state=random_state, until=until).multipliers)
        hidden = [replace(layer, reached=pair) for layer, pair in zip(inner.layers, self.reached)]
        inner = FeedForward.from_layers([*hidden, inner.layers[-1]], inner.units)
        found = search_vectors(inner, random_state=random_state, until=until).multipliers
        every = [np.ones(n) for n in network.widths[1:-1]]
        for full, T, layer in zip(every, found, hidden):
            full[layer.bends] = T
        return every

    def at(self, x: Float) -> Point:
        """The point of a vector."""
        held = self.parameters.unpack(x)
        return held if self.signs is None else Point(self.signs.weights(held.weights), held.biases, held.logs)

    def vector(self, point: Point) -> Float:
        """The vector of a point."""
        if self.signs is not None:
            point = Point(self.signs.parameters(point.weights), point.biases, point.logs)
        return self.parameters.pack(point)

    def signed(self, network: FeedForward) -> Ground:
        """The same ground with the signs of a network's weights, which keep the limits of zero by themselves."""
        made = copy(self)
        made.signs = None if self.limits is None else self.limits.signed(network.weights)
        return made

    def point(self, network: FeedForward, multipliers: Sequence[Float]) -> Point:
        """A network in the units of the data with multipliers that prove its bound."""
        inner = self.units.inner(network)
        if self.parameters.scaled:
            return Point(inner.weights, inner.biases, [np.log(np.maximum(T, _LEAST)) for T in multipliers])
        return Point(*unit_gauge(inner.weights, inner.biases, multipliers, inner.slopes))

    def network(self, point: Point, like: FeedForward) -> FeedForward:
        """The network of a point in the units of the data, within limits; what is kept is that of ``like``, by bits."""
        if self.limits is not None:
            point = Point(self.limits.projected(point.weights), point.biases, point.logs)
        outer = self.units.outer(FeedForward(point.weights, point.biases, like.activations), like.units)
        weights, biases = list(outer.weights), list(outer.biases)
        if self.parameters.keep_first:
            weights[0], biases[0] = like.weights[0], like.biases[0]
        if self.parameters.keep_biases:
            biases = list(like.biases)
        return like.with_parameters(weights, biases, like.units).described(like.about)
