"""What solving costs is told beforehand, programs that do not fit are refused, and no solver is changed silently."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import instance
from steps import Clock

from certnet import refine
from certnet.core.errors import NotConvergedWarning, SolverUnavailableError
from certnet.core.outcome import Status
from certnet.programs.goal import FitAtMost, Weighted
from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import Restriction, whole_cell
from certnet.solvers import estimate
from certnet.solvers.budget import BudgetSearch
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.estimate import Size, available_bytes, conic_estimate, own_estimate, unfit
from certnet.solvers.interior import InteriorPoint
from certnet.solvers.own import OwnSolver
from certnet.solvers.solved import Solved
from certnet.solvers.watch import Watch

sizes = st.builds(
    Size,
    st.integers(1, 10**6),
    st.integers(1, 200),
    st.integers(1, 500),
    st.integers(1, 10),
    st.booleans(),
)


@given(sizes, st.sampled_from(["rows", "inputs", "units", "outputs"]), st.integers(1, 50))
def test_more_of_anything_costs_no_less(size, name, more):
    larger = replace(size, **{name: getattr(size, name) + more})
    for estimated in (own_estimate, conic_estimate):
        small, large = estimated(size), estimated(larger)
        assert np.isfinite(large).all()
        assert min(small) > 0.0
        # another way to factor begins somewhere
        assert large.bytes >= 0.9 * small.bytes
        assert large.seconds >= 0.9 * small.seconds


@given(sizes, st.floats(0.1, 1e4))
def test_the_rows_that_are_advised_fit(size, seconds):
    word = unfit("IT", size, own_estimate, seconds)
    if word is None:
        assert own_estimate(size).seconds <= seconds
    elif "rows, or" in word:
        advised = int(float(word.split("at most about ")[1].split(" rows")[0]))
        assert 0 < advised <= 1.1 * size.rows
        assert own_estimate(size.with_rows(int(0.9 * advised))).seconds <= seconds


def test_memory_is_that_of_this_machine():
    assert 1e6 < available_bytes() < 1e15


def words(result):
    return [row.solver_status for row in result.trace]


def small_program(goal=None):
    net, X, y = instance(1, h=6, n=25)
    return Restriction.of(whole_cell(net), X, y, LipschitzPenalty(), goal or Weighted(0.05)), whole_cell(net).point


def test_a_program_beyond_memory_is_not_begun(monkeypatch):
    program, start = small_program()
    monkeypatch.setattr(estimate, "available_bytes", lambda: 1e3)
    solved = OwnSolver().solve(program, start=start)
    assert solved.status is Status.SOLVER_FAILED
    assert "own solver would need about" in solved.solver_status
    with pytest.raises(SolverUnavailableError, match="CLARABEL would need about"):
        ConicSolver("CLARABEL").solve(program)
    net, X, y = instance(1, h=6, n=25)
    with pytest.raises(SolverUnavailableError, match=r"SCS would need about .* GB for 25 distinct rows"):
        refine(net, X, y, solver="SCS")


def test_a_solver_that_would_take_too_long_says_how_many_rows_fit():
    size = Size(36_000, 8, 100)
    assert "at most about" in unfit("CLARABEL", size, conic_estimate, 300.0)
    assert unfit("certnet", size, own_estimate, 300.0) is None
    with pytest.raises(SolverUnavailableError, match="CLARABEL would need about"):
        ConicSolver("CLARABEL", patience=1e-9).solve(small_program()[0])


@pytest.mark.parametrize("method", [InteriorPoint(), BudgetSearch()])
def test_what_does_not_fit_into_the_time_is_not_begun(method, monkeypatch):
    goal = FitAtMost(0.3, 0.05) if isinstance(method, BudgetSearch) else None
    program, start = small_program(goal)
    slow = estimate.Estimate(1e4, 1.0, 1e3, 1e2)
    monkeypatch.setattr("certnet.solvers.interior.own_estimate", lambda size: slow)
    solved = method.solve(program, start=start, watch=Watch.within(10.0))
    assert solved.status is Status.TIME_LIMIT
    assert solved.solution is None
    assert "would need about" in solved.solver_status
    assert method.solve(program, start=start).status.ok  # without a limit it is


def test_no_step_is_begun_that_would_end_late(monkeypatch):
    """A clock that moves with every look: the last step ends within half of one of the limit."""
    program, start = small_program()
    monkeypatch.setattr("time.perf_counter", Clock(1.0))
    solved = InteriorPoint().solve(program, start=start, watch=Watch.within(25.0))
    assert solved.status is Status.TIME_LIMIT
    assert solved.solution is not None
    assert solved.steps > 0


def test_a_point_inside_is_looked_for_no_longer_than_the_time():
    program, _ = small_program()
    solved = InteriorPoint().solve(program, watch=Watch.within(-0.1))
    assert solved.status is Status.TIME_LIMIT
    assert "before a point inside" in solved.solver_status


@pytest.mark.parametrize(("gap", "changes"), [(5e-5, False), (2e-4, True)])
def test_a_small_gap_is_accepted_and_told(gap, changes, monkeypatch, caplog):
    net, X, y = instance(1, h=6, n=25)
    honest = OwnSolver.solve

    def short(self, program, **how):
        return replace(honest(self, program, **how), status=Status.INACCURATE, solver_status="short", gap=gap)

    monkeypatch.setattr(OwnSolver, "solve", short)
    with caplog.at_level(logging.WARNING, "certnet"):
        if changes:
            result = refine(net, X, y, 0.05)
            assert "certnet: short; CLARABEL: optimal" in words(result)
        else:
            with pytest.warns(NotConvergedWarning):
                result = refine(net, X, y, 0.05)
            assert "short" in words(result)
            assert gap in [row.gap for row in result.trace]
    assert ("CLARABEL" in caplog.text) == changes


def test_a_fallback_that_does_not_fit_is_left_out_and_that_is_told(monkeypatch):
    net, X, y = instance(1, h=6, n=25)
    monkeypatch.setattr(OwnSolver, "solve", lambda *_, **__: Solved(None, Status.SOLVER_FAILED, "gave up"))
    monkeypatch.setattr(ConicSolver, "objection", lambda *_: "much too large")
    monkeypatch.setattr(ConicSolver, "solve", None)
    with pytest.warns(NotConvergedWarning):
        result = refine(net, X, y, 0.05)
    assert "certnet: gave up; not CLARABEL: much too large" in words(result)
