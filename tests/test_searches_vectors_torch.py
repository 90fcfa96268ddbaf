"""The search over vectors on a device of PyTorch against NumPy's."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from test_proofs_storage import BENT, PHIS, images, residual
from test_searches_vectors import network

from certnet.certification import certify, certify_outputs
from certnet.core.errors import InvalidInputError, MissingDependencyError
from certnet.core.outcome import Status
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.searches import vectors, vectors_torch_
from certnet.searches.increments import increments_of
from certnet.searches.riccati import bound_of
from certnet.searches.vectors import search_vectors
from certnet.searches.vectors_torch_ import TorchArrays

torch = pytest.importorskip("torch", reason='PyTorch is not installed: pip install "certnet[torch]"')

DEEP = {
    "relu": network((5, 8, 9, 3)),
    "wide first": network((6, 12, 5, 12, 4, 2)),  # two layers at once
    "slopes above zero": network((5, 9, 7, 2), (0.1, 1.0), seed=1),
    "slopes of both signs": network((4, 7, 7, 7, 2), (-0.5, 1.0), seed=2),
    "several activations": network((30, 9, 9, 9, 2), ("relu", (0.2, 0.9), "tanh"), seed=3),
    "zeros": network((6, 12, 12, 12, 2), seed=4, density=0.3),
    **{f"skips, {phi}": residual(3, 4, phi=phi) for phi in PHIS},
    "deep skips": residual(4, 6, blocks=3, phi=BENT, seed=9),
    "convolutions": images(seed=2),
    "convolutions, slopes above zero": images(seed=3, phi=Activation("leaky_relu", (0.1,))),
}
NETWORKS = pytest.mark.parametrize("net", [pytest.param(net, id=name) for name, net in DEEP.items()])


@NETWORKS
@pytest.mark.parametrize("sup", [False, True])
def test_multipliers_prove_the_same_bound(net: FeedForward, sup: bool) -> None:
    whole, arrays, rng = increments_of(net), TorchArrays("cpu"), np.random.default_rng(0)
    placed = arrays.placed(whole)
    weights = rng.uniform(0.5, 2.0, whole.widths[0]) if sup else None
    found = search_vectors(net)
    finite = 0
    for factor in (0.5, 1.1, 30.0, 1e4):
        T = [factor ** (len(whole.maps) - k) * (t + 1e-2) for k, t in enumerate(found.multipliers)]
        on_device = [arrays.array(t) for t in T]
        expected = bound_of(whole, T, weights)
        bound = arrays.bound_of(placed, on_device, None if weights is None else arrays.array(weights))
        assert bound == pytest.approx(expected, rel=1e-10)
        finite += np.isfinite(expected)
    assert 0 < finite < 4  # some S_k is indefinite, too


def test_the_largest_eigenvalue_by_lanczos_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, arrays = increments_of(network((9, 7, 8, 2), (0.1, 1.0))), TorchArrays("cpu")
    T = [np.full(n, 50.0) for n in whole.n_bending]
    placed, on_device = arrays.placed(whole), [arrays.array(t) for t in T]
    monkeypatch.setattr(vectors_torch_, "_LANCZOS", 4)
    assert arrays.bound_of(placed, on_device, None) == pytest.approx(bound_of(whole, T), rel=1e-12)
    assert arrays.bound_of(placed, [np.nan * t for t in on_device], None) == np.inf


@NETWORKS
@pytest.mark.parametrize("sup", [False, True])
def test_passes_gradients_and_steps_are_the_same(net: FeedForward, sup: bool) -> None:
    whole, arrays = increments_of(net), TorchArrays("cpu")
    ours = vectors._Vectors(whole, 4, sup)
    other = vectors._Vectors(arrays.placed(whole), 4, sup, arrays)
    rng = np.random.default_rng(1)
    x = ours.drawn(rng) * np.exp(0.3 * rng.standard_normal(ours._cuts[-1]))
    for _ in range(2):
        moved = arrays.array(x)
        for one, two in zip((*ours.value(x), *ours.stepped(x)), (*other.value(moved), *other.stepped(moved))):
            np.testing.assert_allclose(np.asarray(two), one, rtol=1e-9, atol=1e-12)
        for one, two in zip(ours.multipliers(x)[0], other.multipliers(moved)[0]):
            np.testing.assert_allclose(np.asarray(two), one, rtol=1e-9)
        same = [np.random.default_rng(2) for _ in range(2)]
        (ours, x), (other, moved) = ours.widened(x, 2, same[0]), other.widened(moved, 2, same[1])
        np.testing.assert_allclose(np.asarray(moved), x, rtol=1e-12)


@NETWORKS
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_certificates_agree_to_the_tolerance(net: FeedForward, norm: str) -> None:
    ours, other = certify(net, norm=norm), certify(net, norm=norm, device="cpu")
    assert other.check(net)
    assert (other.kind, other.norm) == ("neuron", norm)
    assert other.upper == pytest.approx(ours.upper, rel=1e-6)
    assert other.gap <= 2e-6
    assert other.lower == ours.lower


def test_too_few_columns_are_widened_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "_COLUMNS", 2)
    net = network((8, 20, 20, 20, 3), seed=2)
    found = search_vectors(net, device="cpu")
    assert found.status is Status.OPTIMAL
    assert found.upper == pytest.approx(search_vectors(net).upper, rel=1e-6)
    assert all(isinstance(t, np.ndarray) for t in found.multipliers)


@NETWORKS
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_tensors_become_arrays_where_that_is_asked_for_alone(
    net: FeedForward, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere NumPy would work on the CPU, and fail on a GPU."""

    def unasked(*_: Any, **__: Any) -> None:
        raise AssertionError("a tensor was handed to NumPy")

    monkeypatch.setattr(torch.Tensor, "__array__", unasked)
    monkeypatch.setattr(vectors_torch_, "_LANCZOS", 4)
    assert search_vectors(net, norm=norm, max_iterations=15, device="cpu").upper > 0.0


@pytest.mark.parametrize("net", [network((6, 9, 9, 4), seed=6), residual(6, 8, out=4, seed=14)])
def test_outputs_start_where_the_one_before_ended(net: FeedForward) -> None:
    ours, other = certify_outputs(net, differences=True), certify_outputs(net, differences=True, device="cpu")
    assert ours.keys() == other.keys()
    for outputs, cert in other.items():
        assert cert.check(net)
        assert cert.upper == pytest.approx(ours[outputs].upper, rel=2e-6)


def test_one_hidden_layer_by_name_of_the_method() -> None:
    net = ShallowNetwork(np.eye(3), np.zeros(3), np.ones((2, 3)), np.zeros(2))
    cert = certify(net, method="neuron", device="cpu")
    assert cert.check(net)
    assert cert.upper == pytest.approx(np.sqrt(6.0), rel=1e-6)


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "options",
    [{"method": "layer"}, {"method": "composition"}, {"method": "product"}, {"method": "neuron", "solver": "CLARABEL"}],
    ids=str,
)
def test_a_device_is_for_the_search_over_vectors(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r'is for method="neuron".*leave device out'):
        certify(DEEP["relu"], device="cpu", **options)


def test_one_hidden_layer_is_searched_otherwise() -> None:
    net = ShallowNetwork(np.eye(3), np.zeros(3), np.ones(3), 0.0)
    with pytest.raises(InvalidInputError, match='this is method="shallow": leave device out, or give method="neuron"'):
        certify(net, device="cpu")


@pytest.mark.parametrize("name", ["warp", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"device '{name}' cannot be used"):
        certify(DEEP["relu"], device=name)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"certnet\[torch\]"):
        certify(DEEP["relu"], device="cpu")


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TorchArrays, "_before", full)
    monkeypatch.setattr(TorchArrays, "_before_two", full)
    with pytest.raises(InvalidInputError, match="device 'cpu' has too little memory"):
        certify(DEEP["relu"], device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")
def test_a_gpu_finds_the_same() -> None:
    for net in DEEP.values():
        for norm in ("l2", "linf"):
            cert = certify(net, norm=norm, device="cuda")
            assert cert.check(net)
            assert cert.upper == pytest.approx(certify(net, norm=norm).upper, rel=1e-6)
