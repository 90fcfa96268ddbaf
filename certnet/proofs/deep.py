r"""The checker for any depth: LipSDP with given multipliers. NumPy only.

For ``x_{k+1} = φ_k(W_k x_k + b_k)``, ``f = W_ℓ x_ℓ + b_ℓ``, slopes of φ_k in [α_k, β_k] and diagonal ``T_k > 0``, one
number per neuron (Fazlyab et al. 2019, LipSDP-neuron; one per layer is the special case ``T_k = τ_k I``),

    P(T, ρ) ⪰ 0   proves   L ≤ √ρ,

with P symmetric and block tridiagonal, block k belonging to x_k:

    P_kk     = [k = 0] ρ I + [k < ℓ] 2 W_kᵀ diag(α_k β_k) T_k W_k + [k ≥ 1] 2 T_{k−1} − [k = ℓ] W_ℓᵀ W_ℓ
    P_k,k+1  = −W_kᵀ diag(α_k + β_k) T_k

The claim is for the real-arithmetic network; every entry's rounding error is bounded, and positive semidefiniteness is
shown as in :mod:`certnet.proofs.shallow`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.proofs.shallow import (
    Verdict,
    double_below,
    gamma,
    gradient_norm_below,
    is_positive_semidefinite,
    sum_and_width,
)

__all__ = [
    "DeepChecker",
    "gradient_below",
    "in_ball",
    "jacobian_followed",
    "slopes_in_ball",
    "smallest_bound",
]

_RANGE = 2.0**300
# slopes in 2^±200, multipliers in 2^±500 and weights up to 2^350: no product of slopes and multipliers underflows, and
# what underflows against a weight is below the floor of the entries' errors
_RANGE_T = 500
_FLOOR = 2.0**-600


class DeepChecker:
    """A network and one vector of multipliers per hidden layer, prepared to test many bounds.

    Parameters
    ----------
    network : FeedForward
    multipliers : sequence of ℓ array_like, shapes (n_{k+1},)
        Positive and finite.
    """

    def __init__(self, network: FeedForward, multipliers: Sequence[ArrayLike]) -> None:
        self.refusal = _refusal(network, multipliers)
        if self.refusal is None:
            self._rest, self._error = _assemble(network, [np.asarray(t, dtype=np.float64) for t in multipliers])
            self._d = network.n_inputs
            if not (np.isfinite(self._rest).all() and np.isfinite(self._error).all()):
                self.refusal = "the weights or multipliers are too large to be verified"

    def holds(self, upper: float) -> Verdict:
        """Is ``L ≤ upper`` proved? One Cholesky factorisation of order ``n_0 + … + n_ℓ``."""
        if self.refusal is not None:
            return Verdict(False, self.refusal)
        claimed = double_below(upper)
        if claimed is None or not 0.0 < claimed < 2.0**500:
            return Verdict(False, f"the bound {str(upper)[:40]} is not a positive number of reasonable size")
        with np.errstate(all="ignore"):  # what overflows is refused
            proved = self._dominated(math.nextafter(claimed * claimed, 0.0))
        if proved:
            return Verdict(True, f"L <= {upper!r} is proved")
        return Verdict(False, f"the multipliers do not prove L <= {upper!r}")

    def _dominated(self, rho: float) -> bool:
        """Is ``P(T, ρ) ⪰ 0`` proved?"""
        P, error = self._rest.copy(), self._error.copy()
        inputs = np.arange(self._d)
        P[inputs, inputs] += rho
        error[inputs, inputs] += 2.0**-52 * (rho + np.abs(P[inputs, inputs]))
        # a congruence with powers of two brings the diagonal to order one, and changes no digit
        unit = -(np.frexp(np.abs(np.diagonal(P)))[1] // 2)
        P = np.ldexp(np.ldexp(P, unit[:, None]), unit)
        error = np.ldexp(np.ldexp(error, unit[:, None]), unit)
        total = float(np.linalg.norm(error)) * (1.0 + 1e-9) + 2.0**-900
        return bool(np.isfinite(P).all()) and math.isfinite(total) and is_positive_semidefinite(P, total)


def smallest_bound(checker: DeepChecker, guess: float) -> float | None:
    """A bound near ``guess`` that holds, inflated as little as the rounding errors ask for; None if twice it fails."""
    step = 1e-13
    while step < 1.0 and checker.refusal is None:
        if checker.holds(guess * (1.0 + step)):
            return guess * (1.0 + step)
        step *= 4.0
    return None


def _refusal(network: FeedForward, multipliers: Sequence[ArrayLike]) -> str | None:
    if len(multipliers) != network.depth:
        return f"there are multipliers for {len(multipliers)} layers, the network has {network.depth} hidden layers"
    for k, (given, n) in enumerate(zip(multipliers, network.widths[1:-1])):
        try:
            t = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return f"the multipliers of layer {k} are not numbers"
        if t.shape != (n,):
            return f"layer {k} has {n} units and multipliers of shape {t.shape}"
        if not (np.isfinite(t).all() and np.all(t > 0.0)):
            return f"a multiplier of layer {k} is not positive and finite"
        if not (t.min() >= 2.0**-_RANGE_T and t.max() <= 2.0**_RANGE_T):
            return f"a multiplier of layer {k} is too small or too large to be verified"
    for k, phi in enumerate(network.activations):
        if any(s != 0.0 and not 2.0**-200 <= abs(s) <= 2.0**200 for s in phi.slopes):
            return f"a slope of layer {k} is too small or too large to be verified"
    if any(np.abs(W).max() > 2.0**350 for W in network.weights):
        return "the weights are too large to be verified"
    return None


def _assemble(network: FeedForward, multipliers: Sequence[Float]) -> tuple[Float, Float]:
    """P without ρ, and a bound on the rounding error of every entry."""
    starts = np.cumsum([0, *network.widths[:-1]])
    P = np.zeros((starts[-1], starts[-1]))
    error = np.zeros_like(P)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for k, (W, T, phi) in enumerate(zip(network.weights, multipliers, network.activations)):
            here, after = slice(starts[k], starts[k + 1]), slice(starts[k + 1], starts[k + 2])
            centre, width = sum_and_width(*(np.full(len(T), s) for s in phi.slopes))
            product = 0.5 * (centre**2 - width**2)  # 2 α β, with the slopes that centre and width stand for
            P[here, here] += (W.T * (product * T)) @ W
            size = np.abs(W)
            # k roundings of a sum of products, and of centre² − width² itself
            error[here, here] += gamma(len(W) + 12) * ((size.T * ((centre**2 + width**2) * T)) @ size)
            P[here, after] = -(W.T * (centre * T))
            P[after, here] = P[here, after].T
            error[here, after] += gamma(4) * np.abs(P[here, after])
            error[after, here] = error[here, after].T
            units = np.arange(after.start, after.stop)
            P[units, units] += 2.0 * T
        V = network.weights[-1]
        last = slice(starts[-2], starts[-1])
        P[last, last] -= V.T @ V
        error[last, last] += gamma(len(V) + 4) * (np.abs(V).T @ np.abs(V))
        diagonal = np.arange(len(P))
        error[diagonal, diagonal] += gamma(4) * np.abs(P[diagonal, diagonal])
        if product.any():
            error += gamma(4) * np.abs(P)
    P = 0.5 * (P + P.T)
    # symmetrising, and the bound's own rounding
    return P, (error + 2.0**-52 * np.abs(P)) * (1.0 + 1e-9) + _FLOOR


_LEAST_WIDTH = 2.0**-40  # of an interval of slopes in a ball, relative to that of the whole activation
_LIBRARY = 2.0**-46  # assumed relative accuracy of exp, tanh, cosh and log1p, with much to spare


def gradient_below(network: FeedForward, x: ArrayLike) -> float:
    """A proven lower bound on the Lipschitz constant: ``‖∂f/∂x‖₂`` at ``x``, rounded down.

    Rounding errors are followed through the layers. Zero where they leave a doubt about the piece of an activation
    with kinks, where an activation is known by its slopes alone, and where ``x`` is not a finite vector of d numbers.
    """
    if network.depth == 1 and network.activations[0].name == "relu":
        return gradient_norm_below(network.shallow(), x)
    found = jacobian_followed(network, x)
    if found is None:
        return 0.0
    J, error = found
    with np.errstate(all="ignore"):
        loss = 1.01 * float(np.linalg.norm(error))
        direction = np.linalg.svd(J, full_matrices=False)[2][0]
        image = float(np.linalg.norm(J @ direction)) - loss - gamma(sum(J.shape) + 8) * float(np.linalg.norm(J))
        return max(0.0, image / float(np.linalg.norm(direction)) * (1.0 - 4.0 * gamma(sum(J.shape) + 8)))


def jacobian_followed(network: FeedForward, x: ArrayLike) -> tuple[Float, Float] | None:
    """``∂f/∂x`` (m, d) at x, with a bound on the error of its entries to about one part in a hundred.

    None in the cases where :func:`gradient_below` says nothing.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.shape != (network.n_inputs,) or not np.isfinite(x).all():
        return None
    if not all(phi.has_values for phi in network.activations):
        return None
    with np.errstate(all="ignore"):  # what overflows is refused at the end
        return _followed(network, x)


def _followed(network: FeedForward, x: Float) -> tuple[Float, Float] | None:
    doubt = np.zeros_like(x)  # of x
    J, error = np.eye(len(x)), np.zeros((len(x), len(x)))  # Jacobian so far, and the doubt of its entries
    for W, b, phi in zip(network.weights, network.biases, network.activations):
        size = np.abs(W)
        z = W @ x + b
        unsure = size @ doubt + gamma(len(x) + 4) * (size @ np.abs(x) + np.abs(b)) + 2.0**-900
        kinks = phi.kinks()
        # a kink is compared with through the numbers of all: those of clip(α z + β) are 1/α apart
        reach = 2.0 * unsure + _LIBRARY * max(map(abs, kinks), default=0.0)
        if any((np.abs(z - kink) <= reach).any() for kink in kinks):
            return None
        slope = phi.derivative(z)
        wrong = phi.curvature * unsure + (_LIBRARY * np.abs(slope) if phi.smooth else 0.0)
        forward = size @ (error + gamma(len(x) + 4) * np.abs(J)) + 2.0**-1000  # what underflows
        product = W @ J
        error = (np.abs(slope) + wrong)[:, None] * forward + wrong[:, None] * np.abs(product)
        error += gamma(4) * np.abs(slope)[:, None] * np.abs(product)
        error += 2.0**-1000
        J = slope[:, None] * product
        doubt = max(map(abs, phi.slopes)) * unsure + _LIBRARY * (np.abs(phi(z)) + np.abs(z) * phi.smooth) + 2.0**-1000
        x = phi(z)
    V = network.weights[-1]
    error = np.abs(V) @ (error + gamma(len(x) + 4) * np.abs(J))
    J = V @ J
    usable = 2.0**-400 < float(np.abs(J).max()) < 2.0**400 and bool(np.isfinite(np.linalg.norm(error)))
    return (J, error) if usable else None


def slopes_in_ball(network: FeedForward, centre: ArrayLike, radius: float, *, norm: str = "l2") -> tuple[Float, Float]:
    """Slopes (low, high), shape (h,), of the units of one hidden layer while ``‖x − centre‖ ≤ radius``.

    A unit's pre-activation stays within ``radius ‖w_j‖₂`` (in an l∞ ball ``radius ‖w_j‖₁``) of its value at the centre
    (rounding charged): where that keeps it on one piece of its activation, its slope is known; elsewhere it is that of
    the whole activation. Of smooth activations the interval that is reached, a trillionth of the whole at least.
    """
    centre = np.asarray(centre, dtype=np.float64)
    W, b, phi = network.weights[0], network.biases[0], network.activations[0]
    k = gamma(len(centre) + 8)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        z = W @ centre + b
        unit = np.frexp(np.abs(W).max(axis=1))[1]  # squares of tiny weights underflow, and a ball can be huge
        size = np.ldexp(np.linalg.norm(np.ldexp(W, -unit[:, None]), _order(norm), axis=1), unit)
        reach = radius * (size * (1.0 + k) + 2.0**-1074) + 2.0**-500
        reach = (reach + k * (np.abs(W) @ np.abs(centre) + np.abs(b))) * (1.0 + k)
        left, right = z - reach, z + reach
        # beside a kink of clip(α z + β) the rounding of α z + β counts, and kinks are 1/α apart
        beside = 2.0**-40 * max(map(abs, phi.kinks()), default=0.0) if phi.has_values else 0.0
        left, right = left - 2.0**-52 * np.abs(left) - beside, right + 2.0**-52 * np.abs(right) + beside
    known = np.isfinite(left) & np.isfinite(right)
    low, high = phi.slopes_between(np.where(known, left, -1.0), np.where(known, right, 1.0))
    whole = phi.slopes
    low, high = np.where(known, low, whole[0]), np.where(known, high, whole[1])
    if phi.smooth:  # far out the interval is as narrow as 1e-300, and no double holds the multipliers of such units
        width = _LEAST_WIDTH * (whole[1] - whole[0])
        high = np.minimum(np.maximum(high, low + width), whole[1])
        low = np.maximum(np.minimum(low, high - width), whole[0])
    return low, high


def in_ball(x: ArrayLike, centre: ArrayLike, radius: float, *, norm: str = "l2") -> bool:
    """Is ``‖x − centre‖ ≤ radius`` in the norm "l2" or "linf", beyond doubt from rounding?"""
    if np.array_equal(x, centre):
        return radius >= 0.0
    x, centre = np.asarray(x, dtype=np.float64), np.asarray(centre, dtype=np.float64)
    order = None if _order(norm) is None else np.inf
    with np.errstate(over="ignore", under="ignore"):
        distance = x - centre
        size = np.linalg.norm(distance, order) + 2.0**-52 * np.linalg.norm(np.abs(x) + np.abs(centre), order)
        # the squares of tiny distances underflow
        return bool(size * (1.0 + gamma(len(distance) + 8)) + 2.0**-500 <= radius)


def _order(norm: str) -> int | None:
    """NumPy's order of the norm that a row of weights has where inputs are measured in ``norm``."""
    if norm not in ("l2", "linf"):
        raise InvalidInputError(f'norm must be "l2" or "linf", got {norm!r}')
    return None if norm == "l2" else 1
