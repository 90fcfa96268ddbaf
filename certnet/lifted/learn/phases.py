r"""Both phases of one batch, and the gradient, on arrays that are used again for every batch.

With A the hidden layers and O the output, ``H = [H_AA H_AO; H_OA H_OO]``:

    clamped          H_AA z_A  against  q_A − H_AO y
    free, O without limits   (H_AA − H_AO M⁻¹ H_OA) z_A  against  q_A − H_AO M⁻¹ q_O,  M = H_OO      (exact)
    squared loss     the same with  M = H_OO + weight I  and  q_O + weight y

What :mod:`certnet.programs.box_qp` does for one network and many samples, this does for few samples and a network that
moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from scipy.linalg.lapack import dposv

from certnet.core.validation import Float
from certnet.kernels.batch import (
    clamped_phase,
    contrasted,
    curvature,
    differences,
    eliminated_phase,
    gradients,
    linear_terms,
    settled,
)
from certnet.kernels.entropy import entropy_phase
from certnet.kernels.margin import margin_phase
from certnet.lifted.learn.first_layer import Explicit, FirstLayer, Spanned, batches_of_a_span
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.loss_functions import CrossEntropy, MarginLoss
from certnet.lifted.loss_newton import Augmented, newton
from certnet.lifted.network import LiftedNetwork
from certnet.programs.box_qp import BoxQP

__all__ = ["Phases", "Work"]

_FLAT: Final = "the energy has lost its curvature to rounding"

_PART: Final = 25
"""Samples that are worth a call of their own."""
_PARTS: Final = 8
"""Parts of a batch at most."""


@dataclass
class Work:
    """What the solver did: passes over single samples, samples, and batches that missed the tolerance."""

    passes: int = 0
    samples: int = 0
    missed: int = 0


class Phases:
    """Energies and gradients of batches at the current parameters.

    Parameters
    ----------
    net : LiftedNetwork
        Shape, β, γ and boxes; its parameters are not used.
    params : Parameters
        Read at every :meth:`run`, and W_0 is moved by one that is given a rate.
    objective : Objective
    tol : float
        Natural residual of every phase.
    passes : int or None
        So many passes of coordinate descent over all units instead.
    max_passes : int
    follow : bool
        Start the phase that sees the target at the free solution, whatever it was given.
    biases : bool
        Does c_0 move with W_0 inside of :meth:`spanning`?
    threads : int
        That share the samples of batches of 50 and more, where the phases are those of the contrast with a clamp.

    Attributes
    ----------
    work : Work
    """

    def __init__(
        self,
        net: LiftedNetwork,
        params: Parameters,
        objective: Objective,
        *,
        tol: float,
        passes: int | None = None,
        max_passes: int = 1000,
        follow: bool = True,
        biases: bool = True,
        threads: int = 1,
    ) -> None:
        self.work: Work = Work()
        self._net, self._params, self._objective = net, params, objective
        self._tol, self._passes, self._max_passes, self._follow = tol, passes, max_passes, follow
        self._layers, self._beta = net.layers, np.asarray(net.beta, np.float64)
        self._scale = net.gamma ** np.arange(net.depth, dtype=np.float64)
        self._widths = np.array(net.widths, np.int64)
        self._lower, self._upper = np.concatenate(net.lower), np.concatenate(net.upper)
        self._rooms: dict[tuple[int, int], _Room] = {}
        self._hidden = self._layers[-1].start
        self._before = self._layers[-2].start if net.depth > 1 else 0
        self._H = np.zeros((net.n_units, net.n_units))
        self._unit = np.eye(net.widths[-1])
        self._limited = bool(np.isfinite(net.lower[-1]).any() or np.isfinite(net.upper[-1]).any())
        self._first: FirstLayer = Explicit(params, net.beta[0])
        self._span = Spanned(params, moves=biases)
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        plain = not self._limited and passes is None and net.depth > 1
        self._both = plain and follow and objective.contrasts and objective.clamps

    # ---------------------------------------------------------------------------------------------------- first layer

    def batches_of_a_span(self, batch_size: int) -> int:
        """How many batches :meth:`spanning` should be given; 1 where it is not worth it."""
        return batches_of_a_span(self._net.widths, self._net.beta[0], batch_size)

    @contextmanager
    def spanning(self, X: Float) -> Iterator[None]:
        """Inside, runs on the batches of X (R, d) in order, each with a rate; W_0 and c_0 are written at the end.

        After an exception W_0 and c_0 are those of the beginning.
        """
        explicit, self._first = self._first, self._span
        try:
            self._span.begin(X)
            yield
            self._span.close()
        finally:
            self._first = explicit

    # ------------------------------------------------------------------------------------------------------- inference

    def run(
        self,
        X: Float,
        y: Float | None,
        gradient: Parameters,
        free: Float,
        target: Float,
        *,
        rate: float | None = None,
        weights: Float | None = None,
    ) -> Float:
        """The objective of every sample, shape (B,), and the gradient of their mean, or of ``(1/B) Σ w_i`` times them.

        Parameters
        ----------
        X : ndarray, shape (B, d)
            In single precision too: the arithmetic is in double.
        y : ndarray, shape (B, n_L), or None
        gradient : Parameters
            Overwritten, but for W_0 where there is a rate.
        free, target : ndarray, shape (B, n)
            Activations to start from, inside of the boxes; overwritten with those of the phases.
        rate : float, optional
            Move W_0 by −rate times its gradient here, and leave that gradient out: it need not be written and read.
        weights : ndarray, shape (B,), optional
            Of the samples in the gradient; what is returned is without.
        """
        sees, both = self._objective.target_sign != 0.0, self._objective.contrasts
        self.work.samples += len(X)
        room = self._room(len(X), 2 * len(X) if both else len(X))
        self._pose(X, room)
        if both and y is not None:
            values = self._contrast(room.q, y, free, target)
        else:
            if self._objective.free_sign:
                self._solve_free(room.q, free)
            if sees and y is not None:
                self._solve_target(room.q, y, target)
            values = self._values(X, room, y, free, target)
        room.z[: len(X)] = target if sees else free
        if both:
            room.z[len(X) :] = free
        room.weigh(weights, contrasting=both)
        self._gradient(room, gradient, rate)
        return values

    def run_mixed(
        self,
        X: Float,
        y: Float,
        gradient: Parameters,
        free: Float,
        target: Float,
        *,
        contrast: Float,
        energy: Float,
        rate: float | None = None,
    ) -> tuple[Float, Float]:
        """``E_i(target) − E(free)`` of the first n samples, which have targets, and the free energies of all B.

        The gradient is that of ``Σ contrast_i · difference_i + Σ energy_i · E(free; x_i)``.

        Parameters
        ----------
        X, gradient, free, rate
            As in :meth:`run`.
        y : ndarray, shape (n, n_L)
        target : ndarray, shape (n, units)
        contrast : ndarray, shape (n,)
        energy : ndarray, shape (B,)
        """
        B, n = len(X), len(y)
        self.work.samples += B
        room = self._room(B, B + n)
        self._pose(X, room)
        differing = self._contrast(room.q, y, free, target)
        energies = self._energies(X, room, free)
        # rows of z: free, then those that see a target
        room.z[:B], room.z[B:] = free, target
        room.signs[:B], room.signs[B:] = energy, contrast
        room.signs[:n] -= contrast
        room.whole[:] = energy
        self._gradient(room, gradient, rate)
        return differing, energies

    def _pose(self, X: Float, room: _Room) -> None:
        """H of the current parameters, ``W_0 x + b_0`` and the linear terms."""
        flat, sizes = self._params.flat, (self._scale, self._beta)
        product = self._first.pose(X)
        curvature(flat, self._widths, self._first.gram, *sizes, self._H)
        own = self._H.diagonal()
        if not ((own > 0.0) & (own < np.inf)).all():
            raise np.linalg.LinAlgError(_FLAT)
        linear_terms(flat, self._widths, product, *sizes, room.pre, room.q)

    def _room(self, rows: int, phases: int) -> _Room:
        """The arrays for batches of that size."""
        if (rows, phases) not in self._rooms:
            self._rooms[rows, phases] = _Room.of(rows, phases, self._net)
        return self._rooms[rows, phases]

    def _contrast(self, q: Float, y: Float, free: Float, target: Float) -> Float:
        """Both phases, that with targets of the first samples, and how their energies differ, shape (n,)."""
        n = len(y)
        if self._both:
            return self._contrast_in_parts(q, y, free, target)
        self._solve_free(q, free)
        if self._follow:
            target[:] = free[:n]
        self._solve_target(q[:n], y, target)
        return self._with_loss(differences(self._H, q[:n], free[:n], target), y, target)

    def _contrast_in_parts(self, q: Float, y: Float, free: Float, target: Float) -> Float:
        """Samples in parts that do not depend on the number of threads, so that bits do not either."""
        B, inverse = len(q), self._inverse(0.0)
        limits = self._tol, self._max_passes
        size = B if B < 2 * _PART else max(_PART, -(-B // _PARTS))
        parts = [slice(first, min(first + size, B)) for first in range(0, B, size)]
        values = np.empty(len(y))

        def solve(part: slice) -> tuple[int, float, float]:
            box, rows = (self._lower, self._upper), (free[part], target[part], values[part])
            done: tuple[int, float, float] = contrasted(
                self._H, self._before, inverse, q[part], y[part], *box, *rows, *limits
            )
            return done

        if len(parts) == 1 or self._threads == 1:
            found = [solve(part) for part in parts]
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads)
            found = list(self._pool.map(solve, parts))
        passes, of_free, of_target = zip(*found)
        self._heed(0, float(np.max(of_free)))
        self._heed(-1 if min(passes) < 0 else sum(passes), float(np.max(of_target)))
        return values

    def _solve_free(self, q: Float, z: Float) -> None:
        if self._limited or self._passes is not None:
            self._settle(self._H, q, z)
        else:
            self._eliminate(0.0, q, np.zeros((len(q), len(self._unit))), z)

    def _solve_target(self, q: Float, y: Float, z: Float) -> None:
        h, loss, weight = self._hidden, self._objective.loss, self._objective.weight
        if loss == "clamp":
            box = self._lower, self._upper
            self._heed(
                *clamped_phase(self._H, self._before, q, y, *box, z, self._tol, self._max_passes, self._passes or 0)
            )
        elif isinstance(loss, MarginLoss) and not (self._limited or self._beta[-1] or self._passes):
            box = self._lower, self._upper
            limits = loss.margin, weight, *box, z, self._tol, self._max_passes
            self._heed(*margin_phase(self._H, self._before, h, q, y.argmax(axis=1), *limits))
        elif isinstance(loss, CrossEntropy) and not (self._limited or self._beta[-1] or self._passes):
            self._cross_entropy(q, y, z)
        elif not isinstance(loss, str):
            problem = BoxQP(self._H, self._lower, self._upper, self._layers)
            z[:], running = newton(Augmented(problem, q, loss, y, weight), z, self._tol, self._max_passes)
            self.work.missed += bool(running.any())
        elif self._limited or self._passes is not None:
            H, right = self._H.copy(), q.copy()
            H[h:, h:] += weight * np.eye(len(H) - h)
            right[:, h:] += weight * y
            self._settle(H, right, z)
        else:
            self._eliminate(weight, q, weight * y, z)

    def _cross_entropy(self, q: Float, y: Float, z: Float) -> None:
        """Hidden units and output in turn."""
        weight, limits = self._objective.weight, (self._tol, self._max_passes)
        passes, residual = entropy_phase(
            self._H, self._before, self._hidden, q, y, weight, self._lower, self._upper, z, *limits
        )
        self._heed(passes, residual)

    def _eliminate(self, weight: float, q: Float, pull: Float, z: Float) -> None:
        """Hidden units by descent with the output at its minimiser, then the output."""
        inverse, box = self._inverse(weight), (self._lower, self._upper)
        self._heed(*eliminated_phase(self._H, self._before, inverse, q, pull, *box, z, self._tol, self._max_passes))

    def _inverse(self, weight: float) -> Float:
        """Of the output's block of H, the weight of its loss included."""
        M = self._H[self._hidden :, self._hidden :]
        _, inverse, info = dposv(M + weight * self._unit if weight else M, self._unit)
        if info:
            raise np.linalg.LinAlgError(_FLAT)
        return np.asarray(inverse.T)

    def _settle(self, H: Float, q: Float, z: Float) -> None:
        limits = self._tol, self._max_passes, self._passes or 0
        self._heed(*settled(H, q, self._lower, self._upper, z, *limits))

    def _heed(self, passes: int, residual: float) -> None:
        """Count what a phase took."""
        if passes < 0:
            raise np.linalg.LinAlgError(_FLAT)
        self.work.passes += passes
        self.work.missed += not residual <= self._tol

    # ------------------------------------------------------------------------------------------- objective and gradient

    def _values(self, X: Float, room: _Room, y: Float | None, free: Float, target: Float) -> Float:
        """The objective of every sample, but for the contrastive one."""
        values = self._energies(X, room, free if self._objective.kind == "unsupervised" else target)
        return values if y is None else self._with_loss(values, y, target)

    def _energies(self, X: Float, room: _Room, z: Float) -> Float:
        return np.einsum("ij,ij->i", (0.5 * z) @ self._H - room.q, z) + self._constant(X, room.pre)

    def _with_loss(self, values: Float, y: Float, target: Float) -> Float:
        if not self._objective.target_sign or self._objective.clamps:
            return values
        return values + self._objective.weight * self._loss(target[:, self._hidden :], y)

    def _loss(self, output: Float, y: Float) -> Any:
        loss = self._objective.loss
        return 0.5 * np.square(output - y).sum(axis=1) if loss == "squared" else loss.value(output, y)

    def _constant(self, X: Float, pre: Float) -> Float:
        """``E(0; x)``, shape (B,)."""
        p = self._params
        total = np.einsum("ij,ij->i", pre, pre)
        if self._beta[0]:
            total += self._beta[0] * self._first.squares(X)
        for b, c, scale, beta in zip(p.biases[1:], p.reconstruction_biases[1:], self._scale[1:], self._beta[1:]):
            total += scale * (b @ b + beta * (c @ c))
        return 0.5 * total

    def _gradient(self, room: _Room, out: Parameters, rate: float | None) -> None:
        """``Σ sign · ∂E/∂θ`` over the rows of z."""
        sizes, parts = (self._scale, self._beta), (room.left, room.weights)
        flat = self._params.flat
        gradients(flat, self._widths, room.pre, room.z, room.signs, room.whole, *sizes, out.flat, *parts)
        self._first.advance(*parts, np.ascontiguousarray(room.z[:, self._layers[0]]), out, rate)


@dataclass(frozen=True, eq=False)
class _Room:
    """Arrays for batches of B samples and R activations: B, 2 B, or B and those of the samples that have targets.

    Attributes
    ----------
    pre : ndarray, shape (B, n_1)
    q : ndarray, shape (B, n)
    z : ndarray, shape (R, n)
        Of the phase that sees the target, then of the free one; of a mixed batch the other way round.
    signs : ndarray, shape (R,)
        Of the phases, times the weights of the samples, over B.
    whole : ndarray, shape (B,)
        Their sum for every sample.
    left : ndarray, shape (B + 1 + R, n_1)
    weights : ndarray, shape (B + 1 + R,)
        What ``[X; c_0; A W_0]`` is multiplied with, A being the activations of the first layer: see
        :func:`certnet.kernels.batch.gradients`.
    """

    pre: Float
    q: Float
    z: Float
    signs: Float
    whole: Float
    left: Float
    weights: Float

    @classmethod
    def of(cls, rows: int, phases: int, net: LiftedNetwork) -> Self:
        m, n, tall = net.widths[1], net.n_units, rows + 1 + phases
        pre, q, z = map(np.empty, ((rows, m), (rows, n), (phases, n)))
        return cls(pre, q, z, np.empty(phases), np.empty(rows), np.empty((tall, m)), np.empty(tall))

    def weigh(self, weights: Float | None, *, contrasting: bool) -> None:
        """Fill the signs, where ``contrasting`` those of the free phase with minus."""
        B = len(self.whole)
        share = np.full(B, 1.0 / B) if weights is None else weights / B
        self.signs[:B] = share
        if contrasting:
            np.negative(share, out=self.signs[B:])
            self.whole.fill(0.0)
        else:
            self.whole[:] = share
