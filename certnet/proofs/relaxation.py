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
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.claims.region import Ball, Box, Region
from certnet.core.validation import Float
from certnet.networks.layers import Dense, Layer, LinearOperator
from certnet.networks.network import Network
from certnet.proofs.rounding import SAFETY, U, gamma

__all__ = ["Balls", "Boxes", "Ends", "Inputs", "Sides", "highest", "inputs_of", "limits", "output_limits"]

_DOUBT: Final = 2.0**-44  # of an activation's value and argument
_MINUTE: Final = 2.0**-900  # more than what underflows in a sum
_FLAT: Final = 2.0**-500  # more than the norm of entries whose squares underflow
_ENTRIES: Final = 1 << 20  # numbers of a layer's limits, of all regions, at a time
_WORK: Final = 1 << 23  # multiplications for a layer in one region, up to which no unit is left out
_ROWS: Final = 1 << 15  # numbers of a batch of combinations at a time: what stays in the cache

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
    def most(self, A: Float, at: NDArray[np.intp]) -> Float:
        """``max a x``, (R,), for rows a of A (R, d), each over the region ``at`` (R,).

        Wrong by at most ``γ_{d+8} |a| |x|`` and what underflows.
        """

    @abstractmethod
    def first(self, layer: Layer, known: Ends) -> Ends:
        """Limits (N, n) of the pre-activations of the first layer; ``known`` is what intervals say of them."""

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

    def most(self, A: Float, at: NDArray[np.intp]) -> Float:
        return _dots(np.maximum(A, 0.0), self.upper[at]) + _dots(np.minimum(A, 0.0), self.lower[at])

    def first(self, layer: Layer, known: Ends) -> Ends:
        return known

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

    def most(self, A: Float, at: NDArray[np.intp]) -> Float:
        return _dots(A, self.centre[at]) + self.radius[at] * self._dual(A)

    def first(self, layer: Layer, known: Ends) -> Ends:
        if self.norm == "linf":
            return known
        z, reach = layer.preactivations(self.centre), self.radius[:, None] * self._dual(layer.operator.matrix)
        size = layer.operator.absolute(self.ends.size) + np.abs(layer.bias) + np.abs(z) + reach
        doubt = SAFETY * gamma(layer.operator.terms + 32) * size + _MINUTE * (1.0 + self.ends.size.sum(axis=1))[:, None]
        return known.meet(_known(Ends(z - reach - doubt, z + reach + doubt)))

    def _dual(self, A: Float) -> Float:
        """Dual norms of the rows."""
        return np.abs(A).sum(axis=-1) if self.norm == "linf" else np.sqrt(_dots(A, A)) + _FLAT

    def rows(self, chosen: slice) -> Balls:
        return Balls(self.centre[chosen], self.radius[chosen], self.norm)


def inputs_of(region: Region, n_inputs: int, norm: str) -> Inputs:
    """A region as a batch of one."""
    if isinstance(region, Box):
        return Boxes(region.lower[None], region.upper[None])
    if isinstance(region, Ball):
        return Balls(region.centre[None], np.array([region.radius]), norm)
    return Boxes(np.full((1, n_inputs), -np.inf), np.full((1, n_inputs), np.inf))


def limits(
    network: Network, inputs: Inputs, sides: Sides | None = None, known: Sequence[Ends] | None = None
) -> list[Ends]:
    """Limits of the pre-activations of every hidden layer, each (N, n_k), for every region of a batch.

    Infinite where nothing is known. ``sides``, (n_k,) or (N, n_k), confines the inputs further, to those at which units
    are on a side; ``known`` is what is known before, limits (N, n_k) of every hidden layer.
    """
    found = list(_each(network, inputs, sides, upto=network.depth, known=known))
    return [Ends(*(np.concatenate(ends) for ends in zip(*((e.left, e.right) for e in part)))) for part in zip(*found)]


def output_limits(network: Network, inputs: Inputs, pairs: Sequence[tuple[int, int]] | None = None) -> Ends:
    """Limits of the outputs, (N, m), for every region of a batch; with ``pairs`` those of ``f_i − f_j``, (N, p)."""
    if pairs is not None:
        *hidden, last = network.layers
        network = network.from_layers([*hidden, _differences(last, pairs)], network.units)
    parts = _each(network, inputs, None, upto=network.depth + 1)
    found = [part[-1] if pairs is None else _with_lost(network.layers, *part[-2:]) for part in parts]
    return Ends(np.concatenate([e.left for e in found]), np.concatenate([e.right for e in found]))


def _differences(last: Layer, pairs: Sequence[tuple[int, int]]) -> Layer:
    """``f_i − f_j``, every weight and bias rounded once."""
    first, second = np.array(pairs, dtype=np.intp).T
    V, c = last.operator.matrix, last.bias
    with np.errstate(over="ignore"):  # what is infinite says nothing
        return replace(last, operator=Dense(V[first] - V[second]), bias=c[first] - c[second])


def _with_lost(layers: Sequence[Layer], z: Ends, ends: Ends) -> Ends:
    """Limits of differences with the rounding of their weights on top; z are the last pre-activations."""
    with np.errstate(all="ignore"):
        size = layers[-1].operator.absolute(_activated(layers[-2], z).size) + np.abs(layers[-1].bias)
        lost = 4.0 * U * (size + np.abs(ends.left) + np.abs(ends.right)) + _MINUTE
        return _known(Ends(ends.left - lost, ends.right + lost))


def highest(network: Network, inputs: Inputs, known: Sequence[Ends], weights: Sequence[Float]) -> Float:
    """At least ``max Σ_k y_k · z_k``, (N,), over each region, where pre-activations z_k lie within ``known``.

    ``weights`` are y_k (N, n_k) of the first hidden layers, one or more. NaN or infinite where nothing is known.
    """
    seen, values = [], inputs.ends
    with np.errstate(all="ignore"):
        for k, (layer, ends) in enumerate(zip(network.layers[: len(weights)], known)):
            seen.append(_Seen.of(layer, values, ends))
            values = _activated(layer, ends) if k + 1 < len(weights) else values
        last, none = network.layers[len(weights) - 1], np.zeros_like(weights[-1])
        return _backward(last, none, np.arange(len(inputs)), seen, inputs, inputs.ends.size, more=weights)


def _each(
    network: Network, inputs: Inputs, sides: Sides | None, upto: int, known: Sequence[Ends] | None = None
) -> Iterator[list[Ends]]:
    """The limits of the first ``upto`` layers, of some regions at a time."""
    some = max(1, _ENTRIES // max(network.widths))
    for at in range(0, len(inputs), some):
        rows = slice(at, at + some)
        here = None if sides is None else [side if side.ndim == 1 else side[rows] for side in sides]
        before = None if known is None else [ends.rows(rows) for ends in known]
        with np.errstate(all="ignore"):  # what overflows is infinite or NaN, and says nothing
            yield _limits(network.layers[:upto], inputs.rows(rows), here, before)


def _limits(
    layers: Sequence[Layer], inputs: Inputs, sides: Sides | None, known: Sequence[Ends] | None = None
) -> list[Ends]:
    found: list[Ends] = []
    seen: list[_Seen] = []
    values = inputs.ends
    for k, layer in enumerate(layers):
        ends = _mapped(layer, values)
        if known is not None and k < len(known):
            ends = ends.meet(known[k])
        ends = ends.meet(_relaxed(layer, seen, inputs, ends))
        if sides is not None and k < len(sides):
            ends = ends.on_side(sides[k])
        found.append(ends)
        if k + 1 < len(layers):
            below, values = values, _activated(layer, ends)
            seen.append(_Seen.of(layer, below, ends))
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
    rounded = doubt > 0.0
    if not rounded.all():  # all products of what moves may have underflowed; where nothing does, the bias is the value
        rounded |= sizes(((middle != 0.0) | (reach > 0.0)).astype(np.float64)) > 0.0
    doubt = SAFETY * doubt + np.where(rounded, _MINUTE, 0.0)
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
    doubt = doubt + _DOUBT * phi.kink_doubt * phi.slopes[1]  # of α z + β, which is rounded as β is
    exact = (phi.name == "relu") & (s >= 0.0)
    left, right = np.where(exact, at_l, left - doubt), np.where(exact, at_u, right + doubt)
    if phi.name == "leaky_relu" and phi.parameters[0] <= 0.0:  # convex, least at zero
        left, right = np.maximum(left, 0.0), np.minimum(right, np.maximum(at_l, at_u) + doubt)
    if layer.carried:
        left = np.concatenate([left, z.left[..., n:]], axis=-1)
        right = np.concatenate([right, z.right[..., n:]], axis=-1)
    return _known(Ends(left, right))


def _value(layer: Layer, z: Float) -> Float:
    """φ, its limit far out."""
    far = float(np.finfo(np.float64).max)
    value = layer.activation(np.clip(z, -far, far))
    # an infinite end has an infinite value unless the activation is flat there
    steep = value != layer.activation(np.clip(z, -0.5 * far, 0.5 * far))
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

    def rows(self, at: NDArray[np.intp]) -> _Lines:
        return _Lines(self.low[at], self.under[at], self.high[at], self.over[at])


@dataclass(frozen=True, eq=False)
class _Seen:
    """A layer with the lines of its activation, and the sizes (N, n) of what makes up its pre-activations."""

    layer: Layer
    lines: _Lines
    sizes: Float

    @classmethod
    def of(cls, layer: Layer, x: Ends, z: Ends) -> _Seen:
        """Of limits of its inputs and pre-activations."""
        return cls(layer, _lines(layer, z), z.size + layer.operator.absolute(x.size) + np.abs(layer.bias))


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
    over = over + _DOUBT * (1.0 + abs(alpha)) * (np.abs(lo) + np.abs(hi)) + _MINUTE
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
    if not seen:
        return inputs.first(layer, known)
    at, units = np.nonzero(_wanted(layer, seen, inputs, known))
    left, right = known.left.copy(), known.right.copy()
    some = max(1, _ROWS // max(below.layer.operator.n_outputs for below in seen))
    far = inputs.ends.size
    for k in range(0, len(at), some):
        i, j = at[k : k + some], units[k : k + some]
        rows, bias = _rows_of(layer.operator, j), layer.bias[j]
        up = bias + _backward(layer, rows, i, seen, inputs, far)
        down = bias - _backward(layer, -rows, i, seen, inputs, far)
        room = 4.0 * U * (np.abs(bias) + np.abs(up) + np.abs(down)) + _MINUTE
        right[i, j], left[i, j] = up + room, down - room
    return _known(Ends(left, right))


def _wanted(layer: Layer, seen: Sequence[_Seen], inputs: Inputs, known: Ends) -> NDArray[np.bool_]:
    """Of what units in what regions (N, n) lines may say more than intervals."""
    # at a point they say the same, and without limits there are no lines to be drawn
    ends = inputs.ends
    wanted = known.finite & (ends.left < ends.right).any(axis=1)
    units = np.broadcast_to(wanted[:, None], known.left.shape)
    sizes = [below.layer.operator.n_inputs * below.layer.operator.n_outputs for below in seen]
    if layer.activation.name in ("relu", "leaky_relu") and layer.operator.n_outputs * sum(sizes) > _WORK:
        # of a unit that is on one side the rest of the limits is of less use than it costs
        undecided = (known.left < 0.0) & (known.right > 0.0)
        undecided[:, layer.n_bending :] = True
        units = units & undecided
    return units


def _rows_of(operator: LinearOperator, units: NDArray[np.intp]) -> Float:
    """Rows of the matrix."""
    if isinstance(operator, Dense):
        return np.asarray(operator.matrix[units])
    different, place = np.unique(units, return_inverse=True)
    chosen = np.zeros((len(different), operator.n_outputs))
    chosen[np.arange(len(different)), different] = 1.0
    return operator.adjoint(chosen)[place]


def _backward(
    layer: Layer,
    A: Float,
    at: NDArray[np.intp],
    seen: Sequence[_Seen],
    inputs: Inputs,
    far: Float,
    more: Sequence[Float] | None = None,
) -> Float:
    """At least ``max a x`` over the values x that the layer takes, (R,), for rows a of A in the regions ``at`` (R,).

    ``far`` (N, d) are at least the sizes of the inputs; ``more`` are combinations (R, n_k) of the pre-activations of
    the layers below that are added.
    """
    total = np.zeros(len(A))
    spent = np.zeros(len(A))  # sizes of all that is summed up
    minute = np.full(len(A), _MINUTE)
    terms = layer.operator.terms
    for k, below in reversed(list(enumerate(seen))):
        lines, sizes, operator = below.lines.rows(at), below.sizes[at], below.layer.operator
        up, down = np.maximum(A, 0.0), np.minimum(A, 0.0)
        total += _dots(up, lines.over) + _dots(down, lines.under)
        spent += _dots(up, np.abs(lines.over)) - _dots(down, np.abs(lines.under))
        up *= lines.high
        down *= lines.low
        bent = up + down
        P = bent if more is None else bent + more[k]
        total += P @ below.layer.bias
        # what cancels has been rounded before
        spent += _dots(np.abs(P) if more is None else np.abs(bent) + np.abs(more[k]), sizes)
        minute += _MINUTE * sizes.sum(axis=-1)
        A = operator.adjoint(P)
        terms = max(terms, operator.terms, P.shape[-1], A.shape[-1])
    far = far[at]
    spent += _dots(np.abs(A), far)
    charge = gamma(terms + 4 * len(seen) + 32) * SAFETY
    minute += _MINUTE * far.sum(axis=-1)
    return np.asarray(total + inputs.most(A, at) + charge * (spent + np.abs(total)) + minute)


def _dots(A: Float, x: Float) -> Float:
    """Products of the rows of two arrays of one shape."""
    return np.asarray(np.einsum("ij,ij->i", A, x))
