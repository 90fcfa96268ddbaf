r"""Limits on the slopes of single features in an interior-point method, around the block of the penalty.

With ``g_bj = σ_b s_j t_bᵀ w_j`` the slope that unit j adds to side b of its feature (σ = 1 above, −1 below; ``t_b`` a
unit vector, the feature's direction in whitened weights), the inequalities and their multipliers are

    signs       g_bj ≥ 0                                        z_bj      where the other side's limit is zero
    limits      e_bj − g_bj ≥ 0,  e_bj ≥ 0,  l_b − Σ_j e_bj ≥ 0     za, ze, zl  with za_bj + ze_bj = zl_b

Heights e are eliminated: with ``ω = z / slack``, ``k = ωa + ωe``, a unit's block of the system gains
``(ω + ωa ωe / k) t tᵀ``, and every limit is one coupling row with ``F_bj = (ωa / k) σ s_j t_b`` and
``D_b = 1 / ωl + Σ_j 1 / k_j``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import nnls

from certnet.core.validation import Float
from certnet.programs.restriction import Restriction, Solution
from certnet.solvers.block import Block, BlockAim, BlockSystem
from certnet.solvers.dual_bound import DualPoint
from certnet.solvers.slope_rows import SlopeRows
from certnet.solvers.whitened import Whitened

__all__ = ["SlopeBlock"]

_PART = 0.5  # of a limit, that the start's heights may take


@dataclass(frozen=True, eq=False)
class _Step:
    """A direction of the inner block, and of slacks and multipliers."""

    inner: Any
    slacks: Float
    duals: Float


@dataclass(frozen=True, eq=False)
class _Ratios:
    """``ω`` of signs, ``ωa / k``, ``1 / k`` and ``1 / ωl`` of limits."""

    sign: Float
    part: Float
    flat: Float
    whole: Float


class _System:
    """The inner block's part of a step, and that of the limits."""

    def __init__(self, block: SlopeBlock, inner: BlockSystem, ratios: _Ratios) -> None:
        self._block, self._inner, self._ratios = block, inner, ratios
        n_inner, n_limits = len(inner.D), len(ratios.whole)
        self.D = np.zeros((n_inner + n_limits, n_inner + n_limits))
        self.D[:n_inner, :n_inner] = inner.D
        own = np.arange(n_inner, n_inner + n_limits)
        self.D[own, own] = ratios.whole + ratios.flat.sum(axis=1)
        self.columns: Float = np.vstack([inner.columns, np.zeros((n_limits, inner.columns.shape[1]))])

    def aim(self, target: float, corrections: tuple[Any, Float] | None, r: Float) -> BlockAim:
        block, ratios, rows = self._block, self._ratios, self._block.rows
        inner_corrections, product = (None, 0.0) if corrections is None else corrections
        inner = self._inner.aim(target, inner_corrections, r)
        # what every multiplier would be alone, less what it is
        c, ca, ce, cl = block.parts((target - product) / block.slacks - block.duals)
        _, za, ze, zl = block.parts(block.duals)
        both = ca + ce + za + ze - zl[:, None]
        r = inner.r.copy()
        r[:, :-1] += rows.pulled(c, ratios.part * both - ca)
        g = cl * ratios.whole + np.sum(both * ratios.flat, axis=1)
        return BlockAim(r, np.concatenate([inner.g, g]), inner.b, (inner.kept, c, ca, ce, both))

    def direction(self, dU: Float, v: Float, t: Float, aimed: Any) -> _Step:
        block, ratios = self._block, self._ratios
        kept, c, ca, ce, both = aimed
        n_inner = len(self._inner.D)
        inner = self._inner.direction(dU, v[:n_inner], t, kept)
        dzl = v[n_inner:]
        sign, g = block.rows.slopes(dU[:, :-1])
        # heights, their slacks, and multipliers that add up to rounding
        _, a, e, _ = block.parts(block.slacks)
        _, za, ze, zl = block.parts(block.duals)
        de = ratios.part * g + (both - dzl[:, None]) * ratios.flat
        da, dl = de - g, -de.sum(axis=1)
        dza = ca - za / a * da
        dze = ce - ze / e * de
        # the larger one of the two takes the rounding
        missing = dzl[:, None] - (za + ze - zl[:, None]) - dza - dze
        dza, dze = dza + np.where(za > ze, missing, 0.0), dze + np.where(za > ze, 0.0, missing)
        dz = c - ratios.sign * sign
        return _Step(inner, block.joined(sign, da, de, dl), block.joined(dz, dza, dze, dzl))


def _held(program: Restriction, residual: Float, unit: int) -> tuple[Float, Float]:
    """Multipliers of the inequalities (n,) and of the signs (d,) that hold a unit at zero against the residuals."""
    centre = program.shares @ program.rows
    size = np.sqrt(program.shares @ (program.rows - centre) ** 2)
    size = np.where(size > 0.0, size, 1.0)
    rows = np.column_stack([(program.rows - centre) / size, np.ones(len(program.rows))])
    on, V = program.patterns[:, unit], program.directions[:, unit]
    r = residual - program.shares @ residual
    pull = rows.T @ np.where(on, 2.0 * program.shares * (r @ V), 0.0)
    # pull − Σ_i z_i S_i x̃_i + κ = 0 with z ≥ 0 and κ against the signs
    signs = np.zeros(len(centre)) if program.slopes is None else program.slopes.signs
    signed = np.flatnonzero(signs)
    pushes = np.zeros((len(signed), rows.shape[1]))
    pushes[np.arange(len(signed)), signed] = -V[0] * signs[signed]
    found, _ = nnls(np.vstack([np.where(on, -1.0, 1.0)[:, None] * rows, pushes]).T, -pull)
    kappa = np.zeros(len(centre))
    kappa[signed] = found[len(rows) :] * pushes[np.arange(len(signed)), signed] * size[signed]
    return found[: len(rows)], kappa


class SlopeBlock:
    """State of the limits beside the inner block's; see :class:`~certnet.solvers.block.Block`."""

    rows: SlopeRows
    n_rows: int
    n_columns: int
    slacks: Float
    duals: Float

    def __init__(self, inner: Block, data: Whitened) -> None:
        self._inner, self._data, self.rows = inner, data, SlopeRows.of(data)
        n_signs, n_limits, h = len(self.rows.signs), len(self.rows.sides), len(data.units)
        self.n_rows, self.n_columns = inner.n_rows + n_limits, inner.n_columns
        sizes = (n_signs * h, n_limits * h, n_limits * h, n_limits)
        self._ends = np.cumsum(sizes)
        self._shapes = ((n_signs, h), (n_limits, h), (n_limits, h), (n_limits,))
        self.degree: int = inner.degree + sum(sizes)
        self.slacks, self.duals = np.ones(sum(sizes)), np.ones(sum(sizes))

    def parts(self, flat: Float) -> tuple[Float, Float, Float, Float]:
        """Of signs (q, h), of limits: a and e (b, h), l (b,)."""
        pieces = np.split(flat, self._ends[:-1])
        one, two, three, four = (piece.reshape(shape) for piece, shape in zip(pieces, self._shapes, strict=True))
        return one, two, three, four

    def joined(self, *parts: Float) -> Float:
        """The other way round."""
        return np.concatenate([part.ravel() for part in parts])

    # ------------------------------------------------------------------------------------------------ start and values

    def metric(self) -> Float:
        return self._inner.metric()

    def start(self, U: Float, pull: Float, share: float, force: float) -> tuple[Float, Float]:
        rows = self.rows
        sign, g = rows.slopes(U[:, :-1])
        # heights above the slopes, multipliers of a in proportion to 1 / a, of the cone's kind 1 / s
        e = np.maximum(g, 0.0) + 0.5 * (np.abs(g) + np.abs(g).mean(axis=1, keepdims=True)) + 1e-300
        weights, alike = 1.0 / sign, 1.0 / (e - g) / max(1, len(U))
        pull = pull.copy()
        pull[:, :-1] += rows.pulled(weights, -alike)
        before = float(np.linalg.norm(U))
        U, level = self._inner.start(U, pull, share, force)
        factor = float(np.linalg.norm(U)) / max(before, 1e-300)
        za = alike * level / factor
        zl = 2.0 * za.max(axis=1, initial=0.0)
        z = weights * level / factor
        # smaller weights where the heights would take too much of a limit: the block keeps the rest as room
        full = factor * e.sum(axis=1)
        shrink = float(np.min(_PART * rows.limits / full, initial=1.0))
        heights = shrink * factor * e
        slopes_sign, slopes = rows.slopes(shrink * U[:, :-1])
        self.slacks = self.joined(slopes_sign, heights - slopes, heights, rows.limits - heights.sum(axis=1))
        self.duals = self.joined(z, za, zl[:, None] - za, zl)
        return shrink * U, shrink * level

    @property
    def value(self) -> float:
        return self._inner.value

    @property
    def dual_value(self) -> float:
        return self._inner.dual_value - float(self.parts(self.duals)[3] @ self.rows.limits)

    @property
    def dual_pull(self) -> Float:
        z, za, _, _ = self.parts(self.duals)
        out = self._inner.dual_pull.copy()
        out[:, :-1] += self.rows.pulled(z, -za)
        return out

    def solution(self, U: Float, c: Float) -> Solution:
        solution, program = self._inner.solution(U, c), self._data.program
        if program.slopes is None:
            return solution
        kept = program.slopes.within(program.directions, solution.U)
        rho = None if solution.rho is None else program.penalty.at(program.directions, kept, solution.eta)
        return replace(solution, U=kept, rho=rho)

    def dual_point(self, residual: Float, z: Float) -> DualPoint:
        data = self._data
        sign, za, _, _ = self.parts(self.duals)
        slopes = np.zeros((data.program.directions.shape[1], data.program.n_inputs))
        slopes[data.units] = data.tau * self.rows.pushes(-sign, za)
        # units whose cone has no interior: zero, whatever pulls them
        idle = np.asarray(data.program.patterns.any(axis=0))
        idle[data.units] = False
        z = z.copy()
        for j in np.flatnonzero(idle):
            z[:, j], slopes[j] = _held(data.program, residual, int(j))
        return replace(self._inner.dual_point(residual, z), slopes=slopes)

    # ------------------------------------------------------------------------------------------------ one linearisation

    def scale(self, U: Float) -> bool:
        e = self.parts(self.slacks)[2]
        # slacks from the weights and heights, so that nothing drifts
        sign, g = self.rows.slopes(U[:, :-1])
        self.slacks = self.joined(sign, e - g, e, self.rows.limits - e.sum(axis=1))
        inside = bool((self.slacks > 0.0).all() and (self.duals > 0.0).all())
        return inside and self._inner.scale(U)

    @property
    def complement(self) -> float:
        return self._inner.complement + float(self.slacks @ self.duals)

    def linearise(self, H: Float, rows: Float, first: int) -> _System:
        inner = self._inner.linearise(H, rows, first)
        sign, a, e, limit = self.parts(self.duals / self.slacks)
        ratios = _Ratios(sign, a / (a + e), 1.0 / (a + e), 1.0 / limit)
        self.rows.add(H, sign, e * ratios.part)
        rows[:, :-1, first + self._inner.n_rows :] = self.rows.columns(ratios.part)
        return _System(self, inner, ratios)

    # ------------------------------------------------------------------------------------------------ along a direction

    def longest(self, step: _Step, primal: float, dual: float) -> tuple[float, float]:
        primal, dual = self._inner.longest(step.inner, primal, dual)
        primal = min(primal, 1.0 / float(np.max(-step.slacks / self.slacks, initial=1e-12)))
        return primal, min(dual, 1.0 / float(np.max(-step.duals / self.duals, initial=1e-12)))

    def ahead(self, step: _Step, primal: float, dual: float) -> float:
        own = (self.slacks + primal * step.slacks) @ (self.duals + dual * step.duals)
        return self._inner.ahead(step.inner, primal, dual) + float(own)

    def second_order(self, step: _Step) -> tuple[Any, Float]:
        return self._inner.second_order(step.inner), step.slacks * step.duals

    def clipped(
        self,
        step: _Step,
        steps: tuple[float, float],
        bounds: tuple[float, float],
        corrections: tuple[Any, Float],
    ) -> tuple[Any, Float]:
        low, high = bounds
        ahead = (self.slacks + steps[0] * step.slacks) * (self.duals + steps[1] * step.duals)
        move = np.maximum(np.clip(ahead, low, high) - ahead, -high)
        return self._inner.clipped(step.inner, steps, bounds, corrections[0]), corrections[1] - move

    def move(self, step: _Step, primal: float, dual: float) -> None:
        self._inner.move(step.inner, primal, dual)
        self.slacks = self.slacks + primal * step.slacks
        self.duals = self.duals + dual * step.duals
