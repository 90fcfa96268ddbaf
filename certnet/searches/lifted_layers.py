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

from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.chain import norm_at_most
from certnet.proofs.lifted_layers import norm_at_least, rows_alone
from certnet.proofs.lifted_matrix import Output

__all__ = ["layer_limits", "layer_multipliers", "theorem_limits"]


def layer_limits(net: LiftedEnergy, output: Output = None) -> tuple[Float, ...]:
    """``(lowest, highest)`` singular values of every W_kᵀ such that the checker proves them; empty where not needed."""
    limits = [_proved_limits(W) for W in net.weights]
    if rows_alone(net, output):
        limits[-1] = np.zeros(0)
    return tuple(limits)


def theorem_limits(net: LiftedEnergy, output: Output = None) -> tuple[Float, ...]:
    """The same for H, Theorem 1: empty where β_k > 0."""
    limits = layer_limits(net, output)
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


def _proved_limits(W: Float) -> Float:
    sigma = _singular_values(W)
    highest, lowest = float(sigma[0]), float(sigma[-1]) if len(W) <= W.shape[1] else 0.0
    step = 1e-13
    with np.errstate(all="ignore"):  # what overflows is refused by the checker
        while highest > 0.0 and step < 1.0 and not norm_at_most(W, highest * (1.0 + step)):
            step *= 4.0
        highest *= 1.0 + step
        step = 1e-13
        while lowest > 0.0 and not norm_at_least(W, lowest * (1.0 - step)):
            step *= 4.0
            if step >= 1.0:
                return np.array([0.0, highest])
    return np.array([lowest * (1.0 - step), highest])


def _singular_values(W: Float) -> Float:
    """Singular values, largest first, of weights of any size."""
    top = float(np.abs(W).max())
    return np.zeros(min(W.shape)) if top == 0.0 else np.asarray(top * np.linalg.svd(W / top, compute_uv=False))
