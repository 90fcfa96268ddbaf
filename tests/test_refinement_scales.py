"""Inputs whose spreads have little in common: what is said of them, and how descents take them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import certnet
from certnet.errors import ScaleWarning
from certnet.networks.feedforward import FeedForward
from certnet.programs.goal import FitAtMost, SlopeAtMost, Weighted
from certnet.programs.loss import SQUARED
from certnet.refinement.ground import Ground
from certnet.refinement.smooth_objective import Parameters, Point
from certnet.rows import MemoryRows


@pytest.fixture
def net() -> certnet.ShallowNetwork:
    rng = np.random.default_rng(0)
    return certnet.ShallowNetwork(rng.standard_normal((4, 3)), np.zeros(4), rng.standard_normal((1, 4)), np.zeros(1))


def table(scales: list[float]) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(1).standard_normal((30, 3)) * scales
    return X, X @ np.ones((3, 1))


def refined(net, X, y, **options):
    return certnet.refine(net, X, y, weight=0.01, method="joint", **options)


def test_uneven_inputs_are_named(net):
    X, y = table([1.0, 3e3, 0.5])
    with pytest.warns(ScaleWarning, match=r"input 1 has a standard deviation of .*, input 2 of .*: .*Standardise"):
        refined(net, X, y)


@pytest.mark.parametrize("scales", [[1.0, 100.0, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1e5, 0.0, 1e5]])
def test_others_are_not(net, scales):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScaleWarning)
        refined(net, *table(scales))


def test_names_of_a_table_are_used(net, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    X, y = table([1.0, 3e3, 0.5])
    pq.write_table(
        pa.table({"age": X[:, 0], "income": X[:, 1], "ph": X[:, 2], "price": y[:, 0]}), tmp_path / "t.parquet"
    )
    with pytest.warns(ScaleWarning, match="input 'income' has .*, input 'ph' of"):
        certnet.refine(net, tmp_path / "t.parquet", "price", weight=0.01, effort="quick")


# ------------------------------------------------------------------------------------------------------------ descents

SCALES = [20.0, 2e4, 0.3, 2e-3]


def uneven(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Every input moves the target, by about as much over its own spread."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((n, 4)) * SCALES + np.array(SCALES)
    Z = X / SCALES
    return X, 10.0 * (Z[:, :1] + np.abs(Z[:, 1:2]) + np.maximum(Z[:, 2:3], 1.0) - Z[:, 3:])


def trained(X: np.ndarray, hidden: int = 12) -> certnet.ShallowNetwork:
    rng = np.random.default_rng(3)
    W = rng.standard_normal((hidden, 4)) / SCALES
    return certnet.ShallowNetwork(W, np.zeros(hidden), rng.standard_normal((1, hidden)), np.zeros(1))


def ground(goal, scales=SCALES) -> Ground:
    X, y = uneven()
    X = X / SCALES * scales
    rng = np.random.default_rng(4)
    net = FeedForward([rng.standard_normal((5, 4)), rng.standard_normal((1, 5))], [np.ones(5), np.zeros(1)], ["relu"])
    return Ground(net, MemoryRows.of(X, y), goal, SQUARED)


GOALS = [Weighted(1e-3), Weighted(0.0), SlopeAtMost(10.0), FitAtMost(5.0)]


@pytest.mark.parametrize("goal", GOALS)
def test_columns_have_sizes_of_their_own_where_spreads_differ(goal):
    sizes = ground(goal).parameters.columns
    assert sizes is not None
    np.testing.assert_array_equal(np.log2(sizes), np.round(np.log2(sizes)))
    assert sizes.argmax() == 1
    assert sizes[0] <= sizes[1] / 4
    assert ground(goal, [1.0, 3.0, 0.5, 1.0]).parameters.columns is None
    assert ground(goal, [1.0, 0.0, 0.0, 1.0]).parameters.columns is None


@pytest.mark.parametrize("goal", GOALS[:3])
def test_gradients_in_such_columns_are_those_of_differences(goal):
    made = ground(goal)
    like = made.like
    point = Point([0.2 * W for W in like.weights], like.biases)
    objective, x = made.objective(1e-3), made.vector(point)
    value, gradient = objective(x, 1e-3, 0.05)
    assert np.isfinite(value)
    for k in range(len(x)):
        step = 1e-5 * abs(x[k]) + 1e-9
        above, below = x.copy(), x.copy()
        above[k] += step
        below[k] -= step
        change = (objective(above, 1e-3, 0.05)[0] - objective(below, 1e-3, 0.05)[0]) / (2.0 * step)
        assert gradient[k] == pytest.approx(change, rel=1e-4, abs=1e-7)


def test_vectors_lose_no_digit_and_what_stays_is_zero():
    columns = np.exp2([-20.0, 0.0, 3.0])
    laid = Parameters(((4, 3), (1, 4)), keep_first=True, columns=columns)
    rng = np.random.default_rng(5)
    point = Point([rng.standard_normal((4, 3)), rng.standard_normal((1, 4))], [rng.standard_normal(4), np.ones(1)])
    back = laid.unpack(laid.pack(point))
    for one, other in zip((*point.weights, *point.biases), (*back.weights, *back.biases)):
        np.testing.assert_array_equal(one, other)
    free = laid.free(np.ones(16 + 5))
    np.testing.assert_array_equal(free, [0.0] * 16 + [1.0] * 5)


@pytest.mark.filterwarnings("ignore::certnet.errors.ScaleWarning")
def test_the_error_falls_as_limits_on_the_slope_of_raw_inputs_grow():
    X, y = uneven()
    net, found = trained(X), []
    for limit in (1.0, 10.0, 100.0, 5000.0):
        done = certnet.refine(net, X, y, target_lipschitz=limit, effort="quick")
        assert done.certificate.upper <= limit
        found.append(done.mse)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.2 * found[0]
    within = certnet.refine(net, X, y, max_mse=found[1], effort="quick")
    assert within.mse <= found[1]
    assert within.certificate.upper < 30.0


@pytest.mark.filterwarnings("ignore::certnet.errors.ScaleWarning")
def test_raw_inputs_are_fitted_as_standardised_ones_are():
    X, y = uneven()
    net = trained(X)
    raw = certnet.refine(net, X, y, weight=1e-9, effort="quick").mse
    scaled = certnet.ShallowNetwork(net.W * SCALES, net.b, net.V, net.c)
    assert raw < 2.0 * certnet.refine(scaled, X / SCALES, y, weight=1e-3, effort="quick").mse + 1e-2 * float(y.var())
