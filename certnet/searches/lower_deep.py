r"""Points where a network is steep, of several layers or with other activations than ReLU: search in floating point.

The slope of ``uᵀ f`` at x, u a unit vector of outputs, is a forward and a backward pass, whatever the number of
outputs; along the gradient's direction v a tangent pass gives ``J v``, which is the better u. A population of points
moves by random steps whose lengths are inherited with the points, by what successful steps have in common, and, where
there are many inputs, along the gradient of a smoothed slope: with ``z`` the pre-activations, b the backward and t the
tangent pass at them,

    ∂/∂x uᵀ J v = Σ_k J_kᵀ (b_k ∘ t_k ∘ φ''(z_k)),    φ''(z) ≈ (φ'(z + τ) − φ'(z − τ)) / 2τ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.claims.region import Ball, Box
from certnet.core.validation import Float
from certnet.networks.layers import Dense, Layer
from certnet.networks.network import Network
from certnet.proofs.regions import contains

__all__ = ["FEW_INPUTS", "steep_points", "steep_points_in", "unit_rows"]

_WORK: Final = 1.0e9  # weights times points
_POINTS: Final = (1500, 20_000)  # points whatever the work
_CHILDREN: Final = 8  # of a point, per round
_STARTS: Final = (0.05, 0.25)  # share of the points; smooth slopes rise to the nearest peak, and need more
_ROUNDS: Final = (45, 30)  # with few inputs, with many
_CLIMBING: Final = 3  # of them along each of two ascents
_KEPT: Final = 2  # children that may follow their parent
_ALIKE: Final = 2  # points of one slope that are kept
_CHUNK: Final = 512  # points at a time: what stays in the cache
FEW_INPUTS: Final = 32
_BEST: Final = 12  # points that are handed back

Inside = Callable[[Float], Float]
"""Moves the rows of a batch into the region."""


def steep_points(
    network: Network, data: Float | None, rng: np.random.Generator, *, norm: str = "l2", effort: float = 1.0
) -> list[Float]:
    """Points of steep gradients, steepest first: from points of several scales and the data, moved together.

    Parameters
    ----------
    network : Network
        With values.
    data : ndarray, shape (N, d), or None
    rng : Generator
    norm : {"l2", "linf"}
        Norm of the inputs; the gradient is measured in its dual norm.
    effort : float
        Times the usual number of points tried.
    """
    centre = _where_units_bend(network) if data is None or not len(data) else data.mean(axis=0)

    def found(passes: _Passes, size: _Size) -> list[Float]:
        starts = _starts(passes, size.n_starts, rng)
        if data is not None:
            starts = np.vstack([starts, data[rng.permutation(len(data))[: 4 * size.n_starts]] - centre])
        reach = 0.5 * np.linalg.norm(starts, axis=1)
        return _searched(passes, starts, reach, size, lambda X: X, rng)

    return _in_either_precision(network, centre, norm, effort, found)


def steep_points_in(
    network: Network,
    region: Ball | Box,
    data: Float | None,
    rng: np.random.Generator,
    *,
    norm: str = "l2",
    effort: float = 1.0,
) -> list[Float]:
    """Points of the region, steepest first; as :func:`steep_points`, moved back into the region after every step."""
    space = _Around(network, region, norm)

    def found(passes: _Passes, size: _Size) -> list[Float]:
        starts, reach = space.starts(passes, size.n_starts, rng)
        if data is not None:
            rows = data[[contains(region, x, norm) for x in data]] - space.centre
            rows = rows[rng.permutation(len(rows))[: 4 * size.n_starts]]
            starts, reach = np.vstack([starts, rows]), np.append(reach, np.full(len(rows), np.median(reach)))
        return _searched(passes, space.inside(starts), reach, size, space.inside, rng)

    points = _in_either_precision(network, space.centre, norm, effort, found)
    return [x for x in map(space.settled, [*points, space.centre]) if contains(region, x, norm)]


class _Around:
    """A region in coordinates about its centre: where to start, and the way back into it."""

    def __init__(self, network: Network, region: Ball | Box, norm: str) -> None:
        self._region, self._norm = region, norm
        if isinstance(region, Ball):
            self.centre = region.centre
            self._within = region.radius * (1.0 - 1e-6)
        else:
            # the middle; where a side is open, what is nearest to where units bend
            with np.errstate(invalid="ignore", over="ignore"):
                middle, half = 0.5 * region.lower + 0.5 * region.upper, 0.5 * region.upper - 0.5 * region.lower
            self._closed = np.isfinite(half)
            usual = np.clip(_where_units_bend(network), region.lower, region.upper)
            self.centre = np.where(self._closed, middle, usual)
            self._half = np.where(self._closed, half, 0.0)

    def inside(self, X: Float) -> Float:
        """Rows moved into the region."""
        if isinstance(self._region, Box):
            return np.clip(X, self._region.lower - self.centre, self._region.upper - self.centre)
        if self._norm == "linf":
            return np.clip(X, -self._within, self._within)
        return X * np.minimum(1.0, self._within / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300))

    def settled(self, x: Float) -> Float:
        """A point of the original coordinates with no rounding beyond the sides of a box."""
        return np.clip(x, self._region.lower, self._region.upper) if isinstance(self._region, Box) else x

    def starts(self, passes: _Passes, n: int, rng: np.random.Generator) -> tuple[Float, Float]:
        """Points drawn in the region, half of them near its centre, and lengths of first steps."""
        d = len(self.centre)
        if isinstance(self._region, Ball):
            ball = self._norm == "l2"
            drawn = unit_rows(rng.standard_normal((n, d))) if ball else rng.uniform(-1.0, 1.0, (n, d))
            drawn = drawn * self._region.radius * rng.uniform(size=(n, 1)) ** (1.0 / d)
            length = 0.5 * self._region.radius * (1.0 if ball else np.sqrt(d))
        else:
            drawn = rng.uniform(-1.0, 1.0, (n, d)) * self._half
            length = 0.5 * float(np.linalg.norm(self._half))
            if not self._closed.all():
                usual = np.resize(_starts(passes, n, rng), (n, d))
                drawn[:, ~self._closed] = usual[:, ~self._closed]
                length += 0.5 * float(np.median(np.linalg.norm(usual[:, ~self._closed], axis=1)))
        near = drawn[1::2] * 10.0 ** rng.uniform(-2, 0, (n // 2, 1))
        found = np.vstack([np.zeros(d), drawn[::2], near])
        return found, np.full(len(found), length)


def unit_rows(directions: Float) -> Float:
    """Rows of Euclidean norm one; zero rows stay."""
    return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)


# ------------------------------------------------------------------------------------------------------------- passes


class _Passes:
    """Forward, backward and tangent passes of batches of points ``centre + X``; in single precision if asked for."""

    def __init__(self, network: Network, centre: Float, norm: str, *, single: bool) -> None:
        self.centre, self.norm, self.n_outputs, self.n_inputs = centre, norm, network.n_outputs, network.n_inputs
        first = network.layers[0]
        shifted = replace(first, bias=first.preactivations(centre[None])[0])
        layers = [shifted, *network.layers[1:]]
        *self.hidden, last = [_single(layer) for layer in layers] if single else layers
        self.last = last.operator
        # with few inputs, random directions are as good as gradients of a slope that has steps
        self.climbs = network.n_inputs > FEW_INPUTS or any(phi.smooth for phi in network.activations)
        self._type = np.float32 if single else np.float64

    def sizes(self, X: Float, U: Float) -> Float:
        """``‖∇(uᵀ f)‖`` in the dual norm at every row, u the rows of U; −1 where it is not a finite number."""
        parts = [self._sizes(X[k : k + _CHUNK], U[k : k + _CHUNK]) for k in range(0, len(X), _CHUNK)]
        return np.concatenate([np.zeros(0), *parts])

    def _sizes(self, X: Float, U: Float) -> Float:
        size = self.measured(self.backward(self.slopes(X.astype(self._type))[1], U.astype(self._type))[0])
        return np.nan_to_num(size, nan=-1.0, posinf=-1.0)

    def measured(self, g: Float) -> Float:
        """Dual norms of the rows."""
        if self.norm == "linf":
            return np.abs(g).sum(axis=1, dtype=np.float64)
        return np.sqrt(np.einsum("ij,ij->i", g, g, dtype=np.float64))

    def slopes(self, X: Float) -> tuple[list[Float], list[Float]]:
        """Pre-activations and slopes of the hidden layers."""
        zs, slopes, x = [], [], X
        for layer in self.hidden:
            z = layer.preactivations(x)
            x = layer.activated(z)
            zs.append(z)
            slopes.append(_slope(layer, z))
        return zs, slopes

    def backward(self, slopes: list[Float], U: Float, sources: list[Float] | None = None) -> tuple[Float, list[Float]]:
        """``Jᵀ u``, and what arrives at the hidden layers; with sources c_k at the pre-activations, ``Σ J_kᵀ c_k``."""
        h = self.last.adjoint(U)
        arriving: list[Float] = []
        for k in reversed(range(len(self.hidden))):
            arriving.insert(0, h)
            q = h * slopes[k] if sources is None else h * slopes[k] + sources[k]
            h = self.hidden[k].operator.adjoint(q)
        return h, arriving

    def tangents(self, slopes: list[Float], V: Float) -> tuple[Float, list[Float]]:
        """``J v``, and the derivatives of the pre-activations along v."""
        t, along = V, []
        for layer, slope in zip(self.hidden, slopes):
            along.append(layer.operator(t))
            t = along[-1] * slope
        return self.last(t), along

    def turned(self, X: Float, U: Float) -> Float:
        """Better u: the directions of J v, for v along the gradient of uᵀ f."""
        if self.n_outputs == 1:
            return U
        _, slopes = self.slopes(X.astype(self._type))
        g, _ = self.backward(slopes, U.astype(self._type))
        return self._or_else(self.tangents(slopes, self._steepest(g))[0], U)

    def _steepest(self, g: Float) -> Float:
        """Where the gradient's dual norm is attained."""
        return np.sign(g) if self.norm == "linf" else unit_rows(g).astype(self._type)

    def ascents(self, X: Float, U: Float, widths: Float) -> tuple[Float, Float]:
        """Better u, and unit directions (N, len(widths), d) in which the slope grows, for relative widths τ."""
        zs, slopes = self.slopes(X.astype(self._type))
        g, arriving = self.backward(slopes, U.astype(self._type))
        out, along = self.tangents(slopes, self._steepest(g))
        # all widths in one backward pass
        layers = zip(self.hidden, zs, arriving, along)
        sources = [np.concatenate([b * t * _bending(layer, z, tau) for tau in widths]) for layer, z, b, t in layers]
        many = [np.concatenate([slope] * len(widths)) for slope in slopes]
        P = self.backward(many, np.zeros((len(many[0]), self.n_outputs), self._type), sources)[0]
        P = np.nan_to_num(P.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        P = unit_rows(P / np.maximum(np.abs(P).max(axis=1, keepdims=True), 1e-300))
        return self._or_else(out, U), np.swapaxes(P.reshape(len(widths), len(X), -1), 0, 1)

    def units(self, X: Float, k: int, unit: NDArray[np.int64]) -> tuple[Float, Float]:
        """Of one unit of layer k per point: its pre-activation (N,), and the gradient of that (N, d)."""
        zs, slopes = self.slopes(X.astype(self._type))
        sources, every = [np.zeros_like(z) for z in zs], np.arange(len(X))
        sources[k][every, unit] = 1.0
        a = self.backward(slopes, np.zeros((len(X), self.n_outputs), self._type), sources)[0]
        return zs[k][every, unit].astype(np.float64), a.astype(np.float64)

    def _or_else(self, out: Float, U: Float) -> Float:
        """Unit rows along those of ``out``, of U where they are zero; ±1 for one output."""
        if self.n_outputs == 1:
            return U
        out = np.nan_to_num(out.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        out = unit_rows(out / np.maximum(np.abs(out).max(axis=1, keepdims=True), 1e-300))
        return np.where(out.any(axis=1, keepdims=True), out, U)


def _single(layer: Layer) -> Layer:
    """The layer in single precision, if its operator is a matrix."""
    if not isinstance(layer.operator, Dense):
        return layer
    matrix = Dense(np.asarray(layer.operator.matrix, dtype=np.float32))
    return replace(layer, operator=matrix, bias=layer.bias.astype(np.float32))


def _slope(layer: Layer, z: Float) -> Float:
    """φ'(z), in the precision of z; true and false say it of ReLU in a byte."""
    if layer.activation.name == "relu" and not layer.carried:
        return np.asarray(z >= 0.0)
    return layer.derivative(z).astype(z.dtype, copy=False)


def _bending(layer: Layer, z: Float, tau: float) -> Float:
    """φ'' of the activation, smoothed over τ times the usual size of z."""
    width = tau * np.sqrt(np.mean(z * z, axis=1, keepdims=True)) + np.finfo(z.dtype).tiny
    rise = _slope(layer, z + width).astype(z.dtype) - _slope(layer, z - width).astype(z.dtype)
    return np.asarray(rise / (2.0 * width))


# ------------------------------------------------------------------------------------------------------------- search


@dataclass(frozen=True)
class _Size:
    """How many points a search begins with and keeps."""

    n_starts: int
    n_kept: int

    @classmethod
    def of(cls, network: Network, effort: float) -> _Size:
        n_weights = sum(layer.operator.n_outputs * layer.operator.terms for layer in network.layers)
        points = effort * float(np.clip(_WORK / n_weights, *_POINTS))
        smooth = any(phi.smooth for phi in network.activations)
        share = _STARTS[smooth]
        return cls(
            max(16, int(share * points)), max(4, int(points / (_ROUNDS[0] * (_CHILDREN + 1) * (3 if smooth else 1))))
        )


def _in_either_precision(
    network: Network,
    centre: Float,
    norm: str,
    effort: float,
    found: Callable[[_Passes, _Size], list[Float]],
) -> list[Float]:
    """What is found in single precision, or in double where that finds no slope; ordered in double precision."""
    size = _Size.of(network, effort)
    double = _Passes(network, centre, norm, single=False)
    with np.errstate(all="ignore"):  # what overflows counts as no slope
        for passes in (_Passes(network, centre, norm, single=True), double):
            points = np.array(found(passes, size))
            U = np.full((len(points), network.n_outputs), network.n_outputs**-0.5)
            for _ in range(4):
                U = double.turned(points, U)
            sizes = double.sizes(points, U)
            if sizes.max() > 0.0:
                break
    return list(centre + points[np.argsort(-sizes, kind="stable")])


def _searched(
    passes: _Passes, X: Float, reach: Float, size: _Size, inside: Inside, rng: np.random.Generator
) -> list[Float]:
    """The best points of a population that starts from the best of X; ``reach`` (N,) are the lengths of first steps."""
    U = unit_rows(rng.standard_normal((len(X), passes.n_outputs))) if passes.n_outputs > 1 else np.ones((len(X), 1))
    U = passes.turned(X, U)
    sizes = passes.sizes(X, U)
    if sizes.max() <= 0.0:
        X = np.vstack([X, inside(_woken(passes, X, rng))])
        reach = np.append(reach, 0.1 * np.linalg.norm(X[len(reach) :], axis=1))
        U = np.resize(U, (len(X), passes.n_outputs))
        sizes = passes.sizes(X, U)
    people = _Population(X, U, sizes, reach, np.zeros_like(X)).best(size.n_kept)
    for _ in range(_ROUNDS[passes.n_inputs > FEW_INPUTS]):
        people = _next(passes, people, inside, rng)
    return list(people.best(_BEST).X)


@dataclass(frozen=True, eq=False)
class _Population:
    """Points X (N, d), their outputs U (N, m), sizes of gradients, lengths of steps, and the steps that led to X."""

    X: Float
    U: Float
    sizes: Float
    reach: Float
    step: Float

    def best(self, n: int) -> _Population:
        """The n steepest, of every slope a few: many points of one linear piece are as good as one."""
        order = np.argsort(-self.sizes, kind="stable")
        ordered = self.sizes[order]
        first = np.append(True, ordered[1:] < ordered[:-1] * (1.0 - 1e-6))
        every = np.arange(len(order))
        again = every - np.maximum.accumulate(np.where(first, every, 0))
        return self.chosen(order[np.argsort(again >= _ALIKE, kind="stable")][:n])

    def chosen(self, rows: NDArray[np.intp]) -> _Population:
        return _Population(self.X[rows], self.U[rows], self.sizes[rows], self.reach[rows], self.step[rows])

    def and_(self, *others: _Population) -> _Population:
        everyone = [self, *others]
        return _Population(
            np.concatenate([p.X for p in everyone]),
            np.concatenate([p.U for p in everyone]),
            np.concatenate([p.sizes for p in everyone]),
            np.concatenate([p.reach for p in everyone]),
            np.concatenate([p.step for p in everyone]),
        )


def _next(passes: _Passes, people: _Population, inside: Inside, rng: np.random.Generator) -> _Population:
    """The best of the points, of their children, and of what the best children have in common."""
    n, d = people.X.shape
    U, steps, lengths = _steps(passes, people, rng)
    children = inside((people.X[:, None, :] + steps).reshape(-1, d))
    many = np.repeat(U, _CHILDREN, axis=0)
    sizes = passes.sizes(children, many)
    order = np.argsort(-sizes.reshape(n, _CHILDREN), axis=1, kind="stable")
    rows = (np.arange(n)[:, None] * _CHILDREN + order[:, :_KEPT]).ravel()
    born = _Population(children, many, sizes, lengths.ravel(), steps.reshape(-1, d)).chosen(rows)
    # half as far again as the mean of the best steps
    common = 1.5 * np.mean(steps[np.arange(n)[:, None], order[:, : _CHILDREN // 4]], axis=1)
    further = inside(people.X + common)
    led = _Population(further, U, passes.sizes(further, U), people.reach, common)
    here = people.sizes if U is people.U else np.maximum(people.sizes, passes.sizes(people.X, U))
    stayed = _Population(people.X, U, here, 0.85 * people.reach, 0.5 * people.step)
    return stayed.and_(born, led).best(n)


def _steps(passes: _Passes, people: _Population, rng: np.random.Generator) -> tuple[Float, Float, Float]:
    """Better u, steps (N, children, d), and their lengths (N, children)."""
    n, d = people.X.shape
    lengths = people.reach[:, None] * 2.0 ** rng.uniform(-0.5, 1.0, (n, _CHILDREN))
    if not passes.climbs:
        drawn = rng.standard_normal((n, _CHILDREN, d), dtype=np.float32) / np.sqrt(d)
        along = rng.uniform(size=(n, _CHILDREN, 1)) * people.step[:, None, :]
        return passes.turned(people.X, people.U), lengths[:, :, None] * drawn + along, lengths
    U, ascents = passes.ascents(people.X, people.U, 10.0 ** rng.uniform(-2.0, 0.0, 2))
    drawn = rng.standard_normal((n, _CHILDREN - 2 * _CLIMBING, d), dtype=np.float32) / np.sqrt(d)
    return U, lengths[:, :, None] * np.concatenate([np.repeat(ascents, _CLIMBING, axis=1), drawn], axis=1), lengths


# ------------------------------------------------------------------------------------------------------------- starts


def _usual(values: Float) -> float:
    """Their median over those that are positive and finite; 0 where none is."""
    values = values[(values > 0.0) & np.isfinite(values)]
    return float(np.median(values)) if len(values) else 0.0


def _row_sizes(layer: Layer) -> Float:
    """About the norms of the rows of the layer's operator."""
    probes = np.random.default_rng(0).standard_normal((32, layer.operator.n_inputs))
    return np.sqrt(np.mean(layer.operator(probes) ** 2, axis=0))


def _where_units_bend(network: Network) -> Float:
    """A point near the hyperplanes ``w_jᵀ x + b_j = 0`` of the first layer, by a few steps of conjugate gradients."""
    layer = network.layers[0]
    with np.errstate(all="ignore"):
        scale = 1.0 / _row_sizes(layer)
        scale = np.where(np.isfinite(scale), scale, 0.0)
        x = np.zeros((1, network.n_inputs))
        r = -layer.bias[None] * scale
        p = s = layer.operator.adjoint(r * scale)
        for _ in range(10):
            q = layer.operator(p) * scale
            alpha = np.sum(s * s) / np.sum(q * q)
            x, r = x + alpha * p, r - alpha * q
            before, s = np.sum(s * s), layer.operator.adjoint((r - 0.0) * scale)
            p = s + np.sum(s * s) / before * p
            if not (np.isfinite(x).all() and np.isfinite(p).all()):
                return np.zeros(network.n_inputs)
    return np.asarray(x[0])


def _starts(passes: _Passes, n: int, rng: np.random.Generator) -> Float:
    """Points around the centre and around zero, at the scales of the first layer and at those of ordinary inputs."""
    first = passes.hidden[0]
    rows = _row_sizes(first)
    scales = np.array([1.0, _usual(np.abs(first.bias) / rows), _usual(1.0 / rows)])
    scales = scales[scales > 0.0]
    drawn = rng.choice(scales, n) * 10.0 ** rng.uniform(-1.0, 3.0, n)
    points = drawn[:, None] * rng.standard_normal((n, passes.n_inputs))
    points[1::2] -= passes.centre
    return points


def _woken(passes: _Passes, X: Float, rng: np.random.Generator) -> Float:
    """Points moved, layer by layer, to where one of its units bends: where f is constant at all points of X.

    With ``a = ∂z_j/∂x`` Newton's step to the value v of z_j is ``(v − z_j) a / |a|²``. Every other point goes as far
    beyond a kink as a random share of the way there, the rest to a distance of about one: what smooth units need.
    """
    X, found, every = X[rng.permutation(len(X))[:64]], [], np.arange(min(64, len(X)))
    for sweep in range(9):
        if sweep % 3 == 0:  # three steps to the same units
            units = [rng.integers(layer.n_bending, size=len(X)) for layer in passes.hidden]
            values = [rng.choice([0.0, *layer.activation.kinks()], len(X)) for layer in passes.hidden]
            share, off = 10.0 ** rng.uniform(-3.0, 1.0, len(X)), rng.standard_normal(len(X))
        for k in range(len(passes.hidden)):
            z, a = passes.units(X, k, units[k])
            gap = values[k] - z
            gap = np.where(every % 2 == 0, gap * (1.0 + share), gap + off)
            step = (gap / np.einsum("ij,ij->i", a, a))[:, None] * a
            X = X + np.where(np.isfinite(step).all(axis=1, keepdims=True), step, 0.0)
            found.append(X)
    return np.vstack(found)
