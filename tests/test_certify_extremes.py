"""Statements at the ends of the number range, and values of other types: false ones are refused, none raises."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from claims import claimed, holds, slopes

from certnet import FeedForward, ShallowNetwork, certify
from certnet.networks.activations import Activation
from certnet.proofs import tree as verify_tree
from certnet.proofs.selection import fold_linear
from certnet.proofs.shallow import BoundChecker
from certnet.proofs.tree import TreeChecker

POWERS = 10.0 ** np.arange(-120, 121, 20.0)


def shallow(seed: int = 0, h: int = 6, d: int = 3, m: int = 2) -> ShallowNetwork:
    rng = np.random.default_rng(seed)
    return ShallowNetwork(
        rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal((m, h)), rng.standard_normal(m)
    )


@pytest.mark.parametrize("slope", [1e300, 1e200, 1e100, 1.0])
@pytest.mark.parametrize("weight", [1e-170, 1e-155, 5e-324, 1e-30])
def test_what_underflows_before_a_steep_linear_layer_is_charged(slope: float, weight: float) -> None:
    net = FeedForward([[[weight]], [[weight]], [[1.0]]], [[0.0], [0.0], [0.0]], [(slope, slope), "relu"])
    truth = Fraction(slope) * Fraction(weight) ** 2
    claim = claimed(net)
    for multiplier in (truth, 1.0, *POWERS):
        for upper in (*POWERS, 0.0, float(truth), math.nextafter(float(truth), math.inf)):
            if Fraction(upper) < truth and float(multiplier) > 0.0:
                assert not holds(claim, "neuron", (np.array([float(multiplier)]),), upper)
    folded, charge = fold_linear(net)
    lost = abs(truth - Fraction(folded.weights[0].item()))
    assert Fraction(charge) >= lost if math.isfinite(charge) else charge > 0.0


@pytest.mark.filterwarnings("ignore::certnet.core.errors.NotConvergedWarning")  # no multipliers for what underflows
@pytest.mark.parametrize("method", ["shallow", "product", "composition"])
def test_a_network_that_does_nothing_has_a_certificate_of_a_difference(method: str) -> None:
    net = shallow()
    for size in (0.0, 5e-324, 1e-320, 1e-310):
        tiny = ShallowNetwork(np.full_like(net.W, size), net.b, net.V, net.c)
        cert = certify(tiny, method=method, output=(0, 1))
        assert cert.check(tiny)
        assert cert.upper <= 1e3 * size + 1e-300
        assert Fraction(cert.upper) >= abs(sum(map(Fraction, net.V[0] - net.V[1]))) * Fraction(size)


@pytest.mark.parametrize("phi", ["tanh", "sigmoid", "softplus", "elu"])
@pytest.mark.parametrize("far", [30.0, 100.0, 300.0, 740.0, 1e5, 1e200])
def test_smooth_units_far_out_in_a_ball_can_be_certified(phi: str, far: float) -> None:
    net = shallow(1, m=1)
    smooth = FeedForward([net.W, net.V], [net.b, net.c], phi)
    cert = certify(smooth, around=[far, -far, 0.5 * far], radius=0.1)
    assert cert.check(smooth)
    assert cert.lower <= cert.upper <= certify(smooth).upper * (1.0 + 1e-9)
    low, high = slopes(claimed(smooth, around=cert.around, radius=0.1))
    z = net.W @ np.array([far, -far, 0.5 * far]) + net.b
    assert (low <= smooth.activations[0].derivative(z)).all()
    assert (smooth.activations[0].derivative(z) <= high).all()
    assert smooth.activations[0].slopes[0] <= low.min()
    assert high.max() <= smooth.activations[0].slopes[1]


@pytest.mark.parametrize("beta", [1.0 - 2.0**-53, 2.0**-60, 1.0, 0.0, 0.5, 1e6])
def test_a_ball_beside_a_kink_whose_place_rounding_hides(beta: float) -> None:
    net = FeedForward([[[1.0]], [[1.0]]], [[0.0], [0.0]], Activation("hard_sigmoid", (0.25, beta)))
    kinks = [-4 * Fraction(beta), 4 * (1 - Fraction(beta))]
    for kink in kinks:
        for step in (-1e-3, -1e-12, -1e-16, -1e-18, -1e-40, 0.0, 1e-40, 1e-18, 1e-16, 1e-3):
            centre = float(kink) + step
            rises = kinks[0] < Fraction(centre) < kinks[1]
            for radius in (0.0, 1e-30):
                low, high = slopes(claimed(net, around=np.array([centre]), radius=radius))
                assert low[0] <= (0.25 if rises else 0.0) <= high[0]


ODD_OUTPUTS: list[Any] = [0, "0", [0], [0, 1], (0.0,), ("0",), ([],), (True,), (np.int64(0),), (2,), (-1,), (0, 0)]
ODD_OUTPUTS += [(), (0, 1, 0), {0}, {0: 1}, np.array([0]), (None,), 1.5]
ODD_CENTRES: list[Any] = [0.0, [0.0] * 3, (0.0,) * 3, np.zeros(2), np.zeros((1, 3)), np.zeros(3, dtype=np.float32)]
ODD_CENTRES += [np.zeros(3, dtype=complex), np.zeros(3, dtype=object), np.array(["0"] * 3), np.full(3, math.nan)]
ODD_CENTRES += [np.zeros(3, dtype=int), np.zeros(3, dtype=bool), "000", None, np.zeros(3, dtype=np.longdouble)]
ODD_RADII: list[Any] = [True, "1", None, [1.0], 10**400, -1.0, math.nan, math.inf, Fraction(1, 2), 1j, np.float32(1.0)]


def test_values_of_other_types_are_refused() -> None:
    net = FeedForward.of(shallow())
    t = np.ones(6)
    centre = np.zeros(3)
    claims = [claimed(net, output=output) for output in ODD_OUTPUTS]
    claims += [claimed(net, around=around, radius=1.0) for around in ODD_CENTRES]
    claims += [claimed(net, around=centre, radius=radius) for radius in ODD_RADII]
    claims += [claimed(net, norm=norm) for norm in ("L2", "", "l1", None, 2, math.inf)]
    for claim in claims:
        assert claim.refusal() is not None
        for kind in ("shallow", "neuron", "product", "tree", "", None, 3):
            verdict = holds(claim, kind, t, 1e9)
            assert not verdict
            assert verdict.reason


def test_a_difference_that_overflows_is_refused() -> None:
    net = ShallowNetwork([[1e-200]], [0.0], [[1.7e308], [-1.7e308]], [0.0, 0.0])
    claim = claimed(FeedForward.of(net), output=(0, 1))
    assert "overflows" in holds(claim, "product", (np.ones(1), np.ones(1)), 1.7e308).reason
    assert not dataclasses.replace(certify(net), output=(0, 1)).check(net)
    with pytest.raises(ValueError, match="overflows"):
        certify(net, output=(0, 1))


@pytest.mark.parametrize("slopes", [(1e-200, 1e200), (-1e308, 1e308), (0.0, 1.7e308), (5e-324, 1e-300)])
def test_absurd_slopes_are_no_warning(slopes: tuple[float, float]) -> None:
    net = shallow()
    steepest = float(np.linalg.norm(net.V @ net.W, 2)) * slopes[1]
    for t in (1.0, 1e-80, 1e80):
        checker = BoundChecker(net, np.full(6, t), low=slopes[0], high=slopes[1])
        for factor in (0.0, 1e-200, 0.99):
            assert not checker.holds(min(factor * steepest, 1e308))


def test_a_tree_whose_leaves_are_not_kept_proves_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net = shallow(3, h=8)
    cert = certify(net, exact=True)
    tree = json.loads(json.dumps(cert.multipliers))
    kept = TreeChecker(net, tree)
    monkeypatch.setattr(verify_tree, "_KEPT", 30)  # one leaf's
    made_again = TreeChecker(net, tree)
    for factor in (0.5, 1.0 - 1e-6, 1.0, 1.0 + 1e-9, 2.0):
        assert kept.holds(factor * cert.upper) == made_again.holds(factor * cert.upper)
    assert kept.smallest(cert.lower) == made_again.smallest(cert.lower)
    next(data for kind, data in tree if kind == "bound")[0] = -1.0
    assert "negative" in str(TreeChecker(net, tree).refusal)
