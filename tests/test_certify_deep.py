"""Certificates of networks of any depth against rational arithmetic, multiprecision and each other."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact import Matrix, definite

from certnet.backends import cvxpy_
from certnet.certification import certify
from certnet.claims.certificate import Certificate, square_above
from certnet.claims.sealed import seal
from certnet.core.digits import above
from certnet.core.errors import CertificateError, FileFormatError, InvalidInputError, SolverUnavailableError
from certnet.core.outcome import Status
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.proofs.chain import ChainChecker
from certnet.proofs.deep import DeepChecker
from certnet.proofs.gradients import gradient_below
from certnet.proofs.proof import Checker
from certnet.proofs.storage import StorageChecker
from certnet.searches.chain import product_norms
from certnet.searches.deep_barrier import search_deep, solve_deep

HARD = Activation("hard_sigmoid")
LEAKY, BENT = Activation("leaky_relu", (0.01,)), Activation("leaky_relu", (-0.5,))
ACTIVATIONS: list[Any] = ["relu", LEAKY, BENT, HARD, (-1.0, 1.0), "identity"]


def network(sizes: Sequence[int], phi: Any = "relu", seed: int = 0, scale: float = 1.0) -> FeedForward:
    rng = np.random.default_rng(seed)
    Ws = [scale * rng.standard_normal((n, m)) / math.sqrt(m) for m, n in pairwise(sizes)]
    return FeedForward(Ws, [0.5 * rng.standard_normal(len(W)) for W in Ws], [phi] * (len(Ws) - 1))


def chain(*numbers: float, phi: Any = "identity") -> FeedForward:
    """One unit per layer, no biases."""
    return FeedForward([[[a]] for a in numbers], [[0.0]] * len(numbers), [phi] * (len(numbers) - 1))


def exact_matrix(net: FeedForward, multipliers: Sequence[np.ndarray], rho: Fraction) -> Matrix:
    """P(T, ρ) as the sum of quadratic forms, one unit at a time: nothing is shared with the blocks of the checker."""
    starts = np.cumsum([0, *net.widths[:-1]]).tolist()
    P = [[Fraction(0)] * starts[-1] for _ in range(starts[-1])]

    def add(p: dict[int, Fraction], q: dict[int, Fraction], weight: Fraction) -> None:
        for i, a in p.items():
            for j, b in q.items():
                P[i][j] += weight * a * b / 2
                P[j][i] += weight * a * b / 2

    for i in range(net.n_inputs):
        P[i][i] += rho
    for k, (W, t, phi) in enumerate(zip(net.weights, multipliers, net.activations)):
        low, high = map(Fraction, phi.slopes)
        for j, row in enumerate(W.tolist()):
            unit = starts[k + 1] + j
            p = {starts[k] + i: -low * Fraction(a) for i, a in enumerate(row)} | {unit: Fraction(1)}
            q = {starts[k] + i: -high * Fraction(a) for i, a in enumerate(row)} | {unit: Fraction(1)}
            add(p, q, 2 * Fraction(float(t[j])))  # 2 t (y − α z)(y − β z) ≤ 0
    for row in net.weights[-1].tolist():
        form = {starts[-2] + i: Fraction(a) for i, a in enumerate(row)}
        add(form, form, Fraction(-1))
    return P


def proved(net: FeedForward, multipliers: Sequence[np.ndarray], upper: float) -> bool:
    return definite(exact_matrix(net, multipliers, Fraction(upper) ** 2))


def edge_of(net: FeedForward, multipliers: Sequence[np.ndarray]) -> float:
    """The boundary of what the multipliers prove, by bisection in rationals."""
    high = 1.0
    while not proved(net, multipliers, high):
        high *= 4.0
        assert high < 1e9
    low = 0.0
    while high - low > 1e-11 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if proved(net, multipliers, middle) else (middle, high)
    return high


# ----------------------------------------------------------------------------------------------- the upper side


Made = Callable[[FeedForward, Any], Checker]


@pytest.fixture(params=[DeepChecker, StorageChecker], ids=["whole", "by layers"])
def made(request: pytest.FixtureRequest) -> Made:
    """Prepares multipliers: P as a whole, or layer by layer."""
    found: Made = request.param
    return found


@pytest.mark.parametrize("phi", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("sizes", [(2, 2, 2, 1), (1, 2, 1, 2, 1)])
def test_what_is_accepted_is_exactly_semidefinite_and_the_boundary_is_where_it_is(
    phi: Any, sizes: tuple[int, ...], made: Made
) -> None:
    if phi == "identity" and made is StorageChecker:
        pytest.skip("linear layers have no multipliers there")
    net = network(sizes, phi, seed=len(sizes), scale=0.8)
    rng = np.random.default_rng(1)
    found = solve_deep(net).multipliers
    # away from the optimum: all later layers more, so that 2 T_k still outweighs what follows it
    loose = [np.asarray(t) * 1.2 ** (len(found) - k) * (1 + 1e-2 * rng.random(len(t))) for k, t in enumerate(found)]
    on_the_edge = phi in ((-1.0, 1.0), "identity")  # there the solver's own T prove nothing at all
    for T in (loose,) if on_the_edge else (found, loose):
        edge = edge_of(net, T)
        checker = made(net, T)
        assert checker.holds(edge * (1.0 + 1e-9)) or T is found or phi == "identity"  # T ≫ ρ
        assert checker.holds(edge * (1.0 + 1e-7))
        assert not checker.holds(edge * (1.0 - 1e-6))
        for step in (-1e-9, -1e-12, 0.0, 1e-13, 1e-11, 1e-9):
            upper = edge * (1.0 + step)
            assert not checker.holds(upper) or proved(net, T, upper)


def test_random_multipliers_never_prove_what_is_false(made: Made) -> None:
    rng = np.random.default_rng(2)
    accepted = 0
    for trial in range(150):
        phi = ACTIVATIONS[trial % (len(ACTIVATIONS) - 1)]
        net = network((2, 2, 2, 1), phi, seed=trial, scale=10.0 ** rng.uniform(-1, 1))
        T = [10.0 ** rng.uniform(-2, 3) * np.exp(0.3 * rng.standard_normal(2)) for _ in range(2)]
        for upper in 10.0 ** rng.uniform(-2, 4, size=4):
            if made(net, T).holds(float(upper)):
                accepted += 1
                assert proved(net, T, float(upper))
    assert accepted > 10


@pytest.mark.parametrize("phi", ["relu", BENT, HARD], ids=str)
def test_certificates_altered_a_little_prove_nothing_false(phi: Any, made: Made) -> None:
    net = network((2, 2, 2, 1), phi, seed=4)
    found = [np.asarray(t) for t in certify(net).multipliers]
    edge = edge_of(net, found)
    rng, accepted = np.random.default_rng(5), 0
    for _ in range(300):
        size = 10.0 ** rng.uniform(-12, -1)
        T = [t * (1.0 + size * rng.standard_normal(len(t))) for t in found]
        upper = float(edge * (1.0 + size * rng.standard_normal()))
        if made(net, T).holds(upper):
            accepted += 1
            assert proved(net, T, upper)
    assert 0 < accepted < 300


def test_slopes_whose_product_no_double_holds_prove_nothing_false() -> None:
    net = chain(1e140, 1e74, phi=(-1e-170, 1e-170))  # L = 1e44
    assert not DeepChecker(net, [[1e150]]).holds(1.0)
    net = chain(2.0**900, 2.0**-500, phi=(0.0, 2.0**-300))  # L = 2^100, and the cross term underflows
    assert not DeepChecker(net, [[2.0**-900]]).holds(1.0)


def test_a_product_that_underflows_on_the_way_is_not_zero() -> None:
    net = chain(*[1e-85] * 4, *[1e85] * 4)  # L = 1
    norms = [[abs(float(W[0, 0])) * (1.0 + 1e-9)] for W in net.weights]
    assert not ChainChecker(net, norms, pairs=False).holds(1e-3)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e300])
@pytest.mark.parametrize("t", [0.5 + 1e-16, 1e-305, 1.0, 1e300])
def test_any_scale_is_a_verdict_and_never_a_warning(size: float, t: float, made: Made) -> None:
    net = chain(size, 1.0, phi="relu")
    for upper in (1e-160, 1.0, 1e150):
        assert not made(net, [[t]]).holds(upper) or upper >= size
        assert not ChainChecker(net, [[upper], [1.0 + 1e-9]], pairs=False).holds(upper) or upper >= size


@pytest.mark.parametrize(
    "T",
    [
        [[1.0, 1.0]],
        [[1.0, 1.0], [1.0]],
        [[1.0, 1.0], [1.0, 0.0]],
        [[1.0, 1.0], [1.0, -1.0]],
        [[1.0, math.nan], [1.0, 1.0]],
        [[1.0, math.inf], [1.0, 1.0]],
        [[[1.0, 1.0]], [1.0, 1.0]],
        [["a", "b"], [1.0, 1.0]],
        [],
    ],
)
def test_multipliers_that_are_none_are_refused(T: Any) -> None:
    net = network((2, 2, 2, 1))
    assert not DeepChecker(net, T).holds(1e6)
    assert DeepChecker(net, T).refusal


@pytest.mark.parametrize("upper", [math.nan, math.inf, 0.0, -1.0, "3", None, True, 10**400])
def test_bounds_that_are_none_are_refused(upper: Any) -> None:
    net = network((2, 2, 2, 1))
    assert not DeepChecker(net, certify(net).multipliers).holds(upper)
    assert not ChainChecker(net, product_norms(net), pairs=False).holds(upper)


@pytest.mark.parametrize("norms", [[], [[1.0]], [[math.nan]] * 3, [[-1.0]] * 3, [[math.inf]] * 3, [[1.0, 2.0]] * 3])
def test_norms_that_are_none_are_refused(norms: Any) -> None:
    assert not ChainChecker(network((2, 2, 2, 1)), norms, pairs=False).holds(1e6)


@pytest.mark.parametrize("seed", range(10))
def test_the_product_is_of_norms_that_are_proved(seed: int) -> None:
    net = network((3, 5, 2, 1), BENT, seed)
    norms = product_norms(net)
    true = math.prod(np.linalg.norm(W, 2) for W in net.weights)
    assert certify(net, method="product").upper == pytest.approx(true, rel=1e-9)
    for k in range(3):
        short = [s * (1.0 - 1e-9 * (i == k)) for i, s in enumerate(norms)]
        assert not ChainChecker(net, short, pairs=False).holds(1e6)


# -------------------------------------------------------------------------------------------- order and invariants


@pytest.mark.parametrize("sizes", [(3, 4, 3, 2), (2, 4, 3, 4, 1)])
@pytest.mark.parametrize("phi", ["relu", "tanh", BENT, "sigmoid", (-1.0, 1.0)], ids=str)
def test_better_methods_give_lower_bounds_and_all_bound_the_slopes(phi: Any, sizes: tuple[int, ...]) -> None:
    net = network(sizes, phi, seed=len(sizes))
    neuron, layer, product = (certify(net, method=m) for m in ("neuron", "layer", "product"))
    assert neuron.upper <= layer.upper * (1 + 1e-6)
    assert layer.upper <= product.upper * (1 + 1e-6)
    for cert in (neuron, layer, product):
        assert cert.lower <= cert.upper
        assert cert.check(net)
    if isinstance(phi, tuple):
        assert neuron.lower == 0.0
        return
    assert neuron.lower > 0.0
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 2000, sizes[0])) * 10.0 ** rng.uniform(-3, 1, (2000, 1))
    rise = np.linalg.norm(net.forward(x) - net.forward(y), axis=1)
    assert np.all(rise <= neuron.upper * np.linalg.norm(x - y, axis=1) + 1e-13)


@pytest.mark.filterwarnings("ignore::certnet.core.errors.NotConvergedWarning")  # the optimal T are infinite
def test_without_nonlinearity_the_bound_is_the_norm_of_the_product() -> None:
    net = network((3, 4, 3, 2), "identity")
    W = np.linalg.multi_dot(net.weights[::-1])
    cert = certify(net, method="neuron")
    assert cert.upper == pytest.approx(np.linalg.norm(W, 2), rel=1e-3)
    assert cert.lower == pytest.approx(np.linalg.norm(W, 2), rel=1e-9)


@pytest.mark.parametrize("method", ["neuron", "layer", "product"])
def test_tripling_the_last_layer_triples_the_bound(method: str) -> None:
    net = network((3, 4, 3, 2))
    tripled = FeedForward([*net.weights[:-1], 3.0 * net.weights[-1]], net.biases, net.activations)
    assert certify(tripled, method=method).upper == pytest.approx(3.0 * certify(net, method=method).upper, rel=1e-6)


# ----------------------------------------------------------------------------------------------- the lower side


def precise_norm(net: FeedForward, x: Sequence[float]) -> Any:
    """‖∂f/∂x‖₂ for one output, in fifty digits, with derivatives written from exp alone."""
    mp = pytest.importorskip("mpmath")

    def value_and_slope(phi: Activation, z: Any) -> tuple[Any, Any]:
        e = mp.exp(z)
        if phi.name == "tanh":
            v = (e - 1 / e) / (e + 1 / e)
            return v, 1 - v * v
        if phi.name == "sigmoid":
            return e / (1 + e), e / (1 + e) ** 2
        if phi.name == "softplus":
            return mp.log(1 + e), e / (1 + e)
        a = mp.mpf(phi.parameters[0])
        return (z, mp.mpf(1)) if z >= 0 else (a * (e - 1), a * e)

    with mp.workdps(50):
        point, J = mp.matrix(list(x)), mp.eye(len(x))
        for W, b, phi in zip(net.weights, net.biases, net.activations):
            z = mp.matrix(W.tolist()) * point + mp.matrix(b.tolist())
            both = [value_and_slope(phi, a) for a in z]
            point = mp.matrix([v for v, _ in both])
            J = mp.diag([s for _, s in both]) * mp.matrix(W.tolist()) * J
        return mp.norm(mp.matrix(net.weights[-1].tolist()) * J)


@pytest.mark.parametrize("phi", ["tanh", "sigmoid", "softplus", "elu", Activation("elu", (2.0,))], ids=str)
def test_gradients_are_below_those_in_fifty_digits(phi: Any) -> None:
    rng = np.random.default_rng(3)
    told = 0
    for seed in range(15):
        net = network((2, 3, 3, 1), phi, seed, scale=10.0 ** rng.uniform(-1, 1))
        x = rng.standard_normal(2) * 10.0 ** rng.uniform(-2, 1)
        value = gradient_below(net, x)
        assert value <= precise_norm(net, x.tolist())
        numpy = np.linalg.norm(net.gradients(x[None])[0], 2)
        if value > 1e-3:
            told += 1
            assert value == pytest.approx(numpy, rel=1e-9)
    assert told > 5


def test_gradients_are_zero_where_nothing_can_be_told() -> None:
    net = network((2, 3, 3, 1), "tanh")
    for x in ([math.nan, 0.0], [math.inf, 0.0], [1.0], [[1.0, 2.0]]):
        assert gradient_below(net, x) == 0.0
    assert gradient_below(network((2, 3, 1), (-1.0, 1.0)), [1.0, 2.0]) == 0.0
    for phi in ("relu", LEAKY, Activation("elu", (2.0,))):
        assert gradient_below(chain(1.0, 1.0, 1.0, phi=phi), [0.0]) == 0.0
        assert gradient_below(chain(1.0, 1.0, 1.0, phi=phi), [1.0]) == pytest.approx(1.0)
    for x in (-2.5, 2.5):
        assert gradient_below(chain(1.0, 1.0, phi=HARD), [x]) == 0.0


def test_a_kink_at_zero_between_large_numbers_is_not_told_by_rounding() -> None:
    # clip(0.2 z + 1) at z = −1e-20 rounds to 1: the slope there is 0.2, not 0, and only one unit would see it
    phi = Activation("hard_sigmoid", (0.2, 1.0))
    net = FeedForward([[[1.0], [1e10]], [[-1.0, 2e-10]]], [[0.0, 0.0], [0.0]], [phi])  # L = 0.2
    assert gradient_below(net, [-1e-20]) <= 0.2


def test_what_underflows_on_the_way_is_not_zero() -> None:
    # f(x) = x − x, the second through 1e-200 · 1e-200 · 1e200 · 1e200
    Ws = [[[1.0], [1e-200]], np.diag([1.0, 1e-200]), np.diag([1.0, 1e200]), [[1.0, -1e200]]]
    net = FeedForward(Ws, [np.zeros(len(W)) for W in Ws], "identity")
    assert gradient_below(net, [1.0]) <= 1e-9


# ------------------------------------------------------------------------------------------------ certificates

NET = network((2, 3, 3, 1), LEAKY)


@pytest.fixture(scope="module", params=["neuron", "layer", "product"])
def cert(request: pytest.FixtureRequest) -> Certificate:
    return certify(NET, method=request.param)


def test_files_give_back_every_bit(cert: Certificate, tmp_path: Path) -> None:
    back = Certificate.load(cert.save(tmp_path / "c.json"))
    assert back.check(NET)
    assert isinstance(back.multipliers, tuple)
    assert [t.tobytes() for t in back.multipliers] == [t.tobytes() for t in cert.multipliers]
    assert (back.kind, back.upper, back.slopes, back.shape) == (cert.kind, cert.upper, cert.slopes, cert.shape)
    assert back.gap == cert.gap
    assert repr(back) == repr(cert)


def test_alterations_are_refused(cert: Certificate) -> None:
    T = cert.multipliers
    other = {"neuron": "product", "layer": "product", "product": "neuron"}[cert.kind]
    for change in (
        {"upper": cert.upper * (1 - 1e-6)},
        {"upper": math.nan},
        {"multipliers": tuple(0.5 * t for t in T)},
        {"multipliers": (-T[0], *T[1:])},
        {"multipliers": (T[0] * math.nan, *T[1:])},
        {"multipliers": T[:-1]},
        {"multipliers": T[0]},
        {"multipliers": tuple(np.append(t, 1.0) for t in T)},
        {"kind": other},
        {"kind": "shallow"},
        {"kind": "unknown"},
        {"slopes": ((0.0, 1.0), (0.0, 1.0))},
        {"shape": (2, 3, 1)},
        {"lower": cert.lower * (1 + 1e-6)},
        {"witness": cert.witness * math.nan},
        {"digest": "0" * 64},
        {"units": "raw"},
    ):
        assert not dataclasses.replace(cert, **change).check(NET), change


def test_a_bound_lowered_with_its_square_in_the_file_is_refused(cert: Certificate, tmp_path: Path) -> None:
    path = cert.save(tmp_path / "c.json")
    data = json.loads(path.read_text())
    lowered = cert.upper * 0.999
    fitting = {
        "upper": lowered,
        "rho": square_above(lowered),
        "upper_decimal": above(lowered, 12),
        "upper_rational": str(Fraction(lowered)),
    }
    changed = data | fitting
    path.write_text(json.dumps(changed | {"seal": seal(changed)}))
    assert not Certificate.load(path).check(NET)
    path.write_text(json.dumps(changed))
    with pytest.raises(FileFormatError, match="seal"):
        Certificate.load(path)
    path.write_text(json.dumps(data | {"upper": lowered}))
    with pytest.raises(FileFormatError, match="altered"):
        Certificate.load(path)


def test_another_network_is_refused_even_under_its_own_digest(cert: Certificate) -> None:
    heavier = FeedForward([NET.weights[0], 1.5 * NET.weights[1], NET.weights[2]], NET.biases, NET.activations)
    bent = FeedForward(NET.weights, NET.biases, [LEAKY, Activation("leaky_relu", (0.02,))])
    for net in (heavier, bent):
        assert not cert.check(net)
        relabelled = dataclasses.replace(cert, digest=net.digest)
        assert not relabelled.check(net)
    swapped = dataclasses.replace(cert, digest=bent.digest, slopes=tuple(phi.slopes for phi in bent.activations))
    assert not swapped.check(bent) or cert.kind == "product" or proved(bent, cert.multipliers, cert.upper)


# --------------------------------------------------------------------------------------------------- arguments


def test_arguments_that_do_not_fit_are_refused() -> None:
    one = network((2, 3, 1), "sigmoid")
    with pytest.raises(InvalidInputError, match="method must be one of"):
        certify(NET, method="exact")
    with pytest.raises(InvalidInputError, match="one hidden layer"):
        certify(NET, method="shallow")
    with pytest.raises(InvalidInputError, match="takes ReLU"):
        certify(one, solver="CLARABEL")
    with pytest.raises(SolverUnavailableError, match="does not know"):
        certify(NET, solver="SDPT3")
    assert certify(one, method="neuron", solver="clarabel").check(one)


def test_a_solver_without_a_licence_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvxpy_.mosek_, "why_unusable", lambda: "MOSEK has no licence: use CLARABEL")
    with pytest.raises(SolverUnavailableError, match="CLARABEL"):
        certify(NET, solver="MOSEK")


def test_auto_takes_what_the_depth_asks_for() -> None:
    assert certify(network((2, 3, 1))).kind == "shallow"
    assert certify(NET).kind == "neuron"


def test_what_lipsdp_cannot_cope_with_gets_a_chain() -> None:
    tiny = FeedForward([1e-60 * W for W in NET.weights], NET.biases, NET.activations)
    cert = certify(tiny)
    assert cert.kind == "composition"
    assert 0.0 < cert.upper < 1e-150
    assert cert.check(tiny)
    with pytest.raises(CertificateError, match="rescale"):
        certify(tiny, method="neuron")


@pytest.mark.parametrize("method", ["auto", "neuron"])
def test_a_network_of_zeros_is_constant(method: str) -> None:
    zero = FeedForward([np.zeros((3, 2)), np.zeros((3, 3)), np.zeros((1, 3))], [np.zeros(3), np.zeros(3), [0.0]])
    cert = certify(zero, method=method)
    assert (cert.kind, cert.upper, cert.lower) == ("neuron", 0.0, 0.0)
    assert cert.check(zero)


@pytest.mark.parametrize("per", ["neuron", "layer"])
@pytest.mark.parametrize("activation", ["relu", "tanh", (0.1, 1.0), (-0.5, 1.0)])
def test_the_newton_method_agrees_with_a_generic_solver(activation: Any, per: str) -> None:
    for sizes in ((3, 5, 4, 2), (4, 6, 6, 6, 1)):
        net = network(sizes, activation)
        own, other = search_deep(net, per=per), solve_deep(net, per=per)
        assert own.status is Status.OPTIMAL
        assert own.gap <= 1e-6
        assert own.upper == pytest.approx(other.upper, rel=2e-6)


def test_other_models_are_told_how_to_become_networks() -> None:
    for model in (object(), None, np.zeros((2, 2))):
        with pytest.raises(InvalidInputError, match=r"ShallowNetwork or FeedForward.*from_sklearn"):
            certify(model)


@pytest.mark.parametrize("kind", ["no inputs", "no outputs", "neither", "nearly", "twice"])
def test_units_that_do_nothing_do_not_loosen_the_bound(kind: str) -> None:
    net = network((4, 8, 8, 2), seed=3)
    W = [w.copy() for w in net.weights]
    if kind in ("no inputs", "neither"):
        W[0][2] = 0.0
        W[1][5] = 0.0
    if kind in ("no outputs", "neither"):
        W[1][:, 2] = 0.0
    if kind == "nearly":
        W[0][2] *= 1e-12
        W[2][:, 5] *= 1e-12
    if kind == "twice":
        W[0][2], W[1][:, 2] = W[0][1], W[1][:, 1]
    net = FeedForward(W, net.biases, net.activations)
    cert = certify(net)  # a NotConvergedWarning would be an error
    assert cert.gap <= 2e-6
    assert cert.upper == pytest.approx(solve_deep(net).upper, rel=1e-5)
