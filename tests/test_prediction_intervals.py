"""Proved intervals of predictions: they hold what sampling finds, and are never wider than either of their parts."""

from __future__ import annotations

import itertools
import warnings
from fractions import Fraction

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor

import certnet
from certnet import Box, FeedForward, ShallowNetwork, certify, certify_outputs, prediction_intervals
from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.proofs.relaxation import Balls, Boxes, output_limits
from certnet.robust.intervals import values

WIDTHS = [(3, 8, 1), (4, 10, 12, 9, 3), (10, 64, 64, 1)]


def network(widths: tuple[int, ...], activation: str = "relu", seed: int = 0) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(b, a)) * np.sqrt(2 / a) for a, b in itertools.pairwise(widths)]
    return FeedForward(weights, [0.3 * rng.normal(size=b) for b in widths[1:]], activation)


def in_ball(rng: np.random.Generator, X: np.ndarray, radius: np.ndarray, norm: str) -> np.ndarray:
    D = rng.normal(size=X.shape)
    size = np.linalg.norm(D, axis=1) if norm == "l2" else np.abs(D).max(axis=1)
    return X + (radius / size * rng.uniform(0.5, 1.0, len(X)))[:, None] * D


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "softplus"])
@pytest.mark.parametrize("widths", WIDTHS)
def test_intervals_hold_samples_and_are_what_both_methods_have_in_common(widths, activation):
    net, rng = network(widths, activation), np.random.default_rng(1)
    X = rng.normal(size=(40, widths[0]))
    half, radius = rng.uniform(0.0, 0.3, X.shape), rng.uniform(0.0, 0.6, 40)
    proof = certify(net, tol=1e-3)
    f = net.forward(X)
    cases = [
        ({"box": half}, Boxes(X - half, X + half), np.linalg.norm(half, axis=1)),
        ({"radius": radius}, Balls(X, radius), radius),
        ({"radius": radius, "norm": "linf"}, Balls(X, radius, "linf"), radius * np.sqrt(widths[0])),
    ]
    for asked, inputs, reach in cases:
        lower, upper = prediction_intervals(net, X, **asked, certificate=proof)
        alone = prediction_intervals(net, X, **asked)
        assert lower.shape == upper.shape == f.shape
        for _ in range(100):
            if "box" in asked:
                Y = X + half * rng.choice([-1.0, 1.0, rng.uniform(-1, 1)], X.shape)
            else:
                Y = in_ball(rng, X, radius, asked.get("norm", "l2"))
            g = net.forward(Y)
            assert (lower <= g + 1e-12).all()
            assert (g <= upper + 1e-12).all()
        # never outside of what relaxation gives, nor of what the bound gives
        ends = output_limits(net, inputs)
        np.testing.assert_allclose(alone, (ends.left, ends.right), rtol=1e-12, atol=1e-12)
        assert (lower >= alone[0]).all()
        assert (upper <= alone[1]).all()
        assert (lower >= f - proof.upper * reach[:, None] - 1e-9).all()
        assert (upper <= f + proof.upper * reach[:, None] + 1e-9).all()
        expected = np.maximum(ends.left, f - proof.upper * reach[:, None])
        np.testing.assert_allclose(lower, expected, rtol=1e-9, atol=1e-9)


def test_ten_thousand_samples_each_of_a_row():
    net, rng = network((10, 64, 64, 1)), np.random.default_rng(3)
    X = rng.normal(size=(300, 10))
    lower, upper = prediction_intervals(net, X, box=0.1)
    for k in (0, 150, 299):  # a batch is its rows
        one = prediction_intervals(net, X[k : k + 1], box=0.1)
        np.testing.assert_allclose((one[0][0], one[1][0]), (lower[k], upper[k]), rtol=1e-12)
        g = net.forward(X[k] + rng.uniform(-0.1, 0.1, (10_000, 10)))
        assert lower[k] <= g.min()
        assert g.max() <= upper[k]


def test_exact_where_no_unit_switches():
    # relu(x₁ + 10) − 2 relu(x₂ + 10) is linear here
    net = ShallowNetwork(np.eye(2), [10.0, 10.0], [[1.0, -2.0]], [0.5])
    lower, upper = prediction_intervals(net, [[1.0, 2.0]], box=[0.25, 0.5])
    assert Fraction(lower[0, 0]) <= Fraction(1 + 10 + 1 - 4 - 20) + Fraction(1, 2) - 1 - Fraction(5, 4)
    assert lower[0, 0] == pytest.approx(-12.5 - 1.25, rel=1e-12)
    assert upper[0, 0] == pytest.approx(-12.5 + 1.25, rel=1e-12)
    ball = prediction_intervals(net, [[1.0, 2.0]], radius=0.5)
    assert ball[1][0, 0] == pytest.approx(-12.5 + 0.5 * np.sqrt(5.0), rel=1e-12)


def test_rounding_of_the_values_is_charged():
    net = ShallowNetwork([[0.1], [0.7]], [1e6 / 3, -1e6 / 7], [[1e5 / 3, 1e5 / 11]], [0.1])
    X = np.random.default_rng(0).normal(size=(50, 1)) * 1e6
    lower, upper = prediction_intervals(net, X, box=0.0)
    W, b, V = ([Fraction(float(e)) for e in a.ravel()] for a in (net.W, net.b, net.V))
    for x, low, high in zip(X[:, 0], lower[:, 0], upper[:, 0]):
        z = [max(w * Fraction(float(x)) + shift, Fraction(0)) for w, shift in zip(W, b)]
        exact = sum(v * e for v, e in zip(V, z)) + Fraction(float(net.c[0]))
        assert Fraction(float(low)) <= exact <= Fraction(float(high))
        assert high - low <= 1e-10 * abs(high)


def test_rounding_of_differences_is_charged():
    # 1/3 and 1e-20 are no multiples of one unit: the difference of the weights is rounded
    V, c = np.array([[1.0 / 3.0, 1e5], [1e-20, 1e5 - 1e-11]]), np.array([1e10 / 3.0, 1e-9 / 7.0])
    net = ShallowNetwork(np.eye(2), [0.1, 0.7], V, c)
    X = 1e6 * np.random.default_rng(0).normal(size=(60, 2))
    ends = values(net, X, [(0, 1), (1, 0)])
    for x, left, right in zip(X, ends.left, ends.right):
        a = [max(Fraction(float(e)) + Fraction(shift), Fraction(0)) for e, shift in zip(x, (0.1, 0.7))]
        f = [sum(Fraction(float(v)) * e for v, e in zip(row, a)) + Fraction(float(k)) for row, k in zip(V, c)]
        assert Fraction(float(left[0])) <= f[0] - f[1] <= Fraction(float(right[0]))
        assert Fraction(float(left[1])) <= f[1] - f[0] <= Fraction(float(right[1]))


def test_explicit_boxes_and_open_ones():
    net = network((3, 8, 2))
    X = np.random.default_rng(0).normal(size=(7, 3))
    given = prediction_intervals(net, lower=X - 0.2, upper=X + 0.2, certificate=certify(net))
    near = prediction_intervals(net, X, box=0.2, certificate=certify(net))
    np.testing.assert_allclose(given, near, rtol=1e-9, atol=1e-9)
    lower, upper = prediction_intervals(net, lower=X - 0.2, upper=np.where([1, 0, 0], np.inf, X + 0.2))
    assert (lower < upper).all()
    assert not np.isnan([lower, upper]).any()
    flat = ShallowNetwork([[0.0]], [1.0], [[2.0]], [1.0])  # no input moves it
    assert prediction_intervals(flat, lower=[[-np.inf]], upper=[[np.inf]])[1][0, 0] == pytest.approx(3.0)


def test_certificates_count_where_they_hold():
    net, X = network((3, 8, 2)), np.array([[0.1, 0.2, 0.0], [5.0, 5.0, 5.0]])
    local = certify(net, region=Box(np.full(3, -1.0), np.full(3, 1.0)))
    both = prediction_intervals(net, X, box=0.5, certificate=local)
    alone = prediction_intervals(net, X, box=0.5)
    np.testing.assert_array_equal(both[0][1], alone[0][1])  # outside of the region
    reach = local.upper * np.sqrt(0.75)
    assert (both[1][0] <= net.forward(X[:1])[0] + reach + 1e-9).all()
    ball = certify(net, around=X[0], radius=1.0)
    inside = prediction_intervals(net, X[:1], radius=0.5, certificate=ball)
    assert (inside[1] <= net.forward(X[:1]) + 0.5 * ball.upper + 1e-9).all()
    each = certify_outputs(net)
    wide = prediction_intervals(net, X, radius=30.0, certificate=each)
    for k in range(2):
        width = np.minimum(60.0 * each[k,].upper, np.diff(prediction_intervals(net, X, radius=30.0), axis=0)[0][:, k])
        assert (wide[1][:, k] - wide[0][:, k] <= width + 1e-9).all()
    sup = certify(net, norm="linf")
    far = prediction_intervals(net, X, box=9.0, certificate=sup)
    assert (far[1] - far[0] <= 18.0 * sup.upper + 1e-9).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X": [[1.0, np.nan, 0.0]]}, "NaN"),
        ({"X": [[1.0, 2.0]]}, "3 inputs"),
        ({"X": np.zeros((0, 3))}, "no samples"),
        ({"X": [["red", "blue", "green"]]}, "numb"),
        ({"box": -0.1}, "negative"),
        ({"box": [0.1, 0.2]}, "one per input"),
        ({"box": np.nan}, "NaN"),
        ({"box": None}, "one way"),
        ({"radius": 0.1}, "one way"),
        ({"box": None, "radius": -1.0}, "negative"),
        ({"box": None, "radius": [0.1, 0.2]}, "per sample"),
        ({"box": None, "radius": 0.1, "norm": "l1"}, "norm"),
        ({"box": None, "X": None, "lower": [[0.0, 0.0, 0.0]]}, "together"),
        ({"box": None, "lower": [[0.0, 0.0, 0.0]], "upper": [[1.0, 1.0, 1.0]]}, "without X"),
        ({"box": None, "X": None, "lower": [[0.0, 2.0, 0.0]], "upper": [[1.0, 1.0, 1.0]]}, "input 1 of box 0"),
        ({"box": None, "X": None, "lower": [[0.0, np.nan, 0.0]], "upper": [[1.0, 1.0, 1.0]]}, "NaN"),
        ({"box": None, "X": None, "lower": [[0.0, 0.0]], "upper": [[1.0, 1.0]]}, "shape"),
        ({"box": None, "X": None, "lower": np.zeros((2, 3)), "upper": np.ones((1, 3))}, "alike"),
        ({"X": None}, "give X"),
        ({"certificate": "neuron"}, "certificate"),
        ({"certificate": [1]}, "certificate"),
    ],
)
def test_bad_input(change, words):
    given = {"X": [[0.0, 0.0, 0.0]], "box": 0.1} | change
    with pytest.raises(InvalidInputError, match=words):
        prediction_intervals(network((3, 8, 2)), **given)


def test_certificates_of_something_else():
    net = network((3, 8, 2))
    with pytest.raises(CertificateError, match="another network"):
        prediction_intervals(net, np.zeros((1, 3)), box=0.1, certificate=certify(network((3, 8, 2), seed=1)))
    with pytest.raises(InvalidInputError, match="difference"):
        prediction_intervals(net, np.zeros((1, 3)), box=0.1, certificate=certify(net, output=(0, 1)))
    slopes = FeedForward([np.eye(2), np.eye(2)], [np.zeros(2)] * 2, [(0.0, 1.0)])
    with pytest.raises(UnsupportedModelError, match="predicts nothing"):
        prediction_intervals(slopes, np.zeros((1, 2)), box=0.1)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3)) * [1.0, 10.0, 0.1]
    start = MLPRegressor(hidden_layer_sizes=(12,), solver="lbfgs", max_iter=50, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = certnet.CertifiedRegressor(start, effort="quick", random_state=0)
        return model.fit(X, np.abs(X[:, 0]) + 0.1 * X[:, 1]), X


class TestRegressor:
    def test_relaxed_intervals_are_never_wider_and_hold_samples(self, fitted):
        model, X = fitted
        rng = np.random.default_rng(1)
        for epsilon in (0.0, 0.05, 2.0):
            plain = model.certified_interval(X, epsilon, relaxed=False)
            lower, upper = model.certified_interval(X, epsilon)
            assert (lower >= plain[0]).all()
            assert (upper <= plain[1]).all()
            assert epsilon == 0.0 or (upper - lower).sum() < 0.999 * (plain[1] - plain[0]).sum()
            for _ in range(100):
                y = model.predict(in_ball(rng, X, np.full(len(X), epsilon), "l2"))
                assert (lower <= y + 1e-12).all()
                assert (y <= upper + 1e-12).all()

    def test_boxes_in_the_units_of_the_columns(self, fitted):
        model, X = fitted
        rng, half = np.random.default_rng(2), np.array([0.1, 1.0, 0.0])
        lower, upper = model.certified_interval(X, box=half)
        assert lower.shape == (80,)
        for _ in range(100):
            y = model.predict(X + half * rng.uniform(-1.0, 1.0, X.shape))
            assert (lower <= y + 1e-12).all()
            assert (y <= upper + 1e-12).all()
        rows = model.certified_interval(X, box=np.broadcast_to(half, X.shape))
        np.testing.assert_allclose(rows, (lower, upper))

    def test_bad_input(self, fitted):
        model, X = fitted
        for given, words in (
            ({"epsilon": 0.1, "box": 0.1}, "not both"),
            ({"box": [0.1, 0.1]}, "one per input"),
            ({"box": -1.0}, "negative"),
            ({}, "epsilon"),
        ):
            with pytest.raises(InvalidInputError, match=words):
                model.certified_interval(X, **given)
