"""Certify, several hidden layers: LipSDP per neuron and per layer, chains, and Clarabel on the chordal form.

    OMP_NUM_THREADS=1 python benchmarks/depth.py                          # certnet alone
    OMP_NUM_THREADS=1 python benchmarks/depth.py --generic --limit 600    # also Clarabel through CVXPY, per neuron

CPU seconds of certify beside the time of checking its certificate, digest and witness included. Clarabel gets one
semidefinite block per pair of neighbouring layers (the chordal form), and the time limit counts the solver alone, not
CVXPY's compilation.
"""

from __future__ import annotations

import argparse
import time
import warnings
from itertools import pairwise

import numpy as np
from _common import machine, median_seconds, print_table

from certnet import FeedForward, certify
from certnet.errors import CertnetError, NotConvergedWarning
from certnet.searches.deep_barrier import solve_deep

SHAPES = (
    (10, 64, 64, 1),
    (10, *[64] * 5, 1),
    (10, *[64] * 10, 1),
    (10, *[64] * 20, 1),
    (784, 256, 256, 10),
    (784, 512, 512, 512, 10),
)
WIDE = (
    500  # inputs from which on the multipliers per layer, a Newton method's, take minutes; the tolerance is then 1e-4
)
GENERIC = ((10, 16, 16, 16, 16, 16, 1), (10, 32, 32, 32, 32, 32, 1), (10, 64, 64, 64, 64, 64, 1))


def random_network(widths: tuple[int, ...], seed: int = 0) -> FeedForward:
    """Gaussian weights of variance 2 / (number of inputs)."""
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((b, a)) * np.sqrt(2.0 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [0.1 * rng.standard_normal(b) for b in widths[1:]], "relu")


def own_rows() -> None:
    rows = []
    certify(random_network((4, 5, 5, 2)))  # compiles and imports
    for widths in SHAPES:
        network = random_network(widths)
        for method in ("neuron", "layer", "composition", "product"):
            wide = network.n_inputs > WIDE
            if method == "layer" and (wide or network.depth > 5):
                continue
            begin = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotConvergedWarning)  # the gap stands in the table
                certificate = certify(network, method=method, tol=1e-4 if wide else 1e-6)
            whole = time.process_time() - begin
            check = median_seconds(lambda c=certificate, n=network: c.check(n), repeat=3)
            gap = f"{certificate.gap:.1e}" if np.isfinite(certificate.gap) else ""
            name = "-".join(map(str, widths))
            bounds = (f"{certificate.lower:.4f}", f"{certificate.upper:.4f}", gap)
            rows.append((name, method, *bounds, f"{whole:.2f}", f"{1e3 * check:.1f}"))
            print(rows[-1], flush=True)
    print_table(("network", "method", "L at least", "L at most (verified)", "gap", "certify CPU s", "check ms"), rows)


def generic_rows(limit: float) -> None:
    rows = []
    for widths in GENERIC:
        network = random_network(widths)
        name = "-".join(map(str, widths))
        begin = time.perf_counter()
        own = certify(network, method="neuron")
        own_seconds = time.perf_counter() - begin
        rows.append((name, "certnet", f"{own.upper:.6f}", f"{own_seconds:.2f}", "1"))
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = solve_deep(network, per="neuron", solver="CLARABEL", form="chordal", time_limit=limit)
            result = f"{found.upper:.6f} ({found.status.name})"
        except CertnetError as error:
            result = str(error).split(":")[0]
        seconds = time.perf_counter() - begin
        rows.append((name, "Clarabel, chordal form", result, f"{seconds:.1f}", f"{seconds / own_seconds:.0f}"))
        print(rows[-2:], flush=True)
    print_table(("network", "solver", "L at most", "seconds", "times certnet"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generic", action="store_true", help="compare with Clarabel")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each of Clarabel's solves")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    own_rows()
    if arguments.generic:
        generic_rows(arguments.limit)


if __name__ == "__main__":
    main()
