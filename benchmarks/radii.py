"""Intervals of predictions, bounds in balls about digits, and certified radii: how tight, and in how many CPU seconds.

    CERTNET_DATA_HOME=… OMP_NUM_THREADS=1 python benchmarks/radii.py
    CERTNET_DATA_HOME=… OMP_NUM_THREADS=1 python benchmarks/radii.py --quick     # without training: intervals alone

Intervals: 10 000 samples of a network with He-initialised Gaussian weights, boxes of half-width 0.1; of every sample's
interval it is counted how many of 10 000 outputs in its box lie outside. Balls: MNIST, a plainly trained 784-256²-10;
what `certify` proves of an l2 ball about a digit, over the slope at the digit, with the lower side. Radii: the same
network, the first test images; seconds leave out the certificates for all inputs, which are given.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from _common import machine, print_table

from certnet import FeedForward, certify, certify_outputs, prediction_intervals
from certnet.data import load_images
from certnet.networks.network import Network
from certnet.robust import accuracy_curve, certified_radius
from certnet.train import train_classifier

SIZES = (0.05, 0.1, 0.3)
CURVE = (0.05, 0.1, 0.2, 0.3, 0.5)
DIGITS = 10
IMAGES = 50
CURVE_IMAGES = 200


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return call(), time.process_time() - start


def random_network(widths: tuple[int, ...]) -> FeedForward:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((b, a)) * np.sqrt(2.0 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.1 * rng.standard_normal(b) for b in widths[1:]], "relu")


def intervals(n: int = 10_000, per_sample: int = 10_000) -> None:
    net, rng = random_network((10, 64, 64, 1)), np.random.default_rng(1)
    X = rng.standard_normal((n, 10))
    proof = certify(net)
    asked = {"linear relaxation": None, "with a certificate of all inputs": proof}
    found = {}
    for name, given in asked.items():
        found[name] = timed(lambda given=given: prediction_intervals(net, X, box=0.1, certificate=given))
    low, high = np.empty(n), np.empty(n)
    outside = dict.fromkeys(found, 0)
    for k in range(n):
        f = net.outputs(X[k] + rng.uniform(-0.1, 0.1, (per_sample, 10)))
        low[k], high[k] = f.min(), f.max()
        for name, ((lower, upper), _) in found.items():
            outside[name] += int(((f < lower[k]) | (f > upper[k])).sum())
    rows = []
    for name, ((lower, upper), seconds) in found.items():
        ratio = (upper - lower)[:, 0] / (high - low)
        rows.append(
            [name, f"{seconds:.2f}", f"{(upper - lower).mean():.3f}", f"{np.median(ratio):.2f}", str(outside[name])]
        )
    alone = 2.0 * proof.upper * 0.1 * np.sqrt(10.0)
    rows.append(["f ∓ L r alone", "", f"{alone:.3f}", "", ""])
    print(f"intervals of {n} samples, 10-64-64-1, box of 0.1; {per_sample} outputs sampled in each")
    print_table(["interval", "CPU s", "mean width", "width / sampled", "outside"], rows)


def balls(net: Network, X: np.ndarray) -> None:
    rows = []
    slopes = np.array([np.linalg.norm(J, 2) for J in net.gradients(X)])
    for size in SIZES:
        found = [timed(lambda x=x, size=size: certify(net, around=x, radius=size, tol=1e-2)) for x in X]
        upper, lower = (np.array([getattr(c, side) for c, _ in found]) / slopes for side in ("upper", "lower"))
        seconds = np.array([s for _, s in found])
        checked = sum(bool(c.check(net)) for c, _ in found)
        rows.append(
            [
                str(size),
                f"{np.median(upper):.2f} ({upper.min():.2f} to {upper.max():.2f})",
                f"{np.median(lower):.2f} (to {lower.max():.2f})",
                f"{np.median(upper / lower):.2f}",
                f"{np.median(seconds):.2f} (to {seconds.max():.2f})",
                f"{checked}/{len(X)}",
            ]
        )
    print(
        f"\nl2 balls about {len(X)} digits; all inputs: {certify(net, tol=1e-2).upper:.1f}, slopes at the digits "
        f"{slopes.min():.1f} to {slopes.max():.1f}"
    )
    print_table(["radius", "upper / slope", "lower / slope", "upper / lower", "CPU s", "checked"], rows)


def radii(net: Network, X: np.ndarray, y: np.ndarray) -> None:
    proofs, spent = timed(lambda: certify_outputs(net, differences=True, tol=1e-3))
    X_some = X[:IMAGES]
    first = certified_radius(net, X_some, proofs).radius
    rows = []
    for how in ("global", "relaxation", "region"):
        found, seconds = timed(lambda how=how: certified_radius(net, X_some, proofs, method=how))
        ratio = found.radius / first
        rows.append(
            [
                how,
                f"{found.radius.mean():.3f}",
                f"{np.median(ratio):.2f} (to {ratio.max():.2f})",
                f"{seconds / len(X_some):.3f}",
                ", ".join(f"{(found.bound == b).sum()} {b}" for b in np.unique(found.bound)),
            ]
        )
    print(f"\ncertified radii of {len(X_some)} images; certificates of all differences: {spent:.1f} CPU s")
    print_table(["method", "mean radius", "over global", "CPU s each", "proved by"], rows)
    rows = []
    for method in ("relaxation", "region"):

        def drawn(method: str = method) -> Any:
            return accuracy_curve(net, X[:CURVE_IMAGES], y[:CURVE_IMAGES], CURVE, proofs, method=method)

        curve, seconds = timed(drawn)
        if method == "relaxation":
            rows.append(["global", *(f"{s:.3f}" for s in curve.everywhere), ""])
        rows.append([method, *(f"{s:.3f}" for s in curve.nearby), f"{seconds:.1f}"])
    print(f"\ncertified accuracy on {CURVE_IMAGES} images, clean {curve.clean:.3f}")
    print_table(["method", *map(str, CURVE), "CPU s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print(machine())
    intervals(*(1000, 1000) if quick else ())
    if quick:
        return
    data = load_images("mnist")
    trained = train_classifier(data.X_train, data.y_train, penalty=0.0, epochs=6, learning_rate=1e-3)
    print(
        f"\nMNIST, 784-256²-10, plain training, 6 epochs: accuracy "
        f"{np.mean(trained.network.predict(data.X_test).argmax(axis=1) == data.y_test):.3f}"
    )
    balls(trained.network, data.X_test[:DIGITS])
    radii(trained.network, data.X_test, data.y_test)


if __name__ == "__main__":
    main()
