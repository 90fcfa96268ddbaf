"""Paths of weights: monotone, each network the best of the path for its weight, and the picture of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_restrict_goals import instance, interrupt, variance

from certnet.core.errors import InvalidInputError, NotConvergedWarning
from certnet.core.outcome import Status
from certnet.networks.feedforward import FeedForward
from certnet.plot import TradeoffDisplay, figure_png
from certnet.refinement import objective, refine, refine_path, weight_grid
from certnet.robust.attacks import PGDAttack
from certnet.robust.curves import adversarial_mse

ATTACK = PGDAttack(n_steps=5)
WEIGHTS = (0.003, 0.03, 0.3, 3.0)


@pytest.fixture(scope="module")
def problem():
    return instance(2, h=6, d=2, n=25)


@pytest.fixture(scope="module")
def path(problem):
    return refine_path(*problem, weights=WEIGHTS)


def test_error_rises_and_slope_falls_along_the_weights(path):
    assert_array_equal(path.weights, WEIGHTS)
    assert len(path) == len(path.networks) == len(list(path)) == 4
    assert np.all(np.diff(path.mse) >= -1e-6 * path.mse[:-1])
    assert np.all(np.diff(path.upper) <= 1e-6 * path.upper[:-1])
    assert path.mse[0] < path.mse[-1]
    assert "4 weights from 0.003 to 3" in repr(path)


def test_every_network_serves_its_weight_best(problem, path):
    net, X, y = problem
    assert path.start is net
    for weight, result in zip(WEIGHTS, path):
        values = path.mse + weight * path.upper**2
        assert result.objective_after <= values.min() * (1 + 1e-12)
        assert result.objective_after <= refine(net, X, y, weight).objective_after
        assert result.objective_after == pytest.approx(objective(result.network, X, y, weight=weight), rel=1e-6)
        assert result.certificate.check(result.network)


def test_a_network_of_another_weight_takes_the_place_of_a_failure(problem):
    net, X, y = problem

    def spoil(row):
        """The second refinement is interrupted at its input: the first one's network is better for it."""
        if row.stage == "input":
            seen.append(row)
            if len(seen) == 2:
                interrupt()

    seen = []
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        path = refine_path(net, X, y, weights=[0.03, 0.04, 0.05], callback=spoil)
    assert_array_equal(path.weights, [0.03, 0.04])  # an interrupt ends the path
    assert path.networks[1] == path.networks[0]
    assert path.results[1].improved
    assert path.results[1].objective_after < path.results[1].objective_before


def test_a_replaced_network_does_not_say_that_nothing_was_found(problem):
    net, X, y = problem
    first = refine(net, X, y, 0.05, cells=1)
    idle = refine(first.network, X, y, 0.05, solver="SCS", tol=0.5)
    other = refine(first.network, X, y, 0.06, cells=1)
    replaced = idle.replaced_by(other, 0.9 * idle.objective_before)
    assert idle.status is Status.NOT_IMPROVED
    assert replaced.status is Status.OPTIMAL
    assert replaced.improved


def test_weights_may_be_unsorted_and_repeated(problem, path):
    again = refine_path(*problem, weights=[3.0, 0.03, 0.3, 0.03, 0.003])
    assert_array_equal(again.weights, WEIGHTS)
    assert again.networks == path.networks


def test_several_outputs_the_l2_penalty_and_feed_forward_networks():
    net, X, y = instance(0, m=2, n=15)
    both = refine_path(FeedForward.of(net), X, y, weights=[0.01, 1.0])
    assert both.upper[1] <= both.upper[0]
    l2 = refine_path(net, X, y, weights=[0.01, 1.0], penalty="l2")
    for weight, result in zip(l2.weights, l2):
        assert result.objective_after == pytest.approx(
            objective(result.network, X, y, weight=float(weight), penalty="l2"), rel=1e-9
        )


@pytest.mark.parametrize("weights", [[], [0.0, 1.0], [-1.0], [np.nan], [np.inf], [[0.1]], ["a"], 0.1, None])
def test_bad_weights_are_refused(problem, weights):
    net, X, y = problem
    if weights is None:
        X, y = X[:0], y[:0]  # no grid for no targets
    with pytest.raises(InvalidInputError):
        refine_path(net, X, y, weights=weights)


@pytest.mark.parametrize("option", ["weight", "target_lipschitz", "max_mse"])
def test_options_that_replace_the_weights_are_refused(problem, option):
    with pytest.raises(InvalidInputError, match=f"{option} does not go with a path"):
        refine_path(*problem, **{option: 0.1})


def test_the_grid_ends_at_the_variance():
    y = np.random.default_rng(0).standard_normal((20, 2)) * [1.0, 5.0]
    grid = weight_grid(y, n_weights=4, spread=1e3)
    assert_allclose(grid, variance(y) * np.array([1e-3, 1e-2, 1e-1, 1.0]))
    assert_allclose(weight_grid(np.ones(5), n_weights=2, spread=10.0), [0.1, 1.0])
    assert len(weight_grid(y)) == 10


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        ([1.0, 2.0], {"n_weights": 0}, "n_weights"),
        ([1.0, 2.0], {"n_weights": 2.5}, "n_weights"),
        ([1.0, 2.0], {"spread": 0.0}, "spread"),
        ([1.0, np.nan], {}, "y"),
        ([], {}, "y has no entries"),
        ([1e200, -1e200], {}, "overflows"),
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(y, options, message):
    with pytest.raises(InvalidInputError, match=message):
        weight_grid(y, **options)


# ------------------------------------------------------------------------------------------------ the picture


@pytest.fixture(scope="module")
def curves(problem, path):
    pytest.importorskip("matplotlib", reason="pictures need the plot extra")
    _, X, y = problem
    return [adversarial_mse(network, X, y, [0.1, 0.2], ATTACK) for network in path.networks]


def test_the_picture_holds_the_curves(problem, path, curves):
    net, X, y = problem
    start = adversarial_mse(net, X, y, [0.1, 0.2], ATTACK)
    display = TradeoffDisplay.from_path(path, curves, start=start)
    assert list(display.errors) == ["clean", "attacked, ε = 0.1", "attacked, ε = 0.2"]
    assert_allclose(display.errors["clean"], path.mse, rtol=1e-9)
    assert_array_equal(display.errors["attacked, ε = 0.2"], [curve.adversarial[1] for curve in curves])
    assert_array_equal(display.upper, path.upper)
    assert display.start["upper"] == path.results[0].certificate_before.upper
    line = display.ax_.lines[0]
    assert_array_equal(line.get_xdata(), np.sort(path.upper))
    assert figure_png(display.figure_, dpi=40).startswith(b"\x89PNG")


def test_constant_networks_can_be_drawn():
    pytest.importorskip("matplotlib", reason="pictures need the plot extra")
    flat = TradeoffDisplay(np.zeros(2), {"clean": np.array([1.0, 1.0])}).plot()
    assert flat.ax_.get_xscale() == "linear"


def test_wrong_curves_are_refused(problem, path, curves):
    _, X, y = problem
    other_radii = adversarial_mse(path.networks[0], X, y, [0.1, 0.3], ATTACK)
    other_norm = adversarial_mse(path.networks[0], X, y, [0.1, 0.2], PGDAttack(norm="linf", n_steps=5))
    for wrong in (curves[:-1], [*curves, curves[0]], [], [other_radii, *curves[1:]], [other_norm, *curves[1:]]):
        with pytest.raises(InvalidInputError, match="one curve per network"):
            TradeoffDisplay.from_path(path, wrong)
    with pytest.raises(InvalidInputError, match="same radii"):
        TradeoffDisplay.from_path(path, curves, start=other_norm)
