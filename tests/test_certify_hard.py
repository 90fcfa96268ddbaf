"""Networks and limits that are hard on searches: a bound above all slopes and below simpler bounds, or an error."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from test_proofs_storage import residual

from certnet import Certificate, FeedForward, certify
from certnet.core.errors import CertificateError
from certnet.searches.closed_form_layers import layer_multipliers

pytestmark = pytest.mark.filterwarnings("ignore::certnet.core.errors.NotConvergedWarning")

Array = Any
Change = Callable[[list[Array], list[Array]], None]


def net_of(*sizes: int, phi: Any = "relu", seed: int = 0, scale: float = 1.0) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [scale * rng.standard_normal((n, m)) * np.sqrt(2.0 / m) for m, n in itertools.pairwise(sizes)]
    phis = phi if isinstance(phi, list) else [phi] * (len(sizes) - 2)
    return FeedForward(weights, [0.1 * rng.standard_normal(n) for n in sizes[1:]], phis)


def changed(net: FeedForward, change: Change) -> FeedForward:
    weights, biases = [np.array(W) for W in net.weights], [np.array(b) for b in net.biases]
    change(weights, biases)
    return FeedForward(weights, biases, net.activations)


BASE = net_of(6, 12, 12, 12, 2)


def dead_and_alike(Ws: list[Array], bs: list[Array]) -> None:
    Ws[0][1], bs[0][1] = Ws[0][0], bs[0][0]
    Ws[1][2], bs[1][2] = Ws[1][3], bs[1][3]
    Ws[1][4] = Ws[0][6] = 0.0
    Ws[2][:, 5] = Ws[1][:, 7] = 0.0
    Ws[0][:, 2] = 0.0


def towers(Ws: list[Array], bs: list[Array]) -> None:
    for k, (a, b) in enumerate(itertools.pairwise((3, 6, 6, 6, 1))):
        Ws[k][:b, a:] = Ws[k][b:, :a] = 0.0


def towers_unlike(Ws: list[Array], bs: list[Array]) -> None:
    towers(Ws, bs)
    Ws[0][6:] *= 1e-9


def few(Ws: list[Array], bs: list[Array]) -> None:
    rng = np.random.default_rng(5)
    for W in Ws:
        W *= rng.random(W.shape) < 0.03


def scattered(Ws: list[Array], bs: list[Array]) -> None:
    rng = np.random.default_rng(1)
    for W in Ws:
        W *= 10.0 ** rng.uniform(-15, 15, W.shape)


def scaled_units(factor: float) -> Change:
    def change(Ws: list[Array], bs: list[Array]) -> None:
        for k in range(3):
            some = [k, k + 3]
            Ws[k][some], bs[k][some] = factor * Ws[k][some], factor * bs[k][some]
            Ws[k + 1][:, some] /= factor

    return change


NETWORKS: dict[str, FeedForward] = {
    "dead and alike": changed(BASE, dead_and_alike),
    "units times 1e12": changed(BASE, scaled_units(1e12)),
    "units times 1e-12": changed(BASE, scaled_units(1e-12)),
    "a bottleneck": net_of(8, 64, 1, 64, 3),
    "towers": changed(BASE, towers),
    "towers that are unlike": changed(BASE, towers_unlike),
    "few weights": changed(net_of(40, 80, 80, 80, 5, scale=5.0), few),
    "scattered weights": changed(BASE, scattered),
    "linear layers in a row": net_of(4, 6, 6, 6, 6, 6, 2, phi=["identity", "relu", "identity", "identity", "relu"]),
    "linear": net_of(4, 6, 6, 2, phi="identity"),
    "slopes that are known": net_of(4, 6, 6, 6, 2, phi=[(0.5, 0.5), "relu", (-0.3, -0.3)]),
    "slopes that are all known": net_of(4, 6, 6, 6, 2, phi=(0.7, 0.7)),
    "hardly bent": net_of(4, 6, 6, 2, phi=(0.5, 0.5 + 1e-9)),
    "falling": net_of(4, 6, 6, 2, phi=(-1.0, 0.0)),
    "both ways": net_of(4, 6, 6, 2, phi=(-1.0, 1.0)),
    "one unit per layer": net_of(3, *[1] * 6, 2),
    "one input": net_of(1, 10, 10, 40),
    "one output": net_of(200, 10, 10, 1),
    "deep": net_of(4, *[6] * 14, 2),
}


def steepest(net: FeedForward, norm: str) -> float:
    """The largest slope at random points, of several sizes."""
    if not net.has_values:
        return 0.0
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, net.n_inputs)) * 10.0 ** rng.uniform(-2, 2, (300, 1))
    J = net.gradients(X)
    if norm == "l2":
        return float(np.linalg.norm(J, 2, axis=(1, 2)).max())
    signs = rng.choice([-1.0, 1.0], (50, net.n_inputs))  # corners of the cube
    return float(np.linalg.norm(J @ signs.T, axis=1).max())


def assert_bound(net: FeedForward, cert: Certificate, norm: str) -> None:
    assert cert.check(net)
    assert 0.0 <= cert.lower <= cert.upper < math.inf
    assert steepest(net, norm) <= cert.upper * (1.0 + 1e-12)


def simplest(net: FeedForward) -> float:
    """The least of the product of norms, chains of pairs, and multipliers in closed form."""
    found = [certify(net, method=method).upper for method in ("product", "composition")]
    closed = layer_multipliers(net)
    return min([*found, math.inf if closed is None else closed[1]])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bound_is_proved_and_no_simpler_one_is_better(name: str) -> None:
    net = NETWORKS[name]
    cert = certify(net)
    assert_bound(net, cert, "l2")
    assert cert.upper <= simplest(net) * (1.0 + 1e-6)
    sup = certify(net, norm="linf")
    assert_bound(net, sup, "linf")
    # ‖x‖_∞ ≤ ‖x‖₂ ≤ √d ‖x‖_∞, of the bounds too
    assert cert.upper * (1.0 - 1e-5) <= sup.upper <= math.sqrt(net.n_inputs) * cert.upper * (1.0 + 1e-5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_units_of_other_sizes_have_the_same_bound(norm: str) -> None:
    upper = certify(BASE, norm=norm).upper
    for factor in (1e12, 1e-12, 2.0**200, 2.0**-200):
        other = changed(BASE, scaled_units(factor))
        cert = certify(other, norm=norm)
        assert cert.check(other)
        assert cert.upper == pytest.approx(upper, rel=2e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("k", range(4))
def test_a_layer_of_zeros_proves_zero(k: int, norm: str) -> None:
    def zeros(Ws: list[Array], bs: list[Array]) -> None:
        Ws[k][:] = 0.0

    net = changed(BASE, zeros)
    cert = certify(net, norm=norm)
    assert cert.upper == cert.lower == 0.0
    assert cert.check(net)
    assert not cert.check(BASE)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_an_activation_that_is_constant_proves_next_to_nothing(norm: str) -> None:
    net = net_of(4, 6, 6, 6, 2, phi=["relu", (0.0, 0.0), "relu"])
    cert = certify(net, norm=norm)
    assert cert.upper <= 1e-30
    assert cert.check(net)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("scale", [1e150, 1e100, 1e60, 1e-60, 1e-100, 1e-150])
def test_weights_of_any_size_are_proved_or_said_to_be_out_of_reach(scale: float, norm: str) -> None:
    def one_layer(Ws: list[Array], bs: list[Array]) -> None:
        Ws[1] *= scale

    small = net_of(4, 6, 6, 2)
    for net in (net_of(4, 6, 6, 2, scale=scale), changed(small, one_layer)):
        try:
            cert = certify(net, norm=norm)
        except CertificateError:
            continue
        assert cert.check(net)
        assert cert.upper >= cert.lower


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("slope", [1e-310, 1e-160, 1e-70, 1e70, 1e160])
def test_slopes_of_any_size_are_proved_or_said_to_be_out_of_reach(slope: float, norm: str) -> None:
    for phi in ((0.0, slope), (slope, slope), (-slope, 0.5 * slope)):
        net = net_of(4, 6, 6, 2, phi=phi)
        try:
            cert = certify(net, norm=norm)
        except CertificateError:
            continue
        assert cert.check(net)
        linear = FeedForward(net.weights, net.biases, [(slope, slope)] * 2)
        W, U, V = linear.weights
        if max(map(abs, phi)) == slope and phi[0] >= 0.0 and 1e-80 < slope < 1e80:
            order = 2 if norm == "l2" else np.inf
            size = np.linalg.norm(V @ U @ W, order) if norm == "l2" else np.linalg.norm((V @ U @ W).sum(axis=1))
            assert cert.upper >= slope**2 * size * (1.0 - 1e-12)


LIMITS: tuple[dict[str, Any], ...] = (
    {"time_limit": 1e-3},
    {"should_stop": lambda: True},
    {"max_iterations": 1},
    {"tol": 1e-12},
)


LIMITED = (BASE, NETWORKS["towers that are unlike"], net_of(5, *[6] * 9, 2), net_of(30, 40, 50, 30, 10), residual(4, 5))


@cache
def best_of(k: int, norm: str) -> float:
    return certify(LIMITED[k], norm=norm).upper


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: next(iter(limit)))
def test_whatever_the_limits_something_is_proved(limit: dict[str, Any], norm: str) -> None:
    for k, net in enumerate(LIMITED):
        cert, best = certify(net, norm=norm, **limit), best_of(k, norm)
        assert_bound(net, cert, norm)
        assert cert.upper <= 2.0 * best
        if "tol" in limit:
            assert cert.upper <= best * (1.0 + 1e-9)


@pytest.mark.parametrize("method", ["product", "composition", "layer", "neuron"])
def test_every_method_that_is_stopped_at_once_proves_something(method: str) -> None:
    cert = certify(BASE, method=method, should_stop=lambda: True)
    assert_bound(BASE, cert, "l2")
