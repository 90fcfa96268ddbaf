"""Rounds beyond the cell against one restriction and against direct descent, ten starts per data set.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/beyond.py [--starts 10] [DATA ...]

Every start is a network of 100 units that scikit-learn's Adam trained (alpha 0.01, 1000 epochs at most) with its own
seed. Direct descent is the same L-BFGS on the same true objective from the start, with the time that the rounds took.
All objectives are recomputed with certified bounds.
"""

from __future__ import annotations

import argparse
import statistics
import warnings

from _common import machine, print_table
from restrict import start_network

from certnet import load_dataset, objective_floor, refine
from certnet.refinement import descend

DATA = ("servo", "machine", "solar", "rastrigin", "wine")


def one_start(name: str, seed: int, weight: float, cells: int) -> tuple[float, float, float, float, float]:
    data = load_dataset(name)
    start = start_network(data, seed)
    done = refine(start, data.X_train, data.y_train, weight, cells=cells)
    single = done.trace[1].objective
    seconds = done.trace[-1].seconds
    direct = descend(start, data.X_train, data.y_train, weight, time_limit=seconds, max_iterations=10**6)
    row = (done.objective_before, single, done.objective_after, direct.objective, seconds)
    print(name, seed, " ".join(f"{value:.6f}" for value in row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=DATA)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--weight", type=float, default=0.01)
    parser.add_argument("--cells", type=int, default=4)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows = []
    for name in arguments.data or DATA:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = [one_start(name, seed, arguments.weight, arguments.cells) for seed in range(arguments.starts)]
            data = load_dataset(name)
            floor = objective_floor(data.X_train, data.y_train, arguments.weight)
        means = [statistics.mean(column) for column in zip(*results)]
        won = sum(rounds < direct for _, _, rounds, direct, _ in results)
        rows.append(
            (
                name,
                *(f"{value:.6f}" for value in means[:4]),
                f"{won}/{len(results)}",
                f"{floor.value:.6f}",
                f"{means[4]:.1f}",
            )
        )
        print_table(HEAD, rows[-1:])
    print_table(HEAD, rows)


HEAD = (
    "data",
    "start",
    "one restriction",
    "rounds beyond the cell",
    "direct descent, same time",
    "rounds below direct",
    "floor under all functions",
    "seconds",
)

if __name__ == "__main__":
    main()
