"""Certify where the data are: bounds in regions beside the global one and interval arithmetic, slopes by feature.

    OMP_NUM_THREADS=1 python benchmarks/regions.py                   # trained networks of the UCI sets
    OMP_NUM_THREADS=1 python benchmarks/regions.py --only wine       # some of them
    OMP_NUM_THREADS=1 python benchmarks/regions.py --features        # certify_features
    OMP_NUM_THREADS=1 python benchmarks/regions.py --refine --only servo machine

Networks are trained by scikit-learn's Adam for 500 epochs without weight decay, on standardised data (split 0), so
that their global constants are large. Regions: all inputs, the box around the training rows, the same with every side
moved out by 10 % of its range, and boxes of half-width 0.1 around 20 test rows (medians). Interval arithmetic alone:
limits of units from layer to layer, products of intervals for the gradient, and the norm of its largest entries; in
floating point, not proved. CPU seconds of certify, proof and lower bound included, medians of warm calls.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from _common import machine, print_table, random_network
from depth import he

from certnet import Box, FeedForward, certify, certify_features, from_sklearn, load_dataset, refine
from certnet.claims.region import ALL
from certnet.errors import NotConvergedWarning
from certnet.networks.network import Network
from certnet.proofs.intervals import slopes_of_products

T = TypeVar("T")
SETS = ("servo", "machine", "solar", "wine", "diabetes")
HIDDEN = ((100,), (64, 64))
HALF_WIDTH = 0.1
SAMPLES = 20
EPOCHS = 500
POINTS = 10_000
NEAR, WEIGHT = 0.25, 0.01  # of the region that refinements are for, and of L²


def trained(name: str, hidden: tuple[int, ...]) -> tuple[Network, Any]:
    from sklearn.neural_network import MLPRegressor

    data = load_dataset(name)
    model = MLPRegressor(hidden_layer_sizes=hidden, alpha=0.0, max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all epochs are wanted
        model.fit(data.X_train, data.y_train)
    return from_sklearn(model, units=data.units), data


def by_intervals(network: Network, region: Any) -> float:
    """The bound of interval arithmetic alone, for ReLU."""
    low = np.full(network.n_inputs, -np.inf) if region is ALL else region.lower
    high = np.full(network.n_inputs, np.inf) if region is ALL else region.upper
    slopes = []
    for W, b in zip(network.weights[:-1], network.biases[:-1]):
        with np.errstate(invalid="ignore"):
            least = np.where(W > 0.0, W * low, np.where(W < 0.0, W * high, 0.0)).sum(axis=1) + b
            most = np.where(W > 0.0, W * high, np.where(W < 0.0, W * low, 0.0)).sum(axis=1) + b
        slopes.append(((least > 0.0).astype(float), (most > 0.0).astype(float)))
        low, high = np.maximum(least, 0.0), np.maximum(most, 0.0)
    ends = slopes_of_products(network.weights, slopes)
    if ends is None:
        return float("nan")
    return float(np.linalg.norm(np.maximum(np.abs(ends.low), np.abs(ends.high))))


def timed(work: Callable[[], T], repeat: int = 3) -> tuple[T, float]:
    """What the work gives, and the median of its CPU seconds after a first call."""
    found, times = work(), []
    for _ in range(repeat):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return found, statistics.median(times)


def row(network: Network, regions: Sequence[Any]) -> tuple[float, float, float, float, float]:
    """Medians over regions: interval arithmetic, upper, lower, upper / lower, CPU seconds."""
    found = []
    for region in regions:
        claim, seconds = timed(lambda where=region: certify(network, region=where), 3 if len(regions) == 1 else 1)
        if not claim.check(network):
            raise SystemExit("a certificate does not hold")
        ratio = claim.upper / claim.lower if claim.lower > 0.0 else float("inf")
        found.append((by_intervals(network, region), claim.upper, claim.lower, ratio, seconds))
    return tuple(map(statistics.median, zip(*found)))  # type: ignore[return-value]


def regions_of(data: Any) -> dict[str, Sequence[Any]]:
    near = [Box(x - HALF_WIDTH, x + HALF_WIDTH) for x in data.X_test[:SAMPLES]]
    return {
        "all inputs": [ALL],
        "data box + 10 %": [Box.around(data.X_train, margin=0.1)],
        "data box": [Box.around(data.X_train)],
        f"± {HALF_WIDTH:g} around a row": near,
    }


def uci_rows(names: Sequence[str]) -> None:
    rows = []
    for name in names:
        for hidden in HIDDEN:
            network, data = trained(name, hidden)
            title = f"{name}, {'-'.join(map(str, network.widths))}"
            for where, regions in regions_of(data).items():
                intervals, upper, lower, ratio, seconds = row(network, regions)
                told = (f"{intervals:.3g}", f"{upper:.4g}", f"{lower:.4g}", f"{ratio:.2f}", f"{seconds:.3f}")
                rows.append((title, where, *told))
                print(rows[-1], flush=True)
    head = ("network", "region", "intervals alone", "L at most", "L at least", "ratio", "CPU s")
    print_table(head, rows)


def feature_rows() -> None:
    """Slopes by feature: time, and mean widths beside those of intervals alone and of gradients at random points."""
    rows = []
    wine, data = trained("wine", (64, 64))
    near = Box(data.X_test[0] - HALF_WIDTH, data.X_test[0] + HALF_WIDTH)
    cases: tuple[tuple[str, Network, Any], ...] = (
        ("20-100-1, random", he(20, 100, 1), ALL),
        ("30-64-64-1, random", he(30, 64, 64, 1), ALL),
        ("wine, 11-64-64-1", wine, ALL),
        ("wine, 11-64-64-1", wine, Box.around(data.X_train, margin=0.1)),
        ("wine, 11-64-64-1", wine, near),
    )
    rng = np.random.default_rng(0)
    for title, network, region in cases:
        held, seconds = timed(lambda net=network, where=region: certify_features(net, region=where))
        verdict, check = timed(lambda net=network, proof=held: proof.check(net))
        if not verdict:
            raise SystemExit(verdict.reason)
        alone = certify_features(network, region=region, method="intervals")
        X = rng.standard_normal((POINTS, network.n_inputs)) * 2.0
        if region is not ALL:
            X = region.lower + (region.upper - region.lower) * rng.random((POINTS, network.n_inputs))
        slopes = network.gradients(X)[:, 0]
        widths = [
            float(np.mean(w)) for w in (held.upper - held.lower, alone.upper - alone.lower, np.ptp(slopes, axis=0))
        ]
        where = "all inputs" if region is ALL else f"a box, widest side {np.max(region.upper - region.lower):.2g}"
        rows.append((title, where, *(f"{w:.3g}" for w in widths), f"{seconds:.3f}", f"{check:.3f}"))
        print(rows[-1], flush=True)
    print_table(
        ("network", "region", "width, proved", "intervals alone", "found by sampling", "CPU s", "check, CPU s"), rows
    )


def refined_rows(names: Sequence[str]) -> None:
    """Refinement for a neighbourhood of the median row against that for all inputs, both measured there."""
    rows = []
    for name in names:
        for hidden in ((100,), (32, 32)):
            start, data = trained(name, hidden)
            network, X, y = FeedForward.of(start), data.X_train, data.y_train
            box = Box(np.median(X, axis=0) - NEAR, np.median(X, axis=0) + NEAR)
            usual = refine(network, X, y, WEIGHT)
            begin = time.process_time()
            here = refine(network, X, y, WEIGHT, region=box)
            seconds = time.process_time() - begin
            there = usual.mse + WEIGHT * certify(usual.network, region=box).rho
            everywhere = here.certificate_everywhere
            if everywhere is None or not here.certificate.check(here.network):
                raise SystemExit("a certificate does not hold")
            title = f"{name}, {'-'.join(map(str, network.widths))}"
            bounds = usual.certificate.upper, here.certificate.upper, everywhere.upper
            rows.append((title, f"{there:.4f}", f"{here.objective_after:.4f}", *map("{:.3f}".format, bounds)))
            rows[-1] += (f"{seconds:.1f}",)
            print(rows[-1], flush=True)
    head = ("network", "J there, all inputs", "J there, region", "L, all inputs", "L in the region", "L everywhere")
    print_table((*head, "CPU s"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS), help="data sets")
    parser.add_argument("--features", action="store_true", help="slopes by feature")
    parser.add_argument("--refine", action="store_true", help="refinement for a neighbourhood")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", NotConvergedWarning)
    print(machine(), flush=True)
    certify(random_network(5, 3))  # imports and compiles
    if arguments.features:
        feature_rows()
    elif arguments.refine:
        refined_rows(arguments.only)
    else:
        uci_rows(arguments.only)


if __name__ == "__main__":
    main()
