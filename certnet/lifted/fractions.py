"""The linear range: how many activations lie strictly inside of their box (Zach and Estellers 2019, Table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float

__all__ = ["fractions_inside", "strictly_inside"]


def strictly_inside(z: Float, lower: Float, upper: Float, margin: float = 1e-9) -> NDArray[np.bool_]:
    """``lower + margin < z < upper − margin``, elementwise: does the unit work in its linear range?

    Parameters
    ----------
    z : ndarray, shape (N, n)
    lower, upper : ndarray, shape (n,)
        The box; infinite where there is no limit.
    margin : float
        Absolute. An activation within it of a limit counts as at the limit: solvers leave units there at a distance of
        their tolerance, which the margin must exceed. 0 suits activations that were computed by clipping.
    """
    return (z > lower + margin) & (z < upper - margin)


def fractions_inside(
    activations: Sequence[Float], lower: Sequence[Float], upper: Sequence[Float], margin: float = 1e-9
) -> tuple[float, ...]:
    """The share of entries of each layer (N, n_k) that are strictly inside of its box, from 0 to 1.

    Raises
    ------
    InvalidInputError
        There are no samples.
    """
    if any(z.size == 0 for z in activations):
        raise InvalidInputError("there are no samples: a fraction of their activations needs at least one")
    return tuple(float(strictly_inside(z, a, b, margin).mean()) for z, a, b in zip(activations, lower, upper))
