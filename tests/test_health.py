"""What the doctor finds: solvers that are installed and do not work are told from those that do."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from certnet import ShallowNetwork, certification, certify, cli
from certnet.backends import cvxpy_
from certnet.cli import health
from certnet.kernels import compilation


def doctor(capsys, monkeypatch, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["certnet", "doctor", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0), capsys.readouterr().out


@pytest.mark.parametrize("name", ["CLARABEL", "SCS"])
def test_solvers_solve_their_tiny_problem(name: str) -> None:
    assert health.cone_solvers()[name] is None


def test_every_solver_of_boxes_is_tried() -> None:
    found = health.box_solvers()
    assert found.keys() == health.BOX_SOLVERS.keys()
    assert found["coordinate_descent"] is None
    assert found["osqp"] is None


def test_a_solver_that_raises_or_errs_is_no_solver(capsys, monkeypatch) -> None:
    def wrong(problem, name, *, tol):  # type: ignore[no-untyped-def]
        if name == "SCS":
            raise TypeError("an argument that this version does not know\nand more")
        for variable in problem.variables():
            variable.value = np.array(7.0)
        return cvxpy_.SolveReport(cvxpy_.Status.OPTIMAL, name, "optimal", 0.0)

    monkeypatch.setattr(cvxpy_, "solve", wrong)
    found = health.cone_solvers()
    assert "does not solve a tiny problem (optimal)" in str(found["CLARABEL"])
    assert "TypeError: an argument that this version does not know)" in str(found["SCS"])
    code, out = doctor(capsys, monkeypatch, "--json")
    assert code == 3
    assert not json.loads(out)["solvers"]["CLARABEL"]["usable"]


def test_a_box_solver_that_errs(monkeypatch) -> None:
    monkeypatch.setattr(health, "solver_named", lambda name: lambda problem, q, start, limits: q)
    assert all(
        "does not solve a tiny problem (it says [[2.0, -5.0]])" in str(why) for why in health.box_solvers().values()
    )


def test_the_doctor_tells_of_the_machine(capsys, monkeypatch) -> None:
    code, out = doctor(capsys, monkeypatch, "--json")
    data = json.loads(out)
    assert code == 0
    assert data["python"] == ".".join(map(str, sys.version_info[:3]))
    for what in ("threads", "BLAS", "GPU", "compiled kernels", "cpus", "CERTNET_DATA_HOME"):
        assert what in data


def test_certnets_own_search_is_tried_and_believed_only_where_it_is_right(capsys, monkeypatch) -> None:
    code, out = doctor(capsys, monkeypatch, "--json")
    assert code == 0
    assert json.loads(out)["solvers"]["CERTNET"] == {"usable": True, "reason": None}

    def wrong(network):  # type: ignore[no-untyped-def]
        return certify(ShallowNetwork(2.0 * network.W, network.b, network.V, network.c))

    monkeypatch.setattr(certification, "certify", wrong, raising=False)
    assert "does not solve a tiny problem" in str(health.own_search())


def test_a_folder_of_kernels_elsewhere_is_explained(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert "cannot be written" not in health.system()["compiled kernels"]
    monkeypatch.setattr(compilation, "kept_in", lambda kernel: tmp_path)
    assert health.system()["compiled kernels"].startswith(f"{tmp_path} (certnet's own folder cannot be written")
    monkeypatch.setattr(compilation, "kept_in", lambda kernel: None)
    assert "set NUMBA_CACHE_DIR" in health.system()["compiled kernels"]
