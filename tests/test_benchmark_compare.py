"""The comparison with other packages: the same problems for all, figures recomputed, missing packages in their rows."""

import sys
from pathlib import Path

import numpy as np
import pytest

from certnet.backends import cvxpy_

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "compare.py").exists():
    pytest.skip("the benchmarks are not part of an installed certnet", allow_module_level=True)
sys.path.insert(0, str(FOLDER))
try:
    import compare
finally:
    sys.path.remove(str(FOLDER))

clarabel = pytest.mark.skipif(
    compare.why_missing("cvxpy") is not None or cvxpy_.why_unusable("CLARABEL") is not None,
    reason="needs CVXPY and Clarabel",
)


@pytest.fixture(autouse=True)
def single_runs(monkeypatch):
    monkeypatch.setattr(compare.Patience, "repeats", 0.1)


def rows_by(rows, column):
    return {row[column]: row for row in rows}


def test_a_missing_package_is_a_row(monkeypatch):
    monkeypatch.setitem(compare.PACKAGES, "no_such_module", "no-such-package")
    row = compare.entry(("somebody",), ("numpy", "no_such_module"), lambda: ("1.0",))
    assert row == ("somebody", "not installed: pip install no-such-package")


def test_what_another_package_raises_is_a_row():
    def broken():
        raise RuntimeError("first\nlast")

    assert compare.entry(("somebody",), (), broken) == ("somebody", "no result: RuntimeError: last")


def test_short_rows_are_filled_up():
    text = compare.table(("a", "b", "c"), [("1", "not installed")])
    assert text.splitlines()[-1] == "| 1 | not installed |  |"


def test_tables_are_put_into_the_page():
    page = "x\n<!-- compare.py: deep -->\nold\n<!-- end -->\ny\n<!-- compare.py: box -->\nkept\n<!-- end -->\n"
    found = compare.placed(page, "deep", "new\n")
    assert found == page.replace("old", "new")
    with pytest.raises(SystemExit, match="lifted"):
        compare.placed(page, "lifted", "new")


def test_the_page_has_a_place_for_every_table():
    page = (Path(__file__).parents[1] / "docs" / "comparison.md").read_text()
    for name in compare.TABLES:
        compare.placed(compare.placed(page, name, "new"), f"machine of {name}", "new")


@clarabel
def test_generic_solvers_are_given_the_same_inequality():
    rows = rows_by(compare.shallow_rows([(6, 3, 1)]), 1)
    own, other = rows["certnet"], rows["CVXPY, CLARABEL"]
    assert float(other[2].split()[0]) == pytest.approx(float(own[2]), rel=1e-5)
    assert own[3] == "yes"
    assert other[3].startswith("no; certnet proves")


def test_bounds_of_deep_networks_are_above_the_lower_one():
    rows = compare.deep_rows([(3, 5, 5, 1)])
    lower = float(rows[0][4])
    bounds = [float(row[2]) for row in rows if len(row) > 3]
    assert len(bounds) >= 3
    assert min(bounds) >= lower
    assert float(rows[0][2]) <= min(bounds) * 1.001


def test_bounds_in_a_box_stand_beside_those_of_auto_lirpa():
    rows = compare.box_rows((3, 5, 5, 1), [0.05])
    assert [row[3] for row in rows] == ["certnet", "auto_LiRPA"] * 2
    for own, other in zip(rows[::2], rows[1::2]):
        assert float(own[6]) <= float(own[4])
        if compare.why_missing("auto_LiRPA"):
            assert other[4].startswith("not installed: pip install git+")
        else:
            assert float(own[6]) <= float(other[4]) * (1 + 1e-5)


@clarabel
def test_the_convex_program_is_the_same_for_all():
    X = np.random.default_rng(0).standard_normal((30, 2))
    rows = compare.convex_rows(X, np.sin(X[:, 0]) + X[:, 1], n_patterns=4)
    own, conic, without_bias = (float(row[2]) for row in rows[:3])
    assert conic == pytest.approx(own, rel=1e-4)
    assert without_bias >= own * (1 - 1e-4)
    if compare.why_missing("scnn") is None:
        assert float(rows[3][2]) == pytest.approx(without_bias, rel=1e-2)


def test_points_of_all_solvers_meet_the_residual():
    net = compare.lifted_network(6, 5)
    rows = compare.lifted_rows(net, np.random.default_rng(0).standard_normal((4, 6)), tol=1e-6)
    measured = [row for row in rows if not row[1].startswith("not installed")]
    assert len(measured) >= 2
    assert all(row[2] == "0" and float(row[1]) <= 1e-6 for row in measured)


def test_sizes_and_errors_are_of_the_network():
    network = compare.ShallowNetwork([[1.0], [-2.0]], [0.0, 0.5], [1.0, 1.0], 0.0)
    value, mse = compare.size_and_error(network, np.array([[1.0]]), np.array([3.0]))
    assert mse == pytest.approx(4.0)
    assert value == pytest.approx(4.0 + compare.WEIGHT * (1.0 + 4.0 + 0.25 + 2.0))
