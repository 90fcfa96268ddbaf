"""Bounds of lifted networks: their order, slopes that never exceed them, generic solvers, and the edges of numbers."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifted_judge import random_net, true

from certnet.core.errors import CertificateError, InvalidInputError, NotConvergedWarning
from certnet.lifted import LiftedNetwork
from certnet.lifted.bounds import LiftedCertificate, lipschitz_bound, lipschitz_bounds
from certnet.networks.quadratic import hessian
from certnet.proofs.lifted_layers import LayerChecker
from certnet.proofs.lifted_matrix import MatrixChecker
from certnet.searches.lifted_layers import layer_multipliers, singular_ranges
from certnet.searches.lifted_program import program_without_free_units

METHODS = ("theorem", "layerwise", "sdp")


def bounds(net, **options) -> list[LiftedCertificate]:
    return [lipschitz_bound(net, method, **options) for method in METHODS]


def pick(net, seed: int):
    """None, an output or a pair, in turns."""
    m = net.n_outputs
    return (None, m - 1, (0, m - 1) if m > 1 else None)[seed % 3]


def chosen(outputs, output):
    if output is None:
        return outputs
    return outputs[:, [output]] if isinstance(output, int) else outputs[:, [output[0]]] - outputs[:, [output[1]]]


@pytest.mark.parametrize("seed", range(18))
def test_each_method_is_at_most_the_simpler_one_and_all_are_true(seed):
    net = random_net(np.random.default_rng(seed))
    found = bounds(net, output=pick(net, seed), lower=False)
    assert found[2].upper <= found[1].upper <= found[0].upper
    for cert in found:
        assert cert.check(net)
        assert true(net, cert)


@pytest.mark.parametrize("seed", range(14))
def test_no_slope_between_two_inputs_exceeds_a_bound(seed):
    rng = np.random.default_rng(100 + seed)
    net = random_net(rng)
    output = pick(net, seed)
    upper = lipschitz_bound(net, "sdp", output=output, lower=False).upper
    X = rng.standard_normal((40, net.n_inputs)) * 10.0 ** rng.uniform(-1, 1, (40, 1))
    steps = rng.standard_normal(X.shape) * 10.0 ** rng.uniform(-2, 1, (40, 1))
    values = net.infer(np.vstack([X, X + steps]), solver="reference", tol=1e-11).output
    moved = chosen(values[:40] - values[40:], output)
    assert (np.linalg.norm(moved, axis=1) <= upper * np.linalg.norm(steps, axis=1) + 1e-9).all()


@pytest.mark.parametrize("seed", range(8))
def test_the_lower_side_is_a_slope_that_inference_has(seed):
    net = random_net(np.random.default_rng(200 + seed), units=["relu", "linear"], depth=2)
    cert = lipschitz_bound(net, "layerwise")
    assert 0.0 < cert.lower <= cert.upper
    x, h = cert.witness, 1e-6
    X = np.vstack([x + h * e for e in np.eye(len(x))] + [x - h * e for e in np.eye(len(x))])
    values = net.infer(X, solver="reference", tol=1e-12).output
    J = (values[: len(x)] - values[len(x) :]).T / (2.0 * h)
    assert np.linalg.norm(J, 2) == pytest.approx(cert.lower, rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_sdp_finds_what_a_generic_solver_finds(seed):
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(300 + seed)
    units = [["relu", "relu"], ["relu", "linear"], ["linear", "relu"], ["hard_sigmoid", "relu", "linear"]][seed % 4]
    net = random_net(rng, depth=len(units), most=3, units=units)
    H, n, d = hessian(net), net.n_units, net.n_inputs
    Q = np.zeros((n, d))
    Q[: net.widths[1]] = (1.0 + net.beta[0]) * net.weights[0]
    free = np.isinf(np.concatenate(net.upper)) & np.isinf(np.concatenate(net.lower))
    # any multiplier of an equation: of v and of the input, which the own search does without
    t, rho = cp.Variable(n, nonneg=True), cp.Variable()
    columns, inputs = cp.Variable((n, n)), cp.Variable((d, n))
    mask = np.diag(free.astype(float))
    Y, Z = cp.diag(cp.multiply(t, (~free).astype(float))) + columns @ mask, inputs @ mask
    S = np.zeros((n, n))
    S[-net.n_outputs :, -net.n_outputs :] = np.eye(net.n_outputs)
    cross = Z @ H - Q.T @ Y.T
    P = cp.bmat([[rho * np.eye(d) - Z @ Q - (Z @ Q).T, cross], [cross.T, Y @ H + H @ Y.T - S]])
    cp.Problem(cp.Minimize(rho), [P >> 0]).solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    assert lipschitz_bound(net, lower=False, tol=1e-8).upper == pytest.approx(np.sqrt(rho.value), rel=2e-6)


@pytest.mark.parametrize("seed", range(10))
def test_layerwise_is_the_matrix_inequality_with_equal_multipliers_in_a_layer(seed):
    rng = np.random.default_rng(400 + seed)
    net = random_net(rng, units=["relu", "hard_sigmoid", "relu"], depth=3)
    limits = singular_ranges(net)
    t, rho = layer_multipliers(net, limits)
    b = LayerChecker(net, limits).product
    assert np.sqrt(rho) == pytest.approx(b, rel=1e-9)
    assert program_without_free_units(net).rho(t * (1.0 + 1e-9)) <= rho * (1.0 + 1e-6)
    slack, larger = layer_multipliers(net, limits, slack=1e-6)
    assert MatrixChecker(net, [slack]).holds(np.sqrt(larger) * (1.0 + 1e-6))
    # eliminating units without limits only helps
    linear = LiftedNetwork(net.weights, net.biases, beta=net.beta, gamma=net.gamma, units=["relu", "linear", "relu"])
    program = program_without_free_units(linear)
    assert program.rho(slack[program.bounded]) <= larger * (1.0 + 1e-9)


def test_a_linear_network_is_bounded_exactly():
    rng = np.random.default_rng(5)
    net = random_net(rng, depth=3, most=4, units=["linear"] * 3)
    Q = np.zeros((net.n_units, net.n_inputs))
    Q[: net.widths[1]] = (1.0 + net.beta[0]) * net.weights[0]
    exact = np.linalg.norm(np.linalg.solve(hessian(net), Q)[-net.n_outputs :], 2)
    cert = lipschitz_bound(net)
    assert cert.kind == "sdp"
    assert cert.gap == 0.0
    assert cert.lower <= exact * (1.0 + 1e-12)
    assert cert.upper == pytest.approx(exact, rel=1e-7)
    assert cert.lower == pytest.approx(exact, rel=1e-9)


def test_theorem_of_the_paper():
    rng = np.random.default_rng(0)
    W = [rng.standard_normal((6, 8)), rng.standard_normal((5, 6)), rng.standard_normal((3, 5))]
    net = LiftedNetwork(W, beta=[1.0, 1.0, 0.0], gamma=0.125)
    # Corollary 2: only the last layer counts
    assert lipschitz_bound(net, "theorem").upper == pytest.approx(np.linalg.norm(W[-1], 2), rel=1e-9)
    net = LiftedNetwork(W, beta=[4.0, 0.25, 0.01])
    assert lipschitz_bound(net, "theorem").upper == pytest.approx(1.25 * 1.25 * 5.05, rel=1e-12)


@pytest.mark.parametrize(
    ("W", "beta", "expected"),
    [
        (np.diag([0.1, 0.2]), 1.0, 0.4 / 1.04),  # all below β^−½: at σ_max
        (np.diag([3.0, 5.0]), 1.0, 6.0 / 10.0),  # all above: at σ_min
        (np.diag([0.5, 2.0]), 1.0, 1.0),  # on both sides: the theorem's
        (np.array([[3.0], [5.0]]), 1.0, 1.0),  # more rows than columns: σ_min of Wᵀ is 0
        (np.array([[3.0, 5.0]]), 4.0, 5.0 * 34.0**0.5 / 137.0),
        (np.diag([0.5, 2.0]), 0.0, 2.0),
    ],
)
def test_layerwise_clips_to_the_singular_values(W, beta, expected):
    net = LiftedNetwork([W], beta=beta, units=["relu"])
    assert lipschitz_bound(net, "layerwise").upper == pytest.approx(expected, rel=1e-9)


def test_more_rows_than_columns_needs_the_zero():
    """With σ_min = 3 for the column (3, 5) the bound would be 0.6 or less; the network moves by more."""
    net = LiftedNetwork([[[0.6], [-5.0]]], [[0.0, -100.0]], beta=1.0, units=["relu"])
    wrong = 2.0 * np.hypot(0.6, 5.0) / (1.0 + 0.36 + 25.0)
    cert = lipschitz_bound(net)
    assert cert.lower > 1.5 * wrong
    assert cert.check(net)


@pytest.mark.filterwarnings("ignore::certnet.core.errors.NotConvergedWarning")
@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(0, 2**20), st.floats(-150, 150), st.floats(-150, 150))
def test_weights_of_any_size_are_bounded_or_refused(seed, first, second):
    rng = np.random.default_rng(seed)
    W = [10.0**first * rng.standard_normal((3, 2)), 10.0**second * rng.standard_normal((2, 3))]
    net = LiftedNetwork(W, beta=[1.0, float(rng.choice([0.0, 0.5]))], gamma=0.5)
    found = bounds(net)
    assert found[2].upper <= found[1].upper <= found[0].upper
    for cert in found:
        assert cert.lower <= cert.upper
        assert cert.check(net)
        assert true(net, cert)


@pytest.mark.filterwarnings("ignore::certnet.core.errors.NotConvergedWarning")
@pytest.mark.parametrize("size", [1e-150, 1e-30, 1e-10, 1e10, 1e30, 1e150])
def test_extreme_weights_in_every_layer(size):
    rng = np.random.default_rng(1)
    net = LiftedNetwork([size * rng.standard_normal((3, 2)), size * rng.standard_normal((2, 3))], beta=0.7)
    for cert in bounds(net):
        assert cert.check(net)
        assert true(net, cert)


def test_what_overflows_is_an_error():
    net = LiftedNetwork([[[1e200]], [[1e200]]], beta=0.0)
    with pytest.raises(CertificateError, match="the weights are too large; rescale"):
        lipschitz_bound(net)


def test_networks_that_do_not_move():
    zero = LiftedNetwork([np.zeros((2, 3)), np.zeros((2, 2))], beta=[1.0, 0.0])
    assert [cert.upper for cert in bounds(zero)][1:] == [0.0, 0.0]
    held = LiftedNetwork([[[1.0, 2.0]]], beta=1.0, units=[(0.5, 0.5)])
    for cert in bounds(held):
        assert cert.upper == 0.0
        assert cert.check(held)
    below = LiftedNetwork([[[1.0], [2.0]], [[1.0, 1.0]]], units=[(0.5, 0.5), "linear"])
    for cert in [*bounds(below), *bounds(below, output=0)]:
        assert cert.upper == 0.0
        assert cert.check(below)
    np.testing.assert_allclose(np.diff(below.predict([[-9.0], [0.0], [7.0]])), 0.0, atol=1e-12)
    blind = LiftedNetwork([[[1.0], [0.0]], [[1.0, 1.0]]], units=[([0.5, -np.inf], [0.5, np.inf]), "linear"])
    cert = lipschitz_bound(blind)  # what sees the input cannot move
    assert cert.upper < 1e-40
    assert cert.check(blind)
    half = LiftedNetwork([np.eye(2)], beta=1.0, units=[([0.0, 0.5], [np.inf, 0.5])])
    assert lipschitz_bound(half).check(half)
    assert lipschitz_bound(half, output=1).upper == 0.0
    inner = LiftedNetwork([np.eye(2), np.eye(2)], beta=1.0, units=[([0.0, 0.5], [np.inf, 0.5]), "relu"])
    cert = lipschitz_bound(inner)
    assert cert.check(inner)
    assert true(inner, cert)
    alone = lipschitz_bound(LiftedNetwork([[[1.0, 0.0]], [[1.0], [0.0]]], beta=1.0, units=["relu", "relu"])).upper
    assert cert.upper <= alone * (1.0 + 1e-6)  # a unit that cannot move is none


@pytest.mark.parametrize("units", ["relu", "linear"])
def test_one_unit_per_layer(units):
    net = LiftedNetwork([[[1.5]], [[-0.7]], [[2.0]]], beta=[1.0, 0.5, 0.0], gamma=0.5, units=[units] * 3)
    for cert in bounds(net):
        assert cert.check(net)
        assert true(net, cert)


def test_differences_and_outputs_are_tighter_than_all_outputs():
    net = random_net(np.random.default_rng(8), depth=3, units=["relu", "relu", "linear"])
    net = LiftedNetwork([*net.weights[:-1], np.random.default_rng(1).standard_normal((3, net.widths[-2]))], beta=0.5)
    whole = lipschitz_bound(net, lower=False).upper
    for key, cert in lipschitz_bounds(net, lower=False).items():
        assert cert.output == key
        assert cert.upper <= whole * (1.0 + 1e-5)
    pairs = lipschitz_bounds(net, differences=True, lower=False)
    assert set(pairs) == {(0, 1), (0, 2), (1, 2)}
    assert all(cert.upper <= np.sqrt(2.0) * whole * (1.0 + 1e-5) for cert in pairs.values())
    assert lipschitz_bound(net, output=(1, 0), lower=False).upper == pytest.approx(pairs[0, 1].upper, rel=1e-6)


def test_filters_from_real_images():
    """Rows that are images: non-negative, far from orthogonal, with columns that are zero everywhere."""
    if not os.environ.get("CERTNET_DATA_HOME"):
        pytest.skip("CERTNET_DATA_HOME is not set: the images are not here")
    from certnet.data import load_images

    X = np.asarray(load_images("mnist").X_test[:600], dtype=np.float64)
    rng = np.random.default_rng(0)
    W = [X[:40] / 10.0, rng.standard_normal((20, 40)) / 6.0, rng.standard_normal((10, 20)) / 4.0]
    net = LiftedNetwork(W, beta=[1.0, 1.0, 0.0], gamma=0.125, units=["relu", "relu", "linear"])
    cert = lipschitz_bound(net, X=X)
    assert cert.check(net)
    assert cert.upper < 0.95 * cert.cheaper["layerwise"] <= cert.cheaper["theorem"]
    assert cert.lower > 0.4 * cert.upper
    outputs = net.infer(X, tol=1e-9).output
    steps = np.linalg.norm(X[:300] - X[300:], axis=1)
    assert (np.linalg.norm(outputs[:300] - outputs[300:], axis=1) <= cert.upper * steps).all()


def test_data_is_looked_at_for_the_lower_side():
    """One unit that is alive near one far input only."""
    net = LiftedNetwork([[[1.0, 0.0]], [[1.0]]], [[-1e6], [0.0]], beta=0.0)
    assert lipschitz_bound(net, X=[[2e6, 0.0]]).lower > 0.5


def test_an_early_end_warns():
    net = random_net(np.random.default_rng(3), depth=2, units=["relu", "relu"])
    with pytest.warns(NotConvergedWarning, match="the bound holds, but the search for multipliers ended early"):
        cert = lipschitz_bound(net, max_iterations=12)
    assert cert.check(net)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "exact"}, "method must be one of 'sdp', 'layerwise', 'theorem', got 'exact'"),
        ({"output": 2}, "not one of the network's 2"),
        ({"output": -1}, "not one of the network's 2"),
        ({"output": (0, 0)}, "or two of them"),
        ({"output": (0, 1, 1)}, "or two of them"),
        ({"output": True}, "output must be an index"),
        ({"output": "a"}, "output must be an index"),
        ({"tol": 0.0}, "tol must be a finite positive number"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"X": [[1.0]]}, "X has 1 columns, the network has 2 inputs"),
        ({"X": [[np.nan, 1.0]]}, "NaN or infinite"),
    ],
)
def test_bad_options(options, message):
    net = LiftedNetwork([np.eye(2)])
    with pytest.raises(InvalidInputError, match=message):
        lipschitz_bound(net, **options)


def test_bad_options_of_all_outputs():
    with pytest.raises(InvalidInputError, match="there are no differences of outputs"):
        lipschitz_bounds(LiftedNetwork([[[1.0]]]), differences=True)
    with pytest.raises(InvalidInputError, match=r"use lipschitz_bound\(output=…\) for one"):
        lipschitz_bounds(LiftedNetwork([[[1.0]]]), output=0)
