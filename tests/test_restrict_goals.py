"""Limits instead of weights, rounds beyond the cell, and ways to stop: what ``refine`` promises of each."""

from __future__ import annotations

import time
import warnings
from functools import partial
from itertools import pairwise

import instances
import numpy as np
import pytest
from numpy.testing import assert_allclose
from steps import Clock
from threadpoolctl import threadpool_limits

from certnet import ShallowNetwork, certify, refine
from certnet.core.errors import InvalidInputError, NotConvergedWarning, ScaleWarning
from certnet.core.outcome import Status
from certnet.refinement import mean_squared_error, objective, run
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.own import OwnSolver
from certnet.solvers.solved import Solved

instance = partial(instances.instance, h=6, n=25)
both = pytest.mark.parametrize("kind", [{"cells": 1}, {"effort": "quick"}], ids=["restriction", "effort"])


def variance(y):
    return float(np.var(y, axis=0).sum())


def interrupt(*_):
    raise KeyboardInterrupt


def no_point(*_, **__):
    return Solved(None, Status.SOLVER_FAILED, "gave up")


# ------------------------------------------------------------------------------------------------ a limit on L


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("share", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_best_fit_under_a_limit_is_that_of_the_reference(seed, share, m):
    net, X, y = instance(seed, m=m)
    limit = share * refine(net, X, y, 0.02, cells=1).certificate.upper
    own, reference = (refine(net, X, y, target_lipschitz=limit, solver=name) for name in ("CERTNET", "CLARABEL"))
    for result in (own, reference):
        assert result.status is Status.OPTIMAL
        assert certify(result.network, X=X).lower <= result.certificate.upper <= limit
        assert result.certificate.check(result.network)
        assert result.objective_after == result.mse == mean_squared_error(result.network, X, y)
    assert own.objective_after == pytest.approx(reference.objective_after, rel=1e-5)
    assert own.gap <= 1e-6


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("limit", [0.0, 1e-300, 1e-12])
@both
def test_a_limit_of_nothing_is_the_mean(kind, limit, m):
    net, X, y = instance(m=m)
    result = refine(net, X, y, target_lipschitz=limit, **kind)
    assert result.certificate.upper <= limit
    assert result.mse == pytest.approx(variance(y), rel=1e-9)
    assert_allclose(result.network.forward(X), np.tile(y.mean(axis=0), (len(X), 1)), rtol=1e-9)
    assert result.objective_before == np.inf


@pytest.mark.parametrize("limit", [1e10, 1e40, 1e80, 1e150, 1e200, 1e308])
def test_a_limit_that_never_binds_is_weight_zero(limit):
    net, X, y = instance()
    free = refine(net, X, y, 0.0, cells=1)
    bounded = refine(net, X, y, target_lipschitz=limit, cells=1)
    assert bounded.status is Status.OPTIMAL
    assert bounded.objective_after == pytest.approx(free.objective_after, rel=1e-6)


def test_looser_limits_fit_better():
    net, X, y = instance(3)
    errors = [refine(net, X, y, target_lipschitz=limit, cells=1).mse for limit in (0.0, 0.1, 0.3, 1.0, 3.0)]
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(errors))


# ------------------------------------------------------------------------------------------------ a limit on the error


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_least_slope_under_an_error_is_that_of_the_reference(seed, part, m):
    net, X, y = instance(seed, m=m)
    least = refine(net, X, y, 0.0, cells=1).mse
    limit = least + part * (variance(y) - least)
    own = refine(net, X, y, max_mse=limit, solver="CERTNET")
    reference = refine(net, X, y, max_mse=limit / (1.0 - 1e-6), solver="CLARABEL")  # which keeps that margin
    assert own.status is reference.status is Status.OPTIMAL
    assert own.mse == mean_squared_error(own.network, X, y) <= limit
    assert own.objective_after == own.certificate.rho
    assert own.certificate.check(own.network)
    assert own.objective_after == pytest.approx(reference.objective_after, rel=1e-5)


@pytest.mark.parametrize("factor", [1.0 + 1e-9, 2.0, 1e8, 1e200])
@both
def test_an_error_that_the_mean_reaches_costs_no_slope(kind, factor):
    net, X, y = instance()
    result = refine(net, X, y, max_mse=factor * variance(y), **kind)
    assert result.certificate.upper == result.objective_after == 0.0
    assert result.mse == pytest.approx(variance(y), rel=1e-9)


@pytest.mark.parametrize("solver", ["auto", "CERTNET", "CLARABEL"])
@pytest.mark.parametrize("share", [0.0, 1e-300, 0.5, 0.99])
def test_an_error_that_the_cell_cannot_reach_is_refused(solver, share):
    net, X, y = instance()
    limit = share * refine(net, X, y, 0.0, cells=1).mse
    with pytest.raises(InvalidInputError, match=r"max_mse=.*was not reached.*allow a larger error"):
        refine(net, X, y, max_mse=limit, solver=solver)


@pytest.mark.parametrize("limit", [0.0, 1e-12])
@both
def test_interpolated_targets_keep_the_network_that_meets_them(kind, limit):
    net, X, _ = instance()
    with warnings.catch_warnings():
        warnings.simplefilter("default", NotConvergedWarning)  # the solvers cannot tell such errors from rounding
        result = refine(net, X, net.forward(X), max_mse=limit, **kind)
    assert result.mse <= limit
    assert result.objective_after <= result.objective_before < np.inf


@pytest.mark.parametrize("goal", ["target_lipschitz", "max_mse"])
@both
def test_a_solution_given_back_stays_within_its_limit(kind, goal):
    net, X, y = instance(4)
    limit = {"target_lipschitz": 0.4, "max_mse": 0.9 * variance(y)}[goal]
    first = refine(net, X, y, **{goal: limit}, **kind)
    second = refine(first.network, X, y, **{goal: limit}, **kind)
    assert second.objective_before == first.objective_after < np.inf
    assert second.objective_after <= second.objective_before
    assert second.certificate.upper <= limit if goal == "target_lipschitz" else second.mse <= limit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_lipschitz": -1.0}, "target_lipschitz"),
        ({"target_lipschitz": np.nan}, "target_lipschitz"),
        ({"max_mse": np.inf}, "max_mse"),
        ({"max_mse": "small"}, "max_mse"),
        ({"max_mse": 1.0, "target_lipschitz": 1.0}, "two goals"),
        ({"max_mse": 1.0, "penalty": "l2"}, "penalty"),
        ({"max_mse": 1.0, "method": "alternating"}, "method"),
        ({"target_lipschitz": 1.0, "patterns": "sampled"}, "patterns"),
        ({"target_lipschitz": 1.0, "cells": 2}, "cells"),
        ({"max_mse": 1.0, "optimality_gap": True}, "optimality_gap"),
        ({"optimality_gap": True, "penalty": "l2"}, "optimality_gap"),
        ({"cells": 0}, "cells"),
        ({"cells": 1.5}, "cells"),
        ({"cells": 2, "penalty": "l2"}, "cells"),
    ],
)
def test_goals_that_make_no_sense_are_refused_before_any_work(options, message):
    rows = []
    with pytest.raises(InvalidInputError, match=message):
        refine(*instance(), callback=rows.append, **options)
    assert not rows


# ------------------------------------------------------------------------------------------------ beyond the cell


@pytest.mark.parametrize("m", [1, 2])
def test_every_kept_row_is_a_decrease(m):
    net, X, y = instance(1, h=4, m=m, n=15)
    rows, single = [], refine(net, X, y, 0.05, cells=1)
    result = refine(net, X, y, 0.05, cells=3, callback=rows.append)
    assert tuple(rows) == result.trace
    kept = [row.objective for row in rows if row.accepted]
    assert all(after < before for before, after in pairwise(kept))
    assert kept[-1] == result.objective_after < single.objective_after
    assert all(earlier.seconds <= later.seconds for earlier, later in pairwise(rows))
    assert all(row.gap <= 1e-6 for row in rows if "restriction" in row.stage)
    assert sum("restriction" in row.stage for row in rows) <= 3
    assert result.objective_after == pytest.approx(objective(result.network, X, y, weight=0.05), rel=1e-6)
    assert result.certificate.check(result.network)


@pytest.mark.parametrize("solver", ["CERTNET", "CLARABEL"])
def test_the_floor_is_below_every_network(solver):
    net, X, y = instance(2, h=4, n=12)
    result = refine(net, X, y, 0.05, optimality_gap=True, solver=solver)
    assert 0.0 <= result.floor.value <= result.objective_after
    assert result.optimality_gap == result.objective_after - result.floor.value
    assert np.isnan(refine(net, X, y, 0.05).optimality_gap)


# ------------------------------------------------------------------------------------------------ stopping


@pytest.mark.parametrize(
    "goal", [{"cells": 1}, {"target_lipschitz": 0.5, "cells": 1}, {"penalty": "l2"}, {"method": "alternating"}]
)
@pytest.mark.parametrize("how", ["on_step", "should_stop"])
def test_an_interrupted_solver_gives_its_best_point(goal, how):
    net, X, y = instance()
    stop = {"on_step": interrupt} if how == "on_step" else {"should_stop": lambda: True}
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        result = refine(net, X, y, **goal, **stop)
    assert result.status is Status.INTERRUPTED
    assert len(result.trace) == 2
    assert result.objective_after <= result.objective_before
    assert result.certificate.check(result.network)


def test_an_interrupted_search_for_an_error_is_no_refusal():
    net, X, y = instance()
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        result = refine(net, X, y, max_mse=0.9 * variance(y), cells=1, on_step=interrupt)
    assert result.status is Status.INTERRUPTED
    assert result.objective_after <= result.objective_before


@pytest.mark.parametrize("stage", ["input", "joint restriction", "descent 1", "alternating round 1"])
def test_an_interrupt_in_the_callback_keeps_what_is_known(stage):
    net, X, y = instance(1, h=4, n=15)
    more = {"method": "alternating"} if "alternating" in stage else {"cells": 3}
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        result = refine(net, X, y, 0.05, callback=lambda row: row.stage == stage and interrupt(), **more)
    assert result.status is Status.INTERRUPTED
    assert result.trace[-1].stage == stage
    assert result.objective_after == min(row.objective for row in result.trace if row.accepted)
    assert result.improved == (stage != "input")


@both
def test_an_interrupt_while_certifying_keeps_the_input(kind, monkeypatch):
    net, X, y = instance()
    honest = run.certify_checked
    monkeypatch.setattr(
        run, "certify_checked", lambda network, **o: honest(net, **o) if network is net else interrupt()
    )
    with pytest.warns(NotConvergedWarning, match="interrupted.*input network"):
        result = refine(net, X, y, 0.05, **kind)
    assert result.network is net


def test_after_an_interrupt_no_floor_is_computed():
    net, X, y = instance()
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        result = refine(net, X, y, 0.05, cells=1, on_step=interrupt, optimality_gap=True)
    assert result.floor is None
    assert np.isnan(result.optimality_gap)


def test_an_interrupted_floor_is_still_a_proof():
    net, X, y = instance()
    solved = []
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        result = refine(
            net, X, y, 0.05, cells=1, optimality_gap=True, should_stop=lambda: bool(solved),
            callback=lambda row: row.stage == "joint restriction" and solved.append(row),
        )  # fmt: skip
    assert result.improved
    assert 0.0 <= result.floor.value <= result.objective_after


def test_the_time_limit_ends_the_rounds(monkeypatch):
    net, X, y = instance(1, h=4, n=15)
    monkeypatch.setattr(time, "perf_counter", Clock(0.001))
    with pytest.warns(NotConvergedWarning, match="time limit"):
        result = refine(net, X, y, 0.05, cells=50, time_limit=0.05)
    assert result.status is Status.TIME_LIMIT
    assert len(result.trace) < 10  # of 50 cells
    assert result.objective_after <= result.objective_before


# ------------------------------------------------------------------------------------------------ solvers


@pytest.mark.parametrize("solver", ["Auto", "certnet", "CertNet", "cLARABEL"])
def test_solver_names_may_be_written_in_any_case(solver):
    assert refine(*instance(), target_lipschitz=0.5, solver=solver).status is Status.OPTIMAL


@pytest.mark.parametrize("goal", [{"weight": 0.05}, {"target_lipschitz": 0.4}, {"max_mse": 0.514}, {"penalty": "l2"}])
def test_the_fallback_is_told_in_the_trace(goal, monkeypatch):
    net, X, y = instance()
    reference = refine(net, X, y, **goal, cells=1)
    monkeypatch.setattr(OwnSolver, "solve", no_point)
    result = refine(net, X, y, **goal, cells=1)
    assert result.trace[-1].solver_status == "certnet: gave up; CLARABEL: optimal"
    assert result.objective_after == pytest.approx(reference.objective_after, rel=3e-3)
    assert np.isnan(result.gap)


def test_a_named_solver_is_never_replaced(monkeypatch):
    net, X, y = instance()
    monkeypatch.setattr(OwnSolver, "solve", no_point)
    monkeypatch.setattr(ConicSolver, "solve", None)
    with pytest.warns(NotConvergedWarning, match="CERTNET: .*gave up.*input network"):
        result = refine(net, X, y, 0.05, solver="CERTNET")
    assert result.network is net


@pytest.mark.parametrize("goal", [{"weight": 0.05}, {"target_lipschitz": 0.4}, {"cells": 1}, {"cells": 2}])
def test_threads_do_not_change_the_result(goal):
    net, X, y = instance(1, h=8, d=3, n=40) if "cells" not in goal else instance(1, h=4, n=15)
    results = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            results.append(refine(net, X, y, **({"weight": 0.05} | goal)))
    assert results[0].network == results[1].network
    assert results[0].certificate.upper == results[1].certificate.upper


# ------------------------------------------------------------------------------------------------ hard cases


def hard(case):
    net, X, y = instance(6, h=6, d=3, n=20)
    W, b, V, c = net.W.copy(), net.b.copy(), net.V.copy(), net.c
    if case == "dead units":
        b[:3] = -50.0
    elif case == "zero pre-activations":
        b[:] = -W @ X[0]
        b[3:] = -(W[3:] @ X[1])
    elif case == "duplicate rows":
        X, y = np.repeat(X[:5], 4, axis=0), np.repeat(y[:5], 4, axis=0) + np.tile([[0.1], [-0.1]], (10, 1))
    elif case == "rank-deficient inputs":
        X[:, 2] = X[:, 0] - 2.0 * X[:, 1]
    elif case == "a column of 1e6":
        X[:, 1] *= 1e6
        W[:, 1] /= 1e6
    elif case == "a column of 1e6 that the network does not know":
        X[:, 1] *= 1e6
    elif case == "one sample":
        X, y = X[:1], y[:1]
    elif case == "fewer samples than inputs":
        X, y = X[:2], y[:2]
    elif case == "interpolated":
        y = net.forward(X)
    return ShallowNetwork(W, b, V, c), X, y


HARD = (
    "dead units", "zero pre-activations", "duplicate rows", "rank-deficient inputs", "a column of 1e6",
    "a column of 1e6 that the network does not know", "one sample", "fewer samples than inputs", "interpolated",
)  # fmt: skip


@pytest.mark.parametrize("case", HARD)
@both
def test_hard_cases_meet_every_goal(kind, case):
    net, X, y = hard(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ScaleWarning)
        warnings.simplefilter("default", NotConvergedWarning)
        for weight in (0.0, 0.05, 1e8):
            result = refine(net, X, y, weight, **kind)
            assert result.objective_after <= result.objective_before
            assert result.certificate.check(result.network)
            assert weight < 1e8 or result.objective_after <= variance(y) * (1 + 1e-4) + 1e-9
        limited = refine(net, X, y, target_lipschitz=0.3, **kind)
        assert limited.certificate.upper <= 0.3
        assert limited.mse <= variance(y) * (1 + 1e-6) + 1e-9
        budget = 0.5 * (result.mse + refine(net, X, y, 0.0, **kind).mse) + 1e-9
        within = refine(net, X, y, max_mse=budget, **kind)
        assert within.mse <= budget
        assert within.objective_after <= within.objective_before


@pytest.mark.filterwarnings("ignore::certnet.errors.ScaleWarning")
@pytest.mark.parametrize("case", HARD)
def test_hard_cases_reach_the_reference(case):
    net, X, y = hard(case)
    own, reference = (refine(net, X, y, 0.05, solver=name) for name in ("CERTNET", "CLARABEL"))
    assert own.objective_after <= reference.objective_after * (1 + 1e-5) + 1e-9
