"""Activations in 50 digits: extreme slopes, errors of computed values and slopes, intervals of slopes, certificates.

The functions are written down a second time, from their definitions, in mpmath; their derivatives are mpmath's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from certnet import certify
from certnet.core.validation import Float
from certnet.networks.activation_families import FAMILIES
from certnet.networks.activations import ACTIVATIONS, Activation
from certnet.networks.feedforward import FeedForward
from certnet.proofs.gradients import gradient_below, pulled_back
from certnet.proofs.regions import slopes_in_ball

mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp.clone()
mp.dps = 60

NEW = [
    "relu6", "hardtanh", "hard_swish", "gelu", "gelu_tanh", "silu", "mish", "selu", "celu", "softsign", "log_sigmoid",
    "softplus_beta",
]  # fmt: skip
PHIS = [
    *map(Activation, ACTIVATIONS),
    Activation("leaky_relu", (-0.5,)),
    Activation("elu", (2.5,)),
    Activation("elu", (0.3,)),
    Activation("hard_sigmoid", (0.25, 1.0)),
    Activation("hardtanh", (-0.5, 2.0)),
    Activation("hardtanh", (0.0, 1e308)),
    Activation("selu", (2.0, 0.5)),
    Activation("celu", (0.01,)),
    Activation("celu", (30.0,)),
    Activation("softplus_beta", (20.0,)),
    Activation("softplus_beta", (1e-3,)),
]
BENT = ["silu", "gelu", "gelu_tanh", "mish"]


def sigmoid(z: Any) -> Any:
    return 1 / (1 + mp.exp(-z))


def softplus(z: Any) -> Any:
    return mp.log1p(mp.exp(z)) if z < 0 else z + mp.log1p(mp.exp(-z))


def clip(z: Any, low: float, high: float) -> Any:
    return min(max(z, mp.mpf(low)), mp.mpf(high))


def gauss(z: Any) -> Any:
    """Φ; mpmath's erfc does not take what is beyond all bounds."""
    return mp.erfc(-z / mp.sqrt(2)) / 2 if abs(z) < 1e6 else mp.mpf(z > 0)


VALUES = {
    "relu": lambda z: max(z, mp.mpf(0)),
    "leaky_relu": lambda z, a: z if z >= 0 else a * z,
    "identity": lambda z: z,
    "tanh": mp.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "elu": lambda z, a: z if z >= 0 else a * mp.expm1(z),
    "hard_sigmoid": lambda z, a, b: clip(a * z + b, 0, 1),
    "relu6": lambda z: clip(z, 0, 6),
    "hardtanh": clip,
    "hard_swish": lambda z: z * clip(z + 3, 0, 6) / 6,
    "gelu": lambda z: z * gauss(z),
    "gelu_tanh": lambda z: z * sigmoid(2 * mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3)),
    "silu": lambda z: z * sigmoid(z),
    "mish": lambda z: z * mp.tanh(softplus(z)),
    "selu": lambda z, scale, a: mp.mpf(scale) * (z if z >= 0 else a * mp.expm1(z)),
    "celu": lambda z, a: z if z >= 0 else a * mp.expm1(z / a),
    "softsign": lambda z: z / (1 + abs(z)),
    "log_sigmoid": lambda z: -softplus(-z),
    "softplus_beta": lambda z, b: softplus(b * z) / b,
}


def sech2(z: Any) -> Any:
    return 1 / mp.cosh(z) ** 2


def tanh_slope(z: Any, inner: Any, change: Any) -> Any:
    """Of z (1 + tanh inner) / 2, where 1 + tanh = 2 σ(2 ·)."""
    return sigmoid(2 * inner) + z * change * sech2(inner) / 2


SLOPES = {
    "relu": lambda z: mp.mpf(z >= 0),
    "leaky_relu": lambda z, a: mp.mpf(1 if z >= 0 else a),
    "identity": lambda z: mp.mpf(1),
    "tanh": sech2,
    "sigmoid": lambda z: sech2(z / 2) / 4,
    "softplus": sigmoid,
    "elu": lambda z, a: mp.mpf(1) if z >= 0 else a * mp.exp(z),
    "hard_sigmoid": lambda z, a, b: mp.mpf(a if 0 <= a * z + b < 1 else 0),
    "relu6": lambda z: mp.mpf(0 <= z < 6),
    "hardtanh": lambda z, low, high: mp.mpf(low <= z < high),
    "hard_swish": lambda z: mp.mpf(1) if z >= 3 else (2 * z + 3) / 6 if z >= -3 else mp.mpf(0),
    "gelu": lambda z: gauss(z) + z * mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi),
    "gelu_tanh": lambda z: tanh_slope(
        z,
        mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3),
        mp.sqrt(2 / mp.pi) * (1 + 3 * mp.mpf("0.044715") * z**2),
    ),
    "silu": lambda z: sigmoid(z) + z * sech2(z / 2) / 4,
    "mish": lambda z: mp.tanh(softplus(z)) + z * sech2(softplus(z)) * sigmoid(z),
    "selu": lambda z, scale, a: mp.mpf(scale) if z >= 0 else mp.mpf(scale) * a * mp.exp(z),
    "celu": lambda z, a: mp.mpf(1) if z >= 0 else mp.exp(z / a),
    "softsign": lambda z: 1 / (1 + abs(z)) ** 2,
    "log_sigmoid": lambda z: sigmoid(-z),
    "softplus_beta": lambda z, b: sigmoid(b * z),
}


def value(phi: Activation, z: Any) -> Any:
    return VALUES[phi.name](mp.mpf(z), *phi.parameters)


def slope(phi: Activation, z: Any) -> Any:
    return SLOPES[phi.name](mp.mpf(z), *phi.parameters)


def turns(phi: Activation) -> list[float]:
    """Where φ' turns or jumps, and where φ does not care."""
    return [*(0.5 * (t[0] + t[1]) for t in FAMILIES[phi.name].turns(*phi.parameters)), *phi.kinks(), 0.0]


def points(phi: Activation, rng: np.random.Generator) -> Float:
    """Arguments of all sizes, many near the places of interest and the zeros of φ'."""
    places = [place for place in turns(phi) if abs(place) < 1e100]
    zeros = {"silu": -1.278464542761074, "gelu": -0.7517915246935645, "gelu_tanh": -0.7524614220710162}
    places += [zeros.get(phi.name, -1.192449)]
    near = [place + sign * 10.0**-k for place in places for sign in (-1, 1) for k in range(0, 17, 2)]
    wide = [sign * 10.0**k for sign in (-1, 1) for k in range(-300, 301, 50)]
    return np.concatenate([places, near, wide, rng.uniform(-10, 10, 150), rng.uniform(-800, 800, 50)])


@pytest.mark.parametrize("name", BENT)
def test_extreme_slopes_in_fifty_digits(name: str) -> None:
    phi = Activation(name)
    second = lambda z: mp.diff(lambda s: slope(phi, s), z)  # noqa: E731
    for (left, right, low, high), claimed, sense in zip(FAMILIES[name].turns(), phi.slopes, (1, -1)):
        # the zero of φ'' lies where it is said to, φ' is least or largest there, and the claim is on the safe side
        assert second(mp.mpf(left)) * sense < 0 < second(mp.mpf(right)) * sense
        place = mp.findroot(second, (left, right), solver="anderson", tol=1e-80)
        extreme = slope(phi, place)
        gap = sense * (extreme - mp.mpf(claimed))
        assert 0 < gap < (2e-15 if name == "gelu_tanh" else 4e-16)
        assert low == high == claimed
    # φ'' changes its sign nowhere else, and φ' tends to 0 and 1
    grid = np.concatenate([np.linspace(-40, 40, 3001), [-700.0, 700.0]])
    grid.sort()
    signs = np.sign([float(second(mp.mpf(z))) if abs(z) < 30 else 0.0 for z in grid])
    signs = signs[signs != 0.0]
    assert np.count_nonzero(np.diff(signs)) == 2
    assert abs(slope(phi, -700)) < 1e-100
    assert abs(slope(phi, 700) - 1) < 1e-50


def test_the_arguments_for_two_turning_points() -> None:
    z = np.linspace(1e-3, 30.0, 20001)
    assert np.all(np.diff(z * np.tanh(z / 2)) > 0)
    s = 3 * 0.044715 * z * z
    assert np.allclose((1 + 2 * s) / (1 + s) ** 2, 1 - (s / (1 + s)) ** 2)
    z = np.linspace(-30.0, 30.0, 60001)
    e = np.exp(z)
    sigma, t = e / (1 + e), e * (e + 2) / (e * (e + 2) + 2)
    q = 1 - sigma - 2 * sigma * t
    k = z[np.searchsorted(-q, 0.0)]
    assert k == pytest.approx(-0.117, abs=2e-3)
    assert np.all(np.diff(q) <= 1e-15)
    assert np.all(np.diff((-z * q)[z > 0]) > 0)
    assert np.all(np.diff((-z * q)[z < k]) < 0)
    assert np.all((-z * q)[(z > k) & (z < 0)] <= 1e-12)
    assert (-z * q)[(z > k) & (z < 0)].min() > -0.03
    assert (4 * (1 + e) * e / ((1 + e) ** 2 + 1) ** 2).max() < 0.325  # the other factor of φ''


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_errors_of_computed_values_and_slopes(phi: Activation) -> None:
    z = points(phi, np.random.default_rng(0))
    if FAMILIES[phi.name].rounded_kinks:
        z = z[np.all([np.abs(z - kink) > 1e-12 for kink in phi.kinks()], axis=0)]
    eps, tiny = mp.mpf(2) ** -46, mp.mpf(2) ** -1000
    for x, y, s in zip(z, phi(z), phi.derivative(z)):
        exact = slope(phi, x)
        assert abs(mp.mpf(s) - exact) <= phi.smooth * (eps * (abs(exact) + phi.blur) / 2 + tiny)
        exact = value(phi, x)
        assert abs(mp.mpf(y) - exact) <= eps * (abs(exact) + abs(x)) / 2 + tiny


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_exact_quotients_lie_in_the_slopes(phi: Activation) -> None:
    rng = np.random.default_rng(1)
    low, high = map(mp.mpf, phi.slopes)
    z = [mp.mpf(x) for x in points(phi, rng) if abs(x) < 1e50]
    pairs = [(z[i], z[j]) for i, j in rng.integers(0, len(z), (300, 2)) if z[i] != z[j]]
    for place in turns(phi):
        for k in (1, 3, 6, 12, 20):  # on both sides of, and beside, a turning point
            h = mp.mpf(10) ** -k
            pairs += [(place - h, place + h), (place - h, mp.mpf(place)), (mp.mpf(place), place + h)]
    for s, t in pairs:
        change, digits = (value(phi, s) - value(phi, t)) * mp.sign(s - t), (1 + abs(s) + abs(t)) * mp.mpf(10) ** -57
        assert low * abs(s - t) - digits <= change <= high * abs(s - t) + digits


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_many_quotients_lie_in_the_slopes(phi: Activation) -> None:
    rng = np.random.default_rng(2)
    low, high = phi.slopes
    centre = rng.choice([t for t in turns(phi) if abs(t) < 1e100], 100_000) + rng.standard_normal(100_000)
    reach = 10.0 ** rng.uniform(-6.0, 3.0, 100_000)
    s, t = centre - reach * rng.uniform(size=100_000), centre + reach * rng.uniform(size=100_000)
    change = phi(t) - phi(s)
    rounding = 2.0**-46 * (np.abs(phi(s)) + np.abs(phi(t)) + np.abs(s) + np.abs(t))
    assert np.all(change <= high * (t - s) + rounding)
    assert np.all(change >= low * (t - s) - rounding)


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_slopes_between_hold_what_is_sampled_and_little_more(phi: Activation) -> None:
    rng = np.random.default_rng(3)
    n = 6000
    places = [t for t in turns(phi) if abs(t) < 1e100]
    left = rng.choice(places, n) + rng.uniform(-3, 3, n) * rng.choice([0.0, 1e-13, 1e-6, 0.1, 1.0, 3.0], n)
    right = left + 10.0 ** rng.uniform(-14.0, 1.5, n)
    right[:500] = rng.choice(places, 500)  # ends on kinks
    left[:500] = right[:500] - 10.0 ** rng.uniform(-10.0, 1.5, 500)
    low, high = phi.slopes_between(left, right)
    grid = left + (right - left) * np.linspace(0.0, 1.0, 151)[1:-1, None]
    inside = np.all((grid > left) & (grid < right), axis=0)
    slopes = phi.derivative(grid)
    if FAMILIES[phi.name].rounded_kinks:  # the sampled slopes themselves are in doubt there
        inside &= np.all([np.abs(grid - kink).min(axis=0) > 1e-12 for kink in phi.kinks()], axis=0)
    wrong = phi.smooth * 2.0**-46 * (np.abs(slopes) + phi.blur)  # of the samples
    assert np.all(low[inside] <= (slopes + wrong).min(axis=0)[inside])
    assert np.all(high[inside] >= (slopes - wrong).max(axis=0)[inside])
    assert np.all(phi.slopes[0] <= low)
    assert np.all(high <= phi.slopes[1])
    # no wider than the samples' range by more than the slope can change between two of them
    apart = inside.copy()
    for kink in phi.kinks():
        apart &= (right < kink - 1e-9) | (left > kink + 1e-9)
    more = phi.curvature * (right - left) / 150 + 1e-11
    assert np.all((slopes.min(axis=0) - low <= more)[apart])
    assert np.all((high - slopes.max(axis=0) <= more)[apart])


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_slopes_between_of_endless_huge_and_empty_intervals(phi: Activation) -> None:
    ends = np.array([-np.inf, -1.7e308, -1e200, -30.0, 0.5, 30.0, 1e200, 1.7e308, np.inf])
    left, right = (a.ravel() for a in np.meshgrid(ends, ends, indexing="ij"))
    left, right = left[left <= right], right[left <= right]
    low, high = phi.slopes_between(left, right)
    assert np.all(phi.slopes[0] <= low)
    assert np.all(low <= high)
    assert np.all(high <= phi.slopes[1])
    samples = np.concatenate([-np.geomspace(1e-3, 1e300, 400), np.geomspace(1e-3, 1e300, 400)])
    slopes = phi.derivative(samples)
    for a, b, lowest, highest in zip(left, right, low, high):
        within = slopes[(samples > a) & (samples < b)]
        assert within.min(initial=highest) >= lowest
        assert within.max(initial=lowest) <= highest
    nothing = phi.slopes_between(np.array([np.nan, np.nan, 0.0]), np.array([np.nan, 1.0, np.nan]))
    assert [tuple(map(float, pair)) for pair in zip(*nothing)] == [phi.slopes] * 3


@pytest.mark.parametrize("name", [*BENT, "hard_swish"])
def test_no_lower_bound_where_the_slope_cancels(name: str) -> None:
    phi = Activation(name)
    zero = mp.findroot(lambda z: slope(phi, z), (-2.0, -0.5), solver="anderson")
    net = FeedForward([[[1.0]], [[2.0**60]]], [[0.0], [0.0]], phi)
    for k in range(-8, 9):
        x = float(zero) + k * 2.0**-52
        assert mp.mpf(gradient_below(net, [x])) <= 2**60 * abs(slope(phi, x))
    assert gradient_below(net, [float(zero) + 1e-3]) > 0.0


def test_a_ball_that_ends_on_a_kink_holds_the_slope_to_its_left() -> None:
    phi = Activation("elu", (2.5,))
    net = FeedForward([[[1.0]], [[1.0]]], [[-1.0], [0.0]], phi)
    radius, steepest = 1.0, []
    for _ in range(60):
        steepest.append(slopes_in_ball(net, [0.0], radius)[1].item())
        radius = float(np.nextafter(radius, 0.0))
    assert min(steepest) >= 2.5 * (1.0 - 1e-13)  # one of these balls ends at zero, where φ' jumps to 1


def network(phi: Activation, rng: np.random.Generator, *widths: int) -> FeedForward:
    shapes = list(zip(widths[1:], widths[:-1]))
    return FeedForward(
        [rng.standard_normal(shape) for shape in shapes], [rng.standard_normal(m) for m, _ in shapes], phi
    )


def gradient(net: FeedForward, x: Float) -> Any:
    """∂f/∂x of a network in 60 digits, (m, d)."""
    y, J = mp.matrix(x.tolist()), mp.eye(len(x))
    for W, b, phi in zip(net.weights, net.biases, net.activations):
        z = mp.matrix(W.tolist()) * y + mp.matrix(b.tolist())
        J = mp.diag([slope(phi, s) for s in z]) * mp.matrix(W.tolist()) * J
        y = mp.matrix([value(phi, s) for s in z])
    return mp.matrix(net.weights[-1].tolist()) * J


@pytest.mark.parametrize("room", [0, 100])
@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_followed_errors_hold_in_fifty_digits(phi: Activation, room: int) -> None:
    rng = np.random.default_rng(4)
    net = network(phi, rng, 3, 5, 4, 2)
    held = 0
    for scale in (0.1, 1.0, 1.0, 3.0, 30.0):
        x = scale * rng.standard_normal(3)
        rows = [pulled_back(net, x, u, room) for u in np.eye(2)]
        if any(found is None for found in rows):
            continue
        held += 1
        exact = gradient(net, x)
        for i, found in enumerate(rows):
            assert found is not None
            row, error = found
            for j in range(3):
                assert abs(exact[i, j] - mp.mpf(row[j])) <= error[j]
    assert held >= 2


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", [*NEW, "elu", "softplus", "hardtanh 0 1e308"])
def test_certificates(name: str, norm: str) -> None:
    family, *parameters = name.split()
    phi = Activation(family, tuple(map(float, parameters)))
    rng = np.random.default_rng(5)
    shallow = network(phi, rng, 3, 6, 1)
    cases: list[tuple[FeedForward, dict[str, Any]]] = [
        (shallow, {}),
        (shallow, {"around": [0.2, -0.1, 0.3], "radius": 0.3}),
    ]
    cases += [(network(phi, rng, 3, 5, 4, 1), {})] if norm == "l2" else []
    for net, options in cases:
        cert = certify(net, norm=norm, **options)
        assert cert.check(net)
        assert 0.0 < cert.lower <= cert.upper
        row = [abs(s) for s in gradient(net, cert.witness)]
        steepness = mp.norm(row) if norm == "l2" else sum(row)
        assert mp.mpf(cert.lower) <= steepness <= cert.upper
        assert cert.lower >= float(steepness) * (1.0 - 1e-9)
        centre, size = (np.array(options["around"]), 0.17) if options else (np.zeros(3), 3.0)
        a, b = (centre + size * rng.uniform(-1.0, 1.0, (3000, 3)) for _ in range(2))
        b[::2] = a[::2] + 1e-3 * (b[::2] - a[::2])
        quotients = np.abs(net.predict(a) - net.predict(b)) / np.linalg.norm(a - b, np.inf if norm == "linf" else 2, 1)
        assert quotients.max() <= cert.upper * (1.0 + 1e-9)
        if options:
            assert cert.upper <= certify(net, norm=norm).upper * (1.0 + 2e-6)
