"""The search over vectors against the Newton method and differences."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest

from certnet.certification import certify
from certnet.core.outcome import Status
from certnet.core.until import Until
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.proofs.deep import DeepChecker, deep_checker
from certnet.proofs.selection import live_units
from certnet.searches.deep_barrier import search_deep
from certnet.searches.increments import increments_of
from certnet.searches.riccati import bound_of
from certnet.searches.vectors import search_vectors, tightest

SLOPES: list[Any] = [
    "relu",
    "tanh",
    (0.1, 1.0),
    (-0.5, 1.0),
    Activation("leaky_relu", (0.01,)),
    ("relu", (0.2, 0.9), "tanh"),
]


def network(sizes: tuple[int, ...], phi: Any = "relu", seed: int = 0, density: float = 1.0) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [
        rng.standard_normal((n, m)) * np.sqrt(2.0 / (density * m)) * (rng.random((n, m)) < density)
        for m, n in itertools.pairwise(sizes)
    ]
    depth = len(sizes) - 2
    several = isinstance(phi, tuple) and len(phi) == 3
    return FeedForward(
        weights, [np.zeros(n) for n in sizes[1:]], [phi[k % 3] if several else phi for k in range(depth)]
    )


# ---------------------------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("phi", SLOPES, ids=str)
@pytest.mark.parametrize("sizes", [(3, 7, 2), (5, 8, 8, 3), (4, 10, 10, 10, 1), (6, 3, 12, 2, 12, 4), (30, 9, 9, 2)])
def test_the_search_reaches_the_optimum_of_the_newton_method(phi: Any, sizes: tuple[int, ...]) -> None:
    net = network(sizes, phi, seed=sum(sizes))
    found, other = search_vectors(net), search_deep(net, tol=1e-8)
    assert found.status is Status.OPTIMAL
    assert found.upper == pytest.approx(other.upper, rel=1e-6)
    assert found.gap <= 1e-6
    # what it reports is what its multipliers give
    assert found.upper == pytest.approx(np.sqrt(bound_of(increments_of(net), found.multipliers)), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_sparse_networks_with_dead_units_reach_it_too(seed: int) -> None:
    net = network((6, 12, 12, 12, 2), seed=seed, density=0.2)
    if not all(alive.any() for alive in live_units(net.layers)):
        pytest.skip("no input moves an output")
    found = search_vectors(net)
    assert found.gap <= 2e-6
    assert DeepChecker(net, found.multipliers).holds(found.upper * (1.0 + 1e-6))


@pytest.mark.parametrize("power", [-40, -12, 12, 40])
def test_scales_of_units_do_not_matter(power: int) -> None:
    net = network((5, 8, 8, 2), seed=1)
    scales = 10.0 ** (power * np.random.default_rng(0).random(8))
    first, second, last = net.weights
    scaled = FeedForward([scales[:, None] * first, second / scales, last], net.biases, net.activations)
    assert search_vectors(scaled).upper == pytest.approx(search_vectors(net).upper, rel=3e-6)
    assert certify(scaled, method="neuron").check(scaled)


def test_no_network_of_no_effect_is_searched() -> None:
    net = FeedForward(
        [np.zeros((3, 2)), np.ones((3, 3)), np.ones((1, 3))], [np.zeros(3), np.zeros(3), [0.0]], ["relu"] * 2
    )
    found = search_vectors(net)
    assert (found.upper, found.gap, found.status) == (0.0, 0.0, Status.OPTIMAL)
    assert tightest(net, found.multipliers) == 0.0


def test_a_search_that_is_cut_short_keeps_multipliers_that_prove_something() -> None:
    net = network((8, 20, 20, 20, 3), seed=2)
    best = search_vectors(net).upper
    for found, status in (
        (search_vectors(net, max_iterations=3), Status.MAX_ITERATIONS),
        (search_vectors(net, until=Until(deadline=time.perf_counter())), Status.TIME_LIMIT),
    ):
        assert found.status is status
        assert found.upper >= best * (1.0 - 1e-9)
        assert DeepChecker(net, found.multipliers).holds(found.upper * (1.0 + 1e-6))


def test_the_same_seed_gives_the_same_bits() -> None:
    net = network((5, 9, 9, 2), seed=3)
    first, second = search_vectors(net, random_state=4), search_vectors(net, random_state=4)
    assert all(np.array_equal(a, b) for a, b in zip(first.multipliers, second.multipliers))


def test_gradients_agree_with_finite_differences() -> None:
    from certnet.searches.vectors import _Vectors

    vectors = _Vectors(increments_of(network((4, 6, 5, 2), (-0.3, 0.8), seed=5)), 3)
    rng = np.random.default_rng(6)
    x = vectors.drawn(rng) * np.exp(0.3 * rng.standard_normal(vectors._cuts[-1]))
    _, gradient, _ = vectors.value(x)
    for i in rng.integers(0, len(x), 20):
        step = np.zeros_like(x)
        step[i] = 1e-6
        slope = (vectors.value(x + step)[0] - vectors.value(x - step)[0]) / 2e-6
        assert gradient[i] == pytest.approx(slope, abs=1e-8)


def test_power_steps_never_lower_the_value() -> None:
    from certnet.searches.vectors import _Vectors

    for phi in SLOPES:
        vectors = _Vectors(increments_of(network((4, 7, 7, 7, 2), phi, seed=7)), 5)
        x, sizes = vectors.drawn(np.random.default_rng(8)), []
        for _ in range(30):
            x, size = vectors.stepped(x)
            sizes.append(size)
        assert all(b >= a * (1.0 - 1e-12) for a, b in itertools.pairwise(sizes))


# ------------------------------------------------------------------------------------------------- units that can move


def test_live_units_are_those_on_a_path_from_an_input_to_an_output() -> None:
    rng = np.random.default_rng(9)
    for _ in range(40):
        sizes = (3, 4, 4, 2)
        weights = tuple(rng.standard_normal((n, m)) * (rng.random((n, m)) < 0.3) for m, n in itertools.pairwise(sizes))
        on_a_path: list[set[int]] = [set() for _ in sizes]
        for path in itertools.product(*map(range, sizes)):
            if all(W[b, a] != 0.0 for W, a, b in zip(weights, path, path[1:])):
                for units, unit in zip(on_a_path, path):
                    units.add(unit)
        alive = live_units(FeedForward(weights, [np.zeros(len(W)) for W in weights], "relu").layers)
        assert [set(np.flatnonzero(a).tolist()) for a in alive[1:-1]] == on_a_path[1:-1] or not all(on_a_path)


def test_multipliers_of_dead_units_do_not_matter() -> None:
    net = network((4, 6, 6, 2), seed=10)
    first, second, last = (W.copy() for W in net.weights)
    first[2], last[:, 3] = 0.0, 0.0
    net = FeedForward([first, second, last], net.biases, net.activations)
    found = search_vectors(net)
    T = [t.copy() for t in found.multipliers]
    assert (T[0][2], T[1][3]) == (0.0, 0.0)
    T[0][2], T[1][3] = np.nan, -1.0
    for numbers in (found.multipliers, T):
        assert DeepChecker(net, numbers).holds(found.upper * (1.0 + 1e-6))
    T[0][1] = 0.0
    assert not DeepChecker(net, T).holds(1e9)


def test_wide_networks_are_proved_by_blocks_and_checked_from_a_file(tmp_path: Any) -> None:
    net = network((40, 500, 500, 5), seed=15)
    cert = certify(net, tol=1e-3)
    assert cert.kind == "neuron"
    assert cert.gap <= 1.1e-3
    cert.save(tmp_path / "wide.cert")
    assert type(cert).load(tmp_path / "wide.cert").check(net)
    lower: Network = FeedForward([*net.weights[:-1], 1.01 * net.weights[-1]], net.biases, net.activations)
    assert not deep_checker(lower, cert.multipliers).holds(cert.upper)
