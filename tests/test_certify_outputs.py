"""Bounds of single outputs and of differences: those of the network with that row, rounding included."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certnet import FeedForward, ShallowNetwork, certify
from certnet.certification import Certificate, certify_outputs
from certnet.claims.claim import parse_output
from certnet.core.errors import InvalidInputError
from certnet.proofs.selection import select_output


def classifier(seed=0, h=12, d=4, m=3):
    rng = np.random.default_rng(seed)
    return ShallowNetwork(
        rng.standard_normal((h, d)), rng.standard_normal(h), rng.standard_normal((m, h)), rng.standard_normal(m)
    )


def deep_classifier(seed=0):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in ((3, 6), (6, 5), (5, 3))]
    return FeedForward(weights, [rng.standard_normal(len(W)) for W in weights], "relu")


@pytest.mark.parametrize("net", [classifier(), deep_classifier()], ids=["shallow", "deep"])
def test_outputs_and_differences_are_networks_of_their_own(net):
    deep = FeedForward.of(net)
    single = certify_outputs(net)
    pairs = certify_outputs(net, differences=True)
    assert list(single) == [(0,), (1,), (2,)]
    assert list(pairs) == list(combinations(range(3), 2))
    whole = certify(net)
    for chosen, cert in (single | pairs).items():
        V = deep.weights[-1]
        row = V[chosen[0]] - (V[chosen[1]] if len(chosen) == 2 else 0.0)
        own = FeedForward([*deep.weights[:-1], row[None]], [*deep.biases[:-1], [0.0]], deep.activations)
        assert cert.upper == pytest.approx(certify(own).upper, rel=1e-6)
        assert cert.lower <= cert.upper
        assert cert.output == chosen
        assert cert.check(net)
        assert not cert.check(classifier(seed=9))
        # |a·f| ≤ ‖a‖ ‖f‖
        assert cert.upper <= np.sqrt(len(chosen)) * whole.upper * (1.0 + 1e-6)


def test_pairs_in_either_order_agree_and_bound_samples():
    net = classifier(seed=3)
    forth, back = certify(net, output=(0, 2)), certify(net, output=(2, 0))
    assert forth.upper == pytest.approx(back.upper, rel=1e-9)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5000, 4))
    difference = (net.forward(x) - net.forward(y)) @ [1.0, 0.0, -1.0]
    assert np.max(np.abs(difference) / np.linalg.norm(x - y, axis=1)) <= forth.upper


def test_a_certificate_of_one_output_survives_its_file_and_not_another_index(tmp_path):
    net = classifier(seed=4)
    cert = certify(net, output=(0, 1))
    path = tmp_path / "c.json"
    cert.save(path)
    read = Certificate.load(path)
    assert read.output == (0, 1)
    assert read.check(net)
    assert "output 0 minus output 1" in repr(read)


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=4, max_size=4))
def test_what_rounding_leaves_out_of_a_difference_is_charged(values):
    a, b, c, d = values
    net = FeedForward([[[1.0], [1.0]], [[a, b], [c, d]]], [[0.0, 0.0], [0.0, 0.0]], "relu")
    chosen, charge = select_output(net, (0, 1))
    row = chosen.weights[-1][0]
    lost = [Fraction(x) - Fraction(y) - Fraction(float(r)) for x, y, r in zip((a, b), (c, d), row)]
    # ‖lost‖ ‖W‖_F ≤ charge, in exact arithmetic
    assert sum(e * e for e in lost) * 2 <= Fraction(charge) ** 2
    assert charge <= 1e-9


def test_differences_that_cancel_are_zero_and_hold():
    V = np.array([[0.1, 0.2], [0.1, 0.2]])
    net = ShallowNetwork(np.eye(2), np.zeros(2), V, np.zeros(2))
    cert = certify(net, output=(0, 1))
    assert cert.upper == 0.0
    assert cert.check(net)


def test_a_difference_is_never_bounded_below_what_rounding_hides():
    # 1 − 1e-20 is 1 in doubles: the exact bound of the difference is 1 − 1e-20 times that of the unit, and of the
    # rounding is charged
    net = ShallowNetwork([[3.0]], [1.0], [[1.0], [1e-20]], [0.0, 0.0])
    cert = certify(net, output=(0, 1))
    assert cert.upper >= 3.0
    assert cert.upper == pytest.approx(3.0, rel=1e-9)
    assert 0.0 < cert.lower < 3.0
    assert cert.check(net)


@pytest.mark.parametrize("bad", [3, -1, (0, 0), (0, 1, 2), (), "x", 1.5, (0, 5), True])
def test_outputs_that_do_not_exist_are_refused(bad):
    with pytest.raises(InvalidInputError):
        certify(classifier(), output=bad)


def test_outputs_are_indices():
    assert parse_output(None, 3) is None
    assert parse_output(np.int64(2), 3) == (2,)
    assert parse_output((2, 0), 3) == (2, 0)


def test_one_output_has_no_differences():
    net = classifier(m=1)
    assert list(certify_outputs(net)) == [(0,)]
    with pytest.raises(InvalidInputError, match="no differences"):
        certify_outputs(net, differences=True)
    with pytest.raises(InvalidInputError, match="goes through the outputs"):
        certify_outputs(net, output=0)
