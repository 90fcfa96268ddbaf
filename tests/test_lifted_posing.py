"""One reading of the inputs: the same programs as the formula's, nothing copied, nothing bad let through."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from certnet.core.errors import InvalidInputError
from certnet.kernels.box_descent import appraised, placed, squared_norms
from certnet.lifted import LiftedNetwork
from certnet.lifted.inference import outputs
from certnet.lifted.learn import initial_network
from certnet.lifted.posing import pose
from certnet.programs.box_qp import posed

SHAPES = {
    "reconstructs": ((9, 6, 5, 3), [1.0, 0.4, 0.0], "relu"),
    "not at all": ((9, 6, 3), [0.0, 0.0], "hard_sigmoid"),
    "two layers": ((9, 4, 3), [0.7, 0.2], ["relu", (-1.0, 2.0)]),
    "one layer": ((9, 3), [0.5], "relu"),
}


def instance(name: str, seed: int = 0) -> LiftedNetwork:
    rng = np.random.default_rng(seed)
    widths, beta, units = SHAPES[name]
    net = initial_network(widths, beta=beta, gamma=0.3, units=units, random_state=seed)  # type: ignore[arg-type]
    b, c = ([rng.standard_normal(v.shape) for v in group] for group in (net.biases, net.reconstruction_biases))
    return net.with_parameters(net.weights, b, c)


X = np.random.default_rng(1).standard_normal((300, 9))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["double", "single", "columns", "some", "list"])
@pytest.mark.parametrize("clamped", [False, True])
def test_programs_are_those_of_the_formula(name: str, kind: str, clamped: bool) -> None:
    net = instance(name)
    if clamped and net.depth == 1:
        pytest.skip("nothing is left to infer")
    given = {
        "double": X,
        "single": X.astype(np.float32),
        "columns": np.asfortranarray(X),
        "some": X[::3],
        "list": X.tolist(),
    }[kind]
    rows = np.asarray(given, dtype=np.float64)
    y = np.random.default_rng(2).uniform(0.0, 1.0, (len(rows), 3)) if clamped else None
    found, (problem, q) = pose(net, given, y), posed(net, rows, y)
    assert found.problem is problem
    np.testing.assert_allclose(found.q, q, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.seen, rows @ net.weights[0].T, atol=1e-13)
    np.testing.assert_allclose(found.squares, (rows**2).sum(axis=1), rtol=1e-13)
    along = rows @ net.reconstruction_biases[0] if net.beta[0] else 0.0 * rows[:, 0]
    np.testing.assert_allclose(found.along, along, atol=1e-13)


@pytest.mark.parametrize("name", SHAPES)
def test_what_rounding_does_is_within_its_bound(name: str) -> None:
    net, given = instance(name), pose(instance(name), X)
    z = np.random.default_rng(3).uniform(0.0, 1.0, given.q.shape)
    exact = z.astype(np.longdouble) @ given.problem.H.astype(np.longdouble)
    W, b, c = net.weights[0], net.biases[0], net.reconstruction_biases[0]
    seen = X.astype(np.longdouble) @ W.T.astype(np.longdouble)
    here = net.layers[0]
    linear = given.q.astype(np.longdouble)
    linear[:, here] += (1.0 + net.beta[0]) * (seen - given.seen.astype(np.longdouble))
    assert b.shape + c.shape  # biases add the same to both
    error = np.linalg.norm((exact - linear - (z @ given.problem.H - given.q)).astype(float), axis=1)
    doubt = given.doubt(np.abs(z).max(axis=1))
    assert (error <= doubt).all()
    assert doubt.max() < 1e-11


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("row", [0, 150, 299])
def test_bad_numbers_are_found_in_every_block(bad: float, row: int) -> None:
    net, wrong = instance("reconstructs"), X.copy()
    wrong[row, 4] = bad
    with pytest.raises(InvalidInputError, match=r"NaN or infinite|usable scale"):
        net.infer(wrong)


@pytest.mark.parametrize("shape", [(9,), (4, 8), (2, 3, 9)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    for ask in (instance("reconstructs").infer, instance("reconstructs").predict):
        with pytest.raises(InvalidInputError, match="X has"):
            ask(np.zeros(shape))


def test_inputs_are_not_copied() -> None:
    net = initial_network((20_000, 4, 2), beta=[1.0, 0.0], gamma=0.5, random_state=0)
    large = np.random.default_rng(0).standard_normal((200, 20_000))
    before = large.copy()
    net.infer(large[:2])
    tracemalloc.start()
    net.infer(large)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < large.nbytes / 10
    np.testing.assert_array_equal(large, before)


@pytest.mark.parametrize("options", [{}, {"threads": 1}, {"tol": 1e-10}, {"solver": "reference"}, {"passes": 3}])
def test_outputs_are_those_of_inference(options: dict[str, object]) -> None:
    for name in SHAPES:
        net = instance(name)
        np.testing.assert_array_equal(outputs(net, X, **options), net.infer(X, **options).output)  # type: ignore[arg-type]


def test_no_inputs_have_no_outputs() -> None:
    assert instance("reconstructs").predict(np.zeros((0, 9))).shape == (0, 3)


# ------------------------------------------------------------------------------------------------------------- kernels


def test_kernels_are_their_formulas() -> None:
    rng = np.random.default_rng(0)
    z, slopes, q = rng.standard_normal((3, 7, 11))
    lower, upper = np.full(11, -0.5), np.where(np.arange(11) % 2, 0.7, np.inf)
    moved, finite = np.empty_like(z), np.empty(7, bool)
    z[3, 2], z[5, 10] = np.nan, -np.inf
    placed(z, lower, upper, moved, finite)
    np.testing.assert_array_equal(finite, np.isfinite(z).all(axis=1))
    np.testing.assert_array_equal(moved, np.clip(np.where(finite[:, None], z, 0.0), lower, upper))
    found = np.empty((7, 5))
    appraised(moved, slopes, q, lower, upper, found)
    g = slopes - q
    r = moved - np.clip(moved - g, lower, upper)
    expected = (np.abs(r).max(1), (r**2).sum(1), (moved * g).sum(1), (moved * q).sum(1), np.abs(moved).max(1))
    np.testing.assert_allclose(found, np.column_stack(expected), rtol=1e-12, atol=1e-15)
    squares = np.empty(7)
    squared_norms(q, squares)
    np.testing.assert_allclose(squares, (q**2).sum(axis=1), rtol=1e-14)


def test_a_slope_that_is_not_a_number_is_an_infinite_residual() -> None:
    z, found = np.zeros((2, 3)), np.empty((2, 5))
    slopes = np.array([[0.0, np.nan, 0.0], [1e-3, 0.0, 0.0]])
    appraised(z, slopes, np.zeros((2, 3)), np.full(3, -np.inf), np.full(3, np.inf), found)
    assert found[0, 0] == np.inf
    assert found[1, 0] == 1e-3
