"""Alterations of a certificate and its network: small and wild, of every field, blind to whether they matter."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from judge import LEAKY, network
from lmi import Array

from certnet.certification import Certificate
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward

Rng = np.random.Generator

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


def change_tree(rng: Rng, tree: list[Any], h: int) -> list[Any]:
    """A node dropped, doubled, swapped, or with another unit, other units or other multipliers."""
    tree = copy.deepcopy(tree)
    i, j = (int(k) for k in rng.integers(len(tree), size=2))
    kind, data, *_ = tree[i]
    way = int(rng.integers(9))
    if way == 0:
        tree[i], tree[j] = tree[j], tree[i]
    elif way == 1:
        del tree[i]
    elif way == 2:
        tree.insert(i, tree[j])
    elif way == 3:
        tree[min(i, j) : max(i, j)] = [["empty", [int(k) for k in rng.integers(h, size=3)]]]
    elif way == 4:
        tree[i] = [["bound", "split", "empty"][int(rng.integers(3))], data]
    elif kind == "split":
        tree[i][1] = int(rng.integers(-1, h + 1))
    elif kind == "empty":
        tree[i][1] = sorted({int(k) for k in rng.integers(h, size=int(rng.integers(2, 5)))})
    else:
        tree[i][1] = change_list(rng, np.array(data, dtype=np.float64)).tolist()
    return tree


def multipliers(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    given = cert.multipliers
    with np.errstate(all="ignore"):
        if cert.kind == "tree":
            return net, dataclasses.replace(cert, multipliers=tuple(change_tree(rng, list(given), net.n_hidden)))
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
        {"norm": "linf" if cert.norm == "l2" else "l2"},
        {"norm": "L2"},
        {"slopes": ((0.0, 0.9),) * net.depth},
        {"slopes": cert.slopes * 2},
        {"shape": (*net.widths, 1)},
        {"shape": (*net.widths[::-1], 9)},
        *({"kind": kind} for kind in ("shallow", "neuron", "layer", "product", "composition", "tree", "", "\ud800")),
    ]
    return net, dataclasses.replace(cert, **changes[int(rng.integers(len(changes)))])


def output(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    odd: list[Any] = [None, (0,), (1,), (2,), (0, 1), (1, 0), (2, 1), (0, 0), (0, 1, 2), (9,), (-1,), (), (True,)]
    odd += [(0.0,), ("0",), ([],), [0], 0, "0", (np.int64(0),)]
    return net, dataclasses.replace(cert, output=odd[int(rng.integers(len(odd)))])


def another(rng: Rng, net: FeedForward, cert: Certificate) -> Altered:
    """Another network, of another depth too, that claims the certificate for its own."""
    widths = [int(n) for n in rng.integers(1, 4, size=int(rng.integers(3, 6)))]
    other = network(int(rng.integers(1000)), *(net.widths if rng.random() < 0.5 else widths))
    slopes = tuple(phi.slopes for phi in other.activations)
    return other, dataclasses.replace(cert, digest=other.digest, shape=other.widths, slopes=slopes)


ALTERATIONS: tuple[Callable[[Rng, FeedForward, Certificate], Altered], ...] = (
    *(multipliers, multipliers, multipliers, upper, upper, both, both, lower, witness, weight, weight),
    *(activation, ball, label, output, another),
)
