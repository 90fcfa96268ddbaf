"""Bounds in a ball: never above the bound for all inputs, true for pairs in the ball, checked from their data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from certnet import Certificate, ShallowNetwork, certify
from certnet.core.errors import InvalidInputError
from certnet.networks.activations import ACTIVATIONS, Activation, activation
from certnet.networks.feedforward import FeedForward
from certnet.proofs.regions import in_ball, slopes_in_ball


def network(name: str = "relu", seed: int = 0, h: int = 12, d: int = 3, m: int = 1) -> FeedForward:
    rng = np.random.default_rng(seed)
    return FeedForward(
        [rng.standard_normal((h, d)), rng.standard_normal((m, h))], [rng.standard_normal(h), np.zeros(m)], name
    )


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_bound_grows_with_the_ball_up_to_the_global_one(name: str, m: int) -> None:
    net = network(name, m=m)
    x = np.array([0.3, -0.2, 0.1])
    everywhere = certify(net)
    last = 0.0
    for radius in (0.0, 0.05, 0.3, 1.0, 10.0):
        cert = certify(net, around=x, radius=radius)
        assert cert.check(net)
        assert 0.0 <= cert.lower <= cert.upper
        assert last <= cert.upper * (1.0 + 2e-6)
        assert cert.upper <= everywhere.upper * (1.0 + 2e-6)
        last = cert.upper


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_pair_in_the_ball_exceeds_it(name: str) -> None:
    net, rng = network(name, seed=1), np.random.default_rng(2)
    x, radius = np.array([0.5, 0.5, -0.5]), 0.4
    cert = certify(net, around=x, radius=radius)
    a, b = (rng.standard_normal((2000, 3)) for _ in range(2))
    a, b = (x + radius * p / np.linalg.norm(p, axis=1, keepdims=True) * rng.uniform(size=(2000, 1)) for p in (a, b))
    quotients = np.abs(net.predict(a) - net.predict(b)) / np.linalg.norm(a - b, axis=1)
    assert quotients.max() <= cert.upper
    assert cert.upper < certify(net).upper or name == "identity"


def test_a_ball_within_one_piece_is_exact() -> None:
    net = network()
    x = np.array([5.0, 4.0, -3.0])
    z = net.weights[0] @ x + net.biases[0]
    radius = 0.5 * float((np.abs(z) / np.linalg.norm(net.weights[0], axis=1)).min())
    cert = certify(net, around=x, radius=radius)
    slope = float(np.linalg.norm(net.gradients(x[None])[0]))
    assert cert.upper == pytest.approx(slope, rel=1e-9)
    assert cert.lower == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "leaky_relu -0.5", "elu 1.7"])
def test_slopes_between_against_dense_quotients(name: str) -> None:
    family, *parameter = name.split()
    phi = Activation(family, tuple(map(float, parameter)))
    rng = np.random.default_rng(0)
    left = rng.uniform(-4, 3, 300)
    right = left + rng.uniform(0.01, 3, 300)
    low, high = phi.slopes_between(left, right)
    grid = left + (right - left) * np.linspace(0, 1, 60)[:, None]
    quotients = np.diff(phi(grid), axis=0) / np.diff(grid, axis=0)
    assert np.all(low <= quotients.min(axis=0) + 1e-9)
    assert np.all(high >= quotients.max(axis=0) - 1e-9)
    assert np.all(phi.slopes[0] <= low)
    assert np.all(high <= phi.slopes[1])
    # tight where the interval lies on one piece
    apart = np.ones(300, dtype=bool)
    for kink in phi.kinks():
        apart &= (right < kink) | (left > kink)
    assert np.all(np.abs(high - quotients.max(axis=0))[apart] < 0.06)
    assert np.all(np.abs(low - quotients.min(axis=0))[apart] < 0.06)


def test_user_slopes_stay_what_they_are() -> None:
    phi = activation((-0.5, 2.0))
    low, high = phi.slopes_between(np.array([1.0]), np.array([2.0]))
    assert (low[0], high[0]) == (-0.5, 2.0)


def test_slopes_at_the_edge_are_not_taken_for_known() -> None:
    net = FeedForward([[[1.0]], [[1.0]]], [[0.0], [0.0]])
    assert [s.item() for s in slopes_in_ball(net, [1.0], 0.999)] == [1.0, 1.0]
    assert [s.item() for s in slopes_in_ball(net, [-1.0], 0.999)] == [0.0, 0.0]
    assert [s.item() for s in slopes_in_ball(net, [1.0], 1.0)] == [0.0, 1.0]
    assert [s.item() for s in slopes_in_ball(net, [1e308], 1e308)] == [0.0, 1.0]
    assert in_ball([1.0], [0.0], 1.1)
    assert not in_ball([1.0], [0.0], 1.0)  # in doubt


def test_alterations_are_refused(tmp_path: Path) -> None:
    net = network()
    cert = certify(net, around=[0.3, -0.2, 0.1], radius=0.2)
    again = Certificate.load(cert.save(tmp_path / "c.json"))
    assert again.check(net)
    assert again.around.tolist() == [0.3, -0.2, 0.1]
    assert "within 0.2" in repr(again)
    for change in (
        {"radius": 5.0},
        {"around": np.array([3.0, 3.0, 3.0])},
        {"around": None},
        {"radius": None},
        {"radius": None, "around": None},
        {"radius": -1.0},
        {"radius": float("nan")},
        {"around": np.zeros(2)},
        {"witness": cert.around + 1.0},
    ):
        assert not dataclasses.replace(cert, **change).check(net), change
    assert dataclasses.replace(cert, radius=0.1, lower=0.0).check(net)  # a smaller ball: a weaker claim


def test_bad_balls() -> None:
    net = network()
    for bad, message in [
        ({"around": [0.0, 0.0, 0.0]}, "both"),
        ({"radius": 1.0}, "both"),
        ({"around": [0.0], "radius": 1.0}, "around has shape"),
        ({"around": [0.0, np.nan, 0.0], "radius": 1.0}, "around has 1"),
        ({"around": [0.0, 0.0, 0.0], "radius": -1.0}, "radius"),
        ({"around": [0.0, 0.0, 0.0], "radius": 1.0, "method": "product"}, "a region is for"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            certify(net, **bad)
    shallow = ShallowNetwork([[1.0]], [0.0], [2.0], 0.0)
    assert certify(shallow, around=[3.0], radius=1.0).upper == pytest.approx(2.0)
    assert certify(shallow, around=[-3.0], radius=1.0).upper == 0.0
