"""Proofs layer by layer: against exact arithmetic, a generic solver, and differences; skips, images, both norms."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from exact import Matrix, definite

from certnet import Certificate, FeedForward, certify, certify_outputs
from certnet.core.errors import InvalidInputError
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer, LinearOperator, read_only
from certnet.networks.operators import Blocks, Convolution, Gather, Identity
from certnet.proofs.storage import StorageChecker, n_multipliers
from certnet.searches.vectors import search_vectors

Array = Any
RELU, LINEAR = Activation("relu"), Activation("identity")
BENT = Activation("user", (-0.5, 1.0))
PHIS = [RELU, Activation("leaky_relu", (0.1,)), BENT, Activation("user", (-1.0, 0.0))]


def dense(rng: np.random.Generator, m: int, n: int, scale: float = 1.0) -> Dense:
    return Dense(read_only(scale * rng.standard_normal((m, n)) * np.sqrt(2.0 / n)))


def residual(
    n: int, m: int, *, blocks: int = 2, d: int = 2, out: int = 2, phi: Activation = RELU, seed: int = 0
) -> FeedForward:
    """A first layer, blocks ``y + A φ(B y + b)``, and a last layer."""
    rng = np.random.default_rng(seed)
    layers = [Layer(dense(rng, n, d), rng.standard_normal(n), phi)]
    for _ in range(blocks):
        layers.append(Layer(Blocks(((dense(rng, m, n),), (Identity(n),))), 0.3 * rng.standard_normal(m + n), phi, n))
        layers.append(Layer(Blocks(((dense(rng, n, m, 0.5), Identity(n)),)), np.zeros(n), LINEAR))
    return FeedForward.chain([*layers, Layer(dense(rng, out, n), np.zeros(out), LINEAR)])


def images(seed: int = 0, phi: Activation = RELU) -> FeedForward:
    """Two convolutions, the second with a stride and in groups, and two dense layers."""
    rng = np.random.default_rng(seed)
    first = Convolution(rng.standard_normal((2, 1, 3, 3)), (1, 4, 4), padding=((1, 1), (1, 1)))
    second = Convolution(rng.standard_normal((4, 1, 2, 2)), (2, 4, 4), stride=(2, 2), groups=2)
    layers = [Layer(op, 0.1 * rng.standard_normal(op.n_outputs), phi) for op in (first, second)]
    layers.append(Layer(dense(rng, 5, second.n_outputs), 0.1 * rng.standard_normal(5), phi))
    return FeedForward.chain([*layers, Layer(dense(rng, 3, 5), np.zeros(3), LINEAR)])


# ------------------------------------------------------------------------------------------------- exact arithmetic


def exact_form(net: FeedForward, T: Sequence[Array], diagonal: Sequence[Fraction]) -> Matrix:
    """``Σ ρ_i y_i² + Σ 2 T_j (r_j² − w_j² p_j²) − ‖V y_K‖²`` in y and all r_j = z_j − c_j p_j, in rationals."""
    order = net.n_inputs + sum(map(len, T))
    M = [[Fraction(0)] * order for _ in range(order)]

    def add(row: dict[int, Fraction], weight: Fraction) -> None:
        for i, a in row.items():
            for j, b in row.items():
                M[i][j] += weight * a * b

    for i, number in enumerate(diagonal):
        add({i: Fraction(1)}, number)
    state = [{i: Fraction(1)} for i in range(net.n_inputs)]
    free = net.n_inputs
    for layer, t in zip(net.layers, [*T, []]):
        rows = []
        for line in layer.operator.matrix.tolist():
            row: dict[int, Fraction] = {}
            for a, below in zip(line, state):
                for i, b in below.items():
                    row[i] = row.get(i, Fraction(0)) + Fraction(a) * b
            rows.append(row)
        if layer is net.layers[-1]:
            for row in rows:
                add(row, Fraction(-1))
            break
        low, high = (list(map(Fraction, slopes.tolist())) for slopes in layer.unit_slopes)
        state = []
        for j, row in enumerate(rows):
            c, w = (low[j] + high[j]) / 2, (high[j] - low[j]) / 2
            z = {i: c * a for i, a in row.items()}
            if j < len(t):
                add(row, -2 * Fraction(float(t[j])) * w * w)
                add({free: Fraction(1)}, 2 * Fraction(float(t[j])))
                z[free] = Fraction(1)
                free += 1
            state.append(z)
    return M


def proved(net: FeedForward, T: Sequence[Array], upper: float, weights: Array | None = None) -> bool:
    rho = Fraction(upper) ** 2
    diagonal = [rho] * net.n_inputs
    if weights is not None:
        shares = [Fraction(float(w)) + Fraction(float(max(weights))) / 2**60 for w in weights]
        diagonal = [rho * share / sum(shares) for share in shares]
    return definite(exact_form(net, T, diagonal))


@pytest.mark.parametrize("phi", PHIS, ids=str)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_what_is_accepted_is_exactly_semidefinite(phi: Activation, norm: str) -> None:
    net = residual(2, 3, blocks=1, phi=phi)
    found = search_vectors(net, norm=norm)
    rng, verdicts = np.random.default_rng(1), []
    for _ in range(120):
        size = 10.0 ** rng.uniform(-13, -1)
        T = [t * np.exp(size * rng.standard_normal(t.shape)) for t in found.multipliers]
        mu = None if found.input_weights is None else found.input_weights * np.exp(size * rng.standard_normal(2))
        upper = float(found.upper * np.exp(size * rng.standard_normal()))
        accepted = bool(StorageChecker(net, T, mu).holds(upper))
        verdicts.append(accepted)
        # the weights of inputs are the checker's own up to its least share: a bound a little larger covers that
        assert not accepted or proved(net, T, upper if mu is None else upper * (1.0 + 1e-14), mu)
    assert any(verdicts)
    assert not all(verdicts)


@pytest.mark.parametrize("phi", PHIS, ids=str)
def test_the_edge_is_met_to_rounding(phi: Activation) -> None:
    net = residual(2, 2, blocks=2, d=1, out=1, phi=phi, seed=3)
    T = [t * 1.3 ** (net.depth - k) for k, t in enumerate(search_vectors(net).multipliers)]
    low, high = 0.0, 1.0
    while not proved(net, T, high):
        high *= 2.0
    while high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if proved(net, T, middle) else (middle, high)
    checker = StorageChecker(net, T)
    assert checker.holds(high * (1.0 + 1e-9))
    assert not checker.holds(high * (1.0 - 1e-9))


@pytest.mark.parametrize("phi", PHIS[:3], ids=str)
def test_more_inputs_than_units_and_dense_chains(phi: Activation) -> None:
    rng = np.random.default_rng(5)
    for sizes in ((4, 2, 2, 1), (2, 3, 2, 2)):
        weights = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(sizes)]
        net = FeedForward(weights, [np.zeros(n) for n in sizes[1:]], [phi] * 2)
        found, verdicts = search_vectors(net), []
        for _ in range(80):
            size = 10.0 ** rng.uniform(-13, -1)
            T = [t * np.exp(size * rng.standard_normal(t.shape)) for t in found.multipliers]
            upper = float(found.upper * np.exp(size * rng.standard_normal()))
            accepted = bool(StorageChecker(net, T).holds(upper))
            verdicts.append(accepted)
            assert not accepted or proved(net, T, upper)
        assert any(verdicts)
        assert not all(verdicts)


@pytest.mark.parametrize("scale", [1e-140, 1e-12, 1e12, 1e140])
def test_units_of_any_scale_prove_the_same(scale: float) -> None:
    net = residual(3, 4, seed=6)
    found = search_vectors(net)
    factor = 2.0 ** round(np.log2(scale))
    first, *rest = net.layers
    larger = Layer(Dense(read_only(factor * first.operator.matrix)), factor * first.bias, first.activation)
    scaled = FeedForward.chain([larger, *rest])
    T = list(found.multipliers)
    checker = StorageChecker(scaled, T)
    # the first layer's slopes are those of ReLU: its own multipliers scale with nothing, ρ with the square
    least = checker.smallest(found.upper * factor)
    assert least == pytest.approx(found.upper * factor, rel=1e-9)
    assert search_vectors(scaled).upper == pytest.approx(found.upper * factor, rel=1e-6)


@pytest.mark.parametrize(
    ("T", "words"),
    [
        ([], "multipliers for 0 layers"),
        ([[1.0] * 3, [1.0] * 4, [1.0]], "units that bend"),
        ([[1.0] * 3, [1.0, 1.0, 1.0, -1.0], []], "not positive"),
        ([[1.0] * 3, [1.0, 1.0, np.nan, 1.0], []], "not positive"),
        ([["a"], [1.0] * 4, []], "not numbers"),
        ([[1.0] * 3, [1e-9] * 4, []], "do not bound"),
        ([[1e300] * 3, [1e300] * 4, []], "too large"),
    ],
)
def test_numbers_that_prove_nothing_say_why(T: Any, words: str) -> None:
    net = residual(3, 4, blocks=1)
    checker = StorageChecker(net, T)
    assert checker.refusal is not None
    assert words in checker.refusal
    assert not checker.holds(1e9)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0], [1.0, -1.0], [1.0, np.nan], ["a", 1.0]])
def test_weights_of_inputs_that_are_none(weights: Any) -> None:
    net = residual(3, 4, blocks=1)
    assert StorageChecker(net, search_vectors(net).multipliers, weights).refusal


@pytest.mark.parametrize("upper", [np.nan, np.inf, 0.0, -1.0, "3", None, True, 10**400])
def test_bounds_that_are_none(upper: Any) -> None:
    net = residual(3, 4, blocks=1)
    assert not StorageChecker(net, search_vectors(net).multipliers).holds(upper)


# ------------------------------------------------------------------------------------------------- a generic solver


def generic(net: FeedForward, norm: str) -> float:
    """The least ρ of the LMI with all multipliers and input weights free, by Clarabel."""
    n_free = [n_multipliers(layer) for layer in net.layers[:-1]]
    order = net.n_inputs + sum(n_free)
    state, starts = np.eye(net.n_inputs, order), np.cumsum([net.n_inputs, *n_free])
    terms, constant = [], np.zeros((order, order))
    t = cp.Variable(sum(n_free), nonneg=True)
    for k, layer in enumerate(net.layers):
        P = layer.operator.matrix @ state
        if k == net.depth:
            constant = -P.T @ P
            break
        low, high = layer.unit_slopes
        c, w = 0.5 * (low + high), 0.5 * (high - low)
        state = c[:, None] * P
        for j in range(n_free[k]):
            i = starts[k] + j
            r = np.eye(order)[i]
            state[j] += r
            terms.append(2.0 * (np.outer(r, r) - w[j] ** 2 * np.outer(P[j], P[j])))
    mu = cp.Variable(net.n_inputs, nonneg=True)
    corner = np.eye(net.n_inputs, order)
    of_units = cp.reshape(np.stack(terms, axis=-1).reshape(-1, len(terms)) @ t, (order, order), order="C")
    M = constant + of_units + corner.T @ cp.diag(mu) @ corner
    constraints = [M >> 0]
    if norm == "l2":
        constraints.append(mu == mu[0])
    problem = cp.Problem(cp.Minimize(mu[0] if norm == "l2" else cp.sum(mu)), constraints)
    problem.solve(solver=cp.CLARABEL)
    return float(np.sqrt(problem.value))


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(
    "net",
    [
        residual(3, 4),
        residual(3, 3, phi=Activation("tanh"), seed=1),
        residual(2, 4, blocks=3, phi=BENT, seed=2),
        residual(3, 3, blocks=1, phi=Activation("user", (0.2, 0.9)), seed=8),
        images(),
    ],
    ids=["relu", "tanh", "bent", "steep", "images"],
)
def test_the_bound_is_that_of_the_generic_solver(net: FeedForward, norm: str) -> None:
    cert = certify(net, norm=norm)
    assert cert.kind == "neuron"
    assert cert.gap <= 2e-6
    assert cert.check(net)
    assert cert.upper == pytest.approx(generic(net, norm), rel=2e-5)


@pytest.mark.parametrize("sizes", [(4, 6, 5, 1), (3, 5, 4, 4, 2), (6, 3, 3, 2)])
@pytest.mark.parametrize("phi", ["relu", "tanh", (-0.5, 1.0)], ids=str)
def test_the_maximum_norm_at_depth_is_that_of_the_generic_solver(sizes: tuple[int, ...], phi: Any) -> None:
    rng = np.random.default_rng(len(sizes))
    weights = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(sizes)]
    net = FeedForward(weights, [np.zeros(n) for n in sizes[1:]], [phi] * (len(sizes) - 2))
    cert = certify(net, norm="linf")
    assert cert.upper == pytest.approx(generic(net, "linf"), rel=2e-5)
    assert cert.check(net)


# ------------------------------------------------------------------------------------------------------- invariants


def steepest(net: FeedForward, norm: str, n: int = 4000) -> float:
    """The largest difference quotient of random pairs of points."""
    rng = np.random.default_rng(0)
    X = 3.0 * rng.standard_normal((n, net.n_inputs))
    Y = X + 10.0 ** rng.uniform(-3, 1, (n, 1)) * rng.standard_normal(X.shape)
    far = np.linalg.norm(X - Y, 2 if norm == "l2" else np.inf, axis=1)
    return float(np.max(np.linalg.norm(net.forward(X) - net.forward(Y), axis=1) / far))


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("net", [residual(4, 6, blocks=3, seed=9), images(seed=2), residual(3, 5, phi=PHIS[1])])
def test_differences_lie_below_and_witnesses_are_slopes(net: FeedForward, norm: str) -> None:
    cert = certify(net, norm=norm)
    assert steepest(net, norm) <= cert.upper
    assert cert.lower <= cert.upper
    if norm == "l2":
        assert cert.lower >= 0.3 * cert.upper
        J = net.gradients(cert.witness[None])[0]
        assert cert.lower == pytest.approx(float(np.linalg.norm(J, 2)), rel=1e-6)


def test_a_linear_network_of_operators_has_the_norm_of_its_matrix() -> None:
    rng = np.random.default_rng(4)
    first, second = dense(rng, 5, 4), dense(rng, 3, 5)
    layers = [Layer(Gather(np.array([2, 0, 1, 3]), 4), np.zeros(4), LINEAR), Layer(first, np.zeros(5), LINEAR)]
    net = FeedForward.chain([*layers, Layer(second, np.zeros(3), LINEAR)])
    norm = float(np.linalg.norm(second.matrix @ first.matrix, 2))
    cert = certify(net)
    assert cert.upper == pytest.approx(norm, rel=1e-9)
    assert cert.check(net)


def test_dead_units_and_parts_that_do_not_meet() -> None:
    rng = np.random.default_rng(11)
    one, other = residual(3, 4, seed=12), residual(2, 3, seed=13)
    both = []
    for a, b in zip(one.layers[:1], other.layers[:1]):
        pair: LinearOperator = Blocks(((a.operator, None), (None, b.operator)))
        both.append(Layer(pair, np.concatenate([a.bias, b.bias]), RELU))
    last = Blocks(((dense(rng, 2, 3), None), (None, dense(rng, 1, 2))))
    net = FeedForward.chain([*both, Layer(last, np.zeros(3), LINEAR)])
    parts = [
        FeedForward.chain([first, Layer(row[k], np.zeros(row[k].n_outputs), LINEAR)])
        for k, (first, row) in enumerate(zip((one.layers[0], other.layers[0]), last.grid))
    ]
    uppers = [certify(part).upper for part in parts]
    cert = certify(net)
    assert cert.upper == pytest.approx(max(uppers), rel=1e-6)
    assert cert.check(net)
    together = certify(net, norm="linf")
    apart = [certify(part, norm="linf").upper for part in parts]
    assert together.upper == pytest.approx(float(np.linalg.norm(apart)), rel=1e-6)
    assert together.check(net)


def test_outputs_of_a_residual_network_one_by_one() -> None:
    net = residual(6, 8, out=4, seed=14)
    for outputs, cert in certify_outputs(net, differences=True).items():
        alone = certify(net, output=outputs)  # type: ignore[arg-type]
        assert cert.upper == pytest.approx(alone.upper, rel=2e-6)
        assert cert.check(net)


def test_a_certificate_of_images_comes_back_from_its_file(tmp_path: Any) -> None:
    net = images(seed=3)
    net.save(tmp_path / "net.npz")
    cert = certify(net)
    cert.save(tmp_path / "net.cert")
    back, again = Certificate.load(tmp_path / "net.cert"), FeedForward.load(tmp_path / "net.npz")
    assert back.check(again)
    assert not back.check(images(seed=4))


@pytest.mark.parametrize("method", ["shallow", "layer", "composition", "product"])
def test_other_methods_refuse_skips(method: str) -> None:
    with pytest.raises(InvalidInputError, match=r"skips|one hidden layer"):
        certify(residual(3, 4), method=method)


def test_other_proofs_do_not_speak_of_carried_units() -> None:
    """A shallow or chain proof of a network that carries units would be one of another network."""
    rng = np.random.default_rng(15)
    first = Layer(Blocks(((dense(rng, 3, 2),), (Identity(2),))), np.zeros(5), RELU, 2)
    net = FeedForward.chain([first, Layer(dense(rng, 1, 5), np.zeros(1), LINEAR)])
    cert = certify(net)
    assert cert.check(net)
    for kind, numbers in (("shallow", np.full(5, 1.0)), ("product", ([1e6], [1e6])), ("tree", (["bound", [1.0] * 5],))):
        assert not dataclasses.replace(cert, kind=kind, multipliers=numbers, upper=1e9).check(net)
