"""One pass through the layers against the minimiser, and against the limit that it is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from certnet.core.errors import CertnetWarning
from certnet.core.outcome import Status
from certnet.lifted import LiftedNetwork
from certnet.lifted.learn import initial_network


def network(beta: float, gamma: float = 0.125, units: object = "relu") -> LiftedNetwork:
    return initial_network((6, 5, 4, 3), beta=[beta, beta, 0.0], gamma=gamma, units=units, random_state=0)  # type: ignore[arg-type]


X = np.random.default_rng(0).standard_normal((25, 6))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("units", [["relu", "hard_sigmoid", "linear"], "linear"])
def test_it_is_what_inference_tends_to_as_gamma_falls(beta: float, units: object) -> None:
    distance = []
    for gamma in (1e-1, 1e-2, 1e-3):
        net = network(beta, gamma, units)
        exact = net.infer(X, tol=1e-13).activations
        passed = net.forward(X).activations
        distance.append(max(np.abs(a - b).max() for a, b in zip(passed, exact)))
    if beta == 0.0 and units == "linear":  # no unit is held by a limit: the energy of the pass is zero
        assert max(distance) < 1e-11
    else:
        assert distance[2] < 0.2 * distance[1] < 0.1 * distance[0]


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("reconstruct", [True, False])
def test_the_error_is_within_its_bound_and_nothing_passes_for_solved(beta: float, reconstruct: bool) -> None:
    net = network(beta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CertnetWarning)
        passed = net.forward(X, reconstruct=reconstruct)
    exact = net.infer(X, tol=1e-13)
    error = np.linalg.norm(passed.stacked - exact.stacked, axis=1)
    assert (error <= passed.error_bound).all()
    assert error.max() > 1e-3
    assert (passed.energy >= exact.energy - 1e-12).all()
    np.testing.assert_array_equal(passed.status == Status.OPTIMAL, passed.residual <= passed.tol)
    assert (error[passed.converged] < 1e-5).all()
    assert (passed.status[~passed.converged] == Status.MAX_ITERATIONS).all()


def test_without_reconstruction_it_is_the_ordinary_network() -> None:
    net = network(1.0)
    with pytest.warns(CertnetWarning, match="leaves reconstruction out, and beta is up to 1"):
        passed = net.forward(X, reconstruct=False)
    np.testing.assert_allclose(passed.stacked, net.feed_forward(X), atol=1e-14)
    plain = network(0.0)
    np.testing.assert_allclose(plain.forward(X).stacked, plain.feed_forward(X), atol=1e-14)


def test_a_single_layer_is_solved_by_it() -> None:
    net = initial_network((6, 3), beta=0.7, units="relu", random_state=0)
    assert net.forward(X).converged.all()
    np.testing.assert_allclose(net.forward(X).output, net.infer(X, tol=1e-12).output, atol=1e-6)
