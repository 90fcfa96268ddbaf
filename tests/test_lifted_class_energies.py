"""Energies of the classes (Høier and Zach, Remark 3): all at once against one inference each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from certnet.core.errors import InvalidInputError, NotConvergedWarning
from certnet.lifted import LiftedNetwork
from certnet.lifted.learn import Objective, Training, initial_network, train

SHAPES: dict[str, dict[str, Any]] = {
    "one hidden layer": {"widths": (6, 5, 3), "beta": 1.0, "gamma": 1.0},
    "output without reconstruction": {"widths": (6, 5, 4, 3), "beta": [1.0, 1.0, 0.0], "gamma": 0.125},
    "boxes": {"widths": (6, 4, 4, 2), "beta": [0.3, 0.5, 0.7], "units": ["hard_sigmoid", "relu", (0, 2)]},
    "one layer": {"widths": (6, 3), "beta": 0.5},
}


def instance(shape: str) -> tuple[LiftedNetwork, np.ndarray]:
    rng = np.random.default_rng(0)
    net = initial_network(**SHAPES[shape], random_state=0)
    b, c = ([0.3 * rng.standard_normal(v.shape) for v in group] for group in (net.biases, net.reconstruction_biases))
    return net.with_parameters(net.weights, b, c), rng.standard_normal((9, net.n_inputs))


@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_those_of_one_inference_for_each_class(shape: str) -> None:
    net, X = instance(shape)
    found = net.class_energies(X, tol=1e-11, threads=1)
    assert found.shape == (9, net.n_outputs)
    for c, clamp in enumerate(np.eye(net.n_outputs)):
        rows = np.repeat(clamp[None, :], len(X), axis=0)
        expected = net.energy(X, rows) if net.depth == 1 else net.infer(X, clamp=rows, tol=1e-11).energy
        np.testing.assert_allclose(found[:, c], expected, rtol=1e-10, atol=1e-10)
    assert (found >= net.scores(X)[:, None] - 1e-9).all()
    assert net.class_energies(X[:0]).shape == (0, net.n_outputs)


def test_each_is_convex_in_the_input() -> None:
    net, X = instance("output without reconstruction")
    middle = net.class_energies(0.5 * (X + X[::-1]), tol=1e-10)
    ends = net.class_energies(X, tol=1e-10)
    assert (middle <= 0.5 * (ends + ends[::-1]) + 1e-9).all()


def test_a_network_of_clamped_energies_predicts_by_the_least() -> None:
    data = load_digits()
    X, labels = data.data / 16.0, data.target
    start = initial_network((64, 24, 10), beta=[1.0, 0.0], gamma=1.0, random_state=0)
    how = Training(Objective("lifted"), learning_rate=0.05, max_epochs=8)
    net = train(start, X[:600], np.eye(10)[labels[:600]], how, random_state=0).network
    assert (net.class_energies(X[600:900]).argmin(axis=1) == labels[600:900]).mean() > 0.75


def test_what_does_not_fit_and_what_is_not_solved() -> None:
    net, X = instance("boxes")
    with pytest.raises(InvalidInputError, match="columns"):
        net.class_energies(X[:, :5])
    with pytest.raises(InvalidInputError, match="NaN"):
        net.class_energies(np.where(X > 1.0, np.nan, X))
    with pytest.raises(InvalidInputError, match="threads"):
        net.class_energies(X, threads=0)
    narrow = LiftedNetwork(net.weights, units=["relu", "relu", (0.0, 0.5)])
    with pytest.raises(InvalidInputError, match="box"):
        narrow.class_energies(X)
    with pytest.warns(NotConvergedWarning, match="did not converge"):
        net.class_energies(X, tol=1e-300)
