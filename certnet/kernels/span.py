r"""A first layer that takes gradient steps, in the span of its start and of the inputs of the next few batches.

With the rows ``Y = [W; c; X]`` (D, d) of the weights W (m, d) and the biases c (d,) at the start, and of R inputs,

    W_t = C_tᵀ Y,   c_t = v_tᵀ Y,   S = Y Yᵀ (D, D)

for a step ``W ← W − η leftᵀ [X_t; c; A W]`` stays in that span. What a batch needs of the first layer is small then:

    X_t W_tᵀ = S_{X_t} C_t
    W_t W_tᵀ = G,   G ← G − leftᵀ F − Fᵀ left,   F = η V W_tᵀ − ½ η² V Vᵀ left,   V = [X_t; c_t; A W_t]

Two large products a span, S and Cᵀ Y, take the place of four a batch. The errors of G are those of at most R / B steps:
the next span begins with the product itself.
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.kernels.compilation import compiled

__all__ = ["span_posed", "span_step"]

_FAST = {"reassoc", "contract", "nsz"}


@compiled(nogil=True)
def span_posed(S: Float, C: Float, v: Float, first: int, rows: int, of_c: Float) -> Float:
    """``[X_t; c_t] W_tᵀ``, shape (rows + 1, m), for the inputs ``X_t``, ``rows`` rows of Y from ``first`` on.

    Rows of C and v from ``first`` on are zero; ``of_c``, shape (D,), is overwritten with S v.
    """
    np.dot(S, v, of_c)
    right = np.empty((rows + 1, first))
    right[:rows] = S[first : first + rows, :first]
    right[rows] = of_c[:first]
    return np.dot(right, C[:first])


@compiled(nogil=True, fastmath=_FAST)
def span_step(
    S: Float,
    C: Float,
    v: Float,
    G: Float,
    first: int,
    product: Float,
    of_c: Float,
    left: Float,
    weights: Float,
    A: Float,
    rate: float,
    moves: bool,
) -> None:
    r"""``W ← W − rate leftᵀ V`` and, where it ``moves``, ``c ← c − rate weightsᵀ V``; C, v and ``G = W Wᵀ`` in place.

    Parameters
    ----------
    S : ndarray, shape (D, D)
    C, v : ndarray, shapes (D, m), (D,)
    G : ndarray, shape (m, m)
    first : int
        The row of Y at which the inputs of this batch begin.
    product, of_c : ndarray, shapes (B + 1, m), (D,)
        What :func:`span_posed` gave and filled.
    left, weights : ndarray, shapes (B + 1 + len(A), m), (B + 1 + len(A),)
    A : ndarray, shape (·, m)
        Activations of the first layer.
    """
    B, m = len(product) - 1, len(G)
    tall = B + 1 + len(A)
    # V Wᵀ, and V Vᵀ from products that there are
    across = np.empty((tall, m))
    across[: B + 1] = product
    across[B + 1 :] = np.dot(A, G)
    square = np.empty((tall, tall))
    square[:B, :B] = S[first : first + B, first : first + B]
    square[B, B] = np.dot(of_c[:first], v[:first])
    for r in range(B):
        square[r, B] = square[B, r] = of_c[first + r]
    square[B + 1 :] = np.dot(A, across.T)
    for r in range(B + 1, tall):
        for i in range(B + 1):
            square[i, r] = square[r, i]
    # G, symmetric to the last bit
    bent = np.dot(square, left)
    for r in range(tall):
        for i in range(m):
            bent[r, i] = rate * (across[r, i] - 0.5 * rate * bent[r, i])
    half = np.dot(left.T, bent)
    for i in range(m):
        for j in range(i + 1):
            G[i, j] -= half[i, j] + half[j, i]
            G[j, i] = G[i, j]
    # the steps by their coordinates: of the inputs they are left itself, of c and A W those of c and A times those of W
    lower = np.empty((first, 1 + len(A)))
    turned = np.dot(C[:first], A.T)
    for j in range(first):
        lower[j, 0] = v[j]
        for r in range(len(A)):
            lower[j, 1 + r] = turned[j, r]
    turn = np.dot(lower, left[B:])
    for j in range(first):
        for i in range(m):
            C[j, i] -= rate * turn[j, i]
    for r in range(B):
        for i in range(m):
            C[first + r, i] = -rate * left[r, i]
    if moves:
        move = np.dot(lower, weights[B:])
        for j in range(first):
            v[j] -= rate * move[j]
        for r in range(B):
            v[first + r] = -rate * weights[r]
