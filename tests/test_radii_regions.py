"""Radii by what holds in the balls themselves: no attack breaks one, and none is below the form for all inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import certnet
from certnet import FeedForward, ShallowNetwork, certify, certify_outputs
from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.proofs.relaxation import Balls, output_limits
from certnet.robust import AccuracyCurve, accuracy_curve, certified_accuracy, certified_radius
from certnet.robust.balls import ball_of

ORDER = ("global", "relaxation", "region")


def network(widths: tuple[int, ...], activation: str = "relu", seed: int = 0) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(b, a)) * np.sqrt(2 / a) for a, b in itertools.pairwise(widths)]
    return FeedForward(weights, [0.3 * rng.normal(size=b) for b in widths[1:]], activation)


def attacked(net, x, pull, radius, norm, rng, *, steps=25, starts=6):
    """Points of the ball where ``pull`` (m,) · f is small: projected gradient steps from several starts."""
    ball = ball_of(norm)
    u = np.vstack([np.zeros(len(x)), ball.sample(rng, starts - 1, len(x))])
    points = [x + radius * u]
    for step in np.geomspace(1.0, 0.02, steps):
        g = np.einsum("m,nmd->nd", pull, net.gradients(points[-1]))
        u = ball.project(u - step * ball.steepest(g))
        points.append(x + radius * u)
    return np.vstack(points)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(
    ("widths", "activation"),
    [((3, 9, 8, 4), "relu"), ((5, 12, 3), "relu"), ((4, 10, 10, 10, 3), "tanh"), ((6, 20, 12, 2), "leaky_relu")],
)
def test_no_attack_breaks_a_radius_and_methods_only_add(widths, activation, norm):
    net, rng = network(widths, activation), np.random.default_rng(1)
    X = rng.normal(size=(12, widths[0]))
    proofs = certify_outputs(net, differences=True, norm=norm)
    found = {how: certified_radius(net, X, proofs, norm=norm, method=how) for how in ORDER}
    for less, more in itertools.pairwise(ORDER):
        assert (found[more].radius >= found[less].radius).all()
    best = found["region"]
    assert best.radius.sum() > 1.1 * found["global"].radius.sum()
    assert set(best.bound) <= set(ORDER)
    assert (best.predicted == net.forward(X).argmax(axis=1)).all()
    for x, i, r in zip(X, best.predicted, best.radius):
        assert r > 0.0
        for j in set(range(widths[-1])) - {i}:
            pull = np.zeros(widths[-1])
            pull[[i, j]] = 1.0, -1.0
            values = net.forward(attacked(net, x, pull, (1.0 - 1e-12) * r, norm, rng))
            assert (values[:, i] > values[:, j]).all()


def test_every_radius_is_proved_again_by_other_means():
    net, X = network((4, 14, 12, 3), seed=2), np.random.default_rng(2).normal(size=(10, 4))
    found = certified_radius(net, X)
    by_slopes = 0
    for x, i, r, bound in zip(X, found.predicted, found.radius, found.bound):
        f = net.forward(x[None])[0]
        for j in set(range(3)) - {int(i)}:
            relaxed = output_limits(net, Balls(x[None], np.array([r])), [(int(i), j)]).left[0, 0] > 0.0
            slope = certify(net, output=(int(i), j), around=x, radius=float(r)).upper
            # the search in the ball ended at a gap of one in a hundred, this one at one in a million
            assert relaxed or r * slope <= (f[i] - f[j]) * (1.0 + 1e-6)
            by_slopes += bound == "region" and not relaxed
    assert by_slopes > 0


def test_in_the_plane_against_a_fine_grid():
    net, rng = network((2, 10, 8, 3), seed=5), np.random.default_rng(5)
    X = rng.uniform(-1.5, 1.5, (15, 2))
    found = certified_radius(net, X, tol=1e-3)
    angle, size = np.meshgrid(np.linspace(0.0, 2.0 * np.pi, 200), np.linspace(0.0, 4.0, 1000))
    rays = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * size[..., None]
    tight = 0
    for x, i, r in zip(X, found.predicted, found.radius):
        other = net.forward((x + rays).reshape(-1, 2)).argmax(axis=1).reshape(size.shape) != i
        nearest = size[other].min() if other.any() else np.inf
        assert r <= nearest
        tight += r >= 0.8 * nearest
    assert tight >= 5


def test_exact_where_the_network_is_linear():
    # all units on, and far from off
    net = ShallowNetwork(np.eye(3), np.full(3, 50.0), [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [51.0, 0.0])
    found = certified_radius(net, [[3.0, 0.5, 0.0]], tol=1e-6)
    assert found.radius[0] == pytest.approx((50.0 + 3.0 + 51.0 - 101.0) / np.sqrt(5.0), rel=1e-5)
    assert found.radius[0] <= 3.0 / np.sqrt(5.0)
    assert certified_radius(net, [[3.0, 0.5, 0.0]], norm="linf", tol=1e-6).radius[0] == pytest.approx(1.0, rel=1e-5)


def test_one_certificate_of_all_outputs_is_a_start_too():
    net, X = network((3, 9, 8, 4)), np.random.default_rng(0).normal(size=(8, 3))
    whole = certify(net)
    coarse = certified_radius(net, X, whole)
    assert (coarse.bound == "global").all()
    better = certified_radius(net, X, whole, method="region")
    assert (better.radius >= coarse.radius).all()
    assert (certified_radius(net, X, whole, method="relaxation").radius <= better.radius).all()


def test_ties_and_networks_that_do_not_move():
    tie = ShallowNetwork(np.zeros((2, 2)), [1.0, 1.0], [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    found = certified_radius(tie, [[0.0, 0.0]])
    assert found.radius[0] == 0.0
    assert found.margin[0] <= 0.0
    certain = ShallowNetwork(np.zeros((2, 2)), [1.0, 1.0], [[1.0, 0.0], [0.0, 0.5]], [0.0, 0.0])
    assert certified_radius(certain, [[0.0, 0.0]]).radius[0] == np.inf
    assert len(certified_radius(certain, np.zeros((0, 2))).radius) == 0


# ----------------------------------------------------------------------------------------------------------- regressors


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("widths", [(3, 10, 8, 1), (4, 12, 2)])
def test_a_prediction_moves_by_at_most_delta(widths, norm):
    net, rng = network(widths, seed=3), np.random.default_rng(4)
    X = rng.normal(size=(10, widths[0]))
    coarse = certified_radius(net, X, delta=0.5, norm=norm, method="global")
    found = certified_radius(net, X, delta=0.5, norm=norm)
    np.testing.assert_allclose(coarse.radius, 0.5 / certify(net, norm=norm).upper, rtol=1e-9)
    assert (found.radius >= coarse.radius).all()
    assert found.radius.sum() > 1.1 * coarse.radius.sum()
    np.testing.assert_array_equal(found.predicted, net.forward(X))
    for x, r in zip(X, found.radius):
        f = net.forward(x[None])[0]
        for pull in (*np.eye(widths[-1]), *-np.eye(widths[-1]), rng.normal(size=widths[-1])):
            g = net.forward(attacked(net, x, pull, r, norm, rng))
            assert np.linalg.norm(g - f, axis=1).max() <= 0.5 * (1.0 + 1e-12)


def test_delta_by_hand():
    net = ShallowNetwork([[1.0]], [0.0], [[3.0]], 0.0)  # 3 relu(x): slope 0 to the left of 0
    found = certified_radius(net, [[-1.0], [2.0]], delta=0.6, tol=1e-6)
    assert found.radius == pytest.approx([1.2, 0.2], rel=1e-5)
    assert (certified_radius(net, [[-1.0], [2.0]], certify(net), delta=0.6).radius <= 0.2).all()


# ------------------------------------------------------------------------------------------------------------- accuracy


def test_accuracy_is_that_of_the_radii():
    net, X = network((3, 9, 8, 4), seed=3), np.random.default_rng(3).normal(size=(60, 3))
    y = net.forward(X).argmax(axis=1)
    y[::5] = (y[::5] + 1) % 4
    proofs = certify_outputs(net, differences=True)
    sizes = [0.0, 0.02, 0.05, 0.1, 0.3]
    for how in ORDER:
        found = certified_radius(net, X, proofs, method=how, tol=1e-4)
        share = certified_accuracy(net, X, y, sizes, proofs, method=how)
        told = [np.mean((found.predicted == y) & (found.radius >= s)) for s in sizes]
        assert share[0] == pytest.approx(0.8)
        # beside a radius that is just proved the answer may differ by a sample
        np.testing.assert_allclose(share, told, atol=1.0 / 60.0 + 1e-12)
    curve = accuracy_curve(net, X, y, sizes, proofs)
    assert isinstance(curve, AccuracyCurve)
    assert curve.clean == pytest.approx(0.8)
    assert (np.diff(curve.nearby) <= 0.0).all()
    assert (curve.nearby >= curve.everywhere).all()
    assert curve.nearby.sum() > curve.everywhere.sum()
    cheap = accuracy_curve(net, X, y, sizes, method="relaxation")
    assert (cheap.nearby <= curve.nearby).all()
    np.testing.assert_allclose(cheap.everywhere, curve.everywhere)


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X": [[np.nan, 0.0, 0.0]]}, "NaN"),
        ({"X": [["a", "b", "c"]]}, "numb"),
        ({"X": [[0.0, 0.0]]}, "3 inputs"),
        ({"X": [0.0, 0.0, 0.0]}, "reshape"),
        ({"method": "exact"}, "method"),
        ({"norm": "l1"}, "norm"),
        ({"delta": 0.0}, "delta"),
        ({"delta": np.nan}, "delta"),
        ({"tol": -1.0}, "tol"),
        ({"certificates": "neuron"}, "certificates"),
        ({"certificates": {}}, "no certificate"),
    ],
)
def test_refused(change, words):
    given = {"X": [[0.0, 0.0, 0.0]]} | change
    with pytest.raises(InvalidInputError, match=words):
        certified_radius(network((3, 9, 8, 4)), **given)


def test_huge_and_tiny_numbers():
    net = network((3, 9, 8, 4))
    with pytest.raises(InvalidInputError, match="overflows at sample 1"):
        certified_radius(net, [[0.0, 0.0, 0.0], [1e308, -1e308, 1e308]])
    far = certified_radius(net, [[1e300, 1e300, 1e300]])
    assert 1e297 < far.radius[0] < 1e301
    one = network((3, 9, 1))
    for delta in (1e-300, 1e300):
        radius = certified_radius(one, [[0.0, 0.0, 0.0]], delta=delta).radius[0]
        assert delta / certify(one).upper * 0.999 <= radius < np.inf


def test_certificates_of_something_else():
    net, X = network((3, 9, 8, 4)), np.zeros((1, 3))
    proofs = certify_outputs(net, differences=True, tol=1e-2)
    with pytest.raises(CertificateError, match="another network"):
        certified_radius(network((3, 9, 8, 4), seed=1), X, proofs)
    with pytest.raises(InvalidInputError, match="linf norm"):
        certified_radius(net, X, proofs, norm="linf")
    with pytest.raises(InvalidInputError, match="all inputs"):
        certified_radius(net, X, certify(net, region=certnet.Box(-np.ones(3), np.ones(3))))
    with pytest.raises(InvalidInputError, match="one certificate of all outputs"):
        certified_radius(net, X, proofs, delta=0.1)
    with pytest.raises(InvalidInputError, match="give delta"):
        certified_radius(network((3, 5, 1)), X)
    slopes = FeedForward([np.eye(3), np.eye(3)], [np.zeros(3)] * 2, [(0.0, 1.0)])
    with pytest.raises(UnsupportedModelError, match="predicts nothing"):
        certified_radius(slopes, X)
    for radii, y, words in (([-0.1], [0], "negative"), ([0.1], [0, 1], "samples")):
        with pytest.raises(InvalidInputError, match=words):
            certified_accuracy(net, X, y, radii)
    with pytest.raises(InvalidInputError, match="increasing"):
        accuracy_curve(net, X, [0], [0.2, 0.1])
    with pytest.raises(InvalidInputError, match="method"):
        accuracy_curve(net, X, [0], [0.2], method="global")
