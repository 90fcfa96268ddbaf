"""Regions at their edges: bad words, no width, no limits, kinks on the border, thin and far boxes, files."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge import dot, rows, sides
from patterns import exact_constant
from test_proofs_storage import images, residual

from certnet import Ball, Box, Certificate, FeedForward, certify
from certnet.claims.region import ALL, Region
from certnet.core.errors import AlteredCertificateError, InvalidInputError
from certnet.networks.activation_families import FAMILIES
from certnet.networks.activations import ACTIVATIONS, Activation
from certnet.proofs.parts import Space

Array = Any
LEAKY = Activation("leaky_relu", (-5.0,))


def network(seed: int, *widths: int, phi: Any = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    Ws = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(widths)]
    return FeedForward(Ws, [rng.standard_normal(len(W)) for W in Ws], phi)


NET = network(0, 2, 4, 3, 2)


def square_on(net: FeedForward, low: float, high: float) -> Fraction:
    """L² of a network of one input on [low, high], low < high, in rationals: from kink to kink."""
    parts = [(Fraction(low), Fraction(high), [(Fraction(1), Fraction(0))])]
    for layer in net.layers[:-1]:
        left, right = sides(layer.activation)
        cut = []
        for a, b, lines in parts:
            slope, constant = (list(column) for column in zip(*lines))
            z = [
                (dot(w, slope), dot(w, constant) + bias)
                for w, bias in zip(rows(layer.operator.matrix), rows(layer.bias)[0])
            ]
            kinks = sorted({a, b, *(-c / s for s, c in z if s and a < -c / s < b)})
            for begin, end in itertools.pairwise(kinks):
                at = (begin + end) / 2
                sides_at = [right if s * at + c >= 0 else left for s, c in z]
                cut.append((begin, end, [(t * s, t * c) for t, (s, c) in zip(sides_at, z)]))
        parts = cut
    last = rows(net.layers[-1].operator.matrix)
    return max(sum(dot(w, [s for s, _ in lines]) ** 2 for w in last) for _, _, lines in parts)


# ------------------------------------------------------------------------------------------------------- bad words


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        ([1.0, 0.0], [0.0, 1.0], "swap them"),
        ([math.nan, 0.0], [1.0, 1.0], "NaN at input 0"),
        ([0.0, 0.0], [1.0, math.nan], "NaN at input 1"),
        ([math.inf, 0.0], [math.inf, 1.0], "would lie between"),
        ([0.0, 0.0], [-math.inf, 1.0], "would lie between"),
        ([0.0], [1.0, 2.0], "as many"),
        ([], [], "as many"),
        (0.0, 1.0, "one number per input"),
        ([[0.0]], [[1.0]], "one number per input"),
        (["a"], ["b"], "real numbers"),
        ([1j], [2.0], "real numbers"),
        (None, [1.0], "real numbers"),
    ],
)
def test_what_is_no_box_is_refused_with_a_word(low: Any, high: Any, word: str) -> None:
    with pytest.raises(InvalidInputError, match=word):
        Box(low, high)


@pytest.mark.parametrize(
    "region",
    [
        Box([0.0], [1.0]),
        Box([0.0] * 3, [1.0] * 3),
        Ball([0.0, 0.0], -1.0),
        Ball([0.0, 0.0], math.nan),
        Ball([0.0, 0.0], math.inf),
        Ball([0.0], 1.0),
        Ball([math.nan, 0.0], 1.0),
        Ball([math.inf, 0.0], 1.0),
        Ball(None, 1.0),
        Ball([0.0, 0.0], None),
        Ball("ab", 1.0),
        "box",
        None,
        Box,
        ([0.0, 0.0], [1.0, 1.0]),
    ],
)
def test_what_is_no_region_of_the_network_is_refused(region: Any) -> None:
    with pytest.raises(InvalidInputError):
        certify(NET, region=region)


def test_a_region_is_given_once() -> None:
    box = Box([0.0, 0.0], [1.0, 1.0])
    for more in ({"around": [0.0, 0.0], "radius": 1.0}, {"around": [0.0, 0.0]}, {"radius": 1.0}):
        with pytest.raises(InvalidInputError):
            certify(NET, region=box, **more)
    for half in ({"around": [0.0, 0.0]}, {"radius": 1.0}):
        with pytest.raises(InvalidInputError, match="both"):
            certify(NET, **half)


@pytest.mark.parametrize(
    ("X", "margin"),
    [
        (np.zeros((0, 2)), 0.0),
        ([[math.nan, 1.0]], 0.0),
        ([[math.inf, 1.0]], 0.0),
        ([1.0, 2.0], 0.0),
        ([[0.0, 1.0]], -0.1),
        ([[0.0, 1.0]], math.nan),
    ],
)
def test_a_box_around_nothing_is_refused(X: Any, margin: float) -> None:
    with pytest.raises(InvalidInputError):
        Box.around(X, margin)


def test_a_box_around_data_holds_them_all() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-320, 1e-300, 1.0, 1e12, 1e308):
        X = scale * rng.uniform(-1.0, 1.0, (20, 3))
        X[:, 2] = X[0, 2]
        for margin in (0.0, 1e-17, 0.1, 3.0):
            box = Box.around(X, margin)
            assert (box.lower <= X.min(axis=0)).all()
            assert (box.upper >= X.max(axis=0)).all()
            assert box.lower[2] == box.upper[2] == X[0, 2]


# ------------------------------------------------------------------------------------------ without width, without end


@pytest.mark.parametrize("phi", ["relu", "tanh", LEAKY], ids=str)
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_single_point_has_the_slope_at_it(phi: Any, norm: str) -> None:
    net = network(1, 2, 4, 3, 1, phi=phi)
    x = np.array([0.3, -0.7])
    slope = float(np.linalg.norm(net.gradients(x[None])[0], None if norm == "l2" else "nuc"))
    if norm == "linf":
        slope = float(np.abs(net.gradients(x[None])[0]).sum())
    for region in (Box(x, x), Ball(x, 0.0)):
        cert = certify(net, region=region, norm=norm)
        assert cert.check(net)
        assert cert.lower <= slope * (1.0 + 1e-12)
        assert cert.upper >= slope * (1.0 - 1e-12)
        assert cert.upper == pytest.approx(slope, rel=1e-5)


def test_an_input_that_is_held_counts_with_its_slope() -> None:
    """As the docs say: L is the largest slope at the points of the region, in any direction."""
    net = FeedForward([[[10.0, 1.0]], [[1.0]], [[1.0]]], [[5.0], [1.0], [0.0]], "relu")
    cert = certify(net, region=Box([0.1, -1.0], [0.1, 1.0]))
    assert cert.lower == pytest.approx(math.sqrt(101.0), rel=1e-9)
    assert cert.upper == pytest.approx(math.sqrt(101.0), rel=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_limits_that_are_all_infinite_are_those_of_all_inputs(norm: str) -> None:
    """Or say more: a unit that only takes ReLUs, weighs them negatively and has a negative bias is never on."""
    region = Box([-math.inf] * 2, [math.inf] * 2)
    everywhere, cert = certify(NET, norm=norm), certify(NET, region=region, norm=norm)
    assert cert.check(NET)
    assert exact_constant(NET, ALL, norm) <= cert.upper <= everywhere.upper * (1.0 + 1e-6)
    both = FeedForward(
        [np.vstack([W, -W]) for W in NET.weights[:1]] + [np.ones((3, 8)), np.ones((1, 3))],
        [np.zeros(8), np.full(3, -1.0), np.zeros(1)],
        "relu",
    )
    assert certify(both, region=region, norm=norm).upper == pytest.approx(certify(both, norm=norm).upper, rel=2e-6)


def test_one_limit_may_be_enough() -> None:
    """Units that weigh the limited input alone."""
    net = FeedForward([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]], [[1.0]]], [[0.0, 0.0], [0.0], [0.0]], "relu")
    assert certify(net, region=Box([-math.inf, -math.inf], [-1.0, math.inf])).upper == pytest.approx(1.0, rel=1e-6)


# ------------------------------------------------------------------------------------------------ kinks on the border


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    ("low", "high", "slope"),
    [
        (0.0, 1.0, 1.0),
        (-0.0, 1.0, 1.0),
        (-1.0, 0.0, 5.0),
        (-5e-324, 1.0, 5.0),
        (-1e-300, 1.0, 5.0),
        (-1e-17, 1.0, 5.0),
        (-1.0, 5e-324, 5.0),
        (5e-324, 1.0, 1.0),
    ],
)
def test_a_kink_on_the_border_is_on_neither_side(depth: int, low: float, high: float, slope: float) -> None:
    """φ(x), slopes −5 and 1, kink at zero; at any depth, the second layer on the right of its kink."""
    Ws, bs = [[[1.0]], [[1.0]]], [[0.0], [0.0]]
    if depth == 2:
        Ws, bs = [[[1.0]], [[1.0]], [[1.0]]], [[0.0], [10.0], [0.0]]
    net = FeedForward(Ws, bs, LEAKY)
    cert = certify(net, region=Box([low], [high]))
    assert cert.check(net)
    assert cert.lower <= slope * (1.0 + 1e-9)
    assert slope <= cert.upper <= 5.0 * (1.0 + 1e-6)


def test_a_kink_at_the_corner_of_a_box() -> None:
    """w x + b is zero at one corner alone, in numbers that are exact, and turns a little beyond it."""
    W, b = np.array([[1.0, 2.0]]), np.array([-3.0])  # zero at (1, 1)
    net = FeedForward([W, [[1.0]]], [b, [0.0]], LEAKY)
    size = math.sqrt(5.0)
    corner = np.ones(2)
    assert certify(net, region=Box(corner, corner + 1.0)).upper >= size
    assert certify(net, region=Box(corner - 1.0, corner)).upper >= 5.0 * size
    for step in (2.0**-52, 1e-12):
        beyond = corner.copy()
        beyond[0] -= step
        cert = certify(net, region=Box(beyond, corner + 1.0))
        assert cert.upper >= 5.0 * size


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("place", [1.0, 1e-3, 1e12, 1e-300])
def test_thin_boxes_about_a_kink_in_rationals(depth: int, place: float) -> None:
    """A few units in the last place wide, where pre-activations are all rounding; at 10¹² too."""
    rng = np.random.default_rng([depth, 7])
    for _ in range(12):
        net = network(int(rng.integers(10**6)), 1, *([3] * depth), 1, phi=LEAKY)
        x = float(place * rng.uniform(0.5, 1.5))
        W, b = net.weights[0], np.array(net.biases[0])
        b[0] = -float(W[0, 0]) * x  # the kink is near x
        net = FeedForward(net.weights, [b, *net.biases[1:]], LEAKY)
        low = high = x
        for _ in range(int(rng.integers(1, 4))):
            low, high = (
                (math.nextafter(low, -math.inf), high) if rng.random() < 0.5 else (low, math.nextafter(high, 9e99))
            )
        cert = certify(net, region=Box([low], [high]), tol=1e-4)
        assert cert.check(net)
        exact = square_on(net, low, high)
        assert Fraction(cert.upper) ** 2 >= exact
        assert Fraction(cert.lower) ** 2 <= exact * (1 + Fraction(1, 10**9))


@pytest.mark.parametrize("centre", [1e12, -1e15])
def test_regions_far_away(centre: float) -> None:
    rng = np.random.default_rng(3)
    for seed in range(8):
        net = network(seed, 1, 4, 3, 1)
        b = np.array(net.biases[0]) - net.weights[0][:, 0] * centre * (rng.random(4) < 0.7)
        net = FeedForward(net.weights, [b, *net.biases[1:]], net.activations)
        for region in (Box([centre - 1.0], [centre + 1.0]), Ball([centre], 1.0)):
            cert = certify(net, region=region)
            assert cert.check(net)
            exact = square_on(net, centre - 1.0, centre + 1.0)
            assert Fraction(cert.upper) ** 2 >= exact
            assert Fraction(cert.lower) ** 2 <= exact * (1 + Fraction(1, 10**9))


# -------------------------------------------------------------------------------------------------------- odd networks


def test_effects_that_cancel_leave_a_bound() -> None:
    """A unit whose weights above sum up to zero on a piece that the region does not leave; an input that does so."""
    W = [[1.0, 1.0], [1.0, -1.0], [2.0, 0.0]]
    V = [[1.0, 1.0, 0.5], [1.0, 1.0, 1.0]]
    net = FeedForward([W, V, [[1.0, -1.0]]], [[0.0, 0.1, 0.2], [9.0, 9.0], [0.0]], "relu")
    cert = certify(net, region=Box([-0.3, -0.3], [0.3, 0.3]))
    assert cert.kind == "regional"
    assert cert.upper <= 1.0 + 1e-4  # ½ relu(2 x + 0.2), what is left
    for norm in ("l2", "linf"):
        whole = certify(net, region=Box([1.0, -0.5], [2.0, 0.5]), norm=norm)
        assert whole.upper == pytest.approx(1.0, rel=1e-5)
        assert whole.lower == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_slopes_that_a_user_gives_hold_in_a_region(norm: str) -> None:
    net = network(5, 2, 3, 3, 1, phi=Activation("user", (0.0, 1.0)))
    everywhere = certify(net, norm=norm)
    for region in (Box([-0.1, -0.1], [0.1, 0.1]), Ball([0.0, 0.0], 0.1)):
        cert = certify(net, region=region, norm=norm)
        assert cert.check(net)
        assert cert.lower == 0.0
        assert cert.upper == pytest.approx(everywhere.upper, rel=2e-6)


@pytest.mark.parametrize("power", [-200, -40, 40, 200])
def test_scales_of_units_do_not_matter_in_a_region(power: int) -> None:
    """As folded batch normalisation leaves them: powers of two, so that the function is the same."""
    rng = np.random.default_rng(1)
    kappa = 2.0 ** (power * rng.integers(0, 2, 4))
    first, second, last = NET.weights
    net = FeedForward(
        [first * kappa[:, None], second / kappa, last], [NET.biases[0] * kappa, *NET.biases[1:]], NET.activations
    )
    for region in (Box([-0.3, -0.3], [0.3, 0.3]), Ball([0.1, 0.1], 0.3)):
        assert certify(net, region=region).upper == pytest.approx(certify(NET, region=region).upper, rel=2e-6)


@pytest.mark.parametrize("make", [lambda: residual(3, 4, seed=1), lambda: images(2)], ids=["residual", "images"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_skips_and_convolutions_in_a_region(make: Any, norm: str) -> None:
    net, rng = make(), np.random.default_rng(0)
    d = net.n_inputs
    output = None if norm == "l2" else 0
    everywhere = certify(net, norm=norm, output=output)
    x = 0.3 * rng.standard_normal(d)
    last = 0.0
    for half in (0.0, 0.02, 0.3):
        cert = certify(net, region=Box(x - half, x + half), norm=norm, output=output)
        assert cert.check(net)
        J = net.gradients(x + half * rng.uniform(-1.0, 1.0, (300, d)))
        sizes = np.abs(J[:, 0]).sum(axis=-1) if norm == "linf" else np.linalg.norm(J, 2, axis=(1, 2))
        assert sizes.max() * (1.0 - 1e-9) <= cert.upper <= everywhere.upper * (1.0 + 2e-6)
        assert cert.lower <= cert.upper
        assert cert.upper >= last * (1.0 - 2e-6)
        last = cert.upper


# ------------------------------------------------------------------------------------------------------ files, copies

REGIONS: list[Region] = [
    Box(np.array([-0.3, -np.inf]), np.array([0.3, 0.1])),
    Box(np.array([0.1, 0.1]), np.array([0.1, 0.1 + 2.0**-55])),
    Ball(np.array([0.1, 0.2]), 0.3),
]


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_a_file_carries_the_region_to_the_last_digit(region: Region, tmp_path: Path) -> None:
    cert = certify(NET, region=region)
    read = Certificate.load(cert.save(tmp_path / "c.json"))
    assert read.check(NET)
    assert type(read.region) is type(region)
    for mine, theirs in zip(cert.region.limits, read.region.limits):  # type: ignore[union-attr]
        assert mine == theirs
    assert read.to_json() == cert.to_json()
    assert read.subject == cert.subject != ""


def test_a_claim_of_a_region_is_of_its_network_alone() -> None:
    cert = certify(NET, region=REGIONS[0])
    other = FeedForward([NET.weights[0] * (1.0 + 2.0**-52), *NET.weights[1:]], NET.biases, NET.activations)
    assert not cert.check(other)
    shifted = FeedForward(NET.weights, [NET.biases[0] + 1e-9, *NET.biases[1:]], NET.activations)
    assert not cert.check(shifted)


def test_a_smaller_region_is_a_weaker_claim_and_a_larger_one_is_another() -> None:
    net = network(8, 2, 4, 3, 1)
    low, high = np.array([-0.2, -0.1]), np.array([0.2, 0.3])
    cert = certify(net, region=Box(low, high))
    assert cert.kind == "regional"
    assert dataclasses.replace(cert, box=(0.5 * low, 0.5 * high), lower=0.0).check(net)
    wide = (low - 50.0, high + 50.0)
    assert not dataclasses.replace(cert, box=wide).check(net)
    assert not dataclasses.replace(cert, box=None).check(net)
    assert not dataclasses.replace(cert, box=None, around=np.zeros(2), radius=50.0).check(net)


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_regions_are_copied_and_pickled(region: Region) -> None:
    for twin in (pickle.loads(pickle.dumps(region)), copy.deepcopy(region), copy.copy(region)):
        assert type(twin) is type(region)
        assert twin.limits == region.limits  # type: ignore[union-attr]
        assert certify(NET, region=twin).upper == certify(NET, region=region).upper
    assert pickle.loads(pickle.dumps(ALL)) == ALL


def test_limits_are_locked_and_nobody_elses() -> None:
    low, high = np.zeros(2), np.ones(2)
    box, ball = Box(low, high), Ball(low, 1.0)
    low += 5.0
    assert box.lower.tolist() == ball.centre.tolist() == [0.0, 0.0]
    for array in (box.lower, box.upper, ball.centre):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_the_checker_alone_takes_a_region(tmp_path: Path) -> None:
    cert, model = certify(NET, region=REGIONS[0]), tmp_path / "net.npz"
    path = cert.save(tmp_path / "c.json")
    NET.save(model)
    right = _checked(path, model)
    assert right.returncode == 0, right.stderr
    assert "box" in right.stdout
    wrong = dataclasses.replace(cert, box=(cert.box[0] - 100.0, cert.box[1] + 100.0))  # type: ignore[index]
    wrong.save(path, force=True)
    assert _checked(path, model).returncode != 0
    text = path.read_text().replace('"box"', '"bax"')
    path.write_text(text)
    with pytest.raises(AlteredCertificateError):
        Certificate.load(path)
    assert _checked(path, model).returncode != 0


def _checked(certificate: Path, model: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "certnet.proofs", str(certificate), str(model)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


# --------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e155, 1e200, 1e300])
def test_a_part_of_a_ball_is_outside_of_it_only_where_it_is(size: float) -> None:
    """Of all sizes: squares of distances overflow and underflow."""
    space = Space(NET, Ball(np.zeros(2), size), "l2")
    for share, outside in ((0.5, False), (0.999, False), (0.8, True)):
        _, part = space.root.within(0, share * size)
        if outside:  # the corner alone is cut off
            _, part = part.within(1, share * size)
        assert space.outside(part) == outside


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("seed", range(6))
def test_parts_of_tiny_networks_in_balls_and_boxes_close_on_the_constant(seed: int, norm: str) -> None:
    net = network(seed, 2, 3, 3, 1, phi=Activation("leaky_relu", (0.2,)))
    centre = np.array([0.2, -0.1])
    for region in (Ball(centre, 0.5), Box(centre - 0.5, centre + 0.5), Box([-math.inf, -0.6], [0.7, math.inf])):
        cert = certify(net, region=region, norm=norm, exact=True, time_limit=30.0)
        assert cert.check(net)
        L = exact_constant(net, region, norm)
        assert cert.lower <= L * (1.0 + 1e-9)
        assert L * (1.0 - 1e-9) <= cert.upper <= L * (1.0 + 3e-6)


# ------------------------------------------------------------------------------------------------- every activation


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_gradient_in_a_region_exceeds_its_bound(name: str) -> None:
    rng = np.random.default_rng(11)
    for seed in range(2):
        net = network(seed, 2, 4, 3, 2, phi=name)
        centre = 2.0 * rng.standard_normal(2)
        for half, norm in itertools.product((0.01, 0.3, 3.0), ("l2", "linf")):
            region: Region = Box(centre - half, centre + half) if norm == "l2" else Ball(centre, half)
            cert = certify(net, region=region, norm=norm, output=0, tol=1e-4)
            assert cert.check(net)
            J = net.gradients(centre + half * rng.uniform(-1.0, 1.0, (400, 2)))[:, 0]
            sizes = np.linalg.norm(J, axis=1) if norm == "l2" else np.abs(J).sum(axis=1)
            assert sizes.max() * (1.0 - 1e-9) <= cert.upper
            assert cert.lower <= cert.upper
            if half == 0.01 and FAMILIES[name].curvature(*FAMILIES[name].defaults) > 0.0:
                assert cert.upper <= 1.5 * sizes.max() + 0.1


@pytest.mark.parametrize("name", ["tanh", "silu", "elu", "hardtanh"])
def test_cases_of_smooth_units_hold(name: str) -> None:
    """Parts cut at inputs alone, as far as the time goes."""
    rng = np.random.default_rng(4)
    net = network(2, 2, 3, 3, 1, phi=name)
    region = Box([-0.4, -0.5], [0.6, 0.3])
    cert = certify(net, region=region, exact=True, tol=2e-2, time_limit=20.0)
    assert cert.check(net)
    X = rng.uniform(region.lower, region.upper, (4000, 2))
    best = float(np.linalg.norm(net.gradients(X)[:, 0], axis=1).max())
    assert cert.lower >= best * (1.0 - 2e-2)
    assert best * (1.0 - 1e-9) <= cert.upper <= best * 1.1
