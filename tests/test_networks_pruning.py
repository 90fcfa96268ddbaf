"""Units that do not matter: what is left computes the same, and is never certified for more."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet import FeedForward, ShallowNetwork, certify
from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer, read_only
from certnet.networks.operators import Blocks, Identity
from certnet.networks.pruning import pruned

LEAKY = Activation("leaky_relu", (0.2,))


def network(*widths: int, seed: int = 0, phi: str | Activation = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) for a, b in pairwise(widths)]
    return FeedForward(weights, [rng.standard_normal(b) for b in widths[1:]], phi)


def spoilt(seed: int, phi: str | Activation, *, scale: bool) -> tuple[FeedForward, tuple[int, int]]:
    """3-9-8-2 with a unit of each kind in both layers; and how many units of each layer matter at most."""
    net, rng = network(3, 9, 8, 2, seed=seed, phi=phi), np.random.default_rng(seed)
    weights, biases = [W.copy() for W in net.weights], [b.copy() for b in net.biases]
    for k in (0, 1):
        a, b, c, d = rng.permutation(len(weights[k]))[:4]
        weights[k][a] = 0.0
        weights[k + 1][:, b] = 0.0
        ratio = 1.7 if scale else 1.0
        weights[k][c], biases[k][c] = ratio * weights[k][d], ratio * biases[k][d]
    return net.with_parameters(weights, biases, net.units), (6, 5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from(["relu", LEAKY, "identity", "tanh", "softplus"]))
def test_the_function_stays_and_units_go(seed, phi):
    homogeneous = phi in ("relu", "identity") or phi is LEAKY
    net, most = spoilt(seed, phi, scale=homogeneous)
    X = np.random.default_rng(seed).standard_normal((40, 3))
    found = pruned(net, X)
    sizes = found.network.widths[1:-1]
    assert all(n <= m for n, m in zip(sizes, most))
    assert tuple(map(len, found.kept)) == sizes
    size = max(1.0, np.abs(net.forward(X)).max())
    assert found.change == np.abs(found.network.forward(X) - net.forward(X)).max() <= 1e-12 * size
    again = pruned(found.network)
    assert again.network == found.network
    assert again.change is None


@pytest.mark.parametrize("seed", range(4))
def test_the_certified_bound_is_never_higher(seed):
    net, _ = spoilt(seed, "relu", scale=True)
    assert certify(pruned(net).network).upper <= certify(net).upper * (1.0 + 1e-5)


def test_opposite_units_of_one_direction_cancel():
    W, b = np.array([[1.0, 2.0], [2.0, 4.0], [1.0, 0.0]]), np.array([0.5, 1.0, 0.0])
    net = ShallowNetwork(W, b, [[2.0, -1.0, 1.0]], [0.0])
    found = pruned(net.described(About(read="here", inputs=("a", "b"))))
    assert isinstance(found.network, ShallowNetwork)
    np.testing.assert_array_equal(found.network.W, [[1.0, 0.0]])
    assert found.network.about == About(read="here", inputs=("a", "b"))
    assert certify(found.network).upper == pytest.approx(1.0)


def test_a_chain_of_consequences():
    """A unit that is constant because all that it takes is; one that is not heard because those above are not."""
    net = network(2, 3, 3, 3, 1)
    weights = [W.copy() for W in net.weights]
    weights[0][0] = 0.0
    weights[1][1] = [5.0, 0.0, 0.0]  # hears the constant unit alone
    weights[2][:, 2] = 0.0
    weights[1][2] = [0.0, 0.0, 1.0]
    weights[1][0, 2] = 0.0  # the last unit below is heard by one that is not heard
    net = net.with_parameters(weights, net.biases, net.units)
    X = np.random.default_rng(0).standard_normal((30, 2))
    found = pruned(net, X)
    assert [kept.tolist() for kept in found.kept][:2] == [[1], [0]]
    np.testing.assert_allclose(found.network.forward(X), net.forward(X), rtol=1e-12)


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_constant_network_keeps_a_unit_in_every_layer(where):
    net = network(2, 4, 3, 1)
    weights = [0.0 * W if k == where else W for k, W in enumerate(net.weights)]
    net = net.with_parameters(weights, net.biases, net.units)
    found = pruned(net)
    assert found.network.widths == (2, 1, 1, 1)
    np.testing.assert_allclose(found.network.predict(np.eye(2)), net.predict(np.eye(2)), rtol=1e-13)
    assert certify(found.network).upper == 0.0


def test_slopes_alone_drop_units_that_are_not_heard():
    phi = Activation("user", (-0.1, 1.0))
    net = network(2, 4, 1, phi=phi)
    V = net.weights[1].copy()
    V[0, 1] = 0.0
    W = net.weights[0].copy()
    W[2] = 0.0  # its value is not known
    net = net.with_parameters([W, V], net.biases, net.units)
    assert pruned(net).kept[0].tolist() == [0, 2, 3]
    with pytest.raises(UnsupportedModelError, match="no values"):
        pruned(net, np.eye(2))


@pytest.mark.parametrize("phi", ["relu", "tanh"])
@pytest.mark.parametrize("tol", [1e-3, 0.03, 0.3])
def test_a_tolerance_is_kept_and_used(phi, tol):
    rng = np.random.default_rng(3)
    net = network(3, 20, 15, 2, phi=phi)
    weights = [W.copy() for W in net.weights]
    weights[1] *= np.geomspace(1.0, 1e-5, 20)
    weights[2] *= np.geomspace(1.0, 1e-4, 15)
    net = net.with_parameters(weights, net.biases, net.units)
    X = rng.standard_normal((300, 3))
    found = pruned(net, X, tol=tol)
    wanted = net.forward(X)
    change = np.sqrt(np.mean(np.sum((found.network.forward(X) - wanted) ** 2, axis=1)))
    assert change <= tol * np.sqrt(np.mean(np.sum((wanted - wanted.mean(axis=0)) ** 2, axis=1)))
    assert 2 <= found.network.n_hidden < net.n_hidden - 8
    assert found.change is not None
    assert found.change > 0.0


def test_more_is_dropped_for_more_tolerance():
    net, X = network(3, 30, 1), np.random.default_rng(0).standard_normal((100, 3))
    left = [pruned(net, X, tol=tol).network.n_hidden for tol in (0.0, 0.05, 0.2, 0.5)]
    assert left[0] == 30
    assert left == sorted(left, reverse=True)
    assert left[-1] < 25


def test_numbers_far_from_one():
    net = network(2, 5, 4, 1)
    big = net.with_parameters([1e150 * net.weights[0], 1e-150 * net.weights[1], net.weights[2]], net.biases, net.units)
    assert pruned(big).network == big
    huge = net.with_parameters([np.full((5, 2), 1e308), *net.weights[1:]], [np.zeros(5), *net.biases[1:]], net.units)
    assert pruned(huge).network.widths[1] == 1


def test_what_is_refused():
    net = network(2, 3, 1)
    with pytest.raises(InvalidInputError, match="tol > 0 needs X"):
        pruned(net, tol=0.1)
    for tol in (-0.1, np.nan, 1.0, "much"):
        with pytest.raises(InvalidInputError, match="tol"):
            pruned(net, np.eye(2), tol=tol)
    with pytest.raises(InvalidInputError, match="columns"):
        pruned(net, np.eye(3))
    with pytest.raises(InvalidInputError, match="ShallowNetwork or FeedForward"):
        pruned("net")
    skip = Layer(Blocks(((Dense(read_only(np.eye(2))),), (Identity(2),))), np.zeros(4), Activation("relu"), 2)
    last = Layer(Dense(read_only(np.ones((1, 4)))), np.zeros(1), Activation("identity"))
    with pytest.raises(UnsupportedModelError, match="skips"):
        pruned(FeedForward.chain([skip, last]))
