"""Brackets that branch and bound closes, against brute force over activation patterns; false trees are refused."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import math
import time
import warnings
from fractions import Fraction
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import linprog
from steps import Clock

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs import tree as verify_tree
from certnet.proofs.tree import EmptyCells, TreeChecker, _kernel, side_slopes
from certnet.searches import branch
from certnet.searches.branch import close_bracket
from certnet.searches.cells import Cells
from certnet.searches.relax import relaxation
from certnet.searches.result import BranchResult

# ------------------------------------------------------------------------------------- the second implementation


def can_be_reached(net: ShallowNetwork, sides: dict[int, int]) -> bool:
    """Is the open cell non-empty? By the largest margin, with rows of norm one."""
    if not sides:
        return True
    rows = np.array([s * np.append(net.W[j], net.b[j]) / np.linalg.norm(net.W[j]) for j, s in sides.items()])
    n, d = len(rows), net.n_inputs
    done = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.column_stack([-rows[:, :d], np.ones(n)]),
        b_ub=rows[:, d],
        bounds=[(None, None)] * d + [(None, 1.0)],
    )
    return done.status == 0 and done.x[-1] > 1e-9


def steepest(net: ShallowNetwork, low: Float | float = 0.0, high: Float | float = 1.0) -> float:
    """max ‖V diag(s) W‖₂ over the cells that can be reached: all patterns, unit by unit."""
    low, high = (np.broadcast_to(s, (net.n_hidden,)) for s in (low, high))
    cells: list[dict[int, int]] = [{}]
    for j in np.flatnonzero(net.W.any(axis=1)):
        cells = [more for cell in cells for s in (-1, 1) if can_be_reached(net, more := cell | {int(j): s})]
    norms = []
    for cell in cells:
        slopes = np.array([{-1: low[j], 1: high[j], 0: 0.0}[cell.get(j, 0)] for j in range(net.n_hidden)])
        norms.append(np.linalg.norm((net.V * slopes) @ net.W, 2))
    return float(max(norms))


def network(h: int, d: int, m: int, seed: int, bias: float = 1.0) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(
        rng.standard_normal((h, d)), bias * rng.standard_normal(h), rng.standard_normal((m, h)), rng.standard_normal(m)
    )


def closed(net: ShallowNetwork, **options: Any) -> BranchResult:
    """A bracket from nothing, checked by a checker of its own on what JSON makes of the tree."""
    result = close_bracket(net, **{"lower": 0.0, "witness": np.zeros(net.n_inputs)} | options)
    slopes = {name: options[name] for name in ("low", "high") if name in options}
    checker = TreeChecker(net, json.loads(json.dumps(result.tree)), **slopes)
    assert checker.refusal is None
    assert checker.holds(result.upper)
    assert not checker.holds(result.upper * (1.0 - 1e-9))
    assert result.lower <= result.upper
    return result


def assert_exact(net: ShallowNetwork, **options: Any) -> BranchResult:
    slopes = {name: options[name] for name in ("low", "high") if name in options}
    truth = steepest(net, **slopes)
    result = closed(net, **options)
    assert result.closed
    assert result.upper == pytest.approx(truth, rel=1.5e-6)
    assert result.lower == pytest.approx(truth, rel=1.5e-6)
    assert result.upper >= truth * (1.0 - 1e-13)
    return result


# --------------------------------------------------------------------------------------------------- the truth


@pytest.mark.parametrize(
    ("h", "d", "m"),
    [(1, 1, 1), (1, 3, 2), (3, 1, 1), (6, 1, 2), (8, 2, 1), (10, 2, 1), (7, 2, 3), (7, 3, 1), (6, 3, 2), (6, 4, 3)],
)
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_the_bracket_closes_on_brute_force(h: int, d: int, m: int, bias: float) -> None:
    for seed in range(2):
        assert_exact(network(h, d, m, 100 * h + 10 * d + seed, bias))


@pytest.mark.parametrize(("h", "d", "m"), [(5, 5, 1), (7, 9, 1), (5, 6, 2)])
def test_where_the_weights_are_independent_every_pattern_is_reached(h: int, d: int, m: int) -> None:
    net = network(h, d, m, h)
    truth = max(np.linalg.norm((net.V * s) @ net.W, 2) for s in itertools.product((0.0, 1.0), repeat=h))
    result = closed(net)
    assert result.closed
    assert result.upper == pytest.approx(truth, rel=1.5e-6)
    assert not any(kind == "empty" for kind, _ in result.tree)


@pytest.mark.parametrize("seed", range(12))
def test_small_whole_weights_with_duplicates_parallels_and_zeros(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, d, m = int(rng.integers(3, 8)), int(rng.integers(1, 4)), int(rng.integers(1, 3))
    W = rng.integers(-2, 3, (h, d)).astype(float)
    b = rng.integers(-1, 2, h).astype(float)
    W[1], b[1] = W[0], b[0]  # the same kink
    W[2] = -2.0 * W[0]  # a parallel one
    V = rng.integers(-3, 4, (m, h)).astype(float)
    V[:, -1] += 0.5
    W[0, 0] += not W.any()
    net = ShallowNetwork(W, b, V, np.zeros(m))
    if steepest(net) > 1e-9:
        assert_exact(net)


def test_units_that_are_constant_or_not_used_do_not_matter() -> None:
    base = network(6, 2, 1, 3)
    W = np.vstack([base.W, np.zeros((3, 2)), [[1.0, 1.0]]])
    V = np.column_stack([base.V, [[1e3, -2.0, 5.0]], [[0.0]]])
    net = ShallowNetwork(W, np.append(base.b, [1.0, -1.0, 0.0, 0.3]), V, base.c)
    assert closed(net).upper == pytest.approx(closed(base).upper, rel=1e-6)


def test_networks_without_slope() -> None:
    zero = ShallowNetwork(np.zeros((2, 2)), [1.0, 0.0], [[1.0, 2.0]], 0.0)
    result = close_bracket(zero, lower=0.0, witness=[0.0, 0.0])
    assert (result.upper, result.lower, result.closed) == (0.0, 0.0, True)
    assert TreeChecker(zero, result.tree).holds(0.0)
    cancelling = ShallowNetwork([[1.0], [1.0]], [0.5, 0.5], [1.0, -1.0], 0.0)
    assert close_bracket(cancelling, lower=0.0, witness=[0.0]).upper < 1e-11


@pytest.mark.parametrize("slopes", [(0.1, 1.0), (-0.5, 1.0), (2.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("m", [1, 2])
def test_leaky_units_also_where_the_low_side_is_the_steeper(slopes: tuple[float, float], m: int) -> None:
    net = network(6, 2, m, 5)
    low, high = slopes

    def slope_at(x: Float) -> float:
        s = np.where(net.W @ x + net.b > 0.0, high, low)
        return float(np.linalg.norm((net.V * s) @ net.W, 2)) * (1.0 - 1e-13)

    assert_exact(net, low=low, high=high, prove=slope_at)


def test_units_of_known_slope_are_not_split() -> None:
    net = network(8, 2, 1, 7)
    low, high = np.zeros(8), np.ones(8)
    low[:3] = 1.0
    high[5:] = 0.0
    result = closed(net, low=low, high=high, prove=lambda x: 0.0)
    assert {j for kind, j in result.tree if kind == "split"} <= {3, 4}
    assert result.upper >= steepest(net, low, high) * (1.0 - 1e-12)
    assert not result.closed


@pytest.mark.parametrize("size", [1e120, 1e-120, 1e-8, 1e150, 1e-200])
def test_units_of_extreme_norms(size: float) -> None:
    base = network(6, 2, 1, 11)
    scale = np.where(np.arange(6) % 2 == 0, size, 1.0)
    truth = steepest(base)
    result = closed(ShallowNetwork(base.W * scale[:, None], base.b * scale, base.V / scale, 0.0))
    assert result.upper >= truth * (1.0 - 1e-12)
    if 1e-140 < size < 1e140:  # else no double holds the multipliers of some units, which are charged by their norm
        assert result.closed
        assert result.upper == pytest.approx(truth, rel=2e-6)


@pytest.mark.parametrize("size", [1e300, 1e-300, 5e-324])
def test_cells_that_are_very_far_apart_or_very_close(size: float) -> None:
    base = network(6, 2, 1, 11)
    result = closed(ShallowNetwork(base.W, base.b * size, base.V, 0.0))
    assert result.upper >= steepest(ShallowNetwork(base.W, 0.0 * base.b, base.V, 0.0)) * (1.0 - 1e-12)
    small = closed(ShallowNetwork(base.W * 1e-300, base.b * 1e-300, base.V, 0.0))
    assert small.upper == pytest.approx(1e-300 * closed(base).upper, rel=2e-6)


# ---------------------------------------------------------------------------------------- limits and options


def test_a_bracket_that_cannot_be_closed_in_time_is_still_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(40, 6, 1, 0)
    best = math.inf
    for limit, looks in ((1e-9, 3), (1.0, 120)):  # the step under way is ended
        clock = Clock(0.01)
        monkeypatch.setattr(time, "perf_counter", clock)
        result = closed(net, time_limit=limit)
        assert not result.closed
        assert result.upper < best
        assert clock.looks <= looks
        best = result.upper


def test_the_limit_on_nodes_is_kept() -> None:
    net = network(20, 4, 1, 1)
    for limit in (1, 60, 200):
        result = closed(net, max_nodes=limit)
        assert result.n_nodes <= limit
        assert len(result.tree) <= limit


def test_equal_seeds_give_equal_trees() -> None:
    net = network(14, 3, 1, 2)
    assert closed(net, random_state=3).tree == closed(net, random_state=3).tree


def test_a_cell_too_thin_for_a_point_leaves_the_bracket_open() -> None:
    # between two kinks 1e-30 apart lies no double; both units are on there
    net = ShallowNetwork([[1.0], [-1.0], [1.0]], [-1.0, 1.0 + 2.0**-52, 0.0], [1.0, -1.0, 0.1], 0.0)
    result = closed(net)
    assert result.upper == pytest.approx(2.1, rel=1e-9)
    assert not result.closed


def test_an_interruption_is_passed_on() -> None:
    def interrupted(x: Float) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        close_bracket(network(8, 2, 1, 0), lower=0.0, witness=[0.0, 0.0], prove=interrupted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"witness": [0.0]}, "witness has shape"),
        ({"witness": [0.0, math.nan]}, "NaN"),
        ({"lower": -1.0}, "lower"),
        ({"lower": math.inf}, "lower"),
        ({"tol": 0.0}, "tol"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"max_nodes": 0}, "max_nodes"),
        ({"low": 0.1}, "not those of ReLU"),
        ({"low": [0.0, 0.0]}, "low has shape"),
        ({"high": math.nan}, "high"),
    ],
)
def test_bad_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        close_bracket(network(5, 2, 1, 0), **{"lower": 0.0, "witness": [0.0, 0.0]} | wrong)


# --------------------------------------------------------------------------------- a node's bound, and its cells


@pytest.mark.parametrize(("h", "d", "m"), [(8, 3, 1), (12, 2, 1), (6, 9, 1), (7, 3, 2), (9, 2, 3)])
def test_the_bound_of_a_node_is_that_of_clarabel(h: int, d: int, m: int) -> None:
    net = network(h, d, m, h)
    sides = np.random.default_rng(h).integers(-1, 2, h).astype(np.int8)
    low, high = np.full(h, -0.2), np.ones(h)
    relax = relaxation(net.W, net.V, low, high)
    found = relax.bound(sides, relax.start(np.random.default_rng(0)), 0.0, 200)
    least, most = side_slopes(sides, low, high)
    # ½ λ_max(M(t)) by its dual: max Σ (c_j X_{pq} + δ_j √(X_pp X_qq)) over X ⪰ 0 of trace one
    X = cp.Variable((d + m, d + m), PSD=True)
    total = 0.0
    for w, v, a, b in zip(net.W, net.V.T, least, most):
        p, q = np.append(w, np.zeros(m)), np.append(np.zeros(d), v)
        root = cp.geo_mean(cp.hstack([p @ X @ p, q @ X @ q]))
        total += (a + b) * (p @ X @ q) + ((b - a) * root if b > a else 0.0)
    problem = cp.Problem(cp.Maximize(total), [cp.trace(X) == 1.0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate")  # to 1e-8 perhaps; 3e-4 is asked for
        problem.solve(solver="CLARABEL")
    assert found.upper == pytest.approx(problem.value, rel=3e-4)
    assert found.upper >= problem.value * (1.0 - 1e-6)
    assert np.abs(found.lean).max() <= 1.0 + 1e-9


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_cells_have_a_point_or_a_proof(d: int) -> None:
    rng = np.random.default_rng(d)
    net = network(2 * d + 3, d, 1, d)
    cells, exact = Cells(net), EmptyCells(net)
    units = list(range(net.n_hidden))
    found = {True: 0, False: 0}
    for _ in range(60):
        sides = rng.choice(np.array([-1, 1], dtype=np.int8), net.n_hidden)
        if rng.random() < 0.5:  # of a point, so that it is reached
            sides = np.where(net.W @ (3.0 * rng.standard_normal(d)) + net.b > 0.0, 1, -1).astype(np.int8)
        point, proof = cells.decide(units, sides)
        reached = can_be_reached(net, dict(zip(units, map(int, sides))))
        assert (point is not None, proof is None) == (reached, reached)
        if point is not None:
            x = cells.location(point)
            assert x is not None
            assert (sides * (net.W @ x + net.b) > 0.0).all()
        if proof is not None:
            kind, shown = proof
            assert kind == "empty"
            assert exact.refusal(shown, sides) is None
            assert exact.refusal(shown, -sides) is None or (net.b[shown] != 0.0).any()
            assert exact.refusal(shown[:-1], sides) is not None
        found[reached] += 1
    assert min(found.values()) >= 5


def rational_kernel(A: list[list[int]]) -> list[Fraction] | None:
    rows = [[Fraction(a) for a in row] for row in A]
    pivots: list[int] = []
    for column in range(len(A[0])):
        found = next((i for i in range(len(pivots), len(rows)) if rows[i][column] != 0), None)
        if found is None:
            continue
        at = len(pivots)
        rows[at], rows[found] = rows[found], rows[at]
        rows[at] = [a / rows[at][column] for a in rows[at]]
        for i, row in enumerate(rows):
            if i != at:
                rows[i] = [a - row[column] * p for a, p in zip(row, rows[at])]
        pivots.append(column)
    free = [column for column in range(len(A[0])) if column not in pivots]
    if len(free) != 1:
        return None
    y = [Fraction(column == free[0]) for column in range(len(A[0]))]
    for row, column in zip(rows, pivots):
        y[column] = -row[free[0]]
    return y


def test_the_exact_elimination_is_that_of_fractions() -> None:
    rng = np.random.default_rng(0)
    unique = 0
    for _ in range(600):
        d, s, size = int(rng.integers(1, 6)), int(rng.integers(1, 7)), int(rng.choice([2, 5, 10**9]))
        A = [[int(a) for a in row] for row in rng.integers(-size, size + 1, (d, s))]
        if s > 2 and rng.random() < 0.5:
            A = [[*row[:-1], row[0] - 2 * row[1]] for row in A]
        y, z = _kernel([row[:] for row in A]), rational_kernel(A)
        assert (y is None) == (z is None)
        if y is not None and z is not None:
            unique += 1
            assert any(y)
            assert all(sum(a * c for a, c in zip(row, y)) == 0 for row in A)
            k = next(i for i, c in enumerate(z) if c)
            assert [Fraction(a, y[k]) for a in y] == [c / z[k] for c in z]
    assert unique > 150


def test_an_empty_cell_is_shown_with_wild_numbers_exactly() -> None:
    tiny, huge = 5e-324, 1.7e308
    net = ShallowNetwork([[tiny], [-huge], [tiny]], [-huge, -huge, 0.0], [[1.0, 1.0, 1.0]], 0.0)
    cells = EmptyCells(net)
    assert cells.refusal([0, 1], np.array([1, 1, 0], dtype=np.int8)) is None  # x > huge / tiny and x < −1
    assert cells.refusal([0, 1], np.array([1, -1, 0], dtype=np.int8)) is not None
    assert cells.refusal([0, 1], np.array([-1, -1, 0], dtype=np.int8)) is not None
    assert cells.refusal([0, 2], np.array([1, 0, -1], dtype=np.int8)) is None
    # one unit in the last place decides
    for gap, proved in ((0.0, True), (2.0**-52, False), (-(2.0**-53), True)):
        pair = ShallowNetwork([[1.0], [-1.0]], [-1.0, 1.0 + gap], [[1.0, 1.0]], 0.0)
        assert (EmptyCells(pair).refusal([0, 1], np.array([1, 1], dtype=np.int8)) is None) == proved


# ------------------------------------------------------------------------------------------------ false trees


@functools.cache
def proved_tree() -> tuple[ShallowNetwork, BranchResult, float]:
    net = network(9, 2, 1, 21)
    return net, closed(net), steepest(net)


def test_the_tree_to_alter_has_all_kinds_of_nodes() -> None:
    net, result, _ = proved_tree()
    assert {kind for kind, _ in result.tree} == {"split", "bound", "empty"}
    assert len(result.tree) > 20
    refusal = TreeChecker(net, result.tree).holds(result.upper * 0.99).reason
    assert "node" in refusal
    assert "sides" in refusal


def altered(tree: list[Any], net: ShallowNetwork, rng: np.random.Generator) -> list[Any]:
    tree = copy.deepcopy(tree)
    i, j = (int(k) for k in rng.integers(len(tree), size=2))
    kind, data = tree[i]
    action = rng.integers(6)
    if action == 0:
        tree[i], tree[j] = tree[j], tree[i]
    elif action == 1:
        del tree[i]
    elif action == 2:
        tree.insert(i, tree[j])
    elif action == 3:
        first, size = sorted((i, j))
        tree[first:size] = [["empty", [int(k) for k in rng.integers(net.n_hidden, size=3)]]]
    elif kind == "split":
        tree[i][1] = int(rng.integers(net.n_hidden))
    elif kind == "empty":
        tree[i][1] = sorted({int(k) for k in rng.integers(net.n_hidden, size=int(rng.integers(2, 4)))})
    else:
        tree[i][1] = [t * float(np.exp(rng.standard_normal())) for t in data]
    return tree


def test_no_altered_tree_proves_what_is_false() -> None:
    net, result, truth = proved_tree()
    rng = np.random.default_rng(0)
    refused = accepted = 0
    for _ in range(1500):
        tree = result.tree
        for _ in range(int(rng.integers(1, 3))):
            tree = altered(tree, net, rng)
        checker = TreeChecker(net, tree)
        assert not checker.holds(truth * (1.0 - 1e-9))
        refused += checker.refusal is not None
        accepted += bool(checker.holds(result.upper))
    assert refused > 700
    assert accepted < 500


def test_a_tree_of_another_network_proves_nothing_false() -> None:
    net, result, _ = proved_tree()
    rng = np.random.default_rng(1)
    for size in (1e-15, 1e-3, 1.0):
        other = ShallowNetwork(net.W + size * rng.standard_normal(net.W.shape), net.b, net.V, net.c)
        assert not TreeChecker(other, result.tree).holds(steepest(other) * (1.0 - 1e-9))


BOUND = ["bound", [1.0, 1.0]]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (None, "not a list"),
        ("bound", "not a list"),
        ({}, "not a list"),
        ([], "not a list"),
        ([None], "node 0 .*not one of"),
        ([["bound"]], "not one of"),
        ([["bound", [1.0, 1.0], 2]], "not one of"),
        ([["guess", [1.0, 1.0]]], "not one of"),
        ([[["bound"], [1.0, 1.0]]], "not one of"),
        ([["bound", ["1.0", 1.0]]], "not one of"),
        ([["bound", [True, 1.0]]], "not one of"),
        ([["bound", [[1.0, 1.0]]]], "not one of"),
        ([["bound", 1.0]], "not one of"),
        ([["bound", [1.0]]], "multipliers"),
        ([["bound", [1.0, math.nan]]], "NaN"),
        ([["bound", [1.0, -1.0]]], "negative"),
        ([["bound", [1.0, 10**400]]], "not numbers"),
        ([["split", "0"], BOUND, BOUND], "not one of"),
        ([["split", True], BOUND, BOUND], "not one of"),
        ([["split", 0.0], BOUND, BOUND], "not one of"),
        ([["split", 2], BOUND, BOUND], "does not exist"),
        ([["split", -1], BOUND, BOUND], "does not exist"),
        ([["split", 0], ["split", 0], BOUND, BOUND, BOUND], "node 1 .sides -0.*fixed there"),
        ([["split", 0], BOUND], "ends at node 2.*sides .0 is missing"),
        ([["split", 0]], "missing"),
        ([BOUND, BOUND], "left over"),
        ([["empty", []]], "2 to 2"),
        ([["empty", [0, 1]]], "units that are fixed"),
        ([["split", 0], ["empty", [0]], BOUND], "2 to 2"),
        ([["split", 0], ["empty", [0, 0]], BOUND], "different"),
        ([["split", 0], ["empty", [0, 7]], BOUND], "units that are fixed"),
        ([["split", 0], ["empty", [0, 1, 2]], BOUND], "2 to 2"),
        ([["split", 0], ["split", 1], ["empty", [0, 1]], BOUND, BOUND], "not positive"),
        ([["split", 0], BOUND, ["split", 1], ["empty", [0, 1]], BOUND], "leave room"),
    ],
)
def test_malformed_and_false_trees_are_refused(tree: Any, message: str) -> None:
    net = ShallowNetwork([[1.0], [2.0]], [0.0, -1.0], [1.0, -1.0], 0.0)
    checker = TreeChecker(net, tree)
    assert not checker.holds(1e9)
    assert checker.smallest(1e9) is None
    with pytest.raises(ValueError, match=message):
        raise ValueError(checker.refusal)


def test_a_true_tree_in_one_dimension() -> None:
    net = ShallowNetwork([[1.0], [2.0]], [0.0, -1.0], [1.0, -1.0], 0.0)  # slopes 0, 1, −1
    tree = [["split", 0], ["split", 1], BOUND, ["empty", [0, 1]], ["split", 1], BOUND, BOUND]
    checker = TreeChecker(net, tree)
    assert checker.smallest(0.9) == pytest.approx(1.0, rel=1e-12)
    assert checker.holds(1.0 + 1e-12)
    assert not checker.holds(1.0 - 1e-12)
    for wrong in (math.nan, math.inf, -1.0, None, "1", True):
        assert not checker.holds(wrong)  # type: ignore[arg-type]


def test_a_unit_without_weights_has_no_sides() -> None:
    net = ShallowNetwork([[0.0], [1.0]], [0.0, 0.0], [1.0, 1.0], 0.0)
    tree = [["split", 0], ["split", 1], ["empty", [0, 1]], ["empty", [0, 1]], ["bound", [0.0, 0.0]]]
    assert "has no sides" in str(TreeChecker(net, tree).refusal)


def test_too_many_nodes_and_too_much_arithmetic_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net, result, _ = proved_tree()
    monkeypatch.setattr(verify_tree, "MAX_WORK", 100)
    assert "too much" in str(TreeChecker(net, result.tree).refusal)
    monkeypatch.setattr(verify_tree, "MAX_NODES", 10)
    assert "more than 10" in str(TreeChecker(net, result.tree).refusal)


def test_wrong_slopes_are_refused() -> None:
    net, result, _ = proved_tree()
    for wrong in (np.ones(3), math.nan, "low", [0.0, None]):
        assert "slope" in str(TreeChecker(net, result.tree, low=wrong).refusal)  # type: ignore[arg-type]


def test_the_search_keeps_a_part_of_the_tolerance_for_rounding() -> None:
    assert 0.0 < branch._SHARE < 1.0
    assert closed(network(8, 2, 1, 1), tol=1e-9).closed
