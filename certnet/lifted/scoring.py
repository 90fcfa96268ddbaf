"""How unlike its training data a lifted network finds an input: the energy that is left after inference."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from certnet.core.validation import Float
from certnet.lifted.inference import infer
from certnet.networks.energy import LiftedEnergy

__all__ = ["scores"]


def scores(net: LiftedEnergy, X: ArrayLike, **options: Any) -> Float:
    """``min_z E(z; x)`` for every row of X, shape (N,): larger means less like the training data (H, Table 1).

    A network that was trained to have small energies has them near its training data only. The score is a convex
    function of x (H, Remark 3) and has no unit: compare it with the scores of data that is known.

    Parameters
    ----------
    X : array_like, shape (N, d)
    **options
        Of :func:`~certnet.lifted.inference.infer`.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, or bad options.
    """
    return infer(net, X, **options).energy
