"""Certify with ``exact=True``: how far branch and bound closes the bracket of Gaussian networks, one output.

OMP_NUM_THREADS=1 python benchmarks/exact.py [--limit 60]
"""

from __future__ import annotations

import argparse
import time
import warnings

from _common import machine, print_table, random_network

from certnet import certify

SIZES = ((20, 5), (30, 5), (100, 2), (50, 3), (40, 5), (50, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each network")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows = []
    for h, d in SIZES:
        network = random_network(h, d)
        plain = certify(network)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the gap tells
            cert = certify(network, exact=True, time_limit=arguments.limit)
        seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        if not cert.check(network):
            raise SystemExit("a certificate does not hold")
        check = time.perf_counter() - begin
        bracket = (f"{plain.upper:.6f}", f"{cert.lower:.6f}", f"{cert.upper:.6f}", f"{cert.gap:.1e}")
        rows.append((f"{d}-{h}-1", *bracket, cert.method, f"{seconds:.2f}", f"{check:.2f}"))
        print(rows[-1], flush=True)
    head = ("network", "L at most, LipSDP", "L at least", "L at most", "gap of ρ", "method", "seconds", "check s")
    print_table(head, rows)


if __name__ == "__main__":
    main()
