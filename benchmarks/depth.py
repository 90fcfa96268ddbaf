"""Certify: five hidden layers of 64, LipSDP per neuron, per layer, and the product of spectral norms.

    OMP_NUM_THREADS=1 python benchmarks/depth.py

The time of the search beside that of verifying what it found; with ``--generic`` also Clarabel
through CVXPY on a smaller network.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import numpy as np
from _common import machine, print_table

from certnet import FeedForward, certify
from certnet.certify.deep import search_deep
from certnet.certify.verify_deep import DeepChecker


def random_network(widths: tuple[int, ...], seed: int = 0) -> FeedForward:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) * np.sqrt(2.0 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.1 * rng.standard_normal(b) for b in widths[1:]], "relu")


def generic() -> None:
    network = random_network((10, 32, 32, 1))
    for solver in ("auto", "CLARABEL"):
        begin = time.perf_counter()
        certificate = certify(network, method="neuron", solver=solver)
        print(f"10-32-32-1, {solver}: L <= {certificate.upper:.8f}, {time.perf_counter() - begin:.2f} s", flush=True)


def main() -> None:
    print(machine(), flush=True)
    if "--generic" in sys.argv:
        generic()
    rows = []
    for widths in ((10, 64, 64, 1), (10, 64, 64, 64, 64, 64, 1)):
        network = random_network(widths)
        for method in ("neuron", "layer", "product"):
            begin = time.perf_counter()
            certificate = certify(network, method=method)
            whole = time.perf_counter() - begin
            solver = check = float("nan")
            if method != "product":
                begin = time.perf_counter()
                found = search_deep(network, per=method)
                solver = time.perf_counter() - begin
                begin = time.perf_counter()
                DeepChecker(network, found.multipliers).holds(certificate.upper)
                check = time.perf_counter() - begin
            rows.append(
                (
                    "-".join(map(str, widths)),
                    method,
                    f"{certificate.lower:.4f}",
                    f"{certificate.upper:.4f}",
                    f"{whole:.2f}",
                    f"{solver:.2f}",
                    f"{1e3 * check:.1f}",
                )
            )
            print(rows[-1], flush=True)
    print_table(("network", "method", "L at least", "L at most", "certify s", "search alone s", "check ms"), rows)


if __name__ == "__main__":
    main()
