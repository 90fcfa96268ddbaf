"""Random networks and data that several tests share."""

from __future__ import annotations

import numpy as np

from certnet import ShallowNetwork

__all__ = ["instance"]


def instance(seed: int = 0, *, h: int = 5, d: int = 2, m: int = 1, n: int = 14):
    """A Gaussian network (d-h-m), n Gaussian inputs, and waves with noise as targets (n, m)."""
    rng = np.random.default_rng(seed)
    net = ShallowNetwork(
        rng.standard_normal((h, d)),
        0.6 * rng.standard_normal(h),
        rng.standard_normal((m, h)) / np.sqrt(h),
        rng.standard_normal(m),
    )
    X = rng.standard_normal((n, d))
    return net, X, np.sin(2.0 * X @ rng.standard_normal((d, m))) + 0.1 * rng.standard_normal((n, m))
