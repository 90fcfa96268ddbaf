"""Slopes by feature: against sampling, all patterns, exact arithmetic and a generic solver; files; names; pictures."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import warnings
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact import Matrix, definite
from judge import rows

from certnet import Ball, Box, FeedForward, ShallowNetwork, SlopeIntervals, certify_features, refine
from certnet.claims import sealed
from certnet.claims.claim import Claim
from certnet.claims.region import ALL, Region
from certnet.core.errors import (
    AlteredCertificateError,
    CertificateError,
    FileFormatError,
    InvalidInputError,
    NotConvergedWarning,
    UnsupportedModelError,
)
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer, read_only
from certnet.networks.operators import Blocks, Convolution, Identity
from certnet.proofs.__main__ import main
from certnet.proofs.sectors import SectorChecker, Sectors
from certnet.proofs.slopes import slopes_everywhere, slopes_reached
from certnet.proofs.subject import Subject
from certnet.report import refinement_report, slope_rows
from certnet.searches.increments import increments_of
from certnet.searches.one_sided import Ends, OneSided

LEAKY = Activation("leaky_relu", (0.2,))
NEGATIVE = Activation("leaky_relu", (-0.4,))


def network(*widths: int, seed: int = 0, phi: Any = "relu", size: float = 1.0) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [size * rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.5 * rng.standard_normal(b) for b in widths[1:]], phi)


def points(region: Region, d: int, rng: np.random.Generator, n: int, norm: str = "l2") -> np.ndarray:
    if isinstance(region, Box):
        low, high = np.maximum(region.lower, -9.0), np.minimum(region.upper, 9.0)
        return low + (high - low) * rng.random((n, d))
    X = rng.standard_normal((n, d)) * rng.choice([0.3, 1.0, 5.0], (n, 1))
    if not isinstance(region, Ball):
        return X
    far = np.abs(X).max(axis=1) if norm == "linf" else np.linalg.norm(X, axis=1)
    return region.centre + region.radius * rng.random((n, 1)) * X / far[:, None]


# ------------------------------------------------------------------------------------------------------------ soundness

REGIONS: dict[str, Any] = {
    "all": lambda d: ALL,
    "box": lambda d: Box(np.full(d, -0.2), np.linspace(0.1, 0.6, d)),
    "open box": lambda d: Box([-np.inf, *[-0.1] * (d - 1)], [0.1, *[0.1] * (d - 1)]),
    "ball": lambda d: Ball(np.linspace(-0.3, 0.3, d), 0.25),
}


@pytest.mark.parametrize("where", REGIONS)
@pytest.mark.parametrize("phi", ["relu", LEAKY, NEGATIVE, "tanh", "gelu", "hard_sigmoid"], ids=str)
@pytest.mark.parametrize("widths", [(3, 8, 8, 2), (2, 6, 5, 6, 1)], ids=str)
def test_samples_lie_within_and_intervals_alone_are_no_smaller(widths, phi, where):
    net, region = network(*widths, phi=phi), REGIONS[where](widths[0])
    held = certify_features(net, region=region)
    assert held.check(net)
    plain = certify_features(net, region=region, method="intervals")
    assert plain.check(net)
    assert not plain.multipliers
    assert (held.lower >= plain.lower).all()
    assert (held.upper <= plain.upper).all()
    if where == "all" and phi != "hard_sigmoid":
        assert (held.upper - held.lower).sum() < 0.97 * (plain.upper - plain.lower).sum()
    everywhere = SlopeIntervals.of(net)
    assert (plain.lower >= everywhere.lower).all()
    assert (plain.upper <= everywhere.upper).all()
    rng = np.random.default_rng(1)
    X = points(region, widths[0], rng, 2000)
    found = net.gradients(X)
    assert (held.lower - 1e-12 <= found).all()
    assert (found <= held.upper + 1e-12).all()
    other = points(region, widths[0], rng, 2000)
    for i in range(widths[0]):
        moved = X.copy()
        moved[:, i] = other[:, i]
        if isinstance(region, Ball):
            moved[:, i] = region.centre[i] + 0.2 * (X[:, i] - region.centre[i])
        step = moved[:, i] - X[:, i]
        some = np.abs(step) > 1e-3
        quotient = (net.forward(moved) - net.forward(X))[some] / step[some, None]
        assert (held.lower[:, i] - 1e-9 <= quotient).all()
        assert (quotient <= held.upper[:, i] + 1e-9).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_balls_of_both_norms(norm):
    net, ball = network(3, 8, 8, 1, seed=2), Ball([0.1, 0.0, -0.1], 0.15)
    held = certify_features(net, region=ball, norm=norm)
    assert held.check(net)
    found = net.gradients(points(ball, 3, np.random.default_rng(0), 3000, norm))
    assert (held.lower - 1e-12 <= found).all()
    assert (found <= held.upper + 1e-12).all()
    if norm == "linf":  # the larger ball
        smaller = certify_features(net, region=ball)
        assert not dataclasses.replace(smaller, norm="linf").check(net)


def all_slopes(net: FeedForward, slopes: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest entries of the products with all slopes at an end of their interval."""
    low = np.concatenate([pair[0] for pair in slopes])
    high = np.concatenate([pair[1] for pair in slopes])
    choices = [sorted({a, b}) for a, b in zip(low.tolist(), high.tolist())]
    ends = np.array(list(product(*choices)))
    J = np.broadcast_to(net.weights[0], (len(ends), *net.weights[0].shape))
    at = 0
    for W in net.weights[1:]:
        J = W @ (ends[:, at : at + W.shape[1], None] * J)
        at += W.shape[1]
    return J.min(axis=0), J.max(axis=0)


@pytest.mark.parametrize("seed", range(12))
def test_all_patterns_of_tiny_networks(seed):
    rng = np.random.default_rng(seed)
    widths = [(2, 4, 4, 1), (3, 3, 4, 2), (2, 3, 3, 3, 1)][seed % 3]
    net = network(*widths, seed=seed, phi=["relu", LEAKY, NEGATIVE][seed // 3 % 3])
    for region in (ALL, Box(*np.sort(rng.standard_normal((2, widths[0])), axis=0)), Ball(np.zeros(widths[0]), 0.1)):
        held = certify_features(net, region=region)
        assert held.check(net)
        low, high = all_slopes(net, held.reached or slopes_everywhere(net))
        assert (held.lower <= low + 1e-12).all()
        assert (held.upper >= high - 1e-12).all()
        # no nonsense either: the relaxation of so few units is not far off
        plain = certify_features(net, region=region, method="intervals")
        assert (held.upper - held.lower <= plain.upper - plain.lower).all()
        assert (held.upper - held.lower <= 1.6 * (high - low) + 1e-9).mean() > 0.5


@pytest.mark.parametrize("phi", ["relu", LEAKY, "tanh"], ids=str)
def test_one_hidden_layer_is_exact_by_intervals(phi):
    net = network(20, 100, 1, phi=phi)
    held = certify_features(net)
    assert not held.multipliers
    (W, V), (low, high) = net.weights, net.slopes[0]
    terms = np.stack([low * V[0][:, None] * W, high * V[0][:, None] * W])
    np.testing.assert_allclose(held.lower[0], terms.min(axis=0).sum(axis=0), rtol=1e-11)
    np.testing.assert_allclose(held.upper[0], terms.max(axis=0).sum(axis=0), rtol=1e-11)


def test_a_layer_between_known_ones_is_exact_by_multipliers():
    """One layer bends: the value of a choice of slopes is a sum over its units, whatever linear maps are around."""
    rng = np.random.default_rng(3)
    W = [rng.standard_normal(s) for s in ((5, 3), (6, 5), (4, 6), (1, 4))]
    linear = Activation("user", (1.0, 1.0))
    net = FeedForward(W, [np.zeros(len(w)) for w in W], [linear, "relu", linear])
    held = certify_features(net, tol=1e-6)
    terms = (W[3] @ W[2])[0][:, None] * (W[1] @ W[0])
    np.testing.assert_allclose(held.upper[0], np.maximum(terms, 0.0).sum(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(held.lower[0], np.minimum(terms, 0.0).sum(axis=0), rtol=1e-5, atol=1e-5)
    assert (held.upper[0] >= np.maximum(terms, 0.0).sum(axis=0)).all()


def test_depth_gains_what_was_measured():
    """Interval arithmetic multiplies up; LipSDP of one input does not."""
    net = network(5, 30, 30, 30, 30, 1, seed=1, size=np.sqrt(2.0))
    held, plain = certify_features(net), SlopeIntervals.of(net)
    assert (held.upper - held.lower).max() < 0.05 * (plain.upper - plain.lower).max()


def test_a_smaller_region_has_smaller_intervals():
    net = network(4, 12, 12, 1, seed=4)
    widths = []
    for half in (np.inf, 1.0, 0.3, 0.1, 0.01):
        held = certify_features(net, region=Box(np.full(4, -half), np.full(4, half)), tol=1e-5)
        widths.append(held.upper - held.lower)
    for large, small in pairwise(widths):
        assert (small <= large * (1.0 + 1e-4)).all()
    assert widths[-1].max() < 0.3 * widths[0].max()


# ------------------------------------------------------------------------------------------- the search and the checker


def problem_of(net: FeedForward) -> tuple[Sectors, Any]:
    slopes = slopes_everywhere(net)
    return Sectors.of(net, slopes), increments_of(net)


@pytest.mark.parametrize("phi", ["relu", LEAKY, NEGATIVE], ids=str)
@pytest.mark.parametrize("widths", [(2, 5, 4, 1), (2, 3, 4, 3, 2)], ids=str)
def test_the_search_agrees_with_a_generic_solver(widths, phi):
    cvxpy = pytest.importorskip("cvxpy", reason="the second implementation needs CVXPY")
    net = network(*widths, seed=5, phi=phi)
    sectors, increments = problem_of(net)
    ends = Ends(np.array([0, 0]), np.array([1, 1]), np.array([1, -1]))
    search = OneSided.started(increments, ends, np.random.default_rng(0))
    before = -np.inf
    for _ in range(60):
        search.climb(20)
        search.multipliers()
        assert (search.values >= before - 1e-12).all()
        before = search.values
    for e, side in enumerate((1, -1)):
        L = sectors.rows.value[:, [1, *range(2, 2 + sectors.n)]]
        F = side * sectors.outputs.value[0, [1, *range(2, 2 + sectors.n)]]
        u, T = cvxpy.Variable(), cvxpy.Variable(sectors.n, nonneg=True)
        first, units = np.eye(1 + sectors.n)[0], np.eye(1 + sectors.n)[1:]
        P = u * np.outer(first, first) - 0.5 * (np.outer(first, F) + np.outer(F, first))
        for j in range(sectors.n):
            a, b = units[j] - sectors.low[j] * L[j], units[j] - sectors.high[j] * L[j]
            P = P + T[j] * 0.5 * (np.outer(a, b) + np.outer(b, a))
        cvxpy.Problem(cvxpy.Minimize(u), [P >> 0]).solve(solver="CLARABEL")
        assert search.values[e] == pytest.approx(u.value, rel=2e-4)
        T_found = np.concatenate([t[:, e] * 1.0001 ** (net.depth - k) for k, t in enumerate(search.multipliers())])
        proved = SectorChecker(sectors, 0, 1, side, T_found).least()
        assert proved is not None
        assert float(u.value) * (1.0 - 1e-7) - 1e-7 <= proved
        assert proved <= float(u.value) + 2e-3 * abs(float(u.value))


@cache
def exact_rows(net: FeedForward, along: int) -> tuple[Matrix, Matrix]:
    """p of every unit and f of every output, as combinations of the step and of the z of all units, in rationals."""
    n = net.n_hidden
    values = [[Fraction(int(i == along)), *[Fraction(0)] * n] for i in range(net.n_inputs)]
    found: Matrix = []
    for k, W in enumerate(map(rows, net.weights)):
        p = [[sum((w * y[c] for w, y in zip(row, values)), Fraction(0)) for c in range(n + 1)] for row in W]
        if k == net.depth:
            return found, p
        values = [[Fraction(int(c == 1 + len(found) + j)) for c in range(n + 1)] for j in range(len(p))]
        found += p
    raise AssertionError


def exactly_proved(
    net: FeedForward, o: int, i: int, side: int, T: np.ndarray, bound: float, slopes: Sequence[tuple[float, float]]
) -> bool:
    """Is the form of the module's docstring positive semidefinite? By another formula, in rationals."""
    P_rows, F = exact_rows(net, i)
    n = net.n_hidden
    P = [[Fraction(0)] * (n + 1) for _ in range(n + 1)]
    P[0][0] = Fraction(bound)
    for c in range(n + 1):
        P[0][c] -= Fraction(side, 2) * F[o][c]
        P[c][0] -= Fraction(side, 2) * F[o][c]
    for j, (t, p, (low, high)) in enumerate(zip(T.tolist(), P_rows, slopes)):
        a, b = ([Fraction(int(c == 1 + j)) - Fraction(s) * p[c] for c in range(n + 1)] for s in (low, high))
        for r, c in product(range(n + 1), repeat=2):
            P[r][c] += Fraction(t) / 2 * (a[r] * b[c] + b[r] * a[c])
    return definite(P)


@pytest.mark.parametrize("phi", ["relu", LEAKY, NEGATIVE, Activation("user", (0.3, 0.7))], ids=str)
def test_what_the_checker_accepts_is_proved_in_rationals(phi):
    net = network(2, 3, 3, 2, seed=6, phi=phi)
    sectors, increments = problem_of(net)
    pairs = [phi.slopes if isinstance(phi, Activation) else (0.0, 1.0)] * net.n_hidden
    rng = np.random.default_rng(0)
    keys = list(product(range(2), range(2), (1, -1)))
    search = OneSided.started(increments, Ends(*map(np.array, zip(*keys))), rng)
    search.climb(100)
    accepted = refused = 0
    for e, (o, i, side) in enumerate(keys):
        good = np.concatenate([t[:, e] * 1.001 ** (2 - k) for k, t in enumerate(search.multipliers())])
        for _ in range(8):
            T = good * np.exp(rng.choice([0.0, 1e-6, 1e-2, 1.0]) * rng.standard_normal(len(good)))
            checker = SectorChecker(sectors, o, i, side, T)
            least = checker.least()
            tries = [search.values[e] * (1.0 + 1e-9), search.values[e] + 1e-3, -1.0, 1e3]
            tries += [] if least is None else [least, least - 1e-13, least - 1e-9, least * (1.0 - 1e-6)]
            for bound in tries:
                if checker.proves(float(bound)):
                    accepted += 1
                    assert exactly_proved(net, o, i, side, T, float(bound), pairs)
                else:
                    refused += 1
            if least is not None:  # no more than rounding above what these multipliers prove
                assert not exactly_proved(net, o, i, side, T, least - 1e-6 * (1.0 + abs(least)), pairs)
    assert accepted > 80
    assert refused > 80


def test_rows_of_units_are_wrong_by_less_than_they_say():
    net = network(3, 4, 4, 4, 2, seed=7, phi=LEAKY)
    rng = np.random.default_rng(1)
    slopes = []
    for low, high in slopes_everywhere(net):  # some known, as in a region
        known = rng.random(len(low)) < 0.5
        slopes.append((np.where(known, high, low), high))
    sectors = Sectors.of(net, slopes)
    n = sectors.n
    values = [[Fraction(int(c == i)) for c in range(3 + n)] for i in range(3)]
    found: Matrix = []
    at = 3
    for k, W in enumerate(map(rows, net.weights)):
        p = [[sum((w * y[c] for w, y in zip(row, values)), Fraction(0)) for c in range(3 + n)] for row in W]
        if k == net.depth:
            break
        values = []
        for row, low, high in zip(p, *(end.tolist() for end in slopes[k])):
            if low < high:
                found.append(row)
                values.append([Fraction(int(c == at)) for c in range(3 + n)])
                at += 1
            else:
                values.append([Fraction(low) * x for x in row])
    for held, exact in ((sectors.rows, found), (sectors.outputs, p)):
        assert held.value.shape == (len(exact), 3 + n)
        for (r, c), x in np.ndenumerate(held.value):
            assert abs(Fraction(float(x)) - exact[r][c]) <= Fraction(float(held.error[r, c]))
        assert held.error.max() < 1e-12


@pytest.mark.parametrize(
    "T", [[1.0], [[1.0] * 6], [1.0] * 5 + [0.0], [1.0] * 5 + [-1.0], [1.0] * 5 + [np.nan], [1e200] * 6]
)
def test_numbers_that_are_no_multipliers_prove_nothing(T):
    net = network(2, 3, 3, 1)
    checker = SectorChecker(Sectors.of(net, slopes_everywhere(net)), 0, 0, 1, T)
    assert not checker.proves(1e3)
    assert checker.least() is None


@pytest.mark.parametrize("size", [1e-150, 1e-40, 1e30, 1e90])
def test_scales_change_nothing_or_leave_intervals(size):
    """Networks of any size: what multipliers cannot cope with is interval arithmetic's."""
    net = network(3, 8, 8, 1, seed=8)
    scaled = FeedForward([net.weights[0], net.weights[1], size * net.weights[2]], net.biases, "relu")
    held, known = certify_features(scaled), certify_features(net)
    assert held.check(scaled)
    assert (held.upper <= SlopeIntervals.of(scaled).upper).all()
    assert (held.upper >= 0.99 * size * known.upper).all()
    if 1e-50 < size < 1e50:
        np.testing.assert_allclose(held.upper, size * known.upper, rtol=3e-3)


# ------------------------------------------------------------------------------------------------- degenerate regions


def test_a_box_without_width_holds_the_gradient():
    net = network(3, 10, 10, 2, seed=9, phi="tanh")
    x = np.array([0.3, -0.2, 0.7])
    for region in (Box(x, x), Ball(x, 0.0)):
        held = certify_features(net, region=region)
        assert held.check(net)
        found = net.gradients(x[None])[0]
        assert (held.lower <= found).all()
        assert (found <= held.upper).all()
        assert (held.upper - held.lower).max() < 1e-6
    kinked = network(3, 10, 10, 2, seed=9)
    held = certify_features(kinked, region=Box(x, x))
    assert held.check(kinked)
    np.testing.assert_allclose(held.lower, kinked.gradients(x[None])[0], atol=1e-9)
    np.testing.assert_allclose(held.upper, kinked.gradients(x[None])[0], atol=1e-9)


def test_a_kink_on_the_border_counts():
    """relu(x) − relu(−x) is x: its slope is 1 at 0 as well, where a box of one point leaves no unit a side."""
    net = FeedForward([[[1.0], [-1.0]], [[1.0, -1.0]]], [[0.0, 0.0], [0.0]], "relu")
    for region in (Box([0.0], [0.0]), Box([0.0], [1.0]), Box([-1.0], [0.0]), Ball([0.0], 0.0)):
        held = certify_features(net, region=region)
        assert held.check(net)
        assert held.lower[0, 0] <= 1.0 <= held.upper[0, 0]
    one = FeedForward([[[1.0]], [[1.0]]], [[0.0], [0.0]], "relu")
    held = certify_features(one, region=Box([0.0], [1.0]))
    assert held.lower[0, 0] <= 0.0
    assert certify_features(one, region=Box([1e-9], [1.0])).lower[0, 0] == pytest.approx(1.0)
    narrow = dataclasses.replace(held, lower=np.array([[1.0]]), upper=np.array([[1.0]]))
    assert not dataclasses.replace(narrow, reached=((np.ones(1), np.ones(1)),)).check(one)


def test_a_constant_column_is_constant():
    net = network(3, 6, 6, 1)
    W = np.array(net.weights[0])
    W[:, 1] = 0.0
    net = net.with_parameters([W, *net.weights[1:]], net.biases, net.units)
    held = certify_features(net)
    assert held.lower[0, 1] == 0.0 == held.upper[0, 1]
    assert {row.name: row.verdict for row in held.table()}["input 1"] == "constant"
    assert held.check(net)


def test_paths_of_one_sign_stay_proved_monotone():
    rng = np.random.default_rng(0)
    weights = [np.abs(rng.standard_normal(s)) for s in ((9, 3), (8, 9), (1, 8))]
    weights[0][:, 1] *= -1.0
    weights[0][:4, 2] *= -1.0
    net = FeedForward(weights, [np.ones(9), np.ones(8), np.ones(1)], "relu")
    held = certify_features(net)
    assert held.check(net)
    assert held.monotone[0].tolist() == [1, -1, 0]
    assert [row.verdict for row in sorted(held.table())] == ["increasing", "decreasing", "either"]


def test_a_unit_that_nothing_moves_and_one_that_moves_nothing():
    net = network(3, 6, 6, 1, seed=3)
    W, V, out = map(np.array, net.weights)
    W[0] = 0.0
    W[1, 0] = 0.0
    V[:, 2] = 0.0
    V[3] = 0.0
    out[0, 4] = 0.0
    net = FeedForward([W, V, out], net.biases, "relu")
    held = certify_features(net)
    assert held.check(net)
    assert len(held.multipliers) == 6
    low, high = all_slopes(net, slopes_everywhere(net))
    assert (held.lower <= low + 1e-12).all()
    assert (held.upper >= high - 1e-12).all()


def test_bounded_activations_have_slopes_that_cannot_vanish():
    """tanh of values within ±1 bends by less than tanh of anything: known for all inputs."""
    net = network(2, 4, 4, 1, phi="tanh", size=0.3)
    held = certify_features(net)
    assert held.check(net)
    assert held.reached
    assert (held.reached[1][0] > 0.1).all()
    assert (held.upper < SlopeIntervals.of(net).upper).all()


# ------------------------------------------------------------------------------------------------ outputs and operators


def test_outputs_and_differences_of_a_classifier():
    net = network(4, 12, 10, 3, seed=10)
    every = certify_features(net)
    assert every.lower.shape == (3, 4)
    X = np.random.default_rng(0).standard_normal((3000, 4)) * 2.0
    found = net.gradients(X)
    one = certify_features(net, output=2)
    assert one.check(net)
    np.testing.assert_allclose(one.upper[0], every.upper[2], rtol=5e-3)
    pair = certify_features(net, output=(0, 2))
    assert pair.check(net)
    assert pair.lower.shape == (1, 4)
    slopes = found[:, 0] - found[:, 2]
    assert (pair.lower[0] <= slopes.min(axis=0)).all()
    assert (pair.upper[0] >= slopes.max(axis=0)).all()
    assert (pair.upper[0] <= every.upper[0] - every.lower[2]).all()
    assert pair.output_names == ["output 0 minus output 2"]
    assert "output 0 minus output 2 along input 1" in pair.sentences[1]
    assert not dataclasses.replace(pair, output=(2, 0)).check(net)
    assert not dataclasses.replace(one, output=(1,)).check(net)
    assert not dataclasses.replace(pair, output=(0, 3)).check(net)
    assert not dataclasses.replace(pair, output=None).check(net)
    # the rounding of a difference of weights is charged
    narrow = dataclasses.replace(pair, upper=pair.upper * (1.0 - 1e-4))
    assert "output 0 minus output 2" in narrow.check(net).reason


def skipping() -> FeedForward:
    """Two residual blocks, and a linear layer."""
    rng = np.random.default_rng(11)
    layers, d = [], 4
    for k in range(2):
        B = rng.standard_normal((6, d)) / 2.0
        layers.append(
            Layer(
                Blocks(((Dense(read_only(B)),), (Identity(d),))),
                0.1 * rng.standard_normal(6 + d),
                Activation("relu"),
                d,
            )
        )
        A = np.hstack([rng.standard_normal((d, 6)) / 2.0, np.eye(d)])
        linear = Activation("identity") if k else Activation("leaky_relu", (0.5,))
        layers.append(Layer(Dense(read_only(A)), np.zeros(d), linear))
    return FeedForward.chain(
        [*layers, Layer(Dense(read_only(rng.standard_normal((2, d)))), np.zeros(2), Activation("identity"))]
    )


def convolving() -> FeedForward:
    rng = np.random.default_rng(12)
    first = Convolution(rng.standard_normal((2, 1, 2, 2)), (1, 4, 4))
    second = Convolution(rng.standard_normal((2, 2, 2, 2)), first.out_image)
    n = np.prod(second.out_image)
    last = Dense(read_only(rng.standard_normal((2, n)) / 4.0))
    return FeedForward.chain(
        [
            Layer(first, 0.1 * rng.standard_normal(first.n_outputs), Activation("relu")),
            Layer(second, 0.1 * rng.standard_normal(n), LEAKY),
            Layer(last, np.zeros(2), Activation("identity")),
        ]
    )


@pytest.mark.parametrize("make", [skipping, convolving])
def test_skips_and_convolutions(make):
    net = make()
    for region in (ALL, Box(np.full(net.n_inputs, -0.3), np.full(net.n_inputs, 0.3))):
        held = certify_features(net, region=region)
        assert held.check(net)
        assert held.multipliers
        plain = certify_features(net, region=region, method="intervals")
        assert (held.upper - held.lower).sum() < 0.9 * (plain.upper - plain.lower).sum()
        found = net.gradients(points(region, net.n_inputs, np.random.default_rng(0), 2000))
        assert (held.lower - 1e-12 <= found).all()
        assert (found <= held.upper + 1e-12).all()


# ------------------------------------------------------------------------------------------------------ files and words


@cache
def subject(name: str) -> tuple[FeedForward, SlopeIntervals]:
    net = network(2, 5, 4, 2, seed=15, phi=LEAKY if name == "leaky" else "relu")
    net = net.described(About("made up", ("age", "size"), ("cost", "risk")))
    region = {"box": Box([-0.4, -0.6], [0.7, 0.4]), "ball": Ball([0.1, 0.2], 0.5)}.get(name, ALL)
    output = {"pair": (0, 1), "one": 1}.get(name)
    return net, certify_features(net, region=region, output=output)


SUBJECTS = ("all", "leaky", "box", "ball", "pair", "one")


@pytest.mark.parametrize("name", SUBJECTS)
def test_files_come_back_and_altered_ones_do_not(name, tmp_path, capsys):
    net, held = subject(name)
    path, model = held.save(tmp_path / "slopes.json"), net.save(tmp_path / "net.npz")
    back = SlopeIntervals.load(path)
    assert back.to_json() == held.to_json()
    assert back.check(net)
    assert back.table() == held.table()
    assert main([str(path), str(model)]) == 0
    assert "age" in capsys.readouterr().out
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["schema"] == "certnet-slopes-2"
    assert held.multipliers
    for field in data:
        without = {key: value for key, value in data.items() if key != field}
        if field != "read":  # it need not be there
            path.write_text(json.dumps(without | {"seal": sealed.seal(without)} if field != "seal" else without))
            with pytest.raises(FileFormatError, match=r"schema|complete|altered"):
                SlopeIntervals.load(path)
        path.write_text(json.dumps(without | ({field: data[field]} | {"seal": "0" * 64})))
        with pytest.raises(AlteredCertificateError, match="seal"):
            SlopeIntervals.load(path)
    wrong: list[tuple[str, Any]] = [
        *(("lower", value) for value in (3, [], [[0.0], [1.0, 2.0]], [["a"]])),
        *(("box", value) for value in (3, [[0.0]], [[1.0, 1.0], [0.0, 0.0]])),
        *(("around", value) for value in ("a", [1.0, None])),
        *(("radius", value) for value in ("a", True)),
        *(("output", value) for value in (1, ["a"], [0.5])),
        *(("inputs", value) for value in ("age", [1, 2], None)),
        *(("reached", value) for value in (None, [[0.0]], [[[0.0], ["a"]]], [3])),
        *(("multipliers", value) for value in (None, [3], [[0, 0, 1]], [[0, 0.5, 1, [1.0]]], [[0, 0, 1, ["a"]]])),
        *(("norm", value) for value in (1, None)),
        *(("units", value) for value in (1, None)),
        ("more", 1),
    ]
    for field, value in wrong:
        bad = {key: value for key, value in data.items() if key != "seal"} | {field: value}
        path.write_text(json.dumps(bad | {"seal": sealed.seal(bad)}))
        with pytest.raises(AlteredCertificateError):
            SlopeIntervals.load(path)
    text = held.to_json()
    rng = np.random.default_rng(0)
    for _ in range(60):
        at = int(rng.integers(len(text)))
        path.write_text(text[:at] + str(rng.choice(list('0123456789.-e[]{},"ax '))) + text[at + 1 :], encoding="utf-8")
        try:
            again = SlopeIntervals.load(path)
        except FileFormatError:
            continue
        assert again.to_json() == held.to_json()


def altered(rng: np.random.Generator, held: SlopeIntervals) -> SlopeIntervals:
    """Another file than the search wrote, with a seal of its own: some field is changed, a little or a lot."""
    way = int(rng.integers(8))
    size = float(rng.choice([1e-13, 1e-9, 1e-6, 1e-3, 0.1, 1.0]))
    if way < 2:
        name = ("lower", "upper")[way]
        end = getattr(held, name).copy()
        at = tuple(int(rng.integers(n)) for n in end.shape)
        end[at] += rng.choice([-1.0, 1.0]) * size * (abs(end[at]) + 1e-3)
        return dataclasses.replace(held, **{name: end})
    proofs = list(held.multipliers)
    at = int(rng.integers(len(proofs)))
    o, i, side, T = proofs[at]
    if way == 2:
        proofs[at] = o, i, side, T * np.exp(size * rng.standard_normal(len(T)))
    elif way == 3:
        proofs[at] = o, i, -side, T
    elif way == 4:
        proofs[at] = (*proofs[int(rng.integers(len(proofs)))][:3], T)
    elif way == 5:
        proofs[at] = o, i, side, rng.permutation(T) if rng.random() < 0.5 else T[:-1]
    elif way == 6 and held.reached:
        pairs = [[low.copy(), high.copy()] for low, high in held.reached]
        end = pairs[int(rng.integers(len(pairs)))][int(rng.integers(2))]
        end[int(rng.integers(len(end)))] += rng.choice([-1.0, 1.0]) * size
        return dataclasses.replace(held, reached=tuple((low, high) for low, high in pairs))
    else:
        del proofs[at]
    return dataclasses.replace(held, multipliers=tuple(proofs))


@pytest.mark.parametrize("name", SUBJECTS)
def test_whatever_is_accepted_is_true(name):
    net, held = subject(name)
    rng = np.random.default_rng(SUBJECTS.index(name))
    claim = Claim(net, held.region, held.norm, held.output)
    known = Subject.of(claim)
    assert isinstance(known, Subject)
    # least slopes of any proof: all that occur
    low, high = all_slopes(known.chosen, slopes_reached(known))
    accepted = refused = 0
    for _ in range(250):
        bad = altered(rng, held)
        if not bad.check(net):
            refused += 1
            continue
        accepted += 1
        assert (bad.lower <= low + 1e-13).all()
        assert (bad.upper >= high - 1e-13).all()
    assert accepted > 15
    assert refused > 100


def test_every_field_of_the_claim_counts():
    net, held = subject("box")
    assert held.check(net)
    other: dict[str, Any] = {
        "region": [ALL, Box([-0.4, -np.inf], [0.7, np.inf]), Ball([0.0, 0.0], 9.0), Box([0.0], [1.0])],
        "norm": ["l1"],
        "output": [(0,), (5,)],
        "units": ["raw"],
        "digest": [held.digest[::-1]],
        "shape": [(2, 5, 4, 3)],
        "slopes": [((0.0, 0.5), (0.0, 1.0))],
        "reached": [(), held.reached[:1], tuple((high, high) for _, high in held.reached)],
        "inputs": [("size", "age"), ("age",)],
        "outputs": [("risk", "cost")],
        "lower": [held.upper, np.full((2, 2), np.nan), held.lower[:1]],
        "upper": [held.lower, np.full((2, 2), np.nan), held.upper[:, :1]],
        "multipliers": [(), held.multipliers[1:]],
    }
    for field, values in other.items():
        for value in values:
            assert not dataclasses.replace(held, **{field: value}).check(net), field
    nameless = net.described(About())
    assert held.check(nameless)
    assert dataclasses.replace(held, inputs=(), outputs=()).check(net)


def test_files_of_the_first_schema_are_read_and_written():
    here = Path(__file__).parent / "certificates"
    held, net = SlopeIntervals.load(here / "slopes.json"), FeedForward.load(here / "slopes.npz")
    assert held.check(net)
    assert held.to_json() == (here / "slopes.json").read_text(encoding="utf-8")
    assert json.loads(SlopeIntervals.of(net).to_json())["schema"] == "certnet-slopes-1"
    assert SlopeIntervals.of(net).to_json() == held.to_json()
    assert held.region == ALL
    assert not dataclasses.replace(held, lower=held.lower + 1e-6).check(net)
    better = certify_features(net)
    assert json.loads(better.to_json())["schema"] == "certnet-slopes-2"
    assert (better.upper - better.lower).sum() < (held.upper - held.lower).sum()


def test_rows_words_and_html():
    net, held = subject("box")
    table = held.table()
    assert [row.output for row in table] == ["cost", "cost", "risk", "risk"]
    assert all(first.size >= second.size for first, second in (table[:2], table[2:]))
    assert table[0]._fields == ("output", "name", "unit", "lower", "upper", "verdict")
    assert {row.name for row in table} == {"age", "size"}
    assert {row.unit for row in table} == {"as given"}
    assert repr(held).startswith("SlopeIntervals(2-5-4-2, ")
    assert "in a box of 2 inputs" in repr(held)
    assert str(held).splitlines()[1].startswith("cost  ")
    assert len(str(held).splitlines()) == 5
    page = held._repr_html_()
    assert page.count("<tr>") == 5
    assert "age" in page
    assert "<script" not in page
    named = net.described(About("", ("<b>", "b"), ("cost", "risk")))
    assert "<b>b</b>" not in certify_features(named)._repr_html_()
    assert "&lt;b&gt;" in certify_features(named)._repr_html_()
    wide = certify_features(network(30, 4, 1))
    assert "… and 10 more" in str(wide)
    assert "… and 10 more" in wide._repr_html_()


def test_names_come_from_the_columns_of_a_frame():
    pd = pytest.importorskip("pandas", reason="frames need pandas")
    from sklearn.neural_network import MLPRegressor

    from certnet import CertifiedRegressor

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.standard_normal((80, 3)) * [1.0, 10.0, 0.1], columns=["age", "size", "dose"])
    y = X["age"] + 0.1 * X["size"] ** 2 / 10.0
    start = MLPRegressor(hidden_layer_sizes=(6, 6), max_iter=300, solver="lbfgs", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CertifiedRegressor(start, effort="quick", random_state=0, monotonic_cst={"age": 1}).fit(X, y)
    net = model.network_
    assert net.about.inputs == ("age", "size", "dose")
    held = certify_features(net, region=Box.around(X.to_numpy(), margin=0.1))
    assert held.check(net)
    verdicts = {row.name: (row.verdict, row.unit) for row in held.table()}
    assert verdicts["age"] in (("increasing", "raw"), ("constant", "raw"))
    assert set(verdicts) == {"age", "size", "dose"}
    assert model.slopes_.inputs == ("age", "size", "dose")
    plain = CertifiedRegressor(start, effort="quick", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert plain.fit(X.to_numpy(), y).network_.about.inputs == ()


# ---------------------------------------------------------------------------------------------------- asked and refused


def test_what_is_refused():
    net = network(2, 4, 4, 2)
    for options, text in (
        ({"region": "box"}, "certnet.Box"),
        ({"region": Box([0.0], [1.0])}, "the box has 1 inputs"),
        ({"region": Ball([0.0, 0.0, 0.0], 1.0)}, "centre"),
        ({"norm": "l1"}, "norm must be"),
        ({"method": "sdp"}, "method must be"),
        ({"output": 2}, "output"),
        ({"output": (0, 0)}, "output"),
        ({"tol": 0.0}, "tol"),
        ({"time_limit": -1.0}, "time_limit"),
        ({"random_state": -1}, "random_state"),
    ):
        with pytest.raises(InvalidInputError, match=text):
            certify_features(net, **options)
    with pytest.raises(InvalidInputError, match="ShallowNetwork or FeedForward"):
        certify_features("net")  # type: ignore[arg-type]
    huge = ShallowNetwork(np.full((2, 2), 1e200), np.zeros(2), np.full((1, 2), 1e200), [0.0])
    with pytest.raises(CertificateError, match="overflow"):
        certify_features(huge)
    wide = Layer(Convolution(np.ones((1, 1, 1, 1)), (1, 1, 10_000)), np.zeros(10_000), Activation("relu"))
    last = Layer(Dense(read_only(np.ones((1, 10_000)))), np.zeros(1), Activation("identity"))
    with pytest.raises(UnsupportedModelError, match="convolution"):
        certify_features(FeedForward.chain([wide, last]))


def test_a_search_that_is_stopped_leaves_intervals():
    net = network(4, 10, 10, 1)
    with pytest.warns(NotConvergedWarning, match="time was up"):
        held = certify_features(net, should_stop=lambda: True)
    assert held.check(net)
    np.testing.assert_array_equal(held.upper, certify_features(net, method="intervals").upper)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        brief = certify_features(net, time_limit=1e-6)
    assert brief.check(net)


def test_auto_leaves_what_would_take_minutes_to_intervals(caplog):
    net = network(3, 6, 6, 1)
    from certnet.certification import features

    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO", logger="certnet"):
        patch.setattr(features, "_MOST_NUMBERS", 10)
        assert not certify_features(net).multipliers
        assert "interval arithmetic alone" in caplog.text
        assert certify_features(net, method="multipliers").multipliers


def test_more_units_than_fit_into_memory():
    net, held = subject("all")
    from certnet.proofs import sectors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sectors, "_MOST_ENTRIES", 10)
        assert not certify_features(net).multipliers
        with pytest.raises(UnsupportedModelError, match="intervals"):
            certify_features(net, method="multipliers")
        assert not held.check(net)
    assert held.check(net)


def test_the_same_seed_gives_the_same_file():
    net = network(3, 8, 8, 1)
    assert certify_features(net).to_json() == certify_features(net).to_json()


# --------------------------------------------------------------------------------------------------- picture and report

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed (certnet[plot])"
)


@needs_matplotlib
def test_bars_carry_the_intervals():
    from certnet.plot import SlopesDisplay, figure_png

    _, held = subject("box")
    display = SlopesDisplay.from_intervals(held, output=1)
    drawn = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in display.ax_.patches)
    np.testing.assert_allclose(drawn, sorted(zip(held.lower[1], held.upper[1])))
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == [row.name for row in held.table()[2:]]
    assert "risk" in display.ax_.get_xlabel()
    assert figure_png(display.figure_, dpi=40).startswith(b"\x89PNG")
    few = SlopesDisplay.from_intervals(certify_features(network(30, 4, 1)), most=5)
    assert len(few.ax_.patches) == 5
    assert "25 smaller ones" in few.ax_.get_xlabel()
    zero = FeedForward([np.zeros((2, 2)), np.ones((1, 2))], [np.zeros(2), np.zeros(1)])
    assert SlopesDisplay.from_intervals(certify_features(zero)).ax_.get_xlim() == (-1.0, 1.0)
    for options, text in (({"output": 2}, "output"), ({"most": 0}, "most")):
        with pytest.raises(InvalidInputError, match=text):
            SlopesDisplay.from_intervals(held, **options)
    with pytest.raises(InvalidInputError, match="SlopeIntervals"):
        SlopesDisplay.from_intervals([1.0])  # type: ignore[arg-type]


def test_rows_of_the_report():
    _, held = subject("box")
    rows = slope_rows(held)
    assert rows[0] == ("output", "feature", "slope at least", "at most", "proved")
    assert len(rows) == 5
    assert slope_rows(held, most=3)[-1] == ("1 more", "", "", "", "")
    _, one = subject("one")
    assert slope_rows(one)[0] == ("feature", "slope at least", "at most", "proved")


@needs_matplotlib
def test_the_report_shows_features():
    rng = np.random.default_rng(0)
    X, net = rng.standard_normal((40, 3)), network(3, 5, 5, 1)
    y = X[:, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = refine(net, X, y, weight=0.1, effort="quick")
    held = certify_features(done.network)
    page = refinement_report(net, done, (X, y), (X, y), epsilons=[0.0], features=held)
    assert "Slopes by feature, proved for all inputs" in page
    assert "feature by feature" in page
    with pytest.raises(InvalidInputError, match="another network"):
        refinement_report(net, done, (X, y), (X, y), epsilons=[0.0], features=certify_features(network(3, 4, 1)))
