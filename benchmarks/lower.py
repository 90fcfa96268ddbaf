"""Lower bounds, several hidden layers: certnet's search against many random gradients and a climb from the best.

    OMP_NUM_THREADS=1 python benchmarks/lower.py
    OMP_NUM_THREADS=1 python benchmarks/lower.py --quick      # a tenth of the random gradients

The reference takes gradients at random points of four scales, then climbs from the best twenty (three of wide
networks): random steps, ever shorter, and one unit's kink crossed at a time while that makes the slope steeper. Its
values are not proved; certnet's are, and its seconds include the proof. Both are CPU seconds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from _common import machine, print_table
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import certnet
from certnet import FeedForward
from certnet.networks.network import Network
from certnet.proofs.gradients import gradient_below
from certnet.searches.lower import lower_bound

SEEDS = 5


@dataclass(frozen=True)
class Case:
    """A network, the random gradients that the reference takes, and from how many points it climbs."""

    name: str
    network: Network
    gradients: int = 100_000
    climbs: int = 20


def random_network(widths: tuple[int, ...]) -> FeedForward:
    """Gaussian weights of variance 2 / (number of inputs), and small biases."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((b, a)) * np.sqrt(2.0 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.1 * rng.standard_normal(b) for b in widths[1:]], "relu")


def trained() -> FeedForward:
    """A classifier of 8 × 8 digits, 64-64³-10."""
    X, y = load_digits(return_X_y=True)
    model = MLPClassifier((64, 64, 64), max_iter=60, random_state=0).fit(StandardScaler().fit_transform(X), y)
    return FeedForward.of(certnet.from_sklearn(model))


def cases() -> list[Case]:
    deep = random_network((10, *[64] * 5, 1))
    return [
        Case("10-64x5-1", deep),
        Case("10-64x10-1", random_network((10, *[64] * 10, 1))),
        Case("10-64x20-1", random_network((10, *[64] * 20, 1))),
        Case("10-64x5-1, tanh", FeedForward(deep.weights, deep.biases, "tanh")),
        Case("64-64x3-10, digits", trained()),
        Case("784-256x2-10", random_network((784, 256, 256, 10)), climbs=3),
        Case("784-512x3-10", random_network((784, 512, 512, 512, 10)), 10_000, climbs=3),
        Case("784-1024x3-10", random_network((784, 1024, 1024, 1024, 10)), 2_000, climbs=1),
    ]


# -------------------------------------------------------------------------------------------------------- the reference


def sizes(network: Network, points: np.ndarray) -> np.ndarray:
    """Spectral norms of the Jacobians."""
    J = network.gradients(points)
    if min(J.shape[1:]) == 1:
        return np.asarray(np.linalg.norm(J, axis=(1, 2)))
    return np.sqrt(np.maximum(np.linalg.eigvalsh(J @ np.swapaxes(J, 1, 2))[:, -1], 0.0))


def reference(case: Case, share: float, rng: np.random.Generator) -> float:
    """The largest gradient found."""
    network, points, found = case.network, [], []
    for k in range(max(4, int(share * case.gradients) // 500)):
        drawn = (0.1, 1.0, 10.0, 1e3)[k % 4] * rng.standard_normal((500, network.n_inputs))
        size = sizes(network, drawn)
        best = np.argsort(-size)[: case.climbs]
        points.append(drawn[best])
        found.append(size[best])
    starts, size = np.vstack(points), np.concatenate(found)
    best = np.argsort(-size)[: case.climbs]
    return max(climbed(network, starts[i], float(size[i]), rng) for i in best)


def climbed(network: Network, x: np.ndarray, size: float, rng: np.random.Generator) -> float:
    for step in range(20):
        radius = 0.5 * (np.linalg.norm(x) + 0.1) * 0.7**step / np.sqrt(len(x))
        x, size, _ = better(network, x, size, x + radius * rng.standard_normal((64, len(x))))
    if any(phi.smooth for phi in network.activations):
        return size
    for _ in range(100):
        x, size, moved = better(network, x, size, crossings(network, x, rng))
        if not moved:
            break
    return size


def better(network: Network, x: np.ndarray, size: float, tried: np.ndarray) -> tuple[np.ndarray, float, bool]:
    found = sizes(network, tried)
    i = int(np.argmax(found))
    return (tried[i], float(found[i]), True) if found[i] > size * (1.0 + 1e-12) else (x, size, False)


def crossings(network: Network, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points just beyond the kinks of single ReLUs: the 32 nearest, and 32 others."""
    J, y, z, normals = np.eye(len(x)), x, [], []
    for layer in network.layers[:-1]:
        z.append(layer.preactivations(y[None])[0])
        normals.append(layer.operator.matrix @ J)
        y, J = layer.activated(z[-1]), layer.derivative(z[-1])[:, None] * normals[-1]
    distance, normal = np.concatenate(z), np.vstack(normals)
    squares = np.maximum(np.sum(normal * normal, axis=1), 1e-300)
    near = np.argsort(np.abs(distance) / np.sqrt(squares))
    chosen = np.concatenate([near[:32], rng.permutation(near[32:])[:32]])
    step = distance + np.sign(distance) * (1e-3 * np.abs(distance) + 1e-6)
    points = x - (step / squares)[chosen, None] * normal[chosen]
    return points[np.isfinite(points).all(axis=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the random gradients")
    share = 0.1 if parser.parse_args().quick else 1.0
    print(machine(), flush=True)
    lower_bound(random_network((4, 5, 5, 2)))
    rows = []
    for case in cases():
        begin = time.process_time()
        value = reference(case, share, np.random.default_rng(0))
        took = time.process_time() - begin
        begin = time.process_time()
        own = [lower_bound(case.network, random_state=seed) for seed in range(SEEDS)]
        own_took = (time.process_time() - begin) / SEEDS
        assert all(bound.value <= gradient_below(case.network, bound.point) for bound in own)
        ratios = [bound.value / value for bound in own]
        rows.append(
            (
                case.name,
                f"{int(share * case.gradients)}",
                f"{value:.4f}",
                f"{took:.2f}",
                f"{np.mean([bound.value for bound in own]):.4f}",
                f"{own_took:.3f}",
                f"{np.mean(ratios):.3f} ({min(ratios):.3f} … {max(ratios):.3f})",
                f"{own_took / took:.3f}",
            )
        )
        print(rows[-1], flush=True)
    head = ("network", "random", "reference", "CPU s", "certnet, mean", "CPU s", f"ratio ({SEEDS} seeds)", "time ratio")
    print_table(head, rows)


if __name__ == "__main__":
    main()
