"""Limits on slopes that a user states in columns of the data, in the units and inputs that a network is refined in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.core.frames import column_names, is_frame
from certnet.estimators.preparation import Preparation
from certnet.networks.network import Network
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement.shape import ShapeLimits

__all__ = ["as_option", "asked_limits", "limits_behind", "limits_in_numbers", "proved_slopes"]

_HAIR: Final = 1e-9  # of a limit: what the rounding of weights folded into other units may take


def asked_limits(
    like: Network,
    X: Any,
    names: Sequence[str] | None,
    monotonic_cst: ArrayLike | Mapping[str, int] | None,
    slope_limits: Mapping[str | int, tuple[float, float]] | None,
) -> ShapeLimits | None:
    """What is asked of the slopes along the columns of X, in their units; None where that is nothing.

    ``like`` has as many inputs and outputs as the data and the activations of the network to be refined.

    Raises
    ------
    InvalidInputError, UnsupportedModelError
        What :meth:`certnet.refinement.shape.ShapeLimits.of` raises.
    """
    if monotonic_cst is None and slope_limits is None:
        return None
    known = () if names is None else tuple(names)
    return ShapeLimits.of(like, monotonic_cst, slope_limits, names=known, constant=_constant_columns(X))


def _constant_columns(X: Any) -> NDArray[np.bool_]:
    """Which columns have one value only."""
    columns = [np.asarray(X[name]) for name in column_names(X)] if is_frame(X) else list(np.asarray(X).T)
    return np.array([bool((column == column[0]).all()) for column in columns])


def limits_in_numbers(limits: ShapeLimits, prepared: Preparation) -> ShapeLimits:
    """The same for the numeric columns alone.

    Raises
    ------
    InvalidInputError
        Something is asked of a column that the steps encode or drop.
    """
    names, numeric = prepared.columns.names, prepared.columns.numeric
    for i in map(int, limits.limited):
        if names[i] not in numeric:
            done = "encode" if names[i] in prepared.columns.categorical else "drop"
            raise InvalidInputError(
                f"the steps {done} column {names[i]!r}: monotonic_cst and slope_limits are for columns of numbers"
            )
    places = [names.index(name) for name in numeric]
    return replace(limits, lower=limits.lower[places], upper=limits.upper[places])


def limits_behind(limits: ShapeLimits, prepared: Preparation, X: Any) -> ShapeLimits:
    """Limits in the numeric columns as limits in what the steps give of X.

    Raises
    ------
    UnsupportedModelError
        The steps mix a column that something is asked of with others.
    """
    A = prepared.slopes_in_numbers(X)
    lower, upper = np.full(len(A), -np.inf), np.full(len(A), np.inf)
    for i in map(int, limits.limited):
        given = np.flatnonzero(A[:, i])
        if len(given) != 1 or np.count_nonzero(A[given[0]]) != 1:
            raise UnsupportedModelError(
                f"the steps mix column {prepared.columns.numeric[i]!r} with others or repeat it: slopes along a column "
                "can be limited where it is scaled alone"
            )
        # ∂f/∂x_i = A_ki ∂f/∂z_k
        k, factor = int(given[0]), float(A[given[0], i])
        ends = limits.lower[i] / factor, limits.upper[i] / factor
        lower[k], upper[k] = min(ends), max(ends)
    return replace(limits, lower=lower, upper=upper)


def as_option(limits: ShapeLimits) -> dict[str | int, tuple[float, float]]:
    """The limits as :func:`certnet.refinement.refine` takes them, with a hair to spare for the way back."""
    option: dict[str | int, tuple[float, float]] = {}
    for i in map(int, limits.limited):
        low, high = float(limits.lower[i]), float(limits.upper[i])
        if low < high:
            low += _HAIR * abs(low) if low > -np.inf else 0.0
            high -= _HAIR * abs(high) if high < np.inf else 0.0
        option[i] = (low, high)
    return option


def proved_slopes(limits: ShapeLimits, network: Network) -> SlopeIntervals:
    """The proof that a network keeps the limits.

    Raises
    ------
    CertificateError
        There is none.
    """
    proof = limits.proved(network)
    if proof is None:
        raise CertificateError(
            "the refined network does not keep monotonic_cst and slope_limits: the refinement ended before it reached "
            "them; give it more time, wider limits, or another start"
        )
    return proof
