"""MNIST 784-256-256-10, from plain training to certified classifiers: accuracy, certified accuracy, time per epoch.

    python benchmarks/certified_training.py               the table, and docs/images/certified-training.png
    python benchmarks/certified_training.py --epochs 1    a try
    python benchmarks/certified_training.py --time        seconds per epoch, in the place of the table

The networks come from ``train_classifier``, ten epochs, one seed; certified shares are those of
``certified_accuracy`` on all 10 000 test images, pixels in [0, 1], with checked certificates of all 45 differences of
outputs. Seconds per epoch are those of a loop as anyone writes it, plain and with the penalty, interleaved in blocks of
steps in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import machine, print_table
from matplotlib.figure import Figure

import certnet
from certnet.data import load_images
from certnet.plot import save_figure
from certnet.robust import certified_accuracy
from certnet.train import LipschitzPenalty, train_classifier

RADII = (0.5, 1.0, 1.58)
CURVE = np.linspace(0.0, 2.5, 251)
RUNS: dict[str, dict[str, float]] = {
    "plain": {"penalty": 0.0},
    "weight decay 1e-3": {"penalty": 0.0, "weight_decay": 1e-3},
    "penalty 1e-3": {"penalty": 1e-3},
    "penalty 3e-3": {"penalty": 3e-3},
    "penalty 1e-2": {"penalty": 1e-2},
    "penalty 3e-3, radius 0.5": {"penalty": 3e-3, "radius": 0.5},
    "penalty 1e-3, radius 1": {"penalty": 1e-3, "radius": 1.0},
    "penalty 1e-4, radius 1.58": {"penalty": 1e-4, "radius": 1.58},
}
PUBLISHED = (
    # name, radius, share; each as its source states it. All are convolutional networks
    ("GloRo, 2C2F", 0.3, 0.957),  # Leino, Wang and Fredrikson, ICML 2021; their table at pypi.org/project/gloro
    ("GloRo, 4C3F", 1.58, 0.628),  # the same
    ("BCP", 1.58, 0.4795),  # Lee, Lee and Park, NeurIPS 2020; leaderboard of Li, Xie and Li's SoK (2023)
)
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "certified-training.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=RUNS, metavar="RUN")
    parser.add_argument(
        "--results", type=Path, help="a JSON file that is added to; runs that it holds are not repeated"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}")
    data = load_images("mnist")
    if chosen.time:
        print_seconds(data.X_train, data.y_train)
        return
    file: Path | None = chosen.results
    found: dict[str, Any] = json.loads(file.read_text()) if file is not None and file.exists() else {}
    for name in chosen.only:
        if name in found:
            continue
        found[name] = measured(name, data, chosen.epochs)
        if file is not None:
            file.write_text(json.dumps(found))
    found = {name: found[name] for name in RUNS if name in found}
    print()
    print_table(
        ["training", "test accuracy, %", "L ≤", "L of differences ≤", "√(2ρ̂) at the end"]
        + [f"certified at {radius}, %" for radius in RADII],
        [[name, *run["row"]] for name, run in found.items()],
    )
    draw({name: run["curve"] for name, run in found.items()})


def measured(name: str, data: Any, epochs: int) -> dict[str, Any]:
    """One run: a row of the table, and certified accuracy at all of CURVE."""
    trained = train_classifier(data.X_train, data.y_train, epochs=epochs, device="cpu", **RUNS[name])  # type: ignore[arg-type]
    net, begin = trained.network, time.perf_counter()
    whole = certnet.certify(net)
    proofs = certnet.certify_outputs(net, differences=True)
    seconds = time.perf_counter() - begin
    accuracy = float(np.mean(np.argmax(net.forward(data.X_test), axis=1) == data.y_test))
    shares = certified_accuracy(net, data.X_test, data.y_test, [*RADII, *CURVE], proofs)
    estimate = trained.history.get("slope_estimate", (np.nan,))[-1]
    row = [
        f"{100 * accuracy:.2f}",
        f"{whole.upper:.3f}",
        f"{max(proof.upper for proof in proofs.values()):.3f}",
        f"{np.sqrt(2.0) * estimate:.3f}" if np.isfinite(estimate) else "",
        *(f"{100 * share:.1f}" for share in shares[: len(RADII)]),
    ]
    print(f"{name}: {', '.join(row)}; trained in {trained.seconds:.0f} s, certified in {seconds:.0f} s", flush=True)
    return {"row": row, "curve": shares[len(RADII) :].tolist()}


def print_seconds(X: np.ndarray, y: np.ndarray, steps: int = 60, blocks: int = 12) -> None:
    """Seconds per epoch of plain training and with the penalty: medians of blocks that take turns."""
    rows = []
    for size in (64, 128, 256):
        images, labels = torch.tensor(X), torch.tensor(y, dtype=torch.int64)
        loops = {columns: loop(images, labels, size, columns) for columns in (0, 8, 16)}
        times: dict[int, list[float]] = {columns: [] for columns in loops}
        for block in range(blocks + 1):
            for columns, run in loops.items():
                begin = time.perf_counter()
                run(steps)
                if block > 0:  # the first warms up
                    times[columns].append((time.perf_counter() - begin) / steps)
        epoch = {columns: statistics.median(found) * len(X) / size for columns, found in times.items()}
        ratios = {c: statistics.median(a / b for a, b in zip(times[c], times[0])) for c in (8, 16)}
        rows.append([f"{size}", f"{epoch[0]:.2f}", *(f"{epoch[c]:.2f} ({ratios[c]:.2f}×)" for c in (8, 16))])
    print_table(["batch", "plain, s per epoch", "penalty, 8 columns", "penalty, 16 columns"], rows)


def loop(X: torch.Tensor, y: torch.Tensor, size: int, columns: int) -> Callable[[int], None]:
    """A training loop that makes the number of steps asked for."""
    nn = torch.nn
    module = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    penalty = LipschitzPenalty(module, columns=columns, differences=True) if columns else None
    at = 0

    def run(steps: int) -> None:
        nonlocal at
        for _ in range(steps):
            rows = slice(at, at + size)
            at = (at + size) % (len(X) - size)
            loss = nn.functional.cross_entropy(module(X[rows]), y[rows])
            if penalty is not None:
                loss = loss + 3e-3 * penalty()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def draw(curves: dict[str, list[float]]) -> None:
    """Certified accuracy against the radius, beside published figures."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    shown = {
        "plain": "#999999",
        "weight decay 1e-3": "#E69F00",
        "penalty 1e-3": "#56B4E9",
        "penalty 3e-3": "#0072B2",
        "penalty 1e-2": "#009E73",
        "penalty 3e-3, radius 0.5": "#D55E00",
        "penalty 1e-3, radius 1": "#CC79A7",
    }
    for name, colour in shown.items():
        if name in curves:
            axes.plot(CURVE, curves[name], color=colour, label=name)
    for marker, (name, radius, share) in zip("s^v", PUBLISHED):
        axes.plot(radius, share, marker, color="black", markersize=7, linestyle="none", label=f"{name} (convolutional)")
    axes.set(xlim=(0.0, CURVE[-1]), ylim=(0.0, 1.01), xlabel=r"$\ell_2$ radius, pixels in [0, 1]")
    axes.set_ylabel("Certified accuracy, MNIST test set")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8, loc="upper right")
    save_figure(figure, PICTURE, force=True)
    print(f"wrote {PICTURE.name}")


if __name__ == "__main__":
    main()
