"""Thousands of altered certificates: what is accepted is decided again in rational arithmetic, by other formulas."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from alter import ALTERATIONS
from judge import SUBJECTS, assert_true, has_point, network, rows, subject
from scipy.optimize import linprog

from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.tree import EmptyCells


@pytest.mark.parametrize("name", SUBJECTS)
def test_whatever_is_accepted_is_true(name: str) -> None:
    net, cert = subject(name)
    assert cert.check(net)
    assert_true(net, cert)
    rng = np.random.default_rng(SUBJECTS.index(name))
    accepted = refused = 0
    for _ in range(350):
        try:
            its_net, bad = ALTERATIONS[int(rng.integers(len(ALTERATIONS)))](rng, net, cert)
        except ValueError:  # a tree is no array of numbers
            refused += 1
            continue
        if bad.check(its_net):
            accepted += 1
            assert_true(its_net, bad)
        else:
            refused += 1
    assert accepted > 25
    assert refused > 100


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_judge_knows_which_cells_are_empty(d: int) -> None:
    rng = np.random.default_rng(d)
    found = {True: 0, False: 0}
    for _ in range(60):
        A, b = rng.standard_normal((d + 3, d)), rng.standard_normal(d + 3)
        margin = linprog(
            np.append(np.zeros(d), -1.0),
            A_ub=np.column_stack([-A, np.ones(d + 3)]),
            b_ub=b,
            bounds=[(None, None)] * d + [(None, 1.0)],
        )
        reached = bool(margin.x[-1] > 0.0)
        assert has_point(rows(np.column_stack([A, b]))) == reached
        found[reached] += 1
    assert min(found.values()) > 10


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("whole", [False, True])
def test_every_set_of_units_that_shows_a_cell_empty_does_and_there_is_one(d: int, whole: bool) -> None:
    for seed in range(4 if d < 3 else 2):
        net = network(seed, d, d + 2, 1).shallow()
        if whole:  # kinks that coincide, parallel ones, zero weights and biases
            net = ShallowNetwork(np.round(net.W), np.round(net.b), net.V, net.c)
        live = [int(j) for j in np.flatnonzero(net.W.any(axis=1))]
        planes = rows(np.column_stack([net.W, net.b]))
        cells = EmptyCells(net)
        for signs in product((-1, 1), repeat=len(live)):
            sides = np.zeros(net.n_hidden, dtype=np.int8)
            sides[live] = signs
            inside = {j: [int(sides[j]) * a for a in planes[j]] for j in live}
            sets = [S for n in range(2, d + 2) for S in combinations(live, n)]
            shown = [S for S in sets if cells.refusal(S, sides) is None]
            assert not any(has_point([inside[j] for j in S]) for S in shown)
            assert bool(shown) != has_point(list(inside.values()))
