"""One search for the differences of all pairs of outputs, and what certified radii say of the bound they rest on."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from certnet.core.errors import InvalidInputError
from certnet.lifted import LiftedNetwork
from certnet.lifted.bounds import lipschitz_bound, lipschitz_bounds
from certnet.lifted.bounds.radius import certified_radius
from certnet.lifted.learn import initial_network

SHAPES: dict[str, dict[str, Any]] = {
    "H": {"widths": (6, 7, 5, 4), "beta": [1.0, 1.0, 0.0], "gamma": 0.125, "units": ["relu", "relu", "linear"]},
    "Z": {"widths": (6, 7, 4), "beta": 0.0, "gamma": 0.5, "units": ["relu", "linear"]},
    "boxes": {"widths": (6, 5, 4), "beta": [1.0, 0.3], "gamma": 0.5, "units": ["hard_sigmoid", (-1.0, 1.0)]},
    "linear": {"widths": (6, 5, 4), "beta": [1.0, 0.0], "gamma": 0.5, "units": "linear"},
    "one layer": {"widths": (6, 4), "beta": 0.5, "units": "relu"},
}


def network(shape: str) -> LiftedNetwork:
    return initial_network(**SHAPES[shape], random_state=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_pair_has_the_bound_of_its_own_search_to_the_tolerance(shape: str) -> None:
    net = network(shape)
    found = lipschitz_bounds(net, differences=True, lower=False)
    assert list(found) == list(itertools.combinations(range(4), 2))
    for pair, certificate in found.items():
        alone = lipschitz_bound(net, output=pair, lower=False)
        assert certificate.output == pair
        assert certificate.check(net)
        assert alone.upper * (1.0 - 1e-6) <= certificate.upper <= alone.upper * (1.0 + 6e-4)
        assert set(certificate.cheaper) == set(alone.cheaper)


def test_a_finer_tolerance_is_kept() -> None:
    net = network("H")
    fine = lipschitz_bounds(net, differences=True, lower=False, tol=1e-7)
    for pair, certificate in fine.items():
        assert certificate.upper == pytest.approx(lipschitz_bound(net, output=pair, lower=False).upper, rel=1e-6)
        assert certificate.gap <= 1e-6


@pytest.mark.parametrize("method", ["layerwise", "theorem"])
def test_simpler_methods_are_those_of_every_pair_alone(method: str) -> None:
    net = network("H")
    for pair, certificate in lipschitz_bounds(net, method, differences=True, lower=False).items():
        assert certificate.upper == lipschitz_bound(net, method, output=pair, lower=False).upper


def test_outputs_that_are_one_another_have_a_difference_of_nothing() -> None:
    net = network("H")
    last = net.weights[-1].copy()
    last[2] = last[0]
    twins = net.with_parameters([*net.weights[:-1], last], net.biases, net.reconstruction_biases)
    found = lipschitz_bounds(twins, differences=True, lower=False)
    assert found[0, 2].upper < 1e-6
    assert all(found[pair].upper > 1e-2 for pair in found if pair != (0, 2))
    assert all(certificate.check(twins) for certificate in found.values())


def test_slopes_lie_below() -> None:
    net = network("H")
    for certificate in lipschitz_bounds(net, differences=True).values():
        assert 0.0 < certificate.lower <= certificate.upper
        assert certificate.check(net)


@pytest.mark.parametrize("bad", [{"tol": -1.0}, {"max_iterations": 0}, {"X": np.zeros((3, 5))}])
def test_bad_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        lipschitz_bounds(network("H"), differences=True, **bad)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("method", ["sdp", "theorem"])
def test_radii_say_which_bound_they_rest_on(method: str, pairs: bool) -> None:
    net = network("H")
    X = np.random.default_rng(0).standard_normal((5, 6))
    said = certified_radius(net, X, method, pairs=pairs).bound
    assert said.startswith(f"{method} of {'every pair' if pairs else 'all outputs'}")
    bounds = lipschitz_bounds(net, method, differences=True, lower=False).values()
    number = float(said.split("<= ")[1].split(" to ")[-1].split(",")[0])
    largest = max(c.upper for c in bounds) if pairs else lipschitz_bound(net, method, lower=False).upper
    assert largest <= number <= largest * 1.001
