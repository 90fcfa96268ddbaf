r"""Limits on the slopes of one output along single inputs, for all inputs: ``lower_i ≤ ∂f/∂x_i ≤ upper_i``.

A network keeps them if the intervals of its slopes do (:mod:`certnet.proofs.slopes`): with ``B_ℓ = W_ℓ`` and
``B_k = (B_{k+1} D_k) W_k`` in interval arithmetic from the output, D_k any diagonal among the slopes of the units, the
interval B_0. For ReLU its ends are the sums of the positive and of the negative products of weights along all paths
from the input to the output, so that a monotone network is one whose paths all have the right sign; for one hidden
layer that is ``s_j u_ji ≥ 0`` of the product weights.

A descent begins with :meth:`ShapeLimits.penalty` at a small weight, under which the network finds out which of its
units may rise and which fall, takes :meth:`ShapeLimits.projected`, the near network that keeps the limits, and goes on
over :meth:`ShapeLimits.signed`, the networks whose paths keep their signs. :meth:`ShapeLimits.proved` is the proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.intervals import slopes_of_products
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement.named_inputs import NamedInputs
from certnet.refinement.signs import SignedWeights, of_one_sign, signs_of_weights, wrong_paths

__all__ = ["ShapeLimits"]

_HAIR: Final = 1e-9  # of a finite limit: what rounding in a proof, and other units of the same network, may take
Weights = Sequence[Float]


@dataclass(frozen=True, eq=False)
class ShapeLimits:
    """``lower_i ≤ ∂f/∂x_i ≤ upper_i`` for all inputs of a network with one output.

    Attributes
    ----------
    lower, upper : ndarray, shape (d,)
        Output per input; −∞ and ∞ where nothing is asked.
    slopes : tuple of (low, high)
        Of the activations of the hidden layers.
    """

    lower: Float
    upper: Float
    slopes: tuple[tuple[float, float], ...]

    @classmethod
    def of(
        cls,
        network: Network,
        monotonic_cst: ArrayLike | Mapping[str, int] | None = None,
        slope_limits: Mapping[str | int, tuple[float, float]] | None = None,
        *,
        names: Sequence[str] = (),
        constant: Sequence[int] | NDArray[np.bool_] = (),
    ) -> ShapeLimits | None:
        """The limits that a caller asks for; None where that is nothing.

        Parameters
        ----------
        network : Network
            Dense layers and one output.
        monotonic_cst : array_like of shape (d,), or mapping of names, optional
            1: never falls along the input, −1: never rises, 0: nothing is asked (scikit-learn's convention).
        slope_limits : mapping from name or index to (low, high), optional
            Least and greatest slope; either may be infinite.
        names : sequence of str, optional
            Of the inputs; by default those that the network knows.
        constant : sequence of int, or boolean array of shape (d,), optional
            Columns of the data with one value only.

        Raises
        ------
        InvalidInputError
            Several outputs; a name or an index that does not exist; a wrong length; NaN; low above high; limits that
            contradict each other; a monotone sign on a constant column; limits that no network with these activations
            keeps, as far as the slopes of its units prove it.
        UnsupportedModelError
            Convolutions or skips.
        """
        if monotonic_cst is None and slope_limits is None:
            return None
        d = network.n_inputs
        inputs = NamedInputs(tuple(names) or network.about.inputs, d)
        signs = inputs.signs(monotonic_cst)
        lower, upper = np.where(signs > 0, 0.0, -np.inf), np.where(signs < 0, 0.0, np.inf)
        for i, (low, high) in inputs.limits(slope_limits).items():
            both = max(low, lower[i]), min(high, upper[i])
            if both[0] > both[1] or (both[0] == both[1] == 0.0 and low < high):
                word = "never to fall" if signs[i] > 0 else "never to rise"
                raise InvalidInputError(
                    f"{inputs.called(i)} is {word} and has slope limits ({low:g}, {high:g}): together they leave "
                    f"{'no slope' if both[0] > both[1] else 'slope 0 only'}; drop one of them"
                )
            lower[i], upper[i] = both
        still = np.zeros(d, dtype=bool)
        still[np.asarray(constant, dtype=bool if np.asarray(constant).dtype == bool else np.intp)] = True
        for i in map(int, np.flatnonzero(still & (signs != 0))):
            raise InvalidInputError(
                f"{inputs.called(i)} has one value in all samples and a monotone sign: nothing in the data says "
                "how the output moves with it; leave the sign or the column out"
            )
        if not (np.isfinite(lower) | np.isfinite(upper)).any():
            return None
        if network.structured:
            raise UnsupportedModelError(
                f"{network!r}: shape constraints are for layers given by matrices, without skips or convolutions"
            )
        if network.n_outputs != 1:
            raise InvalidInputError(
                f"shape constraints are for one output, the network has {network.n_outputs}: take one of them"
            )
        found = cls(lower, upper, network.slopes)
        found._refuse_unreachable(inputs)
        return found

    def _refuse_unreachable(self, inputs: NamedInputs) -> None:
        """Limits that only a network keeps which ignores the input, or none at all."""
        least = _least_share(self.slopes)
        for i in self.limited:
            low, high = float(self.lower[i]), float(self.upper[i])
            if low == high == 0.0 or _reachable(low, high, least) or _reachable(-high, -low, least):
                continue
            shown = f"{inputs.called(int(i))} is to have slopes in ({low:g}, {high:g})"
            if least < 0.0:
                raise InvalidInputError(
                    f"{shown}: the slopes of the activation have both signs, and so has every interval that they "
                    "prove for all inputs; use ReLU or leaky ReLU, or limits with 0 strictly inside"
                )
            if least == 0.0:
                raise InvalidInputError(
                    f"{shown}, which excludes 0: units whose activation may be flat prove no slope away from 0 for all "
                    "inputs; let the limits contain 0, or use leaky ReLU"
                )
            raise InvalidInputError(
                f"{shown}: with these activations a slope proved for all inputs varies by a factor of at least "
                f"{1.0 / least:.3g}; widen the limits"
            )

    # ---------------------------------------------------------------------------------------------------- what is asked

    @property
    def limited(self) -> NDArray[np.intp]:
        """The inputs that something is asked of."""
        return np.flatnonzero(np.isfinite(self.lower) | np.isfinite(self.upper))

    def scaled(self, factor: ArrayLike) -> ShapeLimits:
        """The same limits for another unit of slopes: multiplied by ``factor`` > 0, one number or one per input.

        In units ``x' = (x − shift) / x_scale`` and ``y' = (y − shift) / y_scale`` slopes are ``x_scale / y_scale`` of
        what they were.
        """
        by = np.asarray(factor, dtype=np.float64)
        return replace(self, lower=self.lower * by, upper=self.upper * by)

    def proved(self, network: Network) -> SlopeIntervals | None:
        """The proof that a network keeps the limits; None where there is none."""
        try:
            found = SlopeIntervals.of(network)
        except CertificateError:  # weights that overflow prove nothing
            return None
        kept = (found.lower[0] >= self.lower) & (found.upper[0] <= self.upper)
        return found if kept.all() else None

    # -------------------------------------------------------------------------------------------------------- descents

    def violation(self, weights: Weights) -> float:
        """The largest amount by which a limit is exceeded, in floating point; 0 where all are kept."""
        ends = _Ends.of(weights, self.slopes)
        below, above = self.lower - ends.low[-1], ends.high[-1] - self.upper
        return float(max(below.max(), above.max(), 0.0))

    def penalty(self, weights: Weights) -> tuple[float, list[Float]]:
        """How far the weights are from keeping the limits, and its gradient in every W_k.

        Where a limit is zero, the sum of the squares of the products of weights along all paths of the wrong sign,
        times the square of the steepest slopes: smooth, where the limit's own violation, the sum of these products,
        has kinks at every weight. Elsewhere the square of the violation. Zero where every path has its sign and the
        other limits are kept.
        """
        value, gradients = wrong_paths(weights, self.lower >= 0.0, self.upper <= 0.0)
        steep = float(np.prod([max(map(abs, pair)) for pair in self.slopes])) ** 2
        value, gradients = steep * value, [steep * G for G in gradients]
        if not (np.isfinite(self.lower[self.lower != 0.0]).any() or np.isfinite(self.upper[self.upper != 0.0]).any()):
            return value, gradients
        ends = _Ends.of(weights, self.slopes)
        below = np.where(self.lower == 0.0, 0.0, np.maximum(self.lower - ends.low[-1], 0.0))
        above = np.where(self.upper == 0.0, 0.0, np.maximum(ends.high[-1] - self.upper, 0.0))
        more = ends.pulled_back(-2.0 * below, 2.0 * above)
        return value + float(below @ below + above @ above), [a + b for a, b in zip(gradients, more)]

    def projected(self, weights: Weights) -> list[Float]:
        """Weights near the given ones that keep the limits, with a hair to spare where these are not zero.

        Those that keep them come back as they are. Otherwise paths of a sign that a limit of zero forbids are cut
        where that takes least from the network, then columns of W_0 are scaled.

        Raises
        ------
        CertificateError
            A limit excludes 0, and no path leads from its input to the output.
        """
        made = [W.copy() for W in weights]
        made[0][:, (self.lower == 0.0) & (self.upper == 0.0)] = 0.0
        signs = self._signs
        if signs.any() and not self._keep_signs(made, signs):
            made = of_one_sign(made, signs)
        for i in self.limited:
            self._scale_column(made, int(i), int(signs[i]))
        return made

    def signed(self, weights: Weights) -> SignedWeights:
        """The networks near the :meth:`projected` weights that keep the limits of zero: by the signs of weights."""
        made, signs = self.projected(weights), self._signs
        if signs.any():
            made = of_one_sign(made, signs)  # slopes away from 0 may have made up for wrong paths
        found = signs_of_weights(made, signs)
        ignored = (self.lower == 0.0) & (self.upper == 0.0)
        return SignedWeights((np.where(ignored, 0.0, found.signs[0]), *found.signs[1:]))

    @property
    def _signs(self) -> NDArray[np.float64]:
        """1 where slopes may not be negative, −1 where not positive; 0 for both or neither."""
        return np.where(self.lower >= 0.0, 1.0, 0.0) - np.where(self.upper <= 0.0, 1.0, 0.0)

    def _keep_signs(self, weights: Weights, signs: Float) -> bool:
        """Is it proved, with a hair to spare where an interval does not end at 0?"""
        units = [tuple(np.full(len(W), s) for s in pair) for W, pair in zip(weights, self.slopes)]
        ends = slopes_of_products(weights, units)  # type: ignore[arg-type]
        if ends is None:
            return False
        low = np.where(signs > 0, ends.low[0], -ends.high[0])[signs != 0]
        high = np.where(signs > 0, ends.high[0], -ends.low[0])[signs != 0]
        return bool(((low == 0.0) | (low > _HAIR * high)).all())

    def _scale_column(self, weights: list[Float], i: int, sign: int) -> None:
        """Column i of W_0 within the limits: as a whole where all slopes have one sign, its parts otherwise."""
        column, tail = weights[0][:, i], _Ends.of(weights[1:], self.slopes[1:])
        low, high = _hull(tail.low[-1], tail.high[-1], self.slopes[0])[:2]
        lower = float(self.lower[i] + _HAIR * abs(self.lower[i])) if np.isfinite(self.lower[i]) else -np.inf
        upper = float(self.upper[i] - _HAIR * abs(self.upper[i])) if np.isfinite(self.upper[i]) else np.inf
        least, most = _terms(column, low, high)
        if sign:
            self._scale_whole(column, sign, (float(least.sum()), float(most.sum())), (lower, upper), i)
            return
        slack = 0.5 * _HAIR  # what came from here stays as it is
        for _ in range(2):  # where slopes are away from 0, less of one sign leaves more of the other
            if least.sum() < lower - slack * abs(lower):
                column[least < 0.0] *= lower / least[least < 0.0].sum()
                least, most = _terms(column, low, high)
            if most.sum() > upper + slack * abs(upper):
                column[most > 0.0] *= upper / most[most > 0.0].sum()
                least, most = _terms(column, low, high)

    @staticmethod
    def _scale_whole(column: Float, sign: int, ends: tuple[float, float], limits: tuple[float, float], i: int) -> None:
        (smaller, larger), (floor, ceiling) = (
            (ends, limits) if sign > 0 else ((-ends[1], -ends[0]), (-limits[1], -limits[0]))
        )
        if smaller <= 0.0 < floor:
            raise CertificateError(
                f"no path of weights leads from input {i} to the output, whose slope along it is to be away from 0: "
                "start from another network"
            )
        factor = 1.0 if larger <= ceiling * (1.0 + 0.5 * _HAIR) else ceiling / larger
        column *= factor if smaller * factor >= floor * (1.0 - 0.5 * _HAIR) else floor / smaller


def _terms(column: Float, low: Float, high: Float) -> tuple[Float, Float]:
    """The ends of ``[low_j, high_j] w_j``."""
    up, down = np.maximum(column, 0.0), np.maximum(-column, 0.0)
    return low * up - high * down, high * up - low * down


@dataclass(frozen=True, eq=False)
class _Ends:
    """Ends of the intervals B_ℓ, B_{ℓ−1}, … of one output, in floating point, and how they came about.

    Attributes
    ----------
    weights : sequence of ndarray
    slopes : sequence of (low, high)
    low, high : list of ndarray, shapes (n_ℓ,), (n_{ℓ−1},), …
    """

    weights: Weights
    slopes: Sequence[tuple[float, float]]
    low: list[Float]
    high: list[Float]

    @classmethod
    def of(cls, weights: Weights, slopes: Sequence[tuple[float, float]]) -> _Ends:
        low, high = [weights[-1][0]], [weights[-1][0]]
        for W, pair in zip(weights[-2::-1], slopes[::-1]):
            up, down = np.maximum(W, 0.0), np.maximum(-W, 0.0)
            least, most, _, _ = _hull(low[-1], high[-1], pair)
            low.append(least @ up - most @ down)
            high.append(most @ up - least @ down)
        return cls(weights, slopes, low, high)

    def pulled_back(self, to_low: Float, to_high: Float) -> list[Float]:
        """Gradients in the weights of a function with these gradients in the last ends."""
        gradients = []
        ends = zip(self.weights[:-1], self.slopes, self.low[-2::-1], self.high[-2::-1])
        for W, pair, low, high in ends:
            up, down = np.maximum(W, 0.0), np.maximum(-W, 0.0)
            least, most, at_least, at_most = _hull(low, high, pair)
            right = np.outer(least, to_low) + np.outer(most, to_high)
            gradients.append(np.where(W > 0.0, right, np.outer(most, to_low) + np.outer(least, to_high)))
            back = up @ to_low - down @ to_high, up @ to_high - down @ to_low
            slope = np.array([pair[0], pair[1], pair[0], pair[1]])
            to_low, to_high = np.zeros(len(low)), np.zeros(len(low))
            for gradient, at in zip(back, (at_least, at_most)):
                gradient = gradient * slope[at]
                to_low, to_high = to_low + np.where(at < 2, gradient, 0.0), to_high + np.where(at < 2, 0.0, gradient)
        return [*gradients, (to_low + to_high)[None]]


def _hull(
    low: Float, high: Float, slopes: tuple[float, float]
) -> tuple[Float, Float, NDArray[np.intp], NDArray[np.intp]]:
    """Ends of ``s x`` for slopes s and x between the ends, and at which of the four corners they are."""
    corners = np.stack([slopes[0] * low, slopes[1] * low, slopes[0] * high, slopes[1] * high])
    return corners.min(axis=0), corners.max(axis=0), corners.argmin(axis=0), corners.argmax(axis=0)


def _least_share(slopes: Sequence[tuple[float, float]]) -> float:
    """The least of ``Π_k s_k / b_k`` over slopes s_k, b_k being the steepest: a slope x ≠ 0 comes with this share."""
    share = 1.0
    for low, high in slopes:
        flat, steep = sorted((low, high), key=abs)
        ratio = flat / steep if steep != 0.0 else 0.0
        share = min(x * y for x in (share, 1.0) for y in (ratio, 1.0))
    return share


def _reachable(low: float, high: float, least: float) -> bool:
    """Is there an x > 0 with ``[least x, x]`` within [low, high]?"""
    if not high > 0.0:
        return False
    return low < 0.0 or (low == 0.0 <= least) or (least > 0.0 and high * least >= low)
