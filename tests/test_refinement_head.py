"""The last two layers of a deep network as one hidden layer: never worse, certified, optimal in its cell."""

from __future__ import annotations

from itertools import pairwise

import cvxpy as cp
import numpy as np
import pytest

from certnet import FeedForward, certify
from certnet.core.outcome import Status
from certnet.errors import UnsupportedModelError
from certnet.networks.activations import Activation
from certnet.programs.goal import FitAtMost, SlopeAtMost, Weighted
from certnet.programs.loss import Huber
from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import Restriction, whole_cell
from certnet.refinement.head import head_is_relu, polish_head
from certnet.searches.vectors import search_vectors
from certnet.solvers.estimate import Size, own_estimate
from certnet.solvers.own import OwnSolver
from certnet.solvers.watch import Watch

RELU, LEAKY, IDENTITY = Activation("relu"), Activation("leaky_relu", (0.2,)), Activation("identity")
FALLING = Activation("leaky_relu", (-0.3,))
EXACT = OwnSolver(1e-7)


def network(*widths: int, seed: int = 0, phis=None) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) * np.sqrt(1.5 / a) for a, b in pairwise(widths)]
    biases = [0.3 * rng.standard_normal(b) for b in widths[1:]]
    return FeedForward(weights, biases, "relu" if phis is None else phis, units="standardised")


def samples(d: int = 3, m: int = 1, n: int = 24, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.column_stack([np.sin(X[:, 0] + k) + 0.5 * X[:, 1] * X[:, -1] for k in range(m)])
    return X, y + 0.3 * rng.standard_normal(y.shape)


def error_of(net: FeedForward, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Written out sample by sample."""
    errors = []
    for x, aim in zip(X, y):
        for W, b, phi in zip(net.weights, net.biases, net.activations):
            a = W @ x + b
            x = np.where(a >= 0.0, a, (phi.parameters[0] if phi.parameters else 0.0) * a)
        errors.append(float(np.sum((net.weights[-1] @ x + net.biases[-1] - aim) ** 2)))
    return float(np.average(errors, weights=weights))


def polished(net, X, y, goal, **options):
    options = {"solver": EXACT, **options}
    return polish_head(net, X, y, goal, multipliers=search_vectors(net, tol=1e-8).multipliers, **options)


# ------------------------------------------------------------------------------------------------ what it promises


@pytest.mark.parametrize(
    ("widths", "phis"),
    [
        ((3, 6, 1), None),
        ((3, 5, 2), None),
        ((3, 6, 5, 1), None),
        ((3, 6, 5, 2), None),
        ((2, 5, 5, 5, 1), None),
        ((3, 4, 4, 4, 4, 3), None),
        ((3, 4, 4, 4, 4, 4, 1), None),
        ((3, 4, 4, 4, 4, 4, 4, 1), None),
        ((3, 6, 5, 1), [LEAKY, RELU]),
        ((3, 6, 5, 5, 2), [FALLING, LEAKY, RELU]),
    ],
)
def test_the_rho_of_the_program_certifies_the_whole(widths, phis):
    net, weight = network(*widths, phis=phis), 0.02
    X, y = samples(d=widths[0], m=widths[-1])
    done = polished(net, X, y, Weighted(weight))
    assert done.status is Status.OPTIMAL
    assert done.gap < 1e-6
    before = error_of(net, X, y) + weight * certify(net, tol=1e-8).rho
    certificate = certify(done.network, tol=1e-8)
    assert certificate.check(done.network)
    rho = done.solved.solution.rho
    assert certificate.upper <= np.sqrt(rho) * (1.0 + 1e-6)
    assert error_of(done.network, X, y) + weight * rho == pytest.approx(done.value, rel=1e-8)
    assert error_of(done.network, X, y) + weight * certificate.rho <= done.value * (1.0 + 1e-6)
    assert done.value < before
    assert done.network.activations == net.activations
    assert done.network.units == net.units
    for kept, given in zip(done.network.weights[:-2], net.weights):
        np.testing.assert_array_equal(kept, given)


def test_the_network_is_a_point_of_the_program_with_its_own_objective():
    """A second time there is nothing to gain but by other multipliers below; the value never rises."""
    net, weight = network(3, 6, 5, 1), 0.02
    X, y = samples()
    values = []
    for _ in range(3):
        done = polished(net, X, y, Weighted(weight))
        values.append(done.value)
        assert error_of(net, X, y) + weight * certify(net, tol=1e-8).rho >= done.value * (1.0 - 1e-6)
        net = done.network
    assert values[1] <= values[0] * (1.0 + 1e-6)
    assert values[2] <= values[1] * (1.0 + 1e-6)


def test_one_hidden_layer_is_the_plain_restriction():
    net = network(3, 6, 1)
    X, y = samples()
    cell = whole_cell(net.shallow())
    program = Restriction.of(cell, X, y, LipschitzPenalty(), Weighted(0.02))
    plain = EXACT.solve(program, start=cell.point)
    assert polished(net, X, y, Weighted(0.02)).value == pytest.approx(plain.value, rel=1e-9)


def test_limits_are_kept():
    net = network(3, 6, 5, 1)
    X, y = samples()
    limit = 0.5 * certify(net).upper
    flat = polished(net, X, y, SlopeAtMost(limit))
    assert certify(flat.network).upper <= limit
    assert flat.value == pytest.approx(error_of(flat.network, X, y), rel=1e-8)
    assert flat.gap < 1e-6
    budget = 1.2 * flat.value
    least = polished(net, X, y, FitAtMost(budget))
    assert error_of(least.network, X, y) <= budget
    assert certify(least.network).upper < limit
    assert certify(least.network).rho <= least.value * (1.0 + 1e-6)
    # a limit that binds nowhere, and one that only the constant network keeps
    assert polished(net, X, y, SlopeAtMost(1e200)).value <= flat.value
    constant = polished(net, X, y, SlopeAtMost(0.0))
    assert certify(constant.network).upper == 0.0
    assert constant.value == pytest.approx(float(np.var(y)), rel=1e-9)


def test_weights_of_samples_are_repetitions():
    net = network(3, 6, 5, 1)
    X, y = samples()
    times = np.arange(len(X)) % 3
    repeated = polished(net, np.repeat(X, times, axis=0), np.repeat(y, times, axis=0), Weighted(0.02))
    weighted = polished(net, X, y, Weighted(0.02), sample_weight=times)
    assert weighted.value == pytest.approx(repeated.value, rel=1e-5)
    assert weighted.value == pytest.approx(
        error_of(weighted.network, X, y, times) + 0.02 * weighted.solved.solution.rho, rel=1e-8
    )


def test_it_does_not_matter_how_units_are_scaled():
    net = network(3, 6, 5, 1)
    X, y = samples()
    s = 2.0 ** np.random.default_rng(0).integers(-12, 12, 6)
    weights = [s[:, None] * net.weights[0], net.weights[1] / s, net.weights[2]]
    scaled = net.with_parameters(weights, [s * net.biases[0], *net.biases[1:]], net.units)
    value = polished(net, X, y, Weighted(0.02)).value
    assert polished(scaled, X, y, Weighted(0.02)).value == pytest.approx(value, rel=1e-5)


# ------------------------------------------------------------------------------------------- against CVXPY, in full


def tied(net: FeedForward, X: np.ndarray, y: np.ndarray, weight: float, *, free: bool) -> float:
    """Layer ℓ−1 and the output biases in the cell, by the matrix inequality of all layers: no Schur complement.

    (ρ I, 2 T_0 … 2 T_{ℓ−2}, 2 Λ, I) with (T_k W_k, W_{ℓ−1}, W_ℓ Λ) below the diagonal; T free, or those of LipSDP
    in proportion to ρ. One output, so that |W_ℓ| is free by the scale of the units.
    """
    found = search_vectors(net, tol=1e-8)
    Ws, n = net.weights, net.n_inputs
    x = X
    for W, b in zip(Ws[:-2], net.biases[:-2]):
        x = np.maximum(x @ W.T + b, 0.0)
    W, b, c, rho = cp.Variable(Ws[-2].shape), cp.Variable(len(Ws[-2])), cp.Variable(), cp.Variable()
    lam = cp.Variable(len(Ws[-2]))
    T = [cp.Variable(len(t)) if free else rho / found.upper**2 * t for t in found.multipliers[:-1]]
    on = x @ Ws[-2].T + net.biases[-2] >= 0.0
    a = x @ W.T + np.ones((len(X), 1)) @ cp.reshape(b, (1, -1), order="C")
    outputs = cp.multiply(on, a) @ Ws[-1][0] + c
    diagonal = [rho * np.eye(n), *(2.0 * cp.diag(t) for t in T), 2.0 * cp.diag(lam), np.eye(1)]
    under = [*(cp.diag(t) @ V for t, V in zip(T, Ws)), W, Ws[-1] @ cp.diag(lam)]
    sizes = net.widths
    blocks = [[np.zeros((p, q)) for q in sizes] for p in sizes]
    for k, D in enumerate(diagonal):
        blocks[k][k] = D
    for k, B in enumerate(under):
        blocks[k + 1][k], blocks[k][k + 1] = B, B.T
    constraints = [cp.multiply(np.where(on, 1.0, -1.0), a) >= 0.0, cp.bmat(blocks) >> 0]
    fit = cp.sum_squares(outputs - y[:, 0]) / len(X)
    problem = cp.Problem(cp.Minimize(fit + weight * rho), constraints)
    problem.solve(solver="CLARABEL")
    return float(problem.value)


@pytest.mark.parametrize("widths", [(2, 4, 3, 1), (3, 5, 4, 1), (2, 3, 3, 4, 1)])
def test_the_same_value_as_the_matrix_inequality_of_all_layers(widths):
    net, weight = network(*widths), 0.05
    X, y = samples(d=widths[0], n=14)
    done = polished(net, X, y, Weighted(weight))
    assert done.value == pytest.approx(tied(net, X, y, weight, free=False), rel=1e-5)
    # multipliers below the layer free as well: never above, and what the head leaves
    assert tied(net, X, y, weight, free=True) <= done.value * (1.0 + 1e-6)


def test_no_network_of_the_cell_is_better_by_more_than_the_gap():
    net, weight = network(3, 6, 5, 1), 0.02
    X, y = samples()
    done = polished(net, X, y, Weighted(weight), solver=OwnSolver(1e-3))
    assert 0.0 < done.gap < 1e-3
    lower = done.value * (1.0 - done.gap)
    assert lower <= polished(net, X, y, Weighted(weight)).value <= done.value
    assert lower <= tied(net, X, y, weight, free=False) * (1.0 + 1e-6)


# ------------------------------------------------------------------------------------------------- fewer directions


def test_fewer_directions_cost_less_and_the_gap_is_that_of_all_features():
    net, weight = network(3, 12, 8, 1, seed=2), 0.02
    weights = [net.weights[0], net.weights[1] * np.where(np.arange(12) < 4, 1.0, 0.01), net.weights[2]]
    net = net.with_parameters(weights, net.biases, net.units)
    X, y = samples(n=60)
    whole = polished(net, X, y, Weighted(weight))
    assert whole.n_directions == whole.n_features == 12
    gaps = []
    for d in (5, 8, 11):
        seconds = 1.01 * own_estimate(Size(60, d, 8)).seconds
        done = polished(net, X, y, Weighted(weight), seconds=seconds)
        assert d <= done.n_directions < 12
        assert done.value * (1.0 - done.gap) <= whole.value * (1.0 + 1e-6)
        assert done.value >= whole.value * (1.0 - 1e-6)
        assert certify(done.network).upper <= np.sqrt(done.solved.solution.rho) * (1.0 + 1e-6)
        objective = error_of(done.network, X, y) + weight * done.solved.solution.rho
        assert objective == pytest.approx(done.value, rel=1e-8)
        gaps.append(done.gap)
    assert gaps[-1] < 0.2


def test_a_program_that_takes_too_long_is_not_begun():
    net = network(3, 12, 8, 1)
    X, y = samples(n=60)
    done = polished(net, X, y, Weighted(0.02), seconds=1e-6)
    assert done.network is net
    assert done.status is Status.NOT_IMPROVED
    assert "directions" in done.solved.solver_status
    assert np.isnan(done.gap)


# --------------------------------------------------------------------------------------------------- degenerate cases


def judged(net, X, y, weight=0.02, **options):
    """Polished, and not worse than the network."""
    done = polished(net, X, y, Weighted(weight), **options)
    before = error_of(net, X, y) + weight * certify(net, tol=1e-8).rho
    after = error_of(done.network, X, y) + weight * certify(done.network, tol=1e-8).rho
    assert after <= before * (1.0 + 1e-6)
    return done


def changed(net: FeedForward, layer: int, W: np.ndarray, b: np.ndarray | None = None) -> FeedForward:
    weights, biases = list(net.weights), list(net.biases)
    weights[layer], biases[layer] = W, biases[layer] if b is None else b
    return net.with_parameters(weights, biases, net.units)


def test_units_without_multipliers():
    net = network(3, 6, 5, 1)
    X, y = samples()
    still = net.weights[0].copy()
    still[1] = 0.0  # cannot move
    silent = net.weights[1].copy()
    silent[:, 2] = 0.0  # moves nothing, yet the head may use it
    net = changed(changed(net, 0, still), 1, silent)
    done = judged(net, X, y)
    assert done.status is Status.OPTIMAL
    assert certify(done.network).upper <= np.sqrt(done.solved.solution.rho) * (1.0 + 1e-6)
    deep = network(3, 5, 5, 5, 1)
    silent = deep.weights[1].copy()
    silent[:, 1] = 0.0
    assert judged(changed(deep, 1, silent), X, y).status is Status.OPTIMAL


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_constant_networks(layer):
    """Weights zero somewhere: ρ = 0."""
    net = network(3, 6, 5, 1)
    X, y = samples()
    flat = changed(net, layer, np.zeros_like(net.weights[layer]))
    done = judged(flat, X, y)
    assert done.value <= float(np.var(y)) * (1.0 + 1e-9)


def test_a_last_layer_that_is_off_at_all_samples():
    net = network(3, 6, 5, 1)
    X, y = samples()
    done = judged(changed(net, 1, net.weights[1], np.full(5, -50.0)), X, y)
    assert done.value == pytest.approx(float(np.var(y)), rel=1e-9)
    on = judged(changed(net, 1, net.weights[1], np.full(5, 50.0)), X, y)
    assert on.status is Status.OPTIMAL
    assert judged(changed(net, 0, net.weights[0], np.full(6, -50.0)), X, y).value <= float(np.var(y)) * (1.0 + 1e-9)


def test_features_that_are_collinear_or_nearly_free():
    net = network(3, 6, 5, 1)
    X, y = samples()
    twice = net.weights[0].copy()
    twice[1], twice[2] = twice[0], twice[0] * (1.0 + 1e-9)
    b = net.biases[0].copy()
    b[1:3] = b[0]
    assert judged(changed(net, 0, twice, b), X, y).status is Status.OPTIMAL
    tiny = net.weights[1].copy()
    tiny[:, 0] *= 1e-9  # its multiplier is next to nothing, and so H
    assert judged(changed(net, 1, tiny), X, y).solved.solution is not None


def test_few_samples_and_samples_that_repeat():
    net = network(3, 8, 6, 2)
    X, y = samples(m=2, n=4)
    assert judged(net, X, y).status is Status.OPTIMAL
    X, y = np.repeat(X, 3, axis=0), np.vstack([y, y + 0.1, y - 0.3])
    assert judged(net, X, y).status is Status.OPTIMAL
    assert judged(net, X[:1], y[:1]).value == pytest.approx(0.0, abs=1e-12)
    same = np.ones_like(y)
    assert judged(net, X, same).value == pytest.approx(0.0, abs=1e-12)


def test_one_unit_in_the_last_hidden_layer_and_one_feature():
    X, y = samples()
    assert judged(network(3, 6, 1, 1), X, y).solved.solution is not None
    assert judged(network(3, 1, 4, 1), X, y).solved.solution is not None
    assert judged(network(3, 1, 1, 1, 1), X, y).solved.solution is not None


def test_multipliers_that_prove_nothing_are_replaced():
    net = network(3, 6, 5, 1)
    X, y = samples()
    done = polish_head(net, X, y, Weighted(0.02), multipliers=[np.full(6, 1e-9), np.full(5, 1e9)], solver=EXACT)
    assert certify(done.network).upper <= np.sqrt(done.solved.solution.rho) * (1.0 + 1e-6)


def test_large_and_small_units_of_data():
    net, weight = network(3, 6, 5, 1), 0.02
    X, y = samples()
    plain = polished(net, X, y, Weighted(weight)).value
    scaled = net.rescaled(x_scale=1e4, x_shift=3.0, y_scale=1e-3, y_shift=5.0)
    other = polished(scaled, 1e4 * X + 3.0, 1e-3 * y + 5.0, Weighted(weight * 1e8))
    assert other.value == pytest.approx(1e-6 * plain, rel=1e-4)


def test_weight_zero_and_an_end_of_time():
    net = network(3, 6, 5, 1)
    X, y = samples()
    fit = polished(net, X, y, Weighted(0.0))
    assert fit.value <= error_of(net, X, y)
    late = polished(net, X, y, Weighted(0.02), watch=Watch.within(0.0))
    assert late.network.widths == net.widths
    stopped = polished(net, X, y, Weighted(0.02), watch=Watch(should_stop=lambda: True))
    assert stopped.status in (Status.INTERRUPTED, Status.SOLVER_FAILED)


def test_huber_up_to_a_threshold_above_all_residuals_is_the_squared_error():
    net = network(3, 6, 5, 1)
    X, y = samples()
    value = polished(net, X, y, Weighted(0.02)).value
    assert polished(net, X, y, Weighted(0.02), loss=Huber(100.0)).value == pytest.approx(value, rel=1e-5)


def test_other_networks_are_refused():
    X, y = samples()
    for phis in ([RELU, LEAKY], [Activation("tanh"), RELU], [IDENTITY, RELU]):
        net = network(3, 6, 5, 1, phis=phis)
        assert not head_is_relu(net)
        with pytest.raises(UnsupportedModelError, match="last two layers"):
            polished(net, X, y, Weighted(0.02))
    assert head_is_relu(network(3, 6, 5, 1, phis=[LEAKY, RELU]))
