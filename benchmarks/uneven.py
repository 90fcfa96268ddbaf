"""Refinement in raw units, where the spreads of inputs differ by a factor of ten million.

    OMP_NUM_THREADS=1 python benchmarks/uneven.py [--effort default]

400 rows of an age, an income, an acidity and a distance, standard deviations from 2e4 to 2e-3, of which a price depends
by slopes from 0.001 to 5000; 50 units of scikit-learn's MLPRegressor on standardised columns, folded into raw units.
L is per unit of any column. Errors are recomputed on the rows, L is certified.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from _common import machine, print_table
from sklearn.compose import TransformedTargetRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from certnet import from_sklearn, refine
from certnet.core.validation import Float
from certnet.errors import CertnetWarning

GOALS: list[dict[str, Any]] = [
    *({"target_lipschitz": limit} for limit in (1.0, 10.0, 100.0, 1000.0, 20_000.0)),
    *({"weight": weight} for weight in (1e-6, 1e-4, 1e-2, 1.0)),
    *({"max_mse": error} for error in (120.0, 200.0)),
]


def table(n: int = 400) -> tuple[Float, Float]:
    rng = np.random.default_rng(0)
    age, income = rng.uniform(18.0, 90.0, n), rng.lognormal(10.5, 0.5, n)
    acidity, distance = rng.normal(7.0, 0.3, n), rng.exponential(0.002, n)
    price = 200.0 + 1.5 * age + 0.001 * income + 30.0 * np.maximum(acidity - 7.0, 0.0) - 5000.0 * distance
    return np.column_stack([age, income, acidity, distance]), price + 8.0 * rng.standard_normal(n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", default="default")
    effort = parser.parse_args().effort
    print(machine())
    X, y = table()
    warnings.simplefilter("ignore", CertnetWarning)
    inner = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(50,), max_iter=2000, random_state=0))
    net = from_sklearn(TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(X, y))
    rows = []
    for goal in GOALS:
        begin = time.process_time()
        done = refine(net, X, y, effort=effort, **goal)
        ((name, value),) = goal.items()
        error = float(np.mean((done.network.predict(X).ravel() - y) ** 2))
        seconds, upper = time.process_time() - begin, done.certificate.upper
        J = f"{error + value * upper**2:.1f}" if name == "weight" else ""
        rows.append((name, f"{value:g}", f"{error:.1f}", f"{upper:.4g}", J, f"{seconds:.1f}"))
        print(rows[-1], flush=True)
    print_table(("goal", "value", "MSE", "L at most", "J", "CPU s"), rows)


if __name__ == "__main__":
    main()
