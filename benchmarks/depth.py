"""Certify at any depth: time, memory and gap of LipSDP, beside chains, ECLipsE and Clarabel; growth with the size.

    OMP_NUM_THREADS=1 python benchmarks/depth.py                          # certnet alone, every row in its own process
    OMP_NUM_THREADS=1 python benchmarks/depth.py --only 512 conv          # some rows
    OMP_NUM_THREADS=1 python benchmarks/depth.py --others                 # product, chain, closed form, eclipse-nn
    OMP_NUM_THREADS=1 python benchmarks/depth.py --generic --limit 600    # Clarabel through CVXPY, per neuron
    OMP_NUM_THREADS=1 python benchmarks/depth.py --growth                 # docs/images/depth-growth.png

CPU seconds of certify, the proof and the lower bound included, beside the time of checking the certificate again.
Weights are He-initialised (Gaussian of variance 2 / inputs, seed 0). Clarabel gets one semidefinite block per pair of
neighbouring layers (the chordal form), and its time limit counts the solver alone, not CVXPY's compilation.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import machine, print_table

from certnet import FeedForward, certify
from certnet.errors import CertnetError, NotConvergedWarning
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer, read_only
from certnet.networks.operators import Blocks, Convolution, Identity
from certnet.searches.closed_form_layers import layer_multipliers
from certnet.searches.deep_barrier import solve_deep

RELU, LINEAR = Activation("relu"), Activation("identity")
GENERIC = ((10, 16, 16, 16, 16, 16, 1), (10, 32, 32, 32, 32, 32, 1), (10, 64, 64, 64, 64, 64, 1))
OTHERS = ((10, *[64] * 5, 1), (10, *[64] * 10, 1), (784, 256, 256, 10), (784, 512, 512, 512, 10))
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "depth-growth.png"


def he(*widths: int) -> FeedForward:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((b, a)) * np.sqrt(2.0 / a) for a, b in pairwise(widths)]
    return FeedForward(weights, [np.zeros(b) for b in widths[1:]], "relu")


def _dense(rng: np.random.Generator, m: int, n: int, scale: float = 1.0) -> Dense:
    return Dense(read_only(scale * rng.standard_normal((m, n)) * np.sqrt(2.0 / n)))


def residual() -> FeedForward:
    """64-128, ten blocks y + A relu(B y) of 256 units, A of half the usual size, 10 outputs."""
    rng = np.random.default_rng(0)
    layers = [Layer(_dense(rng, 128, 64), np.zeros(128), RELU)]
    for _ in range(10):
        layers.append(Layer(Blocks(((_dense(rng, 256, 128),), (Identity(128),))), np.zeros(384), RELU, 128))
        layers.append(Layer(Blocks(((_dense(rng, 128, 256, 0.5), Identity(128)),)), np.zeros(128), LINEAR))
    return FeedForward.chain([*layers, Layer(_dense(rng, 10, 128), np.zeros(10), LINEAR)])


def convolutional() -> FeedForward:
    """1×28×28, 8 channels, 16 channels with stride 2 (3×3 kernels, padding 1), 64 units, 10 outputs."""
    rng = np.random.default_rng(0)
    around = ((1, 1), (1, 1))
    first = Convolution(rng.standard_normal((8, 1, 3, 3)) * np.sqrt(2.0 / 9), (1, 28, 28), padding=around)
    kernel = rng.standard_normal((16, 8, 3, 3)) * np.sqrt(2.0 / 72)
    second = Convolution(kernel, first.out_image, stride=(2, 2), padding=around)
    images = [Layer(op, np.zeros(op.n_outputs), RELU) for op in (first, second)]
    last = Layer(_dense(rng, 10, 64), np.zeros(10), LINEAR)
    return FeedForward.chain([*images, Layer(_dense(rng, 64, second.n_outputs), np.zeros(64), RELU), last])


def trained() -> FeedForward:
    """784-512³-10 trained on MNIST for three epochs."""
    from certnet.data import load_images
    from certnet.train import train_classifier

    data = load_images("mnist")
    found = train_classifier(data.X_train, data.y_train, hidden=(512, 512, 512), penalty=0.0, epochs=3, random_state=0)
    return FeedForward.of(found.network)


CASES: dict[str, tuple[str, Callable[[], FeedForward], dict[str, Any]]] = {
    "5": ("10-64×5-1", lambda: he(10, *[64] * 5, 1), {}),
    "10": ("10-64×10-1", lambda: he(10, *[64] * 10, 1), {}),
    "20": ("10-64×20-1", lambda: he(10, *[64] * 20, 1), {"tol": 1e-4}),
    "256": ("784-256²-10", lambda: he(784, 256, 256, 10), {"tol": 1e-4}),
    "512": ("784-512³-10", lambda: he(784, 512, 512, 512, 10), {"tol": 1e-4}),
    "1024": ("784-1024³-10", lambda: he(784, 1024, 1024, 1024, 10), {"tol": 1e-3}),
    "2048": ("784-2048³-10", lambda: he(784, 2048, 2048, 2048, 10), {"tol": 1e-3}),
    "trained": ("784-512³-10, trained on MNIST", trained, {}),
    "residual": ("residual, ten blocks of 128/256", residual, {"tol": 1e-4}),
    "conv": ("1×28×28 conv 8, conv 16, 64, 10", convolutional, {"tol": 1e-3}),
    "many": ("5-20-3000", lambda: he(5, 20, 3000), {}),
    "linf": ("784-128²-10, maximum norm", lambda: he(784, 128, 128, 10), {"tol": 1e-4, "norm": "linf"}),
}


def one(name: str) -> dict[str, Any]:
    """A row, measured in this process after a first small call that imports and compiles."""
    certify(he(4, 5, 5, 2))
    title, make, options = CASES[name]
    network = make()
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # the gap stands in the table
        certificate = certify(network, **options)
    whole = time.process_time() - begin
    begin = time.process_time()
    right = bool(certificate.check(network))
    check = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = peak if name != "trained" else None  # training has taken more before
    return {
        "network": title,
        "lower": certificate.lower,
        "upper": certificate.upper,
        "gap": certificate.gap,
        "seconds": whole,
        "check": check if right else float("nan"),
        "memory": "" if memory is None else f"{memory / 1024:.0f}",
    }


def own_rows(names: list[str]) -> None:
    rows = []
    for name in names:
        run = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True, check=False)
        if run.returncode:
            print(f"{name}: {run.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        row = json.loads(run.stdout)
        sides = f"{row['lower']:.4f}", f"{row['upper']:.4f}", f"{row['gap']:.1e}"
        rows.append((row["network"], *sides, f"{row['seconds']:.2f}", f"{row['check']:.2f}", row["memory"]))
        print(rows[-1], flush=True)
    head = ("network", "L at least", "L at most (verified)", "gap of ρ", "certify, CPU s", "check, CPU s", "MB")
    print_table(head, rows)


def other_rows() -> None:
    """Bounds by other ways, and eclipse-nn's where that package is installed."""
    rows = []
    for widths in OTHERS:
        network = he(*widths)
        name = "-".join(map(str, widths))
        own, seconds = _timed(lambda net=network: certify(net).upper)
        rows.append((name, "LipSDP per neuron (certnet)", f"{own:.4f}", f"{seconds:.2f}"))
        for method in ("composition", "product"):
            bound, spent = _timed(lambda net=network, how=method: certify(net, method=how).upper)
            rows.append((name, method, f"{bound:.4f}", f"{spent:.2f}"))
        bound, spent = _timed(lambda net=network: (layer_multipliers(net) or ((), float("nan")))[1])
        rows.append((name, "closed form (ECLipsE-Fast's), certnet", f"{bound:.4f}", f"{spent:.2f}"))
        rows += [(name, *row) for row in _eclipse(network)]
        print(rows[-1], flush=True)
    print_table(("network", "method", "L at most", "CPU s"), rows)


def _timed(work: Callable[[], float]) -> tuple[float, float]:
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        found = work()
    return found, time.process_time() - begin


def _eclipse(network: FeedForward) -> list[tuple[str, str, str]]:
    """ECLipsE-Fast of the package eclipse-nn (its ECLipsE gives no number without a licensed solver)."""
    if importlib.util.find_spec("eclipse_nn") is None:
        return []
    import torch

    torch.set_num_threads(1)
    estimate = importlib.import_module("eclipse_nn.eclipsE_fast").ECLipsE_Fast
    weights = [torch.tensor(np.array(W)) for W in network.weights]
    low, high = [0.0] * network.depth, [1.0] * network.depth
    bound, spent = _timed(lambda: float(estimate(weights, low, high)))
    return [("ECLipsE-Fast (eclipse-nn)", f"{bound:.4f}", f"{spent:.2f}")]


def generic_rows(limit: float) -> None:
    rows = []
    for widths in GENERIC:
        network = he(*widths)
        name = "-".join(map(str, widths))
        begin = time.perf_counter()
        own = certify(network, method="neuron")
        own_seconds = time.perf_counter() - begin
        rows.append((name, "certnet", f"{own.upper:.6f}", f"{own_seconds:.2f}", "1"))
        begin = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = solve_deep(network, per="neuron", solver="CLARABEL", form="chordal", time_limit=limit)
            result = f"{found.upper:.6f} ({found.status.name})"
        except CertnetError as error:
            result = str(error).split(":")[0]
        seconds = time.perf_counter() - begin
        rows.append((name, "Clarabel, chordal form", result, f"{seconds:.1f}", f"{seconds / own_seconds:.0f}"))
        print(rows[-2:], flush=True)
    print_table(("network", "solver", "L at most", "seconds", "times certnet"), rows)


def growth() -> None:
    """CPU seconds against width (784-n³-10) and depth (10-64×k-1), in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    for small in (he(4, 5, 1), he(4, 5, 2), he(4, 5, 5, 2)):  # imports and compiles
        certify(small)
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    depths: tuple[int, ...] = (1, 2, 5, 10, 20, 40)
    wide = [_timed(lambda n=n: certify(he(784, n, n, n, 10), tol=1e-3).upper)[1] for n in widths]
    deep = [_timed(lambda k=k: certify(he(10, *[64] * k, 1), tol=1e-3).upper)[1] for k in depths]
    print_table(("width", "CPU s"), [(str(n), f"{s:.2f}") for n, s in zip(widths, wide)])
    print_table(("depth", "CPU s"), [(str(k), f"{s:.2f}") for k, s in zip(depths, deep)])
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), layout="constrained")
    cubes = [wide[-1] * (n / widths[-1]) ** 3 for n in widths]
    panels = (
        (axes[0], widths, wide, "units per layer, 784-n³-10"),
        (axes[1], depths, deep, "hidden layers of 64 units"),
    )
    for axis, sizes, seconds, label in panels:
        axis.loglog(sizes, seconds, "o-", label="certify, gap 1e-3")
        axis.set_xlabel(label)
        axis.set_ylabel("CPU seconds")
        axis.grid(alpha=0.3)
    axes[0].loglog(widths, cubes, "--", color="0.5", label="n³")
    axes[1].loglog(depths, [deep[2] * k / depths[2] for k in depths], "--", color="0.5", label="proportional")
    for axis, sizes in zip(axes, (widths, depths)):
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend()
    figure.savefig(PICTURE, dpi=150)
    print(f"picture written to {PICTURE}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="rows of the table")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--others", action="store_true", help="compare with other bounds")
    parser.add_argument("--generic", action="store_true", help="compare with Clarabel")
    parser.add_argument("--growth", action="store_true", help="draw the growth with width and depth")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each of Clarabel's solves")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one)))
        return
    print(machine(), flush=True)
    if arguments.others:
        other_rows()
    elif arguments.generic:
        generic_rows(arguments.limit)
    elif arguments.growth:
        growth()
    else:
        own_rows(arguments.only)


if __name__ == "__main__":
    main()
