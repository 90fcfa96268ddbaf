"""The maximum norm of the inputs: the checker against exact rationals, the search against a generic solver."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from exact import definite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certnet.claims.region import Ball
from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.networks.activations import ACTIVATIONS, Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.gradients import gradient_sum_below
from certnet.proofs.regions import in_ball, slopes_in_ball
from certnet.proofs.shallow import BoundChecker
from certnet.proofs.sup_norm import SupChecker
from certnet.searches.shallow import search_multipliers
from certnet.searches.sup_norm import lower_bound_sup, search_sup

# ----------------------------------------------------------------------------------------------- second implementations


def exactly_proved(
    net: ShallowNetwork, t: np.ndarray, s: np.ndarray, upper: float, low: np.ndarray, high: np.ndarray
) -> bool:
    """Is ``u (x; a)ᵀ diag(p, 1) (x; a) ≥ ½ (x; a)ᵀ M(t) (x; a)`` for all x and a, and the charge paid? In rationals.

    The weights p are s, each raised by a 2⁻⁶⁴th of what the largest is scaled to, over their sum.
    """
    W, v = [[Fraction(a) for a in row] for row in net.W.tolist()], [Fraction(a) for a in net.V[0].tolist()]
    scaled = [Fraction(a) / Fraction(2) ** math.frexp(float(s.max()))[1] + Fraction(1, 2**64) for a in s.tolist()]
    p = [a / sum(scaled) for a in scaled]
    d = len(p)
    half = [[Fraction(0)] * (d + 1) for _ in range(d + 1)]
    charge = Fraction(0)
    for w, a, tau, alpha, beta in zip(W, v, t.tolist(), low.tolist(), high.tolist()):
        tau, alpha, beta = Fraction(tau), Fraction(alpha), Fraction(beta)
        if a == 0 or not any(w) or alpha == beta == 0:  # does nothing, whatever its multiplier
            continue
        if tau == 0 and beta > alpha:
            charge += abs(a) * sum(map(abs, w)) * max(abs(alpha), abs(beta))
            continue
        for i, k in itertools.product(range(d), range(d)):
            half[i][k] += (beta - alpha) * tau * w[i] * w[k] / 2
        for i in range(d):
            half[i][d] += (alpha + beta) * a * w[i] / 2
            half[d][i] += (alpha + beta) * a * w[i] / 2
        half[d][d] += (beta - alpha) * a * a / tau / 2 if beta > alpha else 0
    left = Fraction(upper) - charge
    weights = [*p, Fraction(1)]
    return definite([[(left * weights[i] if i == k else 0) - a for k, a in enumerate(r)] for i, r in enumerate(half)])


def solved(net: ShallowNetwork, low: np.ndarray | float = 0.0, high: np.ndarray | float = 1.0) -> float:
    """The same bound from Grothendieck's program in T = u t and s, solved by Clarabel."""
    h, d = net.W.shape
    low, high = np.broadcast_to(low, h), np.broadcast_to(high, h)
    t, e, s, u = cp.Variable(h), cp.Variable(h), cp.Variable(d), cp.Variable()
    v = net.V[0]
    g = ((low + high) * v) @ net.W
    A = net.W.T @ cp.diag(cp.multiply(high - low, t)) @ net.W
    c = (high - low) * v**2 @ e
    S = cp.bmat(
        [[cp.diag(s) - A / 4, -cp.reshape(g, (d, 1), order="C") / 4], [-g[None] / 4, cp.reshape(u, (1, 1), order="C")]]
    )
    inverse = [cp.quad_over_lin(1.0, t[j]) <= e[j] for j in range(h)]
    problem = cp.Problem(cp.Minimize(cp.sum(s) + u + c / 4), [S >> 0, *inverse])
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(problem.value)


def steepest(net: ShallowNetwork) -> float:
    """``max ‖Σ_active v_j w_j‖₁`` over all patterns, reachable or not: at least L."""
    parts = net.V[0][:, None] * net.W
    patterns = np.array(list(itertools.product((0.0, 1.0), repeat=net.n_hidden)))
    return float(np.abs(patterns @ parts).sum(axis=1).max())


def network(h: int = 8, d: int = 3, seed: int = 0) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal(h), 0.0)


def proved(net: ShallowNetwork, low: np.ndarray | float = 0.0, high: np.ndarray | float = 1.0) -> float:
    found = search_sup(net, low=low, high=high)
    upper = SupChecker(net, found.multipliers, found.input_weights, low=low, high=high).smallest(found.upper)
    assert upper is not None
    assert found.below <= upper * (1.0 + 1e-12)
    return upper


# ------------------------------------------------------------------------------------------------------- the checker


def numbers(spread: int) -> st.SearchStrategy[float]:
    ordinary = st.builds(math.ldexp, st.floats(-2.0, 2.0, width=32), st.integers(-spread, spread))
    return st.one_of(ordinary, ordinary, st.sampled_from([0.0, 1.0, -3.0, 5e-324, 1e-160]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_whatever_is_accepted_is_exactly_true(data: st.DataObject) -> None:
    h, d = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    number = numbers(data.draw(st.sampled_from([2, 30, 300])))
    W = [[data.draw(number) for _ in range(d)] for _ in range(h)]
    net = ShallowNetwork(W, np.zeros(h), [data.draw(number) for _ in range(h)], 0.0)
    pairs = st.sampled_from([(0.0, 1.0), (0.01, 1.0), (-0.3, 0.7), (1.0, 1.0), (0.0, 0.0), (0.0, 5e-324)])
    low, high = np.array([data.draw(pairs) for _ in range(h)]).T
    with np.errstate(all="ignore"):
        guess = np.abs(net.V[0]) / np.linalg.norm(net.W, axis=1)
        guess = np.where(np.isfinite(guess) & (guess > 0.0), guess, 1.0)
    t = guess * np.array([data.draw(st.sampled_from([0.0, 0.5, 1.0, 1.3, 4.0])) for _ in range(h)])
    s = np.array([data.draw(st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 5e-324, 1e308]))) for _ in range(d)])
    checker = SupChecker(net, t, s, low=low, high=high)
    searched = search_sup(net, low=low, high=high)
    for multipliers, weights in ((t, s), (searched.multipliers, searched.input_weights)):
        checker = SupChecker(net, multipliers, weights, low=low, high=high)
        edge = next((u for k in range(-1070, 1020, 30) if checker.holds(u := math.ldexp(1.0, k))), None)
        if edge is None:
            continue
        left, right = edge * 2.0**-31, edge
        for _ in range(60):
            middle = 0.5 * (left + right)
            left, right = (left, middle) if checker.holds(middle) else (middle, right)
        assert exactly_proved(net, multipliers, weights, right, low, high), (net.W, net.V, multipliers, weights, right)


@pytest.mark.parametrize("slope", [5e-324, 1e-310])
def test_slopes_that_underflow_are_not_taken_for_zero(slope: float) -> None:
    net = ShallowNetwork([[1e150, 0.0]], [0.0], [1e150], 0.0)
    for checker in (BoundChecker(net, [1.0], high=slope), SupChecker(net, [1.0], [1.0, 1.0], high=slope)):
        assert not checker.holds(0.0)
        assert not checker.holds(slope * 1e150 * 1e150 * 0.999)


def test_true_bounds_are_accepted_and_false_ones_refused() -> None:
    for seed in range(20):
        net = network(h=1 + seed % 6, d=1 + seed % 4, seed=seed)
        rng = np.random.default_rng(seed)
        t, s = np.exp(rng.standard_normal(net.n_hidden)), rng.uniform(0.2, 1.0, net.n_inputs)
        t[rng.random(net.n_hidden) < 0.2] = 0.0
        checker = SupChecker(net, t, s)
        upper = checker.smallest(2.0 ** np.ceil(np.log2(steepest(net))) * 20.0)
        assert upper is not None
        left, right = 0.0, upper
        for _ in range(60):
            middle = 0.5 * (left + right)
            left, right = (left, middle) if checker.holds(middle) else (middle, right)
        zeros, ones = np.zeros(net.n_hidden), np.ones(net.n_hidden)
        assert exactly_proved(net, t, s, right, zeros, ones)
        assert not exactly_proved(net, t, s, right * (1.0 - 1e-9), zeros, ones)


def test_the_bound_of_altered_numbers_is_refused() -> None:
    net = network(h=12, d=4)
    found = search_sup(net, tol=1e-9)
    upper = SupChecker(net, found.multipliers, found.input_weights).smallest(found.upper)
    assert upper is not None
    assert not SupChecker(net, found.multipliers, found.input_weights).holds(upper * (1.0 - 1e-8))
    for j in range(net.n_hidden):
        for factor in (0.5, 2.0, 0.0):
            t = found.multipliers.copy()
            t[j] *= factor
            assert not SupChecker(net, t, found.input_weights).holds(upper)
    for k in range(net.n_inputs):
        for factor in (0.9, 1.1, 0.0):
            s = found.input_weights.copy()
            s[k] *= factor
            assert not SupChecker(net, found.multipliers, s).holds(upper)
    assert SupChecker(net, found.multipliers, 3.0 * found.input_weights).holds(upper * (1.0 + 1e-12))  # ratios count
    other = ShallowNetwork(net.W * 1.01, net.b, net.V, net.c)
    assert not SupChecker(other, found.multipliers, found.input_weights).holds(upper)


@pytest.mark.parametrize(
    ("t", "s", "reason"),
    [
        ("text", [1.0, 1.0], "multipliers are not numbers"),
        ([1.0, 1.0], [1.0, 1.0], "multipliers, the network has 3 hidden units"),
        ([1.0, math.nan, 1.0], [1.0, 1.0], "multiplier 1 is NaN"),
        ([1.0, 1.0, -1.0], [1.0, 1.0], "multiplier 2 is negative"),
        ([1.0, 1e-320, 1.0], [1.0, 1.0], "multiplier 1 is out of all proportion"),
        ([1.0] * 3, None, "input weights are not numbers|input weights, the network has 2 inputs"),
        ([1.0] * 3, [[1.0], 1.0], "input weights are not numbers"),
        ([1.0] * 3, [1.0], "input weights, the network has 2 inputs"),
        ([1.0] * 3, [1.0, math.inf], "input weight 1 is NaN or infinite"),
        ([1.0] * 3, [-1e-300, 1.0], "input weight 0 is negative"),
        ([1.0] * 3, [0.0, 0.0], "input weights are all zero"),
    ],
)
def test_bad_numbers_are_refused(t: object, s: object, reason: str) -> None:
    checker = SupChecker(network(h=3, d=2), t, s)  # type: ignore[arg-type]
    assert checker.refusal is not None
    verdict = checker.holds(1e6)
    assert not verdict
    assert any(part in verdict.reason for part in reason.split("|"))
    assert checker.smallest(1.0) is None


def test_several_outputs_and_bad_bounds_are_refused() -> None:
    two = ShallowNetwork(np.eye(2), [0.0, 0.0], np.eye(2), [0.0, 0.0])
    assert "one output" in str(SupChecker(two, [1.0, 1.0], [1.0, 1.0]).refusal)
    with pytest.raises(InvalidInputError, match="one output"):
        search_sup(two)
    # ‖x‖_∞ ≤ 1 moves the two outputs by √2 at most, and does
    assert gradient_sum_below(two, [1.0, 1.0]) == pytest.approx(np.sqrt(2.0), rel=1e-12)
    assert gradient_sum_below(two, [1.0, 1.0]) < np.sqrt(2.0)
    checker = SupChecker(network(h=3, d=2), [1.0] * 3, [1.0, 1.0])
    for wrong in (math.nan, math.inf, -1.0, 0.0, "3", True, None):
        assert not checker.holds(wrong)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("seed", range(8))
def test_the_search_against_clarabel(seed: int) -> None:
    net = network(h=[3, 6, 10, 15][seed % 4], d=[2, 5, 1, 7][seed % 4], seed=seed)
    low, high = np.zeros(net.n_hidden), np.ones(net.n_hidden)
    if seed >= 4:
        low[::2], high[1] = -0.2, 0.5
        low[1] = 0.5
    assert proved(net, low, high) == pytest.approx(solved(net, low, high), rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_bracket_holds_the_steepest_pattern(seed: int) -> None:
    net = network(h=4 + seed, d=1 + seed % 5, seed=seed)
    upper, lower = proved(net), lower_bound_sup(net)
    assert 0.0 < lower.value <= steepest(net) * (1.0 + 1e-12)
    assert steepest(net) <= upper
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-3, 3, (2, 5000, net.n_inputs))
    assert (np.abs(net.predict(a) - net.predict(b)) / np.abs(a - b).max(axis=1)).max() <= upper


def test_non_negative_weights_have_the_exact_bound() -> None:
    rng = np.random.default_rng(3)
    W, V = rng.random((20, 6)), rng.random(20)
    net = ShallowNetwork(W, rng.standard_normal(20), V, 0.0)
    assert proved(net) == pytest.approx(float((V @ W).sum()), rel=1e-6)
    assert lower_bound_sup(net).value == pytest.approx(float((V @ W).sum()), rel=1e-12)


def test_one_input_has_the_constant_of_the_euclidean_norm() -> None:
    net = network(h=9, d=1)
    found = search_multipliers(net)
    assert proved(net) == pytest.approx(BoundChecker(net, found.multipliers).smallest(found.upper), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_two_norms_are_in_order(seed: int) -> None:
    net = network(h=10 + 10 * seed, d=2 + 2 * seed, seed=seed)
    found = search_multipliers(net)
    euclidean, upper = found.upper, proved(net)
    assert euclidean * (1.0 - 1e-6) <= upper <= math.sqrt(net.n_inputs) * euclidean * (1.0 + 1e-6)


def test_one_unit_is_exact() -> None:
    net = ShallowNetwork([[3.0, -4.0, 0.0]], [1.0], [-2.0], 0.0)
    assert proved(net) == pytest.approx(14.0, rel=1e-6)
    assert lower_bound_sup(net).value == pytest.approx(14.0, rel=1e-12)


def test_inputs_that_do_not_matter_cost_nothing() -> None:
    net = network(h=10, d=3)
    wide = ShallowNetwork(np.column_stack([np.zeros(10), net.W, np.zeros(10)]), net.b, net.V, net.c)
    assert proved(wide) == pytest.approx(proved(net), rel=1e-6)
    found = search_sup(net)
    assert SupChecker(wide, found.multipliers, [0.0, *found.input_weights, 0.0]).smallest(found.upper) == pytest.approx(
        found.upper, rel=1e-9
    )


def test_more_inputs_than_units() -> None:
    net = network(h=6, d=40)
    assert proved(net) == pytest.approx(solved(net), rel=1e-6)


@pytest.mark.parametrize("scale", [(1e-140, 1e140), (1e140, 1e-140), (1e-200, 1e-100), (1e150, 1e150), (1e-305, 1.0)])
def test_no_scale_of_the_weights_matters(scale: tuple[float, float]) -> None:
    net = network(h=10, d=4)
    moved = ShallowNetwork(net.W * scale[0], net.b, net.V * scale[1], net.c)
    size = scale[0] * scale[1]
    assert proved(moved) == pytest.approx(proved(net) * size, rel=1e-5)
    below = lower_bound_sup(moved).value
    assert 0.0 <= below <= proved(net) * size * (1.0 + 1e-5)


@pytest.mark.parametrize("scale", [(1e-300, 1e300), (1e300, 1e-300), (1e-320, 1.0), (5e-324, 1e300)])
def test_units_whose_multiplier_no_double_holds_are_charged_by_their_norms(scale: tuple[float, float]) -> None:
    net = network(h=10, d=4)
    moved = ShallowNetwork(net.W * scale[0], net.b, net.V * scale[1] * 0.1, net.c)
    charge = float(np.abs(moved.V[0]) @ np.abs(moved.W).sum(axis=1))
    assert proved(moved) <= charge * (1.0 + 1e-12) + 1e-299


def test_units_and_inputs_of_all_sizes() -> None:
    net = network(h=12, d=5)
    units, inputs = 10.0 ** np.linspace(-140, 140, 12), 10.0 ** np.linspace(-6, 0, 5)
    moved = ShallowNetwork(net.W * inputs * units[:, None], net.b, net.V / units, net.c)
    plain = ShallowNetwork(net.W * inputs, net.b, net.V, net.c)
    assert proved(moved) == pytest.approx(solved(plain), rel=2e-6)


def test_networks_that_are_constant_or_linear() -> None:
    flat = ShallowNetwork(np.zeros((3, 2)), np.ones(3), np.ones(3), 0.0)
    assert proved(flat) == 0.0
    assert lower_bound_sup(flat).value == 0.0
    net = network(h=6, d=3)
    assert proved(net, 0.7, 0.7) == pytest.approx(0.7 * float(np.abs(net.V @ net.W).sum()), rel=1e-9)
    assert proved(net, 0.0, 0.0) == 0.0
    cancelling = ShallowNetwork([[1.0, 2.0], [1.0, 2.0]], [0.0, 0.0], [1.0, -1.0], 0.0)
    assert proved(cancelling, 1.0, 1.0) <= 1e-9


def test_a_search_that_is_cut_short_says_so_and_still_proves() -> None:
    net = network(h=60, d=12)
    found = search_sup(net, max_iterations=1, tol=1e-14)
    assert found.status is Status.MAX_ITERATIONS
    upper = SupChecker(net, found.multipliers, found.input_weights).smallest(found.upper)
    assert upper is not None
    assert upper >= search_sup(net).below
    assert found.gap == found.gap_of(found.upper) > 0.0


# ---------------------------------------------------------------------------------------------- gradients and balls


def test_the_gradient_is_never_rounded_up() -> None:
    rng = np.random.default_rng(0)
    for seed in range(30):
        net = network(h=1 + seed % 7, d=1 + seed % 4, seed=seed)
        x = rng.standard_normal(net.n_inputs) * 10.0 ** rng.integers(-3, 4)
        z = [sum(map(lambda a, p: Fraction(a) * Fraction(p), w, x), Fraction(b)) for w, b in zip(net.W, net.b)]
        gradient = [
            sum((Fraction(v) * Fraction(w) for v, w, q in zip(net.V[0], column, z) if q > 0), Fraction(0))
            for column in net.W.T
        ]
        exact, value = sum(map(abs, gradient)), gradient_sum_below(net, x)
        assert Fraction(value) <= exact
        assert value >= float(exact) * (1.0 - 1e-12)
        assert gradient_sum_below(FeedForward.of(net), x) == value


def test_no_gradient_is_claimed_at_a_kink_or_a_bad_point() -> None:
    net = ShallowNetwork([[1.0, -1.0], [0.5, 0.5]], [0.0, 1.0], [1.0, 1.0], 0.0)
    for x in ([1.0, 1.0], [1.0, 1.0 + 2.0**-52], [math.nan, 0.0], [math.inf, 0.0], [1.0], [[1.0, 0.0]]):
        assert gradient_sum_below(net, x) == 0.0
    assert gradient_sum_below(net, [2.0, 1.0]) == pytest.approx(2.0)
    for scale in (1e-320, 1e308):  # what underflows or overflows is not claimed
        tiny = ShallowNetwork([[scale, scale]], [1.0], [scale], 0.0)
        assert 0.0 <= gradient_sum_below(tiny, [0.0, 0.0]) <= 1.0


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_bracket_of_every_activation(name: str) -> None:
    rng = np.random.default_rng(1)
    net = FeedForward([rng.standard_normal((9, 3)), rng.standard_normal((1, 9))], [rng.standard_normal(9), [0.0]], name)
    layer = ShallowNetwork(net.weights[0], net.biases[0], net.weights[1], net.biases[1])
    low, high = net.activations[0].slopes
    upper = proved(layer, low, high)
    below = lower_bound_sup(net)
    assert 0.0 < below.value <= upper
    J = np.abs(net.gradients(below.point[None])).sum()
    assert J * (1.0 - 1e-9) <= below.value <= J
    last = 0.0
    for radius in (0.0, 0.1, 1.0, 100.0):
        centre = np.array([0.4, -0.3, 0.2])
        inside = proved(layer, *slopes_in_ball(net, centre, radius, norm="linf"))
        assert last <= inside * (1.0 + 2e-6)
        assert inside <= upper * (1.0 + 2e-6)
        a, b = centre + radius * rng.uniform(-1, 1, (2, 500, 3))
        assert np.all(np.abs(net.predict(a) - net.predict(b)) <= inside * np.abs(a - b).max(axis=1) + 1e-12)
        there = lower_bound_sup(net, region=Ball(centre, radius))
        assert there.value <= inside
        assert there.value == 0.0 or in_ball(there.point, centre, radius, norm="linf")
        last = inside


def test_an_activation_known_by_its_slopes_has_no_lower_bound() -> None:
    net = FeedForward([np.eye(2), np.ones((1, 2))], [[0.0, 0.0], [0.0]], Activation("user", (-1.0, 1.0)))
    assert lower_bound_sup(net).value == 0.0
    assert lower_bound_sup(net, region=Ball(np.zeros(2), 1.0)).value == 0.0


def test_a_deep_network_has_a_lower_bound_too() -> None:
    rng = np.random.default_rng(2)
    sizes = (3, 6, 5, 1)
    weights = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(sizes)]
    net = FeedForward(weights, [rng.standard_normal(n) for n in sizes[1:]], "relu")
    found = lower_bound_sup(net, X=rng.standard_normal((10, 3)))
    assert found.value == pytest.approx(float(np.abs(net.gradients(found.point[None])).sum()), rel=1e-9)


def test_balls_in_the_maximum_norm() -> None:
    net = FeedForward([[[3.0, -4.0]], [[1.0]]], [[0.0], [0.0]], "relu")
    centre = np.array([7.0, 0.0])  # z = 21 there, and 21 − 7 r at the corner
    assert [a.item() for a in slopes_in_ball(net, centre, 2.999, norm="linf")] == [1.0, 1.0]
    assert [a.item() for a in slopes_in_ball(net, centre, 3.0, norm="linf")] == [0.0, 1.0]
    assert [a.item() for a in slopes_in_ball(net, centre, 4.1)] == [1.0, 1.0]
    assert in_ball([1.0, 1.0], [0.0, 0.0], 1.1, norm="linf")
    assert not in_ball([1.0, 1.0], [0.0, 0.0], 1.1)
    assert not in_ball([1.0, 1.0], [0.0, 0.0], 1.0, norm="linf")  # in doubt
    for wrong in ("l1", "", None):
        with pytest.raises(InvalidInputError, match="norm must be"):
            slopes_in_ball(net, centre, 1.0, norm=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="norm must be"):
            in_ball([1.0], [0.0], 1.0, norm=wrong)  # type: ignore[arg-type]


def test_tiny_weights_in_a_huge_ball_may_switch() -> None:
    net = FeedForward([[[1e-200, 1e-200]], [[1.0]]], [[1.0], [0.0]], "relu")
    for norm in ("l2", "linf"):
        assert [a.item() for a in slopes_in_ball(net, [0.0, 0.0], 1e250, norm=norm)] == [0.0, 1.0]
        assert not in_ball([1e-200, 0.0], [0.0, 0.0], 0.0, norm=norm)
        assert in_ball([1e-200, 0.0], [1e-200, 0.0], 0.0, norm=norm)
