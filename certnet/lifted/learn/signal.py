r"""Does the target reach the lowest layer? Where it does not, a network stays at its best constant, without a word.

With free and clamped activations z and ẑ, the lowest layer learns from ``(ẑ_1 − z_1) / γ^{L−2}``. As γ → 0 that tends
to a multiple of the error that back-propagation brings there. Beside the error of the output it has no unit:

    s = ‖ẑ_1 − z_1‖ / ( γ^{L−2} ‖ẑ_L − z_L‖ )
"""

from __future__ import annotations

from typing import Final

import numpy as np

from certnet.core.validation import Float
from certnet.lifted.learn.parameters import Parameters
from certnet.lifted.learn.phases import Phases
from certnet.lifted.network import LiftedNetwork

__all__ = ["FAINT", "lowest_signal"]

FAINT: Final = 1e-3
"""Networks of six layers that train have 0.03 and more, those that stay at chance 1e-4 (docs/lifted.md, "Depth")."""

_ROWS: Final = 100
_FITTED: Final = 1e-3
"""Errors below this share of the targets' size are no longer a signal that could be missed."""


def lowest_signal(net: LiftedNetwork, phases: Phases, params: Parameters, X: Float, y: Float) -> float:
    """``s`` over the first samples of a training, at the current parameters; infinite where there is nothing to learn.

    Parameters
    ----------
    net : LiftedNetwork
        Shape, γ and boxes.
    phases : Phases
        Of a contrastive objective.
    params : Parameters
        What ``phases`` reads.
    X, y : ndarray
        Samples (N, d) and their targets as the training takes them.
    """
    if net.depth < 2:
        return np.inf
    X, y = X[:_ROWS], np.ascontiguousarray(y[:_ROWS])
    free = np.repeat(net.project(np.zeros((1, net.n_units))), len(X), axis=0)
    target = free.copy()
    phases.run(X, y, Parameters.over(np.empty_like(params.flat), net.widths), free, target)
    moved = net.split(target - free)
    lowest, error = np.linalg.norm(moved[0]), np.linalg.norm(moved[-1])
    if not error > _FITTED * np.linalg.norm(target[:, net.layers[-1]]):
        return np.inf
    return float(lowest / (net.gamma ** (net.depth - 2) * error))
