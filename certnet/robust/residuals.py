"""Residuals of a network in blocks of samples, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.validation import Float, as_samples
from certnet.networks.network import Network

__all__ = ["block_rows", "padded_blocks", "squared_residuals"]

_BLOCK_ROWS: Final = 256
_BLOCK_ENTRIES: Final = 1 << 21


def block_rows(net: Network) -> int:
    """Samples per block: 256, fewer where a block of all hidden layers' activations would exceed 16 MiB."""
    widest = max(net.n_hidden, net.n_inputs, net.n_outputs)
    return max(1, min(_BLOCK_ROWS, _BLOCK_ENTRIES // widest))


def padded_blocks(X: Float, Y: Float, rows: int) -> Iterator[tuple[slice, Float, Float]]:
    """Blocks of exactly ``rows`` samples with the slice they came from; the last is filled by its last sample.

    A matrix product may round a row differently in a block of another height. With one height for all, what is
    computed for a sample depends on its position, not on how many samples follow.
    """
    n = X.shape[0]
    for start in range(0, n, rows):
        index = np.minimum(np.arange(start, start + rows), n - 1)
        yield slice(start, min(start + rows, n)), X[index], Y[index]


def squared_residuals(net: Network, X: ArrayLike, y: ArrayLike) -> Float:
    """``‖f(x_i) − y_i‖²``, summed over the outputs: shape (N,), in squared units of the target.

    Parameters
    ----------
    net : ShallowNetwork or FeedForward
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN or infinite entries, no samples.
    """
    inputs, targets = as_samples(X, y, net.n_inputs, net.n_outputs, net.about.inputs)
    values = np.empty(inputs.shape[0])
    for where, X_block, Y_block in padded_blocks(inputs, targets, block_rows(net)):
        R = net.outputs(X_block) - Y_block
        values[where] = np.einsum("nm,nm->n", R, R)[: where.stop - where.start]
    return values
