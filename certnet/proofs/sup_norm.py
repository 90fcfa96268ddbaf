r"""Proofs in the maximum norm of the inputs: ``|f(x) − f(y)| ≤ L ‖x − y‖_∞`` for one output. NumPy only.

For input weights p ≥ 0 with ``Σ_k p_k ≤ 1`` and M(t) as in :mod:`certnet.proofs.shallow`,

    u · diag(p_1, …, p_d, 1) − ½ M(t) ⪰ 0   proves   L ≤ u,

because ``½ (x; a)ᵀ M(t) (x; a) ≥ 2 a V D x`` for every D within the slopes, and ``Σ_k p_k x_k² + a² ≤ 2`` for
``‖x‖_∞ ≤ 1``, ``a = ±1``. In other words, ``√p``-scaled inputs have norm at most ``‖x‖_∞``, and the l2 bound of the
scaled network serves. A unit with multiplier 0 is charged ``|V_j| ‖w_j‖₁`` times its steepest slope.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.networks.hidden import HiddenLayer
from certnet.proofs.proof import Checker, LayeredProof
from certnet.proofs.rounding import read_numbers
from certnet.proofs.shallow import Question, QuestionChecker, ask
from certnet.proofs.subject import Subject

__all__ = ["SupChecker", "SupProof"]

_FLOOR = 2.0**-64  # of the largest weight: what any weight is raised by, so that none is zero


@register("feed-forward", "shallow", "linf")
class SupProof(LayeredProof):
    """Multipliers t (h,) and input weights s (d,) of one hidden layer and one output."""

    KIND: ClassVar[str] = "shallow"

    def checker(self, subject: Subject) -> Checker | None:
        if subject.network.depth != 1 or subject.claim.norm != "linf" or len(self.multipliers) != 2:
            return None
        low, high = subject.slopes
        return SupChecker(subject.hidden, *self.multipliers, low=low, high=high)


class SupChecker(QuestionChecker):
    """One hidden layer, one output, multipliers and input weights, prepared to test many bounds.

    Parameters
    ----------
    layer : HiddenLayer
        Its W and V are used; its activation is that of the slopes.
    multipliers : array_like, shape (h,)
        Non-negative and finite; 0 charges the unit by its norm.
    input_weights : array_like, shape (d,)
        Non-negative and finite, not all zero. Only their ratios count: p is what they are divided by their sum.
    low, high : float or ndarray, shape (h,)
        Slopes of the units' activations: ReLU's by default.
    """

    def __init__(
        self,
        layer: HiddenLayer,
        multipliers: ArrayLike,
        input_weights: ArrayLike,
        *,
        low: Float | float = 0.0,
        high: Float | float = 1.0,
    ) -> None:
        super().__init__(_ask(layer, multipliers, input_weights, low, high))


def _ask(
    layer: HiddenLayer, multipliers: ArrayLike, input_weights: ArrayLike, low: Float | float, high: Float | float
) -> Question | str:
    p = _proportions(layer, input_weights)
    if isinstance(p, str):
        return p
    columns, p = _units(p)
    weights = np.append(p, 1.0)
    return ask(layer.W, layer.V, multipliers, low, high, columns=columns, weights=weights, order=1)


def _proportions(layer: HiddenLayer, input_weights: ArrayLike) -> Float | str:
    """Positive p (d,) whose exact sum is at most 1; a sentence where the weights are not to be used."""
    if layer.n_outputs != 1:
        return f"the bound in the maximum norm is for one output, the network has {layer.n_outputs}"
    s = read_numbers(input_weights, "input weight", layer.n_inputs, "inputs")
    if isinstance(s, str):
        return s
    top = float(s.max())
    if top == 0.0:
        return "the input weights are all zero"
    # any positive weights may be used: what is rounded here makes others of them, and no false claim
    with np.errstate(under="ignore"):
        s = np.ldexp(s, -int(np.frexp(top)[1])) + _FLOOR
    return np.nextafter(s / math.nextafter(math.fsum(s), math.inf), 0.0)


def _units(p: Float) -> tuple[NDArray[np.int32], Float]:
    """e and ``p · 4^e`` in [¼, 1): inputs in units of ``2^e`` have weights of order one, and no digit changes."""
    exponent = -np.frexp(p)[1] // 2
    return exponent, np.ldexp(p, 2 * exponent)
