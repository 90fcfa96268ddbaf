"""Descents at any depth: unit gauge, the smoothed penalty, and what ``refine`` promises of them."""

from __future__ import annotations

import time
import warnings
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from steps import Clock

from certnet import FeedForward, certify, refine, refine_path
from certnet.core.outcome import Status
from certnet.errors import InvalidInputError, NotConvergedWarning, NotReachedError, RoseWarning, UnsupportedModelError
from certnet.networks.activations import Activation, activation
from certnet.networks.layers import Dense, Layer, read_only
from certnet.networks.operators import Blocks, Identity
from certnet.programs.goal import Weighted
from certnet.programs.loss import SQUARED, Huber
from certnet.refinement import cost, ground, journal
from certnet.refinement.checkpoint import Checkpoint
from certnet.refinement.fit import Bend, Fit
from certnet.refinement.gauge import Penalty, bound_at_one, unit_gauge
from certnet.refinement.ground import Ground
from certnet.refinement.journal import Journal
from certnet.rows import opening
from certnet.rows.memory import MemoryRows
from certnet.searches.vectors import multipliers_with_slack, search_vectors

RELU, LEAKY, TANH = Activation("relu"), Activation("leaky_relu", (0.2,)), Activation("tanh")
QUICK = {"effort": "quick"}
SLOPES = {"relu": (0.0, 1.0), "leaky": (0.2, 1.0), "falling": (-0.3, 1.0), "steep": (1.0, 1.7)}


def network(*widths: int, seed: int = 0, phi: str | Activation = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) * np.sqrt(1.5 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.3 * rng.standard_normal(b) for b in widths[1:]], phi)


def samples(d: int = 3, m: int = 1, n: int = 24, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.column_stack([np.sin(X[:, 0] + k) + 0.5 * X[:, 1] * X[:, -1] for k in range(m)])
    y += 0.3 * rng.standard_normal(y.shape)
    return X, y[:, 0] if m == 1 else y


def error_of(net: FeedForward, X: np.ndarray, y: np.ndarray) -> float:
    """Written out layer by layer."""
    total = 0.0
    for x, aim in zip(X, y.reshape(len(X), -1)):
        for W, b, phi in zip(net.weights, net.biases, net.activations):
            a = W @ x + b
            left = phi.parameters[0] if phi.parameters else 0.0
            x = np.tanh(a) if phi.name == "tanh" else np.where(a >= 0.0, a, left * a)
        total += float(np.sum((net.weights[-1] @ x + net.biases[-1] - aim) ** 2))
    return total / len(X)


def moved(arrays, direction, step):
    return [a + step * d for a, d in zip(arrays, direction)]


# ----------------------------------------------------------------------------------------------------------- the gauge


@pytest.mark.parametrize("phi", [RELU, LEAKY, Activation("leaky_relu", (-0.3,)), Activation("leaky_relu", (1.7,))])
@pytest.mark.parametrize("idle", [False, True])
def test_unit_gauge_keeps_the_function_and_one_proves_the_bound(phi, idle):
    net = network(3, 7, 6, 5, 2, phi=phi)
    if idle:
        weights = [W.copy() for W in net.weights]
        weights[0][1] = 0.0  # cannot move
        weights[1][:, 2] = 0.0  # moves nothing
        weights[2][:, 3] = 0.0
        net = net.with_parameters(weights, net.biases, net.units)
    found = search_vectors(net)
    T = multipliers_with_slack(found.multipliers, 1e-7)
    weights, biases = unit_gauge(net.weights, net.biases, T, net.slopes)
    X = np.random.default_rng(0).standard_normal((50, 3))
    same = FeedForward(weights, biases, phi)
    np.testing.assert_allclose(same.forward(X), net.forward(X), rtol=1e-12, atol=1e-12)
    assert np.sqrt(bound_at_one(weights, net.slopes)) == pytest.approx(found.upper, rel=1e-5)


def test_bound_at_one_is_the_least_that_the_matrix_allows():
    net = network(3, 5, 4, 2)
    T = multipliers_with_slack(search_vectors(net).multipliers, 0.05)
    weights, _ = unit_gauge(net.weights, net.biases, T, net.slopes)
    sizes = [3, 5, 4]

    def smallest(rho: float) -> float:
        blocks = [[np.zeros((a, b)) for b in sizes] for a in sizes]
        blocks[0][0] = rho * np.eye(3)
        blocks[1][1], blocks[2][2] = 2.0 * np.eye(5), 2.0 * np.eye(4) - weights[2].T @ weights[2]
        for k in (0, 1):
            blocks[k][k + 1], blocks[k + 1][k] = -weights[k].T, -weights[k]
        return float(np.linalg.eigvalsh(np.block(blocks))[0])

    rho = bound_at_one(weights, net.slopes)
    assert smallest(rho) == pytest.approx(0.0, abs=1e-12)
    assert smallest(1.01 * rho) > 0.0 > smallest(0.99 * rho)


# --------------------------------------------------------------------------------------------------------- the penalty


def gauged(slopes: tuple[float, float], seed: int = 0, slack: float = 0.05):
    left = slopes[1] if slopes[0] == 1.0 else slopes[0]
    net = network(3, 6, 5, 2, seed=seed, phi=Activation("leaky_relu", (left,)) if left else RELU)
    T = multipliers_with_slack(search_vectors(net).multipliers, slack)
    return unit_gauge(net.weights, net.biases, T, net.slopes)[0], net.slopes


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("fixed", [False, True])
def test_gradient_of_the_penalty(name, fixed):
    weights, slopes = gauged(SLOPES[name])
    penalty = Penalty(slopes, 0.3, 1.3 * bound_at_one(weights, slopes) if fixed else np.inf)
    _, gradient = penalty(weights, 0.02)
    rng = np.random.default_rng(1)
    for _ in range(4):
        direction = [rng.standard_normal(W.shape) for W in weights]
        ends = [penalty(moved(weights, direction, step), 0.02)[0] for step in (1e-6, -1e-6)]
        slope = sum(float(np.sum(g * d)) for g, d in zip(gradient, direction))
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("d", [3, 9])  # fewer inputs than units, and more
@pytest.mark.parametrize("m", [2, 7])
@pytest.mark.parametrize("limited", [False, True])
def test_the_penalty_is_a_minimum_over_rho(d, m, limited):
    net = network(d, 6, 5, m)
    T = multipliers_with_slack(search_vectors(net).multipliers, 0.05)
    weights, _ = unit_gauge(net.weights, net.biases, T, net.slopes)
    mu, weight, least = 0.02, 0.3, bound_at_one(weights, net.slopes)
    limit = 1.2 * least if limited else np.inf

    def barrier(rho: float) -> float:
        """λ ρ − μ log det P(W, ρ) with P written out."""
        P = np.zeros((d + 11, d + 11))
        P[:d, :d] = rho * np.eye(d)
        P[d:, d:] = 2.0 * np.eye(11)
        P[d + 6 :, d + 6 :] -= weights[2].T @ weights[2]
        P[d : d + 6, :d], P[d + 6 :, d : d + 6] = -weights[0], -weights[1]
        P[:d, d : d + 6], P[d : d + 6, d + 6 :] = -weights[0].T, -weights[1].T
        sign, log = np.linalg.slogdet(P)
        assert sign > 0
        return weight * rho - mu * log - (mu * np.log(1.0 - rho / limit) if limited else 0.0)

    value, _ = Penalty(net.slopes, weight, limit)(weights, mu)
    reach = (limit - least) * (1.0 - 1e-9) if limited else 10.0
    tried = [barrier(rho) for rho in least + np.geomspace(1e-6 * reach, reach, 3000)]
    assert value <= min(tried) + 1e-12
    assert value == pytest.approx(min(tried), rel=1e-5)


@pytest.mark.parametrize("fixed", [False, True])
def test_the_penalty_is_convex_and_infinite_outside(fixed):
    a, slopes = gauged((0.0, 1.0), seed=0)
    b, _ = gauged((0.0, 1.0), seed=1)
    most = 1.2 * max(bound_at_one(W, slopes) for W in (a, b))
    penalty = Penalty(slopes, 0.3, most if fixed else np.inf)
    shares = np.linspace(0.0, 1.0, 21)
    direction = [y - x for x, y in zip(a, b)]
    values = np.array([penalty(moved(a, direction, t), 0.02)[0] for t in shares])
    assert np.isfinite(values).all()
    assert (values[:-2] + values[2:] - 2.0 * values[1:-1] > 0.0).all()
    outside, gradient = penalty([3.0 * W for W in a], 0.02)
    assert outside == np.inf
    assert gradient == []


@pytest.mark.parametrize("left", [0.0, 0.2, -0.4])
@pytest.mark.parametrize("delta", [0.0, 0.3])
@pytest.mark.parametrize("loss", [SQUARED, Huber(0.5)])
def test_gradient_of_the_fit(left, delta, loss):
    net = network(3, 6, 5, 2, seed=3)
    X, y = samples(m=2)
    phi = RELU if left == 0.0 else Activation("leaky_relu", (left,))
    fit = Fit(MemoryRows.of(X, y), (Bend(phi),) * 2, loss)
    value, to_W, to_b = fit(net.weights, net.biases, delta)
    if delta == 0.0 and loss is SQUARED:
        plain = FeedForward(net.weights, net.biases, Activation("leaky_relu", (left,)))
        assert value == pytest.approx(error_of(plain, X, y), rel=1e-12)
    rng = np.random.default_rng(0)
    d_W = [rng.standard_normal(W.shape) for W in net.weights]
    d_b = [rng.standard_normal(b.shape) for b in net.biases]
    ends = [fit(moved(net.weights, d_W, t), moved(net.biases, d_b, t), delta)[0] for t in (1e-7, -1e-7)]
    slope = sum(float(np.sum(g * d)) for g, d in zip([*to_W, *to_b], [*d_W, *d_b]))
    assert (ends[0] - ends[1]) / 2e-7 == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("phi", ["tanh", "relu"])
@pytest.mark.parametrize("kept", [{"keep_first": True}, {"keep_biases": True}, {}])
def test_gradient_with_multipliers_as_variables(phi, kept):
    """Smooth activations, and networks of which a part is kept, whose units cannot be rescaled."""
    net = network(3, 5, 4, 2, phi=phi)
    X, y = samples(m=2)
    place = Ground(net, MemoryRows.of(X, y), Weighted(0.1), SQUARED, **kept)
    scaled = phi == "tanh" or bool(kept)
    assert place.parameters.scaled == scaled
    slack = multipliers_with_slack(search_vectors(place.units.inner(net)).multipliers, 0.2)
    x = place.vector(place.point(net, slack))
    assert len(x) == sum(W.size + len(b) for W, b in zip(net.weights, net.biases)) + (9 if scaled else 0)
    objective = place.objective(place.weight)
    value, gradient = objective(x, 0.02, 0.1)
    assert np.isfinite(value)
    rng = np.random.default_rng(0)
    free = place.parameters.gradient(place.parameters.unpack(np.ones_like(x)))
    for _ in range(4):
        direction = free * rng.standard_normal(len(x))
        ends = [objective(x + step * direction, 0.02, 0.1)[0] for step in (1e-6, -1e-6)]
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(gradient @ direction), rel=1e-5, abs=1e-7)
    assert not gradient[free == 0.0].any()


# ------------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("widths", "phi"),
    [
        ((3, 6, 6, 1), RELU),
        ((3, 5, 5, 2), RELU),
        ((3, 4, 4, 4, 1), LEAKY),
        ((3, 6, 1), LEAKY),
        ((3, 5, 1), TANH),
        ((3, 5, 4, 2), TANH),
    ],
)
def test_the_objective_is_recomputed_and_proved(widths, phi):
    net, weight = network(*widths, phi=phi), 0.02
    X, y = samples(m=widths[-1])
    done = refine(net, X, y, weight, **QUICK)
    assert done.improved
    assert isinstance(done.network, FeedForward)
    assert done.certificate.check(done.network)
    assert done.certificate_before.check(net)
    assert done.mse == pytest.approx(error_of(done.network, X, y), rel=1e-10)
    assert done.objective_after == pytest.approx(done.mse + weight * done.certificate.rho, rel=1e-14)
    assert done.objective_before == pytest.approx(error_of(net, X, y) + weight * certify(net).rho, rel=1e-5)
    assert done.objective_after < 0.5 * done.objective_before
    assert done.network.widths == net.widths
    assert done.network.activations == net.activations
    assert [row.stage for row in done.trace[:2]] == ["input", "descent"]
    kept = [row.objective for row in done.trace if row.accepted]
    assert kept == sorted(kept, reverse=True)
    assert done.objective_after == kept[-1]


def test_every_effort_is_at_least_as_good_as_the_one_before():
    net = network(3, 5, 1)
    X, y = samples()
    seen = {effort: refine(net, X, y, 0.02, effort=effort) for effort in ("quick", "default", "thorough")}
    values = [done.objective_after for done in seen.values()]
    # each does what the one before does, and more; the programs at the end have gaps of 1e-6
    assert all(later <= earlier * (1.0 + 1e-6) for earlier, later in pairwise(values))
    stages = [row.stage for row in seen["default"].trace]
    assert stages[:5] == [
        "input", "descent, sharp kinks", "descent, smooth kinks", "descent, smooth slope", "descent finished",
    ]  # fmt: skip
    assert any("restriction" in stage for stage in stages)
    assert refine(net, X, y, 0.02, effort=1000.0).network == seen["thorough"].network


def test_it_does_not_matter_in_which_units_data_are():
    net = network(3, 6, 6, 1)
    X, y = samples()
    plain = refine(net, X, y, 0.02, **QUICK)
    scaled = net.rescaled(x_shift=7.0, x_scale=64.0, y_shift=-3.0, y_scale=1024.0)
    other = refine(scaled, 64.0 * X + 7.0, 1024.0 * y - 3.0, 0.02 * 64.0**2, **QUICK)
    assert other.objective_after / 1024.0**2 == pytest.approx(plain.objective_after, rel=0.1)
    assert other.network.units == "raw"


def test_never_worse_and_the_very_input_where_nothing_is_better():
    X, _ = samples()
    net = network(3, 5, 5, 1)
    perfect = refine(net, X, net.predict(X), 0.0, **QUICK)
    assert perfect.network is net
    assert perfect.objective_after == perfect.objective_before == 0.0
    again = refine(refine(net, X, X[:, 0], 0.02, random_state=3, **QUICK).network, X, X[:, 0], 0.02, **QUICK)
    assert again.objective_after <= again.objective_before


def test_weight_zero_is_the_fit_alone():
    net = network(3, 10, 10, 1)
    X, y = samples()
    done = refine(net, X, y, 0.0, **QUICK)
    assert done.objective_after == done.mse < 0.02 * done.mse_before
    assert done.certificate.check(done.network)


def test_a_constant_network_and_constant_targets():
    X, y = samples()
    net = network(3, 5, 5, 1)
    flat = net.with_parameters([*net.weights[:-1], np.zeros((1, 5))], net.biases, net.units)
    assert refine(flat, X, y, 0.02, **QUICK).objective_after <= float(np.mean((y - net.biases[-1]) ** 2))
    done = refine(net, X, np.full(len(X), 2.0), 0.02, **QUICK)
    assert done.objective_after < 0.1 * done.objective_before


@pytest.mark.parametrize(
    ("weight", "x_unit", "y_unit"), [(1e200, 1.0, 1.0), (1e-200, 1.0, 1.0), (0.02, 1e120, 1.0), (0.02, 1.0, 1e60)]
)
def test_numbers_far_from_one(weight, x_unit, y_unit):
    net = network(3, 4, 4, 1)
    X, y = samples()
    done = refine(net, x_unit * X, y_unit * y, weight, **QUICK)
    assert done.objective_after <= done.objective_before
    assert done.certificate.check(done.network)


def test_many_layers_do_not_collapse():
    net = network(3, *[5] * 6, 1, phi=LEAKY)
    X, y = samples()
    done = refine(net, X, y, target_lipschitz=1.0, **QUICK)
    assert done.mse < 0.95 * float(np.var(y))


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e6, 1e200])
def test_a_limit_on_the_slope_is_met(limit):
    net = network(3, 6, 6, 1)
    X, y = samples()
    done = refine(net, X, y, target_lipschitz=limit, **QUICK)
    assert done.certificate.upper <= limit
    assert done.certificate.check(done.network)
    assert done.objective_after == done.mse == pytest.approx(error_of(done.network, X, y), rel=1e-10)
    if limit == 0.0:
        assert done.mse == pytest.approx(float(np.var(y)), rel=1e-12)
    elif limit <= 0.5:
        assert done.certificate.upper > 0.95 * limit
        assert done.mse < float(np.var(y))
    else:
        assert done.mse <= done.mse_before


def test_a_larger_limit_fits_better():
    net = network(3, 6, 6, 1)
    X, y = samples()
    errors = [refine(net, X, y, target_lipschitz=limit, **QUICK).mse for limit in (0.2, 0.6)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("widths", "phi"), [((3, 5, 1), RELU), ((3, 5, 4, 2), LEAKY), ((3, 4, 4, 1), TANH)])
def test_a_limit_on_the_error_is_met_with_less_slope(widths, phi):
    net = network(*widths, phi=phi)
    X, y = samples(m=widths[-1])
    first = refine(net, X, y, 0.001, **QUICK)
    limit = 0.5 * (first.mse + float(np.var(y, axis=0).sum()))
    done = refine(first.network, X, y, max_mse=limit, **QUICK)
    assert done.mse == pytest.approx(error_of(done.network, X, y), rel=1e-10)
    assert 0.99 * limit < done.mse <= limit
    assert done.objective_after == done.certificate.rho < 0.9 * done.objective_before
    assert done.certificate.check(done.network)


def test_a_limit_on_the_error_that_the_mean_keeps_costs_no_slope():
    X, y = samples()
    done = refine(network(3, 5, 5, 1), X, y, max_mse=1.001 * float(np.var(y)))
    assert done.certificate.upper == done.objective_after == 0.0
    np.testing.assert_allclose(done.network.predict(X), float(np.mean(y)), rtol=1e-12)


def test_a_limit_on_the_error_that_is_not_reached_is_refused():
    X, y = samples()
    with pytest.raises(NotReachedError, match=r"max_mse=1e-06 was not reached: allow a larger error"):
        refine(network(3, 2, 2, 1), X, y, max_mse=1e-6, **QUICK)


def test_paths_take_deep_networks():
    X, y = samples(n=20)
    path = refine_path(network(3, 4, 4, 1), X, y, weights=[0.01, 0.1], **QUICK)
    assert path.mse[0] <= path.mse[1]
    assert path.upper[0] >= path.upper[1]


# ------------------------------------------------------------------------------------------------ what is kept, weights


@pytest.mark.parametrize("goal", [{}, {"target_lipschitz": 0.5}, {"max_mse": 0.2}])
@pytest.mark.parametrize("keep", ["biases", "first layer", ("biases", "first layer")])
def test_what_is_kept_stays_bit_by_bit(keep, goal):
    X, y = samples()
    net = refine(network(3, 5, 4, 1, phi=LEAKY), X, y, 0.001, **QUICK).network
    done = refine(net, X + 0.1, y + 0.05, keep=keep, **goal, **QUICK)
    assert done.improved
    assert done.certificate.check(done.network)
    if "biases" in keep:
        for before, after in zip(net.biases, done.network.biases):
            np.testing.assert_array_equal(after, before)
    if "first layer" in keep:
        np.testing.assert_array_equal(done.network.weights[0], net.weights[0])
        np.testing.assert_array_equal(done.network.biases[0], net.biases[0])
    assert not any(np.array_equal(a, b) for a, b in zip(done.network.weights[1:], net.weights[1:]))


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_a_weight_is_a_repetition(loss):
    net = network(3, 4, 3, 1)
    X, y = samples(n=12)
    times = np.array([1, 2, 3] * 4)
    options = {"loss": loss, "huber_threshold": 0.5, **QUICK}
    weighted = refine(net, X, y, 0.02, sample_weight=7.0 * times, **options)
    repeated = refine(net, np.repeat(X, times, axis=0), np.repeat(y, times), 0.02, **options)
    assert weighted.objective_before == pytest.approx(repeated.objective_before, rel=1e-12)
    assert weighted.objective_after == pytest.approx(repeated.objective_after, rel=0.05)  # sums in another order
    residual = np.abs(weighted.network.predict(X) - y)
    charged = residual**2 if loss == "squared" else np.where(residual <= 0.5, residual**2, residual - 0.25)
    assert weighted.mse == pytest.approx(float(times @ charged / times.sum()), rel=1e-10)


def test_a_sample_of_no_weight_is_as_good_as_none():
    net = network(3, 4, 3, 1)
    X, y = samples(n=12)
    weight = np.array([1.0] * 11 + [0.0])
    without = refine(net, X[:-1], y[:-1], 0.02, **QUICK)
    wild = np.append(y[:-1], 1e6)
    assert refine(net, X, wild, 0.02, sample_weight=weight, **QUICK).mse == pytest.approx(without.mse, rel=1e-2)


@pytest.mark.parametrize("widths", [(3, 5, 1), (3, 5, 4, 1)])
def test_hubers_loss_is_not_led_by_an_outlier(widths):
    net = network(*widths)
    X, y = samples()
    y = y.copy()
    y[3] += 50.0
    done = refine(net, X, y, 0.02, loss="huber", huber_threshold=0.3, **QUICK)
    residual = np.abs(done.network.predict(X) - y)
    expected = float(np.mean(np.where(residual <= 0.3, residual**2, 0.6 * residual - 0.09)))
    assert done.mse == pytest.approx(expected, rel=1e-10)
    assert done.objective_after == pytest.approx(expected + 0.02 * done.certificate.rho, rel=1e-12)
    assert done.objective_after < done.objective_before
    squared = refine(net, X, y, 0.02, **QUICK)
    assert np.median(residual) < np.median(np.abs(squared.network.predict(X) - y))


# --------------------------------------------------------------------------------------------- held-out samples, prune


def test_held_out_samples_warn_where_their_error_rose():
    net = network(3, 8, 8, 1)
    X, y = samples(n=10)
    X_val, y_val = samples(n=40, seed=5)
    before = float(np.mean((net.predict(X_val) - y_val) ** 2))
    flat = refine(net, X_val, y_val, 0.0, **QUICK).network  # fits what is held out, until it is refined for the rest
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        done = refine(flat, X, y, 0.0, X_val=X_val, y_val=y_val, **QUICK)
    rose = [str(warning.message) for warning in told if warning.category is RoseWarning]  # L may have risen, too
    assert any("error on held-out samples rose from" in words for words in rose)
    assert done.improved
    assert done.validation.rose
    assert done.validation.mse_before < before
    assert done.validation.mse == pytest.approx(error_of(done.network, X_val, y_val), rel=1e-10)
    assert any("held-out" in note for note in done.notes)


def test_held_out_samples_warn_where_the_bound_rose_and_not_elsewhere():
    net = network(3, 4, 4, 1).with_parameters(
        [0.3 * W for W in network(3, 4, 4, 1).weights], network(3, 4, 4, 1).biases, "standardised"
    )
    X, y = samples()
    with pytest.warns(RoseWarning, match=r"certified L rose from .* target_lipschitz, keeps it down"):
        done = refine(net, X, y, 1e-4, X_val=X, y_val=y, **QUICK)
    assert not done.validation.rose
    quiet = refine(network(3, 4, 4, 1), X, y, 0.2, X_val=X, y_val=y, **QUICK)
    assert quiet.improved
    assert not quiet.notes


def test_units_that_move_nothing_are_dropped():
    X, y = samples()
    net, goal = network(3, 8, 6, 1), {"max_mse": 1.001 * float(np.var(y))}
    whole, smaller = (refine(net, X, y, prune=prune, **goal) for prune in (False, True))
    assert whole.network.widths == (3, 8, 6, 1)
    assert smaller.network.widths == (3, 1, 1, 1)
    assert smaller.objective_after == whole.objective_after == 0.0
    assert smaller.certificate.check(smaller.network)
    assert smaller.trace[-1].stage == "units that move nothing dropped"
    assert "dropped" not in refine(net, X, y, 0.02, prune=True, **QUICK).trace[-1].stage


# ---------------------------------------------------------------------------------------------- tables that do not fit


@pytest.mark.parametrize("goal", [{}, {"target_lipschitz": 0.5}])
def test_tables_on_disk_give_the_same_network_bit_by_bit(goal, tmp_path, monkeypatch):
    net = network(3, 4, 3, 1)
    X, y = samples(n=50)
    monkeypatch.setattr(ground, "_MERGED", 0)  # rows that repeat are looked for in memory alone
    held = refine(net, X, y, **goal, **QUICK)
    monkeypatch.setattr(opening, "LOADED_BYTES", 0)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    tables = {"memory map": (mapped, y), ".npy": (tmp_path / "X.npy", tmp_path / "y.npy")}
    if find_spec("pyarrow") is not None:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(np.column_stack([X, y]), columns=["a", "b", "c", "target"])
        frame.to_parquet(tmp_path / "table.parquet", row_group_size=17)
        tables["Parquet"] = (tmp_path / "table.parquet", "target")
    for name, table in tables.items():
        done = refine(net, *table, **goal, **QUICK)
        assert done.network == held.network, name
        assert done.objective_after == pytest.approx(held.objective_after, rel=1e-14), name


@pytest.mark.parametrize("n_jobs", [2, -1])
def test_early_stages_look_at_some_of_many_rows_on_any_number_of_threads(n_jobs, monkeypatch):
    for name, least in (("LARGE", 100), ("SAMPLE", 60), ("_MERGED", 0)):
        monkeypatch.setattr(ground, name, least)
    net = network(3, 4, 3, 1)
    X, y = samples(n=400)
    one, other = (refine(net, X, y, 0.02, n_jobs=jobs, **QUICK) for jobs in (1, n_jobs))
    assert one.network == other.network
    assert one.mse == pytest.approx(error_of(one.network, X, y), rel=1e-10)
    assert one.objective_after < 0.5 * one.objective_before


# ------------------------------------------------------------------------------------------------------------ stopping


def test_a_time_limit_below_one_look_at_the_rows_is_refused(monkeypatch):
    monkeypatch.setattr(cost, "_SHORT", 0.0)
    with pytest.raises(InvalidInputError, match="one sum over all 24 rows takes about"):
        refine(network(3, 6, 6, 1), *samples(), 0.02, time_limit=1e-9)


def test_time_that_the_effort_was_to_take_is_no_warning(monkeypatch):
    X, y = samples()
    monkeypatch.setattr(time, "perf_counter", Clock(0.01))
    done = refine(network(3, 6, 6, 1), X, y, 0.02, effort=3.0)  # a warning would be an error here
    assert done.status is Status.OPTIMAL
    assert done.improved
    assert any(row.status is Status.TIME_LIMIT for row in done.trace)


def test_time_that_is_up_ends_it(monkeypatch):
    net = network(3, 6, 6, 1)
    X, y = samples()
    monkeypatch.setattr(time, "perf_counter", Clock(0.01))
    with pytest.warns(NotConvergedWarning, match="time limit"):
        done = refine(net, X, y, 0.02, time_limit=3.0)
    assert done.status is Status.TIME_LIMIT
    assert done.objective_after < done.objective_before
    assert done.certificate.check(done.network)
    assert done.trace[-1].solver_status == "time limit"


@pytest.mark.parametrize("raises", [False, True])
def test_an_interrupt_keeps_the_best_so_far(raises):
    net = network(3, 6, 6, 1)
    X, y = samples()
    ask = Asked(200, KeyboardInterrupt if raises else None)
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        done = refine(net, X, y, 0.02, should_stop=ask)
    assert done.status is Status.INTERRUPTED
    assert done.objective_after < done.objective_before
    assert done.certificate.check(done.network)


class Killed(Exception):
    """What ends a process, as far as a test can."""


class Asked:
    """Answers no so many times; then yes, or raises."""

    def __init__(self, times: int, error: type[BaseException] | None = None) -> None:
        self.times, self.error = times, error

    def __call__(self) -> bool:
        self.times -= 1
        if self.times < 0 and self.error is not None:
            raise self.error
        return self.times < 0


@pytest.mark.parametrize("goal", [{"weight": 0.02}, {"target_lipschitz": 0.5}, {"max_mse": 0.1}])
@pytest.mark.parametrize("error", [Killed, None])
def test_what_is_taken_up_again_ends_the_same(error, goal, tmp_path):
    net = network(3, 4, 3, 1)
    X, y = samples(n=15)
    options = {**goal, **({} if "max_mse" in goal else {"effort": "default"}), "random_state": 1}
    whole = refine(net, X, y, **options)
    file = tmp_path / "state"
    broken = 0
    for times in (100, 200, 400):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotConvergedWarning)
                part = refine(net, X, y, **options, checkpoint=file, should_stop=Asked(times, error))
            broken += part.status is Status.INTERRUPTED
        except Killed:
            broken += 1
    assert broken > 1
    assert file.exists()
    seen = Asked(10**9)
    again = refine(net, X, y, **options, checkpoint=file, should_stop=seen)
    assert again.network == whole.network
    assert again.objective_after == whole.objective_after
    assert [row.objective for row in again.trace] == [row.objective for row in whole.trace]
    everything = Asked(10**9)
    refine(net, X, y, **options, should_stop=everything)
    assert seen.times > everything.times  # fewer steps than from the start
    with pytest.raises(InvalidInputError, match="checkpoint of another run, which differs in network"):
        refine(network(3, 4, 3, 1, seed=9), X, y, **options, checkpoint=file)


def test_a_long_stage_goes_on_from_its_best_point(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_SECONDS", 0.0)
    first = Journal(Checkpoint.at(tmp_path / "state", {"run": 1}))
    assert first.finished() is None
    first.end(first.begun(np.array([1.0])))
    assert first.begun(np.array([2.0])) == [2.0]
    first.pass_by(np.array([3.0]))
    second = Journal(Checkpoint.at(tmp_path / "state", {"run": 1}))
    assert second.finished() == [1.0]
    assert second.finished() is None
    assert second.begun(np.array([2.0])) == [3.0]
    assert second.begun(np.array([4.0])) == [4.0]  # the next one is another stage
    second.end(np.array([5.0]))
    third = Journal(Checkpoint.at(tmp_path / "state", {"run": 1}))
    assert [third.finished(), third.finished(), third.finished()] == [[1.0], [5.0], None]


# ---------------------------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"penalty": "l2"}, "one-hidden-layer"),
        ({"method": "alternating"}, "one-hidden-layer"),
        ({"patterns": "sampled"}, "one-hidden-layer"),
        ({"cells": 2}, "one-hidden-layer"),
        ({"tol": 1e-3}, "one-hidden-layer"),
        ({"solver": "CERTNET"}, "one-hidden-layer"),
        ({"weight": -1.0}, "weight"),
        ({"target_lipschitz": -1.0}, "target_lipschitz"),
        ({"max_mse": -1.0}, "max_mse"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"effort": "much"}, "effort must be one of 'quick', 'default', 'thorough', or a number of seconds"),
        ({"effort": 0.0}, "effort"),
        ({"effort": "quick", "cells": 2}, "effort chooses the work itself: leave it out, or cells"),
        ({"effort": 1.0, "tol": 1e-3, "penalty": "l2"}, "leave it out, or tol, penalty"),
        ({"keep": "last layer"}, "keep takes 'biases' and 'first layer'"),
        ({"loss": "absolute"}, "loss"),
        ({"loss": "huber", "huber_threshold": 0.0}, "huber_threshold"),
        ({"X_val": np.zeros((2, 3))}, "X_val and y_val go together"),
        ({"X_val": np.zeros((2, 2)), "y_val": np.zeros(2)}, "2 columns"),
        ({"sample_weight": np.zeros(24)}, "weight"),
        ({"sample_weight": -np.ones(24)}, "weight"),
        ({"sample_weight": np.ones(23)}, "weight"),
        ({"optimality_gap": True, "loss": "huber"}, "optimality_gap"),
    ],
)
def test_what_is_refused(options, words):
    rows = []
    with pytest.raises((InvalidInputError, UnsupportedModelError), match=words):
        refine(network(3, 5, 5, 1), *samples(), callback=rows.append, **options)
    assert not rows


def test_data_that_are_refused():
    net = network(3, 5, 5, 1)
    X, y = samples()
    for bad in (X[:, :2], np.full_like(X, np.nan)):
        with pytest.raises(InvalidInputError):
            refine(net, bad, y)
    with pytest.raises(InvalidInputError):
        refine(net, X, y[:-1])


@pytest.mark.parametrize(("option", "value"), [("keep", "biases"), ("checkpoint", "state")])
def test_what_is_for_descents_does_not_go_with_the_programs_of_the_papers(option, value):
    with pytest.raises(InvalidInputError, match=f"{option} is for .*: leave it out, or cells"):
        refine(network(3, 5, 1), *samples(), cells=1, **{option: value})


def test_networks_that_are_refused():
    X, y = samples()
    with pytest.raises(UnsupportedModelError, match="slopes alone, which has no values"):
        refine(network(3, 5, 5, 1, phi=activation((0.0, 2.0))), X, y)
    with pytest.raises(UnsupportedModelError, match="one-hidden-layer ReLU"):
        refine(network(3, 5, 1, phi="tanh"), X, y, cells=1)
    rng = np.random.default_rng(0)
    wide, narrow = (Dense(read_only(rng.standard_normal(shape))) for shape in ((4, 3), (3, 4)))
    block = Layer(Blocks(((wide,), (Identity(3),))), np.zeros(7), RELU, 3)
    back = Layer(Blocks(((narrow, Identity(3)),)), np.zeros(3), RELU)
    last = Layer(Dense(read_only(rng.standard_normal((1, 3)))), np.zeros(1), Activation("identity"))
    with pytest.raises(UnsupportedModelError, match="without skips or convolutions"):
        refine(FeedForward.chain([block, back, last]), X, y)
