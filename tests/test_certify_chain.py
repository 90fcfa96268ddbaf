"""Chains of bounds: cut anywhere, each link proved, never below the truth, never above the product of norms."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from certnet import FeedForward, ShallowNetwork, certify
from certnet.certification import methods
from certnet.core.errors import InvalidInputError
from certnet.proofs.chain import ChainChecker, pair
from certnet.proofs.semidefinite import norm_at_most
from certnet.searches.chain import compose, product_norms, spectral_norm


def random_network(widths, activation="relu", seed=0):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.1 * rng.standard_normal(b) for b in widths[1:]], activation)


def all_cuts(n):
    """Every way to write n as an ordered sum of ones and twos."""
    for length in range(1, n + 1):
        for links in product((1, 2), repeat=length):
            if sum(links) == n:
                yield links


@pytest.mark.parametrize("widths", [(3, 5, 1), (4, 6, 5, 2), (3, 7, 6, 5, 2), (2, 4, 4, 4, 4, 3)])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "leaky_relu"])
def test_the_best_cut_is_the_least_over_all_cuts(widths, activation):
    net = random_network(widths, activation, seed=len(widths))
    steepest = max(map(abs, net.activations[0].slopes))
    norms = [float(s[0]) for s in product_norms(net)]
    blocks = [
        certify(
            FeedForward(net.weights[k : k + 2], net.biases[k : k + 2], activation), method="shallow", tol=1e-6
        ).upper
        for k in range(net.depth)
    ]
    best = min(
        np.prod([blocks[k] if n == 2 else norms[k] for k, n in zip(np.cumsum([0, *cut[:-1]]), cut)])
        * steepest ** (len(cut) - 1)
        for cut in all_cuts(len(norms))
    )
    cert = certify(net, method="composition")
    assert cert.upper == pytest.approx(best, rel=1e-9)
    assert cert.check(net)
    assert cert.lower <= cert.upper <= certify(net, method="product").upper * (1.0 + 1e-9)
    if net.depth > 1:
        assert certify(net, method="neuron").upper <= cert.upper * (1.0 + 1e-6)


def test_a_network_too_big_for_lipsdp_gets_the_chain_and_says_so(monkeypatch):
    monkeypatch.setattr(methods, "_LIPSDP_WORK", 1e6)
    net = random_network((300, 200, 150, 2), seed=3)
    cert = certify(net)
    assert (cert.kind, cert.method) == ("layer", "multipliers in closed form, one per layer")
    assert cert.upper < certify(net, method="composition").upper < certify(net, method="product").upper
    assert cert.check(net)
    # slopes on both sides of zero have no closed form
    bent = FeedForward(net.weights, net.biases, [(-0.1, 1.0)] * 2)
    cert = certify(bent)
    assert cert.kind == "composition"
    assert "pairs" in cert.method
    assert cert.upper < certify(bent, method="product").upper
    assert cert.check(bent)


def test_altered_chains_are_refused():
    net = random_network((3, 7, 6, 5, 2), seed=5)
    numbers = compose(net)
    right = ChainChecker(net, numbers)
    assert right.refusal is None
    assert right.holds(right.product)
    assert not right.holds(right.product * (1.0 - 1e-12))
    for k, entry in enumerate(numbers):
        for i in range(entry.size):
            altered = [e.copy() for e in numbers]
            last = i == entry.size - 1
            altered[k][i] *= (1.0 - 1e-6) if last else 0.5
            checker = ChainChecker(net, altered)
            assert checker.refusal is not None or not checker.holds(right.product * (1.0 - 1e-9))
            if last:
                assert checker.refusal is not None
        for bad in (np.zeros(0), np.ones(3), np.full(entry.shape, np.nan), -np.ones(entry.shape), np.ones((1, 1))):
            if bad.shape == entry.shape and bad.size == 0:
                continue
            altered = [e.copy() for e in numbers]
            altered[k] = bad
            assert ChainChecker(net, altered).refusal is not None
    assert ChainChecker(net, numbers[:-1]).refusal is not None
    assert ChainChecker(net, [*numbers, np.ones(1)]).refusal is not None
    assert ChainChecker(net, ["x"] * 4).refusal is not None
    assert "one non-negative number" in (ChainChecker(net, numbers, pairs=False).refusal or "")


def test_a_hidden_layer_of_one_unit_is_told_from_a_norm():
    net = FeedForward([[[2.0]], [[3.0]], [[1.0], [0.5]]], [[0.1], [-0.2], [0.0, 0.0]], "relu")
    exact = 6.0 * np.hypot(1.0, 0.5)
    for method in ("composition", "product", "neuron"):
        cert = certify(net, method=method)
        assert cert.upper == pytest.approx(exact, rel=1e-6)
        assert cert.check(net)


def test_zero_layers_bound_by_zero():
    net = FeedForward([np.zeros((3, 2)), np.ones((2, 3)), np.ones((1, 2))], [np.zeros(3), np.zeros(2), np.zeros(1)])
    for method in ("composition", "product"):
        cert = certify(net, method=method)
        assert cert.upper == 0.0
        assert cert.check(net)


def test_spectral_norms_are_those_of_a_singular_value_decomposition():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (5, 3), (3, 5), (40, 70)):
        W = rng.standard_normal(shape)
        exact = np.linalg.norm(W, 2)
        assert spectral_norm(W) == pytest.approx(exact, rel=1e-12)
        assert norm_at_most(W, exact * (1.0 + 1e-9))
        assert not norm_at_most(W, exact * (1.0 - 1e-9))
    assert spectral_norm(np.zeros((2, 2))) == 0.0


def test_chains_need_no_solver():
    net = random_network((3, 4, 4, 1))
    for method in ("composition", "product"):
        with pytest.raises(InvalidInputError, match="needs no solver"):
            certify(net, method=method, solver="CLARABEL")


def test_a_pair_is_the_network_between_two_layers():
    net = random_network((3, 4, 5, 2), seed=1)
    found = pair(net, 1)
    inner = ShallowNetwork(found.W, found.b, found.V, net.biases[2])
    x = np.abs(np.random.default_rng(2).standard_normal((6, 4)))
    np.testing.assert_allclose(
        inner.forward(x), np.maximum(x @ net.weights[1].T + net.biases[1], 0) @ net.weights[2].T + net.biases[2]
    )
