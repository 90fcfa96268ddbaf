"""The floor under all networks: against CVXPY on all pairs, exact arithmetic, closed forms, and below what exists."""

import math
import warnings
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet import ShallowNetwork, load_dataset, objective, refine
from certnet.core.errors import InvalidInputError, NotConvergedWarning
from certnet.core.outcome import Status
from certnet.programs import floor as module
from certnet.programs.floor import Floor, objective_floor


def instance(seed, n=20, d=2, m=1, noise=0.3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.sin(2.0 * X @ rng.standard_normal((d, m))) + noise * rng.standard_normal((n, m))


def by_cvxpy(X, y, weight):
    """The relaxation as it is written, with every pair and no merging of samples."""
    n = len(X)
    f, ell = cvxpy.Variable(y.shape), cvxpy.Variable(nonneg=True)
    pairs = [(i, k) for i in range(n) for k in range(i)]
    bounds = [cvxpy.norm(f[i] - f[k], 2) <= ell * float(np.linalg.norm(X[i] - X[k])) for i, k in pairs]
    program = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(f - y) / n + weight * ell**2), bounds)
    program.solve(solver="CLARABEL", tol_gap_rel=1e-10, tol_gap_abs=1e-10, tol_feas=1e-10)
    return float(program.value), float(ell.value)


def two_samples(distance, difference, weight):
    """Two samples: ``Δ² / (1/p + 1/p + d²/λ)`` with p = ½, exactly."""
    d, t, w = (Fraction(float(a)) for a in (distance, difference, weight))
    return t**2 / (4 + d**2 / w)


# ------------------------------------------------------------------------------------------------ second opinions


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize(("seed", "d", "weight"), [(0, 1, 0.01), (1, 2, 0.001), (2, 2, 0.05), (3, 4, 0.3), (4, 3, 3.0)])
def test_it_is_the_optimum_over_all_pairs(seed, d, weight, m):
    X, y = instance(seed, n=18, d=d, m=m)
    X[5], X[6] = X[4], X[4]  # equal inputs, different targets
    floor = objective_floor(X, y, weight, tol=1e-6)
    best, ell = by_cvxpy(X, y, weight)
    assert floor.status is Status.OPTIMAL
    assert floor.value <= best * (1 + 1e-7)
    assert floor.primal >= best * (1 - 1e-7)
    assert floor.value == pytest.approx(best, rel=1e-5)
    assert floor.primal == pytest.approx(best, rel=1e-5)
    assert floor.lipschitz == pytest.approx(ell, rel=2e-2)
    assert 0.0 <= floor.gap <= 1e-6


def exact_proof(X, y, pairs, g, weight):
    """spread + B² / 4 Q with 60 digits, samples not merged beyond what g says; X without repetition."""
    with localcontext() as context:
        context.prec = 60
        X, y, g = ([[Decimal(float(a)) for a in row] for row in table] for table in (X, y, g))
        n, m = len(y), len(y[0])
        a = [[Decimal(0)] * m for _ in range(n)]
        B = load = Decimal(0)
        for (i, k), v in zip(pairs, g):
            distance = sum(((p - q) ** 2 for p, q in zip(X[i], X[k])), Decimal(0)).sqrt()
            load += distance * sum((b * b for b in v), Decimal(0)).sqrt()
            for c in range(m):
                B += v[c] * (y[i][c] - y[k][c])
                a[i][c] += v[c]
                a[k][c] -= v[c]
        Q = sum((n * b * b for row in a for b in row), Decimal(0)) / 4 + load**2 / (4 * Decimal(weight))
        return B * B / (4 * Q) if B > 0 else Decimal(0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 9),
    m=st.integers(1, 3),
    x_scale=st.sampled_from([1.0, 1e-160, 1e-3, 1e150]),
    y_shift=st.sampled_from([0.0, 1e6, -1e12]),
    power=st.sampled_from([0.0, 20.0]),
)
def test_what_is_proved_is_below_the_exact_value_of_the_multipliers(seed, n, m, x_scale, y_shift, power):
    """For any multipliers, not only good ones; of very different sizes (``power``) too."""
    rng = np.random.default_rng(seed)
    X, y = x_scale * rng.standard_normal((n, 2)), rng.standard_normal((n, m)) + y_shift
    weight = 0.1 * x_scale**2
    problem = module._Problem.of(X, y, weight, x_unit := module._exponent(X), y_unit := module._exponent(y))
    where = [int(np.flatnonzero(np.all(np.ldexp(X, -x_unit) == row, axis=1))[0]) for row in problem.points]
    codes = np.array([i * n + k for i in range(n) for k in range(i + 1, n)])
    pairs = module._Pairs.of(problem.points, codes)
    g = rng.standard_normal((len(codes), m)) * 10.0 ** rng.uniform(-power, 0.0, (len(codes), 1))
    g *= np.sign(np.sum(g * pairs.difference(problem.targets), axis=1, keepdims=True))
    proved = Fraction(module._prove(problem, pairs, g).value) * Fraction(4) ** y_unit
    named = [(where[i], where[k]) for i, k in zip(pairs.i, pairs.k)]
    exact = Fraction(exact_proof(X, y, named, g / np.abs(g).max(), weight))
    assert proved <= exact
    assert proved >= exact * Fraction(0.999) - Fraction(y_shift) ** 2 / 10**20


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 40), shift=st.sampled_from([0.0, 1.0, 1e8]))
def test_the_spread_of_equal_samples_is_not_overstated(seed, n, shift):
    rng = np.random.default_rng(seed)
    X, y = rng.integers(0, 3, (n, 1)).astype(float), rng.standard_normal(n) + shift
    exact = Fraction(0)
    for x in (0.0, 1.0, 2.0):
        same = [Fraction(float(v)) for v in y[X[:, 0] == x]]
        exact += sum((v - sum(same) / len(same)) ** 2 for v in same) / n
    value = Fraction(objective_floor(X, y, 0.0).value)
    assert value <= exact
    assert value >= exact * Fraction(1 - 1e-12) - Fraction(shift) / 10**13


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 30), power=st.sampled_from([0, -100, -170, -250, -307]))
def test_distances_are_rounded_up(seed, d, power):
    points = np.random.default_rng(seed).standard_normal((2, d)) * 10.0**power
    proved = Fraction(float(module._Pairs.of(points, np.array([1])).d[0]))
    exact = sum(((Fraction(float(p)) - Fraction(float(q))) ** 2 for p, q in zip(*points)), Fraction(0))
    assert exact <= proved**2 <= exact * Fraction(1 + 1e-13) + Fraction(1e-149) * (1 + exact)


@settings(max_examples=100, deadline=None)
@given(
    distance=st.floats(1e-200, 1e200),
    difference=st.floats(1e-100, 1e100),
    weight=st.floats(1e-250, 1e250),
)
def test_two_samples_are_a_closed_form_at_any_scale(distance, difference, weight):
    exact = two_samples(distance, difference, weight)
    floor = objective_floor([[0.0], [distance]], [0.0, difference], weight)
    assert Fraction(floor.value) <= exact
    lost = Fraction(1e-150) * Fraction(difference) ** 2 + Fraction(1e-300)
    assert Fraction(floor.value) >= exact * Fraction(1 - 1e-12) - lost


def test_a_distance_whose_square_underflows_is_not_taken_for_zero():
    for distance in (1e-170, 1e-200, 1e-300, 5e-324):
        floor = objective_floor([[0.0], [distance], [1.0]], [0.0, 1.0, 0.5], 1e-3)
        slope_free = 2.0 / 3.0 * 0.25  # f = ½ at the close pair and at the third
        assert floor.value <= slope_free * (1 + 1e-15)
        assert floor.value == pytest.approx(slope_free, rel=1e-4)
    # a weight at which the close pair's slope is worth its price
    for distance in (1e-140, 1e-160):
        weight = distance**2
        floor = objective_floor([[0.0], [distance], [1.0]], [0.0, 1.0, 0.5], weight)
        assert Fraction(floor.value) <= Fraction(1) / (6 + Fraction(distance) ** 2 / Fraction(weight))


# ----------------------------------------------------------------------------------------------- below all there is


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    h=st.integers(1, 6),
    m=st.integers(1, 2),
    weight=st.floats(0.0, 10.0),
    scale=st.sampled_from([0.01, 0.3, 1.0]),
)
def test_no_network_is_below(seed, h, m, weight, scale):
    X, y = instance(seed, n=12, d=2, m=m)
    rng = np.random.default_rng(seed + 1)
    net = ShallowNetwork(
        scale * rng.standard_normal((h, 2)), rng.standard_normal(h), rng.standard_normal((m, h)), y.mean(axis=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        floor = objective_floor(X, y, weight, time_limit=0.5)
    assert floor.value <= objective(net, X, y, weight=weight)


@pytest.mark.parametrize("weight", [1e-3, 0.1, 1.0])
def test_no_linear_function_is_below(weight):
    """The Lipschitz constant of ``aᵀx + c`` is ‖a‖, so the best of them is ridge regression: a tight neighbour."""
    for seed in range(5):
        X, _ = instance(seed, n=25, d=3)
        y = X @ [1.0, -2.0, 0.5] + 0.01 * np.random.default_rng(seed).standard_normal(25)
        centred = X - X.mean(axis=0)
        a = np.linalg.solve(centred.T @ centred / 25 + weight * np.eye(3), centred.T @ (y - y.mean()) / 25)
        ridge = float(np.mean((centred @ a - y + y.mean()) ** 2) + weight * a @ a)
        floor = objective_floor(X, y, weight)
        assert floor.value <= ridge * (1 + 1e-12)
        assert floor.value >= 0.3 * ridge


def test_refinement_does_not_get_below():
    X, y = instance(3, n=25, d=2)
    rng = np.random.default_rng(0)
    net = ShallowNetwork(rng.standard_normal((6, 2)), rng.standard_normal(6), rng.standard_normal(6), 0.0)
    result = refine(net, X, y, 0.05)
    floor = objective_floor(X, y, 0.05)
    assert floor.value < result.objective_after < result.objective_before


def test_a_real_data_set_in_a_few_rounds():
    data = load_dataset("diabetes")
    seen: list[Floor] = []
    floor = objective_floor(data.X_train, data.y_train, 0.05, tol=1e-6, callback=seen.append)
    assert floor.status is Status.OPTIMAL
    assert len(seen) <= 10
    assert seen[-1] == floor
    values, primals = [f.value for f in seen], [f.primal for f in seen]
    assert values == sorted(values)
    assert primals == sorted(primals, reverse=True)
    assert 0 < floor.n_pairs < 2000
    again = objective_floor(data.X_train, data.y_train, 0.05, tol=1e-6)
    assert (again.value, again.primal, again.lipschitz) == (floor.value, floor.primal, floor.lipschitz)


# ------------------------------------------------------------------------------------------------------ hard cases


def test_weight_zero_leaves_the_spread_of_equal_samples():
    X, y = [[0.0], [-0.0], [1.0], [3.0]], [[1.0], [2.0], [5.0], [5.5]]
    floor = objective_floor(X, y, 0.0)
    assert floor.value == pytest.approx(0.125, rel=1e-12)
    assert floor.value <= 0.125 <= floor.primal
    assert floor.lipschitz == pytest.approx(3.5)  # from the mean 1.5 at 0 to 5 at 1
    assert floor.status is Status.OPTIMAL
    assert objective_floor(X[2:], y[2:], 0.0).value == 0.0


@pytest.mark.parametrize("weight", [1e6, 1e12, 1e300])
@pytest.mark.parametrize("m", [1, 2])
def test_a_huge_weight_leaves_the_constant_function(weight, m):
    X, y = instance(0, n=40, d=2, m=m)
    constant = float(np.sum((y - y.mean(axis=0)) ** 2)) / len(X)
    floor = objective_floor(X, y, weight)
    assert floor.value <= constant * (1 + 1e-12)
    assert floor.value == pytest.approx(constant, rel=2e-4)


def test_one_sample_equal_samples_and_constant_targets():
    assert objective_floor([[3.0, 4.0]], [2.0], 0.1).primal == 0.0
    assert objective_floor([[3.0, 4.0]], [2.0], 0.1).status is Status.OPTIMAL
    spread = objective_floor([[3.0], [3.0], [3.0]], [0.0, 1.0, 2.0], 0.1)
    assert spread.value == pytest.approx(2.0 / 3.0, rel=1e-12)
    assert spread.value <= 2.0 / 3.0
    X, _ = instance(0)
    constant = objective_floor(X, np.full(len(X), 0.1), 0.1)
    assert (constant.value, constant.lipschitz, constant.n_pairs) == (0.0, 0.0, 0)
    assert constant.primal < 1e-30
    assert constant.gap <= 1.0


def test_units_of_inputs_and_targets_only_rescale():
    X, y = instance(1, n=30)
    floor = objective_floor(X, y, 0.05, tol=1e-7)
    for x_power, y_power in [(400, 300), (-400, -300), (-300, 400), (3, -2)]:
        scaled = objective_floor(np.ldexp(X, x_power), np.ldexp(y, y_power), math.ldexp(0.05, 2 * x_power), tol=1e-7)
        assert scaled.value == pytest.approx(math.ldexp(floor.value, 2 * y_power), rel=1e-12)
        assert scaled.lipschitz == pytest.approx(math.ldexp(floor.lipschitz, y_power - x_power), rel=1e-12)


def test_a_shift_changes_little():
    X, y = instance(2, n=30)
    floor = objective_floor(X, y, 0.05, tol=1e-7)
    moved = objective_floor(X + 1e5, y - 1e5, 0.05, tol=1e-7)
    assert moved.value == pytest.approx(floor.value, rel=1e-5)
    assert objective_floor(X[::-1], y[::-1], 0.05, tol=1e-7).value == pytest.approx(floor.value, rel=1e-6)


@pytest.mark.parametrize("x_scale", [1e-320, 1e-300, 1.0, 1e300])
@pytest.mark.parametrize("y_scale", [1e-320, 1e-160, 1.0, 1e154, 1e300])
@pytest.mark.parametrize("weight", [0.0, 5e-324, 1e-200, 1.0, 1e200, 1.7e308])
def test_extreme_numbers_cost_the_bound_never_its_truth(x_scale, y_scale, weight):
    X, y = instance(0, n=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        floor = objective_floor(X * x_scale, y * y_scale, weight, time_limit=2.0)
    spread = sum(Fraction(float(v)) ** 2 for v in y[:, 0] * y_scale)
    assert 0.0 <= floor.value <= floor.primal
    assert Fraction(floor.value) <= spread  # the constant 0
    assert math.isfinite(floor.value)
    assert "Floor(objective >= " in repr(floor)


def test_a_larger_weight_has_a_larger_floor_and_less_slope():
    X, y = instance(5, n=30)
    floors = [objective_floor(X, y, weight, tol=1e-7) for weight in (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)]
    for low, high in pairwise(floors):
        assert low.value < high.value
        assert low.lipschitz > high.lipschitz


def test_out_of_time_the_bound_holds_and_says_so():
    X, y = instance(0, n=1500, d=3)
    with pytest.warns(NotConvergedWarning, match="allow more time"):
        floor = objective_floor(X, y, 0.1, time_limit=1e-6)
    assert floor.status is Status.TIME_LIMIT
    full = objective_floor(X, y, 0.1)
    assert full.status is Status.OPTIMAL
    assert 0.0 < floor.value <= full.value <= full.primal <= floor.primal


def test_a_sweep_that_is_cut_short_proves_something(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 1000)
    X, y = instance(0, n=400, d=3)
    whole = objective_floor(X, y, 0.1)
    stop = iter([False] * 20)
    monkeypatch.setattr(module, "_halfway", lambda deadline: deadline if next(stop, False) else -math.inf)
    with pytest.warns(NotConvergedWarning):
        part = objective_floor(X, y, 0.1, time_limit=1.0)
    assert 0.0 < part.value <= whole.value * (1 + 1e-4)
    assert part.primal == pytest.approx(np.var(y), rel=1e-12)  # nothing better than the constant is known feasible


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": [1.0, 2.0]}, "2-dimensional"),
        ({"X": [[1.0], [math.nan]]}, "NaN"),
        ({"X": np.zeros((0, 2)), "y": []}, "no samples"),
        ({"X": np.zeros((2, 0))}, "column"),
        ({"y": np.zeros((2, 0))}, "column"),
        ({"y": [1.0]}, "samples"),
        ({"y": [1.0, math.inf]}, "infinite"),
        ({"y": ["a", "b"]}, "dtype"),
        ({"y": 1.0}, "dimension"),
        ({"weight": -1.0}, "weight"),
        ({"weight": math.nan}, "weight"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"time_limit": math.inf}, "time_limit"),
        ({"tol": 0.0}, "tol"),
        ({"tol": "x"}, "tol"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {"X": [[1.0], [2.0]], "y": [1.0, 2.0], "weight": 0.1} | change
    with pytest.raises(InvalidInputError, match=message):
        objective_floor(**arguments)


def test_inputs_are_left_alone_and_numpy_does_not_warn():
    X, y = instance(0)
    before = X.copy(), y.copy()
    with np.errstate(all="raise", under="ignore"):
        objective_floor(X, y, 0.1)
        objective_floor(X, y, 1e300)
        objective_floor(X, y, 1e-300)
    assert np.array_equal(before[0], X)
    assert np.array_equal(before[1], y)
