r"""The checker for the maximum norm of the inputs: ``|f(x) − f(y)| ≤ L ‖x − y‖_∞`` for one output. NumPy only.

For input weights p ≥ 0 with ``Σ_k p_k ≤ 1`` and M(t) as in :mod:`certnet.proofs.shallow`,

    u · diag(p_1, …, p_d, 1) − ½ M(t) ⪰ 0   proves   L ≤ u,

because ``½ (x; a)ᵀ M(t) (x; a) ≥ 2 a V D x`` for every D within the slopes, and ``Σ_k p_k x_k² + a² ≤ 2`` for
``‖x‖_∞ ≤ 1``, ``a = ±1``. In other words, ``√p``-scaled inputs have norm at most ``‖x‖_∞``, and the l2 bound of the
scaled network serves. A unit with multiplier 0 is charged ``|V_j| ‖w_j‖₁`` times its steepest slope.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.deep import jacobian_followed
from certnet.proofs.shallow import BoundChecker, Question, ask, gamma, jacobian_at, read_numbers

__all__ = ["SupChecker", "gradient_sum_below"]

_FLOOR = 2.0**-64  # of the largest weight: what any weight is raised by, so that none is zero
_MINUTE = 2.0**-1000  # more than what underflows


class SupChecker(BoundChecker):
    """One hidden layer, one output, multipliers and input weights, prepared to test many bounds.

    Parameters
    ----------
    network : ShallowNetwork
        Its W and V are used; its activation is that of the slopes.
    multipliers : array_like, shape (h,)
        Non-negative and finite; 0 charges the unit by its norm.
    input_weights : array_like, shape (d,)
        Non-negative and finite, not all zero. Only their ratios count: p is what they are divided by their sum.
    low, high : float or ndarray, shape (h,)
        Slopes of the units' activations: ReLU's by default.

    Attributes
    ----------
    refusal : str or None
        Why no bound at all follows from these numbers, if so.
    """

    def __init__(
        self,
        network: ShallowNetwork,
        multipliers: ArrayLike,
        input_weights: ArrayLike,
        *,
        low: Float | float = 0.0,
        high: Float | float = 1.0,
    ) -> None:
        self._prepare(_ask(network, multipliers, input_weights, low, high))


def _ask(
    network: ShallowNetwork, multipliers: ArrayLike, input_weights: ArrayLike, low: Float | float, high: Float | float
) -> Question | str:
    p = _proportions(network, input_weights)
    if isinstance(p, str):
        return p
    columns, p = _units(p)
    weights = np.append(p, 1.0)
    return ask(network.W, network.V, multipliers, low, high, columns=columns, weights=weights, order=1)


def _proportions(network: ShallowNetwork, input_weights: ArrayLike) -> Float | str:
    """Positive p (d,) whose exact sum is at most 1; a sentence where the weights are not to be used."""
    if network.n_outputs != 1:
        return f"the bound in the maximum norm is for one output, the network has {network.n_outputs}"
    s = read_numbers(input_weights, "input weight", network.n_inputs, "inputs")
    if isinstance(s, str):
        return s
    top = float(s.max())
    if top == 0.0:
        return "the input weights are all zero"
    # any positive weights may be used: what is rounded here makes others of them, and no false claim
    with np.errstate(under="ignore"):
        s = np.ldexp(s, -int(np.frexp(top)[1])) + _FLOOR
    return np.nextafter(s / math.nextafter(math.fsum(s), math.inf), 0.0)


def _units(p: Float) -> tuple[NDArray[np.int32], Float]:
    """e and ``p · 4^e`` in [¼, 1): inputs in units of ``2^e`` have weights of order one, and no digit changes."""
    exponent = -np.frexp(p)[1] // 2
    return exponent, np.ldexp(p, 2 * exponent)


def gradient_sum_below(network: ShallowNetwork | FeedForward, x: ArrayLike) -> float:
    """A proven lower bound on L in the maximum norm: ``‖∂f/∂x‖₁`` at ``x`` of one output, rounded down.

    Zero where rounding leaves a doubt about the piece of an activation with kinks, where an activation is known by its
    slopes alone, where ``x`` is not a finite vector of d numbers, and where the network has several outputs.
    """
    if network.n_outputs != 1:
        return 0.0
    if isinstance(network, FeedForward):
        if network.depth != 1 or network.activations[0].name != "relu":
            followed = jacobian_followed(network, x)
            return 0.0 if followed is None else _sum_below(followed[0], 1.01 * followed[1])
        network = network.shallow()
    found = jacobian_at(network, x)
    if found is None:
        return 0.0
    J, terms, active = found
    return _sum_below(J, gamma(active + 8) * terms)


def _sum_below(J: Float, error: Float) -> float:
    """At most ``Σ_k |J_k|``, for J that is known up to ``error``; zero where that says nothing."""
    with np.errstate(all="ignore"):  # what overflows is refused
        entries = np.maximum(np.abs(J) - (error + _MINUTE), 0.0)
        total = float(entries.sum()) * (1.0 - 2.0 * gamma(entries.size + 8))
    return total if math.isfinite(total) else 0.0
