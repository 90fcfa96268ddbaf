"""What a Lipschitz bound may not depend on, and how it must move: hypothesis properties of certify."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from certnet.certification import Certificate, certify
from certnet.networks.shallow import ShallowNetwork
from certnet.searches.shallow import search_multipliers

quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
weights = st.one_of(st.floats(-2.0, 2.0, width=16), st.floats(-2.0, 2.0, width=16), st.just(0.0))


@st.composite
def networks(draw: st.DrawFn, least: int = 1) -> ShallowNetwork:
    h, d, m = draw(st.integers(least, 7)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2]))
    return ShallowNetwork(
        draw(arrays(np.float64, (h, d), elements=weights)),
        draw(arrays(np.float64, h, elements=weights)),
        draw(arrays(np.float64, (m, h), elements=weights)),
        np.zeros(m),
    )


def upper(net: ShallowNetwork) -> float:
    return certify(net, tol=1e-8).upper


def same(a: float, b: float, rel: float = 1e-6) -> bool:
    return a == pytest.approx(b, rel=rel, abs=1e-290)


@quick
@given(net=networks(), seed=st.integers(0, 100))
def test_the_order_of_the_units_does_not_matter(net: ShallowNetwork, seed: int) -> None:
    p = np.random.default_rng(seed).permutation(net.n_hidden)
    assert same(upper(ShallowNetwork(net.W[p], net.b[p], net.V[:, p], net.c)), upper(net))


@quick
@given(net=networks(), data=st.data())
def test_rescaling_units_does_not_matter(net: ShallowNetwork, data: st.DataObject) -> None:
    kappa = data.draw(arrays(np.float64, net.n_hidden, elements=st.floats(1e-4, 1e4)))
    moved = ShallowNetwork(net.W / kappa[:, None], net.b / kappa, net.V * kappa, net.c)
    assert same(upper(moved), upper(net))


@quick
@given(net=networks(), data=st.data())
def test_rescaling_units_by_powers_of_two_changes_nothing(net: ShallowNetwork, data: st.DataObject) -> None:
    kappa = 2.0 ** data.draw(arrays(np.int64, net.n_hidden, elements=st.integers(-60, 60)))
    moved = ShallowNetwork(net.W / kappa[:, None], net.b / kappa, net.V * kappa, net.c)
    assert same(upper(moved), upper(net), rel=1e-12)
    # the multipliers of one are those of the other, times κ²: the same proof
    cert = certify(net)
    assert certify(moved).multipliers == pytest.approx(cert.multipliers * kappa**2, rel=1e-6)


@quick
@given(net=networks(least=2), data=st.data())
def test_removing_a_unit_never_raises_the_bound(net: ShallowNetwork, data: st.DataObject) -> None:
    keep = np.arange(net.n_hidden) != data.draw(st.integers(0, net.n_hidden - 1))
    smaller = ShallowNetwork(net.W[keep], net.b[keep], net.V[:, keep], net.c)
    assert upper(smaller) <= upper(net) * (1.0 + 1e-6)


@quick
@given(net=networks())
def test_the_bound_is_homogeneous_in_the_output_weights(net: ShallowNetwork) -> None:
    assert same(upper(ShallowNetwork(net.W, net.b, 3.0 * net.V, net.c)), 3.0 * upper(net))
    assert same(upper(ShallowNetwork(net.W, net.b, -net.V, net.c)), upper(net))


@quick
@given(net=networks(), seed=st.integers(0, 100))
def test_rotating_inputs_or_outputs_does_not_matter(net: ShallowNetwork, seed: int) -> None:
    rng = np.random.default_rng(seed)
    Q, P = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (net.n_inputs, net.n_outputs))
    assert same(upper(ShallowNetwork(net.W @ Q, net.b, P @ net.V, net.c)), upper(net))


@quick
@given(net=networks(), seed=st.integers(0, 100))
def test_biases_do_not_matter_for_the_upper_bound(net: ShallowNetwork, seed: int) -> None:
    rng = np.random.default_rng(seed)
    moved = ShallowNetwork(net.W, 100 * rng.standard_normal(net.n_hidden), net.V, rng.standard_normal(net.n_outputs))
    assert certify(moved).upper == certify(net).upper


@quick
@given(net=networks(), seed=st.integers(0, 100))
def test_no_slope_and_no_quotient_exceeds_the_bound(net: ShallowNetwork, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, step = rng.standard_normal((30, net.n_inputs)), rng.standard_normal((30, net.n_inputs))
    cert = certify(net, X=X)
    assert 0.0 <= cert.lower <= cert.upper
    rise = np.linalg.norm(net.forward(X + step) - net.forward(X), axis=1)
    assert np.all(rise <= cert.upper * np.linalg.norm(step, axis=1) * (1.0 + 1e-12) + 1e-12)
    assert np.linalg.norm(net.gradients(X), 2, axis=(1, 2)).max() <= cert.upper * (1.0 + 1e-12)


@quick
@given(net=networks())
def test_duality(net: ShallowNetwork) -> None:
    found = search_multipliers(net)
    assert found.below <= found.upper * (1.0 + 1e-12)
    assert found.status.ok
    assert np.all(found.multipliers >= 0.0)


@quick
@given(net=networks())
def test_a_certificate_survives_its_file(net: ShallowNetwork, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("files")
    cert = certify(net)
    read = Certificate.load(cert.save(folder / "certificate.json"))
    again = ShallowNetwork.load(net.save(folder / "network.npz"))
    assert cert.check(net)
    assert read.check(again)
    assert (read.upper, read.lower, read.rho, read.digest) == (cert.upper, cert.lower, cert.rho, again.digest)


@quick
@given(net=networks(), seed=st.integers(0, 1000))
def test_the_same_seed_gives_the_same_certificate(net: ShallowNetwork, seed: int) -> None:
    one, two = certify(net, random_state=seed), certify(net, random_state=seed)
    assert (one.upper, one.lower) == (two.upper, two.lower)
    assert one.multipliers.tobytes() == two.multipliers.tobytes()
    assert same(one.upper, certify(net).upper, rel=2e-6)
