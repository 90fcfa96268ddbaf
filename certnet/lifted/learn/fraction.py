"""How far a network works in its linear range: Zach and Estellers (2019), Table 1."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certnet.lifted.fractions import fractions_inside
from certnet.lifted.network import LiftedNetwork

__all__ = ["linear_fraction"]


def linear_fraction(
    net: LiftedNetwork, X: ArrayLike, *, clamp: ArrayLike | None = None, **options: Any
) -> tuple[float, ...]:
    """The share of activations strictly inside of C_k, for every layer k = 1 … L, over the rows of X (N, d).

    Options are those of :func:`certnet.lifted.inference.infer`. Layers without limits have the share one.
    """
    found = net.infer(X, clamp=clamp, **options)
    return fractions_inside(found.activations, net.lower, net.upper)
