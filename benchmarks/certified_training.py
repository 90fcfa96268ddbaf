"""MNIST 784-256-256-10, from plain training to certified classifiers: accuracy, certified accuracy, time per epoch.

    python benchmarks/certified_training.py               the table, and docs/images/certified-training.png
    python benchmarks/certified_training.py --epochs 1    a try
    python benchmarks/certified_training.py --time        seconds per epoch alone

The networks come from ``train_classifier``, ten epochs, one seed; certified shares are those of
``certified_accuracy`` on all 10 000 test images, pixels in [0, 1], with checked certificates of all 45 differences of
outputs. Seconds per epoch are those of a loop as anyone writes it, plain and with the penalty, interleaved in blocks of
steps in one process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

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
RUNS: dict[str, dict[str, float]] = {
    "plain": {"penalty": 0.0},
    "weight decay 1e-4": {"penalty": 0.0, "weight_decay": 1e-4},
    "weight decay 1e-3": {"penalty": 0.0, "weight_decay": 1e-3},
    "penalty 3e-4": {"penalty": 3e-4},
    "penalty 1e-3": {"penalty": 1e-3},
    "penalty 3e-3": {"penalty": 3e-3},
    "penalty 1e-2": {"penalty": 1e-2},
    "penalty 3e-2": {"penalty": 3e-2},
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
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}")
    data = load_images("mnist")
    print_seconds(data.X_train, data.y_train)
    if chosen.time:
        return
    print()
    radii = np.linspace(0.0, 2.5, 251)
    rows, curves = [], {}
    for name, settings in RUNS.items():
        trained = train_classifier(data.X_train, data.y_train, epochs=chosen.epochs, device="cpu", **settings)  # type: ignore[arg-type]
        net = trained.network
        begin = time.perf_counter()
        whole = certnet.certify(net)
        proofs = certnet.certify_outputs(net, differences=True)
        seconds = time.perf_counter() - begin
        accuracy = float(np.mean(np.argmax(net.forward(data.X_test), axis=1) == data.y_test))
        shares = certified_accuracy(net, data.X_test, data.y_test, RADII, proofs)
        curves[name] = certified_accuracy(net, data.X_test, data.y_test, radii, proofs)
        largest = max(proof.upper for proof in proofs.values())
        estimate = trained.history.get("slope_estimate", (float("nan"),))[-1]
        centred = f"{np.sqrt(2.0) * estimate:.3f}" if np.isfinite(estimate) else ""
        share_cells = [f"{100 * share:.1f}" for share in shares]
        rows.append([name, f"{100 * accuracy:.2f}", f"{whole.upper:.3f}", f"{largest:.3f}", centred, *share_cells])
        print(f"{name}: trained in {trained.seconds:.0f} s, certified in {seconds:.0f} s", flush=True)
    print()
    print_table(
        ["training", "test accuracy, %", "L ≤", "L of differences ≤", "√(2ρ̂) at the end"]
        + [f"certified at {radius}, %" for radius in RADII],
        rows,
    )
    draw(radii, curves)


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


def draw(radii: np.ndarray, curves: dict[str, np.ndarray]) -> None:
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
        axes.plot(radii, curves[name], color=colour, label=name)
    for marker, (name, radius, share) in zip("s^v", PUBLISHED):
        axes.plot(radius, share, marker, color="black", markersize=7, linestyle="none", label=f"{name} (convolutional)")
    axes.set(xlim=(0.0, radii[-1]), ylim=(0.0, 1.01), xlabel=r"$\ell_2$ radius, pixels in [0, 1]")
    axes.set_ylabel("Certified accuracy, MNIST test set")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8, loc="upper right")
    save_figure(figure, PICTURE, force=True)
    print(f"wrote {PICTURE.name}")


if __name__ == "__main__":
    main()
