"""Intervals of slopes along single inputs: decided again in rational arithmetic, thousands of altered ones too."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from alter import WILD, change
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import layer_slopes, rows

from certnet import FeedForward, ShallowNetwork
from certnet.core.errors import (
    AlteredCertificateError,
    CertificateError,
    FileFormatError,
    InvalidInputError,
    OutputError,
    UnsupportedModelError,
)
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer, read_only
from certnet.networks.operators import Blocks, Convolution, Identity
from certnet.proofs.__main__ import main
from certnet.proofs.slopes import SlopeIntervals, slope_ends

Matrix = list[list[Fraction]]
LEAKY = [Activation("leaky_relu", (slope,)) for slope in (0.2, -0.3)]
PHIS: list[Any] = ["relu", *LEAKY, Activation("user", (0.3, 0.7)), Activation("user", (-1.5, -0.1))]


def network(*widths: int, seed: int = 0, phi: Any = "relu", size: float = 1.0) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [size * rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    return FeedForward(weights, [rng.standard_normal(b) for b in widths[1:]], phi)


@cache
def hull(net: FeedForward) -> tuple[Matrix, Matrix]:
    """The least and the largest entries of all ``W_ℓ D_{ℓ−1} ⋯ D_0 W_0``: multilinear in the slopes, so at corners."""
    Ws, units = list(map(whole, net.weights)), [whole(np.array(phi.slopes)) for phi in net.activations]
    scale = Fraction(1)
    for _, by in (*Ws, *units):
        scale *= by
    low = high = None
    for ends in product(*(pair for (pair, _), n in zip(units, net.widths[1:]) for _ in range(n))):
        left, J = list(ends), Ws[0][0]
        for W, _ in Ws[1:]:
            J = W @ (np.array(left[: len(J)], dtype=object)[:, None] * J)
            left = left[W.shape[1] :]
        low = J if low is None else np.minimum(low, J)
        high = J if high is None else np.maximum(high, J)
    assert low is not None
    assert high is not None
    return [[a / scale for a in row] for row in low], [[a / scale for a in row] for row in high]


def whole(A: np.ndarray) -> tuple[np.ndarray, Fraction]:
    """Doubles times a power of two, as integers."""
    exact = [Fraction(a) for a in A.ravel().tolist()]
    scale = max(a.denominator for a in exact)
    return np.array([int(a * scale) for a in exact], dtype=object).reshape(A.shape), Fraction(scale)


def is_true(net: FeedForward, lower: np.ndarray, upper: np.ndarray) -> bool:
    low, high = hull(net)
    entries = product(range(net.n_outputs), range(net.n_inputs))
    return all(below(lower[o, i], low[o][i]) and below(-upper[o, i], -high[o][i]) for o, i in entries)


def below(bound: float, value: Fraction) -> bool:
    """An infinite bound says nothing, and nothing wrong."""
    return bound == -math.inf or (math.isfinite(bound) and Fraction(bound) <= value)


def interval(net: FeedForward, *, backward: bool) -> tuple[Matrix, Matrix]:
    """Interval arithmetic written out, in rationals."""
    Ws = [rows(W) for W in net.weights]
    Ws = Ws[::-1] if backward else [[list(column) for column in zip(*W)] for W in Ws]
    pairs = layer_slopes(net)[::-1] if backward else layer_slopes(net)
    low = high = Ws[0]
    for W, (a, b) in zip(Ws[1:], pairs):
        corners = [[[s * x for s in (a, b) for x in ends] for ends in zip(*both)] for both in zip(low, high)]
        terms = [
            [[sorted((min(c) * w[i], max(c) * w[i])) for c, w in zip(row, W)] for i in range(len(W[0]))]
            for row in corners
        ]
        low, high = ([[sum(t[k] for t in entry) for entry in row] for row in terms] for k in (0, 1))
    return (low, high) if backward else ([list(c) for c in zip(*low)], [list(c) for c in zip(*high)])


# ------------------------------------------------------------------------------------------------------- the arithmetic


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**16),
    st.lists(st.integers(1, 3), min_size=3, max_size=5),
    st.sampled_from(PHIS),
    st.sampled_from([1.0, 1e-160, 1e-308, 5e-324, 1e60]),
)
def test_ends_lie_outside_the_exact_ones_and_next_to_them(seed, widths, phi, size):
    net = network(*widths, seed=seed, phi=phi, size=size)
    ends = slope_ends(net)
    assert ends is not None
    exact = [interval(net, backward=backward) for backward in (True, False)]
    for o, i in product(range(net.n_outputs), range(net.n_inputs)):
        low, high = max(e[0][o][i] for e in exact), min(e[1][o][i] for e in exact)
        assert Fraction(ends.low[o, i]) <= low <= high <= Fraction(ends.high[o, i])
        room = 1e-13 * sum(abs(float(e[k][o][i])) for e in exact for k in (0, 1)) + 1e-290
        assert float(low) - ends.low[o, i] <= room
        assert ends.high[o, i] - float(high) <= room
        if phi == "relu":  # all terms of an end have one sign
            assert ends.low[o, i] < 0.0 or low == 0 == ends.low[o, i]
            assert ends.high[o, i] > 0.0 or high == 0 == ends.high[o, i]
    if net.n_hidden <= 7:
        assert is_true(net, ends.low, ends.high)


@pytest.mark.parametrize("phi", PHIS)
@pytest.mark.parametrize("seed", range(3))
def test_one_hidden_layer_has_no_smaller_intervals(phi, seed):
    net = network(3, 6, 2, seed=seed, phi=phi)
    low, high = hull(net)
    ends = slope_ends(net)
    assert ends is not None
    np.testing.assert_allclose(ends.low, np.array(low, dtype=float), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(ends.high, np.array(high, dtype=float), rtol=1e-13, atol=1e-14)
    W, V = net.weights
    a, b = net.slopes[0]
    terms = V[:, :, None] * W
    both = np.stack([a * terms, b * terms])
    np.testing.assert_allclose(ends.low, both.min(axis=0).sum(axis=1), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(ends.high, both.max(axis=0).sum(axis=1), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("phi", ["relu", "tanh", "gelu", Activation("leaky_relu", (0.1,)), "hard_sigmoid"])
@pytest.mark.parametrize("widths", [(3, 12, 2), (3, 8, 8, 1), (2, 5, 6, 5, 2)])
def test_gradients_and_quotients_lie_within(phi, widths):
    net, rng = network(*widths, phi=phi), np.random.default_rng(1)
    found = SlopeIntervals.of(net)
    X = np.vstack([size * rng.standard_normal((300, widths[0])) for size in (0.3, 1.0, 5.0)])
    gradients = net.gradients(X)
    slack = 1e-12 * np.abs(gradients).max()
    assert (found.lower - slack <= gradients).all()
    assert (gradients <= found.upper + slack).all()
    for i in range(widths[0]):
        step = rng.uniform(0.01, 3.0, len(X))
        quotient = (net.forward(X + step[:, None] * np.eye(widths[0])[i]) - net.forward(X)) / step[:, None]
        assert (found.lower[:, i] - 1e-10 <= quotient).all()
        assert (quotient <= found.upper[:, i] + 1e-10).all()


def test_paths_of_one_sign_are_proved_monotone_without_a_margin():
    rng = np.random.default_rng(0)
    weights = [np.abs(rng.standard_normal(s)) * 10.0 ** rng.integers(-200, 50, s) for s in ((9, 3), (8, 9), (1, 8))]
    weights[0][:, 1] *= -1.0
    weights[0][:, 2] = 0.0
    found = SlopeIntervals.of(FeedForward(weights, [np.ones(9), np.ones(8), np.ones(1)], "relu"))
    assert found.lower[0].tolist()[::2] == [0.0, 0.0]
    assert found.upper[0].tolist()[1:] == [0.0, 0.0]
    assert found.monotone.tolist() == [[1, -1, 0]]
    assert "2 of 3 proved monotone" in repr(found)


# ------------------------------------------------------------------------------------------------------- altered ones

SUBJECTS: dict[str, tuple[Sequence[int], Any]] = {
    "one layer": ((2, 4, 1), "relu"),
    "two outputs": ((2, 3, 2), Activation("leaky_relu", (-0.5,))),
    "two layers": ((2, 3, 2, 1), "relu"),
    "leaky": ((2, 2, 3, 2), Activation("leaky_relu", (0.25,))),
    "steep": ((2, 2, 2, 2, 1), Activation("leaky_relu", (1.5,))),
}


def altered(rng: np.random.Generator, net: FeedForward, held: SlopeIntervals) -> tuple[FeedForward, SlopeIntervals]:
    way = int(rng.integers(9))
    ends = {"lower": held.lower.copy(), "upper": held.upper.copy()}
    name = str(rng.choice(list(ends)))
    end = ends[name]
    at = tuple(int(rng.integers(n)) for n in end.shape)
    if way < 3:  # by as little as rounding
        step = float(rng.choice([1e-16, 1e-13, 1e-12, 2e-12, 1e-9, 1e-3, abs(change(rng))]))
        end[at] += rng.choice([-1.0, 1.0]) * step * abs(end[at])
    elif way == 3:
        end[at] = rng.choice(WILD)
    elif way == 4:
        end = end[:, rng.permutation(end.shape[1])] if rng.random() < 0.5 else np.resize(end, (1, 3))
    elif way in (5, 6):
        Ws = [np.array(W) for W in net.weights]
        A = Ws[int(rng.integers(len(Ws)))]
        j = int(rng.integers(A.size))
        A.flat[j] = np.nextafter(A.flat[j], rng.choice([-9.0, 9.0])) if rng.random() < 0.3 else A.flat[j] + change(rng)
        other = net.with_parameters(Ws, net.biases, net.units)
        return other, dataclasses.replace(held, digest=other.digest) if rng.random() < 0.8 else held
    elif way == 7:
        phi = Activation("leaky_relu", (float(rng.choice([0.0, 0.2, -0.6, 1.6])),))
        other = FeedForward(net.weights, net.biases, phi)
        keeps = held.slopes if rng.random() < 0.3 else other.slopes
        return other, dataclasses.replace(held, digest=other.digest, slopes=keeps)
    else:
        odd: list[dict[str, Any]] = [{"digest": held.digest[::-1]}, {"units": "raw"}, {"shape": (*held.shape, 1)}]
        odd += [{"slopes": held.slopes * 2}, {"lower": held.upper, "upper": held.lower}, {"digest": ""}]
        return net, dataclasses.replace(held, **odd[int(rng.integers(len(odd)))])
    return net, dataclasses.replace(held, **{name: end})


@pytest.mark.parametrize("name", SUBJECTS)
def test_whatever_is_accepted_is_true(name):
    widths, phi = SUBJECTS[name]
    net = network(*widths, seed=3, phi=phi)
    held = SlopeIntervals.of(net)
    assert held.check(net)
    rng = np.random.default_rng(list(SUBJECTS).index(name))
    accepted = refused = 0
    for _ in range(400):
        other, bad = altered(rng, net, held)
        if not bad.check(other):
            refused += 1
            continue
        accepted += 1
        assert is_true(other, bad.lower, bad.upper)
        assert (bad.units, bad.shape, bad.slopes) == (other.units, other.widths, other.slopes)
        assert bad.digest == other.digest or other.relu_only
    assert accepted > 25
    assert refused > 150


# ------------------------------------------------------------------------------------------------------------- files


def test_files_come_back_and_altered_ones_do_not(tmp_path):
    net = network(3, 5, 4, 2)
    held = SlopeIntervals.of(net)
    path = held.save(tmp_path / "slopes.json")
    back = SlopeIntervals.load(path)
    assert back.check(net)
    assert back.to_json() == held.to_json()
    with pytest.raises(OutputError, match="exists"):
        held.save(path)
    text = path.read_text(encoding="utf-8")
    rng = np.random.default_rng(0)
    for _ in range(150):
        at = int(rng.integers(len(text)))
        path.write_text(text[:at] + str(rng.choice(list('0123456789.-e[]{},"ax '))) + text[at + 1 :], encoding="utf-8")
        try:
            again = SlopeIntervals.load(path)
        except FileFormatError:
            continue
        assert again.to_json() == held.to_json()  # white space, or the same character
    data = json.loads(text)
    for field in data:
        path.write_text(json.dumps({name: value for name, value in data.items() if name != field}), encoding="utf-8")
        with pytest.raises(FileFormatError):
            SlopeIntervals.load(path)
    for field, value in [("lower", [[0.0], [0.0, 1.0]]), ("upper", []), ("upper", 3), ("kind", "neuron"), ("more", 1)]:
        path.write_text(json.dumps(data | {field: value}), encoding="utf-8")
        with pytest.raises(AlteredCertificateError):
            SlopeIntervals.load(path)


def test_the_command_of_the_trusted_base_checks_them(tmp_path, capsys):
    net = network(3, 4, 2)
    held = SlopeIntervals.of(net)
    proof, model = held.save(tmp_path / "slopes.json"), net.save(tmp_path / "net.npz")
    assert main([str(proof), str(model)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "holds: all 6 intervals are proved (as given units)"
    assert len(rest) == 6
    for line, (o, i) in zip(rest, product(range(2), range(3))):
        low, _, middle, _, high = re.split(" (<=) ", line)
        assert middle == f"slope of output {o} along input {i}"
        assert held.lower[o, i] - 1e-4 < float(low) <= held.lower[o, i]
        assert held.upper[o, i] <= float(high) < held.upper[o, i] + 1e-4
    narrow = dataclasses.replace(held, upper=held.upper - 1e-9).save(tmp_path / "narrow.json")
    altered = tmp_path / "altered.json"
    altered.write_text(proof.read_text().replace('"read"', '"mead"').replace('"units"', '"unit"'))
    other = network(3, 4, 2, seed=1).save(tmp_path / "other.npz")
    for arguments, code, text in (
        ((narrow, model), 1, "refused: the slope of output 0 along input 0"),
        ((altered, model), 1, "refused: "),
        ((proof, other), 1, "another network"),
        ((proof, proof), 2, "not a readable .npz"),
        ((model, proof), 2, "the certificate is named first"),
    ):
        assert main([str(part) for part in arguments]) == code
        said = capsys.readouterr()
        assert text in said.out + said.err


def test_other_networks_and_what_is_refused(tmp_path):
    net = network(2, 3, 1)
    held = SlopeIntervals.of(net)
    assert held.check(net.shallow())
    assert SlopeIntervals.of(net.shallow()).check(net)
    assert "another network" in held.check(network(2, 3, 1, seed=1)).reason
    for field, value in [("units", "raw"), ("shape", (2, 4, 1)), ("slopes", ((0.0, 0.5),))]:
        assert field in dataclasses.replace(held, **{field: value}).check(net).reason
    narrow = dataclasses.replace(held, upper=held.upper - 1e-9)
    assert "output 0 along input 0" in narrow.check(net).reason
    assert not dataclasses.replace(held, lower=np.full((1, 2), math.nan)).check(net)
    with pytest.raises(InvalidInputError, match="ShallowNetwork or FeedForward"):
        held.check("net")  # type: ignore[arg-type]
    huge = ShallowNetwork(np.full((2, 2), 1e200), np.zeros(2), np.full((1, 2), 1e200), [0.0])
    with pytest.raises(CertificateError, match="overflow"):
        SlopeIntervals.of(huge)
    wide = dataclasses.replace(held, digest=huge.digest, shape=huge.widths)
    assert "overflow" in wide.check(huge).reason
    skip = Layer(Blocks(((Dense(read_only(np.eye(2))),), (Identity(2),))), np.zeros(4), Activation("relu"), 2)
    last = Layer(Dense(read_only(np.ones((1, 4)))), np.zeros(1), Activation("identity"))
    chain = FeedForward.chain([skip, last])
    known = SlopeIntervals.of(chain)  # y + relu(y) of both inputs, added up
    np.testing.assert_allclose(known.lower, [[1.0, 1.0]], rtol=1e-11)
    np.testing.assert_allclose(known.upper, [[2.0, 2.0]], rtol=1e-11)
    assert known.check(chain)
    assert not held.check(chain)
    wide = Layer(Convolution(np.ones((1, 1, 1, 1)), (1, 1, 10_000)), np.zeros(10_000), Activation("relu"))
    huge_map = FeedForward.chain([wide, Layer(Dense(read_only(np.ones((1, 10_000)))), np.zeros(1), last.activation)])
    with pytest.raises(UnsupportedModelError, match="convolution"):
        SlopeIntervals.of(huge_map)
    assert "convolution" in held.check(huge_map).reason
    with pytest.raises(OutputError, match="upper"):
        dataclasses.replace(held, upper=np.full((1, 2), math.inf)).save(tmp_path / "open.json")
    assert not (tmp_path / "open.json").exists()
