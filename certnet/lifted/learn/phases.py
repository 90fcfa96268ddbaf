r"""Both phases of one batch, and the gradient, on arrays that are used again for every batch.

With A the hidden layers and O the output, ``H = [H_AA H_AO; H_OA H_OO]``:

    clamped          H_AA z_A  against  q_A − H_AO y
    free, O without limits   (H_AA − H_AO M⁻¹ H_OA) z_A  against  q_A − H_AO M⁻¹ q_O,  M = H_OO      (exact)
    squared loss     the same with  M = H_OO + weight I  and  q_O + weight y

What :mod:`certnet.lifted.qp` does for one network and many samples, this does for few samples and a network that moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from certnet.kernels.box_descent import descend, passes_of_descent
from certnet.lifted.learn.objective import Objective
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.network import LiftedNetwork
from certnet.lifted.qp import BoxQP
from certnet.lifted.solvers.loss import Augmented, newton
from certnet.validation import Float

__all__ = ["Phases", "Work"]


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
        Read at every :meth:`run`.
    objective : Objective
    tol : float
        Natural residual of every phase.
    passes : int or None
        So many passes of coordinate descent over all units instead.
    max_passes : int
    follow : bool
        Start the phase that sees the target at the free solution, whatever it was given.

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
    ) -> None:
        self.work = Work()
        self._net, self._params, self._objective = net, params, objective
        self._tol, self._passes, self._max_passes, self._follow = tol, passes, max_passes, follow
        self._layers, self._beta = net.layers, net.beta
        self._scale = [net.gamma**k for k in range(net.depth)]
        self._lower, self._upper = np.concatenate(net.lower), np.concatenate(net.upper)
        self._room = np.empty((0, net.n_inputs))
        self._hidden = self._layers[-1].start
        n = net.n_units
        self._H = np.zeros((n, n))
        self._diagonal = self._H.reshape(-1)[:: n + 1]
        self._shift = np.concatenate([np.full(net.widths[k + 1], self._own(k)) for k in range(net.depth)])
        self._limited = bool(np.isfinite(net.lower[-1]).any() or np.isfinite(net.upper[-1]).any())

    def _own(self, k: int) -> float:
        """The multiple of the identity in the block of z_{k+1}."""
        after = self._scale[k + 1] * self._beta[k + 1] if k + 1 < len(self._scale) else 0.0
        return self._scale[k] + after

    # ------------------------------------------------------------------------------------------------------- inference

    def run(self, X: Float, y: Float | None, gradient: Parameters, free: Float, target: Float) -> Float:
        """The objective of every sample, shape (B,), and the gradient of their mean.

        Parameters
        ----------
        X : ndarray, shape (B, d)
        y : ndarray, shape (B, n_L), or None
        gradient : Parameters
            Overwritten.
        free, target : ndarray, shape (B, n)
            Activations to start from, inside of the boxes; overwritten with those of the phases.
        """
        sees, both = self._objective.target_sign != 0.0, self._objective.kind == "contrastive"
        self.work.samples += len(X)
        self._update()
        pre, q = self._pose(X)
        if self._objective.free_sign:
            self._solve_free(q, free)
            if self._follow:
                target[:] = free
        if sees and y is not None:
            self._solve_target(q, y, target)
        values = self._values(X, pre, q, y, free, target)
        z = np.concatenate([target, free]) if both else (target if sees else free)
        signs = np.full((len(z), 1), 1.0 / len(X))
        if both:
            signs[len(X) :] *= -1.0
        self._gradient(X, pre, z, signs, 0.0 if both else 1.0, gradient)
        return values

    def _update(self) -> None:
        """H of the current parameters."""
        H, before = self._H, slice(0, 0)
        for W, here, scale, beta in zip(self._params.weights, self._layers, self._scale, self._beta):
            H[here, here] = np.dot(W, W.T) * (scale * beta) if beta else 0.0
            if before.stop:
                H[before, before] += scale * np.dot(W.T, W)
                np.multiply(W, -scale * (1.0 + beta), out=H[here, before])
                H[before, here] = H[here, before].T
            before = here
        self._diagonal += self._shift

    def _pose(self, X: Float) -> tuple[Float, Float]:
        """``W_0 x + b_0`` (B, n_1) and the linear terms (B, n)."""
        p, first = self._params, self._layers[0]
        constant = np.zeros(len(self._shift))
        before = first
        parts = zip(p.weights, p.biases, p.reconstruction_biases, self._layers, self._scale, self._beta)
        for k, (W, b, c, here, scale, beta) in enumerate(parts):
            constant[here] += scale * (b + beta * (W @ c) if beta else b)
            if k:
                constant[before] -= scale * (b @ W + beta * c)
            before = here
        product = X @ p.weights[0].T
        q = np.empty((len(X), len(constant)))
        q[:] = constant
        q[:, first] += (1.0 + self._beta[0]) * product
        product += p.biases[0]
        return product, q

    def _solve_free(self, q: Float, z: Float) -> None:
        if self._limited or self._passes is not None:
            self._settle(self._H, q, self._lower, self._upper, z)
        else:
            self._eliminate(0.0, q, None, z)

    def _solve_target(self, q: Float, y: Float, z: Float) -> None:
        h, loss, weight = self._hidden, self._objective.loss, self._objective.weight
        if loss == "clamp":
            if h:
                right = q[:, :h] - y @ self._H[h:, :h]
                hidden = np.ascontiguousarray(z[:, :h])
                self._settle(np.ascontiguousarray(self._H[:h, :h]), right, self._lower[:h], self._upper[:h], hidden)
                z[:, :h] = hidden
            z[:, h:] = y
        elif not isinstance(loss, str):
            problem = BoxQP(self._H, self._lower, self._upper, self._layers)
            z[:], running = newton(Augmented(problem, q, loss, y, weight), z, self._tol, self._max_passes)
            self.work.missed += bool(running.any())
        elif self._limited or self._passes is not None:
            H, right = self._H.copy(), q.copy()
            H[h:, h:] += weight * np.eye(len(H) - h)
            right[:, h:] += weight * y
            self._settle(H, right, self._lower, self._upper, z)
        else:
            self._eliminate(weight, q, weight * y, z)

    def _eliminate(self, weight: float, q: Float, extra: Float | None, z: Float) -> None:
        """Hidden units by descent with the output at its minimiser, then the output."""
        h = self._hidden
        H_OA, M = self._H[h:, :h], self._H[h:, h:]
        M_inverse = np.linalg.inv(M + weight * np.eye(len(M)) if weight else M)
        q_O = q[:, h:] if extra is None else q[:, h:] + extra
        if h:
            K = M_inverse @ H_OA
            S = self._H[:h, :h] - H_OA.T @ K
            hidden = np.ascontiguousarray(z[:, :h])
            self._settle(S, q[:, :h] - q_O @ K, self._lower[:h], self._upper[:h], hidden)
            z[:, :h] = hidden
            q_O = q_O - hidden @ H_OA.T
        z[:, h:] = q_O @ M_inverse

    def _settle(self, H: Float, q: Float, lower: Float, upper: Float, z: Float) -> None:
        if not H.diagonal().min() > 0.0:
            raise np.linalg.LinAlgError("the energy has lost its curvature to rounding")
        if self._passes is not None:
            passes_of_descent(H, q, lower, upper, z, self._passes)
            self.work.passes += self._passes * len(z)
            return
        passes, residual = descend(H, q, lower, upper, z, self._tol, self._max_passes)
        self.work.passes += passes
        self.work.missed += not residual <= self._tol

    # ------------------------------------------------------------------------------------------- objective and gradient

    def _values(self, X: Float, pre: Float, q: Float, y: Float | None, free: Float, target: Float) -> Float:
        """The objective of every sample; of the contrastive one the difference, not two energies that cancel."""
        kind = self._objective.kind
        if kind == "contrastive":
            middle = (0.5 * (free + target)) @ self._H - q
            middle *= target - free
            values: Float = middle.sum(axis=1)
        else:
            z = free if kind == "unsupervised" else target
            values = np.einsum("ij,ij->i", (0.5 * z) @ self._H - q, z) + self._constant(X, pre)
        if self._objective.target_sign and y is not None and not self._objective.clamps:
            values = values + self._objective.weight * self._loss(target[:, self._hidden :], y)
        return values

    def _loss(self, output: Float, y: Float) -> Any:
        loss = self._objective.loss
        return 0.5 * np.square(output - y).sum(axis=1) if loss == "squared" else loss.value(output, y)

    def _constant(self, X: Float, pre: Float) -> Float:
        """``E(0; x)``, shape (B,)."""
        p = self._params
        total = np.einsum("ij,ij->i", pre, pre)
        if self._beta[0]:
            back = X + p.reconstruction_biases[0]
            total += self._beta[0] * np.einsum("ij,ij->i", back, back)
        for b, c, scale, beta in zip(p.biases[1:], p.reconstruction_biases[1:], self._scale[1:], self._beta[1:]):
            total += scale * (b @ b + beta * (c @ c))
        return 0.5 * total

    def _gradient(self, X: Float, pre: Float, z: Float, signs: Float, total: float, out: Parameters) -> None:
        """``Σ sign · ∂E/∂θ`` over the rows of z; ``total`` is the sum of the signs of a sample, times B."""
        first, beta, B = self._layers[0], self._beta[0], len(X)
        W, c = self._params.weights[0], self._params.reconstruction_biases[0]
        after = z[:, first]
        signed = signs * after
        # of the first layer, whose inputs both phases share: one product with X for both
        summed = signed[:B] + signed[B:] if len(z) > B else signed
        forward = (total / B) * pre - summed if total else -summed
        np.sum(forward, axis=0, out=out.biases[0])
        if not beta:
            np.dot(forward.T, X, out=out.weights[0])
            out.reconstruction_biases[0].fill(0.0)
        else:
            wide = self._wide(B + len(z))
            wide[:B] = X
            np.dot(after, W, out=wide[B:])
            wide[B:] -= c
            np.dot(np.concatenate([forward - beta * summed, beta * signed]).T, wide, out=out.weights[0])
            np.dot(signs[:, 0] * -beta, wide[B:], out=out.reconstruction_biases[0])
            if total:
                bias = out.reconstruction_biases[0]
                bias += beta * X.mean(axis=0)
        for k in range(1, len(self._layers)):
            self._layer_gradient(k, z, signs, out)

    def _wide(self, rows: int) -> Float:
        """Room for so many rows as wide as the inputs."""
        if len(self._room) < rows:
            self._room = np.empty((rows, self._net.n_inputs))
        return self._room[:rows]

    def _layer_gradient(self, k: int, z: Float, signs: Float, out: Parameters) -> None:
        p, beta, scale = self._params, self._beta[k], self._scale[k]
        before, after = z[:, self._layers[k - 1]], z[:, self._layers[k]]
        W = p.weights[k]
        weighed = signs * scale
        forward = weighed * (before @ W.T + p.biases[k] - after)
        np.dot(forward.T, before, out=out.weights[k])
        np.sum(forward, axis=0, out=out.biases[k])
        out.reconstruction_biases[k].fill(0.0)
        if beta:
            backward = (weighed * beta) * (after @ W - before - p.reconstruction_biases[k])
            total = out.weights[k]
            total += np.dot(after.T, backward)
            np.negative(backward.sum(axis=0), out=out.reconstruction_biases[k])
