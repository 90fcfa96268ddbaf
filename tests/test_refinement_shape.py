"""Shape limits: what is refused, the penalty's gradient, and projections that are proved."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certnet import FeedForward
from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer, read_only
from certnet.networks.operators import Blocks, Identity
from certnet.proofs.slopes import SlopeIntervals
from certnet.refinement.shape import ShapeLimits

LEAKY, STEEP, BENT = (Activation("leaky_relu", (slope,)) for slope in (0.2, 1.5, -0.3))
NAMES = ("age", "income", "rooms", "year")
INF = np.inf


def network(*widths: int, seed: int = 0, phi: Any = "relu") -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) * np.sqrt(1.5 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.3 * rng.standard_normal(b) for b in widths[1:]], phi)


def limits(net: FeedForward, signs: Any = None, slopes: Any = None, **options: Any) -> ShapeLimits:
    found = ShapeLimits.of(net, signs, slopes, **options)
    assert found is not None
    return found


def with_weights(net: FeedForward, weights: Any) -> FeedForward:
    return net.with_parameters(weights, net.biases, net.units)


# -------------------------------------------------------------------------------------------------------- what is asked


def test_signs_and_limits_by_name_by_index_and_together():
    net = network(4, 5, 1).described(About(inputs=NAMES))
    by_name = limits(net, {"income": 1, "year": -1}, {"age": (-1.0, 2.0), "income": (-1, 3), 2: (-INF, 0.5)})
    assert by_name.lower.tolist() == [-1.0, 0.0, -INF, -INF]
    assert by_name.upper.tolist() == [2.0, 3.0, 0.5, 0.0]
    assert by_name.limited.tolist() == [0, 1, 2, 3]
    as_array = limits(net, [0, 1, 0, -1])
    assert as_array.lower.tolist() == [-INF, 0.0, -INF, -INF]
    assert as_array.upper.tolist() == [INF, INF, INF, 0.0]
    assert as_array.limited.tolist() == [1, 3]
    other = limits(network(4, 5, 1), {"b": 1}, names=list("abcd"))
    assert other.limited.tolist() == [1]
    assert by_name.scaled([1.0, 2.0, 3.0, 4.0]).upper.tolist() == [2.0, 6.0, 1.5, 0.0]
    assert ShapeLimits.of(net) is None
    assert ShapeLimits.of(net, [0, 0, 0, 0], {"age": (-INF, INF)}) is None


@pytest.mark.parametrize(
    ("signs", "slopes", "message"),
    [
        ([0, 1, 0], None, "3 entries, the network has 4 inputs"),
        ([0, 1, 0, 2], None, r"'year'\) is 2"),
        ([0, 1, 0, np.nan], None, "NaN"),
        ([0, 0.5, 0, 0], None, "is 0.5"),
        ({"incme": 1}, None, "no input 'incme'; did you mean 'income'"),
        ({"age": "up"}, None, "a number is needed"),
        ({4: 1}, None, "between 0 and 3"),
        ({"age": 1, 0: 1}, None, "twice"),
        (None, {"romms": (0, 1)}, "did you mean 'rooms'"),
        (None, {"rooms": (2, 1)}, "the first is the lower one"),
        (None, {"rooms": (np.nan, 1)}, "is NaN"),
        (None, {"rooms": 3.0}, "a pair"),
        (None, {"rooms": (1, 2, 3)}, "a pair"),
        (None, {"rooms": (INF, INF)}, "no slope is infinite"),
        (None, [(0, 1)] * 4, "must map names or indices"),
        ({"age": 1}, {"age": (-2.0, -1.0)}, "leave no slope"),
        ({"age": -1}, {0: (0.0, 1.0)}, "leave slope 0 only"),
        (None, {"age": (0.5, 2.0)}, "excludes 0"),
        (None, {"age": (-2.0, -0.5)}, "excludes 0"),
    ],
)
def test_what_is_refused(signs, slopes, message):
    net = network(4, 5, 1).described(About(inputs=NAMES))
    with pytest.raises(InvalidInputError, match=message):
        ShapeLimits.of(net, signs, slopes)


def test_what_else_is_refused():
    with pytest.raises(InvalidInputError, match="no names"):
        ShapeLimits.of(network(3, 4, 1), {"age": 1})
    with pytest.raises(InvalidInputError, match="2 names of inputs, the network has 3"):
        ShapeLimits.of(network(3, 4, 1), {"age": 1}, names=("age", "b"))
    with pytest.raises(InvalidInputError, match="one output, the network has 2"):
        ShapeLimits.of(network(3, 4, 2), [1, 0, 0])
    for constant in ([1], np.array([False, True, False])):
        with pytest.raises(InvalidInputError, match="input 1 has one value"):
            ShapeLimits.of(network(3, 4, 1), [0, 1, 0], constant=constant)
        assert limits(network(3, 4, 1), [1, 0, 0], {1: (-1, 1)}, constant=constant).limited.tolist() == [0, 1]
    for phi in ("gelu", BENT):
        with pytest.raises(InvalidInputError, match="both signs"):
            ShapeLimits.of(network(3, 4, 1, phi=phi), [1, 0, 0])
        assert ShapeLimits.of(network(3, 4, 1, phi=phi), None, {0: (-0.1, 0.2)}) is not None
    with pytest.raises(InvalidInputError, match="factor of at least 25"):
        ShapeLimits.of(network(3, 4, 4, 1, phi=LEAKY), None, {0: (1.0, 24.0)})
    assert ShapeLimits.of(network(3, 4, 4, 1, phi=LEAKY), None, {0: (1.0, 25.5)}) is not None
    assert ShapeLimits.of(network(3, 4, 4, 1, phi=STEEP), None, {0: (-3.0, -1.0)}) is not None
    skip = Layer(Blocks(((Dense(read_only(np.eye(2))),), (Identity(2),))), np.zeros(4), Activation("relu"), 2)
    last = Layer(Dense(read_only(np.ones((1, 4)))), np.zeros(1), Activation("identity"))
    with pytest.raises(UnsupportedModelError, match="skips"):
        ShapeLimits.of(FeedForward.chain([skip, last]), [1, 0])


# ---------------------------------------------------------------------------------------------------------- the penalty

ASKED: list[tuple[Any, Any]] = [
    ([1, 0, -1], None),
    (None, {0: (-0.2, 0.1), 1: (-INF, 0.3)}),
    ([1, 0, 0], {0: (-INF, 0.2), 2: (-0.1, 0.1)}),
    (None, {1: (0.0, 0.0)}),
]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("phi", ["relu", LEAKY, "tanh"])
@pytest.mark.parametrize("hidden", [(6,), (5, 4), (4, 5, 3)])
def test_gradient_of_the_penalty(asked, phi, hidden):
    net = network(3, *hidden, 1, seed=2, phi=phi)
    shape = limits(net, *asked)
    value, gradient = shape.penalty(net.weights)
    assert value > 0.0
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = [rng.standard_normal(W.shape) for W in net.weights]
        ends = [shape.penalty([W + s * D for W, D in zip(net.weights, direction)])[0] for s in (1e-7, -1e-7)]
        slope = sum(float(np.sum(g * D)) for g, D in zip(gradient, direction))
        assert (ends[0] - ends[1]) / 2e-7 == pytest.approx(slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_violation_is_that_of_all_paths(seed):
    """For ReLU the ends are sums over paths of their positive and of their negative products."""
    net = network(3, 4, 3, 1, seed=seed)
    shape = limits(net, [1, -1, 0], {2: (-0.1, INF)})
    W0, W1, W2 = net.weights
    paths = np.einsum("k,kj,ji->kji", W2[0], W1, W0)
    up, down = np.maximum(paths, 0.0).sum(axis=(0, 1)), np.maximum(-paths, 0.0).sum(axis=(0, 1))
    assert shape.violation(net.weights) == pytest.approx(max(down[0], up[1], down[2] - 0.1))
    wrong = np.sum(np.minimum(paths[..., 0], 0.0) ** 2) + np.sum(np.maximum(paths[..., 1], 0.0) ** 2)
    assert shape.penalty(net.weights)[0] == pytest.approx(wrong + max(down[2] - 0.1, 0.0) ** 2)


# -------------------------------------------------------------------------------------------------------- projections


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**16),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.sampled_from(["relu", LEAKY, STEEP, "tanh"]),
    st.sampled_from([*ASKED, ([1, 1, 1], {1: (0.0, 0.01)}), (None, {0: (-1e-9, 1e-9), 1: (-1e9, 1e9)})]),
)
def test_projections_are_proved_and_stay(seed, hidden, phi, asked):
    net = network(3, *hidden, 1, seed=seed, phi=phi)
    shape = limits(net, *asked)
    weights = shape.projected(net.weights)
    made = with_weights(net, weights)
    proof = shape.proved(made)
    assert proof is not None
    assert proof.check(made)
    assert shape.violation(weights) <= 1e-12
    if phi in ("relu", "tanh"):
        assert shape.penalty(weights)[0] <= 1e-24
    for once, twice in zip(weights, shape.projected(weights)):
        np.testing.assert_array_equal(twice, once)
    rng = np.random.default_rng(seed)
    J = made.gradients(3.0 * rng.standard_normal((60, 3)))[:, 0]
    slack = 1e-12 * np.abs(J).max()
    assert (shape.lower - slack <= J).all()
    assert (shape.upper + slack >= J).all()


def test_networks_that_keep_the_limits_come_back_as_they_are():
    rng = np.random.default_rng(0)
    weights = [np.abs(rng.standard_normal(s)) for s in ((5, 3), (4, 5), (1, 4))]
    net = FeedForward(weights, [np.zeros(5), np.zeros(4), np.zeros(1)], LEAKY)
    found = SlopeIntervals.of(net)
    slopes = {i: (0.999 * found.lower[0, i], 1.001 * found.upper[0, i]) for i in range(3)}
    for shape in (limits(net, [1, 1, 0]), limits(net, None, slopes)):
        assert shape.proved(net) is not None
        assert shape.violation(net.weights) == 0.0
        for a, b in zip(shape.projected(net.weights), net.weights):
            np.testing.assert_array_equal(a, b)


def test_one_hidden_layer_is_clipped_where_the_sign_of_the_product_is_wrong():
    net = network(4, 20, 1, seed=5)
    W, V = net.weights
    made, same = limits(net, [1, -1, 0, 0]).projected(net.weights)
    np.testing.assert_array_equal(same, V)
    signs = np.sign(V[0])[:, None] * np.array([1.0, -1.0])
    np.testing.assert_array_equal(made[:, :2], np.where(signs * W[:, :2] > 0.0, W[:, :2], 0.0))
    np.testing.assert_array_equal(made[:, 2:], W[:, 2:])
    made, _ = limits(net, None, {0: (-0.3, 0.2)}).projected(net.weights)
    terms = V[0] * made[:, 0]
    assert np.minimum(terms, 0.0).sum() == pytest.approx(-0.3, rel=1e-8)
    assert np.maximum(terms, 0.0).sum() == pytest.approx(0.2, rel=1e-8)


def test_a_few_wrong_paths_are_cut_where_they_are_small():
    """Not at the input, which would take the right paths along."""
    rng = np.random.default_rng(0)
    weights = [np.abs(rng.standard_normal(s)) for s in ((6, 2), (5, 6), (1, 5))]
    weights[1][2, 3] = -1e-3
    net = FeedForward(weights, [np.zeros(6), np.zeros(5), np.zeros(1)], "relu")
    made = limits(net, [1, 1]).projected(net.weights)
    assert made[1][2, 3] == 0.0
    made[1][2, 3] = -1e-3
    for a, b in zip(made, net.weights):
        np.testing.assert_array_equal(a, b)


def test_monotone_units_may_be_rising_or_falling():
    """``−relu(−relu(x))`` rises; and other inputs are left alone."""
    weights = [np.array([[1.0, -2.0], [-1.0, 0.5]]), np.array([[-1.0, 1.0]]), np.array([[-1.0]])]
    net = FeedForward(weights, [np.zeros(2), np.zeros(1), np.zeros(1)], "relu")
    for a, b in zip(limits(net, [1, 0]).projected(net.weights), net.weights):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------------------ signed weights


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**16),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.sampled_from([[1, 0, -1], [1, 1, 1], [0, -1, 0]]),
)
def test_whatever_the_parameters_signs_are_kept(seed, hidden, signs):
    net, rng = network(3, *hidden, 1, seed=seed), np.random.default_rng(seed)
    shape = limits(net, signs, {0: (0.0, 0.0)} if signs[0] == 0 else None)
    weights = shape.projected(net.weights)
    signed = shape.signed(net.weights)
    start = signed.parameters(weights)
    # weights of units that move nothing may have another sign, or none
    X = rng.standard_normal((20, 3))
    near, far = (with_weights(net, made).predict(X) for made in (signed.weights(start), weights))
    np.testing.assert_allclose(near, far, atol=1e-4 * max(1.0, np.abs(far).max()))
    for _ in range(5):
        made = signed.weights([t + rng.standard_normal(t.shape) for t in start])
        assert shape.violation(made) == 0.0
        assert shape.proved(with_weights(net, made)) is not None


def test_gradient_in_the_parameters():
    net, rng = network(3, 5, 4, 1), np.random.default_rng(0)
    signed = limits(net, [1, 0, -1]).signed(net.weights)
    parameters = [rng.standard_normal(W.shape) for W in net.weights]
    aims = [rng.standard_normal(W.shape) for W in net.weights]

    def value(t: Any) -> float:
        return sum(float(np.sum(A * W**3)) for A, W in zip(aims, signed.weights(t)))

    gradient = signed.pulled_back(parameters, [3.0 * A * W**2 for A, W in zip(aims, signed.weights(parameters))])
    direction = [rng.standard_normal(W.shape) for W in net.weights]
    ends = [value([t + s * D for t, D in zip(parameters, direction)]) for s in (1e-6, -1e-6)]
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(
        sum(np.sum(g * D) for g, D in zip(gradient, direction)), rel=1e-6
    )


def test_a_descent_over_signed_weights_finds_the_best_monotone_line():
    """One hidden unit of either sign, and data that fall along an input that is to rise: the slope becomes zero."""
    signed = limits(network(2, 6, 1), [1, 0]).signed(network(2, 6, 1).weights)
    parameters = signed.parameters(network(2, 6, 1).weights)
    for _ in range(400):
        weights = signed.weights(parameters)
        slopes = weights[1] @ weights[0]
        back = slopes - np.array([[-1.0, 2.0]])
        steps = signed.pulled_back(parameters, [weights[1].T @ back, back @ weights[0].T])
        parameters = [t - 0.05 * g for t, g in zip(parameters, steps)]
    np.testing.assert_allclose(slopes, [[0.0, 2.0]], atol=1e-2)


def test_limits_away_from_zero_need_a_path():
    net = network(2, 3, 1, phi=LEAKY)
    shape = limits(net, None, {0: (0.5, 5.0)})
    assert shape.proved(with_weights(net, shape.projected(net.weights))) is not None
    with pytest.raises(CertificateError, match="no path"):
        shape.projected([0.0 * net.weights[0], net.weights[1]])


def test_limits_in_other_units_are_those_of_the_rescaled_network():
    net = network(3, 6, 5, 1)
    shape = limits(net, [1, 0, 0], {1: (-0.2, 0.4)})
    x_scale, y_scale = np.array([2.0, 5.0, 0.1]), 3.0
    inner = net.rescaled(x_shift=1.0, x_scale=1.0 / x_scale, y_shift=2.0, y_scale=1.0 / y_scale)
    made = with_weights(inner, shape.scaled(x_scale / y_scale).projected(inner.weights))
    outer = made.rescaled(x_shift=1.0, x_scale=x_scale, y_shift=2.0, y_scale=y_scale)
    assert shape.proved(outer) is not None
    assert SlopeIntervals.of(outer).upper[0, 1] == pytest.approx(0.4) or SlopeIntervals.of(outer).lower[
        0, 1
    ] == pytest.approx(-0.2)
