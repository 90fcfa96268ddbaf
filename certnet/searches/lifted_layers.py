r"""Limits of the layers' singular values, and what the layerwise bound says as multipliers. Floating point.

With r_k the maximiser of f_βk between the singular values, ``τ_k = 1 / (1 + β_k r_k²)`` makes

    f_k² ‖u‖² − ‖v‖² − 2 τ_k [ (1 + β_k) vᵀ W_k u − ‖v‖² − β_k ‖W_kᵀ v‖² ]  ≥ 0      for all u, v:

after the minimum over u it is linear in ``‖Wᵀ v‖²``, zero at r_k and of the right sign at the end that r_k is not. The
bracket is at least ``γ^−k Σ_{l>k} v_lᵀ (Q u − H v)_l``, because the energy of the layers above is convex. Summed with
``c_k = f_{k+1}² ⋯ f_{L−1}²`` it telescopes: ``t = Σ_{k<l} c_k τ_k / γᵏ`` on the units of z_l proves the layerwise
bound by the matrix inequality, which therefore never gives more.
"""

from __future__ import annotations

import numpy as np

from certnet.claims.claim import Output
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.inflation import inflated
from certnet.proofs.lifted_layers import rows_alone
from certnet.proofs.semidefinite import norm_at_least, norm_at_most

__all__ = ["layer_multipliers", "singular_ranges", "theorem_ranges"]


def singular_ranges(net: LiftedEnergy, output: Output = None) -> tuple[Float, ...]:
    """``(lowest, highest)`` singular values of every W_kᵀ such that the checker proves them; empty where not needed."""
    limits = [_proved_range(W) for W in net.weights]
    if rows_alone(net, output):
        limits[-1] = np.zeros(0)
    return tuple(limits)


def theorem_ranges(net: LiftedEnergy, output: Output = None) -> tuple[Float, ...]:
    """The same for H, Theorem 1: empty where β_k > 0."""
    limits = singular_ranges(net, output)
    return tuple(np.zeros(0) if beta > 0.0 else limit for beta, limit in zip(net.beta, limits))


def layer_multipliers(net: LiftedEnergy, limits: tuple[Float, ...], *, slack: float = 0.0) -> tuple[Float, float]:
    """``(t, ρ)`` of the layerwise bound of all outputs, t (n,); with ``slack`` > 0 strictly feasible and ρ
    larger, where no layer is zero.

    ``limits`` are of every layer.
    """
    factors, tau = [], []
    for beta, (lowest, highest) in zip(net.beta, limits):
        r = highest if beta == 0.0 else min(max(1.0 / np.sqrt(beta), lowest), highest)
        factors.append((1.0 + beta) * r / (1.0 + beta * r * r))
        tau.append(1.0 / (1.0 + beta * r * r))
    share = 1.0 + slack  # c_{L−1}
    steps = np.zeros(net.depth)
    for k in reversed(range(net.depth)):
        steps[k] = share * tau[k] / net.gamma**k
        share *= factors[k] * factors[k] * (1.0 + slack)
    t = np.concatenate([np.full(n, total) for n, total in zip(net.widths[1:], np.cumsum(steps))])
    return t, float(share)


def _proved_range(W: Float) -> Float:
    """Singular values of Wᵀ lie between these two numbers, each as near as it is proved."""
    sigma = _singular_values(W)
    highest, lowest = float(sigma[0]), float(sigma[-1]) if len(W) <= W.shape[1] else 0.0
    with np.errstate(all="ignore"):  # what overflows is refused by the checker
        above = inflated(lambda s: norm_at_most(W, s), highest)
        below = inflated(lambda s: norm_at_least(W, s), lowest, way=-1.0)
    return np.array([0.0 if below is None else below, 2.0 * highest if above is None else above])


def _singular_values(W: Float) -> Float:
    """Singular values, largest first, of weights of any size."""
    top = float(np.abs(W).max())
    return np.zeros(min(W.shape)) if top == 0.0 else np.asarray(top * np.linalg.svd(W / top, compute_uv=False))
