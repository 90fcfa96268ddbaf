r"""Proofs of lower bounds: the size of a gradient at a witness, rounded down. NumPy only; no code of any search.

Where no activation has a kink within the doubt that rounding leaves about its argument, f is differentiable at x and
``L ≥ ‖∂f/∂x‖``: the spectral norm for l2, the sum of the entries' sizes of one output for the maximum norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.claims.claim import Claim
from certnet.claims.kinds import Witness, register_witness
from certnet.claims.verdict import Verdict
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.hidden import HiddenLayer
from certnet.networks.layers import Layer, LinearOperator
from certnet.networks.network import Network
from certnet.proofs.rounding import SAFETY, U, gamma, norm
from certnet.proofs.subject import Subject

__all__ = [
    "GradientWitness",
    "gradient_below",
    "gradient_norm_below",
    "gradient_sum_below",
    "jacobian_at",
    "pulled_back",
    "slope_at",
    "slope_of_chosen_at",
]

_LIBRARY = 2.0**-46  # assumed relative accuracy of exp, tanh, cosh, log1p and erfc, with much to spare
_MINUTE = 2.0**-1000  # more than what underflows
_ROUNDED = 1.0 + 2.0**-30  # more than the rounding of sums of bounds
_ROOM = 1 << 24  # numbers that directions of errors may take

_Map = Callable[[Float], Float]
"""A linear map of the rows of a batch."""


@register_witness("feed-forward")
@dataclass(frozen=True, eq=False)
class GradientWitness:
    """The input x (d,) whose gradient shows a lower bound of a network of layers."""

    x: Float

    @classmethod
    def of(cls, point: Float, activations: Float | None) -> Witness:
        return cls(point)

    def check(self, claim: Claim, bound: object) -> Verdict:
        """Is ``L ≥ bound`` shown, by a gradient within the region?"""
        subject = Subject.of(claim)
        if isinstance(subject, str):
            return Verdict(False, subject)
        if not subject.contains(self.x):
            return Verdict(False, f"the witness of the lower bound does not lie in the {subject.claim.region.name}")
        # NumPy compares a float32 after rounding the other number to one
        if not isinstance(bound, float) or not 0.0 < bound <= slope_at(subject, self.x):
            return Verdict(False, f"the gradient at the witness does not prove L >= {bound!r}")
        return Verdict(True, f"L >= {bound!r} is proved")


def slope_at(subject: Subject, x: Float) -> float:
    """A proven lower bound on L: the gradient's norm at x, rounded down; 0 where nothing is proved."""
    below, charge = slope_of_chosen_at(subject, x), subject.charge()
    return below if charge == 0.0 else max(0.0, math.nextafter(below - charge, -math.inf))


def slope_of_chosen_at(subject: Subject, x: Float) -> float:
    """The same of the network of the chosen outputs, whose rounding is not charged, and 0 outside of the region."""
    if not subject.contains(x):
        return 0.0
    return gradient_below(subject.chosen, x) if subject.claim.norm == "l2" else gradient_sum_below(subject.chosen, x)


def gradient_below(network: Network, x: ArrayLike) -> float:
    """A proven lower bound on the Lipschitz constant: ``‖∂f/∂x‖₂`` at ``x``, rounded down.

    It is that of ``uᵀ f`` for the unit vector u of outputs that the computed Jacobian makes steepest. Zero where
    rounding leaves a doubt about the piece of an activation with kinks, where an activation is known by its slopes
    alone, and where ``x`` is not a finite vector of d numbers.
    """
    if network.relu_only:
        return gradient_norm_below(FeedForward.of(network).shallow(), x)
    point = _point(network, x)
    u = None if point is None else _steepest_output(network, point)
    return 0.0 if point is None or u is None else _best_below(network, point, u, _norm_below)


def _point(network: Network, x: ArrayLike) -> Float | None:
    """x as an array, if it is an input at which the network has a value."""
    x = np.asarray(x, dtype=np.float64)
    return x if x.shape == (network.n_inputs,) and np.isfinite(x).all() and network.has_values else None


def _steepest_output(network: Network, x: Float) -> Float | None:
    """The first left singular vector of the computed Jacobian; any u proves something, the best one the most."""
    if network.n_outputs == 1:
        return np.ones(1)
    with np.errstate(all="ignore"):
        J = network.gradients(x[None])[0]
        J = np.ldexp(J, -int(np.frexp(np.abs(J).max())[1]))
    return np.linalg.svd(J, full_matrices=False)[0][:, 0] if np.isfinite(J).all() else None


def _norm_below(g: Float, error: Float) -> float:
    """At most ``‖g‖₂``, for g that is known up to ``error``."""
    k = gamma(g.size + 8)
    return max(0.0, norm(g) * (1.0 - k) - norm(error) * (1.0 + k)) * (1.0 - 4.0 * U)


def gradient_norm_below(network: HiddenLayer, x: ArrayLike) -> float:
    """A proven lower bound on the Lipschitz constant: ``‖∂f/∂x‖₂`` at ``x``, rounded down.

    Zero where the sign of a pre-activation at ``x`` cannot be told from rounding (f may have a kink there) or ``x``
    is not a finite vector of d numbers.
    """
    found = jacobian_at(network, x)
    if found is None:
        return 0.0
    J, terms, active = found
    with np.errstate(all="ignore"):
        size = float(np.linalg.norm(terms))
    top = float(np.abs(J).max(initial=0.0))
    if not (top > 2.0**-400 and size < 2.0**400):
        return 0.0
    direction = np.linalg.svd(J, full_matrices=False)[2][0]
    error = gamma(sum(J.shape) + active + 8) * size
    image = float(np.linalg.norm(J @ direction)) - SAFETY * error
    return max(0.0, image / float(np.linalg.norm(direction)) * (1.0 - 4.0 * gamma(sum(J.shape) + 8)))


def jacobian_at(network: HiddenLayer, x: ArrayLike) -> tuple[Float, Float, int] | None:
    """``∂f/∂x = Σ_j V_:j w_jᵀ`` (m, d) over the active units j, the sums of the absolute terms, and how many they are.

    None where the sign of a pre-activation cannot be told from rounding, or ``x`` is not a finite vector of d numbers.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.shape != (network.n_inputs,) or not np.isfinite(x).all():
        return None
    W, V = network.W, network.V
    live = V.any(axis=0) & W.any(axis=1)
    with np.errstate(all="ignore"):  # what overflows is refused below
        z = W @ x + network.b
        doubt = gamma(network.n_inputs + 4) * (np.abs(W) @ np.abs(x) + np.abs(network.b)) + 2.0**-1000
    if not np.isfinite(z).all() or (live & (np.abs(z) <= doubt)).any():
        return None
    active = live & (z > 0.0)
    W, V = W[active], V[:, active]
    with np.errstate(all="ignore"):
        return V @ W, np.abs(V) @ np.abs(W), len(W)


def gradient_sum_below(network: Network, x: ArrayLike) -> float:
    """A proven lower bound on L in the maximum norm: ``‖∇(uᵀ f)‖₁ / ‖u‖`` at ``x``, rounded down; u = 1 for one output.

    For several outputs, measured in l2, u is a weighting of them that makes this large; every u proves something. Zero
    where rounding leaves a doubt about the piece of an activation with kinks, where an activation is known by its
    slopes alone, and where ``x`` is not a finite vector of d numbers.
    """
    if network.n_outputs != 1:
        point = _point(network, x)
        return 0.0 if point is None else _best_below(network, point, _weighting(network, point), _sum_below)
    if not network.relu_only:
        point = _point(network, x)
        return 0.0 if point is None else _best_below(network, point, np.ones(1), _sum_below)
    found = jacobian_at(FeedForward.of(network).shallow(), x)
    if found is None:
        return 0.0
    J, terms, active = found
    return _sum_below(J, gamma(active + 8) * terms)


def _weighting(network: Network, x: Float) -> Float:
    """u with a large ``‖Jᵀ u‖₁``, ``‖u‖ = 1``: signs of its entries and where they move the outputs, in turn."""
    with np.errstate(all="ignore"):
        J = network.gradients(x[None])[0]
        size = float(np.abs(J).max())
        if not 0.0 < size < math.inf:
            return np.ones(len(J))
        J = J / size
        u = np.linalg.svd(J, full_matrices=False)[0][:, 0]
        for _ in range(20):
            moved = J @ np.where(J.T @ u >= 0.0, 1.0, -1.0)
            u = moved / np.linalg.norm(moved)
    return np.asarray(u)


def _sum_below(J: Float, error: Float) -> float:
    """At most ``Σ_k |J_k|``, for J that is known up to ``error``; zero where that says nothing."""
    with np.errstate(all="ignore"):  # what overflows is refused
        entries = np.maximum(np.abs(J) - (error + _MINUTE), 0.0)
        total = float(entries.sum()) * (1.0 - 2.0 * gamma(entries.size + 8))
    return total if math.isfinite(total) else 0.0


def _best_below(network: Network, x: Float, u: Float, size_below: Callable[[Float, Float], float]) -> float:
    """The size of ``∇(uᵀ f)(x) / ‖u‖``, rounded down: by intervals, and where they lose too much, by directions."""
    best = 0.0
    widest = max(network.widths)
    for room in (0, min(max(1024, 2 * widest), _ROOM // widest)):
        found = pulled_back(network, x, u, room)
        if found is None:
            continue
        g, error = found
        below = size_below(g, error) / (norm(u) * (1.0 + gamma(len(u) + 8)))
        best = max(best, math.nextafter(below, 0.0))
        if norm(error) <= 1e-7 * norm(g) or not g.any():
            break
    return best


# --------------------------------------------------------------------------------------------------- errors, followed


@dataclass(frozen=True, eq=False)
class _Known:
    """A vector v (n,) up to rounding: ``v = value + Σ_i ξ_i along_i + ξ' ∘ apart`` for some ``|ξ_i|, |ξ'_j| ≤ 1``.

    Errors that entries have in common stay so: through matrices of mixed signs they grow as the vector does, while
    bounds of single entries grow as the product of the matrices' absolute values, which is without use from about ten
    layers on.
    """

    value: Float
    along: Float  # (N, n)
    apart: Float  # (n,)

    @classmethod
    def exactly(cls, value: Float) -> _Known:
        return cls(value, np.zeros((0, len(value))), np.zeros(len(value)))

    @cached_property
    def error(self) -> Float:
        """At least ``|v − value|``, entry by entry."""
        return (np.abs(self.along).sum(axis=0) + self.apart) * _ROUNDED

    def mapped(self, A: _Map, sizes: _Map, terms: int, room: int, b: Float | float = 0.0) -> _Known:
        """``A v + b``; ``sizes`` maps by |A|. While there is room for their directions, errors stay common."""
        value = _one(A, self.value) + b
        own = np.flatnonzero(self.apart)
        lost = gamma(terms + 4) * (_one(sizes, np.abs(self.value) + self.error) + np.abs(b)) + _MINUTE
        if not len(self.along) + len(own):
            return _Known(value, np.zeros((0, len(value))), lost * _ROUNDED)
        if len(self.along) + len(own) > room:
            return _Known(value, np.zeros((0, len(value))), (_one(sizes, self.error) + lost) * _ROUNDED)
        fresh = np.zeros((len(own), len(self.apart)))
        fresh[np.arange(len(own)), own] = self.apart[own]
        return _Known(value, A(np.vstack([self.along, fresh])), lost * _ROUNDED)

    def times(self, slope: Float, wrong: Float, value: Float, lost: Float) -> _Known:
        """``value + (slope ± wrong) ∘ (v − self.value)``, itself wrong by ``lost``."""
        more = (gamma(4) * np.abs(slope) + wrong) * self.error
        more = more + np.where((slope != 0.0) | (wrong != 0.0), _MINUTE, 0.0)
        return _Known(value, self.along * slope, (self.apart * np.abs(slope) + more + lost) * _ROUNDED)


def _one(A: _Map, v: Float) -> Float:
    return A(v[None])[0]


@dataclass(frozen=True, eq=False)
class _Bend:
    """How the units of a layer bend at x: slopes known up to ``wrong``, and units that may be on a kink."""

    slope: Float
    wrong: Float
    unsure: NDArray[np.bool_]

    @property
    def passes(self) -> NDArray[np.bool_]:
        """Units whose slope is not known to be zero."""
        return (self.slope != 0.0) | (self.wrong != 0.0) | self.unsure


def pulled_back(network: Network, x: Float, u: Float, room: int) -> tuple[Float, Float] | None:
    """``∇(uᵀ f)(x)`` (d,), and a bound on the error of its entries; None where f may have a kink at x.

    Parameters
    ----------
    network : Network
        With values.
    x, u : ndarray, shapes (d,), (m,)
        Finite numbers, taken as exact.
    room : int
        So many directions of errors at most are followed through the layers; zero for bounds entry by entry.
    """
    sizes = [layer.operator.absolute for layer in network.layers]
    with np.errstate(all="ignore"):  # what overflows is refused
        bends = _bends(network, x, room, sizes)
        if bends is None or _on_a_kink(bends, u, sizes):
            return None
        g = _Known.exactly(u)
        for layer, size, bend in zip(network.layers[::-1], sizes[::-1], [None, *bends[::-1]]):
            if bend is not None:
                lost = bend.wrong * np.abs(g.value) + gamma(4) * np.abs(bend.slope * g.value)
                g = g.times(bend.slope, bend.wrong, bend.slope * g.value, lost)
            g = g.mapped(layer.operator.adjoint, size.adjoint, layer.operator.terms, room)
        largest = float(np.abs(g.value).max())
        usable = largest < 2.0**400 and bool(np.isfinite(g.error).all())
        return (g.value, g.error) if usable and (largest > 2.0**-400 or largest == 0.0) else None


def _bends(network: Network, x: Float, room: int, sizes: Sequence[LinearOperator]) -> list[_Bend] | None:
    """Of every hidden layer at x; units that do not move with the input, by exact zeros, have slope zero."""
    bends, known, moves = [], _Known.exactly(x), np.ones(len(x), dtype=bool)
    for layer, size in zip(network.layers[:-1], sizes):
        z = known.mapped(layer.operator, size, layer.operator.terms, room, layer.bias)
        if not (np.isfinite(z.value).all() and np.isfinite(z.error).all()):
            return None
        moves = _one(size, moves.astype(np.float64)) > 0.0
        bend = _bend(layer, z)
        known = _activated(layer, z, bend)
        bends.append(_Bend(np.where(moves, bend.slope, 0.0), np.where(moves, bend.wrong, 0.0), bend.unsure & moves))
        moves &= bend.passes
    return bends


def _bend(layer: Layer, z: _Known) -> _Bend:
    """Slopes of a layer at pre-activations z."""
    phi, bending = layer.activation, np.arange(len(z.value)) < layer.n_bending
    slope = layer.derivative(z.value)
    # a kink is compared with through the numbers of all: those of clip(α z + β) are 1/α apart
    reach = 2.0 * z.error + _LIBRARY * phi.kink_doubt
    unsure = np.zeros(len(slope), dtype=bool)
    for kink in phi.kinks():
        unsure |= bending & (np.abs(z.value - kink) <= reach)
    wrong = phi.curvature * z.error
    if phi.smooth:  # where φ' is a sum that nearly cancels, errors are those of its terms
        wrong = wrong + _LIBRARY * (np.abs(slope) + phi.blur) + _MINUTE * max(1.0, layer.steepest)
        # in the flat ends of φ the slopes nearby say more than the largest curvature
        least, most = phi.slopes_between(z.value - 2.0 * z.error, z.value + 2.0 * z.error)
        wrong = np.minimum(wrong, np.maximum(most - slope, slope - least))
    return _Bend(slope, np.where(bending, wrong * _ROUNDED, 0.0), unsure)


def _activated(layer: Layer, z: _Known, bend: _Bend) -> _Known:
    """φ(z): ``φ(value) + φ'(value) (z − value)`` and what is lost of it; at a kink the steepest slope bounds it."""
    phi, value, steepest = layer.activation, layer.activated(z.value), layer.steepest
    bending = np.arange(len(value)) < layer.n_bending
    slope = np.where(bend.unsure, 0.0, bend.slope)
    wrong = np.where(bend.unsure, steepest, bend.wrong)
    if phi.smooth:
        lost = _LIBRARY * (np.abs(value) + np.abs(z.value)) + _MINUTE
    else:  # a few operations; none on a piece where φ is constant
        lost = gamma(4) * (np.abs(value) + np.where(bend.unsure, steepest, np.abs(slope)) * np.abs(z.value))
        lost = lost + np.where(bend.passes, _MINUTE, 0.0)
    return z.times(slope, wrong, value, np.where(bending, lost, 0.0))


def _on_a_kink(bends: list[_Bend], u: Float, sizes: Sequence[LinearOperator]) -> bool:
    """Does a unit that may be on a kink reach an output that counts, but for exact zeros?"""
    if not any(bend.unsure.any() for bend in bends):
        return False
    matters = u != 0.0
    for bend, size in zip(bends[::-1], sizes[:0:-1]):
        matters = _one(size.adjoint, matters.astype(np.float64)) > 0.0
        if (bend.unsure & matters).any():
            return True
        matters &= bend.passes
    return False
