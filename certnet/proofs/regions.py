"""What slopes a region leaves to the units of a network, and which points lie in it. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from certnet.claims.region import Ball, Box, Region
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.activations import Activation
from certnet.networks.layers import Layer
from certnet.networks.network import Network
from certnet.proofs.relaxation import Ends, inputs_of, limits
from certnet.proofs.rounding import gamma, row_norms_above

__all__ = ["UnitSlopes", "contains", "in_ball", "slopes_at", "slopes_in", "slopes_in_ball", "slopes_within"]

UnitSlopes = list[tuple[Float, Float]]
"""Of every hidden layer the lowest and the highest slopes of its units, each (n_k,)."""

_LEAST_WIDTH = 2.0**-40  # of an interval of slopes in a ball, relative to that of the whole activation


def contains(region: Region, x: Float, norm: str) -> bool:
    """Does x lie in the region, beyond doubt from rounding?"""
    if isinstance(region, Box):
        return x.shape == region.lower.shape and bool(((region.lower <= x) & (x <= region.upper)).all())
    if not isinstance(region, Ball):
        return True
    return x.shape == region.centre.shape and in_ball(x, region.centre, region.radius, norm=norm)


def slopes_in(region: Region, network: Network, norm: str) -> tuple[Float, Float]:
    """Slopes (low, high), each (h,), of the units of one hidden layer at the inputs of a region."""
    if isinstance(region, Ball):
        return slopes_in_ball(network, region.centre, region.radius, norm=norm)
    if isinstance(region, Box):
        return slopes_within(region, network, norm)[0]
    low, high = network.layers[0].activation.slopes
    h = network.widths[1]
    return np.full(h, low), np.full(h, high)


def slopes_in_ball(network: Network, centre: ArrayLike, radius: float, *, norm: str = "l2") -> tuple[Float, Float]:
    """Slopes (low, high), shape (h,), of the units of one hidden layer while ``‖x − centre‖ ≤ radius``.

    A unit's pre-activation stays within ``radius ‖w_j‖₂`` (in an l∞ ball ``radius ‖w_j‖₁``) of its value at the centre
    (rounding charged): where that keeps it on one piece of its activation, its slope is known; elsewhere it is that of
    the whole activation. Of smooth activations the interval that is reached, a trillionth of the whole at least.
    """
    centre = np.asarray(centre, dtype=np.float64)
    W, b, phi = network.weights[0], network.biases[0], network.layers[0].activation
    k = gamma(len(centre) + 8)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        z = W @ centre + b
        # a ball can be huge, and the last term is more than what underflows
        reach = radius * row_norms_above(W, _dual_order(norm), k) + 2.0**-500
        reach = (reach + k * (np.abs(W) @ np.abs(centre) + np.abs(b))) * (1.0 + k)
        left, right = z - reach, z + reach
        # beside a kink of clip(α z + β) the rounding of α z + β counts, and kinks are 1/α apart
        beside = 2.0**-40 * phi.kink_doubt if phi.has_values else 0.0
        left, right = left - 2.0**-52 * np.abs(left) - beside, right + 2.0**-52 * np.abs(right) + beside
    known = np.isfinite(left) & np.isfinite(right)
    low, high = phi.slopes_between(np.where(known, left, -1.0), np.where(known, right, 1.0))
    whole = phi.slopes
    return _not_too_narrow(phi, np.where(known, low, whole[0]), np.where(known, high, whole[1]))


def slopes_within(region: Region, network: Network, norm: str, *, room: float = 0.0) -> UnitSlopes:
    """Slopes of the units of all hidden layers at the inputs of a region: where limits of their pre-activations are
    on one piece, that of the piece, and so on (:mod:`certnet.proofs.relaxation`).

    ``room`` widens the limits by that part of their size, so that a proof does not hang on how a machine rounds.
    """
    found = limits(network, inputs_of(region, network.n_inputs, norm))
    return [slopes_at(layer, ends.rows(0), room=room) for layer, ends in zip(network.layers, found)]  # type: ignore[arg-type]


def slopes_at(layer: Layer, ends: Ends, *, room: float = 0.0) -> tuple[Float, Float]:
    """Slopes of the units of a layer while its pre-activations lie within limits, arrays of units in the last axis.

    1 for the units that are carried past the activation.
    """
    phi, n = layer.activation, layer.n_bending
    left, right = ends.left[..., :n], ends.right[..., :n]
    if room > 0.0:
        sizes = [np.where(np.isfinite(end), np.abs(end), 0.0) for end in (left, right)]
        more = room * np.maximum(*sizes)  # where one end is infinite, of the other
        left, right = left - more, right + more
    if phi.has_values:  # beside a kink of clip(α z + β) the rounding of α z + β counts, and kinks are 1/α apart
        beside = 2.0**-40 * phi.kink_doubt
        left, right = left - beside, right + beside
    low, high = _not_too_narrow(phi, *phi.slopes_between(left, right))
    if not layer.carried:
        return low, high
    ones = np.ones((*low.shape[:-1], layer.carried))
    return np.concatenate([low, ones], axis=-1), np.concatenate([high, ones], axis=-1)


def _not_too_narrow(phi: Activation, low: Float, high: Float) -> tuple[Float, Float]:
    """Of smooth activations far out the slopes may differ by 1e-300, and no double holds such units' multipliers."""
    if not phi.smooth:
        return low, high
    whole = phi.slopes
    width = _LEAST_WIDTH * (whole[1] - whole[0])
    high = np.minimum(np.maximum(high, low + width), whole[1])
    return np.maximum(np.minimum(low, high - width), whole[0]), high


def in_ball(x: ArrayLike, centre: ArrayLike, radius: float, *, norm: str = "l2") -> bool:
    """Is ``‖x − centre‖ ≤ radius`` in the norm "l2" or "linf", beyond doubt from rounding?"""
    if np.array_equal(x, centre):
        return radius >= 0.0
    x, centre = np.asarray(x, dtype=np.float64), np.asarray(centre, dtype=np.float64)
    order = None if _dual_order(norm) is None else np.inf
    with np.errstate(over="ignore", under="ignore"):
        distance = x - centre
        size = np.linalg.norm(distance, order) + 2.0**-52 * np.linalg.norm(np.abs(x) + np.abs(centre), order)
        # the squares of tiny distances underflow
        return bool(size * (1.0 + gamma(len(distance) + 8)) + 2.0**-500 <= radius)


def _dual_order(norm: str) -> int | None:
    """NumPy's order of the norm that a row of weights has where inputs are measured in ``norm``."""
    if norm not in ("l2", "linf"):
        raise InvalidInputError(f'norm must be "l2" or "linf", got {norm!r}')
    return None if norm == "l2" else 1
