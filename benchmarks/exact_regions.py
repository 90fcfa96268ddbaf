"""Certify with ``exact=True`` in regions and at any depth: how far branch and bound closes the bracket.

    OMP_NUM_THREADS=1 python benchmarks/exact_regions.py                    # all cases but those of a file
    OMP_NUM_THREADS=1 python benchmarks/exact_regions.py --case diabetes    # one of them
    OMP_NUM_THREADS=1 python benchmarks/exact_regions.py --case control --network TestNetwork.nnet --jobs 2

Networks are trained by scikit-learn's Adam without weight decay on standardised data, the box is that of the training
rows with every side moved out by 10 % of its range. "control" is a network of six hidden layers of 50 units and five
inputs: the collision-avoidance network of github.com/sisl/NNet (nnet/TestNetwork.nnet), or one that is trained here on
a smooth function. Its boxes are those around a point drawn from [−0.3, 0.3]^5, and its whole range. CPU seconds of
certify, first bracket and proof included; with several processes wall seconds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from _common import machine, print_table

from certnet import Box, FeedForward, certify, from_sklearn, load_dataset, refine
from certnet.claims.region import ALL, Region

MARGIN = 0.1
CENTRE = 0.3


@dataclass(frozen=True)
class Case:
    """A network, a region, and what is asked of the bracket there."""

    name: str
    network: FeedForward
    region: Region
    tol: float
    seconds: float


def trained(X: Any, y: Any, hidden: tuple[int, ...], *, epochs: int = 500, seed: int = 0) -> FeedForward:
    from sklearn.neural_network import MLPRegressor

    model = MLPRegressor(
        hidden_layer_sizes=hidden, alpha=0.0, max_iter=epochs, n_iter_no_change=epochs, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all epochs are wanted
        model.fit(X, y)
    return FeedForward.of(from_sklearn(model))


def shallow(name: str, *, refined: bool = False) -> tuple[FeedForward, Region]:
    data = load_dataset(name)
    net = trained(data.X_train, data.y_train, (100,))
    if refined:
        net = FeedForward.of(refine(net, data.X_train, data.y_train).network)
    return net, Box.around(data.X_train, margin=MARGIN)


def two_layers(name: str) -> tuple[FeedForward, Region]:
    """4-6-6-3 on iris, 11-12-12-1 on wine, 9-16-16-1 on diabetes without its last input."""
    if name == "4-6-6-3":
        from sklearn.datasets import load_iris

        X, y = load_iris(return_X_y=True)
        X, y = (X - X.mean(axis=0)) / X.std(axis=0), np.eye(3)[y]
    else:
        data = load_dataset("wine" if name == "11-12-12-1" else "diabetes")
        X, y = data.X_train, data.y_train
    X = X[:, : int(name.split("-")[0])]
    hidden = tuple(map(int, name.split("-")[1:-1]))
    return trained(X, y, hidden), Box.around(X, margin=MARGIN)


def control(path: str | None) -> FeedForward:
    if path is None:
        rng = np.random.default_rng(0)
        X = rng.uniform(-0.5, 0.5, (20_000, 5))
        y = np.tanh(3.0 * X[:, :1] * X[:, 1:2]) + np.cos(2.0 * X @ rng.standard_normal((5, 5))) + X[:, 2:3] ** 2
        return trained(X, y, (50,) * 6, epochs=60)
    with open(path) as file:
        lines = [line for line in file if not line.startswith("//")]
    sizes = [int(a) for a in lines[1].split(",") if a.strip()]
    rows = iter([[float(a) for a in line.split(",") if a.strip()] for line in lines[7:]])
    # inputs of range about 1, outputs as the file scales them: the limits of both are left out
    weights, biases = [], []
    for n in sizes[1:]:
        weights.append(np.array([next(rows) for _ in range(n)]))
        biases.append(np.array([next(rows)[0] for _ in range(n)]))
    return FeedForward(weights, biases, "relu")


def cases(asked: str | None, path: str | None) -> Iterator[Case]:
    def wanted(name: str) -> bool:
        return asked is None or asked == name

    if wanted("diabetes"):
        net, box = shallow("diabetes")
        yield Case("diabetes 10-100-1", net, box, 0.15, 60.0)
        yield Case("diabetes 10-100-1", net, box, 1e-6, 60.0)
    if wanted("servo"):
        yield Case("servo 4-100-1", *shallow("servo"), 1e-6, 30.0)
    if wanted("wine"):
        yield Case("wine 11-100-1, refined", *shallow("wine", refined=True), 1e-6, 30.0)
    for name, seconds in (("4-6-6-3", 10.0), ("11-12-12-1", 60.0), ("9-16-16-1", 120.0)):
        if wanted("two") or wanted(name):
            net, box = two_layers(name)
            yield Case(name, net, ALL, 1e-6, seconds)
            yield Case(name, net, box, 1e-6, seconds)
    if wanted("control") or wanted("range"):
        net = control(path)
        centre = np.random.default_rng(0).uniform(-CENTRE, CENTRE, 5)
        name = "control 5-50x6-5"
        for half, tol in ((0.01, 0.3), (0.05, 0.1), (0.1, 0.1), (0.01, 1e-3), (0.05, 1e-3), (0.1, 1e-3)):
            if asked != "range":
                yield Case(f"{name}, half-width {half:g}", net, Box(centre - half, centre + half), tol, 120.0)
        if asked == "range":
            yield Case(f"{name}, whole range", net, Box(np.full(5, -0.5), np.full(5, 0.5)), 1e-3, 600.0)


def measured(case: Case, n_jobs: int) -> tuple[Any, ...]:
    clock: Callable[[], float] = time.process_time if n_jobs == 1 else time.perf_counter
    begin, asked = clock(), 0

    def late() -> bool:
        nonlocal asked
        asked += 1
        return asked % 50 == 0 and clock() - begin > case.seconds  # the clock itself may take a millisecond

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the ratio tells
        cert = certify(
            case.network,
            region=case.region,
            exact=True,
            tol=case.tol,
            n_jobs=n_jobs,
            time_limit=20.0 * case.seconds,
            should_stop=late,
        )
        seconds = clock() - begin
        everywhere = certify(case.network)
    begin = clock()
    if not cert.check(case.network):
        raise SystemExit("a certificate does not hold")
    check = clock() - begin
    ratio = cert.upper / cert.lower if cert.lower > 0.0 else np.inf
    where = "all inputs" if case.region is ALL else "box"
    bracket = (f"{cert.lower:.6g}", f"{cert.upper:.6g}", f"{ratio:.7g}", f"{everywhere.upper:.6g}")
    return case.name, where, f"{case.tol:g}", *bracket, cert.method, f"{seconds:.2f}", f"{check:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", help="diabetes, servo, wine, two, 4-6-6-3, 11-12-12-1, 9-16-16-1, control, range")
    parser.add_argument("--network", help="a .nnet file in the place of the network that control trains")
    parser.add_argument("--limit", type=float, help="seconds for each case, in the place of its own")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows = []
    for case in cases(arguments.case, arguments.network):
        limited = case if arguments.limit is None else replace(case, seconds=arguments.limit)
        rows.append(measured(limited, arguments.jobs))
        print(rows[-1], flush=True)
    head = ("network", "where", "tol", "at least", "at most", "ratio", "global", "method", "seconds", "check s")
    print_table(head, rows)


if __name__ == "__main__":
    main()
