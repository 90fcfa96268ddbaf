"""Restriction: certnet's own solver, Clarabel on the same program, large tables, growth in N.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/restrict.py                  # own solver, six data sets
    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/restrict.py --generic        # also Clarabel (minutes)
    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/restrict.py --alternating    # Algorithm 1 of Y too
    OMP_NUM_THREADS=1 python benchmarks/restrict.py --large                                # synthetic tables, growth

100 hidden units trained by scikit-learn's Adam (alpha 0.01, 1000 epochs at most), split 0, weight 0.01, standardised
units. Values are recomputed from the points that solvers return; every gap is relative to one bound from below, the
own solver's at a tolerance of 1e-8, recomputed from its dual point. Times are medians of three warm runs, Clarabel's of
one, with CVXPY's compilation.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from _common import draw_growth, machine, median_seconds, peak_megabytes, print_table
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from certnet import ShallowNetwork, from_sklearn, load_dataset, refine
from certnet.data import Dataset
from certnet.networks.shallow import require_shallow
from certnet.programs.goal import Weighted
from certnet.programs.penalties import LipschitzPenalty
from certnet.programs.restriction import Restriction, Solution, whole_cell
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.interior import InteriorPoint

NAMES = ("servo", "machine", "diabetes", "rastrigin", "solar", "wine")
WEIGHT = 0.01
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "restrict-growth.png"


def start_network(data: Dataset, seed: int = 0) -> ShallowNetwork:
    """Trained without regard to its slope."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(hidden_layer_sizes=(100,), alpha=0.01, max_iter=1000, random_state=seed)
        return require_shallow(from_sklearn(model.fit(data.X_train, data.y_train), units="standardised"))


def program_of(network: ShallowNetwork, X: np.ndarray, y: np.ndarray) -> Restriction:
    targets = np.asarray(y, dtype=float).reshape(len(X), -1)
    return Restriction.of(whole_cell(network), X, targets, LipschitzPenalty(), Weighted(WEIGHT))


def value_at(program: Restriction, solution: Solution) -> float:
    """The objective at a solver's point, with its own ρ."""
    return program.fit(solution.U, solution.c) + WEIGHT * float(solution.rho or 0.0)


def rows_of(name: str, *, generic: bool, alternating: bool) -> list[tuple[str, ...]]:
    data = load_dataset(name)
    network = start_network(data)
    program = program_of(network, data.X_train, data.y_train)
    start = whole_cell(network).point
    lower = InteriorPoint(1e-8).solve(program, start=start).lower
    own = InteriorPoint(1e-6).solve(program, start=start)
    seconds = median_seconds(lambda: InteriorPoint(1e-6).solve(program, start=start), repeat=3)
    rows = [row(name, program, "certnet", own.value, lower, seconds, 1.0, f"{own.steps} steps")]
    if generic:
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = ConicSolver("CLARABEL", 1e-6).solve(program)
        spent = time.perf_counter() - begin
        if other.solution is not None:
            value = value_at(program, other.solution)
            rows.append(row(name, program, "Clarabel", value, lower, spent, spent / seconds, other.solver_status))
    if alternating:
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = refine(network, data.X_train, data.y_train, WEIGHT, method="alternating", solver="CLARABEL")
        spent = time.perf_counter() - begin
        rounds = f"{len(done.trace) - 1} rounds"
        rows.append(
            row(name, program, "alternating, Clarabel", done.objective_after, lower, spent, spent / seconds, rounds)
        )
    return rows


def row(
    name: str, program: Restriction, solver: str, value: float, lower: float, seconds: float, ratio: float, note: str
) -> tuple[str, ...]:
    n, d = program.rows.shape
    gap = f"{(value - lower) / value:.1e}"
    return name, str(n), str(d), solver, f"{value:.8f}", gap, f"{seconds:.3f}", f"{ratio:.0f}", note


def synthetic(n: int, d: int, h: int, seed: int = 0) -> tuple[Restriction, ShallowNetwork]:
    """A random network, Gaussian inputs, and a standardised target of five waves with noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = np.sin(2.0 * X @ rng.standard_normal((d, 5)) / np.sqrt(d)).sum(axis=1) + 0.1 * rng.standard_normal(n)
    y = (y - y.mean()) / y.std()
    network = ShallowNetwork(
        rng.standard_normal((h, d)) / np.sqrt(d),
        0.5 * rng.standard_normal(h),
        rng.standard_normal(h) / np.sqrt(h),
        float(y.mean()),
    )
    return program_of(network, X, y), network


def large_rows() -> None:
    rows = []
    for n, d, h, tol in (
        (2000, 20, 300, 1e-5),
        (2000, 20, 500, 1e-5),
        (20_000, 20, 100, 1e-5),
        (200_000, 20, 100, 1e-4),
    ):
        program, network = synthetic(n, d, h)
        done = InteriorPoint(tol).solve(program, start=whole_cell(network).point)
        rows.append(
            (
                str(n),
                str(d),
                str(h),
                f"{done.value:.8f}",
                f"{done.gap:.1e}",
                str(done.steps),
                f"{done.seconds:.1f}",
                f"{peak_megabytes():.0f}",
            )
        )
        print(rows[-1], flush=True)
    print_table(("N", "d", "units", "objective", "gap", "steps", "seconds", "peak MB so far"), rows)


def growth() -> None:
    sizes, seconds = (1000, 3000, 10_000, 30_000, 100_000), []
    for n in sizes:
        program, network = synthetic(n, 10, 50)
        done = InteriorPoint(1e-5).solve(program, start=whole_cell(network).point)
        seconds.append(done.seconds)
        print(f"N = {n}: {done.seconds:.2f} s, {done.steps} steps, gap {done.gap:.1e}", flush=True)
    draw_growth(PICTURE, "samples", sizes, {"gap 1e-5, d = 10, 50 units": seconds})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="DATASET")
    parser.add_argument("--generic", action="store_true", help="also Clarabel on the joint program")
    parser.add_argument("--alternating", action="store_true", help="also the alternating method (many minutes)")
    parser.add_argument("--large", action="store_true", help="synthetic tables and growth in N instead")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    if arguments.large:
        large_rows()
        growth()
        return
    rows = []
    for name in arguments.names:
        rows += rows_of(name, generic=arguments.generic, alternating=arguments.alternating)
        print(rows[-1], flush=True)
    head = ("data", "rows", "d", "solver", "objective", "gap", "seconds", "times certnet", "note")
    print_table(head, rows)


if __name__ == "__main__":
    main()
