r"""Limits of what the units of a network take where the inputs are confined, rounded outward. NumPy only.

Regions come in batches: N boxes or balls, and limits of every hidden pre-activation, (N, n_k), of each. Interval
arithmetic carries ``|z − z_mid| ≤ r`` from layer to layer. Linear relaxation keeps what units have in common: on
[l, u] an activation lies between two lines,

    a z + b ≤ φ(z) ≤ a' z + b',

and a combination ``A x_k`` of the values of layer k, replaced line by line (the upper ones where A is positive and
the lower ones where it is negative, for an upper limit), becomes one of the values of layer k − 1, and in the end
``A x + c``, whose maximum over a box or a ball is known (backward relaxation: Zhang et al., NeurIPS 2018). The smaller
of both limits is used.

The lines are *chosen* in floating point; that they hold is charged to b and b' (2⁻⁴⁴ of the terms, much more than the
rounding of a handful of operations or of exp and the like). For activations with slopes in [s, S] on [l, u] and
``g(z) = φ(z) − a z``, a between s and S,

    g(z) ≤ min( g(l) + (S − a) (z − l),  g(u) + (a − s) (u − z) ) ≤ g(l) + (S − a) t,
    t = (g(u) − g(l) + (a − s)(u − l)) / (S − s),

where both lines meet; likewise from below. For ReLU and leaky ReLU, convex with one kink at zero, the chord is the
upper line and the steeper half the lower one. Products are charged ``γ_n`` times those of sizes: with A the matrix
after a step, ``|A| (|W| |x| + |b| + |z|)`` and so on, x and z within their limits, summed up along the way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.claims.region import Ball, Box, Region
from certnet.core.validation import Float
from certnet.networks.layers import Layer, LinearOperator
from certnet.networks.network import Network
from certnet.proofs.rounding import SAFETY, U, gamma

__all__ = ["Balls", "Boxes", "Ends", "Inputs", "Sides", "inputs_of", "limits", "output_limits"]

_DOUBT: Final = 2.0**-44  # of an activation's value and argument
_MINUTE: Final = 2.0**-900  # more than what underflows in a sum
_ENTRIES: Final = 1 << 22  # numbers of a batch of matrices at a time

Sides = Sequence[NDArray[np.int8]]
"""Of every hidden layer, per unit: 1 where its pre-activation is known not to be negative, −1 not positive, else 0."""


@dataclass(frozen=True, eq=False)
class Ends:
    """``left ≤ z ≤ right``, arrays of one shape; where left exceeds right there is no such z."""

    left: Float
    right: Float

    def meet(self, other: Ends) -> Ends:
        return Ends(np.maximum(self.left, other.left), np.minimum(self.right, other.right))

    @property
    def size(self) -> Float:
        """At least ``|z|``."""
        return np.maximum(np.abs(self.left), np.abs(self.right))

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Rows (N,) whose ends are all finite."""
        return np.asarray((np.isfinite(self.left) & np.isfinite(self.right)).all(axis=-1))

    def rows(self, chosen: slice | NDArray[np.intp]) -> Ends:
        return Ends(self.left[chosen], self.right[chosen])

    def on_side(self, side: NDArray[np.int8]) -> Ends:
        """Of the units whose side is known, that half alone."""
        return Ends(
            np.where(side > 0, np.maximum(self.left, 0.0), self.left),
            np.where(side < 0, np.minimum(self.right, 0.0), self.right),
        )


class Inputs(ABC):
    """A batch of N regions of R^d."""

    @property
    @abstractmethod
    def ends(self) -> Ends:
        """The smallest boxes around them, (N, d)."""

    @abstractmethod
    def most(self, A: Float) -> Float:
        """``max A x`` over each region, (N, n), for A (N, n, d); wrong by at most ``γ_{d+8} |A| |x|``."""

    @abstractmethod
    def rows(self, chosen: slice) -> Inputs:
        """Some of the regions."""

    def __len__(self) -> int:
        return len(self.ends.left)


@dataclass(frozen=True, eq=False)
class Boxes(Inputs):
    """``lower ≤ x ≤ upper``, both (N, d)."""

    lower: Float
    upper: Float

    @property
    def ends(self) -> Ends:
        return Ends(self.lower, self.upper)

    def most(self, A: Float) -> Float:
        return _apply(np.maximum(A, 0.0), self.upper) + _apply(np.minimum(A, 0.0), self.lower)

    def rows(self, chosen: slice) -> Boxes:
        return Boxes(self.lower[chosen], self.upper[chosen])


@dataclass(frozen=True, eq=False)
class Balls(Inputs):
    """``‖x − centre‖ ≤ radius``, centre (N, d), radius (N,), in the norm "l2" or "linf"."""

    centre: Float
    radius: Float
    norm: str = "l2"

    @property
    def ends(self) -> Ends:
        down, up = self.centre - self.radius[:, None], self.centre + self.radius[:, None]
        return Ends(np.nextafter(down, -np.inf), np.nextafter(up, np.inf))

    def most(self, A: Float) -> Float:
        size = np.abs(A).sum(axis=-1) if self.norm == "linf" else np.sqrt(np.einsum("kij,kij->ki", A, A))
        return _apply(A, self.centre) + self.radius[:, None] * size

    def rows(self, chosen: slice) -> Balls:
        return Balls(self.centre[chosen], self.radius[chosen], self.norm)


def inputs_of(region: Region, n_inputs: int, norm: str) -> Inputs:
    """A region as a batch of one."""
    if isinstance(region, Box):
        return Boxes(region.lower[None], region.upper[None])
    if isinstance(region, Ball):
        return Balls(region.centre[None], np.array([region.radius]), norm)
    return Boxes(np.full((1, n_inputs), -np.inf), np.full((1, n_inputs), np.inf))


def limits(network: Network, inputs: Inputs, sides: Sides | None = None) -> list[Ends]:
    """Limits of the pre-activations of every hidden layer, each (N, n_k), for every region of a batch.

    Infinite where nothing is known. ``sides`` confines the inputs further, to those at which units are on a side.
    """
    found = list(_each(network, inputs, sides, upto=network.depth))
    return [Ends(*(np.concatenate(ends) for ends in zip(*((e.left, e.right) for e in part)))) for part in zip(*found)]


def output_limits(network: Network, inputs: Inputs) -> Ends:
    """Limits of the outputs, (N, m), for every region of a batch."""
    found = [part[-1] for part in _each(network, inputs, None, upto=network.depth + 1)]
    return Ends(np.concatenate([e.left for e in found]), np.concatenate([e.right for e in found]))


def _each(network: Network, inputs: Inputs, sides: Sides | None, upto: int) -> Iterator[list[Ends]]:
    """The limits of the first ``upto`` layers, of some regions at a time."""
    n = max(network.widths)
    some = max(1, _ENTRIES // (n * n))
    for at in range(0, len(inputs), some):
        part = inputs.rows(slice(at, at + some))
        with np.errstate(all="ignore"):  # what overflows is infinite or NaN, and says nothing
            yield _limits(network.layers[:upto], part, sides)


def _limits(layers: Sequence[Layer], inputs: Inputs, sides: Sides | None) -> list[Ends]:
    found: list[Ends] = []
    seen: list[_Seen] = []
    values = inputs.ends
    for k, layer in enumerate(layers):
        ends = _mapped(layer, values)
        if ends.finite.all():  # else there are no lines to be drawn
            ends = ends.meet(_relaxed(layer, seen, inputs, ends))
        if sides is not None and k < len(sides):
            ends = ends.on_side(sides[k])
        found.append(ends)
        if k + 1 < len(layers):
            below, values = values, _activated(layer, ends)
            seen.append(_Seen(layer, below.size, ends.size, _lines(layer, ends)))
    return found


# ------------------------------------------------------------------------------------------------ interval arithmetic


def _mapped(layer: Layer, x: Ends) -> Ends:
    """``A x + b`` by intervals."""
    operator, sizes, b = layer.operator, layer.operator.absolute, layer.bias
    if not x.finite.all():
        return _mapped_with_gaps(operator, x, b)
    middle = 0.5 * x.left + 0.5 * x.right
    reach = np.maximum(middle - x.left, x.right - middle) * (1.0 + 4.0 * U)
    z = operator(middle) + b
    k = gamma(operator.terms + 8)
    far = sizes(reach) * (1.0 + k)
    doubt = k * (sizes(np.abs(middle)) + np.abs(b) + far)
    doubt = SAFETY * doubt + np.where(doubt > 0.0, _MINUTE, 0.0)
    return _known(Ends(z - far - doubt, z + far + doubt))


def _mapped_with_gaps(operator: LinearOperator, x: Ends, b: Float) -> Ends:
    """The same where limits may be infinite: a weight of zero takes nothing of them."""
    A = operator.matrix
    up, down = np.maximum(A, 0.0), np.minimum(A, 0.0)
    sizes = np.where(np.isfinite(x.left), np.abs(x.left), 0.0), np.where(np.isfinite(x.right), np.abs(x.right), 0.0)
    k = gamma(operator.terms + 8)
    doubt = SAFETY * k * (np.maximum(*sizes) @ np.abs(A).T + np.abs(b)) + _MINUTE
    right = _sum_with_gaps(up, x.right) + _sum_with_gaps(down, x.left) + b + doubt
    left = _sum_with_gaps(up, x.left) + _sum_with_gaps(down, x.right) + b - doubt
    return _known(Ends(left, right))


def _sum_with_gaps(A: Float, x: Float) -> Float:
    """``A x``, 0 · ∞ = 0, for A of one sign; (N, n)."""
    gaps = ~np.isfinite(x)
    plain = np.where(gaps, 0.0, x) @ A.T
    # all terms of an infinite size have one sign here, or the end says nothing
    up = ((gaps & (x > 0.0)).astype(float) @ np.maximum(A, 0.0).T + (gaps & (x < 0.0)) @ np.maximum(-A, 0.0).T) > 0.0
    down = ((gaps & (x < 0.0)).astype(float) @ np.maximum(A, 0.0).T + (gaps & (x > 0.0)) @ np.maximum(-A, 0.0).T) > 0.0
    return np.where(up & down, np.nan, np.where(up, np.inf, np.where(down, -np.inf, plain)))


def _known(ends: Ends) -> Ends:
    """NaN is no limit."""
    left = np.where(np.isnan(ends.left), -np.inf, ends.left)
    return Ends(left, np.where(np.isnan(ends.right), np.inf, ends.right))


def _activated(layer: Layer, z: Ends) -> Ends:
    """φ(z): from either end it rises and falls by no more than its slopes allow."""
    phi, n = layer.activation, layer.n_bending
    if not phi.has_values:
        whole = np.full(z.left.shape, np.inf)
        whole[..., n:] = z.right[..., n:]
        other = -whole
        other[..., n:] = z.left[..., n:]
        return Ends(other, whole)
    lo, hi = z.left[..., :n], z.right[..., :n]
    s, S = phi.slopes_between(lo, hi)
    at_l, at_u = _value(layer, lo), _value(layer, hi)
    width = np.where(lo < hi, hi - lo, 0.0) * (1.0 + 4.0 * U)
    rise, fall = _times(np.maximum(S, 0.0), width), _times(np.maximum(-s, 0.0), width)
    left, right = np.maximum(at_l - fall, at_u - rise), np.minimum(at_l + rise, at_u + fall)
    # where it is monotone an end is a value; ReLU's are exact
    doubt = _DOUBT * sum(np.where(np.isfinite(end), np.abs(end), 0.0) for end in (at_l, at_u, lo, hi)) + _MINUTE
    exact = (phi.name == "relu") & (s >= 0.0)
    left, right = np.where(exact, at_l, left - doubt), np.where(exact, at_u, right + doubt)
    if layer.carried:
        left = np.concatenate([left, z.left[..., n:]], axis=-1)
        right = np.concatenate([right, z.right[..., n:]], axis=-1)
    return _known(Ends(left, right))


def _value(layer: Layer, z: Float) -> Float:
    """φ, its limit far out."""
    far = float(np.finfo(np.float64).max)
    value = layer.activation(np.clip(z, -far, far))
    # an infinite end has an infinite value unless the activation is flat there
    steep = layer.activation.derivative(np.clip(z, -far, far)) != 0.0
    return np.where(np.isinf(z) & steep, np.where(value > 0.0, np.inf, -np.inf), value)


def _times(s: Float, width: Float) -> Float:
    """``s · width``, 0 · ∞ = 0."""
    return np.where(s == 0.0, 0.0, s * width)


# ------------------------------------------------------------------------------------------------- linear relaxation


@dataclass(frozen=True, eq=False)
class _Lines:
    """``low z + under ≤ φ(z) ≤ high z + over`` on the limits of z; all (N, n)."""

    low: Float
    under: Float
    high: Float
    over: Float


@dataclass(frozen=True, eq=False)
class _Seen:
    """A layer with at least the sizes of its inputs and pre-activations, and the lines of its activation."""

    layer: Layer
    inputs: Float
    values: Float
    lines: _Lines


def _lines(layer: Layer, z: Ends) -> _Lines:
    phi, n = layer.activation, layer.n_bending
    lo, hi = z.left[..., :n], z.right[..., :n]
    found = _half_lines(phi.slopes, lo, hi) if phi.name in ("relu", "leaky_relu") else None
    if found is None:
        found = _slope_lines(layer, lo, hi)
    if not layer.carried:
        return found
    shape = (*z.left.shape[:-1], layer.carried)
    one, none = np.ones(shape), np.zeros(shape)
    parts = zip((found.low, found.under, found.high, found.over), (one, none, one, none))
    return _Lines(*(np.concatenate(part, axis=-1) for part in parts))


def _half_lines(slopes: tuple[float, float], lo: Float, hi: Float) -> _Lines | None:
    """Of ``max(α z, z)``, α ≤ 1: the chord, and the half that is longer; exact on one side of the kink."""
    alpha, one = slopes
    if one != 1.0:
        return None
    right, left = lo >= 0.0, hi <= 0.0
    bent = ~(left | right)
    at_l = alpha * lo
    chord = np.clip((hi - at_l) / np.where(bent, hi - lo, 1.0), alpha, 1.0)
    over = np.maximum(at_l - chord * lo, hi - chord * hi)
    over = over + _DOUBT * (np.abs(lo) + np.abs(hi)) + _MINUTE
    side = np.where(right, 1.0, alpha)
    low = np.where(bent, np.where(hi > -lo, 1.0, alpha), side)
    return _Lines(low, np.zeros_like(low), np.where(bent, chord, side), np.where(bent, over, 0.0))


def _slope_lines(layer: Layer, lo: Float, hi: Float) -> _Lines:
    """Of any activation, from its slopes on [lo, hi] (module docstring)."""
    phi = layer.activation
    if not phi.has_values:
        return _Lines(*(np.full(lo.shape, np.nan) for _ in range(4)))
    s, S = phi.slopes_between(lo, hi)
    at_l, at_u, width = phi(lo), phi(hi), np.maximum(hi - lo, 0.0)
    a = np.clip(np.where(width > 0.0, (at_u - at_l) / np.where(width > 0.0, width, 1.0), s), s, S)
    a = np.where(np.isfinite(a), a, 0.5 * (s + S))
    g_l, g_u, p, q = at_l - a * lo, at_u - a * hi, np.maximum(S - a, 0.0), np.maximum(a - s, 0.0)
    some = (p + q > 0.0) & (width > 0.0)
    spread = np.where(some, p + q, 1.0)
    rise = np.where(some, np.clip((g_u - g_l + q * width) / spread, 0.0, width), 0.0)
    fall = np.where(some, np.clip((g_l - g_u + p * width) / spread, 0.0, width), 0.0)
    doubt = _DOUBT * (np.abs(at_l) + np.abs(at_u) + (np.abs(a) + p + q) * (np.abs(lo) + np.abs(hi))) + _MINUTE
    # both lines are limits where they are clipped too: the larger one of a point is one of all
    over = np.where(some, np.maximum(g_l + p * rise, g_u + q * (width - rise)), np.maximum(g_l, g_u))
    under = np.where(some, np.minimum(g_l - q * fall, g_u - p * (width - fall)), np.minimum(g_l, g_u))
    return _Lines(a, under - doubt, a, over + doubt)


def _relaxed(layer: Layer, seen: Sequence[_Seen], inputs: Inputs, known: Ends) -> Ends:
    """The layer's pre-activations, as combinations of the inputs; ``known`` is what intervals say of them."""
    units = np.arange(layer.operator.n_outputs)
    if len(inputs) == 1 and seen and layer.activation.name in ("relu", "leaky_relu"):
        # of a unit that is on one side the rest of the limits is of little use
        undecided = (known.left[0] < 0.0) & (known.right[0] > 0.0)
        undecided[layer.n_bending :] = True
        units = np.flatnonzero(undecided)
    first = _rows_of(layer.operator, units)
    left, right = known.left.copy(), known.right.copy()
    if len(units):
        start = np.broadcast_to(first, (len(inputs), *first.shape))
        right[:, units] = layer.bias[units] + _backward(layer, units, start, seen, inputs)
        left[:, units] = layer.bias[units] - _backward(layer, units, -start, seen, inputs)
        room = 4.0 * U * (np.abs(layer.bias[units]) + np.abs(right[:, units]) + np.abs(left[:, units])) + _MINUTE
        right[:, units] += room
        left[:, units] -= room
    return _known(Ends(left, right))


def _rows_of(operator: LinearOperator, units: NDArray[np.intp]) -> Float:
    chosen = np.zeros((len(units), operator.n_outputs))
    chosen[np.arange(len(units)), units] = 1.0
    return operator.adjoint(chosen)


def _backward(layer: Layer, units: NDArray[np.intp], A: Float, seen: Sequence[_Seen], inputs: Inputs) -> Float:
    """At least ``max A x`` over the values x that the layer takes, (N, n), for A (N, n, n_k)."""
    total = np.zeros(A.shape[:2])
    spent = np.zeros(A.shape[:2])  # sizes of all that is summed up
    minute = np.full(len(A), _MINUTE)
    terms = layer.operator.terms
    for below in reversed(seen):
        lines, operator = below.lines, below.layer.operator
        up, down = np.maximum(A, 0.0), np.minimum(A, 0.0)
        total += _apply(up, lines.over) + _apply(down, lines.under)
        sizes = np.abs(A)
        spent += _apply(sizes, np.maximum(np.abs(lines.over), np.abs(lines.under)))
        P = up * lines.high[:, None, :] + down * lines.low[:, None, :]
        total += P @ below.layer.bias
        reach = below.values + operator.absolute(below.inputs) + np.abs(below.layer.bias)
        spent += _apply(np.abs(P), reach)
        minute += _MINUTE * reach.sum(axis=-1)
        A = operator.adjoint(P.reshape(-1, P.shape[-1])).reshape(*P.shape[:2], -1)
        terms = max(terms, operator.terms, P.shape[-1])
    spent += _apply(np.abs(A), inputs.ends.size)
    charge = gamma(terms + 4 * len(seen) + 32) * SAFETY
    minute += _MINUTE * inputs.ends.size.sum(axis=-1)
    return np.asarray(total + inputs.most(A) + charge * (spent + np.abs(total)) + minute[:, None])


def _apply(A: Float, x: Float) -> Float:
    """``A x`` of every region: (N, n, d) and (N, d) to (N, n)."""
    return np.asarray((A @ x[..., None])[..., 0])
