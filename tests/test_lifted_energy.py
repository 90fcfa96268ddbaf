"""The energy and its quadratic program against loops and differences; files, digests, bad input, statuses."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from lifted_bank import BANK, by_loops, instance, random_network

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError
from certnet.core.outcome import Status
from certnet.lifted import LiftedNetwork, infer
from certnet.lifted.inference import measured
from certnet.lifted.posing import pose
from certnet.networks.energy import BOXES, LiftedEnergy
from certnet.networks.quadratic import hessian, linear_term
from certnet.programs.box_qp import as_clamp, assemble, natural_residual, posed, sample_qp
from certnet.solvers.box import Limits
from certnet.solvers.box.active_set import finish

SOLVER = "reference"


def layers_of(net: LiftedNetwork, z: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum(net.widths[1:])[:-1]
    return np.split(z, ends)


def somewhere(net: LiftedNetwork, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, net.n_units))


# the energy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", BANK)
def test_energy_against_loops(number: int) -> None:
    net, X, _ = instance(number)
    z = somewhere(net, len(X))
    expected = [by_loops(net, x, layers_of(net, row)) for x, row in zip(X, z)]
    np.testing.assert_allclose(net.energy(X, z), expected, rtol=1e-11)


def test_energy_by_hand() -> None:
    net = LiftedNetwork([[[2.0]], [[3.0]]], [[1.0], [0.0]], [[0.5], [0.0]], beta=[4.0, 0.0], gamma=0.5)
    # forward: z1 - 2 - 1 = -2, backward: 2 - 1 - 0.5 = 0.5; then z2 - 3 = 2 with weight 1/2
    assert net.energy([[1.0]], [[1.0, 5.0]]) == pytest.approx(0.5 * (4.0 + 4.0 * 0.25) + 0.5 * 0.5 * 4.0)


@pytest.mark.parametrize("number", BANK)
def test_parameter_gradients_against_differences(number: int) -> None:
    net, X, _ = instance(number)
    z, eps, rng = somewhere(net, len(X)), 1e-5, np.random.default_rng(number)
    groups = (net.weights, net.biases, net.reconstruction_biases)
    for group, arrays in enumerate(net.gradients(X, z).groups):
        for k, array in enumerate(arrays):
            assert array.shape == groups[group][k].shape
            for flat in rng.choice(array.size, size=min(3, array.size), replace=False):
                entry = np.unravel_index(flat, array.shape)
                ends = []
                for step in (eps, -eps):
                    moved = [[a.copy() for a in g] for g in groups]
                    moved[group][k][entry] += step
                    ends.append(net.with_parameters(*moved).energy(X, z).mean())
                assert array[entry] == pytest.approx((ends[0] - ends[1]) / (2.0 * eps), abs=1e-6, rel=1e-6)


def test_gradients_at_the_minimiser_are_those_of_the_minimum() -> None:
    """Danskin: the derivative of ``min_z E`` although z moves with the parameters."""
    net, X, clamp = instance(6)
    eps = 1e-5
    for held in (None, clamp):
        found = infer(net, X, clamp=held, solver="osqp", tol=1e-12)
        gradients = net.gradients(X, found.stacked)
        for entry in ((0, 0), (1, 2)):
            ends = []
            for step in (eps, -eps):
                Ws = [W.copy() for W in net.weights]
                Ws[1][entry] += step
                moved = net.with_parameters(Ws, net.biases, net.reconstruction_biases)
                ends.append(infer(moved, X, clamp=held, solver="osqp", tol=1e-12).energy.mean())
            assert gradients.weights[1][entry] == pytest.approx((ends[0] - ends[1]) / (2.0 * eps), abs=1e-7)


def test_differences_of_gradients() -> None:
    net, X, _ = instance(5)
    a, b = net.gradients(X, somewhere(net, 4)), net.gradients(X, somewhere(net, 4, 1))
    for mine, one, other in zip((a - b).groups, a.groups, b.groups):
        for d, p, q in zip(mine, one, other):
            np.testing.assert_array_equal(d, p - q)


def test_no_samples_have_no_energy_and_no_gradient() -> None:
    net, X, _ = instance(5)
    assert net.energy(X[:0], somewhere(net, 0)).shape == (0,)
    assert not net.gradients(X[:0], somewhere(net, 0)).weights[0].any()


def test_feed_forward_is_the_limit_of_weak_feedback() -> None:
    for seed in range(4):
        net = random_network((3, 5, 4, 2), ["relu", "hard_sigmoid", "linear"], beta=0.0, gamma=1e-3, seed=seed)
        X = np.random.default_rng(seed).normal(size=(5, 3))
        z = X
        for k in range(3):
            z = np.clip(z @ net.weights[k].T + net.biases[k], net.lower[k], net.upper[k])
        forward = net.feed_forward(X)
        np.testing.assert_allclose(forward[:, net.layers[-1]], z)
        np.testing.assert_allclose(infer(net, X, solver="osqp", tol=1e-9).stacked, forward, atol=0.05)


# the program ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", BANK)
def test_the_program_is_the_energy(number: int) -> None:
    net, X, clamp = instance(number)
    z = somewhere(net, len(X))
    H, q = hessian(net), linear_term(net, X)
    np.testing.assert_array_equal(H, H.T)
    constant = net.energy(X, np.zeros_like(z))
    np.testing.assert_allclose(assemble(net).objective(q, z) + constant, net.energy(X, z), rtol=1e-9, atol=1e-9)
    if net.depth > 1:
        problem, q = posed(net, X, clamp)
        whole = np.concatenate([z[:, : problem.n], clamp], axis=1)
        rest = np.concatenate([np.zeros_like(z[:, : problem.n]), clamp], axis=1)
        expected = net.energy(X, whole) - net.energy(X, rest)
        np.testing.assert_allclose(problem.objective(q, z[:, : problem.n]), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("number", BANK)
def test_the_hessian_against_second_differences_of_the_loops(number: int) -> None:
    net, X, _ = instance(number, n=1)
    n, rng = net.n_units, np.random.default_rng(number)
    H, z = hessian(net), rng.normal(size=n)
    value = lambda v: by_loops(net, X[0], layers_of(net, v))  # noqa: E731
    for i, j in rng.integers(n, size=(6, 2)):
        e, f = np.eye(n)[i], np.eye(n)[j]
        # of a quadratic function these are exact, whatever the step
        second = value(z + e + f) - value(z + e) - value(z + f) + value(z)
        assert H[i, j] == pytest.approx(second, abs=1e-8 * (1.0 + abs(H).max()))
    assert np.linalg.eigvalsh(H)[0] > 0.0
    for k, rows in enumerate(net.layers):
        for m, columns in enumerate(net.layers):
            if abs(k - m) > 1:
                assert not H[rows, columns].any()


def test_the_explicit_program_of_a_sample() -> None:
    net, X, clamp = instance(6)
    for y in (None, clamp[0]):
        program = net.qp(X[0], y)
        assert scipy.sparse.issparse(program.H)
        found = infer(net, X[:1], clamp=None if y is None else y[None], solver="osqp", tol=1e-11)
        z = found.stacked[0, : len(program.q)]
        value = 0.5 * z @ (program.H @ z) - program.q @ z + program.constant
        assert value == pytest.approx(found.energy[0], abs=1e-9)
        assert (z >= program.lower).all()
        assert (z <= program.upper).all()


def test_changing_an_explicit_program_changes_nothing_else() -> None:
    net, X, _ = instance(6)
    before = infer(net, X, solver=SOLVER).stacked
    program = net.qp(X[0])
    program.lower[:], program.upper[:], program.q[:] = 5.0, 6.0, 0.0
    program.H.data[:] = 0.0
    np.testing.assert_array_equal(infer(net, X, solver=SOLVER).stacked, before)


def test_the_natural_residual_is_zero_at_the_minimiser_alone() -> None:
    net, X, _ = instance(10)
    problem, q = posed(net, X)
    z = finish(problem, q, np.zeros_like(q), 1e-13)
    assert natural_residual(problem, q, z).max() < 1e-12
    inside = net.project(z + 0.1 * somewhere(net, len(X)))
    step = inside - net.project(inside - (np.array([problem.H @ row for row in inside]) - q))
    np.testing.assert_allclose(natural_residual(problem, q, inside), np.abs(step).max(axis=1))
    assert natural_residual(problem, q, inside).min() > 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 31))
def test_active_set_steps_reach_the_minimiser_from_anywhere(seed: int, number: int) -> None:
    net, X, _ = instance(number)
    problem, q = posed(net, X)
    rng = np.random.default_rng(seed)
    starts = [np.where(rng.random(q.shape) < 0.1, np.nan, 10.0 * rng.normal(size=q.shape)) for _ in range(2)]
    one, other = (finish(problem, q, start, 1e-10) for start in starts)
    assert natural_residual(problem, q, one).max() <= 1e-10
    np.testing.assert_allclose(one, other, atol=1e-7)


# inference ------------------------------------------------------------------------------------------------------------


def test_inference_measures_what_it_returns() -> None:
    net, X, clamp = instance(6)
    for held in (None, clamp):
        found = infer(net, X, clamp=held, solver=SOLVER, tol=1e-7)
        assert found.converged.all()
        assert [z.shape for z in found.activations] == [(len(X), n) for n in net.widths[1:]]
        np.testing.assert_array_equal(found.stacked, np.concatenate(found.activations, axis=1))
        np.testing.assert_array_equal(found.output, found.activations[-1])
        expected = [by_loops(net, x, layers_of(net, row)) for x, row in zip(X, found.stacked)]
        np.testing.assert_allclose(found.energy, expected, rtol=1e-10)
        np.testing.assert_array_equal(found.total, found.energy)
        exact = infer(net, X, clamp=held, solver="osqp", tol=1e-12)
        assert (np.linalg.norm(found.stacked - exact.stacked, axis=1) <= found.error_bound + 1e-12).all()
    assert (infer(net, X, clamp=clamp, solver=SOLVER).energy >= infer(net, X, solver=SOLVER).energy - 1e-9).all()
    assert "4 of 4 samples within 1e-06" in repr(infer(net, X, solver=SOLVER))


def test_a_number_of_passes_is_kept_and_what_is_missing_said() -> None:
    net, X, _ = instance(6)
    energies = [infer(net, X, solver=SOLVER, passes=n) for n in (1, 2, 5)]
    assert all((a.energy > b.energy).all() for a, b in itertools.pairwise(energies))
    assert set(energies[0].status) == {Status.MAX_ITERATIONS}
    assert infer(net, X, solver=SOLVER, passes=1, start=infer(net, X, solver=SOLVER).stacked).converged.all()


def test_what_is_not_finite_is_a_failure() -> None:
    net, X, _ = instance(6)
    z = infer(net, X, solver=SOLVER).stacked.copy()
    z[1, 0] = np.nan
    found = measured(pose(net, X), z, Limits(), "broken")
    assert [status.name for status in found.status] == ["OPTIMAL", "SOLVER_FAILED", "OPTIMAL", "OPTIMAL"]
    assert np.isfinite(found.energy).all()
    off = measured(pose(net, X), z + 1.0, Limits(), "broken")
    assert off.status[0] is Status.INACCURATE


def test_prediction() -> None:
    net, X, _ = instance(6)
    np.testing.assert_array_equal(net.predict(X, solver=SOLVER), net.infer(X, solver=SOLVER).output)
    assert random_network((2, 3, 1), ["relu", "linear"]).predict(np.ones((4, 2)), solver=SOLVER).shape == (4,)


def test_no_samples() -> None:
    net, X, clamp = instance(6)
    for held in (None, clamp[:0]):
        assert infer(net, X[:0], clamp=held, solver=SOLVER).stacked.shape == (0, net.n_units)


# the value ------------------------------------------------------------------------------------------------------------


def test_shapes_names_and_frozen() -> None:
    net = LiftedNetwork(
        [np.ones((2, 3)), np.ones((2, 2)), np.ones((1, 2))],
        beta=[1, 0.5, 0],
        gamma=0.25,
        units=["relu", (0, 2), "linear"],
    )
    assert repr(net) == "LiftedNetwork(3-2-2-1, relu, box, linear, beta=[1, 0.5, 0], gamma=0.25)"
    assert (net.depth, net.widths, net.n_inputs, net.n_outputs, net.n_units) == (3, (3, 2, 2, 1), 3, 1, 5)
    assert net.layers == (slice(0, 2), slice(2, 4), slice(4, 5))
    with pytest.raises(FrozenInstanceError):
        net.gamma = 1.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        net.weights[0][0, 0] = 2.0


def test_one_kind_of_unit_serves_the_hidden_layers() -> None:
    Ws = [np.ones((2, 3)), np.ones((2, 2)), np.ones((1, 2))]
    assert LiftedNetwork(Ws).unit_names == ("relu", "relu", "linear")
    assert LiftedNetwork(Ws, units="hard_sigmoid").unit_names == ("hard_sigmoid", "hard_sigmoid", "linear")
    pair = LiftedNetwork(Ws, units=(0.0, np.inf))
    assert pair == LiftedNetwork(Ws)
    assert LiftedNetwork(Ws[:2], units=(-1, 2)).lower[0].tolist() == [-1.0, -1.0]
    for name, (low, high) in BOXES.items():
        assert LiftedNetwork(Ws[:1], units=[(low, high)]).unit_names == (name,)


def test_equality_digest_and_copies() -> None:
    net, X, _ = instance(7)
    same, _, _ = instance(7)
    assert (net == same, hash(net) == hash(same), net.digest == same.digest) == (True, True, True)
    assert net != 1
    parts = (net.weights, net.biases, net.reconstruction_biases)
    digests = {net.digest}
    for group in range(3):
        for k in range(net.depth):
            moved = [[a.copy() for a in g] for g in parts]
            moved[group][k].flat[0] += 1e-15 + 1e-15 * abs(moved[group][k].flat[0]) * 4
            digests.add(net.with_parameters(*moved).digest)
    assert len(digests) == 1 + 3 * net.depth
    for beta, gamma in ((3.0, net.gamma), (list(net.beta), net.gamma * 2)):
        digests.add(LiftedNetwork(*parts, beta=beta, gamma=gamma, units=net.units).digest)
    digests.add(LiftedNetwork(*parts, beta=net.beta, gamma=net.gamma, units=["linear"] * net.depth).digest)
    assert len(digests) == 4 + 3 * net.depth
    for twin in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin == net
        assert type(twin) is LiftedNetwork
        np.testing.assert_array_equal(twin.energy(X, somewhere(net, 4)), net.energy(X, somewhere(net, 4)))
    assert LiftedNetwork([[[0.0]]]).digest == LiftedNetwork([[[-0.0]]]).digest


@pytest.mark.parametrize("number", [0, 5, 6, 15])
def test_saved_and_loaded_bit_for_bit(number: int, tmp_path: Path) -> None:
    net = instance(number)[0]
    path = net.save(tmp_path / "net.npz")
    loaded = LiftedNetwork.load(path)
    assert loaded == net
    assert loaded.digest == net.digest
    assert (loaded.beta, loaded.gamma, loaded.unit_names) == (net.beta, net.gamma, net.unit_names)
    assert isinstance(LiftedEnergy.load(path), LiftedEnergy)
    with pytest.raises(OutputError, match="exists"):
        net.save(path)
    net.save(path, force=True)


def test_files_that_are_no_lifted_network(tmp_path: Path) -> None:
    net, _, _ = instance(6)
    path = net.save(tmp_path / "net.npz")
    with pytest.raises(FileFormatError, match="does not exist"):
        LiftedNetwork.load(tmp_path / "other.npz")
    cut = tmp_path / "cut.npz"
    cut.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileFormatError, match="not a readable"):
        LiftedNetwork.load(cut)
    arrays = net.arrays()
    for name, changed, message in (
        ("format", np.array("certnet-shallow-1"), "has the format 'certnet-shallow-1'"),
        ("gamma", np.array(-1.0), "gamma must be"),
        ("W0", np.full_like(arrays["W0"], np.nan), "NaN"),
        ("low0", arrays["high0"] + 1.0, "box|infinite|limit"),
    ):
        other = tmp_path / f"{name}.npz"
        np.savez(other, **(arrays | {name: changed}))
        with pytest.raises(FileFormatError, match=message):
            LiftedNetwork.load(other)
    np.savez(tmp_path / "less.npz", **{k: v for k, v in arrays.items() if k != "b1"})
    with pytest.raises(FileFormatError, match="b1"):
        LiftedNetwork.load(tmp_path / "less.npz")


# bad input ------------------------------------------------------------------------------------------------------------

W2 = [np.ones((2, 3)), np.ones((1, 2))]


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        ([], {}, "weights is empty"),
        (None, {}, "a list of one matrix per layer"),
        ([np.ones((2, 3)), np.ones((1, 3))], {}, r"weights\[1\] takes 3 inputs, the layer before gives 2"),
        ([np.ones(3)], {}, r"weights\[0\] has shape \(3,\)"),
        ([np.full((2, 3), np.nan)], {}, "NaN"),
        ([np.ones((0, 3))], {}, "at least one unit"),
        ([np.array([["a"]])], {}, "dtype"),
        (W2, {"biases": [np.ones(2)]}, "biases has 1 entries, the network has 2 layers"),
        (W2, {"biases": [np.ones(3), np.ones(1)]}, r"biases\[0\] has shape \(3,\): \(2,\) is needed"),
        (W2, {"reconstruction_biases": [np.ones(2), np.ones(2)]}, r"reconstruction_biases\[0\] has shape \(2,\)"),
        (W2, {"biases": [np.ones(2), [np.inf]]}, "infinite"),
        (W2, {"beta": -1.0}, r"beta\[0\] must be a finite non-negative number, got -1.0$"),
        (W2, {"beta": [1.0, -1e-9]}, r"beta\[1\] must be"),
        (W2, {"beta": [1.0]}, "beta has 1 entries"),
        (W2, {"beta": np.nan}, "NaN"),
        (W2, {"gamma": 0.0}, "gamma must be a finite positive"),
        (W2, {"gamma": -0.125}, "gamma must be"),
        (W2, {"gamma": np.inf}, "gamma must be"),
        (W2, {"gamma": "small"}, "gamma must be a number"),
        ([np.eye(1)] * 4, {"gamma": 1e-100}, "gamma nearer to one"),
        ([np.eye(1)] * 4, {"gamma": 1e200}, "gamma nearer to one"),
        (W2, {"units": "softplus"}, "units.0. is 'softplus': one of linear, relu, hard_sigmoid"),
        (W2, {"units": ["relu"]}, "units for 1 layers, the network has 2"),
        (W2, {"units": ["relu", (1.0, 0.0)]}, r"units\[1\] is an empty box"),
        (W2, {"units": [(0.0, [1.0, -1.0]), "linear"]}, "empty box"),
        (W2, {"units": [(0.0, np.nan), "linear"]}, "empty box"),
        (W2, {"units": [(np.inf, np.inf), "linear"]}, r"lower limit of \+inf"),
        (W2, {"units": [(-np.inf, -np.inf), "linear"]}, "upper one of -inf"),
        (W2, {"units": [([0.0] * 3, 1.0), "linear"]}, r"units\[0\] is no box"),
        (W2, {"units": [0.0, 1.0]}, r"units\[0\] is no box"),
    ],
)
def test_networks_that_are_none(weights: list[np.ndarray], options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        LiftedNetwork(weights, **options)  # type: ignore[arg-type]


def test_bad_inputs_of_inference() -> None:
    net = LiftedNetwork(W2, units=["relu", (0.0, 1.0)])
    X, y = np.ones((4, 3)), np.full((4, 1), 0.5)
    bad = np.where(np.arange(4)[:, None] == 2, 1.5, y)
    for options, message in (
        ({"X": np.ones(3)}, "rows of a 2-dimensional array"),
        ({"X": np.ones((4, 2))}, "2 columns, the network has 3 inputs"),
        ({"X": np.full((4, 3), np.nan)}, "NaN"),
        ({"clamp": np.ones((3, 1))}, r"clamp has shape \(3, 1\): \(4, 1\) is needed"),
        ({"clamp": y[:, 0] * np.nan}, "NaN"),
        ({"clamp": bad}, r"clamp\[2, 0\] is 1.5, outside of the box \[0, 1\]"),
        ({"solver": "simplex"}, "there is no solver 'simplex': one of coordinate_descent, reference"),
        ({"tol": 0.0}, "tol must be"),
        ({"tol": np.nan}, "tol must be"),
        ({"max_passes": 0}, "max_passes must be"),
        ({"passes": 0}, "passes must be"),
        ({"passes": 5, "solver": "osqp"}, "'osqp' does not work in passes"),
        ({"threads": 0}, "threads must be"),
        ({"start": np.zeros((4, 2))}, r"z has shape \(4, 2\)"),
        ({"start": np.full((4, 3), np.inf)}, "infinite"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            infer(net, **({"X": X, "solver": SOLVER} | options))  # type: ignore[arg-type]
    np.testing.assert_array_equal(as_clamp(net, y[:, 0], 4), y)
    with pytest.raises(InvalidInputError, match="x holds 4 samples"):
        sample_qp(net, X)
    with pytest.raises(InvalidInputError, match="z has shape"):
        net.energy(X, np.ones((4, 4)))


@pytest.mark.parametrize(
    ("weight", "x", "message"),
    [
        (1e80, 1.0, r"weights \(up to 1e\+80\)"),
        (1e200, 1.0, "weights are so large"),
        (1e30, 1e300, "X, biases or weights"),
    ],
)
def test_numbers_without_a_usable_scale(weight: float, x: float, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        infer(LiftedNetwork([[[weight]]]), [[x]], solver=SOLVER)


def test_clamping_one_layer_leaves_nothing() -> None:
    net = LiftedNetwork([[[1.0]]])
    with pytest.raises(InvalidInputError, match="nothing is left to infer"):
        infer(net, [[1.0]], clamp=[[1.0]], solver=SOLVER)


@pytest.mark.parametrize("scale", [1e6, 1e8])
def test_an_ill_conditioned_program_says_so(scale: float) -> None:
    net = LiftedNetwork([[[1.0], [1.0]], [[scale, scale]]], beta=0.0)
    H = hessian(net)
    assert np.linalg.cond(H) > 1e12
    found = infer(net, [[1.0], [2.0]], solver=SOLVER, max_passes=20)
    assert list(found.status) == [Status.ILL_CONDITIONED] * 2
    assert "rescale" in found.status[0].advice
