"""Refine: the joint restriction against ten rounds of the alternating method, from the same start, per data set.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/restrict.py                      # joint only
    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/restrict.py --alternating servo  # both, on servo

100 hidden units, split 0, weight 0.01, standardised units; objectives are recomputed with certified bounds.
"""

from __future__ import annotations

import argparse
import time
import warnings

from _common import machine, print_table
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from certnet import certify, from_sklearn, load_dataset, refine

NAMES = ("servo", "machine", "diabetes", "rastrigin", "solar", "wine")


def rows_of(name: str, methods: tuple[str, ...], solver: str, rounds: int) -> list[tuple[str, ...]]:
    data = load_dataset(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(hidden_layer_sizes=(100,), alpha=0.01, max_iter=1000, random_state=0)
        network = from_sklearn(model.fit(data.X_train, data.y_train), units="standardised")
    certify(network)
    rows = []
    for method in methods:
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = refine(network, data.X_train, data.y_train, 0.01, method=method, solver=solver, max_rounds=rounds)
        seconds = time.perf_counter() - begin
        rows.append(
            (
                name,
                str(len(data.y_train)),
                method,
                f"{done.objective_before:.6f}",
                f"{done.objective_after:.6f}",
                f"{done.certificate.upper:.4f}",
                str(len(done.trace) - 1),
                done.status.name,
                f"{seconds:.1f}",
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="DATASET")
    parser.add_argument("--alternating", action="store_true", help="also the alternating method (minutes)")
    parser.add_argument("--solver", default="CLARABEL")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    methods = ("joint", "alternating") if arguments.alternating else ("joint",)
    print(machine(), flush=True)
    rows = []
    for name in arguments.names:
        rows += rows_of(name, methods, arguments.solver, arguments.rounds)
        print(rows[-len(methods) :], flush=True)
    head = ("data", "N", "method", "start", "objective", "L at most", "programs", "status", "seconds")
    print_table(head, rows)


if __name__ == "__main__":
    main()
