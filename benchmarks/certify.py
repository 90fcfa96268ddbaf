"""Certify: own search against CVXPY with Clarabel and SCS, in one process run.

    OMP_NUM_THREADS=1 python benchmarks/certify.py                    # certnet alone, with growth in h and its picture
    OMP_NUM_THREADS=1 python benchmarks/certify.py --generic          # also the LMIs by generic solvers (minutes)
    OMP_NUM_THREADS=1 python benchmarks/certify.py --generic --limit 300

Every row shows the relative gap, the verified bound, the medians of warm calls of the search, of verifying what it
found, and of the whole of ``certify`` with the lower bound.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from _common import draw_growth, machine, median_seconds, peak_megabytes, print_table, random_network

from certnet import CertnetError, ShallowNetwork, certify
from certnet.proofs.shallow import BoundChecker
from certnet.searches.reference_ import solve_lipsdp
from certnet.searches.shallow import search_multipliers

SIZES = ((100, 12, 1), (1000, 100, 1), (10_000, 50, 1), (100_000, 20, 1), (1024, 784, 1), (50, 784, 10), (256, 784, 10))
# what the generic solvers are given: the LMI of the others has an order of 1000 to 100 000
GENERIC = ((30, 12, 1), (30, 12, 10), (100, 12, 1), (60, 30, 5))
GROWTH = (100, 300, 1000, 3000, 10_000, 30_000, 100_000)
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "certify-growth.png"


def own_row(network: ShallowNetwork) -> tuple[str, ...]:
    repeat = 21 if network.W.size <= 2000 else 3
    certificate = certify(network)
    whole = median_seconds(lambda: certify(network), repeat=repeat)
    multipliers = np.asarray(certificate.multipliers)
    search = median_seconds(lambda: search_multipliers(network), repeat=repeat)
    # a fresh checker each time: what proving the upper bound takes, without digest and witness
    check = median_seconds(lambda: BoundChecker(network, multipliers).holds(certificate.upper), repeat=repeat)
    if not certificate.check(network):
        raise SystemExit("a certificate does not hold")
    return (
        f"{network.n_inputs}-{network.n_hidden}-{network.n_outputs}",
        f"{certificate.lower:.6f}",
        f"{certificate.upper:.6f}",
        f"{certificate.gap:.1e}",
        f"{1e3 * search:.2f}",
        f"{1e3 * check:.2f}",
        f"{1e3 * whole:.2f}",
        f"{peak_megabytes():.0f}",
    )


def own_rows() -> None:
    rows = [own_row(random_network(*size)) for size in SIZES]
    head = ("network", "L at least", "L at most (verified)", "gap", "search ms", "verify ms", "certify ms", "peak MB")
    print_table(head, rows)


def growth() -> None:
    """Time against h at d = 20, one output."""
    networks = [random_network(h, 20) for h in GROWTH]
    search = [median_seconds(lambda n=n: search_multipliers(n), repeat=3) for n in networks]
    whole = [median_seconds(lambda n=n: certify(n), repeat=3) for n in networks]
    draw_growth(PICTURE, "hidden units", GROWTH, {"certify, d = 20": whole, "search alone": search})


def generic_rows(limit: float) -> None:
    rows: list[tuple[str, ...]] = []
    for h, d, m in GENERIC:
        network = random_network(h, d, m)
        reference = certify(network)
        own = median_seconds(lambda n=network: certify(n), repeat=21)
        name = f"{d}-{h}-{m}"
        rows.append((name, "certnet", "", f"{reference.upper:.8f}", f"{reference.gap:.1e}", f"{own:.5f}", "1"))
        for solver in ("CLARABEL", "SCS"):
            for form in ("arrow", "dense"):
                rows.append((name, solver, form, *generic_row(network, solver, form, limit, own, reference.upper)))
                print(rows[-1], flush=True)
    head = ("network", "solver", "LMI", "L at most (verified)", "gap, or ρ over certnet's", "seconds", "times certnet")
    print_table(head, rows)


def generic_row(
    network: ShallowNetwork, solver: str, form: str, limit: float, own: float, upper: float
) -> tuple[str, ...]:
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = solve_lipsdp(network, solver=solver, form=form, tol=1e-8, time_limit=limit)
        except CertnetError:
            return "", "no result", f"{time.perf_counter() - begin:.1f}", ""
    seconds = time.perf_counter() - begin
    proved = BoundChecker(network, found.multipliers).smallest(found.upper)
    if proved is None:
        return "none", found.status.name, f"{seconds:.2f}", ""
    over = f"{(proved / upper) ** 2 - 1.0:.1e}" + ("" if found.status.ok else f" ({found.status.name})")
    return f"{proved:.8f}", over, f"{seconds:.2f}", f"{seconds / own:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generic", action="store_true", help="compare with CVXPY solvers on the smaller networks")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for each generic solve")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    own_rows()
    growth()
    if arguments.generic:
        generic_rows(arguments.limit)


if __name__ == "__main__":
    main()
