"""Bounds in regions against the Lipschitz constant itself: all activation patterns of more than 100 tiny networks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from patterns import exact_constant, jacobians, meets, size_of
from scipy.optimize import linprog

from certnet import Ball, Box, Certificate, FeedForward, certify
from certnet.claims.region import ALL, Region
from certnet.networks.activations import Activation

Array = Any
PHIS = [
    Activation("relu"),
    Activation("relu"),
    Activation("leaky_relu"),
    Activation("leaky_relu", (0.3,)),
    Activation("leaky_relu", (-0.5,)),
    Activation("leaky_relu", (2.0,)),
]
N = 108
ROOM = 1.0 + 1e-6  # of searches that end at a gap of 1e-6


def network(seed: int) -> FeedForward:
    """Depth 1, 2 or 3, one to three inputs and outputs; a third of them with weights that are zero or equal."""
    rng = np.random.default_rng([seed, 15])
    depth, d = 1 + seed % 3, int(rng.integers(1, 4))
    most = {1: 6, 2: 5, 3: 4}[depth]
    widths = [d, *(int(n) for n in rng.integers(2, most, size=depth)), int(rng.integers(1, 4))]
    Ws = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(widths)]
    bs = [rng.standard_normal(n) for n in widths[1:]]
    if seed % 3 == 1:
        Ws = [np.where(rng.random(W.shape) < 0.2, 0.0, np.round(2.0 * W) / 2.0) for W in Ws]
    return FeedForward(Ws, bs, [PHIS[int(rng.integers(len(PHIS)))] for _ in bs[1:]])


def claims(seed: int, net: FeedForward) -> tuple[str, tuple[int, ...] | None, Array, Array]:
    """A norm, outputs, and the centre and half-widths of a box."""
    rng = np.random.default_rng([seed, 16])
    m = net.n_outputs
    outputs: list[tuple[int, ...] | None] = [None, (int(rng.integers(m)),)]
    if m > 1:
        i, j = rng.permutation(m)[:2]
        outputs.append((int(i), int(j)))
    centre, half = rng.standard_normal(net.n_inputs), rng.uniform(0.05, 1.0, net.n_inputs)
    return ("l2", "linf")[seed % 2], outputs[int(rng.integers(len(outputs)))], centre, half


def certified(net: FeedForward, region: Region, norm: str, output: tuple[int, ...] | None) -> Certificate:
    asked: Any = output[0] if output is not None and len(output) == 1 else output
    cert = certify(net, region=region, norm=norm, output=asked)
    assert cert.check(net)
    return cert


@pytest.mark.parametrize("seed", range(N))
def test_the_constant_lies_between_both_sides_and_the_bound_grows_with_the_region(seed: int) -> None:
    net = network(seed)
    norm, output, centre, half = claims(seed, net)
    low = centre - 3.0 * half
    low[0] = -np.inf  # half-spaces
    regions: list[Region] = [Box(centre - r * half, centre + r * half) for r in (0.2, 1.0, 3.0)]
    regions += [Box(low, np.full(len(low), np.inf)), ALL]
    last = 0.0
    for region in regions:
        L = exact_constant(net, region, norm, output)
        cert = certified(net, region, norm, output)
        assert cert.lower <= L * (1.0 + 1e-9)
        assert cert.upper >= L * (1.0 - 1e-9)
        assert cert.upper >= last * (1.0 - 1e-6)
        last = cert.upper
    everywhere = last
    last = 0.0
    for radius in (0.1, 0.7, 4.0):
        region = Ball(centre, radius)
        L = exact_constant(net, region, norm, output)
        cert = certified(net, region, norm, output)
        assert cert.lower <= L * (1.0 + 1e-9)
        assert cert.upper >= L * (1.0 - 1e-9)
        assert cert.upper >= last * (1.0 - 1e-6)
        assert cert.upper <= everywhere * ROOM
        last = cert.upper


@pytest.mark.parametrize("seed", range(0, N, 3))
def test_cases_close_the_bracket_on_the_constant(seed: int) -> None:
    net = network(seed + seed // 3 % 3)
    norm, output, centre, half = claims(seed, net)
    asked: Any = output[0] if output is not None and len(output) == 1 else output
    for region in (Box(centre - half, centre + half), Ball(centre, 0.7), ALL):
        L = exact_constant(net, region, norm, output)
        cert = certify(net, region=region, norm=norm, output=asked, exact=True, time_limit=60.0)
        assert cert.check(net)
        assert L * (1.0 - 1e-9) <= cert.upper <= L * (1.0 + 3e-6)
        assert L * (1.0 - 3e-6) <= cert.lower <= L * (1.0 + 1e-9)


def test_the_bank_is_one() -> None:
    """Networks of all depths; regions with fewer patterns than there are, and slopes that differ between them."""
    nets = [network(seed) for seed in range(N)]
    assert N >= 100
    assert {net.depth for net in nets} == {1, 2, 3}
    assert {net.n_inputs for net in nets} == {net.n_outputs for net in nets} == {1, 2, 3}
    fewer = less = 0
    for seed, net in enumerate(nets[:40]):
        _, _, centre, half = claims(seed, net)
        inside, all_ = (len(list(jacobians(net, where, "l2"))) for where in (Box(centre - half, centre + half), ALL))
        fewer += inside < all_
        less += exact_constant(net, Box(centre - half, centre + half)) < 0.9 * exact_constant(net, ALL)
    assert fewer > 30
    assert less > 15


# ------------------------------------------------------------------------------------------------ the judge is judged


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_slopes_between_points_come_near_the_constant_and_never_above(seed: int, norm: str) -> None:
    net, rng = network(seed), np.random.default_rng(seed)
    _, _, centre, half = claims(seed, net)
    d = net.n_inputs
    for region in (Box(centre - half, centre + half), Ball(centre, 0.8)):
        if isinstance(region, Box) or norm == "linf":
            reach = half if isinstance(region, Box) else np.full(d, region.radius)
            X = centre + reach * rng.uniform(-1.0, 1.0, (4000, d))
        else:
            X = rng.standard_normal((4000, d))
            X *= (rng.uniform(size=(4000, 1)) ** (1.0 / d)) / np.linalg.norm(X, axis=1, keepdims=True)
            X = centre + region.radius * X
        L = exact_constant(net, region, norm)
        J = net.gradients(X)
        best = max(size_of(A, norm) for A in np.unique(np.round(J, 9), axis=0))
        assert best == pytest.approx(L, rel=1e-6)  # of all cells of this bank some points are drawn


@pytest.mark.parametrize("d", [1, 2, 3])
def test_linear_programming_says_the_same_of_cells(d: int) -> None:
    rng, found = np.random.default_rng(d), [0, 0]
    where = Box(-np.ones(d), np.ones(d))
    for _ in range(80):
        A, b = rng.standard_normal((d + 2, d)), rng.standard_normal(d + 2)
        margin = linprog(
            np.append(np.zeros(d), -1.0),
            A_ub=np.column_stack([-A, np.ones(d + 2)]),
            b_ub=b,
            bounds=[(-1.0, 1.0)] * d + [(None, 1.0)],
        )
        reached = bool(margin.x[-1] > 1e-6)
        assert meets(A, b, where, "l2") == reached
        found[reached] += 1
    assert min(found) > 10
