"""Thousands of altered certificates: what is accepted is decided again in rational arithmetic, by other formulas."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact import Matrix, definite
from lmi import Array, exactly_feasible

from certnet.activations import Activation
from certnet.certify import Certificate, certify
from certnet.certify import certificate as certificate_module
from certnet.errors import CertnetError
from certnet.feedforward import FeedForward

Rng = np.random.Generator
Row = list[Fraction]
LEAKY = Activation("leaky_relu", (-0.5,))

# --------------------------------------------------------------------------------- the judge, in rational arithmetic


def rows(A: Array) -> Matrix:
    return [[Fraction(a) for a in row] for row in np.atleast_2d(A).tolist()]


def dot(a: Row, b: Row) -> Fraction:
    return sum((p * q for p, q in zip(a, b)), Fraction(0))


def times(A: Matrix, B: Matrix) -> Matrix:
    return [[dot(row, list(column)) for column in zip(*B)] for row in A]


def shifted(number: Fraction, A: Matrix) -> Matrix:
    """``number · I − A``."""
    return [[(number if i == j else 0) - a for j, a in enumerate(row)] for i, row in enumerate(A)]


def gram(A: Matrix) -> Matrix:
    return [[dot(p, q) for q in A] for p in A]


def root_above(square: Fraction) -> Fraction:
    """At least the square root, by less than one part in 2^150."""
    scale = 1 << max(0, 300 - (square.numerator * square.denominator).bit_length() // 2)
    return Fraction(math.isqrt(square.numerator * square.denominator * scale**2) + 1, square.denominator * scale)


def shallow_proved(net: FeedForward, t: Row, slopes: Sequence[tuple[Fraction, Fraction]], upper: Fraction) -> bool:
    """``upper ≥ ½ λ_max(M(t))`` + the charge of units with multiplier 0."""
    d, n = net.n_inputs, net.n_inputs + net.n_outputs
    half = [[Fraction(0)] * n for _ in range(n)]
    for w, v, tau, (low, high) in zip(rows(net.weights[0]), rows(net.weights[1].T), t, slopes):
        if tau == 0 and high > low:
            size = dot(w, w) * dot(v, v)
            upper -= max(abs(low), abs(high)) * root_above(size) if size else 0
            continue
        z = w + v
        for i in range(n):
            for j in range(n):
                if (i < d) != (j < d):
                    half[i][j] += (low + high) * z[i] * z[j] / 2
                elif high > low:
                    half[i][j] += (high - low) * z[i] * z[j] * (tau if i < d else 1 / tau) / 2
    return definite(shifted(upper, half))


def reached_slopes(net: FeedForward, cert: Certificate) -> list[tuple[Fraction, Fraction]]:
    """Slopes of every unit of a hidden layer with one kink at zero, in the ball of the certificate if it has one."""
    low, high = (Fraction(s) for s in net.activations[0].slopes)
    if cert.around is None or cert.radius is None:
        return [(low, high)] * net.n_hidden
    left, right = (Fraction(float(net.activations[0].derivative(np.array(side)))) for side in (-1.0, 1.0))
    (centre,) = rows(cert.around)
    found = []
    for w, b in zip(rows(net.weights[0]), rows(net.biases[0])[0]):
        z = dot(w, centre) + b
        if z * z >= Fraction(cert.radius) ** 2 * dot(w, w) and z != 0:
            found.append((right, right) if z > 0 else (left, left))
        else:
            found.append((low, high))
    return found


def chain_is_proved(net: FeedForward, parts: Sequence[Row], upper: Fraction) -> bool:
    """A number per layer with ``‖W_k‖₂ ≤ s_k``; or multipliers and a bound of two layers, nothing for the second."""
    product, k = Fraction(1), 0
    while k < len(parts):
        W, part = net.weights[k], parts[k]
        if len(part) == 1:
            proved = definite(shifted(part[0] ** 2, gram(rows(W))))
        else:
            pair = FeedForward(net.weights[k : k + 2], net.biases[k : k + 2], net.activations[k])
            low, high = map(Fraction, net.activations[k].slopes)
            proved = not parts[k + 1] and shallow_proved(pair, part[:-1], [(low, high)] * len(W), part[-1])
        k += 1 if len(part) == 1 else 2
        steepest = max(map(abs, net.activations[k - 1].slopes)) if k < len(parts) else 1
        product *= part[-1] * Fraction(steepest)
        if not proved or part[-1] < 0:
            return False
    return product <= upper


def upper_is_proved(net: FeedForward, cert: Certificate, upper: float) -> bool:
    upper = float(upper)  # a float32 too is exactly this
    if cert.kind == "shallow":
        (t,) = rows(np.asarray(cert.multipliers))
        return shallow_proved(net, t, reached_slopes(net, cert), Fraction(upper))
    if cert.kind in ("product", "composition"):
        return chain_is_proved(net, [row for t in cert.multipliers for row in rows(t)], Fraction(upper))
    slopes = [
        (np.full(len(W), phi.slopes[0]), np.full(len(W), phi.slopes[1])) for W, phi in zip(net.weights, net.activations)
    ]
    return exactly_feasible(net.weights, slopes, np.concatenate(cert.multipliers).tolist(), upper)


def jacobian(net: FeedForward, x: Row) -> Matrix | None:
    """At x, for activations with one kink at zero; None on a kink that matters."""
    J = rows(np.eye(net.n_inputs))
    for k, (W, b, phi) in enumerate(zip(net.weights, net.biases, net.activations)):
        left, right = (Fraction(float(phi.derivative(np.array(side)))) for side in (-1.0, 1.0))
        z = [dot(w, x) + bias for w, bias in zip(rows(W), rows(b)[0])]
        heard = np.abs(net.weights[k + 1]).sum(axis=0).tolist()
        if any(value == 0 and any(w) and of for value, w, of in zip(z, rows(W), heard)):
            return None
        slope = [right if value > 0 else left for value in z]
        J = [[s * a for a in row] for s, row in zip(slope, times(rows(W), J))]
        x = [s * value for s, value in zip(slope, z)]
    return times(rows(net.weights[-1]), J)


def lower_is_proved(net: FeedForward, cert: Certificate) -> bool:
    if cert.lower == 0.0:
        return True
    (x,) = rows(cert.witness)
    if cert.around is not None:
        apart = [a - b for a, b in zip(x, rows(cert.around)[0])]
        if dot(apart, apart) > Fraction(cert.radius or 0.0) ** 2:
            return False
    J = jacobian(net, x)
    return J is not None and not definite(shifted(Fraction(cert.lower) ** 2, gram(J)), strictly=True)


def assert_true(net: FeedForward, cert: Certificate) -> None:
    """What a certificate that was accepted says must be so, and be about this network."""
    assert cert.digest in certificate_module.digests(net)
    assert (cert.units, cert.shape, cert.norm) == (net.units, net.widths, "l2")
    assert cert.slopes == tuple(phi.slopes for phi in net.activations)
    assert upper_is_proved(net, cert, cert.upper)
    assert lower_is_proved(net, cert)


# ------------------------------------------------------------------------------------------------------- the subjects


def network(seed: int, *widths: int, phi: Any = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    Ws = [rng.standard_normal((n, k)) for k, n in pairwise(widths)]
    return FeedForward(Ws, [rng.standard_normal(len(W)) for W in Ws], [phi] * (len(widths) - 2))


@cache
def subject(name: str) -> tuple[FeedForward, Certificate]:
    ball: dict[str, Any] = {"around": [0.3, -0.2], "radius": 0.4}
    net, options = {
        "one output": (network(0, 2, 4, 1), {}),
        "two outputs": (network(1, 2, 3, 2), {}),
        "leaky": (network(2, 2, 3, 1, phi=LEAKY), {}),
        "ball": (network(3, 2, 4, 1), ball),
        "leaky ball": (network(4, 2, 3, 2, phi=LEAKY), ball),
        "neuron": (network(5, 2, 2, 2, 1), {"method": "neuron"}),
        "layer": (network(6, 2, 2, 2, 1, phi=LEAKY), {"method": "layer"}),
        "product": (network(7, 2, 3, 2, 2), {"method": "product"}),
        "composition": (network(8, 2, 2, 2, 2, 1, phi=LEAKY), {"method": "composition"}),
    }[name]
    return net, certify(net, **options)


SUBJECTS = ("one output", "two outputs", "leaky", "ball", "leaky ball", "neuron", "layer", "product", "composition")


def edge_of(net: FeedForward, cert: Certificate, steps: int = 60) -> float:
    """The smallest bound that the multipliers prove, by bisection in rationals; from below, infinite if above 2 u."""
    low, high = 0.0, 2.0 * cert.upper
    if not upper_is_proved(net, cert, high):
        return math.inf
    for _ in range(steps):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if upper_is_proved(net, cert, middle) else (middle, high)
    return low


# ----------------------------------------------------------------------------------------------------- the alterations

WILD = (0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e-200, 1e200, 1.7e308, math.nan, math.inf, -math.inf, -1.0, 1.0)
Altered = tuple[FeedForward, Certificate]


def change(rng: Rng) -> float:
    return float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-17.0, 1.0))


def change_list(rng: Rng, t: Array) -> Array:
    t = t.copy() if len(t) else np.ones(1)
    j = int(rng.integers(len(t)))
    way = int(rng.integers(9))
    if way == 0:
        t[j] *= 1.0 + change(rng)
    elif way == 1:
        t = t[rng.permutation(len(t))]
    elif way == 2:
        t *= math.exp(change(rng))
    elif way == 3:
        t[j] = rng.choice(WILD)
    elif way == 4:
        t[j] = -t[j]
    elif way == 5:
        t = np.resize(t, rng.integers(1, 2 * len(t) + 1))
    elif way == 6:
        t *= np.exp(change(rng) * rng.standard_normal(len(t)))
    elif way == 7:
        t[j] = np.nextafter(t[j], rng.choice([0.0, math.inf]))
    else:
        t *= 2.0 ** rng.integers(-1070, 1000)
    return t


def multipliers(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    given = cert.multipliers
    with np.errstate(all="ignore"):
        if not isinstance(given, tuple):
            return net, dataclasses.replace(cert, multipliers=change_list(rng, given))
        layers = list(given)
        k = int(rng.integers(len(layers)))
        layers[k] = change_list(rng, layers[k])
        if rng.random() < 0.1:
            layers = [layers[i] for i in rng.permutation(len(layers))][: int(rng.integers(1, len(layers) + 1))]
    return net, dataclasses.replace(cert, multipliers=tuple(layers))


def upper(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    odd: list[Any] = [*WILD, 10**400, True, None, "3", [3.0], 3, np.float32(3.0), cert.lower]
    if rng.random() < 0.3:
        return net, dataclasses.replace(cert, upper=odd[int(rng.integers(len(odd)))])
    step = float(rng.choice([1e-9, 1e-6, 1e-2, 1e-12, 1e-14, 2.0**-52, 0.5, abs(change(rng))]))
    return net, dataclasses.replace(cert, upper=cert.upper * (1.0 - step * rng.choice([1.0, -1.0])))


def both(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    return upper(rng, *multipliers(rng, net, cert))


def lower(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    value = float(rng.choice([*WILD, *[cert.lower * (1.0 + change(rng))] * 15, cert.upper]))
    return net, dataclasses.replace(cert, lower=value)


def witness(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    x = cert.witness + change(rng) * rng.standard_normal(net.n_inputs)
    if rng.random() < 0.2:
        x[int(rng.integers(len(x)))] = rng.choice(WILD)
    if rng.random() < 0.1:
        x = np.resize(x, rng.integers(0, 4))
    return net, dataclasses.replace(cert, witness=x)


def weight(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    """By one unit in the last place, or two swapped; with and without the new network's digest."""
    Ws, bs = [np.array(W) for W in net.weights], [np.array(b) for b in net.biases]
    A = (Ws + bs)[int(rng.integers(len(Ws + bs)))]
    i, j = rng.integers(A.size, size=2)
    if i != j and rng.random() < 0.3:
        A.flat[[i, j]] = A.flat[[j, i]]
    elif rng.random() < 0.5:
        A.flat[i] = np.nextafter(A.flat[i], rng.choice([-math.inf, math.inf]))
    else:
        A.flat[i] *= 1.0 + change(rng)
    other = FeedForward(Ws, bs, net.activations, units=net.units)
    return other, dataclasses.replace(cert, digest=other.digest) if rng.random() < 0.7 else cert


def activation(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    """Slopes narrowed or widened: of the network, of the certificate, or of both."""
    phi = [Activation("relu"), LEAKY, Activation("leaky_relu", (0.1,)), Activation("leaky_relu", (-0.500001,))][
        int(rng.integers(4))
    ]
    other = FeedForward(net.weights, net.biases, [phi] * net.depth, units=net.units)
    low, high = phi.slopes
    stretch = float(rng.choice([1.0, 1.0, 1.0 + 1e-9, 1.0 - 1e-9]))
    changes: dict[str, Any] = {"slopes": ((low, high * stretch),) * net.depth}
    if rng.random() < 0.7:
        changes["digest"] = other.digest
    return other if rng.random() < 0.7 else net, dataclasses.replace(cert, **changes)


def ball(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    around = np.zeros(net.n_inputs) if cert.around is None else cert.around.copy()
    around = around + change(rng) * rng.standard_normal(net.n_inputs)
    radius = (1.0 if cert.radius is None else cert.radius) * (1.0 + change(rng))
    way = int(rng.integers(6))
    if way == 0:
        around[0] = rng.choice(WILD)
    changes: list[dict[str, Any]] = [
        {"around": around},
        {"around": around, "radius": radius},
        {"radius": radius},
        {"radius": float(rng.choice(WILD))},
        {"around": None, "radius": None},
        {"around": np.resize(around, 3)},
    ]
    return net, dataclasses.replace(cert, **changes[way])


def label(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    at = int(rng.integers(64))
    flipped = cert.digest[:at] + ("0" if cert.digest[at] != "0" else "1") + cert.digest[at + 1 :]
    changes: list[dict[str, Any]] = [
        {"digest": flipped},
        {"digest": cert.digest.upper() + " "},
        {"units": "raw"},
        {"norm": "linf"},
        {"norm": "L2"},
        {"slopes": ((0.0, 0.9),) * net.depth},
        {"slopes": cert.slopes * 2},
        {"shape": (*net.widths, 1)},
        {"shape": (*net.widths[::-1], 9)},
        *({"kind": kind} for kind in ("shallow", "neuron", "layer", "product", "composition", "tree", "", "\ud800")),
    ]
    return net, dataclasses.replace(cert, **changes[int(rng.integers(len(changes)))])


def another(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    """Another network, of another depth too, that claims the certificate for its own."""
    widths = [int(n) for n in rng.integers(1, 4, size=int(rng.integers(3, 6)))]
    other = network(int(rng.integers(1000)), *(net.widths if rng.random() < 0.5 else widths))
    slopes = tuple(phi.slopes for phi in other.activations)
    return other, dataclasses.replace(cert, digest=other.digest, shape=other.widths, slopes=slopes)


ALTERATIONS: tuple[Callable[[Rng, FeedForward, Certificate], Altered], ...] = (
    *(multipliers, multipliers, multipliers, upper, upper, both, both, lower, witness, weight, weight),
    *(activation, ball, label, another),
)


@pytest.mark.parametrize("name", SUBJECTS)
def test_whatever_is_accepted_is_true(name: str) -> None:
    net, cert = subject(name)
    assert cert.check(net)
    assert_true(net, cert)
    rng = np.random.default_rng(SUBJECTS.index(name))
    accepted = refused = 0
    for _ in range(700):
        its_net, bad = ALTERATIONS[int(rng.integers(len(ALTERATIONS)))](rng, net, cert)
        if bad.check(its_net):
            accepted += 1
            assert_true(its_net, bad)
        else:
            refused += 1
    assert accepted > 50
    assert refused > 200


@pytest.mark.parametrize("name", SUBJECTS)
def test_one_part_in_a_billion_below_what_is_proved_is_refused(name: str) -> None:
    net, cert = subject(name)
    edge = edge_of(net, cert)
    assert edge * (1.0 - 1e-13) <= cert.upper <= edge * (1.0 + 1e-6)
    for below in (1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 2e-9, 1e-8, 1e-6, 1e-2, 0.5, 0.999):
        assert not dataclasses.replace(cert, upper=edge * (1.0 - below)).check(net)
    for above in (1e-8, 1e-6, 1e-2, 1.0, 1e6, 1e100):
        assert dataclasses.replace(cert, upper=edge * (1.0 + above)).check(net)


def usable(bad: Certificate, cert: Certificate) -> bool:
    """Do these multipliers have the right shapes and signs?"""
    new, old = (
        [np.ravel(t) for t in ([*c.multipliers] if c.kind != "shallow" else [c.multipliers])] for c in (bad, cert)
    )
    least = 0.0 if cert.kind not in ("neuron", "layer") else 5e-324
    return [len(t) for t in new] == [len(t) for t in old] and all(
        np.isfinite(t).all() and (t >= least).all() for t in new
    )


@pytest.mark.parametrize("name", SUBJECTS)
def test_so_it_is_with_other_multipliers(name: str) -> None:
    net, cert = subject(name)
    rng = np.random.default_rng(100 + SUBJECTS.index(name))
    judged = 0
    for _ in range(20 if net.depth > 1 else 60):
        _, bad = multipliers(rng, net, cert)
        if not usable(bad, cert):
            continue
        edge = edge_of(net, bad, steps=42)
        if math.isfinite(edge) and edge > 0.0:
            judged += 1
            for below in (1e-11, 1e-9):
                assert not dataclasses.replace(bad, upper=edge * (1.0 - below)).check(net)
    assert judged >= (1 if name == "composition" else 4)


# ------------------------------------------------------------------------------------------------------------ the file

TOKENS = [
    "0",
    "-1",
    "1e999999",
    "-0.0",
    "1e-400",
    "0.1e1",
    "NaN",
    "Infinity",
    "null",
    "true",
    '""',
    '"\\ud800"',
    "[]",
    "{}",
]
TOKENS += [
    "1" * 400,
    "9" * 100_000,
    "[" * 5_000,
    "[" * 100_000,
    '{"a":' * 50_000,
    "[[[0]]]",
    "[1e308]",
    "\x00",
    "\u2028",
]


def resealed(data: dict[str, Any]) -> str:
    """The file as one would write it who knows how: every field that follows from others fits them."""
    data = dict(data)
    try:
        bound = float(data["upper"])
        data["rho"] = certificate_module.square_above(bound)
        data["upper_decimal"] = certificate_module.above(bound, 12)
        data["upper_rational"] = str(Fraction(bound))
        data["seal"] = certificate_module.seal(data)
    except (TypeError, ValueError, KeyError, OverflowError, ArithmeticError, RecursionError):
        pass  # what has no bound or no seal is written as it is
    return json.dumps(data)


def judge(path: Path, content: bytes, net: FeedForward) -> bool:
    """Read and check a file: an error of certnet's, or a verdict, soon; and what is accepted is true."""
    path.write_bytes(content)
    start = time.perf_counter()
    try:
        cert = Certificate.load(path)
    except CertnetError:
        return False
    finally:
        assert time.perf_counter() - start < 5.0
    accepted = bool(cert.check(net))
    assert time.perf_counter() - start < 5.0
    if accepted:
        assert_true(net, cert)
        assert repr(cert)
    return accepted


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be replaced in parsed JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def put(data: Any, path: Sequence[Any], value: Any) -> Any:
    if not path:
        return value
    copy = data.copy()
    copy[path[0]] = put(copy[path[0]], path[1:], value)
    return copy


def a_value(rng: Rng, old: Any) -> Any:
    if isinstance(old, float) and rng.random() < 0.6:
        return old * (1.0 + change(rng))
    odd: list[Any] = [None, True, 0, 1, -1, 2.5, 5e-324, -5e-324, 1.7e308, 10**400, 2**63, "", "0", "\ud800", [], [[]]]
    odd += [
        {},
        {"a": 1},
        [1.0, 2.0],
        [[1.0, 2.0]],
        [0, 1],
        ["bound", [1.0]],
        "tree",
        "linf",
        "neuron",
        "shallow",
        "product",
    ]
    return odd[int(rng.integers(len(odd)))]


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_file_with_other_values_and_a_seal_that_fits(tmp_path: Path, name: str) -> None:
    net, cert = subject(name)
    data = json.loads(cert.to_json())
    assert judge(tmp_path / "c.json", resealed(data).encode(), net)
    rng = np.random.default_rng(200 + SUBJECTS.index(name))
    spots = [path for path in places(data) if path]
    accepted = 0
    for _ in range(250):
        bad = data
        for _ in range(int(rng.integers(1, 3))):
            spot = spots[int(rng.integers(len(spots)))]
            old = bad
            try:
                for key in spot:
                    old = old[key]
                bad = put(bad, spot, a_value(rng, old))
            except (TypeError, IndexError, KeyError, AttributeError):
                continue  # the first change left no such place
        accepted += judge(tmp_path / "c.json", resealed(bad).encode(), net)
    assert accepted > 5


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_file_whose_text_was_changed(tmp_path: Path, name: str) -> None:
    net, cert = subject(name)
    text = cert.to_json().encode()
    same = json.loads(text)
    rng = np.random.default_rng(300 + SUBJECTS.index(name))
    for _ in range(200):
        i, j = sorted(int(k) for k in rng.integers(len(text), size=2))
        token = TOKENS[int(rng.integers(len(TOKENS)))].encode("utf-8", "surrogatepass")
        i2 = min(i + int(rng.integers(4)), len(text))
        content = [
            text[:i] + bytes(rng.integers(256, size=1, dtype=np.uint8)) + text[i + 1 :],
            text[:i] + token + text[i2:],
            text[:i] + text[j:],
            text[:j] + text[i:],
            text[:i],
            text.replace(text[i:i2] or b"0", token[:1000], 1),
        ][int(rng.integers(6))]
        if judge(tmp_path / "c.json", content, net):
            assert json.loads(content) == same  # white space, or another spelling of a number


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("field", ["upper", "lower", "multipliers", "witness", "shape", "cheaper", "versions", "extra"])
def test_absurd_values_take_no_time(tmp_path: Path, field: str, token: str) -> None:
    net, cert = subject("one output")
    data = json.loads(cert.to_json()) | {field: "HERE"}
    text = resealed(data).replace('"HERE"', token)
    assert not judge(tmp_path / "c.json", text.encode("utf-8", "surrogatepass"), net)


@pytest.mark.parametrize(
    "recode",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-32"),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode() + b"\x00",
        lambda text: text.encode() * 2,
        lambda text: text.encode()[::-1],
        lambda text: b"\xff" + text.encode(),
        lambda text: text.replace('"upper":', '"lower":').encode(),
        lambda text: (text.rstrip()[:-1] + ', "upper": 1e-9}').encode(),  # the second of two keys counts
        lambda text: ('{"upper": 1e-9, "seal": "0", ' + text[1:].replace('"upper":', '"Upper":')).encode(),
        lambda text: text.replace("[", "[" + "0.5, " * 1_000_000, 1).encode(),
    ],
)
def test_other_encodings_and_doubled_keys(tmp_path: Path, recode: Callable[[str], bytes]) -> None:
    net, cert = subject("one output")
    assert not judge(tmp_path / "c.json", recode(cert.to_json()), net)
