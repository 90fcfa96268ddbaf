"""The checkers of lifted networks' bounds against exact arithmetic: what is false is refused, and soon."""

from __future__ import annotations

import dataclasses
import re
from fractions import Fraction

import numpy as np
import pytest
from alter import change, change_list
from lifted_judge import edge, fractions, layers_proved, matrix_proved, program, random_net, slope_reached, true

from certnet.lifted import LiftedNetwork
from certnet.lifted.bounds import LiftedCertificate, lipschitz_bound, slope_below
from certnet.networks.quadratic import hessian, linear_term
from certnet.proofs.lifted_energy import hessian_charged, linear_term_charged
from certnet.proofs.lifted_layers import LayerChecker, norm_at_least, steepest
from certnet.proofs.lifted_matrix import MatrixChecker
from certnet.searches.lifted_layers import layer_multipliers

Rng = np.random.Generator


def three_layers(seed: int = 0, units=("relu", "hard_sigmoid", "linear")) -> LiftedNetwork:
    rng = np.random.default_rng(seed)
    W = [rng.standard_normal((3, 2)), rng.standard_normal((3, 3)), rng.standard_normal((2, 3))]
    b = [0.3 * rng.standard_normal(len(w)) for w in W]
    return LiftedNetwork(W, b, beta=[1.0, 0.5, 0.0], gamma=0.125, units=list(units))


@pytest.mark.parametrize("seed", range(6))
def test_assembled_entries_are_within_their_errors(seed):
    rng = np.random.default_rng(seed)
    net = random_net(rng, most=5)
    H, error = hessian_charged(net)
    exact = program(net)[0]
    for i in range(net.n_units):
        for j in range(net.n_units):
            assert abs(Fraction(H[i, j]) - exact[i][j]) <= Fraction(error[i, j])
            assert error[i, j] <= 1e-12 * (1.0 + abs(H[i, j]) + np.sqrt(H[i, i] * H[j, j]))
    np.testing.assert_allclose(H, hessian(net), rtol=1e-12, atol=1e-12)
    x = rng.standard_normal(net.n_inputs)
    q, error = linear_term_charged(net, x)
    np.testing.assert_allclose(q, linear_term(net, x[None])[0], rtol=1e-12, atol=1e-12)
    assert (error < 1e-12 * (1.0 + np.abs(q).max()) * 10).all()


@pytest.mark.parametrize("units", [("relu", "relu", "relu"), ("relu", "hard_sigmoid", "linear")])
@pytest.mark.parametrize("output", [None, (1,), (0, 1)])
def test_a_bound_just_below_the_exact_edge_is_refused(units, output):
    net = three_layers(1, units)
    cert = lipschitz_bound(
        net, output=None if output is None else output if len(output) == 2 else output[0], lower=False
    )
    assert cert.kind == "sdp"
    least = edge(net, cert.multipliers, output, cert.upper)
    checker = MatrixChecker(net, cert.multipliers, output)
    assert not checker.holds(least * (1.0 - 1e-9))
    assert checker.holds(least * (1.0 + 1e-8))
    assert cert.upper <= least * (1.0 + 1e-8)


def test_the_exact_judge_can_say_no():
    net = three_layers()
    cert = lipschitz_bound(net)
    assert true(net, cert)
    assert not true(net, dataclasses.replace(cert, upper=cert.upper * 0.999))
    assert not true(net, dataclasses.replace(cert, lower=cert.upper))
    assert not slope_reached(net, cert.witness, np.zeros(net.n_units), None, cert.lower)
    layers = lipschitz_bound(net, "layerwise")
    assert not true(net, dataclasses.replace(layers, upper=layers.upper * 0.999))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: (), "there are 0 vectors of multipliers: 1 \\+ 2 are needed"),
        (lambda m: m[:2], "there are 2 vectors"),
        (lambda m: (-m[0], *m[1:]), "is negative"),
        (lambda m: (np.full(8, np.nan), *m[1:]), "NaN or infinite"),
        (lambda m: (m[0][:3], *m[1:]), r"there are \(3,\) multipliers, the network has 8 units"),
        (lambda m: (["a"] * 8, *m[1:]), "are not numbers"),
        (lambda m: (m[0] + 1.0, *m[1:]), "a unit without limits has a multiplier among those of the others"),
        (lambda m: (m[0], m[1][:3], m[2]), "the multipliers of unit 6 are not 8 finite numbers"),
        (lambda m: (m[0], np.full(8, np.inf), m[2]), "the multipliers of unit 6 are not 8 finite numbers"),
        (lambda m: (m[0], ["a"] * 8, m[2]), "the multipliers of unit 6 are not numbers"),
        (lambda m: (m[0] * 1e60, *m[1:]), "a multiplier is too large"),
        (lambda m: (0.0 * m[0], *m[1:]), "the multipliers do not prove"),
        (lambda m: (m[0] * 3.0, *m[1:]), "the multipliers do not prove"),
        (lambda m: (m[0], 0.0 * m[1], m[2]), "the multipliers do not prove"),
        (lambda m: (m[0], m[2], m[1]), "the multipliers do not prove"),
    ],
)
def test_wrong_multipliers_of_the_matrix_are_refused(change, message):
    net = three_layers()
    cert = lipschitz_bound(net, lower=False)
    refused = dataclasses.replace(cert)
    object.__setattr__(refused, "multipliers", change(cert.multipliers))
    verdict = refused.check(net)
    assert not verdict
    assert re.search(message, verdict.reason), verdict.reason


@pytest.mark.parametrize("upper", [0.0, -1.0, np.nan, np.inf, 1e-100, 1e100, 10**400, "1", None, True, 1j])
def test_what_is_no_bound_is_refused(upper):
    net = three_layers()
    cert = lipschitz_bound(net, lower=False)
    assert not MatrixChecker(net, cert.multipliers).holds(upper)
    layers = lipschitz_bound(net, "layerwise", lower=False)
    checker = LayerChecker(net, layers.multipliers)
    assert bool(checker.holds(upper)) == (upper in (1e100,))


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ([], "3 vectors of numbers are needed"),
        ([[0.0, 9.0], [0.0, 9.0]], "3 vectors of numbers are needed"),
        ([["a"], [1.0], [2.0]], "are not numbers"),
        ([[0.0, 9.0], [0.0, 9.0], [9.0]], "layer 2: two numbers are needed"),
        ([[0.0, 9.0], [0.0, 9.0], [1.0, np.nan]], "layer 2: two numbers are needed"),
        ([[0.0, 9.0], [0.0, 9.0], [-1.0, 9.0]], "layer 2: two numbers are needed"),
        ([[0.0, 9.0], [9.0, 1.0], [0.0, 9.0]], "layer 1: two numbers are needed"),
        ([[0.0, 0.1], [0.0, 9.0], [0.0, 9.0]], "layer 0: the spectral norm is not proved to be at most 0.1"),
        ([[0.1, 9.0], [0.0, 9.0], [0.0, 9.0]], "layer 0: the smallest singular value is not proved to be at least 0.1"),
        ([[0.0, 9.0], [5.0, 9.0], [0.0, 9.0]], "layer 1: the smallest singular value is not proved to be at least 5.0"),
    ],
)
def test_wrong_limits_of_singular_values_are_refused(multipliers, message):
    checker = LayerChecker(three_layers(), multipliers)
    assert message in str(checker.refusal)
    assert not checker.holds(1e9)


def test_numbers_where_none_are_needed_are_refused():
    net = three_layers()
    limits = lipschitz_bound(net, "layerwise", lower=False).multipliers
    assert "no numbers are needed where beta is positive" in str(LayerChecker(net, limits, theorem=True).refusal)
    assert "its rows alone count" in str(LayerChecker(net, limits, (0,)).refusal)
    assert "is not one of the network's 2" in str(LayerChecker(net, limits, (2,)).refusal)
    assert "is not one of the network's 2" in str(MatrixChecker(net, [], (2,)).refusal)


@pytest.mark.parametrize("seed", range(8))
def test_limits_of_singular_values_are_sharp_and_true(seed):
    rng = np.random.default_rng(seed)
    W = 10.0 ** rng.uniform(-8, 8) * rng.standard_normal((2, 4))
    net = LiftedNetwork([W], beta=0.4)
    lowest, highest = lipschitz_bound(net, "layerwise", lower=False).multipliers[0]
    sigma = np.linalg.svd(W, compute_uv=False)
    assert (lowest, highest) == pytest.approx((sigma[-1], sigma[0]), rel=1e-9)
    G = [[sum(a * b for a, b in zip(p, q)) for q in fractions(W)] for p in fractions(W)]
    trace, determinant = G[0][0] + G[1][1], G[0][0] * G[1][1] - G[0][1] ** 2
    for s, sign in ((lowest, 1), (highest, -1)):  # both eigenvalues of G on the right side of s²
        square = Fraction(s) ** 2
        assert square**2 - trace * square + determinant >= 0
        assert sign * (trace - 2 * square) >= 0
    assert not norm_at_least(W, sigma[-1] * (1.0 + 1e-9))
    assert not norm_at_least(W.T, 1e-300)


@pytest.mark.parametrize("beta", [1e-300, 1e-12, 0.3, 1.0, 7.0, 1e12, 1e300])
def test_the_steepest_point_is_bounded_from_above(beta):
    rng = np.random.default_rng(3)
    for _ in range(60):
        ends = np.sort(10.0 ** rng.uniform(-160, 160, 2) if rng.random() < 0.5 else rng.uniform(0, 3, 2) / beta**0.5)
        lowest, highest = map(float, ends)
        bound, b = steepest(beta, lowest, highest), Fraction(beta)
        for r in map(Fraction, (lowest, highest, np.sqrt(lowest) * np.sqrt(highest))):
            assert Fraction(bound) >= (1 + b) * r / (1 + b * r * r)
        if b * Fraction(lowest) ** 2 <= 1 <= b * Fraction(highest) ** 2:
            assert Fraction(bound) ** 2 >= (1 + b) ** 2 / (4 * b)
    assert steepest(beta, 0.0, 0.0) == 0.0


def altered(rng: Rng, cert: LiftedCertificate) -> LiftedCertificate:
    way = int(rng.integers(5))
    if way == 0:
        return dataclasses.replace(cert, upper=cert.upper * (1.0 + change(rng)))
    if way == 1:
        return dataclasses.replace(cert, lower=cert.lower * (1.0 + change(rng)))
    if way == 2:
        parts = list(cert.multipliers)
        k = int(rng.integers(len(parts)))
        parts[k] = change_list(rng, np.array(parts[k]))
        return dataclasses.replace(cert, multipliers=tuple(parts))
    if way == 3:
        return dataclasses.replace(cert, activations=change_list(rng, np.array(cert.activations)))
    return dataclasses.replace(cert, witness=change_list(rng, np.array(cert.witness)))


@pytest.mark.parametrize("seed", range(18))
def test_altered_certificates_that_are_accepted_are_true(seed):
    rng = np.random.default_rng(seed)
    net = random_net(rng, most=3)
    cert = lipschitz_bound(net, ["sdp", "layerwise", "theorem"][seed % 3])
    accepted = 0
    for _ in range(20):
        other = altered(rng, cert)
        if other.check(net):
            accepted += 1
            assert true(net, other)
    assert accepted < 20


def test_a_slope_is_refused_where_the_active_set_is_not_sure():
    net = three_layers()
    cert = lipschitz_bound(net)
    assert slope_below(net, cert.witness, cert.activations) >= cert.lower > 0.0
    assert slope_below(net, np.zeros(2), np.zeros(8)) == 0.0
    assert slope_below(net, cert.witness, cert.activations + 1e-3) == 0.0
    assert slope_below(net, cert.witness, cert.activations * np.nan) == 0.0
    assert slope_below(net, cert.witness[:1], cert.activations) == 0.0
    assert slope_below(net, cert.witness, cert.activations, (7,)) == 0.0
    # a kink: the first unit is at its limit with a multiplier of zero
    kink = LiftedNetwork([[[1.0]]], beta=0.0, units=["relu"])
    assert slope_below(kink, [0.0], [0.0]) == 0.0
    assert slope_below(kink, [1e-3], [1e-3]) == pytest.approx(1.0, rel=1e-12)
    assert slope_below(kink, [-1e-3], [0.0]) == 0.0


def test_judges_agree_on_the_matrix_and_the_layers():
    """Equal multipliers in every layer prove the layerwise bound by the matrix, exactly too."""
    net = LiftedNetwork([[[0.5, 0.25]], [[2.0]]], beta=[1.0, 0.25], gamma=0.5, units=["relu", "relu"])
    cert = lipschitz_bound(net, "layerwise", lower=False)
    upper = Fraction(cert.upper)
    assert layers_proved(net, cert.multipliers, None, upper, theorem=False)
    t, _ = layer_multipliers(net, cert.multipliers, slack=1e-9)
    assert matrix_proved(net, [t], None, upper * (1 + Fraction(1, 10**6)))
    assert not matrix_proved(net, [t], None, upper / 2)


def test_activations_that_are_almost_zero_prove_no_slope():
    """Their squares are zero, and with them the distance to the minimiser once was: every unit counted as free."""
    net = LiftedNetwork([[[1.0], [-1.0]], [[1.0, -1.0]]], beta=0.0, gamma=0.125)  # relu(x) − relu(−x) = x
    cert = lipschitz_bound(net)
    for size in (1e-164, 1e-200, 5e-324):
        witness, activations = np.zeros(1), np.full(3, size)
        assert slope_below(net, witness, activations) == 0.0
        forged = dataclasses.replace(cert, lower=1.9, witness=witness, activations=activations)
        assert not forged.check(net)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_brackets_of_tiny_and_huge_weights_are_true(beta):
    rng = np.random.default_rng(11)
    for exponent in (-320, -250, -170, -162, -158, -140, -100, -30, 0, 30, 40):
        w = float(rng.uniform(1.0, 9.0)) * 10.0**exponent
        cert = lipschitz_bound(LiftedNetwork([[[w]]], beta=beta, units=["linear"]))
        exact = Fraction(w) * (1 + Fraction(beta)) / (1 + Fraction(beta) * Fraction(w) ** 2)
        assert Fraction(cert.lower) <= exact <= Fraction(cert.upper)
        assert cert.check(LiftedNetwork([[[w]]], beta=beta, units=["linear"]))


def test_a_bound_that_looks_small_to_a_comparison_alone_is_refused():
    class Sly(float):
        def __float__(self) -> float:
            return 1e9

    net = three_layers()
    cert = lipschitz_bound(net, lower=False)
    assert "not a float" in dataclasses.replace(cert, upper=Sly(1e-3)).check(net).reason
