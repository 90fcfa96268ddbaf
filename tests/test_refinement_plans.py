"""Which descents are made of which networks, and over what kinks are bent."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from certnet import FeedForward, certify, refine
from certnet.programs.goal import Weighted
from certnet.programs.loss import SQUARED
from certnet.refinement import efforts
from certnet.refinement.deep import BROADLY, DEFAULT, OPENINGS, QUICK, SLIM, THOROUGH
from certnet.refinement.efforts import EFFORTS, Effort, chosen_effort
from certnet.refinement.ground import Ground
from certnet.rows.memory import MemoryRows


def network(*widths: int, seed: int = 0) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.1 * rng.standard_normal(n) for n in widths[1:]], "relu")


@pytest.mark.parametrize(
    ("widths", "n_rows", "plan"),
    [
        ((4, 10, 1), 100, DEFAULT),
        ((8, 100, 1), 1_000, SLIM),
        ((8, 100, 1), 100_000, QUICK),
        ((8, 64, 64, 1), 200, QUICK),
        ((90, 100, 1), 4_000, BROADLY),
    ],
)
def test_descents_are_fewer_where_they_take_long(widths, n_rows, plan):
    assert EFFORTS["default"].for_network(network(*widths), n_rows).plan is plan
    assert EFFORTS["quick"].for_network(network(*widths), n_rows) is EFFORTS["quick"]
    thorough = chosen_effort(60.0).for_network(network(*widths), n_rows)
    assert thorough.time_limit == 60.0
    assert set(thorough.plan.openings) == set(THOROUGH.openings)
    assert thorough.plan.openings[0] is plan.openings[0]


def test_the_thorough_effort_begins_with_what_the_others_do():
    for plan in (QUICK, SLIM, DEFAULT):
        assert plan.openings == THOROUGH.openings[: len(plan.openings)] == OPENINGS[: len(plan.openings)]
    assert set(BROADLY.openings) <= set(THOROUGH.openings)


@pytest.mark.parametrize(("d", "reach"), [(1, 1.0), (11, 1.0), (44, 2.0), (99, 3.0)])
def test_kinks_are_bent_over_what_pre_activations_move_by(d, reach, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, d))
    net = network(d, 3, 1)
    rows = MemoryRows.of(X, X[:, :1])
    assert Ground(net, rows, Weighted(0.01), SQUARED).reach == pytest.approx(reach, rel=1e-14)
    seen = []

    def descend(f, x, stall, allowance):
        seen.append(f.keywords["delta"])
        return x

    monkeypatch.setattr("certnet.refinement.deep.quasi_newton", descend)
    refine(net, X, X[:, 0], effort="quick")
    stages = [*QUICK.openings[0].stages, (0.01, 0.01, 2e-4), (0.003, 0.003, 6e-5)]
    assert seen == pytest.approx([stage[1] * reach for stage in stages], rel=1e-14)


def test_one_descent_with_broad_kinks_is_certified_and_measured(monkeypatch):
    monkeypatch.setattr(efforts, "CHEAP", 0.0)
    monkeypatch.setattr(efforts, "FAIR", 0.0)
    assert EFFORTS["default"].for_network(network(40, 6, 1), 10) == Effort(BROADLY, EFFORTS["default"].seconds)
    rng = np.random.default_rng(1)
    X = rng.standard_normal((150, 40))
    y = np.sin(X[:, 0]) + np.abs(X[:, 1])
    net = network(40, 6, 5, 1)
    done = refine(net, X, y, 0.02)
    assert [row.stage for row in done.trace][:2] == ["input", "descent"]
    assert done.certificate.check(done.network)
    mse = float(np.mean((done.network.predict(X).ravel() - y) ** 2))
    assert done.objective_after == pytest.approx(mse + 0.02 * done.certificate.rho, rel=1e-10)
    before = float(np.mean((net.predict(X).ravel() - y) ** 2)) + 0.02 * certify(net).rho
    assert done.objective_after < 0.5 * before
