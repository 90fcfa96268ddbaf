"""Inference with a convex loss: against generic solvers, squared losses as programs and clamps, losses of one's own."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

import cvxpy as cp
import numpy as np
import pytest
from lifted_bank import BANK, instance, random_network
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.lifted import LiftedNetwork, infer
from certnet.lifted.inference import Inference
from certnet.lifted.losses import CrossEntropy, HuberLoss, Loss, SquaredHinge, SquaredLoss, infer_with_loss
from certnet.programs.box_qp import posed
from certnet.solvers.box import SOLVERS

LOSSES = [SquaredLoss(), HuberLoss(0.5), CrossEntropy(), SquaredHinge()]


def targets_for(loss: object, net: LiftedNetwork, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if isinstance(loss, CrossEntropy):
        return rng.integers(net.n_outputs, size=n)
    if isinstance(loss, SquaredHinge):
        return rng.choice([-1.0, 1.0], size=(n, net.n_outputs))
    return 2.0 * rng.normal(size=(n, net.n_outputs))


def value_of(loss: object, z: np.ndarray, y: np.ndarray) -> float:
    """ℓ of one sample in plain terms."""
    if isinstance(loss, SquaredLoss):
        return 0.5 * sum((a - b) ** 2 for a, b in zip(z, y))
    if isinstance(loss, HuberLoss):
        d = loss.delta
        return sum(0.5 * r * r if r <= d else d * (r - 0.5 * d) for r in abs(z - y))
    if isinstance(loss, CrossEntropy):
        return math.log(sum(math.exp(a) for a in z)) - z[int(y)]
    return 0.5 * sum(max(0.0, 1.0 - a * b) ** 2 for a, b in zip(z, y))


def in_cvxpy(loss: object, z: cp.Variable, y: np.ndarray) -> cp.Expression:
    if isinstance(loss, SquaredLoss):
        return 0.5 * cp.sum_squares(z - y)
    if isinstance(loss, HuberLoss):
        return 0.5 * cp.sum(cp.huber(z - y, loss.delta))
    if isinstance(loss, CrossEntropy):
        return cp.log_sum_exp(z) - z[int(y)]
    return 0.5 * cp.sum_squares(cp.pos(1.0 - cp.multiply(y, z)))


def generic(net: LiftedNetwork, x: np.ndarray, loss: object, y: np.ndarray, weight: float) -> np.ndarray:
    """The minimiser of the written-out energy and loss by CVXPY and Clarabel."""
    z = [cp.Variable(n) for n in net.widths[1:]]
    chain, total = [x, *z], weight * in_cvxpy(loss, z[-1], y)
    for k, (W, b, c) in enumerate(zip(net.weights, net.biases, net.reconstruction_biases)):
        total += 0.5 * net.gamma**k * cp.sum_squares(chain[k + 1] - W @ chain[k] - b)
        total += 0.5 * net.gamma**k * net.beta[k] * cp.sum_squares(W.T @ chain[k + 1] - chain[k] - c)
    limits = [a[i] >= low[i] for a, low in zip(z, net.lower) for i in np.flatnonzero(np.isfinite(low))]
    limits += [a[i] <= high[i] for a, high in zip(z, net.upper) for i in np.flatnonzero(np.isfinite(high))]
    tight = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
    cp.Problem(cp.Minimize(total), limits).solve(solver=cp.CLARABEL, **tight)
    return np.concatenate([np.atleast_1d(a.value) for a in z])


def suits(loss: object, net: LiftedNetwork) -> bool:
    return net.n_outputs > 1 or not isinstance(loss, CrossEntropy)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("number", range(0, 32, 3))
def test_against_a_generic_solver(number: int, loss: object) -> None:
    net, X, _ = instance(number, n=2)
    if not suits(loss, net):
        return
    Y, weight = targets_for(loss, net, len(X)), (0.3, 2.0, 10.0)[number % 3]
    found = infer_with_loss(net, X, loss, Y, weight=weight, tol=1e-9)  # type: ignore[arg-type]
    assert found.converged.all()
    for i, x in enumerate(X):
        np.testing.assert_allclose(found.stacked[i], generic(net, x, loss, Y[i], weight), atol=2e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("number", BANK)
def test_minimal_energies_and_residuals_by_other_means(number: int, loss: object) -> None:
    net, X, _ = instance(number, n=6)
    if not suits(loss, net):
        return
    Y, weight = targets_for(loss, net, len(X), seed=number), 1.5
    found = infer_with_loss(net, X, loss, Y, weight=weight, tol=1e-10)  # type: ignore[arg-type]
    assert found.converged.all(), found
    np.testing.assert_allclose(found.energy, net.energy(X, found.stacked), rtol=1e-12)
    np.testing.assert_allclose(found.loss, [weight * value_of(loss, z, y) for z, y in zip(found.output, Y)], atol=1e-10)
    np.testing.assert_array_equal(found.total, found.energy + found.loss)
    problem, _ = posed(net, X)
    z = found.stacked
    assert (z >= problem.lower).all()
    assert (z <= problem.upper).all()
    # no feasible point nearby has less
    rng = np.random.default_rng(number)
    for size in (1e-3, 1e-1, 1.0):
        other = net.project(z + size * rng.normal(size=z.shape))
        more = net.energy(X, other) + [weight * value_of(loss, o, y) for o, y in zip(other[:, net.layers[-1]], Y)]
        assert (more >= found.total - 1e-12 * (1.0 + abs(found.total))).all()


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_squared_loss_as_a_program_of_any_backend(solver: str) -> None:
    package = {"daqp": "daqp", "proxqp": "proxsuite"}.get(solver)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed (certnet[qp])")
    net, X, _ = instance(6)
    Y = targets_for(SquaredLoss(), net, len(X))
    expected = infer_with_loss(net, X, SquaredLoss(), Y, weight=3.0, tol=1e-11)
    found = infer_with_loss(net, X, SquaredLoss(), Y, weight=3.0, tol=1e-9, solver=solver, max_steps=5000)
    assert found.converged.all()
    assert (expected.solver, found.solver) == ("newton", solver)
    np.testing.assert_allclose(found.stacked, expected.stacked, atol=1e-7)


def test_a_heavy_squared_loss_is_the_clamp() -> None:
    net, X, clamp = instance(6)
    clamped = infer(net, X, clamp=clamp, solver="osqp", tol=1e-11)
    errors = []
    for weight in (1e2, 1e4, 1e6):
        found = infer_with_loss(net, X, SquaredLoss(), clamp, weight=weight, tol=1e-7)
        assert found.converged.all()
        errors.append(np.abs(found.stacked - clamped.stacked).max())
    assert errors[0] > 1e-6
    np.testing.assert_allclose(errors[1:], [1e-2 * errors[0], 1e-4 * errors[0]], rtol=0.1)  # ∝ 1 / weight
    light = infer_with_loss(net, X, SquaredLoss(), clamp, weight=1e-9, tol=1e-9)
    np.testing.assert_allclose(light.stacked, infer(net, X, solver="osqp", tol=1e-11).stacked, atol=1e-6)


def test_the_rest_after_the_small_weight_is_the_loss_of_the_free_output() -> None:
    """Z (17): ``(min (E + β ℓ) − min E) / β → ℓ(z_L*, y)`` as β → 0, from below."""
    net, X, _ = instance(7)
    loss, Y = HuberLoss(), targets_for(HuberLoss(), net, len(X))
    free = infer(net, X, solver="osqp", tol=1e-12)
    at_rest = loss.value(free.output, Y)
    for weight in (1e-2, 1e-4):
        found = infer_with_loss(net, X, loss, Y, weight=weight, tol=1e-12)
        slope = (found.total - free.energy) / weight
        assert (slope <= at_rest + 1e-9).all()
        np.testing.assert_allclose(slope, at_rest, rtol=20.0 * weight, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_derivatives_and_curvature_of_the_losses(loss: object) -> None:
    net = random_network((2, 3), ["linear"])
    rng = np.random.default_rng(0)
    z = 2.0 * rng.normal(size=(40, 3))
    raw = targets_for(loss, net, 40)
    y = loss.targets(raw, 40, 3)  # type: ignore[attr-defined]
    eps = 1e-6
    np.testing.assert_allclose(loss.value(z, y), [value_of(loss, a, b) for a, b in zip(z, raw)], rtol=1e-12)  # type: ignore[attr-defined]
    for j, e in enumerate(eps * np.eye(3)):
        slope = (loss.value(z + e, y) - loss.value(z - e, y)) / (2.0 * eps)  # type: ignore[attr-defined]
        np.testing.assert_allclose(loss.gradient(z, y)[:, j], slope, atol=1e-8)  # type: ignore[attr-defined]
        bend = (loss.gradient(z + e, y) - loss.gradient(z - e, y)) / (2.0 * eps)  # type: ignore[attr-defined]
        np.testing.assert_allclose(loss.hessian(z, y)[:, j], bend, atol=1e-6)  # type: ignore[attr-defined]
    eigenvalues = np.linalg.eigvalsh(loss.hessian(z, y))  # type: ignore[attr-defined]
    assert eigenvalues.min() >= -1e-12
    assert eigenvalues.max() <= loss.curvature + 1e-12  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Quartic:
    """``Σ (z − y)⁴``: convex, smooth, and as steep as it likes."""

    curvature = math.inf

    def targets(self, y: ArrayLike, n_samples: int, n_outputs: int) -> np.ndarray:
        return np.broadcast_to(np.asarray(y, dtype=float), (n_samples, n_outputs))

    def value(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return ((z - y) ** 4).sum(axis=1)

    def gradient(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 4.0 * (z - y) ** 3

    def hessian(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 12.0 * (z - y)[:, :, None] ** 2 * np.eye(z.shape[1])


def test_a_loss_of_ones_own() -> None:
    net = LiftedNetwork([[[1.0]]], beta=0.0, units=["linear"])
    for x, y in ((0.0, 1.0), (-2.0, 10.0)):
        found = infer_with_loss(net, [[x]], Quartic(), y, tol=1e-10)
        # ½ (z − x)² + (z − y)⁴: z − x + 4 (z − y)³ = 0
        roots = np.roots([4.0, -12.0 * y, 12.0 * y**2 + 1.0, -4.0 * y**3 - x])
        expected = roots[np.abs(roots.imag) < 1e-9].real
        np.testing.assert_allclose(found.output[0], expected, atol=1e-8)
        assert found.status[0] is Status.OPTIMAL
        assert np.abs(found.output[0] - expected) <= found.error_bound


def test_error_bounds_hold() -> None:
    net, X, _ = instance(7)
    for loss in LOSSES:
        Y = targets_for(loss, net, len(X))
        exact = infer_with_loss(net, X, loss, Y, tol=1e-12)  # type: ignore[arg-type]
        for steps in (1, 2):
            rough = infer_with_loss(net, X, loss, Y, tol=1e-9, max_steps=steps)  # type: ignore[arg-type]
            distance = np.linalg.norm(rough.stacked - exact.stacked, axis=1)
            assert (distance <= rough.error_bound + 1e-10).all()
            assert (rough.total >= exact.total - 1e-9).all()


def test_running_out_of_steps_is_said() -> None:
    net, X, _ = instance(7, n=5)
    found = infer_with_loss(net, X, CrossEntropy(), [0, 1, 0, 1, 0], tol=1e-10, max_steps=1)
    assert set(found.status) == {Status.MAX_ITERATIONS}
    assert infer_with_loss(net, X, CrossEntropy(), [0, 1, 0, 1, 0], tol=1e-10, start=found.stacked).converged.all()


def test_ill_conditioned_by_the_weight() -> None:
    net, X, clamp = instance(6)
    found: Inference = infer_with_loss(net, X, SquaredLoss(), clamp, weight=1e13)
    assert set(found.status) == {Status.ILL_CONDITIONED}


def test_no_samples() -> None:
    net, X, _ = instance(6)
    assert len(infer_with_loss(net, X[:0], SquaredLoss(), np.empty((0, net.n_outputs))).energy) == 0


def test_labels_and_their_other_forms_are_the_same() -> None:
    net, X, _ = instance(7, n=3)
    m = net.n_outputs
    labels = np.array([0, 1, m - 1])
    for loss, other in ((CrossEntropy(), np.eye(m)[labels]), (SquaredHinge(), 2.0 * np.eye(m)[labels] - 1.0)):
        one = infer_with_loss(net, X, loss, labels)
        np.testing.assert_array_equal(one.stacked, infer_with_loss(net, X, loss, other).stacked)


def test_bad_targets() -> None:
    net, X, _ = instance(7, n=3)
    single = LiftedNetwork([[[1.0]]])
    m = net.n_outputs
    for loss, targets, message in (
        (SquaredLoss(), np.ones((2, m)), "targets have shape"),
        (SquaredLoss(), np.full((3, m), np.nan), "NaN"),
        (HuberLoss(), np.ones((3, m + 1)), "targets have shape"),
        (CrossEntropy(), [0, 1], "2 labels for 3 samples"),
        (CrossEntropy(), [0, 1, m], f"targets\\[2\\] is {m}"),
        (CrossEntropy(), [0, -1, 1], r"targets\[1\] is -1"),
        (CrossEntropy(), [0, 0.5, 1], r"targets\[1\] is 0.5"),
        (CrossEntropy(), np.ones((3, m)), "no probabilities"),
        (SquaredHinge(), np.zeros((3, m)), "signs"),
        (SquaredHinge(), [0, 1, m], "labels are whole numbers"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            infer_with_loss(net, X, loss, targets)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="at least two outputs"):
        infer_with_loss(single, [[1.0]], CrossEntropy(), [0])


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("squared", SquaredLoss()),
        ("huber", HuberLoss()),
        ("cross_entropy", CrossEntropy()),
        ("squared_hinge", SquaredHinge()),
    ],
)
def test_losses_by_name(name: str, loss: Loss) -> None:
    net, X, _ = instance(7, n=3)
    y = targets_for(loss, net, 3)
    np.testing.assert_array_equal(
        net.infer_with_loss(X, name, y).stacked, infer_with_loss(net, X, loss, y).stacked, strict=True
    )


@pytest.mark.parametrize("loss", ["hinge", "SquaredLoss", CrossEntropy, None, 1.0])
def test_what_is_no_loss(loss: object) -> None:
    net, X, clamp = instance(7, n=3)
    with pytest.raises(
        InvalidInputError, match=r"'squared', 'huber', 'cross_entropy', 'squared_hinge', 'margin', or .* Squared"
    ):
        infer_with_loss(net, X, loss, clamp)  # type: ignore[arg-type]


def test_numbers_without_a_usable_scale_are_named() -> None:
    with pytest.raises(InvalidInputError, match=r"weights \(up to 1\), beta \(1e\+300\) or gamma \(1\)"):
        LiftedNetwork([np.eye(2), np.eye(2)], beta=[1e-300, 1e300]).infer(np.ones((1, 2)))


def test_other_bad_input() -> None:
    net, X, clamp = instance(7, n=3)
    squared = SquaredLoss()
    with pytest.raises(InvalidInputError, match="delta must be a finite positive"):
        HuberLoss(0.0)
    with pytest.raises(InvalidInputError, match="weight must be a finite positive"):
        infer_with_loss(net, X, squared, clamp, weight=0.0)
    with pytest.raises(InvalidInputError, match="tol must be"):
        infer_with_loss(net, X, squared, clamp, tol=-1.0)
    with pytest.raises(InvalidInputError, match="max_steps must be"):
        infer_with_loss(net, X, squared, clamp, max_steps=0)
    with pytest.raises(InvalidInputError, match="'newton' serves it"):
        infer_with_loss(net, X, HuberLoss(), clamp, solver="osqp")
    with pytest.raises(InvalidInputError, match="no solver 'gradient'"):
        infer_with_loss(net, X, squared, clamp, solver="gradient")
    with pytest.raises(InvalidInputError, match="one of newton"):
        infer_with_loss(net, X, HuberLoss(), clamp, solver="gradient")
    with pytest.raises(InvalidInputError, match="z has shape"):
        infer_with_loss(net, X, squared, clamp, start=np.ones((3, 1)))


@pytest.mark.parametrize("name", ["value", "gradient", "hessian"])
def test_a_loss_of_ones_own_with_a_wrong_shape(name: str) -> None:
    net, X, _ = instance(7, n=3)
    wrong = type("Wrong", (Quartic,), {name: lambda self, z, y: np.zeros((1, 1, 1, 1))})
    with pytest.raises(InvalidInputError, match=f"the loss gives a {name} of shape"):
        infer_with_loss(net, X, wrong(), 0.5)


def test_asked_of_the_network() -> None:
    net, X, clamp = instance(6)
    expected = infer_with_loss(net, X, SquaredLoss(), clamp, weight=2.0)
    np.testing.assert_array_equal(net.infer_with_loss(X, SquaredLoss(), clamp, weight=2.0).stacked, expected.stacked)
