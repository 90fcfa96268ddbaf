r"""The search over vectors on a device of PyTorch, in float64: its arrays, and the recursion of the bound there.

The passes are those of :mod:`certnet.searches.vectors`, on tensors; the recursion is that of
:mod:`certnet.searches.riccati`, with dense matrices ``Q``. What comes back are multipliers, which NumPy proves.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from certnet.backends.torch_ import import_torch, torch_device
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.searches.arrays import Array, Arrays
from certnet.searches.increments import Increments, Map, is_sparse

__all__ = ["TorchArrays"]

_TINY: Final = 1e-300
_LANCZOS: Final = 1500  # order from which on the largest eigenvalue is found by Lanczos steps


@dataclass(frozen=True, eq=False)
class _Sparse:
    """A matrix in compressed rows, and its transpose likewise: either is a fast factor from the left."""

    rows: Array
    columns: Array

    @property
    def T(self) -> _Sparse:
        return _Sparse(self.columns, self.rows)

    def __matmul__(self, dense: Array) -> Array:
        return self.rows @ dense


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """The network of ``host`` with its arrays as tensors."""

    host: Increments
    maps: tuple[Map, ...]
    output: Map
    centre: tuple[Array, ...]
    width: tuple[Array, ...]
    bends: tuple[Any, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        return self.host.widths

    @property
    def n_bending(self) -> tuple[int, ...]:
        return self.host.n_bending


class TorchArrays(Arrays):
    """Tensors of float64 on one device.

    Raises
    ------
    MissingDependencyError
        PyTorch is not installed.
    InvalidInputError
        The device is unknown, not there, or without float64.
    """

    def __init__(self, device: str) -> None:
        self.xp: Any = import_torch()
        self._device = torch_device(device, double=True)

    def placed(self, net: Increments) -> _OnDevice:
        with self._memory():
            return _OnDevice(
                net,
                tuple(self._map(B) for B in net.maps),
                self._map(net.output),
                tuple(self.array(c) for c in net.centre),
                tuple(self.array(w) for w in net.width),
                tuple(e if isinstance(e, slice) else self._indices(e) for e in net.bends),
            )

    def array(self, values: Float) -> Array:
        return self.xp.tensor(np.ascontiguousarray(values), dtype=self.xp.float64, device=self._device)

    def numpy(self, values: Array) -> Float:
        return np.array(values.cpu().numpy(), dtype=np.float64)

    def copy(self, values: Array) -> Array:
        return values.clone()

    def row_dots(self, a: Array, b: Array) -> Array:
        return (a * b).sum(dim=1)

    def row_norms(self, rows: Array) -> Array:
        return self.xp.linalg.vector_norm(rows, dim=1) + _TINY

    def at_least(self, values: Array, floor: float) -> Array:
        return values.clamp(min=floor)

    def bound_of(self, net: Any, multipliers: Sequence[Array], weights: Array | None) -> float:
        with self._memory():
            Q = net.output.T @ self._dense(net.output)
            for k, two in net.host.steps:
                found = self._before_two(Q, net, k, multipliers) if two else self._before(Q, net, k, multipliers[k])
                if found is None:
                    return float("inf")
                Q = 0.5 * (found + found.T)
            if weights is None:
                return self._largest(Q)
            scale = weights.rsqrt()
            return float(weights.sum()) * self._largest(scale[:, None] * Q * scale)

    def _before_two(self, Q: Array, net: _OnDevice, k: int, multipliers: Sequence[Array]) -> Array | None:
        """Through layers k + 1 and k, of which k is the wider (:func:`certnet.proofs.forms.before_two`)."""
        (t_low, t), (c_low, c), (B_low, B) = multipliers[k : k + 2], net.centre[k : k + 2], net.maps[k : k + 2]
        factor = (2.0 * c * t)[:, None]
        low = c_low[:, None] * self._dense(B_low)
        K = -factor * (B @ ((0.5 / t_low)[:, None] * (factor * self._dense(B)).T)) - Q
        K.diagonal().add_(2.0 * t)
        D = self._solved(0.5 * (K + K.T), factor * (B @ low))
        return None if D is None else B_low.T @ ((2.0 * c_low * t_low)[:, None] * low) + D.T @ D

    def _before(self, Q: Array, net: _OnDevice, k: int, t: Array) -> Array | None:
        """``Xᵀ S⁻¹ X + Bᵀ [c Q c + 2 T w²] B``, X = Q_e: c B.

        Where slopes begin or end at zero, so c² = w², the units that bend drop out of the brackets, and
        X = (2 c T B)_e + Q_e: c B over the others.
        """
        B, c, w, e = net.maps[k], net.centre[k], net.width[k], net.bends[k]
        bends = net.host.width[k] > 0.0
        if not bends.any():
            return B.T @ (B.T @ (c[:, None] * Q * c)).T
        one_sided = bool((np.abs(net.host.centre[k]) == net.host.width[k])[bends].all())
        S = -Q[e][:, e]
        S.diagonal().add_(2.0 * t)
        if one_sided and bends.all():
            D = self._solved(S, (2.0 * c * t)[:, None] * self._dense(B))
            return None if D is None else D.T @ D
        left = c * (w == 0.0) if one_sided else c
        rows, inner = Q[e] * left, left[:, None] * Q * left
        if one_sided:
            rows[self.xp.arange(len(t), device=self._device), e] += 2.0 * c[e] * t
        else:
            inner.diagonal()[e] += 2.0 * t * w[e] ** 2
        D = self._solved(S, (B.T @ rows.T).T)
        return None if D is None else B.T @ (B.T @ inner).T + D.T @ D

    def _solved(self, S: Array, X: Array) -> Array | None:
        """R⁻¹ X for ``R Rᵀ = S``; None where S is not positive definite."""
        R, failed = self.xp.linalg.cholesky_ex(S)
        return None if int(failed) else self.xp.linalg.solve_triangular(R, X, upper=False)

    def _largest(self, Q: Array) -> float:
        """The largest eigenvalue; infinite where there is none."""
        if not bool(Q.isfinite().all()):
            return float("inf")
        try:
            if len(Q) <= _LANCZOS:
                return float(self.xp.linalg.eigvalsh(Q)[-1])
            start = self.numpy(Q.diagonal().clamp(min=0.0).sqrt())
            times = LinearOperator(Q.shape, matvec=lambda v: self.numpy(Q @ self.array(v.ravel())), dtype=np.float64)
            return float(eigsh(times, k=1, which="LA", v0=start, tol=1e-12, return_eigenvectors=False)[0])
        except (self.xp.linalg.LinAlgError, ArpackError, ValueError):
            return float("inf")

    def _dense(self, matrix: Map) -> Array:
        return matrix.rows.to_dense() if isinstance(matrix, _Sparse) else matrix

    def _map(self, matrix: Map) -> Map:
        if not is_sparse(matrix):
            return self.array(matrix)
        return _Sparse(self._compressed(matrix.tocsr()), self._compressed(matrix.T.tocsr()))

    def _compressed(self, matrix: Any) -> Array:
        matrix = matrix.sorted_indices()
        parts = (self.xp.tensor(part, device=self._device) for part in (matrix.indptr, matrix.indices, matrix.data))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # PyTorch calls it a beta state
            return self.xp.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=True)

    def _indices(self, values: Any) -> Array:
        return self.xp.tensor(values, dtype=self.xp.int64, device=self._device)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        try:
            yield
        except self.xp.OutOfMemoryError as error:
            raise InvalidInputError(
                f"device {str(self._device)!r} has too little memory for this network: leave device out, for NumPy"
            ) from error
