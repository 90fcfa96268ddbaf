r"""Proofs of lower bounds: the size of a gradient at a witness, rounded down. NumPy only; no code of any search.

Where no activation has a kink within the doubt that rounding leaves about its argument, f is differentiable at x and
``L ≥ ‖∂f/∂x‖``: the spectral norm for l2, the sum of the entries' sizes of one output for the maximum norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from certnet.claims.claim import Claim
from certnet.claims.kinds import Witness, register_witness
from certnet.claims.verdict import Verdict
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.hidden import HiddenLayer
from certnet.networks.network import Network
from certnet.proofs.rounding import gamma
from certnet.proofs.subject import Subject

__all__ = [
    "GradientWitness",
    "gradient_below",
    "gradient_norm_below",
    "gradient_sum_below",
    "jacobian_at",
    "jacobian_followed",
    "slope_at",
    "slope_of_chosen_at",
]

_LIBRARY = 2.0**-46  # assumed relative accuracy of exp, tanh, cosh, log1p and erfc, with much to spare
_MINUTE = 2.0**-1000  # more than what underflows


@register_witness("feed-forward")
@dataclass(frozen=True, eq=False)
class GradientWitness:
    """The input x (d,) whose gradient shows a lower bound of a network of layers."""

    x: Float

    @classmethod
    def of(cls, point: Float, activations: Float | None) -> Witness:
        return cls(point)

    def check(self, claim: Claim, bound: object) -> Verdict:
        """Is ``L ≥ bound`` shown, by a gradient within the region?"""
        subject = Subject.of(claim)
        if isinstance(subject, str):
            return Verdict(False, subject)
        if not subject.contains(self.x):
            return Verdict(False, "the witness of the lower bound does not lie in the ball")
        # NumPy compares a float32 after rounding the other number to one
        if not isinstance(bound, float) or not 0.0 < bound <= slope_at(subject, self.x):
            return Verdict(False, f"the gradient at the witness does not prove L >= {bound!r}")
        return Verdict(True, f"L >= {bound!r} is proved")


def slope_at(subject: Subject, x: Float) -> float:
    """A proven lower bound on L: the gradient's norm at x, rounded down; 0 where nothing is proved."""
    below, charge = slope_of_chosen_at(subject, x), subject.charge()
    return below if charge == 0.0 else max(0.0, math.nextafter(below - charge, -math.inf))


def slope_of_chosen_at(subject: Subject, x: Float) -> float:
    """The same of the network of the chosen outputs, whose rounding is not charged, and 0 outside of the region."""
    if not subject.contains(x):
        return 0.0
    return gradient_below(subject.chosen, x) if subject.claim.norm == "l2" else gradient_sum_below(subject.chosen, x)


def gradient_below(network: Network, x: ArrayLike) -> float:
    """A proven lower bound on the Lipschitz constant: ``‖∂f/∂x‖₂`` at ``x``, rounded down.

    Rounding errors are followed through the layers. Zero where they leave a doubt about the piece of an activation
    with kinks, where an activation is known by its slopes alone, and where ``x`` is not a finite vector of d numbers.
    """
    if network.relu_only:
        return gradient_norm_below(FeedForward.of(network).shallow(), x)
    found = jacobian_followed(network, x)
    if found is None:
        return 0.0
    J, error = found
    with np.errstate(all="ignore"):
        loss = 1.01 * float(np.linalg.norm(error))
        direction = np.linalg.svd(J, full_matrices=False)[2][0]
        image = float(np.linalg.norm(J @ direction)) - loss - gamma(sum(J.shape) + 8) * float(np.linalg.norm(J))
        return max(0.0, image / float(np.linalg.norm(direction)) * (1.0 - 4.0 * gamma(sum(J.shape) + 8)))


def gradient_norm_below(network: HiddenLayer, x: ArrayLike) -> float:
    """A proven lower bound on the Lipschitz constant: ``‖∂f/∂x‖₂`` at ``x``, rounded down.

    Zero where the sign of a pre-activation at ``x`` cannot be told from rounding (f may have a kink there) or ``x``
    is not a finite vector of d numbers.
    """
    found = jacobian_at(network, x)
    if found is None:
        return 0.0
    J, terms, active = found
    with np.errstate(all="ignore"):
        size = float(np.linalg.norm(terms))
    top = float(np.abs(J).max(initial=0.0))
    if not (top > 2.0**-400 and size < 2.0**400):
        return 0.0
    direction = np.linalg.svd(J, full_matrices=False)[2][0]
    error = gamma(sum(J.shape) + active + 8) * size
    image = float(np.linalg.norm(J @ direction)) - 2.0 * error
    return max(0.0, image / float(np.linalg.norm(direction)) * (1.0 - 4.0 * gamma(sum(J.shape) + 8)))


def jacobian_at(network: HiddenLayer, x: ArrayLike) -> tuple[Float, Float, int] | None:
    """``∂f/∂x = Σ_j V_:j w_jᵀ`` (m, d) over the active units j, the sums of the absolute terms, and how many they are.

    None where the sign of a pre-activation cannot be told from rounding, or ``x`` is not a finite vector of d numbers.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.shape != (network.n_inputs,) or not np.isfinite(x).all():
        return None
    W, V = network.W, network.V
    live = V.any(axis=0) & W.any(axis=1)
    with np.errstate(all="ignore"):  # what overflows is refused below
        z = W @ x + network.b
        doubt = gamma(network.n_inputs + 4) * (np.abs(W) @ np.abs(x) + np.abs(network.b)) + 2.0**-1000
    if not np.isfinite(z).all() or (live & (np.abs(z) <= doubt)).any():
        return None
    active = live & (z > 0.0)
    W, V = W[active], V[:, active]
    with np.errstate(all="ignore"):
        return V @ W, np.abs(V) @ np.abs(W), len(W)


def gradient_sum_below(network: Network, x: ArrayLike) -> float:
    """A proven lower bound on L in the maximum norm: ``‖∂f/∂x‖₁`` at ``x`` of one output, rounded down.

    Zero where rounding leaves a doubt about the piece of an activation with kinks, where an activation is known by its
    slopes alone, where ``x`` is not a finite vector of d numbers, and where the network has several outputs.
    """
    if network.n_outputs != 1:
        return 0.0
    if not network.relu_only:
        followed = jacobian_followed(network, x)
        return 0.0 if followed is None else _sum_below(followed[0], 1.01 * followed[1])
    found = jacobian_at(FeedForward.of(network).shallow(), x)
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


def jacobian_followed(network: Network, x: ArrayLike) -> tuple[Float, Float] | None:
    """``∂f/∂x`` (m, d) at x, with a bound on the error of its entries to about one part in a hundred.

    None in the cases where :func:`gradient_below` says nothing.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.shape != (network.n_inputs,) or not np.isfinite(x).all():
        return None
    if not network.has_values:
        return None
    with np.errstate(all="ignore"):  # what overflows is refused at the end
        return _followed(network, x)


def _followed(network: Network, x: Float) -> tuple[Float, Float] | None:
    doubt = np.zeros_like(x)  # of x
    J, error = np.eye(len(x)), np.zeros((len(x), len(x)))  # Jacobian so far, and the doubt of its entries
    for W, b, phi in zip(network.weights, network.biases, network.activations):
        size = np.abs(W)
        z = W @ x + b
        unsure = size @ doubt + gamma(len(x) + 4) * (size @ np.abs(x) + np.abs(b)) + 2.0**-900
        # a kink is compared with through the numbers of all: those of clip(α z + β) are 1/α apart
        reach = 2.0 * unsure + _LIBRARY * phi.kink_doubt
        if any((np.abs(z - kink) <= reach).any() for kink in phi.kinks()):
            return None
        steepest = max(map(abs, phi.slopes))
        slope = phi.derivative(z)
        wrong = phi.curvature * unsure
        if phi.smooth:  # where φ' is a sum that nearly cancels, errors are those of its terms
            wrong = wrong + _LIBRARY * (np.abs(slope) + phi.blur) + 2.0**-1000 * max(1.0, steepest)
        forward = size @ (error + gamma(len(x) + 4) * np.abs(J)) + 2.0**-1000  # what underflows
        product = W @ J
        error = (np.abs(slope) + wrong)[:, None] * forward + wrong[:, None] * np.abs(product)
        error += gamma(4) * np.abs(slope)[:, None] * np.abs(product)
        error += 2.0**-1000
        J = slope[:, None] * product
        doubt = steepest * unsure + _LIBRARY * (np.abs(phi(z)) + np.abs(z) * phi.smooth) + 2.0**-1000
        x = phi(z)
    V = network.weights[-1]
    error = np.abs(V) @ (error + gamma(len(x) + 4) * np.abs(J))
    J = V @ J
    usable = 2.0**-400 < float(np.abs(J).max()) < 2.0**400 and bool(np.isfinite(np.linalg.norm(error)))
    return (J, error) if usable else None
