"""The checker and the certificate against exact rational arithmetic: nothing false is ever accepted."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact import Matrix, definite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certnet.certification import Certificate, certify, verify_bound
from certnet.claims import sealed
from certnet.claims.certificate import square_above
from certnet.claims.families import FEED_FORWARD
from certnet.core.errors import FileFormatError, NotConvergedWarning, OutputError
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.gradients import gradient_norm_below
from certnet.proofs.shallow import BoundChecker, _assemble, _dominates

# --------------------------------------------------------------------------- the second implementation, in rationals


def root_above(square: Fraction) -> Fraction:
    """At least the square root, by less than one part in 2^150."""
    if square == 0:
        return Fraction(0)
    product = square.numerator * square.denominator
    shift = max(0, 200 - product.bit_length() // 2)
    return Fraction(math.isqrt(product << (2 * shift)) + 1, square.denominator << shift)


def rational(array: np.ndarray) -> Matrix:
    return [[Fraction(float(a)) for a in row] for row in np.atleast_2d(array)]


def exact_half(net: ShallowNetwork, t: np.ndarray) -> tuple[Matrix, Fraction]:
    """½ M(t) exactly, with η_j = 1/t_j, and (from above) the charge of the units with multiplier 0."""
    W, V, n = rational(net.W), rational(net.V.T), net.n_inputs + net.n_outputs
    half = [[Fraction(0)] * n for _ in range(n)]
    charge = Fraction(0)
    for w, v, tau in zip(W, V, map(Fraction, t.tolist())):
        if tau == 0:
            charge += root_above(sum(a * a for a in w) * sum(a * a for a in v))
            continue
        scaled = [tau * a for a in w] + v  # z_j z_jᵀ without a square root
        other = w + [a / tau for a in v]
        for i in range(n):
            for j in range(n):
                half[i][j] += scaled[i] * other[j] / 2 if (i < net.n_inputs) == (j < net.n_inputs) else 0
        for i, a in enumerate(w):
            for j, b in enumerate(v):
                half[i][net.n_inputs + j] += a * b / 2
                half[net.n_inputs + j][i] += a * b / 2
    return half, charge


def exactly_proved(net: ShallowNetwork, t: np.ndarray, upper: float) -> bool:
    half, charge = exact_half(net, t)
    left = Fraction(upper) - charge
    return definite([[(left if i == j else 0) - a for j, a in enumerate(row)] for i, row in enumerate(half)])


def boundary(net: ShallowNetwork, t: np.ndarray) -> float:
    """The smallest provable bound to about 15 digits: eigenvalue of the exact matrix, brought to order one."""
    half, charge = exact_half(net, t)
    trace = sum(half[i][i] for i in range(len(half)))
    if trace == 0:
        value = charge
    else:
        scale = Fraction(2) ** (trace.numerator.bit_length() - trace.denominator.bit_length())
        top = np.linalg.eigvalsh([[float(a / scale) for a in row] for row in half])[-1]
        value = Fraction(float(top)) * scale + charge
    try:
        return float(value)
    except OverflowError:
        return math.inf


def exact_gradient(net: ShallowNetwork, x: np.ndarray) -> Matrix | None:
    """The Jacobian (m, d) at x; None where a unit that matters has a kink."""
    W, V, b, point = rational(net.W), rational(net.V.T), rational(net.b)[0], rational(x)[0]
    J = [[Fraction(0)] * net.n_inputs for _ in range(net.n_outputs)]
    for w, v, bias in zip(W, V, b):
        if not any(w) or not any(v):
            continue
        z = sum((a * p for a, p in zip(w, point)), bias)
        if z == 0:
            return None
        if z > 0:
            J = [[J[i][k] + v[i] * w[k] for k in range(net.n_inputs)] for i in range(net.n_outputs)]
    return J


def norm_at_least(J: Matrix, value: float) -> bool:
    """Is ``‖J‖₂ ≥ value``, exactly?"""
    square = Fraction(value) ** 2
    gram = [[sum(a * b for a, b in zip(p, q)) for q in J] for p in J]
    return value == 0.0 or not definite(
        [[(square if i == j else 0) - a for j, a in enumerate(row)] for i, row in enumerate(gram)], strictly=True
    )


# ------------------------------------------------------------------------------------------------- wild networks


def numbers(exponents: st.SearchStrategy[int]) -> st.SearchStrategy[float]:
    ordinary = st.builds(math.ldexp, st.floats(-2.0, 2.0, width=32).filter(lambda a: abs(a) > 2.0**-20), exponents)
    return st.one_of(ordinary, ordinary, st.sampled_from([0.0, -0.0, 1.0, 3.0, 5e-324, -(2.0**-1070), 1e-160]))


@st.composite
def wild_networks(draw: st.DrawFn, widest: int = 1000) -> ShallowNetwork:
    h, d, m = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    spread = draw(st.sampled_from([2, 40, 300, widest]))
    near = st.integers(-3, 3)
    rows = []
    for _ in range(h):
        centre = draw(st.integers(-spread, spread))
        other = draw(st.sampled_from([-centre, 0, draw(st.integers(-spread, spread))]))
        w = [draw(numbers(near.map(lambda k, c=centre: k + c))) for _ in range(d)]
        v = [draw(numbers(near.map(lambda k, c=other: k + c))) for _ in range(m)]
        rows.append((w, draw(numbers(near)), v))
    if draw(st.booleans()) and h > 1:
        rows[-1] = rows[0]  # a unit twice
    W, b, V = [r[0] for r in rows], [r[1] for r in rows], np.array([r[2] for r in rows]).T
    return ShallowNetwork(W, b, V, np.zeros(m))


@st.composite
def multipliers_for(draw: st.DrawFn, net: ShallowNetwork) -> np.ndarray:
    """Balanced ones, ‖V_:j‖/‖w_j‖ to a power of two or so, or wild ones, or 0."""
    t = []
    for w, v in zip(net.W, net.V.T):
        size_w, size_v = math.hypot(*w), math.hypot(*v)
        kind = draw(st.sampled_from(["balanced", "balanced", "balanced", "wild", "zero"]))
        ratio = size_v / size_w if size_w > 0.0 else 1.0
        if kind == "zero" or not 0.0 < ratio < math.inf:
            t.append(draw(st.sampled_from([0.0, -0.0])))
        elif kind == "wild":
            t.append(draw(st.floats(5e-324, 1e308)))
        else:
            t.append(ratio * draw(st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])) * draw(st.floats(0.5, 1.0)))
    return np.array([a if math.isfinite(a) else 0.0 for a in t])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_whatever_is_accepted_is_exactly_true(data: st.DataObject) -> None:
    net = data.draw(wild_networks())
    t = data.draw(multipliers_for(net))
    edge = boundary(net, t)
    checker = BoundChecker(net, t)
    for step in (-0.5, -1e-3, -1e-9, -1e-14, -1e-15, 0.0, 1e-15, 1e-14, 1e-12, data.draw(st.floats(-1e-13, 1e-13))):
        upper = min(edge * (1.0 + step), 1.7e308)
        if checker.holds(upper):
            assert exactly_proved(net, t, upper), (net.W, net.V, t, upper)
    if edge > 1e-300:  # below, one part in 1e9 is lost in subnormal numbers
        assert not checker.holds(min(edge * (1.0 - 1e-9), 1.7e308)) or edge == math.inf


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_true_bounds_of_ordinary_networks_are_accepted_and_false_ones_refused(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    h, d, m = (data.draw(st.integers(1, 5)) for _ in range(3))
    net = ShallowNetwork(
        rng.standard_normal((h, d)), np.zeros(h), rng.standard_normal((m, h)) * 10.0 ** rng.integers(-3, 4), np.zeros(m)
    )
    t = np.linalg.norm(net.V, axis=0) / np.linalg.norm(net.W, axis=1) * np.exp(rng.standard_normal(h))
    t[rng.random(h) < 0.2] = 0.0
    edge = boundary(net, t)
    assert verify_bound(net, t, edge * (1.0 + 1e-9))
    assert not verify_bound(net, t, edge * (1.0 - 1e-9))
    assert exactly_proved(net, t, edge * (1.0 + 1e-13))
    assert not exactly_proved(net, t, edge * (1.0 - 1e-13))


def test_the_exact_checker_tells_right_from_wrong() -> None:
    one, half = Fraction(1), Fraction(1, 2)
    assert definite([[one, one], [one, one]])
    assert not definite([[one, one], [one, one]], strictly=True)
    assert not definite([[Fraction(0), half], [half, one]])
    assert definite([[Fraction(0), Fraction(0)], [Fraction(0), one]])
    assert root_above(Fraction(2)) ** 2 > 2 > (root_above(Fraction(2)) * (1 - Fraction(1, 2**150))) ** 2
    one_unit = ShallowNetwork([[3.0]], [0.0], [2.0], 0.0)
    assert exactly_proved(one_unit, np.array([2 / 3 + 1e-17]), math.nextafter(6.0, 7.0))
    assert not exactly_proved(one_unit, np.array([2 / 3]), math.nextafter(6.0, 0.0))


# ------------------------------------------------------------------------------------------------ single cases


def network(seed: int = 0, h: int = 4, d: int = 2, m: int = 1) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(
        rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal((m, h)), rng.standard_normal(m)
    )


def test_a_charge_of_subnormal_rows_is_not_understated() -> None:
    # ‖w‖ = √2 · 2^-1074 rounds down to 2^-1074 if it is formed before it meets the huge output weight
    net = ShallowNetwork([[5e-324, 5e-324]], [0.0], [1e308], 0.0)
    true = math.sqrt(2.0) * (5e-324 * 1e308)
    assert not verify_bound(net, [0.0], 0.75 * true)
    assert verify_bound(net, [0.0], 1.0000001 * true)


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-100, 1.0, 1e100, 1e200, 1e300])
def test_units_may_be_in_any_scale(size: float) -> None:
    inner, outer = network(1).W * 0.25, network(1).V * 0.25
    with np.errstate(all="ignore"):
        net = ShallowNetwork(inner * size, np.zeros(4), outer / max(size, 1e-300), 0.0)
        t = np.abs(net.V[0]) / np.linalg.norm(net.W, axis=1)
    t = np.where(np.isfinite(t), t, 0.0)
    edge = boundary(net, t)
    assert verify_bound(net, t, edge * (1.0 + 1e-9))
    assert not verify_bound(net, t, edge * (1.0 - 1e-9))


@pytest.mark.parametrize("t", [np.ones(4), np.zeros(4), np.array([1.0, 0.0, 2.0, 0.0])])
def test_larger_bounds_hold_too_up_to_the_largest_double(t: np.ndarray) -> None:
    net = network()
    smallest = BoundChecker(net, t).smallest(boundary(net, t))
    assert smallest is not None
    for upper in [smallest, 2 * smallest, 1e10, 1e100, 1e150, 1e160, 1e300, 1.7e308]:
        assert verify_bound(net, t, upper), upper


@pytest.mark.parametrize(
    "upper",
    [math.nan, math.inf, -math.inf, -1.0, -5e-324, "3", None, 10**400, -(10**5000), True, 1 + 0j, [3.0]],
    ids=lambda upper: f"{type(upper).__name__}" if not isinstance(upper, float) else None,
)
@pytest.mark.parametrize("t", [1.0, 0.0])
def test_bounds_that_are_not_numbers_are_refused_not_raised(upper: Any, t: float) -> None:
    tiny = ShallowNetwork([[1e-3]], [0.0], [1e-3], 0.0)
    verdict = verify_bound(tiny, [t], upper)
    assert not verdict
    assert "finite non-negative number" in verdict.reason


def test_integers_and_numpy_floats_are_bounds() -> None:
    net = network()
    assert verify_bound(net, np.ones(4), 100)
    assert verify_bound(net, np.ones(4), np.float64(100.0))
    big = ShallowNetwork([[2.0**53 + 4]], [0.0], [1.0], 0.0)
    assert not verify_bound(big, [2.0**-53], 2**53 + 3)  # as a double this is 2^53 + 4


@pytest.mark.parametrize(
    ("t", "reason"),
    [
        ([1.0, 1.0, 1.0], "hidden units"),
        ([[1.0, 1.0, 1.0, 1.0]], "hidden units"),
        (1.0, "hidden units"),
        ([1.0, math.nan, 1.0, 1.0], "multiplier 1 is NaN"),
        ([1.0, 1.0, math.inf, 1.0], "multiplier 2 is NaN or infinite"),
        ([1.0, 1.0, 1.0, -1e-300], "multiplier 3 is negative"),
        (["a", "b", "c", "d"], "not numbers"),
        ([1.0, [2.0], 3.0, 4.0], "not numbers"),
        (None, "hidden units"),
        ([10**400] * 4, "not numbers"),
        ([1.0, 1e-200, 1.0, 1.0], "multiplier 1 is out of all proportion"),
        ([1.0, 1.0, 1e200, 1.0], "multiplier 2 is out of all proportion"),
    ],
)
def test_bad_multipliers_are_refused_not_raised(t: Any, reason: str) -> None:
    checker = BoundChecker(network(), t)
    assert checker.smallest(1.0) is None
    for upper in (1.0, 1e300):
        verdict = checker.holds(upper)
        assert not verdict
        assert reason in verdict.reason


@pytest.mark.parametrize(
    "net",
    [
        ShallowNetwork(np.zeros((3, 2)), np.ones(3), np.zeros(3), 1.0),
        ShallowNetwork(np.ones((3, 2)), np.ones(3), np.zeros(3), 1.0),
        ShallowNetwork(np.zeros((3, 2)), np.ones(3), np.ones((2, 3)), [1.0, 2.0]),
    ],
    ids=["all zero", "zero output weights", "zero hidden weights"],
)
def test_a_constant_network_has_bound_zero(net: ShallowNetwork) -> None:
    assert verify_bound(net, np.zeros(3), 0.0)
    assert verify_bound(net, np.zeros(3), -0.0)
    assert BoundChecker(net, np.zeros(3)).smallest(0.0) == 0.0
    found = certify(net)
    assert found.upper == found.lower == found.rho == found.gap == 0.0
    assert found.check(net)


def test_the_error_bound_of_the_assembled_matrix_holds_and_is_charged() -> None:
    rng = np.random.default_rng(0)
    for h in (1, 7, 600):
        W, V, t = rng.standard_normal((h, 2)), rng.standard_normal((1, h)), np.exp(rng.standard_normal(h))
        computed, error = _assemble(W, V, t, np.ones(h), np.ones(h))
        exact, _ = exact_half(ShallowNetwork(W, np.zeros(h), V, 0.0), t)
        wrong = [[float(Fraction(computed[i, j]) - exact[i][j]) for j in range(3)] for i in range(3)]
        assert np.linalg.norm(wrong, 2) <= error <= 1e-13 * len(exact) * np.trace(computed)
    half = np.diag([0.5, 0.25])
    assert _dominates(1.0, half, 0.35)  # the error is charged, and little more than the error
    assert not _dominates(1.0, half, 0.51)
    assert not _dominates(0.5, half, 0.0)  # true, but not by a strict margin


def test_a_wrong_factor_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    good = certify(net)
    assert verify_bound(net, good.multipliers, good.upper)
    factor = np.linalg.cholesky
    for spoilt in (lambda A: factor(A) * (1.0 + 1e-9), lambda A: np.eye(len(A)), lambda A: np.full_like(A, np.nan)):
        monkeypatch.setattr(np.linalg, "cholesky", spoilt)
        assert not verify_bound(net, good.multipliers, good.upper)


@pytest.mark.parametrize(("d", "m"), [(1, 1), (2, 1), (1, 3)])
def test_a_great_many_units_of_few_inputs_are_no_obstacle(d: int, m: int) -> None:
    # long sums have large error bounds, and a small matrix little room for them
    net = network(0, h=300_000, d=d, m=m)
    t = np.linalg.norm(net.V, axis=0) / np.linalg.norm(net.W, axis=1)
    Z = np.hstack([np.sqrt(t)[:, None] * net.W, (net.V / np.sqrt(t)).T])
    edge = 0.5 * float(np.linalg.eigvalsh(Z.T @ Z)[-1])
    found = BoundChecker(net, t).smallest(edge)
    assert found is not None
    assert edge <= found * (1.0 + 1e-12) <= edge * (1.0 + 1e-11)


def test_smallest_is_tight_and_gives_up_on_a_guess_that_is_far_too_low() -> None:
    net = network(3, h=6, d=3)
    t = np.abs(net.V[0]) / np.linalg.norm(net.W, axis=1)
    edge = boundary(net, t)
    checker = BoundChecker(net, t)
    found = checker.smallest(edge)
    assert found is not None
    assert edge <= found <= edge * (1.0 + 1e-11)
    assert checker.smallest(edge / 10.0) is None
    assert checker.smallest(math.nan) is None


# -------------------------------------------------------------------------------------------------- lower bounds


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_the_lower_bound_is_exactly_true(data: st.DataObject) -> None:
    net = data.draw(wild_networks(widest=500))
    x = np.array([data.draw(numbers(st.integers(-60, 60))) for _ in range(net.n_inputs)])
    value = gradient_norm_below(net, x)
    J = exact_gradient(net, x)
    assert value >= 0.0
    if value > 0.0:
        assert J is not None
        assert norm_at_least(J, value)


def test_the_lower_bound_is_tight_and_zero_on_a_kink() -> None:
    net = network(2, h=5, d=3, m=2)
    x = np.array([0.3, -0.2, 1.0])
    value = gradient_norm_below(net, x)
    assert value == pytest.approx(np.linalg.norm(net.gradients(x[None])[0], 2), rel=1e-12)
    J = exact_gradient(net, x)
    assert J is not None
    assert not norm_at_least(J, value * (1.0 + 1e-12))
    kink = ShallowNetwork([[1.0, -1.0], [1.0, 0.0]], [0.0, 1.0], [1.0, 1.0], 0.0)
    assert gradient_norm_below(kink, np.array([0.1, 0.1])) == 0.0
    assert gradient_norm_below(kink, np.array([0.1, 0.1 + 1e-17])) == 0.0
    dead = ShallowNetwork([[1.0, -1.0], [1.0, 0.0]], [0.0, 1.0], [0.0, 1.0], 0.0)
    assert gradient_norm_below(dead, np.array([0.1, 0.1])) == pytest.approx(1.0)


def test_the_lower_bound_survives_cancellation() -> None:
    # J = a c − b d is a few units in the last place of its terms: what is computed is mostly rounding
    rng = np.random.default_rng(0)
    for _ in range(300):
        (a, c), off = 1.0 + rng.random(2), 2.0**-50 * rng.standard_normal(2)
        net = ShallowNetwork([[c], [c * (1 + off[0])]], [1.0, 1.0], [a, -a * (1 + off[1])], 0.0)
        J = exact_gradient(net, np.array([0.5]))
        assert J is not None
        assert norm_at_least(J, gradient_norm_below(net, [0.5]))


@pytest.mark.parametrize("x", [[1.0], [[1.0, 2.0]], [math.nan, 1.0], [math.inf, 1.0], 3.0])
def test_points_that_are_no_inputs_prove_nothing(x: Any) -> None:
    assert gradient_norm_below(network(), x) == 0.0


@pytest.mark.parametrize("size", [1e-170, 1e170])
def test_gradients_beyond_the_range_of_doubles_prove_nothing(size: float) -> None:
    net = ShallowNetwork(np.full((2, 2), size), np.ones(2), np.full(2, size), 0.0)
    assert gradient_norm_below(net, [1.0, 2.0]) == 0.0


# ---------------------------------------------------------------------------------------- altered certificates


def spoil(cert: Certificate, net: ShallowNetwork, rng: np.random.Generator) -> tuple[Certificate, ShallowNetwork, str]:
    """One random alteration of a certificate or of its network."""
    kind = str(
        rng.choice(["multiplier", "multipliers", "upper", "lower", "witness", "digest", "weight", "label", "both"])
    )
    change = float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-16, 1))
    j = int(rng.integers(net.n_hidden))
    t = cert.multipliers.copy()
    if kind == "multiplier":
        t[j] = rng.choice([t[j] * (1.0 + change), 0.0, -t[j], math.nan, math.inf, 1e-310, 1e300])
        return dataclasses.replace(cert, multipliers=t), net, kind
    if kind == "multipliers":
        t = t[rng.permutation(len(t))] if rng.random() < 0.5 else np.resize(t, rng.integers(1, 2 * len(t)))
        return dataclasses.replace(cert, multipliers=t), net, kind
    if kind == "upper":
        return dataclasses.replace(cert, upper=cert.upper * (1.0 + change)), net, kind
    if kind == "lower":
        return dataclasses.replace(cert, lower=cert.lower * (1.0 + change)), net, kind
    if kind == "both":
        t = t * np.exp(0.1 * change * rng.standard_normal(len(t)))
        return dataclasses.replace(cert, multipliers=t, upper=cert.upper * (1.0 + abs(change))), net, kind
    if kind == "witness":
        return dataclasses.replace(cert, witness=cert.witness + change * rng.standard_normal(net.n_inputs)), net, kind
    if kind == "digest":
        at = int(rng.integers(64))
        swapped = cert.digest[:at] + ("0" if cert.digest[at] != "0" else "1") + cert.digest[at + 1 :]
        return dataclasses.replace(cert, digest=swapped), net, kind
    if kind == "weight":
        W, V = net.W.copy(), net.V.copy()
        A = W if rng.random() < 0.5 else V
        A.flat[int(rng.integers(A.size))] *= 1.0 + change
        changed = ShallowNetwork(W, net.b, V, net.c)
        swapped = changed.digest if rng.random() < 0.7 else cert.digest
        return dataclasses.replace(cert, digest=swapped), changed, kind
    label: dict[str, Any] = [
        {"units": "raw"},
        {"norm": "linf"},
        {"slopes": (0.0, 0.5)},
        {"shape": (net.n_inputs, net.n_hidden + 1, net.n_outputs)},
    ][int(rng.integers(4))]
    return dataclasses.replace(cert, **label), net, "label"


@pytest.mark.parametrize("m", [1, 2])
def test_an_altered_certificate_is_refused_or_still_true(m: int) -> None:
    rng = np.random.default_rng(m)
    net = network(m, h=4, d=2, m=m)
    cert = certify(net)
    assert cert.check(net)
    edge = boundary(net, cert.multipliers)
    accepted = refused = 0
    for _ in range(400):
        bad, its_net, kind = spoil(cert, net, rng)
        if bad.check(its_net):
            accepted += 1
            assert kind not in ("digest", "label")
            assert bad.digest == its_net.digest
            assert exactly_proved(its_net, bad.multipliers, bad.upper)
            J = exact_gradient(its_net, bad.witness)
            assert bad.lower == 0.0 or (J is not None and norm_at_least(J, bad.lower))
        else:
            refused += 1
        if kind == "upper" and bad.upper < edge * (1.0 - 1e-9):
            assert not bad.check(its_net)
        if kind == "lower" and bad.lower > cert.lower * (1.0 + 1e-9):
            assert not bad.check(its_net)
    assert accepted > 20
    assert refused > 100


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"digest": "0" * 64}, "another network"),
        ({"units": "raw"}, "units"),
        ({"norm": "l1"}, "norm"),
        ({"norm": "linf"}, "prove nothing"),
        ({"slopes": (0.0, 0.9)}, "slopes"),
        ({"shape": (2, 5, 1)}, "shape"),
        ({"upper": 0.01}, "do not prove"),
        ({"upper": math.nan}, "finite"),
        ({"lower": 1e3}, "witness"),
        ({"lower": math.nan}, "witness"),
        ({"lower": -1.0}, "witness"),
        ({"witness": np.zeros(3)}, "witness"),
        ({"multipliers": np.ones(3)}, "multipliers"),
    ],
)
def test_the_verdict_says_what_is_wrong(change: dict[str, Any], reason: str) -> None:
    net = network()
    verdict = dataclasses.replace(certify(net), **change).check(net)
    assert not verdict
    assert reason in verdict.reason


def test_a_certificate_without_a_lower_bound_is_checked() -> None:
    net = network()
    cert = dataclasses.replace(certify(net), lower=0.0, witness=np.full(2, math.nan))
    assert cert.check(net)


def test_arrays_of_a_certificate_cannot_be_written() -> None:
    cert = certify(network())
    with pytest.raises(ValueError, match="read-only"):
        cert.multipliers[0] = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        cert.upper = 0.0  # type: ignore[misc]


@given(value=st.floats(0.0, 1e154))
def test_rho_is_the_square_rounded_up(value: float) -> None:
    square = square_above(value)
    assert Fraction(square) >= Fraction(value) ** 2
    assert square == 0.0 or Fraction(math.nextafter(square, 0.0)) < Fraction(value) ** 2


def test_the_square_of_a_huge_bound_is_infinite_rather_than_an_exception() -> None:
    assert square_above(1e200) == math.inf


# ------------------------------------------------------------------------------------------------------ files


def written(tmp_path: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:
    data = json.loads(certify(network()).to_json()) | changes
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(data))
    return path, data


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    upper=st.floats(0.0, 1e150),
    lower=st.floats(0.0, 1e150),
    t=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    x=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    method=st.text(max_size=5).filter(lambda s: s.isprintable()),
)
def test_json_gives_back_every_bit(
    tmp_path: Path, upper: float, lower: float, t: list[float], x: list[float], method: str
) -> None:
    cert = Certificate(upper, lower, np.array(t), np.array(x), 1e-7, "raw", "ab", (2, 3, 1), method, seconds=0.1)
    back = Certificate.load(cert.save(tmp_path / "c.json", force=True))
    for field in dataclasses.fields(Certificate):
        mine, theirs = getattr(cert, field.name), getattr(back, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.tobytes() == theirs.tobytes()
        else:
            assert repr(mine) == repr(theirs), field.name
    assert back.rho == cert.rho


def test_saving_does_not_overwrite_unless_told(tmp_path: Path) -> None:
    net = network()
    path = certify(net).save(tmp_path / "c.json")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        certify(network(5)).save(path)
    assert path.read_bytes() == before
    other = network(5)
    certify(other).save(path, force=True)
    loaded = Certificate.load(path)
    assert loaded.check(other)
    assert not loaded.check(net)
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    whole = path.read_bytes()
    for end in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(FileFormatError, match="truncated, or not JSON"):
            Certificate.load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"\xff\xfe\x00",
        b"PK\x03\x04",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"hello",
    ],
    ids=["png", "utf-16", "zip", "deep list", "deep object", "text"],
)
def test_other_formats_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="not a certificate"):
        Certificate.load(path)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"', "{}", '{"schema": ["certnet-certificate-1"]}'])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(FileFormatError, match="schema"):
        Certificate.load(path)


def test_a_newer_schema_is_named(tmp_path: Path) -> None:
    path, _ = written(tmp_path, schema="certnet-certificate-2")
    with pytest.raises(FileFormatError, match=f"'certnet-certificate-2'.*reads '{FEED_FORWARD.schema}'"):
        Certificate.load(path)


FIELDS = [
    "upper",
    "lower",
    "rho",
    "multipliers",
    "witness",
    "gap",
    "units",
    "digest",
    "shape",
    "method",
    "kind",
    "norm",
    "slopes",
    "around",
    "radius",
    "created",
    "seconds",
    "versions",
    "output",
    "cheaper",
    "upper_decimal",
    "upper_rational",
    "seal",
]


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_needed_and_has_one_type(tmp_path: Path, name: str) -> None:
    path, data = written(tmp_path)
    assert {*FIELDS, "schema"} == set(data)
    for wrong in [None, True, 3, "text", [[1.0]], ["a"], [None], {"a": "b"}, [1.0, 2.0, "3"], [1.5, 4.5, 1.5]]:
        if isinstance(wrong, type(data[name])) and name not in ("multipliers", "witness", "shape", "slopes"):
            continue
        if wrong == [1.5, 4.5, 1.5] and name in ("multipliers", "witness"):
            continue
        if wrong is None and name in ("gap", "around", "radius", "output"):
            continue  # infinite; all inputs
        if (name == "radius" and wrong == 3) or (name == "around" and wrong == [1.5, 4.5, 1.5]):
            continue
        if wrong == 3 and isinstance(data[name], float) and name != "rho":
            continue  # an integer is a number
        path.write_text(json.dumps(data | {name: wrong}))
        with pytest.raises(FileFormatError, match=r"not a complete certificate|altered"):
            Certificate.load(path)
    del data[name]
    path.write_text(json.dumps(data))
    with pytest.raises(FileFormatError, match=f"not a complete certificate.*{name}"):
        Certificate.load(path)


@pytest.mark.parametrize("name", ["upper", "lower", "rho", "gap", "seconds", "multipliers", "witness", "shape"])
@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "1" + "0" * 1_000_000]
)
def test_numbers_that_no_double_holds_are_refused(tmp_path: Path, name: str, number: str) -> None:
    path, data = written(tmp_path)
    data[name] = [*data[name][:-1], "HERE"] if isinstance(data[name], list) else "HERE"
    path.write_text(json.dumps(data).replace('"HERE"', number))
    with pytest.raises(FileFormatError):
        Certificate.load(path)


def test_a_rho_that_was_altered_is_noticed(tmp_path: Path) -> None:
    path, data = written(tmp_path)
    path.write_text(json.dumps(data | {"rho": data["rho"] * 0.9}))
    with pytest.raises(FileFormatError, match="rho does not fit"):
        Certificate.load(path)


def test_a_huge_bound_in_a_file_is_refused_or_refuted_never_a_crash(tmp_path: Path) -> None:
    path, data = written(tmp_path)
    path.write_text(json.dumps(data | {"upper": 1e200, "rho": 1e300}))
    with pytest.raises(FileFormatError, match="rho"):
        Certificate.load(path)


def test_missing_files_folders_and_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileFormatError, match="cannot be read: No such file"):
        Certificate.load(tmp_path / "absent.json")
    with pytest.raises(FileFormatError, match="cannot be read"):
        Certificate.load(tmp_path)
    path, _ = written(tmp_path)
    monkeypatch.setattr(sealed, "MAX_FILE_BYTES", 100)
    with pytest.raises(FileFormatError, match="larger than"):
        Certificate.load(path)


def test_extreme_networks_are_certified_without_a_warning_of_numpy(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", NotConvergedWarning)
        for inner, outer in [
            (1e-200, 1.0),
            (1e-300, 1e300),
            (1e200, 1e-200),
            (1e150, 1.0),
            (1e-320, 1.0),
            (1.0, 1e-310),
        ]:
            base = network()
            net = ShallowNetwork(base.W * inner, base.b, base.V * outer * 0.1, base.c)
            cert = certify(net)
            assert Certificate.load(cert.save(tmp_path / "c.json", force=True)).check(net)
            J = exact_gradient(net, cert.witness)
            assert cert.lower == 0.0 or (J is not None and norm_at_least(J, cert.lower))
