"""One hidden layer with any slopes, one pair per unit: the search and its checker against the LMI in CVXPY."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from exact import Matrix, definite
from hypothesis import given
from hypothesis import strategies as st

from certnet.certification import certify
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.rounding import sum_and_width
from certnet.proofs.semidefinite import is_positive_semidefinite
from certnet.proofs.shallow import BoundChecker
from certnet.searches.shallow import search_multipliers


def layer(seed: int, h: int = 4, d: int = 3, m: int = 2) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(rng.standard_normal((h, d)), np.zeros(h), rng.standard_normal((m, h)), np.zeros(m))


def by_lmi(net: ShallowNetwork, low: np.ndarray, high: np.ndarray) -> float:
    """√ρ* of ``[ρ I + 2 Wᵀ T diag(αβ) W, −Wᵀ T diag(α+β); ·, 2 T − VᵀV] ⪰ 0``."""
    W, V = net.W, net.V
    rho, T = cp.Variable(), cp.Variable(len(W), nonneg=True)
    cross = -W.T @ cp.diag(cp.multiply(T, low + high))
    corner = rho * np.eye(W.shape[1]) + 2 * W.T @ cp.diag(cp.multiply(T, low * high)) @ W
    problem = cp.Problem(cp.Minimize(rho), [cp.bmat([[corner, cross], [cross.T, 2 * cp.diag(T) - V.T @ V]]) >> 0])
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return math.sqrt(float(rho.value))


def exact_half(net: ShallowNetwork, t: np.ndarray, low: np.ndarray, high: np.ndarray) -> Matrix:
    """½ M(t) in rationals."""
    d, n = net.n_inputs, net.n_inputs + net.n_outputs
    half = [[Fraction(0)] * n for _ in range(n)]
    for w, v, tau, a, b in zip(net.W.tolist(), net.V.T.tolist(), t.tolist(), low.tolist(), high.tolist()):
        tau, a, b, z = Fraction(tau), Fraction(a), Fraction(b), [Fraction(s) for s in w + v]
        for i in range(n):
            for j in range(n):
                if (i < d) != (j < d):
                    half[i][j] += (a + b) * z[i] * z[j] / 2
                else:
                    half[i][j] += (b - a) * z[i] * z[j] * (tau if i < d else 1 / tau) / 2
    return half


def shifted(half: Matrix, upper: float) -> Matrix:
    return [[(Fraction(upper) if i == j else 0) - a for j, a in enumerate(row)] for i, row in enumerate(half)]


def slopes(seed: int, h: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(-1.0, 0.7, h)
    return low, low + rng.uniform(0.05, 1.0, h)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_the_search_finds_the_optimum_of_the_lmi(seed: int, m: int) -> None:
    net = layer(seed, m=m)
    low, high = slopes(seed, 4)
    found = search_multipliers(net, low=low, high=high, tol=1e-7)
    assert found.gap <= 1e-7
    assert found.upper == pytest.approx(by_lmi(net, low, high), rel=1e-5)
    upper = BoundChecker(net, found.multipliers, low=low, high=high).smallest(found.upper)
    assert upper is not None
    assert upper == pytest.approx(found.upper, rel=1e-9)


@pytest.mark.parametrize(
    "phi",
    ["relu", "tanh", "sigmoid", Activation("leaky_relu", (-0.5,)), Activation("hard_sigmoid"), (-1.0, 1.0), (0.3, 0.7)],
    ids=str,
)
def test_one_layer_of_any_depth_has_the_shallow_bound(phi: Any) -> None:
    base = layer(1)
    net = FeedForward([base.W, base.V], [base.b, base.c], [phi])
    shallow, neuron = certify(net), certify(net, method="neuron")
    assert (shallow.kind, neuron.kind) == ("shallow", "neuron")
    assert neuron.upper == pytest.approx(shallow.upper, rel=1e-5)
    assert shallow.gap <= 3e-6
    assert shallow.check(net)
    assert neuron.check(net)


@pytest.mark.parametrize("slope", [1.0, -0.7, 0.1])
@pytest.mark.parametrize("m", [1, 2])
def test_known_slopes_leave_one_matrix(slope: float, m: int) -> None:
    net = layer(2, m=m)
    found = search_multipliers(net, low=slope, high=slope)
    true = abs(slope) * np.linalg.norm(net.V @ net.W, 2)
    assert found.upper == pytest.approx(true, rel=1e-6)
    upper = BoundChecker(net, found.multipliers, low=slope, high=slope).smallest(found.upper)
    assert upper == pytest.approx(true, rel=1e-6)
    deep = FeedForward([net.W, net.V], [net.b, net.c], [(slope, slope)])
    assert certify(deep).upper == pytest.approx(true, rel=1e-6)


@pytest.mark.parametrize("m", [1, 2])
def test_some_slopes_known_and_some_zero(m: int) -> None:
    net = layer(3, h=5, m=m)
    low, high = np.array([1.0, 0.0, 0.0, 0.0, -1.0]), np.array([1.0, 1.0, 0.0, 1.0, -1.0])
    found = search_multipliers(net, low=low, high=high)
    checker = BoundChecker(net, found.multipliers, low=low, high=high)
    upper = checker.smallest(found.upper)
    assert upper is not None
    corners = [np.linalg.norm((net.V * [1.0, a, 0.0, b, -1.0]) @ net.W, 2) for a in (0.0, 1.0) for b in (0.0, 1.0)]
    assert max(corners) <= upper <= found.upper * (1.0 + 1e-9)
    assert found.gap <= 1e-6


def test_what_is_accepted_is_exactly_true() -> None:
    rng = np.random.default_rng(4)
    accepted = 0
    for seed in range(60):
        net = layer(seed, h=3, d=2, m=1 + seed % 2)
        low, high = slopes(seed, 3)
        t = np.linalg.norm(net.V, axis=0) / np.linalg.norm(net.W, axis=1) * np.exp(rng.standard_normal(3))
        half = exact_half(net, t, low, high)
        edge = float(np.linalg.eigvalsh([[float(a) for a in row] for row in half])[-1])
        checker = BoundChecker(net, t, low=low, high=high)
        assert checker.holds(edge * (1.0 + 1e-9))
        assert not checker.holds(edge * (1.0 - 1e-9))
        for step in (-1e-14, 0.0, 1e-15, 1e-14, 1e-13, 1e-12):
            if checker.holds(edge * (1.0 + step)):
                accepted += 1
                assert definite(shifted(half, edge * (1.0 + step)))
    assert accepted > 30


finite = st.floats(-1e150, 1e150)


@given(a=finite, b=finite)
def test_sum_and_width_contain_the_slopes(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    centre, width = (Fraction(float(s[0])) for s in sum_and_width(np.array([low]), np.array([high])))
    assert (centre - width) / 2 <= Fraction(low)
    assert (centre + width) / 2 >= Fraction(high)


def test_zero_to_one_is_kept_as_it_is() -> None:
    centre, width = sum_and_width(np.zeros(2), np.ones(2))
    assert centre.tolist() == width.tolist() == [1.0, 1.0]


def test_a_charge_is_by_the_steepest_slope() -> None:
    net = ShallowNetwork([[3.0, 4.0]], [0.0], [2.0], 0.0)
    for low, high in ((-2.0, 0.5), (0.0, 2.0), (-2.0, -1.0)):
        checker = BoundChecker(net, [0.0], low=low, high=high)
        assert checker.holds(20.0 * (1.0 + 1e-12))
        assert not checker.holds(20.0 * (1.0 - 1e-12))
    assert BoundChecker(net, [0.0], low=0.0, high=0.0).holds(0.0)


def test_a_charge_with_a_subnormal_slope_is_not_understated() -> None:
    # √2 · 2^-1074 rounds down to 2^-1074 if it is formed before it meets the exponents of the weights
    net = ShallowNetwork([[2.0**500 * 0.999, 2.0**500 * 0.999]], [0.0], [2.0**500 * 0.999], 0.0)
    true = math.sqrt(2.0) * 0.999**2 * 2.0**-74
    assert not BoundChecker(net, [0.0], low=0.0, high=5e-324).holds(0.75 * true)


def test_slopes_too_large_for_a_sum_are_refused_without_a_warning() -> None:
    net = ShallowNetwork([[1.0]], [0.0], [1.0], 0.0)
    assert not BoundChecker(net, [1.0], low=1e308, high=1.7e308).holds(1.0)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_semidefiniteness_is_not_claimed_within_the_error(n: int) -> None:
    rng = np.random.default_rng(n)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    for least in (1e-3, 1e-6, 1e-9):
        S = (Q * np.linspace(least, 1.0, n)) @ Q.T if n > 1 else np.array([[least]])
        S = 0.5 * (S + S.T)
        assert is_positive_semidefinite(S, 0.5 * least)
        assert not is_positive_semidefinite(S, 1.001 * least)
        assert not is_positive_semidefinite(S, math.inf)
        assert not is_positive_semidefinite(S, math.nan)
    assert not is_positive_semidefinite(-np.eye(n), 0.0)
