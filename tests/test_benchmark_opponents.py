"""The networks that refinement is compared with: what is certified is what was trained, and their theory holds."""

import sys
from pathlib import Path

import numpy as np
import pytest

from certnet import certify

torch = pytest.importorskip("torch")
FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "opponents.py").exists():
    pytest.skip("the benchmarks are not part of an installed certnet", allow_module_level=True)
sys.path.insert(0, str(FOLDER))
try:
    import opponents
finally:
    sys.path.remove(str(FOLDER))

HELD = [name for name, method in opponents.METHODS.items() if opponents.DEEL or not method.needs_deel]


def sample(n=40, d=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, np.sin(X[:, 0]) + 0.1 * rng.standard_normal(n)


@pytest.mark.parametrize("hidden", [(8,), (8, 6), (6, 8, 4)])
@pytest.mark.parametrize("name", HELD)
def test_a_member_is_the_network_that_was_trained(name, hidden):
    X, y = sample()
    method = opponents.METHODS[name]
    run = opponents.Run(method, hidden, X, y, [0.5, 2.0], [1e-2, 3e-2], opponents.RunSettings(12, 2, seed=3))
    for layers in run.looks():
        outputs = run.outputs(layers, X).numpy()
        for member in range(2):
            network = opponents.plain(run.chains, layers, member)
            np.testing.assert_allclose(network.predict(X), outputs[member], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["Adam + LipSDP penalty", "spectral normalisation"])
def test_dials_bring_the_slope_to_the_limit(name):
    X, y = sample()
    limits = [0.3, 0.6]
    run = opponents.Run(
        opponents.METHODS[name], (8, 8), X, y, limits, [1e-2, 1e-2], opponents.RunSettings(300, 1, seed=0)
    )
    (layers,) = run.looks()
    for member, (limit, estimate) in enumerate(zip(limits, run.slopes(layers))):
        upper = certify(opponents.plain(run.chains, layers, member)).upper
        assert float(estimate) <= upper * (1 + 1e-9)
        assert float(estimate) == pytest.approx(upper, rel=1e-3)
        assert upper == pytest.approx(limit, rel=0.1)


@pytest.mark.parametrize("hidden", [(10,), (6, 9), (9, 4, 7)])
def test_sandwich_layers_are_one_lipschitz_by_lipsdp(hidden):
    chains = opponents.Sandwich((4, *hidden, 1), members=3, seed=5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in chains.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        layers = [(W.clone(), b.clone()) for W, b in chains.layers()]
    for member in range(3):
        assert certify(opponents.plain(chains, layers, member)).upper <= 1.0 + 1e-6


def test_normalised_weights_come_to_norm_one():
    chains = opponents.Normalised((4, 7, 5, 1), members=2, seed=2)
    with torch.no_grad():
        for _ in range(200):
            layers = chains.layers()
    for W, _ in layers:
        np.testing.assert_allclose(torch.linalg.matrix_norm(W, 2).numpy(), 1.0, atol=1e-6)


def test_sorted_pairs_are_a_network_of_relu():
    rng = np.random.default_rng(4)
    sizes = [(6, 3), (4, 6), (1, 4)]
    layers = [(rng.standard_normal(size), rng.standard_normal(size[0])) for size in sizes]
    X = rng.standard_normal((50, 3))
    Z = X
    for k, (W, b) in enumerate(layers):
        Z = Z @ W.T + b
        if k < 2:
            Z = np.sort(Z.reshape(len(Z), -1, 2), axis=2).reshape(Z.shape)

    class Sorted(opponents.Chains):
        pairs_sorted = True

        def layers(self):
            return [(torch.tensor(W)[None], torch.tensor(b)[None]) for W, b in layers]

        def rated(self, rates):
            return []

    chains = Sorted()
    network = opponents.plain(chains, chains.layers(), 0)
    np.testing.assert_allclose(network.predict(X), Z[:, 0], atol=1e-12)
