"""Simpler networks of the same slopes: one output, the difference of two, or without linear layers. NumPy only.

Rounding is charged. With ``W_ℓ,i − W_ℓ,j = r + δ`` exactly, r in doubles, the difference is ``f_i − f_j = f_r + f_δ``,
and f_δ has a slope of at most ``‖δ‖ Π_k ‖W_k‖_F max|slope_k|``, about 1e-16 of the bound. The product of two matrices
with a linear layer between them is treated in the same way: LipSDP bounds ``‖W_ℓ D_ℓ ⋯ D_1 W_0‖`` over all diagonal D
with entries among the slopes, and such products are linear in each matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array
from certnet.networks.feedforward import FeedForward
from certnet.networks.layers import Dense, Layer, LinearOperator, dense
from certnet.proofs.rounding import frobenius_above, gamma, two_sum_error

__all__ = ["fold_linear", "live_units", "select_output"]


def select_output(network: FeedForward, output: tuple[int, ...] | None) -> tuple[FeedForward, float]:
    """The network of one output, or of the difference of two, and a bound on the slope of what rounding left out."""
    if output is None:
        return network, 0.0
    V, c = network.layers[-1].operator.matrix, network.biases[-1]
    if len(output) == 1:
        (i,) = output
        return _with_last(network, V[i : i + 1], c[i : i + 1]), 0.0
    i, j = output
    with np.errstate(over="ignore"):  # an infinite weight is refused
        row = V[i] - V[j]
        chosen = _with_last(network, row[None], np.clip(c[i : i + 1] - c[j : j + 1], -1e300, 1e300))
    return chosen, _charge(network, two_sum_error(V[i], -V[j], row))


def _with_last(network: FeedForward, V: Float, c: Float) -> FeedForward:
    """The same hidden layers with another output layer.

    Raises
    ------
    InvalidInputError
        A weight is infinite.
    """
    last = dense(finite_array(V, "V", ndim=(2,)), finite_array(c, "c", ndim=(1,)), network.layers[-1].activation)
    return FeedForward.from_layers([*network.layers[:-1], last], network.units)


def fold_linear(network: FeedForward) -> tuple[FeedForward, float]:
    """The network without its linear layers, down to one hidden layer, and a bound on what rounding left out.

    One with structured operators or with units that are carried stays as it is: its proofs take linear layers.

    ``W_{k+1} α W_k`` takes the place of two matrices with ``φ_k(z) = α z`` between them: LipSDP has no finite optimal
    multipliers for such a layer.
    """
    charge = 0.0
    while network.depth > 1 and not network.structured:
        linear = [k for k, phi in enumerate(network.activations) if phi.slopes[0] == phi.slopes[1]]
        if not linear:
            break
        k = linear[0]
        alpha = network.activations[k].slopes[0]
        first, second = network.weights[k : k + 2]
        with np.errstate(all="ignore"):  # what overflows is refused by the new network
            product = alpha * (second @ first)
            size = np.abs(alpha) * (np.abs(second) @ np.abs(first))
            # the last term pays for products that underflow before α is applied
            lost = gamma(len(first) + 8) * frobenius_above(size) + size.size * 2.0**-1000 * max(1.0, abs(alpha))
            lost = lost if alpha != 0.0 else 0.0
            bias = alpha * (second @ network.biases[k]) + network.biases[k + 1]
        try:
            shorter = FeedForward(
                [*network.weights[:k], product, *network.weights[k + 2 :]],
                [*network.biases[:k], np.clip(bias, -1e300, 1e300), *network.biases[k + 2 :]],
                [*network.activations[:k], *network.activations[k + 1 :]],
                units=network.units,
            )
        except InvalidInputError:
            break
        others = [layer for i, layer in enumerate(network.layers) if i not in (k, k + 1)]
        steepest = [layer.steepest for i, layer in enumerate(network.layers[:-1]) if i != k]
        charge += _through([layer.operator for layer in others], steepest, lost)
        network = shorter
    return network, charge * (1.0 + 1e-9)


def _charge(network: FeedForward, lost: Float) -> float:
    """``‖lost‖`` as the last layer of the network."""
    hidden = network.layers[:-1]
    return _through([layer.operator for layer in hidden], [layer.steepest for layer in hidden], frobenius_above(lost))


def _through(operators: Sequence[LinearOperator], steepest: Sequence[float], size: float) -> float:
    """At least ``size Π ‖W‖_F Π max|slope|``, and zero only where a factor is."""
    if size == 0.0:
        return 0.0
    factors = [frobenius_above(op.matrix if isinstance(op, Dense) else op.entries[2]) for op in operators]
    for factor in (*factors, *steepest):
        with np.errstate(over="ignore"):  # an infinite charge proves nothing
            size = math.nextafter(size * factor, math.inf)
    return size


def live_units(layers: Sequence[Layer]) -> list[NDArray[np.bool_]]:
    """Of the inputs, every hidden layer and the outputs: which can move, and move something, by exact zeros.

    A unit none of whose live inputs has a weight does not move; one that no live unit above takes moves nothing, and so
    do inputs; nor does a unit whose slope is zero wherever something is claimed. The others' differences are those of
    the network without it. All outputs count.
    """
    operators = [layer.operator for layer in layers]
    ends = list(map(_non_zero, operators))
    alive = [np.ones(op.n_inputs, dtype=bool) for op in operators] + [np.ones(operators[-1].n_outputs, dtype=bool)]
    for units, layer in zip(alive[1:], layers):
        if layer.reached is not None:
            units &= (layer.reached[0] != 0.0) | (layer.reached[1] != 0.0)
    before = -1
    while before != (before := sum(int(a.sum()) for a in alive)):
        for k, above in enumerate(ends):
            if k:
                alive[k] &= _reached(ends[k - 1], alive[k - 1], axis=1)
            alive[k] &= _reached(above, alive[k + 1], axis=0)
    return alive


_NonZero = NDArray[np.bool_] | tuple[NDArray[np.int64], NDArray[np.int64], int, int]


def _non_zero(operator: LinearOperator) -> _NonZero:
    """Where a matrix has weights: a mask, or rows and columns and the numbers of both."""
    if isinstance(operator, Dense):
        return np.asarray(operator.matrix != 0.0)
    rows, columns, values = operator.entries
    some = values != 0.0
    return rows[some], columns[some], operator.n_outputs, operator.n_inputs


def _reached(non_zero: _NonZero, alive: NDArray[np.bool_], *, axis: int) -> NDArray[np.bool_]:
    """Rows that take a live column (axis 1), or columns that a live row takes (axis 0)."""
    if isinstance(non_zero, np.ndarray):
        live = non_zero[:, alive] if axis == 1 else non_zero[alive]
        return np.asarray(live.any(axis=axis))
    rows, columns, n_rows, n_columns = non_zero
    here, there, n = (rows, columns, n_rows) if axis == 1 else (columns, rows, n_columns)
    reached = np.zeros(n, dtype=bool)
    reached[here[alive[there]]] = True
    return reached
