r"""Networks whose paths from an input to the output all have one sign: near ones, all of them, and how far one is.

A path is a choice of one unit of every layer; its product of weights, times a slope of each unit, is its part of
``∂f/∂x_i``. Where no slope is negative, paths of one sign make the network monotone, and for ReLU nothing less does for
all diagonals of slopes. Signs of inputs are 1 where paths are to be positive, −1 where negative, 0 where nothing is
asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float

__all__ = ["SignedWeights", "of_one_sign", "signs_of_weights", "wrong_paths"]

_SEED: Final = 1e-6  # of the largest weight: where a parameter starts whose weight is zero
Weights = Sequence[Float]


def wrong_paths(weights: Weights, rising: NDArray[np.bool_], falling: NDArray[np.bool_]) -> tuple[float, list[Float]]:
    """``Σ (Π weights)²`` over paths to the output, and its gradient.

    Over those of negative sign from the inputs that are ``rising``, and of positive sign from those that are
    ``falling``. From the output, with squares of the positive and the negative parts of the weights.
    """
    squares = [(np.maximum(W, 0.0) ** 2, np.minimum(W, 0.0) ** 2) for W in weights]
    sums = [(squares[-1][0][0], squares[-1][1][0])]  # over paths of positive and of negative sign
    for up, down in squares[-2::-1]:
        plus, minus = sums[-1]
        sums.append((plus @ up + minus @ down, plus @ down + minus @ up))
    to_plus, to_minus = falling.astype(np.float64), rising.astype(np.float64)
    value = float(sums[-1][0] @ to_plus + sums[-1][1] @ to_minus)
    gradients = []
    for W, (up, down), (plus, minus) in zip(weights[:-1], squares, sums[-2::-1]):
        to_up = np.outer(plus, to_plus) + np.outer(minus, to_minus)
        to_down = np.outer(minus, to_plus) + np.outer(plus, to_minus)
        gradients.append(2.0 * W * np.where(W > 0.0, to_up, to_down))
        to_plus, to_minus = up @ to_plus + down @ to_minus, down @ to_plus + up @ to_minus
    W = weights[-1]
    return value, [*gradients, 2.0 * W * np.where(W > 0.0, to_plus, to_minus)]


def of_one_sign(weights: Weights, signs: Float) -> list[Float]:
    """Weights of which every path from input i to the output has the sign ``signs_i``, where that is not 0.

    From the inputs up every unit that such an input moves is given a sign, that of its paths to the output, or cut off
    from these inputs. Weights into it of the wrong sign become zero, and so will those out of it. Of the three ways the
    one is taken that loses the least sum of products ``|weights|`` along paths.
    """
    made = [W.copy() for W in weights]
    reach = np.ones(len(signs))  # products along the paths to a unit
    for W, (above, below) in zip(made[:-1], _path_sums(weights)[::-1]):
        signed = W * signs
        whole = np.abs(W) @ reach
        wrong = np.stack([np.maximum(-signed, 0.0) @ reach, np.maximum(signed, 0.0) @ reach])  # for signs 1 and −1
        onward = np.stack([below, above])
        losses = np.vstack([wrong * (above + below) + (whole - wrong) * onward, wrong.sum(axis=0) * (above + below)])
        choice = np.where(signed.any(axis=1), np.array([1, -1, 0])[losses.argmin(axis=0)], 0)
        W[(signed * choice[:, None] < 0.0) | ((choice == 0)[:, None] & (signed != 0.0))] = 0.0
        reach, signs = np.abs(W) @ reach, np.where((W * signs).any(axis=1), choice, 0)
    made[-1][:, made[-1][0] * signs < 0.0] = 0.0
    return made


def signs_of_weights(weights: Weights, signs: Float) -> SignedWeights:
    """The networks near one whose paths have these signs that keep them, by the signs of weights.

    A unit that moves with no such input may yet, if its paths to the output have one sign.
    """
    found = []
    for W, (rising, falling) in zip(weights[:-1], _path_sums(weights)[::-1]):
        moved = W * signs
        onward = np.where(falling == 0.0, 1.0, 0.0) - np.where(rising == 0.0, 1.0, 0.0)
        unit = np.where((moved > 0.0).any(axis=1), 1.0, np.where((moved < 0.0).any(axis=1), -1.0, onward))
        found.append(_allowed(unit, signs))
        signs = unit
    return SignedWeights((*found, _allowed(np.ones(1), signs)))


@dataclass(frozen=True, eq=False)
class SignedWeights:
    """Weights ``W = s θ²`` of given signs s, and ``W = θ`` where any sign will do: a smooth map from all θ.

    Attributes
    ----------
    signs : tuple of ndarray
        Of every matrix: 1 or −1, 0 where the weight is zero, NaN where it is free.
    """

    signs: tuple[Float, ...]

    def parameters(self, weights: Weights) -> list[Float]:
        """θ of weights; those of the wrong sign, and zeros, become small ones, which may grow."""
        found = []
        for W, s in zip(weights, self.signs):
            least = _SEED * max(float(np.abs(W).max(initial=0.0)), 2.0**-500)
            found.append(np.where(np.isnan(s), W, np.sqrt(np.maximum(W * s, least)) * (s != 0.0)))
        return found

    def weights(self, parameters: Weights) -> list[Float]:
        return [np.where(np.isnan(s), t, s * t * t) for t, s in zip(parameters, self.signs)]

    def pulled_back(self, parameters: Weights, gradients: Weights) -> list[Float]:
        """Gradients in θ from those in W."""
        both = zip(parameters, gradients, self.signs)
        return [np.where(np.isnan(s), G, 2.0 * s * t * G) for t, G, s in both]


def _path_sums(weights: Weights) -> list[tuple[Float, Float]]:
    """Of the hidden layers, from the last one down: sums of the positive and of the negative products to the output."""
    sums = [(np.maximum(weights[-1][0], 0.0), np.maximum(-weights[-1][0], 0.0))]
    for W in weights[-2:0:-1]:
        up, down = np.maximum(W, 0.0), np.maximum(-W, 0.0)
        plus, minus = sums[-1]
        sums.append((plus @ up + minus @ down, plus @ down + minus @ up))
    return sums


def _allowed(units: Float, inputs: Float) -> Float:
    """The sign that a weight from an input of a sign into a unit of one may have; NaN where any, 0 where none."""
    return np.where(inputs != 0.0, np.outer(units, inputs), np.nan)
