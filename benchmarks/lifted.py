"""Inference of lifted networks: certnet's solvers beside OSQP and DAQP, on digits of MNIST.

    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/lifted.py                    # widths 64 and 256
    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/lifted.py --widths 64        # one of them
    CERTNET_DATA_HOME=... OMP_NUM_THREADS=1 python benchmarks/lifted.py --weights net.npz  # a network of one's own

ReLU, ReLU, linear; beta = [1, 1, 0], gamma = 1/8. Random weights are Gaussian with variance 1/inputs; trained ones are
of one contrastive epoch over MNIST, learned here. Times are medians per sample, one thread where nothing else is said,
all in this process; residuals are natural residuals, recomputed, the largest over all samples.

OSQP is set up once per network, q is updated, and each sample starts from the one before. Its settings are searched on
the first samples of each case, and the quickest whose points meet the tolerance is shown. DAQP keeps its factors and is
given the linear term alone. Both are called directly, without the checks and repetitions of certnet's backends.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from _common import machine, median_seconds, print_table

from certnet.data.images import load_images
from certnet.lifted import LiftedClassifier, LiftedNetwork
from certnet.programs.box_qp import BoxQP, natural_residual, posed
from certnet.solvers.box import Limits, solver_named

GRID = {
    "check_termination": (5, 25),
    "rho": (0.1, 1.0),
    "polishing": (False, True),
}
TIGHTER = (1.0, 0.3, 0.1, 0.01)
"""What OSQP is asked for, relative to the residual that is wanted, until its points have it."""
POLISHED = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""The same in absolute terms where polishing brings the last digits."""
TRIED = 10
"""Samples on which OSQP's settings are compared."""

Row = tuple[str, ...]


# networks -------------------------------------------------------------------------------------------------------------


def random_weights(width: int, seed: int = 0) -> LiftedNetwork:
    rng = np.random.default_rng(seed)
    sizes = (784, width, width, 10)
    return LiftedNetwork(
        [rng.standard_normal((b, a)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)],
        [0.1 * rng.standard_normal(b) for b in sizes[1:]],
        [0.1 * rng.standard_normal(a) for a in sizes[:-1]],
        beta=[1.0, 1.0, 0.0],
        gamma=1 / 8,
        units=["relu", "relu", "linear"],
    )


def trained_weights(width: int, n_samples: int) -> LiftedNetwork:
    """One epoch over the first ``n_samples`` digits."""
    data = load_images("mnist", part="train")
    model = LiftedClassifier((width, width), max_epochs=1, random_state=0)
    network: LiftedNetwork = model.fit(data.X_train[:n_samples], data.y_train[:n_samples]).network_
    return network


# other people's solvers -----------------------------------------------------------------------------------------------


def osqp_solver(problem: BoxQP, q: np.ndarray, eps: float, **settings: Any) -> Callable[[np.ndarray], np.ndarray]:
    """All samples, one after another, by one solver object that is set up now."""
    import osqp

    limited = np.isfinite(problem.lower) | np.isfinite(problem.upper)
    A = scipy.sparse.eye(problem.n, format="csr")[limited].tocsc()
    solver = osqp.OSQP()
    solver.setup(
        scipy.sparse.csc_matrix(np.triu(problem.H)),
        -q[0],
        A,
        problem.lower[limited],
        problem.upper[limited],
        verbose=False,
        eps_abs=eps,
        eps_rel=0.0,
        adaptive_rho_interval=10,
        max_iter=20_000,
        adaptive_rho_tolerance=2.0,
        **settings,
    )

    def run(rows: np.ndarray) -> np.ndarray:
        z = np.empty_like(rows)
        for i, row in enumerate(rows):
            solver.update(q=-row)
            z[i] = solver.solve(raise_error=False).x
        return np.clip(z, problem.lower, problem.upper)

    return run


def best_osqp(
    problem: BoxQP, q: np.ndarray, tol: float, *, tried: int = TRIED
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """The quickest setting whose points all meet ``tol`` (the most accurate where none does), and its name."""
    found = []
    for values in itertools.product(*GRID.values()):
        settings = dict(zip(GRID, values))
        for eps in POLISHED if settings["polishing"] else [tol * factor for factor in TIGHTER]:
            run = osqp_solver(problem, q, eps, **settings)
            residual = natural_residual(problem, q[:tried], run(q[:tried])).max()
            seconds = median_seconds(lambda run=run: run(q[:tried]), repeat=1)
            name = f"eps {eps:g}, rho {values[1]}{', polished' if values[2] else ''}"
            found.append((residual > tol, seconds, residual, run, name))
            if residual <= tol:
                break
    missed, _, _, run, name = min(found, key=lambda row: (row[0], row[2] if row[0] else row[1]))
    return run, f"OSQP ({name}{', misses' if missed else ''})"


def daqp_solver(problem: BoxQP, q: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """All samples, one after another, by one workspace with its factors."""
    import daqp

    model = daqp.Model()
    sense = np.zeros(problem.n, dtype=np.int32)
    model.setup(problem.H.copy(), -q[0], np.zeros((0, problem.n)), problem.upper, problem.lower, sense)

    def run(rows: np.ndarray) -> np.ndarray:
        z = np.empty_like(rows)
        for i, row in enumerate(rows):
            model.update(f=-row)
            z[i] = model.solve()[0]
        return z

    return run


# rows -----------------------------------------------------------------------------------------------------------------


def per_sample(run: Callable[[], np.ndarray], n_samples: int, *, repeat: int) -> tuple[float, np.ndarray]:
    """Microseconds for one sample, the median of warm runs, and the points."""
    z = run()
    return median_seconds(run, repeat=repeat) / n_samples * 1e6, z


def rows_of(case: str, net: LiftedNetwork, X: np.ndarray, tol: float) -> list[Row]:
    problem, q = posed(net, X)
    cores = os.cpu_count() or 1
    runs: list[tuple[str, int, Callable[[], np.ndarray]]] = []
    own = {"coordinate descent": "coordinate_descent", "ADMM (NumPy)": "admm"}
    for name, solver in own.items():
        runs.append((name, 31, lambda solver=solver: solver_named(solver)(problem, q, None, Limits(tol))))
    runs.append((f"coordinate descent, {cores} threads", 31, lambda: descent(problem, q, tol, cores)))
    runs.append(("net.infer(X)", 31, lambda: net.infer(X, tol=tol, threads=1).stacked))
    best, name = best_osqp(problem, q, tol)
    runs.append((name, 3, lambda: best(q)))
    dual = daqp_solver(problem, q)
    runs.append(("DAQP", 3, lambda: dual(q)))
    times = []
    for name, repeat, run in runs:
        seconds, z = per_sample(run, len(X), repeat=repeat)
        residual = natural_residual(problem, q, z)
        times.append((name, seconds, residual.max(), int((residual > tol).sum())))
    ours = times[0][1]
    return [
        (case, f"{tol:g}", name, f"{t:.1f}", f"{t / ours:.1f}", f"{worst:.1e}", str(missed))
        for name, t, worst, missed in times
    ]


def descent(problem: BoxQP, q: np.ndarray, tol: float, threads: int) -> np.ndarray:
    return solver_named("coordinate_descent")(problem, q, None, Limits(tol, threads=threads))


def networks(arguments: argparse.Namespace) -> list[tuple[str, LiftedNetwork]]:
    if arguments.weights:
        return [(path.stem, LiftedNetwork.load(path)) for path in arguments.weights]
    found = []
    for width in arguments.widths:
        shape = f"784-{width}-{width}-10"
        found.append((f"{shape} random", random_weights(width)))
        found.append((f"{shape} trained", trained_weights(width, arguments.train)))
    return found


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="*", type=int, default=[64, 256])
    parser.add_argument("--weights", nargs="*", type=Path, help="files that LiftedNetwork.save wrote, 784 inputs")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--train", type=int, default=60_000, help="samples of the epoch that trains")
    parser.add_argument("--tol", nargs="*", type=float, default=[1e-6, 1e-11])
    arguments = parser.parse_args(given)
    print(machine(), flush=True)
    X = np.asarray(load_images("mnist", part="test").X_test[: arguments.samples], dtype=np.float64)
    rows: list[Row] = []
    for case, net in networks(arguments):
        for tol in arguments.tol:
            rows += rows_of(case, net, X, tol)
            print(*(" | ".join(row) for row in rows[-6:]), sep="\n", flush=True)
    head = ("network", "tol", "solver", "µs per sample", "times the first", "largest residual", "missed")
    print_table(head, rows)


if __name__ == "__main__":
    main()
