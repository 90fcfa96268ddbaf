"""Refinement where rows are many: J, CPU seconds, peak memory, against a run ten times longer.

    OMP_NUM_THREADS=1 python benchmarks/refine_rows.py --case wide|rows|parquet [--effort default] [--longer]

``wide`` is 4 000 rows of 90 inputs with 100 hidden units, ``rows`` 400 000 rows of 20 inputs with (64, 64), in memory,
``parquet`` the latter with as many rows as ``--rows`` says, from a file that is written into ``--folder`` and deleted.
Inputs are Gaussian, the target five waves with noise, standardised; the start is scikit-learn's MLPRegressor (on the
first 100 000 rows). J, the training error plus ``weight`` times the certified L², is recomputed on all rows. With
``--longer`` a run with effort="thorough" is given ten times the seconds that the first one took.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _common import machine, peak_megabytes, print_table
from sklearn.neural_network import MLPRegressor

from certnet import FeedForward, from_sklearn, refine
from certnet.core.validation import Float
from certnet.refinement.result import RefineResult

SHAPES = {"wide": (4_000, 90, (100,)), "rows": (400_000, 20, (64, 64)), "parquet": (1_000_000, 20, (64, 64))}
TRAINED = 100_000
NOISE = 0.1
PIECE = 100_000  # rows drawn at a time
HEAD = ("case", "rows", "effort", "J before", "J", "L at most", "train MSE", "CPU s", "seconds", "peak MB")


def piece(number: int, n: int, d: int) -> tuple[Float, Float]:
    """Rows of one piece: each has a seed of its own, so that a larger table begins as a smaller one."""
    waves = np.random.default_rng(0).standard_normal((d, 5)) / np.sqrt(d)
    rng = np.random.default_rng((1, number))
    X = rng.standard_normal((n, d))
    y = np.sin(2.0 * X @ waves).sum(axis=1) + NOISE * rng.standard_normal(n)
    return X, y / np.sqrt(2.5 + NOISE * NOISE)


def table(n: int, d: int) -> tuple[Float, Float]:
    """All rows in memory."""
    X, y = np.empty((n, d)), np.empty(n)
    for number, a in enumerate(range(0, n, PIECE)):
        X[a : a + PIECE], y[a : a + PIECE] = piece(number, min(PIECE, n - a), d)
    return X, y


def file_of(path: Path, n: int, d: int) -> Path:
    """All rows in a Parquet file, of which a piece at a time is in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*(f"x{j}" for j in range(d)), "y"]
    with pq.ParquetWriter(path, pa.schema([(name, pa.float64()) for name in names]), compression="none") as writer:
        for number, a in enumerate(range(0, n, PIECE)):
            X, y = piece(number, min(PIECE, n - a), d)
            writer.write_table(pa.table(dict(zip(names, [*X.T, y]))))
    return path


def start_of(X: Float, y: Float, hidden: tuple[int, ...]) -> FeedForward:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to stop early
        model = MLPRegressor(hidden_layer_sizes=hidden, random_state=0, max_iter=max(3, 200_000 // len(X)))
        model.fit(X[:TRAINED], y[:TRAINED])
    return FeedForward.of(from_sklearn(model))


def one_run(case: str, n: int, start: FeedForward, X: Any, y: Any, effort: str | float, weight: float) -> RefineResult:
    """One refinement, told as a row of the table."""
    cpu, begin = time.process_time(), time.perf_counter()
    done = refine(start, X, y, weight, effort=effort, callback=tell)
    seconds = time.perf_counter() - begin
    values = (done.objective_before, done.objective_after, done.certificate.upper, done.mse)
    spent = time.process_time() - cpu, seconds, peak_megabytes()
    row = (case, f"{n}", f"{effort}", *(f"{value:.5f}" for value in values), *(f"{value:.0f}" for value in spent))
    print_table(HEAD, [row])
    return done


def tell(row: Any) -> None:
    print(f"  {row.seconds:7.1f} s  {row.objective:.6f}  {row.stage}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=SHAPES, default="wide")
    parser.add_argument("--rows", type=int, help="instead of those of the case")
    parser.add_argument("--effort", default="default")
    parser.add_argument("--weight", type=float, default=0.01)
    parser.add_argument("--longer", action="store_true", help="then a run of ten times the seconds")
    parser.add_argument("--folder", type=Path, help="of the Parquet file, a temporary one by default")
    arguments = parser.parse_args()
    case: str = arguments.case
    n, d, hidden = SHAPES[case]
    n = arguments.rows or n
    effort: str | float = float(arguments.effort) if arguments.effort[:1].isdigit() else arguments.effort
    print(machine(), flush=True)
    start = start_of(*table(min(n, TRAINED), d), hidden)
    print(f"started from {start!r}, peak {peak_megabytes():.0f} MB", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        X: Any
        X, y = (file_of(Path(folder) / "rows.parquet", n, d), "y") if case == "parquet" else table(n, d)
        begin = time.perf_counter()
        one_run(case, n, start, X, y, effort, arguments.weight)
        if arguments.longer:
            one_run(case, n, start, X, y, 10.0 * (time.perf_counter() - begin), arguments.weight)


if __name__ == "__main__":
    main()
