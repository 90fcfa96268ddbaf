"""Limits of units against exact arithmetic: random networks with weights of all sizes, evaluated in rationals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judge import root_above

from certnet import Ball, Box, FeedForward
from certnet.claims.region import ALL, Region
from certnet.networks.activations import ACTIVATIONS, Activation
from certnet.networks.layers import Dense, Layer, read_only
from certnet.networks.operators import Blocks, Convolution, Diagonal, Gather, Identity, Sparse
from certnet.proofs.regions import slopes_within
from certnet.proofs.relaxation import Boxes, Ends, highest, inputs_of, limits, output_limits

Rng = np.random.Generator
Point = list[Fraction]
Array = Any

many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
some = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32 - 1)

RATIONAL = [
    Activation("relu"),
    Activation("leaky_relu"),
    Activation("leaky_relu", (-0.5,)),
    Activation("leaky_relu", (3.0,)),
    Activation("leaky_relu", (-1e10,)),
    Activation("leaky_relu", (1e10,)),
    Activation("leaky_relu", (1e-300,)),
    Activation("identity"),
    Activation("relu6"),
    Activation("hardtanh", (-0.25, 1e-3)),
    Activation("hard_sigmoid"),
    Activation("hard_sigmoid", (1e6, 1e6)),
    Activation("hard_sigmoid", (1e-6, -7.0)),
    Activation("hard_sigmoid", (0.0, 0.3)),
    Activation("hard_swish"),
    Activation("softsign"),
]
BEND = [Activation("relu"), Activation("leaky_relu", (0.1,)), Activation("leaky_relu", (-0.5,))]


def clip(z: Fraction, low: float, high: float) -> Fraction:
    return min(max(z, Fraction(low)), Fraction(high))


def value(phi: Activation, z: Fraction) -> Fraction:
    """φ(z), exactly."""
    p = [Fraction(a) for a in phi.parameters]
    if phi.name == "hard_sigmoid":
        return clip(p[0] * z + p[1], 0.0, 1.0)
    if phi.name in ("relu6", "hardtanh"):
        return clip(z, *(phi.parameters or (0.0, 6.0)))
    if phi.name == "hard_swish":
        return z * clip(z + 3, 0.0, 6.0) / 6
    if phi.name == "softsign":
        return z / (1 + abs(z))
    left = {"relu": Fraction(0), "identity": Fraction(1)}.get(phi.name, p[0] if p else Fraction(0))
    return z if z >= 0 else left * z


def preactivations(net: FeedForward, x: Point, act: Any = value) -> list[Point]:
    """Those of all layers at x, exactly; of the last one the outputs."""
    found = []
    for layer in net.layers:
        rows, biases = layer.operator.matrix.tolist(), layer.bias.tolist()
        z = [sum((Fraction(a) * t for a, t in zip(row, x) if a), Fraction(b)) for row, b in zip(rows, biases)]
        found.append(z)
        x = [act(layer.activation, a) if j < layer.n_bending else a for j, a in enumerate(z)]
    return found


def points(region: Region, norm: str, rng: Rng, net: FeedForward, count: int) -> Iterator[Point]:
    """Corners, faces and insides of a box; of a ball the furthest points along weights, and any."""
    d = net.n_inputs
    for k in range(count):
        if isinstance(region, Box):
            low, high = ([Fraction(float(a)) for a in np.clip(end, -1e300, 1e300)] for end in region.limits)
            at = rng.integers(2, size=d) if k % 2 else rng.integers(9, size=d) / 8.0
            yield [a + Fraction(float(t)) * (b - a) for a, b, t in zip(low, high, at)]
        elif isinstance(region, Ball):
            centre, radius = [Fraction(a) for a in region.centre.tolist()], Fraction(region.radius)
            rows = net.layers[0].operator.matrix
            w = rows[rng.integers(len(rows))] * rng.choice([-1.0, 1.0]) if k % 2 else rng.standard_normal(d)
            way = [Fraction(a) for a in w.tolist()]
            size = root_above(sum(a * a for a in way)) if norm == "l2" else max(map(abs, way))
            way = [a / size for a in way] if size else way
            if norm == "linf" and k % 2:
                way = [Fraction(int(np.sign(a))) for a in w.tolist()]
            part = Fraction(1) if k % 3 else Fraction(float(rng.uniform()))
            yield [a + part * radius * t for a, t in zip(centre, way)]


def holds(ends: Ends, z: Point, row: int = 0) -> bool:
    sides = zip(ends.left[row].tolist(), z, ends.right[row].tolist())
    return all(
        (left == -np.inf or Fraction(left) <= a) and (right == np.inf or a <= Fraction(right))
        for left, a, right in sides
    )


def wild(rng: Rng, shape: tuple[int, ...], reach: int) -> Array:
    """Numbers of sizes 2^±reach, whole rows and columns of one size, zeros among them."""
    A = rng.standard_normal(shape)
    way = int(rng.integers(4))
    if way == 0:
        A = np.ldexp(A, rng.integers(-reach, reach + 1, shape))
    elif way == 1 and len(shape) == 2:
        A = np.ldexp(A, rng.integers(-reach, reach + 1, (shape[0], 1)) + rng.integers(-reach, reach + 1, (1, shape[1])))
    elif way == 2:
        A = np.ldexp(np.round(4.0 * A), int(rng.integers(-reach, reach + 1)))
    return np.where(rng.random(shape) < 0.15, 0.0, A)


def network(rng: Rng, phis: Sequence[Activation], *, depth: int = 3, most: int = 4, reach: int = 0) -> FeedForward:
    widths = [int(n) for n in rng.integers(1, most + 1, size=int(rng.integers(2, depth + 2)) + 1)]
    Ws = [wild(rng, (n, m), reach) for m, n in itertools.pairwise(widths)]
    bs = [wild(rng, (n,), reach) for n in widths[1:]]
    return FeedForward(Ws, bs, [phis[int(rng.integers(len(phis)))] for _ in Ws[1:]])


def region(rng: Rng, d: int, reach: int) -> tuple[Region, str]:
    """A box or a ball: somewhere, far away with a thin width, of width zero or of a few units in the last place."""
    centre = wild(rng, (d,), reach) * float(rng.choice([1.0, 1.0, 1e12]))
    width = np.abs(wild(rng, (d,), reach)) * float(rng.choice([0.0, 1e-12, 1e-3, 1.0, 100.0]))
    norm = str(rng.choice(["l2", "linf"]))
    if rng.random() < 0.5:
        return Ball(centre, float(width.max())), norm
    low, high = centre - width, centre + width
    if rng.random() < 0.2:
        high = np.nextafter(low, np.inf)
    return Box(np.minimum(low, high), high), norm


def assert_holds(net: FeedForward, where: Region, norm: str, rng: Rng, count: int = 12) -> None:
    inputs = inputs_of(where, net.n_inputs, norm)
    found = [*limits(net, inputs), output_limits(net, inputs)]
    for x in points(where, norm, rng, net, count):
        for k, (ends, z) in enumerate(zip(found, preactivations(net, x))):
            assert holds(ends, z), (k, ends, [float(a) for a in z], [float(a) for a in x])


# ------------------------------------------------------------------------------------------------------- limits hold


@many
@given(seed=seeds, reach=st.sampled_from([0, 0, 3, 40, 250, 500]))
def test_limits_hold_exactly(seed: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    net = network(rng, RATIONAL if rng.random() < 0.5 else BEND, reach=reach)
    assert_holds(net, *region(rng, net.n_inputs, reach), rng)


@pytest.mark.parametrize("phi", RATIONAL, ids=str)
def test_limits_hold_of_every_activation_where_boxes_are_thin(phi: Activation) -> None:
    """About values that units take near their kinks, where a limit is a value and its rounding."""
    rng = np.random.default_rng(3)
    for _ in range(40):
        kink = float(rng.choice([*phi.kinks(), 0.0]))
        w, b = float(rng.standard_normal()), float(rng.standard_normal())
        v = [[float(rng.standard_normal())]]
        net = FeedForward([[[w]], v, [[1.0]]], [[b], rng.standard_normal(1), [0.0]], [phi, BEND[0]])
        x = (kink - b) / w + float(rng.choice([0.0, 1e-15, -1e-9, 1e-3]))
        width = abs(x) * float(rng.choice([0.0, 1e-16, 1e-12, 1e-6])) + float(rng.choice([0.0, 5e-324, 1e-9]))
        assert_holds(net, Box([x - width], [x + width]), "l2", rng)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in {phi.name for phi in RATIONAL}])
def test_limits_hold_of_smooth_activations(name: str) -> None:
    pytest.importorskip("mpmath")
    from test_activation_proofs import PHIS, mp
    from test_activation_proofs import value as smooth

    def act(phi: Activation, z: Fraction) -> Fraction:
        y = smooth(phi, mp.mpf(z.numerator) / z.denominator)
        if abs(y) < mp.mpf(2) ** -2000:  # far less than what is charged for underflow
            return Fraction(0)
        return (-1 if y < 0 else 1) * Fraction(int(y.man)) * Fraction(2) ** int(y.exp)

    rng = np.random.default_rng(7)
    for phi in [phi for phi in PHIS if phi.name == name]:
        for k in range(25):
            net = network(rng, [phi], depth=2, most=3, reach=int(rng.choice([0, 0, 3, 6])))
            where, norm = region(rng, net.n_inputs, 2)
            if k % 3 == 0:  # so thin that a limit is the value and its rounding
                x = rng.standard_normal(net.n_inputs) * 10.0 ** rng.uniform(-3, 2)
                where = Box(x, x + np.abs(x) * float(rng.choice([0.0, 1e-15, 1e-9])))
            inputs = inputs_of(where, net.n_inputs, norm)
            found = [*limits(net, inputs), output_limits(net, inputs)]
            for x in points(where, norm, rng, net, 5):
                for ends, z in zip(found, preactivations(net, x, act)):
                    # mpmath's digits end after 60
                    loose = [a * (1 - Fraction(1, 10**40)) for a in z], [a * (1 + Fraction(1, 10**40)) for a in z]
                    assert holds(ends, loose[0]) or holds(ends, loose[1]), (phi, ends, list(map(float, z)))


def structured(rng: Rng) -> FeedForward:
    """A convolution that sees its padding, in groups, a selection with copies, a sparse matrix, units carried on."""
    first = Convolution(rng.standard_normal((2, 1, 2, 2)), (1, 2, 2), padding=((1, 0), (0, 0)))
    second = Convolution(rng.standard_normal((2, 1, 2, 1)), (2, 2, 1), groups=2)
    pick = Gather(np.array([1, 0, 1, -1]), 2)
    beside = Blocks(((Dense(read_only(rng.standard_normal((2, 4)))),), (Identity(4),)))
    after = Blocks(((Dense(read_only(rng.standard_normal((4, 2)))), Diagonal(rng.standard_normal(4))),))
    last = Sparse(np.array([0, 0, 1]), np.array([0, 2, 1]), rng.standard_normal(3), 2, 4)
    phi = BEND[int(rng.integers(3))]
    biases = [0.3 * rng.standard_normal(n) for n in (4, 2, 6, 4, 2)]
    line = Activation("identity")
    return FeedForward.chain(
        [
            Layer(first, biases[0], phi),
            Layer(second, biases[1], phi),
            Layer(pick, np.zeros(4), line),
            Layer(beside, biases[2], phi, 4),
            Layer(after, biases[3], line),
            Layer(last, biases[4], line),
        ]
    )


@some
@given(seed=seeds)
def test_limits_hold_of_convolutions_and_skips(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = structured(rng)
    assert_holds(net, *region(rng, net.n_inputs, int(rng.choice([0, 5]))), rng, count=8)


@some
@given(seed=seeds)
def test_sides_that_are_given_confine_no_more_than_they_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = network(rng, BEND, reach=int(rng.choice([0, 0, 30])))
    where, norm = region(rng, net.n_inputs, 0)
    inputs = inputs_of(where, net.n_inputs, norm)
    for x in points(where, norm, rng, net, 5):
        z = preactivations(net, x)[:-1]
        known = [[int((a > 0) - (a < 0)) * int(rng.integers(2)) for a in row] for row in z]
        for ends, row in zip(limits(net, inputs, [np.array(side, dtype=np.int8) for side in known]), z):
            assert holds(ends, row)


@many
@given(seed=seeds)
def test_combinations_of_units_of_several_layers_stay_below_their_highest(seed: int) -> None:
    """Some of them cancel, as where one layer's values are taken off what the next makes of them."""
    rng = np.random.default_rng(seed)
    net = network(rng, BEND, reach=int(rng.choice([0, 0, 30])))
    where, norm = region(rng, net.n_inputs, 0)
    inputs = inputs_of(where, net.n_inputs, norm)
    known = limits(net, inputs)
    y = [wild(rng, (1, n), 3) for n in net.widths[1 : 1 + int(rng.integers(1, net.depth + 1))]]
    if len(y) > 1 and rng.random() < 0.5:
        y[-2] = -y[-1] @ net.weights[len(y) - 1]  # z_k − W φ(z_{k−1}) where units are on
    (most,) = highest(net, inputs, known, y).tolist()
    if np.isfinite(most):
        for x in points(where, norm, rng, net, 12):
            z = preactivations(net, x)
            total = sum(
                (Fraction(a) * b for part, row in zip(y, z) for a, b in zip(part[0].tolist(), row)), Fraction(0)
            )
            assert total <= Fraction(most)


@some
@given(seed=seeds)
def test_limits_that_are_infinite_say_nothing_false(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = network(rng, RATIONAL)
    where, _ = region(rng, net.n_inputs, 0)
    if isinstance(where, Ball):
        where = Box(where.centre - where.radius, where.centre + where.radius)
    low, high = where.lower.copy(), where.upper.copy()
    low[rng.random(len(low)) < 0.4] = -np.inf
    high[rng.random(len(high)) < 0.4] = np.inf
    assert_holds(net, Box(low, high), "l2", rng)


@some
@given(seed=seeds)
def test_regions_in_a_batch_are_those_alone(seed: int) -> None:
    """Up to rounding: sums may be formed in another order, and units that are decided are not looked at again alone."""
    rng = np.random.default_rng(seed)
    net = network(rng, BEND)
    low = rng.standard_normal((5, net.n_inputs))
    high = low + rng.uniform(0.0, 2.0, low.shape)
    together = output_limits(net, Boxes(low, high))
    for i in range(5):
        alone = output_limits(net, Boxes(low[i : i + 1], high[i : i + 1]))
        size = 1e-12 * (1.0 + alone.size[0])
        assert (alone.left[0] <= together.left[i] + size).all()
        assert (alone.right[0] >= together.right[i] - size).all()


# ------------------------------------------------------------------------------------------------ how tight they are


def exact_intervals(net: FeedForward, where: Box) -> list[list[tuple[Fraction, Fraction]]]:
    """Interval arithmetic in rationals, of activations that do not fall or are convex with one kink at zero."""
    x = [(Fraction(a), Fraction(b)) for a, b in zip(*where.limits)]
    found = []
    for layer in net.layers:
        z = []
        for row, b in zip(layer.operator.matrix.tolist(), layer.bias.tolist()):
            ends = [sorted((Fraction(a) * low, Fraction(a) * high)) for a, (low, high) in zip(row, x)]
            z.append((Fraction(b) + sum(e[0] for e in ends), Fraction(b) + sum(e[1] for e in ends)))
        found.append(z)
        x = []
        for low, high in z:
            ends = sorted((value(layer.activation, low), value(layer.activation, high)))
            x.append((min(ends[0], Fraction(0)) if low < 0 < high else ends[0], ends[1]))
    return found


@many
@given(seed=seeds)
def test_never_wider_than_intervals_and_the_range_itself_for_one_layer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = network(rng, BEND, reach=int(rng.choice([0, 0, 20])))
    low = rng.standard_normal(net.n_inputs)
    where = Box(low, low + rng.uniform(0.0, 2.0, net.n_inputs) * float(rng.choice([0.0, 1e-6, 1.0])))
    inputs = inputs_of(where, net.n_inputs, "l2")
    size = np.maximum(np.abs(where.lower), np.abs(where.upper))
    found = [*limits(net, inputs), output_limits(net, inputs)]
    for k, (layer, ends, z) in enumerate(zip(net.layers, found, exact_intervals(net, where))):
        size = layer.operator.absolute(size[None])[0] + np.abs(layer.bias)
        room = 1e-12 * size + 1e-200
        left, right = (np.array([float(e[i]) for e in z]) for i in (0, 1))
        assert (ends.left[0] >= left - room).all()
        assert (ends.right[0] <= right + room).all()
        if k == 0:
            assert (ends.left[0] <= left).all()
            assert (ends.right[0] >= right).all()


@some
@given(seed=seeds, norm=st.sampled_from(["l2", "linf"]))
def test_of_a_ball_the_first_layer_is_exact(seed: int, norm: str) -> None:
    rng = np.random.default_rng(seed)
    net = network(rng, BEND)
    W, b = net.weights[0], net.biases[0]
    where = Ball(rng.standard_normal(net.n_inputs), float(rng.choice([0.0, 0.1, 3.0])))
    (ends, *_) = limits(net, inputs_of(where, net.n_inputs, norm))
    reach = where.radius * np.linalg.norm(W, None if norm == "l2" else 1, axis=1)
    np.testing.assert_allclose(ends.left[0], W @ where.centre + b - reach, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(ends.right[0], W @ where.centre + b + reach, rtol=1e-11, atol=1e-11)


def test_relaxation_says_more_than_intervals() -> None:
    """relu(x) − relu(x) is zero, for intervals it is anything."""
    net = FeedForward([[[1.0], [1.0]], [[1.0, -1.0]], [[1.0]]], [[0.5, 0.5], [0.0], [0.0]], "relu")
    ends = limits(net, inputs_of(Box([1.0], [2.0]), 1, "l2"))[1]
    assert abs(ends.left[0, 0]) < 1e-12 > abs(ends.right[0, 0])


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softsign", "relu6", "hardtanh", "hard_sigmoid"])
def test_what_is_bounded_is_so_where_inputs_are_not(name: str) -> None:
    net = FeedForward([[[2.0], [-1.0]], [[1.0, 1.0]], [[1.0]]], [[0.5, 0.5], [0.0], [0.0]], name)
    ends = limits(net, inputs_of(ALL, 1, "l2"))[1]
    assert np.isfinite(ends.size).all()
    assert ends.size[0, 0] <= (12.1 if name == "relu6" else 2.1)


# --------------------------------------------------------------------------------------------- numbers at the far ends


def test_squares_of_tiny_weights_do_not_vanish() -> None:
    net = FeedForward([[[1e-170]], [[1.0]]], [[0.0], [0.0]], "relu")
    where = Ball([0.0], 1e175)
    assert_holds(net, where, "l2", np.random.default_rng(0))
    (low,), (high,) = slopes_within(where, net, "l2")[0]
    assert (low, high) == (0.0, 1.0)


@pytest.mark.parametrize("size", [1e-160, 1e-200, 1e-308, 5e-324])
def test_products_that_underflow_still_move(size: float) -> None:
    """A unit that takes both sides of its kink, though every product is rounded to zero."""
    net = FeedForward([[[size, -size]], [[1.0]]], [[0.0], [0.0]], Activation("leaky_relu", (-5.0,)))
    where = Box([-size, -size], [size, size])
    assert_holds(net, where, "l2", np.random.default_rng(0))
    (low,), (high,) = slopes_within(where, net, "l2")[0]
    assert (low, high) == (-5.0, 1.0)


def test_what_cannot_move_is_known_exactly() -> None:
    net = FeedForward([[[0.0, 1.0], [0.0, 0.0]], [[1.0, 1.0]]], [[0.0, 0.0], [0.0]], "relu")
    ends = limits(net, inputs_of(Box([-1.0, 0.0], [1.0, 0.0]), 2, "l2"))[0]
    assert not ends.left.any()
    assert not ends.right.any()


@pytest.mark.parametrize("size", [1e150, 1e200, 1.7e308])
def test_what_overflows_is_no_limit(size: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        net = network(rng, RATIONAL)
        net = FeedForward([np.clip(W, -1.0, 1.0) * size for W in net.weights], net.biases, net.activations)
        centre = size * rng.uniform(-1.0, 1.0, net.n_inputs)
        assert_holds(net, Box(centre, centre + 1e-3 * np.abs(centre)), "l2", rng, count=6)
        assert_holds(net, Ball(centre, 1.0), "linf", rng, count=6)


def test_more_inputs_than_the_layers_sum_up() -> None:
    """Each unit of the first layer takes one input, so that sums of inputs come later: their rounding counts too."""
    n = 3000
    rng = np.random.default_rng(5)
    for scale in (1e16, 1e12):
        first = Gather(np.arange(n), n)
        last = Dense(read_only(np.ones((1, n))))
        net = FeedForward.chain(
            [
                Layer(first, np.zeros(n), Activation("identity")),
                Layer(last, np.zeros(1), Activation("relu")),
                Layer(Dense(read_only(np.ones((1, 1)))), np.zeros(1), Activation("identity")),
            ]
        )
        x = rng.standard_normal(n) * scale ** rng.uniform(0.0, 1.0, n)
        ends = limits(net, inputs_of(Box(x, x), n, "l2"))[1]
        assert holds(ends, [sum((Fraction(a) for a in x.tolist()), Fraction(0))])
