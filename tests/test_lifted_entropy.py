"""The compiled phase of the cross-entropy against the general projected Newton method, and its step against SciPy."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from certnet.kernels.entropy import entropy_phase, nearest_by_entropy
from certnet.lifted import initial_network
from certnet.lifted.loss_functions import CrossEntropy
from certnet.lifted.loss_newton import Augmented, newton
from certnet.programs.box_qp import posed


@pytest.mark.parametrize("own", [1e-4, 0.02, 3.0])
@pytest.mark.parametrize("weight", [0.1, 1.0, 50.0])
def test_the_output_alone(own, weight):
    rng = np.random.default_rng(0)
    u, labels = 10.0 * rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    y = np.eye(4)[labels]
    y[0] = 0.25  # probabilities too
    z = np.zeros((5, 4))
    nearest_by_entropy(u, y, own, weight, 1e-11, z)
    slope = own * (z - u) + weight * (scipy.special.softmax(z, axis=1) - y)
    assert np.abs(slope).max() <= 1e-11 + 1e-13 * weight

    def value(v, i):
        return 0.5 * own * ((v - u[i]) ** 2).sum() + weight * (scipy.special.logsumexp(v) - y[i] @ v)

    for i in range(5):
        other = scipy.optimize.minimize(value, np.zeros(4), args=(i,), method="BFGS", options={"gtol": 1e-9})
        assert value(z[i], i) <= other.fun + 1e-9 * (1.0 + abs(other.fun))


@pytest.mark.parametrize("gamma", [0.125, 0.5, 1.0])
@pytest.mark.parametrize("weight", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("widths", [(6, 8, 7, 4), (6, 5, 3), (6, 4)])
def test_the_phase_is_that_of_the_general_method(gamma, weight, widths):
    depth = len(widths) - 1
    net = initial_network(widths, beta=[1.0] * (depth - 1) + [0.0], gamma=gamma, random_state=1)
    rng = np.random.default_rng(2)
    X, y = 2.0 * rng.standard_normal((9, 6)), np.eye(widths[-1])[rng.integers(0, widths[-1], 9)]
    problem, q = posed(net, X)
    start = net.project(rng.standard_normal((9, net.n_units)))
    wanted, running = newton(Augmented(problem, q, CrossEntropy(), y, weight), start, 1e-12, 500)
    assert not running.any()
    z = start.copy()
    first = net.layers[-2].start if depth > 1 else 0
    box = problem.lower, problem.upper
    passes, residual = entropy_phase(problem.H, first, net.layers[-1].start, q, y, weight, *box, z, 1e-9, 500)
    assert residual <= 1e-9
    assert passes > 0 or depth == 1
    np.testing.assert_allclose(z, wanted, atol=1e-6)


def test_too_few_passes_are_said():
    net = initial_network((6, 8, 7, 4), beta=[1.0, 1.0, 0.0], gamma=0.5, random_state=1)
    problem, q = posed(net, np.ones((2, 6)))
    z = np.zeros((2, net.n_units))
    box = problem.lower, problem.upper
    _, residual = entropy_phase(problem.H, 8, 15, q, np.eye(4)[:2], 1.0, *box, z, 1e-12, 2)
    assert residual == np.inf
