"""The blocks and passes of the interior-point method against what defines them, block by block and entry by entry."""

from __future__ import annotations

import numpy as np
import pytest

from certnet.solvers import arrow, cells
from certnet.solvers.arrow import ArrowScaling

SHAPES = [(6, 3, 1), (1, 4, 3), (5, 1, 1), (3, 2, 2)]


def positive(rng: np.random.Generator, n: int, q: int) -> np.ndarray:
    A = rng.standard_normal((n, q, q))
    return A @ A.swapaxes(1, 2) + 0.1 * np.eye(q)


def symmetric(rng: np.random.Generator, n: int, q: int) -> np.ndarray:
    A = rng.standard_normal((n, q, q))
    return A + A.swapaxes(1, 2)


def scaling(n: int, d: int, m: int, seed: int = 0) -> ArrowScaling:
    rng = np.random.default_rng(seed)
    found = ArrowScaling(n, d, m)
    found.T[:, :d, :d], found.T[:, d:, d:] = positive(rng, n, d), positive(rng, n, m)
    found.Z[:] = positive(rng, n, d + m)
    assert found.update()
    return found


@pytest.mark.parametrize(("n", "d", "m"), SHAPES)
def test_the_scaling_makes_one_diagonal_of_both(n, d, m):
    at = scaling(n, d, m)
    for k in range(n):
        R, Ri = at.R[k], at.Ri[k]
        np.testing.assert_allclose(R @ Ri, np.eye(d + m), atol=1e-10)
        np.testing.assert_allclose(R.T @ at.Z[k] @ R, np.diag(at.roots[k]), atol=1e-9)
        np.testing.assert_allclose(Ri @ at.T[k] @ Ri.T, np.diag(at.roots[k]), atol=1e-9)
        W, omega, theta = R @ R.T, at.omega[k], at.theta[k]
        np.testing.assert_allclose(W[d:, d:], omega, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(W[:d, d:], theta @ omega, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(W[:d, :d], at.Y[k] + theta @ omega @ theta.T, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(at.Y[k] @ at.Yi[k], np.eye(d), atol=1e-8)
        np.testing.assert_allclose(at.Yi[k], np.linalg.inv(W)[:d, :d], rtol=1e-7, atol=1e-9)


def test_entries_of_widely_different_size_keep_their_digits():
    at = ArrowScaling(1, 3, 1)
    sizes = np.array([1e-10, 1.0, 1e5])
    at.T[0, :3, :3] = positive(np.random.default_rng(3), 1, 3)[0] * np.sqrt(sizes[:, None] * sizes[None])
    at.T[0, 3, 3] = 1e-6
    at.Z[0] = np.diag(1.0 / np.append(sizes, 1e-6))
    assert at.update()
    scaled = at.Ri[0] @ at.T[0] @ at.Ri[0].T
    np.testing.assert_allclose(scaled, np.diag(at.roots[0]), rtol=1e-10, atol=1e-12 * at.roots[0].max())


@pytest.mark.parametrize("where", ["T", "Z"])
@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_blocks_that_are_not_positive_are_told(where, value):
    at = ArrowScaling(2, 2, 1)
    at.T[:], at.Z[:] = np.eye(3), np.eye(3)
    getattr(at, where)[1, 0, 0] = value
    assert not at.update()


@pytest.mark.parametrize(("n", "d", "m"), SHAPES)
def test_steps_end_where_the_first_block_is_singular(n, d, m):
    at, rng = scaling(n, d, m), np.random.default_rng(1)
    for size in (0.01, 1.0, 100.0):
        dT, dZ = size * symmetric(rng, n, d + m), size * symmetric(rng, n, d + m)
        found = at.longest(at.move(dT, dZ), 1.2, 0.9)
        for A, D, a, most in ((at.T, dT, found[0], 1.2), (at.Z, dZ, found[1], 0.9)):
            assert 0.0 < a <= most
            inside = np.linalg.eigvalsh(A + (1.0 - 1e-9) * a * D)
            assert inside.min() > 0.0
            if a < most:
                assert np.linalg.eigvalsh(A + (1.0 + 1e-6) * a * D).min() < 0.0
    dT[-1, 0, 0] = np.nan
    assert at.longest(at.move(dT, dZ), 1.0, 1.0)[0] == 0.0


@pytest.mark.parametrize(("n", "d", "m"), SHAPES)
def test_centring_solves_its_equation(n, d, m):
    at, rng = scaling(n, d, m), np.random.default_rng(2)
    correction = symmetric(rng, n, d + m)
    out = at.centred(0.3, correction)
    for k in range(n):
        C, roots = at.R[k].T @ out[k] @ at.R[k], np.diag(at.roots[k])  # Riᵀ C Ri = out
        wanted = 0.3 * np.eye(d + m) - roots @ roots - correction[k]
        np.testing.assert_allclose(0.5 * (roots @ C + C @ roots), wanted, atol=1e-7)


@pytest.mark.parametrize(("n", "d", "m"), SHAPES)
def test_second_order_terms(n, d, m):
    at, rng = scaling(n, d, m), np.random.default_rng(4)
    dT, dZ = symmetric(rng, n, d + m), symmetric(rng, n, d + m)
    out = at.second_order(at.move(dT, dZ))
    for k in range(n):
        product = at.Ri[k] @ dT[k] @ dZ[k] @ at.R[k]
        np.testing.assert_allclose(out[k], 0.5 * (product + product.T), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("size", [1e-3, 0.3, 3.0])
@pytest.mark.parametrize(("n", "d", "m"), SHAPES)
def test_clipping_moves_eigenvalues_into_the_interval(n, d, m, size):
    at, rng = scaling(n, d, m), np.random.default_rng(5)
    low, high = 0.05, 4.0
    dT, dZ = size * symmetric(rng, n, d + m), size * symmetric(rng, n, d + m)
    out = at.clipped(at.move(dT, dZ), 0.8, 0.7, low, high)
    for k in range(n):
        product = at.Ri[k] @ (at.T[k] + 0.8 * dT[k]) @ (at.Z[k] + 0.7 * dZ[k]) @ at.R[k]
        ahead = 0.5 * (product + product.T)
        before = np.linalg.eigvalsh(ahead)
        wanted = before + np.maximum(np.clip(before, low, high) - before, -high)
        np.testing.assert_allclose(np.linalg.eigvalsh(ahead + out[k]), np.sort(wanted), rtol=1e-6, atol=1e-6)


def test_inverse_factors_and_raised_pivots():
    H = positive(np.random.default_rng(6), 4, 5)
    found = arrow.inverse_factors(H)
    for k in range(4):
        np.testing.assert_allclose(found[k], np.linalg.inv(np.linalg.cholesky(H[k])), rtol=1e-9, atol=1e-12)
    singular = np.array([[[4.0, 2.0], [2.0, 1.0]]])  # a pivot of zero, raised to 1e-14 of its diagonal
    np.testing.assert_allclose(arrow.inverse_factors(singular)[0], [[0.5, 0.0], [-0.5e7, 1e7]])


def test_shifted_inverses():
    rng = np.random.default_rng(7)
    Y, omega, phi = positive(rng, 3, 4), rng.random(3) + 0.1, rng.standard_normal((3, 4))
    found = arrow.shifted_inverse(Y, omega, phi)
    for k in range(3):
        inside = Y[k] + 2.0 * omega[k] * np.outer(phi[k], phi[k])
        np.testing.assert_allclose(found[k], 2.0 / omega[k] * np.linalg.inv(inside), rtol=1e-9, atol=1e-11)
    none = arrow.shifted_inverse(np.zeros((1, 2, 2)), np.ones(1), np.array([[1.0, 1.0]]))
    assert np.all(np.isfinite(none))


def test_pulls_and_directions_of_units():
    rng = np.random.default_rng(8)
    n, d = 4, 3
    rhs, Y = symmetric(rng, n, d + 1), positive(rng, n, d)
    theta, beta, delta, g = rng.standard_normal((4, n, d))
    de, omega, dP = rng.standard_normal(n), rng.random(n) + 0.1, symmetric(rng, 1, d)[0]
    hw, he, kappa = arrow.pulled(rhs, theta, beta, Y)
    dT, dZ = arrow.coupled(rhs, dP, delta, de, g, theta, omega, Y)
    total = np.zeros((d, d))
    for k in range(n):
        A, b, c = rhs[k, :d, :d], rhs[k, :d, d], rhs[k, d, d]
        np.testing.assert_allclose(hw[k], b + A @ theta[k])
        np.testing.assert_allclose(he[k], c - theta[k] @ A @ theta[k] - 2.0 * beta[k] @ hw[k], atol=1e-10)
        total += Y[k] @ A @ Y[k]
        A = A - dP
        cross = np.outer(delta[k], theta[k])
        corner = Y[k] @ A @ Y[k] + cross + cross.T - de[k] * np.outer(theta[k], theta[k])
        np.testing.assert_allclose(dT[k], np.block([[corner, delta[k, :, None]], [delta[k], de[k]]]), atol=1e-9)
        side = b - g[k] + A @ theta[k]
        last = c - de[k] / omega[k] ** 2 + 2.0 * theta[k] @ g[k] - theta[k] @ A @ theta[k]
        np.testing.assert_allclose(dZ[k], np.block([[dP, side[:, None]], [side, last]]), atol=1e-9)
    np.testing.assert_allclose(kappa, total, atol=1e-9)


def test_rows_of_the_corner_are_products_with_its_directions():
    rng = np.random.default_rng(9)
    n, d, n_shared = 5, 3, 2
    left, right = np.triu_indices(d)
    wt = np.where(left == right, 1.0, np.sqrt(2.0))
    own, ratio, shared = rng.standard_normal((n, d)), rng.standard_normal((n, d)), rng.standard_normal((n_shared, n, d))
    slopes, rows = rng.standard_normal((n_shared + len(left), n)), np.full((n, d + 1, n_shared + len(left)), np.nan)
    arrow.fill_rows(rows, own, shared, ratio, slopes, left, right, wt)
    dW = rng.standard_normal((n, d))
    for j in range(n):
        eliminated = slopes[:, j] * (ratio[j] @ dW[j])
        moved = np.outer(dW[j], own[j])
        corner = (moved + moved.T)[left, right] * np.where(left == right, 1.0, wt)
        wanted = np.concatenate([shared[:, j] @ dW[j], corner]) - eliminated
        np.testing.assert_allclose(dW[j] @ rows[j, :d], wanted, atol=1e-10)
        np.testing.assert_array_equal(rows[j, d], 0.0)


# ------------------------------------------------------------------------------------------------ passes over samples


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (400, 100), (3, 20_000), (4, 0)])
def test_passes_over_the_inequalities(shape):
    rng = np.random.default_rng(10)
    s, z, product = rng.random((3, *shape)) + 0.1
    ds, dz = rng.standard_normal((2, *shape))
    D = (rng.random(shape) > 0.4).astype(np.uint8)
    S, directions = 2.0 * D - 1.0, rng.standard_normal((2, shape[1]))
    # pre-activations to slacks and outputs
    pre, out = ds.copy(), np.ones((shape[0], 2))
    cells.split(pre, D, directions, out)
    np.testing.assert_array_equal(pre, S * ds)
    np.testing.assert_allclose(out, 1.0 + (D * ds) @ directions.T, atol=1e-10)
    # residuals pulled back
    pull = dz.copy()
    cells.pulled_residuals(pull, D, z)
    np.testing.assert_allclose(pull, D * dz - S * z, atol=1e-14)
    # the dual direction, before and after the primal one is known
    aimed, pulled = np.empty(shape), np.empty(shape)
    cells.aimed(0.3, product, 1.0 / s, z, D, aimed, pulled)
    np.testing.assert_allclose(aimed, (0.3 - product) / s - z, atol=1e-12)
    np.testing.assert_allclose(pulled, S * aimed, atol=1e-14)
    whole = aimed - z / s * ds
    lengths = cells.finished(s, 1.0 / s, z, ds, aimed)
    np.testing.assert_allclose(aimed, whole, atol=1e-10)
    wanted = [1.0 / max(1e-12, float((-move / at).max(initial=0.0))) for at, move in ((s, ds), (z, whole))]
    assert lengths == pytest.approx(wanted, rel=1e-10)
    # products ahead
    sums = cells.affine_sum(s, z, ds, dz, product)
    np.testing.assert_array_equal(product, ds * dz)
    assert sums == pytest.approx((np.sum(s * dz), np.sum(z * ds), np.sum(ds * dz)), rel=1e-9, abs=1e-9)
    clipped = np.empty(shape)
    cells.clipped_products(s, z, ds, dz, 0.7, 0.6, 0.02, 0.5, product, clipped)
    v = (s + 0.7 * ds) * (z + 0.6 * dz)
    np.testing.assert_allclose(clipped, product - np.maximum(np.clip(v, 0.02, 0.5) - v, -0.5), atol=1e-12)
