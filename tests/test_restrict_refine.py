"""``refine`` as a function: what it returns, what it refuses, and that a failing solver costs nothing."""

import os
import signal
import threading
import time
import warnings
from importlib import import_module
from itertools import pairwise

import cvxpy
import numpy as np
import pytest
import scs
from instances import instance

from certnet import ShallowNetwork, certify, refine
from certnet.backends import cvxpy_ as backend
from certnet.backends.cvxpy_ import SolveReport, why_unusable
from certnet.core.errors import (
    CertificateError,
    InvalidInputError,
    NotConvergedWarning,
    ScaleWarning,
    SolverUnavailableError,
)
from certnet.core.outcome import Status
from certnet.programs.objectives import l2_penalty, mean_squared_error, objective
from certnet.solvers.cvxpy_ import ConicSolver

KINDS = ({"cells": 1}, {"method": "alternating", "max_rounds": 3}, {"penalty": "l2"})
KIND_NAMES = ("joint", "alternating", "l2")
every_kind = pytest.mark.parametrize("kind", KINDS, ids=KIND_NAMES)
both = pytest.mark.parametrize("kind", [{"cells": 1}, {}], ids=("joint", "effort"))
every_way = pytest.mark.parametrize("kind", [*KINDS, {}], ids=(*KIND_NAMES, "effort"))


def assert_sound(result, net, X, y, weight, penalty="lipschitz"):
    """What holds of every result, whatever the solver did."""
    assert result.objective_after <= result.objective_before
    assert result.improved == (result.objective_after < result.objective_before)
    assert result.improved or result.network is net
    assert result.certificate.check(result.network)
    assert result.certificate_before.check(net)
    for network, certificate, claimed in (
        (net, result.certificate_before, result.objective_before),
        (result.network, result.certificate, result.objective_after),
    ):
        again = objective(network, X, y, weight=weight, penalty=penalty, certificate=certificate)
        assert again == pytest.approx(claimed, rel=1e-12, abs=1e-300)


# ------------------------------------------------------------------------------------------------ what it returns


@every_way
@pytest.mark.parametrize("m", [1, 2])
def test_the_result_is_better_and_every_figure_can_be_recomputed(kind, m):
    net, X, y = instance(m=m)
    result = refine(net, X, y, 0.05, **kind)
    assert_sound(result, net, X, y, 0.05, kind.get("penalty", "lipschitz"))
    assert result.improved
    assert result.status is Status.OPTIMAL
    assert result.candidate is not None
    assert result.network.units == net.units
    assert result.objective_after < 0.9 * result.objective_before
    assert "->" in repr(result)


def test_the_objective_is_mse_plus_weighted_penalty():
    net, X, y = instance()
    certificate = certify(net)
    mse = np.mean((net.predict(X) - y[:, 0]) ** 2)
    assert mean_squared_error(net, X, y) == pytest.approx(mse, rel=1e-12)
    assert objective(net, X, y, weight=0.3) == pytest.approx(mse + 0.3 * certificate.rho, rel=1e-6)
    assert objective(net, X, y, weight=0.3, certificate=certificate) == pytest.approx(mse + 0.3 * certificate.upper**2)
    l2 = sum(float(np.sum(a**2)) for a in (net.W, net.b, net.V))
    assert objective(net, X, y, weight=0.3, penalty="l2") == pytest.approx(mse + 0.3 * l2, rel=1e-12)
    assert l2_penalty(net) == pytest.approx(l2, rel=1e-12)


@pytest.mark.parametrize("options", [{"penalty": "L2"}, {"penalty": "lip"}, {"weight": -1.0}, {"weight": float("nan")}])
def test_the_objective_refuses_what_refine_refuses(options):
    net, X, y = instance()
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        objective(net, X, y, **({"weight": 0.1} | options))


def test_the_trace_and_the_callback_tell_the_same_story():
    net, X, y = instance()
    seen = []
    result = refine(net, X, y, 0.05, method="alternating", max_rounds=3, callback=seen.append)
    assert tuple(seen) == result.trace
    assert [row.stage for row in seen[:2]] == ["input", "alternating round 1"]
    assert len(seen) <= 4
    assert seen[0].objective == result.objective_before
    assert min(row.objective for row in seen if row.accepted) == result.objective_after
    assert all(row.seconds <= after.seconds for row, after in pairwise(seen))
    assert all(row.residuals.primal < 1e-6 for row in seen[1:])


@pytest.mark.parametrize("m", [1, 2])
def test_alternating_rounds_fix_eta_to_the_multipliers_of_the_network_before(m, monkeypatch):
    # η_j = ‖V_:j‖² / T_j with T = upper · t, and the LMI's closed form at that η gives back the certified ρ
    net, X, y = instance(m=m)
    honest, programs = ConicSolver.solve, []
    monkeypatch.setattr(
        ConicSolver, "solve", lambda self, program, **k: programs.append(program) or honest(self, program, **k)
    )
    before = refine(net, X, y, 0.05, method="alternating", max_rounds=1, solver="CLARABEL").certificate_before
    D, eta, U = programs[0].directions, programs[0].penalty.eta, np.linalg.norm(net.V, axis=0)[:, None] * net.W
    np.testing.assert_allclose(eta, np.sum(net.V**2, axis=0) / (before.upper * before.multipliers), rtol=1e-6)
    K = np.eye(m) - 0.5 * D @ np.diag(eta) @ D.T
    rho = np.linalg.eigvalsh(0.5 * U.T @ np.diag(1 / eta) @ U + 0.25 * U.T @ D.T @ np.linalg.inv(K) @ D @ U)[-1]
    assert rho == pytest.approx(before.rho, rel=1e-6)


@both
def test_refining_again_is_never_worse(kind):
    # the optimum lies on the edge of its cell, so that a second refinement may find a better cell beside it
    net, X, y = instance()
    first = refine(net, X, y, 0.05, **kind)
    second = refine(first.network, X, y, 0.05, **kind)
    assert second.objective_after <= second.objective_before == pytest.approx(first.objective_after, rel=1e-6)


@both
def test_nothing_better_returns_the_very_input(kind):
    # a constant network that fits constant data exactly: objective 0 cannot be improved
    net = ShallowNetwork([[0.0]], [0.0], [0.0], 2.0)
    result = refine(net, [[0.0], [1.0]], [2.0, 2.0], 0.1, **kind)
    assert result.network is net
    assert not result.improved
    assert result.status is Status.NOT_IMPROVED
    assert result.objective_after == result.objective_before == 0.0
    assert "not improved" in repr(result)


@both
def test_y_as_a_column_lists_and_integers_are_welcome(kind):
    net, X, y = instance()
    column = refine(net, X, y, 0.05, **kind)
    assert refine(net, X.tolist(), y[:, 0].tolist(), 0.05, **kind).network == column.network
    whole = refine(net, np.round(10 * X).astype(int), np.round(y[:, 0]).astype(int), 0.05, **kind)
    assert whole.improved


@both
def test_inputs_are_not_changed(kind):
    net, X, y = instance()
    X_before, y_before, digest = X.copy(), y.copy(), net.digest
    refine(net, X, y, 0.05, **kind)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)
    assert net.digest == digest


# ------------------------------------------------------------------------------------------------ sampled patterns


@every_kind
@pytest.mark.parametrize("n_patterns", [1, 3, 6, None])
def test_sampled_patterns_never_return_something_worse(kind, n_patterns):
    net, X, y = instance(3, h=6)
    result = refine(net, X, y, 0.02, patterns="sampled", n_patterns=n_patterns, random_state=1, **kind)
    assert_sound(result, net, X, y, 0.02, kind.get("penalty", "lipschitz"))
    assert result.status.ok
    assert result.candidate.n_hidden == 2 * (n_patterns or 3)


def test_a_sampled_candidate_that_is_worse_is_reported_and_not_returned():
    net, X, _ = instance(4, h=8, d=3, n=30)
    y = net.predict(X)  # one pattern cannot fit what eight units made
    result = refine(net, X, y, 1e-6, patterns="sampled", n_patterns=1)
    assert result.network is net
    assert result.status is Status.NOT_IMPROVED
    assert result.candidate is not None
    assert result.trace[-1].objective > result.objective_before


@pytest.mark.parametrize("seed", [0, 6, 17, 22])
def test_the_alternating_start_is_feasible_for_sampled_patterns(seed):
    # both signs of a pattern double Σ η, which the LMI asks to be at most 2
    rng = np.random.default_rng(seed)
    net = ShallowNetwork(rng.standard_normal((4, 1)), rng.standard_normal(4), rng.standard_normal(4), 0.0)
    X = rng.standard_normal((12, 1))
    result = refine(
        net, X, np.sin(2 * X[:, 0]), 0.01, patterns="sampled", n_patterns=2, random_state=seed,
        method="alternating", max_rounds=2,
    )  # fmt: skip
    assert result.status.ok


def test_sampling_is_seeded():
    net, X, y = instance(5, h=8)
    one, two, other = (
        refine(net, X, y, 0.05, patterns="sampled", n_patterns=2, random_state=s).candidate for s in (3, 3, 4)
    )
    assert one == two
    assert one != other


def test_all_patterns_with_both_signs_contain_the_joint_restriction():
    net, X, y = instance(6)
    every = refine(net, X, y, 0.05, patterns="sampled", n_patterns=net.n_hidden)
    assert every.objective_after <= refine(net, X, y, 0.05, cells=1).objective_after * (1 + 1e-6)


@pytest.mark.parametrize("n_patterns", [0, -1, 6, 2.5, "3", float("nan")])
def test_n_patterns_is_validated(n_patterns):
    with pytest.raises(InvalidInputError, match="n_patterns"):
        refine(*instance(), 0.05, patterns="sampled", n_patterns=n_patterns)


# ------------------------------------------------------------------------------------------------ solvers


@pytest.mark.parametrize("solver", ["OSQP", "gurobi", "", "CLARABELL"])
def test_an_unknown_solver_is_refused_naming_those_that_are_known(solver, monkeypatch):
    monkeypatch.setattr(cvxpy.Problem, "get_problem_data", None)  # no work is started
    with pytest.raises(SolverUnavailableError, match="CLARABEL, SCS, MOSEK"):
        refine(*instance(), 0.05, solver=solver)


@pytest.mark.parametrize("solver", ["clarabel", "Scs"])
def test_solver_names_may_be_written_in_any_case(solver):
    assert refine(*instance(), 0.05, solver=solver, tol=1e-6).improved


@pytest.mark.skipif(why_unusable("MOSEK") is None, reason="MOSEK has a licence here")
def test_mosek_without_a_licence_is_refused_before_any_work(monkeypatch):
    rows = []
    with pytest.raises(SolverUnavailableError, match="CLARABEL"):
        refine(*instance(), 0.05, solver="MOSEK", callback=rows.append)
    assert not rows


@pytest.mark.mosek
@pytest.mark.skipif(why_unusable("MOSEK") is not None, reason=str(why_unusable("MOSEK")))
def test_refine_with_mosek():
    net, X, y = instance()
    reference = refine(net, X, y, 0.05, cells=1)
    assert refine(net, X, y, 0.05, solver="MOSEK").objective_after == pytest.approx(reference.objective_after, rel=1e-5)


def _panic(*args, **options):
    class PanicException(BaseException):  # what a panic in a Rust extension raises
        pass

    raise PanicException("Eigval error")


def _raises(error):
    def solve(self, *args, **options):
        raise error

    return solve


@every_kind
@pytest.mark.parametrize(
    "solve",
    [
        _raises(cvxpy.error.SolverError("it failed")),
        _raises(ValueError("Problem data contains NaN or Inf")),
        _raises(RuntimeError("licence expired")),
        _panic,
    ],
    ids=["SolverError", "ValueError", "RuntimeError", "panic"],
)
def test_a_solver_that_raises_costs_nothing(kind, solve, monkeypatch):
    net, X, y = instance()
    monkeypatch.setattr(cvxpy.Problem, "get_problem_data", solve)
    with pytest.warns(NotConvergedWarning, match="no usable point.*input network is returned"):
        result = refine(net, X, y, 0.05, solver="CLARABEL", **kind)
    assert result.network is net
    assert result.status is Status.SOLVER_FAILED
    assert result.candidate is None
    assert not result.trace[-1].accepted
    assert np.isnan(result.trace[-1].objective)
    assert_sound(result, net, X, y, 0.05, kind.get("penalty", "lipschitz"))


def test_an_interrupt_ends_the_work_and_keeps_the_best(monkeypatch):
    net, X, y = instance()
    monkeypatch.setattr(cvxpy.Problem, "get_problem_data", _raises(KeyboardInterrupt()))
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        result = refine(net, X, y, 0.05, solver="CLARABEL")
    assert result.network == net
    assert result.status is Status.INTERRUPTED


def test_ctrl_c_that_scs_takes_for_itself_is_an_interrupt(monkeypatch):
    honest = scs.solve

    calls = []

    def solve(*args, **options):
        calls.append(options)
        alarm = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        alarm.start()
        try:
            return honest(*args, **options | {"eps_abs": 0.0, "eps_rel": 0.0, "max_iters": 10**9})
        finally:
            alarm.cancel()

    monkeypatch.setattr(scs, "solve", solve)
    net, X, y = instance()
    with pytest.warns(NotConvergedWarning, match="interrupted"):
        result = refine(net, X, y, 0.05, solver="SCS", time_limit=60)
    assert result.network == net
    assert result.status is Status.INTERRUPTED
    assert len(calls) == 1


def _ends(status, change):
    """A solver that solves, spoils its point by ``change`` and reports ``status``."""
    honest = backend.solve

    def solve(problem, solver, **options):
        report = honest(problem, solver, **options)
        for variable in problem.variables():
            variable.save_value(change(variable.value))
        return SolveReport(status, report.solver, "as told", report.seconds)

    return solve


@every_kind
@pytest.mark.parametrize(
    "change", [lambda v: None, lambda v: v * np.nan, lambda v: v + np.inf], ids=["nothing", "NaN", "infinite"]
)
@pytest.mark.parametrize("status", [Status.SOLVER_FAILED, Status.OPTIMAL])
def test_no_point_or_a_spoilt_one_costs_nothing(kind, change, status, monkeypatch):
    net, X, y = instance()
    monkeypatch.setattr(backend, "solve", _ends(status, change))
    with pytest.warns(NotConvergedWarning, match="input network is returned"):
        result = refine(net, X, y, 0.05, solver="CLARABEL", **kind)
    assert result.network is net
    assert result.status is Status.SOLVER_FAILED


@every_kind
def test_a_point_that_is_worse_is_not_returned_whatever_the_solver_says(kind, monkeypatch):
    net, X, y = instance()
    monkeypatch.setattr(backend, "solve", _ends(Status.OPTIMAL, lambda v: 100.0 * v + 1.0))
    result = refine(net, X, y, 0.05, solver="CLARABEL", **kind)
    assert result.network is net
    assert result.status is Status.NOT_IMPROVED
    assert result.candidate is not None
    assert result.trace[1].residuals.objective > 1e-3  # and the recomputed residuals expose it


@every_kind
@pytest.mark.parametrize("status", [Status.INACCURATE, Status.TIME_LIMIT])
def test_an_inaccurate_point_is_used_and_said_to_be_so(kind, status, monkeypatch):
    net, X, y = instance()
    monkeypatch.setattr(backend, "solve", _ends(status, lambda v: v * (1.0 + 1e-4)))
    with pytest.warns(NotConvergedWarning, match="best network so far"):
        result = refine(net, X, y, 0.05, solver="CLARABEL", **kind)
    assert result.improved
    assert result.status is status
    assert_sound(result, net, X, y, 0.05, kind.get("penalty", "lipschitz"))


def test_a_failure_in_a_later_round_keeps_the_earlier_ones(monkeypatch):
    net, X, y = instance()
    honest, calls = backend.solve, []

    def solve(problem, solver, **options):
        calls.append(problem)
        return honest(problem, solver, **options) if len(calls) < 2 else SolveReport(
            Status.SOLVER_FAILED, solver, "gave up", 0.0
        )  # fmt: skip

    monkeypatch.setattr(backend, "solve", solve)
    with pytest.warns(NotConvergedWarning, match="best network so far"):
        result = refine(net, X, y, 0.05, solver="CLARABEL", method="alternating")
    assert result.improved
    assert result.objective_after == result.trace[1].objective
    assert len(result.trace) == 3


@every_way
def test_a_candidate_that_cannot_be_certified_is_dropped(kind, monkeypatch):
    net, X, y = instance()

    def refuse(network, **options):
        if network is not net:
            raise CertificateError("rounding errors are too large")
        return certify(network, **options)

    monkeypatch.setattr(import_module("certnet.refinement.run"), "certify_checked", refuse)
    with pytest.warns(NotConvergedWarning, match="input network is returned"):
        result = refine(net, X, y, 0.05, **kind)
    assert result.network is net
    assert result.candidate is None
    assert not result.status.ok


@pytest.mark.parametrize("solver", ["CLARABEL", "SCS"])
@pytest.mark.parametrize("method", ["joint", "alternating"])
def test_a_tiny_time_limit_warns_and_is_never_worse(solver, method, monkeypatch):
    net, X, y = instance(7, h=40, d=8, n=120)
    honest, solved = cvxpy.Problem.solve, []
    monkeypatch.setattr(cvxpy.Problem, "solve", lambda *a, **options: solved.append(options) or honest(*a, **options))
    with pytest.warns(NotConvergedWarning, match="time limit"):
        result = refine(net, X, y, 0.01, solver=solver, method=method, time_limit=0.01)
    assert result.status is Status.TIME_LIMIT
    assert len(solved) <= 1  # no second program
    assert_sound(result, net, X, y, 0.01)


def test_the_time_limit_between_rounds_is_told(monkeypatch):
    net, X, y = instance()
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[-1])
    with pytest.warns(NotConvergedWarning, match="time limit"):
        result = refine(
            net, X, y, 0.05, method="alternating", time_limit=2.0,
            callback=lambda row: now.append(2.0 if row.stage == "alternating round 1" else 0.0),
        )  # fmt: skip
    assert len(result.trace) == 2
    assert result.status is Status.TIME_LIMIT
    assert result.improved


# ------------------------------------------------------------------------------------------------ bad input

BAD_DATA = {
    "X with one dimension": (lambda X, y: (X[:, 0], y), "2-dimensional"),
    "X with three dimensions": (lambda X, y: (X[None], y), "dimension"),
    "X too narrow": (lambda X, y: (X[:, :1], y), "1 columns, the network has 2"),
    "X too wide": (lambda X, y: (np.hstack([X, X]), y), "4 columns, the network has 2"),
    "y too short": (lambda X, y: (X, y[:-1]), "14 samples and y has 13"),
    "y with two columns": (lambda X, y: (X, np.hstack([y, y])), "2 columns"),
    "y a row": (lambda X, y: (X, y.T), "14 samples and y has 1"),
    "y with three dimensions": (lambda X, y: (X, y[:, :, None]), "y has shape"),
    "no samples": (lambda X, y: (X[:0], y[:0]), "no samples"),
    "NaN in X": (lambda X, y: (np.where(np.arange(14)[:, None] == 3, np.nan, X), y), r"X has 2 entries.*\(3, 0\)"),
    "infinity in X": (lambda X, y: (np.where(np.arange(14)[:, None] == 3, np.inf, X), y), "X has 2 entries"),
    "NaN in y": (lambda X, y: (X, np.where(np.arange(14)[:, None] == 5, np.nan, y)), r"y has 1 entries.*\(5,"),
    "a column of strings": (lambda X, y: (np.column_stack([X[:, 0].astype(str), X[:, 1].astype(str)]), y), "dtype"),
    "mixed columns": (lambda X, y: (np.column_stack([X[:, :1], np.full(14, "a")]).astype(object), y), "dtype object"),
    "strings in y": (lambda X, y: (X, y.astype(str)), "y has dtype"),
    "ragged X": (lambda X, y: ([[1.0, 2.0], [3.0]], y), "rectangular"),
    "complex X": (lambda X, y: (X * 1j, y), "complex"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_refused_saying_what_was_wrong(case):
    net, X, y = instance()
    spoil, message = BAD_DATA[case]
    with pytest.raises(InvalidInputError, match=message):
        refine(net, *spoil(X, y), 0.05)


BAD_OPTIONS = [
    ({"weight": -0.1}, "weight"),
    ({"weight": float("nan")}, "weight"),
    ({"weight": float("inf")}, "weight"),
    ({"weight": "much"}, "weight"),
    ({"weight": None}, "weight"),
    ({"penalty": "l1"}, "penalty must be one of 'lipschitz', 'l2'"),
    ({"method": "admm"}, "method must be one of 'joint', 'alternating'"),
    ({"patterns": "some"}, "patterns must be one of 'all', 'sampled'"),
    ({"tol": 0.0}, "tol"),
    ({"tol": float("nan")}, "tol"),
    ({"max_rounds": 0, "method": "alternating"}, "max_rounds"),
    ({"max_rounds": 2.5, "method": "alternating"}, "max_rounds"),
    ({"max_rounds": "ten", "method": "alternating"}, "max_rounds"),
    ({"time_limit": 0.0}, "time_limit"),
    ({"time_limit": -1.0}, "time_limit"),
    ({"time_limit": float("nan")}, "time_limit"),
    ({"random_state": -1, "patterns": "sampled"}, "random_state"),
    ({"random_state": "seed", "patterns": "sampled"}, "random_state"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=[str(o) for o, _ in BAD_OPTIONS])
def test_bad_options_are_refused_before_any_work(options, message):
    rows = []
    with pytest.raises(InvalidInputError, match=message):
        refine(*instance(), **({"weight": 0.05, "callback": rows.append} | options))
    assert not rows


# ------------------------------------------------------------------------------------------------ odd but valid


def _odd(case):
    net, X, y = instance(8, h=6, d=3, n=20)
    W, b, V, c = net.W.copy(), net.b.copy(), net.V.copy(), net.c
    if case == "one sample":
        X, y = X[:1], y[:1]
    elif case == "two samples":
        X, y = X[:2], y[:2]
    elif case == "a constant column":
        X[:, 1] = 3.0
    elif case == "every sample the same":
        X = np.tile(X[:1], (20, 1))
    elif case == "a constant target":
        y = np.full_like(y, 0.1)
    elif case == "units that are never active":
        b[:3] = -50.0
    elif case == "no unit is ever active":
        b[:] = -50.0
    elif case == "units that are always active":
        b[:3] = 50.0
    elif case == "every unit is always active":
        b[:] = 50.0
    elif case == "units without input weights":
        W[:2] = 0.0
    elif case == "zero output weights":
        V[0, ::2] = 0.0
    elif case == "all weights zero":
        W, b, V = 0.0 * W, 0.0 * b, 0.0 * V
    elif case == "identical units":
        W, b, V = np.tile(W[:1], (6, 1)), np.tile(b[:1], 6), np.tile(V[:, :1], 6)
    elif case == "units that cancel":
        W[1], b[1], V[0, 1] = W[0], b[0], -V[0, 0]
    elif case == "targets already interpolated":
        y = net.forward(X)
    elif case == "raw units":
        net = net.rescaled(x_shift=[1e4, -3e4, 0.0], x_scale=1e4, y_shift=500.0, y_scale=1e3)
        return net, X * 1e4 + [1e4, -3e4, 0.0], y * 1e3 + 500.0, 1e6
    elif case == "raw units of different sizes":
        scale = np.array([1e4, 1.0, 1e-2])
        return net.rescaled(x_shift=0.0, x_scale=scale, y_shift=0.0, y_scale=1e3), X * scale, y * 1e3, 1.0
    return ShallowNetwork(W, b, V, c), X, y, 0.02


ODD = (
    "one sample", "two samples", "a constant column", "every sample the same", "a constant target",
    "units that are never active", "no unit is ever active", "units that are always active",
    "every unit is always active", "units without input weights", "zero output weights", "all weights zero",
    "identical units", "units that cancel", "targets already interpolated", "raw units",
    "raw units of different sizes",
)  # fmt: skip


@every_way
@pytest.mark.parametrize("case", ODD)
def test_odd_networks_and_data_work(kind, case):
    net, X, y, weight = _odd(case)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ScaleWarning)
        warnings.simplefilter("default", NotConvergedWarning)  # a degenerate program may end inaccurately, and says so
        result = refine(net, X, y, weight, **kind)
    assert_sound(result, net, X, y, weight, kind.get("penalty", "lipschitz"))
    assert result.improved
    assert result.status in (Status.OPTIMAL, Status.INACCURATE)


@every_way
@pytest.mark.parametrize(("h", "d", "n"), [(1, 1, 1), (1, 1, 5), (3, 1, 2), (1, 4, 6), (2, 9, 4)])
def test_small_shapes_work(kind, h, d, n):
    net, X, y = instance(9, h=h, d=d, n=n)
    result = refine(net, X, y, 0.02, **kind)
    assert_sound(result, net, X, y, 0.02, kind.get("penalty", "lipschitz"))
    assert result.improved


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-3, 12345.678])
def test_a_constant_target_is_found_by_its_constant(value):
    # its standard deviation is the rounding of its mean, which must not become the scale of the program
    net, X, _ = instance(10)
    for kind in (*KINDS, {}):
        result = refine(net, X, np.full(len(X), value), 1e-3, **kind)
        assert result.status is Status.OPTIMAL
        assert result.objective_after < 1e-6 * value**2
        last = result.trace[-1].residuals
        assert (last is not None and last.primal < 1e-3) or result.certificate.upper < 1e-3 * value


@both
def test_biases_that_nothing_determines_stay_moderate(kind):
    # an always active unit's bias trades against c at no cost, a dead unit's bias costs nothing
    net, X, y = instance(11, h=6, d=3, n=20)
    b = net.b.copy()
    b[:2], b[2:4] = 50.0, -50.0
    net = ShallowNetwork(net.W, b, net.V, net.c)
    for weight in (0.0, 1e-2, 1e4, 1e8):
        result = refine(net, X, y, weight, **kind)
        assert abs(result.network.c).max() < 100.0
        assert (np.abs(result.network.b) * np.linalg.norm(result.network.V, axis=0)).max() < 100.0


@both
def test_a_panicking_solver_on_absurd_units_costs_nothing(kind):
    net, X, y = instance(12, h=6, d=3, n=25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        result = refine(net, X * 1e-150, y, 0.01, **kind)  # Clarabel itself panics here
    assert_sound(result, net, X * 1e-150, y, 0.01)
