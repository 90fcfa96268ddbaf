"""Refinement of ReLU networks of any depth: objective before and after, certified L, test error, gap, CPU seconds.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/refine_depth.py [--hidden 64 64] [--starts 1] [DATA ...]
    python benchmarks/refine_depth.py --effort thorough servo machine diabetes

Every start is scikit-learn's MLPRegressor (500 epochs at most) with its own seed, on the training part. The objective
is the training error plus ``weight`` times the certified L², recomputed. "gap" is the relative duality gap of the last
restriction that was solved, of the last two layers with the ones before them fixed where there are more. Means over the
starts.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

from _common import machine, print_table
from sklearn.neural_network import MLPRegressor

from certnet import FeedForward, from_sklearn, load_dataset, refine
from certnet.refinement import mean_squared_error

DATA = ("servo", "machine", "solar", "wine", "diabetes")
HEAD = (
    "data",
    "samples",
    "J before",
    "J after",
    "L at most",
    "train MSE",
    "test MSE before",
    "test MSE",
    "gap",
    "CPU s",
)


def one_start(name: str, hidden: tuple[int, ...], seed: int, weight: float, effort: str) -> tuple[float, ...]:
    data = load_dataset(name)
    model = MLPRegressor(hidden_layer_sizes=hidden, random_state=seed, max_iter=500).fit(data.X_train, data.y_train)
    start = FeedForward.of(from_sklearn(model))
    begin = time.process_time()
    done = refine(start, data.X_train, data.y_train, weight, effort=effort)
    seconds = time.process_time() - begin
    errors = (mean_squared_error(net, data.X_test, data.y_test) for net in (start, done.network))
    upper = done.certificate.upper
    values = (done.objective_before, done.objective_after, upper, done.mse, *errors)
    return len(data.X_train), *values, done.gap, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=DATA)
    parser.add_argument("--hidden", nargs="+", type=int, default=(64, 64))
    parser.add_argument("--starts", type=int, default=1)
    parser.add_argument("--weight", type=float, default=0.01)
    parser.add_argument("--effort", choices=("quick", "default", "thorough"), default="default")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows = []
    for name in arguments.data or DATA:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [
                one_start(name, tuple(arguments.hidden), seed, arguments.weight, arguments.effort)
                for seed in range(arguments.starts)
            ]
        n, *means = (statistics.mean(column) for column in zip(*found))
        *values, gap, seconds = means
        rows.append((name, f"{n:.0f}", *(f"{value:.4f}" for value in values), f"{gap:.1e}", f"{seconds:.1f}"))
        print(*rows[-1], flush=True)
    print_table(HEAD, rows)


if __name__ == "__main__":
    main()
