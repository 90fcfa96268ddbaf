"""Thousands of altered certificates of regions: what is accepted is decided again, by other means."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from alter import WILD, change, change_list, label, lower, multipliers, output, upper, weight, witness
from judge import jacobian, rows
from patterns import exact_constant, size_of
from region_judge import lies_within, regional_is_proved, slopes_occur_within
from test_relaxation import points

from certnet import Ball, Box, Certificate, FeedForward, certify
from certnet.claims.families import identity
from certnet.claims.region import Region
from certnet.core.errors import CertnetError
from certnet.networks.activations import Activation

Rng = np.random.Generator
Altered = tuple[FeedForward, Certificate]
LEAKY = Activation("leaky_relu", (-0.5,))


def network(seed: int, *widths: int, phi: Any = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    Ws = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(widths)]
    return FeedForward(Ws, [rng.standard_normal(len(W)) for W in Ws], phi)


BOX = Box(np.array([-0.3, -0.6]), np.array([0.5, 0.2]))
HALF = Box(np.array([-0.1, -np.inf]), np.array([np.inf, 0.4]))
BALL = Ball(np.array([0.3, -0.2]), 0.4)
_SUBJECTS: dict[str, tuple[FeedForward, dict[str, Any]]] = {
    "box": (network(1, 2, 4, 3, 1), {"region": BOX}),
    "box, leaky": (network(2, 2, 3, 3, 2, phi=LEAKY), {"region": BOX}),
    "box, deeper": (network(3, 2, 3, 2, 2, 1), {"region": BOX}),
    "box without limits": (network(4, 2, 3, 3, 1), {"region": HALF}),
    "box, an output": (network(5, 2, 3, 3, 3), {"region": BOX, "output": 1}),
    "box, a difference": (network(6, 2, 3, 3, 3), {"region": BOX, "output": (2, 0)}),
    "box, sup norm": (network(7, 2, 3, 3, 1), {"region": BOX, "norm": "linf"}),
    "ball": (network(8, 2, 4, 3, 1), {"region": BALL}),
    "ball, leaky": (network(9, 2, 3, 3, 2, phi=LEAKY), {"region": BALL}),
    "ball, sup norm": (network(10, 2, 3, 3, 1), {"region": BALL, "norm": "linf"}),
    "one layer": (network(12, 2, 5, 2, phi=LEAKY), {"region": BOX}),
    "one layer, without limits": (network(13, 2, 5, 1), {"region": HALF, "norm": "linf"}),
    "ball, sup norm of a difference": (network(11, 2, 3, 2, 2), {"region": BALL, "norm": "linf", "output": (0, 1)}),
}
SUBJECTS = tuple(_SUBJECTS)


@cache
def subject(name: str) -> tuple[FeedForward, Certificate]:
    net, options = _SUBJECTS[name]
    cert = certify(net, **options)
    assert cert.kind == ("regional" if net.depth > 1 else "shallow")
    return net, cert


def is_flat(region: Region) -> bool:
    """Has it no inside?"""
    return (
        bool((region.lower >= region.upper).any()) if isinstance(region, Box) else getattr(region, "radius", 1.0) == 0.0
    )


def assert_true(net: FeedForward, cert: Certificate) -> None:
    """What a certificate that was accepted says must be so, of this network, in its region."""
    assert cert.digest in (identity(net).digest, *identity(net).others)
    assert (cert.units, cert.shape) == (net.units, net.widths)
    assert cert.slopes == tuple(phi.slopes for phi in net.activations)
    assert cert.norm in ("l2", "linf")
    assert not (cert.box is not None and (cert.around is not None or cert.radius is not None))
    if cert.kind == "regional":
        assert regional_is_proved(net, cert.multipliers, float(cert.upper), cert.norm, cert.output)
        some = list(points(cert.region, cert.norm, np.random.default_rng(0), net, 12))
        assert slopes_occur_within(net, cert.multipliers, some)
    L = exact_constant(net, cert.region, cert.norm, cert.output)
    assert float(cert.upper) >= L * (1.0 - 1e-9)
    if cert.lower == 0.0:
        return
    assert lies_within(cert.region, cert.witness, cert.norm)
    chosen = [rows(W) for W in net.weights]
    if cert.output is not None:
        i, *others = cert.output
        chosen[-1] = [[a - b for a, b in zip(chosen[-1][i], chosen[-1][others[0]])] if others else chosen[-1][i]]
    J = jacobian(net, chosen, rows(cert.witness)[0])
    assert J is not None
    assert cert.lower <= size_of(np.array([[float(a) for a in row] for row in J]), cert.norm) * (1.0 + 1e-12)
    assert cert.lower <= L * (1.0 + 1e-9) or is_flat(cert.region)


# -------------------------------------------------------------------------------------------------------- alterations


def numbers(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    """Multipliers, slopes, or weights of inputs: some of them a little or wildly."""
    if cert.kind != "regional":
        return multipliers(rng, net, cert)
    parts = list(cert.multipliers)
    k = int(rng.integers(len(parts)))
    with np.errstate(all="ignore"):
        parts[k] = change_list(rng, parts[k])
    if rng.random() < 0.1:
        parts = [parts[i] for i in rng.permutation(len(parts))][: int(rng.integers(1, len(parts) + 1))]
    return net, dataclasses.replace(cert, multipliers=tuple(parts))


def slopes(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    """The slopes of a unit narrowed, widened, or forgotten, with and without a multiplier for it."""
    if cert.kind != "regional":
        return region(rng, net, cert)
    parts = [np.array(part) for part in cert.multipliers]
    k = int(rng.integers(net.depth))
    T, low, high = parts[3 * k : 3 * k + 3]
    j = int(rng.integers(len(low)))
    bends, at = low[j] < high[j], int((low < high)[:j].sum())
    left, right = net.activations[k].slopes
    way = int(rng.integers(6))
    if way == 0:
        low[j] = high[j]
    elif way == 1:
        high[j] = low[j]
    elif way == 2:
        low[j], high[j] = left, right
    elif way == 3:
        low[j], high[j] = low[j] - abs(change(rng)), high[j] + abs(change(rng))
    elif way == 4:
        low[j], high[j] = np.nextafter(low[j], rng.choice([-1.0, 2.0])), np.nextafter(high[j], rng.choice([-1.0, 2.0]))
    else:
        low[j], high[j] = high[j], low[j]
    if rng.random() < 0.8:  # so that the numbers fit
        if bends and not low[j] < high[j]:
            T = np.delete(T, at)
        elif not bends and low[j] < high[j]:
            T = np.insert(T, at, float(10.0 ** rng.uniform(-2, 3)))
    parts[3 * k : 3 * k + 3] = T, low, high
    return net, dataclasses.replace(cert, multipliers=tuple(parts))


def region(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    """Limits, centre or radius moved a little or far, swapped, wild; a ball for a box and both at once."""
    way = int(rng.integers(8))
    step = change(rng)
    box = (BOX.lower, BOX.upper) if cert.box is None else cert.box
    low, high = np.array(box[0]), np.array(box[1])
    i = int(rng.integers(2))
    if way == 0:
        low[i] += step
    elif way == 1:
        high[i] += step
    elif way == 2:
        low, high = low + step, high + step
    elif way == 3:
        low, high = high, low
    elif way == 4:
        (low if rng.random() < 0.5 else high)[i] = float(rng.choice(WILD))
    elif way == 5:
        low = np.resize(low, rng.integers(1, 4))
    elif way == 6:
        low[i] = high[i]
    if cert.box is not None or way == 7:
        bad: dict[str, Any] = {"box": (low, high)}
        if way == 7 and rng.random() < 0.7:
            bad = [
                {"box": None},
                {"box": None, "around": 0.5 * (low + high), "radius": 0.3},
                {"around": low},
                {"radius": 0.1},
            ][int(rng.integers(4))]
        return net, dataclasses.replace(cert, **bad)
    centre, radius = np.array(cert.around), float(cert.radius or 0.0)
    if way == 0:
        centre = centre + step
    elif way == 1:
        radius *= 1.0 + step
    elif way == 2:
        centre[i] = float(rng.choice(WILD))
    elif way == 3:
        radius = float(rng.choice(WILD))
    elif way == 4:
        centre = np.resize(centre, 3)
    elif way == 5:
        radius = math.nextafter(radius, float(rng.choice([0.0, 1.0])))
    else:
        radius = 0.0
    return net, dataclasses.replace(cert, around=centre, radius=radius)


def both(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    first: Callable[..., Altered] = [numbers, slopes, region][int(rng.integers(3))]
    return upper(rng, *first(rng, net, cert))


ALTERATIONS: tuple[Callable[..., Altered], ...] = (
    *(numbers, numbers, slopes, slopes, slopes, region, region, region, both, both, upper, upper),
    *(lower, witness, weight, label, output),
)


@pytest.mark.parametrize("name", SUBJECTS)
def test_whatever_is_accepted_is_true(name: str) -> None:
    net, cert = subject(name)
    assert cert.check(net)
    assert_true(net, cert)
    rng = np.random.default_rng([SUBJECTS.index(name), 15])
    accepted = refused = 0
    for _ in range(260):
        try:
            its_net, bad = ALTERATIONS[int(rng.integers(len(ALTERATIONS)))](rng, net, cert)
        except CertnetError:
            refused += 1
            continue
        if bad.check(its_net):
            accepted += 1
            assert_true(its_net, bad)
        else:
            refused += 1
    assert accepted > 25
    assert refused > 80


# -------------------------------------------------------------------------------------------------------------- parts

_PARTS: dict[str, tuple[FeedForward, dict[str, Any]]] = {
    "box": (network(21, 2, 4, 3, 1), {"region": BOX}),
    "box, leaky, sup norm": (network(22, 2, 3, 3, 1, phi=LEAKY), {"region": BOX, "norm": "linf"}),
    "without limits": (network(23, 2, 3, 3, 2), {"region": HALF}),
    "ball": (network(24, 2, 4, 3, 1), {"region": Ball(np.array([0.3, -0.2]), 0.9)}),
    "everywhere": (network(25, 2, 3, 3, 1), {}),
    "one layer": (network(26, 2, 6, 2), {"region": Box(np.array([-2.0, -1.0]), np.array([1.0, 2.0]))}),
    "one layer in a ball": (network(26, 2, 6, 2), {"region": Ball(np.array([0.3, -0.2]), 1.5)}),
    "a difference": (network(27, 2, 3, 3, 3), {"region": BOX, "output": (2, 0)}),
}


@cache
def parts_of(name: str) -> tuple[FeedForward, Certificate]:
    net, options = _PARTS[name]
    with patch("certnet.certification.bracket._FEW_INPUTS", 0):  # one hidden layer by trees of cases
        return net, certify(net, exact=True, time_limit=60.0, **options)


def nodes(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    """A node dropped, doubled, swapped, called empty or another, or with other numbers."""
    if cert.kind == "tree":
        return multipliers(rng, net, cert)
    tree = copy.deepcopy([list(node) for node in cert.multipliers])
    i, j = (int(k) for k in rng.integers(len(tree), size=2))
    node, way = tree[i], int(rng.integers(9))
    if way == 0:
        tree[i], tree[j] = tree[j], tree[i]
    elif way == 1:
        del tree[i]
    elif way == 2:
        tree.insert(i, copy.deepcopy(tree[j]))
    elif way == 3:
        tree[min(i, j) : max(i, j) + 1] = [["empty"]]
    elif way == 4:
        tree[i] = ["empty"]
    elif way == 5:
        units = [[int(k), int(u)] for k, u in rng.integers(-2, 3, size=(int(rng.integers(1, 4)), 2))]
        tree[i] = ["empty", units, *([np.abs(rng.standard_normal(len(units))).tolist()] if rng.random() < 0.5 else [])]
    elif node[0] == "input":
        tree[i] = ["input", int(rng.integers(-1, 3)) if way == 6 else node[1], node[2] + change(rng)]
    elif node[0] == "unit":
        tree[i] = ["unit", int(rng.integers(-1, 3)) if way == 6 else node[1], int(rng.integers(-1, 4))]
    elif node[0] == "bound":
        which = int(rng.integers(1, len(node)))
        k = int(rng.integers(len(node[which])))
        if which == 2:  # units that bend, with and without the numbers of multipliers that fit
            units = sorted(set(map(int, rng.integers(0, net.widths[k + 1], size=int(rng.integers(0, 4))))))
            node[2][k] = units
            if rng.random() < 0.7:
                node[1][k] = [float(10.0 ** rng.uniform(-2, 2)) for _ in units]
        elif which == 1:
            with np.errstate(all="ignore"):
                node[1][k] = change_list(rng, np.array(node[1][k], dtype=np.float64)).tolist()
        else:
            with np.errstate(all="ignore"):
                node[which] = change_list(rng, np.array(node[which], dtype=np.float64)).tolist()
    elif len(node) > 1:
        tree[i] = node[:-1]
    return net, dataclasses.replace(cert, multipliers=tuple(tree))


@pytest.mark.parametrize("name", _PARTS)
def test_altered_parts_prove_nothing_false(name: str) -> None:
    """The bounds of these certificates are the constants themselves: nothing is to be left out."""
    net, cert = parts_of(name)
    assert cert.kind == ("parts" if net.depth > 1 else "tree")
    assert cert.check(net)
    assert cert.upper <= exact_constant(net, cert.region, cert.norm, cert.output) * (1.0 + 1e-5)
    assert_true(net, cert)
    rng = np.random.default_rng([list(_PARTS).index(name), 16])
    others = (nodes, nodes, nodes, nodes, region, region, upper, lower, witness, weight, output, label)
    accepted = refused = 0
    for _ in range(140):
        way: Callable[..., Altered] = others[int(rng.integers(len(others)))]
        if way is region and cert.box is None and cert.around is None:
            way = nodes
        try:
            its_net, bad = way(rng, net, cert)
            if way is not upper and rng.random() < 0.2:
                its_net, bad = upper(rng, its_net, bad)
        except CertnetError:
            refused += 1
            continue
        if bad.check(its_net):
            accepted += 1
            assert_true(its_net, bad)
        else:
            refused += 1
    assert accepted > 8
    assert refused > 50


# -------------------------------------------------------------------------------------------------------------- files

ODD = [None, True, 0, -1, 1.5, "", "1", [], {}, [None], [[]], [[None], [None]], [1.0, "x"], 1e400, "\ud800"]


def box_files(low: list[Any], high: list[Any]) -> list[Any]:
    """What a file may say in the place of a box."""
    return [
        [high, low],
        [low],
        [low, high, high],
        [low[:1], high],
        [low[:1], high[:1]],
        [low + low, high + high],
        [[None] * len(low), [None] * len(low)],
        [low, [None] * len(low)],
        [[math.nan, *low[1:]], high],
        [[math.inf, *low[1:]], high],
        [["0", *low[1:]], high],
        [[True, *low[1:]], high],
        [[10**400, *low[1:]], high],
        [[low[0] + 0.05, *low[1:]], high],
        [[low[0] - 5.0, *low[1:]], high],
        {"lower": low, "upper": high},
        None,
    ]


def resealed(data: dict[str, Any]) -> str:
    """With the seal and what follows from others, as one who alters a file would write it."""
    from certnet.claims.sealed import seal

    try:
        return json.dumps({**data, "seal": seal(data)})
    except ValueError:
        return json.dumps(data)


@pytest.mark.parametrize("name", ["box", "box without limits", "ball", "ball, sup norm"])
def test_altered_files_are_refused_or_true(name: str, tmp_path: Path) -> None:
    net, cert = subject(name)
    path = cert.save(tmp_path / "c.json")
    plain = json.loads(path.read_text())
    assert assert_read(path, net) is not None
    low, high = plain.get("box", ([-0.3, -0.6], [0.5, 0.2]))
    changes: list[dict[str, Any]] = [{"box": bad} for bad in box_files(low, high)]
    changes += [{"box": [low, high], "around": [0.0, 0.0], "radius": 0.1}, {"around": None}, {"radius": None}]
    changes += [{name: odd} for name in plain for odd in ODD]
    changes += [{"kind": kind} for kind in ("neuron", "layer", "shallow", "tree", "product", "composition")]
    accepted = refused = 0
    for altered in [*changes, *[{name: ...} for name in plain]]:
        data = {key: value for key, value in {**plain, **altered}.items() if value is not ...}
        for text in (json.dumps(data), resealed(data)):
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            found = assert_read(path, net)
            if found is None or {**plain, **altered} == plain:
                refused += 1
            else:
                accepted += 1
    assert refused > 300
    assert accepted > 5  # words that nothing hangs on


def assert_read(path: Path, net: FeedForward) -> Certificate | None:
    """The certificate of a file that is read and accepted, which is true then."""
    try:
        cert = Certificate.load(path)
    except CertnetError:
        return None
    if not cert.check(net):
        return None
    assert_true(net, cert)
    return cert


def test_the_judge_refuses_what_is_wrong() -> None:
    """A bound below the constant, slopes that leave one out, a witness outside."""
    net, cert = subject("box")
    L = exact_constant(net, cert.region)
    for bad in (
        dataclasses.replace(cert, upper=0.99 * L),
        dataclasses.replace(cert, upper=cert.upper * (1.0 - 1e-6)),
        dataclasses.replace(cert, lower=1.001 * L),
        dataclasses.replace(cert, witness=BOX.upper + 1.0),
    ):
        with pytest.raises(AssertionError):
            assert_true(net, bad)
    parts = list(cert.multipliers)
    k = next(k for k in range(net.depth) if (parts[3 * k + 1] < parts[3 * k + 2]).any())
    parts[3 * k + 1] = parts[3 * k + 2]
    parts[3 * k] = np.zeros(0)
    some = list(points(cert.region, "l2", np.random.default_rng(0), net, 200))
    assert slopes_occur_within(net, cert.multipliers, some)
    assert not slopes_occur_within(net, parts, some)
    assert Fraction(cert.upper) > 0
