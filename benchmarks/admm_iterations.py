"""What is left for a convex restriction to gain over ADMM, by the number of ADMM's iterations.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/admm_iterations.py [--trials 3] [DATA ...]

Splits, training and weight are those of the study `yin-objectives`: a network of 100 units that SGD trained, learning
rate and epochs tuned, then ADMM of the Lipschitz-regularised problem, stopped after so many iterations. From there the
alternating method (ten rounds), and in brackets the joint program; both gains are relative to the network that ADMM had
reached, means over the trials.
"""

from __future__ import annotations

import argparse
import warnings
from statistics import fmean
from typing import Any

from _common import machine, print_table

from certnet import load_dataset, refine
from certnet.networks.shallow import require_shallow
from certnet.train import train_admm, train_sgd, tune

DATA = ("servo", "machine", "solar", "rastrigin", "wine")
ITERATIONS = (1, 2, 3, 5, 10, 30, 100)
RATES, EPOCHS = (0.1, 0.03, 0.01, 0.003), (50, 100, 200)


def one_trial(name: str, trial: int, weight: float) -> list[tuple[float, float, float]]:
    """ADMM's objective, and the relative gains over it, for every number of iterations."""
    data = load_dataset(name, split=trial)
    X, y = data.X_train, data.y_train
    fixed: dict[str, Any] = {
        "hidden": (100,),
        "random_state": trial,
        "weight_decay": weight,
        "momentum": 0.9,
        "batch_size": 32,
    }
    tuned = tune(train_sgd, X, y, {"learning_rate": RATES}, epochs=EPOCHS, **fixed)
    tuned_start = require_shallow(tuned.result.network)
    found = []
    for iterations in ITERATIONS:
        start = require_shallow(train_admm(X, y, weight, start=tuned_start, max_iterations=iterations).network)
        alternating = refine(start, X, y, weight, method="alternating", max_rounds=10)
        joint = refine(start, X, y, weight, cells=1)
        before = alternating.objective_before
        found.append((before, 1.0 - alternating.objective_after / before, 1.0 - joint.objective_after / before))
        print(name, trial, iterations, " ".join(f"{value:.5f}" for value in found[-1]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", default=DATA)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--weight", type=float, default=0.001)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows = []
    for name in arguments.data or DATA:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trials = [one_trial(name, trial, arguments.weight) for trial in range(arguments.trials)]
        gains = [
            f"{100.0 * fmean(t[k][1] for t in trials):.1f} % ({100.0 * fmean(t[k][2] for t in trials):.1f} %)"
            for k in range(len(ITERATIONS))
        ]
        rows.append((name, *gains))
    print_table(["data", *(f"{k} iterations" for k in ITERATIONS)], rows)


if __name__ == "__main__":
    main()
