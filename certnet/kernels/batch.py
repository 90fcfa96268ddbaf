r"""One batch of a lifted network that learns, compiled: curvature, linear terms, both phases, gradients.

Batches are small, and each needs some fifty small operations: as NumPy calls they take longer than the arithmetic. Here
they are seven functions. Parameters are one vector in the order W_0 … W_{L−1}, b_0 … b_{L−1}, c_0 … c_{L−1}; ``widths``
are d, n_1 … n_L, ``scale`` is γ^k. Products with W_0, the only large matrix, are left to the caller.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.kernels.box_descent import passes_of_descent
from certnet.kernels.box_refine import refine
from certnet.kernels.compilation import compiled

__all__ = [
    "clamped_phase",
    "contrasted",
    "curvature",
    "differences",
    "eliminated_phase",
    "gradients",
    "linear_terms",
    "settled",
]

Index = NDArray[np.int64]


@compiled(nogil=True)
def _starts(widths: Index) -> Index:
    """Where W_k, b_k and c_k begin, shape (3, L)."""
    depth = len(widths) - 1
    at = np.empty((3, depth), np.int64)
    total = 0
    for k in range(depth):
        at[0, k] = total
        total += widths[k] * widths[k + 1]
    for k in range(depth):
        at[1, k] = total
        total += widths[k + 1]
    for k in range(depth):
        at[2, k] = total
        total += widths[k]
    return at


@compiled(nogil=True)
def curvature(flat: Float, widths: Index, gram: Float, scale: Float, beta: Float, H: Float) -> None:
    """H of the energy from the parameters and ``W_0 W_0ᵀ`` (n_1, n_1); blocks that are always zero are not written."""
    at, depth = _starts(widths), len(widths) - 1
    here = 0
    for k in range(depth):
        m, n = widths[k + 1], widths[k]
        share = scale[k] * beta[k]
        own = scale[k] + (scale[k + 1] * beta[k + 1] if k + 1 < depth else 0.0)
        if k == 0:
            outer = gram
        else:
            W = flat[at[0, k] : at[0, k] + m * n].reshape((m, n))
            outer = np.dot(W, W.T) if share != 0.0 else np.zeros((m, m))
            inner = np.dot(W.T, W)
            before = here - n
            # γᵏ W_kᵀ W_k on the block below, −γᵏ (1 + β_k) W_k beside it
            for i in range(n):
                for j in range(n):
                    H[before + i, before + j] += scale[k] * inner[i, j]
            across = -scale[k] * (1.0 + beta[k])
            for i in range(m):
                for j in range(n):
                    H[here + i, before + j] = across * W[i, j]
                    H[before + j, here + i] = across * W[i, j]
        # the layer's own block: γᵏ β_k W_k W_kᵀ and the multiples of the identity
        for i in range(m):
            for j in range(m):
                H[here + i, here + j] = share * outer[i, j]
            H[here + i, here + i] += own
        here += m


@compiled(nogil=True)
def linear_terms(flat: Float, widths: Index, product: Float, scale: Float, beta: Float, pre: Float, q: Float) -> None:
    """``W_0 x + b_0`` (B, n_1) and q (B, n) from ``[X; c_0] W_0ᵀ`` (B + 1, n_1)."""
    at, depth = _starts(widths), len(widths) - 1
    rows = len(q)
    constant = np.zeros(q.shape[1])
    here = 0
    for k in range(depth):
        m, n = widths[k + 1], widths[k]
        b = flat[at[1, k] : at[1, k] + m]
        if k == 0:
            reconstructed = product[rows]
        else:
            W = flat[at[0, k] : at[0, k] + m * n].reshape((m, n))
            c = flat[at[2, k] : at[2, k] + n]
            reconstructed = np.dot(W, c)
            back = np.dot(W.T, b)
            for j in range(n):
                constant[here - n + j] -= scale[k] * (back[j] + beta[k] * c[j])
        # γᵏ (b + β W c) in block k + 1
        for i in range(m):
            constant[here + i] += scale[k] * (b[i] + beta[k] * reconstructed[i])
        here += m
    # x enters through the first layer alone
    first = flat[at[1, 0] : at[1, 0] + widths[1]]
    for r in range(rows):
        for j in range(q.shape[1]):
            q[r, j] = constant[j]
        for j in range(widths[1]):
            q[r, j] += (1.0 + beta[0]) * product[r, j]
            pre[r, j] = product[r, j] + first[j]


@compiled(nogil=True)
def settled(
    H: Float, q: Float, lower: Float, upper: Float, z: Float, tol: float, max_passes: int, fixed: int
) -> tuple[int, float]:
    """The first units of every sample, as many as H has rows, to tolerance, or in ``fixed`` passes if that is not 0.

    Parameters
    ----------
    H : ndarray, shape (h, h)
    q : ndarray, shape (B, h)
    lower, upper : ndarray, shape (n,)
    z : ndarray, shape (B, n)
        The first h columns are overwritten.
    tol : float
    max_passes, fixed : int

    Returns
    -------
    passes : int
        Over single samples; −1 where the diagonal of H is not positive.
    residual : float
        The largest natural residual, 0 for fixed passes.
    """
    h = len(H)
    for i in range(h):
        if not H[i, i] > 0.0:
            return -1, np.nan
    units = z[:, :h].copy()
    if fixed:
        passes_of_descent(H, q, lower[:h], upper[:h], units, fixed)
        passes, residual = fixed * len(z), 0.0
    else:
        g = np.dot(units, H) - q
        passes, residual = refine(H, q, (lower[:h], upper[:h]), units, g, tol, max_passes)
    z[:, :h] = units
    return passes, residual


@compiled(nogil=True)
def eliminated_phase(
    H: Float,
    first: int,
    inverse: Float,
    q: Float,
    pull: Float,
    lower: Float,
    upper: Float,
    z: Float,
    tol: float,
    max_passes: int,
) -> tuple[int, float]:
    """Hidden units by descent with an output without limits at its minimiser, then the output.

    Parameters
    ----------
    H : ndarray, shape (n, n)
    first : int
        Where the layer before the output begins, the only one that H couples with it.
    inverse : ndarray, shape (n_L, n_L)
        Of the output's block of H, the curvature of its loss included.
    q : ndarray, shape (B, n)
    pull : ndarray, shape (B, n_L)
        Added to the output's linear terms.
    lower, upper : ndarray, shape (n,)
    z : ndarray, shape (B, n)
        Overwritten.
    tol : float
    max_passes : int

    Returns
    -------
    passes, residual
        Those of :func:`settled` for the hidden units.
    """
    h = len(H) - len(inverse)
    q_O = q[:, h:] + pull
    if h == 0:
        z[:] = np.dot(q_O, inverse)
        return 0, 0.0
    H_OA = H[h:, first:h].copy()
    K = np.dot(inverse, H_OA)
    S = H[:h, :h].copy()
    S[first:, first:] -= np.dot(H_OA.T, K)
    right = q[:, :h].copy()
    right[:, first:] -= np.dot(q_O, K)
    passes, residual = settled(S, right, lower, upper, z, tol, max_passes, 0)
    z[:, h:] = np.dot(q_O - np.dot(z[:, first:h].copy(), H_OA.T), inverse)
    return passes, residual


@compiled(nogil=True)
def clamped_phase(
    H: Float,
    first: int,
    q: Float,
    y: Float,
    lower: Float,
    upper: Float,
    z: Float,
    tol: float,
    max_passes: int,
    fixed: int,
) -> tuple[int, float]:
    """Hidden units against an output that is y; ``fixed`` and what is returned are those of :func:`settled`.

    The rest as in :func:`eliminated_phase`.
    """
    h = len(H) - y.shape[1]
    z[:, h:] = y
    if h == 0:
        return 0, 0.0
    right = q[:, :h].copy()
    right[:, first:] -= np.dot(y, H[h:, first:h].copy())
    return settled(H[:h, :h].copy(), right, lower, upper, z, tol, max_passes, fixed)


@compiled(nogil=True)
def contrasted(
    H: Float,
    first: int,
    inverse: Float,
    q: Float,
    y: Float,
    lower: Float,
    upper: Float,
    free: Float,
    target: Float,
    values: Float,
    tol: float,
    max_passes: int,
) -> tuple[int, float, float]:
    """Both phases of :func:`eliminated_phase` and :func:`clamped_phase`, the second from the solution of the first.

    The gradient that ends the one begins the other: with z free, ``g ← g + H_AO (y − z_O)``. The energies differ by

        ½ (y − z_O)ᵀ M (y − z_O) + ½ (g + g′)ᵀ (z′_A − z_A),   M = H_OO,

    with the clamped activations z′ and gradients g, g′ of the clamped energy at both: two terms, none of which cancels.

    Parameters
    ----------
    y : ndarray, shape (n, n_L), n ≤ B
        Of the first n samples; the others have a free phase alone.
    free, target : ndarray, shapes (B, units), (n, units)
        The first is where to start, inside of the boxes; both are overwritten.
    values : ndarray, shape (n,)
        Overwritten with the difference of the energies.

    Returns
    -------
    passes : int
        Over single samples; −1 where the diagonal of H has no scale.
    residuals : two floats
        The largest of either phase.
    """
    h, n = len(H) - len(inverse), len(y)
    box = lower[:h], upper[:h]
    H_OA = H[h:, first:h].copy()
    A, last = H[:h, :h].copy(), H[first:h, first:h].copy()
    K = np.dot(inverse, H_OA)
    A[first:, first:] -= np.dot(H_OA.T, K)  # for the free phase
    q_O, right = q[:, h:].copy(), q[:, :h].copy()
    right[:, first:] -= np.dot(q_O, K)
    z = free[:, :h].copy()
    g = np.dot(z, A) - right
    passes, of_free = refine(A, right, box, z, g, tol, max_passes)
    if passes < 0:
        values[:] = 0.0
        return -1, of_free, of_free
    free[:, :h] = z
    free[:, h:] = np.dot(q_O - np.dot(z[:, first:].copy(), H_OA.T), inverse)
    # the clamped phase
    A[first:, first:] = last
    before = z[:n].copy()
    moved = y - free[:n, h:]
    pulled = q[:n, :h].copy()
    pulled[:, first:] -= np.dot(y, H_OA)
    slope = g[:n].copy()
    slope[:, first:] += np.dot(moved, H_OA)
    start = slope.copy()
    more, of_target = refine(A, pulled, box, z[:n], slope, tol, max_passes)
    target[:, :h], target[:, h:] = z[:n], y
    bent = np.dot(moved, H[h:, h:].copy())
    values[:] = 0.0
    for r in range(n):
        for j in range(moved.shape[1]):
            values[r] += 0.5 * moved[r, j] * bent[r, j]
        for j in range(h):
            values[r] += 0.5 * (start[r, j] + slope[r, j]) * (z[r, j] - before[r, j])
    return passes + more, of_free, of_target


@compiled(nogil=True)
def differences(H: Float, q: Float, free: Float, target: Float) -> Float:
    """Energy of ``target`` less that of ``free``, shape (B,): a product, not two energies that cancel."""
    middle = np.dot(0.5 * (free + target), H)
    values = np.zeros(len(q))
    for r in range(len(q)):
        for j in range(q.shape[1]):
            values[r] += (middle[r, j] - q[r, j]) * (target[r, j] - free[r, j])
    return values


@compiled(nogil=True)
def gradients(
    flat: Float,
    widths: Index,
    pre: Float,
    z: Float,
    signs: Float,
    whole: Float,
    scale: Float,
    beta: Float,
    out: Float,
    left: Float,
    weights: Float,
) -> None:
    """``Σ sign · ∂E/∂θ`` over the rows of z, but for W_0 and c_0; those are, with A the first layer's activations,

    ``leftᵀ [X; c_0; A W_0]``  and  ``weightsᵀ [X; c_0; A W_0]``;  for β_0 = 0  ``leftᵀ X``, by the first B rows, and 0

    Parameters
    ----------
    flat, widths, scale, beta
    pre : ndarray, shape (B, n_1)
        ``W_0 x + b_0``.
    z : ndarray, shape (B, n), or (2 B, n) for two phases of the same inputs
    signs : ndarray, shape (len(z),)
    whole : ndarray, shape (B,)
        The sum of the signs of every sample.
    out : ndarray, shape of ``flat``
        Overwritten, but for W_0 and c_0.
    left : ndarray, shape (B + 1 + len(z), n_1)
        Overwritten.
    weights : ndarray, shape (B + 1 + len(z),)
        Overwritten.
    """
    at, depth = _starts(widths), len(widths) - 1
    B, m = len(pre), widths[1]
    left[:] = 0.0
    # signed activations of the first layer, gathered by input, by c_0 and by row
    for r in range(len(z)):
        to = r if r < B else r - B
        weights[B + 1 + r] = -beta[0] * signs[r]
        for i in range(m):
            signed = signs[r] * z[r, i]
            left[to, i] -= signed
            left[B, i] -= beta[0] * signed
            left[B + 1 + r, i] = beta[0] * signed
    weights[:B] = beta[0] * whole
    weights[B] = beta[0] * signs.sum()
    # the first layer: Σ sign · (pre − z) of every input, for b_0 and for the rows of the product with X
    bias = out[at[1, 0] : at[1, 0] + m]
    bias[:] = 0.0
    for r in range(B):
        for i in range(m):
            summed = -left[r, i]
            forward = whole[r] * pre[r, i] - summed
            bias[i] += forward
            left[r, i] = forward - beta[0] * summed
    here = m
    for k in range(1, depth):
        m, n = widths[k + 1], widths[k]
        W = flat[at[0, k] : at[0, k] + m * n].reshape((m, n))
        b = flat[at[1, k] : at[1, k] + m]
        c = flat[at[2, k] : at[2, k] + n]
        before, after = z[:, here - n : here].copy(), z[:, here : here + m].copy()
        # ∂E/∂b_k = γᵏ (W z_k + b_k − z_{k+1}), and its product with z_k
        forward_rows = np.dot(before, W.T)
        bias = out[at[1, k] : at[1, k] + m]
        bias[:] = 0.0
        for r in range(len(z)):
            for i in range(m):
                forward_rows[r, i] = signs[r] * scale[k] * (forward_rows[r, i] + b[i] - after[r, i])
                bias[i] += forward_rows[r, i]
        slope = out[at[0, k] : at[0, k] + m * n].reshape((m, n))
        slope[:] = np.dot(forward_rows.T, before)
        back = out[at[2, k] : at[2, k] + n]
        back[:] = 0.0
        if beta[k] != 0.0:
            # the part of the reconstruction, γᵏ β_k (Wᵀ z_{k+1} − z_k − c_k)
            backward = np.dot(after, W)
            for r in range(len(z)):
                for j in range(n):
                    backward[r, j] = signs[r] * scale[k] * beta[k] * (backward[r, j] - before[r, j] - c[j])
                    back[j] -= backward[r, j]
            slope += np.dot(after.T, backward)
        here += m
