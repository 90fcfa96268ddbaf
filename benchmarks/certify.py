"""Certify: own search against CVXPY with Clarabel and SCS, in one process run.

    OMP_NUM_THREADS=1 python benchmarks/certify.py            # quick: sizes without a generic solver
    OMP_NUM_THREADS=1 python benchmarks/certify.py --generic  # also the LMIs at h=100, d=12 (minutes)

Every row shows the relative gap, the verified bound, the median of warm calls of the search, and what verifying and
the lower bound cost on top.
"""

from __future__ import annotations

import argparse
import time
import warnings

from _common import machine, median_seconds, peak_megabytes, print_table, random_network

from certnet import certify
from certnet.certify.search import search_multipliers
from certnet.certify.verify import BoundChecker

SIZES = ((100, 12, 1), (1000, 100, 1), (10_000, 50, 1), (100_000, 20, 1), (1024, 784, 1), (50, 784, 10), (256, 784, 10))


def own_rows() -> None:
    rows = []
    for h, d, m in SIZES:
        network = random_network(h, d, m)
        repeat = 21 if h <= 100 and d < 100 else 3
        certificate = certify(network)
        whole = median_seconds(lambda n=network: certify(n), repeat=repeat)
        search = median_seconds(lambda n=network: search_multipliers(n), repeat=repeat)
        check = median_seconds(
            lambda n=network, c=certificate: BoundChecker(n, c.multipliers).holds(c.upper), repeat=repeat
        )
        assert certificate.check(network)
        rows.append(
            (
                f"{d}-{h}-{m}",
                f"{certificate.upper:.6f}",
                f"{certificate.gap:.1e}",
                f"{1e3 * whole:.2f}",
                f"{1e3 * search:.2f}",
                f"{1e3 * check:.2f}",
                f"{peak_megabytes():.0f}",
            )
        )
    print_table(("network", "L at most", "gap", "certify ms", "search ms", "check ms", "peak MB so far"), rows)


def generic_rows(h: int, d: int) -> None:
    network = random_network(h, d)
    certify(network)
    own = median_seconds(lambda: certify(network), repeat=21)
    reference = certify(network)
    rows = [("certnet", "", f"{reference.upper:.8f}", f"{reference.gap:.1e}", f"{own:.5f}", "1")]
    for solver, form in (("CLARABEL", "arrow"), ("SCS", "arrow"), ("SCS", "dense"), ("CLARABEL", "dense")):
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = certify(network, solver=solver, form=form)
        seconds = time.perf_counter() - begin
        gap = f"{(found.upper / reference.upper) ** 2 - 1.0:.1e}"
        rows.append((solver, form, f"{found.upper:.8f}", gap, f"{seconds:.2f}", f"{seconds / own:.0f}"))
    print_table(
        ("solver", "LMI", "L at most (verified)", "ρ above certnet's / own gap", "seconds", "times certnet"), rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generic", action="store_true", help="compare with CVXPY solvers at h=100, d=12")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    own_rows()
    if arguments.generic:
        generic_rows(100, 12)


if __name__ == "__main__":
    main()
