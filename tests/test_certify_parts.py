"""Branch and bound at any depth: brute force over all patterns, altered nodes, the same tree for any n_jobs."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from certnet import Ball, Box, FeedForward, certify
from certnet.claims.claim import Claim
from certnet.claims.region import ALL
from certnet.core.errors import NotConvergedWarning
from certnet.networks.activations import Activation
from certnet.proofs.parts import ExactRows, PartsChecker, PartsProof, Space
from certnet.proofs.subject import Subject
from certnet.searches.hulls import common_point, nearest_point
from certnet.searches.lower import lower_bound
from certnet.searches.parts import close_parts


def network(widths: tuple[int, ...], seed: int, activation: Any = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(widths))
    weights = [rng.standard_normal((b, a)) * np.sqrt(2.0 / a) for a, b in pairs]
    return FeedForward(weights, [0.5 * rng.standard_normal(b) for _, b in pairs], activation)


def rows_of(region: Any, d: int) -> tuple[np.ndarray, np.ndarray]:
    """G x + h ≥ 0 for the limits of a box."""
    if not isinstance(region, Box):
        return np.zeros((0, d)), np.zeros(0)
    G, h = [], []
    for i in range(d):
        for sign, end in ((1.0, region.lower[i]), (-1.0, region.upper[i])):
            if np.isfinite(end):
                G.append(sign * np.eye(d)[i])
                h.append(-sign * end)
    return np.array(G).reshape(-1, d), np.array(h)


def has_inside(G: np.ndarray, h: np.ndarray, region: Any) -> bool:
    """Does ``G x + h > 0`` have a point within the region, and room for a small ball about it?"""
    d = G.shape[1]
    if isinstance(region, Ball):
        return nearest(G, h, region.centre) < region.radius - 1e-7
    B, c = rows_of(region, d)
    A, b = np.vstack([G, B]), np.append(h, c)
    if not len(A):
        return True
    size = np.linalg.norm(A, axis=1)
    if (b[size == 0.0] <= 0.0).any():
        return False
    done = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.column_stack([-A, size]),
        b_ub=b,
        bounds=[(None, None)] * d + [(0.0, 1.0)],
        method="highs",
    )
    return done.status == 0 and done.x[-1] > 1e-9


def nearest(G: np.ndarray, h: np.ndarray, centre: np.ndarray) -> float:
    """The distance of the polyhedron ``G x + h ≥ 1e-9`` from a point; infinite where it is empty. Dykstra would do:
    a cone program is another implementation than that of the search."""
    import cvxpy as cp

    x = cp.Variable(len(centre))
    problem = cp.Problem(cp.Minimize(cp.norm(x - centre)), [G @ x + h >= 1e-9])
    problem.solve(solver=cp.CLARABEL)
    return float(problem.value) if problem.status in ("optimal", "optimal_inaccurate") else math.inf


def brute_force(net: FeedForward, region: Any, norm: str = "l2", rows: Any = slice(None)) -> float:
    """The largest gradient over all activation patterns that have an inside in the region, layer by layer."""
    low, high = (
        net.activations[0].slopes if net.activations[0].name == "relu" else (net.activations[0].parameters[0], 1.0)
    )
    best = 0.0

    def below(k: int, M: np.ndarray, m: np.ndarray, G: np.ndarray, h: np.ndarray) -> None:
        nonlocal best
        W, b = net.weights[k], net.biases[k]
        Z, z = W @ M, W @ m + b
        if k == net.depth:
            J = Z[rows]
            if norm == "l2":
                best = max(best, float(np.linalg.norm(J, 2)))
            else:
                signs = itertools.product((-1.0, 1.0), repeat=J.shape[1])
                best = max(best, *(float(np.linalg.norm(J @ np.array(s))) for s in signs))
            return
        for sides in itertools.product((-1.0, 1.0), repeat=len(W)):
            s = np.array(sides)
            moves = np.abs(Z).sum(axis=1) > 0.0
            # a unit that does not move is on the side of its value
            if (s[~moves] * z[~moves] < 0.0).any():
                continue
            G_new, h_new = np.vstack([G, s[moves, None] * Z[moves]]), np.append(h, s[moves] * z[moves])
            if has_inside(G_new, h_new, region):
                slope = np.where(s > 0.0, high, low)
                below(k + 1, slope[:, None] * Z, slope * z, G_new, h_new)

    d = net.n_inputs
    below(0, np.eye(d), np.zeros(d), np.zeros((0, d)), np.zeros(0))
    return best


WIDTHS = [(2, 4, 1), (3, 4, 2), (2, 3, 3, 1), (2, 3, 2, 2), (3, 3, 3, 1), (2, 2, 2, 2, 1), (1, 3, 3, 1)]
REGIONS = ["all", "box", "half", "ball"]


def region_of(name: str, d: int, seed: int) -> Any:
    rng = np.random.default_rng(100 + seed)
    centre = 0.5 * rng.standard_normal(d)
    if name == "all":
        return ALL
    if name == "ball":
        return Ball(centre, 0.7)
    lower, upper = centre - rng.uniform(0.2, 1.0, d), centre + rng.uniform(0.2, 1.0, d)
    if name == "half":
        lower[0], upper[-1] = -np.inf, np.inf
    return Box(lower, upper)


def closed(net: FeedForward, region: Any, **options: Any) -> Any:
    norm, output, tol = options.pop("norm", "l2"), options.pop("output", None), options.pop("tol", 1e-7)
    subject = Subject.of(Claim(net, region, norm, output))
    assert isinstance(subject, Subject)
    below = lower_bound(subject.chosen, region=region)
    found = close_parts(subject, lower=0.0, witness=below.point, tol=tol, time_limit=60.0, **options)
    assert PartsProof(tuple(found.tree)).check(subject.claim, found.upper)
    return found


@pytest.mark.parametrize("where", REGIONS)
@pytest.mark.parametrize("widths", WIDTHS)
def test_brute_force_over_all_patterns_agrees(widths: tuple[int, ...], where: str) -> None:
    for seed in range(2):
        net = network(widths, seed)
        region = region_of(where, widths[0], seed)
        found = closed(net, region)
        exact = brute_force(net, region)
        assert found.upper >= exact * (1.0 - 1e-9)
        assert found.upper == pytest.approx(exact, rel=1e-6)
        assert found.lower == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("where", ["all", "box"])
def test_leaky_relu_differences_and_the_maximum_norm_agree_too(where: str) -> None:
    leaky = network((2, 3, 3, 3), 4, Activation("leaky_relu", (0.2,)))
    region = region_of(where, 2, 4)
    assert closed(leaky, region).upper == pytest.approx(brute_force(leaky, region), rel=1e-6)
    V = leaky.weights[-1]
    difference = FeedForward([*leaky.weights[:-1], V[:1] - V[1:2]], [*leaky.biases[:-1], [0.0]], leaky.activations)
    assert closed(leaky, region, output=(0, 1)).upper == pytest.approx(brute_force(difference, region), rel=1e-6)
    relu = network((2, 3, 3, 1), 5)
    assert closed(relu, region, norm="linf").upper == pytest.approx(brute_force(relu, region, "linf"), rel=1e-6)


def test_bisecting_inputs_and_splitting_units_agree() -> None:
    net = network((2, 5, 4, 1), 7)
    box = Box([-0.5, -0.5], [0.5, 0.5])
    both = [closed(net, box, ways=ways, tol=1e-3) for ways in (("inputs",), ("units",))]
    exact = brute_force(net, box)
    for found in both:
        assert exact * (1.0 - 1e-9) <= found.upper <= exact * 1.002
    assert any(node[0] == "unit" for node in both[1].tree) or len(both[1].tree) == 1


@pytest.mark.parametrize("activation", ["tanh", "gelu", "hardtanh", "softplus"])
def test_any_activation_with_values_in_a_region(activation: str) -> None:
    net = network((2, 4, 3, 1), 3, activation)
    for region in (Box([-0.4, -0.4], [0.4, 0.4]), Ball(np.zeros(2), 0.4)):
        cert = certify(net, region=region, exact=True, tol=1e-2)
        assert cert.check(net)
        assert cert.upper <= cert.lower * 1.01
        rng = np.random.default_rng(0)
        x = rng.uniform(-0.28, 0.28, (4000, 2))
        assert np.linalg.norm(net.gradients(x)[:, 0], axis=1).max() <= cert.upper


def test_a_certificate_of_parts_survives_its_file(tmp_path: Any) -> None:
    net = network((3, 5, 5, 2), 1)
    cert = certify(net, region=Box([-1.0] * 3, [1.0] * 3), exact=True, tol=1e-6)
    assert cert.kind == "parts"
    assert cert.upper <= cert.lower * (1.0 + 1e-6)
    again = type(cert).load(cert.save(tmp_path / "c.json"))
    assert again.check(net)
    assert not dataclasses.replace(again, upper=again.upper * (1.0 - 1e-8)).check(net)
    # it says nothing of a larger box, nor of all inputs
    larger = np.full(3, 1.5)
    assert not dataclasses.replace(again, box=(-larger, larger)).check(net)
    assert not dataclasses.replace(again, box=None).check(net)


@pytest.mark.parametrize("where", ["box", "all"])
def test_the_tree_is_the_same_for_any_number_of_processes(where: str) -> None:
    net, region = network((3, 6, 6, 2), 2), region_of(where, 3, 2)
    one, two = (closed(net, region, n_jobs=n) for n in (1, 2))
    assert one.tree == two.tree
    assert (one.upper, one.lower, one.n_nodes) == (two.upper, two.lower, two.n_nodes)
    assert len(one.tree) > 3


def test_the_best_bracket_is_kept_when_told_to_stop() -> None:
    net = network((4, 16, 16, 1), 0)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 60

    with pytest.warns(NotConvergedWarning, match="time and nodes"):
        cert = certify(net, exact=True, tol=1e-9, should_stop=stop)
    assert cert.check(net)
    assert cert.lower < cert.upper <= certify(net).upper * (1.0 + 1e-6)


# ------------------------------------------------------------------------------------------------------ altered trees


def tree_and_claim(where: str) -> tuple[list[Any], Subject, float]:
    net = network((2, 4, 3, 1), 12)
    region = region_of(where, 2, 3)
    subject = Subject.of(Claim(net, region))
    assert isinstance(subject, Subject)
    found = close_parts(subject, lower=0.0, witness=np.zeros(2), tol=1e-7)
    assert len(found.tree) > 5
    return found.tree, subject, found.upper


MALFORMED: list[Any] = [
    [],
    ["split", 0],
    ["input", 0],
    ["input", 9, 0.0],
    ["input", 0, 1e9],
    ["input", 0, float("nan")],
    ["input", 0, 10**400],
    ["input", True, 0.0],
    ["unit", 0],
    ["unit", 9, 0],
    ["unit", 0, -1],
    ["unit", -1, 0],
    ["unit", 0.0, 1],
    ["empty"],
    ["empty", []],
    ["empty", [[0, 0]]],
    ["empty", [[0, 0], [0, 0]]],
    ["empty", [[-1, 0], [-2, 0]]],
    ["empty", [[-3, 0]], [1.0]],
    ["empty", [[0, 0]], [-1.0]],
    ["empty", [[0, 0]], [10**400]],
    ["empty", [[0, 0, 0]], [1.0]],
    ["bound"],
    ["bound", [], []],
    ["bound", [[1.0], [1.0]], [[0], [0]]],
    ["bound", [[], []], [[], []]],
    ["bound", [[1.0] * 4, [1.0] * 3], [[3, 2, 1, 0], [0, 1, 2]]],
    ["bound", [[1.0] * 4, [1.0] * 3], [[0, 1, 2, 7], [0, 1, 2]]],
    ["bound", [[0.0] * 4, [1.0] * 3], [[0, 1, 2, 3], [0, 1, 2]]],
    ["bound", [[1e-9] * 4, [1e-9] * 3], [[0, 1, 2, 3], [0, 1, 2]]],
    ["bound", [["1"], [1.0]], [[0], [0]]],
    ["bound", [[1.0], [1.0]], [[0], [0]], [1.0, 1.0]],
    "bound",
    None,
]


@pytest.mark.parametrize("node", MALFORMED, ids=lambda node: repr(node)[:50])
def test_malformed_trees_are_refused_with_a_sentence(node: Any) -> None:
    subject = Subject.of(Claim(network((2, 4, 3, 1), 12), Box([-1.0, -1.0], [1.0, 1.0])))
    assert isinstance(subject, Subject)
    checker = PartsChecker(subject, [node])
    assert checker.refusal or checker.objection(1e6)
    for tree in ([node, node, node], ["input", 0, 0.0], [["input", 0, 0.0], node, node], None, [], {}, "x"):
        checker = PartsChecker(subject, tree)
        verdict = checker.holds(1e6)
        assert not verdict
        assert len(verdict.reason) > 10
        assert checker.smallest(1.0) is None or checker.refusal is None


@pytest.mark.parametrize("where", ["all", "box", "ball"])
def test_altered_nodes_prove_nothing_that_is_false(where: str) -> None:
    tree, subject, upper = tree_and_claim(where)
    exact = brute_force(subject.network, subject.claim.region)
    checker = PartsChecker(subject, tree)
    assert checker.holds(upper)
    assert not checker.holds(exact * (1.0 - 1e-9))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        altered = copy.deepcopy(tree)
        n = int(rng.integers(len(altered)))
        node = altered[n]
        way = int(rng.integers(5))
        if way == 0:
            del altered[n]
        elif way == 1:
            altered.insert(n, copy.deepcopy(tree[int(rng.integers(len(tree)))]))
        elif way == 2 and node[0] in ("unit", "input"):
            node[1 if rng.random() < 0.5 else 2] += int(rng.choice([-1, 1]))
        elif way == 3:
            altered[n] = copy.deepcopy(tree[int(rng.integers(len(tree)))])
        elif node[0] == "bound":
            k = int(rng.integers(len(node[1])))
            if node[1][k]:
                j = int(rng.integers(len(node[1][k])))
                node[1][k][j] *= float(rng.choice([-1.0, 0.0, 0.3, 0.9, 1.1, 3.0]))
                if rng.random() < 0.5:
                    del node[1][k][j], node[2][k][j]
        elif node[0] == "empty" and len(node) == 3:
            j = int(rng.integers(len(node[2])))
            node[2][j] *= float(rng.choice([-1.0, 0.0, 0.1, 10.0]))
        # an altered tree may still be a proof, but never of what is false
        assert not PartsChecker(subject, altered).holds(exact * (1.0 - 1e-9))
        refused += altered != tree and not PartsChecker(subject, altered).holds(upper)
    assert refused > 100


def test_every_leaf_matters() -> None:
    tree, subject, upper = tree_and_claim("all")
    for n, node in enumerate(tree):
        if node[0] == "bound":
            assert not PartsChecker(subject, [*tree[:n], ["empty"], *tree[n + 1 :]]).holds(upper)
        elif node[0] == "empty":
            # the siblings' numbers do not serve
            assert not PartsChecker(subject, [*tree[:n], ["empty"], *tree[n + 1 :]]).holds(upper)


# ------------------------------------------------------------------------------------------------------------- pieces


def test_exact_rows_are_those_of_fractions() -> None:
    from fractions import Fraction

    net = network((3, 4, 3, 1), 2, Activation("leaky_relu", (0.3,)))
    space = Space(net, ALL, "l2")
    part = space.root
    rng = np.random.default_rng(0)
    sides = rng.choice([-1, 1], 4)
    for j, side in enumerate(sides):
        part = space.narrowed([part.on(0, j, int(side))])[0]
    part = part.on(1, 2, -1)
    slopes = space.slopes(part)
    column = ExactRows(net, strict=False)._unit(1, 2, -1, slopes)
    assert not isinstance(column, str)
    F = np.vectorize(Fraction, otypes=[object])
    s = F(np.where(sides > 0, 1.0, 0.3))
    W, V = F(net.weights[0]), F(net.weights[1])[2]
    exact = [*(-(V * s) @ W), -((V * s) @ F(net.biases[0]) + Fraction(net.biases[1][2]))]
    ratio = Fraction(column[0]) / exact[0]
    assert ratio > 0
    assert [Fraction(a) for a in column] == [ratio * a for a in exact]


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_hull_has_a_common_point_or_a_combination(d: int) -> None:
    rng = np.random.default_rng(d)
    seen = set()
    for _ in range(100):
        G, h = rng.standard_normal((d + 2, d)), rng.standard_normal(d + 2)
        size = np.linalg.norm(G, axis=1)
        G, h = G / size[:, None], h / size
        xi, y = nearest_point(G, h, 1.0)
        if xi is not None:
            assert np.linalg.norm(xi) <= 1.0
            assert (G @ xi + h > 0.0).all()
        elif y is not None:
            assert np.linalg.norm(y @ G) + y @ h <= 1e-6 * y.sum()
        rows = np.column_stack([G, h]) / np.linalg.norm(np.column_stack([G, h]), axis=1)[:, None]
        z, y = common_point(rows)
        if z is not None:
            assert (rows @ z > 0.0).all()
        else:
            assert y is not None
            assert np.linalg.norm(y @ rows) <= 1e-6 * y.sum()
        seen.add((xi is None, z is None))
    assert len(seen) >= 2


def test_limits_of_a_ball_cut_by_a_box_hold_its_points() -> None:
    net = network((3, 6, 5, 1), 8)
    space = Space(net, Ball(np.array([0.3, -0.2, 0.1]), 0.8), "l2")
    part = space.root
    for i, t in ((0, 0.3), (2, 0.0)):
        part = space.narrowed([part.within(i, t)[0]])[0]
    rng = np.random.default_rng(0)
    x = space.region.centre + 0.8 * rng.uniform(-1.0, 1.0, (20_000, 3))
    x = x[(np.linalg.norm(x - space.region.centre, axis=1) <= 0.8) & (x[:, 0] <= 0.3) & (x[:, 2] <= 0.0)]
    assert len(x) > 500
    for layer, ends in zip(net.layers, part.ends):
        z = layer.preactivations(x)
        assert (z >= ends.left).all()
        assert (z <= ends.right).all()
        x = layer.activated(z)
    assert not space.outside(part)
    assert space.outside(dataclasses.replace(part, lower=np.full(3, 0.9), upper=np.full(3, 1.0)))
