"""Directions of one interior-point step: predictor, Mehrotra's corrector, Gondzio's correctors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from certnet.core.validation import Float
from certnet.solvers import cells
from certnet.solvers.block import Block, BlockSystem
from certnet.solvers.maps import DataMaps
from certnet.solvers.newton import NewtonSystem
from certnet.solvers.whitened import Whitened

__all__ = ["BACK_OFF", "Buffers", "Direction", "DirectionSearch", "Linearised"]

BACK_OFF = 0.95  # of the way to the boundary
_GAIN = 1.02  # of the product of the lengths, that a corrector has to bring
_CLIP = (0.2, 5.0)  # of the aimed complementarity


@dataclass(frozen=True, eq=False)
class Direction:
    """Of the weights, the cone's slacks and multipliers, the residuals and the block; and how far each side may go."""

    U: Float
    s: Float
    z: Float
    residual: Float
    block: Any
    lengths: tuple[float, float]


class Buffers:
    """Arrays of samples by units that a step needs, kept for the next one."""

    product: Float
    spare: Float

    def __init__(self, n: int, n_cone: int) -> None:
        self._shape = (n, n_cone)
        self.product, self.spare = np.empty(self._shape), np.empty(self._shape)
        self._pairs: list[tuple[Float, Float]] = []

    def take(self) -> tuple[Float, Float]:
        """Two arrays for ds and dz."""
        return self._pairs.pop() if self._pairs else (np.empty(self._shape), np.empty(self._shape))

    def give(self, direction: Direction) -> None:
        """Those of a direction that is no longer needed."""
        self._pairs.append((direction.s, direction.z))


@dataclass(frozen=True, eq=False)
class Linearised:
    """Everything at one iterate that its directions have in common.

    Attributes
    ----------
    data, maps, block, buffers
    newton : NewtonSystem
        Factored.
    system : BlockSystem
        The block's part.
    s, z, inverse : ndarray, shape (n, n_cone)
        Slacks, multipliers and ``1 / s``.
    gradient : ndarray, shape (h, p)
        Of the Lagrangian in the weights.
    slack : float
        ``<s, z>``.
    """

    data: Whitened
    maps: DataMaps
    block: Block
    buffers: Buffers
    newton: NewtonSystem
    system: BlockSystem
    s: Float
    z: Float
    inverse: Float
    gradient: Float
    slack: float

    def direction(self, target: tuple[float, float], product: Float, corrections: Any | None) -> Direction:
        """Towards complementarity ``target`` of cone and block, less second-order ``product`` and ``corrections``."""
        data, n_cone = self.data, self.data.n_cone
        ds, dz = self.buffers.take()
        # right-hand side: −gradient, what the cone's multipliers would be alone, and the block's part
        r = -self.gradient
        r[:n_cone] += self.maps.aimed(target[0], product, self.inverse, self.z, dz)
        r[n_cone:, -1] = 0.0
        aim = self.system.aim(target[1], corrections, r)
        dU, v, t, change = self.newton.solve(aim.r, aim.g, aim.b)
        # slacks and multipliers follow from the weights, the block's variables from weights and multipliers
        outputs = self.maps.forward(dU, ds)
        primal, dual = cells.finished(self.s, self.inverse, self.z, ds, dz)
        step = self.system.direction(dU, v, t, aim.kept)
        most = 1.0 / BACK_OFF
        lengths = self.block.longest(step, min(primal, most), min(dual, most))
        if change is None:
            change = outputs - data.shares @ outputs
        return Direction(dU, ds, dz, change, step, lengths)


class DirectionSearch:
    """The directions that one factorisation is worth."""

    def __init__(self, at: Linearised) -> None:
        self._at = at
        self._product = at.buffers.product
        self._product[:] = 0.0
        self.best: Direction = at.direction((0.0, 0.0), self._product, None)
        """The predictor, until :meth:`correct` is called."""

    def ahead(self) -> float:
        """Complementarity at the end of the predictor."""
        at, move = self._at, self.best
        primal, dual = (min(1.0, length) for length in move.lengths)
        a, b, c = cells.affine_sum(at.s, at.z, move.s, move.z, self._product)
        value = at.slack + dual * a + primal * b + primal * dual * c
        return float(value + at.block.ahead(move.block, primal, dual))

    def correct(self, target: tuple[float, float]) -> None:
        """Replace the predictor by the corrector, and that by Gondzio's while these go farther."""
        at, block, product = self._at, self._at.block, self._product
        # Mehrotra: the predictor's second-order terms
        corrections = block.second_order(self.best.block)
        at.buffers.give(self.best)
        best = at.direction(target, product, corrections)
        # Gondzio: complementarity products a little farther ahead, brought into the bounds
        bounds = [(_CLIP[0] * value, _CLIP[1] * value) for value in target]
        spare = at.buffers.spare
        for _ in range(at.newton.correctors):
            reach = (min(1.0, 1.1 * best.lengths[0] + 0.1), min(1.0, 1.1 * best.lengths[1] + 0.1))
            cells.clipped_products(at.s, at.z, best.s, best.z, *reach, *bounds[0], product, spare)
            blocks = block.clipped(best.block, reach, bounds[1], corrections)
            move = at.direction(target, spare, blocks)
            if not move.lengths[0] * move.lengths[1] > _GAIN * best.lengths[0] * best.lengths[1]:
                at.buffers.give(move)
                break
            at.buffers.give(best)
            best, corrections = move, blocks
            product, spare = spare, product
        self.best = best
