r"""The three linear maps between units and samples that an interior-point method needs, a chunk of samples at a time.

    forward     U (h, p)                       →  Σ_j V_:j D_ij x̃_iᵀ u_j  and the slacks  S_ij x̃_iᵀ u_j
    adjoint     residuals r (n, m), z (n, k)   →  Σ_i (r_iᵀ V_:j D_ij − z_ij S_ij) x̃_i
    curvature   weights ω (n, k)               →  Σ_i ω_ij x̃_i x̃_iᵀ

with ``S = 2 D − 1`` the signs of the cell. What belongs to the samples (slacks, multipliers, residuals) is the
caller's; here are the rows, and the products of their entries where these fit into memory.
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.solvers import cells
from certnet.solvers.whitened import Whitened

__all__ = ["DataMaps"]

_CACHE = 20_000_000  # numbers of products of inputs that are kept; more are formed again in each step


class DataMaps:
    """The maps of one whitened program."""

    def __init__(self, data: Whitened) -> None:
        n, p = data.X.shape
        self._data = data
        self._pairs = np.triu_indices(p)
        n_pairs = len(self._pairs[0])
        kept = n * n_pairs <= _CACHE
        # all samples at once where their products are kept, else so many that theirs are a quarter of what may be
        size = max(1, n if kept else _CACHE // (4 * n_pairs))
        self._chunks = list(data.chunks(size))
        self._kept = [self._products(chunk.X) for chunk in self._chunks] if kept else None
        self._pull = np.empty((min(size, n), data.n_cone))

    def _products(self, X: Float) -> Float:
        """Upper triangles of ``x̃_i x̃_iᵀ``, one a row."""
        return X[:, self._pairs[0]] * X[:, self._pairs[1]]

    def forward(self, U: Float, slacks: Float) -> Float:
        """The hidden part of the outputs (n, m); ``slacks`` (n, n_cone) is overwritten."""
        data = self._data
        n_cone = data.n_cone
        outputs = np.zeros((len(slacks), len(data.outputs)))
        for chunk in self._chunks:
            here, at = slacks[chunk.at], outputs[chunk.at]
            # z = X̃ Uᵀ, then slacks S z in its place and outputs (D z) Vᵀ
            np.matmul(chunk.X, U[:n_cone].T, out=here)
            cells.split(here, chunk.pattern, data.outputs[:, :n_cone], at)
            if n_cone < len(U):  # units without inequalities are always active, or silent
                at += chunk.X[:, :-1] @ (U[n_cone:, :-1].T @ data.outputs[:, n_cone:].T)
        return outputs

    def adjoint(self, residual: Float, z: Float) -> Float:
        """``Σ_i (residual_iᵀ V_:j D_ij − z_ij S_ij) x̃_i``, (h, p); residuals carry their weights."""
        data = self._data
        n_cone = data.n_cone
        out = np.zeros((data.outputs.shape[1], data.X.shape[1]))
        for chunk in self._chunks:
            pull, r = self._pull[: len(chunk.X)], residual[chunk.at]
            # D (r V) − S z of the units with inequalities
            np.matmul(r, data.outputs[:, :n_cone], out=pull)
            cells.pulled_residuals(pull, chunk.pattern, z[chunk.at])
            out[:n_cone] += pull.T @ chunk.X
            out[n_cone:, :-1] += (chunk.X[:, :-1].T @ r @ data.outputs[:, n_cone:]).T
        return out

    def aimed(self, target: float, product: Float, inverse: Float, z: Float, dz: Float) -> Float:
        """``dz = (target − product) / s − z`` is written, ``inverse = 1 / s``; returns ``Σ_i S_ij dz_ij x̃_i``."""
        data = self._data
        out = np.zeros((data.n_cone, data.X.shape[1]))
        for chunk in self._chunks:
            pull, at = self._pull[: len(chunk.X)], chunk.at
            cells.aimed(target, product[at], inverse[at], z[at], chunk.pattern, dz[at], pull)
            out += pull.T @ chunk.X
        return out

    def curvature(self, weights: Float) -> Float:
        """``Σ_i weights_ij x̃_i x̃_iᵀ`` of each unit with inequalities, (n_cone, p, p)."""
        p, n_cone = self._data.X.shape[1], self._data.n_cone
        packed = np.zeros((n_cone, len(self._pairs[0])))
        for number, chunk in enumerate(self._chunks):
            products = self._products(chunk.X) if self._kept is None else self._kept[number]
            packed += weights[chunk.at].T @ products
        # from upper triangles to symmetric matrices
        out = np.empty((n_cone, p, p))
        out[:, self._pairs[0], self._pairs[1]] = packed
        out[:, self._pairs[1], self._pairs[0]] = packed
        return out
