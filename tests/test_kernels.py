"""The compiled sweep against a plain one, and compilation without a cache folder."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from certnet import kernels
from certnet.kernels import compilation as module
from certnet.kernels.bend import bend_kinks
from certnet.kernels.curvature import two_loops
from certnet.kernels.elliptope import ascend
from certnet.searches import lbfgs
from certnet.searches.climbing import climb


def plain_sweep(F: np.ndarray, Y: np.ndarray) -> np.ndarray:
    Y = Y.copy()
    for i, f in enumerate(F):
        others = sum(np.outer(F[j], Y[j]) for j in range(len(F)) if j != i)
        step = f @ others
        Y[i] = step / np.linalg.norm(step)
    return Y


def test_sweeps_match_a_plain_implementation_and_never_descend():
    rng = np.random.default_rng(0)
    F, Y = rng.standard_normal((7, 3)), rng.standard_normal((7, 3))
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    S = F.T @ Y
    last = np.sum(S**2)
    for _ in range(5):
        expected = plain_sweep(F, Y)
        ascend(F, Y, S, 1)
        np.testing.assert_allclose(Y, expected, atol=1e-12)
        np.testing.assert_allclose(S, F.T @ Y, atol=1e-12)
        assert np.sum(S**2) >= last - 1e-12
        last = np.sum(S**2)


def test_a_row_of_zeros_keeps_its_unit_vector():
    F, Y = np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    ascend(F, Y, F.T @ Y, 3)
    np.testing.assert_array_equal(Y[0], [1.0, 0.0])


def test_compilation_works_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    calls = []

    def njit(**options):
        calls.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(module, "njit", njit)
    cached, plain = {"cache": True, "fastmath": True}, {"fastmath": True}
    for folder, tried in ((None, [cached, plain]), (tmp_path, [cached, cached, plain])):
        calls.clear()
        monkeypatch.setattr(module, "_writable", lambda folder=folder: folder)
        assert module.compiled(fastmath=True)(len)([1, 2]) == 2
        assert calls == tried


def slope_squared(W: np.ndarray, b: np.ndarray, v: np.ndarray, x: np.ndarray) -> float:
    return float(np.sum((((W @ x + b > 0.0) * v) @ W) ** 2))


@pytest.mark.parametrize("tried", [1, 4, 30])
def test_the_climb_ends_where_no_crossing_it_may_try_is_steeper(tried: int):
    rng = np.random.default_rng(tried)
    W, b, v = rng.standard_normal((30, 4)), rng.standard_normal(30), rng.standard_normal(30)
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    start = rng.standard_normal(4)
    point = climb(W, b, v, start, 100, tried)
    value = slope_squared(W, b, v, point)
    assert value >= slope_squared(W, b, v, start)
    z = W @ point + b
    step = z + np.sign(z) * (1e-3 * np.abs(z) + 1e-6)
    across = point - step[:, None] * W
    slopes = np.array([slope_squared(W, b, v, x) for x in across])
    alone = np.sum((((z > 0.0) * v) @ W - np.where(z > 0.0, v, -v)[:, None] * W) ** 2, axis=1)
    promising = np.argsort(-alone)[:tried]
    assert np.all((slopes <= value * (1.0 + 1e-9)) | ~np.isin(np.arange(30), promising) | (alone <= value))


def test_no_steps_leave_the_point_where_it_is():
    point = np.array([0.5])
    assert climb(np.ones((1, 1)), np.zeros(1), np.array([3.0]), point, 0, 10) is point


@pytest.mark.parametrize("count", [1, 4, 5, 12])  # less than, as many as, and more than there is room for
def test_the_inverse_hessian_is_that_of_the_recursion_on_lists(count):
    rng = np.random.default_rng(count)
    n, room = 9, 5
    steps, turns, inverses = np.zeros((room, n)), np.zeros((room, n)), np.zeros(room)
    H = rng.standard_normal((n, n))
    H = H @ H.T + np.eye(n)
    pairs = []
    for k in range(count):
        step = rng.standard_normal(n)
        turn = H @ step
        pairs.append((step, turn, 1.0 / float(step @ turn)))
        steps[k % room], turns[k % room], inverses[k % room] = pairs[-1]
    gradient = rng.standard_normal(n)
    _, turn, inverse = pairs[-1]
    expected = lbfgs.two_loops(gradient, pairs[-room:], lambda q: q / (inverse * float(turn @ turn)))
    got = gradient.copy()
    two_loops(got, steps, turns, inverses, count)
    np.testing.assert_allclose(got, expected, rtol=1e-11)
    assert got @ gradient > 0.0


@pytest.mark.parametrize("left", [0.0, 0.3, -0.5, 1.6])
@pytest.mark.parametrize("delta", [0.0, 0.4])
def test_bent_kinks_are_the_formula(left, delta):
    z = np.linspace(-1.0, 1.0, 41).reshape(1, -1)
    b = np.full(41, 0.013)
    a, out = z.copy(), np.empty_like(z)
    bend_kinks(a, b, left, delta, out)
    at = z + b
    bent = left * at + (1.0 - left) * (at + delta) ** 2 / (4.0 * delta) if delta else at
    inside = np.abs(at) < delta
    np.testing.assert_allclose(out, np.where(inside, bent, np.where(at > 0.0, at, left * at)), rtol=1e-13, atol=1e-15)
    slope = left + (1.0 - left) * (at + delta) / (2.0 * delta) if delta else at
    np.testing.assert_allclose(a, np.where(inside, slope, np.where(at > 0.0, 1.0, left)), rtol=1e-13)


def test_ctrl_c_in_a_kernel_is_a_keyboard_interrupt():
    """No kernel hands out a tuple with an array in it: numba makes a SystemError of what is heard then."""
    found = 0
    for part in pkgutil.iter_modules(kernels.__path__):
        for name, kernel in vars(importlib.import_module(f"certnet.kernels.{part.name}")).items():
            if isinstance(kernel, Dispatcher):
                found += 1
                given = str(inspect.signature(kernel.py_func).return_annotation)
                assert not (given.startswith("tuple[") and "Float" in given), f"{part.name}.{name} gives {given}"
    assert found > 20
